"""Data sets of the training program: two splits of images, in memory or as files, class names, channel statistics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from numpy import ndarray as Array
from torch import Tensor

from experiments.pictures import read_picture

_SAMPLE = 2000  # pictures of a folder that its statistics are taken from, at most


@dataclass(frozen=True, eq=False)
class Images:
    """One split in memory: images [m, C, H, W] and labels [m]; the value ``white`` stands for 1."""

    x: UInt8[Tensor, "m C H W"]
    y: Int64[Tensor, " m"]
    white: int = 255

    def __post_init__(self) -> None:
        if self.x.dtype != torch.uint8 or self.x.ndim != 4 or 0 in self.x.shape:
            raise ValueError(
                f"expected uint8 images [m, C, H, W] with no empty axis, got {self.x.dtype} {list(self.x.shape)}."
            )
        _check_labels(self.y, len(self.x))

    def __len__(self) -> int:
        return len(self.x)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width."""
        channels, height, width = self.x.shape[1:]
        return channels, height, width

    def __getitem__(self, index: Int64[Array, " k"]) -> Images:
        """The images of these numbers, in this order."""
        chosen = torch.from_numpy(index)
        return Images(self.x[chosen.to(self.x.device)], self.y[chosen], self.white)

    def to(self, device: torch.device | str) -> Images:
        """The images on another device; labels stay where they are."""
        return replace(self, x=self.x.to(device))


@dataclass(frozen=True, eq=False)
class PictureFiles:
    """One split as files, decoded when a batch needs them: paths, labels [m], and the side of the decoded squares."""

    paths: list[Path]
    y: Int64[Tensor, " m"]
    size: int
    white: int = 255

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"expected pictures of at least 1 pixel a side, got size={self.size}; 224 is usual.")
        _check_labels(self.y, len(self.paths))

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width once decoded."""
        return 3, self.size, self.size

    def __getitem__(self, index: Int64[Array, " k"]) -> PictureFiles:
        """The pictures of these numbers, in this order."""
        return replace(self, paths=[self.paths[i] for i in index], y=self.y[torch.from_numpy(index)])


@dataclass(frozen=True, eq=False)
class DataSet:
    """Two splits with the same image shape and classes.

    ``mean`` and ``std`` are those of each channel over all pixels of the training images, scaled to [0, 1]; for files,
    over at most 2,000 pictures spread evenly over the list, cropped as for evaluation.
    """

    name: str
    train: Images | PictureFiles
    test: Images | PictureFiles
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        if self.train.shape != self.test.shape or self.train.white != self.test.white:
            raise ValueError(
                f"{self.name}: expected training and test images of one shape, got {self.train.shape} and "
                f"{self.test.shape}; resize them."
            )
        top = max(int(self.train.y.max()), int(self.test.y.max()))
        if top >= self.classes:
            raise ValueError(f"{self.name}: {self.classes} class names, but there is a label {top}; name every class.")
        repeated = [name for name, count in Counter(self.class_names).items() if count > 1]
        if repeated:
            raise ValueError(f"{self.name}: expected different class names, got {repeated[0]!r} twice; rename one.")

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width."""
        return self.train.shape


@dataclass(frozen=True)
class Options:
    """What a caller may ask of a data set: side of the images, number of training and test images; None: as it is."""

    size: int | None = None
    images: int | None = None
    test_images: int | None = None


def assemble(
    name: str,
    train: Images | PictureFiles,
    test: Images | PictureFiles,
    class_names: tuple[str, ...],
    options: Options,
) -> DataSet:
    """The data set, cut down as the options ask, with the statistics of the training images that are left.

    Raises:
        ValueError: if ``options.size`` is not the side of the images, or a class has too few of them.
    """
    for split in (train, test):
        if options.size is not None and split.shape[1:] != (options.size, options.size):
            height, width = split.shape[1:]
            raise ValueError(
                f"{name} has images of {height} x {width} pixels, got size={options.size}; leave size out."
            )
    train = _part(train, options.images, class_names, f"{name}, training images")
    test = _part(test, options.test_images, class_names, f"{name}, test images")
    mean, std = channel_statistics(train)
    if min(std) == 0:
        raise ValueError(
            f"{name}: expected channels that vary, got one of constant value {mean[std.index(0)]:g} in all training "
            "images; drop it."
        )
    return DataSet(name, train, test, class_names, mean, std)


def balanced(labels: Int64[Array, " m"], count: int, names: tuple[str, ...], where: str) -> Int64[Array, " count"]:
    """Numbers of ``count`` images, in order, as equally many of each class as can be.

    Of each class the first ``count // classes`` in file order, and one more of the first ``count % classes`` classes.

    Raises:
        ValueError: if a class has fewer, or ``count`` is not positive.
    """
    classes = len(names)
    if count < 1:
        raise ValueError(
            f"{where}: expected a positive number of images to keep, got {count}; leave it out to keep all."
        )
    chosen = []
    for k, name in enumerate(names):
        need, members = count // classes + (k < count % classes), np.flatnonzero(labels == k)
        if len(members) < need:
            raise ValueError(
                f"{where}: {count} of {classes} classes need {need} of class {name!r}, got {len(members)}; "
                "ask for fewer."
            )
        chosen.append(members[:need])
    return np.sort(np.concatenate(chosen))


def channel_statistics(split: Images | PictureFiles) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, scaled to [0, 1]; of 2,000 pictures at most where they are files."""
    if isinstance(split, Images):
        parts: Iterable[Tensor] = (split.x[low : low + 2048] for low in range(0, len(split), 2048))
    else:
        chosen = np.unique(np.linspace(0, len(split) - 1, min(len(split), _SAMPLE)).round().astype(np.int64))
        parts = (torch.from_numpy(read_picture(split.paths[i], split.size))[None] for i in chosen)
    counts = torch.zeros(split.shape[0], 256, dtype=torch.float64)
    for part in parts:
        counts += torch.stack([torch.bincount(part[:, c].flatten(), minlength=256) for c in range(split.shape[0])])
    counts /= counts.sum(1, keepdim=True)
    values = torch.arange(256, dtype=torch.float64) / split.white
    mean = counts @ values
    variance = (counts * (values - mean[:, None]) ** 2).sum(1)
    return tuple(mean.tolist()), tuple(variance.sqrt().tolist())


def _part(split: Images | PictureFiles, count: int | None, names: tuple[str, ...], where: str) -> Images | PictureFiles:
    return split if count is None else split[balanced(split.y.numpy(), count, names, where)]


def _check_labels(y: Tensor, images: int) -> None:
    if y.dtype != torch.int64 or y.shape != (images,) or images == 0:
        raise ValueError(f"expected {images or 'some'} labels in int64, one an image, got {y.dtype} {list(y.shape)}.")
    if int(y.min()) < 0:
        raise ValueError(f"expected labels from 0 up, got {int(y.min())}; number the classes 0, 1, ...")
