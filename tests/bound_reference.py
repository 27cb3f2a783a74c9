"""Naive reference for both sides of the adversarial inequality: loops over images, pixels and atoms of the law.

Imports nothing from the package. One output (logistic loss) by the formulas of Eq. (4), several by bisection on the
definition of the radius in Eq. (4c), with full D x D matrices.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import naive
import numpy as np
import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Sides:
    """Lists over images."""

    loss: list[float]
    r1: list[float]
    r2: list[float]
    eps: list[float]
    adversarial: list[float]
    assumption: list[bool]


def sides(
    model: nn.Module, loss: naive.SampleLoss, x: Tensor, y: Tensor, law: naive.Law, *, centred: bool = True
) -> Sides:
    """Both sides for target vectors y [m, c]."""
    m = len(x)
    mu = sum(x) / m
    qbar = sum(p * q for q, p in law)
    found = Sides([], [], [], [], [], [])
    for i in range(m):
        value, residual, curvature, j = _derivatives(model, loss, x[i], y[i])
        r1 = r2 = 0.0
        for q, p in law:
            for r in range(m):
                moved = j @ (torch.from_numpy(q) * (x[r] - x[i])).reshape(-1).numpy()
                r1 += p / m * float(residual @ moved)
                r2 += p / m * 0.5 * float(moved @ curvature @ moved)
        step = -(torch.from_numpy(qbar) * (x[i] - mu if centred else x[i])).reshape(-1).numpy()
        if len(residual) == 1:
            eps, worst, condition = _margin(value, residual, curvature, j, step)
        else:
            eps, worst, condition = _certified(value, residual, curvature, j, step)
        rows = (found.loss, found.r1, found.r2, found.eps, found.adversarial, found.assumption)
        for row, number in zip(rows, (value, r1, r2, eps, worst, condition), strict=True):
            row.append(number)
    return found


def _derivatives(
    model: nn.Module, loss: naive.SampleLoss, point: Tensor, y: Tensor
) -> tuple[float, np.ndarray, np.ndarray, np.ndarray]:
    def outputs(z: Tensor) -> Tensor:
        return model(z.reshape(1, *point.shape))[0]

    f = outputs(point.reshape(-1)).detach()
    residual = torch.autograd.functional.jacobian(lambda g: loss(g, y), f)
    curvature = torch.autograd.functional.hessian(lambda g: loss(g, y), f)
    j = torch.autograd.functional.jacobian(outputs, point.reshape(-1))
    return float(loss(f, y)), residual.numpy(), curvature.numpy(), j.numpy()


def _margin(
    value: float, residual: np.ndarray, curvature: np.ndarray, j: np.ndarray, step: np.ndarray
) -> tuple[float, float, bool]:
    z = sum(a * b for a, b in zip(j[0], step, strict=True))
    size = math.sqrt(sum(a * a for a in j[0]))
    ends = [value + residual[0] * s * abs(z) + 0.5 * curvature[0, 0] * z * z for s in (-1, 1)]
    return abs(z) / size, max(ends), residual[0] * z >= 0


def _certified(
    value: float, residual: np.ndarray, curvature: np.ndarray, j: np.ndarray, step: np.ndarray
) -> tuple[float, float, bool]:
    gradient, bend = j.T @ residual, j.T @ curvature @ j
    reached = float(gradient @ step + 0.5 * step @ bend @ step)
    top = float(np.linalg.eigvalsh(bend).max())

    def rise(eps: float) -> float:
        return float(np.linalg.norm(gradient)) * eps + 0.5 * top * eps * eps

    if reached < 0:
        return 0.0, value, False
    low, high = 0.0, 1.0
    while rise(high) < reached:
        high *= 2
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if rise(middle) < reached else (low, middle)
    return low, value + rise(low), True
