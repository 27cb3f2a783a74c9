"""Numbers that describe a mask law: shares, label error, probabilities of replacement, coefficients by distance.

Of measured laws with standard errors by batch means: the draws are cut, in the order of their calls, into blocks; the
spread of the blocks contains what draws of one call share (a position, an alpha).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from msda_theory.dense import PairWeights
from msda_theory.masks.base import Strategy
from msda_theory.masks.batches import Array, SeparableMasks, Shape
from msda_theory.masks.measured import MeasuredLaw
from msda_theory.moments.displacements import ByDistance
from msda_theory.moments.moments import Moments

BLOCKS = 50
CURVE_BLOCKS = 10  # of the coefficient by distance, where each block costs transforms
NAMES = ("share", "label_error", "corner", "edge", "centre")
_LABEL_DRAWS = 100_000

Value = dict[str, float]


def batch_means(values: Array, weight: Array, blocks: int = BLOCKS) -> tuple[Array, Array]:
    """Weighted mean of ``values`` [N, ...] over consecutive draws, and its standard error from ``blocks`` blocks."""
    parts = np.array_split(np.arange(len(values)), blocks)
    sums = np.stack([np.tensordot(weight[p], values[p], axes=1) for p in parts])
    masses = np.array([weight[p].sum() for p in parts]).reshape(-1, *[1] * (values.ndim - 1))
    mean = sums.sum(axis=0) / masses.sum()
    deviations = (sums - masses * mean) / masses.sum()
    return mean, np.sqrt((deviations**2).sum(axis=0) * blocks / (blocks - 1))


def over_networks(values: Array, draws: Array | None = None, *, common: float = 0.0) -> dict[str, Any]:
    """Mean over networks [n] and its standard error.

    The error over networks contains that of their independent ``draws`` [n]; but few networks know it badly, and by
    chance as far too small: the larger of the two is taken. ``common`` to all networks is the error of a measured law.
    """
    n = len(values)
    spread = float(values.std(ddof=1) / np.sqrt(n)) if n > 1 else 0.0
    inner = 0.0 if draws is None else float(np.linalg.norm(draws) / n)
    return {"mean": float(values.mean()), "se": float(np.hypot(max(spread, inner), common)), "networks": values}


def measured(law: MeasuredLaw) -> dict[str, Any]:
    """`NAMES` of a measured law and its corners one by one, with errors."""
    taken = 1 - np.asarray(law.store[slice(0, len(law))], dtype=float)
    share = taken.mean(axis=(1, 2))
    columns = [share, np.abs(law.lam - (1 - share)), *_places(taken)]
    mean, se = batch_means(np.stack(columns, axis=1), law.weight)
    corners = batch_means(_corners(taken), law.weight)
    return {
        "draws": len(law),
        **{name: _value(mean[k], se[k]) for k, name in enumerate(NAMES)},
        "corners": [_value(*v) for v in zip(*corners, strict=True)],
    }


def exact(strategy: Strategy, shape: Shape, *, rng: np.random.Generator) -> dict[str, Any]:
    """The same of a strategy of this package, without error but for a label error, which is sampled.

    With lam as label weight, qbar is ``2 E[lam (1 - M)] + 1/2 - E[1 - M]`` under the exact law, Eq. (2), and
    ``2 E[lam (1 - M)]`` under the paper's, Eq. (2a); the second less the first, plus 1/2, is ``E[1 - M]``.
    """
    nominal = replace(strategy, label="nominal") if hasattr(strategy, "label") else strategy  # type: ignore[type-var]
    paper, own = (nominal.moments(shape, law=law).mean for law in ("paper", "exact"))
    taken = (paper - own + 0.5)[None]
    batch = strategy.sample_compact(_LABEL_DRAWS, shape, rng=rng)
    kept = batch.mean if isinstance(batch, SeparableMasks) else batch.mask.mean(axis=(1, 2))
    error = np.abs(batch.lam - kept)
    places = [_value(float(v[0]), 0.0) for v in (taken.mean(axis=(1, 2)), *_places(taken))]
    label = _value(float(error.mean()), float(error.std(ddof=1) / np.sqrt(len(error))))
    return {
        "draws": 0,
        **dict(zip(("share", "corner", "edge", "centre"), places, strict=True)),
        "label_error": label,
        "corners": [_value(v, 0.0) for v in _corners(taken)[0]],
    }


def curve(strategy: Strategy, shape: Shape) -> dict[str, Any]:
    """The coefficient a(p), exact law, over pairs whose distance rounds to 0, 1, ... pixels, with errors."""
    if not isinstance(strategy, MeasuredLaw):
        value = _binned(strategy.moments(shape), shape)
        return {"distance": np.arange(len(value)), "coefficient": value, "se": np.zeros(len(value))}
    parts = np.array_split(np.arange(len(strategy)), CURVE_BLOCKS)
    weight = np.array([strategy.weight[p].sum() for p in parts])
    values = np.stack([_binned(_part(strategy, p).moments(shape), shape) for p in parts])
    mean, se = batch_means(values, weight, CURVE_BLOCKS)
    return {"distance": np.arange(len(mean)), "coefficient": mean, "se": se}


def terms_of_draws(law: MeasuredLaw, weights: Sequence[PairWeights]) -> Array:
    """R1, R2, R3 at the data given each draw of (M, w) [N, 3, networks]; their means are those of the law's moments."""
    mask = np.asarray(law.store[slice(0, len(law))], dtype=float).reshape(len(law), -1)
    own = law.lam[:, None]
    sides = ((own, 1 - mask), (1 - own, mask))  # q is 1 - M with probability w, else M
    out = np.empty((len(law), 3, len(weights)))
    for k, w in enumerate(weights):
        out[:, 0, k] = sum((p * q) @ w.first.reshape(-1) for p, q in sides)
        for row, matrix in ((1, w.gradient), (2, w.hessian)):
            out[:, row, k] = sum(0.5 * p[:, 0] * ((q @ matrix) * q).sum(axis=1) for p, q in sides)
    return out


def _places(taken: Array) -> list[Array]:
    """Means [n] of maps [n, H, W] over the corners, the middles of the four edges, and the centre."""
    h, w = taken.shape[1:]
    rows, columns = [(h - 1) // 2, h // 2], [(w - 1) // 2, w // 2]
    sides, ends = taken[:, rows][:, :, [0, -1]], taken[:, [0, -1]][:, :, columns]
    edge = np.stack([sides, ends]).mean(axis=(0, 2, 3))
    return [_corners(taken).mean(axis=1), edge, taken[:, rows][:, :, columns].mean(axis=(1, 2))]


def _corners(taken: Array) -> Array:
    """Upper left, upper right, lower left, lower right [n, 4]."""
    return taken[:, [0, 0, -1, -1], [0, -1, 0, -1]]


def _part(law: MeasuredLaw, index: Array) -> MeasuredLaw:
    part = slice(int(index[0]), int(index[-1]) + 1)
    weight = law.weight[part]
    return MeasuredLaw(law.store[part], law.lam[part], weight / weight.sum(), law.label)


def _binned(moments: Moments, shape: Shape) -> Array:
    by: ByDistance = moments.second.by_distance()
    index = np.rint(by.distance).astype(int)
    total, pairs = (np.bincount(index, weights=v) for v in (by.pairs * by.value, by.pairs))
    return (total / pairs)[: max(shape)]


def _value(mean: float, se: float) -> Value:
    return {"mean": float(mean), "se": float(se)}
