"""Contrastive training with mixed hard negatives."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from msda_theory.graph.contrast import LOSSES, binary_cross_entropy, info_nce
from msda_theory.graph.encoders import ContrastiveModel, Representations, Views, contrastive_model
from msda_theory.graph.hardness import MODES, Kept, hardness, select
from msda_theory.graph.negatives import draw_partners, draw_weights, mix_negatives
from msda_theory.masks.base import Strategy, check_option, check_strategy
from msda_theory.masks.dropmix import DropMix
from msda_theory.masks.vanilla import Vanilla
from msda_theory.streams import seed_from, stream

WEIGHTS = ("best", "last")


@dataclass(frozen=True)
class Recipe:
    """How the encoders are trained; the defaults are those that Ma, Chen, Li 2023 publish.

    Attributes:
        strategy: law of the weights on dimensions; `Vanilla` mixes nothing.
        mode: whose ranking of hardness counts, see `select`.
        low, high: shares of the ranking that are kept; 0 and 1 keep every negative, and no hardness is computed.
        loss: ``"bce"`` or ``"info_nce"``, of bilinear scores of nodes of one view and the summary of the other.
        temperature: of ``"info_nce"``.
        width: units of the encoders.
        epochs, patience: training ends after so many epochs, or so many in a row without a loss below the lowest one.
        lr, weight_decay: of Adam.
        weights: ``"best"``: those of the lowest training loss; ``"last"``: those at the end. The step after an epoch
            that ends training early is not taken.
        search: precision of the search in `hardness`.
    """

    strategy: Strategy = field(default_factory=DropMix)
    mode: str = "per_view"
    low: float = 0.15
    high: float = 0.95
    loss: str = "bce"
    temperature: float = 1.0
    width: int = 512
    epochs: int = 600
    patience: int = 20
    lr: float = 1e-3
    weight_decay: float = 2e-3
    weights: str = "best"
    search: str | None = None

    def __post_init__(self) -> None:
        check_strategy(self.strategy)
        check_option("mode", self.mode, MODES)
        check_option("loss", self.loss, LOSSES)
        check_option("weights", self.weights, WEIGHTS)
        check_option("search", self.search or "float32", ("float32", "bfloat16"))
        if not 0 <= self.low < self.high <= 1:
            raise ValueError(f"expected shares 0 <= low < high <= 1, got {self.low} and {self.high}; change them.")
        if min(self.epochs, self.patience, self.width) < 1:
            raise ValueError(
                f"expected epochs, patience and width of at least 1, got {self.epochs}, {self.patience} and "
                f"{self.width}; raise them."
            )
        for name, value in (("lr", self.lr), ("temperature", self.temperature)):
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"expected {name} > 0, got {value}; change it.")
        if not (math.isfinite(self.weight_decay) and self.weight_decay >= 0):
            raise ValueError(f"expected weight_decay >= 0, got {self.weight_decay}; 0 is none.")
        law = None if _mixes_nothing(self.strategy) else self.strategy.closed_moments((1, self.width), "exact")
        if law is not None and not law.mean.any():
            raise ValueError(
                f"{self.strategy.name} never mixes vectors, which are images of one row: its boxes have no height; "
                "take DropMix or Mixup, or Vanilla for no mixing."
            )

    @property
    def keeps_all(self) -> bool:
        """Whether every negative is kept."""
        return (self.low, self.high) == (0, 1)


@dataclass(frozen=True, eq=False)
class Trained:
    """Encoders after training.

    Attributes:
        model: the encoders, with the weights that the recipe asks for.
        losses: training loss of each epoch, before its step [epochs].
        best: epoch of the lowest loss, from 0.
    """

    model: ContrastiveModel
    losses: tuple[float, ...]
    best: int


@dataclass(frozen=True, eq=False)
class Hardness:
    """Hardness of every negative in both views, ``max_j cos(n_k, p_j)`` [n]."""

    local: Tensor
    global_: Tensor


def measure_hardness(nodes: Representations, *, search: str | None = None) -> Hardness:
    """Hardness of the negatives of both views against the positives of their own view."""
    dtype = None if search is None else getattr(torch, search)
    return Hardness(
        hardness(nodes.local_negatives, nodes.local, search=dtype),
        hardness(nodes.global_negatives, nodes.global_, search=dtype),
    )


def keep_negatives(nodes: Representations, recipe: Recipe) -> Kept:
    """The negatives that the recipe keeps."""
    if recipe.keeps_all:
        every = torch.arange(len(nodes.local_negatives))
        return Kept(every, every)
    found = measure_hardness(nodes, search=recipe.search)
    return select(found.local, found.global_, mode=recipe.mode, low=recipe.low, high=recipe.high)


def contrastive_loss(
    model: ContrastiveModel, nodes: Representations, local_negatives: Tensor, global_negatives: Tensor, recipe: Recipe
) -> Tensor:
    """Loss of scores of nodes of each view against the summary of the other, for negatives [K, h] of both views.

    BCE: the mean over all 2 n positives and 2 K negatives; InfoNCE: the mean of both directions.
    """
    of_local, of_global = model.direction(nodes.local), model.direction(nodes.global_)
    positives = [model.score(nodes.global_, of_local), model.score(nodes.local, of_global)]
    negatives = [model.score(global_negatives, of_local), model.score(local_negatives, of_global)]
    if recipe.loss == "bce":
        return binary_cross_entropy(torch.cat(positives), torch.cat(negatives))
    sides = [info_nce(p, n, temperature=recipe.temperature) for p, n in zip(positives, negatives, strict=True)]
    return torch.stack(sides).mean()


def train_contrastive(
    views: Views,
    recipe: Recipe | None = None,
    *,
    rng: np.random.Generator,
    observe: Callable[[int, float], None] | None = None,
) -> Trained:
    """Train the encoders of both views without labels.

    Each epoch is one step on the whole graph: shuffle the rows of the features for negatives, rank and select these by
    hardness, mix each with another one, step. First weights, shuffles, partners and masks have their own named
    streams: equal seeds give equal first weights and shuffles whatever is mixed.

    Args:
        views: features and both views of the graph.
        recipe: by default that of Ma, Chen, Li 2023.
        rng: a numpy.random.Generator.
        observe: called with the epoch and its loss.

    Raises:
        TypeError: ``rng`` is no generator.
        ValueError: fewer than two negatives are kept, or the loss is not finite.
    """
    recipe = recipe or Recipe()
    seed = seed_from(rng)
    weights, shuffles, partners, masks = (stream(seed, use) for use in ("weights", "shuffles", "partners", "masks"))
    model = contrastive_model(views.features.shape[1], recipe.width, rng=weights)
    optimizer = torch.optim.Adam(model.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay, fused=True)
    losses: list[float] = []
    best, kept_weights = 0, None
    for epoch in range(recipe.epochs):
        order = torch.from_numpy(shuffles.permutation(views.features.shape[0]))
        nodes = model.represent(views, order)
        local, global_ = _negatives(nodes, recipe, partners, masks)
        loss = contrastive_loss(model, nodes, local, global_, recipe)
        if not math.isfinite(loss.item()):
            raise ValueError(
                f"the training loss became {loss.item()} in epoch {epoch}; lower the learning rate or check features."
            )
        losses.append(loss.item())
        if observe is not None:
            observe(epoch, losses[-1])
        if epoch == 0 or losses[-1] < losses[best]:
            best = epoch
            if recipe.weights == "best":
                kept_weights = {k: v.clone() for k, v in model.state_dict().items()}
        elif epoch - best >= recipe.patience:
            break
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    if kept_weights is not None:
        model.load_state_dict(kept_weights)
    return Trained(model.eval(), tuple(losses), best)


def _mixes_nothing(strategy: Strategy) -> bool:
    """Whether no mixing is what the strategy is for."""
    return isinstance(strategy, Vanilla) or (isinstance(strategy, DropMix) and 0 in (strategy.lam, strategy.share))


def _negatives(
    nodes: Representations, recipe: Recipe, partners: np.random.Generator, masks: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Kept negatives of the local and the global view, mixed; partners and weights are shared by both."""
    kept = keep_negatives(nodes, recipe)
    local, global_ = nodes.local_negatives, nodes.global_negatives
    if not recipe.keeps_all:
        local, global_ = local[kept.local], global_[kept.global_]
    if isinstance(recipe.strategy, Vanilla):
        return local, global_
    chosen = draw_partners(len(local), rng=partners)
    weights = draw_weights(len(local), local.shape[1], recipe.strategy, rng=masks).to(local)
    return mix_negatives(local, chosen, weights), mix_negatives(global_, chosen, weights)
