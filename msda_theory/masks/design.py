"""Mask laws made to measure: the Gaussian field whose coefficient a(p) is the wanted one, or the nearest to it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64
from scipy import fft

from msda_theory.masks.base import check_option
from msda_theory.masks.batches import Array, Shape
from msda_theory.masks.field import EDGES, LABELS, Covariance, Field, excess
from msda_theory.masks.orthants import Orthant
from msda_theory.moments.displacements import pair_counts
from msda_theory.scalars import as_alpha

_MARGIN = 1e-9  # by which a wanted diagonal may leave its range: rounding of closed moments


@dataclass(frozen=True, eq=False)
class Design:
    """A field, and how near its coefficient came to the wanted one. All maps are [2H-1, 2W-1], p = 0 in the middle.

    Attributes:
        strategy: the field.
        wanted: wanted a(p).
        obtained: a(p) of the field under the exact law, exact up to rounding, as
            ``moments(...).second.by_displacement()``.
        out_of_range: displacements whose wanted value no field has, whatever the others.
        lowest: smallest spectral value of the covariance that has the wanted a(p) pair by pair, over the mean of the
            spectrum; where it is negative no field has that covariance.
        steps: steps of the descent to the nearest covariance; 0 where the pairwise one is a covariance.
    """

    strategy: Field
    wanted: Float64[Array, "P Q"]
    obtained: Float64[Array, "P Q"]
    out_of_range: Bool[Array, "P Q"]
    lowest: float
    steps: int

    @property
    def residual(self) -> Float64[Array, "P Q"]:
        """``obtained - wanted``."""
        return self.obtained - self.wanted

    @property
    def worst(self) -> float:
        """Largest absolute residual."""
        return float(np.abs(self.residual).max())

    @property
    def rms(self) -> float:
        """Root of the mean square of the residual over all ordered pixel pairs."""
        pairs = pair_counts(((self.wanted.shape[0] + 1) // 2, (self.wanted.shape[1] + 1) // 2))
        return float(np.sqrt((pairs * self.residual**2).sum() / pairs.sum()))


def design(
    wanted: Float64[Array, "P Q"],
    *,
    alpha: float = 1.0,
    edges: str = "periodic",
    label: str = "nominal",
    name: str = "designed",
    max_steps: int = 3000,
) -> Design:
    """The `Field` whose coefficient a(p) under the exact law, Eq. (3f), is ``wanted``, or the nearest to it.

    Each pixel pair is solved for its correlation, Eq. (11d). If the spectrum of the result is not negative anywhere
    (and every value within reach), that is the field: the residual is zero up to rounding. Otherwise the sum of squares
    of the residual over all ordered pixel pairs is minimised over covariances with the wanted diagonal by accelerated
    projected gradient steps, Eq. (11e), and `Design` says what is left. The problem is not convex: the field is a local
    optimum near the pairwise solution, not always the global one.

    Args:
        wanted: a(p) for each displacement [2H-1, 2W-1], p = 0 in the middle, equal at p and -p; from `wishes`, or any
            strategy's ``moments(shape).second.by_displacement()``.
        alpha: parameter of the Beta law, from 1e-12 to 1e7. With nominal labels the mean of q is
            ``alpha / (2 alpha + 1)``, and a(0) must lie between half of that (Mixup) and that (masks of 0 and 1).
        edges: ``"periodic"``: a(p) has the period of the image; a wish without it is averaged over the displacements
            that coincide. ``"window"``: the field lives on a torus of twice the sides, so that no displacements do.
        label: ``"nominal"``, or ``"pixels"`` (periodic only). With the latter the mean of q is twice the mean of a(p)
            over all pairs, and a(0) must lie between that and it less ``1 / 2 - E[lam^2]``.
        name: of the covariance, for tables.
        max_steps: of the descent.

    Raises:
        ValueError: if ``wanted`` has no odd sides, is not finite or not equal at p and -p; if a(0) is out of reach for
            this alpha; for ``label="pixels"`` with ``edges="window"``; unknown options.
    """
    alpha = as_alpha(alpha)
    check_option("edges", edges, EDGES)
    check_option("label", label, LABELS)
    wanted = np.asarray(wanted, dtype=float)
    shape = _checked(wanted)
    if label == "pixels" and edges == "window":
        raise ValueError(
            "with label='pixels' only periodic fields are designed; use edges='periodic' or nominal labels."
        )
    torus = shape if edges == "periodic" else (2 * shape[0], 2 * shape[1])
    target, weight = _fold(wanted, shape, torus)
    curve = Orthant.of(alpha)
    # S(p) = a(p) + const, Eq. (11b): with pixel labels the constant depends on the mean of a(p)
    shift = excess(alpha) if label == "nominal" else 0.5 - 2 * float(target.mean())
    variance = _variance(curve, float(target[0, 0]), shift)
    problem = _Problem(curve, target, weight, variance, label == "pixels", excess(alpha))
    pairwise = problem.pairwise(target + shift)
    spectrum = fft.fft2(pairwise).real
    lowest = float(spectrum.min() / max(spectrum.mean(), 1e-300)) if variance > 0 else 0.0
    r, steps = problem.nearest(pairwise, max_steps)
    field = Field(alpha=alpha, label=label, covariance=Covariance(r, shape, name))
    obtained = field.moments(shape).second.by_displacement()
    low, high = (float(curve(np.array(v))) - shift for v in (-1.0, 1.0))
    unreachable = (wanted < low - _MARGIN) | (wanted > high + _MARGIN)
    return Design(field, wanted.copy(), obtained, unreachable, lowest, steps)


@dataclass(frozen=True, eq=False)
class _Problem:
    """``min sum_p w(p) (a(p) - target(p))^2`` over the spectra >= 0 of a given mean, the variance r(0)."""

    curve: Orthant
    target: Float64[Array, "T_h T_w"]
    weight: Float64[Array, "T_h T_w"]
    variance: float
    pixels: bool
    excess: float

    def pairwise(self, s: Float64[Array, "T_h T_w"]) -> Float64[Array, "T_h T_w"]:
        """The correlation of each pair on its own; 0 where nothing is wanted."""
        r = np.where(self.weight > 0, self.curve.inverse(s), 0.0)
        r[0, 0] = self.variance
        return _even(r)

    def nearest(self, start: Float64[Array, "T_h T_w"], max_steps: int) -> tuple[Float64[Array, "T_h T_w"], int]:
        """The covariance, and the number of steps: accelerated projected gradient with restarts and backtracking."""
        r = self._project(start)
        if np.abs(r - start).max() <= 1e-13:
            return r, 0
        best, value, steps = r, self._value(r), 0
        ahead, momentum, size = r, 1.0, 10 / self.weight.max()  # the slope of S is .1 to .3 but near r = 1
        while steps < max_steps:
            steps += 1
            here, gradient = self._value(ahead), self._gradient(ahead)
            while True:
                new = self._project(ahead - size * gradient)
                move, new_value = new - ahead, self._value(new)
                if new_value <= here + (gradient * move).sum() + (move**2).sum() / (2 * size) + 1e-18:
                    break
                size /= 2
            if new_value >= value:  # momentum led nowhere: start again from the best point
                if ahead is best:  # down to rounding
                    break
                ahead, momentum = best, 1.0
                continue
            after = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
            ahead, momentum = new + (momentum - 1) / after * (new - best), after
            best, value, size = new, new_value, 1.2 * size
        return best, steps

    def _coefficient(self, r: Array) -> Array:
        s = self.curve(np.clip(r, -1.0, 1.0))
        return s - 2 * s.mean() + 0.5 if self.pixels else s - self.excess

    def _value(self, r: Array) -> float:
        return float((self.weight * (self._coefficient(r) - self.target) ** 2).sum() / 2)

    def _gradient(self, r: Array) -> Array:
        outer = self.weight * (self._coefficient(r) - self.target)
        if self.pixels:
            outer = outer - 2 * outer.mean()
        inner = np.clip(r, -0.999, 0.999)  # the slope is infinite at 1
        gradient = outer * self.curve.slope(inner)
        gradient[0, 0] = 0.0  # the variance is kept
        return gradient

    def _project(self, r: Array) -> Array:
        """The nearest covariance of the given variance, to the bit: its spectrum lies on a simplex.

        S has no finite slope at r = 1, so that rounding of r(0) = 1 would change the value by its square root.
        """
        spectrum = fft.fft2(_even(r)).real
        total = self.variance * spectrum.size
        ordered = np.sort(spectrum.ravel())[::-1]
        excess = (np.cumsum(ordered) - total) / np.arange(1, ordered.size + 1)
        cut = excess[np.flatnonzero(ordered > excess)[-1]] if total > 0 else np.inf
        nearest = _even(fft.ifft2(np.maximum(spectrum - cut, 0.0)).real)
        nearest[0, 0] = self.variance
        return nearest


def _checked(wanted: Array) -> Shape:
    """(H, W) of a table of wishes."""
    if wanted.ndim != 2 or not (wanted.shape[0] % 2 and wanted.shape[1] % 2):
        raise ValueError(
            f"expected a wanted a(p) for each displacement, [2H-1, 2W-1], got shape {wanted.shape}; take it from "
            "msda_theory.masks.wishes or from second.by_displacement()."
        )
    if not np.isfinite(wanted).all():
        raise ValueError(
            f"the wanted a(p) must be finite, got {int((~np.isfinite(wanted)).sum())} values that are not."
        )
    gap = float(np.abs(wanted - wanted[::-1, ::-1]).max())
    if not gap <= _MARGIN:
        raise ValueError(f"the wanted a(p) must be equal at p and -p, got a gap of {gap:.3g}; average the two.")
    return (wanted.shape[0] + 1) // 2, (wanted.shape[1] + 1) // 2


def _variance(curve: Orthant, diagonal: float, shift: float) -> float:
    """r(0) for a wanted a(0): exactly 1 and 0 at the ends of its range."""
    low, high = (float(curve(np.array(v))) - shift for v in (0.0, 1.0))
    if not low - _MARGIN <= diagonal <= high + _MARGIN:
        raise ValueError(
            f"the wanted a(0) must lie in [{low:.6g}, {high:.6g}] for alpha = {curve.alpha:g}, got {diagonal:.6g}; "
            "change alpha, or move the wish."
        )
    if diagonal >= high - _MARGIN:
        return 1.0
    return 0.0 if diagonal <= low + _MARGIN else float(curve.inverse(np.array(diagonal + shift)))


def _fold(wanted: Array, shape: Shape, torus: Shape) -> tuple[Array, Array]:
    """Mean of the wish over pairs, and share of all pairs, for each displacement modulo the torus."""
    pairs = pair_counts(shape)
    index = np.ix_(*(np.arange(1 - n, n) % t for n, t in zip(shape, torus, strict=True)))
    weight, total = np.zeros(torus), np.zeros(torus)
    np.add.at(weight, index, pairs)
    np.add.at(total, index, pairs * wanted)
    mean = np.divide(total, weight, out=np.zeros(torus), where=weight > 0)
    return mean, weight / pairs.sum()


def _even(r: Array) -> Array:
    """Mean of r(p) and r(-p)."""
    return np.asarray((r + np.roll(r[::-1, ::-1], (1, 1), axis=(0, 1))) / 2)
