"""How the coefficient of pixel pairs, and the regularizer it weights, depend on the distance of the pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from msda_theory.dense import PairWeights
from msda_theory.moments.moments import Moments
from msda_theory.moments.operators import displacement_sums, pair_counts

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


def coefficient_by_distance(moments: Moments) -> ByDistance:
    """Mean of a_jk over all pixel pairs at each distance; docs/theory.md, Eq. (3f)."""
    distance, index = _distances(moments.mean.shape[0], moments.mean.shape[1])
    pairs = np.bincount(index, weights=pair_counts(moments.second.shape).ravel())
    sums = np.bincount(index, weights=moments.second.displacement_sums().ravel())
    return ByDistance(distance, sums / pairs, pairs)


def gradient_term_by_displacement(weights: PairWeights, moments: Moments) -> Float64[Array, "P Q"]:
    """R2(p) [2H-1, 2W-1]: the part of R2 at the data from pairs with displacement p; sums to R2, Eq. (3f)."""
    shape = moments.mean.shape[0], moments.mean.shape[1]
    return displacement_sums(0.5 * moments.second.dense() * weights.gradient, shape)


def gradient_term_by_distance(weights: PairWeights, moments: Moments) -> ByDistance:
    """Part of R2 at the data from the pixel pairs at each distance; the values sum to R2."""
    shape = moments.mean.shape[0], moments.mean.shape[1]
    distance, index = _distances(*shape)
    sums = np.bincount(index, weights=gradient_term_by_displacement(weights, moments).ravel())
    return ByDistance(distance, sums, np.bincount(index, weights=pair_counts(shape).ravel()))


def _distances(h: int, w: int) -> tuple[Float64[Array, " B"], Array]:
    """Distinct |p| over displacements [2H-1, 2W-1], and the position of each displacement among them (flat)."""
    squared = np.add.outer(np.arange(1 - h, h) ** 2, np.arange(1 - w, w) ** 2)
    distinct, index = np.unique(squared, return_inverse=True)
    return np.sqrt(distinct.astype(np.float64)), index.ravel()
