"""Image files as arrays: the CIFAR binaries, idx (MNIST, Fashion-MNIST) and npz. numpy only, nothing is unpickled.

Every size is checked against the length of the file before memory is taken for it. A file that is not what it should
be ends in a ValueError, one that is not there in a FileNotFoundError; both name the file and say what to do.
"""

from __future__ import annotations

import ast
import gzip
import math
import re
import struct
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from jaxtyping import Int64, UInt8
from numpy import ndarray as Array
from numpy.typing import NDArray

Pictures = tuple[UInt8[Array, "m C H W"], Int64[Array, " m"]]

_CHUNK = 4096  # CIFAR records read at once
_BLOCK = 2**24  # bytes read at once from other files
_RATIO = 1032  # the most that deflate can shrink data
_CLASSES = 2**16  # of an npz file without class names, at most: a broken label makes no list of a billion
_NAMES = 2**20  # bytes of a list of class names, at most
_BROKEN = (
    *(OSError, EOFError, zlib.error, zipfile.BadZipFile, RuntimeError, struct.error, ValueError, OverflowError),
    SystemError,  # numpy's, of text that is not Unicode
)
_INTEGER = re.compile(r"[|<>=]?[iu][1248]")
_TEXT = re.compile(r"[<>=]?U[1-9]\d{0,3}")


class _FileError(ValueError):
    """An error that already names the file."""


def file_size(path: Path) -> int:
    """Length of a file in bytes.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if it is a folder or another thing that is not a file, or empty.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; correct the path, or put the data set's file there.")
    if not path.is_file():
        raise ValueError(f"{path}: expected a file, got a folder or a device; give the folder that holds the data.")
    size = path.stat().st_size
    if size == 0:
        raise ValueError(f"{path}: expected data, got an empty file; copy or download it again.")
    return size


def cifar_binary(files: Sequence[Path], *, label_bytes: int, label_index: int, classes: int) -> Pictures:
    """Images and labels of files in CIFAR's binary layout, one after the other.

    A record has ``label_bytes`` labels of one byte and 3,072 bytes of pixels (channel, row, column); any positive
    number of whole records is a file.

    Args:
        files: at least one.
        label_bytes: 1 for CIFAR-10, 2 for CIFAR-100 (coarse, fine).
        label_index: which of the labels is returned.
        classes: number of values of that label.

    Returns:
        images [m, 3, 32, 32] and labels [m].

    Raises:
        FileNotFoundError: if a file is missing.
        ValueError: if a file is not a positive number of whole records, or has a label out of range.
    """
    length, counts = label_bytes + 3072, []
    for path in files:
        size = file_size(path)
        if size % length:
            raise ValueError(
                f"{path}: expected whole records of {length} bytes, got {size} bytes, {size % length} too many; "
                "copy it again, or give the data set whose files these are."
            )
        counts.append(size // length)
    x, y = np.empty((sum(counts), 3072), np.uint8), np.empty(sum(counts), np.int64)
    low = 0
    for path, count in zip(files, counts, strict=True):
        with path.open("rb") as file:
            for start in range(0, count, _CHUNK):
                part = _exactly(file, path, min(_CHUNK, count - start) * length).reshape(-1, length)
                x[low : low + len(part)], y[low : low + len(part)] = part[:, label_bytes:], part[:, label_index]
                low += len(part)
        _in_range(y[low - count : low], classes, path)
    return x.reshape(-1, 3, 32, 32), y


def idx(images: Path, labels: Path, *, classes: int) -> Pictures:
    """Images and labels of a pair of idx files, plain or gzip (``.gz``).

    Returns:
        images [m, 1, H, W] and labels [m].

    Raises:
        FileNotFoundError: if a file is missing.
        ValueError: if one is not an idx file of bytes with 3 or 1 dimensions, is shorter or longer than it declares, or
            if the counts differ or a label is out of range.
    """
    x, y = _idx(images, 3), _idx(labels, 1)
    if len(x) != len(y):
        raise ValueError(
            f"{labels}: expected {len(x)} labels, one for each image of {images.name}, got {len(y)}; "
            "copy both files from one source."
        )
    _in_range(y, classes, labels)
    return x[:, None], y.astype(np.int64)


def _idx(path: Path, dimensions: int) -> NDArray[np.uint8]:
    length, packed = file_size(path), path.suffix == ".gz"
    header = 4 + 4 * dimensions
    try:
        with gzip.open(path, "rb") if packed else path.open("rb") as file:
            first = file.read(header)
            kind = 0x800 + dimensions
            if len(first) < header or int.from_bytes(first[:4], "big") != kind:
                raise ValueError(
                    f"{path}: expected an idx file of bytes in {dimensions} dimensions (first bytes {kind:#010x}), "
                    f"got 0x{first[:4].hex()}; give the data set whose files these are."
                )
            shape = struct.unpack(f">{dimensions}I", first[4:])
            size = math.prod(shape)
            if size == 0 or (size > _RATIO * length if packed else size != length - header):
                raise ValueError(
                    f"{path}: the header declares {' x '.join(map(str, shape))} bytes, which a file of {length} bytes "
                    "does not hold; copy it again."
                )
            data = _exactly(file, path, size)
            if file.read(1):
                raise ValueError(f"{path}: expected {size} bytes after the header, got more; copy it again.")
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path} does not unpack with gzip ({error}); copy it again.") from error
    return data.reshape(shape)


def npz(path: Path) -> tuple[UInt8[Array, "m C H W"], Int64[Array, " m"], tuple[str, ...] | None]:
    """Images, labels and, where stored, class names of an npz file.

    Arrays: ``x`` uint8 [m, H, W, C] with C of 1 or 3, or [m, H, W]; ``y`` integers [m]; ``class_names`` text, optional.
    The size that a zip entry declares, its array's header and the length of the file must agree before it is unpacked.

    Returns:
        images [m, C, H, W], labels [m] and class names or None.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not a zip file of such arrays, or a label is negative or has no class name.
    """
    length = file_size(path)
    try:
        with zipfile.ZipFile(path) as archive:
            stored = {info.filename: info for info in archive.infolist()}
            arrays = {}
            for name, expected in (("x", "uint8"), ("y", "integers"), ("class_names", "text")):
                if f"{name}.npy" in stored:
                    arrays[name] = _member(archive, stored[f"{name}.npy"], path, length, expected)
        return _labelled(arrays, path)
    except _FileError:
        raise
    except _BROKEN as error:
        raise ValueError(f"{path} is not a whole npz file ({error}); copy it again or write it anew.") from error


def _labelled(arrays: dict[str, Any], path: Path) -> tuple[NDArray[Any], NDArray[Any], tuple[str, ...] | None]:
    """The arrays of an npz file in the layout and dtypes of the data sets."""
    if not {"x", "y"} <= set(arrays):
        raise _FileError(f"{path}: expected arrays x and y, got {sorted(arrays) or 'neither'}; save it with both.")
    x, y = arrays["x"], arrays["y"]
    x = x[..., None] if x.ndim == 3 else x
    if x.ndim != 4 or x.shape[-1] not in (1, 3) or x.size == 0:
        raise _FileError(
            f"{path}: expected x of shape [m, H, W], [m, H, W, 1] or [m, H, W, 3] with no empty axis, "
            f"got {list(arrays['x'].shape)}; reorder its axes."
        )
    if y.shape != (len(x),):
        raise _FileError(f"{path}: expected y of shape [{len(x)}], one label an image, got {list(y.shape)}; save both.")
    names = arrays.get("class_names")
    if names is not None and (names.ndim != 1 or len(names) == 0):
        raise _FileError(f"{path}: expected class_names of one dimension, got shape {list(names.shape)}; save a list.")
    _in_range(y, _CLASSES if names is None else len(names), path)
    x = np.ascontiguousarray(x.transpose(0, 3, 1, 2))
    return x, y.astype(np.int64), None if names is None else tuple(map(str, names))


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path, length: int, expected: str) -> NDArray[Any]:
    """One array of an npz file; ``expected`` is "uint8", "integers" or "text"."""
    where = f"{path}, array {info.filename.removesuffix('.npy')}"
    if info.compress_size > length or info.file_size > _RATIO * info.compress_size + 1024:
        raise _FileError(f"{where}: the zip entry declares more bytes than the file can hold; copy it again.")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise _FileError(f"{where}: expected a zip entry that is stored or deflated, got another; use numpy.savez.")
    with archive.open(info) as file:
        header, start = _npy_header(file, where)
        kind, shape = header["descr"], header["shape"]
        fits = {
            "uint8": kind in ("|u1", "<u1", ">u1"),
            "integers": _INTEGER.fullmatch(kind),
            "text": _TEXT.fullmatch(kind),
        }
        if not fits[expected]:
            raise _FileError(f"{where}: expected {expected}, got dtype {kind!r}; convert it before saving.")
        dtype = np.dtype(kind)
        size = math.prod(shape) * dtype.itemsize
        if size != info.file_size - start:
            raise _FileError(
                f"{where}: the header declares shape {list(shape)}, {size} bytes, the zip entry has "
                f"{info.file_size - start}; write the file anew."
            )
        data = _exactly(file, path, size)
        if file.read(1):  # reads to the end, where the checksum is compared
            raise _FileError(f"{where}: expected {size} bytes, got more; write the file anew.")
    return data.view(dtype).reshape(shape, order="F" if header["fortran_order"] else "C")


def _npy_header(file: IO[bytes], where: str) -> tuple[dict[str, Any], int]:
    """The checked header of an npy file, and its length with the magic string."""
    first = file.read(8)
    width = 2 if first[6:7] == b"\x01" else 4
    count = int.from_bytes(file.read(width), "little")
    if first[:6] != b"\x93NUMPY" or count > 10_000:
        raise _FileError(f"{where}: expected an array in numpy's npy format, got something else; use numpy.savez.")
    try:
        header = ast.literal_eval(file.read(count).decode())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        header = None
    whole = isinstance(header, dict) and set(header) == {"descr", "fortran_order", "shape"}
    if not whole or not isinstance(header["descr"], str) or not _is_shape(header["shape"]):
        raise _FileError(f"{where}: its header has no plain dtype and shape; save a plain array with numpy.savez.")
    return header, 8 + width + count


def _is_shape(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) <= 8 and all(type(n) is int and 0 <= n < 2**40 for n in value)


def class_names(path: Path, classes: int) -> tuple[str, ...]:
    """The lines of a text file of class names; "0", "1", ... where there is no such file.

    Raises:
        ValueError: if the file is not UTF-8 text of one name a line for each class.
    """
    if not path.exists():
        return tuple(map(str, range(classes)))
    text = path.read_bytes() if file_size(path) <= _NAMES else b""
    names = tuple(line.strip() for line in text.decode(errors="replace").splitlines() if line.strip())
    if len(names) != classes or any("\N{REPLACEMENT CHARACTER}" in name for name in names):
        raise ValueError(f"{path}: expected {classes} class names in UTF-8, one a line, got {len(names)}; delete it.")
    return names


def _exactly(file: IO[bytes] | gzip.GzipFile, path: Path, size: int) -> NDArray[np.uint8]:
    """The next ``size`` bytes of a file."""
    data = np.empty(size, np.uint8)
    done = 0
    while done < size:
        part = np.frombuffer(file.read(min(size - done, _BLOCK)), np.uint8)
        if not len(part):
            raise _FileError(f"{path} ends {size - done} bytes before its declared end; copy it again.")
        data[done : done + len(part)] = part
        done += len(part)
    return data


def _in_range(labels: NDArray[Any], classes: int, path: Path) -> None:
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        raise _FileError(
            f"{path}: labels must lie in 0 .. {classes - 1}, got {low if low < 0 else high}; "
            "copy it again, or give the data set whose file it is."
        )
