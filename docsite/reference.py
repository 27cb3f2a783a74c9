"""The API reference: an overview of the front page and one page for each module of the package, from docstrings."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = "msda_theory"
GROUPS = {  # title in the navigation -> folder below the package
    "Theory": "",
    "Mask laws": "masks",
    "Moments": "moments",
    "Taylor engine": "jets",
    "Graphs": "graph",
}


def module_name(path: Path) -> str:
    """Dotted name of a file given by its path in the repository."""
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def address(module: str) -> str:
    """Path of the module's page in the site's sources."""
    return "api/index.md" if module == PACKAGE else f"api/{module.removeprefix(PACKAGE + '.').replace('.', '/')}.md"


@cache
def modules() -> tuple[str, ...]:
    """Every public module of the package with something in it; folders themselves hold nothing."""
    files = sorted(p.relative_to(ROOT) for p in (ROOT / PACKAGE).rglob("*.py") if p.name != "__init__.py")
    return tuple(module_name(p) for p in files if not any(part.startswith("_") for part in p.parts))


def _tree(module: str) -> ast.Module:
    path = ROOT / Path(*module.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return ast.parse(path.read_text(encoding="utf-8"))


def summary(module: str) -> str:
    """First paragraph of the module's docstring, in one line."""
    text = ast.get_docstring(_tree(module)) or ""
    return " ".join(text.split("\n\n")[0].split())


def _first_line(node: ast.AST) -> str:
    assert isinstance(node, (ast.ClassDef, ast.FunctionDef))
    return " ".join((ast.get_docstring(node) or "").split("\n\n")[0].split())


def sources() -> dict[str, str]:
    """Name on the front page -> module that defines it."""
    imports = (node for node in _tree(PACKAGE).body if isinstance(node, ast.ImportFrom))
    return {alias.name: str(node.module) for node in imports for alias in node.names}


def front_page() -> list[tuple[str, list[str]]]:
    """The groups of ``__all__``, as its comments name them, with their names."""
    text = (ROOT / PACKAGE / "__init__.py").read_text(encoding="utf-8")
    groups: list[tuple[str, list[str]]] = []
    for line in text.split("__all__ = [", 1)[1].splitlines()[1:]:
        if comment := re.match(r"\s+# (.*)", line):
            groups.append((comment[1], []))
        elif name := re.match(r'\s+"(\w+)"', line):
            groups[-1][1].append(name[1])
    return groups


def _overview() -> Iterator[str]:
    defined = sources()
    yield "# API reference\n"
    yield "`import msda_theory as mt` gives the names below; everything else is imported from its module.\n"
    for title, names in front_page():
        yield f"## {title[0].upper() + title[1:]}\n"
        yield "| name | what it is |\n|---|---|"
        for name in names:
            module = defined[name]
            node = next(n for n in _tree(module).body if getattr(n, "name", None) == name)
            text = _first_line(node).replace("|", "\\|")
            yield f"| [`mt.{name}`][{module}.{name}] | {text} |"
        yield ""
    yield "## Modules\n"
    yield "| module | what it holds |\n|---|---|"
    for module in modules():
        link = address(module).removeprefix("api/")
        text = summary(module).replace("|", "\\|")
        yield f"| [`{module.removeprefix(PACKAGE + '.')}`]({link}) | {text} |"


def pages() -> dict[str, str]:
    """Path in the site's sources -> Markdown of the page."""
    found = {address(PACKAGE): "\n".join(_overview()) + "\n"}
    for module in modules():
        title = module.removeprefix(PACKAGE + ".")
        found[address(module)] = f"---\ntitle: {title}\n---\n\n# `{module}`\n\n::: {module}\n"
    return found


def navigation() -> list[object]:
    """The reference's part of the navigation: the overview, then the modules by folder."""
    entries: list[object] = [address(PACKAGE)]
    for title, folder in GROUPS.items():
        inside = [m for m in modules() if (m.split(".")[1] if m.count(".") > 1 else "") == folder]
        entries.append({title: [{m.removeprefix(PACKAGE + ".").split(".")[-1]: address(m)} for m in inside]})
    return entries
