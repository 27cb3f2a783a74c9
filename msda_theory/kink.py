"""The second-order response of the loss by symmetric differences, which sees the kinks of piecewise-linear networks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from msda_theory.checks import check_model
from msda_theory.data import ImageData
from msda_theory.engines import Engines
from msda_theory.estimate import Estimate, Joint
from msda_theory.losses import Loss, SoftmaxCrossEntropy, as_loss
from msda_theory.masks.base import Strategy, check_strategy
from msda_theory.moments.moments import check_law
from msda_theory.pairs import Tile, draw_tiles, pair_batches
from msda_theory.streams import seed_from
from msda_theory.terms import Terms, pair_terms


@dataclass(frozen=True)
class Kink:
    """Second-order response at the data, by differences and by derivatives, on the same draws.

    Attributes:
        response: K(t) of Eq. (3e).
        half: K(t/2).
        change: ``K(t/2) - K(t)``; for a smooth network of order t^2, for kinks of order t.
        derivatives: R2 + R3.
        excess: ``K(t) - (R2 + R3)``, what the kinks add (and, in smooth networks, a remainder of order t^2).
        excess_half: the same at t/2.
        scale: t.
        strategy: name of the strategy.
        law: the law of q.
    """

    response: Estimate
    half: Estimate
    change: Estimate
    derivatives: Estimate
    excess: Estimate
    excess_half: Estimate
    scale: float
    strategy: str
    law: str


def kink(
    model: nn.Module,
    data: ImageData,
    strategy: Strategy,
    *,
    loss: Loss | Callable[[Tensor, Tensor], Tensor] | None = None,
    law: str = "exact",
    scale: float = 1 / 8,
    draws: int = 64,
    rng: np.random.Generator,
    batch_size: int = 512,
    memory: int | None = None,
) -> Kink:
    """``K(t) = 1/(2 t^2) E[l(f(x + t delta)) + l(f(x - t delta)) - 2 l(f(x))]``, Eq. (3e), at ``t`` and ``t/2``.

    Networks with ReLU or max pooling have D2f = 0 almost everywhere, yet their second-order response is not R2 alone:
    kinks crossed within the step add a term of the same order, which derivatives do not see.

    Args:
        model: module in eval mode with outputs [B, c].
        data: images and labels.
        strategy: any strategy.
        loss: `SoftmaxCrossEntropy` by default.
        law: law of q.
        scale: t in (0, 1].
        draws: pairs for each image, at least 2.
        rng: source of the draws.
        batch_size: as in `expand`.
        memory: as in `expand`.

    Raises:
        ValueError: scale outside (0, 1]; as `expand`.
    """
    check_scale(scale)
    check_law(law)
    check_strategy(strategy)
    loss = as_loss(SoftmaxCrossEntropy() if loss is None else loss, data.num_classes)
    check_model(model, data, loss)
    engines, parts = Engines(model, data.x, memory), []
    for tile in draw_tiles(data, strategy, law, draws, seed_from(rng)):
        terms = pair_terms(engines, data, loss, tile, "data", None)
        values = {"r2": terms["r2"], "r3": terms["r3"], **tile_kinks(model, data, loss, tile, scale, batch_size)}
        parts.append(Joint.from_strata(values, tile.sizes))
    joint = Joint.merge(parts)
    derivatives = {"r2": 1.0, "r3": 1.0}
    negative = dict.fromkeys(derivatives, -1.0)
    return Kink(
        response=joint["kink"],
        half=joint["kink_half"],
        change=joint.linear({"kink_half": 1.0, "kink": -1.0}),
        derivatives=joint.linear(derivatives),
        excess=joint.linear({"kink": 1.0, **negative}),
        excess_half=joint.linear({"kink_half": 1.0, **negative}),
        scale=scale,
        strategy=strategy.name,
        law=law,
    )


def tile_kinks(model: nn.Module, data: ImageData, loss: Loss, tile: Tile, scale: float, batch_size: int) -> Terms:
    """K(t) and K(t/2) of a tile, ``kink`` and ``kink_half``, as means over its groups of draws [n, G]."""
    samples, draws = tile.samples, tile.partner.shape[1]
    columns, done = [], 0
    with torch.no_grad():
        y = loss.targets(data.y[samples], data.num_classes, torch.float64)
        clean = loss.value(model(data.x[samples]).double(), y).repeat_interleave(draws)
        for batch in pair_batches(data, tile, batch_size):
            delta = batch.q * (batch.r - batch.x)
            y = loss.targets(batch.y, data.num_classes, torch.float64)
            at_zero, done = clean[done : done + len(y)], done + len(y)
            values = []
            for t in (scale, scale / 2):
                sides = [loss.value(model(batch.x + step * delta).double(), y) for step in (t, -t)]
                values.append((sides[0] + sides[1] - 2 * at_zero) / (2 * t * t))
            columns.append(torch.stack(values))
    both = torch.cat(columns, dim=1).cpu().numpy().reshape(2, *tile.partner.shape)
    return {"kink": tile.group_means(both[0]), "kink_half": tile.group_means(both[1])}


def check_scale(scale: float) -> None:
    """Raise a ValueError unless ``scale`` is in (0, 1]."""
    if not isinstance(scale, int | float) or not 0 < scale <= 1:
        raise ValueError(f"expected a scale in (0, 1], got {scale!r}; give the share of the step, e.g. 1/8.")
