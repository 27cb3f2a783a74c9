"""Empirical Rademacher complexity of the ellipsoid {theta : theta^T S theta <= gamma}; docs/theory.md, Section 5."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from msda_theory.data import ImageData
from msda_theory.ellipsoids import EffectiveDimension, Ellipsoid, blocks, check_gamma, check_size, effective_dimension
from msda_theory.estimate import Estimate

_MAX_SIGNS = 16


@dataclass(frozen=True)
class Complexity:
    """Empirical Rademacher complexity of the truncated class, Eq. (5a).

    Attributes:
        truncated: ``sqrt(gamma)/m E_sigma |S_tau^{+/2} sum_i sigma_i x_i|``; se 0 if all signs were enumerated.
        bound: ``sqrt(gamma trace / m)``, never below the complexity and at most sqrt(2) times it.
        dimension: effective dimension and the range condition of Eq. (5).
        gamma: size of the class.
    """

    truncated: Estimate
    bound: float
    dimension: EffectiveDimension
    gamma: float

    @property
    def infinite(self) -> bool:
        """Whether the class without truncation has infinite complexity: the range condition fails."""
        return not self.dimension.condition_holds


def rademacher_complexity(
    metric: Ellipsoid,
    points: ImageData,
    *,
    gamma: float = 1.0,
    draws: int | None = 1000,
    rng: np.random.Generator | None = None,
) -> Complexity:
    """``E_sigma sup 1/m sum_i sigma_i theta.x_i`` over the truncated class of size ``gamma``, Eq. (5a).

    The supremum is closed, ``sqrt(gamma)/m |S_tau^{+/2} sum_i sigma_i x_i|``; only the signs are drawn.

    Args:
        metric: S, from these or other images.
        points: the m images.
        gamma: ``theta^T S theta <= gamma``.
        draws: number of sign vectors; None takes the mean over all 2^m of them, for m up to 16.
        rng: source of the signs; needed unless ``draws`` is None.

    Raises:
        TypeError: draws without a numpy.random.Generator.
        ValueError: images of another size, gamma not positive, fewer than 2 draws, or more than 16 images with
            ``draws=None``.
    """
    check_size(metric, points)
    check_gamma(gamma)
    if draws is None:
        table = _all_signs(len(points))
        norms = _norms(metric, points, lambda images: table[:, :images], len(table))
        value = (float(norms.mean()), 0.0, 2 ** len(points))
    else:
        norms = _norms(metric, points, _drawn_signs(draws, rng), draws)
        value = (float(norms.mean()), float(norms.std()) / math.sqrt(draws), draws)
    dimension = effective_dimension(metric, points)
    return Complexity(
        _scaled(value, math.sqrt(gamma) / len(points)), dimension.truncated_bound(gamma), dimension, gamma
    )


def _all_signs(m: int) -> Tensor:
    """Half of all sign vectors, [2^(m-1), m], first sign +1: the norm is the same for the other half."""
    if m > _MAX_SIGNS:
        raise ValueError(f"all signs of at most {_MAX_SIGNS} images can be enumerated, got {m}; pass draws and rng.")
    return torch.tensor([(1.0, *rest) for rest in product((1.0, -1.0), repeat=m - 1)], dtype=torch.float64)


def _drawn_signs(draws: int, rng: np.random.Generator | None) -> Callable[[int], Tensor]:
    """Random signs [draws, B] of the next B images."""
    if not isinstance(rng, np.random.Generator):
        raise TypeError(
            f"signs are drawn from a numpy.random.Generator, got {type(rng).__name__}; pass "
            "rng=numpy.random.default_rng(seed), or draws=None for all signs."
        )
    if draws < 2:
        raise ValueError(f"the error of a complexity needs draws >= 2 sign vectors, got {draws}; raise draws.")
    source = rng
    return lambda images: torch.from_numpy(2.0 * source.integers(0, 2, size=(draws, images)) - 1.0)


def _norms(metric: Ellipsoid, points: ImageData, signs: Callable[[int], Tensor], rows: int) -> Float64[Tensor, " n"]:
    """``|S_tau^{+/2} sum_i sigma_i x_i|`` for each of ``rows`` sign vectors."""
    total = torch.zeros(rows, metric.kept, dtype=torch.float64)
    for x in blocks(points, max(rows, len(metric.values))):
        total += signs(len(x)) @ metric.whitened(x)
    return total.norm(dim=1)


def _scaled(value: tuple[float, float, int], factor: float) -> Estimate:
    return Estimate(factor * value[0], factor * value[1], value[2])
