"""What a tile of pairs contributes to each rung of the order ladder, on the same draws; docs/theory.md, Section 3.7."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from msda_theory.data import ImageData
from msda_theory.engines import Engines
from msda_theory.losses import Loss
from msda_theory.pairs import Tile
from msda_theory.taylor import Taylor, curvature
from msda_theory.terms import GroupBatch, Terms, gauss_newton, group_batches

PARTS = ("base", "r1", "r2", "r3", "linearised", "quadratic")


def tile_rungs(
    engines: Engines,
    data: ImageData,
    loss: Loss,
    tile: Tile,
    at: str,
    qbar: Tensor | None,
    *,
    stand_in: Tensor | None = None,
    quadratic: bool = True,
) -> Terms:
    """The parts of the rungs for a tile, as means over its groups of draws [n, G].

    With the point p and the step eta to the mixed image (`point_and_step`), and derivatives at p: ``base`` l(f(p)),
    ``r1`` (h' - y).J eta, ``r2`` 1/2 (J eta).h'' J eta, ``r3`` 1/2 sum_c (h' - y)_c eta.D2f_c eta, ``linearised``
    l(f + J eta), ``quadratic`` l(f + J eta + 1/2 eta.D2f eta).

    Args:
        engines: of the model.
        data: as in `order_ladder`.
        loss: as in `order_ladder`.
        tile: the draws.
        at: point of expansion.
        qbar: first moment of q, for ``at="mean"``.
        stand_in: in place of mu at the mask, [m, C, H, W], one for each partner.
        quadratic: second derivatives along every draw. At the mask each draw has its own propagation anyway, so there
            they are always given; at the data and the mean they take three arrays a draw in place of about one.
    """
    alone = at == "mask" or quadratic
    groups = tile.singles if alone else tile.groups
    engine = engines.sized(max(g.stop - g.start for g in groups), len(tile.partner) * len(groups))
    batches = group_batches(data, loss, tile, groups, at, qbar, engine.batch, stand_in)
    rows = [_alone(engine, loss, b) if alone else _shared(engine, loss, b) for b in batches]
    values = torch.cat(rows, dim=1).cpu().numpy().reshape(len(rows[0]), len(tile.partner), len(groups))
    if alone:
        values = np.stack([tile.group_means(v) for v in values])
    return dict(zip(PARTS[: len(values)], values, strict=True))


def _alone(engine: Taylor, loss: Loss, batch: GroupBatch) -> Float64[Tensor, "6 B"]:
    """All parts, for groups of one draw."""
    with torch.no_grad():
        t = engine(batch.point, batch.steps)
        f, first, second = t.value.double(), t.first.double(), t.second.double()
        residual = loss.d1(f) - batch.y
        bent = f + first[0] + 0.5 * second
        return torch.stack(
            [
                loss.value(f, batch.y),
                (residual * first[0]).sum(dim=-1),
                0.5 * gauss_newton(loss, f, first)[0],
                0.5 * (residual * second).sum(dim=-1),
                loss.value(f + first[0], batch.y),
                loss.value(bent, batch.y),
            ]
        )


def _shared(engine: Taylor, loss: Loss, batch: GroupBatch) -> Float64[Tensor, "5 B"]:
    """All parts but the last, means over the draws of each group."""
    with torch.no_grad():

        def residual(f: Tensor) -> Tensor:
            return loss.d1(f) - batch.y

        f, first, curved = curvature(engine, batch.point, batch.steps, residual)
        k, size = len(first), batch.size
        flat = (f + first).flatten(0, 1)
        linearised = loss.value(flat, batch.y.repeat(k, 1)).reshape(k, -1) * batch.counts
        return torch.stack(
            [
                loss.value(f, batch.y),
                (residual(f) * first.sum(dim=0)).sum(dim=-1) / size,
                0.5 * gauss_newton(loss, f, first).sum(dim=0) / size,
                0.5 * curved / size,
                linearised.sum(dim=0) / size,
            ]
        )
