"""Documentation that must stay true: cited equations exist, the code of every page runs, links lead somewhere."""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
import types
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from libraries import timm_mixup, torchvision_v2
from naive import as_users_run_it
from pages import NAMES, PAGES, ROOT, anchors, blocks, links, prose
from slurm import slurm_module

from msda_theory.jets import trace

THEORY = ROOT / "docs" / "theory.md"
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


def run_blocks(page: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """All python blocks of a page, in order and in one namespace; those that need a missing package left out."""
    module = types.ModuleType("page")
    monkeypatch.setitem(sys.modules, "page", module)  # dataclasses look their module up
    namespace = vars(module)
    for block in (b for b in blocks(page) if b.language == "python"):
        if "import kornia" in block.body and importlib.util.find_spec("kornia") is None:
            continue
        try:
            with as_users_run_it():
                exec(compile("\n" * (block.line - 1) + block.body, str(page), "exec"), namespace)
        except Exception as error:
            pytest.fail(f"{page.name}, block at line {block.line}: {type(error).__name__}: {error}")
    return namespace


def with_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    """timm and torchvision themselves, imported as far as their transforms need."""
    timm, v2 = timm_mixup(), torchvision_v2()
    for name, module in (("timm", timm), ("timm.data", timm), ("timm.data.mixup", timm)):
        monkeypatch.setitem(sys.modules, name, module)
    assert sys.modules["torchvision.transforms.v2"] is v2


def with_slurm(monkeypatch: pytest.MonkeyPatch) -> None:
    """dask-jobqueue with a cluster on this machine in the place of Slurm's."""
    monkeypatch.setitem(sys.modules, "dask_jobqueue", slurm_module())


BEFORE = {"docs/laws.md": with_libraries, "docs/howto/cluster.md": with_slurm}
AFTER = {  # what must have come of a page's code
    "docs/laws.md": lambda found: (
        found["law_of_timm"].shape == (224, 224) and found["law_of_torchvision"].name == "CutMix"
    ),
    "docs/howto/cluster.md": lambda found: found["cluster"].jobs == 4 and found["client"].status == "closed",
    "docs/training.md": lambda found: len(found["outcome"].records) == 3 and not found["outcome"].failures,
    "docs/theory_training.md": lambda found: set(found["found"].terms) == {"r2"},
    "docs/dropmix.md": lambda found: found["terms"].clean > 0,
    "docs/robustness.md": lambda found: {"first", "report"} <= set(found),
    "docs/first_layer.md": lambda found: "form" in found,
}
IMPORT = re.compile(r"^(?:from \S+ )?import ", re.MULTILINE)
RUN = [page for page in PAGES if any(b.language == "python" for b in blocks(page))]


@pytest.fixture
def usual_rules():
    """Rules of the engine that a page registers are gone after it."""
    before = dict(trace.RULES)
    yield
    trace.RULES.clear()
    trace.RULES.update(before)
    trace._decompositions.cache_clear()


@pytest.mark.usefixtures("usual_rules")
@pytest.mark.filterwarnings("ignore:Port .* is already in use")
@pytest.mark.parametrize("page", RUN, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_code_of_a_page_runs(page, tmp_path, monkeypatch):
    name = str(page.relative_to(ROOT))
    monkeypatch.setenv("RUNS", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    BEFORE.get(name, lambda _: None)(monkeypatch)
    found = run_blocks(page, monkeypatch)
    assert AFTER.get(name, lambda _: True)(found)


def test_pages_with_code_are_found():
    assert len(RUN) > 12
    assert {str(page.relative_to(ROOT)) for page in RUN} >= {"README.md", *BEFORE, *AFTER}


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_block_is_of_a_kind_that_is_checked(page):
    """A block of Python under another name, or indented, would not be run."""
    for block in blocks(page):
        assert block.language in ("python", "sh", "text"), f"{page.name}, line {block.line}: {block.language!r}"
        assert not block.indent, f"{page.name}, line {block.line}: indented"
        assert block.language == "python" or not IMPORT.search(block.body), f"{page.name}, line {block.line}: Python"
    assert len(re.findall(r"^[ \t]*```", page.read_text(encoding="utf-8"), re.MULTILINE)) == 2 * len(blocks(page))


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_of_a_page_lead_somewhere(page):
    """As GitHub follows them: files of the repository, and anchors of headings."""
    broken = []
    for link in links(page):
        path, _, anchor = link.partition("#")
        if "://" in link:
            continue
        target = (page.parent / path).resolve() if path else page
        there = target.is_file() and ROOT in target.parents
        if not there or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert not broken, f"{page.relative_to(ROOT)} links to {broken}"


def test_anchors_are_those_of_github():
    assert {"3-the-expansion", "31-three-terms", "62-cutmix"} <= anchors(THEORY)
    assert "the-order-ladder-and" not in anchors(THEORY)


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_lists_start_after_an_empty_line(page):
    """GitHub reads a list that follows a paragraph at once; the site's Markdown would run it into the paragraph."""
    lines = prose(page).splitlines()
    item = re.compile(r"\s*(?:[-*]|\d+\.) ")
    for before, line in pairwise(lines):
        starts = item.match(line) and before.strip() and not before.startswith((" ", "<!--")) and not item.match(before)
        assert not starts, f"{page.name}: {line}"
