"""First-layer regularization (C2)."""

from __future__ import annotations

import pandas as pd

from experiments import tables_first_layer
from reporting.section import Column, Records, Section, Table, curves, flat

LABELS = ("network", "training", "seeds", "quantity")


def _tables(records: Records) -> list[Table]:
    result = records["first_layer"]["result"]["rows"]
    quantities = (
        ("norm_cutmix", "norm, CutMix's metric"),
        ("norm_mixup", "norm, Mixup's metric"),
        ("frobenius", "Frobenius norm"),
        ("stable_rank", "stable rank"),
        ("low", "low frequencies"),
        ("r2_cutmix", "R2 of CutMix"),
    )
    return [
        Table(
            "first_layer",
            "The first layer at the end of training",
            flat(result),
            (
                Column("network", "network"),
                Column("training", "trained with"),
                Column("seeds", "networks", 0),
                Column("end accuracy", "test accuracy (%)", 1, 100, error="half"),
                *(Column(f"end {n}", t, 3, error="half") for n, t in quantities),
            ),
            "± half a 95 % interval over networks (Student's t); ratios to vanilla training in the data.",
        ),
        Table(
            "first_layer_epochs",
            "Along training",
            pd.concat(
                curves(
                    [r | {"quantity": q} for r in result], LABELS, (f"curves {q} mean", f"curves {q} half", "epoch")
                ).set_axis([*LABELS, "mean", "half", "epoch"], axis=1)
                for q in result[0]["curves"]
            ),
        ),
    ]


SECTION = Section(
    key="first_layer",
    order=80,
    title="Does mixing regularize the first layer?",
    text=(
        "R2 is a quadratic form of the first layer in a metric that the strategy and the data give. Training with "
        "mixing makes that layer smaller in this metric, and so it does in the metrics of other strategies. R2 as a "
        "penalty alone moves this norm further, and other sizes only in part or the opposite way.",
    ),
    records=("first_layer",),
    figures=("first_layer", "first_layer_filters"),
    findings=lambda records: [tables_first_layer.ledger(records["first_layer"])],
    tables=_tables,
)
