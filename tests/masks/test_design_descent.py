"""The descent of a designed law: value and slope by definition, the nearest covariance, where and when it stops."""

from __future__ import annotations

from dataclasses import replace

import naive
import numpy as np
import pytest
from scipy import fft, optimize
from torus_maps import correlations, even

from msda_theory.masks import wishes
from msda_theory.masks.design import _fold, _Problem, design
from msda_theory.masks.field import Covariance, Field
from msda_theory.masks.orthants import Orthant

LOW, MIDDLE, HIGH = wishes.reachable(1.0)
SHAPE = (4, 5)
LABELS = pytest.mark.parametrize("label", ["nominal", "pixels"])


def coefficient(r: np.ndarray, label: str, alpha: float = 1.0) -> np.ndarray:
    """a(p) on the torus of a field with the correlations r, from its moments."""
    field = Field(alpha=alpha, label=label, covariance=Covariance(r, r.shape, "test"))
    h, w = r.shape
    return field.moments(r.shape).second.by_displacement()[h - 1 :, w - 1 :]


def unfolded(torus: np.ndarray) -> np.ndarray:
    """The table [2H-1, 2W-1] of a map on the torus."""
    return torus[np.ix_(*(np.arange(1 - n, n) % n for n in torus.shape))]


def problem(label: str, *, variance: float = 1.0, seed: int = 0) -> _Problem:
    wish = coefficient(correlations(seed, SHAPE), label) + np.random.default_rng(seed).normal(scale=0.02, size=SHAPE)
    weight = even(np.random.default_rng(seed + 1).uniform(0.5, 1.5, SHAPE))
    return _Problem(Orthant.of(1.0), even(wish), weight / weight.sum(), variance, label == "pixels", 1 / 6)


@LABELS
def test_the_value_is_half_the_weighted_squares_of_the_residual(label):
    p, r = problem(label), correlations(3, SHAPE)
    expected = sum(p.weight[j] * (coefficient(r, label)[j] - p.target[j]) ** 2 for j in np.ndindex(SHAPE)) / 2
    assert p._value(r) == pytest.approx(expected, rel=1e-12)


def test_correlations_that_a_step_took_too_far_count_as_those_at_the_end():
    p, r = problem("nominal"), correlations(3, SHAPE)
    for far, end in ((-1.5, -1.0), (1.5, 1.0)):
        r[1, 2] = end
        value = p._value(r)
        r[1, 2] = far
        assert p._value(r) == value
        slope, r[1, 2] = p._gradient(r)[1, 2], np.sign(end) * 0.999
        near = Orthant.of(1.0).slope(r)[1, 2]
        expected = p.weight[1, 2] * (float(Orthant.of(1.0)(np.array(end))) - 1 / 6 - p.target[1, 2]) * near
        assert slope == pytest.approx(expected, rel=1e-12)


def test_where_nothing_is_wanted_pairs_start_without_correlation():
    p = problem("nominal", variance=0.7)
    weight = p.weight.copy()
    weight[2, 1] = weight[2, 4] = 0.0
    r = replace(p, weight=weight).pairwise(p.target + 1 / 6)
    assert r[2, 1] == r[2, 4] == 0.0
    assert r[0, 0] == 0.7
    r[2, 1] = r[2, 4] = float(Orthant.of(1.0).inverse(np.array(p.target[2, 1] + 1 / 6)))
    np.testing.assert_allclose(Orthant.of(1.0)(r.ravel()[1:]) - 1 / 6, p.target.ravel()[1:], atol=1e-12)


@LABELS
def test_the_slope_is_that_of_the_value(label):
    """Central differences at every displacement but p = 0, whose correlation is kept."""
    p, r, step = problem(label), correlations(3, SHAPE, variance=0.9), 1e-5
    gradient = p._gradient(r)
    for j in np.ndindex(SHAPE):
        high, low = r.copy(), r.copy()
        high[j] += step
        low[j] -= step
        expected = (p._value(high) - p._value(low)) / (2 * step) if j != (0, 0) else 0.0
        assert gradient[j] == pytest.approx(expected, rel=1e-6, abs=1e-10)


@pytest.mark.parametrize("variance", [1.0, 0.3, 1e-3, 0.0])
@pytest.mark.parametrize("scale", [0.01, 1.0, 50.0])
def test_the_projection_is_the_nearest_covariance_of_that_variance(variance, scale):
    """Its spectrum is what exceeds one level, found here by bisection; 0 at all frequencies for a variance of 0."""
    r = scale * np.random.default_rng(7).normal(size=SHAPE)
    p = problem("nominal", variance=variance)
    spectrum = fft.fft2(even(r)).real
    found = fft.fft2(p._project(r)).real
    if variance > 0:
        level = optimize.brentq(
            lambda c: np.maximum(spectrum - c, 0).mean() - variance, spectrum.min() - 2, spectrum.max(), xtol=1e-14
        )
        np.testing.assert_allclose(found, np.maximum(spectrum - level, 0), rtol=0, atol=1e-10 * max(scale, 1))
        assert p._project(r)[0, 0] == pytest.approx(variance, rel=1e-10)
    else:
        np.testing.assert_array_equal(found, np.zeros(SHAPE))


@LABELS
@pytest.mark.parametrize("variance", [1.0, 0.6])
def test_the_descent_ends_where_a_step_leads_nowhere(label, variance):
    p = problem(label, variance=variance, seed=5)
    r, steps = p.nearest(p._project(np.random.default_rng(2).normal(size=SHAPE)) * 0.5, 3000)
    assert 1 < steps < 3000
    assert r[0, 0] == variance
    np.testing.assert_array_equal(r, even(r))
    for size in (0.1, 1.0, 10.0):
        moved = p._project(r - size * p._gradient(r))
        np.testing.assert_allclose(moved, r, rtol=0, atol=1e-7 * max(1.0, size))
    rng = np.random.default_rng(1)
    for _ in range(50):  # no covariance nearby has a smaller sum of squares
        near = p._project(r + rng.normal(scale=10 ** rng.uniform(-6, -2), size=SHAPE))
        assert p._value(near) >= p._value(r) - 1e-15


def test_rounding_of_the_variance_does_not_stop_the_descent():
    """Found by this file: S has no finite slope at r = 1, and r(0) = 1 was kept but for 2e-16.

    The value then changed by 1e-12 from step to step, and the descent stopped 1e-5 from the nearest covariance.
    """
    p = problem("nominal", seed=5)
    assert p._project(np.random.default_rng(2).normal(size=SHAPE))[0, 0] == 1.0
    r, _ = p.nearest(p._project(np.random.default_rng(2).normal(size=SHAPE)) * 0.5, 3000)
    for k in range(5):
        again, _ = p.nearest(0.9 * r + np.random.default_rng(k).normal(scale=1e-2, size=SHAPE), 3000)
        np.testing.assert_allclose(again, r, rtol=0, atol=1e-8)


def plain_steps(p: _Problem, start: np.ndarray, value: float) -> int:
    """Steps of projected gradients of a fixed size, without momentum, until the value is reached."""
    r, step = p._project(start), 0
    while p._value(r) > value and step < 2000:
        r, step = p._project(r - 2.0 / p.weight.max() * p._gradient(r)), step + 1
    return step


def test_momentum_saves_most_of_the_steps():
    """A slow problem: the value is reached in a fifth of the steps that are needed without momentum."""
    shape = (9, 9)
    wish = wishes.decaying(shape, near=HIGH, far=LOW, length=3.0)
    target, weight = _fold(wish, shape, shape)
    p = _Problem(Orthant.of(1.0), target, weight, 1.0, False, 1 / 6)
    start = p.pairwise(target + 1 / 6)
    r, steps = p.nearest(start, 3000)
    assert 5 * steps < plain_steps(p, start, p._value(r) * (1 + 1e-6))


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_no_more_steps_than_allowed(steps):
    wish = wishes.decaying(SHAPE, near=HIGH, far=LOW, length=2.0)
    made, before = design(wish, max_steps=steps), design(wish, max_steps=steps - 1)
    assert (made.steps, before.steps) == (steps, steps - 1)
    assert made.rms < before.rms
    assert design(wish).steps > 5
    assert design(wish).rms < made.rms


@LABELS
def test_a_design_starts_from_the_wish_of_each_pair_and_minimises_its_own_residual(label):
    """By the moments of fields near the result: none is nearer to the wish."""
    wish = unfolded(coefficient(correlations(3, SHAPE, variance=0.8), label))
    wish += np.random.default_rng(3).normal(scale=0.03, size=wish.shape) * (wish < wish.max())
    wish = (wish + wish[::-1, ::-1]) / 2
    made = design(wish, label=label)
    assert made.steps > 0
    assert made.worst > 1e-3
    r, rng = made.strategy.on(SHAPE).values, np.random.default_rng(4)
    p = _Problem(Orthant.of(1.0), r, np.ones(SHAPE), r[0, 0], False, 0.0)
    h, w = SHAPE
    pairs = np.multiply.outer(h - np.abs(np.arange(1 - h, h)), w - np.abs(np.arange(1 - w, w)))
    for _ in range(30):
        near = p._project(r + rng.normal(scale=10 ** rng.uniform(-5, -2), size=SHAPE))
        a = Field(label=label, covariance=Covariance(near, SHAPE, "near")).moments(SHAPE).second.by_displacement()
        assert np.sqrt((pairs * (a - wish) ** 2).sum() / pairs.sum()) >= made.rms - 1e-12


def test_the_lowest_spectral_value_is_over_the_mean():
    """Of the wish's own correlations, here set beforehand; soft masks included; 0 for a law without a field."""
    for variance in (1.0, 0.4):
        r = correlations(3, SHAPE, variance=variance)
        spectrum = fft.fft2(r).real
        spectrum[0, 0] -= 1.5 * spectrum[0, 0]
        r = fft.ifft2(spectrum).real
        r *= variance / r[0, 0]
        made = design(unfolded(Orthant.of(1.0)(r) - 1 / 6))
        own = fft.fft2(r).real
        assert made.lowest == pytest.approx(own.min() / own.mean(), rel=1e-5)
    assert design(Field(sharpness=0.0).moments(SHAPE).second.by_displacement()).lowest == 0.0


def test_the_ends_of_the_diagonal_are_masks_of_two_values_and_no_field():
    for off in (-1e-13, 0.0, 1e-13):
        hard = design(wishes.flat(SHAPE, diagonal=HIGH + off, level=0.25))
        assert hard.strategy.on(SHAPE).values[0, 0] == 1.0
        none = design(wishes.flat(SHAPE, diagonal=MIDDLE + off, level=MIDDLE))
        assert none.strategy.on(SHAPE).values[0, 0] == 0.0


def test_what_a_design_takes_and_names():
    wish = wishes.flat(SHAPE, diagonal=HIGH, level=0.25)
    assert design(wish).strategy.covariance.label == "designed"
    assert design(wish, name="flat").strategy.covariance.label == "flat"
    with naive.as_users_run_it():
        single = wishes.flat(SHAPE, diagonal=0.3, level=0.25).astype(np.float32)
        assert design(single).wanted.dtype == design(single.tolist()).wanted.dtype == np.float64
    with pytest.raises(ValueError, match=r"expected label among \['nominal', 'pixels'\], got 'none'; choose one"):
        design(wish, label="none")
    for table in (wish[:, 1:], wish[1:], wish[0]):
        with naive.as_users_run_it(), pytest.raises(ValueError, match=r"\[2H-1, 2W-1\], got shape"):
            design(table)
