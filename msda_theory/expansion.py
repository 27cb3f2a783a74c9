"""The second-order expansion of the mixed loss: base, R1, R2, R3; docs/theory.md, Eqs. (3) to (3c)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor, nn

from msda_theory.checks import check_model
from msda_theory.data import ImageData
from msda_theory.dense import pair_weights, terms_at_mask, terms_at_mean
from msda_theory.estimate import Estimate, Joint
from msda_theory.losses import Loss, SoftmaxCrossEntropy, as_loss
from msda_theory.masks.base import Strategy
from msda_theory.moments.moments import Moments, check_law
from msda_theory.moments.operators import Sampled
from msda_theory.pairs import draw_tiles
from msda_theory.streams import seed_from
from msda_theory.terms import check_at, clean_losses, pair_terms

METHODS = ("sampled", "dense")


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
    rng: np.random.Generator | None = None,
    batch_size: int = 512,
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
        rng: required by ``"sampled"``.
        batch_size: pairs evaluated at once; changes results by rounding only.

    R1 uses the closed first moment, so its standard error is 0 (unless the strategy has no closed moments). Standard
    errors are those of the draws, for the given images (docs/theory.md, Eq. (9)).

    Raises:
        ValueError: unknown law, point or method; model or loss outside the theory; images too large for ``"dense"``.
        TypeError: missing ``rng``, or dtypes that disagree.
    """
    loss = as_loss(SoftmaxCrossEntropy() if loss is None else loss, data.num_classes)
    check_law(law)
    check_at(at)
    if method not in METHODS:
        raise ValueError(f"expected method among {list(METHODS)}, got {method!r}; choose one of them.")
    check_model(model, data, loss)
    if method == "dense":
        return _dense(model, data, strategy, loss, law, at)
    if rng is None:
        raise TypeError("method='sampled' needs rng; pass rng=numpy.random.default_rng(seed).")
    moments = strategy.moments(data.shape, law=law, rng=rng)
    qbar = torch.from_numpy(moments.mean).to(data.x)
    tiles = draw_tiles(data, strategy, law, draws, seed_from(rng))
    joint = Joint.merge(Joint.from_strata(pair_terms(model, data, loss, tile, at, qbar, batch_size)) for tile in tiles)
    clean = clean_loss(model, data, loss)
    r1 = first_order(model, data, loss, moments, at)
    base = clean if at == "data" else joint["base"]
    constant = base.mean if at == "data" else 0.0
    sampled = {} if at == "data" else {"base": 1.0}
    return Expansion(
        base=base,
        r1=r1,
        r2=joint["r2"],
        r3=joint["r3"],
        total=_plus(joint.linear({**sampled, "r2": 1.0, "r3": 1.0}, constant), r1),
        gauss_newton=_plus(joint.linear({**sampled, "r2": 1.0}, constant), r1),
        clean=clean,
        strategy=strategy.name,
        law=law,
        at=at,
        method=method,
    )


def clean_loss(model: nn.Module, data: ImageData, loss: Loss) -> Estimate:
    """Mean loss at the data, exact for the given images."""
    return Estimate(float(clean_losses(model, data, loss).mean()), 0.0, len(data))


def first_order_map(
    model: nn.Module, data: ImageData, loss: Loss, shift: Float64[np.ndarray, "H W"], batch_size: int = 512
) -> Float64[np.ndarray, "H W"]:
    """``v = E_i sum_ch (dl/dx)(x_i + shift (mu - x_i)) (mu - x_i)`` [H, W].

    At the data, ``shift = 0``, ``R1 = sum_j qbar_j v_j`` for every strategy.
    """
    mu, weight = data.mean, torch.from_numpy(shift).to(data.x)
    total = torch.zeros(data.shape, dtype=torch.float64, device=data.x.device)
    for x, y in data.batches(batch_size):
        point = (x + weight * (mu - x)).detach().requires_grad_()
        with torch.enable_grad():
            value = loss.value(model(point), loss.targets(y, data.num_classes, x.dtype)).sum()
        (slope,) = torch.autograd.grad(value, point)
        total += (slope * (mu - x)).double().sum(dim=(0, 1))
    return (total / len(data)).cpu().numpy()


def first_order(model: nn.Module, data: ImageData, loss: Loss, moments: Moments, at: str = "data") -> Estimate:
    """R1 from the closed first moment: Eq. (3) at the data, 0 around either mean.

    Moments that were themselves sampled carry their error over: R1 is linear in qbar, at the data and around the
    conditional mean, which is off where qbar is.
    """
    sampled = isinstance(moments.second, Sampled)
    if at == "mask" or (at == "mean" and not sampled):
        return Estimate(0.0, 0.0, len(data))
    v = first_order_map(model, data, loss, moments.mean if at == "mean" else np.zeros(data.shape))
    value = float((moments.mean * v).sum()) if at == "data" else 0.0
    if isinstance(moments.second, Sampled):
        per_draw = (moments.second.draws * v).sum(axis=(1, 2))
        return Estimate(value, float(per_draw.std(ddof=1)) / np.sqrt(len(per_draw)), len(per_draw))
    return Estimate(value, 0.0, len(data))


def exact_moments(strategy: Strategy, data: ImageData, law: str) -> Moments:
    """The strategy's closed moments.

    Raises:
        ValueError: if it has none: terms from sampled moments would not be exact.
    """
    moments = strategy.closed_moments(data.shape, law)
    if moments is None:
        raise ValueError(
            f"method='dense' is exact, and {strategy.name} has no closed moments; define closed_moments(), or use "
            "method='sampled'."
        )
    return moments


def _dense(model: nn.Module, data: ImageData, strategy: Strategy, loss: Loss, law: str, at: str) -> Expansion:
    m, clean = len(data), clean_loss(model, data, loss)
    base, r1 = clean.mean, 0.0
    if at == "data":
        r1, r2, r3 = pair_weights(model, data, loss).terms(exact_moments(strategy, data, law))
    elif at == "mean":
        base, r2, r3 = terms_at_mean(model, data, loss, exact_moments(strategy, data, law))
    else:
        base, r2, r3 = terms_at_mask(model, data, loss, strategy, law)
    return Expansion(
        base=Estimate(base, 0.0, m),
        r1=Estimate(r1, 0.0, m),
        r2=Estimate(r2, 0.0, m),
        r3=Estimate(r3, 0.0, m),
        total=Estimate(base + r1 + r2 + r3, 0.0, m),
        gauss_newton=Estimate(base + r1 + r2, 0.0, m),
        clean=clean,
        strategy=strategy.name,
        law=law,
        at=at,
        method="dense",
    )


def _plus(sampled: Estimate, r1: Estimate) -> Estimate:
    """Sum of independent estimates; n is that of the draws."""
    return Estimate(sampled.mean + r1.mean, float(np.hypot(sampled.se, r1.se)), sampled.n)
