"""Two designed tasks (C6)."""

from __future__ import annotations

from experiments import tables_tasks
from reporting.section import Column, Records, Section, Table, flat


def _tables(records: Records) -> list[Table]:
    rows = [
        {"task": t["task"], "seeds": t["seeds"]} | r
        for t in records["task_winners"]["result"]["tasks"]
        for r in t["rows"]
    ]
    return [
        Table(
            "task_winners",
            "Accuracy and predicted conflict by task and strategy",
            flat(rows),
            (
                Column("task", "task"),
                Column("strategy", "trained with"),
                Column("seeds", "drawings", 0),
                Column("accuracy", "test accuracy (%)", 1, 100, error="half"),
                Column("to_vanilla", "minus vanilla, points", 1, 100, error="half"),
                Column("to_mixup", "minus Mixup, points", 1, 100, error="half"),
                Column("ideal predicted", "predicted rise, ideal network (nats)", 3, error="half"),
                Column("ideal measured", "measured rise, ideal network (nats)", 3, error="half"),
            ),
            "± half a 95 % interval over drawings (Student's t), differences paired.",
        )
    ]


SECTION = Section(
    key="tasks",
    order=90,
    title="Can the terms say which strategy suits a task?",
    text=(
        "Two tasks on which Mixup and CutMix are the better of the two in turn: in one the label counts pixels of an "
        "object, the other is of textures, whose mixture looks like a third texture. The terms, on a network that "
        "solves the task, say which strategy is at odds with it.",
    ),
    records=("task_winners",),
    figures=("tasks",),
    findings=lambda records: [tables_tasks.ledger(records["task_winners"])],
    tables=_tables,
)
