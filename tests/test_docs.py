"""Documentation that must stay true: cited equations exist, the README's code runs."""

from __future__ import annotations

import ast
import re
import sys
import types
from collections import Counter
from pathlib import Path

import pytest
from naive import as_users_run_it

ROOT = Path(__file__).parents[1]
THEORY, README = ROOT / "docs" / "theory.md", ROOT / "README.md"
LABEL = r"\(\d+[a-z]?\)"
CITATION = re.compile(rf"Eqs?\.\s+({LABEL}(?:(?:,|,?\s+and|\s+to|\s+or)\s+{LABEL})*)")


def docstrings(path: Path) -> list[str]:
    nodes = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [ast.get_docstring(n) or "" for n in ast.walk(tree) if isinstance(n, nodes)]


def cited() -> dict[str, set[str]]:
    """Equation label -> modules that cite it."""
    places: dict[str, set[str]] = {}
    for path in sorted((ROOT / "msda_theory").rglob("*.py")):
        for text in docstrings(path):
            for group in CITATION.findall(text):
                for label in re.findall(LABEL, group):
                    places.setdefault(label[1:-1], set()).add(str(path.relative_to(ROOT)))
    return places


def test_every_citation_is_understood():
    """No "Eq." escapes the pattern, so none goes unchecked."""
    for path in sorted((ROOT / "msda_theory").rglob("*.py")):
        for text in docstrings(path):
            assert len(re.findall(r"\bEqs?\.", text)) == len(CITATION.findall(text)), f"{path}: {text}"


def test_cited_equations_are_found():
    assert {"1", "2", "2a", "3", "3a", "3b", "3c", "6", "9"} <= set(cited())


def test_every_cited_equation_exists_once():
    text = THEORY.read_text(encoding="utf-8")
    tags = Counter(re.findall(r"\\tag\{([^}]*)\}", text))
    missing = {label: sorted(places) for label, places in cited().items() if tags[label] != 1}
    assert not missing, f"cited, but not tagged exactly once in {THEORY.name}: {missing}"
    repeated = [tag for tag, count in tags.items() if count > 1]
    assert not repeated, f"tagged more than once: {repeated}"


def test_every_equation_mentioned_in_the_page_exists():
    text = THEORY.read_text(encoding="utf-8")
    tags = set(re.findall(r"\\tag\{([^}]*)\}", text))
    mentioned = {label[1:-1] for group in CITATION.findall(text) for label in re.findall(LABEL, group)}
    assert mentioned <= tags, f"mentioned, but not tagged: {sorted(mentioned - tags)}"


@pytest.mark.filterwarnings("ignore:Port .* is already in use")
def test_the_code_of_the_readme_runs(tmp_path, monkeypatch):
    """All python blocks, in order and in one namespace, in an empty folder."""
    text = README.read_text(encoding="utf-8")
    blocks = [(m.start(), m.group(1)) for m in re.finditer(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)]
    assert blocks, "README.md has no python block"
    monkeypatch.chdir(tmp_path)
    module = types.ModuleType("readme")
    monkeypatch.setitem(sys.modules, "readme", module)  # dataclasses look their module up
    namespace = vars(module)
    for start, block in blocks:
        line = text[:start].count("\n") + 2
        try:
            with as_users_run_it():
                exec(compile("\n" * (line - 1) + block, str(README), "exec"), namespace)
        except Exception as error:
            pytest.fail(f"README.md, block at line {line}: {type(error).__name__}: {error}")


def test_links_of_the_readme_to_files_exist():
    text = README.read_text(encoding="utf-8")
    targets = [
        t.split("#")[0] for t in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in t and not t.startswith("#")
    ]
    missing = [t for t in targets if t and not (ROOT / t).exists()]
    assert not missing, f"README.md links to {missing}"
