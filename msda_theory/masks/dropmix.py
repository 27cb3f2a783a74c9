"""DropMix: Ma, Chen, Li, "DropMix: Better Graph Contrastive Learning with Harder Negative Samples", ICDMW 2023."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64

from msda_theory.masks.base import Strategy, check_option
from msda_theory.masks.batches import Array, Atoms, MaskBatch, Shape
from msda_theory.moments.moments import Moments, Provenance
from msda_theory.moments.sampled import Sampled
from msda_theory.moments.stationary import Stationary
from msda_theory.scalars import as_alpha, check_real, check_weights

DIMS = ("strided", "random")


@dataclass(frozen=True)
class DropMix(Strategy):
    """M = 1 - lam on a share of the dimensions, 1 on the others; the label is kept (label weight 1).

    Made for representation vectors, negatives of contrastive learning, which stay negatives: a vector of h dimensions
    is an "image" of size (1, h). Both laws agree, since M does not depend on a Beta weight: q is lam on the mixed
    dimensions, 0 elsewhere. With K of d dimensions mixed, docs/theory.md, Eq. (13a):

    - strided: ``qbar = lam 1_B``, ``A = lam^2 1_B 1_B^T``, B the mixed dimensions: one block, and no randomness in q;
    - random: ``qbar = lam K / d``, ``a_jj = lam^2 K / d``, ``a_jk = lam^2 K (K - 1) / (d (d - 1))`` for j != k.

    Attributes:
        alpha: has no effect; it keeps signatures alike.
        lam: weight of the partner on mixed dimensions, in [0, 1].
        share: part of the dimensions that are mixed, in [0, 1]. 1/6: every sixth one; 1: Mixup with a fixed weight;
            0: no mixing.
        dims: ``"strided"``: evenly spaced dimensions, the first one among them. ``"random"``: as many dimensions, drawn
            anew for every draw.
    """

    alpha: float = 1.0
    lam: float = 0.35
    share: float = 1 / 6
    dims: str = "strided"

    def __post_init__(self) -> None:
        object.__setattr__(self, "alpha", as_alpha(self.alpha))
        check_option("dims", self.dims, DIMS)
        for name, value in (("lam", self.lam), ("share", self.share)):
            check_real(name, value)
            if not 0 <= value <= 1:
                raise ValueError(f"expected {name} in [0, 1], got {value!r}; 0 is no mixing.")

    def mixed(self, size: int) -> Bool[Array, " d"]:
        """Which of ``size`` dimensions the strided form mixes [d]: those where ``ceil(j share)`` grows."""
        # A share such as 1/6, as written in `name`, is not exact: a thousandth above a whole number is that number.
        slack = min(1e-3, self.share / 2)
        steps = np.ceil(np.arange(size + 1) * self.share - slack)
        return np.diff(steps) > 0

    def masks(self, lam: Float64[Array, " n"], shape: Shape, *, rng: np.random.Generator) -> MaskBatch:
        """Masks [n, H, W], and label weights of 1."""
        check_weights(lam)
        n, d = len(lam), shape[0] * shape[1]
        mixed = np.broadcast_to(self.mixed(d), (n, d))
        if self.dims == "random":
            mixed = rng.permuted(mixed, axis=1)
        return MaskBatch((1 - self.lam * mixed).reshape(n, *shape), np.ones(n))

    def closed_moments(self, shape: Shape, law: str) -> Moments:
        """One block, or one number for all pairs."""
        d, mixed = shape[0] * shape[1], self.mixed(shape[0] * shape[1])
        k, provenance = int(mixed.sum()), Provenance("closed form", 1e-15, "q takes the values 0 and lam")
        if self.dims == "strided":
            q = self.lam * mixed.astype(float).reshape(shape)
            return Moments(q, Sampled(q[None]), law, provenance)  # one draw is the whole law
        table = np.full((2 * shape[0] - 1, 2 * shape[1] - 1), self.lam**2 * k * (k - 1) / max(d * (d - 1), 1))
        table[shape[0] - 1, shape[1] - 1] = self.lam**2 * k / d
        return Moments(np.full(shape, self.lam * k / d), Stationary(table), law, provenance)

    def atoms(self, shape: Shape, *, order: int = 16) -> Atoms:
        """One atom in the strided form; the random one has too many."""
        if self.dims == "random":
            return super().atoms(shape, order=order)
        one = np.ones(1)
        mask = 1 - self.lam * self.mixed(shape[0] * shape[1]).reshape(1, *shape)
        return Atoms(mask, one, one, one)
