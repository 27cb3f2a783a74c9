"""Every error message of the project is matched by a test.

For each ``raise`` the constant text of its message is cut into windows of 12 characters; some string in the tests must
contain a window that no other message has. Messages with the same constant text (the method of `expand` and of
`compare`) count as one.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
WIDTH = 12


def constant_text(node: ast.expr | None) -> tuple[str, ...]:
    """Constant fragments of the first argument of an exception."""
    if not isinstance(node, ast.Call) or not node.args:
        return ()
    message = node.args[0]
    parts = message.values if isinstance(message, ast.JoinedStr) else [message]
    return tuple(p.value for p in parts if isinstance(p, ast.Constant) and isinstance(p.value, str))


def raises() -> dict[tuple[str, ...], list[str]]:
    """Fragments of each message -> where it is raised."""
    found: dict[tuple[str, ...], list[str]] = {}
    for path in (
        p
        for folder in ("msda_theory", "experiments", "figures", "docsite")
        for p in sorted((ROOT / folder).rglob("*.py"))
    ):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            # A claim that fails ends an experiment with its status, not with a message.
            if isinstance(node, ast.Raise) and node.exc is not None and "ClaimFailed" not in ast.dump(node.exc):
                place = f"{path.relative_to(ROOT)}:{node.lineno}"
                fragments = constant_text(node.exc)
                assert fragments, f"{place}: an error without a message"
                found.setdefault(fragments, []).append(place)
    return found


def windows(fragments: tuple[str, ...]) -> set[str]:
    return {f[k : k + WIDTH] for f in fragments for k in range(len(f) - WIDTH + 1)}


def strings() -> list[str]:
    """String constants of the tests, docstrings left out, backslashes of regular expressions removed."""
    found = []
    for path in sorted((ROOT / "tests").rglob("*.py")):
        if path == Path(__file__):
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        bare = {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in bare:
                found.append(node.value.replace("\\", ""))
    return found


MESSAGES = raises()
TEXT = "\n".join(strings())


def distinctive(fragments: tuple[str, ...]) -> set[str]:
    """Windows that no other message has; all windows, where every one is shared."""
    own = windows(fragments)
    others = set().union(*(windows(f) for f in MESSAGES if f != fragments))
    return own - others or own


def test_there_are_messages():
    assert len(MESSAGES) > 30
    assert len(TEXT) > 10_000


@pytest.mark.parametrize("fragments", MESSAGES, ids=[",".join(p) for p in MESSAGES.values()])
def test_every_message_is_matched_by_a_test(fragments):
    assert windows(fragments), f"no constant text of {WIDTH} characters in {fragments}: say what was expected"
    assert any(w in TEXT for w in distinctive(fragments)), f"no test matches: {' ... '.join(fragments)}"
