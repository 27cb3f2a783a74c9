"""Ways to second directional derivatives that people use, to time and to compare with `msda_theory.taylor`.

All for a module f of each sample alone, inputs x [B, ...] and one direction d [B, ...].
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import grad, jvp

from msda_theory.taylor import Taylor, differentiable

TOLERANCE = 1e-9  # in float64, of each quantity's largest entry
Triple = tuple[Tensor, Tensor, Tensor]


def nested_jvp(model: nn.Module, x: Tensor, d: Tensor) -> Triple:
    """f, J d and d^T D2f d, [B, c] each, by forward mode within forward mode.

    Wrong for LayerNorm in torch 2.13.
    """

    def along(z: Tensor) -> Any:
        return jvp(model, (z,), (d,))

    with differentiable():
        (value, first), (_, second) = jvp(along, (x,), (d,))[:2]
    return value, first, second


def hvp(model: nn.Module, x: Tensor, d: Tensor, cotangent: Tensor) -> Tensor:
    """``sum_c cotangent_c d^T D2f_c d`` [B] by forward over reverse: one combination of outputs, cotangent [B, c]."""

    def scalar(z: Tensor) -> Tensor:
        return (cotangent * model(z)).sum()

    with differentiable():
        product = jvp(grad(scalar), (x,), (d,))[1]
    return (product * d).flatten(1).sum(dim=1)


def double_backward(model: nn.Module, x: Tensor, d: Tensor) -> Triple:
    """As `nested_jvp` by reverse mode alone: two passes for each output; slow, and right for every network here."""
    z = x.clone().requires_grad_()
    firsts, seconds = [], []
    with differentiable():
        value = model(z)
        for output in value.unbind(dim=1):
            (gradient,) = torch.autograd.grad(output.sum(), z, create_graph=True)
            along = (gradient * d).flatten(1).sum(dim=1)
            (product,) = torch.autograd.grad(along.sum(), z, retain_graph=True)
            firsts.append(along.detach())
            seconds.append((product * d).flatten(1).sum(dim=1))
    return value.detach(), torch.stack(firsts, dim=1), torch.stack(seconds, dim=1)


def agreement(model: nn.Module, x: Tensor, directions: Tensor) -> dict[str, Any]:
    """Largest relative differences of `Taylor` from a reference, in float64; whether the other methods agree as well.

    The reference is nested forward mode where double backward confirms it, and double backward elsewhere.

    Args:
        model: in float64, parameters that need no gradient.
        x: inputs [B, ...].
        directions: [K, B, ...]; second derivatives are compared summed over them.
    """
    truth = _summed(double_backward, model, x, directions)
    cotangent = torch.linspace(-1, 1, truth[0].shape[1], dtype=x.dtype, device=x.device).expand_as(truth[0])
    product = torch.stack([hvp(model, x, d, cotangent) for d in directions]).sum(dim=0)
    try:
        nested: Triple | None = _summed(nested_jvp, model, x, directions)
    except NotImplementedError:
        nested = None  # no forward mode for one of the operators
    right = nested is not None and max(map(relative, nested, truth)) <= TOLERANCE
    reference = nested if nested is not None and right else truth
    with torch.no_grad():
        t = Taylor(model, x)(x, directions)
    differences = list(map(relative, (t.value, t.first, t.second), reference))
    return {
        "reference": "nested jvp" if right else "double backward",
        **dict(zip(("value", "first", "second"), differences, strict=True)),
        "agrees": {
            "taylor": max(differences) <= TOLERANCE,
            "nested jvp": right,
            "HVP": relative(product, (cotangent * truth[2]).sum(dim=1)) <= TOLERANCE,
        },
    }


def relative(a: Tensor, b: Tensor) -> float:
    """Largest difference over the largest entry of ``b``; the difference itself where ``b`` is 0."""
    scale = float(b.abs().max())
    return float((a - b).abs().max()) / (scale or 1.0)


def _summed(
    method: Callable[[nn.Module, Tensor, Tensor], Triple], model: nn.Module, x: Tensor, directions: Tensor
) -> Triple:
    """Value [B, c], first [K, B, c] and second summed over directions [B, c]."""
    value, first, second = zip(*(method(model, x, d) for d in directions), strict=True)
    return value[0], torch.stack(first), torch.stack(second).sum(dim=0)
