"""Second moments of draws, worked through in chunks so that large images fit into memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float64, Int64
from numpy.typing import ArrayLike
from scipy import fft

from msda_theory.moments.displacements import Array
from msda_theory.moments.operators import SecondMoment

_ENTRIES = 2**21  # mask entries of a chunk: 16 MB


@runtime_checkable
class DrawStore(Protocol):
    """n maps [H, W] in any form that gives them back in parts."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, H, W)."""

    def __getitem__(self, part: slice | Array, /) -> Array:
        """The maps of ``part``, a slice or indices [k, H, W]."""


def chunks(n: int, shape: tuple[int, int]) -> Iterator[slice]:
    """Slices of ``range(n)`` with about 16 MB of maps of size ``shape`` each."""
    step = max(1, _ENTRIES // (shape[0] * shape[1]))
    return (slice(low, min(low + step, n)) for low in range(0, n, step))


@dataclass(frozen=True, eq=False)
class Sampled(SecondMoment):
    """Second moment of weighted draws: ``A = sum_s p_s q_s q_s^T``.

    Attributes:
        draws: q [n, H, W], an array or a store that gives parts of it.
        weights: p [n], of sum 1; by default 1/n each.
        groups: increasing numbers [n]; draws of one group may depend on each other, groups do not. By default each draw
            is a group of its own.
    """

    draws: DrawStore
    weights: Float64[Array, " n"] | None = None
    groups: Int64[Array, " n"] | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W)."""
        return self.draws.shape[1], self.draws.shape[2]

    def dense(self) -> Float64[Array, "d d"]:
        """The matrix itself."""
        d = self.shape[0] * self.shape[1]
        out = np.zeros((d, d))
        for flat, p in self._parts():
            out += (flat.T * p) @ flat
        return out

    def apply(self, u: ArrayLike) -> Float64[Array, "... H W"]:
        """``sum_s p_s q_s (q_s . u)``."""
        u = self._maps(u)
        maps = u.reshape(-1, self.shape[0] * self.shape[1])
        out = np.zeros_like(maps)
        for flat, p in self._parts():
            out += ((maps @ flat.T) * p) @ flat
        return out.reshape(u.shape)

    def quadratic(self, u: ArrayLike) -> Float64[Array, "..."]:
        """``sum_s p_s (q_s . u)^2``."""
        u = self._maps(u)
        maps = u.reshape(-1, self.shape[0] * self.shape[1])
        out = np.zeros(len(maps))
        for flat, p in self._parts():
            out += (maps @ flat.T) ** 2 @ p
        return out.reshape(u.shape[:-2])

    def diagonal(self) -> Float64[Array, "H W"]:
        """``sum_s p_s q_s^2``."""
        return self.power_means(2)[1]

    def displacement_sums(self) -> Float64[Array, "P Q"]:
        """Autocorrelations of the draws by FFT, averaged.

        Each sum is wrong by ``log2(4 H W) 2^-53 sum_s p_s |q_s|^2`` at most, by rounding: means over the few pairs of
        the largest displacements are the least precise ones.
        """
        h, w = self.shape
        power = np.zeros((2 * h, w + 1))
        for flat, p in self._parts():
            spectrum = fft.rfft2(flat.reshape(-1, h, w), s=(2 * h, 2 * w))
            power += np.tensordot(p, spectrum.real**2 + spectrum.imag**2, axes=1)
        full = fft.irfft2(power, s=(2 * h, 2 * w))
        return np.roll(full, (h - 1, w - 1), axis=(0, 1))[: 2 * h - 1, : 2 * w - 1]

    def power_means(self, powers: int) -> Float64[Array, "k H W"]:
        """``sum_s p_s q_s^k`` for k = 1 .. powers, [powers, H, W]."""
        out = np.zeros((powers, self.shape[0] * self.shape[1]))
        for flat, p in self._parts():
            term = flat
            for k in range(powers):
                term = term * flat if k else term
                out[k] += p @ term
        return out.reshape(powers, *self.shape)

    def linear_error(self, u: ArrayLike) -> float:
        """Standard error of ``sum_s p_s (q_s . u)`` for one map u [H, W], by the spread of groups."""
        flat_u, n = self._maps(u).reshape(-1), self.draws.shape[0]
        values = np.concatenate([flat @ flat_u for flat, _ in self._parts()])
        p = np.full(n, 1 / n) if self.weights is None else self.weights
        sums = np.add.reduceat(p * (values - p @ values), self._starts())
        return float(np.sqrt((sums**2).sum() * len(sums) / (len(sums) - 1)))

    def mean_and_error(self) -> tuple[Float64[Array, "H W"], Float64[Array, "H W"]]:
        """``sum_s p_s q_s`` and its standard error at each pixel, by the spread of groups."""
        mean, starts = self.power_means(1)[0], self._starts()
        square = np.zeros(mean.size)
        cut = 0.0  # sum over the draws seen so far of a group that goes on in the next part
        position = 0
        for flat, p in self._parts():
            inside = starts[(starts >= position) & (starts < position + len(flat))] - position
            edges = inside if len(inside) and inside[0] == 0 else np.concatenate([[0], inside])
            sums = np.add.reduceat(p[:, None] * (flat - mean.reshape(-1)), edges.astype(np.intp), axis=0)
            if len(inside) and inside[0] == 0:
                square += np.square(cut)
            else:
                sums[0] += cut
            square += (sums[:-1] ** 2).sum(axis=0)
            cut = sums[-1]
            position += len(flat)
        square += np.square(cut)
        return mean, np.sqrt(square * len(starts) / (len(starts) - 1)).reshape(self.shape)

    def _starts(self) -> Int64[Array, " g"]:
        """First draw of each group."""
        if self.groups is None:
            return np.arange(self.draws.shape[0])
        return np.flatnonzero(np.diff(self.groups, prepend=self.groups[0] - 1))

    def _parts(self) -> Iterator[tuple[Float64[Array, "k d"], Float64[Array, " k"]]]:
        n = self.draws.shape[0]
        for part in chunks(n, self.shape):
            flat = np.asarray(self.draws[part], dtype=np.float64).reshape(part.stop - part.start, -1)
            yield flat, np.full(len(flat), 1 / n) if self.weights is None else self.weights[part]
