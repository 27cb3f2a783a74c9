"""Parts of the Gaussian field: its wrapped covariance, what it says of itself, its limits, rounding it allows."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import fft
from torus_maps import correlations

from msda_theory.masks.field import Covariance, Field, _deficit, _wrapped, excess
from msda_theory.masks.orthants import Orthant

SHAPE = (4, 5)


def wrapped(length: float, n: int) -> list[float]:
    """The sum over turns, pixel by pixel."""
    sums = [math.fsum(math.exp(-((p + k * n) ** 2) / (2 * length**2)) for k in range(-400, 401)) for p in range(n)]
    return [s / sums[0] for s in sums]


@pytest.mark.parametrize("n", [1, 2, 5, 60])
@pytest.mark.parametrize("length", [0.02, 0.3, 2.0, 3.0, 17.0])
def test_the_covariance_is_the_sum_over_turns(length, n):
    np.testing.assert_allclose(_wrapped(length, n), wrapped(length, n), rtol=1e-13, atol=1e-300)
    np.testing.assert_allclose(_deficit(length, n), 1 - np.array(wrapped(length, n)), rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("n", [1, 4, 7])
def test_lengths_that_are_far_too_short_or_too_long(n):
    apart = np.eye(1, n)[0]
    for length in (0.0, 1e-200, 0.0199):
        np.testing.assert_array_equal(_wrapped(length, n), apart)
        np.testing.assert_array_equal(_deficit(length, n), 1 - apart)
    for length in (100.0 * n, 101.0 * n, 1e200):
        np.testing.assert_allclose(_wrapped(length, n), np.ones(n), rtol=1e-13)


@pytest.mark.parametrize("variance", [1.0, 0.6])
def test_moments_of_a_covariance_that_is_no_product(variance):
    """``a(p) = S(r(p)) - E[lam (2 lam - 1)]``, displacement by displacement."""
    r = correlations(1, SHAPE, variance)
    a = Field(alpha=0.7, covariance=Covariance(r, SHAPE)).moments(SHAPE).second.by_displacement()
    for py in range(-3, 4):
        for px in range(-4, 5):
            expected = float(Orthant.of(0.7)(np.array(r[py % 4, px % 5]))) - excess(0.7)
            assert a[3 + py, 4 + px] == pytest.approx(expected, abs=1e-12)


def test_a_law_with_pixel_labels_states_three_times_the_error_of_the_curve():
    error = Orthant.of(0.3).error
    assert error > 0
    for law, times in (("exact", 3), ("paper", 1)):
        assert Field(alpha=0.3, label="pixels").moments(SHAPE, law=law).provenance.error == times * error
        assert Field(alpha=0.3).moments(SHAPE, law=law).provenance.error == error
    assert Field(alpha=0.3).moments(SHAPE).provenance.method == "quadrature"


def test_a_field_that_is_nearly_sharp_has_nearly_the_masks_of_the_sharp_one():
    """From the same numbers: ``Phi((t - V) / small)`` is the indicator of V <= t but for pixels near t."""
    lam = np.full(50, 0.3)
    sharp, soft = (Field(sharpness=s).masks(lam, (8, 9), rng=np.random.default_rng(2)).mask for s in (1.0, 1 - 1e-9))
    assert np.mean(np.abs(sharp - soft) < 1e-6) > 0.99


def test_covariances_have_names():
    assert str(Field().on(SHAPE)) == "gaussian"
    assert str(Covariance(correlations(1, SHAPE), SHAPE)) == "designed"
    assert str(Covariance(correlations(1, SHAPE), SHAPE, "mine")) == "mine"


@pytest.mark.parametrize(("times", "fine"), [(0.5, True), (2.0, False)])
def test_a_covariance_may_be_off_by_rounding(times, fine):
    """1e-12 between r(p) and r(-p); 1e-12 for each pixel below 0 in the spectrum."""
    odd = correlations(2, SHAPE, 0.9)
    odd[1, 2] += times * 1e-12
    spectrum = np.ones(SHAPE)
    spectrum[0, 0] = -times * 1e-12 * spectrum.size
    low = fft.ifft2(spectrum).real
    for values, text in ((odd, "a covariance must be equal at p and -p"), (low, "a covariance must have a spectrum")):
        if fine:
            assert Covariance(values, SHAPE).size == SHAPE
        else:
            with pytest.raises(ValueError, match=text):
                Covariance(values, SHAPE)
