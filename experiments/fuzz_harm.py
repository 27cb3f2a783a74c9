"""Contents made to do harm to the reader of a format: bombs, sizes and offsets that lie, calls, nests without end."""

from __future__ import annotations

import gzip
import io
import json
import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from experiments import fuzz_formats as formats


def harmful(reader: str, whole: bytes, large: bool) -> Iterator[tuple[str, bytes]]:
    """Contents made to do harm to the reader of a format, with the name of the fault."""
    size = 2**24 if large else 2**21
    yield "a serialised call", formats.WOULD_RUN
    yield "a serialised call", b"\x80\x04" + formats.WOULD_RUN
    yield "a serialised call", b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x0etouch executed\x85R."
    yield "a serialised call", formats.zipped({"archive/data.pkl": formats.WOULD_RUN, "archive/version": b"3\n"})
    kinds = {"npz": _npzs, "idx.gz": _gzips, "safetensors": _safetensors, "weights": _safetensors}
    kinds |= {"checkpoint": _safetensors, "record": _jsons, "Planetoid": _stored, "picture": _pictures}
    for start, made in kinds.items():
        if reader.startswith(start):
            yield from made(whole, size)


def _npzs(whole: bytes, size: int) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
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
    metadata: list[Any] = [{"state": 1}, {"state": "[" * 20_000}, {"state": "{}", "sha256": ""}, {"state": "NaN"}]
    for beside in [*metadata, [], "a", {}]:
        yield "metadata that are none", formats.safetensors({**header, "__metadata__": beside}, data)
    yield (
        "thousands of entries",
        formats.safetensors(
            {f"{k}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for k in range(size // 2000)}, b""
        ),
    )


def _jsons(whole: bytes, size: int) -> Iterator[tuple[str, bytes]]:
    text = whole.decode()
    for word in ("NaN", "Infinity", "-Infinity", "1e999", "-1e999", "9" * 5000, "nan", "01", "+1", ".5", "0x1"):
        yield "a number that is none, or not finite", text.replace("null", word, 1).encode()
    for depth in (500, 990, 5000, 200_000):
        for left, right in (("[", "]"), ('{"a":', "}")):
            yield "nested deeply", text.replace("null", left * depth + "1" + right * depth, 1).encode()
            yield "nested deeply", (left * depth).encode()
    for name in ("config", "result", "draws"):
        yield "a key twice", text.replace("{", f'{{"{name}": 1, ', 1).encode()
        yield "a key twice", text.replace('"draws"', f'"{name}": 2, "{name}"', 1).encode()
    for value in ("[]", "1", "null", '"a"', "true", "{}", "[[]]"):
        yield "other types", value.encode()
        yield "other types", f'{{"config": {value}, "result": {value}}}'.encode()
        yield "other types", f'{{"config": {{}}, "result": {value}}}'.encode()
    for broken in (b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf8\x88\x80\x80\x80", b"\0", b"\n", b"\x1f"):
        yield "text that is not UTF-8, or not allowed", whole.replace(b"cutmix", b"cut" + broken, 1)
    for escape in ("\\ud800", "\\udc00", "\\ud800x", "\\u12", "\\x41", "\\udc00\\ud800"):
        yield "half a character", text.replace("cutmix", f"cut{escape}", 1).encode()
    yield "another encoding", b"\xef\xbb\xbf" + whole
    for code in ("utf-16", "utf-32-le", "latin-1"):
        yield "another encoding", text.replace("\\u00", "").encode(code, errors="replace")
    yield "millions of brackets", text.replace("null", "[" + "[]," * (size // 40) + "1]", 1).encode()


def _stored(whole: bytes, size: int) -> Iterator[tuple[str, bytes]]:
    calls = (
        "os\nsystem",
        "builtins\neval",
        "__builtin__\nexec",
        "subprocess\nPopen",
        "numpy\nload",
        "nt\nsystem",
        "codecs\nopen",
    )
    for call in calls:
        yield "a serialised call", f"c{call}\n(S'touch executed'\ntR.".encode()
        yield "a serialised call", whole[:-1] + f"0c{call}\n(S'touch executed'\ntR.".encode()
    yield "a serialised call", b"\x80\x02]q\x00(cposix\nsystem\nU\x0etouch executed\x85Re."
    yield "a serialised call", b"(S'touch executed'\niposix\nsystem\n."
    yield "a serialised call", b"(cposix\nsystem\nS'touch executed'\no."
    yield "a serialised call", b"\x80\x02\x82\x01."
    yield "lists in lists", b"\x80\x02" + b"]" * min(size, 10**5) + b"a" * (min(size, 10**5) - 1) + b"."
    yield "lists in lists", b"\x80\x02" + b"]q\x00h\x00a" + b"h\x00h\x00\x86q\x00" * 9000 + b"."
    yield "a key that takes forever", b"\x80\x02}q\x01)q\x00" + b"h\x00h\x00\x86q\x00" * 200 + b"h\x01h\x00K\x01s."
    near = b"(" + b"K\x00" * 3000 + b"e"
    yield (
        "one list in many places",
        b"\x80\x02}(K\x00]"
        + near[:-1]
        + b"eq\x01"
        + b"".join(b"M" + k.to_bytes(2, "little") + b"h\x01" for k in range(3000))
        + b"u.",
    )
    yield (
        "an array without its bytes",
        formats.stored(np.zeros((3, 3), np.int32)).replace(b"K\x03K\x03", b"J\xff\xff\xff\x7fK\x03"),
    )
    yield "a huge number", b"\x80\x02\x8b" + (10**5).to_bytes(4, "little") + b"\x7f" * 10**5 + b"."
    yield "a huge number", b"\x80\x02\x8b\xff\xff\xff\x7f\x01."
    yield "a huge number", b"T\xff\xff\xff\x7fa."
    yield "a huge number", b"r\xff\xff\xff\xff."
    rows = (np.ones(2, np.float32), np.zeros(2, np.int32), np.array([0, 1, 2], np.int32))
    for shape in ((2, 2**31 - 1), (2, 10**6), (2, -1), (2**31 - 1, 2)):
        yield "a matrix that is nearly empty", formats.stored((*rows, shape))
    for text in (b"0 1 2", b"-1\n-2", b"1e9", b"999999999\n1", b"1\n1", b"9" * 10**5, "٣".encode(), b"0 " * 50_000):
        yield "a test index that is none", text


def _pictures(whole: bytes, size: int) -> Iterator[tuple[str, bytes]]:
    magic = b"\x89PNG\r\n\x1a\n"

    def png(width: int, height: int, *chunks: bytes, depth: int = 8, colour: int = 2) -> bytes:
        header = formats.chunk(b"IHDR", struct.pack(">2I5B", width, height, depth, colour, 0, 0, 0))
        return magic + header + b"".join(chunks) + formats.chunk(b"IEND", b"")

    data = formats.chunk(b"IDAT", zlib.compress(bytes(size)))
    for side in ((2**31 - 1, 2**31 - 1), (8192, 8192), (65535, 1000), (2**26, 1), (0, 0), (1, 2**26), (16_384, 4096)):
        yield "a picture beyond the file", png(*side, data)
        yield "a picture beyond the file", png(*side, data, depth=1, colour=0)
        yield (
            "a picture beyond the file",
            struct.pack("<2sI2HI3I2H6I", b"BM", 58, 0, 0, 54, 40, *side, 1, 24, 0, 4, 0, 0, 0, 0) + b"abcd",
        )
        yield "a picture beyond the file", f"P6 {side[0]} {side[1]} 255\n".encode() + bytes(99)
    yield "a bomb", png(9, 9, data)
    text = formats.chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(10**6)))
    yield "a bomb", png(9, 9, *[text] * 60, data)
    yield "a bomb", png(9, 9, formats.chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(size))), data)
    yield "a bomb", png(9, 9, formats.chunk(b"iTXt", b"a\0\1\0\0\0" + zlib.compress(bytes(10**6))), data)
    yield "a huge number", png(9, 9)[:-12] + b"\xff\xff\xff\xffIDAT"
    yield "a huge number", b"P6 " + b"9" * 9999 + b" 9 255\n"
    yield "a huge number", b"P3 9 9 99999999999\n" + b"9 " * 999
    for kind in ("GIF", "TIFF", "ICO", "PDF", "EPS", "TGA"):
        if kind == "EPS":
            yield (
                "another format",
                b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(%pipe%touch executed) (r) file\n",
            )
        else:
            yield "another format", formats.picture(np.zeros((9, 9, 3), np.uint8), kind)
