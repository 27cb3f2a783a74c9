"""Which mutants do the tests notice? Runs, for each mutant, the tests that run its lines, quick ones first.

A test that fails on the mutated code, a test that takes ten times as long as on the code as it is, and a process that
dies kill the mutant. First tests run without the run-time type checker, since it takes most of the time of an import;
what survives is tried again with it, as tests are usually run. Each answer is appended to a log, so that a run that
was stopped goes on, and so that after a change of tests only what depends on them is run again.
"""

from __future__ import annotations

import json
import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from experiments.mutant_tests import Lines, Measured, Mutant, Project, Server, first, grouped

QUICK = 2.5  # seconds of tests in the first attempt at a mutant
CHECKED = 5.0  # seconds of tests with the type checker
PASSED, FAILED, NOTHING = 0, 1, 5  # status of pytest; of the others a file that cannot be imported has 2 or 4


@dataclass(frozen=True)
class Answer:
    """What became of a mutant.

    Attributes:
        key: of the mutant.
        outcome: "test", "time", "crash" or "survived".
        test: that noticed it; the file of tests where it could not be imported.
        ran: digests of the files of tests that the answer rests on, by name.
        wall: seconds.
        limit: seconds of tests that were allowed.
    """

    key: str
    outcome: str
    test: str
    ran: Mapping[str, str]
    wall: float
    limit: float


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
                ran = {t.file: t.digest for t in tests if not name or t.file == name.split("::")[0]}
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
            found = server.ask(
                files=sorted({n.split("::")[0] for n in part}),
                tests=part,
                usual={n: named[n].seconds for n in part if n in named},
            )
            if found["code"] != 0:
                yield found["failed"] or f"a process that ended with {found['signal']}"
    finally:
        server.close()
