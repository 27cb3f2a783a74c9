"""Mutants: small faults that the tests notice, and those that they do not."""

from __future__ import annotations

from experiments import tables_mutants
from reporting.section import Column, Records, Section, Table, flat


def _tables(records: Records) -> list[Table]:
    result = records["mutants"]["result"]
    return [
        Table(
            "mutants",
            "Mutants by file",
            flat([*result["files"], result["total"]]),
            (
                Column("file", "file"),
                Column("made", "mutants", 0),
                Column("killed", "killed", 0),
                Column("by_time", "of these by the time limit", 0),
                Column("survived", "survived", 0),
                Column("share", "killed (%)", 1, 100),
            ),
            "Counts; nothing is sampled.",
        ),
        Table("mutants_survivors", "Survivors and their explanations", flat(result["survivors"])),
    ]


SECTION = Section(
    key="mutants",
    order=170,
    title="Would the tests notice a fault?",
    text=(
        "Small faults are put one at a time into the code of mask laws, moments, losses and the expansion: an "
        "operator, a number, a flag, an argument. A fault that makes a test fail is killed. Those that survive are "
        "listed with the reason why no result differs, or with the test that is missing.",
    ),
    records=("mutants",),
    findings=lambda records: [tables_mutants.setting(records["mutants"])],
    tables=_tables,
)
