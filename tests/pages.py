"""The pages of the documentation: what blocks, commands, links and headings they have. Found by listing the folder."""

from __future__ import annotations

import re
import shlex
import unicodedata
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "paper_repro.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]

_FENCE = re.compile(
    r"^(?P<indent>[ \t]*)(?P<mark>`{3,})[ \t]*(?P<info>[^\n`]*)\n(?P<body>.*?)^[ \t]*(?P=mark)[ \t]*$",
    re.DOTALL | re.MULTILINE,
)
_INLINE = re.compile(r"(?<!`)`([^`]+)`(?!`)")
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_VARIABLE = re.compile(r"^[A-Z_]+=")


class Block(NamedTuple):
    """A fenced block: language, first line of its body, indentation of the fence, and the body."""

    language: str
    line: int
    indent: str
    body: str


def blocks(page: Path) -> list[Block]:
    """Every fenced block of a page."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(m["info"].strip(), text[: m.start("body")].count("\n") + 1, m["indent"], m["body"])
        for m in _FENCE.finditer(text)
    ]


def prose(page: Path) -> str:
    """The page without its fenced blocks."""
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def links(page: Path) -> list[str]:
    """Targets of the links and images of a page, code left out."""
    return _LINK.findall(_INLINE.sub("", prose(page)))


def anchors(page: Path) -> set[str]:
    """Anchors of the headings of a page, as GitHub makes them."""
    found: dict[str, int] = {}
    for heading in re.findall(r"^#{1,6} +(.*?)[ #]*$", prose(page), re.MULTILINE):
        text = unicodedata.normalize("NFC", heading.replace("`", "")).lower().strip()
        slug = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
        found[slug] = found.get(slug, -1) + 1
    return {slug if k == 0 else f"{slug}-{k}" for slug, number in found.items() for k in range(number + 1)}


def commands(page: Path) -> list[list[str]]:
    """Words of every command of the page: the lines of its sh blocks, and commands in running text."""
    lines = [line for b in blocks(page) if b.language == "sh" for line in b.body.replace("\\\n", " ").splitlines()]
    text = _INLINE.findall(" ".join(prose(page).split()))
    starts = ("python -m ", ".venv/bin/python -m ", "make ", "torchrun ", "pip install ")
    lines += [line for line in text if line.startswith(starts)]
    found = [shlex.split(line, comments=True) for line in lines]
    return [_without_variables(words) for words in found if words]


def _without_variables(words: list[str]) -> list[str]:
    while words and _VARIABLE.match(words[0]):
        words = words[1:]
    return words
