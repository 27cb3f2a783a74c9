"""The images and labels that the theory is evaluated on, validated once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from msda_theory.scalars import check_whole


@dataclass(frozen=True, eq=False, init=False)
class ImageData:
    """A labelled set of images; expectations over "the data" are means over exactly these m samples.

    Attributes:
        x: images [m, C, H, W], float32 or float64; a NumPy array is converted.
        y: labels [m], int64 in ``0 .. num_classes - 1``; a NumPy array is converted.
        num_classes: number of classes.

    Raises:
        TypeError: if ``x`` or ``y`` is nothing that a tensor can be made of, ``x`` is not float32 or float64, or ``y``
            is not int64.
        ValueError: if shapes disagree, a sample has NaN or infinity, or a label is out of range.
    """

    x: Tensor
    y: Tensor
    num_classes: int

    def __init__(self, x: Tensor | np.ndarray, y: Tensor | np.ndarray, num_classes: int) -> None:
        object.__setattr__(self, "x", _as_tensor("images", x).detach())
        object.__setattr__(self, "y", _as_tensor("labels", y))
        object.__setattr__(self, "num_classes", num_classes)
        self._validate()

    def _validate(self) -> None:
        if self.x.dtype not in (torch.float32, torch.float64):
            raise TypeError(
                f"expected images in float32 or float64, got {self.x.dtype}; convert them, e.g. x.double()."
            )
        if self.x.ndim != 4 or 0 in self.x.shape:
            raise ValueError(
                f"expected images [m, C, H, W] with no empty axis, got shape {tuple(self.x.shape)}; reshape x."
            )
        if self.y.dtype != torch.int64:
            raise TypeError(f"expected integer labels (int64), got {self.y.dtype}; pass class indices, y.long().")
        if not isinstance(self.num_classes, int) or isinstance(self.num_classes, bool):
            raise TypeError(f"expected num_classes as an int, got {self.num_classes!r}; pass the number of classes.")
        if self.y.device != self.x.device:
            raise ValueError(
                f"expected images and labels on one device, got {self.x.device} and {self.y.device}; move one of them."
            )
        if self.y.shape != self.x.shape[:1]:
            raise ValueError(
                f"expected one label for each of {len(self.x)} images, got y of shape {tuple(self.y.shape)}; "
                "pass y of shape [m]."
            )
        finite = torch.isfinite(self.x).flatten(1).all(dim=1)
        if not bool(finite.all()):
            first = int((~finite).nonzero()[0])
            raise ValueError(
                f"expected finite images, got NaN or infinity in sample {first} "
                f"({int((~finite).sum())} such samples); remove or repair them."
            )
        low, high = int(self.y.min()), int(self.y.max())
        if low < 0 or high >= self.num_classes:
            raise ValueError(
                f"expected labels in 0 .. {self.num_classes - 1}, got {low} .. {high}; fix y or num_classes."
            )

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: slice | Tensor) -> ImageData:
        """The samples of a slice or an index tensor, as a data set of their own."""
        return ImageData(self.x[index], self.y[index], self.num_classes)

    def to(self, target: torch.dtype | torch.device | str) -> ImageData:
        """Images in another dtype or the whole set on another device (labels stay int64)."""
        x = self.x.to(target)
        return ImageData(x, self.y.to(x.device), self.num_classes)

    def batches(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Images and labels in their order, ``size`` at a time."""
        check_batch_size(size)
        for low in range(0, len(self), size):
            yield self.x[low : low + size], self.y[low : low + size]

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W)."""
        return int(self.x.shape[2]), int(self.x.shape[3])

    @cached_property
    def mean(self) -> Tensor:
        """mu [C, H, W], the mean image, in the dtype of ``x`` (summed in float64)."""
        return self.x.double().mean(dim=0).to(self.x.dtype)

    def covariance(self) -> Tensor:
        """Sigma [D, D] of the flattened images (D = C H W), float64, normalised by 1/m."""
        flat = self.x.double().flatten(1)
        centred = flat - flat.mean(dim=0)
        return centred.T @ centred / len(flat)


def check_batch_size(size: int) -> None:
    """Raise unless ``size`` is a whole number of at least 1."""
    check_whole("batch_size", size)
    if size < 1:
        raise ValueError(f"expected batch_size >= 1, got {size}; raise it.")


def _as_tensor(what: str, values: Tensor | np.ndarray) -> Tensor:
    try:
        return torch.as_tensor(values)
    except (RuntimeError, TypeError, ValueError) as error:
        got = type(values).__name__
        raise TypeError(
            f"expected {what} as a tensor or an array of numbers, got {got}: {error}; convert them."
        ) from error
