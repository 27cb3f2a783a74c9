"""Which mutants do the tests notice? Runs, for each mutant, the tests that run its lines, quick ones first.

A test that fails on the mutated code, a test that takes ten times as long as on the code as it is, and a process that
dies kill the mutant. First tests run without the run-time type checker, since it takes most of the time of an import;
what survives is tried again with it, as tests are usually run. Each answer is appended to a log, so that a run that
was stopped goes on, and so that after a change of tests only what depends on them is run again.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

QUICK = 2.5  # seconds of tests in the first attempt at a mutant
CHECKED = 12.0  # seconds of tests with the type checker
PASSED, FAILED, NOTHING = 0, 1, 5  # status of pytest; of the others a file that cannot be imported has 2 or 4


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


@dataclass(frozen=True)
class Answer:
    """What became of a mutant.

    Attributes:
        key: of the mutant.
        outcome: "test", "time", "crash" or "survived".
        test: that noticed it; the file of tests where it could not be imported.
        ran: digests of the files of tests that were run, by name.
        wall: seconds.
        limit: seconds of tests that were allowed.
    """

    key: str
    outcome: str
    test: str
    ran: Mapping[str, str]
    wall: float
    limit: float


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
        self._process.stdin.write(json.dumps({"usual": {}, "checker": "", "stop": True, "patience": self._project.patience, **task}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("expected an answer from the process that runs tests, got its end; see its errors above.")
        return dict(json.loads(line))

    def close(self) -> None:
        """End the process."""
        if self._process is not None and self._process.stdin is not None:
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
                raise RuntimeError(f"expected tests that pass on the code as it is, got from {file}: {answer}.")
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
    """Quick ones first, where each further case of one test function counts a quarter of its time more."""
    cases: Counter[str] = Counter()
    cost: dict[str, float] = {}
    ordered = sorted(tests, key=lambda t: t.seconds)
    for test in ordered:
        function = test.name.split("[")[0]
        cost[test.name] = test.seconds * (1 + cases[function] / 4)
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


@dataclass
class Search:
    """Mutants against tests; what killed others of a function is tried first.

    Attributes:
        project: what is tested.
        tests: as `measured` gives them.
        killers: names of tests by file and function of the mutants they killed.
    """

    project: Project
    tests: Sequence[Measured]
    killers: dict[tuple[str, str], list[str]] = field(default_factory=lambda: defaultdict(list))

    def __post_init__(self) -> None:
        self._lines = Lines(self.tests)

    def plan(self, mutant: Mutant, old: Answer | None) -> list[Measured]:
        """Tests for a mutant, without those that it survived already."""
        ran = old.ran if old is not None and old.limit >= self.project.seconds else {}
        tests = [t for t in self._lines.covering(mutant) if ran.get(t.file) != t.digest]
        recent = self.killers[mutant.file, mutant.function][-6:]
        ahead = [t for t in tests if t.name in recent]
        return first([*ahead, *(t for t in tests if t.name not in recent)], self.project.seconds)

    def examine(self, server: Server, mutant: Mutant, old: Answer | None = None) -> Answer:
        """Run the tests of a mutant until one notices it."""
        plan = self.plan(mutant, old)
        quick = first(plan, QUICK)
        rest = grouped(plan[len(quick) :])
        wall = 0.0
        for tests, checker in ((quick, ""), (rest, ""), (first(plan, CHECKED), self.project.checker)):
            if not tests or (tests is not quick and tests is not rest and not checker):
                continue
            found = server.ask(
                files=sorted({t.file for t in tests}),
                tests=[t.name for t in tests],
                file=mutant.file,
                source=mutant.source,
                usual={t.name: t.seconds for t in tests},
                checker=checker,
            )
            wall += found["wall"]
            outcome = _outcome(found)
            if outcome != "survived":
                name = found["failed"] or found["broken"] or ""
                if found["failed"]:
                    self.killers[mutant.file, mutant.function].append(name)
                ran = {t.file: t.digest for t in tests if t.file == name.split("::")[0]}
                return Answer(mutant.key, outcome, name, ran, wall, self.project.seconds)
        ran = {**(dict(old.ran) if old is not None else {}), **{t.file: t.digest for t in plan}}
        return Answer(mutant.key, "survived", "", ran, wall, self.project.seconds)


def _outcome(found: Mapping[str, Any]) -> str:
    if found["signal"] in (14, 27):  # SIGALRM, SIGPROF
        return "time"
    if found["signal"] is not None or found["code"] is None:
        return "crash"
    if found["broken"] is not None or (found["code"] == FAILED and found["failed"] is not None):
        return "test"
    if found["code"] not in (PASSED, NOTHING):
        raise RuntimeError(f"expected tests that pass or fail, got from pytest {found}; run the tests by hand.")
    return "survived"


def known(log: Path) -> dict[str, Answer]:
    """Answers of the log, the last one for each mutant; a last line that is not whole is left out."""
    found: dict[str, Answer] = {}
    if log.exists():
        for line in log.read_text(encoding="utf-8").splitlines(keepends=True):
            if line.endswith("\n"):
                answer = Answer(**json.loads(line))
                found[answer.key] = answer
    return found


def current(answer: Answer, tests: Mapping[str, str], plan: Sequence[Measured]) -> bool:
    """Whether an answer holds for tests with these digests of their files, and for this plan."""
    if answer.outcome == "survived":
        return not plan
    return all(tests.get(file) == mark for file, mark in answer.ran.items())


def search(project: Project, mutants: Sequence[Mutant], tests: Sequence[Measured], jobs: int) -> dict[str, Answer]:
    """The answer for each mutant by its key; from the log, or made now and appended to it."""
    log, lock, local = project.log / "answers.jsonl", threading.Lock(), threading.local()
    answers, files = known(log), {t.file: t.digest for t in tests}
    hunt = Search(project, tests)
    todo = []
    for m in mutants:
        old = answers.get(m.key)
        if old is None or not current(old, files, hunt.plan(m, old)):
            todo.append((m, old if old is not None and old.outcome == "survived" else None))
    servers: list[Server] = []

    def one(mutant: Mutant, old: Answer | None) -> None:
        if not hasattr(local, "server"):
            local.server = Server(project)
            servers.append(local.server)
        answer = hunt.examine(local.server, mutant, old)
        with lock, log.open("a", encoding="utf-8") as file:
            answers[mutant.key] = answer
            file.write(json.dumps(vars(answer)) + "\n")

    try:
        with ThreadPoolExecutor(jobs) as pool:
            for done, _ in enumerate(pool.map(lambda pair: one(*pair), todo), 1):
                if done % 50 == 0:
                    print(f"{done} of {len(todo)} mutants", flush=True)
    finally:
        for server in servers:
            server.close()
    return {m.key: answers[m.key] for m in mutants}


def unsound(project: Project, answers: Iterable[Answer], tests: Sequence[Measured]) -> Iterator[str]:
    """Tests that killed a mutant and fail, in the same kind of run, on the code as it is: there should be none."""
    named = {t.name: t for t in tests}
    names = sorted({a.test for a in answers if "::" in a.test})
    server = Server(project)
    try:
        for k in range(0, len(names), 200):
            part = names[k : k + 200]
            found = server.ask(files=sorted({n.split("::")[0] for n in part}), tests=part, usual={n: named[n].seconds for n in part if n in named})
            if found["code"] != 0:
                yield found["failed"] or f"a process that ended with {found['signal']}"
    finally:
        server.close()
