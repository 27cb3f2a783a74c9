"""The draws that `law_of` has read, what they tell about the augmenter, and the law they make."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float32, Float64

from msda_theory.masks.batches import Array, Shape
from msda_theory.masks.measured import MeasuredLaw, TwoLevelMasks, compact
from msda_theory.moments.sampled import DrawStore

_SAME = 1e-5  # draws that differ by less are one draw
_CLEAR = 0.01  # samples with this much taken somewhere are surely seen to be mixed, and so are others of their draw
_REPEATS = 12  # draws in a row that come again before a period is believed
_FAR = 8.0  # standard errors between halves that do not happen by chance
_AGREES = 3.5  # standard errors within which a hypothesis on the pairing agrees with the calls


@dataclass(eq=False)
class DrawLog:
    """Draws of all calls; samples of a call with equal draws are one draw, with their share of the batch.

    Attributes:
        batch: samples in a call.
        shape: (H, W).
        tolerance: of the probes.
        number: calls so far.
    """

    batch: int
    shape: Shape
    tolerance: float
    number: int = 0
    masks: _Masks = field(init=False)
    own: list[Array] = field(default_factory=list)  # label weight of each draw
    share: list[Array] = field(default_factory=list)  # share of the samples of its call
    mixed: list[Array] = field(default_factory=list)  # whether anything was mixed
    call: list[Array] = field(default_factory=list)  # number of its call
    marks: list[Array] = field(default_factory=list)  # a number that equal draws share
    unmixed: list[Array] = field(default_factory=list)  # samples of each call that came back as they were
    alone: list[Array] = field(default_factory=list)  # those of them that no other sample took as partner
    one_draw: bool = True  # the mixed samples of each call share one draw, and took none of the unmixed ones
    pairs: Array = field(init=False)  # how often image p was the partner of image i [B, B]
    sums: Array = field(init=False)  # by texture: sums over calls of the masks and of their squares [2, 2, B, H, W]

    def __post_init__(self) -> None:
        self.pairs = np.zeros((self.batch, self.batch), dtype=np.int64)
        self.sums = np.zeros((2, 2, self.batch, *self.shape))
        self.counts = np.zeros(2)
        self.masks = _Masks(self.shape)
        self.direction = np.random.default_rng(0).normal(size=self.shape)
        self.means: list[Array] = []  # mean mask and mean label weight of each call [n, 2]

    @property
    def per_call(self) -> float:
        """Distinct draws that mixed something in a call, on average; 1 for a call that mixed nothing."""
        counts = np.bincount(np.concatenate(self.call), weights=np.concatenate(self.mixed))
        return float(np.maximum(counts, 1).mean())

    def add(self, mask: Float32[Array, "G B H W"], own: Float64[Array, "G B"], partner: Array, texture: int) -> None:
        """Draws of G calls: masks, label weights, partners (-1: not mixed), the texture they were read with."""
        g, b = own.shape
        first, share = _groups(mask, own, partner >= 0, max(_SAME, 2 * self.tolerance if self.tolerance > 1e-3 else 0))
        at = np.argwhere(share > 0)
        index = tuple(at.T)
        chosen = mask[index].astype(np.float64)
        self.masks.add(chosen)
        self.own.append(own[index])
        self.share.append(share[index] / b)
        self.mixed.append(partner[index] >= 0)
        self.call.append(self.number + at[:, 0])
        self.marks.append(np.tensordot(chosen, self.direction, axes=2) + 10 * own[index])
        for i in range(b):
            np.add.at(self.pairs[i], partner[partner[:, i] >= 0, i], 1)
        clear = mask.min(axis=(2, 3)) < 1 - _CLEAR
        alone = np.zeros(g, dtype=np.int64)
        for k, (row, leaders, sure) in enumerate(zip(partner, first, clear, strict=True)):
            unmixed = set(np.flatnonzero(row < 0))
            alone[k] = len(unmixed - set(row[row >= 0]))
            if len(set(leaders[sure])) > 1 or unmixed & set(row[sure]):
                self.one_draw = False
        self.alone.append(alone)
        self.unmixed.append((partner < 0).sum(axis=1))
        self.sums[texture, 0] += mask.sum(axis=0, dtype=np.float64)
        self.sums[texture, 1] += np.square(mask).sum(axis=0, dtype=np.float64)
        self.counts[texture] += g
        self.means.append(np.column_stack([mask.mean(axis=(1, 2, 3), dtype=np.float64), own.mean(axis=1)]))
        self.number += g

    def check_labels(self, labels: str) -> None:
        """Raise if labels are never mixed though images are."""
        own, mixed = np.concatenate(self.own), np.concatenate(self.mixed)
        if labels == "auto" and mixed.any() and (own >= 1 - self.tolerance).all():
            raise ValueError(
                "the transform mixes images and returns the labels as they were (integer labels only, if it is fed "
                'such); let it mix them too, or, if training keeps the own label, pass labels="onehot".'
            )

    def check_repeats(self, constant: bool) -> None:
        """Raise if the same draws come again and again."""
        marks = np.concatenate(self.marks)[np.concatenate(self.mixed)]
        scale = 1e-5 * (1 + np.abs(self.direction).sum())
        for period in (np.flatnonzero(np.abs(marks[1:] - marks[:1]) < scale) + 1).tolist():
            if len(marks) - period < max(_REPEATS, period) or constant:
                return
            if np.abs(marks[period:] - marks[:-period]).max() < scale:
                raise ValueError(
                    f"expected random draws, got the same {period} again and again in {self.number} calls: does the "
                    "transform draw from a fixed seed? Seed it once, outside; if its law is one constant mask, pass "
                    "constant=True."
                )

    def check_constancy(self, constant: bool) -> None:
        """Raise if nothing is ever mixed, or if draws depend on the images or change over time."""
        if not np.concatenate(self.mixed).any() and not constant:
            raise ValueError(
                f"the transform mixed nothing in {self.number} calls; if that is meant, pass constant=True."
            )
        if self.counts.min() < _REPEATS:
            return
        halves = np.array_split(np.concatenate(self.means), 2)
        means, variances = (np.array([f(h, axis=0) for h in halves]) for f in (np.mean, np.var))
        if self._far(means, variances, np.array([len(h) for h in halves])):
            raise ValueError(
                f"expected one law, got another one in the second half of {self.number} calls; measure a transform "
                "with a schedule at one point of it."
            )
        counts = self.counts[:, None, None, None]
        means = self.sums[:, 0] / counts
        if self._far(means, np.maximum(self.sums[:, 1] / counts - means**2, 0), self.counts):
            raise ValueError(
                "expected masks that do not depend on the images, got other masks for other images; the theory, and "
                "this measurement, need masks that are drawn apart from them."
            )

    def _far(self, means: Array, variances: Array, counts: Array) -> bool:
        """Whether two sets of calls differ in the mean of anything by more than chance does."""
        error = np.sqrt((variances / (counts - 1).reshape(-1, *[1] * (means.ndim - 1))).sum(axis=0))
        return bool((np.abs(means[0] - means[1]) > _FAR * error + 10 * self.tolerance).any())

    def law(self, name: str, smoothing: float, self_pairs: bool | None) -> MeasuredLaw:
        """All draws, weighted; docs/theory.md, Eq. (10a)."""
        own, share, mixed, calls = (np.concatenate(v) for v in (self.own, self.share, self.mixed, self.call))
        weight, note = share, ""
        random = (np.count_nonzero(self.pairs, axis=1) > 1).any()
        if random and not mixed.all() and mixed.any():
            on = np.zeros(self.number, dtype=bool)  # calls that mixed something
            on[calls[mixed]] = True
            among = self._calls_with_self_pairs(on) if self_pairs is None else on & self_pairs
            if among.any() and self.one_draw:  # the others of the call show the draw, unless all met themselves
                weight = np.where(mixed | ~on[calls], share, 0.0)
                weight /= np.bincount(calls, weights=weight)[calls]
                weight = _without_self_pairs(weight, mixed, 1 / math.factorial(self.batch))
                note = "; samples that met themselves left out"
            elif among.any():
                part = among[calls]
                weight[part] = _without_self_pairs(weight[part], mixed[part], 1 / self.batch)
                note = f"; 1/{self.batch} of the samples taken to have met themselves"
        keep = weight > 0
        detail = f"{int(keep.sum())} draws in {self.number} calls{note}"
        total = weight.sum()
        return MeasuredLaw(
            self.masks.joined(keep), own[keep], weight[keep] / total, name, calls[keep], smoothing, detail
        )

    def _calls_with_self_pairs(self, on: Array) -> Array:
        """Calls among which samples met themselves with probability 1 / B; none where they never do.

        Under a uniform permutation one sample in a call, on average, meets itself: it is unmixed, and no other takes
        it. Where samples are left unmixed independently with probability p, a share p of those is alone as well.
        So the unmixed samples that are alone number ``1 + (B - 1) p^2`` in a call on average with self pairs, and
        ``B p^2`` without, where the share of unmixed samples gives p either way.

        Raises:
            ValueError: if the calls agree with both or neither.
        """
        unmixed, alone = np.concatenate(self.unmixed), np.concatenate(self.alone)
        b = self.batch
        for calls in (on, np.ones_like(on)):
            u, a = unmixed[calls] / b, alone[calls]
            phi = float(u.mean())
            error = math.sqrt((a.var() + (2 * b * phi) ** 2 * u.var()) / len(a)) + 1e-12
            p = max(0.0, (phi - 1 / b) / (1 - 1 / b))
            expected = (1.0 if self.one_draw else 1 + (b - 1) * p**2, b * phi**2)
            off = [abs(float(a.mean()) - e) / error for e in expected]
            if min(off) < _AGREES < max(off) and max(off) > min(off) + 1.5:
                return calls if off[0] < off[1] else np.zeros_like(on)
        raise ValueError(
            "partners are random and some samples come back unmixed: it does not show whether these met themselves. "
            "Pass self_pairs=True if partners are a uniform permutation of the batch, False if no sample can be its "
            "own partner; or measure more draws."
        )


@dataclass(eq=False)
class _Masks:
    """Masks in the order of their draws: pieces with two levels, or rows of one growing array of float32."""

    shape: Shape
    pieces: list[TwoLevelMasks | slice] = field(default_factory=list)
    used: int = 0

    def __post_init__(self) -> None:
        self.rows = np.empty((0, *self.shape), dtype=np.float32)

    def add(self, mask: Float64[Array, "n H W"]) -> None:
        small = compact(mask)
        if isinstance(small, TwoLevelMasks):
            self.pieces.append(small)
            return
        end = self.used + len(mask)
        if end > len(self.rows):
            rows = np.empty((max(end, 2 * len(self.rows)), *self.shape), dtype=np.float32)
            rows[: self.used] = self.rows[: self.used]
            self.rows = rows
        self.rows[self.used : end] = small
        self.pieces.append(slice(self.used, end))
        self.used = end

    def joined(self, keep: Array) -> DrawStore:
        """One store of the draws that are kept."""
        levels = [p for p in self.pieces if isinstance(p, TwoLevelMasks)]
        if len(levels) == len(self.pieces):
            low, high, bits = (np.concatenate([getattr(s, k) for s in levels])[keep] for k in ("low", "high", "bits"))
            return TwoLevelMasks(low, high, bits, self.shape)
        if not levels:
            return self.rows[: self.used] if keep.all() else self.rows[: self.used][keep]
        parts = [self.rows[p] if isinstance(p, slice) else p[slice(0, len(p.low))] for p in self.pieces]
        return np.concatenate([p.astype(np.float32) for p in parts])[keep]


def _without_self_pairs(weight: Float64[Array, " N"], mixed: Array, probability: float) -> Float64[Array, " N"]:
    """Weights of unmixed draws reduced by the probability that they were not mixed for want of a partner, Eq. (10a).

    The share of unmixed draws cannot fall below 0, so where it is 0 the estimate is above it by a part of its error.
    """
    total, still = float(weight.sum()), float(weight[~mixed].sum())
    if not 0 < still < total:
        return weight
    true = max(0.0, (still / total - probability) / (1 - probability))
    return np.where(mixed, weight * (1 - true) * total / (total - still), weight * true * total / still)


def _groups(mask: Array, own: Float64[Array, "G B"], mixed: Array, same: float) -> tuple[Array, Array]:
    """For each sample the first one of its call with the same draw [G, B]; samples behind each first one [G, B]."""
    g, b = own.shape
    first = np.tile(np.arange(b), (g, 1))
    for i in range(1, b):
        for j in range(i):
            near = (first[:, i] == i) & (first[:, j] == j)
            near &= (np.abs(own[:, i] - own[:, j]) < same) & (mixed[:, i] == mixed[:, j])
            at = np.flatnonzero(near)
            if len(at):
                equal = np.abs(mask[at, i] - mask[at, j]).max(axis=(1, 2)) < same
                first[at[equal], i] = j
    share = np.zeros((g, b), dtype=np.int64)
    np.add.at(share, (np.arange(g)[:, None], first), 1)
    return first, share
