"""Naive expansion of the mixed loss as a function of the parameters: loops, double backward, no package code."""

from __future__ import annotations

import torch
from naive import Law
from torch import Tensor, nn


def _derivatives(model: nn.Module, point: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """f [c], J [c, D] and D2f [c, D, D] at one image, differentiable in the parameters."""

    def outputs(z: Tensor) -> Tensor:
        return model(z.reshape(1, *point.shape))[0]

    z = point.reshape(-1)
    f = outputs(z)
    jacobian = torch.autograd.functional.jacobian(outputs, z, create_graph=True)
    hessians = [
        torch.autograd.functional.hessian(lambda v, c=c: outputs(v)[c], z, create_graph=True) for c in range(len(f))
    ]
    return f, jacobian, torch.stack(hessians)


def _value(f: Tensor, y: Tensor) -> Tensor:
    return torch.log(torch.exp(f).sum()) - (y * f).sum()


def expansion(model: nn.Module, x: Tensor, y: Tensor, law: Law, at: str) -> dict[str, Tensor]:
    """base, r1, r2, r3 and linear under softmax cross-entropy; y [m, c] targets, partners are the images x themselves.

    With p = softmax(f): h' = p and h'' = diag(p) - p p^T.
    """
    m, mu = len(x), sum(x) / len(x)
    qbar = sum(p * torch.from_numpy(q) for q, p in law)
    total = {name: torch.zeros((), dtype=torch.float64) for name in ("base", "r1", "r2", "r3", "linear")}
    for i in range(m):
        fixed = {"data": x[i], "mean": x[i] + qbar * (mu - x[i])}.get(at)
        shared = None if fixed is None else _derivatives(model, fixed)
        for q_array, probability in law:
            q = torch.from_numpy(q_array)
            point = x[i] + q * (mu - x[i]) if fixed is None else fixed
            f, jacobian, hessians = shared or _derivatives(model, point)
            p = torch.exp(f) / torch.exp(f).sum()
            bend = torch.diag(p) - p[:, None] * p[None, :]
            for r in range(m):
                weight = probability / m**2
                step = (x[i] + q * (x[r] - x[i]) - point).reshape(-1)
                moved = jacobian @ step
                total["base"] = total["base"] + weight * _value(f, y[i])
                total["r1"] = total["r1"] + weight * ((p - y[i]) * moved).sum()
                total["r2"] = total["r2"] + weight * 0.5 * (moved @ bend @ moved)
                curved = torch.stack([step @ h @ step for h in hessians])
                total["r3"] = total["r3"] + weight * 0.5 * ((p - y[i]) * curved).sum()
                total["linear"] = total["linear"] + weight * (_value(f + moved, y[i]) - _value(f, y[i]))
    return total
