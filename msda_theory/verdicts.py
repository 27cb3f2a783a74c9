"""Verdicts on an approximation: does it put strategies in the right order, and up to which strength does it hold?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np
from jaxtyping import Float64
from scipy import stats

from msda_theory.estimate import Estimate

_MOST = 8  # 8! = 40,320 orders
_Z95 = 1.959963984540054


@dataclass(frozen=True)
class RankAgreement:
    """How well predictions order n things, strategies say.

    Attributes:
        kendall: Kendall's tau-b.
        spearman: Spearman's rho.
        p_value: share of all n! orders of the predictions whose tau is at least ``kendall``: exact, one-sided. The
            smallest possible value is 1/n!, 1/120 for five strategies.
        n: number of things.
    """

    kendall: float
    spearman: float
    p_value: float
    n: int


def rank_agreement(predicted: Sequence[float] | np.ndarray, measured: Sequence[float] | np.ndarray) -> RankAgreement:
    """Rank correlation of predicted and measured values [n], with the exact permutation test of no association.

    Raises:
        ValueError: if the two differ in length, are fewer than 3 or more than 8, not finite, or all equal.
    """
    a, b = (np.asarray(v, dtype=np.float64) for v in (predicted, measured))
    if a.ndim != 1 or a.shape != b.shape or not 3 <= len(a) <= _MOST:
        raise ValueError(
            f"expected as many predicted as measured values, 3 to {_MOST}, got shapes {a.shape} and {b.shape}; "
            "the test goes through every order."
        )
    if not (np.isfinite(a).all() and np.isfinite(b).all()) or np.ptp(a) == 0 or np.ptp(b) == 0:
        raise ValueError("expected finite values that are not all equal, got none that have an order; leave them out.")
    score = _concordance(a, b)
    # Ties stay ties under permutation: the score orders as tau does, which only divides by the numbers of pairs.
    scores = [_concordance(a[list(order)], b) for order in permutations(range(len(a)))]
    kendall, spearman = stats.kendalltau(a, b).statistic, stats.spearmanr(a, b).statistic
    return RankAgreement(float(kendall), float(spearman), float(np.mean(np.array(scores) >= score)), len(a))


def _concordance(a: Float64[np.ndarray, " n"], b: Float64[np.ndarray, " n"]) -> int:
    """Concordant less discordant pairs, twice."""
    return int((np.sign(a[:, None] - a) * np.sign(b[:, None] - b)).sum())


@dataclass(frozen=True)
class Radius:
    """Strength up to which an approximation holds; docs/theory.md, Eq. (9c).

    Attributes:
        value: the radius. 0 if the error is too large at the smallest scale already; the largest scale if it never is.
        low: the same for the errors raised by ``z`` standard errors.
        high: and lowered.
        tolerance: error allowed, as a share of the rise.
    """

    value: float
    low: float
    high: float
    tolerance: float


def radius(scales: Sequence[float], shares: Sequence[Estimate], *, tolerance: float = 0.1, z: float = _Z95) -> Radius:
    """Largest t such that the share of the rise that is predicted is within ``tolerance`` of 1 at t and all below.

    Between scales ``|share - 1|`` is interpolated linearly.

    Args:
        scales: t, increasing, positive.
        shares: (9b) at each scale, on the same draws.
        tolerance: allowed ``|share - 1|``.
        z: width of ``low`` and ``high`` in standard errors: pointwise bands, 95 % each by default.

    Raises:
        ValueError: scales that are not positive and increasing, or not one for each share; tolerance not positive.
    """
    t = np.asarray(scales, dtype=np.float64)
    if len(t) != len(shares) or not len(t) or not (t[0] > 0 and (np.diff(t) > 0).all()):
        raise ValueError(f"expected positive, increasing scales, one for each share, got {tuple(scales)}; sort them.")
    if not tolerance > 0:
        raise ValueError(f"expected a tolerance > 0, got {tolerance}; 0.1 allows errors of a tenth of the rise.")
    error = np.abs([s.mean - 1 for s in shares])
    band = z * np.array([s.se for s in shares])
    ends = (error, error + band, np.maximum(error - band, 0.0))
    value, low, high = (_crossing(t, e, tolerance) for e in ends)
    return Radius(value, low, high, tolerance)


def _crossing(t: Float64[np.ndarray, " T"], error: Float64[np.ndarray, " T"], tolerance: float) -> float:
    above = np.flatnonzero(error > tolerance)
    if not len(above):
        return float(t[-1])
    k = int(above[0])
    if k == 0:
        return 0.0
    return float(t[k - 1] + (tolerance - error[k - 1]) / (error[k] - error[k - 1]) * (t[k] - t[k - 1]))
