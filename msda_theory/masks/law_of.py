"""`law_of`: the law of (M, lam) of any augmenter, measured by feeding it probe batches."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from msda_theory.masks.batches import Shape
from msda_theory.masks.draw_log import DrawLog
from msda_theory.masks.measured import MeasuredLaw
from msda_theory.masks.probes import LabelForm, Probe, Transform, Weights, call, diagnose, one_smoothing
from msda_theory.moments.moments import check_shape

_PILOT = 16  # calls after which the number of calls is set
_TRIES = 4  # calls by which the form of labels is chosen
_ENTRIES = 2**21  # image values that are read at a time
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
    self_pairs: bool | None = None,
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
    otherwise the probability 1 / batch_size of a fixed point is taken off. Whether there are such samples is read from
    the pairing where it shows, and asked for (``self_pairs``) where it does not.

    The law is that of masks which do not depend on the images, the classes or the number of the call. A dependence on
    the images' values or a change with time that is large beside the sampling error is refused; others are not seen.
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
        constant: whether every call is meant to give the same draw (a fixed lam, say), or none to mix anything.
        self_pairs: whether random partners are a uniform permutation, which lets samples meet themselves; by default
            decided by the calls.
        tolerance: largest deviation from an exact blend, and of label weights, that counts as rounding.
        device: where the probe batches live.

    Returns:
        A `MeasuredLaw` for images of this size.

    Raises:
        ValueError: if an option is out of range; if the transform fails, changes the batch or image size, returns
            integer labels only or labels that are no convex combination; if images are no blends of two images of the
            batch (the message says whether it moves pixels, adds noise or changes values); if images and labels
            have different partners; if the same draws come again and again, or none ever mixes; if the draws depend
            on the images or change over time; if it cannot be decided whether samples meet themselves.
    """
    shape = check_shape(shape)
    _check_options(draws, labels, batch_size, channels)
    probes = [Probe.of(batch_size, channels, shape, tolerance, texture) for texture in (0, 1)]
    kind = _label_kind(transform, probes[0], labels, device)
    run = _Run(transform, probes, _labels(kind, batch_size).to(device), DrawLog(batch_size, shape, tolerance))
    run.calls(min(_PILOT, draws))
    run.log.check_labels(labels)
    run.log.check_repeats(constant)
    run.calls(max(0, math.ceil(draws / run.log.per_call) - run.log.number))
    run.log.check_repeats(constant)
    run.log.check_constancy(constant)
    return run.log.law(name or _name_of(transform), run.smoothing, self_pairs)


@dataclass(eq=False)
class _Run:
    """Calls of the augmenter, with one texture and the other in turns."""

    transform: Transform
    probes: list[Probe]
    y: Tensor
    log: DrawLog
    smoothing: float = 0.0
    parts: int = 0

    def calls(self, n: int) -> None:
        """Make ``n`` more calls, in eight parts at least."""
        step = min(max(1, _ENTRIES // self.probes[0].x.numel()), max(1, math.ceil(n / 8)))
        for low in range(0, n, step):
            self._read(min(step, n - low), self.parts % 2)
            self.parts += 1

    def _read(self, n: int, texture: int) -> None:
        probe = self.probes[texture]
        x = probe.x.to(self.y.device)
        outs = [call(self.transform, x, self.y, len(x)) for _ in range(n)]
        weights = Weights.of(torch.stack([y for _, y in outs]), probe.tolerance)
        both = [weights.smoothing, self.smoothing if self.log.number else weights.smoothing]
        self.smoothing = one_smoothing(np.array(both), probe.tolerance)
        blends = probe.read(torch.stack([images.float() for images, _ in outs]))
        if blends is None:
            reason = diagnose(self.transform, self.y, probe)
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
        self.log.add(1 - taken.numpy(), weights.own, np.where(image >= 0, image, label), texture)


def _label_kind(transform: Transform, probe: Probe, labels: str, device: torch.device | str) -> str:
    """The first form of labels that the transform takes.

    If there is none, one that fails for another reason than its form: the calls that follow say what is wrong.
    """
    kinds = ("onehot", "index") if labels == "auto" else (labels,)
    taken = []
    for kind in kinds:
        try:
            y = _labels(kind, len(probe.x)).to(device)
            for _ in range(_TRIES):  # some calls may mix nothing
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
