"""Draws of a mask law: full masks, masks with a row and a column factor, and finite laws as weighted atoms."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from msda_theory.moments.moments import check_law

Array = np.ndarray
Shape = tuple[int, int]


@dataclass(frozen=True, eq=False)
class MaskBatch:
    """n draws of (M, lam).

    Attributes:
        mask: M [n, H, W] in [0, 1], the weight of x_i at each pixel, shared by channels.
        lam: label weight of y_i that is really used [n], in [0, 1].

    Raises:
        ValueError: if shapes disagree or values leave [0, 1].
    """

    mask: Array
    lam: Array

    def __post_init__(self) -> None:
        if not (isinstance(self.mask, np.ndarray) and isinstance(self.lam, np.ndarray)):
            raise TypeError(
                f"expected masks and label weights as NumPy arrays, got {type(self.mask).__name__} and "
                f"{type(self.lam).__name__}; convert them, e.g. mask.numpy()."
            )
        if self.mask.ndim != 3 or self.lam.shape != self.mask.shape[:1]:
            raise ValueError(
                f"expected masks [n, H, W] and label weights [n], got {self.mask.shape} and {self.lam.shape}."
            )
        for name, values in (("masks", self.mask), ("label weights", self.lam)):
            if values.size and not (values.min() >= -1e-12 and values.max() <= 1 + 1e-12):
                raise ValueError(
                    f"{name} must lie in [0, 1], got {values.min():.3g} .. {values.max():.3g}; rescale them."
                )


@dataclass(frozen=True, eq=False)
class SeparableMasks:
    """n draws of ``M = offset + scale * row (x) column``, kept as their factors: O(H + W) numbers a draw, not H W.

    Every built-in law has this form: a blend (scale 0), a box (row and column its indicators), a Gaussian bump.

    Attributes:
        offset: value of M where the product of the factors is 0 [n].
        scale: weight of the product [n].
        rows: row factor [n, H].
        columns: column factor [n, W].
        lam: label weight of y_i that is really used [n].
    """

    offset: Float64[Array, " n"]
    scale: Float64[Array, " n"]
    rows: Float64[Array, "n H"]
    columns: Float64[Array, "n W"]
    lam: Float64[Array, " n"]

    def dense(self) -> MaskBatch:
        """The masks themselves, [n, H, W]."""
        mask = self.rows[:, :, None] * self.columns[:, None, :]
        mask *= self.scale[:, None, None]
        mask += self.offset[:, None, None]
        return MaskBatch(mask, self.lam)

    @property
    def mean(self) -> Float64[Array, " n"]:
        """Mean of M over the pixels [n]."""
        return self.offset + self.scale * (self.rows.mean(axis=1) * self.columns.mean(axis=1))


def uniform_masks(lam: Float64[Array, " n"], shape: Shape) -> SeparableMasks:
    """M = lam at every pixel, label weight lam."""
    n = len(lam)
    return SeparableMasks(lam, np.zeros(n), np.zeros((n, shape[0])), np.zeros((n, shape[1])), lam)


@dataclass(frozen=True, eq=False)
class Atoms:
    """A finite law of (M, lam): by enumeration, with Gauss nodes in lam where it is continuous.

    Attributes:
        mask: M [N, H, W].
        lam: label weight [N].
        tilt: density of the paper's law of lam against Beta(alpha, alpha), ``2 lam`` [N]; docs/theory.md, Eq. (2a). Not
            a number where that law is empty.
        weight: probabilities [N].
    """

    mask: Float64[Array, "N H W"]
    lam: Float64[Array, " N"]
    tilt: Float64[Array, " N"]
    weight: Float64[Array, " N"]

    def partner(self, law: str) -> tuple[Float64[Array, "N2 H W"], Float64[Array, " N2"]]:
        """Finite law of q, the weight taken from the partner: atoms [N', H, W] and probabilities [N'].

        Exact law: 1 - M with probability lam and M otherwise; paper's law: 1 - M under the tilted weights.

        Raises:
            ValueError: if the law is unknown, or the paper's is empty.
        """
        check_law(law)
        if law == "paper":
            if np.isnan(self.tilt).any():
                raise ValueError('the own label never has weight, so law="paper" is empty; use "exact".')
            return 1 - self.mask, self.weight * self.tilt
        q = np.concatenate([1 - self.mask, self.mask])
        p = np.concatenate([self.weight * self.lam, self.weight * (1 - self.lam)])
        return q[p > 0], p[p > 0]
