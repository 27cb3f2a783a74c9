"""The table of approximations with their errors, from the record of ``numerical_errors``."""

from __future__ import annotations

from typing import Any

Record = dict[str, Any]


def blocks(records: dict[str, Record]) -> dict[str, str]:
    """The generated blocks of ``numerical_errors`` by name."""
    record = records["numerical_errors"]
    return {
        "numerical-errors": table(record),
        "numerical-setting": setting(record),
        "numerical-sentence": sentence(record),
    }


def table(record: Record) -> str:
    """Every approximation, as Markdown."""
    lines = [
        "| approximation | where | compared with | largest error | of what, worst case | promised | share of it used, "
        "worst case |",
        "|---|---|---|--:|---|---|---|",
    ]
    for r in record["result"]["rows"]:
        used = f"{share(r)} ({r['strain_place']})" if r["promised"] else "nothing promised"
        worst = f"{r['measure']}; {r['place']}"
        cells = (r["approximation"], r["covered"], r["reference"], f"{r['error']:.1e}", worst, r["promise"], used)
        lines.append(f"| {' | '.join(c.replace('|', chr(92) + '|') for c in cells)} |")
    return "\n".join(lines)


def share(row: dict[str, Any]) -> str:
    """Largest error over what is promised, and whether that holds; a dash where nothing is promised."""
    if not row["promised"]:
        return "-"
    return f"{row['strain']:.2g}" if row["holds"] else f"**{row['strain']:.2g}, does not hold**"


def sentence(record: Record) -> str:
    """How many comparisons, and how many rows keep their promise."""
    rows = record["result"]["rows"]
    bound = [r for r in rows if r["promised"]]
    kept = sum(r["holds"] for r in bound)
    return (
        f"{record['result']['comparisons']:,} comparisons in {len(rows)} rows: of the {len(bound)} rows with a bound, "
        f"{kept} keep it in every case; {len(rows) - len(bound)} have none."
    )


def setting(record: Record) -> str:
    """What the columns mean, and how it was made."""
    return (
        f"{sentence(record)} A share of 1 would be an error as large as what is promised. {record['machine']}; torch "
        f"{record['versions']['torch']}, numpy {record['versions']['numpy']}; `{record['command']}`."
    )
