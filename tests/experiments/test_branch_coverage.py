"""The study of branch coverage: counts against a report written by hand, and one real run."""

import pytest

from experiments import branch_coverage, record, tables_coverage
from experiments.branch_coverage import Config, run, summary


def entry(statements, missing, branches, jumps):
    counts = {"num_statements": statements, "missing_lines": len(missing)}
    counts |= {"num_branches": branches, "missing_branches": len(jumps)}
    return {"summary": counts, "missing_lines": missing, "missing_branches": jumps}


REPORT = {
    "meta": {"version": "0"},
    "files": {
        "msda_theory/masks/a.py": entry(10, [3], 4, [[2, 3]]),
        "msda_theory/masks/b.py": entry(5, [], 1, []),
        "msda_theory/c.py": entry(0, [], 0, []),
    },
}


def test_counts_are_added_over_files_and_folders():
    result = summary(REPORT, 90.0)
    assert [(p["part"], p["percent"]) for p in result["parts"]] == [("./", 100.0), ("masks/", pytest.approx(90.0))]
    assert result["total"]["percent"] == pytest.approx(100 * 18 / 20)
    assert [f["percent"] for f in result["files"]] == [100.0, pytest.approx(100 * 12 / 14), 100.0]
    assert result["checks"][0]["holds"]
    assert not summary(REPORT, 90.1)["checks"][0]["holds"]


def test_the_page_says_what_was_counted():
    record = {"config": {"tests": ["tests"]}, "result": summary(REPORT, 90.0)}
    assert tables_coverage.sentence(record).startswith("The suite runs 14 of 15 lines of the package and takes 4 of 5")
    part = {**record, "config": {"tests": ["tests/masks"]}}
    assert tables_coverage.sentence(part).startswith("A part of the suite (the files and folders that")
    assert "| `masks/` | 15 | 1 | 5 | 1 | 90.0 % |" in tables_coverage.table(record)


def test_a_real_run_finds_what_its_tests_run(tmp_path):
    record = run(Config(least=1.0, tests=("tests/test_estimate.py",)), folder=tmp_path)
    files = {row["file"]: row for row in record["result"]["files"]}
    assert files["msda_theory/estimate.py"]["percent"] > 50
    assert files["msda_theory/stress.py"]["percent"] < 50
    assert files["msda_theory/estimate.py"]["branches"] > 0


def test_tests_that_fail_give_no_record(tmp_path, monkeypatch):
    failing = tmp_path / "tests" / "test_failing.py"
    failing.parent.mkdir()
    failing.write_text("def test_no():\n    assert False\n", encoding="utf-8")
    monkeypatch.setattr(branch_coverage, "ROOT", tmp_path)
    monkeypatch.setattr(branch_coverage, "_tests", list)
    with pytest.raises(RuntimeError, match="expected tests that pass, got status 1 of pytest; mend them"):
        run(Config(tests=("tests/test_failing.py",)), folder=tmp_path)
    assert not list(tmp_path.glob("*.json"))


def test_a_record_of_other_tests_is_made_again(tmp_path, monkeypatch):
    """Whichever are run: what tests share counts too."""
    path = tmp_path / "tests" / "inner" / "test_one.py"
    path.parent.mkdir(parents=True)
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "branch_coverage.py").write_text("X = 1\n")
    monkeypatch.setattr(branch_coverage, "ROOT", tmp_path)
    monkeypatch.setattr(record, "ROOT", tmp_path)
    monkeypatch.setattr(branch_coverage, "_measured", lambda *_: REPORT)
    codes = []
    for text in ("X = 1\n", "X = 1\n", "X = 2\n"):
        path.write_text(text)
        record.code_digest.cache_clear()
        codes.append(run(Config(least=90.0), folder=tmp_path / "out")["code"])
    record.code_digest.cache_clear()
    assert codes[0] == codes[1] != codes[2]
