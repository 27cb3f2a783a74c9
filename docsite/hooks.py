"""What MkDocs calls while it builds the site; `mkdocs.yml` names this file."""

from __future__ import annotations

import posixpath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from docsite import equations, links, reference


def _repository_path(file: File) -> str:
    """Path in the repository of a page's Markdown; pages of the reference have none, their links are the site's."""
    return file.src_uri if file.src_uri in links.PAGES else f"docs/{file.src_uri}"


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the generated reference where the navigation says "API reference"."""
    assert config.nav is not None
    config.nav = [{"API reference": reference.navigation()} if e == "API reference" else e for e in config.nav]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the reference, the pages outside docs/, and the files that pages link to."""
    for name, text in reference.pages().items():
        files.append(File.generated(config, name, content=text))
    for name in links.PAGES:
        files.append(File.generated(config, name, abs_src_path=str(reference.ROOT / name)))
    wanted: set[str] = set()
    for file in files.documentation_pages():
        if not file.src_uri.startswith("api/"):
            wanted |= links.copied(file.content_string, _repository_path(file))
    for path in sorted(wanted):
        files.append(File.generated(config, links.address(path), abs_src_path=str(reference.ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point links at where the site has their targets."""
    if page.file.src_uri.startswith("api/"):
        return markdown
    return links.rewrite(markdown, _repository_path(page.file))


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Convert equations; link citations of them to the page on theory."""
    theory = posixpath.relpath("theory.html", posixpath.dirname(page.file.dest_uri) or ".")
    return equations.link_citations(equations.convert(html), "" if page.file.src_uri == "theory.md" else theory)
