"""Tables across models and strategies: predicted against measured mixed loss, on paired draws."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, fields
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from msda_theory.checks import check_model
from msda_theory.data import ImageData
from msda_theory.dense import PairWeights, pair_weights
from msda_theory.engines import check_memory
from msda_theory.estimate import Estimate, Joint
from msda_theory.expansion import check_method, needed_moments
from msda_theory.kink import check_scale
from msda_theory.ladder import Ladder, dense_ladder, sampled_ladder
from msda_theory.losses import Loss, SoftmaxCrossEntropy, as_loss
from msda_theory.masks.base import Strategy, check_strategy
from msda_theory.moments.moments import Moments, check_law
from msda_theory.pairs import check_draws, tile_starts
from msda_theory.shards import Job, Shard, cells, run_shards, split
from msda_theory.streams import seed_from
from msda_theory.terms import check_at, clean_losses

if TYPE_CHECKING:
    import pandas

_RUNS = 8  # parts of each cell that an executor can take apart


@dataclass(frozen=True)
class Row:
    """One model, strategy, law and point of expansion.

    Attributes:
        model, strategy, law, at, method: what was computed.
        clean: loss at the data.
        base, r1, r2, r3: the terms.
        predicted: base + r1 + r2 + r3.
        measured: mixed loss (1), always under the exact law: what training minimises.
        gap: measured - predicted. With sampled terms it is estimated on the same draws with the sampled first-order
            term as control variate: same expectation as the difference of the columns, far smaller error.
        explained: ``(predicted - clean) / (measured - clean)``, Eq. (9b); None where nothing rises.
        explained_gn: the same without r3.
        kink: second-order response at the data by symmetric differences, K(t) of Eq. (3e), to be compared with
            r2 + r3 at the data; None unless asked for.
        kink_half: the same at t/2.
    """

    model: str
    strategy: str
    law: str
    at: str
    method: str
    clean: Estimate
    base: Estimate
    r1: Estimate
    r2: Estimate
    r3: Estimate
    predicted: Estimate
    measured: Estimate
    gap: Estimate
    explained: Estimate | None
    explained_gn: Estimate | None
    kink: Estimate | None = None
    kink_half: Estimate | None = None


@dataclass(frozen=True)
class Comparison:
    """Rows of `compare`, as estimates (``rows``) or as a table (``frame()``).

    Attributes:
        rows: one for each model, strategy, law and point.
        weights: `PairWeights` of each model by name, where dense terms at the data were asked for.
    """

    rows: tuple[Row, ...]
    weights: Mapping[str, PairWeights]

    def frame(self) -> pandas.DataFrame:
        """One line for each row.

        Columns: model strategy law at base r1 r2 r3 predicted measured se explained explained_gn, then clean, gap,
        kink, kink_half, the standard errors ``<column>_se``, the number of draws n, and method. ``se`` is that of
        ``measured``; ``explained`` is NaN where nothing rises (Vanilla).
        """
        import pandas  # here: only tables need it, and importing the package is quicker without it

        return pandas.DataFrame([_flat(row) for row in self.rows])


def compare(
    models: Mapping[str, nn.Module],
    data: ImageData,
    strategies: Sequence[Strategy],
    *,
    loss: Loss | Callable[[Tensor, Tensor], Tensor] | None = None,
    law: str | Sequence[str] = "exact",
    at: str | Sequence[str] = "data",
    method: str = "sampled",
    draws: int = 64,
    kink: float | None = None,
    rng: np.random.Generator,
    batch_size: int = 512,
    memory: int | None = None,
    executor: Executor | None = None,
    progress: bool = False,
) -> Comparison:
    """Expansion against measured mixed loss for every model, strategy, law and point.

    All cells share the partners and the random numbers behind the masks, so differences between models and between
    strategies have small errors; ``measured`` equals `mixed_loss` with an equal generator.

    Args:
        models: modules in eval mode, by name.
        data: images and labels.
        strategies: any strategies.
        loss: `SoftmaxCrossEntropy` by default.
        law: one law or several.
        at: one point of expansion or several.
        method: of the terms, as in `expand`; the measured loss is always sampled.
        draws: pairs for each image, at least 2.
        kink: scale t in (0, 1] of the symmetric second difference (3e), which `kink` describes; two more columns.
        rng: source of the draws; one integer is taken from it.
        batch_size: images in one plain forward pass; changes results by rounding only.
        memory: bytes of intermediate results in one propagation of Taylor coefficients, as in `expand`.
        executor: any ``concurrent.futures`` executor; the work is split by model, strategy and images, and the table
            is the same to the bit as without one, on equal machines. Every part carries its model and the data,
            pickled; threads of one process take turns.
        progress: show a progress bar.

    Raises:
        ValueError, TypeError: as `expand`; also for no model or no strategy.
    """
    laws, points = _several(law), _several(at)
    _check(models, strategies, laws, points)
    check_method(method)
    loss = as_loss(SoftmaxCrossEntropy() if loss is None else loss, data.num_classes)
    for model in models.values():
        check_model(model, data, loss)
    if kink is not None:
        check_scale(kink)
    check_draws(draws)
    check_memory(memory)
    if executor is not None and not isinstance(executor, Executor):
        raise TypeError(
            f"expected a concurrent.futures executor, got {type(executor).__name__}; for Dask pass "
            "client.get_executor()."
        )
    job = Job(
        data=data,
        loss=loss,
        laws=laws,
        points=points if method == "sampled" else (),
        kink=kink,
        draws=draws,
        seed=seed_from(rng),
        batch_size=batch_size,
        memory=memory,
        threads=torch.get_num_threads(),
    )
    shared = models.items() if method == "dense" and "data" in points else ()
    weights = {name: pair_weights(model, data, loss) for name, model in shared}
    moments = [_moments(job, strategy) for strategy in strategies]
    shards = _shards(job, models, strategies, moments, executor)
    parts: dict[tuple[str, int], list[Joint]] = {}
    for shard, joints in zip(shards, run_shards(job, shards, executor, progress), strict=True):
        parts.setdefault(shard.cell, []).extend(joints)
    rows: list[Row] = []
    for name, k in cells(models, strategies):
        cell = _Cell(job, name, models[name], strategies[k], moments[k], Joint.merge(parts[name, k]))
        rows += cell.rows(points, method, weights.get(name))
    return Comparison(tuple(rows), weights)


def _check(
    models: Mapping[str, nn.Module], strategies: Sequence[Strategy], laws: Sequence[str], points: Sequence[str]
) -> None:
    if not isinstance(models, Mapping):
        raise TypeError(f"expected models by name, got {type(models).__name__}; pass a dict, e.g. {{'net': model}}.")
    if isinstance(strategies, Strategy):
        raise TypeError(f"expected several strategies, got {strategies.name}; pass a list of them.")
    if not models or not strategies or not laws or not points:
        raise ValueError("expected at least one model, strategy, law and point, got an empty list of one of them.")
    for law in laws:
        check_law(law)
    for at in points:
        check_at(at)
    for strategy in strategies:
        check_strategy(strategy)


def _moments(job: Job, strategy: Strategy) -> dict[str, Moments | None]:
    return {
        law: needed_moments(strategy, job.data, law, job.points, job.seed) if job.points else None for law in job.laws
    }


def _shards(
    job: Job,
    models: Mapping[str, nn.Module],
    strategies: Sequence[Strategy],
    moments: Sequence[Mapping[str, Moments | None]],
    executor: Executor | None,
) -> list[Shard]:
    """One shard for each model and strategy; with an executor each is cut further, into up to 8 runs of tiles."""
    runs = split(tile_starts(job.data), 1 if executor is None else _RUNS)
    out = []
    for name, k in cells(models, strategies):
        qbars = {law: torch.from_numpy(m.mean).to(job.data.x) if m else None for law, m in moments[k].items()}
        out += [Shard((name, k), models[name], strategies[k], qbars, run) for run in runs]
    return out


@dataclass(frozen=True, eq=False)
class _Cell:
    """One model and strategy, with all that was sampled for them."""

    job: Job
    name: str
    model: nn.Module
    strategy: Strategy
    moments: Mapping[str, Moments | None]
    joint: Joint

    def rows(self, points: Sequence[str], method: str, weights: PairWeights | None) -> Iterator[Row]:
        """The rows for every law and point."""
        data, loss, joint, size = self.job.data, self.job.loss, self.joint, self.job.batch_size
        losses = clean_losses(self.model, data, loss, size)
        clean = Estimate(float(losses.mean()), 0.0, len(data))
        for law, at in product(self.job.laws, points):
            if method == "dense":
                ladder = dense_ladder(self.model, data, self.strategy, loss, law, at, clean, weights)
                gap = joint.linear({"measured": 1.0}, -ladder.total.mean)
            else:
                prefix = f"{law}.{at}."
                ladder = sampled_ladder(joint, prefix, self.model, data, loss, self.moments[law], at, clean, size)
                control = dict.fromkeys((f"{prefix}{term}" for term in ("base", "r1", "r2", "r3")), -1.0)
                gap = joint.linear({"measured": 1.0, **control})
            yield self._row(ladder, gap, law=law, at=at, method=method)

    def _row(self, ladder: Ladder, gap: Estimate, *, law: str, at: str, method: str) -> Row:
        joint, clean, measured = self.joint, ladder.clean, self.joint["measured"]
        # Where nothing is mixed both are the clean loss, up to rounding.
        rounding = 1e4 * torch.finfo(self.job.data.x.dtype).eps
        rises = abs(measured.mean - clean.mean) > rounding * (1 + abs(clean.mean))
        kinked = self.job.kink is not None
        return Row(
            model=self.name,
            strategy=self.strategy.name,
            law=law,
            at=at,
            method=method,
            clean=clean,
            base=ladder.base,
            r1=ladder.r1,
            r2=ladder.r2,
            r3=ladder.r3,
            predicted=ladder.total,
            measured=measured,
            gap=gap,
            explained=ladder.share(joint, with_r3=True) if rises else None,
            explained_gn=ladder.share(joint, with_r3=False) if rises else None,
            kink=joint[f"{law}.kink"] if kinked else None,
            kink_half=joint[f"{law}.kink_half"] if kinked else None,
        )


def _several(value: str | Sequence[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


def _flat(row: Row) -> dict[str, object]:
    labels = {f.name: getattr(row, f.name) for f in fields(row)}
    estimates = {k: v for k, v in labels.items() if isinstance(v, Estimate) or v is None}
    mean = {k: v.mean if v else float("nan") for k, v in estimates.items()}
    first = ("base", "r1", "r2", "r3", "predicted", "measured")
    errors = {f"{k}_se": v.se if v else float("nan") for k, v in estimates.items() if k not in ("clean", "measured")}
    kinks = {k: mean[k] for k in ("kink", "kink_half") if labels[k] is not None}
    errors = {k: v for k, v in errors.items() if not k.startswith("kink") or k.removesuffix("_se") in kinks}
    return {
        **{k: labels[k] for k in ("model", "strategy", "law", "at")},
        **{k: mean[k] for k in first},
        "se": row.measured.se,
        "explained": mean["explained"],
        "explained_gn": mean["explained_gn"],
        "clean": mean["clean"],
        "gap": mean["gap"],
        **kinks,
        **errors,
        "n": row.measured.n,
        "method": row.method,
    }
