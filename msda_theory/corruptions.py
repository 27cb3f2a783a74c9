"""Corrupted images at stated strengths: occlusion, patch shuffling, and common corruptions in the style of CIFAR-C.

Images are [C, H, W] in [0, 1] and stay there. Image i has a random stream of its own, named by the kind of corruption
and i, not by the strength: the same image gets the same noise, or the same place, at every strength and in every
subset that keeps its index.

The common corruptions follow Hendrycks and Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions
and Perturbations", ICLR 2019, with their constants for CIFAR where these make sense at any size. They are not
CIFAR-C: images are not rounded to 8 bits (JPEG apart), and `CommonCorruption` lists where the definitions differ.
"""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from scipy import ndimage
from torch import Tensor

from msda_theory.streams import seed_from, stream

Array = np.ndarray


class Corruption(ABC):
    """A corruption of one strength; subclasses are frozen dataclasses that define `image`, ``kind`` and ``level``."""

    kind: str

    @property
    @abstractmethod
    def level(self) -> float:
        """Strength, for tables."""

    @abstractmethod
    def image(self, x: Array, mean: Array, rng: np.random.Generator) -> Array:
        """The corrupted image [C, H, W] for an image x [C, H, W] in [0, 1] and the mean image [C, H, W]."""


@dataclass(frozen=True)
class Occlusion(Corruption):
    """Part of the image replaced, in all channels.

    ``"box"``: a box of sides ``max(1, round(sqrt(share) H))`` and ``max(1, round(sqrt(share) W))``, its place uniform
    among those inside the image. ``"pixels"``: ``max(1, round(share H W))`` pixels, uniform without replacement.

    Attributes:
        share: share of the pixels, in (0, 1], up to rounding.
        fill: ``"mean"``: the mean image at these pixels (mean replacement, docs/theory.md, Section 3.2), ``"zero"``.
        shape: ``"box"`` or ``"pixels"``.

    Raises:
        ValueError: for a share outside (0, 1], or an unknown fill or shape.
    """

    share: float
    fill: str = "mean"
    shape: str = "box"

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ValueError(f"expected a share of pixels in (0, 1], got {self.share}; e.g. 0.25.")
        if self.fill not in ("mean", "zero") or self.shape not in ("box", "pixels"):
            raise ValueError(
                f"expected fill 'mean' or 'zero' and shape 'box' or 'pixels', got {self.fill!r} and {self.shape!r}; "
                "choose among them."
            )

    @property
    def kind(self) -> str:  # type: ignore[override]
        """E.g. ``"occlusion box mean"``."""
        return f"occlusion {self.shape} {self.fill}"

    @property
    def level(self) -> float:
        """The share."""
        return self.share

    def mask(self, size: tuple[int, int], rng: np.random.Generator) -> Array:
        """Which pixels [H, W] are replaced; bool."""
        h, w = size
        hidden = np.zeros(size, dtype=bool)
        if self.shape == "pixels":
            hidden.reshape(-1)[rng.permutation(h * w)[: max(1, round(self.share * h * w))]] = True
            return hidden
        sides = [max(1, round(self.share**0.5 * n)) for n in size]
        top, left = (int(u * (n - side + 1)) for u, n, side in zip(rng.random(2), size, sides, strict=True))
        hidden[top : top + sides[0], left : left + sides[1]] = True
        return hidden

    def image(self, x: Array, mean: Array, rng: np.random.Generator) -> Array:
        """The image with the hidden pixels filled."""
        return np.where(self.mask(x.shape[1:], rng), mean if self.fill == "mean" else 0.0, x)


@dataclass(frozen=True)
class PatchShuffle(Corruption):
    """The image cut into ``grid`` x ``grid`` equal patches, which are put back in a uniformly random order.

    The order is any of the ``(grid^2)!``, the original one included. Local texture stays, the layout is lost.

    Attributes:
        grid: patches along each side, at least 2; must divide H and W.

    Raises:
        ValueError: for a grid below 2; on use, if it does not divide the sides.
    """

    grid: int
    kind = "patch shuffle"

    def __post_init__(self) -> None:
        if self.grid < 2:
            raise ValueError(f"expected a grid of at least 2 x 2 patches, got {self.grid}; nothing else is shuffled.")

    @property
    def level(self) -> float:
        """The grid."""
        return float(self.grid)

    def image(self, x: Array, mean: Array, rng: np.random.Generator) -> Array:
        """The image with its patches in random order."""
        (c, h, w), k = x.shape, self.grid
        if h % k or w % k:
            raise ValueError(f"expected a grid that divides {h}x{w} pixels, got {k}; choose a common divisor.")
        patches = x.reshape(c, k, h // k, k, w // k).transpose(1, 3, 0, 2, 4).reshape(k * k, c, h // k, w // k)
        shuffled = patches[rng.permutation(k * k)].reshape(k, k, c, h // k, w // k)
        return shuffled.transpose(2, 0, 3, 1, 4).reshape(c, h, w)


@dataclass(frozen=True)
class CommonCorruption(Corruption):
    """One of the common corruptions at a severity from 1 to 5; every result is clipped to [0, 1].

    With the five constants k in the order of severity:

    - ``gaussian_noise``: ``x + k N(0, 1)``, independent over pixels and channels; k = .04 .06 .08 .09 .10.
    - ``shot_noise``: ``Poisson(k x) / k``; k = 500 250 100 75 50.
    - ``gaussian_blur``: a Gaussian of standard deviation ``k max(1, min(H, W) / 32)`` pixels, border mirrored, channels
      apart; k = .4 .6 .7 .8 1: at 8x8 as many pixels as at 32x32, at 224x224 seven times as many.
    - ``contrast``: ``(x - mean) k + mean``, mean of the image's own channel; k = .75 .5 .4 .3 .15.
    - ``brightness``: ``x + k`` in every channel (CIFAR-C adds to the value of HSV); k = .05 .1 .15 .2 .3.
    - ``pixelate``: averages over the cells of a grid of ``max(1, round(k H)) x max(1, round(k W))``; a pixel across the
      border of two cells is their average by area. k = .85 .7 .6 .5 .35 (CIFAR-C: .95 .9 .85 .75 .65, of which some
      do nothing at 8x8, and the nearest cell).
    - ``jpeg``: Pillow's JPEG of the image rounded to 8 bits, one or three channels; quality k = 80 65 58 50 40.

    Attributes:
        kind: one of these names.
        severity: 1 to 5.

    Raises:
        ValueError: for an unknown name or severity; on use, JPEG of other than one or three channels.
    """

    kind: str
    severity: int

    def __post_init__(self) -> None:
        if self.kind not in _COMMON:
            raise ValueError(f"expected a corruption among {list(_COMMON)}, got {self.kind!r}; choose one of them.")
        if self.severity not in range(1, 6):
            raise ValueError(f"expected a severity from 1 to 5, got {self.severity!r}; 5 is the strongest.")

    @property
    def level(self) -> float:
        """The severity."""
        return float(self.severity)

    @property
    def constant(self) -> float:
        """k."""
        return _COMMON[self.kind][1][self.severity - 1]

    def image(self, x: Array, mean: Array, rng: np.random.Generator) -> Array:
        """The corrupted image, clipped."""
        return np.clip(_COMMON[self.kind][0](x, self.constant, rng), 0.0, 1.0)


def common_corruptions(severities: tuple[int, ...] = (1, 2, 3, 4, 5)) -> list[CommonCorruption]:
    """Every common corruption at each of the severities."""
    return [CommonCorruption(kind, severity) for kind in _COMMON for severity in severities]


def corrupt(x: Tensor, corruption: Corruption, *, rng: np.random.Generator, mean: Tensor | None = None) -> Tensor:
    """Corrupted copies of images, in their dtype and on their device; x itself is left as it is.

    Args:
        x: images [m, C, H, W] in [0, 1].
        corruption: what to do.
        rng: one number is drawn from it, the seed of the streams of all images.
        mean: image [C, H, W] for `Occlusion` with ``fill="mean"``; by default the mean of x.

    Raises:
        TypeError: ``corruption`` or ``rng`` of another type.
        ValueError: images outside [0, 1], or a mean of another shape.
    """
    return corrupt_with(x, corruption, seed_from(rng), mean)


def corrupt_with(x: Tensor, corruption: Corruption, seed: int, mean: Tensor | None = None) -> Tensor:
    """`corrupt` with the seed given, so that several strengths share their streams."""
    if not isinstance(corruption, Corruption):
        raise TypeError(f"expected a corruption such as Occlusion(0.25), got {corruption!r}; see common_corruptions().")
    check_pixels(x)
    centre = x.double().mean(dim=0) if mean is None else mean.double()
    if centre.shape != x.shape[1:]:
        raise ValueError(
            f"expected a mean image {list(x.shape[1:])} as the images, got {list(centre.shape)}; pass train.mean."
        )
    fill = centre.cpu().numpy()
    out = torch.empty_like(x, device="cpu")
    for i, image in enumerate(x.cpu()):
        own = stream(seed, corruption.kind, str(i))
        out[i] = torch.from_numpy(corruption.image(image.double().numpy(), fill, own))
    return out.to(x.device)


def check_pixels(x: Tensor) -> None:
    """Raise a ValueError unless ``x`` holds images [m, C, H, W] in [0, 1]."""
    if x.ndim != 4 or not x.numel():
        raise ValueError(f"corruptions take images [m, C, H, W], got shape {tuple(x.shape)}; add the missing axes.")
    low, high = float(x.min()), float(x.max())
    if not (low >= 0 and high <= 1):
        raise ValueError(
            f"corruptions are defined on pixels in [0, 1], got {low:.4g} .. {high:.4g}; their strengths mean nothing "
            "on normalised images: pass raw ones and put the normalisation inside the model."
        )


def _noise(x: Array, k: float, rng: np.random.Generator) -> Array:
    return x + k * rng.standard_normal(x.shape)


def _shot(x: Array, k: float, rng: np.random.Generator) -> Array:
    return rng.poisson(k * x) / k


def _blur(x: Array, k: float, rng: np.random.Generator) -> Array:
    sigma = k * max(1.0, min(x.shape[1:]) / 32)
    return np.asarray(ndimage.gaussian_filter(x, (0, sigma, sigma), mode="reflect"))


def _contrast(x: Array, k: float, rng: np.random.Generator) -> Array:
    mean = x.mean(axis=(1, 2), keepdims=True)
    return (x - mean) * k + mean


def _brightness(x: Array, k: float, rng: np.random.Generator) -> Array:
    return x + k


def _pixelate(x: Array, k: float, rng: np.random.Generator) -> Array:
    rows, columns = (_cells(n, max(1, round(k * n))) for n in x.shape[1:])
    return rows @ x @ columns.T


def _cells(n: int, cells: int) -> Array:
    """[n, n]: averages over ``cells`` equal intervals of [0, n], spread over the pixels by overlap; keeps the mean."""
    ends = np.arange(cells + 1) * n / cells
    pixel = np.arange(n)
    overlap = np.minimum(pixel + 1, ends[1:, None]) - np.maximum(pixel, ends[:-1, None])
    overlap = np.maximum(overlap, 0.0)
    return overlap.T @ overlap * (cells / n)


def _jpeg(x: Array, k: float, rng: np.random.Generator) -> Array:
    if len(x) not in (1, 3):
        raise ValueError(f"JPEG has one or three channels, got {len(x)}; leave 'jpeg' out for such images.")
    pixels = np.round(255 * x).astype(np.uint8)
    coded = io.BytesIO()
    Image.fromarray(pixels[0] if len(x) == 1 else pixels.transpose(1, 2, 0)).save(coded, "JPEG", quality=int(k))
    with Image.open(coded) as picture:
        decoded = np.asarray(picture, dtype=np.float64) / 255
    return decoded[None] if len(x) == 1 else decoded.transpose(2, 0, 1)


_Function = Callable[[Array, float, np.random.Generator], Array]
_COMMON: dict[str, tuple[_Function, tuple[float, ...]]] = {
    "gaussian_noise": (_noise, (0.04, 0.06, 0.08, 0.09, 0.10)),
    "shot_noise": (_shot, (500.0, 250.0, 100.0, 75.0, 50.0)),
    "gaussian_blur": (_blur, (0.4, 0.6, 0.7, 0.8, 1.0)),
    "contrast": (_contrast, (0.75, 0.5, 0.4, 0.3, 0.15)),
    "brightness": (_brightness, (0.05, 0.1, 0.15, 0.2, 0.3)),
    "pixelate": (_pixelate, (0.85, 0.7, 0.6, 0.5, 0.35)),
    "jpeg": (_jpeg, (80.0, 65.0, 58.0, 50.0, 40.0)),
}
