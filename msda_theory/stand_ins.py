"""Images that stand in for the partner in an expansion: what of the partner is treated exactly; Eq. (3k).

The mask-conditional mean (3c) replaces every partner by the mean image. A stand-in that knows more of the partner
leaves a smaller residue to the quadratic approximation, down to none if it is the partner itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from msda_theory.data import ImageData

RESERVED = ("data", "mean", "mask", "all")


def class_means(data: ImageData) -> Float[Tensor, "m C H W"]:
    """For each image the mean of all images of its class, ``E[r | class of r]``: conditional means, so R1 = 0.

    The image itself is among them, as the conditional expectation over these partners has it. With k images a class a
    part 1/k of each partner is therefore in its stand-in: with few of them the stand-in is nearly the partner, which
    says little about other images of the class.
    """
    sums = torch.zeros(data.num_classes, *data.x.shape[1:], dtype=torch.float64, device=data.x.device)
    sums.index_add_(0, data.y, data.x.double())
    counts = torch.bincount(data.y, minlength=data.num_classes).clamp(min=1)
    return (sums / counts[:, None, None, None])[data.y].to(data.x.dtype)


def local_means(data: ImageData, length: float) -> Float[Tensor, "m C H W"]:
    """For each image ``mu + B (x - mu)``, with B a blur by a Gaussian of standard deviation ``length`` pixels.

    ``B = B_H o B_W`` along the two axes, ``(B_n)_ab = exp(-(a - b)^2 / (2 length^2))`` over the sum of its row, so that
    constants stay what they are at the border too. ``length = 0`` gives the images themselves, ``inf`` the mean image
    plus the mean of ``x - mu`` over the pixels of each channel. The residue ``r - s(r)`` has mean zero, but not given
    s(r): R1 is not 0.

    Raises:
        ValueError: if ``length`` is negative or no number.
    """
    if not isinstance(length, int | float) or not length >= 0:
        raise ValueError(f"expected a blur of length >= 0 pixels, got {length!r}; give its standard deviation.")
    rows, columns = (_blur(n, length).to(data.x.device) for n in data.shape)
    mu = data.mean.double()
    return (mu + rows @ (data.x.double() - mu) @ columns.T).to(data.x.dtype)


def _blur(n: int, length: float) -> Tensor:
    """Row-stochastic [n, n]."""
    if length == 0:
        return torch.eye(n, dtype=torch.float64)
    places = torch.arange(n, dtype=torch.float64)
    weight = torch.exp(-((places[:, None] - places) ** 2) / (2 * length * length))
    return weight / weight.sum(dim=1, keepdim=True)


def default_length(data: ImageData) -> float:
    """An eighth of the longer side, in pixels: the blur of `order_ladder` unless another is given."""
    return max(data.shape) / 8


def check_stand_ins(stand_ins: Mapping[str, Tensor], data: ImageData) -> None:
    """Raise unless every stand-in is an image for each image of ``data``, under a name that is no point of expansion.

    Raises:
        ValueError: with the name that is taken, or what the images are not.
    """
    for name, images in stand_ins.items():
        if name in RESERVED:
            raise ValueError(
                f"expected a name of its own for a stand-in, got {name!r}, a point of expansion; rename it."
            )
        if not isinstance(images, Tensor) or (images.shape, images.dtype) != (data.x.shape, data.x.dtype):
            got = f"{list(images.shape)} of {images.dtype}" if isinstance(images, Tensor) else type(images).__name__
            raise ValueError(
                f"expected stand-ins {list(data.x.shape)} of {data.x.dtype}, one for each image, got {got} as "
                f"{name!r}; use class_means(data) or local_means(data, length)."
            )
        if not math.isfinite(float(images.sum())):
            raise ValueError(f"expected finite stand-ins, got NaN or infinity in {name!r}; look at its images.")
