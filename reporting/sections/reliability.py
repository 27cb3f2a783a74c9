"""Calibration and accuracy on damaged images."""

from __future__ import annotations

from reporting.section import Column, Records, Section, Table, curves, flat


def _tables(records: Records) -> list[Table]:
    reliable = records["reliability"]["result"]
    return [
        Table(
            "reliability",
            "Calibration",
            flat(reliable["rows"]),
            (
                Column("training", "trained with"),
                Column("seeds", "networks", 0),
                Column("ece", "expected calibration error", 3, error="half"),
                Column("ece_noise", "that of a calibrated network", 3, error="half"),
                Column("nll", "test loss", 3, error="half"),
                Column("brier", "Brier score", 3, error="half"),
                Column("overconfidence", "confidence less accuracy", 3, error="half"),
            ),
            "± half a 95 % interval over networks (Student's t).",
        ),
        Table(
            "reliability_bins",
            "The bins of the diagram",
            curves(
                reliable["rows"],
                ("training",),
                ("diagram count", "diagram confidence", "diagram accuracy"),
                lower=reliable["rows"][0]["diagram"]["edges"][:-1],
            ),
        ),
        Table(
            "stress",
            "Accuracy on damaged images",
            flat(reliable["stress"]),
            (
                Column("training", "trained with"),
                Column("corruption", "damage"),
                Column("level", "level", 2),
                Column("accuracy", "accuracy (%)", 1, 100, error="half"),
                Column("difference", "minus vanilla, points", 1, 100, error="half"),
            ),
            "± half a 95 % interval that covers networks and test images.",
        ),
    ]


SECTION = Section(
    key="reliability",
    order=115,
    title="Does mixing change calibration, and accuracy on damaged images?",
    text=(
        "Networks trained with mixing are less sure than right on clean images. On images of which a part is hidden, "
        "those trained with CutMix are more accurate than networks trained without mixing; for most other damage no "
        "difference is told.",
    ),
    records=("reliability",),
    figures=("reliability",),
    tables=_tables,
)
