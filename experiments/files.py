"""Files of results: written whole or not at all, and JSON that is read strictly."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_DIGITS = 308  # up to which every whole number is one that a float can take
_HALVES = re.compile(rb"\\u[dD][89a-fA-F]")


def write_whole(path: Path, content: bytes) -> None:
    """Write a file under a temporary name, flush it to disk, then rename: readers see all of it or none.

    Raises:
        OSError: if it cannot be written, of the kind and number that the system gave; an older file stays as it was.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    with _explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Errors of the system with what was to be written, what is left, and what to do."""
    try:
        yield
    except OSError as error:
        error.strerror = (
            f"expected to write {path.name}, got: {error.strerror or error}. What was there is as it was; make room or "
            "choose another folder, and start the same command again"
        )
        error.filename = str(path.parent)
        raise


def writable(path: Path) -> None:
    """Raise before hours of work, not after them, if ``path`` cannot be written."""
    probe = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    with _explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()


def parse(content: bytes) -> Any:
    """The value of a JSON file as `write_record` writes it: UTF-8, finite numbers, no key twice.

    Raises:
        ValueError: if it is not such a file, or nested too deeply.
    """
    try:
        value = json.loads(
            content.decode(),
            parse_constant=_not_finite,
            parse_float=_finite,
            parse_int=_whole,
            object_pairs_hook=_each_once,
        )
        if _HALVES.search(content):
            json.dumps(value, ensure_ascii=False).encode()  # halves of characters, which nothing could write again
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    return value


def _not_finite(text: str) -> float:
    raise ValueError(f"{text[:20]} where a finite number belongs")


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _not_finite(text)


def _whole(text: str) -> int:
    if len(text) > _DIGITS:
        _finite(text)
    return int(text)


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object has a key twice")
    return found
