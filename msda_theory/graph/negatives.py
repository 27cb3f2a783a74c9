"""Mixed negatives: each is blended with another one, on the dimensions that a mask law says."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from msda_theory.masks.base import Strategy, check_strategy


def draw_partners(n: int, *, rng: np.random.Generator) -> Tensor:
    """For each of n negatives another one, uniform over the n - 1 others and independent: int64 [n].

    Raises:
        ValueError: if there are fewer than two.
    """
    if n < 2:
        raise ValueError(f"expected at least two negatives to mix, got {n}; keep more.")
    return torch.from_numpy((np.arange(n) + rng.integers(1, n, n)) % n)


def draw_weights(n: int, size: int, strategy: Strategy, *, rng: np.random.Generator) -> Tensor:
    """Weights q = 1 - M taken from the partner, float64 [n, size], or [1, size] where the law has a single mask.

    Negatives are negatives on both sides of a blend: no label weight is used, and none swaps the sides.
    """
    check_strategy(strategy)
    fixed = strategy.closed_moments((1, size), "exact")
    if fixed is not None and np.allclose(fixed.second.diagonal(), fixed.mean**2, rtol=0, atol=1e-15):
        return torch.from_numpy(1 - strategy.sample(1, (1, size), rng=rng).mask[:, 0])
    return torch.from_numpy(1 - strategy.sample(n, (1, size), rng=rng).mask[:, 0])


def mix_negatives(vectors: Tensor, partners: Tensor, weights: Tensor) -> Tensor:
    """``n_k + q_k o (n_partner(k) - n_k)`` [K, h], for vectors [K, h], partners [K] and weights q [K, h] or [1, h].

    Raises:
        ValueError: if the shapes do not fit.
    """
    if partners.shape != vectors.shape[:1] or weights.shape not in {vectors.shape, (1, vectors.shape[-1])}:
        raise ValueError(
            f"expected a partner and weights for each of the vectors {list(vectors.shape)}, got {list(partners.shape)} "
            f"and {list(weights.shape)}; draw them with draw_partners and draw_weights."
        )
    return vectors + weights.to(vectors) * (vectors[partners] - vectors)
