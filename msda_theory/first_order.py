"""R1, the first-order term, from the closed first moment of q; docs/theory.md, Eq. (3)."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float64
from torch import nn

from msda_theory.data import ImageData
from msda_theory.estimate import Estimate
from msda_theory.losses import Loss
from msda_theory.moments.moments import Moments


def first_order_map(
    model: nn.Module, data: ImageData, loss: Loss, shift: Float64[np.ndarray, "H W"], batch_size: int = 512
) -> Float64[np.ndarray, "H W"]:
    """``v = E_i sum_ch (dl/dx)(x_i + shift (mu - x_i)) (mu - x_i)`` [H, W].

    At the data, ``shift = 0``, ``R1 = sum_j qbar_j v_j`` for every strategy.
    """
    mu, weight = data.mean, torch.from_numpy(shift).to(data.x)
    total = torch.zeros(data.shape, dtype=torch.float64, device=data.x.device)
    for x, y in data.batches(batch_size):
        point = (x + weight * (mu - x)).detach().requires_grad_()
        with torch.enable_grad():
            value = loss.value(model(point), loss.targets(y, data.num_classes, x.dtype)).sum()
        (slope,) = torch.autograd.grad(value, point)
        total += (slope * (mu - x)).double().sum(dim=(0, 1))
    return (total / len(data)).cpu().numpy()


def first_order(
    model: nn.Module, data: ImageData, loss: Loss, moments: Moments, at: str = "data", batch_size: int = 512
) -> Estimate:
    """R1 from the first moment: Eq. (3) at the data, 0 around either mean.

    Moments that were themselves sampled carry their error over: R1 is linear in qbar, at the data and around the
    conditional mean, which is off where qbar is.
    """
    if at == "mask" or (at == "mean" and moments.sample is None):
        return Estimate(0.0, 0.0, len(data))
    v = first_order_map(model, data, loss, moments.mean if at == "mean" else np.zeros(data.shape), batch_size)
    value = float((moments.mean * v).sum()) if at == "data" else 0.0
    if moments.sample is None:
        return Estimate(value, 0.0, len(data))
    return Estimate(value, moments.sample.linear_error(v), moments.sample.draws.shape[0])
