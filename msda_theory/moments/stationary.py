"""Second moments that depend on the displacement of the two pixels alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from numpy.typing import ArrayLike
from scipy import fft

from msda_theory.moments.displacements import Array, pair_counts
from msda_theory.moments.operators import SecondMoment


@dataclass(frozen=True, eq=False)
class Stationary(SecondMoment):
    """``a_jk = table[k - j]``: a Toeplitz matrix in both axes, applied by FFT in O(d log d).

    Attributes:
        table: value for each displacement [2H-1, 2W-1], displacement (0, 0) at [H-1, W-1].

    Raises:
        ValueError: if a side of the table is even, or ``table[-p] != table[p]``.
    """

    table: Float64[Array, "P Q"]

    def __post_init__(self) -> None:
        if not (self.table.shape[0] % 2 and self.table.shape[1] % 2):
            raise ValueError(
                f"expected one value for each displacement [2H-1, 2W-1], got a table of shape {self.table.shape}; both "
                "sides are odd numbers."
            )
        gap = float(np.abs(self.table - self.table[::-1, ::-1]).max())
        if not gap <= 1e-12:
            raise ValueError(f"a table of displacements must be equal at p and -p, got a gap of {gap:.3g}; average it.")

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W)."""
        return (self.table.shape[0] + 1) // 2, (self.table.shape[1] + 1) // 2

    def dense(self) -> Float64[Array, "d d"]:
        """The matrix, entry by entry from the table."""
        h, w = self.shape
        rows, columns = (np.arange(n)[None, :] - np.arange(n)[:, None] + n - 1 for n in (h, w))
        return self.table[rows[:, None, :, None], columns[None, :, None, :]].reshape(h * w, h * w)

    def apply(self, u: ArrayLike) -> Float64[Array, "... H W"]:
        """Correlation of u with the table, on a torus on which no two displacements coincide."""
        u = self._maps(u)
        h, w = self.shape
        size = [fft.next_fast_len(n, real=True) for n in self.table.shape]
        wrapped = np.zeros(size)
        wrapped[: 2 * h - 1, : 2 * w - 1] = self.table
        wrapped = np.roll(wrapped, (1 - h, 1 - w), axis=(0, 1))
        # sum_k table[k - j] u_k is a convolution, since the table is even
        spectrum = fft.rfft2(u, s=size) * fft.rfft2(wrapped)
        return np.asarray(fft.irfft2(spectrum, s=size)[..., :h, :w])

    def diagonal(self) -> Float64[Array, "H W"]:
        """The value at displacement 0, at every pixel."""
        h, w = self.shape
        return np.full(self.shape, self.table[h - 1, w - 1])

    def displacement_sums(self) -> Float64[Array, "P Q"]:
        """The table times the number of pairs."""
        return self.table * pair_counts(self.shape)
