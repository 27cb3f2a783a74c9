"""Estimates merge in any order and grouping, from single draws to huge and constant values."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mc_checks import fails
from property_cases import examples, seeds

from msda_theory.estimate import Estimate, Joint

numbers = st.one_of(
    st.floats(-1e3, 1e3),
    st.sampled_from([0.0, 5e-324, 1e-200, -1e-160, 1e155, -1e200, 1e300, 1.7e308, -1.7e308, 0.1]),
)
errors = st.one_of(st.floats(0, 1e3), st.sampled_from([0.0, 5e-324, 1e-200, 1e-160, 1e155, 1e200, 1e300]))
counts = st.one_of(st.integers(1, 100), st.sampled_from([1, 2**31, 10**12]))
estimates = st.builds(Estimate, mean=numbers, se=errors, n=counts)
parts = st.lists(estimates, min_size=1, max_size=7)


def assert_same(a: Estimate, b: Estimate, *, size: float, error: float) -> None:
    """Equal to rounding, relative to the largest values that were added up."""
    assert a.n == b.n
    assert abs(a.mean / 4 - b.mean / 4) <= 1e-14 * size + 1e-323  # a quarter: the difference may overflow
    assert abs(a.se - b.se) <= 1e-13 * error + 1e-323


@examples(200)
@given(parts, st.randoms(use_true_random=False))
def test_the_order_of_merging_changes_no_bit(es, random):
    shuffled = list(es)
    random.shuffle(shuffled)
    assert Estimate.merge(shuffled) == Estimate.merge(es)


@examples(200)
@given(parts, parts, parts)
def test_the_grouping_changes_rounding_only(a, b, c):
    merge = Estimate.merge
    every = [*a, *b, *c]
    size, error = max(abs(e.mean) for e in every), max(e.se for e in every)
    whole = merge(every)
    left = merge([merge([merge(a), merge(b)]), merge(c)])
    right = merge([merge(a), merge([merge(b), merge(c)])])
    for grouped in (left, right, merge([merge(a), *b, merge(c)])):
        assert_same(grouped, whole, size=size, error=error)


@examples(100)
@given(parts, st.integers(0, 6))
def test_a_merged_estimate_lies_among_its_parts(es, k):
    merged = Estimate.merge(es)
    low, high = min(e.mean for e in es), max(e.mean for e in es)
    room = 1e-14 * max(abs(low), abs(high))
    assert low - room <= merged.mean <= high + room or merged.mean in (low, high)
    assert 0 <= merged.se <= max(e.se for e in es) * (1 + 1e-14)
    alone = es[k % len(es)]
    assert_same(Estimate.merge([alone]), alone, size=abs(alone.mean), error=alone.se)


@examples(100)
@given(estimates, st.integers(1, 6))
def test_equal_parts_keep_the_mean_and_shrink_the_error(e, copies):
    merged = Estimate.merge([e] * copies)
    expected = replace(e, se=e.se / math.sqrt(copies), n=copies * e.n)
    assert_same(merged, expected, size=abs(e.mean), error=e.se)


def test_the_comparison_tells_a_wrong_weight():
    a, b = Estimate(1.0, 0.1, 10), Estimate(2.0, 0.1, 20)
    equal = Estimate((1.0 + 2.0) / 2, math.hypot(0.1, 0.1) / 2, 30)
    assert fails(lambda: assert_same(Estimate.merge([a, b]), equal, size=2.0, error=0.1))


# --- from draws -----------------------------------------------------------------------------------------------------


def draws(seed: int, m: int, k: int, scale: float) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return scale * (3 * rng.normal(size=(m, 1)) + rng.normal(size=(m, k)))


@examples(100)
@given(seeds, st.integers(1, 9), st.integers(2, 6), st.sampled_from([1e-150, 1e-8, 1.0, 1e8, 1e150]))
def test_rows_in_any_order_and_in_parts_give_the_whole(seed, m, k, scale):
    v = draws(seed, m, k, scale)
    rng = np.random.default_rng(seed)
    whole = Joint.from_strata({"a": v, "b": v**1})
    cuts = np.sort(rng.integers(0, m + 1, size=3))
    pieces = [p for p in np.split(v, cuts) if len(p)]
    parted = Joint.merge(Joint.from_strata({"a": p, "b": p}) for p in pieces)
    mixed = Joint.from_strata({"a": v[rng.permutation(m)][:, rng.permutation(k)], "b": v})
    size = np.abs(v).max()
    for other in (parted, mixed):
        assert_same(other["a"], whole["a"], size=size, error=whole["a"].se)
        assert other.n == m * k
    assert_same(Estimate.merge(map(Estimate.from_strata, pieces)), whole["a"], size=size, error=whole["a"].se)
    np.testing.assert_allclose(parted.cov, whole.cov, rtol=1e-12)
    assert np.linalg.eigvalsh(parted.cov / scale / scale).min() >= -1e-12


@examples(60)
@given(st.floats(-1e6, 1e6), st.integers(1, 5), st.integers(2, 5))
def test_constant_draws_have_no_error_beyond_rounding(value, m, k):
    e = Estimate.from_strata(np.full((m, k), value))
    assert abs(e.mean - value) <= 1e-15 * abs(value)
    assert e.se <= 1e-15 * abs(value)


@examples(60)
@given(seeds, st.integers(1, 6), st.integers(2, 5), st.floats(-10, 10), st.sampled_from([1e-6, 0.5, -3.0, 1e6]))
def test_estimates_are_affine_in_the_draws(seed, m, k, shift, factor):
    v = draws(seed, m, k, 1.0)
    e, moved = Estimate.from_strata(v), Estimate.from_strata(shift + factor * v)
    size = abs(shift) + abs(factor) * np.abs(v).max()
    assert abs(moved.mean - (shift + factor * e.mean)) <= 1e-13 * size
    assert abs(moved.se - abs(factor) * e.se) <= 1e-13 * size


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.int8, bool], ids=lambda t: t.__name__)
def test_draws_of_any_dtype_are_summed_in_float64(dtype):
    v = (np.arange(12).reshape(3, 4) % 5).astype(dtype)
    assert Estimate.from_strata(v) == Estimate.from_strata(v.astype(np.float64))


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_draws_that_are_not_finite_are_refused_when_they_are_read(value):
    v = draws(0, 4, 3, 1.0)
    v[1, 1] = value
    with np.errstate(invalid="ignore"):
        joint = Joint.merge([Joint.from_strata({"a": v[:2]}), Joint.from_strata({"a": -v[1:]})])
    with pytest.raises(ValueError, match="an estimate needs finite numbers, got mean="):
        _ = joint["a"]
