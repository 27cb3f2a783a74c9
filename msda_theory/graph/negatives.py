"""Mixed negatives: each is blended with another one, on the dimensions that a mask law says."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from msda_theory.masks.base import Strategy, check_strategy
from msda_theory.masks.dropmix import DropMix
from msda_theory.masks.vanilla import Vanilla


def draw_partners(n: int, *, rng: np.random.Generator) -> Tensor:
    """For each of n negatives another one, uniform over the n - 1 others and independent: int64 [n].

    Raises:
        ValueError: if there are fewer than two.
    """
    if n < 2:
        raise ValueError(f"expected at least two negatives to mix, got {n}; keep more.")
    return torch.from_numpy((np.arange(n) + rng.integers(1, n, n)) % n)


def draw_weights(n: int, size: int, strategy: Strategy, *, rng: np.random.Generator) -> Tensor:
    """Weights q taken from the partner, float64 [n, size], or [1, size] where the law has a single mask.

    Those of the one-sided form, docs/theory.md, Eq. (1), under the exact law. Negatives are negatives on both sides of
    a blend, so that the swap in it changes no expected loss; `DropMix` has none, q = 1 - M.
    """
    check_strategy(strategy)
    single = isinstance(strategy, Vanilla) or (isinstance(strategy, DropMix) and strategy.dims == "strided")
    return torch.from_numpy(strategy.partner_weights(1 if single else n, (1, size), rng=rng)[:, 0])


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
