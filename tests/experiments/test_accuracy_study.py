"""The accuracy study end to end with a tiny protocol, its refusals, and training on real pictures in folders."""

from __future__ import annotations

import os
import shlex
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import tyro
from picture_files import write_pictures

from experiments import accuracy, tables_accuracy
from experiments.accuracy import PROTOCOLS, Config
from experiments.record import RECORDS, failed, plain, read_record
from experiments.resume import Saver
from experiments.run_config import RunConfig
from experiments.strategies import strategy_from
from experiments.sweep import Grid
from experiments.train import Execution, train

RUN = RunConfig(images=60, test_images=40, width=4, epochs=2, batch=16, crop=1)
DATA = Path(os.environ.get("MSDA_DATA", "/nowhere"))


@pytest.fixture
def tiny(monkeypatch):
    grid = Grid(("digits",), ("resnet8",), ("vanilla", "mixup", "hmix"), (0, 1), run=RUN)
    monkeypatch.setitem(PROTOCOLS, "cpu", grid)


def test_the_study_trains_compares_and_is_not_repeated(tiny, tmp_path, monkeypatch):
    config = Config(over_chance=0.0)
    how = Execution(tmp_path / "runs", threads=1, quiet=True)
    record = accuracy.run(config, how, folder=tmp_path)
    assert (tmp_path / "accuracy.json").exists()
    assert [(r["strategy"], r["seed"]) for r in record["result"]["runs"]] == [
        (s, seed) for seed in (0, 1) for s in ("vanilla", "mixup", "hmix")
    ]
    assert {r["strategy"] for r in record["result"]["rows"]} == {"vanilla", "mixup", "hmix"}
    assert record["wall_s"] > 0.99 * sum(r["wall_s"] for r in record["result"]["runs"])
    for page in (tables_accuracy.table, tables_accuracy.setting, tables_accuracy.ledger_c9, tables_accuracy.ledger_c4):
        assert page(record)
    assert "2 epochs, 2 seeds" in tables_accuracy.setting(record)
    assert "Batch 16" in tables_accuracy.setting(record)
    monkeypatch.setattr(accuracy, "_result", None)
    assert accuracy.run(config, how, folder=tmp_path) == record


def test_a_network_that_learned_nothing_fails_the_check(tiny, tmp_path):
    how = Execution(tmp_path / "runs", threads=1, quiet=True)
    record = accuracy.run(Config(over_chance=11.0), how, folder=tmp_path)
    assert [c["holds"] for c in record["result"]["checks"]] == [False]


def test_failed_runs_are_named(tiny, tmp_path, monkeypatch):
    monkeypatch.setitem(PROTOCOLS, "cpu", replace(PROTOCOLS["cpu"], run=replace(RUN, lr=1e30)))
    with pytest.raises(
        RuntimeError, match="expected every run to finish, 6 failed, the first digits-resnet8-vanilla-0-"
    ):
        accuracy.run(Config(), Execution(tmp_path / "runs", quiet=True), folder=tmp_path)
    assert not (tmp_path / "accuracy.json").exists()


def test_unknown_protocols_are_refused():
    with pytest.raises(ValueError, match=r"expected protocol among \['cpu', 'gpu', 'imagenet'\], got 'tpu'"):
        Config("tpu")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_protocols_hold_what_the_claims_need(protocol):
    runs = Config(protocol).runs()
    assert {r.strategy for r in runs} == {"vanilla", "mixup", "cutmix", "choice", "hmix", "gmix"}
    assert all(strategy_from(r.strategy).alpha == 1.0 for r in runs if r.strategy not in ("vanilla", "choice"))
    assert len({replace(r, strategy="vanilla", seed=0, data="", model="") for r in runs}) == 1, "all else is equal"
    if protocol != "imagenet":
        assert len({r.seed for r in runs}) >= 3


def test_the_committed_record_is_that_of_the_protocol():
    record = read_record(RECORDS / "accuracy.json")
    assert record is not None
    grid = asdict(PROTOCOLS["cpu"])
    assert record["config"] == plain({**asdict(Config()), "run": grid.pop("run"), "grid": grid})
    assert not failed(record)
    assert len(record["result"]["runs"]) == len(Config().runs())
    assert "with local changes" not in record["commit"]


def test_the_command_for_imagenet_is_one_of_the_protocol():
    words = shlex.split(
        accuracy.imagenet_command("gmix").replace("\\\n", " ").removeprefix("```sh\n").removesuffix("\n```")
    )
    options = words[words.index("experiments.train") + 1 : words.index("--workers")]
    assert tyro.cli(RunConfig, args=options) in Config("imagenet").runs()


@pytest.mark.data
@pytest.mark.skipif(not (DATA / "imagenette64").is_dir(), reason="MSDA_DATA does not hold imagenette64")
@pytest.mark.parametrize("workers", [0, 2])
def test_training_on_folders_of_real_pictures_and_resuming(workers, tmp_path, monkeypatch):
    """Imagenette pictures of 64x64 as the files that users have: PNG in class folders."""
    for split, n in (("train", 60), ("val", 20)):
        with np.load(DATA / "imagenette64" / f"{split}.npz") as file:
            images = file["x"][:n].transpose(0, 3, 1, 2)
            write_pictures(tmp_path / "pictures" / split, images, file["y"][:n], [f"class {k}" for k in range(10)])
    config = RunConfig(
        data=f"folder:{tmp_path / 'pictures'}", size=48, width=4, strategy="gmix", epochs=2, batch=20, lr=0.05
    )
    how = Execution(tmp_path / f"runs{workers}", workers=workers, threads=1, quiet=True)
    result = train(config, how)["result"]
    assert (result["images"], result["test_images"], result["steps"]) == (60, 20, 6)
    assert result["shape"] == [3, 48, 48]
    other = replace(how, out=tmp_path / "other", workers=1 - workers // 2, checkpoint_seconds=0.0)
    after = Saver.after_step
    for stop_at in (2, 4):

        def stop(self, stop_at=stop_at):
            after(self)
            if self.trainer.step == stop_at:
                raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(Saver, "after_step", stop)
            with pytest.raises(KeyboardInterrupt):
                train(config, replace(other, resume=True))
    again = train(config, replace(other, resume=True))
    assert again["result"]["weights_sha256"] == result["weights_sha256"], "neither workers nor stops change anything"
