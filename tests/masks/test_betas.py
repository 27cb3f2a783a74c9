"""Integrals and Gauss rules under the Beta law of lam, interval by interval, against SciPy and each other."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import integrate, special

from msda_theory.masks.betas import gauss, interval_moments, refined

EDGES = np.array([0.0, 0.1, 0.4, 0.45, 0.9, 1.0])
WHOLE = np.array([0.0, 1.0])


def density(lam: float, alpha: float) -> float:
    log = special.xlogy(alpha - 1, lam) + special.xlog1py(alpha - 1, -lam)
    return float(np.exp(log - special.betaln(alpha, alpha)))


@pytest.mark.parametrize("alpha", [0.7, 1.0, 2.5, 8.0, 40.0])
def test_moments_of_intervals_equal_quadrature(alpha):
    found = interval_moments(alpha, EDGES, 3)
    assert found.shape == (4, 5)
    for p in range(4):
        for k in range(1, 4):  # inside, where the density is not singular
            expected, error = integrate.quad(
                lambda lam, p=p: lam**p * density(lam, alpha), EDGES[k], EDGES[k + 1], epsabs=1e-13, epsrel=1e-12
            )
            assert found[p, k] == pytest.approx(expected, rel=1e-10, abs=10 * error)
    np.testing.assert_allclose(found.sum(axis=1)[:2], [1, 0.5], rtol=1e-13)
    np.testing.assert_allclose(found.sum(axis=1)[2], (alpha + 1) / (4 * alpha + 2), rtol=1e-13)


@pytest.mark.parametrize("order", [2, 12])
@pytest.mark.parametrize("edges", [EDGES, WHOLE, EDGES[1:-1]], ids=["ends", "whole", "inside"])
@pytest.mark.parametrize("alpha", [1e-3, 0.2, 1.0, 2.5, 30.0, 1e5, 1e7])
def test_nodes_lie_in_their_interval_and_weights_have_its_probability(alpha, edges, order):
    nodes, weights = gauss(alpha, edges, order)
    assert nodes.shape == weights.shape == (len(edges) - 1, order)
    # at an end that is nearly all of the law, nodes round to it
    assert (nodes >= edges[:-1, None]).all()
    assert (nodes <= edges[1:, None]).all()
    assert (weights >= 0).all()
    np.testing.assert_allclose(weights.sum(axis=1), interval_moments(alpha, edges, 0)[0], rtol=1e-12)


@pytest.mark.parametrize("alpha", [1e-3, 0.2, 0.7, 1.0, 1.5, 2.0, 4.0, 8.0, 8.5, 30.0, 1e3, 1e5, 1e7])
@pytest.mark.parametrize("edges", [EDGES, WHOLE, EDGES[:3]], ids=["five", "whole", "two"])
def test_refined_intervals_integrate_powers_to_rounding(alpha, edges):
    """Sums over the new intervals of an old one: exact moments of it, which take no nodes."""
    finer = refined(alpha, edges, 16)
    nodes, weights = gauss(alpha, finer, 16)
    owner = np.searchsorted(edges, (finer[:-1] + finer[1:]) / 2) - 1
    exact = interval_moments(alpha, edges, 3)
    for p in range(4):
        sums = np.zeros(len(edges) - 1)
        np.add.at(sums, owner, (weights * nodes**p).sum(axis=1))
        np.testing.assert_allclose(sums, exact[p], rtol=2e-11, atol=1e-15)


@pytest.mark.parametrize("alpha", [1e-3, 0.7, 2.5, 8.5, 200.0])
def test_refined_intervals_are_as_narrow_as_stated(alpha):
    """No wider than four standard deviations; none reaches from the ends 0 and 1 by a ratio over 4, but those there."""
    finer = refined(alpha, EDGES, 16)
    assert set(EDGES) <= set(finer)
    assert (np.diff(finer) > 0).all()
    low, high = finer[:-1], finer[1:]
    # the last interval to 1 may be longer where a step reaches beyond
    width = 4 * np.sqrt(1 / (4 * (2 * alpha + 1)))
    assert (high - low <= width * (1 + 1e-12)).all()
    assert (high[1:] <= 4 * low[1:] * (1 + 1e-12)).all()
    inner = high < 1
    assert ((1 - low[inner]) <= 4 * (1 - high[inner]) * (1 + 1e-12)).all()


def test_refined_intervals_are_no_narrower_than_they_must_be():
    """Four standard deviations where that is the limit, a ratio of 4 where this is."""
    halves = np.array([0.0, 0.5, 1.0])
    assert np.diff(refined(200.0, halves, 16)).max() == pytest.approx(2 / np.sqrt(401), rel=1e-12)
    small = refined(0.3, np.array([0.0, 1e-4, 0.5, 1.0]), 16)
    np.testing.assert_allclose(small[:5], [0, 1e-4, 4e-4, 16e-4, 64e-4], rtol=1e-12)


def test_nothing_is_refined_where_one_rule_is_exact():
    for alpha, order in ((1.0, 2), (1.0, 16), (8.0, 16), (3.0, 6)):
        np.testing.assert_array_equal(refined(alpha, EDGES, order), EDGES)
    for alpha in (0.3, 50.0):
        np.testing.assert_array_equal(refined(alpha, WHOLE, 16), WHOLE)
    halves = np.array([0.0, 0.5, 1.0])
    np.testing.assert_array_equal(refined(8.0, halves, 16), halves)
    for alpha, order in ((9.0, 16), (8.0, 15), (7.9, 16)):
        assert len(refined(alpha, halves, order)) > 3
