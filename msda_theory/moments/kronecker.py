"""Second moments of laws whose rows and columns are independent given a size: sums of Kronecker products."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from numpy.typing import ArrayLike

from msda_theory.moments.displacements import Array, diagonal_sums
from msda_theory.moments.operators import SecondMoment

_ENTRIES = 2**21  # entries of an intermediate product: 16 MB


@dataclass(frozen=True, eq=False)
class KroneckerSum(SecondMoment):
    """``A = sum_t left_t (x) right_t``.

    Attributes:
        left: symmetric row factors [T, H, H].
        right: symmetric column factors [T, W, W].
    """

    left: Float64[Array, "T H H"]
    right: Float64[Array, "T W W"]

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W)."""
        return self.left.shape[1], self.right.shape[1]

    def dense(self) -> Float64[Array, "d d"]:
        """A itself; one matrix product over the T terms."""
        h, w = self.shape
        terms = self.left.reshape(-1, h * h).T @ self.right.reshape(-1, w * w)  # [HH, WW]
        return terms.reshape(h, h, w, w).transpose(0, 2, 1, 3).reshape(h * w, h * w)

    def apply(self, u: ArrayLike) -> Float64[Array, "... H W"]:
        """``sum_t left_t u right_t``."""
        u = self._maps(u)
        if u.size == 0:
            return u.copy()
        h, w = self.shape
        maps = u.reshape(-1, h, w).transpose(1, 0, 2).reshape(h, -1)  # [H, nW]
        n = maps.shape[1] // w
        out = np.zeros((h * n, w))
        step = max(1, _ENTRIES // max(1, maps.size))  # few large products instead of many small ones
        for low in range(0, len(self.left), step):
            left, right = self.left[low : low + step], self.right[low : low + step]
            part = (left.reshape(-1, h) @ maps).reshape(len(left), h * n, w)
            out += part.transpose(1, 0, 2).reshape(h * n, -1) @ right.reshape(-1, w)
        return out.reshape(h, n, w).transpose(1, 0, 2).reshape(u.shape)

    def diagonal(self) -> Float64[Array, "H W"]:
        """Products of the factors' diagonals."""
        rows = np.diagonal(self.left, axis1=1, axis2=2)
        return rows.T @ np.diagonal(self.right, axis1=1, axis2=2)

    def displacement_sums(self) -> Float64[Array, "P Q"]:
        """Sums along the diagonals of the factors."""
        return diagonal_sums(self.left).T @ diagonal_sums(self.right)
