"""Exact integrals and quadrature under lam ~ Beta(alpha, alpha), the nominal label weight of every strategy."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from jaxtyping import Float64
from scipy import special

from msda_theory.scalars import check_whole

Array = np.ndarray
_TINY = 1e-100
_MOST = 1000.0  # exponent of a Gauss-Jacobi weight at one end: its integral is below 2^1001


def interval_moments(alpha: float, edges: Float64[Array, " n1"], powers: int) -> Float64[Array, "p n"]:
    """``E[lam^p ; edges_k < lam < edges_k+1]`` for p = 0 .. powers, [powers + 1, n].

    ``E[lam^p; I] = prod_{k<p} (alpha + k) / (2 alpha + k) * P_{Beta(alpha + p, alpha)}(I)``; docs/theory.md, Eq. (6).
    """
    rows, factor = [], 1.0
    for p in range(powers + 1):
        rows.append(factor * np.diff(special.betainc(alpha + p, alpha, edges)))
        factor *= (alpha + p) / (2 * alpha + p)
    return np.stack(rows)


def gauss(
    alpha: float, edges: Float64[Array, " n1"], order: int
) -> tuple[Float64[Array, "n k"], Float64[Array, "n k"]]:
    """Gauss nodes and weights [n, order] for Beta(alpha, alpha) on each interval between ``edges``.

    The factors ``lam^(alpha-1)`` and ``(1-lam)^(alpha-1)`` that are singular at an end of an interval are taken into a
    Gauss-Jacobi weight, so integrands that are polynomials times smooth functions converge for every alpha > 0. The
    weights of an interval are scaled to sum to its exact probability. On intervals that are wide beside the standard
    deviation at large alpha they say no more than that: pass the edges that `refined` gives.

    Raises:
        TypeError, ValueError: if ``order`` is no whole number of at least 1.
        ValueError: if alpha is above 1001 and an interval that has probability begins at 0 or ends at 1, but not both:
            the Gauss-Jacobi weights are then out of the range of float64.
    """
    _check_order(order)
    mass = interval_moments(alpha, edges, 0)[0]
    nodes, weights = np.empty((len(mass), order)), np.empty((len(mass), order))
    for k, (low, high) in enumerate(pairwise(edges)):
        if mass[k] == 0:  # far out at large alpha, where the Jacobi weights overflow
            nodes[k], weights[k] = (low + high) / 2, 0.0
            continue
        left = alpha - 1 if low == 0.0 else 0.0
        right = alpha - 1 if high == 1.0 else 0.0
        if abs(left - right) > _MOST:
            raise ValueError(
                f"expected intervals as narrow as the law, got {low:g} .. {high:g} at alpha = {alpha:g}; pass the "
                "edges that refined() gives."
            )
        t, w = special.roots_jacobi(order, right, left)
        lam = low + (high - low) * (t + 1) / 2
        rest, log = np.ones_like(lam), np.zeros_like(lam)
        if low > 0.0:
            rest = rest * (lam / high) ** (alpha - 1)  # divided by its maximum against underflow at large alpha
            log += (alpha - 1) * np.log(lam)
        if high < 1.0:
            rest = rest * ((1 - lam) / (1 - low)) ** (alpha - 1)
            log += (alpha - 1) * np.log1p(-lam)
        if rest.max() < _TINY:  # the two factors, largest at opposite ends, underflow together
            rest = np.exp(log - log.max())
        nodes[k] = lam
        total = (w * rest).sum()
        weights[k] = mass[k] * w * rest / total
    return nodes, weights


def refined(alpha: float, edges: Float64[Array, " n1"], order: int) -> Float64[Array, " n2"]:
    """``edges`` with more between them, so that `gauss` of this order holds its intervals to rounding.

    Between new edges the density is smooth enough: no interval is wider than four standard deviations of
    Beta(alpha, alpha), and none that does not begin (end) at a singular end 0 (1) reaches from it by a ratio over 4,
    where the error of ``order`` nodes falls like ``3^(-2 order)``. Nothing is added where the density is a polynomial
    of degree below ``order`` (whole alphas up to order / 2), or all of it in the weight of one interval [0, 1].

    Raises:
        TypeError, ValueError: if ``order`` is no whole number of at least 1.
    """
    _check_order(order)
    if len(edges) == 2 or (float(alpha).is_integer() and 2 * alpha <= order):
        return edges
    width, found = 2 / np.sqrt(2 * alpha + 1), [float(edges[0])]
    for high in edges[1:]:
        while found[-1] < high:
            low = found[-1]
            reach = low + width if low == 0.0 else min(low + width, 4 * low)
            ends = high == 1.0 and reach >= 1.0
            found.append(1.0 if ends else min(float(high), reach, 1 - (1 - low) / 4))
    return np.array(found)


def _check_order(order: int) -> None:
    check_whole("order", order)
    if order < 1:
        raise ValueError(f"expected at least 1 Gauss node for each interval of lam, got order={order}; raise order.")
