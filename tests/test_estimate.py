"""Estimates: stratified means with standard errors, their pooling, and functions of several of them."""

from __future__ import annotations

import math
from itertools import permutations

import numpy as np
import pytest
from mc_checks import assert_share, assert_unbiased, fails
from scipy import stats

from msda_theory.estimate import Estimate, Joint


def naive(values: np.ndarray) -> tuple[float, float]:
    """Mean of row means and its standard error, by loops: rows are independent, draws within a row too."""
    m = len(values)
    mean, variance = 0.0, 0.0
    for row in values:
        k = len(row)
        row_mean = sum(row) / k
        row_variance = sum((v - row_mean) ** 2 for v in row) / (k - 1)
        mean += row_mean / m
        variance += row_variance / k / m**2
    return mean, math.sqrt(variance)


def values(seed: int, m: int = 7, k: int = 5) -> np.ndarray:
    rng = np.random.default_rng([3, seed])
    return rng.normal(size=(m, 1)) * 3 + rng.normal(size=(m, k)) * rng.uniform(0.5, 2, size=(m, 1))


# --- from draws ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(7, 5), (1, 2), (20, 2), (1, 50)], ids=str)
def test_from_strata_equals_the_naive_loop(shape):
    v = values(0, *shape)
    mean, se = naive(v)
    e = Estimate.from_strata(v)
    assert e.mean == pytest.approx(mean, rel=1e-13)
    assert e.se == pytest.approx(se, rel=1e-13)
    assert e.n == shape[0] * shape[1]


def test_strata_without_noise_have_no_error():
    e = Estimate.from_strata(np.arange(6.0)[:, None] * np.ones((6, 4)))
    assert (e.mean, e.se, e.n) == (2.5, 0.0, 24)


def test_float32_draws_are_summed_in_float64():
    v = values(1).astype(np.float32)
    assert Estimate.from_strata(v) == Estimate.from_strata(v.astype(np.float64))


def test_joint_covariance_equals_the_naive_loop():
    a, b = values(2), values(3) + 0.5 * values(2)
    joint = Joint.from_strata({"a": a, "b": b})
    m, k = a.shape
    for x, u in enumerate((a, b)):
        for y, v in enumerate((a, b)):
            covariance = 0.0
            for i in range(m):
                covariance += sum((u[i] - u[i].mean()) * (v[i] - v[i].mean())) / (k - 1) / k / m**2
            assert joint.cov[x, y] == pytest.approx(covariance, rel=1e-12)
    assert joint.names == ("a", "b")
    assert joint.n == m * k
    assert (joint["a"].mean, joint["a"].se) == pytest.approx(naive(a), rel=1e-13)
    assert (joint["b"].mean, joint["b"].se) == pytest.approx(naive(b), rel=1e-13)


# --- the error is right -------------------------------------------------------------------------------------

REPEATS, M, K = 4000, 6, 4


def simulate(seed: int, spread: float) -> np.ndarray:
    """REPEATS data sets [M, K]: fixed image means (the strata), unit noise in the draws."""
    means = spread * np.linspace(-1, 1, M)[:, None]
    return means + np.random.default_rng([4, seed]).normal(size=(REPEATS, M, K))


@pytest.mark.parametrize("spread", [0.0, 3.0], ids=["alike", "different-images"])
def test_intervals_cover_as_often_as_they_say(spread):
    """Equal normal noise: (mean - truth) / se has Student's law with M (K - 1) degrees of freedom, exactly."""
    estimates = [Estimate.from_strata(v) for v in simulate(0, spread)]
    expected = 1 - 2 * stats.t.sf(stats.norm.isf(0.025), M * (K - 1))
    hits = sum(low <= 0.0 <= high for low, high in (e.interval() for e in estimates))
    assert_share(hits, REPEATS, float(expected))
    narrow = 1 - 2 * stats.t.sf(1.0, M * (K - 1))
    assert_share(sum(abs(e.mean) <= e.se for e in estimates), REPEATS, float(narrow))


def test_evil_twin_of_the_coverage_ignores_the_strata():
    """An error that takes the spread of the images for noise covers too often, and the test sees it."""
    expected = 1 - 2 * stats.t.sf(stats.norm.isf(0.025), M * (K - 1))
    pooled = [abs(v.mean()) <= stats.norm.isf(0.025) * v.std(ddof=1) / math.sqrt(v.size) for v in simulate(0, 3.0)]
    assert fails(lambda: assert_share(sum(pooled), REPEATS, float(expected)))


def test_squared_errors_are_unbiased():
    draws = simulate(1, 3.0)
    squares = np.array([Estimate.from_strata(v).se ** 2 for v in draws])
    assert_unbiased(squares, np.array(1 / (M * K)))
    assert fails(lambda: assert_unbiased(squares * K / (K - 1), np.array(1 / (M * K))))


def test_the_default_interval_is_95_percent():
    low, high = Estimate(2.0, 0.5, 10).interval()
    assert (low, high) == pytest.approx((2 - 0.5 * stats.norm.isf(0.025), 2 + 0.5 * stats.norm.isf(0.025)), rel=1e-12)
    assert Estimate(2.0, 0.5, 10).interval(z=2.0) == (1.0, 3.0)


# --- pooling ------------------------------------------------------------------------------------------------


def chunks(v: np.ndarray) -> list[np.ndarray]:
    return [v[:2], v[2:3], v[3:7], v[7:]]


def test_merged_chunks_are_the_whole():
    v = values(5, m=11, k=6)
    whole, merged = Estimate.from_strata(v), Estimate.merge(Estimate.from_strata(c) for c in chunks(v))
    assert merged.n == whole.n
    assert merged.mean == pytest.approx(whole.mean, rel=1e-13)
    assert merged.se == pytest.approx(whole.se, rel=1e-13)
    assert abs(np.mean([Estimate.from_strata(c).mean for c in chunks(v)]) - whole.mean) > 1e-3  # weights matter


def test_merged_joints_are_the_whole():
    a, b = values(6, m=11, k=6), values(7, m=11, k=6)
    whole = Joint.from_strata({"a": a, "b": b})
    merged = Joint.merge(Joint.from_strata({"a": x, "b": y}) for x, y in zip(chunks(a), chunks(b), strict=True))
    assert (merged.names, merged.n) == (whole.names, whole.n)
    np.testing.assert_allclose(merged.mean, whole.mean, rtol=1e-12)
    np.testing.assert_allclose(merged.cov, whole.cov, rtol=1e-12)


def test_any_order_of_merging_gives_the_same_bits():
    """Parts of very different size, so that plain sums would round differently."""
    scales = (1e16, 1.0, -1e16, 1e-3, 3.7)
    parts = [Estimate.from_strata(s * values(10 + i, m=i + 1, k=3)) for i, s in enumerate(scales)]
    joints = [
        Joint.from_strata({"a": s * values(10 + i, m=i + 1, k=3), "b": values(20 + i, m=i + 1, k=3)})
        for i, s in enumerate(scales)
    ]
    first, joint = Estimate.merge(parts), Joint.merge(joints)
    plain = set()
    for order in permutations(range(5)):
        again = Estimate.merge([parts[i] for i in order])
        assert (again.mean.hex(), again.se.hex(), again.n) == (first.mean.hex(), first.se.hex(), first.n)
        pooled = Joint.merge([joints[i] for i in order])
        assert pooled.mean.tobytes() == joint.mean.tobytes()
        assert pooled.cov.tobytes() == joint.cov.tobytes()
        plain.add(float(sum(parts[i].n * parts[i].mean for i in order)))
    assert len(plain) > 1


def test_merging_one_part_changes_nothing():
    e = Estimate.from_strata(values(8))
    merged = Estimate.merge([e])
    assert merged.n == e.n
    assert (merged.mean, merged.se) == pytest.approx((e.mean, e.se), rel=1e-15)


def test_merging_further_draws_of_the_same_data_is_unbiased_with_the_stated_error():
    """Two runs over the same images with different numbers of draws, pooled, cover as they should."""
    rng = np.random.default_rng([5])
    means = np.linspace(-3, 3, 20)[:, None]
    runs = [
        Estimate.merge(Estimate.from_strata(means + rng.normal(size=(20, k))) for k in (4, 12)) for _ in range(REPEATS)
    ]
    centred = np.array([e.mean for e in runs])
    assert_unbiased(centred, np.array(0.0))
    assert_unbiased(np.array([e.se**2 for e in runs]), np.array(1 / (20 * 16)))
    assert_unbiased(centred**2, np.array(1 / (20 * 16)))


# --- several quantities on the same draws -------------------------------------------------------------------


def test_linear_equals_the_estimate_of_the_combined_draws():
    a, b = values(9), values(9) + 0.1 * values(10)
    e = Joint.from_strata({"a": a, "b": b}).linear({"a": 2.0, "b": -1.5}, constant=0.7)
    whole = Estimate.from_strata(2 * a - 1.5 * b + 0.7)
    assert (e.mean, e.se, e.n) == (pytest.approx(whole.mean, rel=1e-12), pytest.approx(whole.se, rel=1e-9), whole.n)


def test_paired_differences_have_smaller_errors():
    a = values(11)
    joint = Joint.from_strata({"a": a, "b": a + 0.01 * values(12)})
    assert joint.linear({"a": 1.0, "b": -1.0}).se < 0.05 * joint["a"].se
    same = Joint.from_strata({"a": a, "b": a}).linear({"a": 1.0, "b": -1.0})
    assert (same.mean, same.se) == (0.0, 0.0)


def test_ratio_by_the_delta_method():
    """At R = (1 + N) / (D - 2): gradient (1 / bottom, -R / bottom) by hand."""
    a, b = values(13), 10 + values(14) + values(13)
    joint = Joint.from_strata({"a": a, "b": b})
    e = joint.ratio({"a": 1.0}, {"b": 1.0}, (1.0, -2.0))
    top, bottom = 1 + a.mean(), b.mean() - 2
    gradient = np.array([1 / bottom, -top / bottom**2])
    assert e.mean == pytest.approx(top / bottom, rel=1e-12)
    assert e.se == pytest.approx(math.sqrt(gradient @ joint.cov @ gradient), rel=1e-12)
    assert e.n == joint.n
    negative = joint.ratio({"a": 1.0}, {"b": -1.0}, (1.0, 2.0))
    assert negative.mean == pytest.approx(-e.mean, rel=1e-12)
    assert negative.se == pytest.approx(e.se, rel=1e-12)


def test_the_error_of_a_ratio_matches_simulation():
    """Correlated numerator and denominator, small relative noise: the spread of R is the stated error."""
    rng = np.random.default_rng([6])
    shared, own = rng.normal(size=(2, REPEATS, 20, 5))
    ratios = [
        Joint.from_strata({"n": 3 + shared[i], "d": 10 + 2 * shared[i] + own[i]}).ratio({"n": 1.0}, {"d": 1.0})
        for i in range(REPEATS)
    ]
    # w = N - R D = (1 - 2 R) shared - R own with R = 0.3, over 100 draws, divided by D = 10
    variance = ((1 - 2 * 0.3) ** 2 + 0.3**2) / 100 / 100
    spread = np.array([(r.mean - 0.3) ** 2 for r in ratios])
    assert_unbiased(spread, np.array(variance))
    assert abs(np.mean([r.se**2 for r in ratios]) / variance - 1) < 0.02  # of second order in the noise, 2e-2 each
    independent = ((1 - 0.0) ** 2 + 0.3**2 * 5) / 100 / 100  # twin: forgets the covariance
    assert fails(lambda: assert_unbiased(spread, np.array(independent)))


def test_ratio_of_a_quantity_with_itself_is_exact():
    e = Joint.from_strata({"a": 5 + values(15)}).ratio({"a": 2.0}, {"a": 1.0})
    assert e.mean == pytest.approx(2.0, rel=1e-15)
    assert e.se < 1e-15


# --- text and errors ----------------------------------------------------------------------------------------


def test_format_shows_the_error_or_says_exact():
    assert f"{Estimate(0.123456, 0.00234, 10)}" == "0.1235 ± 0.002"
    assert f"{Estimate(0.123456, 0.00234, 10):.2f}" == "0.12 ± 0.002"
    assert f"{Estimate(0.5, 0.0, 10)}" == "0.5 (exact)"


@pytest.mark.parametrize(("mean", "se"), [(math.nan, 0.1), (math.inf, 0.1), (0.1, math.nan), (0.1, math.inf)], ids=str)
def test_numbers_must_be_finite(mean, se):
    with pytest.raises(ValueError, match=f"an estimate needs finite numbers, got mean={mean}, se={se}; look for over"):
        Estimate(mean, se, 3)


@pytest.mark.parametrize(("se", "n"), [(-0.1, 3), (0.1, 0), (0.1, -2)], ids=str)
def test_errors_and_counts_must_be_possible(se, n):
    with pytest.raises(ValueError, match=f"an estimate needs se >= 0 and n >= 1, got se={se}, n={n}"):
        Estimate(1.0, se, n)


@pytest.mark.parametrize("draws", [0, 1])
def test_one_draw_for_each_image_has_no_error(draws):
    with pytest.raises(ValueError, match=f"needs draws >= 2 for each image, got {draws}; raise draws"):
        Estimate.from_strata(np.ones((4, draws)))
    with pytest.raises(ValueError, match="needs draws >= 2 for each image"):
        Joint.from_strata({"a": np.ones((4, draws))})


def test_nothing_cannot_be_merged():
    with pytest.raises(ValueError, match="expected at least one estimate to merge, got none"):
        Estimate.merge([])
    with pytest.raises(ValueError, match="expected at least one estimate to merge, got none"):
        Joint.merge([])


def test_different_quantities_cannot_be_merged():
    parts = [Joint.from_strata({name: values(1)}) for name in "ab"]
    with pytest.raises(ValueError, match=r"expected the same quantities in every part, got \[\('a',\), \('b',\)\]"):
        Joint.merge(parts)


def test_unknown_quantities_list_the_known_ones():
    joint = Joint.from_strata({"a": values(1), "b": values(2)})
    text = r"expected quantities among \['a', 'b'\], got \['c'\]"
    for call in (
        lambda: joint["c"],
        lambda: joint.linear({"a": 1.0, "c": 1.0}),
        lambda: joint.ratio({"c": 1.0}, {"a": 1.0}),
        lambda: joint.ratio({"a": 1.0}, {"c": 1.0}),
    ):
        with pytest.raises(ValueError, match=text):
            call()


def test_a_ratio_to_zero_is_undefined():
    joint = Joint.from_strata({"a": values(1), "b": values(2)})
    with pytest.raises(ZeroDivisionError, match="a share of a rise of exactly 0 is undefined; nothing is mixed"):
        joint.ratio({"a": 1.0}, {"b": 0.0})


@pytest.mark.parametrize("shape", [(5,), (0, 3)], ids=["one axis", "no image"])
def test_draws_are_images_times_draws(shape):
    with pytest.raises(ValueError, match=r"expected draws as arrays \[m, K\] with m >= 1, got shape"):
        Estimate.from_strata(np.zeros(shape))


def test_a_joint_estimate_needs_shapes_that_agree():
    with pytest.raises(ValueError, match=r"expected 1 means, their covariance \[1, 1\] and n >= 1, got shapes"):
        Joint(("a",), np.ones(3), np.ones((1, 1)), 4)
    with pytest.raises(ValueError, match=r"and n=0"):
        Joint(("a",), np.ones(1), np.ones((1, 1)), 0)
