"""Calibration and accuracy on damaged images."""

from __future__ import annotations

from figures.style import NAMES
from reporting.section import Column, Records, Section, Table, flat, named


def _tables(records: Records) -> list[Table]:
    reliable = records["reliability"]["result"]
    return [
        Table(
            "reliability",
            "Calibration",
            named(flat(reliable["rows"]), training=NAMES),
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
            "stress",
            "Accuracy on damaged images",
            named(flat(reliable["stress"]), training=NAMES),
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
        "Networks trained with mixing are less sure than right on clean images. What mixing covers or blends in "
        "training, it makes networks tolerate: above all images of which a part is hidden.",
    ),
    records=("reliability",),
    figures=("reliability",),
    tables=_tables,
)
