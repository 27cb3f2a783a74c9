"""Which records and figures the report shows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from matplotlib import __version__ as matplotlib_version

from experiments.files import parse, write_whole
from experiments.record import ROOT, read_record
from figures.make import Drawing
from figures.style import use_style
from msda_theory.files import read_whole
from reporting.section import Record


@dataclass(frozen=True)
class Source:
    """A record and the file it comes from."""

    record: Record
    path: Path


def find_records(folders: Sequence[Path], names: Sequence[str]) -> dict[str, Source]:
    """The records called ``names`` that are in any of the folders, by name; of two the one made last."""
    found: dict[str, Source] = {}
    for name in names:
        for folder in folders:
            record = read_record(folder / f"{name}.json")
            if record is None:
                continue
            if name not in found or record.get("date", "") > found[name].record.get("date", ""):
                found[name] = Source(record, folder / f"{name}.json")
    return found


def draw(figures: dict[str, Drawing], sources: dict[str, Source], out: Path) -> list[str]:
    """Draw every figure whose records are there into ``out``; returns their names.

    Nothing is drawn again while records, drawing code and matplotlib are those of the last time.
    """
    wanted = {name: d for name, d in figures.items() if all(r in sources for r in d.records)}
    stamp, digests = out / "drawn.json", {n: _digest(d, sources) for n, d in wanted.items()}
    known = _drawn(stamp)
    old = [n for n, digest in digests.items() if known.get(n) != digest or not (out / f"{n}.png").exists()]
    with TemporaryDirectory() as folder:
        for name, source in sources.items():
            (Path(folder) / f"{name}.json").symlink_to(source.path.resolve())
        use_style()
        for name in old:
            wanted[name].draw(Path(folder), out)
    write_whole(stamp, json.dumps(digests).encode())
    return list(wanted)


def _drawn(stamp: Path) -> dict[str, str]:
    """Digests of the figures drawn last time; none where the file is missing or broken, so that all are drawn again."""
    try:
        known = parse(read_whole(stamp))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _digest(drawing: Drawing, sources: dict[str, Source]) -> str:
    """Of everything that the bytes of a figure depend on."""
    digest = hashlib.sha256(matplotlib_version.encode())
    for path in sorted((ROOT / "figures").glob("*.py")):
        digest.update(path.read_bytes())
    for name, source in sorted(sources.items()):
        if name.startswith(drawing.records):  # bench_taylor_gpu is drawn with bench_taylor where it is there
            digest.update(source.path.read_bytes())
    return digest.hexdigest()
