"""Estimates that carry their error: a mean, its standard error and the number of draws behind it.

Monte-Carlo sums of this package are *stratified by image*: the data set is given, each image gets the same number
K >= 2 of independent draws, and only the draws are random. The standard error is therefore the error of the
computation for this data set; it does not include the choice of the data set.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Estimate:
    """A mean with its standard error.

    Attributes:
        mean: the estimated quantity.
        se: standard error of ``mean``; 0 for a quantity computed without sampling.
        n: number of draws (pairs ``(q, r)``) behind ``mean``; for an exact quantity, the number of images.

    Raises:
        ValueError: if ``mean`` or ``se`` is not finite, ``se`` is negative, or ``n`` is below 1.
    """

    mean: float
    se: float
    n: int

    def __post_init__(self) -> None:
        if not (math.isfinite(self.mean) and math.isfinite(self.se)):
            raise ValueError(
                f"an estimate needs finite numbers, got mean={self.mean}, se={self.se}; "
                "look for overflow in the model's outputs."
            )
        if self.se < 0 or self.n < 1:
            raise ValueError(f"an estimate needs se >= 0 and n >= 1, got se={self.se}, n={self.n}.")

    @classmethod
    def from_strata(cls, values: np.ndarray) -> Estimate:
        """Estimate of the mean of row means of ``values`` [m, K]: m strata (images), K independent draws each."""
        return Joint.from_strata({"value": values})["value"]

    @staticmethod
    def merge(parts: Iterable[Estimate]) -> Estimate:
        """Pool independent estimates, weighted by ``n``: ``sum n_k mean_k / n``, ``se^2 = sum (n_k se_k)^2 / n^2``.

        Exact for disjoint parts of one data set (the strata) and unbiased for further draws of the same data.
        The order of the parts does not matter: sums are exactly rounded.
        """
        parts = list(parts)
        if not parts:
            raise ValueError("expected at least one estimate to merge, got none.")
        n = sum(p.n for p in parts)
        mean = _mean([p.mean for p in parts], [p.n for p in parts], n)
        scale = _scale([p.se for p in parts])
        return Estimate(mean, math.sqrt(math.fsum((p.n * (p.se / scale)) ** 2 for p in parts)) / n * scale, n)

    def interval(self, z: float = 1.959963984540054) -> tuple[float, float]:
        """Normal interval ``mean -+ z se`` (95 % by default).

        Where the mean is skewed (skewness g, that of one draw over sqrt(n)) 95 % are about ``g^2 / 4`` too many (Hall,
        The Bootstrap and Edgeworth Expansion, 1992, Section 2.6; docs/reliability.md measures it).
        For a mean that a few rare draws make up it holds the truth far less often than it says, although ``se`` is
        right in mean square: draw so many that dozens of them differ from the rest (HMix with alpha = 0.001 hardly ever
        mixes; docs/reliability.md, Numerical honesty).
        """
        return self.mean - z * self.se, self.mean + z * self.se

    def __format__(self, spec: str) -> str:
        spec = spec or ".4g"
        return f"{self.mean:{spec}} ± {self.se:.1g}" if self.se else f"{self.mean:{spec}} (exact)"


@dataclass(frozen=True, eq=False)
class Joint:
    """Several quantities estimated on the same draws, with the covariance of their means.

    Differences and ratios of such quantities have far smaller errors than the quantities themselves.

    Attributes:
        names: the p quantities.
        mean: their means [p].
        cov: covariance of the means [p, p].
        n: number of draws behind every mean.
    """

    names: tuple[str, ...]
    mean: np.ndarray
    cov: np.ndarray
    n: int

    def __post_init__(self) -> None:
        p = len(self.names)
        if self.mean.shape != (p,) or self.cov.shape != (p, p) or self.n < 1:
            raise ValueError(
                f"expected {p} means, their covariance [{p}, {p}] and n >= 1, got shapes {self.mean.shape}, "
                f"{self.cov.shape} and n={self.n}."
            )

    @classmethod
    def from_strata(cls, values: Mapping[str, np.ndarray], sizes: Sequence[int] | None = None) -> Joint:
        """From arrays [m, G]: for each of m strata (images) the means over G groups of independent draws.

        With sizes K_g of the groups (1 by default, single draws) and K their sum:
        ``mean = 1/m sum_i 1/K sum_g K_g v_ig``, ``cov = 1/m^2 sum_i s_i / K`` with
        ``s_i = sum_g K_g (v_ig - mean_i)(v_ig - mean_i)^T / (G - 1)``, unbiased whatever the sizes.
        """
        names = tuple(values)
        stacked = np.stack([np.asarray(values[k], dtype=np.float64) for k in names])  # [p, m, G]
        if stacked.ndim != 3 or not stacked.shape[1]:
            raise ValueError(f"expected draws as arrays [m, K] with m >= 1, got shape {stacked.shape[1:]}.")
        _, m, groups = stacked.shape
        if groups < 2:
            raise ValueError(f"a standard error needs draws >= 2 for each image, got {groups}; raise draws.")
        weights = np.ones(groups) if sizes is None else np.asarray(sizes, dtype=np.float64)
        total = weights.sum()
        row_means = stacked @ weights / total
        centred = (stacked - row_means[:, :, None]) * np.sqrt(weights)
        cov = np.einsum("amk,bmk->ab", centred, centred) / (total * (groups - 1) * m * m)
        return cls(names, row_means.mean(axis=1), cov, m * int(total))

    @staticmethod
    def merge(parts: Iterable[Joint]) -> Joint:
        """Pool independent parts weighted by ``n``, as `Estimate.merge` does."""
        parts = list(parts)
        if not parts:
            raise ValueError("expected at least one estimate to merge, got none.")
        if len({p.names for p in parts}) > 1:
            raise ValueError(f"expected the same quantities in every part, got {[p.names for p in parts]}.")
        n = sum(p.n for p in parts)
        size = len(parts[0].names)
        own, squares = [p.n for p in parts], [p.n**2 for p in parts]
        mean = np.array([_mean([p.mean[a] for p in parts], own, n) for a in range(size)])
        cov = np.array([[_mean([p.cov[a, b] for p in parts], squares, n**2) for b in range(size)] for a in range(size)])
        return Joint(parts[0].names, mean, cov, n)

    def __getitem__(self, name: str) -> Estimate:
        return self.linear({name: 1.0})

    def linear(self, weights: Mapping[str, float], constant: float = 0.0) -> Estimate:
        """``constant + sum_a w_a mean_a`` with ``se^2 = w^T cov w``."""
        w = self._vector(weights)
        variance = float(w @ self.cov @ w)
        return Estimate(constant + float(w @ self.mean), math.sqrt(max(variance, 0.0)), self.n)

    def ratio(
        self,
        numerator: Mapping[str, float],
        denominator: Mapping[str, float],
        constants: tuple[float, float] = (0.0, 0.0),
    ) -> Estimate:
        """Ratio of two linear combinations (each plus its constant); the error by the delta method.

        With ``R = N / D``: ``se^2 = (w_N - R w_D)^T cov (w_N - R w_D) / D^2``.

        Raises:
            ZeroDivisionError: if the denominator is exactly 0.
        """
        num, den = self._vector(numerator), self._vector(denominator)
        top, bottom = constants[0] + float(num @ self.mean), constants[1] + float(den @ self.mean)
        if bottom == 0.0:
            raise ZeroDivisionError("a share of a rise of exactly 0 is undefined; nothing is mixed.")
        w = num - (top / bottom) * den
        return Estimate(top / bottom, math.sqrt(max(float(w @ self.cov @ w), 0.0)) / abs(bottom), self.n)

    def _vector(self, weights: Mapping[str, float]) -> np.ndarray:
        unknown = set(weights) - set(self.names)
        if unknown:
            raise ValueError(f"expected quantities among {list(self.names)}, got {sorted(unknown)}.")
        return np.array([weights.get(name, 0.0) for name in self.names])


def _mean(values: Sequence[float], weights: Sequence[int], total: int) -> float:
    """``sum_k w_k v_k / total``, the sum exactly rounded; not finite if a value is not."""
    values = [float(v) for v in values]  # Python's numbers, which do not warn of infinities
    if not all(map(math.isfinite, values)):
        return sum(w * v for w, v in zip(weights, values, strict=True)) / total
    scale = _scale(values)
    return math.fsum(w * (v / scale) for w, v in zip(weights, values, strict=True)) / total * scale


def _scale(values: Sequence[float]) -> float:
    """A power of two near the largest value where sums or squares could overflow or vanish, 1 elsewhere.

    Dividing by it changes no digit.
    """
    largest = max(abs(v) for v in values)
    if largest == 0 or 1e-100 < largest < 1e100:
        return 1.0
    return 2.0 ** max(-1000, min(1000, math.frexp(largest)[1]))
