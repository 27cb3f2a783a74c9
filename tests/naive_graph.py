"""Readable loops for contrastive learning on graphs; no code of the package."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from torch import Tensor


def cosine(a: Sequence[float], b: Sequence[float]) -> float:
    """0 for a vector of zeros."""
    lengths = math.sqrt(sum(x * x for x in a)) * math.sqrt(sum(x * x for x in b))
    return sum(x * y for x, y in zip(a, b, strict=True)) / lengths if lengths > 0 else 0.0


def hardness(negatives: Tensor, positives: Tensor) -> list[float]:
    return [max(cosine(n, p) for p in positives.tolist()) for n in negatives.tolist()]


def ranking(values: Sequence[float], low: int, high: int) -> list[int]:
    """Places ``low`` to ``high - 1`` from small to large; the earlier of equal values comes first."""
    return sorted(range(len(values)), key=lambda k: (values[k], k))[low:high]


def mixed(vectors: Tensor, partners: Sequence[int], lam: float, every: int) -> list[list[float]]:
    """``(1 - lam) own + lam other`` on dimensions 0, every, 2 every, ..."""
    rows = vectors.tolist()
    return [
        [(1 - lam) * own[j] + lam * rows[r][j] if j % every == 0 else own[j] for j in range(len(own))]
        for own, r in zip(rows, partners, strict=True)
    ]


def prelu(z: float, slope: float) -> float:
    return z if z > 0 else slope * z


def encoded(features: np.ndarray, view: np.ndarray, weight: np.ndarray, bias: np.ndarray, slope: float) -> np.ndarray:
    """``PReLU(V X W^T + b)``, entry by entry."""
    n, width = len(view), len(weight)
    linear = [[sum(x * w for x, w in zip(row, weight[k], strict=True)) for k in range(width)] for row in features]
    return np.array(
        [
            [prelu(sum(view[i, j] * linear[j][k] for j in range(n)) + bias[k], slope) for k in range(width)]
            for i in range(n)
        ]
    )
