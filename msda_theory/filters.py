"""First-layer filters in the metric of a mask law: norms, spectrum, and their energy by spatial frequency."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor, nn
from torch.nn import functional as F

from msda_theory.cut import FirstLayer
from msda_theory.data import ImageData
from msda_theory.moments.moments import Moments, check_moments

_MAX_INPUTS = 1024
Array = np.ndarray


def filter_metric(cut: FirstLayer, data: ImageData, moments: Moments) -> Float64[Array, "g n n"]:
    """The metric T of the filters: ``w^T T w`` is the mean square of a filter's response to the step delta.

    ``E_i S_i = 2 A o Sigma`` over images; a linear layer sees ``T = P (2 A o Sigma) P^T``, a convolution the mean of
    its patches over output positions, ``T = 1/n_p sum_p U_p P (2 A o Sigma) P^T U_p^T``, zero where a patch leaves
    the image. R2 weights the same responses by the curvature behind each position; docs/theory.md, Eq. (3g).

    Returns:
        T [g, n, n] for each of g groups of a convolution (1 otherwise), n weights in a filter.

    Raises:
        ValueError: more than 1024 inputs, or padding other than zeros.
    """
    check_moments(moments, data.shape)
    inputs = data.x[0].numel()
    if inputs > _MAX_INPUTS:
        raise ValueError(f"the metric holds {inputs} x {inputs} matrices, allowed up to {_MAX_INPUTS} inputs.")
    a = torch.from_numpy(moments.second.dense()).repeat(data.x.shape[1], data.x.shape[1]).to(data.x.device)
    spread = 2 * a * data.covariance()
    with torch.no_grad():
        basis = torch.eye(inputs, dtype=data.x.dtype, device=data.x.device).reshape(-1, *data.x.shape[1:])
        zero = cut.inputs(torch.zeros_like(data.x[:1]))
        columns = torch.cat([cut.inputs(part) for part in torch.split(basis, 256)]) - zero  # P e_j
    size = columns.shape[1:]
    p = columns.flatten(1).T.double()  # [D_u, D]
    inner = p @ spread @ p.T
    layer = cut.layer
    if isinstance(layer, nn.Linear):  # applied to the last axis: the mean over all rows it is applied to
        n = layer.in_features
        inner = inner.reshape(len(inner) // n, n, len(inner) // n, n).diagonal(dim1=0, dim2=2).mean(dim=-1)
        return np.asarray(inner[None].cpu().numpy())
    return np.asarray(torch.stack([_patches(layer, inner, size, g) for g in range(layer.groups)]).cpu().numpy())


def _patches(layer: nn.Conv2d, inner: Tensor, size: torch.Size, group: int) -> Float64[Tensor, "n n"]:
    """Mean over output positions of the blocks of ``inner`` that a patch of this group covers."""
    if layer.padding_mode != "zeros" or isinstance(layer.padding, str):
        raise ValueError(
            f"the metric of a convolution is for zero padding given in pixels, got {layer.padding_mode!r} and "
            f"{layer.padding!r}; write the padding as numbers."
        )
    # index of every patch entry [n, positions] in the flattened input; 0 stands for padding
    places = torch.arange(1, inner.shape[0] + 1, dtype=torch.float64, device=inner.device).reshape(1, *size)
    channels = size[0] // layer.groups
    own = places[:, group * channels : (group + 1) * channels]
    index = F.unfold(own, layer.kernel_size, layer.dilation, layer.padding, layer.stride)[0].round().long()
    padded = F.pad(inner, (1, 0, 1, 0))
    total = torch.zeros(len(index), len(index), dtype=inner.dtype, device=inner.device)
    for column in index.T:
        total += padded[column[:, None], column[None, :]]
    return total / index.shape[1]


def metric_spectrum(metric: Float64[Array, "g n n"]) -> Float64[Array, "g n"]:
    """Eigenvalues of a metric from `filter_metric`, falling: mean square responses to the directions it weighs most.

    Their sum is the mean square response of n orthonormal filters.
    """
    return np.linalg.eigvalsh(metric)[:, ::-1].copy()


@dataclass(frozen=True, eq=False)
class FilterMeasures:
    """Sizes of the first layer's weights W, seen as a matrix with one row for each filter.

    Attributes:
        frobenius: root of the sum of squares.
        spectral: largest singular value.
        stable_rank: ``frobenius^2 / spectral^2``.
        metric: ``(w_o^T T w_o)^(1/2)`` of each filter, the root mean square of its response to a step [O].
    """

    frobenius: float
    spectral: float
    stable_rank: float
    metric: Float64[Array, " O"]

    @classmethod
    def of(cls, weight: Tensor, metric: Float64[Array, "g n n"]) -> FilterMeasures:
        """Measures of weights [O, ...] in a metric from `filter_metric`.

        Raises:
            ValueError: if the metric is for another number of weights in a filter.
        """
        rows = weight.detach().double().cpu().flatten(1).numpy()
        if metric.shape[1] != rows.shape[1] or len(rows) % len(metric):
            raise ValueError(
                f"expected a metric for filters of {rows.shape[1]} weights, got one for {metric.shape[1]} in "
                f"{len(metric)} groups; build it for this layer."
            )
        frobenius, spectral = float(np.linalg.norm(rows)), float(np.linalg.norm(rows, 2))
        groups = rows.reshape(len(metric), -1, rows.shape[1])
        squares = np.einsum("gon,gnk,gok->go", groups, metric, groups).reshape(-1)
        stable = frobenius**2 / spectral**2 if spectral > 0 else 0.0
        return cls(frobenius, spectral, stable, np.sqrt(np.maximum(squares, 0.0)))


def frequency_energy(weight: Tensor, size: tuple[int, int], edges: Float64[Array, " b1"]) -> Float64[Array, " b"]:
    """Share of the filters' energy in bands of spatial frequency [b], all filters and channels together.

    Filters [O, C, kh, kw] are padded with zeros to ``size`` and Fourier transformed (Parseval: the squares then sum to
    H W |W|^2); a band holds the frequencies with ``edges_k <= |omega| < edges_k+1``, ``omega`` in radians a pixel.

    Raises:
        ValueError: if filters are not [O, C, kh, kw], larger than ``size``, or all zero.
    """
    w = weight.detach().double().cpu().numpy()
    if w.ndim != 4 or w.shape[2] > size[0] or w.shape[3] > size[1]:
        raise ValueError(
            f"expected filters [O, C, kh, kw] of at most {size[0]}x{size[1]} pixels, got {list(w.shape)}; reshape the "
            "rows of a linear layer to images."
        )
    power = (np.abs(np.fft.fft2(w, s=size)) ** 2).sum(axis=(0, 1))
    if not power.sum() > 0:
        raise ValueError("the energy of filters that are all zero has no distribution over frequencies.")
    omega = [2 * np.pi * np.fft.fftfreq(n) for n in size]
    radius = np.hypot(omega[0][:, None], omega[1][None, :])
    sums, _ = np.histogram(radius, bins=edges, weights=power)
    return np.asarray(sums / power.sum())
