"""Documentation that must stay true: cited equations exist, the README's code runs."""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
import types
from collections import Counter
from pathlib import Path

import pytest
from libraries import timm_mixup, torchvision_v2
from naive import as_users_run_it

ROOT = Path(__file__).parents[1]
THEORY, README, LAWS = ROOT / "docs" / "theory.md", ROOT / "README.md", ROOT / "docs" / "laws.md"
FIRST_LAYER = ROOT / "docs" / "first_layer.md"
TRAINING = ROOT / "docs" / "training.md"
ROBUSTNESS = ROOT / "docs" / "robustness.md"
DROPMIX = ROOT / "docs" / "dropmix.md"
THEORY_TRAINING = ROOT / "docs" / "theory_training.md"
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


def blocks(page: Path) -> list[tuple[int, str]]:
    """First line and text of every python block."""
    text = page.read_text(encoding="utf-8")
    found = re.finditer(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return [(text[: m.start()].count("\n") + 2, m.group(1)) for m in found]


def run_blocks(page: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """All python blocks of a page, in order and in one namespace; those that need a missing package left out."""
    module = types.ModuleType("page")
    monkeypatch.setitem(sys.modules, "page", module)  # dataclasses look their module up
    namespace = vars(module)
    assert blocks(page), f"{page.name} has no python block"
    for line, block in blocks(page):
        if "import kornia" in block and importlib.util.find_spec("kornia") is None:
            continue
        try:
            with as_users_run_it():
                exec(compile("\n" * (line - 1) + block, str(page), "exec"), namespace)
        except Exception as error:
            pytest.fail(f"{page.name}, block at line {line}: {type(error).__name__}: {error}")
    return namespace


@pytest.mark.filterwarnings("ignore:Port .* is already in use")
def test_the_code_of_the_readme_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_blocks(README, monkeypatch)


def test_the_code_of_the_page_on_laws_runs(tmp_path, monkeypatch):
    """With the libraries themselves where they are installed, imported as far as their transforms need."""
    timm, v2 = timm_mixup(), torchvision_v2()
    for name, module in (("timm", timm), ("timm.data", timm), ("timm.data.mixup", timm)):
        monkeypatch.setitem(sys.modules, name, module)
    assert sys.modules["torchvision.transforms.v2"] is v2
    monkeypatch.chdir(tmp_path)
    laws = run_blocks(LAWS, monkeypatch)
    assert laws["law_of_timm"].shape == (224, 224)
    assert laws["law_of_torchvision"].name == "CutMix"


def test_the_code_of_the_page_on_the_first_layer_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "form" in run_blocks(FIRST_LAYER, monkeypatch)


def test_the_code_of_the_page_on_training_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("RUNS", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    outcome = run_blocks(TRAINING, monkeypatch)["outcome"]
    assert len(outcome.records) == 3
    assert not outcome.failures


def test_the_code_of_the_page_on_dropmix_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "terms" in run_blocks(DROPMIX, monkeypatch)


def test_the_code_of_the_page_on_robustness_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert {"first", "report"} <= set(run_blocks(ROBUSTNESS, monkeypatch))


def test_the_code_of_the_page_on_training_on_the_theory_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = run_blocks(THEORY_TRAINING, monkeypatch)["found"]
    assert set(found.terms) == {"r2"}


def test_links_of_the_readme_to_files_exist():
    text = README.read_text(encoding="utf-8")
    targets = [
        t.split("#")[0] for t in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in t and not t.startswith("#")
    ]
    missing = [t for t in targets if t and not (ROOT / t).exists()]
    assert not missing, f"README.md links to {missing}"
