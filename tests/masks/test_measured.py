"""`MeasuredLaw` as a strategy: draws, moments, atoms, both laws, and every function that takes a strategy."""

from __future__ import annotations

import pickle

import naive
import numpy as np
import pytest
from mc_checks import assert_unbiased, fails

import msda_theory as mt
from msda_theory.masks.measured import MeasuredLaw, TwoLevelMasks, compact

SHAPE = (3, 4)
LAWS = ("exact", "paper")


def measured(n: int = 40, *, boxes: bool = True, weighted: bool = True) -> MeasuredLaw:
    """A law with known draws."""
    rng = np.random.default_rng(3)
    batch = (mt.CutMix() if boxes else mt.GMix()).sample(n, SHAPE, rng=rng)
    weight = rng.dirichlet(np.ones(n)) if weighted else np.full(n, 1 / n)
    return MeasuredLaw(compact(batch.mask), rng.random(n), weight, "mine", detail="by hand")


def moments_by_loops(law: MeasuredLaw, name: str) -> tuple[np.ndarray, np.ndarray]:
    masks = np.asarray(law.store[slice(0, len(law))], dtype=float).reshape(len(law), -1)
    mean, second = np.zeros(12), np.zeros((12, 12))
    total = float(law.weight @ law.lam)
    for mask, w, p in zip(masks, law.lam, law.weight, strict=True):
        atoms = ((1 - mask, p * w), (mask, p * (1 - w))) if name == "exact" else ((1 - mask, p * w / total),)
        for q, probability in atoms:
            mean += probability * q
            second += probability * np.outer(q, q)
    return mean.reshape(SHAPE), second


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("boxes", [True, False], ids=["two-level", "full"])
def test_moments_equal_loops(boxes, law):
    strategy = measured(boxes=boxes)
    mean, second = moments_by_loops(strategy, law)
    moments = strategy.moments(SHAPE, law=law)
    u = np.random.default_rng(0).normal(size=(2, *SHAPE))
    close = {"rtol": 0, "atol": 1e-13}
    np.testing.assert_allclose(moments.mean, mean, **close)
    np.testing.assert_allclose(moments.second.dense(), second, **close)
    np.testing.assert_allclose(moments.second.diagonal().ravel(), np.diagonal(second), **close)
    np.testing.assert_allclose(moments.second.apply(u).reshape(2, 12), u.reshape(2, 12) @ second, **close)
    flat = u.reshape(2, 12)
    np.testing.assert_allclose(moments.second.quadratic(u), np.einsum("nj,jk,nk->n", flat, second, flat), **close)
    assert moments.provenance.method == "sampled"
    assert moments.provenance.detail == "by hand"


@pytest.mark.parametrize("law", LAWS)
def test_atoms_are_the_law(law):
    strategy = measured()
    q, p = strategy.atoms(SHAPE).partner(law)
    mean, second = moments_by_loops(strategy, law)
    np.testing.assert_allclose(np.einsum("n,nhw->hw", p, q), mean, rtol=0, atol=1e-13)
    flat = q.reshape(len(q), -1)
    np.testing.assert_allclose(flat.T @ (flat * p[:, None]), second, rtol=0, atol=1e-13)


@pytest.mark.parametrize("law", LAWS)
def test_draws_follow_the_law(law):
    strategy = measured()
    q = strategy.partner_weights(40_000, SHAPE, law=law, rng=np.random.default_rng(1))
    mean, second = moments_by_loops(strategy, law)
    pairs = (q.reshape(len(q), -1)[:, :, None] * q.reshape(len(q), -1)[:, None, :]).reshape(len(q), 12, 12)
    assert_unbiased(q, mean)
    assert_unbiased(pairs, second)
    other = moments_by_loops(strategy, "paper" if law == "exact" else "exact")
    assert fails(lambda: assert_unbiased(q, other[0]))


def test_samples_are_the_measured_draws_with_their_probabilities():
    strategy = measured()
    batch = strategy.sample(40_000, SHAPE, rng=np.random.default_rng(2))
    masks = strategy.store[slice(0, len(strategy))]
    which = (np.abs(batch.lam[:, None] - strategy.lam) < 1e-15).argmax(axis=1)
    np.testing.assert_array_equal(batch.mask, masks[which])
    assert_unbiased(np.eye(len(strategy))[which], strategy.weight)
    assert fails(lambda: assert_unbiased(np.eye(len(strategy))[which], np.full(40, 1 / 40)))


def test_the_stated_error_is_that_of_the_measurement():
    """Over 300 measurements of 200 draws, the largest diagonal entry spreads as stated, within 4 of its errors."""
    stated, entries = [], []
    for seed in range(300):
        batch = mt.CutMix().sample(200, SHAPE, rng=np.random.default_rng([9, seed]))
        law = MeasuredLaw(compact(batch.mask), batch.lam, np.full(200, 1 / 200), "cutmix")
        moments = law.moments(SHAPE)
        stated.append(moments.provenance.error)
        entries.append(moments.second.diagonal())
    spread = np.std(entries, axis=0, ddof=1).max()
    assert spread == pytest.approx(np.mean(stated), rel=4 / np.sqrt(2 * 299))


def test_a_measured_law_goes_wherever_a_strategy_goes():
    x, y = naive.images(6, 1, SHAPE, 3, seed=1)
    model, data = naive.network(1, SHAPE, 3), mt.ImageData(x, y, 3)
    law, rng = measured(), np.random.default_rng(0)
    for at in ("data", "mean", "mask"):
        sampled = mt.expand(model, data, law, at=at, draws=200, rng=rng)
        exact = mt.expand(model, data, law, at=at, method="dense")
        for term in ("r2", "r3"):
            got, expected = getattr(sampled, term), getattr(exact, term)
            assert abs(got.mean - expected.mean) < 5 * got.se + 1e-12
    frame = mt.compare({"net": model}, data, [law, mt.Choice((law, mt.Mixup()))], law=LAWS, draws=8, rng=rng).frame()
    assert set(frame["strategy"]) == {"mine", "choice(strategies=mine+mixup)"}
    assert np.isfinite(frame["predicted"]).all()
    assert mt.mixed_loss(model, data, law, draws=8, rng=rng).mean > 0
    slope = mt.remainder_order(model, data, law, scales=(1 / 8, 1 / 16, 1 / 32), rng=rng).slope
    assert slope > 2.7


def test_the_error_of_the_measurement_is_in_r1():
    x, y = naive.images(6, 1, SHAPE, 3, seed=1)
    model, data = naive.network(1, SHAPE, 3), mt.ImageData(x, y, 3)
    few = mt.expand(model, data, measured(10, weighted=False), draws=8, rng=np.random.default_rng(0)).r1
    many = mt.expand(model, data, measured(1_000, weighted=False), draws=8, rng=np.random.default_rng(0)).r1
    assert few.se > 5 * many.se > 0
    assert mt.expand(model, data, mt.CutMix(), draws=8, rng=np.random.default_rng(0)).r1.se == 0


def test_it_travels_to_other_processes():
    law = pickle.loads(pickle.dumps(measured()))
    np.testing.assert_array_equal(law.moments(SHAPE).mean, measured().moments(SHAPE).mean)


# --- storage --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 1), (3, 3), (5, 8), (7, 9)], ids=str)
def test_two_levels_are_kept_to_the_bit(shape):
    rng = np.random.default_rng(0)
    masks = rng.choice([0.2, 0.7], size=(9, *shape))
    masks[0] = 0.4
    masks[1] = 1.0
    stored = compact(masks)
    assert isinstance(stored, TwoLevelMasks)
    assert stored.shape == masks.shape
    np.testing.assert_array_equal(stored[slice(0, 9)], masks)
    np.testing.assert_array_equal(stored[np.array([3, 3, 1])], masks[[3, 3, 1]])
    assert stored.bits.nbytes == 9 * -(-shape[0] * shape[1] // 8)


def test_rounding_of_float32_is_taken_off():
    masks = np.array([[[0.0, 1.0, 1e-7, 1 - 1e-7]], [[0.3, 0.3 + 1e-7, 0.9, 0.9 - 1e-7]]])
    stored = compact(masks)
    assert isinstance(stored, TwoLevelMasks)
    np.testing.assert_array_equal(stored[slice(0, 1)], [[[0, 1, 0, 1]]])
    np.testing.assert_allclose(stored[slice(0, 2)], masks, rtol=0, atol=4e-6)
    assert not isinstance(compact(masks + np.array([[[0, 0.0, 0, 1e-3]]])), TwoLevelMasks)


# --- bad input ------------------------------------------------------------------------------------------------


def test_other_sizes_are_refused():
    law, rng = measured(), np.random.default_rng(0)
    message = r"mine was measured at 3x4 pixels, got 4x4; measure it there: law_of\(transform, \(4, 4\)\)"
    for use in (
        lambda: law.sample(2, (4, 4), rng=rng),
        lambda: law.partner_weights(2, (4, 4), rng=rng),
        lambda: law.moments((4, 4)),
        lambda: law.atoms((4, 4)),
    ):
        with pytest.raises(ValueError, match=message):
            use()


def test_there_is_no_nominal_weight():
    with pytest.raises(
        ValueError, match=r"mine was measured and has no nominal weight to condition on; use sample\(\)"
    ):
        measured().masks(np.array([0.5]), SHAPE, rng=np.random.default_rng(0))


def test_the_papers_law_needs_a_label_weight():
    law = MeasuredLaw(compact(np.zeros((2, *SHAPE))), np.zeros(2), np.full(2, 0.5), "partner")
    with pytest.raises(ValueError, match='partner never gives weight to the own label, so law="paper" is empty'):
        law.moments(SHAPE, law="paper")
    assert (law.moments(SHAPE).mean == 0).all()


def test_draws_of_one_call_count_once_for_errors():
    """Every draw held eight times tells no more; as groups they give the error of the draws themselves."""
    rng = np.random.default_rng(5)
    batch = mt.CutMix().sample(3_000, (20, 40), rng=rng)  # several parts of 16 MB, cut within groups
    weight = rng.dirichlet(np.ones(3_000))
    once = MeasuredLaw(compact(batch.mask), batch.lam, weight, "once")
    mask, lam, p = (np.repeat(v, 8, axis=0) for v in (batch.mask, batch.lam, weight / 8))
    held = MeasuredLaw(compact(mask), lam, p, "held", np.repeat(np.arange(3_000), 8))
    loose = MeasuredLaw(compact(mask), lam, p, "loose")
    errors = [law.moments((20, 40)).provenance.error for law in (once, held, loose)]
    assert errors[1] == pytest.approx(errors[0], rel=1e-9)
    assert errors[2] == pytest.approx(errors[0] / np.sqrt(8), rel=1e-3)
    u = rng.normal(size=(20, 40))
    linear = [law.moments((20, 40)).sample.linear_error(u) for law in (once, held)]
    assert linear[1] == pytest.approx(linear[0], rel=1e-9)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"lam": np.ones(3)},
            r"expected one label weight, probability and group for each of 4 masks, got \(3,\), \(4,\)",
        ),
        ({"weight": np.full(4, 0.2)}, "probabilities of draws must be >= 0 and sum to 1, got a sum of 0.8"),
        ({"weight": np.array([1.5, -0.5, 0, 0])}, "probabilities of draws must be >= 0 and sum to 1"),
        ({"lam": np.full(4, 2.0)}, r"label weights of draws must lie in \[0, 1\], got 2 .. 2"),
        ({"group": np.array([0, 2, 1, 3])}, "expected increasing numbers of at least two groups"),
        ({"group": np.zeros(4, dtype=int)}, "at least two groups \\(calls\\), for an error; measure more"),
    ],
    ids=["lengths", "sum", "negative", "label", "order", "one-group"],
)
def test_a_law_is_checked_when_it_is_made(change, message):
    fields = {"lam": np.ones(4), "weight": np.full(4, 0.25), "group": None, **change}
    with naive.as_users_run_it(), pytest.raises(ValueError, match=message):
        MeasuredLaw(compact(np.ones((4, *SHAPE))), fields["lam"], fields["weight"], "law", fields["group"])
