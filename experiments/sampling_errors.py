"""Errors of sampled quantities against what they state, and of finite differences."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import nn

from experiments.error_rows import Case, named, row
from experiments.mask_references import Shape
from msda_theory.data import ImageData
from msda_theory.distance import gradient_term_by_displacement, gradient_weights
from msda_theory.ellipsoids import Ellipsoid, ellipsoid
from msda_theory.estimate import Estimate
from msda_theory.expansion import expand
from msda_theory.kink import kink
from msda_theory.losses import SoftmaxCrossEntropy, Squared
from msda_theory.masks.base import Strategy
from msda_theory.masks.cutmix import CutMix
from msda_theory.masks.gmix import GMix
from msda_theory.masks.hmix import HMix
from msda_theory.mixed_loss import mixed_loss
from msda_theory.moments.moments import Moments
from msda_theory.rademacher import rademacher_complexity
from msda_theory.sampled_distance import sampled_gradient_term
from msda_theory.streams import seeded, stream

CLASSES, IMAGES = 3, 4
SMALL: Shape = (3, 3)
EVENTS = 30  # a normal interval needs about as many draws that count
DEVIATIONS = 5.0  # of a share, or of a spread, over repeats; a right error is beyond once in two million times
Z = 1.959963984540054  # normal quantile at 0.975
STEPS = (1.0, 1 / 8, 1e-3, 1e-5)
Sampler = Callable[[np.random.Generator], Estimate]


def network(shape: Shape, *, linear: bool = False) -> nn.Module:
    """A small smooth network on images of one channel, in float64; linear for exact cases."""
    d = shape[0] * shape[1]
    with seeded(5):
        layers = [nn.Linear(d, CLASSES)] if linear else [nn.Linear(d, 8), nn.Tanh(), nn.Linear(8, CLASSES)]
        return nn.Sequential(nn.Flatten(), *layers).double().eval()


def images(shape: Shape, seed: int, *, count: int = IMAGES) -> ImageData:
    """Standard normal pixels."""
    rng = stream(seed, "numerical_errors", "images")
    x = torch.from_numpy(rng.standard_normal((count, 1, *shape)))
    return ImageData(x, torch.arange(count) % CLASSES, CLASSES)


def rows(alphas: Sequence[float], shapes: Sequence[Shape], repeats: int, draws: int, seed: int) -> list[dict[str, Any]]:
    """One row for each kind of approximation."""
    span, sizes = f"alpha {min(alphas):g} to {max(alphas):g}", ", ".join(f"{h}x{w}" for h, w in shapes)
    shares, plain, spreads, rare = [], [], [], []
    for name, sampler, truth, expected in _samplers(alphas, draws, seed):
        share, raw, spread = coverage(name, sampler, truth, repeats, seed)
        if expected >= EVENTS:
            shares.append(share)
            plain.append(raw)
            spreads.append(spread)
        else:
            place = f"{raw.place}, where {expected:.1f} draws are expected to take any of the partner"
            rare.append(raw._replace(place=place))
    sampled = (
        f"{repeats} repeats of {draws} draws for each of {IMAGES} images; total of the expansion, mixed loss, "
        + (f"R2 at a displacement, moments, complexity; {span}")
    )
    exact = "enumeration of the law"
    interval = "Sampling: share of 95 % intervals that hold the truth"
    beyond = [
        row(f"{interval}, where events are rare (`estimate`)", reference=exact,
            covered=f"as two rows above, where fewer than {EVENTS} draws are expected to take any of the partner",
            measure="absolute, share less 0.95", promise="none: `Estimate.interval` warns of it", cases=rare)
    ] if rare else []  # fmt: skip
    return [
        row(f"{interval} (`estimate`)", reference=exact, covered=sampled
            + f", where {EVENTS} draws or more are expected to take any of the partner",
            measure="absolute, share less 0.95", promise="none: draws are skewed, see the next row", cases=plain),
        row(f"{interval}, beyond what skewed draws may cost (`estimate`)",
            reference="second-order term of Hall (1992)", covered="as above",
            measure="absolute, share outside 0.95 less that term to 0.95",
            promise=f"0 within {DEVIATIONS:g} standard errors of a share", cases=shares),
        *beyond,
        row("Sampling: stated standard error against the spread over repeats (`estimate`)",
            reference="standard deviation over repeats", covered="as three rows above" if rare else "as two rows above",
            measure="relative",
            promise=f"0 within {DEVIATIONS:g} standard errors of a spread", cases=spreads),
        row("Finite differences of the kink, rounding (`kink`)",
            reference="R2 + R3, exact for squares of linear models",
            covered=f"steps {STEPS[-1]:g} to 1; {sizes}", measure="absolute",
            promise="none; rounding of a loss over t^2, 4e-15 (1 + loss) / t^2", cases=_rounding(shapes, seed)),
        row("Finite differences of the kink, truncation at the step 1/8 (`kink`)",
            reference="R2 + R3 of a smooth network", covered=span, measure="relative to R2 + R3",
            promise="none; only the order, next row", cases=_truncation(alphas, seed)),
        row("Finite differences of the kink, order of the truncation (`kink`)",
            reference="R2 + R3 of a smooth network", covered=f"steps 1/64 to 1/256; {span}",
            measure="absolute, ratio of the excess at t/2 and t, less 1/4",
            promise="order t^2: 0 but for a term in t^2, 0.05 at these steps", cases=_order(alphas, seed)),
    ]  # fmt: skip


def coverage(name: str, sampler: Sampler, truth: float, repeats: int, seed: int) -> tuple[Case, Case, Case]:
    """Share of intervals that hold ``truth``: how far outside what is expected of skewed draws, and less .95; and the
    spread of the means over the stated error, less 1.
    """
    found = [sampler(stream(seed, "numerical_errors", name, str(k))) for k in range(repeats)]
    mean, se = np.array([f.mean for f in found]), np.array([f.se for f in found])
    share = float((np.abs(mean - truth) <= Z * se).mean())
    expected = min(0.95 - shortfall(mean, found[0].n), 0.95)  # too low where the mean is very skewed
    outside = max(expected - share, share - 0.95, 0.0)
    spread = float(np.sqrt(((mean - truth) ** 2).mean() / (se**2).mean()))
    noise = math.sqrt(0.95 * 0.05 / repeats), math.sqrt(1 / (2 * repeats))
    return (
        Case(outside, DEVIATIONS * noise[0], f"{name}: {share:.3f}, expected {expected:.3f} to 0.95"),
        Case(abs(share - 0.95), None, f"{name}: {share:.3f}"),
        Case(abs(spread - 1), DEVIATIONS * noise[1], f"{name}: {spread:.3f}"),
    )


def shortfall(means: np.ndarray, n: int) -> float:
    """By how much normal 95 % intervals of ``means`` of n draws each hold the truth less often, to order 1/n.

    ``2 phi(z) (g^2 (z^5 + 2 z^3 - 3 z) / 18 - k (z^3 - 3 z) / 12 + (z^3 + z) / (4 n))`` with the skewness g and excess
    kurtosis k of the mean, those of one draw over sqrt(n) and n (Hall, The Bootstrap and Edgeworth Expansion, 1992,
    Section 2.6; the last term for variances with n - 1).
    """
    centred = means - means.mean()
    if not (variance := float((centred**2).mean())):
        return 0.0
    g, k = (centred**3).mean() / variance**1.5, (centred**4).mean() / variance**2 - 3
    odd = g**2 * (Z**5 + 2 * Z**3 - 3 * Z) / 18 - k * (Z**3 - 3 * Z) / 12 + (Z**3 + Z) / (4 * n)
    return float(2 * math.exp(-(Z**2) / 2) / math.sqrt(2 * math.pi) * odd)


def strategies(alpha: float) -> list[Strategy]:
    """Laws that are sampled."""
    return [CutMix(alpha), HMix(alpha), GMix(alpha)]


def _samplers(alphas: Sequence[float], draws: int, seed: int) -> Iterator[tuple[str, Sampler, float, float]]:
    """Name, sampler, truth, and how many of its draws are expected to take anything of the partner."""
    model, data = network(SMALL), images(SMALL, seed)
    pairs, middle = draws * len(data), (SMALL[0] - 1, SMALL[1] - 1)
    weights = gradient_weights(model, data)
    for alpha in sorted({min(alphas), sorted(alphas)[len(alphas) // 2 - 1], max(alphas)}):
        for s in strategies(alpha):
            moments, where = s.moments(SMALL), named(s)
            atoms, probability = s.atoms(SMALL).partner("exact")
            anywhere, corner = (float(probability @ (q > 0.01)) for q in (atoms.max(axis=(1, 2)), atoms[:, 0, 0]))
            terms = expand(model, data, s, method="dense").total.mean
            taken = pairs * anywhere
            yield f"mixed loss, {where}", partial(_loss, model, data, s, draws), enumerated(model, data, s), taken
            yield f"terms, {where}", partial(_total, model, data, s, draws), terms, taken
            diagonal = float(moments.second.diagonal()[0, 0])
            yield f"moments, {where}", partial(_square, s, 4 * draws), diagonal, 4 * draws * corner
            truth = float(gradient_term_by_displacement(weights, moments)[middle])
            yield f"R2 at displacement 0, {where}", partial(_centre, model, data, s, draws), truth, taken
    metric = ellipsoid(CutMix().moments(SMALL), data)
    truth = rademacher_complexity(metric, data, draws=None).truncated.mean
    yield "complexity", partial(_complexity, metric, data, pairs), truth, math.inf


def _loss(model: nn.Module, data: ImageData, strategy: Strategy, draws: int, rng: np.random.Generator) -> Estimate:
    return mixed_loss(model, data, strategy, draws=draws, rng=rng)


def _total(model: nn.Module, data: ImageData, strategy: Strategy, draws: int, rng: np.random.Generator) -> Estimate:
    return expand(model, data, strategy, draws=draws, rng=rng).total


def _centre(model: nn.Module, data: ImageData, strategy: Strategy, draws: int, rng: np.random.Generator) -> Estimate:
    found, centre = sampled_gradient_term(model, data, strategy, draws=draws, rng=rng), (SMALL[0] - 1, SMALL[1] - 1)
    return Estimate(float(found.value[centre]), float(found.se[centre]), found.n)


def _complexity(metric: Ellipsoid, data: ImageData, draws: int, rng: np.random.Generator) -> Estimate:
    return rademacher_complexity(metric, data, draws=draws, rng=rng).truncated


def _square(strategy: Strategy, draws: int, rng: np.random.Generator) -> Estimate:
    """a_jj at a corner from draws, with the error that the moments of draws state there."""
    q = strategy.partner_weights(draws, SMALL, rng=rng)[:, :1, :1]
    found = Moments.from_draws(q, "exact")
    return Estimate(float(found.second.diagonal()[0, 0]), found.provenance.error, draws)


def enumerated(model: nn.Module, data: ImageData, strategy: Strategy) -> float:
    """The mixed loss, Eq. (1), as a sum over images, partners and atoms of the law."""
    q, p = strategy.atoms(data.shape).partner("exact")
    weights, loss, total = torch.from_numpy(q)[:, None], SoftmaxCrossEntropy(), 0.0
    for x, y in zip(data.x, data.y, strict=True):
        target = loss.targets(y[None], data.num_classes, torch.float64).expand(len(q), -1)
        for r in data.x:
            with torch.no_grad():
                values = loss.value(model(x + weights * (r - x)), target)
            total += float(torch.from_numpy(p) @ values)
    return total / len(data) ** 2


def _rounding(shapes: Sequence[Shape], seed: int) -> Iterator[Case]:
    for shape, step in product(shapes, STEPS):
        found = kink(network(shape, linear=True), images(shape, seed), CutMix(), loss=Squared(), scale=step, draws=4,
                     rng=stream(seed, "rounding"))  # fmt: skip
        loss = 1 + float((images(shape, seed).x ** 2).sum(dim=(1, 2, 3)).mean())
        where = f"step {step:g}, {shape[0]}x{shape[1]}"
        yield Case(abs(found.excess.mean), 4e-15 * (1 + loss) / step**2, where)


def _truncation(alphas: Sequence[float], seed: int) -> Iterator[Case]:
    model, data = network(SMALL), images(SMALL, seed)
    for alpha in alphas:
        for s in strategies(alpha):
            found = kink(model, data, s, draws=16, rng=stream(seed, "truncation"))
            if found.derivatives.mean:  # no pair of HMix may be mixed at a small alpha
                error = abs(found.excess.mean / found.derivatives.mean)
                yield Case(error, None, f"{named(s)}, R2 + R3 = {found.derivatives.mean:.2g}")


def _order(alphas: Sequence[float], seed: int) -> Iterator[Case]:
    model, data = network(SMALL), images(SMALL, seed)
    for alpha, step in product(alphas, (1 / 64, 1 / 128)):
        for s in strategies(alpha):
            found = kink(model, data, s, scale=step, draws=16, rng=stream(seed, "truncation"))
            if found.excess.mean:
                error = abs(found.excess_half.mean / found.excess.mean - 0.25)
                yield Case(error, 0.05, f"{named(s)}, step {step:g}")
