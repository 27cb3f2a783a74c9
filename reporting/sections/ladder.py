"""The order ladder (C1, C5, C6)."""

from __future__ import annotations

import pandas as pd

from experiments import tables_order_ladder
from reporting.section import Column, Record, Records, Section, Table, curves, flat

CELL = ("data", "network", "stage", "alpha", "training", "strategy", "networks", "rise")


def _tables(records: Records) -> list[Table]:
    found = [records[n]["result"] for n in ("order_ladder", "order_ladder_runs") if n in records]

    def part(name: str) -> pd.DataFrame:
        frame = pd.concat([flat(r[name]) for r in found], ignore_index=True)
        return frame

    labels = (
        Column("data", "data"),
        Column("network", "network"),
        Column("stage", "stage"),
        Column("alpha", "alpha", 2),
        Column("law", "law"),
        Column("at", "at"),
        Column("rung", "rung"),
    )
    return [
        Table(
            "order_ladder_shares",
            "Share of the measured rise that each rung predicts",
            part("shares"),
            (
                *labels,
                Column("cells", "cells", 0),
                Column("share", "mean share (%)", 1, 100, error="se"),
                Column("over_cells min", "smallest cell (%)", 1, 100),
                Column("over_cells median", "median (%)", 1, 100),
                Column("over_cells max", "largest cell (%)", 1, 100),
                Column("within_a_tenth", "cells within a tenth", 0),
            ),
            "± standard error over networks. Cells: training times strategy.",
        ),
        Table(
            "order_ladder_order",
            "Does a rung put the strategies in the measured order?",
            part("order"),
            (
                *labels,
                Column("networks", "networks", 0),
                Column("kendall", "Kendall's tau", 2, error="se"),
                Column("spearman", "Spearman's rho", 2, error="se"),
                Column("same_order", "networks in the same order", 0),
            ),
            "± standard error over networks.",
        ),
        Table(
            "order_ladder_radii",
            "Strength of the step up to which a rung stays within a tenth of the rise",
            part("radii"),
            (
                *labels,
                Column("values", "values", 0),
                Column("over_cells median", "median radius", 2),
                Column("over_cells min", "smallest", 2),
                Column("over_cells max", "largest", 2),
                Column("below", "share below the least step", 2),
            ),
        ),
        _cells(found),
    ]


def _cells(found: list[Record]) -> Table:
    return Table(
        "order_ladder_cells",
        "Every cell",
        pd.concat([curves(r["cells"], CELL, ("share", "se"), rung=r["rungs"]) for r in found]).dropna(subset="share"),
        note="A line for each cell and rung (law.point.rung); none where the rise is not told from 0.",
    )


SECTION = Section(
    key="ladder",
    order=40,
    title="Which expansion explains the mixed loss, where, and how far?",
    text=(
        "Rung by rung: base, + R1, + R2, + R3, the linearised and the quadratic network with the exact loss, around "
        "the data, the conditional mean, the mean given the mask, with the mean image of the partner's class and with "
        "a blurred partner as stand-ins; on networks of every kind and stage of training, all on the same draws as the "
        "measured loss.",
    ),
    records=("order_ladder",),
    optional=("order_ladder_runs",),
    figures=("order_ladder",),
    findings=lambda records: [tables_order_ladder.sentence(records["order_ladder"])],
    tables=_tables,
)
