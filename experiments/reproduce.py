"""The main job: train, measure, draw. ``make reproduce`` runs it; everything lands under ``results/``.

Runs that were already made with the same configuration and code are not made again. At the end: the table, where the
figures are, each experiment's checks, and how the numbers compare with the committed records.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from experiments import (
    alpha_sweep,
    digit_nets,
    expansion_gap,
    law_zoo,
    mask_coefficients,
    mask_gallery,
    remainder_order,
    tables,
    tables_gap,
)
from experiments.files import write_whole
from experiments.record import RECORDS, RESULTS, ROOT, ClaimFailed, failed


@dataclass(frozen=True)
class Config:
    """Number of processes, output folder."""

    jobs: int = os.cpu_count() or 1
    out: Path = RESULTS


def reproduce(config: Config) -> tables.Records:
    """Run every experiment and draw every figure; returns the records by name."""
    mask_gallery.run(mask_gallery.Config(), folder=config.out)
    mask_coefficients.run(mask_coefficients.Config(), folder=config.out)
    gap = expansion_gap.Config()
    digit_nets.run(gap.training, jobs=config.jobs, folder=config.out)
    order = remainder_order.Config()
    remainder_order.run(order, jobs=config.jobs, folder=config.out)
    expansion_gap.run(gap, jobs=config.jobs, folder=config.out)
    law_zoo.run(law_zoo.Config(), jobs=config.jobs, folder=config.out)
    alpha_sweep.run(alpha_sweep.Config(), jobs=config.jobs, folder=config.out)
    records = tables.load(config.out)
    pages = (tables_gap.main_table(records), tables_gap.ladder_table(records))
    write_whole(config.out / "table.md", ("\n\n".join(pages) + "\n").encode())
    write_whole(config.out / "table.csv", tables_gap.every_network(records).to_csv(index=False).encode())
    folders = ["--records", str(config.out), "--out", str(config.out / "figures")]
    subprocess.run([sys.executable, "-m", "figures.make", *folders, "--no-benchmarks"], cwd=ROOT, check=True)
    return records


def drift(records: tables.Records, committed: Path = RECORDS) -> str:
    """Largest difference of a share explained between these records and the committed ones, in standard errors."""
    path = committed / "expansion_gap.json"
    if not path.exists():
        return "no committed records to compare with"
    old, new = (
        _shares(r) for r in (tables.load(committed, ("expansion_gap",))["expansion_gap"], records["expansion_gap"])
    )
    if old.keys() != new.keys():
        return "the committed records hold other cells: their configuration differs"
    if old == new:
        return f"all {len(new)} shares explained are identical to the committed records"
    worst = max(new, key=lambda k: abs(new[k][0] - old[k][0]))
    return (
        f"largest difference of {len(new)} shares explained to the committed records: "
        f"{100 * abs(new[worst][0] - old[worst][0]):.1f} points at {' / '.join(worst)} "
        f"(standard error over networks {100 * new[worst][1]:.1f}); training differs in rounding between machines"
    )


def _shares(record: dict[str, Any]) -> dict[tuple[str, ...], tuple[float, float]]:
    key = ("training", "activation", "strategy", "law", "at")
    rows = record["result"]["summary"]
    return {tuple(r[k] for k in key): (r["explained"]["mean"], r["explained"]["se"]) for r in rows}


def main(config: Config) -> None:
    """Run, then print what was found."""
    start = time.monotonic()
    records = reproduce(config)
    print("\n" + tables_gap.main_table(records) + "\n")
    print(
        "Means over seeds; the last five columns are shares of the rise explained, in %. " + tables_gap.setting(records)
    )
    print()
    for name, record in records.items():
        bad = failed(record)
        checks = len(record["result"].get("checks", []))
        print(f"{name}: {checks - len(bad)} of {checks} checks hold" + "".join(f"\n  FAILS {line}" for line in bad))
    out = _shown(config.out)
    print(f"\nThis table and all terms at every point: {out}/table.md; every single network: {out}/table.csv")
    print(f"Figures (PDF, PNG): {out}/figures/")
    print(f"Against the committed records: {drift(records)}.")
    print(f"{time.monotonic() - start:.0f} s")
    if any(failed(r) for r in records.values()):
        raise ClaimFailed(1)


def _shown(path: Path) -> str:
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


if __name__ == "__main__":
    main(tyro.cli(Config))
