"""Training of the study of training on the theory: as in `digit_nets`, on the mixed loss or on its expansion.

Equal seeds have equal initial weights and equal batches, whatever is minimised; so are the settings of the optimiser.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from experiments import digit_nets
from experiments.data import digits
from experiments.models import small_conv_net
from experiments.weights import load_weights
from msda_theory.data import ImageData
from msda_theory.losses import SoftmaxCrossEntropy
from msda_theory.masks.registry import strategy as make_strategy
from msda_theory.objective import ExpansionLoss
from msda_theory.streams import stream

# Point of expansion and terms beside the base, of what is minimised in place of the mixed loss.
EXPANSIONS: dict[str, tuple[str, tuple[str, ...]]] = {
    "data-r1": ("data", ("r1",)),
    "data-r2": ("data", ("r2",)),
    "data-r3": ("data", ("r3",)),
    "data-r1r2": ("data", ("r1", "r2")),
    "data-all": ("data", ("r1", "r2", "r3")),
    "data-linear": ("data", ("linear",)),
    "mean-base": ("mean", ()),
    "mean-gn": ("mean", ("r2",)),
    "mean-all": ("mean", ("r2", "r3")),
    "mask-base": ("mask", ()),
    "mask-gn": ("mask", ("r2",)),
    "mask-linear": ("mask", ("linear",)),
    "mask-all": ("mask", ("r2", "r3")),
}
# Training by mixing: with the draws of `digit_nets`, with other masks, with other masks and partners.
MIXED = ("msda", "msda-masks", "msda-pairs")
Parts = Callable[[Tensor, Tensor], dict[str, Tensor]]  # of indices of a batch and of its partners: parts of the loss


@dataclass(frozen=True)
class RunConfig(digit_nets.RunConfig):
    """One training run; optimiser settings are those of `digit_nets`.

    ``objective`` is "msda", or one of the expansions of the mixed loss of ``strategy``. ``pairs`` are the sampled
    (q, r) of an image in a step; at the mask each has a point of its own, so there are half as many. ``clip`` limits
    the norm of the gradient.
    """

    epochs: int = 20
    objective: str = "msda"
    pairs: int = 4
    clip: float | None = None

    def __post_init__(self) -> None:
        known = (*MIXED, *EXPANSIONS)
        if self.objective not in known:
            raise ValueError(f"expected a training objective among {known}, got {self.objective!r}; choose one.")

    @property
    def training(self) -> str:
        """Name of the kind of training."""
        if self.strategy == "vanilla":
            return "vanilla"
        return self.objective + ("" if self.clip is None else "-clip")

    @property
    def name(self) -> str:
        """Name of the run's files."""
        strategy = "" if self.strategy == "vanilla" else f"-{self.strategy}"
        return f"{self.training}{strategy}-{self.activation}-{self.seed}"


@dataclass(frozen=True, eq=False)
class Trained:
    """A network in float64 and eval mode, means over each epoch, and the epoch in which the loss stopped being finite.

    Attributes:
        curve: one number an epoch: ``loss``, what is minimised; its parts; ``gradient``, the largest norm.
        diverged: that epoch; None if there is none.
    """

    model: nn.Module
    curve: dict[str, list[float]]
    diverged: int | None


def train_network(config: RunConfig) -> Trained:
    """Train; stop where the loss is no longer finite, which is a result and no error."""
    data = digits().train.to(torch.float32)
    # There are no layers that differ between training and evaluation; theory asks for eval mode.
    model = small_conv_net(config.activation, width=config.width, seed=config.seed).eval()
    steps = len(data) // config.batch
    optimizer = torch.optim.SGD(
        model.parameters(), lr=config.lr, momentum=config.momentum, nesterov=True, weight_decay=config.weight_decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, config.lr, total_steps=config.epochs * steps, pct_start=0.2
    )
    parts = _mixed(config, model, data) if config.objective in MIXED else _expanded(config, model, data)
    order = stream(config.seed, "order")
    curve: dict[str, list[float]] = {}
    for epoch in range(1, config.last + 1):
        permutation, seen = order.permutation(len(data)), []
        for low, high in pairwise(range(0, (steps + 1) * config.batch, config.batch)):
            i = torch.from_numpy(permutation[low:high])
            found = parts(i, i[torch.from_numpy(order.permutation(len(i)))])
            value = torch.stack(list(found.values())).sum()
            optimizer.zero_grad()
            value.backward()  # type: ignore[no-untyped-call]
            limit = torch.inf if config.clip is None else config.clip
            norm = torch.nn.utils.clip_grad_norm_(model.parameters(), limit)
            if not np.isfinite(value.item()) or not np.isfinite(norm.item()):
                return Trained(model.double(), curve, epoch)
            optimizer.step()
            schedule.step()
            seen.append({"loss": value.item(), **{k: v.item() for k, v in found.items()}, "gradient": norm.item()})
        for name in seen[0]:
            values = [s[name] for s in seen]
            curve.setdefault(name, []).append(float(max(values) if name == "gradient" else np.mean(values)))
    return Trained(model.double(), curve, None)


def _mixed(config: RunConfig, model: nn.Module, data: ImageData) -> Parts:
    """The loss of a mixed batch, as in `digit_nets`."""
    strategy, loss = make_strategy(config.strategy), SoftmaxCrossEntropy()
    targets = loss.targets(data.y, data.num_classes, data.x.dtype)
    masks = stream(config.seed, "masks" if config.objective == "msda" else "other masks")
    partners = stream(config.seed, "other partners")

    def parts(i: Tensor, j: Tensor) -> dict[str, Tensor]:
        if config.objective == "msda-pairs":
            j = i[torch.from_numpy(partners.permutation(len(i)))]
        draw = strategy.sample(len(i), data.shape, rng=masks)
        mask = torch.from_numpy(draw.mask).float()[:, None]
        lam = torch.from_numpy(draw.lam).float()[:, None]
        f = model(mask * data.x[i] + (1 - mask) * data.x[j])
        return {"base": loss.value(f, lam * targets[i] + (1 - lam) * targets[j]).mean()}

    return parts


def _expanded(config: RunConfig, model: nn.Module, data: ImageData) -> Parts:
    """Base and terms of the expansion; nothing is mixed, and partners come from all images."""
    at, terms = EXPANSIONS[config.objective]
    pairs = max(1, config.pairs // 2) if at == "mask" else config.pairs
    objective = ExpansionLoss(model, data, make_strategy(config.strategy), at=at, terms=terms, pairs=pairs)
    draws = stream(config.seed, "pairs")

    def parts(i: Tensor, _: Tensor) -> dict[str, Tensor]:
        found = objective(data[i], rng=draws)
        return {"base": found.base, **found.terms}

    return parts


def load_network(record: dict[str, Any], folder: Path) -> nn.Module:
    """The network of a run's record, float64 and in eval mode.

    Raises:
        ValueError: if the weights are not those of the record.
    """
    config = RunConfig(**record["config"]["run"])
    path = folder / f"{config.name}.safetensors"
    model = small_conv_net(config.activation, width=config.width, seed=config.seed)
    load_weights(model, path, record["result"]["weights_sha256"])
    return model.double().eval()
