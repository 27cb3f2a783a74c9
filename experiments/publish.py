"""Make the results the committed ones: records, figures, and the marked blocks of the README and the other pages.

``make records`` runs it after ``make reproduce``; the records of the benchmarks come from ``make bench``. Weights and
the records of single networks stay behind.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from experiments import tables
from experiments.record import RECORDS, RESULTS, ROOT, write_record, write_whole
from figures import make

PAGES = (
    *("README.md", "paper_repro.md", "docs/engine.md", "docs/laws.md", "docs/first_layer.md", "docs/tasks.md"),
    *("docs/training.md", "docs/robustness.md", "docs/theory_training.md", "docs/findings.md", "docs/dropmix.md"),
    "docs/reliability.md",
)


def publish() -> None:
    """Copy the records, draw the figures from them, fill the pages.

    All is made elsewhere first, so that a missing record, a figure that cannot be drawn or a kill before the end leaves
    the committed files as they were. Then each file is replaced whole; stopped in the middle of that, do it again.
    """
    with tempfile.TemporaryDirectory() as folder:
        staged, drawn = Path(folder) / "records", Path(folder) / "figures"
        shutil.copytree(RECORDS, staged)
        for name, record in tables.load_all(RESULTS).items():
            write_record(staged / f"{name}.json", record)
        figures = {
            path.name: path.read_bytes()
            for path in make.make(make.Config(records=staged, out=drawn))
            # Committed: what the pages show. Not the masks: their figure holds photographs of others.
            if path.suffix == ".png" and path.stem != "masks"
        }
        records = tables.load_all(staged)
        pages = {page: tables.fill((ROOT / page).read_text(encoding="utf-8"), records) for page in PAGES}
    for name, record in records.items():
        write_record(RECORDS / f"{name}.json", record)
    shown = ROOT / "docs" / "figures"
    for name, content in figures.items():
        write_whole(shown / name, content)
    for old in shown.iterdir():
        if old.name not in figures:
            old.unlink()
    for page, text in pages.items():
        write_whole(ROOT / page, text.encode())


if __name__ == "__main__":
    publish()
