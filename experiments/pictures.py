"""Pictures in folders, one folder a class: their list, and one picture decoded, cropped and resized with Pillow."""

from __future__ import annotations

import io
import math
import re
import warnings
import zlib
from pathlib import Path

import numpy as np
from jaxtyping import Int64, UInt8
from numpy import ndarray as Array
from PIL import Image

from experiments.readers import is_name
from msda_theory.files import AnyPath, FileError, memory_of, read_whole

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".ppm"})
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "PPM")  # of the content: a JPEG named .png is read
_PIXELS = 2**26
_LONGEST = 2**30  # bytes of a file, at most: 2^26 pixels of 16 bytes, as many as PPM in words takes
_FREE = 2**19  # pixels that any file may have, as one of a single colour does
_DENSEST = 1032 // 3  # pixels of three bytes for each byte of a file: what deflate can do, beyond any photograph
_SCANS = 64  # of a JPEG file, each of which passes over all pixels; cameras and programs write 10 or so
_MARKER = re.compile(rb"\xff([^\x00\x01\xd0-\xd7\xff])")  # those with a length, and the end
_SCALE, _RATIO = (0.08, 1.0), (math.log(3 / 4), math.log(4 / 3))

Box = tuple[float, float, float, float]  # left, upper, right, lower


def class_folders(folder: AnyPath) -> tuple[list[Path], Int64[Array, " m"], tuple[str, ...]]:
    """Pictures of ``folder/<class>/*``, in order of class and file name.

    Hidden files and folders, files beside the class folders, and files with other endings than `SUFFIXES` do not count.

    Returns:
        paths [m], labels [m] (0, 1, ... in the order of the class folders' names) and the names.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: if it has no class folder, or one has no picture.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder; expected one with a folder of pictures for each class.")
    classes = sorted((p for p in folder.iterdir() if p.is_dir() and p.name[0] != "."), key=lambda p: p.name)
    if not classes:
        raise ValueError(f"{folder}: expected a folder of pictures for each class, got no folder; sort them by class.")
    paths: list[Path] = []
    counts = []
    for place in classes:
        found = [p for p in place.iterdir() if p.suffix.lower() in SUFFIXES and p.name[0] != "."]
        if not found:
            endings = " ".join(sorted(SUFFIXES))
            raise ValueError(f"{place}: expected pictures ({endings}), got none; add some or delete the class folder.")
        paths += sorted(found, key=lambda p: p.name)
        counts.append(len(found))
    for place in classes:
        if not is_name(place.name):  # Python has bytes that are no UTF-8 as halves of characters
            raise ValueError(
                f"{folder}: the class folder {place.name!r} has a name that is not UTF-8, or blank; rename it."
            )
    return paths, np.repeat(np.arange(len(classes)), counts), tuple(p.name for p in classes)


def read_picture(path: AnyPath, size: int, rng: np.random.Generator | None = None) -> UInt8[Array, "3 size size"]:
    """One picture as RGB, ``size`` pixels a side.

    With ``rng``, for training: a random crop of 8 % to 100 % of the area and a ratio of 3:4 to 4:3, resized, mirrored
    with probability 1/2. Without, for evaluation: the shorter side is resized to 8/7 of ``size`` and the centre
    cropped, both in one step. Bilinear with antialiasing. Large JPEG files are decoded at 1/2, 1/4 or 1/8 of their
    size where that leaves the pixels needed. The orientation that a camera stored beside the pixels does not count.

    Raises:
        FileNotFoundError: if the file is missing.
        ValueError: if it is not a whole picture of at most 2^26 pixels and 2^30 bytes, has numbers for pixels (PFM),
            is a JPEG file of more than 64 scans, or a BMP file with run lengths.
    """
    try:
        with warnings.catch_warnings(), memory_of(path):
            warnings.simplefilter("ignore")  # about the metadata of files that decode
            # From memory: a broken length inside a file then asks for no more bytes than the file has.
            content = read_whole(path, most=_LONGEST)
            if _scans(content) > _SCANS:
                raise ValueError(f"it is a JPEG file of more than {_SCANS} scans")
            _bounded(_webp_size(content), len(content))  # Pillow takes memory for all of them as it opens the file
            with Image.open(io.BytesIO(_plain_png(content)), formats=_FORMATS) as image:
                width, height = image.size
                _bounded((width, height), len(content))
                if any(tile[0] == "bmp_rle" for tile in image.tile):  # decoded byte by byte, in Python
                    raise ValueError("it is a BMP file with run lengths; save it as PNG")
                box = _centre_box(width, height) if rng is None else _random_box(width, height, rng)
                image.draft("RGB", _enough(image.size, box, size))
                x, y = image.width / width, image.height / height
                scaled = (box[0] * x, box[1] * y, min(box[2] * x, image.width), min(box[3] * y, image.height))
                rgb = _eight_bits(image).convert("RGB").resize((size, size), Image.Resampling.BILINEAR, scaled)
    except (FileNotFoundError, FileError):
        raise
    except Exception as error:  # decoders of broken files raise anything
        raise ValueError(f"{path} does not decode as a picture ({error}); replace or delete it.") from error
    pixels = np.asarray(rgb).transpose(2, 0, 1)
    mirrored = rng is not None and rng.random() < 0.5
    return np.ascontiguousarray(pixels[:, :, ::-1] if mirrored else pixels)


def _bounded(size: tuple[int, int], length: int) -> None:
    """Raise if a file of ``length`` bytes may not have so many pixels."""
    width, height = size
    if width * height > min(_PIXELS, _DENSEST * length + _FREE):
        raise ValueError(f"{width} x {height} pixels are more than {_PIXELS}, or than its length can hold")


def _webp_size(content: bytes) -> tuple[int, int]:
    """Width and height that a WebP file declares, in its first chunk (RFC 9649, 2.5 to 2.7); (0, 0) of other files."""
    if not (content.startswith(b"RIFF") and content[8:12] == b"WEBP"):
        return 0, 0
    if content[12:16] == b"VP8X":
        return 1 + int.from_bytes(content[24:27], "little"), 1 + int.from_bytes(content[27:30], "little")
    if content[12:16] == b"VP8L":
        packed = int.from_bytes(content[21:25], "little")
        return 1 + (packed & 0x3FFF), 1 + (packed >> 14 & 0x3FFF)
    if content[12:16] == b"VP8 ":
        width, height = (int.from_bytes(content[k : k + 2], "little") & 0x3FFF for k in (26, 28))
        return width, height
    raise ValueError("it is a WebP file that does not begin with its picture")


def _plain_png(content: bytes) -> bytes:
    """A PNG file without its texts and profiles, which inflate to up to 64 MB; others as they are.

    Whole chunks (length, name, data, checksum) stay if the first letter of their name is a capital, which the format
    gives to those that pixels need, or if they hold the transparent colour. Their checksums are compared here, since
    Pillow passes over those of pixels.
    """
    magic, place = b"\x89PNG\r\n\x1a\n", 8
    if not content.startswith(magic):
        return content
    kept = [magic]
    while place + 12 <= len(content):
        end = place + 12 + int.from_bytes(content[place : place + 4], "big")
        name = content[place + 4 : place + 8]
        if name == b"IDAT" or (end <= len(content) and (name[:1].isupper() or name == b"tRNS")):
            if end <= len(content) and zlib.crc32(content[place + 4 : end - 4]) != int.from_bytes(
                content[end - 4 : end]
            ):
                raise ValueError("the checksum of a part of it is wrong")
            kept.append(content[place:end])
        place = end
    return b"".join(kept)


def _scans(content: bytes) -> int:
    """Scans of a JPEG file, up to one more than are allowed; 0 of other files."""
    if not content.startswith(b"\xff\xd8"):
        return 0
    place, count = 2, 0
    while count <= _SCANS and (mark := _MARKER.search(content, place)) and mark[1] != b"\xd9":
        count += mark[1] == b"\xda"
        place = mark.end() + int.from_bytes(content[mark.end() : mark.end() + 2], "big")
    return count


def _eight_bits(image: Image.Image) -> Image.Image:
    """Grey values of 16 bits as 8 bits, which Pillow would cut off at 255; other pictures as they are."""
    if image.mode == "F":
        raise ValueError("its pixels are numbers of any size, which have no white")
    if not image.mode.startswith("I"):
        return image
    values = np.asarray(image).astype(np.int32)
    values += 128
    values //= 257  # v / 257 rounded; 257 is odd, so that no value lies between two
    return Image.fromarray(values.clip(0, 255).astype(np.uint8))


def _centre_box(width: int, height: int) -> Box:
    side = min(width, height) * 7 / 8
    left, upper = (width - side) / 2, (height - side) / 2
    return left, upper, left + side, upper + side


def _random_box(width: int, height: int, rng: np.random.Generator) -> Box:
    """The crop of the usual ImageNet recipe: ten tries for area and ratio, then the centre."""
    for _ in range(10):
        area, ratio = width * height * rng.uniform(*_SCALE), math.exp(rng.uniform(*_RATIO))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, upper = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
            return left, upper, left + w, upper + h
    w, h = min(width, max(1, round(height * 4 / 3))), min(height, max(1, round(width * 4 / 3)))
    left, upper = (width - w) // 2, (height - h) // 2
    return left, upper, left + w, upper + h


def _enough(whole: tuple[int, int], box: Box, size: int) -> tuple[int, int]:
    """The size of the whole picture at which the box has ``size`` pixels a side."""
    return math.ceil(whole[0] * size / (box[2] - box[0])), math.ceil(whole[1] * size / (box[3] - box[1]))
