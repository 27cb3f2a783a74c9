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

from msda_theory.moments.displacements import Array, ByDistance, displacement_sums, pair_counts, shifted_sums


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

    def by_distance(self) -> ByDistance:
        """Mean of a_jk over all ordered pixel pairs at each Euclidean distance; docs/theory.md, Eq. (3f)."""
        return ByDistance.of(self.displacement_sums(), mean=True)

    def _maps(self, u: ArrayLike) -> Array:
        u = np.asarray(u, dtype=np.float64)
        if u.shape[-2:] != self.shape:
            h, w = self.shape
            raise ValueError(
                f"these moments are for {h}x{w} pixels, got maps of shape {u.shape}; "
                f"pass u [..., {h}, {w}] or build the moments for its size."
            )
        return u


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


@dataclass(frozen=True, eq=False)
class Bordered(SecondMoment):
    """``A = core + border 1^T + 1 border^T + constant 1 1^T``: what the label weight adds, docs/theory.md, Eq. (2b).

    Attributes:
        core: any second moment.
        border: map [H, W].
        constant: number added to every entry.
    """

    core: SecondMoment
    border: Float64[Array, "H W"]
    constant: float

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W)."""
        return self.core.shape

    def dense(self) -> Float64[Array, "d d"]:
        """A itself."""
        a, flat = self.core.dense(), self.border.reshape(-1)
        a += flat[:, None]
        a += flat[None, :] + self.constant
        return a

    def apply(self, u: ArrayLike) -> Float64[Array, "... H W"]:
        """``core u + border (1 . u) + 1 (border . u) + constant (1 . u)``."""
        u = self._maps(u)
        total, along = self._sums(u)
        return (
            self.core.apply(u) + self.border * total[..., None, None] + (along + self.constant * total)[..., None, None]
        )

    def quadratic(self, u: ArrayLike) -> Float64[Array, "..."]:
        """``u^T core u + 2 (border . u)(1 . u) + constant (1 . u)^2``."""
        u = self._maps(u)
        total, along = self._sums(u)
        return np.asarray(self.core.quadratic(u) + 2 * along * total + self.constant * total**2)

    def diagonal(self) -> Float64[Array, "H W"]:
        """The core's diagonal, twice the border, the constant."""
        return self.core.diagonal() + 2 * self.border + self.constant

    def displacement_sums(self) -> Float64[Array, "P Q"]:
        """The core's sums, and box sums of ``border``."""
        from_j = shifted_sums(self.border)
        return self.core.displacement_sums() + from_j + from_j[::-1, ::-1] + self.constant * pair_counts(self.shape)

    def _sums(self, u: Array) -> tuple[Array, Array]:
        return np.asarray(u.sum(axis=(-2, -1))), np.asarray((u * self.border).sum(axis=(-2, -1)))
