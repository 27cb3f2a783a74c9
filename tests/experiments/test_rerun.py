"""Records run again from what they say of themselves: identical, or what differs, where and by how much."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import msda_theory as mt
from experiments import (
    alpha_sweep,
    digit_nets,
    expansion_gap,
    law_zoo,
    mask_coefficients,
    mask_gallery,
    remainder_order,
    rerun,
    tables,
)
from experiments.differences import ABSOLUTE, RELATIVE, compare
from experiments.record import RECORDS, ROOT, plain, read_record, write_record
from experiments.run_config import RunConfig
from experiments.train import Execution, train
from msda_theory.linear_models import least_squares_optimum

ONE = digit_nets.RunConfig("cutmix", "softplus", 0, epochs=1)
TWO = digit_nets.Config(("vanilla", "cutmix"), ("softplus",), (0, 1), epochs=1, min_accuracy=0.0)
SMALL = {
    mask_gallery: mask_gallery.Config(size=8),
    mask_coefficients: mask_coefficients.Config(sizes=(4,)),
    digit_nets: TWO,
    remainder_order: remainder_order.Config(("mixup",), ONE, images=2, order=2),
    expansion_gap: expansion_gap.Config(TWO, ("mixup", "cutmix"), images=8, draws=4),
    law_zoo: law_zoo.Config(("clovaai",), size=8, draws=60, seeds=(0,), epochs=1, images=8, pairs=4),
    alpha_sweep: alpha_sweep.Config(TWO, ("mixup", "cutmix"), (0.5, 1.0), images=8, pairs=4, draws=4, sizes=(4,)),
}


def name_of(module) -> str:
    return module.__name__.removeprefix("experiments.")


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> dict[str, Path]:
    """Small records of every experiment of `make reproduce`, made in one folder with one process."""
    folder = tmp_path_factory.mktemp("made")
    for module, config in SMALL.items():
        module.run(config, folder=folder)
    return {name_of(module): folder / f"{name_of(module)}.json" for module in SMALL}


@pytest.fixture
def gallery(made, tmp_path):
    """A copy of the quickest record, and a function that changes it."""
    path = tmp_path / "gallery.json"
    kept = read_record(made["mask_gallery"])

    def change(function) -> Path:
        changed = json.loads(json.dumps(kept))
        function(changed)
        write_record(path, changed)
        return path

    return change


def test_the_small_records_are_those_of_make_reproduce():
    assert {name_of(module) for module in SMALL} == set(tables.EXPERIMENTS)


@pytest.mark.parametrize("name", tables.EXPERIMENTS)
def test_a_record_comes_again_to_the_bit(made, name):
    before = made[name].read_bytes()
    outcome = rerun.rerun(made[name])
    assert outcome.comparison.identical, rerun.report(made[name], outcome)
    assert outcome.holds
    assert not outcome.notes
    assert outcome.comparison.numbers > 3
    assert ": identical: " in rerun.report(made[name], outcome)
    assert made[name].read_bytes() == before


def test_processes_change_no_number(made):
    outcome = rerun.rerun(made["digit_nets"], jobs=2)
    assert outcome.comparison.identical, rerun.report(made["digit_nets"], outcome)


def test_a_training_run_comes_again_to_the_bit(tmp_path):
    config = RunConfig(images=60, test_images=20, width=4, epochs=2, batch=16, crop=1, strategy="hmix(ratio=0.25)")
    train(config, Execution(out=tmp_path, device="cpu", threads=1, quiet=True))
    outcome = rerun.rerun(tmp_path / config.name / "record.json")
    assert outcome.comparison.identical, rerun.report(tmp_path, outcome)


def test_a_changed_number_is_named_with_its_place(gallery, capsys):
    def change(record):
        record["result"]["masks"]["cutmix"]["mask"][2][3] += 0.25

    path = gallery(change)
    outcome = rerun.rerun(path)
    assert not outcome.holds
    (found,) = outcome.comparison.found
    assert found.place == "result.masks.cutmix.mask[2][3]"
    assert abs(found.old - found.new) == 0.25
    with pytest.raises(SystemExit) as stop:
        rerun.main((path,))
    assert stop.value.code == 1
    said = capsys.readouterr().out
    assert re.search(r"DIFFERS: 1 of \d+ values \(\d+ numbers, \d+ others\) differ, 1 by more than rounding", said)
    place = f"at result.masks.cutmix.mask[2][3]: {found.old!r} in the record, {found.new!r} now"
    assert place in said


def test_rounding_is_told_from_a_difference(gallery):
    def last_digits(record):
        record["result"]["lam"] *= 1 + 1e-12

    outcome = rerun.rerun(gallery(last_digits))
    assert outcome.holds
    assert not outcome.comparison.identical
    assert "equal but for rounding: 1 of" in rerun.report(Path("x"), outcome)

    def more(record):
        record["result"]["lam"] *= 1 + 1e-8

    assert not rerun.rerun(gallery(more)).holds


def test_a_check_or_a_name_that_differs_is_no_rounding(gallery):
    def change(record):
        record["result"]["checks"][0]["holds"] = False
        record["result"]["checks"][1]["detail"] = "0.6501"
        del record["result"]["masks"]["hmix"]

    outcome = rerun.rerun(gallery(change))
    assert {d.place for d in outcome.comparison.beyond} == {"result.checks[0].holds", "result.masks.hmix"}
    said = rerun.report(Path("x"), outcome)
    assert "result.checks[1].detail: '0.6501' in the record, '0." in said
    assert "result.masks.hmix: 'nothing' now" not in said
    assert "result.masks.hmix: 'nothing' in the record" in said


def test_code_versions_and_machine_are_told(gallery):
    def change(record):
        record |= {"code": "0" * 64 + ":" + "1" * 64, "commit": "abc", "machine": "another"}
        record["versions"]["torch"] = "1.0"
        record["wall_s"], record["date"] = 1e6, "1970-01-01T00:00:00Z"

    outcome = rerun.rerun(gallery(change))
    assert outcome.comparison.identical
    said = rerun.report(Path("x"), outcome)
    assert "the code is other than that of the record; its commit is abc" in said
    assert f"torch is {torch.__version__.split('+')[0]}" in said
    assert ", was 1.0" in said
    assert ", was 'another'" in said
    old, new = ({"code": "0" * 64 + f":{k}", "versions": {}, "machine": "m"} for k in (1, 2))
    assert rerun._changes(old, new) == ["the networks have other weights than those of the record"]


def test_a_field_that_the_record_does_not_have_gets_its_default_and_a_note(gallery):
    outcome = rerun.rerun(gallery(lambda record: record["config"].pop("seed")))
    assert outcome.comparison.identical
    assert outcome.notes == ("seed is not in the record's configuration: its default was taken",)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"experiment": "cutmix-softplus-0"}, r"expected a record among .* got one of 'cutmix-softplus-0' in .*par"),
        ({"experiment": None}, "expected a record among .* got one of 'None'"),
        ({"experiment": "bench_mix"}, r"gallery\.json holds times, which do not come again even on one machine: it is"),
        ({"config": {"size": 8, "pixels": 3}}, r"expected a configuration with the fields \['lam', .*got \['pixels'"),
        ({"config": {"size": "8"}}, r"expected experiments\.mask_gallery: size of type .*int.*, got '8'; the record"),
        ({"config": {"size": True}}, r"expected experiments\.mask_gallery: size of type .*int.*, got True"),
        ({"config": {"strategies": "mixup"}}, "strategies of type .*, got 'mixup'; the record is broken"),
        ({"config": [8]}, r"gallery\.json is not a record .no config and result.; delete it and run"),
    ],
    ids=["part", "nothing", "benchmark", "unknown field", "text", "bool", "no list", "no object"],
)  # fmt: skip
def test_records_that_cannot_be_run_are_refused(gallery, change, text, capsys):
    path = gallery(lambda record: record.update(change))
    with pytest.raises(ValueError, match=text):
        rerun.rerun(path)
    with pytest.raises(SystemExit) as stop:
        rerun.main((path,))
    assert stop.value.code == 1
    assert re.match(r"(REFUSED|NOT RUN)  .*gallery|REFUSED  expected", capsys.readouterr().out)


BROKEN = {
    "threads": ({"threads": "a"}, {}, r"expected 1 to 1024 threads in the result of .*record\.json, got 'a'; make it"),
    "many threads": ({"threads": 10**9}, {}, r"expected 1 to 1024 threads in the result of .*, got 1000000000; make"),
    "true threads": ({"threads": True}, {}, r"expected 1 to 1024 threads in the result of .*, got True; make it"),
    "device": ({"device": 5}, {}, r"expected the device cpu or cuda in the result of .*record\.json, got 5; make it"),
    "unknown device": ({"device": "quantum"}, {}, r"expected the device cpu or cuda in the result .*, got 'quantum'"),
    "versions": ({}, {"versions": "x"}, r"expected versions by the names of libraries in .*, got 'x'; make it again"),
    "large number": ({"test_loss": 10**308}, {}, r"expected numbers below 2\^1023, got a larger one at result\.test"),
    "large elsewhere": ({}, {"cost": [0, -(10**308)]}, r"expected numbers below 2\^1023, got a larger one at cost.1."),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_record_is_refused_by_name_and_the_others_are_run(case, gallery, tmp_path, capsys):
    result, other, text = BROKEN[case]
    path, whole = tmp_path / "record.json", gallery(lambda record: None)
    config = plain(RunConfig(images=20, test_images=10, width=2, epochs=1, batch=8, crop=1))
    usual = {"threads": 1, "device": "cpu", "test_loss": 1.0}
    write_record(path, {"experiment": "record", "config": config, "result": {**usual, **result}, **other})
    with pytest.raises(ValueError, match=text):
        rerun.rerun(path)
    with pytest.raises(SystemExit):
        rerun.main((path, whole))
    said = capsys.readouterr().out
    assert "REFUSED  expected" in said
    assert f"{whole}: identical: " in said


def test_a_record_without_anything_to_compare_is_refused(gallery):
    for result in ({}, {"rows": [], "more": {}}, {"wall_s": 1.0}):
        with pytest.raises(ValueError, match=r"expected a result with values in .*: there is nothing to compare"):
            rerun.rerun(gallery(lambda record, result=result: record.update(result=result)))
    assert not compare({}, {}).identical


def test_an_error_of_one_experiment_costs_that_record_alone(gallery, monkeypatch, capsys):
    path, calls, run = gallery(lambda record: None), [], mask_gallery.run

    def fails_first(config, **options):
        calls.append(config)
        if len(calls) == 1:
            raise RuntimeError("out of luck")
        return run(config, **options)

    monkeypatch.setattr(mask_gallery, "run", fails_first)
    with pytest.raises(SystemExit):
        rerun.main((path, path))
    said = capsys.readouterr().out
    assert f"FAILED  {path}: RuntimeError: out of luck" in said
    assert said.count(": identical: ") == 1


def test_what_differs_is_counted_among_all_values(gallery):
    """Not among the numbers alone, of which fewer may be there than values that differ."""

    def change(record):
        record["result"] = {"lam": 0.25, "names": [str(k) for k in range(50)]}

    outcome = rerun.rerun(gallery(change))
    c = outcome.comparison
    said = rerun.report(Path("x"), outcome)
    assert f"{len(c.found)} of {c.numbers + c.others} values ({c.numbers} numbers, {c.others} others) differ" in said
    assert len(c.found) <= c.numbers + c.others


def test_a_missing_record_is_refused_and_the_others_are_run(gallery, tmp_path, capsys):
    with pytest.raises(FileNotFoundError, match=r"expected a record, got no file .*none\.json; give the path"):
        rerun.rerun(tmp_path / "none.json")
    path = gallery(lambda record: None)
    rerun.main((path,))
    with pytest.raises(SystemExit):
        rerun.main((tmp_path / "none.json", path))
    said = capsys.readouterr().out
    assert said.count(": identical: ") == 2
    assert "REFUSED  expected a record, got no file" in said
    timed = gallery(lambda record: record.update(experiment="bench"))
    with pytest.raises(SystemExit):  # nothing was compared
        rerun.main((timed,))


OUTDATED = {"order_ladder_runs"}  # made before a field of its configuration was renamed


@pytest.mark.parametrize("path", sorted(RECORDS.glob("*.json")), ids=lambda p: p.stem)
def test_every_committed_record_can_be_rebuilt_or_says_why_not(path):
    record = read_record(path)
    assert record is not None
    if path.stem in (*tables.BENCHMARKS, "bench_taylor_gpu"):
        with pytest.raises(ValueError, match="holds times, which do not come again"):
            rerun.rerun(path)
        return
    if path.stem in OUTDATED:
        with pytest.raises(ValueError, match=r"got .*'early'.*; run the code of the record's commit"):
            rerun.rerun(path)
        return
    module = __import__(f"experiments.{rerun.MODULES[path.stem]}", fromlist=["Config"])
    values = {k: v for k, v in record["config"].items() if k not in rerun.DERIVED.get(path.stem, ())}
    config, defaults = rerun.rebuild(module.Config, values)
    assert isinstance(config, module.Config)
    assert {k: v for k, v in plain(config).items() if k not in defaults} == values


def test_the_smallest_differences_are_seen():
    old = {"a": [1.0, 0.0, 3], "b": True, "c": None, "wall_s": 1.0, "d": {"e": "x"}}
    assert compare(old, json.loads(json.dumps(old)) | {"wall_s": 2.0}).identical
    for change, place in (
        ({"a": [1.0 + 2.3e-16, 0.0, 3]}, "a[0]"),
        ({"a": [1.0, -0.0, 3]}, "a[1]"),
        ({"a": [1.0, 0.0]}, "a[2]"),
        ({"a": [1.0, 0.0, 3, 4]}, "a[3]"),
        ({"b": 1}, "b"),
        ({"a": [1.0, 0.0, 3.0]}, "a[2]"),
        ({"a": [1, 0.0, 3]}, "a[0]"),
        ({"c": 0.0}, "c"),
        ({"d": {"e": "y"}}, "d.e"),
        ({"d": {"e": "x", "f": 1}}, "d.f"),
    ):
        (found,) = compare(old, old | change).found
        assert found.place == place
    assert compare(old, old | {"b": 1}).beyond
    assert not compare(old, old | {"a": [1.0 + 2.3e-16, 1e-13, 3]}).beyond
    both = compare({"a": 1.0, "b": 1e-14}, {"a": 1.5, "b": 0.0})
    assert both.largest is not None
    assert both.largest.place == "a", "what rounding explains does not hide the rest"


TRAINED = 1e-05  # of the largest weight: a short run in float32 with one and with two threads


def test_one_and_two_threads_train_the_same_network_but_for_rounding(tmp_path):
    """Float32, where gradients of convolutions are summed in parts, one a thread."""
    config = RunConfig(images=256, test_images=64, width=8, epochs=2, batch=64, lr=0.01)
    assert config.precision == "float32"
    weights, curves = [], []
    for n in (1, 2):
        record = train(config, Execution(out=tmp_path / str(n), device="cpu", threads=n, quiet=True))
        assert record["result"]["threads"] == n
        curves.append([[row["train_loss_mixed"], row["test_loss"]] for row in record["result"]["curve"]])
        tensors = load_file(tmp_path / str(n) / config.name / "weights.safetensors")
        weights.append(torch.cat([t.double().flatten() for _, t in sorted(tensors.items())]))
    one, two = weights
    assert not torch.equal(one, two), "threads change bits here, or this shows nothing"
    assert (one - two).abs().max() <= TRAINED * one.abs().max()
    assert all(d.relative <= TRAINED for d in compare(*curves).found)


def measured() -> dict[str, object]:
    """Float64 from everywhere: the expansion, the table, moments, and a solution by eigenvectors of 768 x 768."""
    rng = np.random.default_rng(5)
    x = torch.from_numpy(rng.normal(size=(40, 3, 16, 16)))
    data = mt.ImageData(x, np.arange(40) % 3, num_classes=3)
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3), torch.nn.Softplus(), torch.nn.Flatten(), torch.nn.Linear(1568, 3)
    )
    model, law = net.double().eval(), mt.HMix()
    terms = mt.expand(model, data, mt.CutMix(), draws=2, rng=np.random.default_rng(1))
    table = mt.compare({"m": model}, data, [law], draws=2, rng=np.random.default_rng(1))
    moments = law.moments((16, 16), law="exact")
    weight, bias = least_squares_optimum(data, moments)
    return {
        "expand": [plain(getattr(terms, name)) for name in ("clean", "base", "r1", "r2", "r3", "total")],
        "compare": plain(table.frame().select_dtypes("number").to_numpy()),
        "moments": plain({"mean": moments.mean, "second": moments.second.dense()}),
        "optimum": plain({"weight": weight.numpy(), "bias": bias.numpy()}),
    }


def test_one_and_two_threads_agree_within_the_bound_in_float64():
    found = []
    before = torch.get_num_threads()
    try:
        for n in (1, 2):
            torch.set_num_threads(n)
            found.append(measured())
    finally:
        torch.set_num_threads(before)
    outcome = compare(*found)
    assert outcome.numbers > 768 * 3
    assert not outcome.identical, "threads change bits here, or this shows nothing"
    assert not outcome.beyond


def test_the_page_states_the_bounds():
    text = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    assert f"{RELATIVE:g}" in text
    assert f"{ABSOLUTE:g}" in text
    assert f"{TRAINED:g} of the largest weight" in text
