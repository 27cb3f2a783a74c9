"""Masks from a stationary Gaussian field, thresholded or squashed: a strategy with any attainable a(p)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64
from scipy import fft, special

from msda_theory.masks.base import Strategy, check_option
from msda_theory.masks.batches import Array, MaskBatch, Shape
from msda_theory.masks.orthants import Orthant
from msda_theory.moments.moments import Moments, Provenance
from msda_theory.moments.operators import Bordered
from msda_theory.moments.sampled import chunks
from msda_theory.moments.stationary import Stationary
from msda_theory.scalars import as_alpha, check_real, check_weights

LABELS = ("nominal", "pixels")
EDGES = ("periodic", "window")
_ROUNDING = 1e-12


@dataclass(frozen=True, eq=False)
class Covariance:
    """Covariance r(p) of a stationary Gaussian field on a torus, for images of one size cut out of it.

    Attributes:
        values: r for every displacement modulo the torus [T_h, T_w]; r(0), at [0, 0], in [0, 1].
        size: (H, W), at most (T_h, T_w).
        label: name for tables and figures.

    Two are equal if their values and sizes are.

    Raises:
        ValueError: if the torus is smaller than the image, r(0) is outside [0, 1], r(-p) differs from r(p), or the
            spectrum, the Fourier transform of r, has a negative value: then no field has this covariance.
    """

    values: Float64[Array, "T_h T_w"]
    size: Shape
    label: str = "designed"

    def __post_init__(self) -> None:
        r = self.values
        if r.shape[0] < self.size[0] or r.shape[1] < self.size[1]:
            raise ValueError(
                f"expected a torus at least as large as the image {self.size}, got {r.shape}; pass more displacements."
            )
        if not 0 <= r[0, 0] <= 1:
            raise ValueError(f"expected a variance r(0) in [0, 1], got {r[0, 0]:.6g}; 1 gives masks of 0 and 1.")
        gap = float(np.abs(r - np.roll(r[::-1, ::-1], (1, 1), axis=(0, 1))).max())
        if not gap <= _ROUNDING:
            raise ValueError(f"a covariance must be equal at p and -p, got a gap of {gap:.3g}; average the two.")
        lowest = float(self.spectrum().min())
        if not lowest >= -_ROUNDING * r.size:
            raise ValueError(
                f"a covariance must have a spectrum >= 0, got {lowest:.3g}; use design() for the nearest one that has."
            )

    def spectrum(self) -> Float64[Array, "T_h K"]:
        """Real Fourier transform of r (half of the second axis); its mean over all frequencies is r(0)."""
        return np.asarray(fft.rfft2(self.values).real)

    def table(self) -> Float64[Array, "P Q"]:
        """r for every displacement inside the image, [2H-1, 2W-1]."""
        rows, columns = (np.arange(1 - n, n) % t for n, t in zip(self.size, self.values.shape, strict=True))
        return self.values[np.ix_(rows, columns)]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Covariance):
            return NotImplemented
        return self.size == other.size and np.array_equal(self.values, other.values)

    def __hash__(self) -> int:
        return hash((self.size, self.values.tobytes()))

    def __str__(self) -> str:
        return self.label


@dataclass(frozen=True)
class Field(Strategy):
    """``M_j = Phi((t - V_j) / sqrt(1 - r(0)))``, ``t = Phi^-1(lam)``, V a stationary Gaussian field of covariance r(p).

    lam ~ Beta(alpha, alpha). With r(0) = 1 the mask is ``1{V_j <= t}``, 0 and 1 in patches of any shape; with r = 0 it
    is lam everywhere, Mixup. In every case E[M_j | lam] = lam. By default r(p) is ``sharpness`` times a Gaussian of
    the displacement, ``exp(-|p|^2 / (2 length^2))``, summed over the torus and divided by its sum at 0.

    Attributes:
        alpha: parameter of the Beta law, from 1e-12 to 1e7.
        length: correlation length in pixels; 0 for independent pixels.
        sharpness: r(0) in [0, 1]; ``1 / (1 + s^2)`` for a field of variance 1 squashed by ``Phi(. / s)``.
        edges: ``"periodic"``: the field lives on the image's own torus. ``"window"``: on a torus of twice its sides,
            of which the image is a part.
        label: label weight; ``"nominal"``, lam itself (then both laws agree), or ``"pixels"``, the mean of M.
        covariance: r(p) itself, for images of one size, as `design` solves for it; ``length``, ``sharpness`` and
            ``edges`` then keep their defaults, which have no effect.

    Moments are a function of r(p) alone, known by quadrature to about 1e-14; docs/theory.md, Eqs. (11a) and (11b).
    """

    alpha: float = 1.0
    length: float = 2.0
    sharpness: float = 1.0
    edges: str = "periodic"
    label: str = "nominal"
    covariance: Covariance | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "alpha", as_alpha(self.alpha))
        check_option("edges", self.edges, EDGES)
        check_option("label", self.label, LABELS)
        check_real("length", self.length)
        check_real("sharpness", self.sharpness)
        if not (math.isfinite(self.length) and self.length >= 0):
            raise ValueError(f"expected a correlation length >= 0 in pixels, got length={self.length}; 0 for none.")
        if not 0 <= self.sharpness <= 1:
            raise ValueError(f"expected sharpness in [0, 1], got {self.sharpness}; 1 gives masks of 0 and 1.")
        if self.covariance is not None and (self.length, self.sharpness, self.edges) != (2.0, 1.0, "periodic"):
            raise ValueError("expected a covariance or a length, sharpness and edges, got both; leave one out.")

    def on(self, shape: Shape) -> Covariance:
        """The covariance for images of size ``shape`` = (H, W).

        Raises:
            ValueError: if the covariance was given for another size.
        """
        if self.covariance is None:
            torus = shape if self.edges == "periodic" else (2 * shape[0], 2 * shape[1])
            rows, columns = (_wrapped(self.length, n) for n in torus)
            return Covariance(self.sharpness * np.multiply.outer(rows, columns), shape, "gaussian")
        if self.covariance.size != tuple(shape):
            (h, w), (own_h, own_w) = shape, self.covariance.size
            raise ValueError(
                f"this field was designed for images of {own_h}x{own_w} pixels, got {h}x{w}; design one for that size."
            )
        return self.covariance

    def _deficits(self, shape: Shape) -> Float64[Array, "P Q"]:
        """1 - r(p) for every displacement inside the image, [2H-1, 2W-1]; S has an infinite slope where it is 0."""
        covariance = self.on(shape)
        if self.covariance is not None:
            return 1 - covariance.table()
        rows, columns = (
            _deficit(self.length, t)[np.arange(1 - n, n) % t]
            for n, t in zip(shape, covariance.values.shape, strict=True)
        )
        # 1 - v (1 - a)(1 - b) = (1 - v) + v (a + b - a b)
        together = np.add.outer(rows, columns) - np.multiply.outer(rows, columns)
        return (1 - self.sharpness) + self.sharpness * together

    def masks(self, lam: Float64[Array, " n"], shape: Shape, *, rng: np.random.Generator) -> MaskBatch:
        """Fields by FFT, O(T log T) each for a torus of T pixels: white noise times the root of the spectrum."""
        check_weights(lam)
        covariance = self.on(shape)
        torus, variance = covariance.values.shape, float(covariance.values[0, 0])
        root = np.sqrt(np.maximum(covariance.spectrum(), 0.0))  # below 0 by rounding only, as `Covariance` checks
        t, mask = special.ndtri(lam)[:, None, None], np.empty((len(lam), *shape))
        for part in chunks(len(lam), (torus[0], torus[1])):
            white = rng.standard_normal((part.stop - part.start, *torus))
            field = fft.irfft2(fft.rfft2(white) * root, s=torus)[:, : shape[0], : shape[1]]
            if variance == 1:
                mask[part] = field <= t[part]
            else:
                mask[part] = special.ndtr((t[part] - field) / np.sqrt(1 - variance))
        return MaskBatch(mask, lam if self.label == "nominal" else mask.mean(axis=(1, 2)))

    def closed_moments(self, shape: Shape, law: str) -> Moments:
        """``S(r(p))`` for every displacement, and what the label weight adds."""
        curve = Orthant.of(self.alpha)
        both = curve.near_one(self._deficits(shape))  # S = E[(1 - M_j)(1 - M_k)] = E[M_j M_k]
        both = (both + both[::-1, ::-1]) / 2
        provenance = Provenance("quadrature", curve.error, f"Chebyshev series of degree {curve.series.degree()}")
        if law == "paper" or self.label == "nominal":
            mean = np.full(shape, self.alpha / (2 * self.alpha + 1))
            return Moments(mean, Stationary(both - excess(self.alpha)), law, provenance)
        u = Stationary(both).apply(np.ones(shape)) / (shape[0] * shape[1])
        # S and two means of S in an a_jk: three times the error
        provenance = replace(provenance, error=3 * curve.error)
        return Moments(1 - 2 * u, Bordered(Stationary(both), -u, 0.5), law, provenance)


def excess(alpha: float) -> float:
    """``E[lam (2 lam - 1)] = 1 / (2 (2 alpha + 1))``: what S(r) exceeds a_jk by, with nominal labels; Eq. (11a)."""
    return 1 / (2 * (2 * alpha + 1))


def _wrapped(length: float, n: int) -> Float64[Array, " n"]:
    """``sum_k exp(-(p + k n)^2 / (2 length^2))`` over its value at 0, p = 0 .. n-1; at length 0 1{p = 0}."""
    if length < 0.02:  # exp(-1 / (2 length^2)) is 0 in float64, and length^2 may be too
        return (np.arange(n) == 0).astype(float)
    if length > 100 * n:  # 1 up to exp(-2 pi^2 (length / n)^2); the sum would need memory in proportion to length
        return np.ones(n)
    turns = int(np.ceil(9 * length / n)) + 1
    p = np.arange(n)[:, None] + n * np.arange(-turns, turns + 1)
    values = np.exp(-(p**2) / (2 * length**2)).sum(axis=1)
    values = (values + np.roll(values[::-1], 1)) / 2
    return values / values[0]


def _deficit(length: float, n: int) -> Float64[Array, " n"]:
    """One minus `_wrapped`, without cancellation where the length is large beside n: by the Fourier series of it.

    ``1 - r(p) = 4 sum_k c_k sin(pi k p / n)^2 / (1 + 2 sum_k c_k)``, ``c_k = exp(-2 (pi k length / n)^2)``.
    """
    if length < n / 2:
        return 1 - _wrapped(length, n)
    p, k = np.arange(n)[:, None], np.arange(1, 8)
    c = np.exp(-2 * (np.pi * k * (length / n)) ** 2)
    sines = np.sin(np.pi * k * np.minimum(p, n - p) / n) ** 2
    return 4 * (c * sines).sum(axis=1) / (1 + 2 * c.sum())
