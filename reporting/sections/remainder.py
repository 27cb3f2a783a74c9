"""Order of the remainder: are the terms right?"""

from __future__ import annotations

from figures.style import LAWS, NAMES
from reporting.section import Column, Records, Section, Table, flat, named


def _tables(records: Records) -> list[Table]:
    rows = named(flat(records["remainder_order"]["result"]["rows"]), strategy=NAMES, law=LAWS)
    return [
        Table(
            "remainder_order",
            "Slope of the remainder by strategy and law",
            rows,
            (
                Column("strategy", "strategy"),
                Column("law", "law"),
                Column("kind", "terms"),
                Column("slope", "slope", 3),
            ),
            "Least squares in log-log over the smallest steps; masks and partners enumerated, so no sampling error.",
        )
    ]


SECTION = Section(
    key="remainder",
    order=15,
    title="Are the terms right?",
    text=(
        "With the step shrunk to t times itself, correct terms leave a remainder of third order: slope 3 in log-log. A "
        "coefficient that is 1 % off leaves slope 2. This is the main test of the code, on a trained smooth network in "
        "float64.",
    ),
    records=("remainder_order",),
    figures=("remainder",),
    tables=_tables,
)
