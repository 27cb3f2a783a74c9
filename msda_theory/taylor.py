"""Second-order Taylor coefficients of a module along directions, by forward-over-reverse differentiation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call, jvp, vjp
from torch.nn.attention import SDPBackend, sdpa_kernel

from msda_theory.checks import check_eval


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
        ValueError: if ``directions`` is not [K, B, ...] for the shape of ``x``, or K = 0; normalisation by the batch or
            Dropout in train mode.
    """
    if directions.shape[1:] != x.shape or not len(directions):
        raise ValueError(
            f"expected directions [K, {', '.join(map(str, x.shape))}] with K >= 1, got {tuple(directions.shape)}; "
            "stack one direction for each sample."
        )
    check_eval(model)
    parts = [directional(model, x, d) for d in directions]
    second = torch.stack([p[2] for p in parts]).sum(dim=0)
    return TaylorCoefficients(parts[0][0], torch.stack([p[1] for p in parts]), second)


def directional(model: nn.Module, x: Tensor, d: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """``f``, ``J d`` and ``d^T D2f d`` [B, c] at x [B, ...] along one direction d [B, ...] for each sample.

    One product with the Hessian for each output; where only one combination of outputs is wanted, use `curvature`.
    """
    outputs = int(_frozen(model)(x).shape[1])
    basis = torch.eye(outputs, dtype=x.dtype, device=x.device)[:, None, :].expand(outputs, len(x), outputs)
    value, first, curved = _forward_over_reverse(model, x, d, basis)
    return value, first, (curved * d).flatten(2).sum(dim=2).T


def curvature(model: nn.Module, x: Tensor, d: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """``f`` [B, c], ``J d`` [B, c] and ``sum_c weights_c d^T D2f_c d`` [B] along one direction for each sample.

    Args:
        model: module in eval mode, outputs [B, c].
        x: inputs [B, ...].
        d: directions [B, ...].
        weights: of the outputs [B, c], constants.
    """
    value, first, curved = _forward_over_reverse(model, x, d, weights[None])
    return value, first, (curved[0] * d).flatten(1).sum(dim=1)


def _forward_over_reverse(model: nn.Module, x: Tensor, d: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """f [B, c], J d [B, c] and ``(sum_c weights_kc D2f_c) d`` [k, B, ...] for weights [k, B, c].

    Forward over reverse, not nested forward mode: the latter is wrong for the fused normalisations of torch 2.13
    (LayerNorm, InstanceNorm), undefined for several activations, and takes about twice the time.
    """
    function = _frozen(model)

    def field(z: Tensor) -> tuple[Tensor, Tensor]:
        value, pull = vjp(function, z)[:2]
        return value, torch.stack([pull(w)[0] for w in weights])

    with differentiable():
        (value, _), (first, curved) = jvp(field, (x,), (d,))[:2]
    return value.detach(), first.detach(), curved.detach()


@contextmanager
def differentiable() -> Iterator[None]:
    """Where forward mode works: its decompositions are chosen only while gradients are enabled, and fused attention
    has none.
    """
    with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
        yield


def _frozen(model: nn.Module) -> Callable[[Tensor], Tensor]:
    """The model with its parameters as constants, so that no graph is kept for them."""
    state = {name: t.detach() for name, t in (*model.named_parameters(), *model.named_buffers())}

    def function(z: Tensor) -> Tensor:
        return functional_call(model, state, (z,))

    return function
