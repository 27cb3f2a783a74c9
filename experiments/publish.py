"""Make the results the committed ones: records, figures, and the marked blocks of the README and the other pages.

``make records`` runs it after ``make reproduce``; the records of the benchmarks come from ``make bench``. Weights and
the records of single networks stay behind.
"""

from __future__ import annotations

import shutil

from experiments import tables
from experiments.record import RECORDS, RESULTS, ROOT, write_record, write_whole
from figures import make

PAGES = (
    *("README.md", "paper_repro.md", "docs/engine.md", "docs/laws.md", "docs/first_layer.md", "docs/tasks.md"),
    *("docs/training.md", "docs/robustness.md", "docs/theory_training.md", "docs/findings.md", "docs/dropmix.md"),
    "docs/reliability.md",
)


def publish() -> None:
    """Copy the records, draw the figures from them, fill the pages."""
    for name, record in tables.load_all(RESULTS).items():
        write_record(RECORDS / f"{name}.json", record)
    drawn = ROOT / "docs" / "figures"
    shutil.rmtree(drawn, ignore_errors=True)
    for path in make.make(make.Config(records=RECORDS, out=drawn)):
        # Committed: what the pages show. Not the masks: their figure holds photographs of others.
        if path.suffix != ".png" or path.stem == "masks":
            path.unlink()
    records = tables.load_all(RECORDS)
    for page in PAGES:
        path = ROOT / page
        write_whole(path, tables.fill(path.read_text(encoding="utf-8"), records).encode())


if __name__ == "__main__":
    publish()
