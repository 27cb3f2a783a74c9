"""Mixup: Zhang, Cisse, Dauphin, Lopez-Paz, "mixup: Beyond Empirical Risk Minimization", ICLR 2018."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from msda_theory.masks.base import SeparableStrategy
from msda_theory.masks.batches import Array, Atoms, SeparableMasks, Shape, uniform_masks
from msda_theory.masks.betas import gauss
from msda_theory.moments.moments import Moments, Provenance
from msda_theory.moments.operators import Constant
from msda_theory.scalars import as_alpha, check_weights


@dataclass(frozen=True)
class Mixup(SeparableStrategy):
    """M = lam at every pixel, label weight lam, lam ~ Beta(alpha, alpha), alpha from 1e-12 to 1e7.

    Moments, equal in both laws (docs/theory.md, Eq. (8)):
    ``qbar = E[2 lam (1 - lam)] = alpha / (2 alpha + 1)``, ``a_jk = E[lam (1 - lam)] = qbar / 2`` for every pair.
    """

    alpha: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "alpha", as_alpha(self.alpha))

    def factors(self, lam: Float64[Array, " n"], shape: Shape, *, rng: np.random.Generator) -> SeparableMasks:
        """Constant masks."""
        check_weights(lam)
        return uniform_masks(lam, shape)

    def closed_moments(self, shape: Shape, law: str) -> Moments:
        """One number for all pairs."""
        qbar = self.alpha / (2 * self.alpha + 1)
        provenance = Provenance("closed form", 1e-16, "moments of the Beta law")
        return Moments(np.full(shape, qbar), Constant(qbar / 2, shape), law, provenance)

    def atoms(self, shape: Shape, *, order: int = 16) -> Atoms:
        """Gauss-Jacobi nodes in lam."""
        lam, weight = (v[0] for v in gauss(self.alpha, np.array([0.0, 1.0]), order))
        return Atoms(np.broadcast_to(lam[:, None, None], (order, *shape)).copy(), lam, 2 * lam, weight)
