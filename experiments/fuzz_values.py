"""What is tried of a reader, how much memory a value takes, and whether two values are equal."""

from __future__ import annotations

import io
import math
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy import ndarray as Array
from torch import Tensor

from experiments.checkpoints import Checkpoint
from msda_theory.graph.graphs import Graph


@dataclass(frozen=True)
class Sample:
    """Files of one reader.

    Attributes:
        paths: files that are damaged, one in each case.
        read: the reader.
        valid: whether what was read is what the files hold.
        decoded: bytes that the undamaged content takes in memory.
        declared: of the bytes of the damaged file, what its content takes in memory by its own headers, where these
            agree with each other and with the most that the format can pack into its length; 0 where they do not.
        factor, constant: memory must stay below ``factor`` times the largest of these sizes, plus ``constant``.
    """

    paths: tuple[Path, ...]
    read: Callable[[], Any]
    valid: Callable[[Any], bool]
    decoded: int
    declared: Callable[[bytes], int] = lambda content: 0
    factor: float = 2.0
    constant: int = 2**20


def written(folder: Path, **files: bytes) -> tuple[Path, ...]:
    """Write files into a folder, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return tuple(folder / name for name in files)


def held(value: Any) -> int:
    """Bytes that a value takes in memory, its parts included, however deep they lie."""
    total, left = 0, [value]
    while left:
        part = left.pop()
        if isinstance(part, Array):
            total += part.nbytes
        elif isinstance(part, Tensor):
            total += part.numel() * part.element_size()
        elif isinstance(part, Graph | Checkpoint):
            left += [getattr(part, f.name) for f in fields(part)]
        else:
            total += sys.getsizeof(part)
            if isinstance(part, dict):
                left += [*part.keys(), *part.values()]
            elif isinstance(part, list | tuple):
                left += part
    return total


def same(a: Any, b: Any) -> bool:
    """Whether two values are equal to the bit, in arrays and below."""
    if isinstance(a, Array) and isinstance(b, Array):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, tuple) and isinstance(b, tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, Checkpoint) and isinstance(b, Checkpoint):
        return (a.step, a.state) == (b.step, b.state) and same(a.tensors, b.tensors)
    return bool(a == b)


def declared_npz(content: bytes) -> int:
    """Bytes of the plain arrays of an npz file whose headers agree with their zip entries, by numpy and zipfile.

    Text does not count: it is bounded by itself.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return sum(_declared(archive, info, len(content)) for info in archive.infolist()[:100])
    except Exception:
        return 0


def _declared(archive: zipfile.ZipFile, info: zipfile.ZipInfo, length: int) -> int:
    with archive.open(info) as file:
        np.lib.format.read_magic(file)
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        size = math.prod(shape) * dtype.itemsize
        whole = size + file.tell() == info.file_size and size <= 1032 * length
    return int(size) if whole and dtype.kind in "biuf" else 0
