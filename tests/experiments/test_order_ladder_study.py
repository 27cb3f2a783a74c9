"""The study of the order ladder: a tiny run, its summary against its parts, finished runs, tables and figure."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from picture_files import write_splits

from experiments import digit_nets, ladder_expectations, ladder_nets, order_ladder, tables_order_ladder
from experiments.record import failed
from experiments.run_config import RunConfig
from experiments.train import Execution, train
from figures import order_ladder as figure
from msda_theory.verdicts import rank_agreement

TRAINING = digit_nets.Config(
    strategies=("vanilla", "cutmix"), activations=("softplus", "relu"), seeds=(0, 1), epochs=3, min_accuracy=0.0
)
CONFIG = order_ladder.Config(
    training=TRAINING,
    checkpoints=(1,),
    alphas=(0.2, 1.0),
    strategies=("mixup", "cutmix", "hmix"),
    images=14,
    draws=4,
    radius_images=8,
    radius_draws=2,
    scales=(0.5, 1.0),
)
RUN = RunConfig(images=90, test_images=40, width=4, strategy="hmix(ratio=0.75)", epochs=1, batch=16, crop=1)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    return order_ladder.run(CONFIG, folder=folder), folder


def parts(folder):
    return [json.loads(p.read_text()) for p in sorted((folder / "order_ladder").glob("*.json"))]


def shares(folder, rung, **labels):
    """Share of one rung by training, strategy and seed, of cells whose rise is clear."""
    found = {}
    for record in parts(folder):
        subject = record["config"]["subject"]
        for cell in record["result"]["cells"]:
            own = {**subject, **cell}
            if all(own[k] == v for k, v in labels.items()) and cell["rise"] > 5 * cell["rise_se"]:
                share = cell["share"][cell["rungs"].index(rung)]
                found[subject["training"], cell["strategy"], subject["seed"]] = share, cell["rise"]
    return found


def row_of(record, part, rung, **labels):
    """The row of a part of the result for one rung and kind of network."""
    wanted = {**labels, **dict(zip(("law", "at", "rung"), rung, strict=True))}
    return next(r for r in record["result"][part] if all(r[k] == v for k, v in wanted.items()))


def test_every_network_is_analysed_and_the_checks_hold(tiny):
    record, folder = tiny
    kinds = [(r["config"]["subject"]["stage"], r["config"]["subject"]["network"]) for r in parts(folder)]
    counts = {k: kinds.count(k) for k in product(ladder_nets.stages((1,)), TRAINING.activations)}
    assert counts == {(s, a): 2 if s == "untrained" else 4 for s, a in counts}
    assert record["result"]["networks"] == len(kinds) == 20
    assert failed(record) == []


def test_the_summary_is_that_of_the_parts(tiny):
    record, folder = tiny
    labels = {"network": "relu", "stage": "trained", "alpha": 1.0}
    for rung in (["exact", "mask", "r2"], ["paper", "data", "r3"], ["exact", "class", "base"]):
        row = row_of(record, "shares", rung, **labels)
        found = shares(folder, rung, **labels)
        cells = sorted({k[:2] for k in found})
        means = [np.mean([v[0] for k, v in found.items() if k[:2] == c]) for c in cells]
        assert row["cells"] == len(cells)
        spread = {"min": min(means), "median": np.median(means), "max": max(means)}
        assert row["over_cells"] == pytest.approx(spread, abs=1e-4)
        assert row["miss"] == pytest.approx(np.mean(np.abs(np.array(means) - 1)), abs=1e-9)


def test_the_order_of_strategies_is_that_of_the_parts(tiny):
    record, folder = tiny
    labels, rung = {"network": "softplus", "stage": "epoch 1", "alpha": 1.0}, ["exact", "mean", "r2"]
    taus = []
    for r in parts(folder):
        if all(r["config"]["subject"][k] == labels[k] for k in ("network", "stage")):
            own = r["result"]["cells"]
            predicted = [c["share"][c["rungs"].index(rung)] * c["rise"] for c in own]
            taus.append(rank_agreement(np.array(predicted), np.array([c["rise"] for c in own])).kendall)
    row = row_of(record, "order", rung, **labels)
    assert row["networks"] == len(taus) == 4
    assert row["kendall"]["mean"] == pytest.approx(np.mean(taus), abs=1e-4)


def test_a_checkpoint_is_the_full_run_up_to_there(tmp_path):
    full = digit_nets.RunConfig("cutmix", "relu", 0, epochs=3)
    whole, end, middle = (digit_nets.train_one(replace(full, stop=k), tmp_path)["result"] for k in (None, 3, 1))
    assert end["weights_sha256"] == whole["weights_sha256"] != middle["weights_sha256"]
    assert middle["training_loss"] == whole["training_loss"][:1]
    assert len(list((tmp_path / "digit_nets").glob("*.safetensors"))) == 3


def test_parts_are_kept(tiny):
    record, folder = tiny
    files = sorted((folder / "order_ladder").glob("*.json"))
    before = [f.stat().st_mtime_ns for f in files]
    (folder / "order_ladder.json").unlink()
    again = order_ladder.run(CONFIG, folder=folder)
    assert again["result"] == record["result"]
    assert [f.stat().st_mtime_ns for f in files] == before


def test_expectations_are_those_that_were_written_down(tiny):
    record, _ = tiny
    keys = [e["key"] for e in record["result"]["expectations"]]
    assert ladder_expectations.__doc__ is not None
    written = [line.split("*")[1] for line in ladder_expectations.__doc__.splitlines() if line.startswith("- *")]
    assert set(keys) <= set(written)
    assert set(written) - set(keys) <= {"stage"}  # the loss of untrained networks may not rise clearly


def test_tables_and_figure_come_from_the_record(tiny, tmp_path):
    record, folder = tiny
    table = tables_order_ladder.share_table(record).splitlines()
    assert len(table) == 2 + 2 * 2 * 5 + 2  # nets, laws, points, and the loss under the paper's law
    assert "epoch 1" in tables_order_ladder.stage_table(record)
    assert tables_order_ladder.checkpoint_tables(record).startswith("After 1 of 3 epochs:")
    assert len(tables_order_ladder.part_table(record).splitlines()) == 2 + 2 * 5
    assert len(tables_order_ladder.order_table(record, stage="epoch 1").splitlines()) == 2 + 2 * 2 * 5 + 2
    assert len(tables_order_ladder.radius_table(record).splitlines()) == 2 + 2 * 3 * (5 + 1)
    assert tables_order_ladder.expectation_list(record).count("as expected") == len(record["result"]["expectations"])
    assert "python -m experiments.order_ladder" in tables_order_ladder.setting(record)
    first, second = (figure.draw(folder, tmp_path / name) for name in ("a", "b"))
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]
    assert "cells of training and mixing strategy" in figure.caption({"order_ladder": record})


def test_finished_runs_are_analysed_on_their_training_images(tmp_path):
    for seed in (0, 1):
        config = RunConfig(**{**vars(RUN), "seed": seed})
        train(config, Execution(out=tmp_path / "runs", quiet=True))
    config = order_ladder.Config(
        runs=str(tmp_path / "runs"), images=20, draws=2, radius_images=6, radius_draws=2, scales=(0.5, 1.0),
        alphas=(1.0,), strategies=("mixup", "cutmix", "gmix"), quadratic=False, precision="float64",
    )  # fmt: skip
    record = order_ladder.run(config, folder=tmp_path)
    assert (tmp_path / "order_ladder_runs.json").exists()
    assert not (tmp_path / "order_ladder.json").exists()
    assert record["result"]["networks"] == 2
    assert record["result"]["expectations"] == []  # those are of other networks
    subject = parts(tmp_path)[0]["config"]["subject"]
    assert (subject["data"], subject["network"], subject["training"]) == ("digits", "resnet8", "hmix(ratio=0.75)")
    rungs = parts(tmp_path)[0]["result"]["cells"][0]["rungs"]
    assert ["exact", "mask", "quadratic"] in rungs
    assert ["exact", "data", "quadratic"] not in rungs


def test_a_folder_without_runs_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no finished run; make one with"):
        list(ladder_nets.run_subjects(tmp_path))


def test_pictures_in_folders_are_refused(tmp_path):
    write_splits(tmp_path / "pictures", 4, 4, 8)
    config = RunConfig(**{**vars(RUN), "data": f"folder:{tmp_path / 'pictures'}", "images": None, "size": 8})
    subject = ladder_nets.Subject("folder", "resnet8", "cutmix", "trained", 0, run="nowhere")
    with pytest.raises(ValueError, match="expected a data set held in memory, got pictures in folders"):
        ladder_nets.load(subject, {"config": vars(config)}, tmp_path, 4, "float32")
