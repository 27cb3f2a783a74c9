"""From terms to a prediction: base, R1, R2, R3 at one point, and how their sum follows from what was sampled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from torch import nn

from msda_theory.data import ImageData
from msda_theory.dense import PairWeights, pair_weights, terms_at_mask, terms_at_mean
from msda_theory.estimate import Estimate, Joint
from msda_theory.first_order import first_order
from msda_theory.losses import Loss
from msda_theory.masks.base import Strategy
from msda_theory.moments.moments import Moments


@dataclass(frozen=True, eq=False)
class Ladder:
    """The terms of one expansion, with what is needed to add them up on the same draws.

    Attributes:
        base, r1, r2, r3: the terms.
        clean: loss at the data.
        joint: the sampled quantities; None if nothing was sampled.
        weights: which sampled quantities add up to base + r2 + r3 (less ``known``).
        r3_name: which of them is r3; None if r3 is exact.
        known: the part of base + r2 + r3 that is exact.
    """

    base: Estimate
    r1: Estimate
    r2: Estimate
    r3: Estimate
    clean: Estimate
    known: float
    joint: Joint | None = None
    weights: Mapping[str, float] = field(default_factory=dict)
    r3_name: str | None = None

    @property
    def total(self) -> Estimate:
        """base + r1 + r2 + r3."""
        return self._sum(with_r3=True)

    @property
    def gauss_newton(self) -> Estimate:
        """base + r1 + r2."""
        return self._sum(with_r3=False)

    @property
    def sampled_se(self) -> float:
        """Standard error of the part of ``total`` that more pairs improve."""
        assert self.joint is not None, "only for sampled terms"
        return self.joint.linear(dict(self.weights)).se

    def share(self, measured: Joint, *, with_r3: bool) -> Estimate:
        """``(predicted - clean) / (measured - clean)``, Eq. (9b), error by the delta method, Eq. (9a).

        ``measured`` holds the quantity "measured", on the draws of the sampled terms.
        """
        weights, known = self._parts(with_r3=with_r3)
        clean = self.clean.mean
        ratio = measured.ratio(weights, {"measured": 1.0}, (known + self.r1.mean - clean, -clean))
        rise = measured["measured"].mean - clean
        return Estimate(ratio.mean, float(np.hypot(ratio.se, self.r1.se / rise)), ratio.n)

    def _parts(self, *, with_r3: bool) -> tuple[dict[str, float], float]:
        if with_r3:
            return dict(self.weights), self.known
        if self.r3_name is None:
            return dict(self.weights), self.known - self.r3.mean
        return {k: v for k, v in self.weights.items() if k != self.r3_name}, self.known

    def _sum(self, *, with_r3: bool) -> Estimate:
        weights, known = self._parts(with_r3=with_r3)
        if self.joint is None:
            return Estimate(known + self.r1.mean, self.r1.se, self.base.n)
        sampled = self.joint.linear(weights, known)
        # r1 comes from the closed first moment, or from draws of its own: independent of the others.
        return Estimate(sampled.mean + self.r1.mean, float(np.hypot(sampled.se, self.r1.se)), sampled.n)


def sampled_ladder(
    joint: Joint,
    prefix: str,
    model: nn.Module,
    data: ImageData,
    loss: Loss,
    moments: Moments | None,
    at: str,
    clean: Estimate,
    batch_size: int,
) -> Ladder:
    """The ladder from the sampled quantities ``<prefix>base``, ``<prefix>r2``, ``<prefix>r3``.

    At the data the base is the clean loss and exact; R1 comes from ``moments``, which ``at="mask"`` does not need.
    """
    base, r2, r3 = (f"{prefix}{term}" for term in ("base", "r2", "r3"))
    at_data = at == "data"
    weights = {r2: 1.0, r3: 1.0} if at_data else {base: 1.0, r2: 1.0, r3: 1.0}
    r1 = Estimate(0.0, 0.0, len(data))
    if moments is not None:
        r1 = first_order(model, data, loss, moments, at, batch_size)
    known = clean.mean if at_data else 0.0
    start = clean if at_data else joint[base]
    return Ladder(start, r1, joint[r2], joint[r3], clean, known, joint, weights, r3)


def dense_ladder(
    model: nn.Module,
    data: ImageData,
    strategy: Strategy,
    loss: Loss,
    law: str,
    at: str,
    clean: Estimate,
    weights: PairWeights | None = None,
) -> Ladder:
    """The exact ladder; ``weights``, if known, save the Jacobians and Hessians at the data."""
    base, r1, m = clean.mean, 0.0, len(data)
    if at == "data":
        weights = weights or pair_weights(model, data, loss)
        r1, r2, r3 = weights.terms(exact_moments(strategy, data, law))
    elif at == "mean":
        base, r2, r3 = terms_at_mean(model, data, loss, exact_moments(strategy, data, law))
    else:
        base, r2, r3 = terms_at_mask(model, data, loss, strategy, law)
    return Ladder(
        base=Estimate(base, 0.0, m),
        r1=Estimate(r1, 0.0, m),
        r2=Estimate(r2, 0.0, m),
        r3=Estimate(r3, 0.0, m),
        clean=clean,
        known=base + r2 + r3,
    )


def exact_moments(strategy: Strategy, data: ImageData, law: str) -> Moments:
    """The strategy's closed moments.

    Raises:
        ValueError: if it has none: terms from sampled moments would not be exact.
    """
    moments = strategy.closed_moments(data.shape, law)
    if moments is None:
        raise ValueError(
            f"method='dense' is exact, and {strategy.name} has no closed moments; define closed_moments(), or use "
            "method='sampled'."
        )
    return moments
