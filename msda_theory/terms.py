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

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True, eq=False)
class GroupBatch:
    """Samples of a tile, each with the draws of one group, which share their point of expansion.

    Attributes:
        point: points of expansion [B, C, H, W].
        steps: from the point to the mixed image, [k, B, C, H, W]; zero where a group has fewer than k draws.
        counts: which of them are draws [k, B].
        size: number of draws of each group [B].
        y: target vectors [B, c], float64.
    """

    point: Tensor
    steps: Tensor
    counts: Tensor
    size: Tensor
    y: Tensor


def group_batches(
    data: ImageData,
    loss: Loss,
    tile: Tile,
    groups: Sequence[slice],
    at: str,
    qbar: Tensor | None,
    batch: int,
    stand_in: Tensor | None = None,
) -> Iterator[GroupBatch]:
    """The n G groups of a tile, row-major, in batches of at most ``batch``.

    ``stand_in`` [m, C, H, W] takes the place of mu at the mask, one image for each partner, Eq. (3k).
    """
    n, device = len(tile.partner), data.x.device
    sample = np.repeat(np.arange(n), len(groups))
    draws, sizes = (np.tile(a, (n, 1)) for a in _padded(groups))
    places = torch.arange(draws.shape[1], device=device)[:, None]
    for low in range(0, len(sample), batch):
        part = slice(low, low + batch)
        own, drawn = sample[part, None], draws[part]
        i = torch.from_numpy(tile.start + sample[part]).to(device)
        partner = torch.from_numpy(tile.partner[own, drawn]).to(device)
        q = torch.from_numpy(tile.q[own, drawn]).to(data.x)[:, :, None]
        mean = data.mean if stand_in is None else stand_in[partner]
        pairs = PairBatch(data.x[i][:, None], q, data.x[partner], data.y[i])
        point, step = point_and_step(pairs, at, mean, qbar)
        size = torch.from_numpy(sizes[part, 0]).to(device)
        counts = places < size
        y = loss.targets(pairs.y, data.num_classes, torch.float64)
        yield GroupBatch(point[:, 0], step.transpose(0, 1) * counts[:, :, None, None, None], counts, size, y)


def pair_terms(engines: Engines, data: ImageData, loss: Loss, tile: Tile, at: str, qbar: Tensor | None) -> Terms:
    """base, r1, r2, r3 of a tile as means over its groups of draws, [n, G] each; their means are the sampled terms (3).

    At the data and at the conditional mean the draws of a group share their point, and so one propagation. At the
    mask every draw has its own.
    """
    groups = tile.singles if at == "mask" else tile.groups
    engine = engines.sized(max(g.stop - g.start for g in groups), len(tile.partner) * len(groups))
    batches = group_batches(data, loss, tile, groups, at, qbar, engine.batch)
    rows = [_terms(engine, loss, batch) for batch in batches]
    values = torch.cat(rows, dim=1).cpu().numpy().reshape(4, len(tile.partner), len(groups))
    if at == "mask":
        values = np.stack([tile.group_means(v) for v in values])
    return dict(zip(("base", "r1", "r2", "r3"), values, strict=True))


def _padded(groups: Sequence[slice]) -> tuple[Int64[np.ndarray, "G k"], Int64[np.ndarray, "G 1"]]:
    """Draws of each group, short ones filled up with draw 0, and how many count."""
    sizes = np.array([[g.stop - g.start] for g in groups])
    places = np.arange(sizes.max())
    return np.where(places < sizes, places + np.array([[g.start] for g in groups]), 0), sizes


def _terms(engine: Taylor, loss: Loss, batch: GroupBatch) -> Float64[Tensor, "4 B"]:
    """base, r1, r2, r3, means over the draws of each group.

    Derivatives have the precision of the network; the loss and all sums are taken in float64.
    """
    with torch.no_grad():

        def residual(f: Tensor) -> Tensor:
            return loss.d1(f) - batch.y

        f, first, curved = curvature(engine, batch.point, batch.steps, residual)
        quadratic = gauss_newton(loss, f, first).sum(dim=0)
        slope = (residual(f) * first.sum(dim=0)).sum(dim=-1)
        size = batch.size
        return torch.stack([loss.value(f, batch.y), slope / size, 0.5 * quadratic / size, 0.5 * curved / size])


def gauss_newton(loss: Loss, f: Tensor, first: Tensor) -> Tensor:
    """``(J d_k)^T h''(f) J d_k`` [K, B] for ``first`` [K, B, c], the J d_k, at outputs f [B, c]."""
    flat = first.flatten(0, 1)
    return (flat * loss.d2(f.repeat(len(first), 1), flat)).sum(dim=-1).reshape(first.shape[:2])


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
