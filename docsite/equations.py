"""Equations as MathML, converted while the site is built, so that readers need neither scripts nor network.

Pages write ``$...$`` and ``$$...$$`` as GitHub reads them; pymdownx.arithmatex marks them, this module converts what is
marked. An equation with ``\\tag{3a}`` shows its number and gets the anchor ``eq-3a``.
"""

from __future__ import annotations

import html
import re

from math_core import LatexError, LatexToMathML

_MARKED = re.compile(
    r'<span class="arithmatex">\\\((?P<inline>.*?)\\\)</span>'
    r'|<div class="arithmatex">\s*\\\[(?P<block>.*?)\\\]\s*</div>',
    re.DOTALL,
)
_TAG = re.compile(r"\s*\\tag\{([^}]*)\}\s*")
_ROW_END = re.compile(r"\\cr(?![a-zA-Z])")  # GitHub's Markdown eats one backslash of "\\"
_CITATION = re.compile(r"Eqs?\.\s+\(\d+[a-z]?\)(?:(?:,|,?\s+and|\s+to|\s+or)\s+\(\d+[a-z]?\))*")
_LABEL = re.compile(r"\((\d+[a-z]?)\)")
_CONVERTER = LatexToMathML(fancy_error=False)


def mathml(latex: str, *, display: bool) -> str:
    """MathML Core of one equation.

    Raises:
        ValueError: if the converter does not know a command or the equation is not well formed.
    """
    source = _ROW_END.sub(r"\\\\", latex.strip())
    try:
        return _CONVERTER.convert_with_local_state(source, displaystyle=display)
    except LatexError as error:
        raise ValueError(
            f"Expected an equation that MathML can show, got {latex!r} ({error}); rewrite it, or extend mathml()."
        ) from error


def _block(latex: str) -> str:
    """A displayed equation in a box of its own that scrolls, with its number beside it."""
    tags = _TAG.findall(latex)
    body = mathml(_TAG.sub(" ", latex), display=True)
    if not tags:
        return f'<div class="equation"><div class="equation-body">{body}</div></div>'
    (tag,) = tags
    number = f'<span class="equation-number">({tag})</span>'
    return f'<div class="equation" id="eq-{tag}"><div class="equation-body">{body}</div>{number}</div>'


def convert(page: str) -> str:
    """HTML of a page with every marked equation converted."""

    def one(found: re.Match[str]) -> str:
        if (block := found["block"]) is not None:
            return _block(html.unescape(block))
        return mathml(html.unescape(found["inline"]), display=False)

    return _MARKED.sub(one, page)


def link_citations(page: str, theory: str) -> str:
    """HTML of a page with the labels of citations such as "Eq. (3a)" linked to the equations of the page ``theory``."""
    return _CITATION.sub(lambda cited: _LABEL.sub(rf'<a href="{theory}#eq-\1">(\1)</a>', cited[0]), page)
