"""Contrastive losses of scores."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import softplus

LOSSES = ("bce", "info_nce")


def binary_cross_entropy(positives: Tensor, negatives: Tensor) -> Tensor:
    """``(sum_i log(1 + e^-s_i) + sum_k log(1 + e^s_k)) / (P + N)`` for scores s of positives [P] and negatives [N]."""
    return (softplus(-positives).sum() + softplus(negatives).sum()) / (len(positives) + len(negatives))


def info_nce(positives: Tensor, negatives: Tensor, *, temperature: float = 1.0) -> Tensor:
    """``1/P sum_i [log(e^(s_i/T) + sum_k e^(s_k/T)) - s_i/T]`` for scores of positives [P] and negatives [N].

    Every positive meets every negative; van den Oord, Li, Vinyals, "Representation Learning with Contrastive
    Predictive Coding", 2018.

    Raises:
        ValueError: if the temperature is not a positive number.
    """
    if not (math.isfinite(temperature) and temperature > 0):
        raise ValueError(f"expected a temperature > 0, got {temperature}; the usual range is 0.1 to 1.")
    s, rest = positives / temperature, torch.logsumexp(negatives / temperature, dim=0)
    return softplus(rest - s).mean()
