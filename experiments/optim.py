"""Optimiser of the trainer: parameter groups, learning rate as a function of the step, average of the weights."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

SCHEDULES = ("cosine", "onecycle", "constant")


def sgd(model: nn.Module, *, lr: float, momentum: float, weight_decay: float) -> torch.optim.SGD:
    """SGD with Nesterov momentum; weight decay on weights alone, not on biases and the parameters of norms.

    What has one axis or none is a bias or belongs to a norm. Class tokens and position embeddings are decayed.
    """
    named = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in named if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in named if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.SGD([g for g in groups if g["params"]], lr=lr, momentum=momentum, nesterov=momentum > 0)


def learning_rate(step: int, *, peak: float, steps: int, warmup: int, schedule: str) -> float:
    """Learning rate of step 0, 1, ..., ``steps`` - 1.

    Over the first ``warmup`` steps: ``cosine`` and ``constant`` rise linearly, peak (step + 1) / warmup; ``onecycle``
    rises along half a cosine from peak / 25. From there ``cosine`` falls along half a cosine to 0 (reached at
    ``steps``) and ``onecycle`` to peak / 25 / 10^4 (Smith and Topin, "Super-Convergence", 2019); ``constant`` stays.
    """
    low = peak / 25 if schedule == "onecycle" else 0.0
    if step < warmup:
        share = (step + 1) / warmup
        return low + (peak - low) * (0.5 * (1 - math.cos(math.pi * share)) if schedule == "onecycle" else share)
    if schedule == "constant":
        return peak
    end = low / 1e4
    share = (step - warmup) / (steps - warmup)
    return end + (peak - end) * 0.5 * (1 + math.cos(math.pi * share))


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """The same learning rate for all groups."""
    for group in optimizer.param_groups:
        group["lr"] = lr


def average(model: nn.Module, decay: float) -> AveragedModel:
    """Exponential moving average of parameters and buffers: ``avg <- decay avg + (1 - decay) new`` after each step."""
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)  # type: ignore[no-untyped-call]
