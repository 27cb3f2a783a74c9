"""Small files of every format that is read, written byte by byte, so that a fault can be put anywhere in them."""

from __future__ import annotations

import gzip
import io
import json
import struct
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

WOULD_RUN = b"cposix\nsystem\n(S'touch executed'\ntR."  # the object serialisation of a call of a shell


def cifar(x: np.ndarray, *labels: np.ndarray) -> bytes:
    """CIFAR's binary: labels of a byte each, then 3,072 bytes of pixels."""
    records = [label.astype(np.uint8)[:, None] for label in labels]
    return np.concatenate([*records, x.reshape(len(x), -1)], axis=1).tobytes()


def idx(values: np.ndarray, *, packed: bool) -> bytes:
    """An idx file of bytes, plain or gzip."""
    content = struct.pack(f">I{values.ndim}I", 0x800 + values.ndim, *values.shape) + values.astype(np.uint8).tobytes()
    return gzip.compress(content, mtime=0) if packed else content


def npy(value: Any, *, objects: bool = False) -> bytes:
    """One array in numpy's format; with ``objects`` an array of objects, whose serialisation would run a command."""
    file = io.BytesIO()
    np.save(file, np.asarray(value), allow_pickle=False)
    if not objects:
        return file.getvalue()
    text = b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }"
    text += b" " * (117 - len(text)) + b"\n"
    return b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text + WOULD_RUN


def zipped(members: Mapping[str, bytes], kind: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip file of these members, without dates."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", kind) as archive:
        for name, content in members.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = kind
            archive.writestr(info, content)
    return file.getvalue()


def npz(arrays: Mapping[str, Any], *, packed: bool = True) -> bytes:
    """An npz file."""
    kind = zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED
    return zipped({f"{name}.npy": npy(value) for name, value in arrays.items()}, kind)


def safetensors(header: bytes | dict[str, Any], data: bytes, *, length: int | None = None) -> bytes:
    """A safetensors file with this header, whatever it says."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def picture(x: np.ndarray, kind: str) -> bytes:
    """A picture [H, W, 3] in a format of Pillow."""
    file = io.BytesIO()
    Image.fromarray(x).save(file, format=kind)
    return file.getvalue()


def chunk(name: bytes, data: bytes) -> bytes:
    """A chunk of a PNG file."""
    return len(data).to_bytes(4, "big") + name + data + zlib.crc32(name + data).to_bytes(4, "big")


def stored(value: Any) -> bytes:
    """An array, a CSR matrix (data, indices, indptr, shape) or a dict of lists, as Planetoid's files hold them."""
    return b"\x80\x02" + _value(value) + b"."


def _value(value: Any) -> bytes:
    if isinstance(value, np.ndarray):
        return _array(value)
    if isinstance(value, tuple):
        names = ("data", "indices", "indptr")
        parts = b"".join(_text(name) + _array(part) for name, part in zip(names, value, strict=False))
        shape = b"".join(map(_number, value[3]))
        state = b"}(" + parts + _text("_shape") + b"(" + shape + b"tu"
        return b"cscipy.sparse.csr\ncsr_matrix\n)\x81" + state + b"b"
    lists = [_number(key) + b"](" + b"".join(map(_number, near)) + b"e" for key, near in value.items()]
    runs = b"".join(b"(" + b"".join(lists[low : low + 1000]) + b"u" for low in range(0, len(lists), 1000))
    return b"ccollections\ndefaultdict\nc__builtin__\nlist\n\x85R" + runs


def _array(value: np.ndarray) -> bytes:
    made = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    dtype = b"cnumpy\ndtype\n" + _text(value.dtype.str[1:]) + b"K\x00K\x01\x87R(K\x03U\x01<NNNJ" + b"\xff" * 4
    dtype += b"J" + b"\xff" * 4 + b"K\x00tb"
    data = value.tobytes()
    shape = b"(" + b"".join(map(_number, value.shape)) + b"t"
    return made + b"(K\x01" + shape + dtype + b"\x89T" + len(data).to_bytes(4, "little") + data + b"tb"


def _text(text: str) -> bytes:
    return b"U" + bytes([len(text)]) + text.encode()


def _number(value: int) -> bytes:
    return b"K" + bytes([value]) if 0 <= value < 256 else b"J" + int(value).to_bytes(4, "little", signed=True)
