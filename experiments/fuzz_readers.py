"""Does any file make a reader crash, hang, take memory without bound, or run what the file holds?

Every reader of files of the package and of the experiments, on files that are damaged (cut, flipped, spliced), that are
something else (folders, pipes, devices, links to themselves) or that are made to do harm (bombs, huge declared sizes,
serialised calls, offsets that overlap). A case is a reader, a fault and a number; its content follows from the seed.

A case is right if the file is read and holds what was read (compared with the bytes of the file, or with the undamaged
content where a checksum stands behind), or if it is refused by a ValueError or OSError that names the file and says
what to do. Everything else is counted by name: another error, an unclear one, content that the file does not hold, an
end of the process, an answer that takes longer than the limit, whatever a reader does beside reading
(`experiments.fuzz_hook` lists it), and memory above the reader's factor times the legitimate size plus its constant, as
`experiments.fuzz_values.Sample` has them. Legitimate is the largest of the file, its undamaged content in memory, what
the file declares where its headers agree with each other and with its length, and what was read;
`experiments.fuzz_worker.watched` says how memory is measured.

Check, which must hold: all cases are right, at least so many different ones as asked for. Cost: 6 minutes on two
cores, most of it for large files and for contents that take memory. Linux only. Record: ``fuzz_readers.json``.
"""

from __future__ import annotations

import json
import os
import re
import selectors
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from experiments.fuzz_samples import READERS
from experiments.parallel import spread
from experiments.record import RESULTS, ROOT, cached, check, code_digest, command_line, current, finish

SOURCES = (
    *("fuzz_readers.py", "fuzz_worker.py", "fuzz_samples.py", "fuzz_faults.py", "fuzz_harm.py", "fuzz_formats.py"),
    *("fuzz_harm_text.py", "fuzz_harm_pictures.py", "fuzz_graphs.py", "fuzz_states.py", "fuzz_pictures.py"),
    *("fuzz_hook.py", "fuzz_values.py", "own_models.py", "readers.py", "pictures.py", "weights.py", "checkpoints.py"),
    *("files.py", "record.py", "figures/style.py"),
)
RIGHT = ("read", "refused")


@dataclass(frozen=True)
class Config:
    """What is read.

    Attributes:
        cases: different ones, at least.
        large: of a hundred cases, those with files of some megabytes.
        seconds: for one case, of the processor's time, or asleep.
        seed: of samples and faults.
        readers: names; all if none.
    """

    cases: int = 100_000
    large: int = 2
    seconds: float = 20.0
    seed: int = 0
    readers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        unknown = sorted(set(self.readers) - set(READERS))
        if unknown or self.cases < 1:
            raise ValueError(
                f"expected cases, and readers among {list(READERS)}, got {self.cases} and {unknown}; correct them."
            )

    @property
    def chosen(self) -> tuple[str, ...]:
        """Names of the readers."""
        return self.readers or tuple(READERS)


@dataclass
class Worker:
    """The process that reads; a new one after each end."""

    seconds: float
    process: subprocess.Popen[bytes] | None = field(default=None)
    rest: bytes = b""

    def ask(self, **request: Any) -> None:
        """Send a request, to a new process if there is none."""
        if self.process is None:
            command = [sys.executable, "-m", "experiments.fuzz_worker"]
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT)
            self.rest = b""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(request).encode() + b"\n")
        self.process.stdin.flush()

    def answer(self, seconds: float | None = None) -> dict[str, Any] | str:
        """The next line; "hang" or "crash" if there is none, and the process is gone.

        It hangs if it uses no time of the processor for ``seconds`` by the clock, or more than these for one line; a
        machine with others to serve only makes it slow.
        """
        assert self.process is not None
        assert self.process.stdout is not None
        stream = self.process.stdout.fileno()
        with selectors.DefaultSelector() as selector:
            selector.register(stream, selectors.EVENT_READ)
            used = self.used()
            while b"\n" not in self.rest:
                before = self.used()
                if not selector.select(seconds or self.seconds):
                    now = self.used()
                    if now == before or now - used > (seconds or self.seconds):
                        return self.end("hang")
                    continue
                part = os.read(stream, 2**16)
                if not part:
                    return self.end("crash")
                self.rest += part
        line, self.rest = self.rest.split(b"\n", 1)
        found: dict[str, Any] = json.loads(line)
        return found

    def used(self) -> float:
        """Seconds of the processor that the process has had."""
        assert self.process is not None
        words = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")

    def end(self, outcome: str = "") -> str:
        """End the process."""
        if self.process is not None:
            if outcome:
                self.process.send_signal(signal.SIGKILL)
            with self.process:  # closes its pipes and waits
                self.process = None
        return outcome


@dataclass(frozen=True)
class Part:
    """The cases of one reader, as many as its share."""

    reader: str
    cases: int
    large: int
    seconds: float
    seed: int


def run(config: Config, *, jobs: int = 1, folder: Path = RESULTS) -> dict[str, Any]:
    """Read all cases and count how they ended, reader after reader; what has a record is not read again."""
    share = -(-config.cases * 127 // (100 * len(config.chosen)))  # some are alike, and folders have few
    parts = [Part(reader, share, config.large, config.seconds, config.seed) for reader in config.chosen]
    records = spread(_one, [(part, folder) for part in parts], jobs, "fuzz_readers", known=_known)
    return cached(
        folder / "fuzz_readers.json",
        config,
        code_digest(*SOURCES),
        command_line("experiments.fuzz_readers", config),
        lambda: _summary(config, [r["result"] for r in records]),
        parts=records,
    )


def _place(part: Part, folder: Path) -> Path:
    return folder / "fuzz_readers" / f"{re.sub('[^a-z0-9]+', '_', part.reader.lower())}.json"


def _known(part: Part, folder: Path) -> dict[str, Any] | None:
    return current(_place(part, folder), part, code_digest(*SOURCES))


def _one(part: Part, folder: Path) -> dict[str, Any]:
    command = "python -m experiments.fuzz_readers"
    return cached(_place(part, folder), part, code_digest(*SOURCES), command, lambda: _row(part, list(_cases(part))))


def plan(faults: dict[str, int], cases: int) -> dict[str, int]:
    """Cases of each fault: all contents of those that have a number; others get equal shares of half or of the rest."""
    bounded = {name: count for name, count in faults.items() if count}
    free = len(faults) - len(bounded)
    left = max(-(-cases // 2), cases - sum(bounded.values()))
    return {name: count or -(-left // free) for name, count in faults.items()}


def _cases(part: Part) -> Iterator[dict[str, Any]]:
    """All cases of a reader, those with small files first."""
    worker = Worker(part.seconds)
    try:
        for large in (False, True):
            start = {"reader": part.reader, "seed": part.seed, "large": large}
            worker.ask(**start)
            faults = worker.answer(600.0)
            assert isinstance(faults, dict), f"{part.reader}: no undamaged file could be read"
            share = part.cases * (part.large if large else 100 - part.large) // 100
            for fault, count in plan(faults, share).items():
                for case in _fault(worker, {**start, "fault": fault}, count):
                    yield {"reader": part.reader, "fault": fault, "large": large, **case}
    finally:
        worker.end()


def _fault(worker: Worker, request: dict[str, Any], count: int) -> Iterator[dict[str, Any]]:
    """The cases of one reader and fault; the first answer of a new process also waits for its start."""
    low = 0
    while low < count:
        fresh = worker.process is None
        worker.ask(**request, low=low, high=count)
        while low < count:
            answer = worker.answer(120.0 if fresh else None)
            fresh = False
            yield {"number": low, **(answer if isinstance(answer, dict) else {"outcome": answer})}
            low += 1
            if isinstance(answer, str):
                break


def _row(part: Part, cases: list[dict[str, Any]]) -> dict[str, Any]:
    """What is kept of the cases of a reader."""
    timed = [c for c in cases if "seconds" in c]
    most = max(timed, key=lambda c: c["grown"] / c["bound"])
    factor = timed[0]["factor"]
    slowest = max(timed, key=lambda c: c["seconds"])
    wrong = [c for c in cases if c["outcome"] not in RIGHT]
    return {
        "reader": part.reader,
        "cases": len(cases),
        "different": len({c["content"] for c in timed}),
        "outcomes": dict(sorted(Counter(c["outcome"] for c in cases).items())),
        "large": sum(c["large"] for c in cases),
        "factor": factor,
        "constant": round(timed[0]["bound"] - factor * timed[0]["legitimate"]),
        "share_of_bound": most["grown"] / most["bound"],
        "most": most["fault"],
        "beyond": max(0, round(max(c["grown"] - factor * c["legitimate"] for c in timed))),
        "slowest_s": round(slowest["seconds"], 4),
        "slowest": slowest["fault"],
        "faults": _by_fault(cases),
        "wrong": [{k: c.get(k) for k in ("fault", "large", "number", "outcome", "text")} for c in wrong[:20]],
    }


def _summary(config: Config, rows: list[dict[str, Any]]) -> dict[str, Any]:
    outcomes: Counter[str] = Counter()
    for row in rows:
        outcomes.update(row["outcomes"])
    totals = {name: sum(row[name] for row in rows) for name in ("cases", "different")}
    result = {**totals, "outcomes": dict(sorted(outcomes.items())), "rows": rows}
    return {**result, "checks": _checks(config, result)}


def _by_fault(cases: list[dict[str, Any]]) -> dict[str, dict[str, int]]:
    counts: dict[str, Counter[str]] = {}
    for case in cases:
        counts.setdefault(case["fault"], Counter())[case["outcome"]] += 1
    return {fault: dict(sorted(found.items())) for fault, found in counts.items()}


def _checks(config: Config, result: dict[str, Any]) -> list[dict[str, Any]]:
    rows, outcomes = result["rows"], result["outcomes"]
    wrong = {name: count for name, count in outcomes.items() if name not in RIGHT}
    undamaged = [row["faults"]["none"] for row in rows if "none" in row["faults"]]
    share = max(row["share_of_bound"] for row in rows)
    return [
        check("all cases are read well or refused clearly", not wrong, f"others: {wrong or 'none'}"),
        check(
            "different cases are as many as asked for", result["different"] >= config.cases, f"{result['different']:,}"
        ),
        check("undamaged files are read", all(set(u) == {"read"} for u in undamaged), f"{len(undamaged)} readers"),
        check("memory stays below its bound", share < 1, f"at most {100 * share:.0f} % of it"),
    ]


def main(config: Annotated[Config, tyro.conf.arg(name="")] = Config(), jobs: int = os.cpu_count() or 1) -> None:
    """Read all cases, ``jobs`` readers at a time."""
    finish(run(config, jobs=jobs))


if __name__ == "__main__":
    tyro.cli(main)
