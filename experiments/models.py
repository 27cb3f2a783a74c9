"""Networks of the experiments."""

from __future__ import annotations

import torch
from torch import nn

ACTIVATIONS: dict[str, type[nn.Module]] = {"softplus": nn.Softplus, "relu": nn.ReLU, "tanh": nn.Tanh, "gelu": nn.GELU}


def small_conv_net(activation: str, *, width: int = 12, classes: int = 10, seed: int) -> nn.Sequential:
    """Three 3x3 convolutions (strides 1, 2, 2) and a linear layer, for 8x8 images; about 9,000 weights at width 12.

    Weights come from torch's default initialisation with ``seed``; the global random state is left as it was.

    Raises:
        ValueError: unknown activation (the message lists the known ones).
    """
    if activation not in ACTIVATIONS:
        raise ValueError(f"expected activation among {list(ACTIVATIONS)}, got {activation!r}; choose one of them.")
    act = ACTIVATIONS[activation]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1),
            act(),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
            act(),
            nn.Conv2d(2 * width, 2 * width, 3, stride=2, padding=1),
            act(),
            nn.Flatten(),
            nn.Linear(8 * width, classes),
        )
