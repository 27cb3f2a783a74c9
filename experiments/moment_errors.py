"""Errors of the moments of mask laws: finite sums, quadrature, series, transforms, against `mask_references`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import product
from typing import Any

import numpy as np

from experiments import mask_references as exact
from experiments.error_rows import Case, named, row
from experiments.mask_references import LONG, Array, Shape, Truth
from msda_theory.masks.base import Strategy
from msda_theory.masks.choice import Choice
from msda_theory.masks.cutmix import CutMix
from msda_theory.masks.dropmix import DropMix
from msda_theory.masks.field import Field, _deficit
from msda_theory.masks.gmix import GMix
from msda_theory.masks.hmix import HMix
from msda_theory.masks.mixup import Mixup
from msda_theory.masks.orthants import Orthant
from msda_theory.moments.displacements import pair_counts
from msda_theory.moments.moments import LAWS, Moments
from msda_theory.moments.sampled import Sampled
from msda_theory.moments.stationary import Stationary
from msda_theory.streams import stream

BOXES = ("clipped", "inside", "periodic")
LABELS = ("pixels", "nominal")
RATIOS = (0.0, 0.3, 0.5, 1.0)
DEFICITS = (0.0, 1e-12, 1e-6, 1e-3, 0.1, 0.5, 1.0, 1.5, 1.9, 1.99, 1.999, 2.0)
STATED = "the error that the moments state"
TESTED = "none; the tests ask for 1e-12"
_ENUMERATED = "enumeration of all positions in 80 bits, integrals over lam to 40 digits"


def rows(alphas: Sequence[float], shapes: Sequence[Shape], large: int, seed: int) -> list[dict[str, Any]]:
    """One row for each kind of approximation."""
    usual = ", ".join(f"{h}x{w}" for h, w in shapes)
    sizes = usual + (f", {large}x{large}" if large else "")
    span = f"alpha {min(alphas):g} to {max(alphas):g}"
    named = {
        "Mixup, closed form": ("both laws", _mixup),
        "CutMix, finite sums": ("both laws, all boxes and labels", _cutmix),
        "HMix, finite sums": ("ratio 0 to 1, both laws, all boxes", _hmix),
        "GMix, Gauss rules in min(lam, 1 - lam)": ("both laws and labels", _gmix),
        "Choice of Mixup and CutMix": ("both laws, probabilities 0, 1/3, 1", _choice),
    }
    found = [
        row(f"Moments of {name} (`masks`)", reference=_ENUMERATED,
            covered=f"{span}; {options}; {usual if cases is _choice else sizes}",
            measure="absolute, qbar and a_jk", promise=STATED, cases=cases(alphas, shapes, large))
        for name, (options, cases) in named.items()
    ]  # fmt: skip
    small = [s for s in shapes if s[0] * s[1] <= 20]
    below = ", ".join(f"{h}x{w}" for h, w in small)
    return [
        *found,
        row("Moments of DropMix, closed form (`masks.dropmix`)", reference="exact fractions",
            covered=f"shares 0 to 1; {sizes}", measure="absolute, qbar and a_jk", promise=STATED,
            cases=_dropmix([*shapes, *_square(large)])),
        row("Atoms: Gauss nodes in lam for exact terms at the mask (`masks`)", reference=_ENUMERATED,
            covered=f"{span}; CutMix, HMix, GMix, both laws; {below}", measure="absolute, qbar and a_jk",
            promise=TESTED, cases=_atoms(alphas, small)),
        row("Chebyshev series of S(r), Eq. (11c) (`masks.orthants`)",
            reference="Owen's integral in 80 bits, density of t to 25 digits",
            covered=f"{span}; correlations -1 to 1 - 1e-12 and 1", measure="absolute", promise="the error it states",
            cases=_orthants(alphas)),
        row("Fourier series and sum over turns of the field's covariance (`masks.field`)", reference="100 digits",
            covered=f"lengths 0 to 100 sides; {sizes}", measure="absolute, 1 - r(p)", promise=TESTED,
            cases=_deficits(shapes, large)),
        row("Moments of Field (`masks.field`)", reference="S and r of the two rows above",
            covered=f"{span}; lengths 0 to 1e4, sharpness 0 to 1, both laws and labels; {below}",
            measure="absolute, qbar and a_jk", promise=STATED, cases=_fields(alphas, small)),
        row("Second moments by displacement and products, by FFT (`moments`)",
            reference="sums over pixel pairs in 80 bits", covered=f"GMix masks; {sizes.split(f', {large}x')[0]}"
            + (f"; a box in {large}x{large}" if large else ""),
            measure="sums over pairs, over the mean of |q|^2; products A u, over |A| |u|", promise="log2(4 H W) 2^-53",
            cases=_transforms(shapes, large, seed)),
        row("Second moments by displacement and quadratic forms of closed laws (`moments`)", reference=_ENUMERATED
            + ", sums over all pixel pairs", covered=f"{span}; CutMix, HMix, GMix, Mixup, both laws; {below}",
            measure="absolute, means over pairs", promise=f"{STATED}, and 2 H W 2^-53 for the sums",
            cases=_collected(alphas, small)),
    ]  # fmt: skip


def difference(found: Moments, truth: Truth, pixels: Array) -> float:
    """Largest error of qbar and a_jk at ``pixels`` [n, 2], from products with A, and where small from A itself."""
    at, n = (pixels[:, 0], pixels[:, 1]), len(pixels)
    units = np.zeros((n, *found.mean.shape))
    units[np.arange(n), at[0], at[1]] = 1.0
    errors = [found.mean[at] - truth.mean, found.second.apply(units)[:, at[0], at[1]] - truth.second]
    if found.mean.size <= 100:
        flat = np.ravel_multi_index(at, found.mean.shape)
        errors.append(found.second.dense()[np.ix_(flat, flat)] - truth.second)
    return float(max(np.abs(e).max() for e in errors))


def _case(strategy: Strategy, shape: Shape, law: str, truth: Truth, pixels: Array) -> Case:
    found = strategy.moments(shape, law=law)
    return Case(difference(found, truth, pixels), found.provenance.error, _place(strategy, shape, law))


def _place(strategy: Strategy, shape: Shape, law: str) -> str:
    return f"{named(strategy)}, {shape[0]}x{shape[1]}, {law} law"


def _square(side: int) -> list[Shape]:
    return [(side, side)] if side else []


def _some(alphas: Sequence[float]) -> tuple[float, ...]:
    """The smallest, the largest and one between."""
    return tuple(sorted({min(alphas), sorted(alphas)[len(alphas) // 2], max(alphas)}))


def _mixup(alphas: Sequence[float], shapes: Sequence[Shape], large: int) -> Iterator[Case]:
    for shape in [*shapes, *_square(large)]:
        pixels = exact.pixels_of(shape, 4 if shape[0] == large else 9)
        averages = exact.boxes(shape, pixels, 0.0, "clipped", 1)
        for alpha, law in product(alphas, LAWS):
            yield _case(Mixup(alpha), shape, law, exact.hmix(alpha, law, averages), pixels)


def _cutmix(alphas: Sequence[float], shapes: Sequence[Shape], large: int) -> Iterator[Case]:
    for shape, box in product([*shapes, *_square(large)], BOXES):
        pixels = exact.pixels_of(shape, 4 if shape[0] == large else 9)
        averages = exact.boxes(shape, pixels, 1.0, box, 0)
        for alpha, law, label in product(_some(alphas) if shape[0] == large else alphas, LAWS, LABELS):
            strategy = CutMix(alpha, box, label)
            yield _case(strategy, shape, law, exact.cutmix(alpha, law, label, averages), pixels)


def _hmix(alphas: Sequence[float], shapes: Sequence[Shape], large: int) -> Iterator[Case]:
    for shape, box, ratio in [*product(shapes, BOXES, RATIOS), *product(_square(large), BOXES, (0.0, 1.0))]:
        pixels = exact.pixels_of(shape, 4 if shape[0] == large else 9)
        averages = exact.boxes(shape, pixels, ratio, box, 1)
        for alpha, law in product(_some(alphas) if shape[0] == large else alphas, LAWS):
            yield _case(HMix(alpha, ratio, box), shape, law, exact.hmix(alpha, law, averages), pixels)


def _gmix(alphas: Sequence[float], shapes: Sequence[Shape], large: int) -> Iterator[Case]:
    for shape in [*shapes, *_square(large)]:
        big = shape[0] == large
        pixels = exact.pixels_of(shape, 4 if big else 9)
        averages = exact.bumps(shape, pixels)
        for alpha, law, label in product(_some(alphas) if big else alphas, LAWS[:1] if big else LAWS, LABELS):
            yield _case(GMix(alpha, label), shape, law, exact.gmix(alpha, law, label, averages), pixels)


def _choice(alphas: Sequence[float], shapes: Sequence[Shape], large: int) -> Iterator[Case]:
    for shape in shapes:
        pixels = exact.pixels_of(shape)
        averages = [exact.boxes(shape, pixels, r, "clipped", p) for r, p in ((0.0, 1), (1.0, 0))]
        for alpha, law, share in product(alphas, LAWS, (0.0, 1 / 3, 1.0)):
            parts = exact.hmix(alpha, law, averages[0]), exact.cutmix(1.0, law, "pixels", averages[1])
            mean, second = (share * a + (1 - LONG(share)) * b for a, b in zip(*parts, strict=True))
            strategy = Choice((Mixup(alpha), CutMix()), (share, 1 - share))
            yield _case(strategy, shape, law, Truth(mean, second), pixels)


def _dropmix(shapes: Sequence[Shape]) -> Iterator[Case]:
    for shape, lam, share, dims in product(shapes, (0.0, 0.1, 0.7, 1.0), (0.0, 0.3, 1.0), ("strided", "random")):
        strategy = DropMix(lam=lam, share=share, dims=dims)
        pixels, d = exact.pixels_of(shape), shape[0] * shape[1]
        mixed = strategy.mixed(d)
        flat, own, k = np.ravel_multi_index((pixels[:, 0], pixels[:, 1]), shape), Fraction(lam), int(mixed.sum())
        one, pair = own * Fraction(k, d), own**2 * Fraction(k * (k - 1), max(d * (d - 1), 1))
        if dims == "strided":
            mean = np.array([exact.longdouble(own * int(mixed[j])) for j in flat])
            second = np.multiply.outer(mean, mean)
        else:
            mean = np.full(len(flat), exact.longdouble(one))
            second = np.full((len(flat), len(flat)), exact.longdouble(pair))
            np.fill_diagonal(second, exact.longdouble(own * one))
        yield _case(strategy, shape, "exact", Truth(mean, second), pixels)


def _atoms(alphas: Sequence[float], shapes: Sequence[Shape]) -> Iterator[Case]:
    for strategy, shape, law, truth in _whole(alphas, shapes):
        q, p = strategy.atoms(shape).partner(law)
        flat = q.reshape(len(q), -1)
        errors = (p @ flat - truth.mean, (flat.T * p) @ flat - truth.second)
        yield Case(float(max(np.abs(e).max() for e in errors)), 1e-12, _place(strategy, shape, law))


def _whole(alphas: Sequence[float], shapes: Sequence[Shape]) -> Iterator[tuple[Strategy, Shape, str, Truth]]:
    """Truths at all pixels."""
    for shape in shapes:
        pixels = np.stack(np.unravel_index(np.arange(shape[0] * shape[1]), shape), axis=1)
        cut, none = exact.boxes(shape, pixels, 1.0, "clipped", 0), exact.boxes(shape, pixels, 0.0, "clipped", 1)
        half, bumps = exact.boxes(shape, pixels, 0.5, "clipped", 1), exact.bumps(shape, pixels)
        for alpha, law in product(alphas, LAWS):
            yield CutMix(alpha), shape, law, exact.cutmix(alpha, law, "pixels", cut)
            yield HMix(alpha), shape, law, exact.hmix(alpha, law, half)
            yield GMix(alpha), shape, law, exact.gmix(alpha, law, "pixels", bumps)
            yield Mixup(alpha), shape, law, exact.hmix(alpha, law, none)


def _collected(alphas: Sequence[float], shapes: Sequence[Shape]) -> Iterator[Case]:
    for strategy, shape, law, truth in _whole(alphas, shapes):
        found, (h, w) = strategy.moments(shape, law=law), shape
        sums = np.zeros((2 * h - 1, 2 * w - 1), dtype=LONG)
        for (y, x), (v, u) in product(np.ndindex(shape), np.ndindex(shape)):
            sums[v - y + h - 1, u - x + w - 1] += truth.second[y * w + x, v * w + u]
        signs = np.where(np.arange(h * w) % 3 == 1, -1.0, 1.0)
        forms = found.second.quadratic(signs.reshape(shape)) - signs @ truth.second @ signs
        errors = found.second.by_displacement() - sums / pair_counts(shape), forms / (h * w) ** 2
        bound = found.provenance.error + 2 * h * w * 2.0**-53
        yield Case(float(max(np.abs(e).max() for e in errors)), bound, _place(strategy, shape, law))


def _orthants(alphas: Sequence[float]) -> Iterator[Case]:
    for alpha in alphas:
        curve, deficits = Orthant.of(alpha), np.array(DEFICITS)
        error = np.abs(curve.near_one(deficits) - exact.orthant(alpha, deficits))
        yield Case(float(error.max()), curve.error, f"alpha={alpha:g}, r={1 - DEFICITS[int(error.argmax())]:g}")


def _deficits(shapes: Sequence[Shape], large: int) -> Iterator[Case]:
    for n in sorted({*(n for s in shapes for n in s), *([large] if large else [])}):
        for length in (0.0, 0.01, 0.021, 0.3, 1.0, 2.0, 0.49 * n, 0.51 * n, 0.9 * n, 3.0 * n, 100.0 * n):
            found, places = _deficit(length, n), sorted({0, 1 % n, n // 3, n // 2, n - 1})
            error = max(abs(float(found[p] - exact.wrapped_deficit(length, n, p))) for p in places)
            yield Case(error, 1e-12, f"length {length:g}, side {n}")


def _fields(alphas: Sequence[float], shapes: Sequence[Shape]) -> Iterator[Case]:
    for shape, alpha, length, sharp in product(shapes, alphas[::2], (0.0, 0.7, 1e4), (0.0, 0.5, 1.0)):
        pixels = np.stack(np.unravel_index(np.arange(shape[0] * shape[1]), shape), axis=1)
        apart = [np.array([exact.longdouble(exact.wrapped_deficit(length, n, p)) for p in range(n)]) for n in shape]
        gap = np.abs(pixels[:, None] - pixels[None])
        a, b = apart[0][gap[..., 0]], apart[1][gap[..., 1]]
        deficits = (1 - LONG(sharp)) + LONG(sharp) * (a + b - a * b)
        different, index = np.unique(deficits, return_inverse=True)
        both = exact.orthant(alpha, different)[index.reshape(deficits.shape)]
        for law, label in product(LAWS, LABELS):
            truth = Truth(np.full(len(pixels), LONG(alpha) / (2 * LONG(alpha) + 1)), both - 1 / (4 * LONG(alpha) + 2))
            if law == "exact" and label == "pixels":
                # label m, the mean of M: m (1 - M)(1 - M') + (1 - m) M M' in mean is S + 1/2 - u - u', E m M_j = u_j
                u = both.mean(axis=1)
                truth = Truth(1 - 2 * u, both + LONG(0.5) - u[:, None] - u[None, :])
            strategy = Field(alpha, length, sharp, label=label)
            yield _case(strategy, shape, law, truth, pixels)


def _transforms(shapes: Sequence[Shape], large: int, seed: int) -> Iterator[Case]:
    rng = stream(seed, "numerical_errors", "transforms")
    for shape in shapes:
        q, place = GMix().partner_weights(3, shape, rng=rng), f"{shape[0]}x{shape[1]}"
        sums = _autocorrelations(q.astype(LONG))
        counts = pair_counts(shape)
        found = Sampled(q).displacement_sums()
        size = float((q**2).sum() / len(q)) or 1.0  # 0 where nothing is taken
        bound = _transform_bound(shape)
        yield Case(float(np.abs(found - sums).max()) / size, bound, f"autocorrelations, {place}")
        table, u = (sums / counts).astype(float), rng.random(shape)
        table = (table + table[::-1, ::-1]) / 2
        h, w = shape
        direct = [
            (table[h - 1 - y : 2 * h - 1 - y, w - 1 - x : 2 * w - 1 - x].astype(LONG) * u).sum()
            for y, x in np.ndindex(shape)
        ]
        error = np.abs(Stationary(table).apply(u).ravel() - np.array(direct)).max()
        # |A u|_max <= |table| |u|, in the Euclidean norm
        size = float(np.linalg.norm(table) * np.linalg.norm(u)) or 1.0
        yield Case(float(error / size), bound, f"product with a map, {place}")
    if large:  # a box of a x b holds (a - |p|)(b - |p'|) pairs
        q = np.zeros((1, large, large))
        q[0, 3:100, 20:210] = 1.0
        p = np.abs(np.arange(1 - large, large))
        pairs = np.multiply.outer(np.maximum(97 - p, 0), np.maximum(190 - p, 0))
        error = np.abs(Sampled(q).displacement_sums() - pairs) / q.sum()
        yield Case(float(error.max()), _transform_bound((large, large)), f"a box in {large}x{large}")


def _transform_bound(shape: Shape) -> float:
    """Rounding of transforms of 2H x 2W numbers, relative to the Euclidean norms of what is multiplied."""
    return float(np.log2(4 * shape[0] * shape[1])) * 2.0**-53


def _autocorrelations(q: Array) -> Array:
    """Mean over draws of ``sum_j q_j q_{j+p}``, p by p."""
    _, h, w = q.shape
    out = np.zeros((2 * h - 1, 2 * w - 1), dtype=LONG)
    for y, x in product(range(h), range(1 - w, w)):
        first = q[:, : h - y, max(0, -x) : w - max(0, x)]
        second = q[:, y:, max(0, x) : w + min(0, x)]
        out[h - 1 + y, w - 1 + x] = out[h - 1 - y, w - 1 - x] = (first * second).sum() / len(q)
    return out
