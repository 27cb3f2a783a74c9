"""Files that others made: whether they are plain files, how long they are, and their bytes.

A pipe, a device or a link to one never ends or never answers; it is refused before it is opened.
"""

from __future__ import annotations

from pathlib import Path


class FileError(ValueError):
    """A file that is not what it should be; the message names it and says what to do."""


def file_size(path: Path) -> int:
    """Length of a file in bytes.

    Raises:
        FileNotFoundError: if there is none (a link that leads nowhere or to itself included).
        ValueError: if it is a folder or another thing that is not a file, or empty.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; correct the path, or put the data set's file there.")
    if not path.is_file():
        raise FileError(f"{path}: expected a file, got a folder or a device; give the folder that holds the data.")
    size = path.stat().st_size
    if size == 0:
        raise FileError(f"{path}: expected data, got an empty file; copy or download it again.")
    return size


def read_whole(path: Path) -> bytes:
    """The bytes of a file, in memory of its length.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: as `file_size`, or if the file got shorter or longer meanwhile.
    """
    size = file_size(path)
    with path.open("rb", buffering=0) as file:
        parts = [file.read(size + 1)]
        while parts[-1] and sum(map(len, parts)) <= size:  # the system gives 2 GB at once, at most
            parts.append(file.read(size + 1 - sum(map(len, parts))))
    if sum(map(len, parts)) != size:
        raise FileError(f"{path} changed while it was read; wait for the program that writes it, then try again.")
    return b"".join(part for part in parts if part) if len(parts[0]) != size else parts[0]
