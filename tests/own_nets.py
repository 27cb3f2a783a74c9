"""Factories of models as users write them, good and bad; `experiments.compare` imports them by name."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def smooth(num_classes: int = 10) -> nn.Module:
    """A softplus network of 1,000 weights for 8x8 images."""
    layers = [nn.Conv2d(1, 4, 3, stride=2, padding=1), nn.Softplus(), nn.Flatten(), nn.Linear(64, num_classes)]
    return nn.Sequential(*layers)


def rough(channels: int, classes: int, image: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * image**2, 12), nn.ReLU(), nn.Linear(12, classes))


def with_norm() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Softplus(), nn.Flatten(), nn.Linear(144, 10))


def any_options(**options: int) -> nn.Module:
    return smooth(**options)


def for_colour() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 10))


def seven() -> nn.Module:
    return smooth(7)


def needy(depth: int, num_classes: int) -> nn.Module:
    return smooth(num_classes)


def no_module() -> dict[str, Tensor]:
    return smooth().state_dict()


class SinglePrecision(nn.Module):
    """Has a constant in float32, which float64 does not go through."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((64, 10), 0.1))

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x.flatten(1).float(), self.weight.T.float()).tanh().to(x.dtype)


number = 3
