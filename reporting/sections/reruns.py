"""Records that were made again."""

from __future__ import annotations

from experiments import tables_reruns
from reporting.section import Column, Records, Section, Table, flat


def _tables(records: Records) -> list[Table]:
    rows = records["reruns"]["result"]["rows"]
    refused = (Column("refused", "refused"),) if any(row.get("refused") for row in rows) else ()
    return [
        Table(
            "reruns",
            "Records made again from what they say of themselves",
            flat(rows),
            (
                Column("record", "record"),
                Column("commit", "made at"),
                Column("numbers", "numbers compared", 0),
                Column("others", "other values", 0),
                Column("differ", "differ", 0),
                Column("beyond", "by more than rounding", 0),
                Column("place", "where most"),
                *refused,
            ),
            "Compared: all numbers and other values of the result but times. Differ: other in at least one bit.",
        )
    ]


SECTION = Section(
    key="reruns",
    order=145,
    title="Do the records come again?",
    text=(
        "Every record holds what is needed to make it again. Those listed here were, by the code of a later commit, "
        "and compared with the committed ones number by number.",
    ),
    records=("reruns",),
    findings=lambda records: [tables_reruns.sentence(records["reruns"])],
    tables=_tables,
)
