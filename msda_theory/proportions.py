"""Shares of correct answers: Wilson intervals, Newcombe's interval of a difference, paired differences."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats


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

    @property
    def mean(self) -> float:
        """``hits / n``."""
        return self.hits / self.n

    @property
    def se(self) -> float:
        """``sqrt(mean (1 - mean) / n)``; it is 0 at 0 and at n hits, where `interval` still has a width."""
        return math.sqrt(self.mean * (1 - self.mean) / self.n)

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Wilson's score interval: all p with ``(mean - p)^2 <= z^2 p (1 - p) / n``.

        With z the normal quantile of ``(1 + level) / 2``: centre ``(mean + z^2/(2n)) / (1 + z^2/n)``, half width
        ``z sqrt(mean (1 - mean)/n + z^2/(4 n^2)) / (1 + z^2/n)``. Source: Wilson, JASA 1927.

        Raises:
            ValueError: if ``level`` is not in (0, 1).
        """
        z = normal_quantile(level)
        scale = 1 + z * z / self.n
        centre = (self.mean + z * z / (2 * self.n)) / scale
        half = z * math.sqrt(self.mean * (1 - self.mean) / self.n + z * z / (4 * self.n**2)) / scale
        low = 0.0 if self.hits == 0 else centre - half
        return low, 1.0 if self.hits == self.n else centre + half

    def __format__(self, spec: str) -> str:
        low, high = self.interval()
        spec = spec or ".4g"
        return f"{self.mean:{spec}} [{low:{spec}}, {high:{spec}}]"


@dataclass(frozen=True)
class PairedDifference:
    """Difference of two shares on the same n trials.

    Attributes:
        mean: share of the first minus share of the second, ``(only_first - only_second) / n``.
        se: ``sqrt(var / n)``, var the sample variance (1/(n-1)) of the n differences in {-1, 0, 1}.
        n: number of trials, at least 2.
        only_first, only_second: trials that only the first, only the second got right.
        p_value: exact two-sided McNemar test: a fair coin for each of the ``only_first + only_second`` trials; 1
            where there are none.
    """

    mean: float
    se: float
    n: int
    only_first: int
    only_second: int
    p_value: float

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Normal interval ``mean -+ z se``."""
        z = normal_quantile(level)
        return self.mean - z * self.se, self.mean + z * self.se


def paired_difference(first: np.ndarray, second: np.ndarray) -> PairedDifference:
    """Paired difference of two arrays [n] of bits on the same trials (model answers on the same images).

    Raises:
        TypeError: if they are not arrays of bool.
        ValueError: if they are not of one shape [n], n >= 2.
    """
    for bits in (first, second):
        if not (isinstance(bits, np.ndarray) and bits.dtype == np.bool_):
            raise TypeError(f"expected arrays of bool, got {getattr(bits, 'dtype', type(bits).__name__)}; pass bits.")
    if first.shape != second.shape or first.ndim != 1 or len(first) < 2:
        raise ValueError(
            f"expected bits of the same n >= 2 trials, got shapes {first.shape} and {second.shape}; evaluate both on "
            "the same images."
        )
    ahead, behind = int((first & ~second).sum()), int((second & ~first).sum())
    n = len(first)
    mean = (ahead - behind) / n
    variance = ((ahead + behind) - n * mean**2) / (n - 1)
    p = float(stats.binomtest(ahead, ahead + behind, 0.5).pvalue) if ahead + behind else 1.0
    return PairedDifference(mean, math.sqrt(max(variance, 0.0) / n), n, ahead, behind, p)


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
    if not 0 < level < 1:
        raise ValueError(f"expected a confidence level in (0, 1), got {level}; e.g. 0.95.")
    return float(stats.norm.ppf((1 + level) / 2))
