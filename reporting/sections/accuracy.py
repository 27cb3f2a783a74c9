"""Accuracy by strategy (C4, C7, C9)."""

from __future__ import annotations

from experiments import tables_accuracy
from experiments.accuracy_stats import rows
from figures.accuracy import data_name, model_name
from reporting.section import Column, Records, Section, Table, flat


def _tables(records: Records) -> list[Table]:
    frame = flat(rows(records["accuracy"]["result"]["runs"]))
    frame = frame.assign(data=frame["data"].map(data_name), model=frame["model"].map(model_name))
    runs = flat(records["accuracy"]["result"]["runs"])
    return [
        Table(
            "accuracy",
            "Test accuracy by data, network and strategy",
            frame,
            (
                Column("data", "data"),
                Column("model", "network"),
                Column("strategy", "trained with"),
                Column("n", "seeds", 0),
                Column("accuracy", "test accuracy (%)", 2, 100, error="half"),
                Column("minus_vanilla", "minus vanilla, points", 2, 100, error="half"),
                Column("train_accuracy", "train accuracy (%)", 2, 100, error="half"),
                Column("gap", "gap, points", 2, 100, error="half"),
            ),
            "± half a 95 % interval over seeds (Student's t), differences paired, not corrected for their number.",
        ),
        Table(
            "accuracy_runs",
            "Every training run",
            runs,
            (
                Column("data", "data"),
                Column("model", "network"),
                Column("strategy", "trained with"),
                Column("seed", "seed", 0),
                Column("test_accuracy", "test accuracy (%)", 2, 100),
                Column("test_loss", "test loss", 3),
                Column("train_accuracy", "train accuracy (%)", 2, 100),
                Column("images_per_s", "images a second", 0),
            ),
        ),
    ]


SECTION = Section(
    key="accuracy",
    order=100,
    title="Which strategy gives the best accuracy?",
    text=(
        "Small residual networks on few photographs, many epochs, equal schedules. CIFAR-100 and ImageNet, which the "
        "paper's claim is about, are open here: the commands are in the documentation.",
    ),
    records=("accuracy",),
    figures=("accuracy",),
    findings=lambda records: [tables_accuracy.ranks_sentence(records["accuracy"])],
    tables=_tables,
)
