"""Moments of draws in parts: sums, errors by groups of draws, against loops, wherever the parts are cut."""

from __future__ import annotations

import numpy as np
import pytest

from msda_theory.moments import sampled
from msda_theory.moments.sampled import Sampled, chunks

SHAPE = (2, 3)
N = 10
GROUPS = {"own": None, "mixed": np.array([0, 0, 0, 1, 3, 3, 4, 4, 4, 9]), "pairs": np.repeat(np.arange(-2, 3), 2)}


def law(groups: str, *, weighted: bool = True) -> Sampled:
    rng = np.random.default_rng(3)
    weights = rng.dirichlet(np.ones(N)) if weighted else None
    return Sampled(rng.normal(size=(N, *SHAPE)), weights, GROUPS[groups])


def parts_of(monkeypatch: pytest.MonkeyPatch, draws: int) -> None:
    """From here on ``draws`` draws are in each part."""
    monkeypatch.setattr(sampled, "_ENTRIES", draws * SHAPE[0] * SHAPE[1])


def by_groups(operator: Sampled, value) -> tuple[np.ndarray, np.ndarray]:
    """``sum_s p_s value_s`` and its standard error over groups, by loops: ``G / (G - 1) sum_g S_g^2``."""
    p = np.full(N, 1 / N) if operator.weights is None else operator.weights
    groups = np.arange(N) if operator.groups is None else operator.groups
    mean = sum(p[s] * value(operator.draws[s]) for s in range(N))
    sums = [sum(p[s] * (value(operator.draws[s]) - mean) for s in range(N) if groups[s] == g) for g in set(groups)]
    return mean, np.sqrt(sum(s**2 for s in sums) * len(sums) / (len(sums) - 1))


@pytest.mark.parametrize("weighted", [True, False], ids=["weighted", "equal"])
@pytest.mark.parametrize("groups", GROUPS)
@pytest.mark.parametrize("size", [1, 2, 3, 4, 7, 10, 50])
def test_means_and_errors_do_not_depend_on_the_parts(monkeypatch, size, groups, weighted):
    operator = law(groups, weighted=weighted)
    parts_of(monkeypatch, size)
    mean, error = operator.mean_and_error()
    expected_mean, expected_error = by_groups(operator, lambda q: q)
    np.testing.assert_allclose(mean, expected_mean, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(error, expected_error, rtol=1e-12)
    u = np.random.default_rng(4).normal(size=SHAPE)
    assert operator.linear_error(u) == pytest.approx(float(by_groups(operator, lambda q: (q * u).sum())[1]), rel=1e-12)


@pytest.mark.parametrize("size", [1, 3, 50])
def test_sums_do_not_depend_on_the_parts(monkeypatch, size):
    operator = law("own")
    parts_of(monkeypatch, size)
    flat = operator.draws.reshape(N, -1)
    matrix = sum(p * np.outer(q, q) for p, q in zip(operator.weights, flat, strict=True))
    u = np.random.default_rng(5).normal(size=(2, *SHAPE))
    np.testing.assert_allclose(operator.dense(), matrix, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(operator.apply(u).reshape(2, -1), u.reshape(2, -1) @ matrix, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(
        operator.quadratic(u), [v @ matrix @ v for v in u.reshape(2, -1)], rtol=1e-12, atol=1e-14
    )
    np.testing.assert_allclose(operator.diagonal().ravel(), np.diag(matrix), rtol=1e-12)
    sums = np.zeros((3, 5))
    for j in np.ndindex(SHAPE):
        for k in np.ndindex(SHAPE):
            sums[1 + k[0] - j[0], 2 + k[1] - j[1]] += matrix[3 * j[0] + j[1], 3 * k[0] + k[1]]
    np.testing.assert_allclose(operator.displacement_sums(), sums, rtol=1e-12, atol=1e-14)
    powers = [sum(p * q**k for p, q in zip(operator.weights, operator.draws, strict=True)) for k in (1, 2, 3, 4)]
    np.testing.assert_allclose(operator.power_means(4), powers, rtol=1e-12, atol=1e-14)


def test_parts_hold_sixteen_megabytes_or_one_draw():
    assert list(chunks(0, (5, 7))) == []
    draws = 2**24 // 8 // (3 * 50)  # of 8 bytes for each of 3 x 50 pixels
    assert list(chunks(2 * draws + 1, (3, 50))) == [
        slice(0, draws),
        slice(draws, 2 * draws),
        slice(2 * draws, 2 * draws + 1),
    ]
    assert list(chunks(3, (4_000, 4_000))) == [slice(0, 1), slice(1, 2), slice(2, 3)]


def test_a_first_group_of_one_draw_is_a_group():
    operator = Sampled(np.array([0.0, 1.0, 1.0]).reshape(3, 1, 1), None, np.array([5, 6, 6]))
    assert operator.linear_error(np.ones((1, 1))) == pytest.approx(np.sqrt(2 * 2 * (2 / 9) ** 2), rel=1e-14)


def test_draws_in_single_precision_are_summed_in_double():
    single = np.random.default_rng(6).random((N, *SHAPE)).astype(np.float32)
    found, exact = Sampled(single), Sampled(single.astype(np.float64))
    np.testing.assert_array_equal(found.dense(), exact.dense())
    np.testing.assert_array_equal(found.power_means(4), exact.power_means(4))
    np.testing.assert_array_equal(found.displacement_sums(), exact.displacement_sums())
    assert found.linear_error(np.ones(SHAPE)) == exact.linear_error(np.ones(SHAPE))
