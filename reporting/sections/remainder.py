"""Order of the remainder: are the terms right?"""

from __future__ import annotations

from reporting.section import Column, Records, Section, Table, curves, flat


def _tables(records: Records) -> list[Table]:
    rows = flat(records["remainder_order"]["result"]["rows"])
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
        ),
        Table(
            "remainder_points",
            "The points of the figure",
            curves(
                records["remainder_order"]["result"]["rows"],
                ("strategy", "law", "kind"),
                ("t", "remainder", "fitted"),
            ),
        ),
    ]


SECTION = Section(
    key="remainder",
    order=15,
    title="Are the terms right?",
    text=(
        "With the step shrunk to t times itself, correct terms leave a remainder of third order: slope 3 in log-log. "
        "With a coefficient that is 1 % off the slope tends to 2. This is the main test of the code, on a trained "
        "smooth network in float64.",
    ),
    records=("remainder_order",),
    figures=("remainder",),
    tables=_tables,
)
