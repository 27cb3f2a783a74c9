"""Errors of every approximation against more precise values."""

from __future__ import annotations

from experiments import tables_numerics
from reporting.section import Column, Records, Section, Table, flat


def _tables(records: Records) -> list[Table]:
    rows = records["numerical_errors"]["result"]["rows"]
    shown = [
        {**r, "error": f"{r['error']:.1e}", "used": tables_numerics.share(r).replace("*", ""), "largest": r["error"]}
        for r in rows
    ]
    return [
        Table(
            "numerical_errors",
            "Every approximation, its largest error and what is promised",
            flat(shown),
            (
                Column("approximation", "approximation"),
                Column("covered", "where"),
                Column("reference", "compared with"),
                Column("cases", "comparisons", 0),
                Column("error", "largest error"),
                Column("measure", "of what"),
                Column("place", "worst case"),
                Column("promise", "promised"),
                Column("used", "share of it used"),
            ),
            "Share used: the largest quotient of an error and what is promised for it; above 1 a promise is broken.",
        )
    ]


SECTION = Section(
    key="numerics",
    order=150,
    title="How wrong is every approximation?",
    text=(
        "Moments come from finite sums, quadrature and series, diffusions from cut series and pushed residuals, terms "
        "from draws, some in single precision. Each was compared with a reference that is exact or has more digits, "
        "over Beta parameters, ratios and sizes far outside of what is used, and with what it promises.",
    ),
    records=("numerical_errors",),
    findings=lambda records: [tables_numerics.sentence(records["numerical_errors"])],
    tables=_tables,
)
