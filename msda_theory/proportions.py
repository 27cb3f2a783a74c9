"""Shares of correct answers: alone, as differences of independent shares, and as paired differences; with intervals."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool
from scipy import stats

Bits = Bool[np.ndarray, " m"]


@dataclass(frozen=True)
class Proportion:
    """``hits`` of ``n`` independent trials.

    Raises:
        ValueError: unless ``0 <= hits <= n`` and ``n >= 1``.
    """

    hits: int
    n: int

    def __post_init__(self) -> None:
        if not (0 <= self.hits <= self.n and self.n >= 1):
            raise ValueError(f"expected 0 <= hits <= n with n >= 1, got {self.hits} of {self.n}; count again.")

    @classmethod
    def of(cls, bits: Bits) -> Proportion:
        """The share of true entries."""
        return cls(int(bits.sum()), len(bits))

    @property
    def mean(self) -> float:
        """``hits / n``."""
        return self.hits / self.n

    @property
    def se(self) -> float:
        """``sqrt(mean (1 - mean) / n)``; it is 0 at 0 and at n hits, where `interval` still has a width."""
        return math.sqrt(self.mean * (1 - self.mean) / self.n)

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Wilson's score interval: all p with ``(mean - p)^2 <= z^2 p (1 - p) / n``, z as in `normal_quantile`.

        It covers the choice of the trials. Source: E. B. Wilson, "Probable inference", JASA 22 (1927).

        Raises:
            ValueError: if ``level`` is not in (0, 1).
        """
        check_level(level)
        found = stats.binomtest(self.hits, self.n).proportion_ci(level, method="wilson")
        return float(found.low), float(found.high)

    def __format__(self, spec: str) -> str:
        low, high = self.interval()
        spec = spec or ".4g"
        return f"{self.mean:{spec}} [{low:{spec}}, {high:{spec}}]"


@dataclass(frozen=True)
class PairedDifference:
    """Difference of two shares on the same n trials, from the trials on which the two disagree.

    Attributes:
        only_first: b, hits of the first alone.
        only_second: c, hits of the second alone.
        n: number of trials.

    Raises:
        ValueError: unless ``0 <= b, c``, ``b + c <= n`` and ``n >= 1``.
    """

    only_first: int
    only_second: int
    n: int

    def __post_init__(self) -> None:
        b, c = self.only_first, self.only_second
        if not (self.n >= 1 and min(b, c) >= 0 and b + c <= self.n):
            raise ValueError(
                f"a paired difference needs counts >= 0 of at most n trials, got {b} and {c} of {self.n}; count again."
            )

    @property
    def mean(self) -> float:
        """Share of the first minus share of the second, ``(b - c) / n``."""
        return (self.only_first - self.only_second) / self.n

    @property
    def se(self) -> float:
        """``sqrt(var / n)``, ``var = (b + c - (b - c)^2 / n) / (n - 1)`` the sample variance of the n differences.

        NaN for one trial. It is 0 where the two never disagree; `interval` still has a width.
        """
        if self.n == 1:
            return math.nan
        b, c = self.only_first, self.only_second
        return math.sqrt((b + c - (b - c) ** 2 / self.n) / (self.n - 1) / self.n)

    @property
    def p_value(self) -> float:
        """Exact McNemar test of equal shares: a fair coin for each of the b + c trials, two-sided; 1 if there are none.

        Source: Q. McNemar, "Note on the sampling error of the difference between correlated proportions",
        Psychometrika 12 (1947); exact by the binomial law.
        """
        disagreements = self.only_first + self.only_second
        return float(stats.binomtest(self.only_first, disagreements).pvalue) if disagreements else 1.0

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Interval of Bonett and Price: the normal one, with one more in each of b and c and two more in n.

        With ``p = (b + 1) / (n + 2)``, ``r = (c + 1) / (n + 2)`` and z the normal quantile of ``(1 + level) / 2``:
        ``p - r -+ z sqrt((p + r - (p - r)^2) / (n + 2))``, cut at -1 and 1. It has a width where b and c are 0; its
        centre ``(b - c) / (n + 2)`` is not `mean`. Source: D. G. Bonett, R. M. Price, "Adjusted Wald confidence
        interval for a difference of binomial proportions based on paired data", J. Educ. Behav. Stat. 37 (2012).

        Raises:
            ValueError: if ``level`` is not in (0, 1).
        """
        p, r = (self.only_first + 1) / (self.n + 2), (self.only_second + 1) / (self.n + 2)
        half = normal_quantile(level) * math.sqrt((p + r - (p - r) ** 2) / (self.n + 2))
        return max(-1.0, p - r - half), min(1.0, p - r + half)


def paired_difference(first: Bits, second: Bits) -> PairedDifference:
    """Paired difference of two rows of bits on the same trials (e.g. answers of two models to the same images).

    Raises:
        TypeError: if they are not arrays of bool.
        ValueError: if they are not of one shape [n], n >= 1.
    """
    for bits in (first, second):
        if not (isinstance(bits, np.ndarray) and bits.dtype == np.bool_):
            raise TypeError(f"expected arrays of bool, got {getattr(bits, 'dtype', type(bits).__name__)}; pass bits.")
    if first.shape != second.shape or first.ndim != 1 or not len(first):
        raise ValueError(
            f"expected bits of the same n >= 1 trials, got shapes {first.shape} and {second.shape}; evaluate both on "
            "the same images."
        )
    return PairedDifference(int((first & ~second).sum()), int((second & ~first).sum()), len(first))


def difference_interval(first: Proportion, second: Proportion, level: float = 0.95) -> tuple[float, float]:
    """Interval of ``first.mean - second.mean`` for independent samples, from the two Wilson intervals.

    ``d - sqrt((p1 - l1)^2 + (u2 - p2)^2)`` to ``d + sqrt((u1 - p1)^2 + (p2 - l2)^2)``; unlike the normal interval it
    has a width where a share is 0 or 1. Source: Newcombe, Statistics in Medicine 1998, method 10.
    """
    (l1, u1), (l2, u2) = first.interval(level), second.interval(level)
    d = first.mean - second.mean
    below = math.hypot(first.mean - l1, u2 - second.mean)
    return d - below, d + math.hypot(u1 - first.mean, second.mean - l2)


def normal_quantile(level: float) -> float:
    """z with P(|N(0, 1)| <= z) = ``level``.

    Raises:
        ValueError: if ``level`` is not in (0, 1).
    """
    check_level(level)
    return float(stats.norm.ppf((1 + level) / 2))


def check_level(level: float) -> None:
    """Raise unless ``level`` is in (0, 1)."""
    if not 0 < level < 1:
        raise ValueError(f"expected a confidence level in (0, 1), got {level}; e.g. 0.95.")
