"""Wanted coefficients a(p) for `design`, by displacement [2H-1, 2W-1]: flat, or decaying with a length."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64

from msda_theory.masks.batches import Array, Shape
from msda_theory.masks.field import excess
from msda_theory.masks.orthants import Orthant
from msda_theory.scalars import as_alpha


def reachable(alpha: float) -> tuple[float, float, float]:
    """a(p) of a field with nominal labels at correlations -1, 0 and 1: smallest, that of Mixup, and largest, the mean.

    ``E[lam (1 - 2 lam)] + E max(0, 2 lam - 1)``, ``alpha / (2 (2 alpha + 1))`` and ``alpha / (2 alpha + 1)``;
    docs/theory.md, Eq. (11c). The smallest can be had by single pairs only.
    """
    alpha = as_alpha(alpha)
    low, middle, high = Orthant.of(alpha)(np.array([-1.0, 0.0, 1.0])) - excess(alpha)
    return float(low), float(middle), float(high)


def flat(shape: Shape, *, diagonal: float, level: float) -> Float64[Array, "P Q"]:
    """``a(0) = diagonal``, ``a(p) = level`` for every other displacement."""
    wish = np.full((2 * shape[0] - 1, 2 * shape[1] - 1), float(level))
    wish[shape[0] - 1, shape[1] - 1] = diagonal
    return wish


def decaying(
    shape: Shape, *, near: float, far: float, length: float, power: float = 1.0, periodic: bool = True
) -> Float64[Array, "P Q"]:
    """``far + (near - far) exp(-(|p| / length)^power)``: exponential with power 1, Gaussian with 2.

    |p| is the Euclidean distance in pixels, with ``periodic`` on the torus of the image.
    """
    _check_length(length, power)
    return far + (near - far) * np.exp(-((_distance(shape, periodic) / length) ** power))


def power_law(
    shape: Shape, *, near: float, far: float, length: float, power: float = 1.0, periodic: bool = True
) -> Float64[Array, "P Q"]:
    """``far + (near - far) (1 + |p| / length)^-power``; |p| as for `decaying`."""
    _check_length(length, power)
    return far + (near - far) * (1 + _distance(shape, periodic) / length) ** -power


def _check_length(length: float, power: float) -> None:
    if not (length > 0 and power > 0):
        raise ValueError(f"expected a length and a power > 0, got {length} and {power}; use flat() for no decay.")


def _distance(shape: Shape, periodic: bool) -> Float64[Array, "P Q"]:
    """|p| for every displacement."""
    axes = [np.abs(np.arange(1 - n, n)) for n in shape]
    if periodic:
        axes = [np.minimum(a, n - a) for a, n in zip(axes, shape, strict=True)]
    return np.hypot(axes[0][:, None], axes[1][None, :])
