"""Generalization gap and Rademacher bound (C4)."""

from __future__ import annotations

from experiments import tables_generalization
from reporting.section import Column, Records, Section, Table, flat


def _tables(records: Records) -> list[Table]:
    result = records["generalization"]["result"]
    return [
        Table(
            "generalization",
            "Losses, accuracies and their gaps",
            flat(result["rows"]),
            (
                Column("kind", "network"),
                Column("images", "training images", 0),
                Column("training", "trained with"),
                Column("seeds", "networks", 0),
                Column("train_loss", "train loss", 3, error="half"),
                Column("test_loss", "test loss", 3, error="half"),
                Column("loss_gap", "gap of the loss", 3, error="half"),
                Column("test_accuracy", "test accuracy (%)", 1, 100, error="half"),
                Column("accuracy_gap", "gap of accuracy, points", 1, 100, error="half"),
            ),
            "± half a 95 % interval over networks (Student's t).",
        ),
        Table(
            "effective_dimension",
            "Effective dimension of each strategy's class",
            flat(result["dimensions"]),
            (
                Column("images", "training images", 0),
                Column("strategy", "strategy"),
                Column("law", "law"),
                Column("dimension", "effective dimension", 2),
                Column("bound", "bound at gamma = 1", 4),
                Column("rank", "rank of S", 0),
                Column("infinite", "infinite"),
            ),
            "Exact moments, no sampling error.",
        ),
        Table(
            "bound_orders",
            "Does the bound order the strategies as the gap does?",
            flat(result["orders"]),
            (
                Column("kind", "network"),
                Column("images", "training images", 0),
                Column("law", "law"),
                Column("gamma", "gamma"),
                Column("tau", "Kendall's tau of the means", 2),
                Column("tau_seeds", "over seeds", 2, error="half"),
                Column("told", "pairs told apart", 0),
                Column("concordant", "of these as the bound says", 0),
            ),
        ),
    ]


SECTION = Section(
    key="generalization",
    order=120,
    title="Does the effective dimension predict the generalization gap?",
    text=(
        "A strategy confines a linear model to a class whose Rademacher complexity is bounded by its effective "
        "dimension. Mixing makes the gap of the loss smaller everywhere; whether strategies come in the order of their "
        "dimensions is another question.",
    ),
    records=("generalization",),
    figures=("generalization",),
    findings=lambda records: [tables_generalization.ledger(records["generalization"])],
    tables=_tables,
)
