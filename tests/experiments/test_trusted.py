"""Records that name code, options or paths outside are refused by name, and leave no trace."""

from __future__ import annotations

import pytest

from experiments import branch_coverage, mutants, rerun, reruns
from experiments.record import ROOT, plain, write_record
from experiments.run_config import RunConfig

LEFT = "import pathlib\npathlib.Path(__file__).with_name('marker').touch()\n"
RUN = plain(RunConfig(images=20, test_images=10, width=2, epochs=1, batch=8, crop=1))
UP = "../" * 12


@pytest.fixture
def outside(tmp_path, monkeypatch):
    """A folder with a module that leaves a marker when it is imported, from which the command is started."""
    (tmp_path / "leaves.py").write_text(LEFT + "def make(**options):\n    raise ValueError('made')\n", encoding="utf-8")
    (tmp_path / "test_leaves.py").write_text(LEFT + "def test_it(): pass\n", encoding="utf-8")
    (tmp_path / "record.json").write_text("{}", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def cases(outside):
    up, leaves = f"{UP}{outside}".replace("//", "/"), str(outside / "test_leaves.py")
    tests = "expected relative paths that lead into tests/, got"
    plain_name = "expected a plain name for"
    digits = {"strategies": ["cutmix"], "activations": ["relu"], "seeds": [0], "epochs": 1, "min_accuracy": 0.0}
    paths = (leaves, "-p", "-pleaves", f"tests/{up}", "leaves.py", "", ".", "@record.json", "tests/../x")
    names = (leaves, f"{up}/test_leaves.py", "../docsite", "-p")
    runs = [(study, bad) for study in ("order_ladder", "gradient_products") for bad in (str(outside), "..", f"{up}/..")]
    return [
        *(("branch_coverage", {"tests": ["tests/test_layers.py", bad]}, tests) for bad in paths),
        *(("branch_coverage", {"tests": [bad]}, tests) for bad in paths),
        *(("mutants", {"tests": [bad]}, tests) for bad in names),
        ("mutants", {"parts": ["../experiments"]}, "expected relative paths that lead into msda_theory/, got"),
        ("record", {**RUN, "model": "leaves:make"}, "expected a network among .*: a record names no code to import"),
        ("record", {**RUN, "model": f"{UP}x"}, "expected a network among"),
        ("record", {**RUN, "data": f"{up}/marker"}, "expected a data set among .*; make the record again"),
        ("digit_nets", {**digits, "activations": [f"{up}/marker"]}, plain_name),
        ("digit_nets", {**digits, "strategies": ["-p"]}, plain_name),
        ("expansion_gap", {"training": {**digits, "activations": ["../marker"]}}, plain_name),
        ("reruns", {"records": [f"{up}/record"]}, plain_name),
        ("reruns", {"records": ["reruns"]}, "expected records of other studies, got reruns, which would not end"),
        *((f"{study}_runs", {"runs": bad}, "expected a folder of runs below") for study, bad in runs),
    ]  # fmt: skip


def test_a_record_that_names_code_or_paths_is_refused_and_leaves_nothing(outside, capsys):
    path = outside / "hostile.json"
    before = sorted(outside.parent.rglob("*"))
    for experiment, config, match in cases(outside):
        usual = {"threads": 1, "device": "cpu", "test_loss": 1.0}
        write_record(path, {"experiment": experiment, "config": config, "result": usual})
        with pytest.raises(ValueError, match=rf"hostile\.json cannot be run: {match}"):
            rerun.rerun(path)
        with pytest.raises(SystemExit):
            rerun.main((path,))
        assert f"REFUSED  {path} cannot be run: expected" in capsys.readouterr().out
        path.unlink()
        assert sorted(outside.parent.rglob("*")) == before, (experiment, config)


def test_runs_of_a_folder_are_asked_as_well(outside):
    runs = outside / "runs"
    write_record(runs / "one" / "record.json", {"config": {**RUN, "model": "leaves:make"}, "result": {"a": 1}})
    write_record(
        outside / "hostile.json", {"experiment": "order_ladder", "config": {"runs": "runs"}, "result": {"a": 1}}
    )
    with pytest.raises(ValueError, match=r"hostile\.json cannot be run: expected a network among .* got 'leaves:make'"):
        rerun.rerun(outside / "hostile.json")
    assert not (outside / "marker").exists()


def test_a_link_out_of_the_tests_is_seen(tmp_path, monkeypatch):
    (tmp_path / "tests").mkdir()
    (tmp_path / "out.py").touch()
    (tmp_path / "tests" / "test_out.py").symlink_to(tmp_path / "out.py")
    (tmp_path / "tests" / "test_in.py").touch()
    for module, name in ((branch_coverage, "tests/test_{}.py"), (mutants, "test_{}.py")):
        monkeypatch.setattr(module, "ROOT", tmp_path)
        with pytest.raises(ValueError, match="expected relative paths that lead into tests/, got"):
            module.Config(tests=(name.format("out"),))
        assert module.Config(tests=(name.format("in"),))


def test_what_the_project_itself_names_is_allowed():
    assert branch_coverage.Config(tests=("tests/masks", "tests/test_rng.py")).tests
    assert mutants.Config().project(ROOT / "results").tests
    assert reruns.Config().records
