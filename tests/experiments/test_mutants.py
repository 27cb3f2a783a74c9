"""The search for faults that tests miss, on a module of a few lines: what is killed, what survives, what is made."""

from __future__ import annotations

import importlib.machinery
import json
from dataclasses import replace
from pathlib import Path

import pytest

from experiments import mutant_runner, mutant_server, mutant_tests, mutants
from experiments.mutant_runner import Answer
from experiments.mutant_tests import Measured, Mutant, Project, Server
from experiments.record import ROOT

CODE = '''"""Toy."""


def larger(a: int, b: int) -> int:
    """The larger one."""
    if a > b:
        return a
    return b


def count(n: int) -> int:
    """n, slowly."""
    k = 0
    while k < n:
        k += 1
    return k


LIMIT = 3
'''
TESTS = """import os

import pytest

import toy


@pytest.mark.parametrize("pair", [(1, 2), (2, 1)])
def test_larger(pair):
    assert toy.larger(*pair) == 2


def test_count():
    assert toy.count(2) == 2


def test_limit():
    assert toy.LIMIT == 3
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    pytest.importorskip("coverage", reason="needs the extra mutation")
    root = tmp_path_factory.mktemp("toy")
    (root / "toy.py").write_text(CODE, encoding="utf-8")
    (root / "test_toy.py").write_text(TESTS, encoding="utf-8")
    (root / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    return Project(root, ("toy.py",), ("test_toy.py",), "", 60.0, 60.0, root / "log", patience=0.5)


def mutant(before: str, after: str) -> Mutant:
    assert CODE.count(before) == 1
    line = CODE[: CODE.index(before)].count("\n") + 1
    source = CODE.replace(before, after)
    return Mutant("toy.py", "f", (line, line), (1, 99), before, after, source, f"{before} {after}")


KILLED = mutant("a > b", "a < b")
SURVIVES = mutant("a > b", "a >= b")
ENDLESS = mutant("k += 1", "k += 0")
DIES = mutant("k = 0", "import os; os.abort()")
NO_IMPORT = mutant("LIMIT = 3", "LIMIT = 1 / 0")
CONSTANT = mutant("LIMIT = 3", "LIMIT = 4")
ALL = (KILLED, SURVIVES, ENDLESS, DIES, NO_IMPORT, CONSTANT)


@pytest.fixture(scope="module")
def found(project):
    """The tests, as they were measured, and the answers."""
    server = Server(project)
    tests = mutant_tests.measured(project, server)
    server.close()
    return tests, mutant_runner.search(project, ALL, tests, 1)


def test_tests_are_measured_with_the_lines_that_they_run(project, found):
    lines = {t.name: t.lines["toy.py"] for t in found[0]}
    assert lines == {
        "test_toy.py::test_larger[pair0]": {6, 8},
        "test_toy.py::test_larger[pair1]": {6, 7},
        "test_toy.py::test_count": {13, 14, 15, 16},
    }


def test_mutants_are_killed_by_a_test_by_time_or_by_a_crash_or_survive(found):
    outcomes = {k: a.outcome for k, a in found[1].items()}
    assert outcomes == {
        KILLED.key: "test",
        SURVIVES.key: "survived",
        ENDLESS.key: "time",
        DIES.key: "crash",
        NO_IMPORT.key: "test",
        CONSTANT.key: "survived",  # the one test that would notice runs no line of the file
    }
    assert found[1][KILLED.key].test.startswith("test_toy.py::test_larger[")
    assert found[1][NO_IMPORT.key].test == "test_toy.py"


def test_nothing_is_written_into_the_tree(project, found):
    assert (project.root / "toy.py").read_text(encoding="utf-8") == CODE
    assert sorted(p.name for p in project.root.iterdir()) == ["log", "pytest.ini", "test_toy.py", "toy.py"]


def test_answers_are_kept_and_asked_again_only_where_tests_changed(project, found, monkeypatch):
    asked: list[str] = []

    def examine(self, server, mutant, old=None):
        asked.append(mutant.key)
        return Answer(mutant.key, "survived", "", {t.file: t.digest for t in self.plan(mutant, old)}, 0.0, 60.0)

    monkeypatch.setattr(mutant_runner.Search, "examine", examine)
    tests, answers = found
    assert mutant_runner.search(project, ALL, tests, 1) == answers
    assert asked == []
    with (project.log / "answers.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"key": "cut o')  # a run that was killed while it wrote
    assert mutant_runner.search(project, ALL, tests, 1) == answers
    changed = [replace(t, digest="other") for t in tests]
    copy = replace(project, log=project.log.with_name("other"))
    copy.log.mkdir()
    (copy.log / "answers.jsonl").write_bytes((project.log / "answers.jsonl").read_bytes())
    mutant_runner.search(copy, ALL, changed, 1)
    assert set(asked) == {m.key for m in ALL}


def test_tests_that_fail_on_the_code_as_it_is_are_named(project, found):
    tests, answers = found
    assert list(mutant_runner.unsound(project, answers.values(), tests)) == []
    (project.root / "test_wrong.py").write_text("def test_wrong():\n    assert False\n", encoding="utf-8")
    wrong = Answer("k", "test", "test_wrong.py::test_wrong", {}, 0.0, 60.0)
    assert list(mutant_runner.unsound(project, [wrong], tests)) == ["test_wrong.py::test_wrong"]
    server = Server(project)
    with pytest.raises(RuntimeError, match="expected tests that pass on the code as it is"):
        mutant_tests.measured(replace(project, tests=("test_wrong.py",)), server)
    server.close()
    (project.root / "test_wrong.py").unlink()


def test_a_process_that_has_died_and_a_run_that_broke_are_no_answers(project):
    server = Server(project)
    assert server.ask(files=["test_toy.py"], tests=["test_toy.py::test_limit"])["code"] == 0
    server._process.kill()
    with pytest.raises(RuntimeError, match="expected an answer from the process that runs tests, got its end"):
        server.ask(files=["test_toy.py"], tests=[])
    server.close()
    broke = {"signal": None, "code": 3, "failed": None, "broken": None}
    with pytest.raises(RuntimeError, match="expected tests that pass or fail, got from pytest"):
        mutant_runner._outcome(broke)


def test_the_mutated_text_is_found_in_place_of_the_file(tmp_path, monkeypatch):
    """As text only: what was compiled from the file itself is not looked at."""
    kind = importlib.machinery.SourceFileLoader
    for name in ("get_data", "path_stats"):
        monkeypatch.setattr(kind, name, getattr(kind, name))
    own, other = tmp_path / "own.py", tmp_path / "other.py"
    for file in (own, other):
        file.write_text("X = 1\n", encoding="utf-8")
    mutant_server.replace(own, "X = 2\n")
    loaders = [kind(file.stem, str(file)) for file in (own, other)]
    assert [loader.get_data(loader.path) for loader in loaders] == [b"X = 2\n", b"X = 1\n"]
    assert loaders[1].path_stats(str(other))["size"] == 6
    with pytest.raises(OSError, match="the compiled file is that of another text"):
        loaders[0].path_stats(str(own))


def named(name: str, seconds: float, lines: int = 1) -> Measured:
    return Measured(name, seconds, {"f.py": frozenset(range(lines))}, "")


def test_quick_tests_come_first_and_further_cases_of_one_function_later():
    tests = [named("slow", 0.5), named("a[1]", 0.1), named("a[2]", 0.1), named("a[3]", 0.1), named("b[x]", 0.13)]
    ordered = mutant_tests.order(tests)
    assert [t.name for t in ordered] == ["a[1]", "a[2]", "b[x]", "a[3]", "slow"]
    assert [t.name for t in mutant_tests.first(ordered, 0.25)] == ["a[1]", "a[2]"]
    assert [t.name for t in mutant_tests.first([named("slow", 9.0), named("b", 0.1)], 1.0)] == ["slow"]


def test_tests_that_run_few_lines_come_before_those_that_run_many():
    tests = [named("all", 0.01, 500), named("part", 0.1, 20), named("one", 0.5, 3)]
    assert [t.name for t in mutant_tests.order(tests)] == ["one", "part", "all"]


def test_survivors_meet_their_explanations():
    made = [KILLED, SURVIVES, CONSTANT]
    answers = {
        KILLED.key: Answer(KILLED.key, "test", "t", {}, 1.0, 60.0),
        SURVIVES.key: Answer(SURVIVES.key, "survived", "", {}, 1.0, 60.0),
        CONSTANT.key: Answer(CONSTANT.key, "survived", "", {}, 1.0, 60.0),
    }
    entry = {
        "file": "toy.py",
        "function": "f",
        "before": "a > b",
        "after": ["a >= b"],
        "kind": "equivalent",
        "why": "w",
    }
    result = mutants.summary(made, answers, [entry], 0.3, [])
    assert result["total"]["killed"] == 1
    assert result["kinds"] == {"equivalent": 1, "unexplained": 1}
    assert [s["kind"] for s in result["survivors"]] == ["equivalent", "unexplained"]
    assert [c["holds"] for c in result["checks"]] == [True, False, True, True]
    other = {**entry, "after": ["a >= b", "a < b"]}
    result = mutants.summary(made, answers, [other], 0.5, ["t"])
    assert [c["holds"] for c in result["checks"]] == [False, False, False, False]


def test_every_explanation_is_of_a_known_kind():
    entries = json.loads(mutants.SURVIVORS.read_text(encoding="utf-8"))
    for entry in entries:
        assert set(entry) == {"file", "function", "before", "after", "kind", "why"}
        assert entry["kind"] in mutants.KINDS
        assert entry["before"] in " ".join(
            line.strip() for line in (ROOT / entry["file"]).read_text(encoding="utf-8").splitlines()
        )
        assert entry["after"]
        assert entry["why"]


def test_names_without_files_are_refused():
    with pytest.raises(ValueError, match="expected files of Python in"):
        mutants.Config(parts=("nothing",)).project(Path("results"))


def test_operators_change_decorated_functions_and_no_texts():
    pytest.importorskip("mutmut", reason="needs the extra mutation")
    from experiments.mutant_operators import mutants as made

    source = '''"""Module."""
from functools import cache

@cache
def f(x: int = 1, *, name: str = "n") -> float:
    """Doc."""
    if x < 0:
        raise ValueError("text", 1 + 1)
    y = sum([x], start=2)
    return y * x if name == "n" else f"{x + 1}"
'''
    found = made("m.py", source)
    changes = {(m.before, m.after) for m in found}
    head, value = 'def f(x: int = 1, *, name: str = "n") -> float:', 'return y * x if name == "n" else f"{x + 1}"'
    assert changes == {
        (head, head.replace("1", "2")),
        (head, head.replace('"n"', '"XXnXX"')),
        ("if x < 0:", "if x <= 0:"),
        ("if x < 0:", "if x < 1:"),
        ("y = sum([x], start=2)", "y = sum([x], start=3)"),
        ("y = sum([x], start=2)", "y = sum([x], )"),
        (value, value.replace("y * x", "y / x")),
        (value, value.replace("==", "!=")),
        (value, value.replace('"n"', '"XXnXX"')),
        (value, value.replace('if name == "n"', 'if (name == "n") and False')),
        (value, value.replace('if name == "n"', 'if (name == "n") or True')),
    }
    assert {m.function for m in found} == {"f"}
    assert {m.scope for m in found} == {(5, 10)}
    assert len({m.key for m in found}) == len(found)
