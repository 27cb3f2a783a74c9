"""`law_of`: the law of (M, lam) of any augmenter, measured by feeding it probe batches."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from msda_theory.masks.batches import Array, Shape
from msda_theory.masks.measured import MeasuredLaw, TwoLevelMasks, compact
from msda_theory.masks.probes import LabelForm, Probe, Transform, Weights, call, diagnose, one_smoothing
from msda_theory.moments.moments import check_shape
from msda_theory.moments.sampled import DrawStore

_PILOT = 16  # calls after which the number of calls is set
_ENTRIES = 2**21  # image values that are read at a time
_SAME = 1e-5  # draws that differ by less are one draw
_CLEAR = 0.01  # samples with this much taken somewhere are surely seen to be mixed, and so are others of their draw
LABELS = ("auto", "onehot", "index")


def law_of(
    transform: Transform,
    shape: Shape,
    draws: int = 10_000,
    *,
    name: str | None = None,
    labels: str = "auto",
    batch_size: int = 8,
    channels: int = 3,
    constant: bool = False,
    tolerance: float = 1e-4,
    device: torch.device | str = "cpu",
) -> MeasuredLaw:
    """The law of (M, lam) of a black-box augmenter ``(x, y) -> (x~, y~)``, as a strategy.

    The transform is called on probe batches ``x`` [batch_size, channels, H, W], float32 in [0, 1], from which partner
    and mask of ``x~_i = M x_i + (1 - M) x_p`` can be read at every pixel, and with a class of its own for each sample,
    so that ``y~_i = w y_i + (1 - w) y_p`` gives the label weight w. Every call is checked: the blend in all channels,
    one partner for each image, the same partner in the labels. It may draw one mask for a batch or one for each
    sample, pair by flip, roll or permutation, work in place, smooth labels, and return soft labels, ``(y_a, y_b,
    lam)`` or ``(x~, y_a, y_b, lam)``. Randomness is the transform's own.

    Samples of one call with equal draws count as one draw. Where partners are permuted at random, a sample that meets
    itself looks like one that was not mixed; such samples are left out where the others of the call show the mask, and
    otherwise the probability 1 / batch_size of a fixed point, that of a uniform permutation, is taken off.
    Source: docs/theory.md, Eqs. (10) and (10a).

    Args:
        transform: the augmenter.
        shape: (H, W).
        draws: number of draws wanted, about.
        name: of the strategy in tables and figures; by default the transform's.
        labels: what it is fed: ``"onehot"`` [B, classes], ``"index"`` [B], or ``"auto"``, the first of the two that
            works.
        batch_size: B; an even number of at least 4.
        channels: C of the probe images, at least 2: their agreement shows that the result is a blend.
        constant: whether every call is meant to give the same draw (a fixed lam, say).
        tolerance: largest deviation from an exact blend, and of label weights, that counts as rounding.
        device: where the probe batches live.

    Returns:
        A `MeasuredLaw` for images of this size.

    Raises:
        ValueError: if an option is out of range; if the transform fails, changes the batch or image size, returns
            integer labels only or labels that are no convex combination; if images are no blends of two images of the
            batch (the message says whether it moves pixels, adds noise or changes values); if images and labels
            have different partners; if every call gives the same draw.
    """
    shape = check_shape(shape)
    _check_options(draws, labels, batch_size, channels)
    probe = Probe.of(batch_size, channels, shape, tolerance)
    kind = _label_kind(transform, probe, labels, device)
    run = _Run(transform, probe, _labels(kind, batch_size).to(device), device)
    run.calls(min(_PILOT, draws))
    run.check_pilot(labels, constant)
    run.calls(max(0, math.ceil(draws / run.per_call) - run.number))
    return run.law(name or _name_of(transform))


@dataclass(eq=False)
class _Run:
    """Calls made so far and their draws."""

    transform: Transform
    probe: Probe
    y: Tensor
    device: torch.device | str
    number: int = 0
    stores: list[DrawStore] = field(default_factory=list)
    own: list[Array] = field(default_factory=list)  # label weight of each draw
    share: list[Array] = field(default_factory=list)  # share of its call's samples
    mixed: list[Array] = field(default_factory=list)  # whether the samples were changed at all
    call: list[Array] = field(default_factory=list)
    pairs: Array = field(init=False)  # how often image p was the partner of image i [B, B]
    hidden: bool = True  # whether all unchanged samples can have met themselves, the others sharing one draw
    smoothing: float = 0.0

    def __post_init__(self) -> None:
        b = len(self.probe.x)
        self.pairs = np.zeros((b, b), dtype=np.int64)

    @property
    def per_call(self) -> float:
        """Distinct draws that mixed something in a call, on average; 1 for a call that mixed nothing."""
        counts = np.bincount(np.concatenate(self.call), weights=np.concatenate(self.mixed), minlength=self.number)
        return float(np.maximum(counts, 1).mean())

    def calls(self, n: int) -> None:
        """Make ``n`` more calls."""
        step = max(1, _ENTRIES // self.probe.x.numel())
        for low in range(0, n, step):
            self._read(min(step, n - low))

    def _read(self, n: int) -> None:
        x = self.probe.x.to(self.device)
        outs = [call(self.transform, x, self.y, len(x)) for _ in range(n)]
        weights = Weights.of(torch.stack([y for _, y in outs]), self.probe.tolerance)
        both = [weights.smoothing, self.smoothing if self.number else weights.smoothing]
        self.smoothing = one_smoothing(np.array(both), self.probe.tolerance)
        blends = self.probe.read(torch.stack([images.float() for images, _ in outs]))
        if blends is None:
            reason = diagnose(self.transform, self.y, self.probe)
            raise ValueError(
                f"expected images M x_i + (1 - M) x_p, got others: {reason}; measure the mixing step alone."
            )
        taken, partner = blends
        image, label = partner.numpy(), weights.partner
        differ = (image >= 0) & (label >= 0) & (image != label)
        if differ.any():
            g, i = np.argwhere(differ)[0]
            raise ValueError(
                f"expected one partner for image and label, got image {image[g, i]} and label {label[g, i]} for sample "
                f"{i}; pair both by one permutation."
            )
        self._collect(1 - taken.numpy().astype(np.float64), weights.own, np.where(image >= 0, image, label))

    def _collect(self, mask: Float64[Array, "G B H W"], own: Float64[Array, "G B"], partner: Array) -> None:
        g, b = own.shape
        first, share = _groups(mask, own, partner >= 0)
        at = np.argwhere(share > 0)
        index = tuple(at.T)
        self.stores.append(compact(mask[index]))
        self.own.append(own[index])
        self.share.append(share[index] / b)
        self.mixed.append(partner[index] >= 0)
        self.call.append(self.number + at[:, 0])
        for i in range(b):
            np.add.at(self.pairs[i], partner[partner[:, i] >= 0, i], 1)
        clear = mask.min(axis=(2, 3)) < 1 - _CLEAR
        for row, leaders, sure in zip(partner, first, clear, strict=True):
            if len(set(leaders[sure])) > 1 or set(np.flatnonzero(row < 0)) & set(row[sure]):
                self.hidden = False
        self.number += g

    def check_pilot(self, labels: str, constant: bool) -> None:
        """Raise if labels are never mixed though images are, or if all calls gave the same draws."""
        own, mixed = np.concatenate(self.own), np.concatenate(self.mixed)
        if labels == "auto" and mixed.any() and (own > 1 - self.probe.tolerance).all():
            raise ValueError(
                "the transform mixes images and returns the labels as they were (integer labels only, if it is fed "
                'such); let it mix them too, or, if training keeps the own label, pass labels="onehot".'
            )
        calls = np.concatenate(self.call)
        rows = [
            np.column_stack([w, s.reshape(len(w), -1)]) for w, s in zip(self.own, map(_all, self.stores), strict=True)
        ]
        draws = np.concatenate(rows)
        first = draws[calls == 0]
        same = all(
            (part := draws[calls == k]).shape == first.shape and np.abs(part - first).max() < _SAME
            for k in range(self.number)
        )
        if same and mixed.any() and not constant and self.number > 1:
            raise ValueError(
                f"expected random draws, got the same one in {self.number} calls: does the transform draw from a fixed "
                "seed? Seed it once, outside; if its law is one constant mask, pass constant=True."
            )

    def law(self, name: str) -> MeasuredLaw:
        """All draws, weighted."""
        own, share, mixed, calls = (np.concatenate(v) for v in (self.own, self.share, self.mixed, self.call))
        weight, note = share / self.number, ""
        if (np.count_nonzero(self.pairs, axis=1) > 1).any() and not mixed.all():  # partners at random
            b = len(self.pairs)
            if self.hidden:  # one mask for a call: the others of the call show it, unless all met themselves
                met = np.zeros(self.number, dtype=bool)
                met[calls[mixed]] = True
                weight = np.where(mixed | ~met[calls], share, 0.0)
                weight /= np.bincount(calls, weights=weight)[calls] * self.number
                weight = _without_self_pairs(weight, mixed, 1 / math.factorial(b))
                note = "; samples that met themselves left out"
            else:
                weight = _without_self_pairs(weight, mixed, 1 / b)
                note = f"; 1/{b} of the samples taken to have met themselves"
        keep = weight > 0
        store = _joined(self.stores, keep)
        detail = f"{int(keep.sum())} draws in {self.number} calls{note}"
        return MeasuredLaw(store, own[keep], weight[keep] / weight.sum(), name, calls[keep], self.smoothing, detail)


def _without_self_pairs(weight: Float64[Array, " N"], mixed: Array, probability: float) -> Float64[Array, " N"]:
    """Weights of unmixed draws reduced by the probability that they were not mixed for want of a partner, Eq. (10a)."""
    still = float(weight[~mixed].sum())
    if not 0 < still < 1:
        return weight
    true = max(0.0, (still - probability) / (1 - probability))
    return np.where(mixed, weight * (1 - true) / (1 - still), weight * true / still)


def _groups(mask: Float64[Array, "G B H W"], own: Float64[Array, "G B"], mixed: Array) -> tuple[Array, Array]:
    """For each sample the first one of its call with the same draw [G, B]; samples behind each first one [G, B]."""
    g, b = own.shape
    first = np.tile(np.arange(b), (g, 1))
    for i in range(1, b):
        for j in range(i):
            near = (first[:, i] == i) & (first[:, j] == j)
            near &= (np.abs(own[:, i] - own[:, j]) < _SAME) & (mixed[:, i] == mixed[:, j])
            at = np.flatnonzero(near)
            if len(at):
                equal = np.abs(mask[at, i] - mask[at, j]).max(axis=(1, 2)) < _SAME
                first[at[equal], i] = j
    share = np.zeros((g, b), dtype=np.int64)
    np.add.at(share, (np.arange(g)[:, None], first), 1)
    return first, share


def _joined(stores: list[DrawStore], keep: Array) -> DrawStore:
    """One store of the draws that are kept; float32 where masks have more than two values."""
    levels = [s for s in stores if isinstance(s, TwoLevelMasks)]
    if len(levels) == len(stores):
        low, high, bits = (np.concatenate([getattr(s, k) for s in levels])[keep] for k in ("low", "high", "bits"))
        return TwoLevelMasks(low, high, bits, levels[0].size)
    return np.concatenate([_all(s).astype(np.float32) for s in stores])[keep]


def _all(store: DrawStore) -> Array:
    return store[slice(0, store.shape[0])]


def _label_kind(transform: Transform, probe: Probe, labels: str, device: torch.device | str) -> str:
    """The first form of labels that the transform takes.

    If there is none, one that fails for another reason than its form: the calls that follow say what is wrong.
    """
    kinds = ("onehot", "index") if labels == "auto" else (labels,)
    taken = []
    for kind in kinds:
        try:
            y = _labels(kind, len(probe.x)).to(device)
            Weights.of(call(transform, probe.x.to(device), y, len(probe.x))[1][None], probe.tolerance)
        except LabelForm:
            continue
        except ValueError:
            taken.append(kind)
        else:
            return kind
    return taken[0] if taken else kinds[0]


def _labels(kind: str, batch_size: int) -> Tensor:
    y = torch.arange(batch_size)
    return torch.nn.functional.one_hot(y, batch_size).float() if kind == "onehot" else y


def _name_of(transform: Transform) -> str:
    return getattr(transform, "__name__", None) or type(transform).__name__


def _check_options(draws: int, labels: str, batch_size: int, channels: int) -> None:
    if draws < 2:
        raise ValueError(f"expected at least 2 draws of the augmenter, got {draws}; raise draws.")
    if labels not in LABELS:
        raise ValueError(f"expected labels among {list(LABELS)}, got {labels!r}; choose one of them.")
    if batch_size < 4 or batch_size % 2:
        raise ValueError(
            f"expected an even batch_size of at least 4 (each sample has a class of its own), got {batch_size}."
        )
    if channels < 2:
        raise ValueError(
            f"expected at least 2 channels, whose agreement shows that the result is a blend, got {channels}."
        )
