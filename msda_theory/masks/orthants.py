"""The probability that two thresholded Gaussians are both below, averaged over the threshold's Beta law."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float64
from numpy.polynomial import Chebyshev
from scipy import special

Array = np.ndarray
_HALF = np.pi / 2
_BISECTIONS = 60  # of an interval of length pi: down to rounding


@dataclass(frozen=True, eq=False)
class Orthant:
    """``S(r) = E[Phi_2(t, t; r)]``, ``t = Phi^-1(lam)``, lam ~ Beta(alpha, alpha), for correlations r in [-1, 1].

    With ``r = sin(theta)``, ``dS/dtheta = K / (2 pi)``, ``K(r) = E exp(-t^2 / (1 + r))``, docs/theory.md, Eq. (11c):
    K is held as a Chebyshev series in theta and integrated. S increases from ``E max(0, 2 lam - 1)`` at r = -1 over
    ``E[lam^2]`` at 0 to 1/2 at 1.

    Attributes:
        alpha: parameter of the Beta law.
        kernel: series of K on [-pi/2, pi/2].
        series: series of S on [-pi/2, pi/2].
        error: largest absolute error of S, from the last coefficients, the known value 1/2 at r = 1, and rounding.
    """

    alpha: float
    kernel: Chebyshev
    series: Chebyshev
    error: float

    @classmethod
    def of(cls, alpha: float) -> Orthant:
        """The curve for one alpha; made once."""
        return _orthant(float(alpha))

    def __call__(self, r: Float64[Array, "*n"]) -> Float64[Array, "*n"]:
        """S at correlations ``r``."""
        return np.asarray(self.series(np.arcsin(r)))

    def near_one(self, deficit: Float64[Array, "*n"]) -> Float64[Array, "*n"]:
        """S at correlations 1 - ``deficit``, from 0 to 2: ``arcsin(1 - x) = pi / 2 - 2 arcsin(sqrt(x / 2))``.

        Near 1, S falls with the root of the deficit: rounding of the correlation itself would cost 1e-9.
        """
        return np.asarray(self.series(_HALF - 2 * np.arcsin(np.sqrt(np.clip(deficit / 2, 0.0, 1.0)))))

    def slope(self, r: Float64[Array, "*n"]) -> Float64[Array, "*n"]:
        """``dS/dr = K / (2 pi sqrt(1 - r^2))``; at 1 and -1 that of a neighbour, as it is infinite or 0 / 0."""
        return np.asarray(self.kernel(np.arcsin(r))) / (2 * np.pi * np.sqrt(np.maximum(1 - r**2, 1e-16)))

    def inverse(self, s: Float64[Array, "*n"]) -> Float64[Array, "*n"]:
        """The correlations at which S is ``s``, by bisection; -1 or 1 where ``s`` is outside its range."""
        low, high = np.full(s.shape, -_HALF), np.full(s.shape, _HALF)
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2
            below = np.asarray(self.series(middle)) < s
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        ends = [np.asarray(self.series(np.array(e))) for e in (-_HALF, _HALF)]
        return np.where(s >= ends[1], 1.0, np.where(s <= ends[0], -1.0, np.sin(low)))


@lru_cache(maxsize=64)
def _orthant(alpha: float) -> Orthant:
    degree, tail = 32, np.inf
    while tail > 4e-15 and degree < 1024:
        degree *= 2
        series = Chebyshev.interpolate(lambda theta: _kernel(alpha, theta), degree, domain=[-_HALF, _HALF])
        tail = float(np.abs(series.coef[-4:]).max())
    integral = (series / (2 * np.pi)).integ()
    square = (alpha + 1) / (2 * (2 * alpha + 1))  # E[lam^2], the value at r = 0
    integral = integral + (square - float(integral(0.0)))
    gap = abs(float(integral(_HALF)) - 0.5)
    return Orthant(alpha, series, integral, max(gap, tail) + 1e-15)


def _kernel(alpha: float, theta: Float64[Array, " n"]) -> Float64[Array, " n"]:
    """``K = E exp(-t^2 / (1 + sin theta))`` by the trapezoidal rule in t.

    The integrand, density of t times Gaussian, is analytic in a strip around the real line and falls like a Gaussian
    of variance v^2, ``1 / v^2 = 2 / (1 + sin theta) + 1 / var t``, or faster: in ``y = t / v`` the rule converges
    geometrically in 1 / step, for every theta and alpha. Beyond ``y = 13`` it is below 1e-30.
    """
    one_plus = 2 * np.sin((theta + _HALF) / 2) ** 2  # 1 + sin(theta), without cancellation
    variance = _variance(alpha)
    v = np.sqrt(one_plus * variance / (2 * variance + one_plus))
    y = np.arange(-13, 13.05, 0.1)
    t = v[:, None] * y
    exponent = t**2 / np.maximum(one_plus, 1e-300)[:, None]
    return 0.1 * v * np.exp(_log_density(alpha, t) - exponent).sum(axis=1)


def _variance(alpha: float) -> float:
    """About the variance of t where alpha is large, about 1 where it is not."""
    return float(np.pi / (2 * alpha + 2))


def _log_density(alpha: float, t: Float64[Array, "*n"]) -> Float64[Array, "*n"]:
    """Logarithm of the density ``phi(t) (Phi(t) Phi(-t))^(alpha - 1) / B(alpha, alpha)`` of ``t = Phi^-1(lam)``."""

    def unscaled(t: Array) -> Array:
        near = np.log1p(-(special.erf(np.clip(t, -1, 1) / np.sqrt(2)) ** 2))  # log 4 Phi(t) Phi(-t)
        far = special.log_ndtr(t) + special.log_ndtr(-t) + np.log(4)
        return (alpha - 1) * np.where(np.abs(t) < 1, near, far) - t**2 / 2

    if alpha < 1:
        norm = special.betaln(alpha, alpha) + (alpha - 1) * np.log(4) + np.log(2 * np.pi) / 2
    else:  # differences of large logarithms would lose digits
        y = np.sqrt(_variance(alpha)) * np.arange(-20, 20.05, 0.1)
        norm = np.log(0.1 * np.sqrt(_variance(alpha)) * np.exp(unscaled(y)).sum())
    return unscaled(t) - norm
