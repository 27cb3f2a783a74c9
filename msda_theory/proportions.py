"""Shares of images with their intervals, alone and as paired differences."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool
from scipy import stats

_Z = 1.959963984540054
Bits = Bool[np.ndarray, " m"]


@dataclass(frozen=True)
class Proportion:
    """A share ``successes / n`` of independent images, with the Wilson interval.

    Attributes:
        successes: number of successes, 0 .. n.
        n: number of images.

    Raises:
        ValueError: unless ``0 <= successes <= n`` and ``n >= 1``.
    """

    successes: int
    n: int

    def __post_init__(self) -> None:
        if not (self.n >= 1 and 0 <= self.successes <= self.n):
            raise ValueError(f"a share needs 0 <= successes <= n and n >= 1, got {self.successes} of {self.n}.")

    @classmethod
    def of(cls, bits: Bits) -> Proportion:
        """The share of true entries."""
        return cls(int(bits.sum()), len(bits))

    @property
    def mean(self) -> float:
        """successes / n."""
        return self.successes / self.n

    @property
    def se(self) -> float:
        """Standard error ``(p (1 - p) / n)^(1/2)``; 0 at the ends, where only the interval speaks."""
        return math.sqrt(self.mean * (1 - self.mean) / self.n)

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Wilson (score) interval: the p with ``|mean - p| <= z (p (1 - p) / n)^(1/2)``.

        It covers the choice of the images.
        Source: E. B. Wilson, Probable inference, JASA 22 (1927).
        """
        found = stats.binomtest(self.successes, self.n).proportion_ci(level, method="wilson")
        return float(found.low), float(found.high)


@dataclass(frozen=True)
class PairedDifference:
    """Difference of two shares on the same images, ``mean = (b - c) / n``, from the images on which they disagree.

    Attributes:
        first_only: b, images with a success of the first alone.
        second_only: c, images with a success of the second alone.
        n: number of images.

    Raises:
        ValueError: unless ``0 <= b, c``, ``b + c <= n`` and ``n >= 1``.
    """

    first_only: int
    second_only: int
    n: int

    def __post_init__(self) -> None:
        b, c = self.first_only, self.second_only
        if not (self.n >= 1 and min(b, c) >= 0 and b + c <= self.n):
            raise ValueError(f"a paired difference needs counts >= 0 of at most n images, got {b} and {c} of {self.n}.")

    @classmethod
    def of(cls, first: Bits, second: Bits) -> PairedDifference:
        """From two rows of bits about the same images.

        Raises:
            ValueError: if their lengths differ.
        """
        if first.shape != second.shape:
            raise ValueError(
                f"expected bits about the same images, got {len(first)} and {len(second)}; evaluate both on one set."
            )
        return cls(int((first & ~second).sum()), int((second & ~first).sum()), len(first))

    @property
    def mean(self) -> float:
        """(b - c) / n."""
        return (self.first_only - self.second_only) / self.n

    @property
    def se(self) -> float:
        """``((b + c - (b - c)^2 / n) / n^2)^(1/2)``: the standard error of the mean of the images' differences."""
        b, c = self.first_only, self.second_only
        return math.sqrt(b + c - (b - c) ** 2 / self.n) / self.n

    @property
    def p_value(self) -> float:
        """Exact McNemar test of equal shares: two-sided binomial test of b among b + c; 1 if they never disagree."""
        discordant = self.first_only + self.second_only
        return float(stats.binomtest(self.first_only, discordant).pvalue) if discordant else 1.0

    def interval(self) -> tuple[float, float]:
        """95 % interval of Bonett and Price: Wald's, with one image more in each of b and c and two more in n.

        With ``p = (b + 1) / (n + 2)``, ``r = (c + 1) / (n + 2)``: ``p - r -+ z ((p + r - (p - r)^2) / (n + 2))^(1/2)``,
        cut at -1 and 1. Source: D. G. Bonett, R. M. Price, J. Educ. Behav. Stat. 37 (2012).
        """
        p, r = (self.first_only + 1) / (self.n + 2), (self.second_only + 1) / (self.n + 2)
        half = _Z * math.sqrt((p + r - (p - r) ** 2) / (self.n + 2))
        return max(-1.0, p - r - half), min(1.0, p - r + half)
