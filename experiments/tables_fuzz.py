"""Table and sentence on the fuzzing of readers, from the record of ``fuzz_readers``."""

from __future__ import annotations

from typing import Any

Record = dict[str, Any]


def blocks(records: dict[str, Record]) -> dict[str, str]:
    """The generated blocks by name."""
    record = records["fuzz_readers"]
    return {"fuzz-sentence": sentence(record), "fuzz-readers": f"{sentence(record)}\n\n{table(record)}"}


def sentence(record: Record) -> str:
    """What was tried and how it ended."""
    result, config = record["result"], record["config"]
    outcomes = result["outcomes"]
    wrong = result["cases"] - outcomes.get("read", 0) - outcomes.get("refused", 0)
    faults = len({fault for row in result["rows"] for fault in row["faults"]} - {"none"})
    others = "; ".join(f"{name}: {count:,}" for name, count in outcomes.items() if name not in ("read", "refused"))
    slowest = max(result["rows"], key=lambda row: row["slowest_s"])
    return (
        f"Seed {config['seed']}, {result['cases']:,} cases of {faults} faults and {len(result['rows'])} readers, "
        f"{result['different']:,} of them different: {outcomes.get('read', 0):,} were read and held what was read, "
        f"{outcomes.get('refused', 0):,} were refused by an error that names the file and says what to do, and "
        f"{wrong:,} ended otherwise{f' ({others})' if others else ''}. The slowest case took "
        f"{slowest['slowest_s']:.2f} s of one "
        f"core ({slowest['reader']}: {slowest['slowest']})."
    )


def table(record: Record) -> str:
    """Counts by reader, memory and time, as Markdown."""
    result = record["result"]
    head = ["reader", "cases", "of large files", "read", "refused", "otherwise"]
    head += ["factor", "constant (MiB)", "largest share of the bound", "slowest (s)", "fault of the slowest"]
    lines = [f"| {' | '.join(head)} |", "|---|" + "--:|" * 9 + "---|"]
    for row in result["rows"]:
        read, refused = (row["outcomes"].get(name, 0) for name in ("read", "refused"))
        counts = [f"{n:,}" for n in (row["cases"], row["large"], read, refused, row["cases"] - read - refused)]
        numbers = [f"{row['factor']:.0f}", f"{row['constant'] / 2**20:.0f}", f"{row['share_of_bound']:.2f}"]
        numbers += [f"{row['slowest_s']:.3f}", row["slowest"]]
        lines.append(f"| {' | '.join([row['reader'], *counts, *numbers])} |")
    return "\n".join(lines)
