"""Build the report: ``python -m reporting.build``, or ``make report``. One file; it loads nothing from elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from experiments.claims import CLAIMS, Claim
from experiments.record import RECORDS, RESULTS, ROOT, write_whole
from figures import make
from figures.make import Drawing
from reporting import page
from reporting.gather import draw, find_records
from reporting.section import Section, sections

TITLE = "Mixed-sample data augmentation: what the theory says, and what was measured"


@dataclass(frozen=True)
class Config:
    """Folders where records are looked for, of two of a name the one made last; folder of the page and its figures."""

    records: tuple[Path, ...] = (RESULTS, RECORDS)
    out: Path = ROOT / "report"


def build(config: Config) -> Path:
    """The report on all studies; returns the page."""
    return _write(TITLE, CLAIMS, sections(), {**make.FIGURES, **make.BENCHMARKS}, config.records, config.out)


def build_own(folder: Path, out: Path) -> Path:
    """The page on models of the user's, from the records that `experiments.compare` wrote into ``folder``."""
    return _write(f"Comparison: {folder.name}", (), sections("own"), make.OWN, (folder,), out)


def _write(
    title: str,
    claims: Sequence[Claim],
    shown: Sequence[Section],
    figures: Mapping[str, Drawing],
    folders: Sequence[Path],
    out: Path,
) -> Path:
    names = dict.fromkeys(
        n
        for needed in (*((*s.records, *s.optional) for s in shown), *(d.records for d in figures.values()))
        for n in needed
    )
    sources = find_records(folders, tuple(names))
    wanted = {n: figures[n] for s in shown for n in s.figures}
    drawn = draw(wanted, sources, out / "figures")
    html = page.render(
        title,
        [page.claim_view(c, sources) for c in claims],
        [page.section_view(s, sources, drawn, figures, out / "figures") for s in shown],
    )
    write_whole(out / "index.html", html.encode())
    return out / "index.html"


def main(config: Config) -> None:
    """Build and say where."""
    start = time.monotonic()
    path = build(config)
    shown = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
    print(f"{shown}: {path.stat().st_size / 1e6:.1f} MB, {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main(tyro.cli(Config))
