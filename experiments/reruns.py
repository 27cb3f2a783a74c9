"""Do committed records come again? Each is made anew from what it says of itself, and every number compared.

Which are run: those of ``make reproduce``, unless others are named. Where the code has changed since a record was
made, this also asks whether the change changed a number; the row says so. Nothing is bent to agree: a difference beyond
rounding (`experiments.differences`) is shown with its place, a record that cannot be made again with the reason.

Checks, which must hold: none differs by more than rounding, and all can be made again. Cost: that of ``make
reproduce``, twice over where one experiment trains what another one needs. Record: ``reruns.json``.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from tqdm import tqdm

from experiments.record import RECORDS, RESULTS, ROOT, cached, check, code_digest, command_line, finish, read_record
from experiments.rerun import rerun
from experiments.tables import EXPERIMENTS


@dataclass(frozen=True)
class Config:
    """Names of the records that are made again."""

    records: tuple[str, ...] = EXPERIMENTS

    def __post_init__(self) -> None:
        if "reruns" in self.records:
            raise ValueError("expected records of other studies, got reruns, which would not end; leave it out.")


def run(config: Config, *, jobs: int = 1, folder: Path = RESULTS, source: Path = RECORDS) -> dict[str, Any]:
    """Make the records of the folder ``source`` again and compare."""
    return cached(
        folder / "reruns.json",
        config,
        _digest(config, source),
        command_line("experiments.reruns", config),
        lambda: _run(config, jobs, source),
    )


def _digest(config: Config, source: Path) -> str:
    """Of the code of all experiments, any of which may be run, and of the records that they are compared with."""
    experiments = sorted(p.name for p in (ROOT / "experiments").glob("*.py"))
    digest = hashlib.sha256()
    for name in config.records:
        with contextlib.suppress(OSError):  # one that is not there becomes a row
            digest.update(f"{name} {hashlib.sha256((source / f'{name}.json').read_bytes()).hexdigest()}\n".encode())
    return f"{code_digest(*experiments)}:{digest.hexdigest()}"


def _run(config: Config, jobs: int, source: Path) -> dict[str, Any]:
    rows = [_row(source / f"{name}.json", jobs) for name in tqdm(config.records, desc="reruns")]
    beyond = {row["record"]: row["beyond"] for row in rows if row["beyond"]}
    detail = f"{sum(row['identical'] for row in rows)} of {len(rows)} identical to the bit; beyond: {beyond or 'none'}"
    refused = {row["record"]: row["refused"] for row in rows if row["refused"]}
    checks = [
        check("no record differs by more than rounding", not beyond, detail),
        check("every record can be made again", not refused, f"refused: {refused or 'none'}"),
    ]
    return {"rows": rows, "checks": checks}


def _row(path: Path, jobs: int) -> dict[str, Any]:
    """What came of one record, or why it could not be made again; then all counts are 0."""
    try:
        outcome = rerun(path, jobs=jobs)
    except Exception as error:  # the other records count all the same
        none = dict.fromkeys(("numbers", "others", "differ", "beyond"), 0)
        reason = f"{type(error).__name__}: {error}"
        return {"record": path.stem, "commit": "", **none, "identical": False, "largest": 0.0, "place": ""} | {
            "refused": reason.replace(f"{path.parent}{os.sep}", ""), "notes": [], "again_s": 0.0,
        }  # fmt: skip
    found, record = outcome.comparison, read_record(path)
    largest = found.largest
    return {
        "record": path.stem,
        "commit": str((record or {}).get("commit"))[:8],
        "numbers": found.numbers,
        "others": found.others,
        "differ": len(found.found),
        "beyond": len(found.beyond),
        "identical": found.identical,
        "largest": largest.relative if largest else 0.0,
        "place": largest.place if largest else "",
        "refused": "",
        "notes": list(outcome.notes),
        "again_s": round(outcome.seconds, 1),
    }


def main(config: Annotated[Config, tyro.conf.arg(name="")] = Config(), jobs: int = os.cpu_count() or 1) -> None:
    """Make records again, ``jobs`` processes at a time."""
    finish(run(config, jobs=jobs))


if __name__ == "__main__":
    tyro.cli(main)
