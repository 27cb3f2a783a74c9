"""The second-order expansion of the contrastive loss in its mixed negatives; docs/theory.md, Section 13.

A bilinear score is linear in the vector that it judges, ``s(v) = v . w + b``: it has no input Hessian, R3 = 0, and the
other terms need two numbers for each negative, the mean and the mean square of the step of its score.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor, nn

from msda_theory.data import ImageData
from msda_theory.estimate import Estimate
from msda_theory.graph.negatives import draw_partners, draw_weights, mix_negatives
from msda_theory.masks.base import Strategy, check_option
from msda_theory.moments.moments import Moments, check_moments

POINTS = ("data", "mean")
PARTNERS = ("others", "all")
Array = np.ndarray


@dataclass(frozen=True, eq=False)
class ScoreSteps:
    """How mixing moves the scores of negatives.

    Attributes:
        score: s_k [K], before mixing.
        mean: ``E[delta_k . w]`` [K], ``delta_k = q o (r - n_k)``.
        square: ``E[(delta_k . w)^2]`` [K].
    """

    score: Float64[Array, " K"]
    mean: Float64[Array, " K"]
    square: Float64[Array, " K"]

    @property
    def variance(self) -> Float64[Array, " K"]:
        """Of the step of each score [K]."""
        return np.maximum(self.square - self.mean**2, 0.0)


@dataclass(frozen=True)
class NegativeExpansion:
    """Terms of the loss of mixed negatives.

    Attributes:
        clean: loss of the negatives as they are.
        base: loss at the point of expansion; equal to ``clean`` at the data.
        r1: first-order term, 0 at the mean.
        r2: second-order term. There is no third one, since scores are linear.
        at: the point.
    """

    clean: float
    base: float
    r1: float
    r2: float
    at: str

    @property
    def total(self) -> float:
        """``base + r1 + r2``."""
        return self.base + self.r1 + self.r2


def score_steps(
    vectors: Tensor, direction: Tensor, bias: float, moments: Moments, *, partners: str = "others"
) -> ScoreSteps:
    """Scores of negatives and the first two moments of their steps, in closed form; docs/theory.md, Eq. (13b).

    With w the direction, mu and ``v`` mean and spread of the vectors, ``g = K / (K - 1)``:
    ``E[delta_k . w] = g (w o qbar) . (mu - n_k)`` and
    ``E[(delta_k . w)^2] = g [ 1/K sum_r Q(w o (r - mu)) + Q(w o (mu - n_k)) ]``, ``Q(u) = u^T A u``.

    Args:
        vectors: negatives n_k [K, h].
        direction: w [h].
        bias: b.
        moments: of q for "images" of size (1, h).
        partners: ``"others"``: r is uniform over the other negatives. ``"all"``: over all of them (g = 1), as in the
            mixed loss of images.

    Raises:
        ValueError: unknown choice of partners, fewer than two negatives, or moments of another size.
    """
    check_option("partners", partners, PARTNERS)
    n, w = _array(vectors), _array(direction)
    if len(n) < 2:
        raise ValueError(f"expected at least two negatives to mix, got {len(n)}; keep more.")
    check_moments(moments, (1, n.shape[1]))
    g = len(n) / (len(n) - 1) if partners == "others" else 1.0
    centred = n - n.mean(axis=0)
    square = moments.second.quadratic((w * centred)[:, None, :])  # Q is even
    return ScoreSteps(n @ w + bias, -g * (centred @ (w * moments.mean[0])), g * (square.mean() + square))


def expand_negatives(
    steps: ScoreSteps, *, positives: Tensor | None = None, temperature: float = 1.0, at: str = "data"
) -> NegativeExpansion:
    """Expansion to second order in the steps; docs/theory.md, Eqs. (13c) and (13d).

    Without ``positives``, binary cross-entropy, ``1/K sum_k log(1 + e^s_k)``:
    ``R1 = 1/K sum_k s'(s_k) E step_k``, ``R2 = 1/(2K) sum_k s''(s_k) E step_k^2`` with s' the sigmoid.
    With the scores of ``positives`` [P], InfoNCE over them, where the steps of different negatives are independent.

    Args:
        steps: from `score_steps`.
        positives: scores of the positives, for InfoNCE.
        temperature: of InfoNCE.
        at: ``"data"``: around the negatives as they are; ``"mean"``: around their expected mixture.
    """
    check_option("at", at, POINTS)
    shift = steps.mean if at == "mean" else np.zeros_like(steps.mean)
    mean, square = steps.mean - shift, steps.square - steps.mean**2 + (steps.mean - shift) ** 2
    if positives is None:
        clean, base = (np.logaddexp(0, s).mean() for s in (steps.score, steps.score + shift))
        p = _sigmoid(steps.score + shift)
        return NegativeExpansion(
            float(clean), float(base), float((p * mean).mean()), float((p * (1 - p) * square).mean() / 2), at
        )
    return _expand_info_nce(steps.score, shift, mean, square, _array(positives), temperature, at)


def mixed_negative_loss(
    vectors: Tensor,
    direction: Tensor,
    bias: float,
    strategy: Strategy,
    *,
    positives: Tensor | None = None,
    temperature: float = 1.0,
    scale: float = 1.0,
    draws: int = 64,
    rng: np.random.Generator,
) -> Estimate:
    """Loss of mixed negatives by Monte Carlo: ``draws`` times partners and masks for all of them.

    ``scale`` t replaces the step delta by ``t delta``, for the order of the remainder. The standard error is that over
    draws. Losses as in `expand_negatives`.

    Raises:
        ValueError: if ``draws`` is below 2, or there are fewer than two negatives.
    """
    if draws < 2:
        raise ValueError(f"expected at least 2 draws for a standard error, got draws={draws}; raise it.")
    values = []
    for _ in range(draws):
        partners = draw_partners(len(vectors), rng=rng)
        q = scale * draw_weights(*vectors.shape, strategy, rng=rng)  # type: ignore[misc, arg-type]
        values.append(
            _loss(
                _array(mix_negatives(vectors.double(), partners, q)) @ _array(direction) + bias, positives, temperature
            )
        )
    losses = np.asarray(values)
    return Estimate(float(losses.mean()), float(losses.std(ddof=1) / np.sqrt(draws)), draws)


def enumerated_negative_loss(
    vectors: Tensor,
    direction: Tensor,
    bias: float,
    strategy: Strategy,
    *,
    scales: Sequence[float] = (1.0,),
    partners: str = "others",
) -> Float64[Array, " T"]:
    """``1/K sum_k E log(1 + e^(s_k + t delta_k . w))`` for each scale t [T], summed over all partners and all masks.

    Exact, in ``K^2`` evaluations for each mask of the law and scale; for laws with a few masks, such as strided
    `DropMix`.

    Raises:
        ValueError: if the strategy does not enumerate its law, or there are fewer than two negatives.
    """
    check_option("partners", partners, PARTNERS)
    n, w = _array(vectors), _array(direction)
    if len(n) < 2:
        raise ValueError(f"expected at least two negatives to mix, got {len(n)}; keep more.")
    atoms = strategy.atoms((1, n.shape[1]))
    s, losses = n @ w + bias, np.zeros(len(scales))
    for mask, probability in zip(atoms.mask[:, 0], atoms.weight, strict=True):
        u = n @ (w * (1 - mask))
        for k, t in enumerate(scales):
            loss = np.logaddexp(0, s[:, None] + t * (u[None, :] - u[:, None]))
            if partners == "all":
                losses[k] += probability * loss.mean()
            else:
                losses[k] += probability * (loss.sum() - np.trace(loss)) / (len(n) * (len(n) - 1))
    return losses


def as_problem(vectors: Tensor, direction: Tensor, bias: float) -> tuple[nn.Module, ImageData]:
    """The negatives as a data set of class 0 and the score as a model, for every other tool of the package.

    ``expand(model, data, DropMix(), loss=Logistic())``, `order_ladder`, `remainder_order`, ... then speak of
    ``log(1 + e^s)``. Vectors become "images" [K, 1, 1, h] in float64; partners are drawn from all of them.
    """
    n = torch.as_tensor(vectors).detach().double()
    # no first weights, which torch would draw from its global state
    linear = nn.utils.skip_init(nn.Linear, n.shape[1], 1, dtype=torch.float64)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        linear.weight.copy_(torch.as_tensor(direction).double()[None])
        linear.bias.fill_(bias)
    data = ImageData(n[:, None, None, :], torch.zeros(len(n), dtype=torch.int64), 2)
    return nn.Sequential(nn.Flatten(), linear).eval(), data


def _expand_info_nce(
    score: Array, shift: Array, mean: Array, square: Array, positives: Array, temperature: float, at: str
) -> NegativeExpansion:
    a, z = positives / temperature, (score + shift) / temperature
    clean = _info_nce(score / temperature, a)
    log_total = np.logaddexp(a, np.logaddexp.reduce(z))  # [P]
    p = np.exp(z[None, :] - log_total[:, None])  # [P, K], share of each negative in each positive's sum
    first, second = mean / temperature, square / temperature**2
    along = p @ first
    # Hessian diag(p) - p p^T; independent steps have E[step_k step_l] = mean_k mean_l for k != l.
    curved = p @ second - along**2 - p**2 @ (second - first**2)
    return NegativeExpansion(clean, _info_nce(z, a), float(along.mean()), float(curved.mean() / 2), at)


def _loss(scores: Array, positives: Tensor | None, temperature: float) -> float:
    if positives is None:
        return float(np.logaddexp(0, scores).mean())
    return _info_nce(scores / temperature, _array(positives) / temperature)


def _info_nce(negatives: Array, positives: Array) -> float:
    return float(np.logaddexp(0, np.logaddexp.reduce(negatives) - positives).mean())


def _sigmoid(s: Array) -> Array:
    return np.exp(-np.logaddexp(0, -s))


def _array(values: Tensor) -> Array:
    return torch.as_tensor(values).detach().double().numpy()
