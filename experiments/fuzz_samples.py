"""A whole file for every reader, how it is read, and how to tell that what was read is what the file holds."""

from __future__ import annotations

import gzip
import math
import re
import struct
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from experiments import fuzz_formats as formats
from experiments import fuzz_graphs, fuzz_pictures, fuzz_states, readers
from experiments.fuzz_values import Sample, declared_npz, held, same, written

Array = np.ndarray
_GZIP = 5 * 2**20  # of what inflates: blocks of 1 MB, some of them at once
_TEXT = 8 * 2**20  # of npz files: class names, 4 MB at most


def _images(rng: np.random.Generator, m: int, channels: int, side: int) -> tuple[Array, Array]:
    return rng.integers(0, 256, (m, channels, side, side), np.uint8), np.arange(m) % 4


def _cifar(folder: Path, rng: np.random.Generator, large: bool, *, label_bytes: int) -> Sample:
    x, y = _images(rng, 1000 if large else 4, 3, 32)
    (path,) = written(folder, **{"batch.bin": formats.cifar(x, *[y] * label_bytes)})
    read = partial(
        readers.cifar_binary, [path], label_bytes=label_bytes, label_index=label_bytes - 1, classes=10**label_bytes
    )

    def valid(found: Any) -> bool:
        rows = np.frombuffer(path.read_bytes(), np.uint8).reshape(-1, label_bytes + 3072)
        return found[0].tobytes() == rows[:, label_bytes:].tobytes() and same(
            found[1], rows[:, label_bytes - 1].astype(np.int64)
        )

    return Sample((path,), read, valid, held(read()))


def _idx(folder: Path, rng: np.random.Generator, large: bool, *, packed: bool) -> Sample:
    x, y = _images(rng, 3000 if large else 7, 1, 28 if large else 5)
    ending = ".gz" if packed else ""
    names = (f"train-images-idx3-ubyte{ending}", f"train-labels-idx1-ubyte{ending}")
    parts = (formats.idx(x[:, 0], packed=packed), formats.idx(y, packed=packed))
    paths = written(folder, **dict(zip(names, parts, strict=True)))
    read = partial(readers.idx, *paths, classes=4)
    whole = read()

    def valid(found: Any) -> bool:
        images, labels = (gzip.decompress(p.read_bytes()) if packed else p.read_bytes() for p in paths)
        shape = struct.unpack(">4I", images[:16])[1:]
        return (
            found[0].shape == (shape[0], 1, *shape[1:])
            and found[0].tobytes() == images[16:]
            and same(found[1], np.frombuffer(labels[8:], np.uint8).astype(np.int64))
        )

    return Sample(paths, read, valid, held(whole), _unpacked if packed else lambda content: 0, constant=_GZIP)


def _unpacked(content: bytes) -> int:
    """Bytes that an idx.gz file holds, if it declares as many."""
    unpack = zlib.decompressobj(31)
    try:
        head = unpack.decompress(content, 16)
        size = len(head)
        while part := unpack.decompress(unpack.unconsumed_tail, 2**20):
            size += len(part)
        sides = struct.unpack(f">{head[3]}I", head[4 : 4 + 4 * head[3]]) if head[2:4] in (b"\x08\1", b"\x08\3") else ()
    except (zlib.error, struct.error, IndexError):
        return 0
    return size if size - 4 - 4 * len(sides) <= math.prod(sides) else 0


def _npz(folder: Path, rng: np.random.Generator, large: bool, *, packed: bool) -> Sample:
    x, y = _images(rng, 500 if large else 4, 3, 64 if large else 6)
    arrays = {"x": x.transpose(0, 2, 3, 1), "y": y, "class_names": np.array(["a", "b", "größe", "d"])}
    (path,) = written(folder, **{"train.npz": formats.npz(arrays, packed=packed)})
    whole = readers.npz(path)

    def valid(found: Any) -> bool:  # an entry of another name does not count: class names may be lost with theirs
        return same(found, whole) or same(found, (*whole[:2], None))

    return Sample((path,), partial(readers.npz, path), valid, held(whole), declared_npz, 4.0, _TEXT)


def _names(folder: Path, rng: np.random.Generator, large: bool) -> Sample:
    count = 20_000 if large else 10
    (path,) = written(folder, **{"names.txt": "".join(f"größe {k}\n" for k in range(count)).encode()})
    read = partial(readers.class_names, path, count)

    def valid(found: Any) -> bool:
        if not path.exists():
            return bool(found == tuple(map(str, range(count))))
        lines = re.split("[\n\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]", path.read_bytes().decode())
        return list(found) == [name for line in lines if (name := line.strip())]

    return Sample((path,), read, valid, held(read()), constant=2 * 2**20)


READERS: dict[str, Callable[[Path, np.random.Generator, bool], Sample]] = {
    "CIFAR-10 binary": partial(_cifar, label_bytes=1),
    "CIFAR-100 binary": partial(_cifar, label_bytes=2),
    "idx": partial(_idx, packed=False),
    "idx.gz": partial(_idx, packed=True),
    "npz of images, stored": partial(_npz, packed=False),
    "npz of images, deflated": partial(_npz, packed=True),
    "class names": _names,
    "npz of a graph": fuzz_graphs.graph,
    "npz of Amazon and Coauthor": fuzz_graphs.published,
    "Planetoid": fuzz_graphs.planetoid,
    "weights of a record": partial(fuzz_states.weights_file, reader="record"),
    "safetensors": partial(fuzz_states.weights_file, reader="safetensors"),
    "weights of an own model": partial(fuzz_states.weights_file, reader="own model"),
    "checkpoint": partial(fuzz_states.checkpoint, older=False),
    "checkpoint with an older one": partial(fuzz_states.checkpoint, older=True),
    "record": partial(fuzz_states.record_file, figure=False),
    "record of a figure": partial(fuzz_states.record_file, figure=True),
    **{f"picture, {kind}": partial(fuzz_pictures.picture, kind=kind) for kind in ("JPEG", "PNG", "WEBP", "BMP", "PPM")},
    "folder of pictures": fuzz_pictures.folders,
}
