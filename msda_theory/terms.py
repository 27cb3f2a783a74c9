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

from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor, nn

from msda_theory.data import ImageData
from msda_theory.losses import Loss
from msda_theory.pairs import PairBatch, Tile, pair_batches
from msda_theory.taylor import curvature

At = Literal["data", "mean", "mask"]
POINTS: tuple[str, ...] = get_args(At)
Terms = dict[str, Float64[np.ndarray, "n K"]]


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


def pair_terms(
    model: nn.Module, data: ImageData, loss: Loss, tile: Tile, at: str, qbar: Tensor | None, batch_size: int
) -> Terms:
    """base, r1, r2, r3 of every pair of a tile, [n, K] each; their means are the sampled terms (3)."""
    mu, rows = data.mean, []
    for batch in pair_batches(data, tile, batch_size):
        point, step = point_and_step(batch, at, mu, qbar)
        with torch.no_grad():
            y = loss.targets(batch.y, data.num_classes, point.dtype)
            residual = loss.d1(model(point)) - y
            f, first, curved = curvature(model, point, step, residual)
            rows.append(
                torch.stack(
                    [
                        loss.value(f, y),
                        (residual * first).sum(dim=-1),
                        0.5 * (first * loss.d2(f, first)).sum(dim=-1),
                        0.5 * curved,
                    ]
                )
            )
    return dict(zip(("base", "r1", "r2", "r3"), _columns(rows, tile), strict=True))


def pair_losses(
    model: nn.Module, data: ImageData, loss: Loss, tile: Tile, batch_size: int
) -> Float64[np.ndarray, "n K"]:
    """``l(f(x + q (r - x)), y)`` of every pair of a tile, [n, K]; its mean is the mixed loss (1)."""
    rows = []
    with torch.no_grad():
        for batch in pair_batches(data, tile, batch_size):
            f = model(torch.lerp(batch.x, batch.r, batch.q))
            rows.append(loss.value(f, loss.targets(batch.y, data.num_classes, f.dtype))[None])
    return _columns(rows, tile)[0]


def clean_losses(model: nn.Module, data: ImageData, loss: Loss, batch_size: int = 512) -> Float64[np.ndarray, " m"]:
    """``l(f(x_i), y_i)`` of every sample [m]."""
    with torch.no_grad():
        parts = [loss.value(model(x), loss.targets(y, data.num_classes, x.dtype)) for x, y in data.batches(batch_size)]
    return torch.cat(parts).double().cpu().numpy()


def _columns(rows: list[Tensor], tile: Tile) -> Float64[np.ndarray, "t n K"]:
    return torch.cat(rows, dim=1).double().cpu().numpy().reshape(-1, *tile.partner.shape)
