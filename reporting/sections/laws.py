"""The laws that libraries ship under one name, and laws that are designed."""

from __future__ import annotations

from typing import Any

from experiments import tables_designed, tables_laws
from reporting.section import Column, Records, Section, Table, curves, flat


def _law(row: dict[str, Any]) -> dict[str, Any]:
    """The row with what is measured at the largest size in the place of the list of sizes."""
    return {k: v for k, v in row.items() if k not in ("sizes", "by_distance")} | {"at": row["sizes"][0]}


def _tables(records: Records) -> list[Table]:
    laws, designs = records["law_zoo"]["result"]["rows"], records["designed_law"]["result"]["designs"]
    return [
        Table(
            "law_zoo",
            "Laws under the name CutMix, and this package's",
            flat([_law(r) for r in laws]),
            (
                Column("title", "law"),
                Column("conventions label", "label weight"),
                Column("at share", "mean share", 3, error="se"),
                Column("at label_error", "label error", 3, error="se"),
                Column("at corner", "corner", 3, error="se"),
                Column("at centre", "centre", 3, error="se"),
                Column("relative r2", "R2, relative", 2, error="se"),
                Column("relative rise", "rise, relative", 2, error="se"),
                Column("source", "source"),
            ),
            "± standard error over draws. Relative: to the CutMix of this package, on networks trained with it.",
        ),
        Table(
            "designed_law",
            "Laws from Gaussian fields, designed for a coefficient a(p)",
            flat(designs),
            (
                Column("wish", "wish"),
                Column("label", "label weight"),
                Column("mean_q", "mean share taken", 3),
                Column("worst", "largest distance to the wish", 4),
                Column("rms", "root mean square", 4),
            ),
        ),
        Table(
            "laws_by_distance",
            "The coefficients of the measured laws by distance",
            curves(laws, ("law", "family"), ("by_distance distance", "by_distance coefficient", "by_distance se")),
        ),
        Table(
            "designs_by_distance",
            "The coefficients of the designs by distance",
            curves(designs, ("wish", "label"), ("distance", "wanted_by_distance", "obtained_by_distance")),
        ),
    ]


SECTION = Section(
    key="laws",
    order=70,
    title="Which CutMix is yours, and can a law be made to order?",
    text=(
        "Libraries ship several laws under the name CutMix: they differ at the border, in the label weight, in how "
        "sides are rounded. Each was measured as a black box. The other way round, a law of masks from Gaussian fields "
        "can be designed for a wanted coefficient of pixel pairs.",
    ),
    records=("law_zoo", "designed_law"),
    figures=("laws", "designed_law"),
    findings=lambda records: [
        tables_laws.law_summary(records["law_zoo"]),
        tables_designed.twin(records["designed_law"]),
    ],
    tables=_tables,
)
