"""Second moments a_jk = E[q_j q_k] of a mask law as operators on pixel maps, without forming the d x d matrix.

All arrays are float64 NumPy; d = H W pixels, row-major; u stands for a map [..., H, W].
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from numpy.typing import ArrayLike

Array = np.ndarray


class SecondMoment(ABC):
    """The symmetric matrix A = (a_jk) [d, d] of Eq. (2)."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int]:
        """(H, W)."""

    @abstractmethod
    def dense(self) -> Float64[Array, "d d"]:
        """A itself, [d, d]."""

    @abstractmethod
    def apply(self, u: ArrayLike) -> Float64[Array, "... H W"]:
        """A u for maps u [..., H, W]."""

    @abstractmethod
    def diagonal(self) -> Float64[Array, "H W"]:
        """a_jj as a map [H, W]."""

    @abstractmethod
    def displacement_sums(self) -> Float64[Array, "P Q"]:
        """Sum of a_jk over the pairs with displacement p = k - j, [2H-1, 2W-1]; p = 0 sits at [H-1, W-1]."""

    def quadratic(self, u: ArrayLike) -> Float64[Array, "..."]:
        """u^T A u for maps u [..., H, W], without forming A."""
        u = self._maps(u)
        return np.asarray((u * self.apply(u)).sum(axis=(-2, -1)))

    def by_displacement(self) -> Float64[Array, "P Q"]:
        """a(p): mean of a_jk over the (H - |p_y|)(W - |p_x|) pairs with displacement p = k - j, [2H-1, 2W-1].

        Displacement (0, 0) sits at index [H-1, W-1]. Source: docs/theory.md, Eq. (3f).
        """
        return self.displacement_sums() / pair_counts(self.shape)

    def _maps(self, u: ArrayLike) -> Array:
        u = np.asarray(u, dtype=np.float64)
        if u.shape[-2:] != self.shape:
            h, w = self.shape
            raise ValueError(
                f"these moments are for {h}x{w} pixels, got maps of shape {u.shape}; "
                f"pass u [..., {h}, {w}] or build the moments for its size."
            )
        return u


def pair_counts(shape: tuple[int, int]) -> Float64[Array, "P Q"]:
    """Number of pixel pairs (j, k) with displacement k - j, [2H-1, 2W-1]."""
    h, w = shape
    return np.multiply.outer(h - np.abs(np.arange(1 - h, h)), w - np.abs(np.arange(1 - w, w))).astype(float)


@dataclass(frozen=True, eq=False)
class Constant(SecondMoment):
    """a_jk = value for every pair (Mixup)."""

    value: float
    size: tuple[int, int]

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W)."""
        return self.size

    def dense(self) -> Float64[Array, "d d"]:
        """The matrix full of ``value``."""
        d = self.size[0] * self.size[1]
        return np.full((d, d), self.value)

    def apply(self, u: ArrayLike) -> Float64[Array, "... H W"]:
        """``value`` times the sum of u, at every pixel."""
        u = self._maps(u)
        return np.broadcast_to(self.value * u.sum(axis=(-2, -1), keepdims=True), u.shape).copy()

    def diagonal(self) -> Float64[Array, "H W"]:
        """``value`` at every pixel."""
        return np.full(self.size, self.value)

    def displacement_sums(self) -> Float64[Array, "P Q"]:
        """``value`` times the number of pairs."""
        return self.value * pair_counts(self.size)


@dataclass(frozen=True, eq=False)
class KroneckerSum(SecondMoment):
    """``A = sum_t left_t (x) right_t + border 1^T + 1 border^T + constant 1 1^T``.

    The form taken by every box law and by GMix: rows and columns are independent given the box size.

    Attributes:
        left: symmetric row factors [T, H, H].
        right: symmetric column factors [T, W, W].
        border: map [H, W].
        constant: number added to every entry.
    """

    left: Float64[Array, "T H H"]
    right: Float64[Array, "T W W"]
    border: Float64[Array, "H W"]
    constant: float

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W)."""
        return self.border.shape[0], self.border.shape[1]

    def dense(self) -> Float64[Array, "d d"]:
        """A itself; one matrix product over the T terms."""
        h, w = self.shape
        terms = self.left.reshape(-1, h * h).T @ self.right.reshape(-1, w * w)  # [HH, WW]
        a = terms.reshape(h, h, w, w).transpose(0, 2, 1, 3).reshape(h * w, h * w)
        flat = self.border.reshape(-1)
        a += flat[:, None]
        a += flat[None, :] + self.constant
        return a

    def apply(self, u: ArrayLike) -> Float64[Array, "... H W"]:
        """``sum_t left_t u right_t`` plus the border and constant parts."""
        u = self._maps(u)
        total = u.sum(axis=(-2, -1), keepdims=True)
        out = self.border * total + (u * self.border).sum(axis=(-2, -1), keepdims=True) + self.constant * total
        for left, right in zip(self.left, self.right, strict=True):
            out += left @ u @ right
        return out

    def diagonal(self) -> Float64[Array, "H W"]:
        """Products of the factors' diagonals."""
        rows = np.diagonal(self.left, axis1=1, axis2=2)
        columns = np.diagonal(self.right, axis1=1, axis2=2)
        return rows.T @ columns + 2 * self.border + self.constant

    def displacement_sums(self) -> Float64[Array, "P Q"]:
        """Sums along the diagonals of the factors, and box sums of ``border``."""
        sums = _diagonal_sums(self.left).T @ _diagonal_sums(self.right)
        counts = pair_counts(self.shape)
        from_j = _shifted_sums(self.border)
        return sums + from_j + from_j[::-1, ::-1] + self.constant * counts


@dataclass(frozen=True, eq=False)
class Dense(SecondMoment):
    """A second moment held as its matrix [d, d]; for small images."""

    matrix: Float64[Array, "d d"]
    size: tuple[int, int]

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W)."""
        return self.size

    def dense(self) -> Float64[Array, "d d"]:
        """A copy of the matrix."""
        return self.matrix.copy()

    def apply(self, u: ArrayLike) -> Float64[Array, "... H W"]:
        """Matrix product over flattened maps."""
        u = self._maps(u)
        return (u.reshape(*u.shape[:-2], len(self.matrix)) @ self.matrix).reshape(u.shape)

    def diagonal(self) -> Float64[Array, "H W"]:
        """Diagonal of the matrix as a map."""
        return np.diagonal(self.matrix).reshape(self.size).copy()

    def displacement_sums(self) -> Float64[Array, "P Q"]:
        """Sums of the matrix over pairs with equal displacement."""
        return displacement_sums(self.matrix, self.size)


@dataclass(frozen=True, eq=False)
class Sampled(SecondMoment):
    """Second moment of draws: ``A = 1/n sum_s q_s q_s^T`` for q [n, H, W]."""

    draws: Float64[Array, "n H W"]

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W)."""
        return self.draws.shape[1], self.draws.shape[2]

    def dense(self) -> Float64[Array, "d d"]:
        """Sample second moment."""
        flat = self.draws.reshape(len(self.draws), -1)
        return flat.T @ flat / len(flat)

    def apply(self, u: ArrayLike) -> Float64[Array, "... H W"]:
        """``1/n sum_s q_s (q_s . u)``."""
        u = self._maps(u)
        flat = self.draws.reshape(len(self.draws), -1)
        return (u.reshape(*u.shape[:-2], flat.shape[1]) @ flat.T @ flat / len(flat)).reshape(u.shape)

    def diagonal(self) -> Float64[Array, "H W"]:
        """Mean of q^2."""
        return (self.draws**2).mean(axis=0)

    def displacement_sums(self) -> Float64[Array, "P Q"]:
        """Mean autocorrelation of the draws by FFT."""
        h, w = self.shape
        spectrum = np.fft.rfft2(self.draws, s=(2 * h, 2 * w))
        full = np.fft.irfft2((np.abs(spectrum) ** 2).mean(axis=0), s=(2 * h, 2 * w))
        return np.roll(full, (h - 1, w - 1), axis=(0, 1))[: 2 * h - 1, : 2 * w - 1]


@dataclass(frozen=True, eq=False)
class Mixture(SecondMoment):
    """``A = sum_s weight_s A_s``: the second moment of a random choice among laws."""

    weights: tuple[float, ...]
    parts: tuple[SecondMoment, ...]

    def __post_init__(self) -> None:
        if len(self.weights) != len(self.parts) or len({p.shape for p in self.parts}) != 1:
            raise ValueError(
                f"expected one weight for each part and parts of one size, got {len(self.weights)} weights and sizes "
                f"{[p.shape for p in self.parts]}."
            )

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W)."""
        return self.parts[0].shape

    def dense(self) -> Float64[Array, "d d"]:
        """Weighted sum of the parts' matrices."""
        return self._sum([p.dense() for p in self.parts])

    def apply(self, u: ArrayLike) -> Float64[Array, "... H W"]:
        """Weighted sum of the parts' products."""
        return self._sum([p.apply(u) for p in self.parts])

    def diagonal(self) -> Float64[Array, "H W"]:
        """Weighted sum of the parts' diagonals."""
        return self._sum([p.diagonal() for p in self.parts])

    def displacement_sums(self) -> Float64[Array, "P Q"]:
        """Weighted sum of the parts' sums."""
        return self._sum([p.displacement_sums() for p in self.parts])

    def _sum(self, values: Sequence[Array]) -> Array:
        return np.asarray(sum(w * v for w, v in zip(self.weights, values, strict=True)))


def displacement_sums(matrix: Float64[Array, "d d"], shape: tuple[int, int]) -> Float64[Array, "P Q"]:
    """Sum of matrix entries over the pixel pairs (j, k) with displacement k - j, [2H-1, 2W-1]."""
    h, w = shape
    j = np.arange(h * w)
    rows, columns = np.divmod(j, w)
    p = (rows[None, :] - rows[:, None] + h - 1) * (2 * w - 1) + (columns[None, :] - columns[:, None] + w - 1)
    sums = np.bincount(p.ravel(), weights=matrix.ravel(), minlength=(2 * h - 1) * (2 * w - 1))
    return sums.reshape(2 * h - 1, 2 * w - 1)


def _diagonal_sums(factors: Float64[Array, "T L L"]) -> Float64[Array, "T P"]:
    """Sums along every diagonal of each factor, [T, 2L-1]."""
    length = factors.shape[-1]
    offsets = range(1 - length, length)
    return np.stack([np.trace(factors, offset=o, axis1=1, axis2=2) for o in offsets], axis=1)


def _shifted_sums(border: Float64[Array, "H W"]) -> Float64[Array, "P Q"]:
    """Sum of border_j over the pixels j with j + p inside the image, [2H-1, 2W-1], by cumulative sums."""
    h, w = border.shape
    total = np.pad(border.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    py, px = np.arange(1 - h, h), np.arange(1 - w, w)
    top, bottom = np.maximum(0, -py)[:, None], np.minimum(h, h - py)[:, None]
    left, right = np.maximum(0, -px)[None, :], np.minimum(w, w - px)[None, :]
    return total[bottom, right] - total[top, right] - total[bottom, left] + total[top, left]
