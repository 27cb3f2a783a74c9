"""Vanilla training: nothing is mixed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from msda_theory.masks.base import SeparableStrategy
from msda_theory.masks.batches import Array, Atoms, SeparableMasks, Shape, uniform_masks
from msda_theory.moments.moments import Moments, Provenance
from msda_theory.moments.operators import Constant
from msda_theory.scalars import as_alpha, check_weights


@dataclass(frozen=True)
class Vanilla(SeparableStrategy):
    """M = 1 and lam = 1: the identity, in both laws. ``alpha`` has no effect; it keeps signatures alike."""

    alpha: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "alpha", as_alpha(self.alpha))

    def factors(self, lam: Float64[Array, " n"], shape: Shape, *, rng: np.random.Generator) -> SeparableMasks:
        """Ones."""
        check_weights(lam)
        return uniform_masks(np.ones(len(lam)), shape)

    def closed_moments(self, shape: Shape, law: str) -> Moments:
        """All zero: q = 0."""
        provenance = Provenance("closed form", 0.0, "q = 0")
        return Moments(np.zeros(shape), Constant(0.0, shape), law, provenance)

    def atoms(self, shape: Shape, *, order: int = 16) -> Atoms:
        """One atom."""
        one = np.ones(1)
        return Atoms(np.ones((1, *shape)), one, one, one)
