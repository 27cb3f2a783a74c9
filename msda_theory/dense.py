"""Exact terms (3) from full Jacobians and Hessians: the readable reference, for small images.

At the data the model enters only through weights of pixel pairs, ``R2 = 1/2 sum_jk a_jk w_jk``: computed once, they
serve every strategy and law. Channels are summed within a pixel pair because masks are shared by channels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor, nn
from torch.func import hessian, jacrev, vmap

from msda_theory.data import ImageData
from msda_theory.losses import Loss
from msda_theory.masks.base import Strategy
from msda_theory.moments.moments import Moments
from msda_theory.taylor import differentiable

_MAX_INPUTS = 1024
_ATOM_CHUNK = 64
Array = np.ndarray


@dataclass(frozen=True, eq=False)
class PairWeights:
    """What a model and a data set contribute to the terms at the data; docs/theory.md, Eqs. (3) and (3a).

    ``R1 = sum_j qbar_j first_j``, ``R2 = 1/2 sum_jk a_jk gradient_jk``, ``R3 = 1/2 sum_jk a_jk hessian_jk``.

    Attributes:
        clean: mean loss at the data.
        first: ``E_i sum_ch (dl/dx_i) (mu - x_i)`` [H, W].
        gradient: ``E_i sum_ch,ch' (J_i^T h'' J_i) o C_i`` [d, d], ``C_i = Sigma + (mu - x_i)(mu - x_i)^T``.
        hessian: the same with ``sum_c (h' - y)_c D2f_c`` in place of ``J^T h'' J``.
        n: number of images.
    """

    clean: float
    first: Float64[Array, "H W"]
    gradient: Float64[Array, "d d"]
    hessian: Float64[Array, "d d"]
    n: int

    def terms(self, moments: Moments) -> tuple[float, float, float]:
        """(R1, R2, R3) under ``moments``."""
        a = moments.second.dense()
        r1 = float((moments.mean * self.first).sum())
        return r1, 0.5 * float((a * self.gradient).sum()), 0.5 * float((a * self.hessian).sum())


def pair_weights(model: nn.Module, data: ImageData, loss: Loss) -> PairWeights:
    """`PairWeights` of a model; memory and time grow with the square of the number of inputs D = C H W.

    Raises:
        ValueError: if D > 1024.
    """
    _check_size(data)
    mu, sigma = data.mean.double(), data.covariance()
    value, first = 0.0, torch.zeros(data.shape, dtype=torch.float64)
    gradient, second = torch.zeros_like(_fold(sigma, data)), torch.zeros_like(_fold(sigma, data))
    for x, y in _chunks(data):
        c = _curvature(model, loss, x, y, data)
        shift = (mu - x.double()).flatten(1)  # [B, D]
        spread = sigma + shift[:, :, None] * shift[:, None, :]
        value += float(c.value.sum())
        first += (c.slope * shift).reshape(x.shape).sum(dim=(0, 1)).cpu()
        gradient += _fold((c.gauss_newton * spread).sum(dim=0), data)
        second += _fold((c.hessian * spread).sum(dim=0), data)
    m = len(data)
    arrays = [v.cpu().numpy() / m for v in (first, gradient, second)]
    return PairWeights(value / m, arrays[0], arrays[1], arrays[2], m)


def terms_at_mean(model: nn.Module, data: ImageData, loss: Loss, moments: Moments) -> tuple[float, float, float]:
    """(base, R2, R3) around ``xbar_i = x_i + qbar (mu - x_i)`` with centred second moments, Eq. (3b); R1 = 0."""
    _check_size(data)
    mu, sigma = data.mean.double(), data.covariance()
    qbar = torch.from_numpy(moments.mean).to(sigma.device)
    a = _unfold(torch.from_numpy(moments.second.dense()).to(sigma.device), data)
    flat = qbar.flatten().repeat(data.x.shape[1])
    centred = a - flat[:, None] * flat[None, :]
    totals = np.zeros(3)
    for x, y in _chunks(data):
        shift = mu - x.double()
        c = _curvature(model, loss, (x.double() + qbar * shift).to(x.dtype), y, data)
        outer = shift.flatten(1)[:, :, None] * shift.flatten(1)[:, None, :]
        spread = a * sigma + centred * outer
        totals += _totals(c, spread)
    base, r2, r3 = (float(v) for v in totals / len(data))
    return base, r2, r3


def terms_at_mask(
    model: nn.Module, data: ImageData, loss: Loss, strategy: Strategy, law: str
) -> tuple[float, float, float]:
    """(base, R2, R3) around ``x_q = x + q (mu - x)`` for every atom q of the law, Eq. (3c); R1 = 0.

    One Jacobian and one Hessian for each image and atom: for grids of a few pixels. Where lam is continuous given the
    mask (Mixup, HMix, GMix) it is integrated by 16 Gauss nodes for each interval: exact up to quadrature, whose
    error grows with the steepness of the network along the mixing path.
    """
    _check_size(data)
    mu, sigma = data.mean.double(), data.covariance()
    atoms, weights = strategy.atoms(data.shape).partner(law)
    totals = np.zeros(3)
    for q_atom, weight in zip(atoms, weights, strict=True):
        q = torch.from_numpy(q_atom).to(sigma.device)
        flat = q.flatten().repeat(data.x.shape[1])
        spread = flat[:, None] * flat[None, :] * sigma
        for x, y in _chunks(data):
            point = x.double() + q * (mu - x.double())
            totals += weight * _totals(_curvature(model, loss, point.to(x.dtype), y, data), spread)
    base, r2, r3 = (float(v) for v in totals / len(data))
    return base, r2, r3


def exact_mixed_loss(
    model: nn.Module,
    data: ImageData,
    loss: Loss,
    law: tuple[Float64[Array, "N H W"], Float64[Array, " N"]],
    *,
    scales: Float64[Array, " T"],
) -> Float64[Array, " T"]:
    """The loss (1) with the step shrunk, ``E l(f(x + t q (r - x)))`` for each t of ``scales``, by enumeration.

    Sums over every partner and every atom of ``law``, the masks q and their probabilities (`Atoms.partner`):
    evaluates ``len(scales) m (m - 1) N`` images for N atoms.
    """
    atoms, weights = law
    m, totals = len(data), np.zeros(len(scales))
    y = loss.targets(data.y, data.num_classes, data.x.dtype)
    with torch.no_grad():
        own = loss.value(model(data.x), y).double().cpu().numpy()  # r = x: nothing changes
        totals += own.mean() * weights.sum() / m
        for low in range(0, len(atoms), _ATOM_CHUNK):
            q = torch.from_numpy(atoms[low : low + _ATOM_CHUNK]).to(data.x)
            w = torch.from_numpy(weights[low : low + _ATOM_CHUNK]).to(data.x)
            for i in range(m):
                others = torch.cat([data.x[:i], data.x[i + 1 :]])
                delta = (q[:, None, None] * (others - data.x[i])).flatten(0, 1)  # [N (m - 1), C, H, W]
                for k, t in enumerate(scales):
                    f = model(data.x[i] + float(t) * delta)
                    values = loss.value(f, y[i].expand(len(f), -1)).reshape(len(q), m - 1)
                    totals[k] += float((values.sum(dim=1) * w).sum()) / m**2
    return totals


@dataclass(frozen=True, eq=False)
class _Curvature:
    value: Tensor  # l [B]
    slope: Tensor  # J^T (h' - y) [B, D]
    gauss_newton: Tensor  # J^T h'' J [B, D, D]
    hessian: Tensor  # sum_c (h' - y)_c D2f_c [B, D, D]


def _curvature(model: nn.Module, loss: Loss, x: Tensor, y: Tensor, data: ImageData) -> _Curvature:
    """Derivatives of the loss in the input, per sample, in float64."""

    def outputs(z: Tensor) -> Tensor:
        return model(z[None])[0]

    def projected(z: Tensor, g: Tensor) -> Tensor:
        return (g * outputs(z)).sum()

    size = data.x[0].numel()
    f = model(x).detach()
    target = loss.targets(y, data.num_classes, f.dtype)
    residual = loss.d1(f) - target
    with differentiable():
        jacobian = vmap(jacrev(outputs))(x).detach().reshape(len(x), -1, size).double()  # [B, c, D]
        curved = vmap(hessian(projected))(x, residual).detach().reshape(len(x), size, size).double()
    # h'' J, one column of J at a time as a batch: [D, B, c]
    bent = torch.stack([loss.d2(f.double(), jacobian[:, :, j]) for j in range(size)], dim=2)
    gauss_newton = jacobian.transpose(1, 2) @ bent
    slope = (residual.double()[:, :, None] * jacobian).sum(dim=1)
    return _Curvature(loss.value(f, target).double(), slope, gauss_newton, curved)


def _totals(c: _Curvature, spread: Tensor) -> Float64[Array, " 3"]:
    """Sums over the chunk of the loss, of ``1/2 <J^T h'' J, spread>`` and ``1/2 <g.D2f, spread>``."""
    r2, r3 = 0.5 * (c.gauss_newton * spread).sum(), 0.5 * (c.hessian * spread).sum()
    return np.array([float(c.value.sum()), float(r2), float(r3)])


def _chunks(data: ImageData) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches whose [B, D, D] matrices hold at most 4 million numbers."""
    return data.batches(max(1, min(64, 2**22 // data.x[0].numel() ** 2)))


def _fold(matrix: Tensor, data: ImageData) -> Tensor:
    """Sum [D, D] over channels of both indices: [d, d]."""
    channels, d = data.x.shape[1], data.shape[0] * data.shape[1]
    return matrix.reshape(channels, d, channels, d).sum(dim=(0, 2))


def _unfold(a: Tensor, data: ImageData) -> Tensor:
    """Repeat a pixel matrix [d, d] over channel pairs: [D, D]."""
    channels = data.x.shape[1]
    return a.repeat(channels, channels)


def _check_size(data: ImageData) -> None:
    size = data.x[0].numel()
    if size > _MAX_INPUTS:
        raise ValueError(
            f"method='dense' forms {size} x {size} matrices for each image, allowed up to {_MAX_INPUTS} inputs; "
            "use method='sampled'."
        )
