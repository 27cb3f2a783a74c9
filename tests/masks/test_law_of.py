"""`law_of`: the law of an augmenter whose law is known, in every form that augmenters have; refusals by cause."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from augmenters import FORMS, PAIRINGS, augmenter, rows
from libraries import timm_mixup, torchvision_v2
from mask_cases import case_id
from mc_checks import fails

import msda_theory as mt
from msda_theory.masks.base import Strategy
from msda_theory.masks.measured import MeasuredLaw, TwoLevelMasks
from msda_theory.moments.moments import Provenance
from msda_theory.moments.operators import Dense, Mixture

SHAPE = (6, 8)
STRATEGIES: list[Strategy] = [
    mt.Vanilla(),
    mt.Mixup(),
    mt.CutMix(),
    mt.CutMix(label="nominal"),
    mt.HMix(),
    mt.GMix(),
    mt.Choice(),
]
PER_SAMPLE = pytest.mark.parametrize("per_sample", [False, True], ids=["per-batch", "per-sample"])


def assert_law(law: MeasuredLaw, truth: mt.Moments, *, bound: float = 5.3, name: str = "exact") -> None:
    """Mean and diagonal within ``bound`` standard errors of the measured ones at every pixel.

    5.3 is the two-sided 1e-6 level for the 96 numbers of a 6x8 image.
    """
    moments = law.moments(truth.mean.shape, law=name)
    for got, expected, power in (
        (moments.mean, truth.mean, 1),
        (moments.second.diagonal(), truth.second.diagonal(), 2),
    ):
        mask, w = np.asarray(law.store[slice(0, len(law))], dtype=float), law.lam[:, None, None]
        per_draw = w * (1 - mask) ** power + (1 - w) * mask**power
        se = np.sqrt(np.einsum("n,nhw->hw", law.weight**2, (per_draw - got) ** 2))
        assert (np.abs(got - expected) <= bound * se + 1e-6).all(), f"{np.abs(got - expected).max()} of {se.max()}"


# --- known laws, in all forms -------------------------------------------------------------------------------


@pytest.mark.parametrize("pairing", PAIRINGS)
@PER_SAMPLE
@pytest.mark.parametrize("strategy", STRATEGIES[1:], ids=case_id)
def test_the_law_is_recovered(strategy, per_sample, pairing):
    transform = augmenter(strategy, per_sample=per_sample, pairing=pairing)
    law = mt.law_of(transform, SHAPE, draws=3_000)
    assert 2_500 < len(law) < 3_600
    assert law.weight.sum() == pytest.approx(1)
    assert_law(law, strategy.moments(SHAPE))


def test_a_wrong_law_is_rejected():
    law = mt.law_of(augmenter(mt.CutMix()), SHAPE, draws=3_000)
    for wrong in (mt.CutMix(label="nominal"), mt.CutMix(box="inside"), mt.CutMix(alpha=0.7), mt.Mixup()):
        assert fails(lambda wrong=wrong: assert_law(law, wrong.moments(SHAPE)))


@PER_SAMPLE
@pytest.mark.parametrize("strategy", STRATEGIES[1:], ids=case_id)
def test_every_draw_is_recovered(strategy, per_sample):
    """The same seed by hand: masks and label weights of the calls, to the rounding of float32."""
    seed, calls = 7, 40
    law = mt.law_of(
        augmenter(strategy, seed=seed, per_sample=per_sample), SHAPE, draws=calls * (8 if per_sample else 1)
    )
    rng = np.random.default_rng(seed)
    drawn = [strategy.sample(8 if per_sample else 1, SHAPE, rng=rng) for _ in range(2 * calls)]
    masks, lam = np.concatenate([b.mask for b in drawn]), np.concatenate([b.lam for b in drawn])
    for mask, w in zip(np.asarray(law.store[slice(0, len(law))], dtype=float), law.lam, strict=True):
        assert np.maximum(np.abs(masks - mask).max(axis=(1, 2)), np.abs(lam - w)).min() < 1e-5


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("labels", ["auto", "onehot", "index"])
def test_forms_of_labels(form, labels):
    law = mt.law_of(augmenter(mt.CutMix(), form=form), SHAPE, draws=400, labels=labels)
    same = mt.law_of(augmenter(mt.CutMix()), SHAPE, draws=400)
    np.testing.assert_allclose(law.lam[:50], same.lam[:50], rtol=0, atol=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_label_smoothing_is_told_from_the_label_weight(smoothing):
    law = mt.law_of(augmenter(mt.Mixup(), smoothing=smoothing), SHAPE, draws=200, labels="index")
    plain = mt.law_of(augmenter(mt.Mixup()), SHAPE, draws=200, labels="index")
    assert law.smoothing == pytest.approx(smoothing, abs=1e-6)
    np.testing.assert_allclose(law.lam, plain.lam, rtol=0, atol=1e-5)


@pytest.mark.parametrize("options", [{"in_place": True}, {"dtype": torch.float64}], ids=str)
def test_in_place_and_double_precision(options):
    law = mt.law_of(augmenter(mt.HMix(), **options), SHAPE, draws=200)
    plain = mt.law_of(augmenter(mt.HMix()), SHAPE, draws=200)
    np.testing.assert_allclose(law.store[slice(0, 99)], plain.store[slice(0, 99)], rtol=0, atol=5e-6)


def test_half_precision_needs_a_tolerance():
    transform = augmenter(mt.HMix(), dtype=torch.bfloat16)
    with pytest.raises(ValueError, match=r"expected images M x_i|expected labels that are a convex"):
        mt.law_of(transform, SHAPE, draws=50)
    law = mt.law_of(transform, SHAPE, draws=400, tolerance=0.02)
    assert law.lam.mean() == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (5, 1), (32, 32), (13, 40)], ids=str)
def test_sizes(shape):
    law = mt.law_of(augmenter(mt.HMix(), per_sample=True), shape, draws=300)
    assert law.shape == shape
    assert law.sample(3, shape, rng=np.random.default_rng(0)).mask.shape == (3, *shape)


@pytest.mark.parametrize("batch_size", [4, 6, 32])
@pytest.mark.parametrize("channels", [2, 3, 5])
def test_batches_and_channels(batch_size, channels):
    transform = augmenter(mt.CutMix(), per_sample=True, pairing="permutation", classes=40)
    law = mt.law_of(transform, SHAPE, draws=1_500, batch_size=batch_size, channels=channels)
    assert_law(law, mt.CutMix().moments(SHAPE))


# --- samples that were not mixed, and samples that met themselves --------------------------------------------


def sometimes(strategy: Strategy, probability: float, *, per_sample: bool, pairing: str):
    """Mixes with a probability only, for each batch or each sample."""
    mixing = augmenter(strategy, seed=1, per_sample=per_sample, pairing=pairing)
    rng = np.random.default_rng(2)

    def transform(x, y):
        mixed, soft = mixing(x, y)
        applied = torch.from_numpy(rng.random(len(x) if per_sample else 1) < probability)
        return torch.where(applied[:, None, None, None], mixed, x), torch.where(applied[:, None], soft, rows(y, 10))

    return transform


@pytest.mark.parametrize("pairing", PAIRINGS)
@PER_SAMPLE
@pytest.mark.parametrize("probability", [0.3, 0.9])
def test_unmixed_samples_keep_their_share(probability, per_sample, pairing):
    """Also where a random permutation lets samples meet themselves, which looks the same."""
    transform = sometimes(mt.HMix(), probability, per_sample=per_sample, pairing=pairing)
    # with few mixed samples the calls do not show whether samples meet themselves
    known = True if (pairing, per_sample, probability) == ("permutation", True, 0.3) else None
    law = mt.law_of(transform, SHAPE, draws=4_000, self_pairs=known)
    weight = law.weight[law.lam == 1].sum()
    calls = len(np.unique(law.group)) * (8 if per_sample else 1)
    expected = 1 - probability  # HMix itself always mixes
    assert weight == pytest.approx(expected, abs=4.9 * 1.2 * np.sqrt(expected * (1 - expected) / calls))


def derangement(n: int, rng: np.random.Generator) -> np.ndarray:
    while True:
        p = rng.permutation(n)
        if (p != np.arange(n)).all():
            return p


@pytest.mark.parametrize("kind", ["derangement", "roll-or-flip"])
@pytest.mark.parametrize("probability", [0.5, 0.9])
def test_partners_that_are_never_the_sample_itself(kind, probability):
    """Random partners without self pairs: nothing is taken off the unmixed samples."""
    rng = np.random.default_rng(4)

    def transform(x, y):
        n = len(x)
        p = (
            derangement(n, rng)
            if kind == "derangement"
            else [np.roll(np.arange(n), 1), np.arange(n)[::-1]][rng.integers(2)]
        )
        applied = rng.random(n) < probability
        lam = torch.from_numpy(np.where(applied, rng.random(n), 1.0)).float()
        p = torch.from_numpy(p.copy())
        m = lam[:, None, None, None]
        return m * x + (1 - m) * x[p], lam[:, None] * y + (1 - lam[:, None]) * y[p]

    law = mt.law_of(transform, SHAPE, draws=8_000)
    weight = law.weight[law.lam == 1].sum()
    calls = len(np.unique(law.group)) * 8
    assert weight == pytest.approx(1 - probability, abs=4.9 * np.sqrt(probability * (1 - probability) / calls))


def test_what_does_not_show_is_asked_for():
    transform = sometimes(mt.HMix(), 0.15, per_sample=True, pairing="permutation")
    with pytest.raises(
        ValueError, match=r"it does not show whether these met themselves\. Pass self_pairs=True if partners"
    ):
        mt.law_of(transform, SHAPE, draws=500)
    kept, reduced = (
        mt.law_of(
            sometimes(mt.HMix(), 0.15, per_sample=True, pairing="permutation"), SHAPE, draws=500, self_pairs=known
        )
        for known in (False, True)
    )
    assert kept.weight[kept.lam == 1].sum() > reduced.weight[reduced.lam == 1].sum() + 0.01


def test_a_part_of_the_batch_that_is_never_mixed_has_its_share():
    mixing = augmenter(mt.Mixup(), pairing="flip")

    def transform(x, y):
        mixed, soft = mixing(x, y)
        mixed[:4], soft[:4] = x[:4], y[:4]
        return mixed, soft

    law = mt.law_of(transform, SHAPE, draws=500)
    assert law.weight[law.lam == 1].sum() == pytest.approx(0.5, abs=1e-9)


def test_derived_quantities_name_their_origin():
    random = mt.law_of(augmenter(mt.CutMix(), pairing="permutation"), SHAPE, draws=300)
    assert "samples that met themselves left out" in random.detail
    each = mt.law_of(augmenter(mt.CutMix(), pairing="permutation", per_sample=True), SHAPE, draws=300)
    assert "1/8 of the samples taken to have met themselves" in each.detail
    fixed = mt.law_of(augmenter(mt.CutMix()), SHAPE, draws=300, name="mine")
    assert fixed.detail == "300 draws in 300 calls"
    assert fixed.name == "mine"
    assert random.name == "transform"


# --- what it refuses ----------------------------------------------------------------------------------------


def blend(x: torch.Tensor, y: torch.Tensor, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    lam = float(rng.uniform(0.2, 0.8))
    return lam * x + (1 - lam) * x.flip(0), lam * y + (1 - lam) * y.flip(0)


def crop(x, y, rng):
    x, y = blend(x, y, rng)
    top = int(rng.integers(1, 4))
    return torch.nn.functional.interpolate(x[:, :, top : top + 4, 1:6], SHAPE, mode="nearest"), y


def shift(x, y, rng):
    x, y = blend(x, y, rng)
    moved = torch.zeros_like(x)
    moved[:, :, 1:, 2:] = x[:, :, :-1, :-2]
    return moved, y


def rotate(x, y, rng):
    x, y = blend(x, y, rng)
    return x.flip(2).flip(3), y


def noise(x, y, rng):
    x, y = blend(x, y, rng)
    return x + 0.05 * torch.from_numpy(rng.normal(size=x.shape)).float(), y


def bright(x, y, rng):
    x, y = blend(x, y, rng)
    return 0.5 * x + 0.6, y


def gamma(x, y, rng):
    x, y = blend(x, y, rng)
    return x**2, y


def several(x, y, rng):
    lam = float(rng.uniform(0.4, 0.8))
    out = x.clone()
    out[:, :, :3], out[:, :, 3:] = x.roll(1, 0)[:, :, :3], x.roll(2, 0)[:, :, 3:]
    return out, lam * y + (1 - lam) * y.roll(1, 0)


def channelwise(x, y, rng):
    x, y = blend(x, y, rng)
    x[:, 0] = x[:, 0].flip(0)
    return x, y


def other_labels(x, y, rng):
    return blend(x, y, rng)[0], 0.5 * y + 0.5 * y.roll(1, 0)


def missing_weight(x, y, rng):
    x, y = blend(x, y, rng)
    return x, 0.9 * y


def squared_labels(x, y, rng):
    x, y = blend(x, y, rng)
    return x, y**2


def integer(x, y, rng):
    x, y = blend(x, y, rng)
    return x, y.argmax(dim=1) if y.ndim == 2 else y.long()


def unmixed_labels(x, y, rng):
    return blend(x, y, rng)[0], y


def number(x, y, rng):
    return blend(x, y, rng)[0], torch.full((len(x),), 0.5)


def text(x, y, rng):
    return blend(x, y, rng)[0], "labels"


def quadruple(x, y, rng):
    return x, (y, y, y, y)


def many_weights(x, y, rng):
    return x, (y, y.flip(0), torch.rand(3))


def half(x, y, rng):
    x, y = blend(x, y, rng)
    return x[:4], y[:4]


def small(x, y, rng):
    x, y = blend(x, y, rng)
    return x[:, :, 1:], y


def alone(x, y, rng):
    return x


def whole(x, y, rng):
    return (x * 255).byte(), y


def broken(x, y, rng):
    raise KeyError("nothing here")


def fixed_seed(x, y, rng):
    return blend(x, y, np.random.default_rng(3))


def fixed_mask(x, y, rng):
    return augmenter(mt.CutMix(alpha=8.0), seed=3, per_sample=True)(x, y)


def sometimes_inverted(x, y, rng):
    return blend(x, y, rng) if rng.random() < 0.5 else (1 - x, y)


def contrast(x, y, rng):
    return blend(x, y, rng) if rng.random() < 0.5 else ((x - 0.5) * float(rng.uniform(0.3, 0.9)) + 0.5, y)


def grey_box(x, y, rng):
    x, y = blend(x, y, rng)
    x[:, :, 1:4, 2:5] = 0.5
    return x, y


def batch_mean(x, y, rng):
    return blend(x, y, rng) if rng.random() < 0.5 else (0.7 * x + 0.3 * x.mean(dim=0), y)


def rare_noise(x, y, rng):
    x, y = blend(x, y, rng)
    return (x + 0.1 * torch.from_numpy(rng.normal(size=x.shape)).float() if rng.random() < 0.1 else x), y


def redder(x, y, rng):
    p = torch.from_numpy(rng.permutation(len(x)))
    mask = (x[:, :1] > x[p][:, :1]).float()
    lam = mask.mean(dim=(1, 2, 3))[:, None]
    return mask * x + (1 - mask) * x[p], lam * y + (1 - lam) * y[p]


def fixed_seed_random_partners(x, y, rng):
    lam = float(np.random.default_rng(3).uniform(0.2, 0.8))
    p = torch.from_numpy(rng.permutation(len(x)))
    return lam * x + (1 - lam) * x[p], lam * y + (1 - lam) * y[p]


def cycling_seed(x, y, rng):
    cycling_seed.calls += 1
    return blend(x, y, np.random.default_rng(cycling_seed.calls % 17))


def switched_off(x, y, rng):
    switched_off.calls += 1
    return blend(x, y, rng) if switched_off.calls < 700 else (x, y)


def odd_weight(x, y, rng):
    return x, (y, y.flip(0), None)


def changing_smoothing(x, y, rng):
    x, y = blend(x, y, rng)
    changing_smoothing.calls += 1
    s = 0.1 if changing_smoothing.calls < 300 else 0.2
    return x, (1 - s) * y + s / y.shape[1]


REFUSED = {
    crop: r"expected images M x_i \+ \(1 - M\) x_p, got others: it moves pixels \(a crop, flip, rotation or shift\)",
    rotate: r"it moves pixels \(a crop, flip, rotation or shift\); measure the mixing step alone",
    shift: r"it moves pixels \(a crop, rotation or shift that fills the rest\) or erases some",
    noise: "it adds noise, which differs from pixel to pixel",
    bright: "it changes pixel values",
    gamma: "it changes pixel values",
    channelwise: "it changes pixel values|more than one partner",
    several: "it takes pixels of more than one partner, so the pairing cannot be identified",
    other_labels: r"expected one partner for image and label, got image \d and label \d for sample \d; pair both",
    missing_weight: r"that are a convex combination w y_i \+ \(1 - w\) y_p .* of class \d; return w and 1 - w",
    squared_labels: "expected labels that are a convex combination",
    integer: "the transform returns integer labels only, so the label weight is unknown; let it return soft labels",
    unmixed_labels: r"mixes images and returns the labels as they were \(integer labels only.*pass labels=\"onehot\"",
    number: r"expected soft labels \[8, classes\] with at least 8 classes, got a tensor of shape \[8\] .*; build the",
    text: "expected labels as a tensor, got str; wrap the transform",
    quadruple: r"expected labels \(y_a, y_b, lam\) as a triple, got 4 parts; wrap the transform",
    many_weights: "expected one lam or one for each of 8 samples, got 3; wrap the transform",
    half: "the transform changes the batch size: 8 images in, 4 out; let it return one for each",
    small: r"changes the size of the images \(crops or resizes\): \[8, 3, 6, 8\] in, \[8, 3, 5, 8\] out; measure the",
    alone: r"expected \(x, y\), \(x, \(y_a, y_b, lam\)\) or \(x, y_a, y_b, lam\) from the transform, got a tensor of",
    whole: "expected floating point images from the transform, got a tensor of shape .* torch.uint8; wrap it",
    broken: r"the transform failed on a probe batch, images \[8, 3, 6, 8\] and .*: KeyError: 'nothing here'; wrap",
    fixed_seed: r"expected random draws, got the same 1 again and again in 16 calls: does the transform draw from a f",
    fixed_mask: "Seed it once, outside; if its law is one constant mask, pass constant=True",
    sometimes_inverted: "it changes pixel values",
    contrast: "it changes pixel values",
    grey_box: "others: it",
    batch_mean: "it takes pixels of more than one partner|it changes pixel values",
    rare_noise: "it adds noise, which differs from pixel to pixel",
    redder: "expected masks that do not depend on the images, got other masks for other images; the theory, and this",
    fixed_seed_random_partners: "expected random draws, got the same 1 again and again",
    cycling_seed: "expected random draws, got the same 17 again and again in",
    switched_off: "expected one law, got another one in the second half of 2000 calls; measure a transform with",
    odd_weight: "expected lam as a number or one for each sample, got None; wrap it",
    changing_smoothing: "expected one label smoothing, got 0.1 and 0.2; measure the mixing step alone",
}


@pytest.mark.parametrize("transform", REFUSED, ids=lambda t: t.__name__)
def test_what_is_refused(transform):
    rng = np.random.default_rng(0)
    changing_smoothing.calls = cycling_seed.calls = switched_off.calls = 0
    with pytest.raises(ValueError, match=REFUSED[transform]):
        mt.law_of(lambda x, y: transform(x, y, rng), SHAPE, draws=2_000)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("scale", [1e-3, 0.01, 0.3])
def test_noise_is_named_whatever_its_size(scale, seed):
    rng = np.random.default_rng(seed)

    def transform(x, y):
        x, y = blend(x, y, rng)
        return x + scale * torch.from_numpy(rng.normal(size=x.shape)).float(), y

    with pytest.raises(ValueError, match="it adds noise"):
        mt.law_of(transform, SHAPE, draws=100)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_results_in_memory_that_is_used_again(dtype):
    """An augmenter may write into buffers of its own."""
    inner, rng = np.random.default_rng(5), np.random.default_rng(5)
    images, labels = torch.empty(8, 3, *SHAPE, dtype=dtype), torch.empty(8, 8, dtype=dtype)

    def transform(x, y):
        a, b = blend(x, y, inner)
        return images.copy_(a), labels.copy_(b)

    law = mt.law_of(transform, SHAPE, draws=100)
    plain = mt.law_of(lambda x, y: blend(x, y, rng), SHAPE, draws=100)
    np.testing.assert_allclose(law.lam, plain.lam, rtol=0, atol=1e-6)
    np.testing.assert_allclose(law.store[slice(0, 100)], plain.store[slice(0, 100)], rtol=0, atol=1e-5)


def test_constant_laws_are_measured_when_asked():
    law = mt.law_of(lambda x, y: blend(x, y, np.random.default_rng(3)), SHAPE, draws=50, constant=True)
    assert np.ptp(law.lam) < 1e-6
    with pytest.raises(
        ValueError, match="the transform mixed nothing in 50 calls; if that is meant, pass constant=True"
    ):
        mt.law_of(lambda x, y: (x, y), SHAPE, draws=50)
    same = mt.law_of(lambda x, y: (x, y), SHAPE, draws=50, constant=True)
    assert (same.lam == 1).all()
    assert (same.moments(SHAPE).mean == 0).all()


def test_labels_that_are_kept_are_measured_when_asked():
    rng = np.random.default_rng(0)
    law = mt.law_of(lambda x, y: (blend(x, y, rng)[0], y), SHAPE, draws=50, labels="onehot")
    assert (law.lam == 1).all()
    assert law.moments(SHAPE).mean.mean() == pytest.approx(0.5, abs=0.2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"draws": 1}, "expected at least 2 draws of the augmenter, got 1; raise draws"),
        ({"labels": "soft"}, r"expected labels among \['auto', 'onehot', 'index'\], got 'soft'; choose one"),
        ({"batch_size": 7}, r"expected an even batch_size of at least 4 .*, got 7"),
        ({"batch_size": 2}, r"expected an even batch_size of at least 4 .*, got 2"),
        ({"channels": 1}, "expected at least 2 channels, whose agreement shows that the result is a blend, got 1"),
    ],
    ids=lambda v: str(v)[:20],
)
def test_options_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        mt.law_of(augmenter(mt.Mixup()), SHAPE, **options)


def test_global_random_state_is_left_alone():
    torch.manual_seed(0)
    state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    mt.law_of(augmenter(mt.CutMix(), per_sample=True), SHAPE, draws=50)
    assert torch.equal(torch.get_rng_state(), state)
    assert (np.random.get_state()[1] == numpy_state).all()  # noqa: NPY002


# --- libraries ----------------------------------------------------------------------------------------------


def whole_boxes(shape: tuple[int, int], *, corrected: bool) -> mt.Moments:
    """timm's law at alpha = 1, enumerated: sides k = floor(L sqrt(1 - lam)), rows c - k//2 to c + (k+1)//2, clipped.

    Unlike in the published code and earlier versions of timm, odd sides keep their last pixel.
    """
    d = shape[0] * shape[1]
    steps = np.unique([(k / n) ** 2 for n in shape for k in range(n + 1)])  # of the area 1 - lam, uniform
    mean, second = np.zeros(d), np.zeros((d, d))
    for low, high in pairwise(steps):
        sides = [int(n * np.sqrt((low + high) / 2)) for n in shape]
        for cy in range(shape[0]):
            for cx in range(shape[1]):
                mask = np.ones(shape)
                (a, b), (e, f) = ((max(c - k // 2, 0), c + (k + 1) // 2) for c, k in zip((cy, cx), sides, strict=True))
                mask[a:b, e:f] = 0
                flat, w = mask.ravel(), mask.mean() if corrected else 1 - (low + high) / 2
                for q, p in ((1 - flat, w), (flat, 1 - w)):
                    mean += (high - low) / d * p * q
                    second += (high - low) / d * p * np.outer(q, q)
    return mt.Moments(mean.reshape(shape), Dense(second, shape), "exact", Provenance("finite sum", 1e-15, "test"))


@pytest.mark.parametrize("mode", ["batch", "pair", "elem"])
def test_timm(mode):
    """timm's own file: flip pairing, even batches, in place, smoothing 0.1 over 1,000 classes."""
    mixup = timm_mixup().Mixup(
        mixup_alpha=0.0, cutmix_alpha=1.0, mode=mode, label_smoothing=0.1, num_classes=1000, correct_lam=True
    )
    np.random.seed(0)  # noqa: NPY002 (timm draws from NumPy's global state)
    law = mt.law_of(mixup, SHAPE, draws=2_000)
    assert law.smoothing == pytest.approx(0.1, abs=1e-4)
    assert_law(law, whole_boxes(SHAPE, corrected=True))
    assert fails(lambda: assert_law(law, whole_boxes(SHAPE, corrected=False)))


def test_timm_without_the_correction_of_lam():
    mixup = timm_mixup().Mixup(
        mixup_alpha=0.0, cutmix_alpha=1.0, correct_lam=False, label_smoothing=0.0, num_classes=10
    )
    np.random.seed(0)  # noqa: NPY002
    law = mt.law_of(mixup, SHAPE, draws=2_000)
    assert_law(law, whole_boxes(SHAPE, corrected=False))
    assert fails(lambda: assert_law(law, whole_boxes(SHAPE, corrected=True)))


def test_timm_mixup_or_cutmix():
    mixup = timm_mixup().Mixup(mixup_alpha=0.8, cutmix_alpha=1.0, switch_prob=0.4, label_smoothing=0.0, num_classes=10)
    np.random.seed(1)  # noqa: NPY002
    mixed, cut = mt.Mixup(alpha=0.8).moments(SHAPE), whole_boxes(SHAPE, corrected=True)
    second = Mixture((0.6, 0.4), (mixed.second, cut.second))
    truth = mt.Moments(0.6 * mixed.mean + 0.4 * cut.mean, second, "exact", cut.provenance)
    assert_law(mt.law_of(mixup, SHAPE, draws=2_000), truth)


@pytest.mark.parametrize("name", ["CutMix", "MixUp"])
def test_torchvision(name):
    """torchvision's v2 transforms: roll pairing, one draw for a batch, rows of class weights."""
    torch.manual_seed(0)
    transform = getattr(torchvision_v2(), name)(num_classes=10, alpha=1.0)
    truth = mt.CutMix() if name == "CutMix" else mt.Mixup()
    law = mt.law_of(transform, SHAPE, draws=2_000)
    assert law.name == name
    assert_law(law, truth.moments(SHAPE))


def test_torchvision_choice():
    torch.manual_seed(1)
    v2 = torchvision_v2()
    transform = v2.RandomChoice([v2.CutMix(num_classes=10), v2.MixUp(num_classes=10, alpha=0.2)])
    truth = mt.Choice((mt.CutMix(), mt.Mixup(alpha=0.2)), (0.5, 0.5))
    assert_law(mt.law_of(transform, SHAPE, draws=2_000), truth.moments(SHAPE))


# --- the measured law as a strategy ---------------------------------------------------------------------------


def test_more_draws_bring_it_nearer():
    errors = [
        np.abs(mt.law_of(augmenter(mt.CutMix()), SHAPE, draws=n).moments(SHAPE).mean - mt.CutMix().moments(SHAPE).mean)
        for n in (200, 20_000)
    ]
    assert errors[1].mean() < 0.3 * errors[0].mean()


def test_the_smaller_form_is_taken():
    assert isinstance(mt.law_of(augmenter(mt.HMix()), SHAPE, draws=50).store, TwoLevelMasks)
    assert isinstance(mt.law_of(augmenter(mt.Mixup()), SHAPE, draws=50).store, TwoLevelMasks)
    assert isinstance(mt.law_of(augmenter(mt.GMix()), SHAPE, draws=50).store, np.ndarray)
