"""The study that makes records again: one that comes again, one with a number that was changed."""

import shutil

import pytest

from experiments import mask_gallery, record, reruns, tables_reruns
from experiments.record import ROOT, read_record, write_record
from reporting.sections import reruns as section


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reruns")
    mask_gallery.run(mask_gallery.Config(size=8), folder=folder)
    changed = read_record(folder / "mask_gallery.json")
    changed["result"]["checks"][0]["holds"] = not changed["result"]["checks"][0]["holds"]
    changed["result"]["masks"]["mixup"]["mask"][0][0] += 1e-3
    write_record(folder / "changed.json", changed)
    config = reruns.Config(records=("mask_gallery", "changed"))
    return reruns.run(config, folder=folder / "out", source=folder)


def test_a_record_that_comes_again_is_told_from_one_that_was_changed(outcome):
    same, other = outcome["result"]["rows"]
    assert same["identical"]
    assert (same["differ"], same["beyond"], same["largest"]) == (0, 0, 0.0)
    assert same["numbers"] == other["numbers"] > 8 * 8
    assert (other["differ"], other["beyond"]) == (2, 2)
    assert other["place"] == "result.masks.mixup.mask[0][0]"
    assert not outcome["result"]["checks"][0]["holds"]
    assert outcome["result"]["checks"][0]["detail"].startswith("1 of 2 identical to the bit; beyond: {'changed': 2}")


def test_the_page_says_which_differ(outcome):
    assert tables_reruns.sentence(outcome).startswith(
        "1 of the 2 records `mask_gallery`, `changed` come again to the bit, 1 differ by more than rounding ("
    )
    usual = {**outcome, "command": "python -m experiments.reruns"}
    assert "`changed` (those of `make reproduce`) come again" in tables_reruns.sentence(usual)
    assert "| `changed` | " in tables_reruns.table(outcome)


def test_a_record_that_is_refused_is_a_row_and_the_others_are_made(tmp_path):
    mask_gallery.run(mask_gallery.Config(size=8), folder=tmp_path)
    kept = read_record(tmp_path / "mask_gallery.json")
    write_record(tmp_path / "broken.json", {**kept, "versions": "x | y"})
    config = reruns.Config(records=("broken", "none", "mask_gallery"))
    made = reruns.run(config, folder=tmp_path / "out", source=tmp_path)
    broken, none, usual = made["result"]["rows"]
    assert broken["refused"].startswith("ValueError: expected versions by the names of libraries in broken.json, got")
    assert none["refused"].startswith("FileNotFoundError: expected a record, got no file none.json")
    assert usual["identical"]
    assert not usual["refused"]
    assert [c["holds"] for c in made["result"]["checks"]] == [True, False]
    assert "come again to the bit, none differs by more than rounding, 2 could not be made again (" in (
        tables_reruns.sentence(made)
    )
    line = next(x for x in tables_reruns.table(made).splitlines() if "`broken`" in x)
    assert "refused: ValueError: expected versions" in line
    assert {x.count("|") for x in tables_reruns.table(made).splitlines()} == {9}
    (table,) = section.SECTION.tables({"reruns": made})
    shown = [c.show(table.frame.iloc[0]) for c in table.columns]
    assert any("expected versions by the names" in text for text in shown)


def test_records_are_made_again_when_they_or_an_experiment_changed(tmp_path, monkeypatch):
    for name in ("one", "two"):
        (tmp_path / f"{name}.json").write_text(name)
    config = reruns.Config(records=("one", "two", "none"))
    before = reruns._digest(config, tmp_path)
    assert before == reruns._digest(config, tmp_path)
    (tmp_path / "two.json").write_text("another")
    assert reruns._digest(config, tmp_path) != before
    (tmp_path / "two.json").write_text("two")
    shutil.copytree(ROOT / "experiments", tmp_path / "experiments", ignore=shutil.ignore_patterns("records"))
    (tmp_path / "msda_theory").mkdir()
    monkeypatch.setattr(reruns, "ROOT", tmp_path)
    monkeypatch.setattr(record, "ROOT", tmp_path)
    record.code_digest.cache_clear()
    first = reruns._digest(config, tmp_path)
    (tmp_path / "experiments" / "alpha_sweep.py").write_text("X = 1\n")
    record.code_digest.cache_clear()
    assert reruns._digest(config, tmp_path) != first
    record.code_digest.cache_clear()
