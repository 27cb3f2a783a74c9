"""Files that others made: whether they are plain files, how long they are, and their bytes.

A pipe, a device or a link to one never ends or never answers; it is refused before it is opened. A file may be longer
than what it takes on disk (a sparse one, all zeros): what cannot fit into memory is refused before memory is taken.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

AnyPath = str | os.PathLike[str]


class FileError(ValueError):
    """A file that is not what it should be; the message names it and says what to do."""


def file_size(path: AnyPath) -> int:
    """Length of a file in bytes.

    Raises:
        FileNotFoundError: if there is none (a link that leads nowhere included).
        OSError: if the system cannot say: of a name that is too long, a link to itself, or in a folder that may not be
            entered.
        ValueError: if it is a folder or another thing that is not a file, or empty.
    """
    path, there = Path(path), True
    with _explained(path):
        try:
            found = path.stat()
        except (FileNotFoundError, NotADirectoryError, ValueError):  # the last of names that hold a NUL
            there = False
    plain, size = there and stat.S_ISREG(found.st_mode), found.st_size if there else 0
    if not there:
        raise FileNotFoundError(f"{path} does not exist; correct the path, or put the data set's file there.")
    if not plain:
        raise FileError(f"{path}: expected a file, got a folder or a device; correct the path, or move that away.")
    if size == 0:
        raise FileError(f"{path}: expected data, got an empty file; copy or download it again.")
    return size


def check_fits(path: AnyPath, size: int) -> None:
    """Refuse what no file needs that is to be read: more bytes than the machine has memory, where the system says.

    Raises:
        ValueError: then.
    """
    memory = _memory()
    if size > memory > 0:
        raise FileError(f"{path}: expected a file that fits into {memory} bytes of memory, got {size}; copy it again.")


def _memory() -> int:
    """Bytes of the machine's memory; 0 where the system does not say."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return 0


@contextlib.contextmanager
def memory_of(path: AnyPath) -> Iterator[None]:
    """The system's refusal of memory as an error that names the file.

    Raises:
        ValueError: then.
    """
    try:
        yield
    except MemoryError as error:
        raise FileError(f"{path} needs more memory than there is; free some, or copy the file again.") from error


def read_whole(path: AnyPath, *, most: int | None = None) -> bytes:
    """The bytes of a file, in memory of its length.

    Args:
        path: the file.
        most: bytes that such a file may have; as many as the machine has memory by default.

    Raises:
        FileNotFoundError: if there is none.
        OSError: if it may not be read.
        ValueError: as `file_size`, if it is longer than ``most`` or than memory, or got shorter or longer meanwhile.
    """
    path = Path(path)
    size = file_size(path)
    if most is not None and size > most:
        raise FileError(f"{path}: expected at most {most} bytes in a file of its kind, got {size}; copy it again.")
    check_fits(path, size)
    with _explained(path), memory_of(path), path.open("rb", buffering=0) as file:
        parts = [file.read(size + 1)]
        while parts[-1] and sum(map(len, parts)) <= size:  # the system gives 2 GB at once, at most
            parts.append(file.read(size + 1 - sum(map(len, parts))))
        content = b"".join(part for part in parts if part) if len(parts[0]) != size else parts[0]
    if sum(map(len, parts)) != size:
        raise FileError(f"{path} changed while it was read; wait for the program that writes it, then try again.")
    return content


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Errors of the system with what to do; their kind and number stay."""
    try:
        yield
    except OSError as error:
        error.strerror = f"expected a file to read, got: {error.strerror or error}; correct the path or its permissions"
        error.filename = str(path)
        raise
