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
from msda_theory.dense import PairWeights, pair_weights, terms_at_mask, terms_at_mean
from msda_theory.estimate import Estimate, Joint
from msda_theory.expansion import METHODS, exact_moments, first_order
from msda_theory.losses import Loss, SoftmaxCrossEntropy, as_loss
from msda_theory.masks.base import Strategy
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
    laws, points = _several(law), _several(at)
    if not models or not strategies or not laws or not points:
        raise ValueError("expected at least one model, strategy, law and point, got an empty list of one of them.")
    for one in laws:
        check_law(one)
    for one in points:
        check_at(one)
    if method not in METHODS:
        raise ValueError(f"expected method among {list(METHODS)}, got {method!r}; choose one of them.")
    loss = as_loss(SoftmaxCrossEntropy() if loss is None else loss, data.num_classes)
    for model in models.values():
        check_model(model, data, loss)
    seed = seed_from(rng)
    job = _Job(data, loss, points, method, draws, seed, batch_size)
    cases = list(product(strategies, laws))
    if method == "dense":
        moments = {(s, w): exact_moments(s, data, w) for s, w in cases}
    else:
        moments = {(s, w): s.moments(data.shape, law=w, rng=rng) for s, w in cases}
    shared = models.items() if method == "dense" and "data" in points else ()
    weights = {name: pair_weights(model, data, loss) for name, model in shared}
    cells = list(product(models.items(), strategies))
    rows: list[Row] = []
    for (name, model), strategy in tqdm(cells, desc="compare", unit="cell", disable=not progress):
        rows += job.rows(name, model, strategy, [moments[strategy, w] for w in laws], weights.get(name))
    return Comparison(tuple(rows), weights)


@dataclass(frozen=True, eq=False)
class _Job:
    """What all cells of a comparison share."""

    data: ImageData
    loss: Loss
    points: tuple[str, ...]
    method: str
    draws: int
    seed: int
    batch_size: int

    def rows(
        self, name: str, model: nn.Module, strategy: Strategy, moments: list[Moments], weights: PairWeights | None
    ) -> Iterator[Row]:
        """The rows of one model and strategy, for every law (of ``moments``) and point."""
        joint = self._sample(model, strategy, moments)
        clean = Estimate(float(clean_losses(model, self.data, self.loss).mean()), 0.0, len(self.data))
        for one, at in product(moments, self.points):
            if self.method == "dense":
                terms = self._dense_terms(model, strategy, one, at, weights, clean)
            else:
                terms = self._sampled_terms(model, one, at, joint, clean)
            labels = {"model": name, "strategy": strategy.name, "law": one.law, "at": at, "method": self.method}
            yield terms.row(joint, clean=clean, **labels)

    def _sample(self, model: nn.Module, strategy: Strategy, moments: list[Moments]) -> Joint:
        """The measured loss, and with sampled terms those of every law and point, jointly over all draws."""
        exact = draw_tiles(self.data, strategy, "exact", self.draws, self.seed)
        lawful = [draw_tiles(self.data, strategy, one.law, self.draws, self.seed) for one in moments]
        qbars = [torch.from_numpy(one.mean).to(self.data.x) for one in moments]
        parts = []
        for measured_tile, *tiles in zip(exact, *lawful, strict=True):
            values = {"measured": pair_losses(model, self.data, self.loss, measured_tile, self.batch_size)}
            for (one, tile, qbar), at in product(zip(moments, tiles, qbars, strict=True), self.points):
                if self.method == "sampled":
                    terms = pair_terms(model, self.data, self.loss, tile, at, qbar, self.batch_size)
                    values.update({f"{one.law}.{at}.{term}": v for term, v in terms.items()})
            parts.append(Joint.from_strata(values))
        return Joint.merge(parts)

    def _sampled_terms(self, model: nn.Module, moments: Moments, at: str, joint: Joint, clean: Estimate) -> _Terms:
        at_data = at == "data"
        r1 = first_order(model, self.data, self.loss, moments, at)
        base, first, r2, r3 = (f"{moments.law}.{at}.{term}" for term in ("base", "r1", "r2", "r3"))
        sampled = {r2: 1.0} if at_data else {base: 1.0, r2: 1.0}
        control = dict.fromkeys((base, first, r2, r3), -1.0)
        return _Terms(
            base=clean if at_data else joint[base],
            r1=r1,
            r2=joint[r2],
            r3=joint[r3],
            constant=clean.mean if at_data else 0.0,
            gn_weights=sampled,
            weights={**sampled, r3: 1.0},
            gap=joint.linear({"measured": 1.0, **control}),
        )

    def _dense_terms(
        self,
        model: nn.Module,
        strategy: Strategy,
        moments: Moments,
        at: str,
        weights: PairWeights | None,
        clean: Estimate,
    ) -> _Terms:
        base, r1 = clean.mean, 0.0
        if at == "data":
            assert weights is not None
            r1, r2, r3 = weights.terms(moments)
        elif at == "mean":
            base, r2, r3 = terms_at_mean(model, self.data, self.loss, moments)
        else:
            base, r2, r3 = terms_at_mask(model, self.data, self.loss, strategy, moments.law)
        m = len(self.data)
        return _Terms(
            base=Estimate(base, 0.0, m),
            r1=Estimate(r1, 0.0, m),
            r2=Estimate(r2, 0.0, m),
            r3=Estimate(r3, 0.0, m),
            constant=base + r2 + r3,
            gn_weights={},
            weights={},
            gap=None,
        )


@dataclass(frozen=True, eq=False)
class _Terms:
    """Terms at one point, and how ``predicted - r1`` follows from the sampled quantities."""

    base: Estimate
    r1: Estimate
    r2: Estimate
    r3: Estimate
    constant: float  # what is known without sampling, r1 apart
    gn_weights: dict[str, float]
    weights: dict[str, float]
    gap: Estimate | None

    def row(self, joint: Joint, *, clean: Estimate, **labels: str) -> Row:
        known = self.constant + self.r1.mean
        # Without sampled terms r3 is part of the constant, and leaves it for the Gauss-Newton share.
        known_gn = known if self.weights else known - self.r3.mean
        predicted = joint.linear(self.weights, known)
        n = joint.n if self.weights else self.base.n
        predicted = Estimate(predicted.mean, float(np.hypot(predicted.se, self.r1.se)), n)
        measured = joint["measured"]
        gap = self.gap or joint.linear({"measured": 1.0}, -known)
        # Where nothing is mixed both are the clean loss, up to rounding.
        rises = abs(measured.mean - clean.mean) > 1e-12 * (1 + abs(clean.mean))
        shares = (
            joint.ratio(weights, {"measured": 1.0}, (start - clean.mean, -clean.mean)) if rises else None
            for weights, start in ((self.weights, known), (self.gn_weights, known_gn))
        )
        explained, explained_gn = shares
        return Row(
            clean=clean,
            base=self.base,
            r1=self.r1,
            r2=self.r2,
            r3=self.r3,
            predicted=predicted,
            measured=measured,
            gap=gap,
            explained=explained,
            explained_gn=explained_gn,
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
