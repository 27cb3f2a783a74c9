"""Table and sentence on branch coverage, from the record of ``branch_coverage``."""

from __future__ import annotations

from typing import Any

Record = dict[str, Any]


def blocks(records: dict[str, Record]) -> dict[str, str]:
    """The generated blocks by name."""
    record = records["branch_coverage"]
    return {"coverage-sentence": sentence(record), "branch-coverage": f"{sentence(record)}\n\n{table(record)}"}


def sentence(record: Record) -> str:
    """The share of all."""
    total, version = record["result"]["total"], record["result"]["version"]
    whole = record["config"]["tests"] == ["tests"]
    tests = "The suite" if whole else "A part of the suite (the files and folders that the record names)"
    return (
        f"{tests} runs {total['statements'] - total['missing']:,} of {total['statements']:,} lines of the package "
        f"and takes {total['branches'] - total['missing_branches']:,} of {total['branches']:,} branches: "
        f"{total['percent']:.2f} % together (coverage.py {version})."
    )


def table(record: Record) -> str:
    """Counts by part of the package, as Markdown."""
    lines = ["| part | lines | not run | branches | not taken | covered |", "|---|" + "--:|" * 5]
    for row in record["result"]["parts"]:
        counts = [f"{row[k]:,}" for k in ("statements", "missing", "branches", "missing_branches")]
        lines.append(f"| `{row['part']}` | {' | '.join(counts)} | {row['percent']:.1f} % |")
    return "\n".join(lines)
