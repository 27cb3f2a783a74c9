"""GMix, Gaussian Mixup: Park, Yun, Chun, NeurIPS 2022 (arXiv 2208.09913)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64

from msda_theory.masks.base import SeparableStrategy, check_option
from msda_theory.masks.batches import Array, Atoms, SeparableMasks, Shape
from msda_theory.masks.betas import gauss, interval_moments
from msda_theory.moments.kronecker import KroneckerSum
from msda_theory.moments.moments import Moments, Provenance
from msda_theory.moments.operators import Bordered
from msda_theory.scalars import as_alpha, check_weights

LABELS = ("pixels", "nominal")


@dataclass(frozen=True)
class GMix(SeparableStrategy):
    """A Gaussian bump ``g = exp(-pi dist^2 / (s H W))``, ``s = min(lam, 1-lam)``, around a uniform centre pixel.

    ``M = g`` if ``lam < 1/2``, else ``1 - g``; lam ~ Beta(alpha, alpha). The published code is for squares; here
    rectangles are included. At ``s = 0`` the bump is the centre pixel alone.

    Attributes:
        alpha: parameter of the Beta law, from 1e-12 to 1e7.
        label: label weight; ``"pixels"``, the mean of M, or ``"nominal"``, lam itself (then both laws agree).

    Moments are an integral over s by quadrature whose error is stated; docs/theory.md, Eqs. (7) and (7a).
    """

    alpha: float = 1.0
    label: str = "pixels"

    def __post_init__(self) -> None:
        object.__setattr__(self, "alpha", as_alpha(self.alpha))
        check_option("label", self.label, LABELS)

    def factors(self, lam: Float64[Array, " n"], shape: Shape, *, rng: np.random.Generator) -> SeparableMasks:
        """Bumps, or their complement."""
        check_weights(lam)
        s = np.minimum(lam, 1 - lam)
        rows, columns = (_bump(s, np.floor(rng.random(len(lam)) * n)[:, None], n, shape[0] * shape[1]) for n in shape)
        high = (lam >= 0.5).astype(float)
        masks = SeparableMasks(high, 1 - 2 * high, rows, columns, lam)
        return masks if self.label == "nominal" else replace(masks, lam=masks.mean)

    def closed_moments(self, shape: Shape, law: str) -> Moments:
        """Composite Gauss rules in s; the error is the difference to a rule of lower order."""
        coarse_mean, coarse = self._integrate(shape, law, 9)
        coarse_diagonal = coarse.diagonal()
        del coarse  # at 224x224 its factors take as much memory as the finer ones
        mean, second = self._integrate(shape, law, 12)
        error = max(
            float(np.abs(mean - coarse_mean).max()),
            float(np.abs(second.diagonal() - coarse_diagonal).max()),
        )
        nodes = len(_nodes(self.alpha, shape, 12)[0])
        detail = f"{nodes} Gauss nodes in min(lam, 1 - lam); error: difference to order 9"
        return Moments(mean, second, law, Provenance("quadrature", max(error, 1e-15), detail))

    def _integrate(self, shape: Shape, law: str, order: int) -> tuple[Float64[Array, "H W"], Bordered]:
        h, w = shape
        s, p = _nodes(self.alpha, shape, order)  # one side: lam = s, and lam = 1 - s with the same weight p
        rows = _bump_moments(s, h, h * w)
        columns = rows if w == h else _bump_moments(s, w, h * w)
        low, high = (2 * s, 2 * (1 - s)) if law == "paper" else (np.ones_like(s), np.ones_like(s))
        # q1 = 1 - g for lam = s (weight low), g for lam = 1 - s (weight high)
        g = _outer(p * low, rows[0], columns[0])  # E[g; low]
        mean = float(p @ low) - g + _outer(p * high, rows[0], columns[0])
        border, constant = -g, float(p @ low)
        if law == "exact":
            u, c = self._label_terms(s, p, rows, columns)
            mean, border, constant = mean - 2 * u + c, border - u, constant + c
        left = (p * (low + high))[:, None, None] * rows[1]
        return mean, Bordered(KroneckerSum(left, columns[1]), border, constant)

    def _label_terms(
        self, s: Array, p: Array, rows: tuple[Array, Array], columns: tuple[Array, Array]
    ) -> tuple[Float64[Array, "H W"], float]:
        """``u = E[(1 - label) q1]`` and ``c = E[1 - label]`` of Eq. (2b), over both sides of lam = 1/2."""
        c = float(p.sum())
        if self.label == "nominal":  # (1 - s)(1 - g) (low) plus s g (high)
            return float(p @ (1 - s)) - _outer(p * (1 - 2 * s), rows[0], columns[0]), c
        # (1 - mean(g))(1 - g) (low) plus mean(g) g (high); E[mean(g) g_j | s] is a row mean of E[g g^T | s]
        mean_g = rows[0].mean(axis=1) * columns[0].mean(axis=1)
        mean_gg = _outer(p, rows[1].mean(axis=2), columns[1].mean(axis=2))
        return float(p @ (1 - mean_g)) - _outer(p, rows[0], columns[0]) + 2 * mean_gg, c

    def atoms(self, shape: Shape, *, order: int = 16) -> Atoms:
        """Every centre, times the nodes in s, on both sides of lam = 1/2."""
        h, w = shape
        s, p = _nodes(self.alpha, shape, order)
        rows, columns = (_bump(s[:, None], np.arange(n)[None, :, None], n, h * w) for n in shape)
        g = (rows[:, :, None, :, None] * columns[:, None, :, None, :]).reshape(-1, h, w)
        weight = np.repeat(p / (h * w), h * w)
        nominal = np.repeat(s, h * w)
        mask, lam = np.concatenate([g, 1 - g]), np.concatenate([nominal, 1 - nominal])
        label = lam if self.label == "nominal" else mask.mean(axis=(1, 2))
        return Atoms(mask, label, 2 * lam, np.concatenate([weight, weight]))


def _gauss(squared: Array, s: Array, d: int) -> Float64[Array, "..."]:
    """``exp(-pi squared / (s d))``; at s = 0 the indicator of 0."""
    # The smallest positive number stands for s = 0: the exponent is then -inf or 0, as in the limit.
    with np.errstate(over="ignore"):
        return np.exp(-np.pi * squared / np.maximum(s * d, np.finfo(float).tiny)[..., None])


def _bump(s: Array, centre: Array, length: int, d: int) -> Float64[Array, "... L"]:
    """One axis of g for widths s [...] and centres [..., 1]; the indicator of the centre at s = 0."""
    return _gauss((np.arange(length) - centre) ** 2, s, d)


def _bump_moments(
    s: Float64[Array, " n"], length: int, d: int
) -> tuple[Float64[Array, "n L"], Float64[Array, "n L L"]]:
    """``E[g_j]`` and ``E[g_j g_k]`` of one axis over the uniform centre c, for each width.

    ``(j - c)^2 + (k - c)^2 = (j - k)^2 / 2 + 2 (c - (j + k) / 2)^2``: a function of j - k times one of j + k.
    """
    j = np.arange(length)
    first, middle = np.zeros((len(s), length)), np.zeros((len(s), 2 * length - 1))
    for c in j:
        first += _gauss((j - c) ** 2, s, d) / length
        middle += _gauss(2 * (c - np.arange(2 * length - 1) / 2) ** 2, s, d) / length
    apart = _gauss(j**2 / 2, s, d)
    return first, apart[:, np.abs(j[:, None] - j)] * middle[:, j[:, None] + j]


def _outer(weights: Array, rows: Array, columns: Array) -> Float64[Array, "H W"]:
    """``sum_i w_i rows_i (x) columns_i``."""
    return (weights[:, None] * rows).T @ columns


def _nodes(alpha: float, shape: Shape, order: int) -> tuple[Float64[Array, " n"], Float64[Array, " n"]]:
    """Nodes s in (0, 1/2) and their Beta(alpha, alpha) probabilities (each counted on one side of 1/2).

    Below ``s0 = pi / (40 H W)`` the bump is its centre pixel to 4e-18, so one node with the mean of s there is exact.
    Above, panels shrink geometrically towards s0, where g varies on the scale of log s, and are no wider than two
    standard deviations of the Beta law.
    """
    d = shape[0] * shape[1]
    s0 = np.pi / (40 * d)
    width = 2 / np.sqrt(4 * (2 * alpha + 1))
    panels = [0.5]
    while panels[-1] > s0:
        panels.append(max(panels[-1] / 2, panels[-1] - width, s0))
    edges = np.array([0.0, *panels[::-1]])
    probability, first = interval_moments(alpha, edges[:2], 1)
    s, p = gauss(alpha, edges[1:], order)
    tail = probability[0] > 0
    tail_s = np.array([first[0] / probability[0]]) if tail else np.empty(0)
    some = p.ravel() > 0  # at large alpha hardly any: all nodes at alpha = 1e7 would take 11 GB a factor at 224x224
    s, p = s.ravel()[some], p.ravel()[some]
    return np.concatenate([tail_s, s]), np.concatenate([probability if tail else np.empty(0), p])
