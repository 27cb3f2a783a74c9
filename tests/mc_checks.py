"""Statistical checks with a standard error and an error budget; n is fixed before looking."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy import stats


def assert_unbiased(draws: np.ndarray, truth: np.ndarray, *, alpha: float = 1e-6) -> None:
    """The mean of ``draws`` [n, ...] is ``truth`` [...]: z test of every entry, at family-wise level ``alpha``.

    Entries that never vary have no standard error: they must equal the truth to rounding.
    """
    draws, truth = np.asarray(draws, dtype=float), np.asarray(truth, dtype=float)
    assert draws.shape[1:] == truth.shape, f"draws of {draws.shape[1:]}, truth of {truth.shape}"
    assert np.isfinite(draws).all()
    assert np.isfinite(truth).all()
    n = len(draws)
    difference = np.abs(draws.mean(axis=0) - truth)
    varies = np.ptp(draws, axis=0) > 1e-12
    worst = float(difference[~varies].max(initial=0.0))
    assert worst <= 1e-11, f"an entry that never varies differs from the truth by {worst:.3g}"
    if varies.any():
        se = draws.std(axis=0, ddof=1)[varies] / math.sqrt(n)
        z = float((difference[varies] / se).max())
        bound = float(stats.norm.isf(alpha / (2 * truth.size)))
        assert z < bound, f"max |z| = {z:.2f}, allowed {bound:.2f}"


def assert_share(hits: int, n: int, probability: float, *, alpha: float = 1e-6) -> None:
    """``hits`` of ``n`` independent trials agree with ``probability``: exact binomial test."""
    p = float(stats.binomtest(hits, n, probability).pvalue)
    assert p > alpha, f"{hits} of {n} against {probability:.4f}: p = {p:.2g}"


def fails(check: Callable[[], None]) -> bool:
    """Whether ``check`` rejects; for evil twins."""
    try:
        check()
    except AssertionError:
        return True
    return False


def assert_mean_of_bounded(draws: np.ndarray, truth: np.ndarray, *, alpha: float, slack: float = 1e-12) -> None:
    """The mean of ``draws`` [n, ...] in [0, 1] is ``truth`` [...], by the empirical Bernstein bound.

    With sample variances V, ``|mean - truth| <= sqrt(2 V L / n) + 7 L / (3 (n - 1))``, ``L = ln(4 k / alpha)`` for k
    entries, holds for all entries with probability at least 1 - alpha, whatever n and the law (Maurer and Pontil,
    COLT 2009, Theorem 4): also for rare events, where a z test has no level.
    """
    draws, truth = np.asarray(draws, dtype=float), np.asarray(truth, dtype=float)
    assert draws.shape[1:] == truth.shape, f"draws of {draws.shape[1:]}, truth of {truth.shape}"
    assert np.isfinite(draws).all()
    assert np.isfinite(truth).all()
    assert draws.min() >= -1e-9
    assert draws.max() <= 1 + 1e-9
    n, wide = len(draws), math.log(4 * truth.size / alpha)
    bound = np.sqrt(2 * draws.var(axis=0, ddof=1) * wide / n) + 7 * wide / (3 * (n - 1)) + slack
    worst = float((np.abs(draws.mean(axis=0) - truth) / bound).max())
    assert worst <= 1, f"{worst:.2f} times the bound"
