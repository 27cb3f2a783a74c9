"""Shares, their intervals and paired differences."""

from __future__ import annotations

import math

import numpy as np
import pytest
from naive import as_users_run_it
from scipy import stats

from msda_theory.proportions import (
    PairedDifference,
    Proportion,
    difference_interval,
    normal_quantile,
    paired_difference,
)


@pytest.mark.parametrize(("hits", "n"), [(0, 7), (7, 7), (1, 1), (3, 10), (960, 1000)])
@pytest.mark.parametrize("level", [0.5, 0.95, 0.999])
def test_wilson_equals_scipy(hits, n, level):
    want = stats.binomtest(hits, n).proportion_ci(level, method="wilson")
    np.testing.assert_allclose(Proportion(hits, n).interval(level), (want.low, want.high), rtol=1e-12, atol=1e-15)


def test_wilson_by_hand():
    """At 9 of 10."""
    assert Proportion(9, 10).interval() == pytest.approx((0.59585, 0.98212), abs=1e-5)


def test_wilson_ends_solve_its_equation():
    p = Proportion(37, 61)
    z = normal_quantile(0.9)
    for end in p.interval(0.9):
        assert (p.mean - end) ** 2 == pytest.approx(z**2 * end * (1 - end) / p.n, rel=1e-10)


def test_newcombe_equals_the_published_example():
    """Newcombe 1998, Table II (a), method 10: 56/70 - 48/80."""
    low, high = difference_interval(Proportion(56, 70), Proportion(48, 80))
    assert (round(low, 4), round(high, 4)) == (0.0524, 0.3339)


def test_newcombe_is_antisymmetric_and_has_a_width_at_one():
    a, b = Proportion(50, 50), Proportion(30, 40)
    low, high = difference_interval(a, b)
    assert difference_interval(b, a) == pytest.approx((-high, -low))
    assert low < 0.25 < high
    assert difference_interval(a, a)[0] < 0 < difference_interval(a, a)[1]


def test_standard_error_and_text():
    assert Proportion(3, 4).se == pytest.approx(math.sqrt(0.75 * 0.25 / 4))
    p = Proportion(30, 40)
    assert p.se == pytest.approx(math.sqrt(0.75 * 0.25 / 40))
    assert f"{p:.2f}" == "0.75 [0.60, 0.86]"
    assert Proportion.of(np.arange(40) < 30) == p


def test_paired_difference_by_hand():
    a = np.array([1, 1, 1, 1, 0, 0, 1, 1], dtype=bool)
    b = np.array([1, 0, 0, 0, 1, 0, 1, 0], dtype=bool)
    d = paired_difference(a, b)
    values = a.astype(int) - b.astype(int)
    assert (d.only_first, d.only_second, d.n) == (4, 1, 8)
    assert d.mean == pytest.approx(values.mean())
    assert d.se == pytest.approx(values.std(ddof=1) / math.sqrt(8))
    # 5 fair coins: P(at most 1 or at least 4 heads)
    assert d.p_value == pytest.approx(2 * (1 + 5) / 2**5)
    p, r = 5 / 10, 2 / 10
    half = 1.959964 * math.sqrt((p + r - (p - r) ** 2) / 10)
    assert d.interval() == pytest.approx((p - r - half, p - r + half), rel=1e-6)


def test_mcnemar_and_bonett_price_by_hand():
    """b = 10, c = 2, n = 50."""
    pair = PairedDifference(10, 2, 50)
    assert pair.mean == 0.16
    assert pair.p_value == pytest.approx(2 * (1 + 12 + 66) / 2**12)
    p, r = 11 / 52, 3 / 52
    for level, z in ((0.95, 1.959963984540054), (0.5, 0.6744897501960817)):
        half = z * math.sqrt((p + r - (p - r) ** 2) / 52)
        assert pair.interval(level) == pytest.approx((p - r - half, p - r + half))
    low, high = pair.interval()
    assert PairedDifference(2, 10, 50).interval() == pytest.approx((-high, -low))
    assert PairedDifference(3, 0, 3).interval()[1] == 1
    assert PairedDifference(0, 3, 3).interval()[0] == -1


def test_paired_interval_is_the_normal_one_for_many_trials():
    pair = PairedDifference(30_000, 20_000, 100_000)
    z = normal_quantile(0.9)
    assert pair.interval(0.9) == pytest.approx((pair.mean - z * pair.se, pair.mean + z * pair.se), abs=1e-5)


def test_one_trial_has_no_standard_error():
    pair = PairedDifference(1, 0, 1)
    assert math.isnan(pair.se)
    assert pair.p_value == 1
    assert pair.interval()[0] < 0 < pair.interval()[1] == 1


def test_equal_answers_do_not_differ():
    a = np.array([True, False, True])
    d = paired_difference(a, a.copy())
    assert (d.mean, d.se, d.p_value) == (0.0, 0.0, 1.0)
    assert d == PairedDifference(0, 0, 3)
    low, high = d.interval()
    assert low == -high < 0


def test_errors():
    with as_users_run_it():
        with pytest.raises(ValueError, match="expected 0 <= hits <= n with n >= 1, got 5 of 4"):
            Proportion(5, 4)
        with pytest.raises(ValueError, match="expected 0 <= hits <= n with n >= 1, got 0 of 0"):
            Proportion(0, 0)
        with pytest.raises(ValueError, match="a paired difference needs counts"):
            PairedDifference(3, 2, 4)
        with pytest.raises(ValueError, match="expected a confidence level in"):
            Proportion(1, 4).interval(1.0)
        with pytest.raises(ValueError, match="expected a confidence level in"):
            PairedDifference(1, 2, 4).interval(0.0)
        with pytest.raises(TypeError, match="expected arrays of bool, got int64"):
            paired_difference(np.array([1, 0]), np.array([True, False]))
        for length in (3, 0):
            with pytest.raises(ValueError, match="expected bits of the same n >= 1 trials"):
                paired_difference(np.ones(0 if length == 0 else 2, dtype=bool), np.ones(length, dtype=bool))
