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
        se: standard error of each value [B]; None for values without sampling error.
    """

    distance: Float64[Array, " B"]
    value: Float64[Array, " B"]
    pairs: Float64[Array, " B"]
    se: Float64[Array, " B"] | None = None

    @classmethod
    def of(cls, sums: Float64[Array, "P Q"], *, mean: bool) -> ByDistance:
        """Sums over pairs with each displacement [2H-1, 2W-1], added up, or averaged over pairs, by distance."""
        shape = (sums.shape[0] + 1) // 2, (sums.shape[1] + 1) // 2
        pairs, value = distance_sums(pair_counts(shape)), distance_sums(sums)
        return cls(distances(shape), value / pairs if mean else value, pairs)


@dataclass(frozen=True, eq=False)
class DisplacementMap:
    """Values by displacement with standard errors, and the same by distance.

    Attributes:
        value: value for each displacement p [2H-1, 2W-1]; p = 0 sits at [H-1, W-1].
        se: standard error of each value [2H-1, 2W-1].
        curve: by distance, with standard errors; neighbouring displacements depend on each other, so that these do not
            follow from ``se``.
        n: number of draws, or of images, behind every value.
    """

    value: Float64[Array, "P Q"]
    se: Float64[Array, "P Q"]
    curve: ByDistance
    n: int


def pair_counts(shape: tuple[int, int]) -> Float64[Array, "P Q"]:
    """Number of pixel pairs (j, k) with displacement k - j, [2H-1, 2W-1]."""
    h, w = shape
    return np.multiply.outer(h - np.abs(np.arange(1 - h, h)), w - np.abs(np.arange(1 - w, w))).astype(float)


def displacement_sums(matrix: Float64[Array, "d d"], shape: tuple[int, int]) -> Float64[Array, "P Q"]:
    """Sum of matrix entries over the pixel pairs (j, k) with displacement k - j, [2H-1, 2W-1]."""
    h, w = shape
    by_rows = matrix.reshape(h, w, h, w).swapaxes(1, 2).reshape(h * h, w, w)  # [row of j and of k, columns]
    columns = diagonal_sums(by_rows).reshape(h, h, 2 * w - 1)
    return diagonal_sums(np.moveaxis(columns, -1, 0)).T.copy()


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


def distances(shape: tuple[int, int]) -> Float64[Array, " B"]:
    """Distinct distances |p|, increasing."""
    return np.sqrt(np.unique(_squared(shape)).astype(np.float64))


def distance_sums(maps: Float64[Array, "... P Q"]) -> Float64[Array, "... B"]:
    """Sums of maps over displacements [..., 2H-1, 2W-1] at each distance [..., B]."""
    squared = _squared(((maps.shape[-2] + 1) // 2, (maps.shape[-1] + 1) // 2)).ravel()
    order = np.argsort(squared, kind="stable")
    starts = np.flatnonzero(np.diff(squared[order], prepend=-1))
    flat = maps.reshape(*maps.shape[:-2], len(order))
    return np.add.reduceat(flat[..., order], starts, axis=-1)


def _squared(shape: tuple[int, int]) -> Int64[Array, "P Q"]:
    """|p|^2 for every displacement."""
    h, w = shape
    return np.add.outer(np.arange(1 - h, h) ** 2, np.arange(1 - w, w) ** 2)
