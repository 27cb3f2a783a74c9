"""Training of the study of the first layer: as in `digit_nets`, in float64, watched, and with a penalty as a control.

The penalty of a strategy is R2 of the clean batch as a quadratic form of the first layer's weights alone
(docs/theory.md, Eq. (3g)). What is above the layer is frozen at its present value and gets no gradient from it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from experiments import digit_nets
from experiments.data import digits
from experiments.models import small_conv_net, small_mlp
from msda_theory.data import ImageData
from msda_theory.first_layer import first_layer_form
from msda_theory.losses import SoftmaxCrossEntropy
from msda_theory.masks.registry import strategy as make_strategy
from msda_theory.moments.moments import Moments
from msda_theory.streams import stream

NETWORKS = ("conv", "mlp")


@dataclass(frozen=True)
class RunConfig(digit_nets.RunConfig):
    """One training run; optimiser settings are those of `digit_nets`.

    With ``penalty`` nothing is mixed: the loss is that of the clean batch plus ``strength`` times R2(W) of the
    strategy, W the first layer's weights. ``width`` is that of the convolutional network, ``hidden`` that of the other.
    """

    epochs: int = 20
    network: str = "conv"
    penalty: bool = False
    strength: float = 1.0
    hidden: int = 48

    def __post_init__(self) -> None:
        if self.network not in NETWORKS:
            raise ValueError(f"expected a first-layer network among {NETWORKS}, got {self.network!r}; choose one.")

    @property
    def training(self) -> str:
        """Name of the kind of training."""
        if not self.penalty:
            return self.strategy
        return f"penalty-{self.strategy}" + ("" if self.strength == 1 else f"-{self.strength:g}")

    @property
    def name(self) -> str:
        """Name of the run's files."""
        return f"{self.network}-{self.training}-{self.seed}"


def build(config: RunConfig) -> nn.Sequential:
    """The network before training, float64."""
    if config.network == "conv":
        model = small_conv_net(config.activation, width=config.width, seed=config.seed)
    else:
        model = small_mlp(config.activation, hidden=config.hidden, seed=config.seed)
    # Neither network has layers that differ between training and evaluation; theory asks for eval mode.
    return model.double().eval()


def penalty(model: nn.Module, batch: ImageData, moments: Moments, population: ImageData) -> Tensor:
    """R2(W) on a batch, differentiable in the first layer's weights W and in nothing else."""
    form = first_layer_form(model, batch, moments, population=population)
    return form.value(form.cut.layer.weight)


def train_network(config: RunConfig, observe: Callable[[int, nn.Module], None]) -> nn.Module:
    """Train, calling ``observe(epoch, model)`` before the first epoch and after each; returns the network.

    Equal seeds have equal initial weights and batches whatever the training: differences are paired.

    Raises:
        FloatingPointError: if the loss is no longer finite.
    """
    data = digits().train
    targets = SoftmaxCrossEntropy().targets(data.y, 10, torch.float64)
    model = build(config)
    moments = make_strategy(config.strategy).moments(data.shape) if config.penalty else None
    steps = len(data) // config.batch
    optimizer = torch.optim.SGD(
        model.parameters(), lr=config.lr, momentum=config.momentum, nesterov=True, weight_decay=config.weight_decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, config.lr, total_steps=config.epochs * steps, pct_start=0.2
    )
    order, masks = stream(config.seed, "order"), stream(config.seed, "masks")
    observe(0, model)
    for epoch in range(1, config.last + 1):
        permutation = order.permutation(len(data))
        bounds = pairwise(range(0, (steps + 1) * config.batch, config.batch))
        for i in (torch.from_numpy(permutation[low:high]) for low, high in bounds):
            j = i[torch.from_numpy(order.permutation(len(i)))]
            if moments is None:
                value = _mixed(model, config.strategy, data.x, targets, i, j, masks)
            else:
                clean = SoftmaxCrossEntropy().value(model(data.x[i]), targets[i]).mean()
                value = clean + config.strength * penalty(model, data[i], moments, data)
            optimizer.zero_grad()
            value.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            if not np.isfinite(value.item()):
                raise FloatingPointError(f"first-layer run {config.name} diverged in epoch {epoch}; lower lr.")
        observe(epoch, model)
    return model


def _mixed(
    model: nn.Module, name: str, x: Tensor, targets: Tensor, i: Tensor, j: Tensor, masks: np.random.Generator
) -> Tensor:
    """Loss of a mixed batch."""
    draw = make_strategy(name).sample(len(i), (x.shape[2], x.shape[3]), rng=masks)
    mask = torch.from_numpy(draw.mask)[:, None]
    lam = torch.from_numpy(draw.lam)[:, None]
    f = model(mask * x[i] + (1 - mask) * x[j])
    return SoftmaxCrossEntropy().value(f, lam * targets[i] + (1 - lam) * targets[j]).mean()
