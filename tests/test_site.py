"""The documentation site: built strictly, complete, with its equations, and readable without a network."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from filelock import FileLock
from pages import PAGES, ROOT, prose

import msda_theory
from docsite import equations, links, reference

ELSEWHERE = ("http", "https", "mailto", "data", "javascript")


@pytest.fixture(scope="session")
def site(tmp_path_factory) -> Path:
    """The built site; made once, also where several processes run the tests."""
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder, done = base / "site", base / "site.done"
    with FileLock(base / "site.lock"):
        if not done.exists():
            command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
            env = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
            made = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
            assert made.returncode == 0, made.stderr[-4000:]
            assert "WARNING" not in made.stderr
            done.touch()
    return folder


class _Page(HTMLParser):
    """Ids, links, what is loaded, and the number of equations of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.equations = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.ids |= {value for name in ("id", "name") if (value := values.get(name))}
        self.equations += tag == "math"
        if tag == "a" and values.get("href"):
            self.links.append(values["href"] or "")
        source = values.get("href" if tag == "link" else "src")
        if source and (tag != "link" or values.get("rel") in ("stylesheet", "preload", "icon", "preconnect")):
            self.loaded.append(source)


@cache
def read(page: Path) -> _Page:
    found = _Page()
    found.feed(page.read_text(encoding="utf-8"))
    return found


def html_of(page: Path, site: Path) -> Path:
    """The built page of a Markdown page of the repository."""
    return site / links.address(str(page.relative_to(ROOT))).replace(".md", ".html")


# --- the reference --------------------------------------------------------------------------------------------------


def test_every_name_of_the_front_page_is_in_the_reference(site):
    overview = (site / "api" / "index.html").read_text(encoding="utf-8")
    assert sorted(n for _, names in reference.front_page() for n in names) == sorted(msda_theory.__all__)
    for name in msda_theory.__all__:
        module = reference.sources()[name]
        page = site / reference.address(module).replace(".md", ".html")
        assert f"{module}.{name}" in read(page).ids
        assert f'href="{page.relative_to(site / "api")}#{module}.{name}"' in overview


def public(module: str) -> list[str]:
    """Public functions and classes that a module defines."""
    path = ROOT / (module.replace(".", "/") + ".py")
    nodes = ast.parse(path.read_text(encoding="utf-8")).body
    return [n.name for n in nodes if isinstance(n, ast.ClassDef | ast.FunctionDef) and not n.name.startswith("_")]


def test_every_public_module_has_a_page_with_all_it_defines(site):
    files = {p for p in (ROOT / "msda_theory").rglob("*.py") if not p.name.startswith("_")}
    assert len(reference.modules()) == len(files) > 50
    for module in reference.modules():
        ids = read(site / reference.address(module).replace(".md", ".html")).ids
        missing = [name for name in public(module) if f"{module}.{name}" not in ids]
        assert not missing, f"{module}: {missing}"


def test_every_module_is_in_the_navigation():
    listed = re.findall(r"api/[\w/]+\.md", str(reference.navigation()))
    assert sorted(listed) == sorted(reference.pages())


# --- equations ------------------------------------------------------------------------------------------------------


def written(page: Path) -> list[str]:
    """Equations in the source of a page, found apart from the site's own reading."""
    text = re.sub(r"`[^`\n]*`", "", prose(page))
    return [a or b for a, b in re.findall(r"\$\$(.+?)\$\$|\$([^$]+?)\$", text, re.DOTALL)]


@pytest.mark.parametrize("page", [p for p in PAGES if p.name != "README.md"], ids=lambda p: str(p.relative_to(ROOT)))
def test_every_equation_of_a_page_is_shown(page, site):
    built = html_of(page, site)
    assert read(built).equations == len(written(page))
    text = built.read_text(encoding="utf-8")
    assert "arithmatex" not in text
    for tag in re.findall(r"\\tag\{([^}]*)\}", prose(page)):
        assert f'<span class="equation-number">({tag})</span>' in text
        assert f"eq-{tag}" in read(built).ids


def test_there_are_equations():
    assert len(written(ROOT / "docs" / "theory.md")) > 500


def test_an_equation_becomes_mathml():
    row = r'<div class="arithmatex">\[ \begin{aligned} a&amp;=\bar q, \cr b&amp;\lt 2 \end{aligned} \tag{3a} \]</div>'
    html = equations.convert(f'<p>in <span class="arithmatex">\\(\\mathbb E_i\\)</span></p>{row}')
    assert "<p>in <math><msub><mi>𝔼</mi><mi>i</mi></msub></math></p>" in html
    assert html.count("<mtr>") == 2
    assert '<span class="equation-number">(3a)</span>' in html
    assert '<div class="equation" id="eq-3a">' in html
    assert "\\" not in html


def test_an_unknown_command_is_an_error():
    with pytest.raises(ValueError, match=r"Expected an equation that MathML can show, got '\\\\nosuch"):
        equations.mathml(r"\nosuch x", display=False)


def test_citations_link_to_equations():
    html = equations.link_citations("see Eq. (3a), or Eqs. (5) and (5b); not (7)", "../theory.html")
    assert html.count("../theory.html#eq-") == 3
    assert '<a href="../theory.html#eq-5b">(5b)</a>; not (7)' in html


# --- links ----------------------------------------------------------------------------------------------------------


def test_links_of_the_site_lead_somewhere(site):
    pages = sorted(p for p in site.rglob("*.html") if p.name != "404.html")
    assert len(pages) > 90
    broken = []
    for page in pages:
        for link in read(page).links:
            parts = urlsplit(link)
            if parts.scheme in ELSEWHERE:
                continue
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            target = target / "index.html" if target.is_dir() else target
            anchor = unquote(parts.fragment) if target.suffix == ".html" else ""
            if not target.is_file() or (anchor and not anchor.startswith("__") and anchor not in read(target).ids):
                broken.append((page.relative_to(site), link))
    assert not broken, broken[:20]


def test_nothing_is_loaded_from_elsewhere(site):
    for page in site.rglob("*.html"):
        for source in read(page).loaded:
            assert not urlsplit(source).netloc, f"{page.relative_to(site)} loads {source}"
    for sheet in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(?:https?:)?//", sheet.read_text(encoding="utf-8")), sheet


def test_links_are_rewritten_for_the_site():
    text = "[a](../paper_repro.md#x) [b](theory.md) [c](../experiments/records/mask_coefficients.json) `[d](../e.md)` [f](https://g.org)"
    assert links.rewrite(text, "docs/findings.md") == (
        "[a](paper_repro.md#x) [b](theory.md) [c](source/experiments/records/mask_coefficients.json) `[d](../e.md)` [f](https://g.org)"
    )
    assert links.copied(text, "docs/findings.md") == {"experiments/records/mask_coefficients.json"}
    assert links.rewrite("[a](docs/figures/a.png)", "paper_repro.md") == "[a](figures/a.png)"
    howto = links.rewrite(
        "[a](../../msda_theory/masks/base.py) [b](../../msda_theory/__init__.py)", "docs/howto/gpu.md"
    )
    assert howto == "[a](../api/masks/base.md) [b](../api/index.md)"


def test_a_link_to_a_missing_file_stops_the_build():
    with pytest.raises(FileNotFoundError, match=r"no_such\.py, which is no file of the repository; correct the link"):
        links.copied("[x](../experiments/no_such.py)", "docs/findings.md")
