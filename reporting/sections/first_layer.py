"""First-layer regularization (C2)."""

from __future__ import annotations

from experiments import tables_first_layer
from figures.style import NAMES
from reporting.section import Column, Records, Section, Table, flat, named


def _tables(records: Records) -> list[Table]:
    rows = named(flat(records["first_layer"]["result"]["rows"]), training=NAMES, own=NAMES)
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
            rows,
            (
                Column("network", "network"),
                Column("training", "trained with"),
                Column("seeds", "networks", 0),
                Column("end accuracy", "test accuracy (%)", 1, 100, error="half"),
                *(Column(f"end {n}", t, 3, error="half") for n, t in quantities),
            ),
            "± half a 95 % interval over networks (Student's t); ratios to vanilla training in the data.",
        )
    ]


SECTION = Section(
    key="first_layer",
    order=80,
    title="Does mixing regularize the first layer?",
    text=(
        "R2 is a quadratic form of the first layer in a metric that the strategy and the data give. Training with "
        "mixing makes that layer smaller in this metric; so it does in the metrics of other strategies, and R2 as a "
        "penalty alone has only part of the effect.",
    ),
    records=("first_layer",),
    figures=("first_layer", "first_layer_filters"),
    findings=lambda records: [tables_first_layer.ledger(records["first_layer"])],
    tables=_tables,
)
