"""Faults of files, by name: what is done to the bytes of one, what stands in its place."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Rng = np.random.Generator
HEADER = 64  # bytes from either end in which headers lie
SPARSE = 3073 * 3074 * 2**17
BORDERS = (1, 2, 4, 8, 16, 22, 30, 46, 54, 128, 3073, 3074)  # lengths of fields, headers and records


def _cut_header(whole: bytes, rng: Rng) -> bytes:
    return whole[: int(rng.integers(1, min(HEADER, len(whole)) + 1))]


def _cut_border(whole: bytes, rng: Rng) -> bytes:
    border = int(rng.choice(BORDERS)) * int(rng.integers(1, 5)) + int(rng.integers(-1, 2))
    return whole[: max(1, min(len(whole) - 1, border if rng.random() < 0.5 else len(whole) - border))]


def _cut_anywhere(whole: bytes, rng: Rng) -> bytes:
    return whole[: int(rng.integers(1, len(whole)))]


def _flipped(whole: bytes, places: Any, bits: Any) -> bytes:
    data = np.frombuffer(whole, np.uint8).copy()
    np.bitwise_xor.at(data, places, bits.astype(np.uint8))
    return data.tobytes()


def _bit(whole: bytes, rng: Rng) -> bytes:
    return _flipped(whole, rng.integers(len(whole), size=1), 1 << rng.integers(8, size=1))


def _bits(whole: bytes, rng: Rng) -> bytes:
    count = int(rng.integers(2, 17))
    return _flipped(whole, rng.integers(len(whole), size=count), 1 << rng.integers(8, size=count))


def _header_bits(whole: bytes, rng: Rng) -> bytes:
    count, reach = int(rng.integers(1, 4)), min(4 * HEADER, len(whole))
    places = rng.integers(reach, size=count)
    return _flipped(
        whole, np.where(rng.random(count) < 0.5, places, len(whole) - 1 - places), 1 << rng.integers(8, size=count)
    )


def _bytes(whole: bytes, rng: Rng) -> bytes:
    count = int(rng.integers(1, 5))
    return _flipped(whole, rng.integers(len(whole), size=count), rng.integers(1, 256, size=count))


def _magic(whole: bytes, rng: Rng) -> bytes:
    count = int(rng.integers(1, 9))
    return rng.integers(0, 256, count, np.uint8).tobytes() + whole[count:]


def _huge(whole: bytes, rng: Rng) -> bytes:
    """A field of 2, 4 or 8 bytes near either end, or after a mark of a format, set to a large number."""
    width = int(rng.choice([2, 4, 8]))
    value = rng.choice(np.array([2**63 - 1, 2**31, 2**32 - 1, 2**40, 2**62, 10**9], np.int64))
    field = int(value).to_bytes(8, "big" if rng.random() < 0.5 else "little")
    field = (field[-width:] if rng.random() < 0.5 else field[:width]) if rng.random() < 0.7 else b"\xff" * width
    marks = [
        k
        for mark in (b"PK\1\2", b"PK\3\4", b"PK\5\6", b"IHDR", b"NUMPY", b"VP8", b"\xff\xc0")
        if (k := whole.find(mark)) >= 0
    ]
    base = int(rng.choice([0, max(0, len(whole) - HEADER), *marks]))
    place = min(base + int(rng.integers(HEADER)), max(0, len(whole) - width))
    return whole[:place] + field + whole[place + width :]


def _two(whole: bytes, rng: Rng) -> tuple[int, int]:
    low, high = sorted(rng.integers(len(whole) + 1, size=2).tolist())
    return low, high


def _removed(whole: bytes, rng: Rng) -> bytes:
    low, high = _two(whole, rng)
    return whole[:low] + whole[high:]


def _doubled(whole: bytes, rng: Rng) -> bytes:
    low, high = _two(whole, rng)
    return whole[:high] + whole[low:]


def _zeroed(whole: bytes, rng: Rng) -> bytes:
    low, high = _two(whole, rng)
    return whole[:low] + bytes(high - low) + whole[high:]


def _longer(whole: bytes, rng: Rng) -> bytes:
    return whole + rng.integers(0, 256, int(rng.integers(1, 5000)), np.uint8).tobytes()


def _noise(whole: bytes, rng: Rng) -> bytes:
    return rng.integers(0, 256, int(rng.integers(1, 2 * min(len(whole), 20_000))), np.uint8).tobytes()


def _text(whole: bytes, rng: Rng) -> bytes:
    lines = (
        "<!DOCTYPE html><title>404</title>",
        "not found",
        "{}",
        "[]",
        "0",
        "a,b\n1,2",
        "\0",
        "version https://git-lfs",
    )
    return ("\n".join(rng.choice(lines, int(rng.integers(1, 30))))).encode()


BYTES: dict[str, Callable[[bytes, Rng], bytes]] = {
    **{"cut inside the header": _cut_header, "cut at a border, or a byte beside it": _cut_border},
    **{"cut anywhere": _cut_anywhere, "last byte missing": lambda whole, _: whole[:-1]},
    **{"one bit flipped": _bit, "several bits flipped": _bits, "bits of the headers flipped": _header_bits},
    **{"bytes changed": _bytes, "wrong first bytes": _magic, "a huge number in a header": _huge},
    **{"a part missing": _removed, "a part twice": _doubled, "a part zero": _zeroed, "longer": _longer},
    **{"noise": _noise, "another text": _text},
}
FEW = {"last byte missing"}  # one case each for every file


def _linked(path: Path, target: str | Path) -> None:
    path.symlink_to(target)


def _one_byte(path: Path) -> None:
    path.write_bytes(b"\0")


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _pipe_by_link(path: Path) -> None:
    other = path.with_name("pipe")
    if not other.exists():
        os.mkfifo(other)
    path.symlink_to(other)


def _sparse(path: Path) -> None:
    """Over a terabyte of zeros that take nothing on disk: whole records of both of CIFAR's layouts."""
    path.touch()
    os.truncate(path, SPARSE)


def _socket(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # the name of a socket is short
    try:
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(path.name)
    finally:
        os.chdir(here)


PLACES: dict[str, Callable[[Path], None]] = {
    "missing": lambda path: None,
    "empty": lambda path: path.touch(),
    "one byte": _one_byte,
    "a folder": lambda path: path.mkdir(),
    "a link to itself": lambda path: _linked(path, path),
    "a link to nothing": lambda path: _linked(path, "nothing"),
    "a link to /dev/zero": lambda path: _linked(path, "/dev/zero"),
    "a link to /dev/null": lambda path: _linked(path, "/dev/null"),
    "a link to its folder": lambda path: _linked(path, path.parent),
    "a pipe": _pipe,
    "a link to a pipe": _pipe_by_link,
    "a socket": _socket,
    "a sparse file": _sparse,
}
