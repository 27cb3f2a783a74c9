"""A model of one's own: the order ladder and the order of the remainder."""

from __future__ import annotations

from reporting.section import Column, Records, Section, Table, flat


def _tables(records: Records) -> list[Table]:
    result = records["compare"]["result"]
    return [
        Table(
            "ladder",
            "Every rung, by model, strategy, law and point",
            flat(result["ladder"]),
            (
                Column("model", "model"),
                Column("strategy", "mixed with"),
                Column("law", "law"),
                Column("at", "at"),
                Column("rung", "rung"),
                Column("value", "predicted loss", 4, error="se"),
                Column("share", "share of the rise (%)", 1, 100, error="se"),
            ),
            "± standard error over draws of mask and partner, paired with those of the measured loss.",
        ),
        Table(
            "remainder",
            "Order of the remainder on a few images",
            flat(result["remainder"]),
            (
                Column("model", "model"),
                Column("strategy", "mixed with"),
                Column("law", "law"),
                Column("slope", "slope", 3),
                Column("reason", "why there is none"),
                Column("images", "images", 0),
            ),
            "In float64, whatever the precision of the rest; correct terms on a smooth network give slope 3.",
        ),
    ]


SECTION = Section(
    key="own-ladder",
    order=20,
    title="Which expansion explains it best, and are the terms right?",
    text=(
        "Rungs from the base loss to the full second order, the linearised and the quadratic network with the exact "
        "loss, around each point and with stand-ins for the partner. Where the network is smooth, the remainder must "
        "vanish with the third power of the step.",
    ),
    records=("compare",),
    figures=("own_ladder",),
    tables=_tables,
    page="own",
)
