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
