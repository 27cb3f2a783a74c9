"""Derivatives along directions by double backward in a scalar step: nothing from the package is used."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel


def uneven(model: nn.Module, seed: int = 0) -> nn.Module:
    """In float64 and eval mode, with scales, shifts and running statistics that differ between channels."""
    rng = torch.Generator().manual_seed(seed)
    model = model.double().eval()
    with torch.no_grad():
        for p in model.parameters():
            if p.ndim == 1:
                p += 0.3 * torch.randn(p.shape, generator=rng, dtype=p.dtype)
        for name, b in model.named_buffers():
            if name.endswith("running_mean"):
                b.copy_(0.3 * torch.randn(b.shape, generator=rng, dtype=b.dtype))
            if name.endswith("running_var"):
                b.copy_(0.5 + 1.5 * torch.rand(b.shape, generator=rng, dtype=b.dtype))
    return model


def normal(*shape: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def along(model: nn.Module, x: Tensor, d: Tensor, *, graph: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """``f``, ``J d`` and ``d^T D2f d`` [B, c] at x [B, ...]: each sample has its own step t, at 0.

    One double backward for each output; with ``graph`` the results are differentiable in the parameters.
    """
    t = torch.zeros(len(x), dtype=x.dtype, requires_grad=True)
    with sdpa_kernel(SDPBackend.MATH):  # fused attention has no second derivative
        value = model(x + t.reshape(-1, *(1,) * (x.ndim - 1)) * d)
        first, second = [], []
        for column in value.T:
            g = _gradient(column, t)
            first.append(g if graph else g.detach())
            h = _gradient(g, t)
            second.append(h if graph else h.detach())
    return value if graph else value.detach(), torch.stack(first, 1), torch.stack(second, 1)


def _gradient(outputs: Tensor, t: Tensor) -> Tensor:
    if not outputs.requires_grad:
        return torch.zeros_like(t)
    (g,) = torch.autograd.grad(outputs.sum(), t, create_graph=True, allow_unused=True)
    return torch.zeros_like(t) if g is None else g


def reference(
    model: nn.Module, x: Tensor, directions: Tensor, weights: Sequence[float] | None = None, *, graph: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Value [B, c], first [K, B, c] and ``sum_k w_k`` second [B, c]."""
    weights = [1.0] * len(directions) if weights is None else weights
    parts = [along(model, x, d, graph=graph) for d in directions]
    second = torch.stack([w * p[2] for w, p in zip(weights, parts, strict=True)]).sum(dim=0)
    return parts[0][0], torch.stack([p[1] for p in parts]), second


def assert_near(got: Tensor, expected: Tensor, tolerance: float) -> None:
    """Same shape and dtype, and a difference of at most ``tolerance`` times the largest entry expected."""
    assert got.shape == expected.shape
    assert got.dtype == expected.dtype
    error, scale = float((got - expected).abs().max()), float(expected.abs().max())
    assert error <= tolerance * scale, f"off by {error:.3g}, entries up to {scale:.3g}"
