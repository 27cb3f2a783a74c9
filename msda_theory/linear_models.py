"""Closed forms for linear models and two-layer networks; docs/theory.md, Section 3.6.

Every matrix over pixels stays out of sight: the data's covariance is itself a mean of outer products, so the metric of
the first layer, ``W S_i W^T``, follows from products of A with one map for each image and row of W.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from msda_theory.data import ImageData
from msda_theory.losses import Loss, Squared, as_loss
from msda_theory.moments.moments import Moments, check_moments

_MAX_INPUTS = 4096
_CHUNK = 2**22  # numbers in the largest intermediate result
_LOST = 1e-11  # share of the labels' deviation that dropped directions may predict; rounding leaves about 1e-15
Weights = Tensor | np.ndarray
Elementwise = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class LinearTerms:
    """Terms of the expansion at the data of a model ``f = W x + b``; R3 = 0. Source: docs/theory.md, Eq. (3h).

    Attributes:
        clean: mean loss at the data.
        r1: ``E_i (h'(f_i) - y_i)^T W (qbar o (mu - x_i))``.
        r2: ``1/2 E_i sum_kl h''_kl(f_i) W_k^T S_i W_l``, ``S_i = A o (Sigma + (mu - x_i)(mu - x_i)^T)``.
    """

    clean: float
    r1: float
    r2: float


def glm_terms(
    weight: Weights,
    bias: Weights,
    data: ImageData,
    moments: Moments,
    *,
    loss: Loss | Callable[[Tensor, Tensor], Tensor],
) -> LinearTerms:
    """Closed R1 and R2 at the data of a generalized linear model ``f = W x + b``; docs/theory.md, Eq. (3h).

    Means over images; sums over classes, channels and ordered pixel pairs, as in Eq. (3). The law is that of
    ``moments``. Cost: one product with A for each image and class; no D x D matrix is formed.

    Args:
        weight: W [c, D], D = C H W in the order of ``data.x.flatten(1)``, as in ``nn.Linear``.
        bias: b [c].
        data: images and labels; computed in float64 whatever their dtype.
        moments: qbar and A for the size of the images.
        loss: any loss of the form ``h(f) - y.f``.

    Raises:
        ValueError: if shapes of weight, bias, loss, moments and images do not fit together.
    """
    loss = as_loss(loss, data.num_classes)
    w, b = _layer(weight, bias, data.x[0].numel())
    _check_outputs(len(w), loss, data)
    check_moments(moments, data.shape)
    qbar, mu = torch.from_numpy(moments.mean), data.x.double().mean(dim=0).cpu()
    clean = r1 = 0.0
    for x, y in _batches(data, data.x[0].numel()):
        f = x.flatten(1) @ w.T + b
        target = loss.targets(y, data.num_classes, torch.float64)
        clean += float(loss.value(f, target).sum())
        r1 += float(((loss.d1(f) - target) * ((qbar * (mu - x)).flatten(1) @ w.T)).sum())

    def curvature(x: Tensor) -> Tensor:
        return _bend(loss, x.flatten(1) @ w.T + b)

    m = len(data)
    return LinearTerms(clean / m, r1 / m, 0.5 * _metric_trace(w, data, moments, curvature))


def two_layer_r2(
    first_weight: Weights,
    first_bias: Weights,
    second_weight: Weights,
    second_bias: Weights,
    data: ImageData,
    moments: Moments,
    *,
    loss: Loss | Callable[[Tensor, Tensor], Tensor],
    activation: Elementwise,
    slope: Elementwise,
) -> float:
    """Closed R2 at the data of ``f = V sigma(W x + b) + c``; docs/theory.md, Eq. (3h).

    ``R2 = 1/2 E_i tr(K_i W S_i W^T)``, ``K_i = diag(s'_i) V^T h''(f_i) V diag(s'_i)``, ``s'_i = sigma'(W x_i + b)``:
    mean over images; sums over classes, hidden units, channels and ordered pixel pairs. It is not the whole second
    order: R3 is not 0 for a curved sigma, and kinks count for a piecewise-linear one (Section 3.4).

    Args:
        first_weight: W [p, D], p hidden units, D = C H W in the order of ``data.x.flatten(1)``.
        first_bias: b [p].
        second_weight: V [c, p].
        second_bias: c [c].
        data: images and labels; computed in float64 whatever their dtype.
        moments: A for the size of the images; its law is that of the result.
        loss: any loss of the form ``h(f) - y.f``.
        activation: sigma, elementwise on tensors, e.g. ``torch.tanh``.
        slope: its derivative, e.g. ``lambda z: 1 - torch.tanh(z) ** 2``.

    Raises:
        ValueError: if shapes of weights, biases, loss, moments and images do not fit together, or ``slope`` is not
            the derivative of ``activation`` (compared at the first image with automatic differentiation, to 1e-6).
    """
    loss = as_loss(loss, data.num_classes)
    w, b = _layer(first_weight, first_bias, data.x[0].numel())
    v, c = _layer(second_weight, second_bias, len(w))
    _check_outputs(len(v), loss, data)
    check_moments(moments, data.shape)
    _check_slope(data.x[:1].double().cpu().flatten(1) @ w.T + b, activation, slope)

    def curvature(x: Tensor) -> Tensor:
        z = x.flatten(1) @ w.T + b
        upper = v * slope(z)[:, None, :]  # G_i [B, c, p]
        return upper.transpose(1, 2) @ _bend(loss, activation(z) @ v.T + c) @ upper

    return 0.5 * _metric_trace(w, data, moments, curvature)


def least_squares_optimum(
    data: ImageData, moments: Moments, *, cutoff: float = 1e-12
) -> tuple[Float64[Tensor, "K D"], Float64[Tensor, " K"]]:
    """Exact minimiser (W, b) of the mixed squared loss ``E 1/2 |W x' + b|^2 - y.(W x' + b)``; docs/theory.md, Eq. (3i).

    ``W = Sigma_yx diag(1 - qbar) (T o Sigma)^+``, ``b = mean(y) - W mu``, with
    ``T = 1 1^T - qbar 1^T - 1 qbar^T + 2 A``, ``Sigma_yx = E_i (y_i - mean(y))(x_i - mu)^T`` (1/m) and one-hot y. Not
    an expansion: it holds at full strength, under the law of ``moments``; training minimises the exact one.

    Where pixels are constant or the images dependent, ``T o Sigma`` is singular and many W give the same predictions
    on mixed images; the one returned has the smallest Frobenius norm. Eigenvalues count as 0 up to ``cutoff`` times
    the largest one (or the square of the images' own rounding error). Nothing is added to the diagonal.

    Args:
        data: images [m, C, H, W] with D = C H W at most 4096, and labels; computed in float64 whatever their dtype.
        moments: qbar and A for the size of the images.
        cutoff: relative size below which an eigenvalue of ``T o Sigma`` counts as 0, in (0, 1).

    Returns:
        W [K, D] for K classes, as for ``nn.Linear`` after ``nn.Flatten``, and b [K], on the device of the images.

    Raises:
        ValueError: if the sizes of moments and images differ, D > 4096, ``cutoff`` is not in (0, 1), or directions
            below the cutoff predict the labels, so that leaving them out would not give the minimiser.
    """
    check_moments(moments, data.shape)
    channels, size = data.x.shape[1], data.x[0].numel()
    if size > _MAX_INPUTS:
        raise ValueError(
            f"the normal equations form {size} x {size} matrices, allowed up to {_MAX_INPUTS} inputs; "
            "use smaller images."
        )
    if not 0 < cutoff < 1:
        raise ValueError(f"expected a cutoff in (0, 1), got {cutoff}; it is relative to the largest eigenvalue.")
    flat = data.x.double().flatten(1).cpu()
    y = Squared().targets(data.y, data.num_classes, torch.float64).cpu()
    mu, ybar = flat.mean(dim=0), y.mean(dim=0)
    qbar = torch.from_numpy(moments.mean).flatten()
    kept = 1 - qbar[:, None] - qbar[None, :] + 2 * torch.from_numpy(moments.second.dense())  # T [d, d]
    covariance = kept.repeat(channels, channels) * ((flat - mu).T @ (flat - mu) / len(data))
    cross = (y - ybar).T @ (flat - mu) / len(data) * (1 - qbar).repeat(channels)  # [K, D]
    rounding = (torch.finfo(torch.float64).eps * float(flat.abs().max())) ** 2
    weight = _minimum_norm(covariance, cross, cutoff, rounding, float((y - ybar).square().sum(dim=1).mean()))
    return weight.to(data.x.device), (ybar - weight @ mu).to(data.x.device)


def _minimum_norm(covariance: Tensor, cross: Tensor, cutoff: float, rounding: float, variance: float) -> Tensor:
    """The solution W [K, D] of ``W covariance = cross`` of least norm; ``variance`` is that of the labels."""
    values, vectors = torch.linalg.eigh(covariance)
    largest = float(values[-1])
    used = values > max(cutoff * largest, rounding)
    projected = cross @ vectors
    lost = float(projected[:, ~used].norm())
    if lost > _LOST * (largest * variance) ** 0.5 and largest > rounding:
        raise ValueError(
            f"directions of variance below {cutoff:.3g} of the largest predict the labels (covariance {lost:.3g}), so "
            "the optimum needs them; lower the cutoff, or rescale the pixels of small variance."
        )
    return (projected[:, used] / values[used]) @ vectors[:, used].T


def _metric_trace(w: Tensor, data: ImageData, moments: Moments, curvature: Elementwise) -> float:
    """``E_i tr(K_i W S_i W^T)`` for ``K_i = curvature(x_i)``, images [B, C, H, W] to [B, p, p]; Eq. (3h).

    ``W S_i W^T = B_i + mean(B)``, hence the trace is ``E_i tr(K_i B_i) + tr(mean(K) mean(B))``.
    """
    p, m = len(w), len(data)
    mu, rows = data.x.double().mean(dim=0).cpu(), w.reshape(p, *data.x.shape[1:])
    own, mean_k, mean_b = 0.0, torch.zeros(p, p, dtype=torch.float64), torch.zeros(p, p, dtype=torch.float64)
    for x, _ in _batches(data, p * max(p, rows[0].numel())):
        maps = torch.einsum("pchw,bchw->bphw", rows, mu - x)  # channels share the mask, so they are summed first
        b = torch.einsum("bphw,bqhw->bpq", maps, torch.from_numpy(moments.second.apply(maps.numpy())))
        k = curvature(x)
        own += float((k * b).sum())
        mean_k += k.sum(dim=0) / m
        mean_b += b.sum(dim=0) / m
    return own / m + float((mean_k * mean_b).sum())


def _bend(loss: Loss, f: Tensor) -> Tensor:
    """h''(f) as matrices [B, c, c]."""
    units = torch.eye(f.shape[1], dtype=f.dtype)
    return torch.stack([loss.d2(f, unit.expand_as(f)) for unit in units], dim=2)


def _batches(data: ImageData, numbers: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Images in float64 and labels on the CPU, so many at a time that ``numbers`` for each stay within the limit."""
    for x, y in data.batches(max(1, _CHUNK // numbers)):
        yield x.double().cpu(), y.cpu()


def _layer(weight: Weights, bias: Weights, inputs: int) -> tuple[Tensor, Tensor]:
    """Weight [n, inputs] and bias [n] in float64 on the CPU."""
    w = torch.as_tensor(weight).detach().double().cpu()
    b = torch.as_tensor(bias).detach().double().cpu()
    if w.ndim != 2 or w.shape[1] != inputs:
        raise ValueError(f"expected a weight [n, {inputs}] for {inputs} inputs, got {tuple(w.shape)}; flatten it.")
    if b.shape != w.shape[:1]:
        raise ValueError(f"expected a bias [{len(w)}] beside a weight {tuple(w.shape)}, got {tuple(b.shape)}.")
    return w, b


def _check_outputs(outputs: int, loss: Loss, data: ImageData) -> None:
    expected = loss.outputs(data.num_classes)
    if outputs != expected:
        raise ValueError(
            f"expected {expected} rows in the last weight, the outputs of {type(loss).__name__} for "
            f"{data.num_classes} classes, got {outputs}; change the weight or the loss."
        )


def _check_slope(z: Tensor, activation: Elementwise, slope: Elementwise) -> None:
    """Raise unless ``slope`` is the derivative of ``activation`` at z [1, p]."""
    z = z.clone().requires_grad_()
    with torch.enable_grad():
        (expected,) = torch.autograd.grad(activation(z).sum(), z)
    got = slope(z.detach())
    if got.shape != z.shape or not torch.allclose(got, expected, rtol=1e-6, atol=1e-6):
        raise ValueError(
            f"slope is not the derivative of activation at the first image: expected {expected[0, :3].tolist()} ..., "
            f"got shape {tuple(got.shape)}, values {got.flatten()[:3].tolist()} ...; pass sigma' as slope."
        )
