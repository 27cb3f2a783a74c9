"""Second moments of box laws by sums over positions, without a d x d matrix: O(d) time and memory for each box size.

The pixels of one axis that a box covers, and the positions that cover a pixel, are both intervals. So ``B . u`` for
all positions at once, and its adjoint, are differences of cumulative sums.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64
from numpy.typing import ArrayLike

from msda_theory.masks.batches import Array, Shape
from msda_theory.masks.boxes import SizeClasses
from msda_theory.moments.kronecker import KroneckerSum
from msda_theory.moments.operators import SecondMoment


@dataclass(frozen=True, eq=False)
class Axis:
    """Positions of a box of half side k > 0 along one axis of length L; see `boxes` for the border rules.

    Attributes:
        length: L.
        cyclic: whether boxes wrap around.
        start: first covered pixel of each position [P].
        stop: end (excluded) of the covered pixels [P]; beyond L where a box wraps.
        first: first position that covers each pixel [L].
        last: end (excluded) of the positions that cover it [L].
    """

    length: int
    cyclic: bool
    start: Int64[Array, " P"]
    stop: Int64[Array, " P"]
    first: Int64[Array, " L"]
    last: Int64[Array, " L"]

    @classmethod
    def of(cls, half: int, length: int, box: str) -> Axis:
        """Intervals of the border rule ``box``."""
        j = np.arange(length)
        if box == "inside":
            start = np.arange(length - 2 * half + 1)
            first, last = np.maximum(j - 2 * half + 1, 0), np.minimum(j + 1, len(start))
            return cls(length, False, start, start + 2 * half, first, last)
        if box == "periodic":
            start, first = (j - half) % length, (j - half + 1) % length
            return cls(length, True, start, start + 2 * half, first, first + 2 * half)
        start, stop = np.maximum(j - half, 0), np.minimum(j + half, length)
        return cls(length, False, start, stop, np.maximum(j - half + 1, 0), np.minimum(j + half + 1, length))

    @property
    def size(self) -> Int64[Array, " P"]:
        """Number of covered pixels at each position [P]."""
        return self.stop - self.start

    def gather(self, u: Float64[Array, "*n"], axis: int) -> Float64[Array, "*m"]:
        """Sum over the covered pixels, for each position: L -> P along ``axis``."""
        return self._sums(u, self.start, self.stop, axis)

    def spread(self, v: Float64[Array, "*n"], axis: int) -> Float64[Array, "*m"]:
        """Adjoint of `gather`: sum over the positions that cover a pixel, P -> L along ``axis``."""
        return self._sums(v, self.first, self.last, axis)

    def overlaps(self) -> Float64[Array, " Q"]:
        """Of boxes that wrap: covered pairs (j, j + p), averaged over positions, for each displacement p [2L-1]."""
        p, side = np.abs(np.arange(1 - self.length, self.length)), self.size[0]
        together = np.maximum(side - p, 0) + np.maximum(side - (self.length - p), 0)
        return (self.length - p) * together / self.length

    def _sums(self, u: Array, low: Array, high: Array, axis: int) -> Array:
        if self.cyclic:
            u = np.concatenate([u, u], axis=axis)
        total = np.cumsum(u, axis=axis)
        zero = np.zeros_like(total.take([0], axis=axis))
        total = np.concatenate([zero, total], axis=axis)
        return total.take(high, axis=axis) - total.take(low, axis=axis)


def rounding(shape: Shape) -> float:
    """Largest rounding error of qbar and a_jk as sums over box sizes and positions, ``(H + W + 8) 2^-53``.

    At most (H + W) / 2 + 1 sizes are added, after cumulative sums along both axes whose terms add up to 1 at most; 8
    for the incomplete beta function and the terms of the label.
    """
    return (sum(shape) + 8) * 2.0**-53


@dataclass(frozen=True, eq=False)
class BoxSum(SecondMoment):
    """``A = sum_k scale_k E[rho^power B B^T]``, ``rho = 1 / (1 - |B| / d)``, |B| the covered pixels; Eq. (6c).

    B is the indicator of a box of half sides ``halves_k`` whose position is uniform; ``power`` is 0 for CutMix, 2 for
    HMix, whose masks are ``lam rho`` outside.

    Attributes:
        halves: half sides of rows and columns, one pair for each box size.
        scale: weight of each box size [K].
        power: exponent of rho.
        size: (H, W).
        box: border rule, as for `CutMix`.
    """

    halves: tuple[tuple[int, int], ...]
    scale: Float64[Array, " K"]
    power: int
    size: Shape
    box: str

    @property
    def shape(self) -> Shape:
        """(H, W)."""
        return self.size

    def dense(self) -> Float64[Array, "d d"]:
        """A itself, by Kronecker products."""
        return self._kronecker().dense()

    def apply(self, u: ArrayLike) -> Float64[Array, "... H W"]:
        """For each box size: sums over the boxes at all positions, weighted, and their adjoint."""
        u = self._maps(u)
        out = np.zeros_like(u)
        for scale, boxes in self._sizes():
            out += boxes.spread(scale * boxes.rho(self.power) * boxes.gather(u))
        return out

    def quadratic(self, u: ArrayLike) -> Float64[Array, "..."]:
        """``sum_k scale_k E[rho^power (B . u)^2]``."""
        u = self._maps(u)
        out = np.zeros(u.shape[:-2])
        for scale, boxes in self._sizes():
            out += scale * (boxes.rho(self.power) * boxes.gather(u) ** 2).sum(axis=(-2, -1)) / boxes.positions
        return out

    def diagonal(self) -> Float64[Array, "H W"]:
        """``sum_k scale_k E[rho^power B]``."""
        out = np.zeros(self.size)
        for scale, boxes in self._sizes():
            out += boxes.spread(scale * boxes.rho(self.power))
        return out

    def displacement_sums(self) -> Float64[Array, "P Q"]:
        """A box of n x n' pixels holds (n - |p_y|)(n' - |p_x|) pairs with displacement p, wherever it lies."""
        h, w = self.size
        if self.box == "periodic":  # boxes that wrap lie in pieces; all positions cover equally many pixels
            sums = np.zeros((2 * h - 1, 2 * w - 1))
            for scale, boxes in self._sizes():
                weight = scale * boxes.rho(self.power)[0, 0]
                sums += np.multiply.outer(weight * boxes.rows.overlaps(), boxes.columns.overlaps())
            return sums
        table = np.zeros((h + 1, w + 1))  # weight of each size n x n'
        for scale, boxes in self._sizes():
            rows, columns = (np.bincount(a.size, minlength=n + 1) for a, n in ((boxes.rows, h), (boxes.columns, w)))
            counts = np.multiply.outer(rows, columns)
            share = np.multiply.outer(np.arange(h + 1), np.arange(w + 1)) / (h * w)
            weight = np.divide(1.0, (1 - share) ** self.power, where=counts > 0, out=np.zeros_like(share))
            table += scale * counts * weight / boxes.positions
        pairs = [np.maximum(np.arange(n + 1)[:, None] - np.abs(np.arange(1 - n, n)), 0.0) for n in (h, w)]
        return pairs[0].T @ table @ pairs[1]

    def _sizes(self) -> list[tuple[float, Boxes]]:
        found = zip(self.scale, self.halves, strict=True)
        return [(float(s), Boxes.of(h, self.size, self.box)) for s, h in found if s > 0 and min(h) > 0]

    def _kronecker(self) -> KroneckerSum:
        """``rho^power`` as a function of the two covered sizes has low rank: singular vectors give Kronecker terms."""
        h, w = self.size
        left, right = [np.zeros((0, h, h))], [np.zeros((0, w, w))]
        for scale, halves in zip(self.scale, self.halves, strict=True):
            if scale == 0 or min(halves) == 0:
                continue
            rows, columns = (SizeClasses.of(k, n, self.box) for k, n in zip(halves, self.size, strict=True))
            if self.power == 0:
                left.append(scale * rows.second.sum(axis=0, keepdims=True))
                right.append(columns.second.sum(axis=0, keepdims=True))
                continue
            rho = 1 / (1 - np.multiply.outer(rows.size, columns.size) / (h * w))
            a, s, b = np.linalg.svd(rho**self.power)
            rank = int((s > 1e-16 * s[0]).sum())
            left.append(np.einsum("r,sr,sjk->rjk", scale * s[:rank], a[:, :rank], rows.second))
            right.append(np.einsum("rs,sjk->rjk", b[:rank], columns.second))
        return KroneckerSum(np.concatenate(left), np.concatenate(right))


@dataclass(frozen=True, eq=False)
class Boxes:
    """All positions of a box of one size in the image."""

    rows: Axis
    columns: Axis

    @classmethod
    def of(cls, halves: tuple[int, int], shape: Shape, box: str) -> Boxes:
        """Boxes of the given half sides."""
        rows, columns = (Axis.of(k, n, box) for k, n in zip(halves, shape, strict=True))
        return cls(rows, columns)

    @property
    def positions(self) -> int:
        """Number of positions, all equally likely."""
        return len(self.rows.start) * len(self.columns.start)

    @property
    def share(self) -> Float64[Array, "P Q"]:
        """Share of the pixels that is covered, at each position."""
        d = self.rows.length * self.columns.length
        return np.multiply.outer(self.rows.size, self.columns.size) / d

    def rho(self, power: int) -> Float64[Array, "P Q"]:
        """``(1 - share)^-power`` at each position."""
        return (1 - self.share) ** -float(power)

    def gather(self, u: Float64[Array, "... H W"]) -> Float64[Array, "... P Q"]:
        """``B . u`` at each position."""
        return self.columns.gather(self.rows.gather(u, -2), -1)

    def spread(self, v: Float64[Array, "... P Q"]) -> Float64[Array, "... H W"]:
        """``E[v B]``: adjoint of `gather` over the number of positions."""
        return self.columns.spread(self.rows.spread(v, -2), -1) / self.positions
