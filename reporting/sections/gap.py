"""The expansion against the measured mixed loss (C1)."""

from __future__ import annotations

from experiments import tables_gap
from reporting.section import Column, Records, Section, Table, flat

TERMS = ("clean", "base", "r1", "r2", "r3", "predicted", "measured")
TITLES = ("loss at the data", "base", "R1", "R2", "R3", "predicted", "measured")


def _tables(records: Records) -> list[Table]:
    result = records["expansion_gap"]["result"]
    rows = flat(result["summary"])
    nets = flat(records["digit_nets"]["result"]["rows"])
    return [
        Table(
            "expansion_gap",
            "Every term, by training, network, strategy, law and point",
            rows,
            (
                Column("training", "trained with"),
                Column("activation", "network"),
                Column("strategy", "mixed with"),
                Column("law", "law"),
                Column("at", "at"),
                *(Column(n, t, 3, error="se") for n, t in zip(TERMS, TITLES, strict=True)),
                Column("explained", "explained (%)", 1, 100, error="se"),
                Column("explained_gn", "without R3 (%)", 1, 100, error="se"),
            ),
            "± standard error over networks, which holds that of the draws. Losses in nats.",
        ),
        Table(
            "digit_nets",
            "The networks",
            nets,
            (
                Column("strategy", "trained with"),
                Column("activation", "network"),
                Column("seeds", "networks", 0),
                Column("test_accuracy", "test accuracy (%)", 1, 100),
                Column("interval_95_half_width", "half of the 95 % interval, points", 1, 100),
            ),
        ),
    ]


SECTION = Section(
    key="gap",
    order=30,
    title="How much of the mixed loss does the second-order expansion explain?",
    text=(
        "The mixed loss is expanded to second order: a first-order term R1, an input-gradient regularizer R2 and an "
        "input-Hessian regularizer R3. Around the data, as published, they miss most of the rise at full strength; "
        "around the conditional mean given the mask, without R3, they come near it.",
    ),
    records=("expansion_gap", "digit_nets"),
    figures=("terms", "gap"),
    findings=lambda records: [tables_gap.summary_sentence(dict(records))],
    tables=_tables,
)
