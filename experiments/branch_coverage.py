"""Which branches of ``msda_theory`` does the test suite take?

The whole suite runs once under coverage.py, in this interpreter's environment; a suite that fails gives no record.
Lines and branches count together, as coverage.py does: a line is covered if it runs, a branch if it is taken. What runs
only in processes that tests start themselves does not count.

Check, which must hold: a share of `Config.least` or more. Cost: the suite's, and about half as much again. Record:
``branch_coverage.json``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

import tyro

from experiments.inside import inside
from experiments.record import RESULTS, ROOT, cached, check, code_digest, command_line, finish

_PACKAGE = "msda_theory"


@dataclass(frozen=True)
class Config:
    """What is run.

    Attributes:
        least: percent of lines and branches that must be covered.
        tests: files or folders of tests, below ``tests/``; the whole suite.
    """

    least: float = 95.0
    tests: tuple[str, ...] = ("tests",)

    def __post_init__(self) -> None:
        inside(self.tests, ROOT / "tests", ROOT)


def run(config: Config, *, jobs: int = 1, folder: Path = RESULTS) -> dict[str, Any]:
    """Run the tests under coverage.py and count lines and branches by file."""
    return cached(
        folder / "branch_coverage.json",
        config,
        code_digest("branch_coverage.py", *_tests()),
        command_line("experiments.branch_coverage", config),
        lambda: summary(_measured(config.tests, jobs), config.least),
    )


def _tests() -> list[str]:
    """All files of tests and what they share, whichever are run: a record of other tests is another one."""
    return sorted(p.relative_to(ROOT).as_posix() for p in (ROOT / "tests").rglob("*.py"))


def _measured(tests: tuple[str, ...], jobs: int) -> dict[str, Any]:
    """Coverage.py's report in JSON.

    Raises:
        RuntimeError: if the tests fail.
    """
    with tempfile.TemporaryDirectory() as kept:
        report = Path(kept) / "report.json"
        command = [sys.executable, "-m", "pytest", *tests, "-q"]
        command += ["-n", str(jobs), "--dist", "worksteal"] if jobs > 1 else []
        command += [f"--cov={_PACKAGE}", "--cov-branch", "--cov-report=", f"--cov-report=json:{report}"]
        environment = {**os.environ, "COVERAGE_FILE": str(Path(kept) / "data")}
        done = subprocess.run(command, cwd=ROOT, env=environment, check=False)
        if done.returncode:
            raise RuntimeError(
                f"expected tests that pass, got status {done.returncode} of pytest; mend them, coverage counts then."
            )
        found: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
        return found


def summary(report: dict[str, Any], least: float) -> dict[str, Any]:
    """Counts by file and folder of the package, and the check.

    Args:
        report: of coverage.py, in JSON, with branches.
        least: percent that must be covered.

    Returns:
        ``files`` and ``parts`` (rows with ``statements``, ``missing``, ``branches``, ``missing_branches``, ``percent``;
        those of files with the lines and the branches [from, to] that are missing, to < 0 being an exit), ``total``.
    """
    files = []
    for name, found in sorted(report["files"].items()):
        counts = _counts(found["summary"])
        places = {"lines": found["missing_lines"], "jumps": found["missing_branches"]}
        files.append({"file": PurePosixPath(name).as_posix(), **counts, **places})
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in files:
        groups.setdefault(_part(row["file"]), []).append(row)
    parts = [{"part": part, **_together(rows)} for part, rows in sorted(groups.items())]
    total = _together(files)
    detail = f"{total['percent']:.2f} % of {total['statements'] + total['branches']:,} lines and branches"
    checks = [check(f"at least {least:g} % are covered", total["percent"] >= least, detail)]
    return {"files": files, "parts": parts, "total": total, "version": report["meta"]["version"], "checks": checks}


def _counts(found: dict[str, Any]) -> dict[str, Any]:
    counts = {
        "statements": found["num_statements"],
        "missing": found["missing_lines"],
        "branches": found["num_branches"],
        "missing_branches": found["missing_branches"],
    }
    return {**counts, "percent": _percent(counts)}


def _together(rows: list[dict[str, Any]]) -> dict[str, Any]:
    counts = {k: sum(r[k] for r in rows) for k in ("statements", "missing", "branches", "missing_branches")}
    return {**counts, "percent": _percent(counts)}


def _percent(counts: dict[str, Any]) -> float:
    """Of lines and branches; all of nothing."""
    made = counts["statements"] + counts["branches"]
    return 100 * (1 - (counts["missing"] + counts["missing_branches"]) / made) if made else 100.0


def _part(file: str) -> str:
    """The folder below the package; the modules beside these folders count together."""
    inner = PurePosixPath(file).relative_to(_PACKAGE).parts
    return f"{inner[0]}/" if len(inner) > 1 else "./"


def main(config: Annotated[Config, tyro.conf.arg(name="")] = Config(), jobs: int = os.cpu_count() or 1) -> None:
    """Run the suite on ``jobs`` processes and count."""
    finish(run(config, jobs=jobs))


if __name__ == "__main__":
    tyro.cli(main)
