"""What a section of the report is: a question, figures, tables, and the records they come from."""

from __future__ import annotations

import importlib
import math
import pkgutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from reporting.names import shown

Record = dict[str, Any]
Records = Mapping[str, Record]


@dataclass(frozen=True)
class Column:
    """One column that a table shows; the downloaded data hold all.

    Attributes:
        name: of the column of the frame.
        title: what the reader sees.
        digits: after the point; None: text.
        scale: factor of what is shown; 100 for percent.
        error: ending of the column with the error, shown after ±: "half" or "se"; none where that is not known.
    """

    name: str
    title: str
    digits: int | None = None
    scale: float = 1.0
    error: str | None = None

    def show(self, row: Mapping[str, Any]) -> str:
        """The text of this column in a row; empty where nothing was measured."""
        value: Any = row.get(self.name)
        if _nothing(value):
            return ""
        if self.digits is None or not _is_number(value):
            return shown(value)
        text = f"{round(value * self.scale, self.digits) + 0.0:,.{self.digits}f}"  # + 0.0: no minus zero
        error: Any = row.get(f"{self.name}_{self.error}") if self.error else None
        return text if _nothing(error) else f"{text} ± {error * self.scale:.{self.digits}f}"


@dataclass(frozen=True, eq=False)
class Table:
    """A table of the report.

    Attributes:
        name: of the downloaded file, unique on the page.
        title: above the table.
        frame: all data, one line a row.
        columns: what is shown; none: the data are offered, not shown.
        note: how errors are defined, and n.
    """

    name: str
    title: str
    frame: pd.DataFrame
    columns: Sequence[Column] = ()
    note: str = ""


def _no_tables(records: Records) -> list[Table]:
    return []


def _no_findings(records: Records) -> list[str]:
    return []


@dataclass(frozen=True)
class Section:
    """One question, in a file of its own in `reporting.sections`.

    Attributes:
        key: of links, unique.
        order: place on the page.
        title: the question.
        text: what the reader should know, in paragraphs; `code` in backticks. No numbers: these come from records.
        records: that it needs; without them the page says which command makes them.
        optional: records that are shown too where they are there.
        figures: names of `figures.make`.
        findings: sentences with numbers, from the records.
        tables: from the records.
        page: "study" for the report, "own" for the page of a model of the user's.
    """

    key: str
    order: int
    title: str
    text: tuple[str, ...]
    records: tuple[str, ...]
    optional: tuple[str, ...] = ()
    figures: tuple[str, ...] = ()
    findings: Callable[[Records], list[str]] = field(default=_no_findings)
    tables: Callable[[Records], list[Table]] = field(default=_no_tables)
    page: str = "study"


def sections(page: str = "study") -> list[Section]:
    """Every section of a page in its order: the names SECTION of the modules of `reporting.sections`."""
    package = importlib.import_module("reporting.sections")
    found = [
        importlib.import_module(f"{package.__name__}.{m.name}").SECTION for m in pkgutil.iter_modules(package.__path__)
    ]
    return sorted((s for s in found if s.page == page), key=lambda s: (s.order, s.key))


def flat(rows: Iterable[Mapping[str, Any]], *, lists: bool = False) -> pd.DataFrame:
    """Rows of a record as a frame.

    ``{"x": {"mean": m, "se": s}}`` becomes columns x and x_se; other dictionaries ``{"x": {"y": v}}`` a column "x y".
    ``low`` and ``high`` get a column ``_half``. Lists are left out unless asked for, as text.
    """
    return pd.DataFrame([_flat_row("", row, lists) for row in rows])


def _flat_row(prefix: str, row: Mapping[str, Any], lists: bool) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in row.items():
        name = f"{prefix} {key}".strip()
        if isinstance(value, list):
            if lists:
                found[name] = " ".join(str(v) for v in value)
        elif not isinstance(value, Mapping):
            found[name] = value
        elif _is_number(value.get("mean")):
            found[name] = value["mean"]
            found |= {f"{name}_{k}": v for k, v in value.items() if k != "mean" and not isinstance(v, list | dict)}
            if _is_number(value.get("low")) and _is_number(value.get("high")):
                found[f"{name}_half"] = (value["high"] - value["low"]) / 2
        else:
            found |= _flat_row(name, value, lists)
    return found


def curves(
    rows: Iterable[Mapping[str, Any]], labels: Sequence[str], lists: Sequence[str], **shared: Sequence[Any]
) -> pd.DataFrame:
    """Lists of equal length in the rows of a record as a frame with a line for each element.

    Args:
        rows: of the record.
        labels: of each line: values of the row that are no lists.
        lists: names of lists, "x y" for ``{"x": {"y": [...]}}``.
        shared: lists that belong to all rows, by name.
    """
    found = []
    for row in rows:
        columns = {name: _inner(row, name) for name in lists} | shared
        fixed = {name: _inner(row, name) for name in labels}
        found += [
            {**fixed, **dict(zip(columns, values, strict=True))} for values in zip(*columns.values(), strict=True)
        ]
    return pd.DataFrame(found)


def _inner(row: Mapping[str, Any], name: str) -> Any:
    value: Any = row
    for part in name.split(" "):
        value = value[part]
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _nothing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))
