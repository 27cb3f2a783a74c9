"""Tests for a search of faults: what is tested, the process that runs tests, which test runs which lines."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Mutant:
    """One change of one file.

    Attributes:
        file: relative path.
        function: with its class, "" outside.
        lines: first and last line of what is changed, on which tests are found.
        scope: first and last line of the function or class; its tests are run where only an import runs ``lines``.
        before: the lines that differ, as they are.
        after: as they become.
        source: the whole text of the file.
        key: digest of file and text.
    """

    file: str
    function: str
    lines: tuple[int, int]
    scope: tuple[int, int]
    before: str
    after: str
    source: str
    key: str


@dataclass(frozen=True)
class Project:
    """What is tested, and how.

    Attributes:
        root: its folder.
        files: that are mutated, relative.
        tests: files of tests, relative.
        checker: value of the option --jaxtyping-packages, "" without a type checker.
        seconds: of tests for each mutant at most.
        longest: tests that take longer are not used, seconds.
        log: folder for answers.
        slow: modules of others that tests import, so that it is done once.
        patience: seconds to collect, and added to the ten times that a test may take.
    """

    root: Path
    files: tuple[str, ...]
    tests: tuple[str, ...]
    checker: str
    seconds: float
    longest: float
    log: Path
    slow: tuple[str, ...] = ()
    patience: float = 5.0


@dataclass(frozen=True)
class Measured:
    """A test on the code as it is: its time, the lines it runs, the digest of its file."""

    name: str
    seconds: float
    lines: Mapping[str, frozenset[int]]
    digest: str

    @property
    def file(self) -> str:
        """Of the test."""
        return self.name.split("::")[0]


class Server:
    """A `mutant_server`, started when it is first asked."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._process: subprocess.Popen[str] | None = None

    def ask(self, **task: Any) -> dict[str, Any]:
        """The answer to a task: files, tests of them (none: all), and what else `mutant_server.run` reads.

        Raises:
            RuntimeError: if the server has ended.
        """
        if self._process is None:
            here = str(Path(__file__).resolve().parent.parent)
            root = self._project.root
            path = os.pathsep.join([str(root), here, os.environ.get("PYTHONPATH", "")])
            single = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
            environment = {**os.environ, **single, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": ""}
            environment["PYTHONPYCACHEPREFIX"] = str(self._project.log / "compiled")
            self._process = subprocess.Popen(
                [sys.executable, "-m", "experiments.mutant_server", *self._project.slow],
                **{"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True},  # type: ignore[call-overload]
                cwd=root,
                env=environment,
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        usual = {"usual": {}, "checker": "", "stop": True, "patience": self._project.patience}
        line = ""
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps({**usual, **task}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("expected an answer from the process that runs tests, got its end; see what it wrote.")
        return dict(json.loads(line))

    def close(self) -> None:
        """End the process."""
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
            self._process.wait()
            if self._process.stdout is not None:
                self._process.stdout.close()


def digest(path: Path) -> str:
    """SHA-256 of a file, shortened."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def measured(project: Project, server: Server) -> list[Measured]:
    """Every test on the code as it is; kept by the texts of its file and of the code.

    Raises:
        RuntimeError: if a test fails.
    """
    code = hashlib.sha256("".join(digest(project.root / f) for f in project.files).encode()).hexdigest()[:16]
    found: list[Measured] = []
    for file in project.tests:
        mark = digest(project.root / file)
        kept = project.log / "lines" / f"{code}-{mark}.json"
        if not kept.exists():
            answer = server.ask(files=[file], tests=[], measure=list(project.files), stop=False)
            if answer["code"] != 0:
                said = answer.get("output", f"a process that ended with {answer['signal']}")
                raise RuntimeError(f"expected tests that pass on the code as it is, got from {file}: {said}")
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_text(json.dumps(answer), encoding="utf-8")
            print(f"{file}: {len(answer['seconds'])} tests, {sum(answer['seconds'].values()):.0f} s", flush=True)
        answer = json.loads(kept.read_text(encoding="utf-8"))
        for name, seconds in answer["seconds"].items():
            lines = {f: frozenset(numbers) for f, numbers in answer["lines"].get(name, {}).items()}
            if lines and name not in answer["skipped"]:
                found.append(Measured(name, seconds, lines, mark))
    return [t for t in found if t.seconds <= project.longest]


def order(tests: Iterable[Measured]) -> list[Measured]:
    """Quick ones first, and those that run few lines: such tests are about these lines, others only pass them.

    Each further case of one test function counts a quarter of its time more.
    """
    cases: Counter[str] = Counter()
    cost: dict[str, float] = {}
    ordered = sorted(tests, key=lambda t: t.seconds)
    for test in ordered:
        function = test.name.split("[")[0]
        lines = sum(len(numbers) for numbers in test.lines.values())
        cost[test.name] = test.seconds * (1 + cases[function] / 4) * lines
        cases[function] += 1
    return sorted(ordered, key=lambda t: cost[t.name])


def first(tests: Sequence[Measured], seconds: float) -> list[Measured]:
    """As many as take ``seconds`` together, at least one."""
    found: list[Measured] = []
    for test in tests:
        seconds -= test.seconds
        if found and seconds < 0:
            break
        found.append(test)
    return found


def grouped(tests: Sequence[Measured]) -> list[Measured]:
    """The same, file by file: what a file sets up for all its tests is then set up once."""
    place = {file: k for k, file in enumerate(dict.fromkeys(t.file for t in tests))}
    return sorted(tests, key=lambda t: place[t.file])


class Lines:
    """Which tests run which lines."""

    def __init__(self, tests: Sequence[Measured]) -> None:
        self._tests: dict[tuple[str, int], list[Measured]] = defaultdict(list)
        self._last: dict[str, int] = defaultdict(int)
        for test in order(tests):
            for file, numbers in test.lines.items():
                self._last[file] = max(self._last[file], *numbers)
                for number in numbers:
                    self._tests[file, number].append(test)

    def covering(self, mutant: Mutant) -> list[Measured]:
        """Tests that run the mutant's lines; those of its function or class if these are run by imports alone."""
        for low, high in (mutant.lines, mutant.scope):
            lines = range(low, min(high, self._last[mutant.file]) + 1)
            found = {t.name: t for n in lines for t in self._tests.get((mutant.file, n), ())}
            if found:
                return order(found.values())
        return []
