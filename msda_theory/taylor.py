"""Second-order Taylor coefficients of a module along directions, by nested forward-mode differentiation."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import jvp


@dataclass(frozen=True, eq=False)
class TaylorCoefficients:
    """Coefficients of ``f(x + delta_k)``.

    Attributes:
        value: f(x) [B, c].
        first: ``J delta_k`` [K, B, c].
        second: ``sum_k delta_k^T D2f delta_k`` [B, c]; without the factor 1/2.
    """

    value: Tensor
    first: Tensor
    second: Tensor


def taylor(model: nn.Module, x: Tensor, directions: Tensor) -> TaylorCoefficients:
    """Value, directional derivatives and summed second directional derivatives of ``model`` at ``x``.

    Args:
        model: module in eval mode, a function of each sample alone, outputs [B, c].
        x: inputs [B, ...].
        directions: [K, B, ...].

    Raises:
        ValueError: if ``directions`` is not [K, B, ...] for the shape of ``x``, or K = 0.
    """
    if directions.shape[1:] != x.shape or not len(directions):
        raise ValueError(
            f"expected directions [K, {', '.join(map(str, x.shape))}] with K >= 1, got {tuple(directions.shape)}; "
            "stack one direction for each sample."
        )
    parts = [directional(model, x, d) for d in directions]
    second = torch.stack([p[2] for p in parts]).sum(dim=0)
    return TaylorCoefficients(parts[0][0], torch.stack([p[1] for p in parts]), second)


def directional(model: nn.Module, x: Tensor, d: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """``f``, ``J d`` and ``d^T D2f d`` [B, c] at x [B, ...] along one direction d [B, ...] for each sample."""

    def slope(z: Tensor) -> tuple[Tensor, Tensor]:
        value, first = jvp(model, (z,), (d,))[:2]
        return value, first

    (value, first), (_, second) = jvp(slope, (x,), (d,))[:2]
    return value, first, second
