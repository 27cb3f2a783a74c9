"""Training on the theory: the expansion of the mixed loss as a loss of its own, differentiable in the parameters."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from msda_theory.checks import check_model
from msda_theory.data import ImageData
from msda_theory.losses import Loss, SoftmaxCrossEntropy, as_loss
from msda_theory.masks.base import Strategy, check_strategy
from msda_theory.moments.moments import check_law
from msda_theory.pairs import PairBatch
from msda_theory.streams import seed_from, stream
from msda_theory.taylor import Taylor
from msda_theory.terms import check_at, point_and_step

TERMS = ("r1", "r2", "r3", "linear")


@dataclass(frozen=True, eq=False)
class BatchExpansion:
    """Estimates of the expansion on a batch, scalars in float64, differentiable in the parameters of the model.

    Attributes:
        base: mean loss at the point of expansion.
        terms: the terms that were asked for, by name.
    """

    base: Tensor
    terms: dict[str, Tensor]

    @property
    def total(self) -> Tensor:
        """base plus the terms that were asked for."""
        return self.base + sum(self.terms.values(), torch.zeros_like(self.base))


class ExpansionLoss:
    """The expansion (3), (3b) or (3c) of the mixed loss on batches, for training; docs/theory.md, Eqs. (3t) and (3u).

    ``base + sum of terms``, where R2 and R3 are means over ``pairs`` sampled (q, r) for each image of the batch, R1
    comes from the closed first moment of q. In place of R1 and R2, "linear" takes the network linear in the step but
    the loss as it is: ``E l(f + J delta) - l(f)``, Eq. (3l), of which R1 + R2 is the second order. Given the batch, the
    estimate and its gradient are unbiased. The gradient is that of everything: of the derivatives in the input, of the
    curvature h'' and of the residual h' - y too.

    At the data R1 and R3 have no sign, and neither ``L + R1``, ``L + R1 + R2`` nor anything with R3 is bounded below
    (docs/theory.md, Section 3.8): training on them may diverge. Base + R2 around either mean is never negative.

    The module is traced at the first batch. It is used in eval mode; statistics of BatchNorm stay as they are.
    """

    def __init__(
        self,
        model: nn.Module,
        population: ImageData,
        strategy: Strategy,
        *,
        loss: Loss | Callable[[Tensor, Tensor], Tensor] | None = None,
        law: str = "exact",
        at: str = "data",
        terms: Collection[str] = ("r1", "r2", "r3"),
        pairs: int = 4,
        rng: np.random.Generator | None = None,
    ) -> None:
        """For batches of images like those of ``population``.

        Args:
            model: module in eval mode with outputs [B, c].
            population: where partners are drawn from; its mean is mu.
            strategy: any `Strategy`.
            loss: `SoftmaxCrossEntropy` by default; any loss of the form ``h(f) - y.f``.
            law: ``"exact"`` or ``"paper"``.
            at: point of expansion, ``"data"``, ``"mean"`` or ``"mask"``.
            terms: those to add to the base, among r1, r2, r3 and linear. Around a mean R1 is 0.
            pairs: sampled (q, r) for each image of a batch.
            rng: for the moments of strategies that have no closed ones; not needed by others.

        Raises:
            ValueError: unknown law, point or term, terms that count twice, fewer than 1 pair, no closed moments and no
                ``rng``; a model or loss outside the theory (train mode, samples that influence each other).
            TypeError: dtypes that disagree, a strategy that is none, ``terms`` that are one text.
        """
        check_law(law)
        check_at(at)
        check_strategy(strategy)
        if isinstance(terms, str):
            raise TypeError(
                f"expected several terms of the objective, got {terms!r}; pass a tuple such as ({terms!r},)."
            )
        if unknown := sorted(set(terms) - set(TERMS)):
            raise ValueError(f"expected terms of the objective among {list(TERMS)}, got {unknown}; leave them out.")
        if "linear" in terms and {"r1", "r2"} & set(terms):
            raise ValueError(f"the term linear holds r1 and r2 to second order, got {sorted(terms)}; leave some out.")
        if pairs < 1:
            raise ValueError(f"expected at least 1 pair (q, r) for each image of a batch, got {pairs}; raise pairs.")
        self.loss = as_loss(SoftmaxCrossEntropy() if loss is None else loss, population.num_classes)
        check_model(model, population, self.loss)
        self.model, self.population, self.strategy = model, population, strategy
        self.law, self.at, self.terms, self.pairs = law, at, tuple(t for t in TERMS if t in terms), pairs
        self._qbar: Tensor | None = None
        if at == "mean" or (at == "data" and "r1" in terms):
            self._qbar = torch.from_numpy(strategy.moments(population.shape, law=law, rng=rng).mean).to(population.x)
        self._engine: Taylor | None = None

    def __call__(self, batch: ImageData, *, rng: np.random.Generator) -> BatchExpansion:
        """The estimate for a batch, from fresh pairs.

        Partners and masks come from streams of their own: equal seeds give equal partners to every strategy.

        Raises:
            TypeError: if ``rng`` is not a numpy.random.Generator.
            ValueError: as `Taylor`, if the model or the images changed their kind.
        """
        seed, n, k = seed_from(rng), len(batch), self.pairs
        partner = stream(seed, "partner").integers(len(self.population), size=(n, k))
        q = self.strategy.partner_weights(n * k, batch.shape, law=self.law, rng=stream(seed, "mask"))
        r = self.population.x[torch.from_numpy(partner).to(batch.x.device)]
        return self.at_pairs(batch, torch.from_numpy(q).to(batch.x).reshape(n, k, *batch.shape), r)

    def at_pairs(self, batch: ImageData, q: Float[Tensor, "B K H W"], r: Float[Tensor, "B K C H W"]) -> BatchExpansion:
        """The estimate from given pairs: masks q [B, K, H, W] and partners r [B, K, C, H, W] of each image."""
        mu, k = self.population.mean, q.shape[1]
        pairs = PairBatch(batch.x[:, None], q[:, :, None], r, batch.y)
        point, step = point_and_step(pairs, self.at, mu, self._qbar)
        y = self.loss.targets(batch.y, batch.num_classes, torch.float64)
        if self.at == "mask":  # every pair has a point of its own
            point, steps, y = point.flatten(0, 1), step.flatten(0, 1)[None], y.repeat_interleave(k, dim=0)
        else:
            point, steps = point[:, 0], step.transpose(0, 1)
        first_order = self.at == "data" and "r1" in self.terms
        if not set(self.terms) - {"r1"}:
            steps = steps[:0]
        weights = [1.0] * len(steps)
        if first_order and self._qbar is not None:  # E[delta], of which no second derivative is needed
            steps, weights = torch.cat([(self._qbar * (mu - batch.x))[None], steps]), [0.0, *weights]
        if not weights:
            return self._result(self.loss.value(self.model(point).double(), y).mean(), {})
        if self._engine is None:
            self._engine = Taylor(self.model, point)
        t = self._engine(point, steps, weights)
        f, first, second = t.value.double(), t.first.double(), t.second.double()
        found, residual = {}, self.loss.d1(f) - y
        if first_order:
            found["r1"] = (residual * first[0]).sum(dim=-1).mean()
            first = first[1:]
        if len(first):
            flat, start = first.flatten(0, 1), f.repeat(len(first), 1)  # [K B, c]
            found["r2"] = 0.5 * (flat * self.loss.d2(start, flat)).sum(dim=-1).mean()
            found["r3"] = 0.5 * (residual * second).sum(dim=-1).mean() / len(first)
            ends = self.loss.value(start + flat, y.repeat(len(first), 1))
            found["linear"] = ends.mean() - self.loss.value(f, y).mean()
        return self._result(self.loss.value(f, y).mean(), found)

    def _result(self, base: Tensor, found: dict[str, Tensor]) -> BatchExpansion:
        zero = torch.zeros_like(base)
        return BatchExpansion(base, {name: found.get(name, zero) for name in self.terms})


def expansion_loss(
    model: nn.Module,
    batch: ImageData,
    strategy: Strategy,
    *,
    population: ImageData | None = None,
    loss: Loss | Callable[[Tensor, Tensor], Tensor] | None = None,
    law: str = "exact",
    at: str = "data",
    terms: Collection[str] = ("r1", "r2", "r3"),
    pairs: int = 4,
    rng: np.random.Generator,
) -> BatchExpansion:
    """One estimate of the expansion on a batch, differentiable in the parameters; `ExpansionLoss` for many.

    Args:
        population: where partners come from; the batch itself by default.

    The other arguments, and what is raised, are those of `ExpansionLoss`.
    """
    moments_rng = stream(seed_from(rng), "moments")
    population = batch if population is None else population
    objective = ExpansionLoss(
        model, population, strategy, loss=loss, law=law, at=at, terms=terms, pairs=pairs, rng=moments_rng
    )
    return objective(batch, rng=rng)
