"""Files that others made: whether they are plain files, how long they are, and their bytes.

A pipe, a device or a link to one never ends or never answers; it is refused before it is opened.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path


class FileError(ValueError):
    """A file that is not what it should be; the message names it and says what to do."""


def file_size(path: Path) -> int:
    """Length of a file in bytes.

    Raises:
        FileNotFoundError: if there is none (a link that leads nowhere or to itself included).
        OSError: if the system cannot say: of a name that is too long, or in a folder that may not be entered.
        ValueError: if it is a folder or another thing that is not a file, or empty.
    """
    with _explained(path):
        there, plain = path.exists(), path.is_file()
        size = path.stat().st_size if plain else 0
    if not there:
        raise FileNotFoundError(f"{path} does not exist; correct the path, or put the data set's file there.")
    if not plain:
        raise FileError(f"{path}: expected a file, got a folder or a device; correct the path, or move that away.")
    if size == 0:
        raise FileError(f"{path}: expected data, got an empty file; copy or download it again.")
    return size


def read_whole(path: Path) -> bytes:
    """The bytes of a file, in memory of its length.

    Raises:
        FileNotFoundError: if there is none.
        OSError: if it may not be read.
        ValueError: as `file_size`, or if the file got shorter or longer meanwhile.
    """
    size = file_size(path)
    with _explained(path), path.open("rb", buffering=0) as file:
        parts = [file.read(size + 1)]
        while parts[-1] and sum(map(len, parts)) <= size:  # the system gives 2 GB at once, at most
            parts.append(file.read(size + 1 - sum(map(len, parts))))
    if sum(map(len, parts)) != size:
        raise FileError(f"{path} changed while it was read; wait for the program that writes it, then try again.")
    return b"".join(part for part in parts if part) if len(parts[0]) != size else parts[0]


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Errors of the system with what to do; their kind and number stay."""
    try:
        yield
    except OSError as error:
        error.strerror = f"expected a file to read, got: {error.strerror or error}; correct the path or its permissions"
        error.filename = str(path)
        raise
