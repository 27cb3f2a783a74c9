"""What is measured on a model of the user's own: terms, ladder, order of the remainder, R2 by distance, mask laws."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import nn

from msda_theory.compare import Row, compare
from msda_theory.data import ImageData
from msda_theory.distance import gradient_term_by_displacement, gradient_weights
from msda_theory.engines import Engines
from msda_theory.estimate import Estimate
from msda_theory.masks.base import Strategy
from msda_theory.masks.batches import SeparableMasks, Shape
from msda_theory.moments.displacements import ByDistance
from msda_theory.order_ladder import order_ladder
from msda_theory.streams import stream
from msda_theory.taylor import Taylor
from msda_theory.verify import remainder_order

KINK = 1 / 8  # step t of the second-order response by symmetric differences, docs/theory.md, Eq. (3e)
SCALES = (1 / 32, 1 / 128, 1 / 512, 1 / 2048)  # steps of the remainder
_PIXELS = 4096  # of the exact map over displacements, at most
_OPERATIONS = 2e12  # of that map: a minute or so
_FEWEST = 4  # images behind that map
_ENTRIES = 2**24  # of the masks drawn for the label error: 128 MB
Array = np.ndarray


@dataclass(frozen=True)
class Options:
    """What to compute; the same for every model and strategy, whose draws are then the same too.

    Attributes:
        laws: of q, at the data; elsewhere only the exact law, or the only one given.
        points: of expansion.
        draws: pairs for each image.
        ladder: all rungs of the order ladder too.
        quadratic: that rung at the data and the mean too, three times as long as all others together.
        remainder_images: images of the order of the remainder; 0 leaves it out.
        seed: of the draws.
    """

    laws: tuple[str, ...] = ("exact", "paper")
    points: tuple[str, ...] = ("data", "mean", "mask")
    draws: int = 8
    ladder: bool = True
    quadratic: bool = False
    remainder_images: int = 4
    seed: int = 0

    @property
    def parts(self) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
        """Laws and points that go together: all laws at the data, one elsewhere."""
        one = ("exact",) if "exact" in self.laws else self.laws[:1]
        elsewhere = tuple(p for p in self.points if p != "data")
        both = [(self.laws, ("data",)) if "data" in self.points else ((), ()), (one, elsewhere)]
        return [(laws, points) for laws, points in both if points]


def measure(
    model: nn.Module, data: ImageData, strategy: Strategy, options: Options, *, batch_size: int, memory: int | None
) -> dict[str, Any]:
    """Terms, rungs and remainder of one model under one strategy; all on the draws of ``options.seed``."""
    terms: list[dict[str, Any]] = []
    rungs: list[dict[str, Any]] = []
    engines = Engines(model, data.x, memory)
    for laws, points in options.parts:
        rng, kink = stream(options.seed, "compare"), KINK if "data" in points else None
        how: dict[str, Any] = {"draws": options.draws, "batch_size": batch_size, "memory": memory}
        found = compare({"": model}, data, [strategy], law=laws, at=points, kink=kink, rng=rng, **how)
        terms += [_term(row) for row in found.rows]
        if options.ladder:
            rungs += _rungs(model, data, strategy, options, laws, points, {**how, "engines": engines})
    return {"terms": terms, "ladder": rungs, "remainder": remainder(model, data, strategy, options)}


def _term(row: Row) -> dict[str, Any]:
    values = {f.name: getattr(row, f.name) for f in fields(row) if f.name != "model"}
    return {k: _estimate(v) if isinstance(v, Estimate) else v for k, v in values.items()}


def _estimate(value: Estimate) -> dict[str, float]:
    return {"mean": value.mean, "se": value.se, "n": value.n}


def _rungs(
    model: nn.Module,
    data: ImageData,
    strategy: Strategy,
    options: Options,
    laws: tuple[str, ...],
    points: tuple[str, ...],
    how: dict[str, Any],
) -> list[dict[str, Any]]:
    """Rungs at the data alone, or at all other points with the default stand-ins; draws are those of the terms."""
    how = how | ({"stand_ins": {}} if points == ("data",) else {})
    rng = stream(options.seed, "compare")
    table = order_ladder(model, data, [strategy], laws=laws, ats=points, quadratic=options.quadratic, rng=rng, **how)
    rows = [{k: getattr(r, k) for k in ("strategy", "law", "at", "rung", "value", "share")} for r in table.rows]
    return [{k: _estimate(v) if isinstance(v, Estimate) else v for k, v in r.items()} for r in rows]


def remainder(model: nn.Module, data: ImageData, strategy: Strategy, options: Options) -> dict[str, Any]:
    """Slope of the remainder of the terms at the data on a few images in float64, or why there is none.

    Each draw's terms come from its own derivatives, so that this checks the derivatives of this model.
    """
    if options.remainder_images < 1:
        return {"strategy": strategy.name, "slope": None, "reason": "left out"}
    few = data[: options.remainder_images].to(torch.float64)
    rng = stream(options.seed, "remainder")
    try:
        twin = copy.deepcopy(model).double()
        if Taylor(twin, few.x[:2]).kinked:
            reason = (
                "not applicable: piecewise-linear units (ReLU, max pooling) cross kinks on the way, which adds a term "
                "that falls with the square of the step"
            )
            return {"strategy": strategy.name, "slope": None, "reason": reason}
        law = options.parts[0][0][0]
        found = remainder_order(
            twin, few, strategy, law=law, scales=SCALES, method="paired", draws=options.draws, rng=rng
        )
    except (ValueError, TypeError, RuntimeError) as error:  # a float32 constant inside, nothing mixed, a linear model
        return {"strategy": strategy.name, "slope": None, "reason": f"not applicable: {str(error).splitlines()[0]}"}
    sizes = [r.mean for r in found.remainder]
    labels = {"strategy": strategy.name, "law": law, "slope": found.slope, "reason": None, "images": len(few)}
    return {**labels, "t": found.scales, "remainder": sizes, "fitted": found.fitted}


def by_distance(model: nn.Module, data: ImageData, strategies: Sequence[Strategy], options: Options) -> dict[str, Any]:
    """R2 at the data by pixel distance, exact, of every strategy and law; fewer images where it would take long."""
    pixels, inputs = data.shape[0] * data.shape[1], data.x[0].numel()
    images = min(len(data), int(_OPERATIONS / (2 * inputs**2 * (data.num_classes + 1))))
    if pixels > _PIXELS or images < _FEWEST:
        reason = f"not computed: {data.shape[0]}x{data.shape[1]} pixels and {data.num_classes} classes take too long"
        return {"images": 0, "reason": reason, "rows": []}
    weights = gradient_weights(model, data[:images], batch_size=8)
    rows = []
    for s in strategies:
        for law in options.laws:
            moments = s.moments(data.shape, law=law, rng=stream(options.seed, "moments", law))
            sums = gradient_term_by_displacement(weights, moments)
            value = _per_pixel(ByDistance.of(sums, mean=False), mean=False)
            rows.append({"strategy": s.name, "law": law, "r2": float(sums.sum()), "value": value})
    return {"images": images, "reason": None, "rows": rows}


def law_summary(strategy: Strategy, shape: Shape, laws: Sequence[str], seed: int) -> list[dict[str, Any]]:
    """Moments of q and coefficients a(p) of one strategy at one image size, for each law; label weights by draws."""
    kept, lam = _kept(strategy, shape, stream(seed, "labels"))
    rows = []
    for law in laws:
        moments = strategy.moments(shape, law=law, rng=stream(seed, "moments", law))
        diagonal = moments.second.diagonal()
        curve = _per_pixel(moments.second.by_distance(), mean=True)[: max(shape)]
        rows.append(
            {
                "strategy": strategy.name,
                "law": law,
                "shape": shape,
                "label_weight": _mean(lam),
                "label_error": _mean(np.abs(lam - kept)),
                "taken": {"min": moments.mean.min(), "mean": moments.mean.mean(), "max": moments.mean.max()},
                "diagonal": {"min": diagonal.min(), "mean": diagonal.mean(), "max": diagonal.max()},
                "distance": np.arange(len(curve)),
                "coefficient": curve,
                "provenance": moments.provenance,
            }
        )
    return rows


def _kept(strategy: Strategy, shape: Shape, rng: np.random.Generator) -> tuple[Array, Array]:
    """Share of pixels kept and label weight of draws (M, lam)."""
    n = max(500, min(20_000, _ENTRIES // (shape[0] * shape[1])))
    batch = strategy.sample_compact(n, shape, rng=rng)
    return (batch.mean if isinstance(batch, SeparableMasks) else batch.mask.mean(axis=(1, 2))), batch.lam


def _mean(values: Array) -> dict[str, float]:
    return {"mean": float(values.mean()), "se": float(values.std(ddof=1) / np.sqrt(len(values))), "n": len(values)}


def _per_pixel(curve: ByDistance, *, mean: bool) -> Array:
    """Sums, or means over pairs, over the distances that round to 0, 1, ... pixels."""
    index = np.rint(curve.distance).astype(int)
    if not mean:
        return np.bincount(index, weights=curve.value)
    return np.bincount(index, weights=curve.value * curve.pairs) / np.bincount(index, weights=curve.pairs)
