"""Maps on the torus of an image: their even part, and random covariances."""

from __future__ import annotations

import numpy as np
from scipy import fft


def even(r: np.ndarray) -> np.ndarray:
    """Mean of r(p) and r(-p)."""
    return (r + np.roll(r[::-1, ::-1], (1, 1), axis=(0, 1))) / 2


def correlations(seed: int, shape: tuple[int, int], variance: float = 1.0) -> np.ndarray:
    """A covariance of positive spectrum that is no product of rows and columns, nor even along one axis alone."""
    r = fft.ifft2(even(np.random.default_rng(seed).exponential(size=shape))).real
    r *= variance / r[0, 0]
    r[0, 0] = variance
    return r
