"""A random choice among strategies, e.g. Mixup or CutMix with probability 1/2 each."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from msda_theory.masks.base import Strategy
from msda_theory.masks.batches import Array, Atoms, MaskBatch, SeparableMasks, Shape
from msda_theory.masks.cutmix import CutMix
from msda_theory.masks.mixup import Mixup
from msda_theory.moments.moments import Moments, Provenance, check_law
from msda_theory.moments.operators import Mixture
from msda_theory.scalars import check_real, check_weights


@dataclass(frozen=True)
class Choice(Strategy):
    """One of several strategies, drawn anew for every sample; its moments are the weighted sums of theirs.

    Whether a training loop draws it for each sample or each batch does not change the expected loss (1).

    Attributes:
        strategies: the members.
        probabilities: of each member; they must sum to 1.
    """

    strategies: tuple[Strategy, ...] = (Mixup(), CutMix())
    probabilities: tuple[float, ...] = (0.5, 0.5)

    def __post_init__(self) -> None:
        if isinstance(self.strategies, Strategy):
            raise TypeError(f"expected several strategies, got {self.strategies.name}; pass a tuple of them.")
        object.__setattr__(self, "strategies", tuple(self.strategies))
        for p in self.probabilities:
            check_real("probabilities", p)
        object.__setattr__(self, "probabilities", tuple(float(p) for p in self.probabilities))
        for s in self.strategies:
            if not isinstance(s, Strategy):
                raise TypeError(f"expected strategies such as Mixup(), got {s!r}; build each with its class.")
        if len(self.probabilities) != len(self.strategies) or not self.strategies:
            raise ValueError(
                f"expected one probability for each strategy, got {len(self.probabilities)} for "
                f"{len(self.strategies)}; pass equally many."
            )
        total = math.fsum(self.probabilities)
        if not (min(self.probabilities) >= 0 and abs(total - 1) <= 1e-9):
            raise ValueError(
                f"expected probabilities >= 0 that sum to 1, got {self.probabilities} (sum {total:g}); rescale them."
            )

    def masks(self, lam: Float64[Array, " n"], shape: Shape, *, rng: np.random.Generator) -> MaskBatch:
        """Masks of a member drawn for each nominal weight.

        Raises:
            ValueError: if the members' alphas differ, so that one nominal weight cannot serve them all.
        """
        alphas = sorted({s.alpha for s in self.strategies})
        if len(alphas) > 1:
            raise ValueError(f"expected members of one alpha for given nominal weights, got {alphas}; use sample().")
        check_weights(lam)
        member = self._members(len(lam), rng)
        mask, label = np.empty((len(lam), *shape)), np.empty(len(lam))
        for k, s in enumerate(self.strategies):
            index = np.flatnonzero(member == k)
            part = s.masks(lam[index], shape, rng=rng)
            mask[index], label[index] = part.mask, part.lam
        return MaskBatch(mask, label)

    def sample(self, n: int, shape: Shape, *, rng: np.random.Generator) -> MaskBatch:
        """n draws; each member draws its own share."""
        batch = self.sample_compact(n, shape, rng=rng)
        return batch.dense() if isinstance(batch, SeparableMasks) else batch

    def sample_compact(self, n: int, shape: Shape, *, rng: np.random.Generator) -> MaskBatch | SeparableMasks:
        """The draws of `sample`, as factors if all members that were drawn have them."""
        shape = self._check_draw(n, shape, rng)
        member = self._members(n, rng)
        places = [np.flatnonzero(member == k) for k in range(len(self.strategies))]
        parts = [
            s.sample_compact(len(p), shape, rng=rng) for s, p in zip(self.strategies, places, strict=True) if len(p)
        ]
        order = np.argsort(np.concatenate(places), kind="stable")
        factors = [p for p in parts if isinstance(p, SeparableMasks)]
        if len(factors) == len(parts):
            names = ("offset", "scale", "rows", "columns", "lam")
            return SeparableMasks(*(np.concatenate([getattr(p, name) for p in factors])[order] for name in names))
        full = [p.dense() if isinstance(p, SeparableMasks) else p for p in parts]
        return MaskBatch(*(np.concatenate([getattr(p, name) for p in full])[order] for name in ("mask", "lam")))

    def partner_weights(
        self, n: int, shape: Shape, *, law: str = "exact", rng: np.random.Generator
    ) -> Float64[Array, "n H W"]:
        """n draws of q, each under the law of its member."""
        check_law(law)
        shape = self._check_draw(n, shape, rng)
        member = self._members(n, rng)
        q = np.empty((n, *shape))
        for k, s in enumerate(self.strategies):
            index = np.flatnonzero(member == k)
            if len(index):
                q[index] = s.partner_weights(len(index), shape, law=law, rng=rng)
        return q

    def closed_moments(self, shape: Shape, law: str) -> Moments | None:
        """Weighted sums of the members' moments, if all of them are closed."""
        parts = [s.closed_moments(shape, law) for s in self.strategies]
        known = [p for p in parts if p is not None]
        if len(known) < len(parts):
            return None
        mean = np.asarray(sum(w * m.mean for w, m in zip(self.probabilities, known, strict=True)))
        worst = max(known, key=lambda m: m.provenance.error).provenance
        detail = "; ".join(f"{s.name}: {m.provenance.detail}" for s, m in zip(self.strategies, known, strict=True))
        second = Mixture(self.probabilities, tuple(m.second for m in known))
        return Moments(mean, second, law, Provenance(worst.method, worst.error, detail))

    def atoms(self, shape: Shape, *, order: int = 16) -> Atoms:
        """The members' atoms, weighted."""
        parts = [s.atoms(shape, order=order) for s in self.strategies]
        return Atoms(
            np.concatenate([p.mask for p in parts]),
            np.concatenate([p.lam for p in parts]),
            np.concatenate([p.tilt for p in parts]),
            np.concatenate([w * p.weight for w, p in zip(self.probabilities, parts, strict=True)]),
        )

    def _members(self, n: int, rng: np.random.Generator) -> Array:
        bounds = np.cumsum(self.probabilities)[:-1]
        return np.searchsorted(bounds, rng.random(n), side="right")
