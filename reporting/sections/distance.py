"""Coefficients of pixel pairs and products of input gradients by distance (C5)."""

from __future__ import annotations

from experiments import tables_products
from reporting.section import Column, Records, Section, Table, curves, flat


def _tables(records: Records) -> list[Table]:
    laws = records["mask_coefficients"]["result"]["curves"]
    cells = [
        {"cell": cell["cell"]} | row
        for name in ("gradient_products", "gradient_products_runs")
        if name in records
        for cell in records[name]["result"]["cells"]
        for row in cell["rows"]
    ]
    near = [{k: row[k] for k in ("cell", "training", "seeds")} | short for row in cells for short in row["short"]]
    return [
        Table(
            "mask_coefficients",
            "Coefficients of pixel pairs by strategy, law and image size",
            flat(laws),
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
            "coefficients_by_distance",
            "The curves a(p)",
            curves(laws, ("strategy", "law", "size"), ("distance", "coefficient")),
        ),
        Table(
            "gradient_products",
            "Share of the products of input gradients between near pixels",
            flat([{"value": row} | row for row in near]),
            (
                Column("cell", "data and network"),
                Column("training", "trained with"),
                Column("seeds", "networks", 0),
                Column("radius", "up to distance, pixels", 1),
                Column("pairs", "share of all pairs (%)", 2, 100),
                Column("value", "share of the products (%)", 2, 100, error="half"),
            ),
            "± half a 95 % interval over networks (Student's t); none where there is one network.",
        ),
        Table(
            "gradient_products_by_distance",
            "The curves by distance",
            curves(cells, ("cell", "training", "seeds"), ("share mean", "per_pair mean")),
            note="A line for each bin of one pixel, from distance 0; the maps are in the records.",
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
