"""CutMix: Yun, Han, Oh, Chun, Choe, Yoo, "CutMix: Regularization Strategy ...", ICCV 2019."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from msda_theory.masks.base import SeparableStrategy, check_option
from msda_theory.masks.batches import Array, Atoms, SeparableMasks, Shape
from msda_theory.masks.betas import interval_moments
from msda_theory.masks.box_moments import Boxes, BoxSum, rounding
from msda_theory.masks.boxes import (
    BOXES,
    box_atoms,
    draw_axis,
    half_sides,
    interval_halves,
    lam_edges,
)
from msda_theory.moments.moments import Moments, Provenance
from msda_theory.moments.operators import Bordered, SecondMoment
from msda_theory.scalars import as_alpha, check_weights

LABELS = ("pixels", "nominal")


@dataclass(frozen=True)
class CutMix(SeparableStrategy):
    """M = 0 in a box, 1 outside; sides ``floor(H sqrt(1-lam))``, ``floor(W sqrt(1-lam))``; lam ~ Beta(alpha, alpha).

    The box covers rows ``c - side//2`` to ``c + side//2`` (end excluded), columns alike.

    Attributes:
        alpha: parameter of the Beta law, from 1e-12 to 1e7.
        box: what happens at the border. ``"clipped"`` (the published code): the centre is uniform on all pixels and
            the box is cut off at the border. ``"inside"``: the centre is uniform on the positions at which the whole
            box fits. ``"periodic"``: the box wraps around, so a_jk depends on displacement (modulo the size) alone.
        label: label weight; ``"pixels"``, the share of ones in M, or ``"nominal"``, lam itself.

    Moments are finite sums over the integer half sides, docs/theory.md, Eq. (6a).
    """

    alpha: float = 1.0
    box: str = "clipped"
    label: str = "pixels"

    def __post_init__(self) -> None:
        object.__setattr__(self, "alpha", as_alpha(self.alpha))
        check_option("box", self.box, BOXES)
        check_option("label", self.label, LABELS)

    def factors(self, lam: Float64[Array, " n"], shape: Shape, *, rng: np.random.Generator) -> SeparableMasks:
        """One minus the indicator of the box."""
        check_weights(lam)
        rows, columns = (draw_axis(half_sides(1 - lam, n), n, self.box, rng=rng) for n in shape)
        kept = 1.0 - rows.sum(axis=1) * columns.sum(axis=1) / (shape[0] * shape[1])
        one, label = np.ones(len(lam)), lam if self.label == "nominal" else kept
        return SeparableMasks(one, -one, rows.astype(float), columns.astype(float), label)

    def closed_moments(self, shape: Shape, law: str) -> Moments:
        """Sum over the intervals of lam on which both half sides are constant."""
        edges = lam_edges(shape, 1.0)
        lam = interval_moments(self.alpha, edges, 1)  # [2, n]: E[1; I], E[lam; I]
        halves = interval_halves(edges, shape, 1.0)
        weight = 2 * lam[1] if law == "paper" else lam[0]
        # u = E[(1 - label) B] and c = E[1 - label]; with label="pixels", 1 - label is the covered share.
        mean, u, c = np.zeros(shape), np.zeros(shape), float((lam[0] - lam[1]).sum())
        if self.label == "pixels":
            c = 0.0
        for k, half in enumerate(halves):
            if min(half) == 0:
                continue
            boxes = Boxes.of(half, shape, self.box)
            covered = boxes.spread(np.ones_like(boxes.share))
            mean += weight[k] * covered
            if self.label == "pixels":
                u += lam[0, k] * boxes.spread(boxes.share)
                c += lam[0, k] * float(boxes.share.mean())
            else:
                u += (lam[0, k] - lam[1, k]) * covered
        core: SecondMoment = BoxSum(tuple(halves), weight, 0, shape, self.box)
        if law == "exact":
            mean, core = mean - 2 * u + c, Bordered(core, -u, c)
        detail = f"{len(halves)} intervals of lam, exact up to rounding"
        return Moments(mean, core, law, Provenance("finite sum", rounding(shape), detail))

    def atoms(self, shape: Shape, *, order: int = 16) -> Atoms:
        """Every box of every half side; lam enters linearly, so its mean on the interval is exact."""
        edges = lam_edges(shape, 1.0)
        p, first = interval_moments(self.alpha, edges, 1)
        masks, lams, tilts, weights = [], [], [], []
        for k, halves in enumerate(interval_halves(edges, shape, 1.0)):
            if p[k] == 0:
                continue
            boxes, probability = box_atoms(halves, shape, self.box)
            nominal = np.full(len(boxes), first[k] / p[k])
            masks.append(1 - boxes)
            lams.append(masks[-1].mean(axis=(1, 2)) if self.label == "pixels" else nominal)
            tilts.append(2 * nominal)
            weights.append(p[k] * probability)
        return Atoms(*(np.concatenate(v) for v in (masks, lams, tilts, weights)))
