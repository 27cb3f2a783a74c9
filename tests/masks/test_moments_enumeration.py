"""Closed moments of every strategy against enumeration and brute quadrature, without randomness."""

from __future__ import annotations

import numpy as np
import pytest
import reference
from mask_cases import LAWS, case_id, reference_moments, variants

from msda_theory.masks.base import Strategy
from msda_theory.masks.choice import Choice
from msda_theory.masks.cutmix import CutMix
from msda_theory.masks.gmix import GMix
from msda_theory.masks.hmix import HMix
from msda_theory.masks.mixup import Mixup

SHAPES = ((3, 3), (4, 5))
TOLERANCE = 1e-10
STRATEGIES = [s for alpha in (0.2, 1.0, 3.0) for s in variants(alpha)]
CASES = [
    pytest.param(s, shape, law, id=f"{case_id(s)}-{shape[0]}x{shape[1]}-{law}")
    for s in STRATEGIES
    for shape in SHAPES
    for law in LAWS
]
RECTANGLE = [c for c in CASES if "-4x5-" in str(c.id)]


def assert_equal(got: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_allclose(got, expected, rtol=0, atol=TOLERANCE)


def test_ids_are_unique_and_every_option_is_covered():
    ids = [case.id for case in CASES]
    assert len(set(ids)) == len(ids) == 3 * (2 + 6 + 12 + 2 + 1) * 2 * 2


@pytest.mark.parametrize(("a", "b"), [(0.2, 0.2), (1.2, 0.2), (1.0, 1.0), (3.0, 3.0), (1e-3, 1e-3), (101.0, 100.0)])
def test_the_quadrature_of_the_reference_integrates_powers(a, b):
    lam, weight = reference.beta_rule(a, b, [0.3, 0.5, 0.98])
    powers = [1.0, a / (a + b), a * (a + 1) / ((a + b) * (a + b + 1))]
    for p, expected in enumerate(powers):
        assert abs(weight @ lam**p - expected) < 1e-12


@pytest.mark.parametrize("strategy", [GMix(alpha=0.2), CutMix(alpha=0.2), HMix(alpha=3.0)], ids=case_id)
def test_the_quadrature_of_the_reference_has_converged(strategy):
    coarse, fine = (reference_moments(strategy, (3, 3), "exact", order) for order in (12, 24))
    for first, second in zip(coarse, fine, strict=True):
        np.testing.assert_allclose(first, second, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("strategy", "shape", "law"), CASES)
def test_closed_moments_equal_enumeration(strategy: Strategy, shape, law):
    mean, second = reference_moments(strategy, shape, law)
    moments = strategy.moments(shape, law=law)
    assert moments.law == law
    assert moments.provenance.method != "sampled"
    assert_equal(moments.mean, mean)
    assert_equal(moments.second.dense(), second)


@pytest.mark.parametrize(("strategy", "shape", "law"), [c for c in RECTANGLE if c.values[0] in variants(1.0)])
def test_operator_products_equal_the_enumerated_matrix(strategy: Strategy, shape, law):
    _, second = reference_moments(strategy, shape, law)
    operator = strategy.moments(shape, law=law).second
    u = np.random.default_rng(0).normal(size=(2, *shape))
    assert_equal(operator.apply(u), (u.reshape(2, -1) @ second).reshape(u.shape))
    assert_equal(operator.quadratic(u), [reference.quadratic(second, v) for v in u])
    assert_equal(operator.diagonal(), np.diag(second).reshape(shape))
    assert_equal(operator.by_displacement(), reference.displacement_means(second, shape))


@pytest.mark.parametrize(("strategy", "shape", "law"), RECTANGLE)
def test_atoms_reproduce_the_moments(strategy: Strategy, shape, law):
    mean, second = reference_moments(strategy, shape, law)
    q, probability = strategy.atoms(shape, order=16).partner(law)
    flat = q.reshape(len(q), -1)
    assert abs(probability.sum() - 1) < TOLERANCE
    assert probability.min() >= 0
    assert_equal(probability @ flat, mean.ravel())
    assert_equal(flat.T @ (probability[:, None] * flat), second)


@pytest.mark.parametrize("strategy", [Mixup(alpha=0.2), CutMix(), HMix(alpha=0.2), GMix(), Choice()], ids=case_id)
def test_the_default_order_of_atoms_is_close(strategy):
    """Eight Gauss nodes an interval are enough for 1e-6, so the default is safe."""
    mean, second = reference_moments(strategy, (4, 5), "exact")
    q, probability = strategy.atoms((4, 5)).partner("exact")
    flat = q.reshape(len(q), -1)
    np.testing.assert_allclose(probability @ flat, mean.ravel(), rtol=0, atol=1e-6)
    np.testing.assert_allclose(flat.T @ (probability[:, None] * flat), second, rtol=0, atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 1), (1, 6), (5, 1)], ids=lambda s: f"{s[0]}x{s[1]}")
@pytest.mark.parametrize("strategy", variants(0.5), ids=case_id)
def test_degenerate_rectangles(strategy, shape):
    for law in LAWS:
        mean, second = reference_moments(strategy, shape, law)
        moments = strategy.moments(shape, law=law)
        assert_equal(moments.mean, mean)
        assert_equal(moments.second.dense(), second)
        assert_equal(moments.second.by_displacement(), reference.displacement_means(second, shape))


@pytest.mark.parametrize("strategy", [s for alpha in (1e-3, 100.0) for s in variants(alpha)], ids=case_id)
def test_extreme_alphas(strategy):
    for law in LAWS:
        mean, second = reference_moments(strategy, (3, 3), law)
        moments = strategy.moments((3, 3), law=law)
        assert np.isfinite(moments.mean).all()
        assert_equal(moments.mean, mean)
        assert_equal(moments.second.dense(), second)


@pytest.mark.parametrize("strategy", [GMix(alpha=0.2), GMix(alpha=3.0, label="nominal")], ids=case_id)
@pytest.mark.parametrize("law", LAWS)
def test_the_stated_error_of_quadrature_bounds_the_error(strategy, law):
    mean, second = reference_moments(strategy, (4, 5), law)
    moments = strategy.moments((4, 5), law=law)
    error = max(np.abs(moments.mean - mean).max(), np.abs(moments.second.dense() - second).max())
    assert moments.provenance.method == "quadrature"
    assert error <= moments.provenance.error + 1e-13  # rounding of two sums of thousands of terms


def test_evil_twins_of_the_enumeration_are_seen():
    """The comparison above sees a wrong alpha, law, box or label: each moves an entry by more than 1e-3."""
    mean, second = reference_moments(CutMix(), (4, 5), "exact")
    for twin, law in [
        (CutMix(alpha=1.1), "exact"),
        (CutMix(), "paper"),
        (CutMix(box="inside"), "exact"),
        (CutMix(label="nominal"), "exact"),
        (HMix(ratio=1.0), "exact"),
    ]:
        moments = twin.moments((4, 5), law=law)
        assert max(np.abs(moments.mean - mean).max(), np.abs(moments.second.dense() - second).max()) > 1e-3


@pytest.mark.parametrize("shape", [(5, 6), (7, 4), (8, 8)], ids=lambda s: f"{s[0]}x{s[1]}")
@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("case", variants(0.7), ids=case_id)
def test_operators_need_no_matrix(case, law, shape):
    """Every way to read the second moment agrees with the matrix, which enumeration has confirmed."""
    second = case.moments(shape, law=law).second
    matrix = second.dense()
    d = shape[0] * shape[1]
    u = np.random.default_rng(5).normal(size=(3, *shape))
    flat = u.reshape(3, d)
    tolerance = {"rtol": 0, "atol": 1e-12}
    np.testing.assert_allclose(second.apply(u).reshape(3, d), flat @ matrix, **tolerance)
    np.testing.assert_allclose(second.quadratic(u), np.einsum("nj,jk,nk->n", flat, matrix, flat), **tolerance)
    np.testing.assert_allclose(second.diagonal().ravel(), np.diagonal(matrix), **tolerance)
    np.testing.assert_allclose(second.by_displacement(), reference.displacement_means(matrix, shape), **tolerance)
    by = second.by_distance()
    rows, columns = np.divmod(np.arange(d), shape[1])
    distance = np.hypot(rows[:, None] - rows, columns[:, None] - columns)
    assert by.pairs.sum() == d * d
    for r, value, pairs in zip(by.distance, by.value, by.pairs, strict=True):
        at = np.isclose(distance, r)
        assert at.sum() == pairs
        np.testing.assert_allclose(matrix[at].mean(), value, **tolerance)
