"""Second-moment operators against naive loops, and the validation of `Moments`."""

from __future__ import annotations

import numpy as np
import pytest
import reference

from msda_theory.moments.displacements import displacement_sums, pair_counts
from msda_theory.moments.kronecker import KroneckerSum
from msda_theory.moments.moments import Moments, Provenance
from msda_theory.moments.operators import Bordered, Constant, Dense, Mixture, SecondMoment
from msda_theory.moments.sampled import Sampled
from msda_theory.moments.stationary import Stationary

SHAPE = (3, 4)
D = 12
CLOSED = Provenance("closed form", 0.0, "test")


def symmetric(rng: np.random.Generator, *shape: int) -> np.ndarray:
    a = rng.normal(size=shape)
    return a + np.swapaxes(a, -1, -2)


def build(kind: str, seed: int = 0) -> tuple[SecondMoment, np.ndarray]:
    """An operator with random numbers, and its matrix by loops over pixel pairs."""
    rng = np.random.default_rng([7, seed])
    h, w = SHAPE
    matrix = np.zeros((D, D))
    if kind == "constant":
        return Constant(0.37, SHAPE), matrix + 0.37
    if kind == "stationary":
        table = rng.normal(size=(2 * h - 1, 2 * w - 1))
        table = table + table[::-1, ::-1]
        for j in range(D):
            for k in range(D):
                matrix[j, k] = table[h - 1 + k // w - j // w, w - 1 + k % w - j % w]
        return Stationary(table), matrix
    if kind == "kronecker":
        left, right = symmetric(rng, 5, h, h), symmetric(rng, 5, w, w)
        border, constant = rng.normal(size=SHAPE), 0.3
        for j in range(D):
            for k in range(D):
                matrix[j, k] = border[divmod(j, w)] + border[divmod(k, w)] + constant
                for t in range(5):
                    matrix[j, k] += left[t, j // w, k // w] * right[t, j % w, k % w]
        return Bordered(KroneckerSum(left, right), border, constant), matrix
    if kind == "kronecker-empty":
        border = rng.normal(size=SHAPE)
        for j in range(D):
            for k in range(D):
                matrix[j, k] = border[divmod(j, w)] + border[divmod(k, w)] - 0.2
        return Bordered(KroneckerSum(np.zeros((0, h, h)), np.zeros((0, w, w))), border, -0.2), matrix
    if kind == "dense":
        matrix = symmetric(rng, D, D)
        return Dense(matrix.copy(), SHAPE), matrix
    if kind == "sampled":
        draws = rng.normal(size=(9, h, w))
        for q in draws:
            for j in range(D):
                for k in range(D):
                    matrix[j, k] += q[divmod(j, w)] * q[divmod(k, w)] / 9
        return Sampled(draws), matrix
    if kind == "sampled-weighted":
        draws, weights = rng.normal(size=(9, h, w)), rng.dirichlet(np.ones(9))
        for p, q in zip(weights, draws, strict=True):
            for j in range(D):
                for k in range(D):
                    matrix[j, k] += p * q[divmod(j, w)] * q[divmod(k, w)]
        return Sampled(draws, weights), matrix
    parts = [build(name, seed + 1 + i) for i, name in enumerate(("constant", "kronecker", "dense", "sampled"))]
    weights = (0.1, 0.2, 0.3, 0.4)
    for weight, (_, part) in zip(weights, parts, strict=True):
        matrix += weight * part
    return Mixture(weights, tuple(operator for operator, _ in parts)), matrix


KINDS = ("constant", "stationary", "kronecker", "kronecker-empty", "dense", "sampled", "sampled-weighted", "mixture")


def close(got: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_operator_equals_its_matrix(kind):
    operator, matrix = build(kind)
    assert operator.shape == SHAPE
    close(operator.dense(), matrix)
    close(operator.diagonal(), np.array([matrix[j, j] for j in range(D)]).reshape(SHAPE))
    close(operator.by_displacement(), reference.displacement_means(matrix, SHAPE))
    close(operator.displacement_sums(), reference.displacement_means(matrix, SHAPE) * pair_counts(SHAPE))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch", [(), (1,), (2, 3), (0,)], ids=str)
def test_products_keep_leading_axes(kind, batch):
    operator, matrix = build(kind)
    u = np.random.default_rng(3).normal(size=(*batch, *SHAPE))
    applied, quadratic = operator.apply(u), operator.quadratic(u)
    assert applied.shape == u.shape
    assert np.shape(quadratic) == batch
    for index in np.ndindex(*batch):
        close(applied[index], reference.apply(matrix, u[index]))
        close(quadratic[index], reference.quadratic(matrix, u[index]))


@pytest.mark.parametrize("kind", KINDS)
def test_a_wrong_matrix_is_seen(kind):
    operator, _ = build(kind, 0)
    _, other = build(kind, 1)
    if kind == "constant":
        other = other + 1e-3
    u = np.random.default_rng(3).normal(size=(1, *SHAPE))
    assert np.abs(operator.dense() - other).max() > 1e-4
    assert abs(operator.quadratic(u)[0] - reference.quadratic(other, u[0])) > 1e-4


@pytest.mark.parametrize("kind", KINDS)
def test_results_do_not_share_memory_with_the_operator(kind):
    operator, matrix = build(kind)
    u = np.random.default_rng(4).normal(size=SHAPE)
    kept = u.copy()
    for result in (operator.dense(), operator.diagonal(), operator.apply(u), operator.by_displacement()):
        result += 1.0
    close(operator.dense(), matrix)
    np.testing.assert_array_equal(u, kept)


@pytest.mark.parametrize("kind", KINDS)
def test_integer_and_float32_maps_are_computed_in_float64(kind):
    operator, matrix = build(kind)
    u = np.random.default_rng(5).integers(-3, 4, size=SHAPE)
    for dtype in (np.int64, np.float32):
        applied = operator.apply(u.astype(dtype))
        assert applied.dtype == np.float64
        close(applied, reference.apply(matrix, u.astype(float)))


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (4, 1), (3, 4)], ids=lambda s: f"{s[0]}x{s[1]}")
def test_displacements_of_any_rectangle(shape):
    d = shape[0] * shape[1]
    matrix = np.random.default_rng(6).normal(size=(d, d))  # not symmetric: the sign of k - j matters
    means = reference.displacement_means(matrix, shape)
    close(displacement_sums(matrix, shape) / pair_counts(shape), means)
    assert pair_counts(shape).sum() == d * d
    if d > 1:
        assert np.abs(means - means[::-1, ::-1]).max() > 1e-2


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("wrong", [(4, 3), (12,), (2, 3, 3), ()], ids=str)
def test_maps_of_another_size_are_refused(kind, wrong):
    operator, _ = build(kind)
    with pytest.raises(
        ValueError, match=r"these moments are for 3x4 pixels, got maps of shape .*; pass u \[\.\.\., 3,"
    ):
        operator.apply(np.zeros(wrong))
    with pytest.raises(ValueError, match="build the moments for its size"):
        operator.quadratic(np.zeros(wrong))


# --- Moments ------------------------------------------------------------------------------------------------

SMALL, LARGE = (12, 12), (13, 13)  # 144 pixels are checked in full, 169 by diagonal and test directions
BOTH = pytest.mark.parametrize("shape", [SMALL, LARGE], ids=["full-check", "direction-check"])


def draws(shape: tuple[int, int], n: int = 40) -> np.ndarray:
    return np.random.default_rng(8).random((n, *shape))


def dense_moments(shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and second moment of a uniform law on forty maps."""
    q = draws(shape)
    flat = q.reshape(len(q), -1)
    return q.mean(axis=0), flat.T @ flat / len(q)


@BOTH
def test_valid_moments_are_accepted(shape):
    mean, second = dense_moments(shape)
    moments = Moments(mean, Dense(second, shape), "exact", CLOSED)
    np.testing.assert_array_equal(moments.mean, mean)
    assert moments.law == "exact"
    Moments(np.full(shape, 0.5), Constant(0.25, shape), "paper", CLOSED)  # q = 1/2 always: a variance of 0
    Moments(np.ones(shape), Constant(1.0, shape), "paper", CLOSED)
    Moments(np.zeros(shape), Constant(0.0, shape), "paper", CLOSED)


@BOTH
@pytest.mark.parametrize("value", [-0.01, 1.01, np.nan, np.inf])
def test_a_mean_outside_the_unit_interval_is_refused(shape, value):
    mean = np.full(shape, 0.5)
    mean[2, 3] = value
    with pytest.raises(ValueError, match=r"the mean of q must lie in \[0, 1\], got .*; check that masks lie"):
        Moments(mean, Constant(0.3, shape), "exact", CLOSED)


@BOTH
@pytest.mark.parametrize("value", [0.6, -0.1, np.nan])
def test_a_diagonal_out_of_bounds_is_refused(shape, value):
    mean, second = dense_moments(shape)
    second[5, 5] = mean.ravel()[5] * (1 if value > 0 else 0) + value
    if np.isnan(value):
        second[5, 5] = np.nan
    with pytest.raises(ValueError, match=r"second moment must|0 <= a_jk <= min\(mean_j, mean_k\)"):
        Moments(mean, Dense(second, shape), "exact", CLOSED)


@BOTH
def test_a_second_moment_above_the_mean_is_refused(shape):
    with pytest.raises(ValueError, match=r"0 <= a_jk <= min\(mean_j, mean_k\), got a smallest entry of 0.5 and an exc"):
        Moments(np.full(shape, 0.4), Constant(0.5, shape), "exact", CLOSED)


@BOTH
def test_a_negative_second_moment_is_refused(shape):
    with pytest.raises(ValueError, match=r"0 <= a_jk <= min\(mean_j, mean_k\), got a smallest entry of -0.1"):
        Moments(np.full(shape, 0.4), Constant(-0.1, shape), "exact", CLOSED)


@BOTH
@pytest.mark.parametrize("index", range(8))
def test_a_direction_of_negative_variance_is_refused(shape, index):
    """Constant, smooth, rough, corner and checkerboard directions are all seen, on large images too."""
    h, w = shape
    y, x = (np.arange(h)[:, None] + 0.5) / h, (np.arange(w)[None, :] + 0.5) / w
    waves = [np.cos(np.pi * (a * y + b * x)) for a, b in ((0, 0), (1, 0), (0, 1), (2, 3), (h - 1, 0), (0, w - 1))]
    corner, checker = np.zeros(shape), (-1.0) ** np.add.outer(np.arange(h), np.arange(w))
    corner[0, 0] = 1.0
    u = [*waves, corner, checker][index]
    u = u / np.linalg.norm(u)
    mean, second = np.full(shape, 0.5), np.full((h * w, h * w), 0.25) + 0.05 * np.eye(h * w)
    Moments(mean, Dense(second, shape), "exact", CLOSED)
    second -= 0.0501 * np.outer(u, u)  # hardly any other direction has a negative variance
    with pytest.raises(
        ValueError, match=r"second - mean mean\^T must be positive semi-definite, got a direction of variance -"
    ):
        Moments(mean, Dense(second, shape), "exact", CLOSED)


@BOTH
@pytest.mark.parametrize(("times", "fine"), [(0.5, True), (2.0, False)])
def test_a_variance_may_be_below_zero_by_rounding(shape, times, fine):
    """By 1e-10 for each pixel, along a map of norm 1."""
    d = shape[0] * shape[1]
    u = np.full(d, d**-0.5)
    second = np.full((d, d), 0.25) + 0.05 * np.eye(d) - (0.05 + times * 1e-10 * d) * np.outer(u, u)
    if fine:
        Moments(np.full(shape, 0.5), Dense(second, shape), "exact", CLOSED)
    else:
        with pytest.raises(ValueError, match="must be positive semi-definite, got a direction of variance -"):
            Moments(np.full(shape, 0.5), Dense(second, shape), "exact", CLOSED)


@BOTH
def test_mean_and_second_moment_of_different_laws_are_refused(shape):
    with pytest.raises(ValueError, match="mean and second moment must come from one law"):
        Moments(np.full(shape, 0.5), Constant(0.2, shape), "exact", CLOSED)


@pytest.mark.parametrize("shape", [(1, 1), (1, 6), (5, 1), (7, 11)], ids=str)
def test_stationary_moments_of_any_rectangle(shape):
    h, w = shape
    table = np.random.default_rng(10).normal(size=(2 * h - 1, 2 * w - 1))
    operator = Stationary(table + table[::-1, ::-1])
    u = np.random.default_rng(11).normal(size=(2, *shape))
    close(operator.apply(u).reshape(2, -1), u.reshape(2, -1) @ operator.dense())
    close(operator.by_displacement(), reference.displacement_means(operator.dense(), shape))


def test_stationary_moments_need_a_table_of_displacements():
    with pytest.raises(
        ValueError, match=r"expected one value for each displacement \[2H-1, 2W-1\], got a table of shape"
    ):
        Stationary(np.zeros((4, 5)))
    with pytest.raises(ValueError, match="a table of displacements must be equal at p and -p, got a gap of 1;"):
        Stationary(np.array([[0.0, 0.5, 1.0]]))


def test_any_negative_eigenvalue_is_seen_on_small_images():
    mean, second = np.full(SMALL, 0.5), np.full((144, 144), 0.25) + 0.05 * np.eye(144)
    u = np.random.default_rng(9).normal(size=144)
    u /= np.linalg.norm(u)
    second -= 0.0501 * np.outer(u, u)
    with pytest.raises(ValueError, match="must be positive semi-definite"):
        Moments(mean, Dense(second, SMALL), "exact", CLOSED)


def test_an_asymmetric_second_moment_is_refused():
    mean, second = dense_moments(SMALL)
    second[3, 7] += 1e-6
    with pytest.raises(ValueError, match="the second moment must be symmetric, got a_jk != a_kj"):
        Moments(mean, Dense(second, SMALL), "exact", CLOSED)


def test_an_off_diagonal_entry_above_the_smaller_mean_is_refused():
    mean, second = dense_moments(SMALL)
    second[3, 7] = second[7, 3] = min(mean.ravel()[3], mean.ravel()[7]) + 1e-6
    with pytest.raises(ValueError, match=r"0 <= a_jk <= min\(mean_j, mean_k\)"):
        Moments(mean, Dense(second, SMALL), "exact", CLOSED)


def test_tolerances_are_for_rounding_only():
    """An error of 1e-8 in a closed form is refused; sample moments get a hundred times the slack."""
    sampled = Provenance("sampled", 0.1, "test")
    shape = (2, 2)
    with pytest.raises(ValueError, match="positive semi-definite"):
        Moments(np.full(shape, 0.5), Constant(0.25 - 1e-9, shape), "exact", CLOSED)
    Moments(np.full(shape, 0.5), Constant(0.25 - 1e-9, shape), "exact", sampled)
    with pytest.raises(ValueError, match="positive semi-definite"):
        Moments(np.full(shape, 0.5), Constant(0.25 - 1e-7, shape), "exact", sampled)


def test_sizes_and_laws_must_be_known():
    with pytest.raises(ValueError, match=r"expected mean and second moment of one size, got \(2, 3\) and \(3, 2\)"):
        Moments(np.full((2, 3), 0.5), Constant(0.3, (3, 2)), "exact", CLOSED)
    with pytest.raises(ValueError, match=r"expected law among \['exact', 'paper'\], got 'papers'; choose one"):
        Moments(np.full((2, 3), 0.5), Constant(0.3, (2, 3)), "papers", CLOSED)


@BOTH
def test_sample_moments(shape):
    q = draws(shape)
    moments = Moments.from_draws(q, "paper")
    mean, second = dense_moments(shape)
    close(moments.mean, mean)
    close(moments.second.dense(), second)
    assert moments.law == "paper"
    assert moments.provenance.method == "sampled"
    assert moments.provenance.error == pytest.approx(float((q**2).std(axis=0).max()) / np.sqrt(len(q)), rel=1e-12)
    assert moments.provenance.detail == "40 draws"
    with pytest.raises(ValueError, match=r"the mean of q must lie in \[0, 1\]"):
        Moments.from_draws(2 * q, "paper")


def test_a_mixture_needs_one_weight_for_each_part_and_parts_of_one_size():
    small, large = Constant(0.1, (2, 2)), Constant(0.1, (3, 2))
    with pytest.raises(ValueError, match=r"one weight for each part and parts of one size, got 1 weights and sizes"):
        Mixture((1.0,), (small, small))
    with pytest.raises(ValueError, match=r"got 2 weights and sizes \[\(2, 2\), \(3, 2\)\]"):
        Mixture((0.5, 0.5), (small, large))
