"""The second-order expansion of the mixed loss: base, R1, R2, R3; docs/theory.md, Eqs. (3) to (3c)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from msda_theory.checks import check_model
from msda_theory.data import ImageData
from msda_theory.engines import Engines
from msda_theory.estimate import Estimate, Joint
from msda_theory.ladder import Ladder, dense_ladder, sampled_ladder
from msda_theory.losses import Loss, SoftmaxCrossEntropy, as_loss
from msda_theory.masks.base import Strategy, check_strategy
from msda_theory.moments.moments import Moments, check_law
from msda_theory.pairs import check_draws, draw_tiles
from msda_theory.scalars import check_real
from msda_theory.streams import seed_from, stream
from msda_theory.terms import check_at, clean_losses, pair_terms

METHODS = ("sampled", "dense")
_MOST_DRAWS = 2**20


@dataclass(frozen=True)
class Expansion:
    """Terms of the expansion of the mixed loss; each is a mean over the images.

    Attributes:
        base: loss at the point of expansion: ``E l(f(x))``, ``E l(f(xbar))`` or ``E_q l(f(x_q))``.
        r1: first order, ``E (h' - y)^T J E[delta]``; 0 except ``at="data"``.
        r2: input-gradient regularizer, ``1/2 E (J delta)^T h'' (J delta)``.
        r3: input-Hessian regularizer, ``1/2 E sum_c (h' - y)_c delta^T D2f_c delta``.
        total: base + r1 + r2 + r3.
        gauss_newton: base + r1 + r2.
        clean: loss at the data, whatever the point; the rise is counted from here.
        strategy: name of the strategy.
        law: ``"exact"`` or ``"paper"``.
        at: ``"data"``, ``"mean"`` or ``"mask"``.
        method: ``"sampled"`` or ``"dense"``.
    """

    base: Estimate
    r1: Estimate
    r2: Estimate
    r3: Estimate
    total: Estimate
    gauss_newton: Estimate
    clean: Estimate
    strategy: str
    law: str
    at: str
    method: str


def expand(
    model: nn.Module,
    data: ImageData,
    strategy: Strategy,
    *,
    loss: Loss | Callable[[Tensor, Tensor], Tensor] | None = None,
    law: str = "exact",
    at: str = "data",
    method: str = "sampled",
    draws: int = 64,
    target_se: float | None = None,
    rng: np.random.Generator | None = None,
    batch_size: int = 512,
    memory: int | None = None,
) -> Expansion:
    """Second-order expansion of the mixed loss (1) of ``strategy``, over the images of ``data``.

    Args:
        model: module in eval mode with outputs [B, c].
        data: images and labels; partners are drawn from the same images.
        strategy: any `Strategy`.
        loss: `SoftmaxCrossEntropy` by default; any loss of the form ``h(f) - y.f``.
        law: ``"exact"``, the moments (2) of what training minimises; ``"paper"``, the paper's (2a).
        at: expand at the ``"data"`` (the paper), at the conditional ``"mean"``, Eq. (3b), or at the
            mask-conditional mean, ``"mask"``, Eq. (3c).
        method: ``"sampled"``, directional derivatives along ``draws`` pairs (q, r) for each image, any size;
            ``"dense"``, exact by full Jacobians and Hessians, for small images and strategies with closed moments
            (at the mask: with ``atoms``, since the law is enumerated).
        draws: pairs for each image, at least 2; ``"sampled"`` only.
        target_se: wanted standard error of the sampled part of ``total``; ``"sampled"`` only. Then ``draws`` pairs are
            a pilot, which decides how many fresh pairs are drawn and is not used further:
            ``ceil(draws (se / target_se)^2)``, at least 2.
        rng: required by ``"sampled"``.
        batch_size: images in one plain forward pass; changes results by rounding only.
        memory: bytes of intermediate results in one propagation of Taylor coefficients, about; sets the number of
            images that share it, and changes results by rounding only. By default 1 GiB on the CPU, an eighth of a GPU.
            Modules with an operator that has no rule take 64 images at once instead.

    R1 uses the closed first moment, so its standard error is 0 (unless the strategy has no closed moments). Standard
    errors are those of the draws, for the given images (docs/theory.md, Eq. (9)).

    Raises:
        ValueError: unknown law, point or method; model or loss outside the theory; images too large for ``"dense"``.
        TypeError: missing ``rng``, or dtypes that disagree.
    """
    loss = as_loss(SoftmaxCrossEntropy() if loss is None else loss, data.num_classes)
    check_law(law)
    check_at(at)
    check_method(method)
    check_strategy(strategy)
    check_model(model, data, loss)
    clean = Estimate(float(clean_losses(model, data, loss, batch_size).mean()), 0.0, len(data))
    _check_target(target_se, method)
    if method == "dense":
        ladder = dense_ladder(model, data, strategy, loss, law, at, clean)
    else:
        if rng is None:
            raise TypeError("method='sampled' needs rng; pass rng=numpy.random.default_rng(seed).")
        check_draws(draws)
        seed = seed_from(rng)
        moments = needed_moments(strategy, data, law, (at,), seed)
        qbar = torch.from_numpy(moments.mean).to(data.x) if moments else None
        engines = Engines(model, data.x, memory)

        def sample(number: int, source: int) -> Ladder:
            tiles = draw_tiles(data, strategy, law, number, source)
            joint = Joint.merge(
                Joint.from_strata(pair_terms(engines, data, loss, tile, at, qbar), tile.sizes) for tile in tiles
            )
            return sampled_ladder(joint, "", model, data, loss, moments, at, clean, batch_size)

        if target_se is not None:
            pilot = sample(draws, seed_from(stream(seed, "pilot")))
            draws = _draws_for(target_se, pilot.sampled_se, draws)
        ladder = sample(draws, seed)
    return Expansion(
        base=ladder.base,
        r1=ladder.r1,
        r2=ladder.r2,
        r3=ladder.r3,
        total=ladder.total,
        gauss_newton=ladder.gauss_newton,
        clean=clean,
        strategy=strategy.name,
        law=law,
        at=at,
        method=method,
    )


def _check_target(target_se: float | None, method: str) -> None:
    if target_se is None:
        return
    check_real("target_se", target_se)
    if method == "dense":
        raise TypeError(f"expected target_se, a number, with method='sampled' only, got {target_se!r}; leave it out.")


def _draws_for(target: float, se: float, pilot: int) -> int:
    """Draws that bring the standard error from ``se``, with ``pilot`` draws, to ``target``.

    Raises:
        ValueError: target not positive, or out of reach.
    """
    if not target > 0:
        raise ValueError(f"expected target_se > 0, got {target}; give the wanted standard error of the total.")
    ratio = float(se) / float(target)
    wanted = pilot * (ratio * ratio)  # infinite for the smallest targets, where a power raises OverflowError
    needed = wanted if math.isinf(wanted) else max(2, math.ceil(wanted))
    if needed > _MOST_DRAWS:
        raise ValueError(
            f"expected a target_se within reach, got {target}, which takes {needed} pairs for each image (at most "
            f"{_MOST_DRAWS}); raise it, or use more images."
        )
    return int(needed)


def needed_moments(strategy: Strategy, data: ImageData, law: str, points: tuple[str, ...], seed: int) -> Moments | None:
    """Moments for the ``points``; those that must be sampled come from a stream of their own. The mask needs none."""
    return None if set(points) == {"mask"} else strategy.moments(data.shape, law=law, rng=stream(seed, "moments", law))


def check_method(method: str) -> None:
    """Raise a ValueError that lists the known methods if ``method`` is not one of them."""
    if method not in METHODS:
        raise ValueError(f"expected method among {list(METHODS)}, got {method!r}; choose one of them.")
