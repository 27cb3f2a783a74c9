"""Tables on mutants, from the record of ``mutants``."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from experiments.mutants import KINDS

Record = dict[str, Any]


def blocks(records: dict[str, Record]) -> dict[str, str]:
    """The generated blocks by name."""
    record = records["mutants"]
    return {
        "mutants-sentence": sentence(record),
        "mutants-files": files_table(record),
        "mutants-survivors": survivors_table(record),
        "mutants-setting": setting(record),
    }


def files_table(record: Record) -> str:
    """What became of the mutants of each file, as Markdown."""
    result = record["result"]
    lines = ["| file | mutants | killed | of these by the time limit | by a crash | survived | killed (%) |"]
    lines.append("|---|" + "--:|" * 6)
    for row in [*result["files"], {**result["total"], "file": "all"}]:
        name = f"`{row['file'].removeprefix('msda_theory/')}`" if row["file"] != "all" else "**all**"
        counts = [str(row[k]) for k in ("made", "killed", "by_time", "by_crash", "survived")]
        lines.append(f"| {' | '.join([name, *counts])} | {100 * row['share']:.1f} |")
    return "\n".join(lines)


def survivors_table(record: Record) -> str:
    """Survivors by function and explanation, as Markdown; what was changed is written ``before -> after``."""
    groups: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for s in record["result"]["survivors"]:
        place = f"{s['file'].removeprefix('msda_theory/')}:{s['line']}"
        groups[place, s["function"], s["before"], s["kind"], s["why"]].append(s["after"])
    lines = ["| where | as it is | changed to | difference | why no test can or need see it |", "|---|---|---|---|---|"]
    for (place, function, before, kind, why), after in groups.items():
        where = f"`{place}`" + (f" `{function}`" if function else "")
        changes = "<br>".join(_code(a) for a in after)
        lines.append(f"| {where} | {_code(before)} | {changes} | {kind} | {why} |")
    return "\n".join(lines)


def sentence(record: Record) -> str:
    """How many were killed, and what is known of the others."""
    total, kinds = record["result"]["total"], record["result"]["kinds"]
    found = [f"{kinds[k]} {k} ({text})" for k, text in KINDS.items() if kinds.get(k)]
    found += [f"{kinds['unexplained']} without an explanation"] if kinds.get("unexplained") else []
    return (
        f"{total['killed']} of {total['made']} mutants are killed, {100 * total['share']:.1f} %; {total['survived']} "
        f"survive: {'; '.join(found)}."
    )


def setting(record: Record) -> str:
    """Counts, what the kinds mean, limits, versions."""
    result, config = record["result"], record["config"]
    tools = ", ".join(f"{name} {number}" for name, number in result["tools"].items())
    return (
        f"{sentence(record)} Each met those of {result['tests']['tests']} tests that run its lines, of no more "
        f"than {config['longest']:g} s each and {config['seconds']:g} s together: what is killed by others only counts "
        f"as a survivor. {result['seconds'] / 3600:.1f} h of one process. {tools}; {record['machine']}; "
        f"`{record['command']}`."
    )


def _code(text: str) -> str:
    return f"`{text.replace('|', '&#124;')}`" if "|" not in text else f"<code>{text.replace('|', '&#124;')}</code>"
