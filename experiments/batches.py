"""Batches of images on the device: indexed in memory or decoded by worker processes, shifted and mirrored, scaled.

Images stay uint8 until `to_unit`, so that the device is sent a quarter of the bytes.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from numpy import ndarray as Array
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from experiments.images import Images, PictureFiles
from experiments.pictures import read_picture


def batches(
    split: Images | PictureFiles,
    index: Iterable[Int64[Array, " B"]],
    device: torch.device | str,
    *,
    train: bool,
    workers: int = 0,
    seed: int = 0,
    first: int = 0,
) -> Iterator[UInt8[Tensor, "B C H W"]]:
    """The images of each batch of ``index``, on ``device``.

    Images in memory are moved to the device once a call (`Images.to` moves them once for all calls) and indexed there.
    Pictures in files are decoded as in `experiments.pictures.read_picture`, for training with the generator
    ``default_rng([seed, number of the batch, number of the image])``: the number of workers changes nothing, and a run
    that starts again at batch ``first`` goes on as if it had not stopped.

    Args:
        split: the images.
        index: for each batch the numbers of its images; may be endless. Workers read ahead of the batches returned.
        device: where the batches go.
        train: crop and mirror pictures at random; for images in memory see `crop_and_flip`.
        workers: processes that decode, each two batches ahead; 0 decodes in this one.
        seed: of the random crops.
        first: the number of the first batch of ``index``.

    Raises:
        ValueError: if a picture does not decode.
        FileNotFoundError: if a picture is gone.
    """
    device = torch.device(device)
    if isinstance(split, Images):
        x = split.x.to(device)
        for chosen in index:
            yield x.index_select(0, on_device(chosen, device))
        return
    jobs = ((k, chosen, [split.paths[i] for i in chosen]) for k, chosen in enumerate(index, first))
    loader = DataLoader(
        _Decoder(split.size, seed if train else None),
        sampler=jobs,
        batch_size=None,
        num_workers=workers,
        pin_memory=device.type == "cuda",
        worker_init_fn=_quiet,
        generator=torch.Generator(),  # the loader draws a seed, which must not come from the global generator
    )
    for batch in loader:
        yield batch.to(device, non_blocking=True)


def on_device(index: Int64[Array, " B"], device: torch.device) -> Int64[Tensor, " B"]:
    """Indices on the device, sent without waiting for what it is doing."""
    numbers = torch.from_numpy(np.asarray(index, np.int64))
    return numbers.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else numbers.to(device)


def _quiet(_worker: int) -> None:
    """Signals to the whole group of processes are for the one that trains: it may still finish its step."""

    def later(_number: int, _frame: object) -> None:
        timer = threading.Timer(_PATIENCE, os._exit, (1,))
        timer.daemon = True
        timer.start()

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, later)


_PATIENCE = 20  # seconds that a worker lives on after SIGTERM
Job = tuple[int, Int64[Array, " B"], list[Path]]  # number of the batch, numbers of its images, their files


class _Decoder(Dataset[Tensor]):
    """Decodes whole batches. Jobs carry their paths: workers hold no list of all files."""

    def __init__(self, size: int, seed: int | None) -> None:
        self.size, self.seed = size, seed

    def __getitem__(self, job: Job) -> Tensor:
        number, chosen, paths = job
        out = np.empty((len(paths), 3, self.size, self.size), np.uint8)
        for k, (i, path) in enumerate(zip(chosen, paths, strict=True)):
            rng = None if self.seed is None else np.random.default_rng([self.seed, number, int(i)])
            out[k] = read_picture(path, self.size, rng)
        return torch.from_numpy(out)


def crop_and_flip(
    x: UInt8[Tensor, "B C H W"], rng: np.random.Generator, *, pad: int, flip: bool
) -> UInt8[Tensor, "B C H W"]:
    """Each image shifted by up to ``pad`` pixels both ways, zeros moving in; with ``flip``, half of them mirrored.

    The usual augmentation of CIFAR: an image is mirrored with probability 1/2, then cropped from itself padded by
    ``pad`` zeros. Draws, in this order: row offsets [B] and column offsets [B] in 0 .. 2 pad, then, with ``flip``, one
    bit for each image.

    Raises:
        ValueError: if ``pad`` is negative.
    """
    if pad < 0:
        raise ValueError(f"expected pad of 0 or more pixels, got {pad}; the usual value for 32 pixels is 4.")
    (b, c, h, w), (height, width) = x.shape, (x.shape[2] + 2 * pad, x.shape[3] + 2 * pad)
    rows, columns = rng.integers(2 * pad + 1, size=(2, b))
    mirrored = rng.integers(2, size=b) if flip else np.zeros(b, np.int64)
    # The batch, and behind it the mirrored batch, padded; then a row to read over the end.
    flat = x.new_zeros((1 + flip) * b * c * height * width + width)
    inner = flat[:-width].view(1 + flip, b, c, height, width)[..., pad : pad + h, pad : pad + w]
    inner[0].copy_(x)
    if flip:
        inner[1].copy_(x.flip(3))
    # One channel of a crop lies within h * width consecutive bytes, which are copied as one; the crop is their first
    # w columns. (Gathering pixel by pixel takes ten times as long.)
    image = (mirrored * b + np.arange(b)) * c * height * width + rows * width + columns
    start = torch.from_numpy((image[:, None] + np.arange(c) * height * width).ravel()).to(x.device)
    windows = flat.as_strided((len(flat) - h * width + 1, h * width), (1, 1))
    return windows.index_select(0, start).view(b, c, h, width)[..., :w].contiguous()


def to_unit(
    x: UInt8[Tensor, "B C H W"], white: int, dtype: torch.dtype, *, channels_last: bool = False
) -> Float[Tensor, "B C H W"]:
    """``x / white`` in ``dtype``, in [0, 1] where no pixel is above ``white``."""
    memory = torch.channels_last if channels_last else torch.contiguous_format
    return x.to(dtype, memory_format=memory).div_(white)
