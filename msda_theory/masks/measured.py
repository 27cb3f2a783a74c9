"""A law known by its draws: what `law_of` measures of an augmenter, as a strategy like any other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64, UInt8

from msda_theory.masks.base import Strategy
from msda_theory.masks.batches import Array, Atoms, MaskBatch, Shape
from msda_theory.moments.moments import Moments, Provenance, check_law
from msda_theory.moments.operators import Bordered, SecondMoment
from msda_theory.moments.sampled import DrawStore, Sampled

_SNAP = 2e-6  # differences of mask values that float32 arithmetic in an augmenter leaves


@dataclass(frozen=True, eq=False)
class TwoLevelMasks:
    """Masks with at most two values each, one bit a pixel: blends and boxes of any shape.

    Attributes:
        low: value where the bit is 0 [n].
        high: value where the bit is 1 [n].
        bits: one bit for each pixel, packed [n, ceil(H W / 8)].
        size: (H, W).
    """

    low: Float64[Array, " n"]
    high: Float64[Array, " n"]
    bits: UInt8[Array, "n b"]
    size: Shape

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, H, W)."""
        return len(self.low), *self.size

    def __getitem__(self, part: slice | Array) -> Float64[Array, "k H W"]:
        """The masks of ``part``."""
        low, high = self.low[part], self.high[part]
        on = np.unpackbits(self.bits[part], axis=1, count=self.size[0] * self.size[1]).reshape(-1, *self.size)
        return low[:, None, None] + (high - low)[:, None, None] * on


def compact(mask: Float64[Array, "n H W"]) -> TwoLevelMasks | Float64[Array, "n H W"]:
    """Masks in the smaller of two forms; values change by at most 4e-6, the rounding of float32 augmenters."""
    mask = np.where(np.abs(mask) < _SNAP, 0.0, np.where(np.abs(mask - 1) < _SNAP, 1.0, mask))
    low, high = mask.min(axis=(1, 2)), mask.max(axis=(1, 2))
    on: Bool[Array, "n H W"] = mask > ((low + high) / 2)[:, None, None]
    near = np.where(on, high[:, None, None] - mask, mask - low[:, None, None])
    if not near.max(initial=0.0) <= 2 * _SNAP:
        return mask
    flat = (high - low) <= 2 * _SNAP
    return TwoLevelMasks(low, np.where(flat, low, high), np.packbits(on.reshape(len(mask), -1), axis=1), mask.shape[1:])


@dataclass(frozen=True, eq=False)
class MeasuredLaw(Strategy):
    """A finite law of (M, lam) on draws of an augmenter, as `law_of` measures it; made for one image size.

    It works wherever a built-in strategy does. ``sample`` draws from the measured draws with replacement; moments are
    those of the measured law. They differ from those of the augmenter by the sampling error of the measurement, which
    ``moments(...).provenance`` states; errors of `expand` and `compare` contain it in R1 and nowhere else.

    There is no nominal weight in a measured law. ``law="paper"`` reads Eq. (2a) with the label weight w in its place,
    Eq. (10b): ``q = 1 - M`` under the density ``w / E[w]``. It is the paper's law where the label weight is nominal.

    Attributes:
        store: M [N, H, W].
        lam: label weight of y_i [N].
        weight: probability of each draw [N].
        label: name for tables and figures.
        group: increasing numbers [N]; draws of one group (one call of the augmenter) may depend on each other. By
            default each draw is a group of its own.
        smoothing: label smoothing s of the augmenter, ``y~ -> (1 - s) y~ + s / classes``; not part of (M, lam).
        detail: how the law was measured, in words.
    """

    store: DrawStore
    lam: Float64[Array, " N"]
    weight: Float64[Array, " N"]
    label: str
    group: Int64[Array, " N"] | None = None
    smoothing: float = 0.0
    detail: str = ""

    def __post_init__(self) -> None:
        n = self.store.shape[0]
        group = np.arange(n) if self.group is None else self.group
        if not (self.lam.shape == self.weight.shape == group.shape == (n,)):
            raise ValueError(
                f"expected one label weight, probability and group for each of {n} masks, got {self.lam.shape}, "
                f"{self.weight.shape} and {group.shape}."
            )
        if not (self.weight.min() >= 0 and abs(self.weight.sum() - 1) < 1e-9):
            raise ValueError(f"probabilities of draws must be >= 0 and sum to 1, got a sum of {self.weight.sum():.6g}.")
        if not (self.lam.min() >= -1e-12 and self.lam.max() <= 1 + 1e-12):
            raise ValueError(
                f"label weights of draws must lie in [0, 1], got {self.lam.min():.3g} .. {self.lam.max():.3g}."
            )
        if (np.diff(group) < 0).any() or group[0] == group[-1]:
            raise ValueError("expected increasing numbers of at least two groups (calls), for an error; measure more.")

    @property
    def name(self) -> str:
        """The name it was given."""
        return self.label

    @property
    def shape(self) -> Shape:
        """Image size (H, W) that it was measured at."""
        return self.store.shape[1], self.store.shape[2]

    def __len__(self) -> int:
        """Number of draws."""
        return len(self.lam)

    def masks(self, lam: Float64[Array, " n"], shape: Shape, *, rng: np.random.Generator) -> MaskBatch:
        """Not known given a nominal weight.

        Raises:
            ValueError: always.
        """
        raise ValueError(f"{self.name} was measured and has no nominal weight to condition on; use sample().")

    def sample(self, n: int, shape: Shape, *, rng: np.random.Generator) -> MaskBatch:
        """n of the measured draws, with replacement.

        Raises:
            ValueError: if ``shape`` is not the size that was measured; otherwise as every strategy.
        """
        self._check_size(self._check_draw(n, shape, rng))
        index = self._index(rng.random(n), self.weight)
        return MaskBatch(_read(self.store, index), self.lam[index])

    def partner_weights(
        self, n: int, shape: Shape, *, law: str = "exact", rng: np.random.Generator
    ) -> Float64[Array, "n H W"]:
        """n draws of q [n, H, W]; both laws use the same numbers of ``rng``.

        Raises:
            ValueError: if ``shape`` is not the size that was measured; otherwise as every strategy.
        """
        check_law(law)
        self._check_size(self._check_draw(n, shape, rng))
        u, v = rng.random(n), rng.random(n)
        if law == "paper":
            return 1 - _read(self.store, self._index(v, self._tilted()))
        index = self._index(v, self.weight)
        mask = _read(self.store, index)
        return np.where((u < self.lam[index])[:, None, None], 1 - mask, mask)

    def closed_moments(self, shape: Shape, law: str) -> Moments:
        """Moments of the measured law, by Eq. (2b); ``provenance.error`` is the largest standard error of an a_jj."""
        self._check_size(shape)
        taken = _Taken(self.store)
        if law == "paper":
            second = Sampled(taken, self._tilted(), self.group)
            return self._moments(second.power_means(1)[0], second, law, second)
        second = Sampled(taken, self.weight, self.group)
        u = Sampled(taken, self.weight * (1 - self.lam)).power_means(1)[0]
        c = float(self.weight @ (1 - self.lam))
        mean = second.power_means(1)[0] - 2 * u + c
        conditional = Sampled(_Mean(self.store, self.lam), self.weight, self.group)
        return self._moments(mean, Bordered(second, -u, c), law, conditional)

    def atoms(self, shape: Shape, *, order: int = 16) -> Atoms:
        """Every draw with its probability."""
        self._check_size(shape)
        own = float(self.weight @ self.lam)
        tilt = self.lam / own if own > 0 else np.full(len(self), np.nan)  # the paper's law is empty
        return Atoms(_read(self.store, slice(0, len(self))), self.lam, tilt, self.weight)

    def _moments(self, mean: Array, second: SecondMoment, law: str, sample: Sampled) -> Moments:
        """``a_jj = E[w (1-M)^2 + (1-w) M^2]``: the spread over groups of the bracket gives its standard error."""
        square = _Square(self.store, self.lam if law == "exact" else np.ones(len(self)))
        weights = self.weight if law == "exact" else self._tilted()
        error = float(Sampled(square, weights, self.group).mean_and_error()[1].max())
        return Moments(mean, second, law, Provenance("sampled", error, self.detail), sample=sample)

    def _tilted(self) -> Float64[Array, " N"]:
        """Probabilities under the density w / E[w].

        Raises:
            ValueError: if the label weight is always 0.
        """
        tilted = self.weight * self.lam
        if not tilted.sum() > 0:
            raise ValueError(f'{self.name} never gives weight to the own label, so law="paper" is empty; use "exact".')
        return tilted / tilted.sum()

    def _index(self, u: Float64[Array, " n"], weight: Float64[Array, " N"]) -> Array:
        return np.minimum(np.searchsorted(np.cumsum(weight), u, side="right"), len(weight) - 1)

    def _check_size(self, shape: Shape) -> None:
        if tuple(shape) != self.shape:
            raise ValueError(
                f"{self.name} was measured at {self.shape[0]}x{self.shape[1]} pixels, got {shape[0]}x{shape[1]}; "
                f"measure it there: law_of(transform, ({shape[0]}, {shape[1]}))."
            )


@dataclass(frozen=True, eq=False)
class _Taken:
    """1 - M."""

    store: DrawStore

    @property
    def shape(self) -> tuple[int, ...]:
        return self.store.shape

    def __getitem__(self, part: slice | Array) -> Array:
        return 1 - _read(self.store, part)


@dataclass(frozen=True, eq=False)
class _Mean:
    """``E[q | M, w] = w (1 - M) + (1 - w) M``."""

    store: DrawStore
    lam: Array

    @property
    def shape(self) -> tuple[int, ...]:
        return self.store.shape

    def __getitem__(self, part: slice | Array) -> Array:
        mask, w = _read(self.store, part), self.lam[part][:, None, None]
        return w + (1 - 2 * w) * mask


@dataclass(frozen=True, eq=False)
class _Square:
    """``E[q^2 | M, w] = w (1 - M)^2 + (1 - w) M^2``."""

    store: DrawStore
    lam: Array

    @property
    def shape(self) -> tuple[int, ...]:
        return self.store.shape

    def __getitem__(self, part: slice | Array) -> Array:
        mask, w = _read(self.store, part), self.lam[part][:, None, None]
        return w * (1 - mask) ** 2 + (1 - w) * mask**2


def _read(store: DrawStore, part: slice | Array) -> Float64[Array, "k H W"]:
    return np.asarray(store[part], dtype=np.float64)
