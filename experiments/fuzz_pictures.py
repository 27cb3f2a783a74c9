"""Whole pictures for the fuzzing of readers, and what was read of them compared with them."""

from __future__ import annotations

import io
import math
import struct
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from experiments import fuzz_formats as formats
from experiments import pictures
from experiments.fuzz_values import Sample, held, same, written

Array = np.ndarray
_SIDE = 16
_NOISE = 120  # of large pictures: what does not compress makes them large files
_LOSS = 3.0  # grey values by which pixels of lossy formats differ in the mean, after the reduction to 16 x 16


def picture(folder: Path, rng: np.random.Generator, large: bool, *, kind: str) -> Sample:
    """A picture of one kind: large ones hold noise, so that they are large files."""
    side = 700 if large else 32
    ramp = np.broadcast_to(np.linspace(0, 255 - _NOISE, side).astype(np.uint8)[:, None, None], (side, side, 3))
    x = np.ascontiguousarray(ramp + rng.integers(0, _NOISE if large else 4, (side, side, 3), np.uint8))
    whole = formats.picture(x, kind)
    (path,) = written(folder, **{f"a.{kind.lower()}": whole})

    def valid(found: Array) -> bool:
        if found.shape != (3, _SIDE, _SIDE) or found.dtype != np.uint8:
            return False
        content = path.read_bytes()
        if kind == "PNG" and content[:33] == whole[:33]:  # checksums stand behind
            return same(found, _resized(x))
        if kind not in ("BMP", "PPM"):  # neither checksums nor exact pixels
            return content != whole or float(np.abs(found.astype(int) - _resized(x)).mean()) < _LOSS
        pixels = (_bmp if kind == "BMP" else _ppm)(content, x.shape)
        return pixels is None or same(found, _resized(pixels))

    read = partial(pictures.read_picture, path, _SIDE)
    return Sample((path,), read, valid, 4 * side * side, _declared, 6.0, 4 * 2**20)


def _resized(x: Array) -> Array:
    """The centre of a square picture [S, S, 3], 7/8 of its side, as [3, 16, 16]."""
    edge = len(x) / 16
    box = (edge, edge, len(x) - edge, len(x) - edge)
    image = Image.fromarray(x).resize((_SIDE, _SIDE), Image.Resampling.BILINEAR, box)
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))


def _bmp(content: bytes, shape: tuple[int, ...]) -> Array | None:
    """The pixels that the bytes of a BMP file are, where its header is the usual one of this shape."""
    start, header, width, height = struct.unpack("<I3i", content[10:26])
    usual = content[26:34] == struct.pack("<2HI", 1, 24, 0) and (start, header) == (54, 40)
    if not usual or (height, width) != shape[:2]:
        return None
    row = -(-3 * width // 4) * 4
    rows = np.frombuffer(content, np.uint8, height * row, start).reshape(height, row)
    return np.ascontiguousarray(rows[::-1, : 3 * width].reshape(shape)[:, :, ::-1])


def _ppm(content: bytes, shape: tuple[int, ...]) -> Array | None:
    """The pixels that the bytes of a PPM file are, likewise."""
    head = f"P6\n{shape[1]} {shape[0]}\n255\n".encode()
    if not content.startswith(head):
        return None
    return np.frombuffer(content, np.uint8, math.prod(shape), len(head)).reshape(shape)


def _declared(content: bytes) -> int:
    """Bytes of the pixels that a picture declares, three each; 0 beyond what a file of its length may."""
    try:
        with warnings.catch_warnings(), Image.open(io.BytesIO(content)) as image:
            warnings.simplefilter("ignore")
            pixels = image.width * image.height
    except Exception:
        return 0
    return 3 * pixels if pixels <= min(2**26, 344 * len(content) + 2**19) else 0


def folders(folder: Path, rng: np.random.Generator, large: bool) -> Sample:
    """Folders of pictures, one a class."""
    content = formats.picture(np.zeros((8, 8, 3), np.uint8), "PNG")
    for name in ("a", "b"):
        written(folder / "train" / name, **{f"{k}.png": content for k in range(500 if large else 3)})

    def valid(found: Any) -> bool:
        return len(found[0]) == len(found[1]) > 0 and set(found[1].tolist()) == set(range(len(found[2])))

    read = partial(pictures.class_folders, folder / "train")
    return Sample((folder / "train" / "b",), read, valid, held(read()))
