"""Image files as arrays: the CIFAR binaries, idx (MNIST, Fashion-MNIST) and npz. numpy only, nothing is unpickled.

Every size is checked against the length of the file before memory is taken for it. A file that is not what it should
be ends in a ValueError, one that is not there in a FileNotFoundError; both name the file and say what to do.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import re
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64, UInt8
from numpy import ndarray as Array
from numpy.typing import NDArray

from msda_theory.files import AnyPath, FileError, check_fits, file_size, memory_of, read_whole
from msda_theory.npz import RATIO, Readable, Shapes, exactly, read_npz

Pictures = tuple[UInt8[Array, "m C H W"], Int64[Array, " m"]]

_CHUNK = 256  # CIFAR records read at once: few, so that a file and its images are all that is in memory
_CLASSES = 2**16  # of an npz file without class names, at most: a broken label makes no list of a billion
_PACKED = 2**14  # bytes of a gzip file that are read, or unpacked, at once
_ZEROS = 2**16  # after the data of a gzip file, at most, as tapes have them
_MEMBERS = 4096  # of a gzip file, at most: programs that pack in parallel make one for each 64 KB or more
_NAMES = 2**20  # bytes of a list of class names, at most
_LINE = re.compile(r"[^\n\r\v\f\x1c-\x1e\x85\u2028\u2029]+")  # as str.splitlines parts them
_KINDS = {"x": "uint8", "y": "integers", "class_names": "text"}


def cifar_binary(files: Sequence[AnyPath] | AnyPath, *, label_bytes: int, label_index: int, classes: int) -> Pictures:
    """Images and labels of files in CIFAR's binary layout, one after the other.

    A record has ``label_bytes`` labels of one byte and 3,072 bytes of pixels (channel, row, column); any positive
    number of whole records is a file.

    Args:
        files: at least one, or the path of one.
        label_bytes: 1 for CIFAR-10, 2 for CIFAR-100 (coarse, fine).
        label_index: which of the labels is returned.
        classes: number of values of that label.

    Returns:
        images [m, 3, 32, 32] and labels [m].

    Raises:
        FileNotFoundError: if a file is missing.
        ValueError: if there is no file, one is not a positive number of whole records, or has a label out of range, or
            they need more memory than there is.
    """
    paths = [Path(file) for file in ([files] if isinstance(files, str | os.PathLike) else files)]
    if not paths:
        raise ValueError("expected at least one file of CIFAR's, got none; list the files of the data set.")
    length, counts = label_bytes + 3072, []
    for path in paths:
        size = file_size(path)
        if size % length:
            raise ValueError(
                f"{path}: expected whole records of {length} bytes, got {size} bytes, {size % length} too many; "
                "copy it again, or give the data set whose files these are."
            )
        counts.append(size // length)
        check_fits(path, sum(counts) * length)
    low = 0
    with memory_of(paths[int(np.argmax(counts))]):
        x, y = np.empty((sum(counts), 3072), np.uint8), np.empty(sum(counts), np.int64)
    for path, count in zip(paths, counts, strict=True):
        with path.open("rb") as file:
            for start in range(0, count, _CHUNK):
                part = exactly(file, path, min(_CHUNK, count - start) * length).reshape(-1, length)
                x[low : low + len(part)], y[low : low + len(part)] = part[:, label_bytes:], part[:, label_index]
                low += len(part)
        _in_range(y[low - count : low], classes, path)
    return x.reshape(-1, 3, 32, 32), y


def idx(images: AnyPath, labels: AnyPath, *, classes: int) -> Pictures:
    """Images and labels of a pair of idx files, plain or gzip (``.gz``).

    Returns:
        images [m, 1, H, W] and labels [m].

    Raises:
        FileNotFoundError: if a file is missing.
        ValueError: if one is not an idx file of bytes with 3 or 1 dimensions, is shorter or longer than it declares, or
            if the counts differ or a label is out of range.
    """
    images, labels = Path(images), Path(labels)
    shape, (count,) = _idx_header(images, 3), _idx_header(labels, 1)
    if shape[0] != count:  # before the data, which may be large, are read
        raise ValueError(
            f"{labels}: expected {shape[0]} labels, one for each image of {images.name}, got {count}; "
            "copy both files from one source."
        )
    x, y = _idx_data(images, shape), _idx_data(labels, (count,))
    _in_range(y, classes, labels)
    return x[:, None], y.astype(np.int64)


def _idx_header(path: Path, dimensions: int) -> tuple[int, ...]:
    """The shape that an idx file declares, which a file of its length can hold."""
    length, header = file_size(path), 4 + 4 * dimensions
    kind, packed = 0x800 + dimensions, path.suffix == ".gz"
    with _unpacked(path) as file:
        first = file.read(header)
    if len(first) < header or int.from_bytes(first[:4], "big") != kind:
        raise ValueError(
            f"{path}: expected an idx file of bytes in {dimensions} dimensions (first bytes {kind:#010x}), "
            f"got 0x{first[:4].hex()}; give the data set whose files these are."
        )
    shape = struct.unpack(f">{dimensions}I", first[4:])
    size = math.prod(shape)
    if size == 0 or (size > RATIO * length if packed else size != length - header):
        raise ValueError(
            f"{path}: the header declares {' x '.join(map(str, shape))} bytes, which a file of {length} bytes "
            "does not hold; copy it again."
        )
    return shape


def _idx_data(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """What follows the header of an idx file, to the end, where gzip compares its checksum."""
    size = math.prod(shape)
    with _unpacked(path) as file:
        file.read(4 + 4 * len(shape))
        data = exactly(file, path, size)
        if file.read(1):
            raise ValueError(f"{path}: expected {size} bytes after the header, got more; copy it again.")
    return data.reshape(shape)


class _Members(io.RawIOBase):
    """What the members of a gzip file hold, one after the other (RFC 1952), with zeros after the last.

    Python's own reader takes 40 microseconds for a member of 20 bytes, and reads zeros as long as there are any, of
    which a sparse file has no end; here both are few.
    """

    def __init__(self, file: Readable) -> None:
        self.file, self.rest, self.members, self.zeros = file, b"", 0, 0
        self.member: Any = None

    def readable(self) -> bool:
        """That it can be read."""
        return True

    def readinto(self, buffer: Any, /) -> int:
        """Fill a part of a buffer; 0 at the end, where the checksums were compared."""
        while self.member is not None or self._next():
            self.rest = self.rest or self.file.read(_PACKED)
            if not self.rest:
                raise EOFError("it ends within a member")
            part = self.member.decompress(self.rest, min(len(buffer), _PACKED))
            self.rest = self.member.unconsumed_tail
            if self.member.eof:
                self.rest, self.member = self.member.unused_data, None
            if part:
                buffer[: len(part)] = part
                return len(part)
        return 0

    def _next(self) -> bool:
        """Whether another member begins, past zeros."""
        while not (begun := self.rest.lstrip(b"\0") if self.members else self.rest):
            self.zeros += len(self.rest)
            self.rest = self.file.read(_PACKED)
            if not self.rest:
                return False
            if self.zeros > _ZEROS:
                raise zlib.error(f"more than {_ZEROS} zeros follow its data")
        self.rest, self.member, self.members = begun, zlib.decompressobj(31), self.members + 1
        if self.members > _MEMBERS:
            raise zlib.error(f"it has more than {_MEMBERS} members")
        return True


@contextlib.contextmanager
def _unpacked(path: Path) -> Iterator[Readable]:
    """A file, through gzip where its name ends in .gz."""
    try:
        with path.open("rb") as file:
            yield io.BufferedReader(_Members(file), _PACKED) if path.suffix == ".gz" else file
    except (EOFError, zlib.error) as error:
        raise ValueError(f"{path} does not unpack with gzip ({error}); copy it again.") from error


def npz(path: AnyPath) -> tuple[UInt8[Array, "m C H W"], Int64[Array, " m"], tuple[str, ...] | None]:
    """Images, labels and, where stored, class names of an npz file.

    Arrays: ``x`` uint8 [m, H, W, C] with C of 1 or 3, or [m, H, W]; ``y`` integers [m]; ``class_names`` text, optional.
    The size that a zip entry declares, its array's header and the length of the file must agree before it is unpacked.

    Returns:
        images [m, C, H, W], labels [m] and class names or None.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not a zip file of such arrays, or a label is negative or has no class name.
    """
    path = Path(path)
    with memory_of(path):
        return _labelled(read_npz(path, _KINDS, _fit), path)


def _fit(path: Path, shapes: Shapes) -> None:
    """Refuse an npz file whose arrays are not those of labelled images."""
    if not {"x", "y"} <= set(shapes):
        raise FileError(f"{path}: expected arrays x and y, got {sorted(shapes) or 'neither'}; save it with both.")
    x, y, names = shapes["x"], shapes["y"], shapes.get("class_names")
    if len(x) not in (3, 4) or (len(x) == 4 and x[-1] not in (1, 3)) or 0 in x:
        raise FileError(
            f"{path}: expected x of shape [m, H, W], [m, H, W, 1] or [m, H, W, 3] with no empty axis, "
            f"got {list(x)}; reorder its axes."
        )
    if y != x[:1]:
        raise FileError(f"{path}: expected y of shape [{x[0]}], one label an image, got {list(y)}; save both.")
    if names is not None and (len(names) != 1 or not 0 < names[0] <= _CLASSES):
        raise FileError(f"{path}: expected class_names of one dimension, got shape {list(names)}; save a list.")


def _labelled(arrays: dict[str, Any], path: Path) -> tuple[NDArray[Any], NDArray[Any], tuple[str, ...] | None]:
    """The arrays of an npz file in the layout and dtypes of the data sets."""
    x, y, names = arrays["x"], arrays["y"], arrays.get("class_names")
    x = x[..., None] if x.ndim == 3 else x
    _in_range(y, _CLASSES if names is None else len(names), path)
    x = np.ascontiguousarray(x.transpose(0, 3, 1, 2))
    try:
        found = None if names is None else tuple(map(str, names))
    except (SystemError, ValueError) as error:  # numpy's, of text that is not Unicode
        raise FileError(f"{path} is not a whole npz file ({error}); copy it again or write it anew.") from error
    if not all(map(is_name, found or ())):
        raise FileError(f"{path}: class_names holds a name that is empty or no text; write it anew with others.")
    return x, y.astype(np.int64), found


def class_names(path: AnyPath, classes: int) -> tuple[str, ...]:
    """The lines of a text file of class names; "0", "1", ... where there is no such file.

    Raises:
        ValueError: if the file is not UTF-8 text of one name a line for each class.
    """
    path = Path(path)
    if not path.exists() and not path.is_symlink():
        return tuple(map(str, range(classes)))
    text = (read_whole(path) if file_size(path) <= _NAMES else b"").decode(errors="replace")
    count = sum(1 for line in _LINE.finditer(text) if line[0].strip())  # before a text is made of each
    names = tuple(line[0].strip() for line in _LINE.finditer(text) if line[0].strip()) if count == classes else ()
    if count != classes or not all(is_name(n) and "\N{REPLACEMENT CHARACTER}" not in n for n in names):
        raise ValueError(f"{path}: expected {classes} class names in UTF-8, one a line, got {count}; delete it.")
    return names


def is_name(text: str) -> bool:
    """Whether a text can be written as UTF-8 and shown: not empty or blank, no NUL, no half of a character."""
    return bool(text.strip()) and not any(c == "\0" or "\ud800" <= c <= "\udfff" for c in text)


def _in_range(labels: NDArray[Any], classes: int, path: Path) -> None:
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        raise FileError(
            f"{path}: labels must lie in 0 .. {classes - 1}, got {low if low < 0 else high}; "
            "copy it again, or give the data set whose file it is."
        )
