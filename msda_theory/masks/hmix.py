"""HMix, the hybrid of Mixup and CutMix: Park, Yun, Chun, NeurIPS 2022 (arXiv 2208.09913)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from msda_theory.masks.base import SeparableStrategy, check_alpha, check_option
from msda_theory.masks.batches import Array, Atoms, SeparableMasks, Shape
from msda_theory.masks.betas import gauss, interval_moments
from msda_theory.masks.boxes import (
    BOXES,
    SizeClasses,
    box_atoms,
    draw_axis,
    half_sides,
    interval_halves,
    lam_edges,
)
from msda_theory.moments.moments import Moments, Provenance
from msda_theory.moments.operators import KroneckerSum


@dataclass(frozen=True)
class HMix(SeparableStrategy):
    """A box of nominal area ``(1 - lam) ratio``: M = 0 inside, ``lam / (1 - clipped area share)`` outside.

    The mean of M is lam, the label weight, exactly. At ``ratio=0`` it is Mixup; at ``ratio=1`` it tends to CutMix with
    ``box="periodic"`` as the image grows (on a finite grid the floored sides leave M slightly below 1 outside).

    Attributes:
        alpha: parameter of lam ~ Beta(alpha, alpha).
        ratio: share of the removed area that is cut rather than blended, in [0, 1].
        box: border rule, as for `CutMix`; ``"clipped"`` is the published one.

    Moments are finite sums over half sides and clipped sizes, docs/theory.md, Eq. (6b).
    """

    alpha: float = 1.0
    ratio: float = 0.5
    box: str = "clipped"

    def __post_init__(self) -> None:
        check_alpha(self.alpha)
        if not 0 <= self.ratio <= 1:
            raise ValueError(f"expected ratio in [0, 1], got {self.ratio}; it is the share of area that is cut.")
        check_option("box", self.box, BOXES)

    def factors(self, lam: Float64[Array, " n"], shape: Shape, *, rng: np.random.Generator) -> SeparableMasks:
        """0 inside the box, one value outside that keeps the mean of M at lam."""
        area = (1 - lam) * self.ratio
        rows, columns = (draw_axis(half_sides(area, n), n, self.box, rng=rng) for n in shape)
        rest = 1 - rows.sum(axis=1) * columns.sum(axis=1) / (shape[0] * shape[1])
        outside = lam / rest
        return SeparableMasks(outside, -outside, rows.astype(float), columns.astype(float), lam)

    def closed_moments(self, shape: Shape, law: str) -> Moments:
        """Sum over intervals of lam and over pairs of clipped sizes.

        ``rho = 1 / (1 - n_r n_c / (H W))``, outside indicator ``O = 1 - B``, ``q1 = 1 - M = 1 - lam rho O``.
        All moments are integrals of powers of lam times ``E[rho^p O]``, ``E[rho^2 O O^T]``.
        """
        edges = lam_edges(shape, self.ratio)
        parts = [_box_part(h, shape, self.box) for h, p in zip(*self._intervals(edges, shape), strict=True) if p > 0]
        lam = interval_moments(self.alpha, edges, 3)
        lam = lam[:, lam[0] > 0]  # [4, n]: E[lam^p; I]
        w = 2 * lam[1:] if law == "paper" else lam  # integrals of lam^p under the law's weight
        rho_o = np.stack([p.rho_outside for p in parts])  # [n, H, W], E[rho O]
        rho2_b = np.stack([p.rho2_box for p in parts])
        rho2 = np.array([p.rho2 for p in parts])
        e_lr = np.einsum("i,ijk->jk", w[1], rho_o)  # E[lam rho O]
        total = float(w[0].sum())
        # E[q1 q1^T] = E[1] - E[lam rho O_j] - E[lam rho O_k] + E[lam^2 rho^2 (1 - B_j - B_k + B_j B_k)]
        border = -e_lr - np.einsum("i,ijk->jk", w[2], rho2_b)
        constant = total + float(w[2] @ rho2)
        mean = total - e_lr
        if law == "exact":
            # label = lam: u = E[(1 - lam) q1] = E[1 - lam] - E[(lam - lam^2) rho O]
            c = float((lam[0] - lam[1]).sum())
            u = c - np.einsum("i,ijk->jk", lam[1] - lam[2], rho_o)
            border, constant, mean = border - u, constant + c, mean - 2 * u + c
        left = np.concatenate([w2 * p.left for w2, p in zip(w[2], parts, strict=True)])
        right = np.concatenate([p.right for p in parts])
        detail = f"{len(parts)} intervals of lam, {len(left)} Kronecker terms, exact up to rounding"
        second = KroneckerSum(left, right, border, constant)
        return Moments(mean, second, law, Provenance("finite sum", 1e-15, detail))

    def _intervals(self, edges: Array, shape: Shape) -> tuple[list[tuple[int, int]], Array]:
        return interval_halves(edges, shape, self.ratio), interval_moments(self.alpha, edges, 0)[0]

    def atoms(self, shape: Shape, *, order: int = 16) -> Atoms:
        """Every box of every half side, times ``order`` Gauss nodes in lam on its interval."""
        edges = lam_edges(shape, self.ratio)
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


@dataclass(frozen=True, eq=False)
class _BoxPart:
    """Expectations over the position of a box of given half sides."""

    rho2: float  # E[rho^2]
    rho_outside: Float64[Array, "H W"]  # E[rho O]
    rho2_box: Float64[Array, "H W"]  # E[rho^2 B]
    left: Float64[Array, "T H H"]  # sum_t left_t (x) right_t = E[rho^2 B B^T]
    right: Float64[Array, "T W W"]


def _box_part(halves: tuple[int, int], shape: Shape, box: str) -> _BoxPart:
    rows, columns = (SizeClasses.of(k, n, box) for k, n in zip(halves, shape, strict=True))
    rho = 1 / (1 - np.multiply.outer(rows.size, columns.size) / (shape[0] * shape[1]))  # [S, S']
    p = np.multiply.outer(rows.probability, columns.probability)
    rho_box = np.einsum("st,sj,tk->jk", rho, rows.first, columns.first, optimize=True)
    rho2_box = np.einsum("st,sj,tk->jk", rho**2, rows.first, columns.first, optimize=True)
    # rho^2 as a function of the two clipped sizes has low rank: its singular vectors give the Kronecker terms.
    a, s, b = np.linalg.svd(rho**2)
    keep = (s > 1e-16 * s[0]) & (halves[0] > 0 and halves[1] > 0)
    rank = int(keep.sum())
    left = np.einsum("r,sr,sjk->rjk", s[:rank], a[:, :rank], rows.second)
    right = np.einsum("rs,sjk->rjk", b[:rank], columns.second)
    return _BoxPart(float((p * rho**2).sum()), float((p * rho).sum()) - rho_box, rho2_box, left, right)
