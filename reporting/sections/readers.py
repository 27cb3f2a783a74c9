"""Readers of files, fuzzed."""

from __future__ import annotations

from experiments import tables_fuzz
from reporting.section import Column, Records, Section, Table, flat


def _tables(records: Records) -> list[Table]:
    result = records["fuzz_readers"]["result"]
    rows = [
        {
            "constant": row["constant"] / 2**20,
            **{
                name: row[name]
                for name in ("reader", "cases", "large", "factor", "share_of_bound", "slowest_s", "slowest")
            },
            "read": row["outcomes"].get("read", 0),
            "refused": row["outcomes"].get("refused", 0),
            "otherwise": row["cases"] - row["outcomes"].get("read", 0) - row["outcomes"].get("refused", 0),
        }
        for row in result["rows"]
    ]
    return [
        Table(
            "fuzz_readers",
            "How the cases of every reader ended",
            flat(rows),
            (
                Column("reader", "reader"),
                Column("cases", "cases", 0),
                Column("large", "of large files", 0),
                Column("read", "read", 0),
                Column("refused", "refused", 0),
                Column("otherwise", "otherwise", 0),
                Column("factor", "factor", 0),
                Column("constant", "constant (MiB)", 0),
                Column("share_of_bound", "largest share of the bound", 2),
                Column("slowest_s", "slowest (s)", 3),
                Column("slowest", "fault of the slowest"),
            ),
            "Read: what came back is what the file holds. Refused: an error that names the file and says what to do. "
            "Otherwise: a crash, a hang, another error, too much memory, or something run. Bound of the memory: factor "
            "times the legitimate size, plus the constant.",
        )
    ]


SECTION = Section(
    key="readers",
    order=160,
    title="What do the readers make of broken and of hostile files?",
    text=(
        "Every reader of files was given files that are cut, flipped, spliced, no files at all, or made to do harm, "
        "in a process of its own whose memory is limited and whose calls are seen.",
    ),
    records=("fuzz_readers",),
    findings=lambda records: [tables_fuzz.sentence(records["fuzz_readers"])],
    tables=_tables,
)
