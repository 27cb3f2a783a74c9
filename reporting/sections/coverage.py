"""Lines and branches that the tests run."""

from __future__ import annotations

from experiments import tables_coverage
from reporting.section import Column, Records, Section, Table, flat


def _tables(records: Records) -> list[Table]:
    result = records["branch_coverage"]["result"]
    counts = (
        Column("statements", "lines", 0),
        Column("missing", "not run", 0),
        Column("branches", "branches", 0),
        Column("missing_branches", "not taken", 0),
        Column("percent", "covered (%)", 1),
    )
    note = "Lines and branches together; what only processes run that tests start themselves does not count."
    parts = Table(
        "coverage", "Lines and branches by folder", flat(result["parts"]), (Column("part", "part"), *counts), note
    )
    return [parts, Table("coverage_files", "Lines and branches by file", flat(result["files"], lists=True))]


SECTION = Section(
    key="coverage",
    order=165,
    title="How much of the package do the tests run?",
    text=("The whole suite under coverage.py, lines and branches.",),
    records=("branch_coverage",),
    findings=lambda records: [tables_coverage.sentence(records["branch_coverage"])],
    tables=_tables,
)
