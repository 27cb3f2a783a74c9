"""Naive maps over displacements: loops over images, pixels, channels and classes; imports nothing from the package."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import naive
import numpy as np
import torch
from torch import Tensor, nn

Shape = tuple[int, int]


def pairs(shape: Shape) -> Iterator[tuple[tuple[int, int], tuple[int, int], tuple[int, int]]]:
    """Every ordered pair of pixels, and the place of its displacement in a map."""
    h, w = shape
    pixels = list(itertools.product(range(h), range(w)))
    for j, k in itertools.product(pixels, pixels):
        yield j, k, (k[0] - j[0] + h - 1, k[1] - j[1] + w - 1)


def rows(model: nn.Module, image: Tensor) -> np.ndarray:
    """Jacobian [c, C, H, W] at one image, by reverse mode."""
    return torch.autograd.functional.jacobian(lambda z: model(z[None])[0], image).numpy()


def products(model: nn.Module, x: Tensor, centred: bool) -> np.ndarray:
    """``sum_j |d_j f . d_{j+p} f|`` for each image [m, 2H-1, 2W-1]."""
    shape = tuple(x.shape[2:])
    out = np.zeros((len(x), 2 * shape[0] - 1, 2 * shape[1] - 1))
    for i, image in enumerate(x):
        jacobian = rows(model, image)
        means = [[[np.mean([r[ch, a, b] for r in jacobian]) for b in range(shape[1])] for a in range(shape[0])]
                 for ch in range(x.shape[1])]  # fmt: skip
        for j, k, p in pairs(shape):
            dot = 0.0
            for c in range(len(jacobian)):
                for ch in range(x.shape[1]):
                    left, right = jacobian[c, ch][j], jacobian[c, ch][k]
                    if centred:
                        left, right = left - means[ch][j[0]][j[1]], right - means[ch][k[0]][k[1]]
                    dot += left * right
            out[i][p] += abs(dot)
    return out


def gradient_term(model: nn.Module, loss: naive.SampleLoss, x: Tensor, y: Tensor, law: naive.Law) -> np.ndarray:
    """R2(p) [2H-1, 2W-1] by loops over images, partners, atoms of q and pixel pairs."""
    m, shape, images = len(x), tuple(x.shape[2:]), x.numpy()
    out = np.zeros((2 * shape[0] - 1, 2 * shape[1] - 1))
    for i in range(m):
        jacobian = rows(model, x[i])
        f = model(x[i : i + 1])[0].detach()
        curvature = torch.autograd.functional.hessian(lambda g, i=i: loss(g, y[i]), f).numpy()
        inner = np.zeros((shape[0] * shape[1],) * 2)  # of pixels j, k, averaged over partners and atoms
        for r in range(m):
            for q, weight in law:
                change = (jacobian * (q * (images[r] - images[i]))).sum(axis=1).reshape(len(f), -1)  # [c, d]
                inner += weight / m * change.T @ curvature @ change
        for j, k, p in pairs(shape):
            out[p] += 0.5 * inner[j[0] * shape[1] + j[1], k[0] * shape[1] + k[1]] / m
    return out


def by_distance(sums: np.ndarray) -> dict[float, float]:
    """Sum of a map over the displacements at each distance."""
    h, w = (sums.shape[0] + 1) // 2, (sums.shape[1] + 1) // 2
    out: dict[float, float] = {}
    for a, b in itertools.product(range(sums.shape[0]), range(sums.shape[1])):
        r = round(float(np.hypot(a - h + 1, b - w + 1)), 9)
        out[r] = out.get(r, 0.0) + float(sums[a, b])
    return dict(sorted(out.items()))
