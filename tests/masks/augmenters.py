"""Augmenters with a known law, in the forms that training loops have; built from the definition, not from the package.

Each is a function ``(x, y) -> (x~, y~)`` that draws masks from a strategy's ``sample``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from msda_theory.masks.base import Strategy

Augmenter = Callable[[Tensor, Tensor], Any]
PAIRINGS = ("flip", "roll", "permutation")
FORMS = ("soft", "triple", "flat", "swapped")


def partners(pairing: str, n: int, rng: np.random.Generator) -> np.ndarray:
    if pairing == "flip":
        return np.arange(n)[::-1].copy()
    return np.roll(np.arange(n), 1) if pairing == "roll" else rng.permutation(n)


def rows(y: Tensor, classes: int) -> Tensor:
    """Labels as rows of class weights."""
    return y if y.ndim == 2 else torch.nn.functional.one_hot(y, classes).float()


def augmenter(
    strategy: Strategy,
    *,
    seed: int = 0,
    per_sample: bool = False,
    pairing: str = "flip",
    form: str = "soft",
    in_place: bool = False,
    smoothing: float = 0.0,
    classes: int = 10,
    dtype: torch.dtype = torch.float32,
) -> Augmenter:
    """Mixes with draws of ``strategy``; labels as rows, ``(y_a, y_b, lam)`` either way, or ``x, y_a, y_b, lam``."""
    rng = np.random.default_rng(seed)

    def transform(x: Tensor, y: Tensor) -> Any:
        n = len(x)
        batch = strategy.sample(n if per_sample else 1, tuple(x.shape[2:]), rng=rng)
        mask = torch.from_numpy(batch.mask).to(dtype)[:, None]
        lam = torch.from_numpy(batch.lam).to(dtype)
        p = torch.from_numpy(partners(pairing, n, rng))
        other = x[p].to(dtype)
        if in_place:
            x.mul_(mask).add_(other * (1 - mask))
            mixed = x
        else:
            mixed = x.to(dtype) * mask + other * (1 - mask)
        weight = lam if per_sample else lam[0]
        if form == "triple":
            return mixed, (y, y[p], weight)
        if form == "flat":
            return mixed, y, y[p], float(weight)
        if form == "swapped":
            return mixed, (y[p], y, 1 - weight)
        soft = rows(y, classes) * lam[:, None] + rows(y[p], classes) * (1 - lam[:, None])
        return mixed, (1 - smoothing) * soft + smoothing / soft.shape[1]

    return transform
