"""Boxes of CutMix and HMix: sides, positions, clipping; their exact laws along one axis.

A box of half side k around the centre pixel c covers the pixels ``c - k <= j < c + k``. The half side is
``floor(side / 2)`` with ``side = floor(L sqrt(area))``, which equals ``floor(L sqrt(area) / 2)``. Rows and columns are
independent given the half sides, which is why all second moments are sums of Kronecker products.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64

Array = np.ndarray
BOXES = ("clipped", "inside", "periodic")


def half_sides(area: Float64[Array, " n"], length: int) -> Int64[Array, " n"]:
    """``floor(floor(L sqrt(area)) / 2)`` for the nominal share ``area`` < 1 of the image.

    ``1 - lam`` rounds to 1 for lam below 1e-16, which small alphas draw often; a side stays below L all the same.
    """
    side = np.floor(length * np.sqrt(area)).astype(np.int64)
    return np.minimum(side, length - 1) // 2


def draw_axis(half: Int64[Array, " n"], length: int, box: str, *, rng: np.random.Generator) -> Bool[Array, "n L"]:
    """Indicators [n, L] of the pixels of one axis that are covered, at random positions."""
    u = rng.random(len(half))
    j, k = np.arange(length), half[:, None]
    if box == "inside":
        start = np.floor(u * (length - 2 * half + 1)).astype(np.int64)[:, None]
        return (j >= start) & (j < start + 2 * k)
    c = np.floor(u * length).astype(np.int64)[:, None]
    if box == "periodic":
        return (j - c + k) % length < 2 * k
    return (j >= c - k) & (j < c + k)


def axis_positions(half: int, length: int, box: str) -> tuple[Float64[Array, "P L"], Float64[Array, " P"]]:
    """Distinct positions of a box of half side ``half`` along one axis: indicators [P, L] and probabilities [P]."""
    j = np.arange(length)
    if box == "inside":
        start = np.arange(length - 2 * half + 1)[:, None]
        covered = (j >= start) & (j < start + 2 * half)
    elif box == "periodic":
        covered = (j - j[:, None] + half) % length < 2 * half
    else:
        c = j[:, None]
        covered = (j >= c - half) & (j < c + half)
    distinct, counts = np.unique(covered, axis=0, return_counts=True)
    return distinct.astype(np.float64), counts / len(covered)


def lam_edges(shape: tuple[int, int], ratio: float) -> Float64[Array, " n1"]:
    """Values of lam in [0, 1], increasing, between which both half sides are constant; area = (1 - lam) ratio.

    Half sides jump where ``sqrt((1 - lam) ratio) = 2 k / L``; docs/theory.md, Eq. (6).
    """
    roots = np.unique(np.concatenate([2 * np.arange(1, n // 2 + 1) / n for n in shape]))
    inner = 1 - roots[roots**2 < ratio] ** 2 / ratio if ratio > 0 else np.empty(0)
    edges = np.unique(np.concatenate([[0.0, 1.0], inner]))
    return edges


def interval_halves(edges: Float64[Array, " n1"], shape: tuple[int, int], ratio: float) -> list[tuple[int, int]]:
    """Half sides (rows, columns) on each interval of `lam_edges`, read at its middle."""
    area = (1 - (edges[:-1] + edges[1:]) / 2) * ratio
    rows, columns = (half_sides(area, n) for n in shape)
    return [(int(a), int(b)) for a, b in zip(rows, columns, strict=True)]


@dataclass(frozen=True, eq=False)
class SizeClasses:
    """Positions of one axis grouped by the number of covered pixels n (clipping makes it vary).

    Attributes:
        size: distinct covered sizes [S].
        probability: of each size [S].
        first: ``E[b ; size]`` for the indicator b, [S, L].
        second: ``E[b b^T ; size]``, [S, L, L].
    """

    size: Float64[Array, " S"]
    probability: Float64[Array, " S"]
    first: Float64[Array, "S L"]
    second: Float64[Array, "S L L"]

    @classmethod
    def of(cls, half: int, length: int, box: str) -> SizeClasses:
        """Group `axis_positions` by size."""
        b, probability = axis_positions(half, length, box)
        size, index = np.unique(b.sum(axis=1), return_inverse=True)
        member = (index == np.arange(len(size))[:, None]) * probability  # [S, P]
        return cls(size, member.sum(axis=1), member @ b, np.einsum("sp,pj,pk->sjk", member, b, b, optimize=True))


def box_atoms(
    halves: tuple[int, int], shape: tuple[int, int], box: str
) -> tuple[Float64[Array, "N H W"], Float64[Array, " N"]]:
    """Indicators [N, H, W] of every distinct box of the given half sides, and their probabilities [N]."""
    (rows, p), (columns, r) = (axis_positions(k, n, box) for k, n in zip(halves, shape, strict=True))
    boxes = (rows[:, None, :, None] * columns[None, :, None, :]).reshape(-1, *shape)
    return boxes, np.multiply.outer(p, r).reshape(-1)
