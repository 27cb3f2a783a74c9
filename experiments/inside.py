"""Whether names that a configuration holds stay in a folder of the project."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePosixPath


def inside(names: Iterable[str], folder: Path, start: Path) -> None:
    """Refuse names of files or folders, relative to ``start``, that do not lead to something in ``folder``.

    Raises:
        ValueError: if one is no relative path, begins with "-", or leads elsewhere, through links as well.
    """
    top = folder.resolve()
    for name in names:
        plain = name not in ("", "-") and not name.startswith("-") and "\0" not in name
        if not plain or PurePosixPath(name).is_absolute() or not (start / name).resolve().is_relative_to(top):
            raise ValueError(
                f"expected relative paths that lead into {folder.name}/, got {name!r}; name files or folders in it."
            )
