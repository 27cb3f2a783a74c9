"""Adversarial robustness (C3)."""

from __future__ import annotations

from experiments import tables_robust
from reporting.section import Column, Records, Section, Table, flat


def _tables(records: Records) -> list[Table]:
    robust = records["robust_accuracy"]["result"]
    return [
        Table(
            "robust_accuracy",
            "Accuracy under attack",
            flat(robust["attacks"]),
            (
                Column("norm", "norm"),
                Column("attack", "attack"),
                Column("eps", "radius", 3),
                Column("training", "trained with"),
                Column("seeds", "networks", 0),
                Column("accuracy", "accuracy (%)", 1, 100, error="half"),
                Column("difference", "minus vanilla, points", 1, 100, error="half"),
            ),
            "± half a 95 % interval that covers networks and test images.",
        ),
        Table(
            "adversarial_inequality",
            "The inequality between the expansion and the adversarial loss",
            flat(robust["bounds"]),
            (
                Column("kind", "network"),
                Column("training", "trained with"),
                Column("strategy", "expanded for"),
                Column("law", "law"),
                Column("centred", "centred"),
                Column("seeds", "networks", 0),
                Column("holds", "holds for", 0),
                Column("left", "expansion", 4, error="half"),
                Column("right", "adversarial", 4, error="half"),
                Column("share", "images that satisfy the assumption", 3, error="half"),
            ),
            "± half a 95 % interval over networks (Student's t). Losses in nats.",
        ),
        Table(
            "robust_ensemble",
            "Does a standard ensemble of attacks break more?",
            flat(records["robust_ensemble"]["result"]["rows"]),
            (
                Column("training", "trained with"),
                Column("norm", "norm"),
                Column("seeds", "networks", 0),
                Column("answers", "answers", 0),
                Column("worst", "worst of the study (%)", 1, 100, error="half"),
                Column("ensemble", "ensemble (%)", 1, 100, error="half"),
                Column("only_ensemble", "broken by the ensemble alone", 0),
            ),
            "Accuracy, ± half a 95 % interval over so few networks (Student's t) that it tells little: see the counts.",
        ),
    ]


SECTION = Section(
    key="robustness",
    order=110,
    title="Does mixing make networks more robust to attacks?",
    text=(
        "Networks on digits under gradient attacks and one without gradients, against the radius; and the inequality "
        "that bounds the adversarial loss by the expansion.",
    ),
    records=("robust_accuracy", "robust_ensemble"),
    figures=("robust",),
    findings=lambda records: [
        tables_robust.ledger(records["robust_accuracy"]),
        tables_robust.inequality_sentence(records["robust_accuracy"]),
    ],
    tables=_tables,
)
