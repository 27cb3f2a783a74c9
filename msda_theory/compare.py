"""Tables across models and strategies: predicted against measured mixed loss, on paired draws."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import product

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from tqdm import tqdm

from msda_theory.checks import check_model
from msda_theory.data import ImageData
from msda_theory.dense import PairWeights, pair_weights
from msda_theory.estimate import Estimate, Joint
from msda_theory.expansion import check_method, needed_moments
from msda_theory.ladder import Ladder, dense_ladder, sampled_ladder
from msda_theory.losses import Loss, SoftmaxCrossEntropy, as_loss
from msda_theory.masks.base import Strategy, check_strategy
from msda_theory.moments.moments import Moments, check_law
from msda_theory.pairs import draw_tiles
from msda_theory.streams import seed_from
from msda_theory.terms import check_at, clean_losses, pair_losses, pair_terms


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


@dataclass(frozen=True)
class Comparison:
    """Rows of `compare`, as estimates (``rows``) or as a table (``frame()``).

    Attributes:
        rows: one for each model, strategy, law and point.
        weights: `PairWeights` of each model by name, where dense terms at the data were asked for.
    """

    rows: tuple[Row, ...]
    weights: Mapping[str, PairWeights]

    def frame(self) -> pd.DataFrame:
        """One line for each row.

        Columns: model strategy law at base r1 r2 r3 predicted measured se explained explained_gn, then clean, gap,
        the standard errors ``<column>_se``, the number of draws n, and method. ``se`` is that of ``measured``;
        ``explained`` is NaN where nothing rises (Vanilla).
        """
        return pd.DataFrame([_flat(row) for row in self.rows])


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
    rng: np.random.Generator,
    batch_size: int = 512,
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
        rng: source of the draws; one integer is taken from it.
        batch_size: pairs evaluated at once; changes results by rounding only.
        progress: show a progress bar.

    Raises:
        ValueError, TypeError: as `expand`; also for no model or no strategy.
    """
    if not isinstance(models, Mapping):
        raise TypeError(f"expected models by name, got {type(models).__name__}; pass a dict, e.g. {{'net': model}}.")
    if isinstance(strategies, Strategy):
        raise TypeError(f"expected several strategies, got {strategies.name}; pass a list of them.")
    laws, points = _several(law), _several(at)
    if not models or not strategies or not laws or not points:
        raise ValueError("expected at least one model, strategy, law and point, got an empty list of one of them.")
    for one in laws:
        check_law(one)
    for one in points:
        check_at(one)
    check_method(method)
    for strategy in strategies:
        check_strategy(strategy)
    loss = as_loss(SoftmaxCrossEntropy() if loss is None else loss, data.num_classes)
    for model in models.values():
        check_model(model, data, loss)
    job = _Job(data, loss, laws, points, method, draws, seed_from(rng), batch_size)
    shared = models.items() if method == "dense" and "data" in points else ()
    weights = {name: pair_weights(model, data, loss) for name, model in shared}
    cells = list(product(models.items(), strategies))
    rows: list[Row] = []
    for (name, model), strategy in tqdm(cells, desc="compare", unit="cell", disable=not progress):
        rows += job.rows(name, model, strategy, weights.get(name))
    return Comparison(tuple(rows), weights)


@dataclass(frozen=True, eq=False)
class _Job:
    """What all cells of a comparison share."""

    data: ImageData
    loss: Loss
    laws: tuple[str, ...]
    points: tuple[str, ...]
    method: str
    draws: int
    seed: int
    batch_size: int

    def rows(self, name: str, model: nn.Module, strategy: Strategy, weights: PairWeights | None) -> Iterator[Row]:
        """The rows of one model and strategy, for every law and point."""
        losses = clean_losses(model, self.data, self.loss, self.batch_size)
        clean = Estimate(float(losses.mean()), 0.0, len(self.data))
        moments: dict[str, Moments | None] = {}
        if self.method == "sampled":
            moments = {law: needed_moments(strategy, self.data, law, self.points, self.seed) for law in self.laws}
        joint = self._sample(model, strategy, moments)
        for law, at in product(self.laws, self.points):
            if self.method == "dense":
                ladder = dense_ladder(model, self.data, strategy, self.loss, law, at, clean, weights)
                gap = joint.linear({"measured": 1.0}, -ladder.total.mean)
            else:
                prefix, of = f"{law}.{at}.", moments[law]
                ladder = sampled_ladder(joint, prefix, model, self.data, self.loss, of, at, clean, self.batch_size)
                control = dict.fromkeys((f"{prefix}{term}" for term in ("base", "r1", "r2", "r3")), -1.0)
                gap = joint.linear({"measured": 1.0, **control})
            yield self._row(ladder, joint, gap, model=name, strategy=strategy.name, law=law, at=at, method=self.method)

    def _sample(self, model: nn.Module, strategy: Strategy, moments: Mapping[str, Moments | None]) -> Joint:
        """The measured loss, and with sampled terms those of every law and point, jointly over all draws."""
        exact = draw_tiles(self.data, strategy, "exact", self.draws, self.seed)
        lawful = [draw_tiles(self.data, strategy, law, self.draws, self.seed) for law in self.laws]
        qbars = {law: torch.from_numpy(of.mean).to(self.data.x) if of else None for law, of in moments.items()}
        parts = []
        for measured_tile, *tiles in zip(exact, *lawful, strict=True):
            values = {"measured": pair_losses(model, self.data, self.loss, measured_tile, self.batch_size)}
            by_law = dict(zip(self.laws, tiles, strict=True))
            for (law, qbar), at in product(qbars.items(), self.points):
                terms = pair_terms(model, self.data, self.loss, by_law[law], at, qbar, self.batch_size)
                values.update({f"{law}.{at}.{term}": v for term, v in terms.items()})
            parts.append(Joint.from_strata(values))
        return Joint.merge(parts)

    def _row(self, ladder: Ladder, joint: Joint, gap: Estimate, **labels: str) -> Row:
        measured, clean = joint["measured"], ladder.clean
        # Where nothing is mixed both are the clean loss, up to rounding.
        rounding = 1e4 * torch.finfo(self.data.x.dtype).eps
        rises = abs(measured.mean - clean.mean) > rounding * (1 + abs(clean.mean))
        return Row(
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
            **labels,
        )


def _several(value: str | Sequence[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


def _flat(row: Row) -> dict[str, object]:
    labels = {f.name: getattr(row, f.name) for f in fields(row)}
    estimates = {k: v for k, v in labels.items() if isinstance(v, Estimate) or v is None}
    mean = {k: v.mean if v else float("nan") for k, v in estimates.items()}
    first = ("base", "r1", "r2", "r3", "predicted", "measured")
    errors = {f"{k}_se": v.se if v else float("nan") for k, v in estimates.items() if k not in ("clean", "measured")}
    return {
        **{k: labels[k] for k in ("model", "strategy", "law", "at")},
        **{k: mean[k] for k in first},
        "se": row.measured.se,
        "explained": mean["explained"],
        "explained_gn": mean["explained_gn"],
        "clean": mean["clean"],
        "gap": mean["gap"],
        **errors,
        "n": row.measured.n,
        "method": row.method,
    }
