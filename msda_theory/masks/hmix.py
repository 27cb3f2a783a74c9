"""HMix, the hybrid of Mixup and CutMix: Park, Yun, Chun, NeurIPS 2022 (arXiv 2208.09913)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from msda_theory.masks.base import SeparableStrategy, check_option
from msda_theory.masks.batches import Array, Atoms, SeparableMasks, Shape
from msda_theory.masks.betas import gauss, interval_moments, refined
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
from msda_theory.moments.operators import Bordered
from msda_theory.scalars import as_alpha, check_real, check_weights


@dataclass(frozen=True)
class HMix(SeparableStrategy):
    """A box of nominal area ``(1 - lam) ratio``: M = 0 inside, ``lam / (1 - clipped area share)`` outside.

    The mean of M is lam, the label weight, exactly. At ``ratio=0`` it is Mixup; at ``ratio=1`` it tends to CutMix with
    ``box="periodic"`` as the image grows (on a finite grid the floored sides leave M slightly below 1 outside).

    Attributes:
        alpha: parameter of lam ~ Beta(alpha, alpha), from 1e-12 to 1e7.
        ratio: share of the removed area that is cut rather than blended, in [0, 1].
        box: border rule, as for `CutMix`; ``"clipped"`` is the published one.

    Moments are finite sums over half sides and clipped sizes, docs/theory.md, Eq. (6b).
    """

    alpha: float = 1.0
    ratio: float = 0.5
    box: str = "clipped"

    def __post_init__(self) -> None:
        object.__setattr__(self, "alpha", as_alpha(self.alpha))
        check_real("ratio", self.ratio)
        if not 0 <= self.ratio <= 1:
            raise ValueError(f"expected ratio in [0, 1], got {self.ratio}; it is the share of area that is cut.")
        check_option("box", self.box, BOXES)

    def factors(self, lam: Float64[Array, " n"], shape: Shape, *, rng: np.random.Generator) -> SeparableMasks:
        """0 inside the box, one value outside that keeps the mean of M at lam."""
        check_weights(lam)
        area = (1 - lam) * self.ratio
        rows, columns = (draw_axis(half_sides(area, n), n, self.box, rng=rng) for n in shape)
        rest = 1 - rows.sum(axis=1) * columns.sum(axis=1) / (shape[0] * shape[1])
        outside = lam / rest
        return SeparableMasks(outside, -outside, rows.astype(float), columns.astype(float), lam)

    def closed_moments(self, shape: Shape, law: str) -> Moments:
        """Sum over intervals of lam and over positions.

        ``rho = 1 / (1 - n_r n_c / (H W))``, outside indicator ``O = 1 - B``, ``q1 = 1 - M = 1 - lam rho O``.
        All moments are integrals of powers of lam times ``E[rho^p O]``, ``E[rho^2 O O^T]``.
        """
        edges = lam_edges(shape, self.ratio)
        halves = interval_halves(edges, shape, self.ratio)
        lam = interval_moments(self.alpha, edges, 3)  # [4, n]: E[lam^p; I]
        w = 2 * lam[1:] if law == "paper" else lam  # integrals of lam^p under the law's weight
        total, c = float(w[0].sum()), float((lam[0] - lam[1]).sum())
        # E[q1 q1^T] = E[1] - E[lam rho O_j] - E[lam rho O_k] + E[lam^2 rho^2 (1 - B_j - B_k + B_j B_k)]
        taken, blended = np.zeros(shape), np.zeros(shape)  # E[lam rho O], E[(lam - lam^2) rho O]
        border, constant = np.zeros(shape), total
        for k, half in enumerate(halves):
            if lam[0, k] == 0:
                continue
            rho2, outside, rho2_box = _expectations(half, shape, self.box)
            taken += w[1, k] * outside
            blended += (lam[1, k] - lam[2, k]) * outside
            border -= w[1, k] * outside + w[2, k] * rho2_box
            constant += w[2, k] * rho2
        mean = total - taken
        if law == "exact":
            # label = lam: u = E[(1 - lam) q1] = E[1 - lam] - E[(lam - lam^2) rho O]
            u = c - blended
            border, constant, mean = border - u, constant + c, mean - 2 * u + c
        second = Bordered(BoxSum(tuple(halves), w[2], 2, shape, self.box), border, constant)
        detail = f"{int((lam[0] > 0).sum())} intervals of lam, exact up to rounding"
        return Moments(mean, second, law, Provenance("finite sum", rounding(shape), detail))

    def atoms(self, shape: Shape, *, order: int = 16) -> Atoms:
        """Every box of every half side, times ``order`` Gauss nodes in lam on its interval, or on parts of it."""
        edges = refined(self.alpha, lam_edges(shape, self.ratio), order)
        nodes, node_weights = gauss(self.alpha, edges, order)
        masks, lams, weights = [], [], []
        for k, halves in enumerate(interval_halves(edges, shape, self.ratio)):
            boxes, probability = box_atoms(halves, shape, self.box)
            outside = (1 - boxes) / (1 - boxes.mean(axis=(1, 2), keepdims=True))
            masks.append((nodes[k][:, None, None, None] * outside).reshape(-1, *shape))
            lams.append(np.repeat(nodes[k], len(boxes)))
            weights.append(np.multiply.outer(node_weights[k], probability).reshape(-1))
        mask, lam, weight = (np.concatenate(v) for v in (masks, lams, weights))
        keep = weight > 0
        return Atoms(mask[keep], lam[keep], 2 * lam[keep], weight[keep])


def _expectations(
    halves: tuple[int, int], shape: Shape, box: str
) -> tuple[float, Float64[Array, "H W"], Float64[Array, "H W"]]:
    """``E[rho^2]``, ``E[rho O]`` and ``E[rho^2 B]`` over the position of a box of given half sides."""
    if min(halves) == 0:
        return 1.0, np.ones(shape), np.zeros(shape)
    boxes = Boxes.of(halves, shape, box)
    rho, rho2 = boxes.rho(1), boxes.rho(2)
    return float(rho2.mean()), float(rho.mean()) - boxes.spread(rho), boxes.spread(rho2)
