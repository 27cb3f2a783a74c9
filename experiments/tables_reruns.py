"""Table and sentence on records that were made again, from the record of ``reruns``."""

from __future__ import annotations

from typing import Any

Record = dict[str, Any]


def blocks(records: dict[str, Record]) -> dict[str, str]:
    """The generated blocks by name."""
    return {"reruns-sentence": sentence(records["reruns"]), "reruns": table(records["reruns"])}


def sentence(record: Record) -> str:
    """How many came again, and how far off the others are."""
    rows = record["result"]["rows"]
    same, beyond, refused = ([r for r in rows if r.get(k)] for k in ("identical", "beyond", "refused"))
    names = [r["record"] for r in rows]
    which = " (those of `make reproduce`)" if record["command"].endswith(".reruns") else ""
    text = f"{len(same)} of the {len(rows)} records {', '.join(f'`{n}`' for n in names)}{which} come again to the bit"
    others = [r for r in rows if not (r["identical"] or r["beyond"] or r.get("refused"))]
    if others:
        text += f", {len(others)} but for rounding"
    text += f", {len(beyond)} differ by more than rounding" if beyond else ", none differs by more than rounding"
    text += f", {len(refused)} could not be made again" if refused else ""
    numbers = sum(r["numbers"] for r in rows)
    code = f"code of `{str(record['commit'])[:8]}`"
    return f"{text} ({numbers:,} numbers; {code}; {record['machine']}; `{record['command']}`)."


def table(record: Record) -> str:
    """One line a record, as Markdown."""
    lines = [
        "| record | made at | numbers | other values | differ | by more than rounding | largest relative difference "
        "| where |",
        "|---|---|" + "--:|" * 5 + "---|",
    ]
    for row in record["result"]["rows"]:
        if row.get("refused"):
            lines.append(f"| `{row['record']}` | refused: {row['refused'].replace('|', '/')} |" + " |" * 6)
            continue
        counts = " | ".join(f"{row[k]:,}" for k in ("numbers", "others", "differ", "beyond"))
        largest = f"{row['largest']:.1e}" if row["differ"] else ""
        place = f"`{row['place'].removeprefix('result.')}`" if row["differ"] else ""
        lines.append(f"| `{row['record']}` | `{row['commit']}` | {counts} | {largest} | {place} |")
    return "\n".join(lines)
