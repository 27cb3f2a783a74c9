"""The report: complete from the committed records, one file, and honest about what is missing."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from html.parser import HTMLParser
from urllib.parse import unquote

import pandas as pd
import pytest

import reporting.sections
from experiments import tables
from experiments.claims import CLAIMS, VERDICTS
from experiments.record import RECORDS, ROOT
from figures import make
from reporting import gather
from reporting.build import Config, build
from reporting.gather import find_records
from reporting.page import _came, prose, table_view
from reporting.section import Column, Table, curves, flat, sections

KNOWN = {*tables.EXPERIMENTS, *tables.STUDIES, *tables.BENCHMARKS, *tables.OPTIONAL}


class Page(HTMLParser):
    """Tags with their attributes, and the texts of all elements."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text.append(data)

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


@pytest.fixture(scope="session")
def page(report):
    return Page(report.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def records():
    return tables.load_all(RECORDS)


def test_sections_fit_together():
    found = sections()
    keys = [s.key for s in found]
    assert len(set(keys)) == len(keys) >= 14
    assert [s.order for s in found] == sorted({s.order for s in found})
    drawings = {**make.FIGURES, **make.BENCHMARKS}
    for s in found:
        assert set(s.figures) <= set(drawings), s.key
        assert {*s.records, *s.optional} <= KNOWN, s.key
    shown = [f for s in found for f in s.figures]
    assert sorted(shown) == sorted(drawings), "every figure is shown once"
    assert {r for s in found for r in (*s.records, *s.optional)} == KNOWN, "every record is shown"


def test_claims_have_a_place_a_verdict_and_tests_that_exist(records):
    figures = {f for s in sections() for f in s.figures}
    names = {t.name for s in sections() for t in s.tables(records)}
    assert [c.key for c in CLAIMS] == [*(f"C{i}" for i in range(1, 10)), "D1", "D2", "D3"]
    for claim in CLAIMS:
        kind, _, name = claim.shown.partition("-")
        assert name in {"figure": figures, "table": names}[kind], claim.key
        assert claim.verdict in VERDICTS
        assert set(claim.records) <= KNOWN
        for name in claim.tests:
            assert (ROOT / "tests" / name).exists(), name
        for module in re.findall(r"python -m (experiments\.\w+)", claim.commands):
            assert (ROOT / f"{module.replace('.', '/')}.py").exists(), module


@pytest.mark.parametrize("section", sections(), ids=lambda s: s.key)
def test_tables_show_columns_that_are_there(section, records):
    found = section.tables(records)
    for table in found:
        assert len(table.frame), table.name
        for column in table.columns:
            assert column.name in table.frame, f"{table.name}: {column.name}"
            if column.error:
                assert f"{column.name}_{column.error}" in table.frame, f"{table.name}: {column.name}"
        lacking = [c.title for c in table.columns if not any(c.show(r) for r in table.frame.to_dict("records"))]
        assert not lacking, f"{table.name}: nothing in {lacking}"


def test_names_of_tables_are_unique(records):
    names = [t.name for s in sections() for t in s.tables(records)]
    assert len(set(names)) == len(names)


def test_the_page_loads_nothing_from_elsewhere(report, page):
    assert report.stat().st_size < 15e6
    for tag, attrs in page.tags:
        for key in ("src", "href"):
            value = attrs.get(key)
            assert value is None or value.startswith(("#", "data:")), f"{tag} {key}={value[:60]}"
    for forbidden in ("@import", "url(", "fetch(", "XMLHttpRequest", "http://", "https://"):
        style = re.findall(r"<(?:style|script)>(.*?)</(?:style|script)>", report.read_text(encoding="utf-8"), re.DOTALL)
        assert not any(forbidden in s for s in style)


def test_links_within_the_page_have_targets(page):
    ids = {a["id"] for _, a in page.tags if a.get("id")}
    targets = {a["href"][1:] for a in page.all("a") if a["href"].startswith("#")}
    assert targets <= ids


def test_every_figure_is_there_with_its_caption_as_alternative_text(page, records):
    images = page.all("img")
    drawings = {**make.FIGURES, **make.BENCHMARKS}
    assert sorted(i["alt"] for i in images) == sorted(d.caption(records) for d in drawings.values())
    for image in images:
        assert base64.b64decode(image["src"].split(",", 1)[1]).startswith(b"\x89PNG")
    pdfs = [a for a in page.all("a") if a.get("download", "").endswith(".pdf")]
    assert len(pdfs) == len(images)
    assert all(base64.b64decode(a["href"].split(",", 1)[1]).startswith(b"%PDF") for a in pdfs)


def test_downloads_hold_all_data(page, records):
    shown = {t.name: t.frame for s in sections() for t in s.tables(records)}
    files = {
        a["download"].removesuffix(".csv"): a["href"] for a in page.all("a") if a.get("download", "").endswith(".csv")
    }
    assert files.keys() == shown.keys()
    for name, uri in files.items():
        frame = pd.read_csv(io.StringIO(unquote(uri.split(",", 1)[1])))
        assert list(frame.columns) == list(shown[name].columns)
        assert len(frame) == len(shown[name])


def test_every_record_shows_where_it_comes_from(page, records):
    text = " ".join(page.text)
    for name, record in records.items():
        for part in (f"experiments/records/{name}.json", record["commit"][:10], record["date"], record["command"]):
            assert part in text, f"{name}: {part}"


def test_missing_records_name_their_commands(tmp_path):
    (tmp_path / "records").mkdir()
    shutil.copy(RECORDS / "mask_gallery.json", tmp_path / "records")
    path = build(Config(records=(tmp_path / "records",), out=tmp_path / "out"))
    page = Page(path.read_text(encoding="utf-8"))
    text = " ".join(page.text)
    assert len(page.all("img")) == 1
    for name in KNOWN - {"mask_gallery", *tables.OPTIONAL}:
        assert json.loads((RECORDS / f"{name}.json").read_text(encoding="utf-8"))["command"] in text
    verdicts = [a["class"].split()[1] for a in page.all("span") if (a.get("class") or "").startswith("verdict")]
    assert verdicts == ["open"] * len(CLAIMS)


def test_a_section_is_added_with_one_file(tmp_path, monkeypatch):
    (tmp_path / "one_more.py").write_text(
        "from reporting.section import Section\n"
        'SECTION = Section(key="one_more", order=55, title="One more?", text=(), records=())\n'
    )
    monkeypatch.setattr(reporting.sections, "__path__", [*reporting.sections.__path__, str(tmp_path)])
    keys = [s.key for s in sections()]
    assert keys.index("training") + 1 == keys.index("one_more")


def test_of_two_records_the_later_one_counts(tmp_path):
    for folder, date in (("a", "2026-01-02"), ("b", "2026-01-03"), ("c", "2026-01-01")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.json").write_text(json.dumps({"config": {}, "result": {"of": folder}, "date": date}))
    folders = [tmp_path / f for f in "abc"]
    assert find_records(folders, ("x", "y"))["x"].record["result"] == {"of": "b"}
    assert list(find_records(folders, ("y",))) == []


def test_figures_are_drawn_again_only_when_their_record_changed(tmp_path):
    records = tmp_path / "records"
    records.mkdir()
    for name in ("mask_coefficients", "remainder_order"):
        shutil.copy(RECORDS / f"{name}.json", records)
    config = Config(records=(records,), out=tmp_path / "out")
    build(config)
    drawn = {n: tmp_path / "out" / "figures" / f"{n}.png" for n in ("coefficients", "remainder")}
    for path in drawn.values():
        path.write_bytes(path.read_bytes() + b"marked")
    with (records / "remainder_order.json").open("a") as file:
        file.write("\n")
    build(config)
    assert drawn["coefficients"].read_bytes().endswith(b"marked")
    assert not drawn["remainder"].read_bytes().endswith(b"marked")


def test_text_is_escaped():
    assert str(prose("a < `b & c` [link](x.md)")) == "a &lt; <code>b &amp; c</code> link"


def test_columns_show_numbers_errors_and_nothing():
    row = {"x": 0.12345, "x_half": 0.01, "n": 3, "flag": True, "gap": float("nan"), "text": "yes"}
    assert Column("x", "", 1, 100, "half").show(row) == "12.3 ± 1.0"
    assert Column("x", "", 3, error="se").show(row) == "0.123"
    assert Column("n", "", 0).show({"n": 12345}) == "12,345"
    assert Column("flag", "", 1).show(row) == "yes"
    assert [Column(k, "", 1).show(row) for k in ("gap", "other")] == ["", ""]
    assert Column("text", "").show(row | {"text": "fashion_mnist"}) == "Fashion-MNIST"


def test_rows_become_a_flat_frame():
    rows = [
        {"a": "cutmix", "x": {"mean": 1.0, "se": 0.5, "low": 0.0, "high": 3.0}, "y": {"z": {"mean": 2.0}}, "l": [1, 2]},
        {"a": "other", "x": None},
    ]
    frame = flat(rows)
    assert list(frame.columns) == ["a", "x", "x_se", "x_low", "x_high", "x_half", "y z"]
    assert frame.loc[0, "x_half"] == 1.5
    assert pd.isna(frame.loc[1, "x_half"])
    assert flat(rows, lists=True).loc[0, "l"] == "1 2"


def test_curves_have_a_line_for_each_element():
    rows = [{"a": "x", "y": {"mean": [1, 2]}, "z": [3, 4]}, {"a": "w", "y": {"mean": [5]}, "z": [6]}]
    frame = curves(rows[:1], ("a",), ("y mean", "z"), t=[0, 1])
    assert frame.to_dict("list") == {"a": ["x", "x"], "y mean": [1, 2], "z": [3, 4], "t": [0, 1]}
    with pytest.raises(ValueError, match="longer than"):
        curves(rows, ("a",), ("y mean", "z"), t=[0, 1])


def test_downloads_hold_the_numbers_behind_the_curves(records):
    found = {t.name: t.frame for s in sections() for t in s.tables(records)}
    laws = records["mask_coefficients"]["result"]["curves"]
    assert len(found["coefficients_by_distance"]) == sum(len(c["distance"]) for c in laws)
    points = records["remainder_order"]["result"]["rows"]
    assert list(found["remainder_points"]["remainder"]) == [v for r in points for v in r["remainder"]]
    cells = [c for n in ("order_ladder", "order_ladder_runs") for c in records[n]["result"]["cells"]]
    assert len(found["order_ladder_cells"]) == sum(v is not None for c in cells for v in c["share"])


def test_what_no_cell_could_tell_is_neither_as_expected_nor_otherwise():
    told = {"holds": False, "detail": "lower in 0 of 2 cells", "cells": [1, 2]}
    assert [_came(told), _came(told | {"holds": True})] == ["not as expected", "as expected"]
    assert [_came(told | {"cells": []}), _came({"holds": False, "detail": "no cell has a rise"})] == ["not told"] * 2


def test_empty_cells_are_sorted_as_empty():
    table = Table("t", "T", pd.DataFrame({"x": [1.5, None]}), (Column("x", "x", 1),))
    assert [[c["value"] for c in row] for row in table_view(table)["rows"]] == [[1.5], [None]]


def test_a_broken_list_of_drawn_figures_means_that_none_is_drawn(tmp_path):
    for text in ("{", "[]", "1"):
        (tmp_path / "drawn.json").write_text(text)
        assert gather._drawn(tmp_path / "drawn.json") == {}
