"""How the coefficient of pixel pairs, and the regularizer it weights, depend on the distance of the pixels."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64

from msda_theory.dense import PairWeights
from msda_theory.moments.displacements import ByDistance, displacement_sums
from msda_theory.moments.moments import Moments

Array = np.ndarray


def coefficient_by_distance(moments: Moments) -> ByDistance:
    """Mean of a_jk over all pixel pairs at each distance; docs/theory.md, Eq. (3f)."""
    return moments.second.by_distance()


def gradient_term_by_displacement(weights: PairWeights, moments: Moments) -> Float64[Array, "P Q"]:
    """R2(p) [2H-1, 2W-1]: the part of R2 at the data from pairs with displacement p; sums to R2, Eq. (3f)."""
    shape = moments.mean.shape[0], moments.mean.shape[1]
    return displacement_sums(0.5 * moments.second.dense() * weights.gradient, shape)


def gradient_term_by_distance(weights: PairWeights, moments: Moments) -> ByDistance:
    """Part of R2 at the data from the pixel pairs at each distance; the values sum to R2."""
    return ByDistance.of(gradient_term_by_displacement(weights, moments), mean=False)
