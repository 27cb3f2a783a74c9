"""Sums over the pixel pairs (j, k) with one displacement p = k - j, and over those at one distance |p|."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

Array = np.ndarray


@dataclass(frozen=True, eq=False)
class ByDistance:
    """Values collected by Euclidean pixel distance |p|.

    Attributes:
        distance: distinct distances, increasing, in pixels [B].
        value: value for each distance [B].
        pairs: number of ordered pixel pairs at that distance [B].
    """

    distance: Float64[Array, " B"]
    value: Float64[Array, " B"]
    pairs: Float64[Array, " B"]

    @classmethod
    def of(cls, sums: Float64[Array, "P Q"], *, mean: bool) -> ByDistance:
        """Sums over pairs with each displacement [2H-1, 2W-1], added up, or averaged over pairs, by distance."""
        h, w = ((n + 1) // 2 for n in sums.shape)
        distance, index = _distances(h, w)
        pairs = np.bincount(index, weights=pair_counts((h, w)).ravel())
        value = np.bincount(index, weights=sums.ravel())
        return cls(distance, value / pairs if mean else value, pairs)


def pair_counts(shape: tuple[int, int]) -> Float64[Array, "P Q"]:
    """Number of pixel pairs (j, k) with displacement k - j, [2H-1, 2W-1]."""
    h, w = shape
    return np.multiply.outer(h - np.abs(np.arange(1 - h, h)), w - np.abs(np.arange(1 - w, w))).astype(float)


def displacement_sums(matrix: Float64[Array, "d d"], shape: tuple[int, int]) -> Float64[Array, "P Q"]:
    """Sum of matrix entries over the pixel pairs (j, k) with displacement k - j, [2H-1, 2W-1]."""
    h, w = shape
    j = np.arange(h * w)
    rows, columns = np.divmod(j, w)
    p = (rows[None, :] - rows[:, None] + h - 1) * (2 * w - 1) + (columns[None, :] - columns[:, None] + w - 1)
    sums = np.bincount(p.ravel(), weights=matrix.ravel(), minlength=(2 * h - 1) * (2 * w - 1))
    return sums.reshape(2 * h - 1, 2 * w - 1)


def diagonal_sums(factors: Float64[Array, "T L L"]) -> Float64[Array, "T P"]:
    """Sums along every diagonal of each factor, [T, 2L-1]."""
    length = factors.shape[-1]
    offsets = range(1 - length, length)
    return np.stack([np.trace(factors, offset=o, axis1=1, axis2=2) for o in offsets], axis=1)


def shifted_sums(border: Float64[Array, "H W"]) -> Float64[Array, "P Q"]:
    """Sum of border_j over the pixels j with j + p inside the image, [2H-1, 2W-1], by cumulative sums."""
    h, w = border.shape
    total = np.pad(border.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    py, px = np.arange(1 - h, h), np.arange(1 - w, w)
    top, bottom = np.maximum(0, -py)[:, None], np.minimum(h, h - py)[:, None]
    left, right = np.maximum(0, -px)[None, :], np.minimum(w, w - px)[None, :]
    return total[bottom, right] - total[top, right] - total[bottom, left] + total[top, left]


def _distances(h: int, w: int) -> tuple[Float64[Array, " B"], Int64[Array, " PQ"]]:
    """Distinct |p| over displacements [2H-1, 2W-1], and the position of each displacement among them (flat)."""
    squared = np.add.outer(np.arange(1 - h, h) ** 2, np.arange(1 - w, w) ** 2)
    distinct, index = np.unique(squared, return_inverse=True)
    return np.sqrt(distinct.astype(np.float64)), index.ravel()
