"""Contents made to do harm to the reader of a format: bombs, sizes and offsets that lie, calls, nests without end."""

from __future__ import annotations

import gzip
import io
import json
import struct
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from safetensors.torch import load, save

from experiments import fuzz_formats as formats
from experiments.checkpoints import _digest
from experiments.fuzz_harm_pictures import broken_pictures, long_pictures
from experiments.fuzz_harm_text import jsons, long_jsons, long_stored, stored


def harmful(reader: str, whole: bytes, large: bool) -> Iterator[tuple[str, bytes]]:
    """Contents made to do harm to the reader of a format, with the name of the fault."""
    size = 2**24 if large else 2**21
    yield "a serialised call", formats.WOULD_RUN
    yield "a serialised call", b"\x80\x04" + formats.WOULD_RUN
    yield "a serialised call", b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x0etouch executed\x85R."
    yield "a serialised call", formats.zipped({"archive/data.pkl": formats.WOULD_RUN, "archive/version": b"3\n"})
    for start, made in _KINDS.items():
        if reader.startswith(start):
            yield from made(whole, size)
    for start, grown in _LONG:
        for length in (2**19,) if large else (2**13, 2**17):
            if reader.startswith(start):
                for name, content in grown(whole, length):
                    yield name, content
                    yield f"{name}, cut", content[:-3]


def _npzs(whole: bytes, size: int) -> Iterator[tuple[str, bytes]]:
    members = _members(whole)
    for name in members:
        objects = formats.zipped({**members, name: formats.npy([0], objects=True)})
        yield "an array of objects", objects
        yield "a bomb", formats.zipped({**members, name: bytes(size)})
        yield "a bomb", formats.zipped({**members, name: members[name] + bytes(size)})
        shape = f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({size}, 1, 1, 1), }}\n".encode()
        header = b"\x93NUMPY\1\0" + len(shape).to_bytes(2, "little") + shape
        yield "a bomb", formats.zipped({**members, name: header + bytes(size)})
        if size > 2**21:  # what follows is about headers, whatever the size
            break
        for text in (
            b"(" * 9000,
            b"-" * 9000 + b"1",
            b"[" * 9000,
            b"{'descr':" * 900,
            b"9" * 9000,
            b"'a'*10**9",
            b"\xff" * 90,
        ):
            broken = b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text
            yield "a header that is none", formats.zipped({**members, name: broken})
        for kind in (
            "V8",
            "<M8[ns]",
            "|S9",
            "O",
            "<c16",
            "<U0",
            "<U99999999",
            "no",
            "<f2",
            ",".join(["<f8"] * 99),
            "(99999999,)u1",
        ):
            text = f"{{'descr': {kind!r}, 'fortran_order': False, 'shape': (1,), }}\n".encode()
            other = b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text + bytes(8)
            yield "a dtype that none expects", formats.zipped({**members, name: other})
    for packing in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        yield "packed otherwise", formats.zipped({**members, "x.npy": bytes(2**16)}, packing)
    yield "thousands of entries", formats.zipped({**members, **{f"{k}": b"" for k in range(size // 1000)}})
    place = whole.rindex(b"PK\5\6")
    for at, width in ((8, 2), (10, 2), (12, 4), (16, 4), (20, 2)):
        for value in (0, 1, 2 ** (8 * width) - 1, 2 ** (8 * width - 1)):
            field = value.to_bytes(width, "little")
            yield "an end of the archive that lies", whole[: place + at] + field + whole[place + at + width :]
    yield "encrypted", whole.replace(b"PK\1\2\x14\3\x14\0\0\0", b"PK\1\2\x14\3\x14\0\1\0")


def _members(whole: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        return {info.filename: archive.read(info) for info in archive.infolist()}


def _array(descr: str, count: int) -> bytes:
    """An npy file of so many zeros."""
    text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': ({count},), }}\n".encode()
    return b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text + bytes(count * np.dtype(descr).itemsize)


def _long_names(whole: bytes, size: int) -> Iterator[tuple[str, bytes]]:
    """Of ``size`` bytes, which zeros take a thousandth of in a file; at most 64 MB."""
    for descr in ("<U9999", "<U999", "<U60", "<U1"):
        count = max(1, min(256 * size, 2**25) // np.dtype(descr).itemsize)
        yield "names that are zeros", formats.zipped({**_members(whole), "class_names.npy": _array(descr, count)})


def _zeros(whole: bytes, size: int) -> Iterator[tuple[str, bytes]]:
    members = _members(whole)
    for name in ("x_data.npy", "attr_data.npy", "x.npy"):
        if name not in members:
            continue
        for descr in ("<U9999", "<f8", "|u1", "<U1"):
            zeros = _array(descr, max(1, min(256 * size, 2**25) // np.dtype(descr).itemsize))
            yield "an array of zeros", formats.zipped({**members, name: zeros})
            if "indices" in "".join(members):
                places = name.replace("data", "indices")
                yield "arrays of zeros that agree", formats.zipped({**members, name: zeros, places: zeros})


def _zero_pixels(whole: bytes, size: int) -> Iterator[tuple[str, bytes]]:
    content = gzip.decompress(whole)
    if content[3] == 3:
        count = int.from_bytes(content[4:8], "big")
        side = max(1, int((min(256 * size, 2**25) / count) ** 0.5))
        head = struct.pack(">4I", 0x803, count, side, side)
        yield "zeros of a right size", gzip.compress(head + bytes(count * side**2))


def _many_tensors(whole: bytes, size: int) -> Iterator[tuple[str, bytes]]:
    empty = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    yield "thousands of empty tensors", formats.safetensors({f"{k}": empty for k in range(size // 64)}, b"")
    yield "thousands of empty tensors", formats.safetensors({f"{k}": empty for k in range(min(4096, size // 64))}, b"")
    tensors = load(whole)
    for unit in ("[]", "{}", "0", '{"":0}'):
        state = '{"step": 4, "a": [' + f"{unit}," * (size // (len(unit) + 1)) + "0]}"
        yield "a long state", save(tensors, {"state": state, "sha256": _digest(tensors, state)})


def _gzips(whole: bytes, size: int) -> Iterator[tuple[str, bytes]]:
    content = gzip.decompress(whole)
    yield "a bomb", gzip.compress(content + bytes(size))
    yield "a bomb", gzip.compress(bytes(size))
    rows = struct.pack(">4I", 0x803, size // 1024, 32, 32)
    yield "a bomb", gzip.compress(rows + bytes(size))
    yield "a bomb", gzip.compress(struct.pack(">2I", 0x801, size) + bytes(size))
    yield "sizes that the data do not bear out", gzip.compress(struct.pack(">4I", 0x803, 2**10, 28, 28) + content[16:])
    yield "several members", whole + whole
    yield "several members", b"".join(gzip.compress(content[k : k + 9]) for k in range(0, min(len(content), 9000), 9))
    yield "several members", whole + gzip.compress(b"") * 999
    for count in (999, size // 64):
        yield "empty members before the data", gzip.compress(b"", mtime=0) * count + whole
    for zeros in (2**16, size):
        yield "zeros after the data", whole + bytes(zeros)
    yield "packed twice", gzip.compress(whole)
    for width in (2**31, 2**16, 2**32 - 1):
        yield "sizes that overflow", gzip.compress(struct.pack(">4I", 0x803, width, width, 1) + content[16:])


def _safetensors(whole: bytes, size: int) -> Iterator[tuple[str, bytes]]:
    length = int.from_bytes(whole[:8], "little")
    header, data = json.loads(whole[8 : 8 + length]), whole[8 + length :]
    first = next(name for name in header if name != "__metadata__")

    def other(**change: Any) -> bytes:
        return formats.safetensors({**header, first: {**header[first], **change}}, data)

    end = len(data)
    for offsets in (
        [0, end],
        [4, 4],
        [end, 0],
        [0, 2**63],
        [-4, 0],
        [0, 2**64],
        [0],
        [0, 4.5],
        "",
        None,
        [end, end + 4],
    ):
        yield "offsets that overlap or leave the file", other(data_offsets=offsets)
    for dtype in ("F33", "O", "float32", "", None, 4, "BOOL", "F4", "F6_E2M3", "F8_E8M0", "C64", "U64", "F64"):
        yield "a dtype that is none, or another", other(dtype=dtype)
    for shape in ([2**62, 4], [-1], [size], [], [0], [[1]], "1", None, [1.5], [2**64], [1] * 5000):
        yield "a shape that does not fit", other(shape=shape)
    text = json.dumps(header).encode()
    for claimed in (0, 1, len(text) - 1, len(text) + 1, 10**8, 2**32, 2**63, 2**64 - 1):
        yield "a length of the header that lies", formats.safetensors(text, data, length=claimed)
    for words in (
        b"[" * 50_000,
        b'{"a":' * 50_000,
        b"{}",
        b"[]",
        b"null",
        b"\xff\xfe",
        b"{" + text[1:-1] + b"," + text[1:],
    ):
        yield "a header that is none", formats.safetensors(words, data)
    for length in (size // 64, size // 4):
        for unit in (b'\\"', b'"', b'"",', b'{"a":', b" "):
            yield "a long header that does not end", formats.safetensors(b'{"' + unit * (length // len(unit)), b"")
        yield "a long header that does not end", formats.safetensors(b'"\\' * (length // 2), b"")
    metadata: list[Any] = [{"state": 1}, {"state": "[" * 20_000}, {"state": "{}", "sha256": ""}, {"state": "NaN"}]
    for beside in [*metadata, [], "a", {}]:
        yield "metadata that are none", formats.safetensors({**header, "__metadata__": beside}, data)
    yield (
        "thousands of entries",
        formats.safetensors(
            {f"{k}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for k in range(size // 2000)}, b""
        ),
    )


Made = Callable[[bytes, int], Iterator[tuple[str, bytes]]]

_KINDS: dict[str, Made] = {
    **{"npz": _npzs, "idx.gz": _gzips, "safetensors": _safetensors, "weights": _safetensors},
    **{"checkpoint": _safetensors, "record": jsons, "Planetoid": stored, "picture": broken_pictures},
}
_LONG: tuple[tuple[str, Made], ...] = (
    *(("npz of images", _long_names), ("npz of", _zeros), ("idx.gz", _zero_pixels), ("record", long_jsons)),
    *(("safetensors", _many_tensors), ("weights", _many_tensors), ("checkpoint", _many_tensors)),
    *(("Planetoid", long_stored), ("picture", long_pictures)),
)
