"""Per-pair terms of the second-order expansion around the three points, and the measured loss of each pair.

Symbols of docs/theory.md and their names here:

| symbol | name | shape |
|---|---|---|
| q, r, x | ``PairBatch.q, .r, .x`` | [B, 1, H, W], [B, C, H, W], [B, C, H, W] |
| qbar | ``qbar`` | [H, W] |
| mu | ``mu`` | [C, H, W] |
| point of expansion, x, xbar or x_q | ``point`` | [B, C, H, W] |
| delta, or eta, its fluctuation about the point | ``step`` | [B, C, H, W] |
| h' - y | ``residual`` | [B, c] |
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor, nn

from msda_theory.data import ImageData
from msda_theory.engines import Engines
from msda_theory.losses import Loss
from msda_theory.pairs import PairBatch, Tile, pair_batches
from msda_theory.taylor import Taylor, curvature

At = Literal["data", "mean", "mask"]
POINTS: tuple[str, ...] = get_args(At)
Terms = dict[str, Float64[np.ndarray, "n G"]]


def check_at(at: str) -> None:
    """Raise a ValueError that lists the known points of expansion if ``at`` is not one of them."""
    if at not in POINTS:
        raise ValueError(f"expected at among {list(POINTS)}, got {at!r}; choose one of them.")


def point_and_step(batch: PairBatch, at: str, mu: Tensor, qbar: Tensor | None) -> tuple[Tensor, Tensor]:
    """Point of expansion and step from it to the mixed image ``x + q (r - x)``, both [B, C, H, W].

    ``data``: x and ``delta = q (r - x)``. ``mean``: ``x + qbar (mu - x)`` and ``delta - qbar (mu - x)``, Eq. (3b).
    ``mask``: ``x + q (mu - x)`` and ``q (r - mu)``, Eq. (3c).
    """
    if at == "mask":
        return batch.x + batch.q * (mu - batch.x), batch.q * (batch.r - mu)
    delta = batch.q * (batch.r - batch.x)
    if at == "data":
        return batch.x, delta
    assert qbar is not None, "only the mask needs no first moment"
    shift = qbar * (mu - batch.x)
    return batch.x + shift, delta - shift


def pair_terms(engines: Engines, data: ImageData, loss: Loss, tile: Tile, at: str, qbar: Tensor | None) -> Terms:
    """base, r1, r2, r3 of a tile as means over its groups of draws, [n, G] each; their means are the sampled terms (3).

    At the data and at the conditional mean the draws of a group share their point, and so one propagation. At the
    mask every draw has its own.
    """
    n, k = tile.partner.shape
    groups = [slice(j, j + 1) for j in range(k)] if at == "mask" else tile.groups
    sample = np.repeat(np.arange(n), len(groups))
    draws, sizes = (np.tile(a, (n, 1)) for a in _padded(groups))
    engine, rows = engines.sized(draws.shape[1], len(sample)), []
    for low in range(0, len(sample), engine.batch):
        part = slice(low, low + engine.batch)
        rows.append(_terms(engine, data, loss, tile, at, qbar, sample[part], draws[part], sizes[part, 0]))
    values = torch.cat(rows, dim=1).cpu().numpy().reshape(4, n, len(groups))
    if at == "mask":
        values = np.stack([tile.group_means(v) for v in values])
    return dict(zip(("base", "r1", "r2", "r3"), values, strict=True))


def _padded(groups: Sequence[slice]) -> tuple[Int64[np.ndarray, "G k"], Int64[np.ndarray, "G 1"]]:
    """Draws of each group, short ones filled up with draw 0, and how many count."""
    sizes = np.array([[g.stop - g.start] for g in groups])
    places = np.arange(sizes.max())
    return np.where(places < sizes, places + np.array([[g.start] for g in groups]), 0), sizes


def _terms(
    engine: Taylor,
    data: ImageData,
    loss: Loss,
    tile: Tile,
    at: str,
    qbar: Tensor | None,
    sample: Int64[np.ndarray, " B"],
    draws: Int64[np.ndarray, "B k"],
    sizes: Int64[np.ndarray, " B"],
) -> Float64[Tensor, "4 B"]:
    """base, r1, r2, r3 of samples of the tile, means over the first ``sizes`` of their ``draws``.

    Derivatives have the precision of the network; the loss and all sums are taken in float64.
    """
    device, k = data.x.device, draws.shape[1]
    i = torch.from_numpy(tile.start + sample).to(device)
    size = torch.from_numpy(sizes).to(device)
    counts = torch.arange(k, device=device)[:, None] < size  # [k, B]
    q = torch.from_numpy(tile.q[sample[:, None], draws]).to(data.x)[:, :, None]
    r = data.x[torch.from_numpy(tile.partner[sample[:, None], draws]).to(device)]
    point, step = point_and_step(PairBatch(data.x[i][:, None], q, r, data.y[i]), at, data.mean, qbar)
    steps = step.transpose(0, 1) * counts[:, :, None, None, None]
    with torch.no_grad():
        y = loss.targets(data.y[i], data.num_classes, torch.float64)

        def residual(f: Tensor) -> Tensor:
            return loss.d1(f) - y

        f, first, curved = curvature(engine, point[:, 0], steps, residual)
        flat = first.flatten(0, 1)
        quadratic = (flat * loss.d2(f.repeat(k, 1), flat)).sum(dim=-1).reshape(k, -1).sum(dim=0)
        slope = (residual(f) * first.sum(dim=0)).sum(dim=-1)
        return torch.stack([loss.value(f, y), slope / size, 0.5 * quadratic / size, 0.5 * curved / size])


def pair_losses(
    model: nn.Module, data: ImageData, loss: Loss, tile: Tile, batch_size: int
) -> Float64[np.ndarray, "n K"]:
    """``l(f(x + q (r - x)), y)`` of every pair of a tile, [n, K]; its mean is the mixed loss (1)."""
    rows = []
    with torch.no_grad():
        for batch in pair_batches(data, tile, batch_size):
            f = model(torch.lerp(batch.x, batch.r, batch.q)).double()
            rows.append(loss.value(f, loss.targets(batch.y, data.num_classes, f.dtype))[None])
    return _columns(rows, tile)[0]


def clean_losses(model: nn.Module, data: ImageData, loss: Loss, batch_size: int = 512) -> Float64[np.ndarray, " m"]:
    """``l(f(x_i), y_i)`` of every sample [m]."""
    with torch.no_grad():
        parts = [
            loss.value(model(x).double(), loss.targets(y, data.num_classes, torch.float64))
            for x, y in data.batches(batch_size)
        ]
    return torch.cat(parts).cpu().numpy()


def _columns(rows: list[Tensor], tile: Tile) -> Float64[np.ndarray, "t n K"]:
    return torch.cat(rows, dim=1).cpu().numpy().reshape(-1, *tile.partner.shape)
