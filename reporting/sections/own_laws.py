"""A model of one's own: the laws of the strategies at its image size, and R2 by pixel distance."""

from __future__ import annotations

from reporting.section import Column, Records, Section, Table, flat


def _findings(records: Records) -> list[str]:
    """Models without R2 by distance, and why."""
    models = records["compare"]["result"]["distance"]["models"]
    return [f"{m['model']}: R2 by distance {m['reason']}." for m in models if m["reason"] is not None]


def _tables(records: Records) -> list[Table]:
    result = records["compare"]["result"]
    return [
        Table(
            "laws",
            "The law of each strategy at this image size",
            flat(result["laws"]),
            (
                Column("strategy", "strategy"),
                Column("law", "law"),
                Column("taken", "mean share taken", 3),
                Column("diagonal", "mean a_jj", 4),
                Column("label_weight", "label weight", 3, error="se"),
                Column("label_error", "label error", 3, error="se"),
                Column("provenance method", "moments by"),
                Column("provenance error", "error of the moments", 6),
            ),
            "Label weights are drawn: ± standard error.",
        ),
        Table(
            "distance",
            "R2 at the data, exact over these images",
            flat(result["distance"]["rows"], lists=True),
            (
                Column("model", "model"),
                Column("strategy", "mixed with"),
                Column("law", "law"),
                Column("r2", "R2 (nats)", 5),
            ),
            "The data hold its parts from pairs at distance 0, 1, 2, ... pixels.",
        ),
    ]


SECTION = Section(
    key="own-laws",
    order=30,
    title="Which pixel pairs are regularized?",
    text=(
        "The coefficient a(p) of pixel pairs is the strategy's alone; R2 weights the products of the model's input "
        "gradients with it.",
    ),
    records=("compare",),
    figures=("own_coefficients",),
    findings=_findings,
    tables=_tables,
    page="own",
)
