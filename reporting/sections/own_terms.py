"""A model of one's own: terms against the measured mixed loss."""

from __future__ import annotations

from reporting.section import Column, Records, Section, Table, flat
from reporting.sections.gap import TERMS, TITLES


def _findings(records: Records) -> list[str]:
    result = records["compare"]["result"]
    return [
        f"{m['model']}: factory `{m['factory']}`, weights `{m['weights']}`, {m['parameters']:,} parameters, "
        f"{m['correct']} of {m['images']} images classified correctly; {'; '.join(m['notes'])}."
        for m in result["models"]
    ]


def _tables(records: Records) -> list[Table]:
    rows = flat(records["compare"]["result"]["terms"])
    return [
        Table(
            "terms",
            "Every term, by model, strategy, law and point",
            rows,
            (
                Column("model", "model"),
                Column("strategy", "mixed with"),
                Column("law", "law"),
                Column("at", "at"),
                *(Column(n, t, 4, error="se") for n, t in zip(TERMS, TITLES, strict=True)),
                Column("explained", "explained (%)", 1, 100, error="se"),
                Column("explained_gn", "without R3 (%)", 1, 100, error="se"),
            ),
            "± standard error over draws of mask and partner, which all rows share. Losses in nats.",
        )
    ]


SECTION = Section(
    key="own-terms",
    order=10,
    title="What does each strategy add to the loss, and how much of it does the expansion explain?",
    text=(
        "Base loss and the terms R1 (first order), R2 (input gradients) and R3 (input Hessian) of each strategy, "
        "around the data, the conditional mean and the mean given the mask, beside the measured mixed loss. Shares "
        "are missing where mixing does not raise the loss by more than its error.",
    ),
    records=("compare",),
    figures=("own_terms",),
    findings=_findings,
    tables=_tables,
    page="own",
)
