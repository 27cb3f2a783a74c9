"""Pictures made to do harm: sizes beyond the file, bombs, passes without end."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image

from experiments import fuzz_formats as formats


def broken_pictures(whole: bytes, size: int) -> Iterator[tuple[str, bytes]]:
    """Sizes that lie, bombs beside the pixels, other formats."""
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


def long_pictures(whole: bytes, size: int) -> Iterator[tuple[str, bytes]]:
    """Pictures of a single colour that declare as many pixels as ``size`` bytes may, and more work for each."""
    side = int((200 * size) ** 0.5) if size < 2**19 else 5000
    file = io.BytesIO()
    Image.new("L", (side, side), 128).save(file, "JPEG", progressive=True, quality=50)
    jpeg = file.getvalue()
    scan = jpeg[jpeg.rindex(b"\xff\xc4", 0, jpeg.rindex(b"\xff\xda")) : -2]
    for count in (50, 1000):
        more = max(0, side**2 // 340 - len(jpeg) - count * len(scan))
        yield "passes without end", jpeg[:-2] + scan * count + jpeg[-2:] + bytes(more)
    grey = int((150 * size) ** 0.5) if size < 2**19 else 4000
    modes = {"JPEG": ("CMYK", "RGB"), "PNG": ("I;16", "RGBA", "P"), "WEBP": ("RGB", "RGBA")}
    for mode, kind in ((mode, kind) for kind, found in modes.items() for mode in found):
        made = io.BytesIO()
        Image.new(mode, (grey, grey)).save(made, kind)
        content = made.getvalue()
        yield "many pixels of one colour", content + bytes(max(0, grey**2 // 340 - len(content)))
    runs = b"\x01\x01\0\0" * min(side, size) + b"\0\1"
    runs += bytes(max(0, side**2 // 340 - len(runs)))
    start = 54 + 1024
    head = struct.pack("<2sI2HI", b"BM", start + len(runs), 0, 0, start)
    for packed in (1, 2):
        info = struct.pack("<IiiHHIIiiII", 40, side, side, 1, 8 // packed, packed, len(runs), 0, 0, 256, 0)
        yield "run lengths", head + info + bytes(1024) + runs
