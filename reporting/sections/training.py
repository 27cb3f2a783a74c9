"""Training on the expansion in place of mixing (C1)."""

from __future__ import annotations

from experiments import tables_theory_training
from reporting.section import Column, Records, Section, Table, flat


def _tables(records: Records) -> list[Table]:
    rows = flat(records["theory_training"]["result"]["rows"])
    measures = (
        ("accuracy", "test accuracy (%)", 1, 100),
        ("objective", "own objective", 3, 1),
        ("mixed", "mixed loss", 3, 1),
        ("share_mixed", "share of the drop", 2, 1),
        ("share_tv_mixed", "share of the predictions' way", 2, 1),
    )
    return [
        Table(
            "theory_training",
            "Every training",
            rows,
            (
                Column("activation", "network"),
                Column("strategy", "strategy"),
                Column("training", "trained on"),
                Column("seeds", "networks", 0),
                Column("diverged", "diverged", 0),
                *(Column(f"measures {n}", t, d, s, error="half") for n, t, d, s in measures),
            ),
            "± half a 95 % interval over seeds (Student's t).",
        )
    ]


SECTION = Section(
    key="training",
    order=50,
    title="Does minimising the expansion give the networks that mixing gives?",
    text=(
        "If mixing acts as a regularizer, minimising the expansion itself, with nothing mixed, should give the same "
        "networks: equal first weights and batches, the objective replaced.",
    ),
    records=("theory_training",),
    figures=("theory_training",),
    findings=lambda records: [tables_theory_training.ledger(records["theory_training"])],
    tables=_tables,
)
