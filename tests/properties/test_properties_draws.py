"""Draws of any strategy: inside [0, 1], of the law that the moments state, the label weight that is promised."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mc_checks import assert_mean_of_bounded, fails
from property_cases import (
    blends_as_labelled,
    examples,
    images_only,
    large_shapes,
    laws,
    nominal_labels,
    seeds,
    shapes,
    shares,
    strategies,
)

from msda_theory.masks.base import SeparableStrategy, Strategy
from msda_theory.masks.batches import SeparableMasks
from msda_theory.masks.choice import Choice
from msda_theory.masks.cutmix import CutMix
from msda_theory.masks.dropmix import DropMix
from msda_theory.masks.field import Field
from msda_theory.masks.gmix import GMix
from msda_theory.masks.hmix import HMix
from msda_theory.masks.mixup import Mixup
from msda_theory.moments.moments import Moments

DRAWS, TESTS = 20_000, 60
LEVEL = 1e-6 / TESTS  # for each example: false alarms of the whole property stay below 1e-6
SMALL = [(1, 1), (1, 3), (2, 2), (3, 1), (2, 3), (3, 3)]


def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


@examples(150)
@given(strategies, st.one_of(shapes, large_shapes), seeds)
def test_masks_and_label_weights_are_shares(s, shape, seed):
    batch = s.sample(200, shape, rng=rng(seed))
    assert batch.mask.shape == (200, *shape)
    assert batch.lam.shape == (200,)
    for values in (batch.mask, batch.lam):
        assert np.isfinite(values).all()
        assert values.min() >= -1e-12
        assert values.max() <= 1 + 1e-12
    q = s.partner_weights(200, shape, rng=rng(seed))
    assert q.shape == (200, *shape)
    assert q.min() >= -1e-12
    assert q.max() <= 1 + 1e-12


@examples(100)
@given(strategies, shapes, seeds)
def test_factors_are_the_masks_and_equal_seeds_give_equal_draws(s, shape, seed):
    batch, again = (s.sample(20, shape, rng=rng(seed)) for _ in range(2))
    compact = s.sample_compact(20, shape, rng=rng(seed))
    dense = compact.dense() if isinstance(compact, SeparableMasks) else compact
    for other in (again, dense):
        assert (other.mask == batch.mask).all()
        assert (other.lam == batch.lam).all()
    if isinstance(compact, SeparableMasks):
        np.testing.assert_allclose(compact.mean, batch.mask.mean(axis=(1, 2)), rtol=0, atol=1e-12)
    assert isinstance(s, SeparableStrategy | Choice | Field | DropMix)


@examples(100)
@given(strategies.filter(blends_as_labelled), st.one_of(shapes, large_shapes), seeds)
def test_the_mean_of_every_mask_is_its_label_weight(s, shape, seed):
    batch = s.sample(200, shape, rng=rng(seed))
    np.testing.assert_allclose(batch.mask.mean(axis=(1, 2)), batch.lam, rtol=0, atol=1e-12)


@examples(60)
@given(strategies, shapes, seeds)
def test_the_label_rule_leaves_the_masks_alone(s, shape, seed):
    other = nominal_labels(s)
    if other is not None:
        one, two = (t.sample(50, shape, rng=rng(seed)) for t in (s, other))
        assert (one.mask == two.mask).all()


NOMINAL = st.one_of(st.sampled_from([0.0, 1.0, 0.5, 5e-324, 1e-300, 1e-17, 1 - 2**-53]), st.floats(0, 1))


@examples(100)
@given(images_only(), st.one_of(shapes, large_shapes), st.lists(NOMINAL, min_size=1, max_size=8), seeds)
def test_masks_at_any_nominal_weight_are_shares(s, shape, lam, seed):
    batch = s.masks(np.array(lam), shape, rng=rng(seed))
    assert batch.mask.shape == (len(lam), *shape)
    assert np.isfinite(batch.mask).all()
    if isinstance(s, Mixup | HMix):
        np.testing.assert_allclose(batch.mask.mean(axis=(1, 2)), lam, rtol=1e-12, atol=1e-300)


@examples(60)
@given(st.builds(DropMix, lam=shares, share=shares), st.integers(1, 60), seeds)
def test_dropmix_mixes_its_share_of_dimensions_evenly_spaced(s, d, seed):
    places = np.flatnonzero(s.mixed(d))
    assert abs(len(places) - s.share * d) < 1.002
    if len(places):
        assert places[0] == 0
        gaps = np.diff(places)
        assert len(gaps) == 0 or gaps.max() - gaps.min() <= 1
    random = replace(s, dims="random").sample(20, (1, d), rng=rng(seed))
    strided = s.sample(20, (1, d), rng=rng(seed))
    for batch in (random, strided):
        assert (batch.lam == 1).all()
        np.testing.assert_allclose(np.sort(batch.mask[:, 0], axis=1), np.sort(strided.mask[:, 0], axis=1), rtol=0)
    assert ((strided.mask[:, 0] == 1) | (strided.mask[:, 0] == 1 - s.lam)).all()


# --- the law of the draws -------------------------------------------------------------------------------------------


def products(q: np.ndarray) -> np.ndarray:
    """q_j and q_j q_k for j <= k, [n, d + d (d + 1) / 2]."""
    flat = q.reshape(len(q), -1)
    j, k = np.triu_indices(flat.shape[1])
    return np.concatenate([flat, flat[:, j] * flat[:, k]], axis=1)


def stated(moments: Moments) -> np.ndarray:
    """Moments in the order of `products`."""
    return np.concatenate([moments.mean.ravel(), moments.second.dense()[np.triu_indices(moments.mean.size)]])


def assert_law(s: Strategy, law: str, truth: np.ndarray, shape: tuple[int, int], seed: int) -> None:
    draws = products(s.partner_weights(DRAWS, shape, law=law, rng=rng(seed)))
    assert_mean_of_bounded(draws, truth, alpha=LEVEL)


@examples(TESTS)
@given(strategies, st.sampled_from(SMALL), laws, seeds)
def test_draws_have_the_moments_that_are_stated(s, shape, law, seed):
    assert_law(s, law, stated(s.moments(shape, law=law)), shape, seed)


WRONG = [
    (CutMix(), "exact", CutMix(), "paper"),
    (HMix(ratio=1.0), "paper", HMix(ratio=1.0), "exact"),
    (CutMix(), "exact", CutMix(label="nominal"), "exact"),
    (GMix(), "exact", GMix(label="nominal"), "exact"),
    (CutMix(box="inside"), "exact", CutMix(box="periodic"), "exact"),
    (HMix(ratio=1.0), "exact", HMix(ratio=0.5), "exact"),
    (Mixup(alpha=0.01), "exact", Mixup(alpha=0.02), "exact"),
    (Mixup(alpha=1.0), "paper", Mixup(alpha=1.3), "paper"),
    (GMix(alpha=100.0), "exact", GMix(alpha=20.0), "exact"),
    (Field(), "exact", Field(length=1.0), "exact"),
    (DropMix(dims="random", share=0.5), "exact", DropMix(dims="strided", share=0.5), "exact"),
    (Choice(), "exact", Choice(probabilities=(0.6, 0.4)), "exact"),
]


@pytest.mark.parametrize("case", WRONG, ids=lambda c: f"{c[0].name}-{c[1]}-{c[2].name}-{c[3]}")
def test_wrong_laws_are_rejected_by_the_same_check(case):
    s, law, wrong, wrong_law = case
    shape = (3, 3)
    assert_law(s, law, stated(s.moments(shape, law=law)), shape, 1)
    assert fails(lambda: assert_law(s, law, stated(wrong.moments(shape, law=wrong_law)), shape, 1))


@pytest.mark.parametrize("s", [CutMix(), replace(HMix(), ratio=1.0)], ids=lambda s: s.name)
def test_moments_shifted_by_a_pixel_are_rejected_by_the_same_check(s):
    moments = s.moments((3, 3), law="paper")
    a = moments.second.dense().reshape(3, 3, 3, 3)
    mean, a = np.roll(moments.mean, 1, axis=0), np.roll(a, (1, 1), axis=(0, 2)).reshape(9, 9)
    truth = np.concatenate([mean.ravel(), a[np.triu_indices(9)]])
    assert fails(lambda: assert_law(s, "paper", truth, (3, 3), 1))


def test_the_check_keeps_its_level_for_rare_events():
    """Events of probability 1e-3 to 1e-4: true means are refused in less than the stated share of 5 %."""
    draws = rng(3).random((400, 2_000, 1)) < np.array([1e-3, 1e-4])[np.arange(400) % 2, None, None]
    truth = np.array([1e-3, 1e-4])[np.arange(400) % 2, None]
    refused = sum(
        fails(lambda d=d, t=t: assert_mean_of_bounded(d, t, alpha=0.05)) for d, t in zip(draws, truth, strict=True)
    )
    assert refused <= 20
