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
    same, beyond = [r for r in rows if r["identical"]], [r for r in rows if r["beyond"]]
    text = f"{len(same)} of {len(rows)} records of `make reproduce` come again to the bit"
    others = [r for r in rows if not r["identical"] and not r["beyond"]]
    if others:
        text += f", {len(others)} within {max(r['largest'] for r in others):.1e} of a number"
    text += f", {len(beyond)} differ by more than rounding" if beyond else ", none differs by more than rounding"
    numbers = sum(r["numbers"] for r in rows)
    return f"{text} ({numbers:,} numbers; {record['machine']}; `{record['command']}`)."


def table(record: Record) -> str:
    """One line a record, as Markdown."""
    lines = [
        "| record | made at | numbers compared | differ | by more than rounding | largest relative difference |",
        "|---|---|" + "--:|" * 4,
    ]
    for row in record["result"]["rows"]:
        counts = " | ".join(f"{row[k]:,}" for k in ("numbers", "differ", "beyond"))
        largest = f"{row['largest']:.1e}" if row["differ"] else ""
        lines.append(f"| `{row['record']}` | `{row['commit']}` | {counts} | {largest} |")
    return "\n".join(lines)
