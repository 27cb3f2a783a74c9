"""Naive rungs of the order ladder: loops over every image, mask and partner; nothing from the package is used."""

from __future__ import annotations

import numpy as np
import torch
from naive import Law, SampleLoss
from torch import Tensor, nn

NAMES = ("base", "r1", "r2", "r3", "linearised", "quadratic", "measured")


def of_pair(
    model: nn.Module, loss: SampleLoss, point: np.ndarray, step: np.ndarray, y: Tensor, shape: tuple[int, ...]
) -> list[float]:
    """`NAMES` for one point and step, from the full Jacobian and the Hessian of every output."""

    def outputs(z: Tensor) -> Tensor:
        return model(z.reshape(1, *shape))[0]

    p, eta = (torch.from_numpy(v.reshape(-1)) for v in (point, step))
    f = outputs(p).detach()
    j = torch.autograd.functional.jacobian(outputs, p)
    slope = torch.autograd.functional.jacobian(lambda g: loss(g, y), f)
    bend = torch.autograd.functional.hessian(lambda g: loss(g, y), f)
    first = torch.stack([(j[c] * eta).sum() for c in range(len(f))])
    second = []
    for c in range(len(f)):
        hessian = torch.autograd.functional.hessian(lambda z, c=c: outputs(z)[c] + 0 * (z * z).sum(), p)
        second.append(eta @ hessian @ eta)
    curved = torch.stack(second)
    values = [
        loss(f, y),
        slope @ first,
        first @ bend @ first / 2,
        slope @ curved / 2,
        loss(f + first, y),
        loss(f + first + curved / 2, y),
        loss(outputs(p + eta), y),
    ]
    return [float(v.detach()) for v in values]


def enumerated(
    model: nn.Module,
    loss: SampleLoss,
    x: Tensor,
    y: Tensor,
    law: Law,
    at: str,
    stand_in: Tensor | None = None,
    t: float = 1.0,
) -> dict[str, float]:
    """`NAMES` as means over all images, masks of the law and partners; y [m, c] targets.

    ``at``: data, mean or mask; with ``stand_in`` [m, C, H, W] the mask with it in place of the mean image.
    """
    images = x.numpy()
    mu = sum(images) / len(x)
    qbar = sum(p * q for q, p in law)
    totals = np.zeros(len(NAMES))
    for i in range(len(x)):
        for q, weight in law:
            for r in range(len(x)):
                mixed = images[i] + t * q * (images[r] - images[i])
                if at == "data":
                    point = images[i]
                elif at == "mean":
                    point = images[i] + t * qbar * (mu - images[i])
                else:
                    target = mu if stand_in is None else stand_in[r].numpy()
                    point = images[i] + t * q * (target - images[i])
                totals += weight * np.array(of_pair(model, loss, point, mixed - point, y[i], tuple(x.shape[1:])))
    return dict(zip(NAMES, totals / len(x) ** 2, strict=True))
