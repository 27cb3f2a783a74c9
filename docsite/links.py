"""Links that hold in the repository, rewritten for the site.

A page links to files by their path in the repository, which is what GitHub follows. In the site pages of docs/ lie at
the root; a module of the package stands for its page of the reference; any other file is copied into ``source/``.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path

from docsite import reference

PAGES = ("paper_repro.md", "CHANGELOG.md")  # pages outside docs/; the README's place is taken by docs/index.md
_CODE = re.compile(r"^(`{3,}).*?^\1[ ]*$|(`+)(?!`).*?(?<!`)\2(?!`)", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"(?<=\]\()([^)\s]+)(?=\))")


def _relative(target: str) -> bool:
    return "://" not in target and not target.startswith(("#", "mailto:", "/"))


def targets(markdown: str, page: str) -> Iterator[tuple[re.Match[str], str, str]]:
    """Every relative link outside of code: its match, the path in the repository, and the anchor with its ``#``.

    ``page`` is the page's own path in the repository.
    """
    code = [found.span() for found in _CODE.finditer(markdown)]
    for link in _LINK.finditer(markdown):
        if not _relative(link[0]) or any(start <= link.start() < end for start, end in code):
            continue
        path, mark, anchor = link[0].partition("#")
        yield link, posixpath.normpath(posixpath.join(posixpath.dirname(page), path)), mark + anchor


def address(path: str) -> str:
    """Where the site has a file of the repository."""
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    if path == "README.md":
        return "index.md"
    if path in PAGES:
        return path
    if path.startswith("msda_theory/") and path.endswith(".py"):
        return reference.address(reference.module_name(Path(path)))
    return f"source/{path}"


def rewrite(markdown: str, page: str) -> str:
    """Markdown of the page with every link pointing at where the site has its target."""
    folder = posixpath.dirname(address(page)) or "."
    parts, end = [], 0
    for link, path, anchor in targets(markdown, page):
        parts += [markdown[end : link.start()], posixpath.relpath(address(path), folder) + anchor]
        end = link.end()
    return "".join([*parts, markdown[end:]])


def copied(markdown: str, page: str) -> set[str]:
    """Paths of the files outside docs/ that the page links to and the site has to carry.

    Raises:
        FileNotFoundError: if there is no such file.
    """
    found = {path for _, path, _ in targets(markdown, page) if address(path).startswith("source/")}
    for path in sorted(found):
        if not (reference.ROOT / path).is_file():
            raise FileNotFoundError(f"{page} links to {path}, which is no file of the repository; correct the link.")
    return found
