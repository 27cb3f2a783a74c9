"""Runs tests on mutated code: a process that imports what is slow once, and forks for each run.

Started by `mutant_runner`, with the folder of the project as its own and on its path; tasks come as lines of JSON on
standard input, answers go as lines to standard output. It imports nothing of the project itself: each fork does, and
finds the mutated text in place of one file. Nothing is written into the tree.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import importlib.machinery
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

UNUSED = ("xdist", "xdist.looponfail", "pytest_cov", "benchmark", "anyio", "typeguard", "platformdirs", "cacheprovider")
WALL = 60.0  # seconds to collect and added to the limit of each test, for a process that waits
TIMES = 10.0  # of what a test takes on the code as it is
COLLECT = 0.5  # seconds that collecting the tests usually takes
MEMORY = 4 * 2**30  # bytes


@dataclass(eq=False)
class Watch:
    """A plugin of pytest: keeps the tests that are wanted, limits and notes their times, notes what failed."""

    wanted: Sequence[str]
    usual: Mapping[str, float]
    patience: float
    coverage: Any = None
    failed: str | None = None
    broken: str | None = None
    skipped: set[str] = field(default_factory=set)
    seconds: dict[str, float] = field(default_factory=dict)

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Tests in the wanted order. One that is not there any more, since its case has another name, is no failure."""
        if self.wanted:
            place = {name: k for k, name in enumerate(self.wanted)}
            items[:] = sorted((i for i in items if i.nodeid in place), key=lambda i: place[i.nodeid])

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A file of tests that was imported, or could not be."""
        if report.failed and self.broken is None:
            self.broken = report.nodeid

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Any:
        """One test with its set-up and what follows it."""
        limit(self.usual.get(item.nodeid, 60.0), self.patience)
        if self.coverage is not None:
            self.coverage.switch_context(item.nodeid)
        start = time.process_time()
        result = yield
        self.seconds[item.nodeid] = round(time.process_time() - start, 4)
        return result

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """One of its three phases."""
        if report.failed and self.failed is None:
            self.failed = report.nodeid
        if report.skipped:
            self.skipped.add(report.nodeid)


def limit(usual: float, patience: float) -> None:
    """End this process when it has computed, or waited, for longer than is usual."""
    signal.setitimer(signal.ITIMER_PROF, patience + TIMES * usual)
    signal.setitimer(signal.ITIMER_REAL, WALL + 4 * TIMES * usual)


def replace(file: Path, source: str) -> None:
    """Make imports find ``source`` where ``file`` is; compiled files of it are neither read nor written."""
    kind = importlib.machinery.SourceFileLoader
    read, stats = kind.get_data, kind.path_stats

    def get_data(self: Any, path: str) -> bytes:
        return source.encode() if Path(path) == file else read(self, path)

    def path_stats(self: Any, path: str) -> Mapping[str, Any]:
        if Path(path) == file:
            raise OSError("the compiled file is that of another text")
        return stats(self, path)

    kind.get_data, kind.path_stats = get_data, path_stats  # type: ignore[method-assign]


def run(task: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The tests of ``task`` up to the first that fails, in this process."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    if task.get("source") is not None:
        replace(Path.cwd() / task["file"], task["source"])
    limit(COLLECT, task["patience"])
    watch = Watch(task["tests"], task["usual"], task["patience"])
    if task.get("measure"):
        watch.coverage = importlib.import_module("coverage").Coverage(
            data_file=None, config_file=False, include=[str(Path.cwd() / f) for f in task["measure"]]
        )
        watch.coverage.start()
    code = pytest.main([*options(task, folder), *task["files"]], plugins=[watch])
    answer: dict[str, Any] = {"code": int(code), "failed": watch.failed, "broken": watch.broken}
    answer["seconds"] = watch.seconds
    if watch.coverage is not None:
        watch.coverage.stop()
        data = watch.coverage.get_data()
        answer["lines"] = lines(data, task["measure"])
        answer["skipped"] = sorted(watch.skipped)
    return answer


def options(task: Mapping[str, Any], folder: Path) -> list[str]:
    """Of pytest: those of the project, without plugins that are of no use here; the type checker if asked for."""
    checker = task["checker"]
    return [
        *("-q", "--strict-markers", "--tb=no", "-o", "addopts=", f"--basetemp={folder / 'tmp'}"),
        *(["-x"] if task["stop"] else []),
        *("-W", "ignore::pytest.PytestAssertRewriteWarning"),
        *(word for name in UNUSED for word in ("-p", f"no:{name}")),
        *([f"--jaxtyping-packages={checker}"] if checker else ["-p", "no:jaxtyping"]),
    ]


def lines(data: Any, files: Sequence[str]) -> dict[str, dict[str, list[int]]]:
    """Lines of each file by test; the test "" is what importing and collecting run."""
    found: dict[str, dict[str, list[int]]] = {}
    for file in files:
        for line, tests in data.contexts_by_lineno(str(Path.cwd() / file)).items():
            for test in tests:
                found.setdefault(test, {}).setdefault(file, []).append(line)
    return found


def answer(task: Mapping[str, Any]) -> dict[str, Any]:
    """What `run` gives in a fork of this process, or the signal that ended it."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder, start = Path(name), time.monotonic()
        child = os.fork()
        if child == 0:
            _child(task, folder)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.setpgid(child, child)
        status = os.waitpid(child, 0)[1]
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
        found: dict[str, Any] = {"code": None, "failed": None, "broken": None, "seconds": {}}
        with contextlib.suppress(FileNotFoundError):
            found = json.loads((folder / "answer.json").read_text(encoding="utf-8"))
        shutil.rmtree(folder / "tmp", ignore_errors=True)
        ended = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
        return {**found, "signal": ended, "wall": round(time.monotonic() - start, 3)}


def _child(task: Mapping[str, Any], folder: Path) -> None:
    code = 1
    try:
        os.setpgid(0, 0)
        output = os.open(folder / "output", os.O_WRONLY | os.O_CREAT)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        found = run(task, folder)
        if not task["stop"]:
            found["output"] = (folder / "output").read_text(encoding="utf-8", errors="replace")[-4000:]
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.setitimer(signal.ITIMER_PROF, 0)
        (folder / "answer.json").write_text(json.dumps(found), encoding="utf-8")
        code = 0
    finally:
        os._exit(code)


def serve() -> None:
    """Answer tasks until the input ends; the arguments are modules to import before."""
    for name in sys.argv[1:]:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    gc.collect()
    gc.freeze()  # collections in the forks would look at, and so copy, all that was imported: most of their time
    out = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), file=out, flush=True)


if __name__ == "__main__":
    serve()
