"""Samplers against exact laws: family-wise z tests with an evil twin each, and the structure of the draws."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import reference
import torch
from mask_cases import BOXES, LABELS, LAWS, case_id, describe, reference_moments
from mc_checks import assert_share, assert_unbiased, fails

from msda_theory.masks.base import Strategy
from msda_theory.masks.batches import MaskBatch, SeparableMasks
from msda_theory.masks.choice import Choice
from msda_theory.masks.cutmix import CutMix
from msda_theory.masks.gmix import GMix
from msda_theory.masks.hmix import HMix
from msda_theory.masks.mixup import Mixup
from msda_theory.masks.registry import REGISTRY
from msda_theory.masks.vanilla import Vanilla

N = 40_000
SHAPE = (3, 4)
TWIN_SHAPE = (6, 8)
STRANGER = HMix(alpha=3.0, ratio=0.9, box="inside")  # a law that no registered strategy has

VARIANTS: list[Strategy] = [
    *(CutMix(box=box, label=label) for box in BOXES for label in LABELS),
    *(HMix(ratio=ratio, box=box) for ratio in (0.0, 0.5, 1.0) for box in BOXES),
    *(GMix(label=label) for label in LABELS),
    *(cls(alpha=0.2) for cls in (Mixup, CutMix, HMix, GMix)),
    *(cls(alpha=3.0) for cls in (Mixup, CutMix, HMix, GMix)),
    Choice(strategies=(Mixup(alpha=0.2), CutMix(), HMix(alpha=3.0)), probabilities=(0.2, 0.5, 0.3)),
]
DEFAULTS: list[Strategy] = [cls() for cls in REGISTRY.values()]
# Options equal to the default are listed once; a registered strategy is tested without editing this file.
STRATEGIES = DEFAULTS + [s for s in VARIANTS if s not in DEFAULTS]
CLOSED = [s for s in STRATEGIES if s.closed_moments(SHAPE, "exact") is not None]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng([20220829, seed])


def products(q: np.ndarray) -> np.ndarray:
    """q_j and q_j q_k for j <= k, [n, d + d (d + 1) / 2]."""
    flat = q.reshape(len(q), -1)
    j, k = np.triu_indices(flat.shape[1])
    return np.concatenate([flat, flat[:, j] * flat[:, k]], axis=1)


def expected(s: Strategy, law: str) -> np.ndarray:
    """The closed moments in the order of `products`."""
    moments = s.moments(SHAPE, law=law)
    return np.concatenate([moments.mean.ravel(), moments.second.dense()[np.triu_indices(moments.mean.size)]])


def products_with_two(q: np.ndarray) -> np.ndarray:
    """q_j, q_j q_corner and q_j q_centre, [n, 3 d]: enough to tell laws apart on a larger image."""
    flat = q.reshape(len(q), -1)
    centre = flat.shape[1] // 2
    return np.concatenate([flat, flat * flat[:, :1], flat * flat[:, centre : centre + 1]], axis=1)


def expected_with_two(s: Strategy, law: str) -> np.ndarray:
    """The closed moments in the order of `products_with_two`."""
    moments = s.moments(TWIN_SHAPE, law=law)
    second = moments.second.dense()
    return np.concatenate([moments.mean.ravel(), second[0], second[len(second) // 2]])


def one_sided(batch: MaskBatch) -> np.ndarray:
    """`products` of q averaged over the side: ``lam (1-M) + (1-lam) M``, and likewise for the pairs."""
    lam = batch.lam[:, None]
    return lam * products(1 - batch.mask) + (1 - lam) * products(batch.mask)


# --- laws ---------------------------------------------------------------------------------------------------


def test_every_registered_strategy_is_tested():
    assert {type(s) for s in DEFAULTS} == set(REGISTRY.values())
    assert {type(s) for s in CLOSED} >= {Vanilla, Mixup, CutMix, HMix, GMix, Choice}
    assert len({case_id(s) for s in STRATEGIES}) == len(STRATEGIES)


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("strategy", CLOSED, ids=case_id)
def test_partner_weights_have_the_closed_moments(strategy, law):
    draws = products(strategy.partner_weights(N, SHAPE, law=law, rng=rng(1)))
    assert_unbiased(draws, expected(strategy, law))
    assert fails(lambda: assert_unbiased(draws, expected(STRANGER, law)))


@pytest.mark.parametrize("strategy", CLOSED, ids=case_id)
def test_samples_have_the_closed_moments(strategy):
    draws = one_sided(strategy.sample(N, SHAPE, rng=rng(2)))
    assert_unbiased(draws, expected(strategy, "exact"))
    assert fails(lambda: assert_unbiased(draws, expected(STRANGER, "exact")))


@pytest.mark.parametrize("strategy", [s for s in CLOSED if type(s).atoms is not Strategy.atoms], ids=case_id)
def test_samples_have_the_joint_law_of_the_atoms(strategy):
    """Means of M, lam, lam M, M M^T and lam M M^T: lam enters linearly, as in every affine loss."""

    def statistics(mask: np.ndarray, lam: np.ndarray) -> np.ndarray:
        pairs = products(mask)
        return np.concatenate([pairs, lam[:, None], lam[:, None] * pairs], axis=1)

    atoms = strategy.atoms(SHAPE, order=16)
    batch = strategy.sample(N, SHAPE, rng=rng(3))
    truth = atoms.weight @ statistics(atoms.mask, atoms.lam)
    assert_unbiased(statistics(batch.mask, batch.lam), truth)
    shifted = atoms.weight @ statistics(atoms.mask, 0.97 * atoms.lam)
    assert fails(lambda: assert_unbiased(statistics(batch.mask, batch.lam), shifted))


@dataclass(frozen=True)
class Twin:
    """A law that is close to the sampler's but wrong: the same helper and n must reject it."""

    name: str
    sampler: Strategy
    law: str
    wrong: Strategy
    wrong_law: str


TWINS = [
    Twin("cutmix-other-law", CutMix(), "exact", CutMix(), "paper"),
    Twin("cutmix-other-law-paper", CutMix(), "paper", CutMix(), "exact"),
    Twin("hmix-other-law", HMix(), "exact", HMix(), "paper"),
    Twin("hmix-other-law-paper", HMix(), "paper", HMix(), "exact"),
    Twin("gmix-pixels-other-law", GMix(), "exact", GMix(), "paper"),
    Twin("mixup-other-alpha", Mixup(), "exact", Mixup(alpha=1.3), "exact"),
    Twin("cutmix-other-alpha", CutMix(), "exact", CutMix(alpha=1.3), "exact"),
    Twin("hmix-other-alpha", HMix(), "exact", HMix(alpha=1.3), "exact"),
    Twin("gmix-other-alpha", GMix(), "exact", GMix(alpha=1.3), "exact"),
    Twin("cutmix-mixup-moments", CutMix(), "exact", Mixup(), "exact"),
    Twin("vanilla-mixup-moments", Vanilla(), "exact", Mixup(), "exact"),
    Twin("cutmix-clipped-inside", CutMix(), "exact", CutMix(box="inside"), "exact"),
    Twin("cutmix-clipped-periodic", CutMix(), "exact", CutMix(box="periodic"), "exact"),
    Twin("cutmix-inside-periodic", CutMix(box="inside"), "exact", CutMix(box="periodic"), "exact"),
    Twin("cutmix-other-label", CutMix(), "exact", CutMix(label="nominal"), "exact"),
    Twin("gmix-other-label", GMix(), "exact", GMix(label="nominal"), "exact"),
    Twin("hmix-other-ratio", HMix(), "exact", HMix(ratio=0.7), "exact"),
    Twin("hmix-ratio1-cutmix", HMix(ratio=1.0), "exact", CutMix(), "exact"),
    Twin("choice-other-odds", Choice(), "exact", Choice(probabilities=(0.6, 0.4)), "exact"),
]


@pytest.mark.parametrize("twin", TWINS, ids=lambda t: t.name)
def test_wrong_laws_are_rejected(twin):
    draws = products_with_two(twin.sampler.partner_weights(N, TWIN_SHAPE, law=twin.law, rng=rng(4)))
    assert_unbiased(draws, expected_with_two(twin.sampler, twin.law))
    assert fails(lambda: assert_unbiased(draws, expected_with_two(twin.wrong, twin.wrong_law)))


@pytest.mark.parametrize("strategy", [CutMix(), HMix()], ids=case_id)
def test_a_box_shifted_by_a_pixel_is_rejected(strategy):
    q = strategy.partner_weights(N, TWIN_SHAPE, law="paper", rng=rng(5))
    truth = expected_with_two(strategy, "paper")
    assert_unbiased(products_with_two(q), truth)
    assert fails(lambda: assert_unbiased(products_with_two(np.roll(q, 1, axis=2)), truth))


def test_the_z_test_compares_constant_entries_exactly():
    draws = np.stack([np.zeros(100), rng().normal(size=100)], axis=1)
    assert_unbiased(draws, np.zeros(2))
    assert fails(lambda: assert_unbiased(draws, np.array([1e-9, 0.0])))
    assert fails(lambda: assert_unbiased(draws, np.array([0.0, np.nan])))


def test_the_z_test_holds_its_level():
    """At level 0.05 over 4 entries, true nulls are rejected at most 5 % of the time."""
    normal = rng(6).normal(size=(2000, 200, 4))
    rejected = sum(fails(lambda d=d: assert_unbiased(d, np.zeros(4), alpha=0.05)) for d in normal)
    independent = 1 - (1 - 0.05 / 4) ** 4
    assert_share(rejected, len(normal), independent)


# --- masks at a given lam -----------------------------------------------------------------------------------

MEMBERS = [s for s in STRATEGIES if type(s).__name__.lower() in reference.GIVEN_LAM and s.alpha == 1.0]


@pytest.mark.parametrize("lam", [0.03, 0.1, 0.45, 0.62, 0.75, 0.97])
@pytest.mark.parametrize("strategy", MEMBERS, ids=case_id)
def test_masks_at_a_given_lam_are_the_enumerated_ones(strategy, lam):
    """Every mask produced is one of the naive list, with its label weight, as often as its probability says."""
    n, shape = 4000, (4, 5)
    kind, options = describe(strategy)
    options = {key: value for key, value in options if key != "alpha"}
    truth: dict[tuple[int, ...], float] = {}
    for mask, label, p in reference.GIVEN_LAM[kind](lam, shape, **options):
        key = (*np.rint(np.append(mask, label) * 1e9).astype(int),)
        truth[key] = truth.get(key, 0.0) + p
    batch = strategy.masks(np.full(n, lam), shape, rng=rng(7))
    # masks agree to 1e-9 exactly unless a value sits on a rounding edge, so compare with the nearest listed mask
    listed = np.array(list(truth))
    drawn = np.concatenate([batch.mask.reshape(n, -1), batch.lam[:, None]], axis=1) * 1e9
    distance = np.stack([np.abs(drawn - row).max(axis=1) for row in listed], axis=1)
    assert distance.min(axis=1).max() < 1.0
    one_hot = distance == distance.min(axis=1, keepdims=True)
    assert_unbiased(one_hot, np.array(list(truth.values())))


def test_masks_at_a_given_lam_see_a_shifted_box():
    lam, n, shape = 0.62, 4000, (4, 5)
    listed = np.array([m for m, _, _ in reference.cutmix(lam, shape, box="inside")])
    drawn = np.roll(CutMix(box="inside").masks(np.full(n, lam), shape, rng=rng(8)).mask, 1, axis=2)
    distance = np.abs(drawn[:, None] - listed[None]).max(axis=(2, 3)).min(axis=1)
    assert distance.max() == 1.0


@pytest.mark.parametrize("box", BOXES)
@pytest.mark.parametrize("length", [4, 5])
@pytest.mark.parametrize("lam", [1e-12, 1e-20])
def test_a_vanishing_lam_has_the_limit_of_small_lam(lam, length, box):
    """The sides floor(L sqrt(1 - lam)) are below L for every lam > 0, also where 1 - lam rounds to 1.

    Beta(alpha, alpha) puts 3e-4 of its mass below 1e-16 at alpha = 0.2, and 0.3 at alpha = 0.01.
    """
    shape = (length, length)
    covered = {round((1 - m).sum()) for m, _, _ in reference.cutmix(1e-12, shape, box=box)}
    drawn = CutMix(box=box).masks(np.full(200, lam), shape, rng=rng(9)).mask
    assert {int(v) for v in (1 - drawn).sum(axis=(1, 2))} == covered


# --- structure of the draws ---------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", STRATEGIES, ids=case_id)
def test_draws_are_weights_of_the_asked_size(strategy):
    batch = strategy.sample(500, (5, 7), rng=rng(10))
    q = strategy.partner_weights(500, (5, 7), rng=rng(10))
    assert batch.mask.shape == q.shape == (500, 5, 7)
    assert batch.lam.shape == (500,)
    for values in (batch.mask, batch.lam, q):
        assert values.dtype == np.float64
        assert values.min() >= 0
        assert values.max() <= 1 + 1e-12


@pytest.mark.parametrize("box", BOXES)
def test_cutmix_label_of_pixels_is_the_mean_of_the_mask(box):
    batch = CutMix(box=box).sample(2000, (5, 7), rng=rng(11))
    assert set(np.unique(batch.mask)) <= {0.0, 1.0}
    np.testing.assert_allclose(batch.lam, batch.mask.mean(axis=(1, 2)), rtol=0, atol=1e-15)


def test_gmix_label_of_pixels_is_the_mean_of_the_mask():
    batch = GMix().sample(2000, (5, 7), rng=rng(12))
    np.testing.assert_allclose(batch.lam, batch.mask.mean(axis=(1, 2)), rtol=0, atol=1e-15)


@pytest.mark.parametrize("strategy", [CutMix(label="nominal"), GMix(label="nominal")], ids=case_id)
def test_nominal_labels_are_lam(strategy):
    lam = rng(13).beta(1.0, 1.0, 300)
    batch = strategy.masks(lam, (5, 7), rng=rng(14))
    np.testing.assert_array_equal(batch.lam, lam)
    assert np.abs(batch.lam - batch.mask.mean(axis=(1, 2))).max() > 1e-3


@pytest.mark.parametrize("box", BOXES)
@pytest.mark.parametrize("ratio", [0.0, 0.3, 0.5, 1.0], ids=lambda r: f"r{r:g}")
def test_hmix_mean_of_the_mask_is_lam(ratio, box):
    batch = HMix(ratio=ratio, box=box).sample(2000, (5, 7), rng=rng(15))
    np.testing.assert_allclose(batch.mask.mean(axis=(1, 2)), batch.lam, rtol=0, atol=1e-12)


@pytest.mark.parametrize("box", BOXES)
def test_hmix_of_ratio_one_samples_at_small_alpha(box):
    """Half of Beta(0.01, 0.01) lies below 1e-16; the box is then the largest one that leaves pixels outside."""
    batch = HMix(alpha=0.01, ratio=1.0, box=box).sample(500, (4, 4), rng=rng(16))
    np.testing.assert_allclose(batch.mask.mean(axis=(1, 2)), batch.lam, rtol=0, atol=1e-12)


@pytest.mark.parametrize("strategy", [CutMix(alpha=0.01), HMix(alpha=0.01), GMix(alpha=0.01)], ids=case_id)
def test_samples_at_small_alpha_have_the_closed_moments_on_even_sizes(strategy):
    shape = (4, 4)
    mean, _ = reference_moments(strategy, shape, "exact")
    assert_unbiased(strategy.partner_weights(4000, shape, rng=rng(17)), mean)


def constant(draws: np.ndarray) -> bool:
    return not np.ptp(draws, axis=0).any()


@pytest.mark.parametrize("strategy", STRATEGIES, ids=case_id)
def test_equal_seeds_give_equal_draws(strategy):
    """And other seeds other draws, unless the law has no variance."""
    first, again, other = (strategy.sample(50, (5, 7), rng=rng(seed)) for seed in (18, 18, 19))
    np.testing.assert_array_equal(first.mask, again.mask)
    np.testing.assert_array_equal(first.lam, again.lam)
    assert constant(first.mask) or not np.array_equal(first.mask, other.mask)
    assert constant(first.lam) or not np.array_equal(first.lam, other.lam)
    for law in LAWS:
        q, same, different = (strategy.partner_weights(50, (5, 7), law=law, rng=rng(s)) for s in (18, 18, 19))
        np.testing.assert_array_equal(q, same)
        if constant(q):
            moments = strategy.closed_moments((5, 7), law)
            np.testing.assert_allclose(moments.second.dense().diagonal(), moments.mean.ravel() ** 2, rtol=1e-15)
        else:
            assert not np.array_equal(q, different)


def test_both_laws_use_the_same_numbers():
    """Equal seeds give paired draws: both laws leave the generator in one state, and agree often for Mixup."""
    for strategy in STRATEGIES:
        first, second = rng(20), rng(20)
        strategy.partner_weights(50, (5, 7), law="exact", rng=first)
        strategy.partner_weights(50, (5, 7), law="paper", rng=second)
        assert first.random() == second.random(), case_id(strategy)
    exact, paper = (Mixup().partner_weights(50, (1, 1), law=law, rng=rng(20)) for law in LAWS)
    np.testing.assert_allclose(exact, paper, rtol=0, atol=1e-15)


@pytest.mark.parametrize("strategy", STRATEGIES, ids=case_id)
def test_global_random_states_are_not_touched(strategy):
    numpy_state, torch_state = np.random.get_state(), torch.random.get_rng_state()  # noqa: NPY002
    strategy.sample(10, (5, 7), rng=rng(21))
    strategy.partner_weights(10, (5, 7), rng=rng(21))
    strategy.moments((5, 7), rng=rng(21), draws=50)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_state[1])  # noqa: NPY002
    assert np.random.get_state()[2:] == numpy_state[2:]  # noqa: NPY002
    assert torch.equal(torch.random.get_rng_state(), torch_state)


# --- strategies without closed moments ----------------------------------------------------------------------


@dataclass(frozen=True)
class Stripe(Strategy):
    """A user's own law: lam in one random column, 1 elsewhere; only the sampler is defined."""

    alpha: float = 1.0

    def masks(self, lam, shape, *, rng):
        mask = np.ones((len(lam), *shape))
        mask[np.arange(len(lam)), :, rng.integers(shape[1], size=len(lam))] = lam[:, None]
        return MaskBatch(mask, lam)


@pytest.mark.parametrize("law", LAWS)
def test_moments_of_an_own_strategy_are_estimated_from_draws(law):
    """E q_j has a closed form by hand; ``provenance.error`` is the largest standard error of a_jj."""
    shape, draws = (2, 3), 20_000
    moments = Stripe().moments(shape, law=law, rng=rng(22), draws=draws)
    # in the column (1/3): q = 1 - lam with E = 1/3 (paper, lam ~ Beta(2, 1)); elsewhere 0.
    # exact: E[lam (1-M) + (1-lam) M] = 1/3 E[2 lam (1-lam)] + 2/3 E[1-lam] = 1/9 + 1/3
    mean = 1 / 9 if law == "paper" else 4 / 9
    # paper: 1/3 E[(1-lam)^2] = 1/18; exact: 1/3 E[lam (1-lam)] + 2/3 E[1-lam] = 1/18 + 1/3
    diagonal = 1 / 18 if law == "paper" else 7 / 18
    assert moments.provenance.method == "sampled"
    assert str(draws) in moments.provenance.detail
    q = Stripe().partner_weights(draws, shape, law=law, rng=rng(22))
    np.testing.assert_allclose(moments.mean, q.mean(axis=0), rtol=0, atol=1e-12)
    assert_unbiased(q, np.full(shape, mean))
    assert_unbiased(q**2, np.full(shape, diagonal))
    np.testing.assert_allclose(moments.provenance.error, ((q**2).std(axis=0) / np.sqrt(draws)).max(), rtol=1e-6)
    assert Choice(strategies=(Mixup(), Stripe())).closed_moments(shape, law) is None


@pytest.mark.parametrize("case", VARIANTS, ids=case_id)
def test_compact_draws_are_the_same_draws(case):
    full = case.sample(50, TWIN_SHAPE, rng=np.random.default_rng(11))
    compact = case.sample_compact(50, TWIN_SHAPE, rng=np.random.default_rng(11))
    assert isinstance(compact, SeparableMasks), "every built-in law has a row and a column factor"
    np.testing.assert_array_equal(compact.dense().mask, full.mask)
    np.testing.assert_array_equal(compact.lam, full.lam)
    np.testing.assert_allclose(compact.mean, full.mask.mean(axis=(1, 2)), rtol=0, atol=1e-14)
