"""Errors of sampled quantities against what they state, of float32 against float64, of finite differences."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import nn

from experiments.error_rows import Case, row
from experiments.mask_references import Shape
from msda_theory.data import ImageData
from msda_theory.estimate import Estimate
from msda_theory.expansion import expand
from msda_theory.kink import kink
from msda_theory.losses import SoftmaxCrossEntropy, Squared
from msda_theory.masks.base import Strategy
from msda_theory.masks.cutmix import CutMix
from msda_theory.masks.gmix import GMix
from msda_theory.masks.hmix import HMix
from msda_theory.masks.mixup import Mixup
from msda_theory.mixed_loss import mixed_loss
from msda_theory.moments.moments import Moments
from msda_theory.streams import seeded, stream

CLASSES, IMAGES = 3, 4
SMALL: Shape = (3, 3)
DEVIATIONS = 5.0  # of a share, or of a spread, over repeats; a right error is beyond once in two million times
STEPS = (1.0, 1 / 8, 1e-3, 1e-5)
Sampler = Callable[[np.random.Generator], Estimate]


def network(shape: Shape, *, linear: bool = False) -> nn.Module:
    """A small smooth network on images of one channel, in float64; linear for exact cases."""
    d = shape[0] * shape[1]
    with seeded(5):
        layers = [nn.Linear(d, CLASSES)] if linear else [nn.Linear(d, 8), nn.Tanh(), nn.Linear(8, CLASSES)]
        return nn.Sequential(nn.Flatten(), *layers).double().eval()


def images(shape: Shape, seed: int) -> ImageData:
    """Standard normal pixels."""
    rng = stream(seed, "numerical_errors", "images")
    x = torch.from_numpy(rng.standard_normal((IMAGES, 1, *shape)))
    return ImageData(x, torch.arange(IMAGES) % CLASSES, CLASSES)


def rows(alphas: Sequence[float], shapes: Sequence[Shape], repeats: int, draws: int, seed: int) -> list[dict[str, Any]]:
    """One row for each kind of approximation."""
    span, sizes = f"alpha {min(alphas):g} to {max(alphas):g}", ", ".join(f"{h}x{w}" for h, w in shapes)
    shares, spreads = [], []
    for name, sampler, truth in _samplers(alphas, draws, seed):
        share, spread = coverage(name, sampler, truth, repeats, seed)
        shares.append(share)
        spreads.append(spread)
    sampled = f"{repeats} repeats of {draws} draws; mixed loss, R1 + R2 + R3, moments; {span}"
    exact = "enumeration of the law"
    digits = "relative: mixed loss, to itself; terms, to |R1| + |R2| + |R3|"
    return [
        row("Sampling: share of 95 % intervals that hold the truth (`estimate`)", reference=exact, covered=sampled,
            measure="absolute, share less 0.95", promise=f"0 within {DEVIATIONS:g} standard errors of a share",
            cases=shares),
        row("Sampling: stated standard error against the spread over repeats (`estimate`)",
            reference="standard deviation over repeats", covered=sampled, measure="relative",
            promise=f"0 within {DEVIATIONS:g} standard errors of a spread", cases=spreads),
        row("float32: mixed loss and terms (`mixed_loss`, `expansion`)", reference="float64 on the same draws",
            covered=f"{span}; HMix ratio 0 to 1; {sizes}", measure=digits, promise="none; the tests ask for 1e-4",
            cases=_single(alphas, shapes, seed)),
        row("Finite differences of the kink, rounding (`kink`)",
            reference="R2 + R3, exact for squares of linear models",
            covered=f"steps {STEPS[-1]:g} to 1; {sizes}", measure="absolute",
            promise="none; rounding of a loss over t^2, 4e-15 (1 + loss) / t^2", cases=_rounding(shapes, seed)),
        row("Finite differences of the kink, truncation (`kink`)", reference="R2 + R3 of a smooth network",
            covered=f"steps 1/8 to 1/64; {span}", measure="absolute, ratio of the excess at t/2 and t, less 1/4",
            promise="of order t^2: 0.05 at these steps", cases=_truncation(alphas, seed)),
    ]  # fmt: skip


def coverage(name: str, sampler: Sampler, truth: float, repeats: int, seed: int) -> tuple[Case, Case]:
    """Share of intervals that hold ``truth``, less .95, and spread of the means over the stated error, less 1."""
    found = [sampler(stream(seed, "numerical_errors", name, str(k))) for k in range(repeats)]
    mean, se = np.array([f.mean for f in found]), np.array([f.se for f in found])
    share = float((np.abs(mean - truth) <= 1.959963984540054 * se).mean())
    spread = float(np.sqrt(((mean - truth) ** 2).mean() / (se**2).mean()))
    noise = math.sqrt(0.95 * 0.05 / repeats), math.sqrt(1 / (2 * repeats))
    return (
        Case(abs(share - 0.95), DEVIATIONS * noise[0], f"{name}: {share:.3f}"),
        Case(abs(spread - 1), DEVIATIONS * noise[1], f"{name}: {spread:.3f}"),
    )


def strategies(alpha: float) -> list[Strategy]:
    """Laws that are sampled."""
    return [CutMix(alpha), HMix(alpha), GMix(alpha)]


def _samplers(alphas: Sequence[float], draws: int, seed: int) -> Iterator[tuple[str, Sampler, float]]:
    model, data = network(SMALL), images(SMALL, seed)
    for alpha in (min(alphas), max(alphas)):
        for s in strategies(alpha):
            moments = s.moments(SMALL)
            terms = expand(model, data, s, method="dense").total.mean
            yield (f"mixed loss, {s.name}", lambda rng, s=s: mixed_loss(model, data, s, draws=draws, rng=rng),
                   enumerated(model, data, s))  # fmt: skip
            yield (f"terms, {s.name}", lambda rng, s=s: expand(model, data, s, draws=draws, rng=rng).total, terms)
            corner = float(moments.second.diagonal()[0, 0])
            yield f"moments, {s.name}", lambda rng, s=s: _square(s, 4 * draws, rng), corner


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


def _single(alphas: Sequence[float], shapes: Sequence[Shape], seed: int) -> Iterator[Case]:
    for shape in shapes:
        double, data = network(shape), images(shape, seed)
        single = network(shape).float()
        for alpha in (min(alphas), 1.0, max(alphas)):
            for s in (Mixup(alpha), HMix(alpha, 0.0), HMix(alpha, 1.0), *strategies(alpha)):
                where = f"{s.name}, {shape[0]}x{shape[1]}"
                runs = [(double, data), (single, data.to(torch.float32))]
                loss = [mixed_loss(m, d, s, draws=8, rng=stream(seed, "single")).mean for m, d in runs]
                yield Case(abs(loss[1] / loss[0] - 1), 1e-4, f"mixed loss, {where}")
                terms = [expand(m, d, s, draws=8, rng=stream(seed, "single")) for m, d in runs]
                found = np.array([[getattr(t, k).mean for k in ("r1", "r2", "r3")] for t in terms])
                error = float(np.abs(found[1] - found[0]).max() / np.abs(found[0]).sum())
                yield Case(error, 1e-4, f"terms, {where}")


def _rounding(shapes: Sequence[Shape], seed: int) -> Iterator[Case]:
    for shape, step in product(shapes, STEPS):
        found = kink(network(shape, linear=True), images(shape, seed), CutMix(), loss=Squared(), scale=step, draws=4,
                     rng=stream(seed, "rounding"))  # fmt: skip
        loss = 1 + float((images(shape, seed).x ** 2).sum(dim=(1, 2, 3)).mean())
        where = f"step {step:g}, {shape[0]}x{shape[1]}"
        yield Case(abs(found.excess.mean), 4e-15 * (1 + loss) / step**2, where)


def _truncation(alphas: Sequence[float], seed: int) -> Iterator[Case]:
    model, data = network(SMALL), images(SMALL, seed)
    for alpha, step in product((min(alphas), 1.0, max(alphas)), (1 / 8, 1 / 32)):
        for s in strategies(alpha):
            found = kink(model, data, s, scale=step, draws=16, rng=stream(seed, "truncation"))
            yield Case(abs(found.excess_half.mean / found.excess.mean - 0.25), 0.05, f"{s.name}, step {step:g}")
