"""Small image files in every format that the readers of the experiments know, with the arrays they hold."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
from PIL import Image


def arrays(m: int, channels: int, side: int, classes: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Random uint8 images [m, C, side, side], and labels of which the first are 0, 1, ..."""
    rng = np.random.default_rng(seed)
    y = np.concatenate([np.arange(classes), rng.integers(classes, size=max(0, m - classes))])[:m]
    return rng.integers(0, 256, (m, channels, side, side), np.uint8), y.astype(np.int64)


def write_cifar(path: Path, x: np.ndarray, *labels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    records = [np.asarray(label, np.uint8)[:, None] for label in labels]
    path.write_bytes(np.concatenate([*records, x.reshape(len(x), -1)], axis=1).tobytes())


def idx_bytes(values: np.ndarray) -> bytes:
    values = np.asarray(values, np.uint8)
    return struct.pack(f">I{values.ndim}I", 0x800 + values.ndim, *values.shape) + values.tobytes()


def write_idx(folder: Path, part: str, x: np.ndarray, y: np.ndarray, *, packed: bool) -> tuple[Path, Path]:
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for kind, values in (("images-idx3", x[:, 0]), ("labels-idx1", y)):
        path = folder / f"{part}-{kind}-ubyte{'.gz' if packed else ''}"
        path.write_bytes(gzip.compress(idx_bytes(values)) if packed else idx_bytes(values))
        files.append(path)
    return files[0], files[1]


def write_npz(path: Path, x: np.ndarray, y: np.ndarray, *, packed: bool = True, **more: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save = np.savez_compressed if packed else np.savez
    save(path, x=x.transpose(0, 2, 3, 1), y=y, **more)
    return path


def write_pictures(folder: Path, x: np.ndarray, y: np.ndarray, names: list[str], *, suffix: str = ".png") -> None:
    for k, (image, label) in enumerate(zip(x, y, strict=True)):
        place = folder / names[label]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0))).save(place / f"{k:03d}{suffix}")


def write_splits(folder: Path, train: int, val: int, side: int) -> Path:
    """Random pictures of two classes, ``folder/train/<class>/*`` and ``folder/val/<class>/*``."""
    for seed, (split, m) in enumerate((("train", train), ("val", val))):
        write_pictures(folder / split, *arrays(m, 3, side, 2, seed=seed), ["a", "b"])
    return folder
