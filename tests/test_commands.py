"""Commands on the pages exist: modules, their options with these values, targets of make, extras of pip install."""

from __future__ import annotations

import functools
import importlib.util
import re
import runpy
import sys
import tomllib
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import tyro
from pages import NAMES, PAGES, ROOT, commands

EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
TARGETS = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
CLI = tyro.cli


class Parsed(Exception):
    """The command line was understood; what it would have run is left out."""


def parse_only(program: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
    """Stands for `tyro.cli`: reads the command line as it does, and calls no function."""
    if isinstance(program, type):
        CLI(program, *args, **kwargs)
        raise Parsed

    @functools.wraps(program)
    def stub(*_: Any, **__: Any) -> None:
        raise Parsed

    CLI(stub, *args, **kwargs)


def understand(module: str, options: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Start the module as ``python -m`` does, up to the point where its command line is read.

    Raises:
        AssertionError: if there is no such module, or its command line refuses the options.
    """
    assert importlib.util.find_spec(module) is not None, f"there is no module {module}"
    monkeypatch.setattr(tyro, "cli", parse_only)
    monkeypatch.setattr(sys, "argv", [module, *options])
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".* found in sys.modules", category=RuntimeWarning)
            runpy.run_module(module, run_name="__main__", alter_sys=True)
    except Parsed:
        return
    except SystemExit as end:
        if end.code not in (0, None):
            raise AssertionError(f"{module} refuses {options}") from end
        return
    raise AssertionError(f"{module} read no command line")


def check(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    program = words[0].rsplit("/", 1)[-1]
    if program in ("python", "torchrun"):
        place = words.index("-m")
        understand(words[place + 1], words[place + 2 :], monkeypatch)
    elif program == "make":
        assert words[1] in TARGETS, f"the Makefile has no target {words[1]}"
    elif program == "pip":
        for extra in re.findall(r"\[(\w+)\]", " ".join(words)):
            assert extra in EXTRAS, f"pyproject.toml has no extra {extra}"
    else:
        raise AssertionError(f"expected python, torchrun, make or pip, got {words[0]}")


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_the_commands_of_a_page_are_understood(page, monkeypatch, capsys):
    for words in commands(page):
        try:
            check(words, monkeypatch)
        except AssertionError as error:
            pytest.fail(f"{page.relative_to(ROOT)}: {' '.join(words)}: {error}; {capsys.readouterr().err[-400:]}")


def test_there_are_commands():
    assert sum(len(commands(page)) for page in PAGES) > 40
    modules = {words[words.index("-m") + 1] for page in PAGES for words in commands(page) if "-m" in words}
    assert {"experiments.train", "experiments.sweep", "experiments.compare"} <= modules


@pytest.mark.parametrize(
    "command",
    [
        "python -m experiments.trane",
        "python -m experiments.train --strategies cutmix",
        "python -m experiments.train --strategy cutmax",
        "python -m experiments.train --epochs many",
        "make reproduced",
        "pip install '.[clusters]'",
        "conda install torch",
    ],
)
def test_a_stale_command_is_seen(command, monkeypatch, capsys):
    with pytest.raises((AssertionError, ValueError)):
        check(command.replace("'", "").split(), monkeypatch)
