"""Errors of float32 and 16-bit formats in models and images, and of eigenvalues that are cut off."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np
import torch
from mpmath import mp, mpf

from experiments import mask_references as exact
from experiments.error_rows import Case, named, row
from experiments.mask_references import Array, Shape, Truth
from experiments.sampling_errors import SMALL, images, network, strategies
from msda_theory.data import ImageData
from msda_theory.ellipsoids import effective_dimension, ellipsoid
from msda_theory.expansion import expand
from msda_theory.linear_models import least_squares_optimum
from msda_theory.masks.base import Strategy
from msda_theory.masks.batches import MaskBatch
from msda_theory.masks.cutmix import CutMix
from msda_theory.masks.gmix import GMix
from msda_theory.masks.hmix import HMix
from msda_theory.masks.mixup import Mixup
from msda_theory.mixed_loss import mixed_loss
from msda_theory.mixing import mix_images
from msda_theory.streams import stream

UNITS = {torch.float32: 2.0**-24, torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11}
CUT, WHOLE = (
    (1.0, 1e-4, 1e-7),
    (1.0, 1e-2, 1e-5),
)  # deviations of half of the pixels, so that eigenvalues are cut or not
MASKS = 100
_DIGITS = 40


def rows(alphas: Sequence[float], shapes: Sequence[Shape], large: int, seed: int) -> list[dict[str, Any]]:
    """One row for each kind of approximation."""
    span, sizes = f"alpha {min(alphas):g} to {max(alphas):g}", ", ".join(f"{h}x{w}" for h, w in shapes)
    wide = f"{sizes}, {large}x{large}" if large else sizes
    rough = (
        f"Mixup, CutMix, HMix, GMix; {span}; images of 3x3, half of whose pixels deviate by 1 to {{:g}}, others by 1"
    )
    return [
        row("float32: mixed loss and terms from draws (`mixed_loss`, `expansion`)",
            reference="float64 on the same draws", covered=f"{span}; HMix ratio 0 to 1; at the data; {sizes}",
            measure="relative: mixed loss, to itself; terms, to |R1| + |R2| + |R3|",
            promise="none; the tests ask for 1e-4", cases=_sampled(alphas, shapes, seed)),
        row("float32: terms at the mean and at the mask, and exact ones (`expansion`)",
            reference="float64, on the same draws",
            covered=f"{span}; HMix ratio 0 to 1; exact terms, at the mask where the law has {MASKS} masks at most; 3x3",
            measure="base, relative; terms, to |R1| + |R2| + |R3|", promise="none; the tests ask for 1e-4",
            cases=_points(alphas, seed)),
        row("Mixed images in float32, float16, bfloat16 (`mixing`)", reference="the same images and masks in float64",
            covered=f"Mixup, CutMix, HMix ratio 0 and 1, GMix; {span}; {wide}",
            measure="units of rounding of the format, pixels in [0, 1]",
            promise="none; 6: of a weight 3, of the interpolation 3",
            cases=_mixed([*shapes, *([(large, large)] if large else [])], alphas, seed)),
        row("Effective dimension, eigenvalues cut off at 1e-10 (`ellipsoids`)",
            reference="eigenvalues to 40 digits, moments by enumeration", covered=rough.format(CUT[-1]),
            measure="relative, of the trace",
            promise="D (2^-52 + stated error of A / its largest entry) / smallest relative eigenvalue kept",
            cases=_dimension(alphas, seed)),
        row("Exact optimum of least squares, eigenvalues cut off at 1e-12 (`linear_models`)",
            reference="the normal equations to 40 digits, moments by enumeration", covered=rough.format(WHOLE[-1]),
            measure="relative, Euclidean norm of W", promise="D 2^-52 times the condition number",
            cases=_optimum(alphas, seed)),
    ]  # fmt: skip


def _laws(alpha: float) -> list[Strategy]:
    return [Mixup(alpha), HMix(alpha, 0.0), HMix(alpha, 1.0), *strategies(alpha)]


def _terms(model: torch.nn.Module, data: ImageData, strategy: Strategy, **options: Any) -> Array:
    found = expand(model, data, strategy, **options)
    return np.array([getattr(found, k).mean for k in ("base", "r1", "r2", "r3")])


def _difference(single: Array, double: Array) -> float:
    """Largest relative error of the base, and of the terms to the sum of their sizes."""
    base = abs(single[0] / double[0] - 1)
    # boxes of CutMix are empty in one row: all terms are 0 then, in both precisions
    return float(max(base, np.abs(single - double)[1:].max() / (np.abs(double[1:]).sum() or 1.0)))


def _both(shape: Shape, seed: int) -> list[tuple[torch.nn.Module, ImageData]]:
    """The network and images in float64 and float32."""
    data = images(shape, seed)
    return [(network(shape), data), (network(shape).float(), data.to(torch.float32))]


def _sampled(alphas: Sequence[float], shapes: Sequence[Shape], seed: int) -> Iterator[Case]:
    for shape, alpha in product(shapes, sorted({min(alphas), 1.0, max(alphas)})):
        both = _both(shape, seed)
        for s in _laws(alpha):
            where = f"{named(s)}, {shape[0]}x{shape[1]}"
            loss = [mixed_loss(m, d, s, draws=8, rng=stream(seed, "single")).mean for m, d in both]
            yield Case(abs(loss[1] / loss[0] - 1), 1e-4, f"mixed loss, {where}")
            double, single = (_terms(m, d, s, draws=8, rng=stream(seed, "single")) for m, d in both)
            yield Case(_difference(single, double), 1e-4, f"terms, {where}")


def _points(alphas: Sequence[float], seed: int) -> Iterator[Case]:
    both = _both(SMALL, seed)
    for alpha in sorted({min(alphas), 1.0, max(alphas)}):
        for s, at, method in product(_laws(alpha), ("data", "mean", "mask"), ("sampled", "dense")):
            if (at, method) == ("data", "sampled") or ((at, method) == ("mask", "dense") and not _few(s)):
                continue  # in the row above; minutes, for thousands of masks
            sampled = method == "sampled"
            double, single = (
                _terms(m, d, s, at=at, method=method, draws=8, rng=stream(seed, "points") if sampled else None)
                for m, d in both
            )
            place = f"{method}, at the {at}, {named(s)}"
            yield Case(_difference(single, double), 1e-4, place)


def _few(strategy: Strategy) -> bool:
    return len(strategy.atoms(SMALL).weight) <= MASKS


def _mixed(shapes: Sequence[Shape], alphas: Sequence[float], seed: int) -> Iterator[Case]:
    rng = stream(seed, "numerical_errors", "mixing")
    for shape, alpha in product(shapes, sorted({min(alphas), 1.0, max(alphas)})):
        wide = torch.from_numpy(rng.random((4, 1, *shape)))
        for s, (dtype, unit) in product(_laws(alpha), UNITS.items()):
            x, partner, draws = wide.to(dtype), rng.permutation(4), s.sample_compact(4, shape, rng=rng)
            masks = torch.from_numpy((draws if isinstance(draws, MaskBatch) else draws.dense()).mask)[:, None]
            truth = masks * x.double() + (1 - masks) * x.double()[torch.from_numpy(partner)]
            error = (mix_images(x, partner, draws).double() - truth).abs().max() / unit
            yield Case(float(error), 6.0, f"{named(s)}, {str(dtype).removeprefix('torch.')}, {shape[0]}x{shape[1]}")


def _truths(alphas: Sequence[float]) -> Iterator[tuple[Strategy, Truth]]:
    """Moments of the exact law at all pixels."""
    pixels = np.stack(np.unravel_index(np.arange(SMALL[0] * SMALL[1]), SMALL), axis=1)
    cut, none, half = (exact.boxes(SMALL, pixels, r, "clipped", p) for r, p in ((1.0, 0), (0.0, 1), (0.5, 1)))
    bumps = exact.bumps(SMALL, pixels)
    for alpha in alphas:
        yield CutMix(alpha), exact.cutmix(alpha, "exact", "pixels", cut)
        yield Mixup(alpha), exact.hmix(alpha, "exact", none)
        yield HMix(alpha), exact.hmix(alpha, "exact", half)
        yield GMix(alpha), exact.gmix(alpha, "exact", "pixels", bumps)


def _rough(spread: float, seed: int) -> ImageData:
    """Images of which every other pixel deviates little, so that eigenvalues lie far apart."""
    data, d = images(SMALL, seed, count=30), SMALL[0] * SMALL[1]
    factors = torch.where(torch.arange(d) % 2 == 1, spread, 1.0).double().reshape(SMALL)
    return ImageData(data.x * factors, data.y, data.num_classes)


def _matrix(values: Array) -> mp.matrix:
    """80-bit numbers [n, k] as those of mpmath."""
    high = values.astype(float)
    low = (values - high).astype(float)
    return mp.matrix(
        [[mpf(float(a)) + mpf(float(b)) for a, b in zip(*r, strict=True)] for r in zip(high, low, strict=True)]
    )


def _dimension(alphas: Sequence[float], seed: int) -> Iterator[Case]:
    for spread, (strategy, truth) in product(CUT, list(_truths(alphas))):
        data = _rough(spread, seed)
        moments = strategy.moments(SMALL)
        metric = ellipsoid(moments, data)
        found = effective_dimension(metric, data).trace
        with mp.workdps(_DIGITS):
            x, a = _matrix(data.x.flatten(1).numpy()), _matrix(truth.second)
            second, n = x.T * x / len(data), x.cols
            values, vectors = mp.eigsy(mp.matrix([[a[j, k] * second[j, k] for k in range(n)] for j in range(n)]))
            kept = [k for k in range(n) if values[k] > mpf(metric.cutoff) * max(values)]
            trace = mpf(0)
            for k in kept:
                v = vectors[:, k]
                trace += (v.T * second * v)[0] / values[k]
            error = abs(float(found / trace - 1))
            smallest = float(min(values[k] for k in kept) / max(values))
        digits = 2.0**-52 + moments.provenance.error / float(moments.second.diagonal().max())
        bound = n * digits / smallest
        yield Case(
            error, bound, f"{named(strategy)}, spread {spread:g}, {len(kept)} of {n} kept, smallest {smallest:.1g}"
        )


def _optimum(alphas: Sequence[float], seed: int) -> Iterator[Case]:
    for spread, (strategy, truth) in product(WHOLE, list(_truths(alphas))):
        data = _rough(spread, seed)
        weight, _ = least_squares_optimum(data, strategy.moments(SMALL))
        with mp.workdps(_DIGITS):
            x, y = (_matrix(v.numpy()) for v in (data.x.flatten(1), torch.nn.functional.one_hot(data.y).double()))
            a, q, m, n = _matrix(truth.second), _matrix(truth.mean[:, None]), len(data), x.cols
            ones = mp.ones(m, m) / m
            x, y = x - ones * x, y - ones * y
            covariance, cross = x.T * x / m, y.T * x / m
            left = mp.matrix(n, n)
            for j, k in np.ndindex(n, n):
                left[j, k] = (1 - q[j] - q[k] + 2 * a[j, k]) * covariance[j, k]
            right = mp.matrix([[cross[c, k] * (1 - q[k]) for k in range(n)] for c in range(cross.rows)])
            inverse = left**-1
            expected = right * inverse
            values = mp.eigsy(left, eigvals_only=True)
            condition = float(max(values) / min(values))
            gap = _matrix(weight.numpy()) - expected
            error = float(mp.norm(gap, 2) / mp.norm(expected, 2))
        yield Case(error, n * 2.0**-52 * condition, f"{named(strategy)}, spread {spread:g}, condition {condition:.1g}")
