"""What the template of the page shows: records, tables, figures and claims as plain values."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
from markupsafe import Markup, escape

from experiments.claims import Claim
from experiments.headlines import headline
from experiments.record import RECORDS, ROOT, failed, read_record
from figures.make import Drawing
from reporting.gather import Source
from reporting.section import Record, Section, Table

ASSETS = Path(__file__).resolve().parent / "assets"
LONG = 40  # rows from which a table is not printed
SHOWN = 0.4  # pixels of the page for one of a figure, which has 300 an inch
_CODE = re.compile(r"`([^`]+)`")
_LINK = re.compile(r"\[([^\]]+)\]\([^)]+\)")


def render(title: str, claims: list[dict[str, Any]], sections: list[dict[str, Any]]) -> str:
    """The page as HTML."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(ASSETS), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["prose"] = prose
    style, script = (Markup((ASSETS / name).read_text(encoding="utf-8")) for name in ("page.css", "page.js"))
    template = environment.get_template("page.html.j2")
    return template.render(title=title, claims=claims, sections=sections, style=style, script=script)


def prose(text: str) -> Markup:
    """Escaped text with `code` marked up, and links reduced to their words: the page loads and needs nothing else."""
    return Markup(_CODE.sub(r"<code>\1</code>", str(escape(_LINK.sub(r"\1", text)))))


def claim_view(claim: Claim, sources: Mapping[str, Source]) -> dict[str, Any]:
    """A row of the ledger: verdict, headline, link to what shows it; open where a record is missing."""
    missing = [name for name in claim.records if name not in sources]
    number = "" if missing else headline(claim.key, {k: s.record for k, s in sources.items()})
    return {
        "key": claim.key,
        "text": claim.text,
        "reported": claim.reported,
        "verdict": "open" if missing else claim.verdict,
        "note": f"not measured here: {', '.join(command_for(m) for m in missing)}" if missing else claim.note,
        "number": number,
        "shown": None if missing else claim.shown,
        "kind": claim.shown.partition("-")[0],
        "commands": claim.commands,
        "tests": claim.tests,
    }


def section_view(
    section: Section, sources: Mapping[str, Source], drawn: Iterable[str], figures: Mapping[str, Drawing], folder: Path
) -> dict[str, Any]:
    """A section: what is there is shown, and for each missing record the command that makes it."""
    missing = [name for name in section.records if name not in sources]
    names = [n for n in (*section.records, *section.optional) if n in sources]
    records: dict[str, Record] = {k: s.record for k, s in sources.items()}
    there, shown = set(drawn), [sources[n].record for n in names]
    return {
        "key": section.key,
        "title": section.title,
        "text": section.text,
        "missing": [{"name": m, "command": command_for(m)} for m in missing],
        "findings": [] if missing else section.findings(records),
        "figures": [
            _figure_view(n, figures[n].caption(records), folder) for n in section.figures if n in there
        ],
        "tables": [] if missing else [table_view(t) for t in section.tables(records)],
        "records": [record_view(n, sources[n]) for n in names],
        "commands": list(dict.fromkeys(sources[n].record["command"] for n in names)),
        "failed": [line for r in shown for line in failed(r)],
        "expectations": [e | {"came": _came(e)} for r in shown for e in r["result"].get("expectations", [])],
    }  # fmt: skip


def table_view(table: Table) -> dict[str, Any]:
    """Shown cells with the values they are sorted by, and all data as CSV."""
    rows = []
    for row in table.frame.to_dict(orient="records"):
        cells = []
        for c in table.columns:
            value = row.get(c.name)
            number = isinstance(value, int | float) and not isinstance(value, bool) and c.digits is not None
            cells.append({"text": c.show(row), "value": value if number and value == value else None, "number": number})
        rows.append(cells)
    return {
        "name": table.name,
        "title": table.title,
        "note": table.note,
        "heads": [{"title": c.title, "number": c.digits is not None} for c in table.columns],
        "rows": rows,
        "long": len(rows) > LONG,
        "count": len(rows),
        "csv": _csv_uri(table),
    }


def record_view(name: str, source: Source) -> dict[str, Any]:
    """Provenance of a record."""
    record = source.record
    path = source.path.resolve()
    return {
        "name": name,
        "file": str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else path.name,
        "commit": record.get("commit") or "not recorded",
        "date": record.get("date", "not recorded"),
        "machine": record.get("machine", "not recorded"),
        "versions": ", ".join(f"{k} {v}" for k, v in record.get("versions", {}).items() if v),
        "wall": _duration(record.get("wall_s")),
        "command": record["command"],
        "checks": len(record["result"].get("checks", [])),
        "failed": len(failed(record)),
    }


def _came(expectation: Mapping[str, Any]) -> str:
    """What came of an expectation; nothing where no cell could tell."""
    empty = expectation.get("cells") == [] or expectation["detail"].startswith("no cell")
    return "not told" if empty else "as expected" if expectation["holds"] else "not as expected"


@cache
def command_for(name: str) -> str:
    """The command that makes a record: that of the committed one, else the module of its name."""
    committed = read_record(RECORDS / f"{name}.json")
    return f"python -m experiments.{name}" if committed is None else str(committed["command"])


def _figure_view(name: str, caption: str, folder: Path) -> dict[str, Any]:
    png, pdf = folder / f"{name}.png", folder / f"{name}.pdf"
    header = png.read_bytes()[16:24]  # width and height in pixels, big endian
    width, height = (int.from_bytes(header[i : i + 4], "big") for i in (0, 4))
    return {
        "name": name,
        "caption": caption,
        "png": _data_uri("image/png", png.read_bytes()),
        "pdf": _data_uri("application/pdf", pdf.read_bytes()),
        "width": round(SHOWN * width),
        "height": round(SHOWN * height),
    }


def _csv_uri(table: Table) -> str:
    """The data as a link; percent signs take less room than base64 here. Seven digits are beyond every error."""
    text = table.frame.to_csv(index=False, float_format="%.7g")
    return f"data:text/csv;charset=utf-8,{quote(text, safe=',:;()+=/')}"


def _data_uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "not recorded"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
