"""How the coefficient of pixel pairs, and the regularizer it weights, depend on the distance of the pixels.

Up to 64x64 pixels the map R2(p) is exact: what the model contributes is one matrix over pixel pairs, which serves
every strategy and law. Above, `sampled_gradient_term` estimates the map from pairs (q, r).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor, nn

from msda_theory.adversarial_sides import jacobians
from msda_theory.checks import check_model
from msda_theory.data import ImageData
from msda_theory.dense import PairWeights
from msda_theory.losses import Loss, SoftmaxCrossEntropy
from msda_theory.moments.displacements import ByDistance, displacement_sums
from msda_theory.moments.moments import Moments

_MAX_PIXELS = 4096
_JACOBIANS = 2**25  # entries of the Jacobians that are held together: 256 MB
_ROWS = 2**21  # entries of a block of rows: 16 MB
Array = np.ndarray


@dataclass(frozen=True, eq=False)
class GradientWeights:
    """What a model and a data set contribute to R2 at the data: ``R2 = 1/2 sum_jk a_jk gradient_jk``, Eq. (3).

    Attributes:
        gradient: ``E_i sum_ch,ch' (J_i^T h'' J_i) o C_i`` [d, d], ``C_i = Sigma + (mu - x_i)(mu - x_i)^T``.
        n: number of images.
    """

    gradient: Float64[Array, "d d"]
    n: int


def gradient_weights(
    model: nn.Module, data: ImageData, *, loss: Loss | None = None, batch_size: int = 64
) -> GradientWeights:
    """The `gradient` of `PairWeights`, exact, where no [D, D] matrix of an image fits; docs/theory.md, Eq. (3q).

    Sums over classes and over pairs of channels, mean over the m images; no 1/d and no 1/C. Needs the Jacobian rows of
    the images alone. Time: ``2 D^2 m (c + 1)`` multiplications in float64 on the CPU for D inputs and c logits.

    Args:
        model: in eval mode.
        data: the images, which partners are drawn from too.
        loss: by default softmax cross-entropy.
        batch_size: images of one backward pass.

    Raises:
        ValueError: more than 4096 pixels, or a model that is no function of each sample alone.
    """
    loss = SoftmaxCrossEntropy() if loss is None else loss
    check_model(model, data, loss)
    pixels = data.shape[0] * data.shape[1]
    if pixels > _MAX_PIXELS:
        raise ValueError(
            f"the exact map over displacements holds a {pixels} x {pixels} matrix of pixel pairs, allowed up to "
            f"{_MAX_PIXELS} pixels; use sampled_gradient_term."
        )
    m, channels = len(data), data.x.shape[1]
    mu = data.x.double().mean(dim=0)
    centred = (data.x.double() - mu).cpu().reshape(m, channels, pixels)
    total = torch.zeros(pixels, pixels, dtype=torch.float64)
    start = 0
    for jacobian, bent in _rows(model, data, loss, batch_size):
        images, c = jacobian.shape[:2]
        left, right = (v.reshape(images * c, channels, pixels) for v in (jacobian, bent))
        shift = -centred[start : start + images].repeat_interleave(c, dim=0)  # mu - x_i
        total += (left * shift).sum(dim=1).T @ (right * shift).sum(dim=1)
        _add_spread(total, left, right, centred)
        start += images
    return GradientWeights(total.numpy() / m, m)


def gradient_term_by_displacement(weights: PairWeights | GradientWeights, moments: Moments) -> Float64[Array, "P Q"]:
    """R2(p) [2H-1, 2W-1]: the part of R2 at the data from pairs with displacement p; sums to R2, Eq. (3f).

    Exact for the given A, stationary or not: ``1/2 sum_j a_{j,j+p} gradient_{j,j+p}``, a sum over pairs, no mean.

    Raises:
        ValueError: if ``moments`` are for another number of pixels.
    """
    shape = moments.mean.shape[0], moments.mean.shape[1]
    if shape[0] * shape[1] != len(weights.gradient):
        raise ValueError(
            f"expected moments for the {len(weights.gradient)} pixels of the weights, got moments for "
            f"{shape[0]}x{shape[1]}; build them with strategy.moments(data.shape)."
        )
    return displacement_sums(0.5 * moments.second.dense() * weights.gradient, shape)


def gradient_term_by_distance(weights: PairWeights | GradientWeights, moments: Moments) -> ByDistance:
    """Part of R2 at the data from the pixel pairs at each distance; the values sum to R2."""
    return ByDistance.of(gradient_term_by_displacement(weights, moments), mean=False)


def coefficient_by_distance(moments: Moments) -> ByDistance:
    """Mean of a_jk over all pixel pairs at each distance; docs/theory.md, Eq. (3f)."""
    return moments.second.by_distance()


def bends(loss: Loss, f: Float64[Tensor, "B c"]) -> Float64[Tensor, "B c c"]:
    """h''(f) of every sample."""
    units = torch.eye(f.shape[1], dtype=f.dtype)
    return torch.stack([loss.d2(f, unit.expand_as(f)) for unit in units], dim=2)


def _rows(model: nn.Module, data: ImageData, loss: Loss, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """J_i and h'' J_i [B, c, D] for as many images at once as may be held."""
    held: list[tuple[Tensor, Tensor]] = []
    for x, _ in data.batches(batch_size):
        f, jacobian = jacobians(model, x)
        held.append((jacobian, bends(loss, f) @ jacobian))
        if sum(j.numel() for j, _ in held) + jacobian.numel() > _JACOBIANS:
            yield _joined(held)
            held = []
    if held:
        yield _joined(held)


def _joined(parts: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    jacobian, bent = zip(*parts, strict=True)
    return torch.cat(jacobian), torch.cat(bent)


def _add_spread(total: Tensor, left: Tensor, right: Tensor, centred: Tensor) -> None:
    """Add ``sum_ch,ch' (J^T h'' J) o Sigma``, a block of rows and a pair of channels at a time.

    Shapes: total [d, d], left and right [B c, C, d], centred [m, C, d]; Sigma = centred^T centred / m.
    """
    m, channels, pixels = centred.shape
    step = max(1, _ROWS // pixels)
    for low in range(0, pixels, step):
        rows = slice(low, low + step)
        for one in range(channels):
            for other in range(channels):
                products = left[:, one, rows].T @ right[:, other]
                total[rows] += products.mul_(centred[:, one, rows].T @ centred[:, other]).div_(m)
