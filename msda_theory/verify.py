"""Is the expansion right? The order at which its remainder vanishes as the step shrinks."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from msda_theory.checks import check_model
from msda_theory.data import ImageData
from msda_theory.dense import exact_mixed_loss, pair_weights
from msda_theory.engines import Engines
from msda_theory.estimate import Estimate, Joint
from msda_theory.ladder import exact_moments
from msda_theory.losses import Loss, SoftmaxCrossEntropy, as_loss
from msda_theory.masks.base import Strategy, check_strategy
from msda_theory.moments.moments import Moments, check_law
from msda_theory.pairs import draw_tiles, pair_batches
from msda_theory.streams import seed_from
from msda_theory.terms import clean_losses, pair_terms

METHODS = ("enumerated", "paired")
_ROUNDING = 450  # rounding errors that sums of losses and terms carry, in units of the precision


@dataclass(frozen=True)
class RemainderOrder:
    """Slope of ``log |R(t)|`` against ``log t`` and its points, ``R(t) = L(t) - [L + t R1 + t^2 (R2 + R3)]``.

    Attributes:
        slope: least-squares slope; 3 for correct terms and a smooth network.
        scales: t, decreasing.
        remainder: R(t) for each scale; exact (se 0) if enumerated.
        fitted: which points the slope is fitted to: those above rounding, ``|R(t)| > 450 eps (1 + |L|)``,
            eps the precision of the images.
        method: ``"enumerated"`` or ``"paired"``.
        strategy: name of the strategy.
        law: the law of q.
    """

    slope: float
    scales: tuple[float, ...]
    remainder: tuple[Estimate, ...]
    fitted: tuple[bool, ...]
    method: str
    strategy: str
    law: str


def remainder_order(
    model: nn.Module,
    data: ImageData,
    strategy: Strategy,
    *,
    loss: Loss | Callable[[Tensor, Tensor], Tensor] | None = None,
    law: str = "exact",
    scales: Sequence[float] = (1 / 8, 1 / 16, 1 / 32, 1 / 64, 1 / 128),
    method: str = "enumerated",
    moments: Moments | None = None,
    order: int = 8,
    draws: int = 64,
    rng: np.random.Generator | None = None,
    batch_size: int = 512,
    memory: int | None = None,
) -> RemainderOrder:
    """Order of the remainder of the expansion at the data, with ``delta`` replaced by ``t delta``; Eq. (3d).

    ``"enumerated"`` sums L(t) over every mask and every partner and takes the terms from the moments: a wrong a_jk
    shows as slope 2, a wrong qbar as slope 1. It evaluates m^2 images for each atom of the law and scale: a few
    images of a few pixels. ``"paired"`` takes the terms of each draw from its own derivatives: any size, but it
    checks the derivatives alone, not the moments.

    Args:
        model: smooth module in float64 and eval mode. Piecewise-linear networks have no such order: kinks crossed on
            the way add a term that falls with t^2 on average and vanishes below the distance to the next kink.
        data: images, in float64: float32 hardly shows the order.
        strategy: any strategy; ``"enumerated"`` needs its ``atoms``.
        loss: `SoftmaxCrossEntropy` by default.
        law: law of q, in the loss and in the terms.
        scales: steps t, at least two, in (0, 1].
        method: ``"enumerated"`` or ``"paired"``.
        moments: replace the strategy's own moments, to see what wrong ones do; ``"enumerated"`` only.
        order: Gauss nodes for each interval of lam in the enumeration; ``"enumerated"`` only.
        draws: pairs for each image; ``"paired"`` only.
        rng: required by ``"paired"``.
        batch_size: as in `expand`; ``"paired"`` only.
        memory: as in `expand`; ``"paired"`` only.

    Warns:
        UserWarning: images in float32.

    Raises:
        TypeError: missing ``rng``.
        ValueError: fewer than two scales, or scales outside (0, 1]; unknown law or method; fewer than two remainders
            above rounding.
    """
    if data.x.dtype != torch.float64:
        warnings.warn(
            f"the order of a remainder needs float64, got images in {data.x.dtype}: remainders below its rounding are "
            "left out of the fit and few scales remain; use data.to(torch.float64) and model.double().",
            stacklevel=2,
        )
    steps = np.sort(np.unique(np.asarray(scales, dtype=np.float64)))[::-1]
    if len(steps) < 2 or not (steps[-1] > 0 and steps[0] <= 1):
        raise ValueError(f"expected at least two different scales in (0, 1], got {tuple(scales)}.")
    check_law(law)
    if method not in METHODS:
        raise ValueError(f"expected method among {list(METHODS)}, got {method!r}; choose one of them.")
    loss = as_loss(SoftmaxCrossEntropy() if loss is None else loss, data.num_classes)
    check_strategy(strategy)
    check_model(model, data, loss)
    if method == "enumerated":
        atoms = strategy.atoms(data.shape, order=order).partner(law)
        moments = moments or exact_moments(strategy, data, law)
        if moments.mean.shape != data.shape:
            raise ValueError(
                f"expected moments for images of {data.shape[0]}x{data.shape[1]} pixels, got them for size "
                f"{moments.mean.shape[0]}x{moments.mean.shape[1]}; build them with strategy.moments({data.shape})."
            )
        points = _enumerated(model, data, loss, moments, atoms, steps)
    else:
        if rng is None:
            raise TypeError("method='paired' needs rng; pass rng=numpy.random.default_rng(seed).")
        points = _paired(model, data, strategy, loss, law, steps, draws, seed_from(rng), batch_size, memory)
    sizes = np.abs([p.mean for p in points])
    fitted = sizes > _ROUNDING * torch.finfo(data.x.dtype).eps * (
        1 + abs(float(clean_losses(model, data, loss).mean()))
    )
    if fitted.sum() < 2:
        raise ValueError(
            f"the remainder is at the level of rounding ({sizes.max():.1g} at most), so it has no order; the expansion "
            "is exact for this model and loss, nothing is mixed, or the scales are too small."
        )
    slope = float(np.polyfit(np.log(steps[fitted]), np.log(sizes[fitted]), 1)[0])
    return RemainderOrder(
        slope, tuple(map(float, steps)), tuple(points), tuple(map(bool, fitted)), method, strategy.name, law
    )


def _enumerated(
    model: nn.Module,
    data: ImageData,
    loss: Loss,
    moments: Moments,
    atoms: tuple[np.ndarray, np.ndarray],
    steps: np.ndarray,
) -> list[Estimate]:
    weights = pair_weights(model, data, loss)
    r1, r2, r3 = weights.terms(moments)
    # The loss at t = 0 comes from the same sum as L(t), so that rounding of the probabilities cancels.
    losses = exact_mixed_loss(model, data, loss, atoms, scales=np.append(steps, 0.0))
    remainder = losses[:-1] - losses[-1] - steps * r1 - steps**2 * (r2 + r3)
    return [Estimate(float(v), 0.0, len(data)) for v in remainder]


def _paired(
    model: nn.Module,
    data: ImageData,
    strategy: Strategy,
    loss: Loss,
    law: str,
    steps: np.ndarray,
    draws: int,
    seed: int,
    batch_size: int,
    memory: int | None,
) -> list[Estimate]:
    parts: list[list[Estimate]] = []
    engines = Engines(model, data.x, memory)
    for tile in draw_tiles(data, strategy, law, draws, seed):
        terms = pair_terms(engines, data, loss, tile, "data", None)
        second = terms["r2"] + terms["r3"]
        row = []
        for t in steps:
            values = []
            for batch in pair_batches(data, tile, batch_size):
                with torch.no_grad():
                    f = model(batch.x + float(t) * batch.q * (batch.r - batch.x))
                    values.append(loss.value(f.double(), loss.targets(batch.y, data.num_classes, torch.float64)))
            loss_t = tile.group_means(torch.cat(values).cpu().numpy().reshape(tile.partner.shape))
            difference = loss_t - terms["base"] - t * terms["r1"] - t**2 * second
            row.append(Joint.from_strata({"remainder": difference}, tile.sizes)["remainder"])
        parts.append(row)
    return [Estimate.merge([row[k] for row in parts]) for k in range(len(steps))]
