"""Arrays of npz files, whatever the file declares: nothing is unpickled, and memory follows what is really there.

Every size is checked against the length of the file before memory is taken for it, and memory grows with the bytes that
arrive, so that a small file that declares much, or inflates to much more than it declares, costs little.
"""

from __future__ import annotations

import ast
import io
import math
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from msda_theory.files import AnyPath, FileError, check_fits, file_size, memory_of

RATIO = 1032  # the most that deflate can shrink data
Shapes = Mapping[str, tuple[int, ...]]

_BLOCK = 2**20  # bytes read at once
_TEXT = 2**21  # bytes of an array of text, at most: 10,000 names of 48 letters
_DIRECTORY = 2**17  # bytes of a zip file's list of entries, at most: each of 46 bytes becomes an object of 700
_BROKEN = (
    *(OSError, EOFError, zlib.error, zipfile.BadZipFile, RuntimeError, struct.error, ValueError, OverflowError),
    *(SystemError, MemoryError),  # numpy's, of text that is not Unicode
)
_KINDS = {
    "uint8": re.compile(r"[|<>]u1"),
    "integers": re.compile(r"[|<>=]?[iu][1248]"),
    "text": re.compile(r"[<>=]?U[1-9]\d{0,2}"),
    "numbers": re.compile(r"[|<>=]?(?:b1|[iu][1248]|f[248])"),
}


@runtime_checkable
class Readable(Protocol):
    """What bytes come from."""

    def read(self, size: int = -1, /) -> bytes:
        """At most ``size`` of the next bytes; none at the end."""


class _Capped(io.FileIO):
    """A file that gives no more than ``most`` bytes at once, whatever length the caller found in it."""

    most = _DIRECTORY

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or not 0 <= size <= self.most:
            here = self.tell()
            size = self.seek(0, io.SEEK_END) - here
            self.seek(here)
            if size > self.most:
                raise ValueError("its list of entries is too long")
        return super().read(size) or b""


def read_npz(
    path: AnyPath, kinds: Mapping[str, str], fit: Callable[[Path, Shapes], None] = lambda path, shapes: None
) -> dict[str, NDArray[Any]]:
    """Those arrays of an npz file that are named in ``kinds`` and stored; others are not looked at.

    The size that a zip entry declares, its array's header and the length of the file must agree before it is unpacked.

    Args:
        path: the file.
        kinds: by the name of an array what it may hold: "uint8", "integers", "numbers" or "text" (up to 999 letters
            each and 2 MiB in all, since zeros that deflate to nothing are text as well).
        fit: called with the path and the shapes that the arrays declare, before any is read; raises if they do not fit
            together, so that one of them cannot be large alone.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not a zip file of plain arrays of these kinds (objects, which are pickles, never are).
    """
    path = Path(path)
    length = file_size(path)
    try:
        with _Capped(path) as file, zipfile.ZipFile(file) as archive:
            stored = {info.filename: info for info in archive.infolist()}
            if len(stored) != len(archive.infolist()):
                raise FileError(f"{path} has two entries of one name, of which only one would count; write it anew.")
            file.most = _BLOCK
            there = {name: kind for name, kind in kinds.items() if f"{name}.npy" in stored}
            infos = {name: stored[f"{name}.npy"] for name in there}
            heads = {name: _declared(archive, infos[name], path, length, kind) for name, kind in there.items()}
            fit(path, {name: head["shape"] for name, head in heads.items()})
            return {name: _data(archive, infos[name], path, head) for name, head in heads.items()}
    except FileError:
        raise
    except _BROKEN as error:
        text = str(error)[:200]  # some hold what stands in the place of a name, up to 64 KB
        raise FileError(f"{path} is not a whole npz file ({text}); copy it again or write it anew.") from error


def exactly(file: Readable, path: Path, size: int) -> NDArray[np.uint8]:
    """The next ``size`` bytes of a file; memory is taken as they come, an eighth more than they are at most.

    Raises:
        ValueError: if there are fewer, or more than fit into memory.
    """
    check_fits(path, size)
    data = bytearray()
    with memory_of(path):
        while len(data) < size:
            part = file.read(min(size - len(data), _BLOCK))
            if not part:
                raise FileError(f"{path} ends {size - len(data)} bytes before its declared end; copy it again.")
            data += part
    return np.frombuffer(data, np.uint8) if data else np.empty(0, np.uint8)


def _declared(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path, length: int, expected: str
) -> dict[str, Any]:
    """The header of one array of an npz file, which agrees with the zip entry, and its length as "start"."""
    where = f"{path}, array {info.filename.removesuffix('.npy')}"
    if info.compress_size > length or info.file_size > RATIO * info.compress_size + 1024:
        raise FileError(f"{where}: the zip entry declares more bytes than the file can hold; copy it again.")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise FileError(f"{where}: expected a zip entry that is stored or deflated, got another; use numpy.savez.")
    with archive.open(info) as file:
        header, start = _npy_header(file, where)
        kind, shape = header["descr"], header["shape"]
        if not _KINDS[expected].fullmatch(kind):
            raise FileError(f"{where}: expected {expected}, got dtype {kind!r}; convert it before saving.")
        dtype = np.dtype(kind)
        size = math.prod(shape) * dtype.itemsize
        if size != info.file_size - start:
            raise FileError(
                f"{where}: the header declares shape {list(shape)}, {size} bytes, the zip entry has "
                f"{info.file_size - start}; write the file anew."
            )
        if expected == "text" and size > _TEXT:
            raise FileError(f"{where}: expected text of at most {_TEXT} bytes, got {size}; shorten it.")
    return {**header, "start": start}


def _data(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path, header: dict[str, Any]) -> NDArray[Any]:
    """The array behind a checked header."""
    where = f"{path}, array {info.filename.removesuffix('.npy')}"
    dtype, shape = np.dtype(header["descr"]), header["shape"]
    size = math.prod(shape) * dtype.itemsize
    with archive.open(info) as file:
        file.read(header["start"])
        data = exactly(file, path, size)
        if file.read(1):  # reads to the end, where the checksum is compared
            raise FileError(f"{where}: expected {size} bytes, got more; write the file anew.")
    return data.view(dtype).reshape(shape, order="F" if header["fortran_order"] else "C")


def _npy_header(file: Readable, where: str) -> tuple[dict[str, Any], int]:
    """The checked header of an npy file, and its length with the magic string."""
    first = file.read(8)
    width = 2 if first[6:7] == b"\x01" else 4
    count = int.from_bytes(file.read(width), "little")
    if first[:6] != b"\x93NUMPY" or count > 10_000:
        raise FileError(f"{where}: expected an array in numpy's npy format, got something else; use numpy.savez.")
    try:
        header = ast.literal_eval(file.read(count).decode())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        header = None
    whole = isinstance(header, dict) and set(header) == {"descr", "fortran_order", "shape"}
    whole = whole and isinstance(header["descr"], str) and isinstance(header["fortran_order"], bool)
    if not whole or not _is_shape(header["shape"]):
        raise FileError(f"{where}: its header has no plain dtype and shape; save a plain array with numpy.savez.")
    return header, 8 + width + count


def _is_shape(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) <= 8 and all(type(n) is int and 0 <= n < 2**40 for n in value)
