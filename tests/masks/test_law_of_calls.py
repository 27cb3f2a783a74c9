"""How often `law_of` calls an augmenter, what it feeds it, what it reads of labels and partners; its options."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from itertools import groupby

import numpy as np
import pytest
import torch
from torch import Tensor

import msda_theory as mt
from msda_theory.masks import law_of as module
from msda_theory.masks.draw_log import DrawLog
from msda_theory.masks.law_of import _Run
from msda_theory.masks.probes import Probe

SHAPE = (2, 2)
FLIP = (7, 6, 5, 4, 3, 2, 1, 0)
PROBES = [Probe.of(8, 3, SHAPE, 1e-4, t) for t in (0, 1)]


class Mixes:
    """An augmenter with a weight for each sample (or call) and fixed partners; it remembers what it was fed."""

    def __init__(self, *, each: bool = True, partner: Sequence[int] = FLIP, labels: Sequence[int] | None = None):
        self.rng = np.random.default_rng(0)
        self.fed: list[tuple[Tensor, Tensor]] = []
        self.each, self.partner = each, list(partner)
        self.labels = self.partner if labels is None else list(labels)

    def __call__(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        self.fed.append((x.clone(), y.clone()))
        lam = self.rng.uniform(0.2, 0.8, len(x) if self.each else 1)
        w = torch.from_numpy(np.broadcast_to(lam, len(x)).copy()).float()[:, None]
        rows = y if y.ndim == 2 else torch.nn.functional.one_hot(y, len(x)).float()
        m = w[:, :, None, None]
        return m * x + (1 - m) * x[self.partner], w * rows + (1 - w) * rows[self.labels]

    def textures(self) -> list[int]:
        """Number of the probe of each call."""
        return [next(t for t, p in enumerate(PROBES) if torch.equal(p.x, x)) for x, _ in self.fed]


def a_run(transform: Callable) -> _Run:
    return _Run(transform, PROBES, torch.eye(8), DrawLog(8, SHAPE, 1e-4))


# --- how often, and with what -----------------------------------------------------------------------------------


def test_defaults():
    """8 images of 3 channels with one-hot labels, 10,000 draws."""
    transform = Mixes()
    mt.law_of(transform, SHAPE, draws=9)
    x, y = transform.fed[-1]
    assert x.shape == (8, 3, *SHAPE)
    assert x.device.type == "cpu"
    assert torch.equal(y, torch.eye(8))
    assert inspect.signature(mt.law_of).parameters["draws"].default == 10_000


@pytest.mark.parametrize("what", ["images", "labels"])
def test_the_tolerance_is_a_ten_thousandth_by_default(what):
    def moved(size, mixes, x, y):
        images, labels = mixes(x, y)
        if what == "labels":
            return images, labels * (1 - size)
        return images + size * torch.tensor([1.0, -1.0, 1.0]).reshape(3, 1, 1), labels

    assert mt.law_of(partial(moved, 3e-5, Mixes()), SHAPE, draws=9).shape == SHAPE
    with pytest.raises(ValueError, match=f"expected {what}"):
        mt.law_of(partial(moved, 3e-4, Mixes()), SHAPE, draws=9)


@pytest.mark.parametrize(
    ("each", "draws", "calls"), [(True, 100, 16), (True, 136, 17), (True, 137, 18), (False, 3, 3), (False, 40, 40)]
)
def test_as_many_calls_as_give_the_draws_and_sixteen_at_least(each, draws, calls):
    transform = Mixes(each=each)
    law = mt.law_of(transform, SHAPE, draws=draws)
    assert law.detail == f"{calls * (8 if each else 1)} draws in {calls} calls"
    assert len(transform.fed) == calls + 4  # four before, on the form of labels


@pytest.mark.parametrize("n", [1, 5, 8, 16, 40, 90])
def test_textures_take_turns_in_eight_parts_at_least(n):
    transform = Mixes()
    run = a_run(transform)
    run.calls(n)
    seen = transform.textures()
    lengths = [len(list(part)) for _, part in groupby(seen)]
    assert len(seen) == run.log.number == n
    assert len(lengths) >= min(n, 8 if n % 8 == 0 else 7)
    assert max(lengths) == -(-n // 8)
    assert abs(2 * sum(seen) - n) <= max(lengths)
    np.testing.assert_array_equal(run.log.counts, [seen.count(0), seen.count(1)])


@pytest.mark.parametrize(("images", "step"), [(0.5, 1), (1.0, 1), (2.5, 2), (5.0, 3)])
def test_no_more_values_are_read_at_a_time_than_fit(images, step, monkeypatch):
    """Parts of 24 calls hold 3, fewer where the images of 3 calls are too many."""
    monkeypatch.setattr(module, "_ENTRIES", int(images * PROBES[0].x.numel()))
    transform = Mixes()
    a_run(transform).calls(24)
    assert {len(list(part)) for _, part in groupby(transform.textures())} == {step}


def test_masks_that_follow_the_images_are_seen_in_few_calls():
    rng = np.random.default_rng(1)

    def redder(x, y):
        p = torch.from_numpy(rng.permutation(len(x)))
        mask = (x[:, :1] > x[p][:, :1]).float()
        lam = mask.mean(dim=(1, 2, 3))[:, None]
        return mask * x + (1 - mask) * x[p], lam * y + (1 - lam) * y[p]

    with pytest.raises(ValueError, match="expected masks that do not depend on the images, got other masks for other"):
        mt.law_of(redder, (3, 4), draws=640, self_pairs=True)


# --- labels and partners ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("labels", "first"), [("onehot", 2), ("index", 1), ("auto", 2)])
def test_labels_are_fed_as_asked_for(labels, first):
    transform = Mixes()
    mt.law_of(transform, SHAPE, draws=9, labels=labels)
    for _, y in transform.fed:
        assert y.ndim == first
        assert torch.equal(y, torch.eye(8) if first == 2 else torch.arange(8))


def picky(transform: Callable, ndim: int) -> Callable:
    """Fails on labels of another form."""

    def picks(x, y):
        if y.ndim != ndim:
            raise TypeError(f"labels of {y.ndim} axes")
        return transform(x, y)

    return picks


def test_the_form_of_labels_that_works_is_found():
    transform = Mixes()
    mt.law_of(picky(transform, 1), SHAPE, draws=9)
    assert all(torch.equal(y, torch.arange(8)) for _, y in transform.fed)
    with pytest.raises(ValueError, match=r"the transform failed on a probe batch.*TypeError: labels of 2 axes"):
        mt.law_of(picky(transform, 1), SHAPE, draws=9, labels="onehot")


def test_the_fault_of_the_form_that_is_taken_is_named():
    """Also if labels of that form are wrong for another reason; if no form is taken, the fault of the first."""

    def halved(x, y):
        images, rows = Mixes()(x, y)
        return images, rows / 2

    with pytest.raises(ValueError, match="expected labels that are a convex combination"):
        mt.law_of(picky(halved, 1), SHAPE, draws=9)
    with pytest.raises(ValueError, match=r"labels \[8, 8\]: TypeError: labels of 2 axes"):
        mt.law_of(picky(halved, 3), SHAPE, draws=9)


@pytest.mark.parametrize(("image", "label"), [(0, 2), (2, 0), (3, 2)])
def test_one_partner_for_image_and_label(image, label):
    """The message names the sample whose partners differ, here sample 5."""
    partner, labels = list(FLIP), list(FLIP)
    partner[5], labels[5] = image, label
    message = f"expected one partner for image and label, got image {image} and label {label} for sample 5; pair both"
    with pytest.raises(ValueError, match=message):
        mt.law_of(Mixes(partner=partner, labels=labels), SHAPE, draws=2)


@pytest.mark.parametrize("partner", [0, 3])
@pytest.mark.parametrize("what", ["image", "label"])
def test_image_or_label_alone_shows_the_partner(partner, what):
    """Only sample 1 is mixed, and only its image or its label: a draw of its own, 1/8 of the samples."""
    rest, mixed = list(range(8)), list(range(8))
    mixed[1] = partner
    transform = Mixes(partner=mixed if what == "image" else rest, labels=mixed if what == "label" else rest)
    law = mt.law_of(transform, SHAPE, draws=30, labels="onehot")
    assert law.detail == "60 draws in 30 calls"
    np.testing.assert_allclose(law.weight, np.tile([7 / 8, 1 / 8], 30) / 30, rtol=1e-12)
    masks = np.asarray(law.store[slice(0, 60)], dtype=float)
    fixed, varied = (law.lam, masks[:, 0, 0]) if what == "image" else (masks[:, 0, 0], law.lam)
    np.testing.assert_allclose(fixed, 1, atol=1e-6)
    np.testing.assert_allclose(varied[::2], 1, atol=1e-6)
    assert (varied[1::2] < 0.81).all()
    assert (varied[1::2] > 0.19).all()


def smoothed(transform: Mixes, before: float, after: float, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    images, rows = transform(x, y)
    s = before if len(transform.fed) <= 12 else after
    return images, (1 - s) * rows + s / rows.shape[1]


def test_smoothing_is_one_number():
    law = mt.law_of(partial(smoothed, Mixes(), 0.2, 0.2), SHAPE, draws=9)
    assert law.smoothing == pytest.approx(0.2, abs=1e-6)
    with pytest.raises(
        ValueError, match=r"expected one label smoothing, got 0 and 0\.2; measure the mixing step alone"
    ):
        mt.law_of(partial(smoothed, Mixes(each=False), 0.0, 0.2), SHAPE, draws=16)


# --- options ----------------------------------------------------------------------------------------------------


def flipped(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    w = float(torch.rand((), generator=GENERATOR)) * 0.6 + 0.2
    return w * x + (1 - w) * x.flip(0), w * y + (1 - w) * y.flip(0)


GENERATOR = torch.Generator().manual_seed(0)


def test_the_name_is_the_transforms_unless_given():
    assert mt.law_of(flipped, SHAPE, draws=9).name == "flipped"
    assert mt.law_of(Mixes(), SHAPE, draws=9).name == "Mixes"
    assert mt.law_of(flipped, SHAPE, draws=9, name="mine").name == "mine"


@pytest.mark.parametrize(
    ("least", "less", "message"),
    [
        ({"draws": 2}, {"draws": 1}, "expected at least 2 draws of the augmenter, got 1; raise draws"),
        ({"channels": 2}, {"channels": 1}, "expected at least 2 channels, whose agreement shows that .*, got 1"),
        ({"batch_size": 4}, {"batch_size": 2}, "expected an even batch_size of at least 4 .*, got 2"),
        ({"batch_size": 6}, {"batch_size": 7}, "expected an even batch_size of at least 4 .*, got 7"),
        ({"labels": "index"}, {"labels": "soft"}, "expected labels among .*, got 'soft'; choose one of them"),
    ],
    ids=lambda v: next(iter(v)) if isinstance(v, dict) else "",
)
def test_the_least_that_options_may_be(least, less, message):
    def transform(x, y):
        return flipped(x, y if y.ndim == 2 else torch.nn.functional.one_hot(y, len(x)).float())

    assert mt.law_of(transform, SHAPE, **{"draws": 9, **least}).shape == SHAPE
    with pytest.raises(ValueError, match=message):
        mt.law_of(transform, SHAPE, **{"draws": 9, **less})
