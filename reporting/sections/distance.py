"""Coefficients of pixel pairs and products of input gradients by distance (C5)."""

from __future__ import annotations

from experiments import tables_products
from figures.style import LAWS, NAMES
from reporting.section import Column, Records, Section, Table, flat, named


def _tables(records: Records) -> list[Table]:
    curves = named(flat(records["mask_coefficients"]["result"]["curves"]), strategy=NAMES, law=LAWS)
    cells = [
        {"cell": cell["cell"]} | row
        for name in ("gradient_products", "gradient_products_runs")
        if name in records
        for cell in records[name]["result"]["cells"]
        for row in cell["rows"]
    ]
    products = named(flat(cells), training=NAMES)
    near = [c for c in products if c.startswith("near") and "_" not in c]
    return [
        Table(
            "mask_coefficients",
            "Coefficients of pixel pairs by strategy, law and image size",
            curves,
            (
                Column("strategy", "strategy"),
                Column("law", "law"),
                Column("size", "side, pixels", 0),
                Column("mean_share", "mean share taken", 3),
                Column("diagonal", "mean a_jj", 4),
                Column("decay", "a(p) at half the image over a(p) at 1 pixel", 3),
            ),
            "Exact moments, no sampling error; alpha = 1.",
        ),
        Table(
            "gradient_products",
            "Products of input gradients, by data, network and training",
            products,
            (
                Column("cell", "data and network"),
                Column("training", "trained with"),
                Column("seeds", "networks", 0),
                Column("square", "sum of squared gradients", 1, error="half"),
                *(Column(c, c, 2, 100) for c in near),
            ),
            "± half a 95 % interval over networks (Student's t).",
        ),
    ]


SECTION = Section(
    key="distance",
    order=20,
    title="Which pixel pairs does each strategy regularize?",
    text=(
        "The regularizers weight the product of the input gradients of two pixels by a coefficient of that pair. Under "
        "Mixup it is the same for all pairs; under CutMix near pairs weigh more. The exact law is what training "
        "minimises, the paper's the published simplification.",
        "If so, networks trained with CutMix should have less product of gradients between near pixels than networks "
        "trained with Mixup.",
    ),
    records=("mask_coefficients", "gradient_products"),
    optional=("gradient_products_runs",),
    figures=("coefficients", "gradient_products", "gradient_products_r2"),
    findings=lambda records: [tables_products.ledger(records["gradient_products"])],
    tables=_tables,
)
