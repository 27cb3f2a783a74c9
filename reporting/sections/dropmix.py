"""DropMix: hard negatives in graph contrastive learning (D1 to D3)."""

from __future__ import annotations

from experiments import tables_dropmix
from reporting.section import Column, Records, Section, Table, curves, flat

GRAPHS = {"cora": "Cora", "citeseer": "CiteSeer"}


def _tables(records: Records) -> list[Table]:
    result = records["dropmix"]["result"]
    return [
        Table(
            "dropmix_accuracy",
            "Test accuracy of every variant",
            flat(result["rows"]),
            (
                Column("data", "graph"),
                Column("name", "variant"),
                Column("seeds", "seeds", 0),
                Column("published", "accuracy (%)", 2, 100, error="half"),
                Column("published_minus_none", "minus no mixing, points", 2, 100, error="half"),
                Column("published_minus_dropmix", "minus DropMix, points", 2, 100, error="half"),
                Column("validated", "validated probe (%)", 2, 100, error="half"),
                Column("validated_minus_none", "minus no mixing, points", 2, 100, error="half"),
            ),
            "± half a 95 % interval over seeds (Student's t), differences paired; none where there is one seed.",
        ),
        Table(
            "dropmix_information",
            "Information kept, and the expansion in the negatives, by share of mixed dimensions",
            flat(result["information"]),
            (
                Column("data", "graph"),
                Column("name", "encoders trained with"),
                Column("view", "view"),
                Column("share", "share", 3),
                Column("similarity", "cosine with the original", 3, error="half"),
                Column("probe", "probe (%)", 1, 100, error="half"),
                Column("harder", "harder than before (%)", 1, 100, error="half"),
                Column("rise", "change of the loss", 4, error="half"),
                Column("r1", "R1", 4, error="half"),
                Column("r2", "R2", 4, error="half"),
            ),
            "± half a 95 % interval over seeds (Student's t).",
        ),
        Table(
            "dropmix_hardness",
            "Histograms of hardness",
            curves(result["hardness"], ("data", "name"), ("counts local", "counts global"), lower=result["bins"][:-1]),
        ),
    ]


SECTION = Section(
    key="dropmix",
    order=130,
    title="Do harder, partly mixed negatives help graph contrastive learning?",
    text=(
        "DropMix mixes hard negatives on part of the representation dimensions only. The bilinear score is linear in "
        "the negatives, so the expansion of its loss has no Hessian term and a closed form.",
    ),
    records=("dropmix",),
    figures=("dropmix", "dropmix_hardness"),
    findings=lambda records: [
        tables_dropmix.ledger_d3(records["dropmix"]),
        tables_dropmix.hardness_sentence(records["dropmix"]),
    ],
    tables=_tables,
)
