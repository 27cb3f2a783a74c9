"""Shares, their intervals and paired differences."""

from __future__ import annotations

import math

import numpy as np
import pytest
from naive import as_users_run_it
from scipy import stats

from msda_theory.proportions import Proportion, difference_interval, normal_quantile, paired_difference


@pytest.mark.parametrize(("hits", "n"), [(0, 7), (7, 7), (1, 1), (3, 10), (960, 1000)])
@pytest.mark.parametrize("level", [0.5, 0.95, 0.999])
def test_wilson_equals_scipy(hits, n, level):
    want = stats.binomtest(hits, n).proportion_ci(level, method="wilson")
    np.testing.assert_allclose(Proportion(hits, n).interval(level), (want.low, want.high), rtol=1e-12, atol=1e-15)


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
    p = Proportion(30, 40)
    assert p.se == pytest.approx(math.sqrt(0.75 * 0.25 / 40))
    assert f"{p:.2f}" == "0.75 [0.60, 0.86]"


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
    assert d.interval() == pytest.approx((d.mean - 1.959964 * d.se, d.mean + 1.959964 * d.se), rel=1e-6)


def test_equal_answers_do_not_differ():
    a = np.array([True, False, True])
    d = paired_difference(a, a.copy())
    assert (d.mean, d.se, d.p_value) == (0.0, 0.0, 1.0)


def test_errors():
    with as_users_run_it():
        with pytest.raises(ValueError, match="expected 0 <= hits <= n with n >= 1, got 5 of 4"):
            Proportion(5, 4)
        with pytest.raises(ValueError, match="expected a confidence level in"):
            Proportion(1, 4).interval(1.0)
        with pytest.raises(TypeError, match="expected arrays of bool, got int64"):
            paired_difference(np.array([1, 0]), np.array([True, False]))
        with pytest.raises(ValueError, match="expected bits of the same n >= 2 trials"):
            paired_difference(np.array([True, False]), np.array([True, False, True]))
