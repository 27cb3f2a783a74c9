"""Mutants of a source file: mutmut's operators, applied to every function, decorated ones and properties too.

mutmut itself leaves decorated functions out, since it changes a function in place of which it puts another; here the
whole file is written anew for each mutant. Its operators are used but for those whose mutants say nothing about tests:

- a value or an argument replaced by None, an argument without its name left out: what runs the line at all fails;
- upper and lower case of strings, beside the string with XX around it;
- ``reshape(-2)`` for ``reshape(-1)``, which is the same, and ``zip`` without ``strict``, an assertion.

Not changed: annotations, decorators, imports, docstrings, ``raise`` statements, warnings and f-strings, that is texts
for readers (a test of its own asks for each message that it is matched), ``len`` and ``isinstance``.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import libcst as cst
from libcst.metadata import MetadataWrapper, PositionProvider, WhitespaceInclusivePositionProvider
from mutmut.mutation.mutators import mutation_operators

from experiments.mutant_tests import Mutant

_WHOLE = (cst.Annotation, cst.Decorator, cst.Import, cst.ImportFrom, cst.Raise, cst.FormattedString)
_CALLS = ("len", "isinstance", "warn", "TypeVar", "cast")
_NAMES = ("__all__",)


@dataclass(frozen=True)
class _Site:
    """A node, what it becomes, and its place: in the text, its function, the lines of its statement and its scope."""

    node: cst.CSTNode
    mutated: cst.CSTNode
    start: tuple[int, int]
    end: tuple[int, int]
    function: str
    lines: tuple[int, int]
    scope: tuple[int, int]


def mutants(file: str, source: str) -> list[Mutant]:
    """Every mutant of ``source``, the text of ``file`` [relative path], in the order of the lines; none twice."""
    wrapper = MetadataWrapper(cst.parse_module(source))
    visitor = _Visitor()
    wrapper.visit(visitor)
    found: dict[str, Mutant] = {}
    starts = [0, *accumulate(len(line) for line in source.splitlines(keepends=True))]
    for site in visitor.sites:
        low, high = (starts[line - 1] + column for line, column in (site.start, site.end))
        if source[low:high] == wrapper.module.code_for_node(site.node):
            code = source[:low] + wrapper.module.code_for_node(site.mutated) + source[high:]
        else:  # over lines whose indent the node itself does not hold; slower
            code = wrapper.module.deep_replace(site.node, site.mutated).code
        try:
            compile(code, file, "exec")
        except SyntaxError:
            continue
        before, after = _changed(source, code)
        key = hashlib.sha256(f"{file}\n{code}".encode()).hexdigest()
        if code != source and key not in found:
            found[key] = Mutant(file, site.function, site.lines, site.scope, before, after, code, key)
    return sorted(found.values(), key=lambda m: (m.lines, m.before, m.after))


def _changed(source: str, code: str) -> tuple[str, str]:
    """The lines that differ, stripped and joined."""
    old, new = source.splitlines(), code.splitlines()
    for tag, a, b, c, d in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if tag != "equal":
            return " ".join(x.strip() for x in old[a:b]), " ".join(x.strip() for x in new[c:d])
    return "", ""


class _Visitor(cst.CSTVisitor):
    METADATA_DEPENDENCIES = (PositionProvider, WhitespaceInclusivePositionProvider)

    def __init__(self) -> None:
        super().__init__()
        self.sites: list[_Site] = []
        self._names: list[str] = []
        self._scopes: list[tuple[int, int]] = [(1, 10**9)]
        self._statements: list[tuple[int, int]] = []
        self._left: set[cst.CSTNode] = set()

    def on_visit(self, node: cst.CSTNode) -> bool:
        if isinstance(node, _WHOLE) or _is_call(node) or _is_text(node) or _is_constant_list(node):
            return False
        if node in self._left:
            return False
        self._left |= _left_out(node)
        if isinstance(node, cst.FunctionDef | cst.ClassDef):
            self._names.append(node.name.value)
            self._scopes.append(self._place(node))
        if isinstance(node, cst.SimpleStatementLine | cst.BaseCompoundStatement):
            self._statements.append(self._span(node))
        if self._statements:
            function = ".".join(self._names)
            start, end = self._statements[-1]
            if isinstance(node, cst.BaseExpression | cst.ComparisonTarget):
                # of a compound statement only the lines of the expression itself: its body is no part of it
                low, high = self._place(node)
                start, end = min(start, low), max(end, high)
            for mutated in _mutated(node):
                place: Any = self.get_metadata(WhitespaceInclusivePositionProvider, node)
                at, to = (place.start.line, place.start.column), (place.end.line, place.end.column)
                self.sites.append(_Site(node, mutated, at, to, function, (start, end), self._scopes[-1]))
        return True

    def on_leave(self, original_node: cst.CSTNode) -> None:
        if isinstance(original_node, cst.FunctionDef | cst.ClassDef):
            self._names.pop()
            self._scopes.pop()
        if isinstance(original_node, cst.SimpleStatementLine | cst.BaseCompoundStatement):
            self._statements.pop()

    def _place(self, node: cst.CSTNode) -> tuple[int, int]:
        place: Any = self.get_metadata(PositionProvider, node)
        return place.start.line, place.end.line

    def _span(self, node: cst.CSTNode) -> tuple[int, int]:
        start, end = self._place(node)
        return (start, start) if isinstance(node, cst.BaseCompoundStatement) else (start, end)


def _mutated(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    for kind, operator in mutation_operators:
        if not isinstance(node, kind) or operator.__name__ == "operator_assignment":
            continue
        made = list(operator(node))
        if operator.__name__ == "operator_string":
            made = made[:1]
        if operator.__name__ == "operator_arg_removal":
            if _name(node) == "zip":
                continue
            kept = sum(a.keyword is None for a in _arguments(node))
            made = [m for m in made if _is_shorter(m, node) and sum(a.keyword is None for a in _arguments(m)) == kept]
        yield from made


def _arguments(node: cst.CSTNode) -> Sequence[cst.Arg]:
    return node.args if isinstance(node, cst.Call) else ()


def _left_out(node: cst.CSTNode) -> set[cst.CSTNode]:
    """Parts of a node that are not changed: 1 in ``reshape(-1)``, ``strict=True`` of ``zip``."""
    if not isinstance(node, cst.Call):
        return set()
    if _name(node) == "reshape":
        minus = [a.value for a in node.args if isinstance(a.value, cst.UnaryOperation)]
        return {m.expression for m in minus if isinstance(m.expression, cst.Integer)}
    return {a for a in node.args if _name(node) == "zip" and a.keyword is not None}


def _is_shorter(node: cst.CSTNode, other: cst.CSTNode) -> bool:
    return len(_arguments(node)) < len(_arguments(other))


def _is_call(node: cst.CSTNode) -> bool:
    return isinstance(node, cst.Call) and _name(node) in _CALLS


def _name(node: cst.CSTNode) -> str:
    """Of the function or method that is called."""
    function = node.func if isinstance(node, cst.Call) else None
    name = function.attr if isinstance(function, cst.Attribute) else function
    return name.value if isinstance(name, cst.Name) else ""


def _is_text(node: cst.CSTNode) -> bool:
    return isinstance(node, cst.Expr) and isinstance(node.value, cst.SimpleString | cst.ConcatenatedString)


def _is_constant_list(node: cst.CSTNode) -> bool:
    targets = node.targets if isinstance(node, cst.Assign) else ()
    return any(isinstance(t.target, cst.Name) and t.target.value in _NAMES for t in targets)
