"""Records appear whole or not at all, carry provenance, and are made again only when something has changed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import time
from dataclasses import dataclass

import numpy as np
import pytest

from experiments import record
from experiments.files import write_whole
from msda_theory.estimate import Estimate


@dataclass(frozen=True)
class Config:
    draws: int = 4
    names: tuple[str, ...] = ("a", "b")


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "r.json"
    write_whole(path, b"old")

    def full_disk(_: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="no space left"):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["r.json"]


def test_a_killed_writer_never_leaves_half_a_file(tmp_path):
    """A process that writes 4 MB again and again is killed at several moments; the file is always whole."""
    path = tmp_path / "r.json"
    code = textwrap.dedent(
        f"""
        import pathlib
        from experiments.files import write_whole
        path = pathlib.Path({str(path)!r})
        while True:
            for byte in (b"a", b"b"):
                write_whole(path, byte * 4_000_000)
        """
    )
    for wait in (0.0, 0.013, 0.031, 0.057):
        path.unlink(missing_ok=True)
        process = subprocess.Popen([sys.executable, "-c", code])
        while not path.exists():
            assert process.poll() is None
            time.sleep(0.001)
        time.sleep(wait)
        process.kill()
        process.wait()
        content = path.read_bytes()
        assert len(content) == 4_000_000
        assert len(set(content)) == 1


def test_a_record_is_made_once_for_one_configuration_and_code(tmp_path):
    path, calls = tmp_path / "x.json", []

    def run() -> dict[str, object]:
        calls.append(1)
        return {"value": Estimate(1.5, 0.25, 8), "checks": []}

    first = record.cached(path, Config(), "code", "command", run)
    again = record.cached(path, Config(), "code", "command", run)
    assert first == again == json.loads(path.read_text())
    assert len(calls) == 1
    record.cached(path, Config(draws=5), "code", "command", run)
    record.cached(path, Config(draws=5), "other code", "command", run)
    assert len(calls) == 3
    needed = tmp_path / "weights"
    record.cached(path, Config(draws=5), "other code", "command", run, needs=[needed])
    assert len(calls) == 4


def test_a_record_names_its_origin(tmp_path):
    made = record.cached(tmp_path / "x.json", Config(), "code", "python -m x", lambda: {"value": 1})
    assert set(made) == {
        "experiment", "command", "config", "result", "code", "wall_s", "commit", "date", "versions", "machine",
    }  # fmt: skip
    assert set(made["versions"]) >= {"python", "torch", "numpy", "scipy"}
    assert made["config"] == {"draws": 4, "names": ["a", "b"]}


def test_the_digest_ignores_docstrings_and_comments_but_not_code(tmp_path, monkeypatch):
    package, experiments = tmp_path / "msda_theory", tmp_path / "experiments"
    package.mkdir()
    experiments.mkdir()
    monkeypatch.setattr(record, "ROOT", tmp_path)
    (experiments / "e.py").write_text("X = 1\n")
    module = package / "m.py"

    def digest(text: str) -> str:
        module.write_text(text)
        record.code_digest.cache_clear()
        return record.code_digest("e.py")

    plain = digest('"""One."""\ndef f(x):\n    """Two."""\n    return x + 1\n')
    assert plain == digest('"""Other."""\n# comment\ndef f(x):\n    """Words."""\n    return x + 1\n')
    assert plain != digest('"""One."""\ndef f(x):\n    """Two."""\n    return x + 2\n')
    (experiments / "e.py").write_text("X = 2\n")
    assert plain != digest('"""One."""\ndef f(x):\n    """Two."""\n    return x + 1\n')


def test_the_digest_takes_files_of_the_whole_project(tmp_path, monkeypatch):
    (tmp_path / "msda_theory").mkdir()
    (tmp_path / "figures").mkdir()
    monkeypatch.setattr(record, "ROOT", tmp_path)
    found = []
    for text in ("X = 1\n", "X = 2\n"):
        (tmp_path / "figures" / "style.py").write_text(text)
        record.code_digest.cache_clear()
        found.append(record.code_digest("figures/style.py"))
    record.code_digest.cache_clear()
    assert found[0] != found[1]


def test_numbers_survive_and_nan_becomes_null(tmp_path):
    path = tmp_path / "x.json"
    values = {"a": np.float64(0.1), "b": np.arange(3), "c": float("nan"), "d": Estimate(1.0, 0.5, 2), "e": (1e-300, -2)}
    record.write_record(path, values)
    text = path.read_text()
    assert json.loads(text) == {
        "a": 0.1, "b": [0, 1, 2], "c": None, "d": {"mean": 1.0, "se": 0.5, "n": 2}, "e": [1e-300, -2],
    }  # fmt: skip
    assert "[ 0, 1, 2 ]" in text
    with pytest.raises(ValueError, match="not JSON compliant"):
        record.write_record(path, {"a": float("inf")})


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "is not a JSON record"), ("[]", r"is not a record \(no config and result\)")],
    ids=["cut off", "foreign"],
)
def test_a_broken_record_is_named(tmp_path, content, message):
    path = tmp_path / "x.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        record.read_record(path)
    assert record.read_record(tmp_path / "none.json") is None


def test_a_claim_that_fails_ends_with_status_1(capsys):
    holds = {"result": {"checks": [record.check("one", True, "x")]}}
    fails = {"result": {"checks": [record.check("one", True, "x"), record.check("two", False, "y")]}}
    record.finish(holds)
    with pytest.raises(record.ClaimFailed) as stop:
        record.finish(fails)
    assert stop.value.code == 1
    assert record.failed(fails) == ["two: y"]
    assert "FAILS  two: y" in capsys.readouterr().out


@dataclass(frozen=True)
class Nested:
    inner: Config = Config()
    seed: int = 0


def test_the_command_of_a_record_runs_its_configuration():
    assert record.command_line("x", Nested()) == "python -m x"
    changed = Nested(inner=Config(draws=7, names=("c", "d")), seed=3)
    assert record.command_line("x", changed) == "python -m x --inner.draws 7 --inner.names c d --seed 3"


def test_libraries_that_are_not_installed_are_recorded_as_absent():
    assert record._version("torch")
    assert record._version("no-such-library") is None


def test_words_that_a_shell_would_take_apart_are_quoted():
    @dataclass(frozen=True)
    class Words:
        names: tuple[str, ...] = ()

    words = record.command_line("x", Words(("push 1e-3", "hmix(ratio=0.5)", "plain")))
    assert words == "python -m x --names 'push 1e-3' 'hmix(ratio=0.5)' plain"
