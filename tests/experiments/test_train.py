"""The trainer: what a run leaves behind, stopping and resuming to the bit, diverged runs, several processes."""

from __future__ import annotations

import csv
import functools
import importlib
import io
import linecache
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock
from picture_files import write_splits
from safetensors.torch import load_file

import msda_theory as mt
from experiments import resume
from experiments.batches import to_unit
from experiments.checkpoints import Checkpoints, read
from experiments.data import load_data
from experiments.processes import Processes
from experiments.record import ROOT
from experiments.run_config import RunConfig
from experiments.train import Execution, finished, load_network, train
from experiments.trainer import Trainer

# Everything that has a state: momentum, average, warm-up, clipping, masks for each sample, a choice of strategies.
SMALL = RunConfig(
    images=90,
    test_images=40,
    width=4,
    strategy="choice",
    per_sample=True,
    smoothing=0.1,
    seed=3,
    epochs=3,
    batch=16,
    schedule="onecycle",
    clip=1.0,
    ema=0.9,
    crop=1,
    evaluate_every=2,
)
STEPS = 15  # 3 epochs of 90 // 16 steps


class Stop(BaseException):
    """Stands for a process that ends between two instructions."""


def quiet(folder: Path, **options) -> Execution:
    return Execution(
        **{"out": folder, "device": "cpu", "threads": 1, "quiet": True, "checkpoint_seconds": 0.0, **options}
    )


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """A run that was never stopped."""
    folder = tmp_path_factory.mktemp("straight")
    return folder, train(SMALL, quiet(folder))


def weights(folder: Path, config: RunConfig = SMALL) -> bytes:
    return (folder / config.name / "weights.safetensors").read_bytes()


# --- what a run leaves behind ----------------------------------------------------------------------------------------


def test_a_run_leaves_weights_curve_and_record(straight):
    folder, record = straight
    run = folder / SMALL.name
    assert sorted(p.name for p in run.iterdir()) == [".lock", "curve.csv", "record.json", "weights.safetensors"]
    rows = list(csv.DictReader(io.StringIO((run / "curve.csv").read_text())))
    assert [r["epoch"] for r in rows] == ["1", "2", "3"]
    assert [bool(r["test_accuracy"]) for r in rows] == [False, True, True]
    result = record["result"]
    assert float(rows[-1]["test_accuracy"]) == result["test_accuracy"] == result["test_correct"] / 40
    assert (result["images"], result["test_images"], result["steps"]) == (90, 40, STEPS)
    low, high = result["test_interval_95"]
    assert low < result["test_accuracy"] < high
    assert 0 <= result["loading_share"] < 1
    assert result["images_per_s"] > 0
    expected = f"python -m experiments.train {' '.join(SMALL.options())}"
    assert record["command"] == expected
    assert "--per-sample" in expected


def test_the_record_gives_the_network_back(straight):
    folder, record = straight
    model, test = load_network(record, folder), load_data("digits", test_images=40).test
    assert not model.training
    f = model(to_unit(test.x, test.white, torch.float64))
    assert f.dtype == torch.float64
    assert int((f.argmax(dim=1) == test.y).sum()) == record["result"]["test_correct"]


def test_weights_of_another_run_are_refused(straight, tmp_path):
    folder, record = straight
    place = tmp_path / SMALL.name
    place.mkdir()
    (place / "weights.safetensors").write_bytes(weights(folder)[:-1] + b"\0")
    with pytest.raises(
        ValueError, match=r"digits-resnet8-choice-3-.*weights.safetensors does not hold the weights of its record"
    ):
        load_network(record, tmp_path)


def test_a_finished_run_is_found(straight):
    folder, record = straight
    before = (folder / SMALL.name / "record.json").stat().st_mtime_ns
    assert train(SMALL, quiet(folder)) == record == finished(SMALL, folder)
    assert (folder / SMALL.name / "record.json").stat().st_mtime_ns == before
    assert finished(replace(SMALL, seed=4), folder) is None


def test_global_random_state_stays(tmp_path):
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    train(replace(SMALL, epochs=1), quiet(tmp_path))
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("name", mt.strategies())
def test_every_strategy_learns_digits(name, tmp_path):
    config = RunConfig(
        strategy=name, width=8, epochs=4, batch=64, lr=0.2, crop=1, flip=False, evaluate_every=4, test_images=200
    )
    result = train(config, quiet(tmp_path, checkpoint_seconds=1e9))["result"]
    # chance is 20 of 200; above 60 has probability 1e-15 under it
    assert result["test_correct"] > 60


@pytest.mark.parametrize("precision", ["float64", "bfloat16"])
def test_precisions_and_memory_formats_agree_but_for_rounding(precision, tmp_path):
    config = replace(SMALL, epochs=1, lr=1e-3, clip=None, precision=precision)
    usual, other = replace(config, precision="float32"), replace(config, channels_last=True)
    found = []
    for k, c in enumerate((usual, config, other)):
        train(c, quiet(tmp_path / str(k)))
        tensors = load_file(tmp_path / str(k) / c.name / "weights.safetensors")
        assert all(t.dtype != torch.bfloat16 for t in tensors.values())
        found.append(torch.cat([t.double().flatten() for k, t in tensors.items() if k.endswith("weight")]))
    tolerance = 1e-2 if precision == "bfloat16" else 1e-4
    for one in found[1:]:
        assert float((one - found[0]).norm() / found[0].norm()) < tolerance
    assert not torch.equal(found[0], found[1])


def test_a_compiled_network_is_the_same_network(tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    config = replace(SMALL, epochs=1, precision="float64")
    compiled = replace(config, compile=True)
    for c in (config, compiled):
        train(c, quiet(tmp_path))
    one, other = (load_file(tmp_path / c.name / "weights.safetensors") for c in (config, compiled))
    assert one.keys() == other.keys()
    for k in one:
        torch.testing.assert_close(one[k], other[k], rtol=1e-9, atol=1e-12)


def test_the_progress_bar_shows_loss_accuracy_and_speed(tmp_path, capfd, monkeypatch):
    monkeypatch.setattr("experiments.train.LOOK", 2)
    train(SMALL, quiet(tmp_path, quiet=False))
    shown = capfd.readouterr().err
    assert "loss=" in shown
    assert "clean test accuracy=0." in shown
    assert "image/s" in shown
    assert SMALL.name in shown


def test_decoding_processes_end_with_the_run_and_outlive_a_signal_to_the_group(tmp_path):
    """SIGTERM to the whole group, as clusters send it: workers go on, the run writes its checkpoint and all end."""
    pictures = write_splits(tmp_path / "pictures", 32, 8, 9)
    config = RunConfig(data=f"folder:{pictures}", size=8, width=4, epochs=2, batch=8, lr=0.01)
    children = set(multiprocessing.active_children())
    train(config, quiet(tmp_path / "short", workers=2))
    assert set(multiprocessing.active_children()) <= children
    long = replace(config, epochs=5000, evaluate_every=5000)
    process = subprocess.Popen(
        command(tmp_path / "long", long, "--workers", "2"), env=environment(), stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    kept = Checkpoints(tmp_path / "long" / long.name)
    wait_for(kept, 3, process)
    os.killpg(process.pid, signal.SIGTERM)
    _, said = process.communicate(timeout=120)
    assert "stopped by signal 15 after step" in said, said
    newest = kept.newest()
    assert newest is not None
    assert newest.step == int(said.split("after step ")[1].split()[0])


def test_a_batch_larger_than_the_data_is_refused(tmp_path):
    with pytest.raises(ValueError, match="expected a batch of at most 90 images, got 100; lower it"):
        train(replace(SMALL, batch=100), quiet(tmp_path))


# --- stop and resume -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [0.0, 1e9], ids=["a checkpoint each step", "no checkpoint but the one at the stop"])
@pytest.mark.parametrize("stop_at", range(1, STEPS + 1))
def test_a_run_stopped_after_any_step_ends_with_the_same_bits(straight, stop_at, seconds, tmp_path, monkeypatch):
    folder, record = straight
    after = resume.Saver.after_step

    def stop(self):
        if self.trainer.step == stop_at:
            if seconds:
                self.write()
                raise Stop
            after(self)
            raise Stop
        after(self)

    monkeypatch.setattr(resume.Saver, "after_step", stop)
    with pytest.raises(Stop):
        train(SMALL, quiet(tmp_path, checkpoint_seconds=seconds))
    monkeypatch.undo()
    again = train(SMALL, quiet(tmp_path, resume=True, checkpoint_seconds=seconds))
    assert weights(tmp_path) == weights(folder)
    keep = ("epoch", "train_loss_mixed", "test_loss", "test_accuracy", "train_accuracy")
    curves = [[{k: row[k] for k in keep} for row in r["result"]["curve"]] for r in (record, again)]
    assert curves[0] == curves[1]


def command(folder: Path, config: RunConfig, *more: str) -> list[str]:
    words = [w.strip("'") for w in config.options()]
    own = ["--out", str(folder), "--device", "cpu", "--threads", "1", "--quiet", "--checkpoint-seconds", "0", *more]
    return [sys.executable, "-m", "experiments.train", *words, *own]


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **more}


def wait_for(checkpoints: Checkpoints, step: int, process: subprocess.Popen) -> None:
    """Until there is a checkpoint of this step or a later one."""
    limit = time.monotonic() + 120
    while not any(int(p.stem[-9:]) >= step for p in checkpoints.paths()):
        assert time.monotonic() < limit, "no checkpoint came"
        if process.poll() is not None:
            return
        time.sleep(0.001)


def test_kill_9_at_random_points_and_resume_ends_with_the_same_bits(tmp_path):
    config = replace(SMALL, epochs=12)
    rng = np.random.default_rng(11)
    points = sorted(rng.integers(1, 55, size=3))
    kept = Checkpoints(tmp_path / "killed" / config.name)
    for k, step in enumerate(points):
        process = subprocess.Popen(command(tmp_path / "killed", config, *["--resume"] * (k > 0)), env=environment())
        wait_for(kept, step, process)
        time.sleep(float(rng.uniform(0, 0.01)))  # anywhere in a step, or in the writing of a checkpoint
        process.kill()
        assert process.wait() == -signal.SIGKILL
        assert kept.newest() is not None
    subprocess.run(command(tmp_path / "killed", config, "--resume"), env=environment(), check=True)
    train(config, quiet(tmp_path / "straight", checkpoint_seconds=1e9))
    assert weights(tmp_path / "killed", config) == weights(tmp_path / "straight", config)


def test_sigterm_writes_a_checkpoint_and_says_so(tmp_path):
    config = replace(SMALL, epochs=400)
    process = subprocess.Popen(command(tmp_path, config), env=environment(), stderr=subprocess.PIPE, text=True)
    kept = Checkpoints(tmp_path / config.name)
    wait_for(kept, 3, process)
    process.terminate()
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    step = int(said.split("after step ")[1].split()[0])
    assert f"stopped by signal 15 after step {step} of 2000; --resume continues" in said
    newest = kept.newest()
    assert newest is not None
    assert newest.step == step


def test_the_handler_of_signals_is_put_back(tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    train(replace(SMALL, epochs=1), quiet(tmp_path))
    assert signal.getsignal(signal.SIGTERM) is before


def stopped_at(folder: Path, step: int, monkeypatch: pytest.MonkeyPatch) -> Checkpoints:
    after = resume.Saver.after_step

    def stop(self):
        after(self)
        if self.trainer.step == step:
            raise Stop

    with monkeypatch.context() as patch:
        patch.setattr(resume.Saver, "after_step", stop)
        with pytest.raises(Stop):
            train(SMALL, quiet(folder))
    return Checkpoints(folder / SMALL.name)


def test_a_damaged_newest_checkpoint_costs_one_step_and_no_bit(straight, tmp_path, monkeypatch):
    folder, _ = straight
    newest = stopped_at(tmp_path, 8, monkeypatch).paths()[0]
    newest.write_bytes(newest.read_bytes()[:-100])
    with pytest.warns(UserWarning, match=r"checkpoint-000000008\.safetensors is damaged"):
        train(SMALL, quiet(tmp_path, resume=True))
    assert weights(tmp_path) == weights(folder)


def test_checkpoints_are_not_overwritten_unasked(tmp_path, monkeypatch):
    stopped_at(tmp_path, 2, monkeypatch)
    expected = r"expected a folder without checkpoints, got checkpoint-000000002\.safetensors .* pass --resume"
    with pytest.raises(ValueError, match=expected):
        train(SMALL, quiet(tmp_path))


@pytest.mark.parametrize("part", ["data", "code"])
def test_a_checkpoint_of_other_data_or_code_is_refused(part, tmp_path, monkeypatch):
    kept = stopped_at(tmp_path, 2, monkeypatch)
    newest = kept.newest()
    assert newest is not None
    newest.state[part] = "other"
    kept.write(newest)
    with pytest.raises(ValueError, match=f"expected a checkpoint of this run's {part}, got one of another in"):
        train(SMALL, quiet(tmp_path, resume=True))


def test_one_pixel_or_one_file_name_makes_other_data(tmp_path):
    data = load_data("digits", images=40, test_images=20)
    usual, x = resume.fingerprint(data), data.test.x.clone()
    assert resume.fingerprint(load_data("digits", images=40, test_images=20)) == usual
    x[3, 0, 2, 2] ^= 1
    assert resume.fingerprint(replace(data, test=replace(data.test, x=x))) != usual
    write_splits(tmp_path, 4, 4, 9)
    before = resume.fingerprint(load_data(f"folder:{tmp_path}", size=8))
    one = next((tmp_path / "val" / "a").iterdir())
    one.rename(one.with_name("other.png"))
    assert resume.fingerprint(load_data(f"folder:{tmp_path}", size=8)) != before


def test_a_changed_network_of_the_users_own_is_another_run(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    config = replace(SMALL, model="nets_that_change:net", width=None, epochs=1, ema=None)
    digests = []
    for act in ("ReLU", "Tanh"):
        (tmp_path / "nets_that_change.py").write_text(NET.replace("Softplus", act))
        sys.modules.pop("nets_that_change", None)
        linecache.clearcache()
        importlib.invalidate_caches()
        record = train(config, quiet(tmp_path / "runs"))
        digests.append(record["result"]["weights_sha256"])
    assert digests[0] != digests[1]


def test_a_record_that_cannot_be_written_costs_nothing(straight, tmp_path, monkeypatch):
    """The checkpoints stay until the record is there."""
    with monkeypatch.context() as patch:
        patch.setattr("experiments.record.write_record", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
        with pytest.raises(OSError, match="disk full"):
            train(SMALL, quiet(tmp_path))
    newest = Checkpoints(tmp_path / SMALL.name).newest()
    assert newest is not None
    assert newest.step == STEPS
    record = train(SMALL, quiet(tmp_path, resume=True))
    assert weights(tmp_path) == weights(straight[0])
    assert record["result"]["test_correct"] == straight[1]["result"]["test_correct"]
    assert not Checkpoints(tmp_path / SMALL.name).paths()


def test_wall_time_counts_what_was_before_the_stop(tmp_path, monkeypatch):
    kept = stopped_at(tmp_path, 3, monkeypatch)
    newest = kept.newest()
    assert newest is not None
    newest.state["wall_s"] = 1000.0
    kept.write(newest)
    assert 1000 < train(SMALL, quiet(tmp_path, resume=True))["wall_s"] < 1100


def test_two_processes_do_not_train_one_run(tmp_path):
    folder = tmp_path / SMALL.name
    folder.mkdir()
    with (
        FileLock(folder / ".lock"),
        pytest.raises(RuntimeError, match=r"expected to be the only process that trains digits-.*, got another one"),
    ):
        train(SMALL, quiet(tmp_path))
    assert train(SMALL, quiet(tmp_path))["result"]["steps"] == STEPS


def test_threads_take_turns(straight, tmp_path):
    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(train, SMALL, quiet(tmp_path / str(k))) for k in range(4)]
    assert {f.result()["result"]["weights_sha256"] for f in futures} == {straight[1]["result"]["weights_sha256"]}


def test_training_accuracy_is_of_images_spread_over_the_list():
    """Lists sorted by class: the first ones would be of one class alone."""
    data = load_data("digits", images=90, test_images=10)
    order = torch.argsort(data.train.y, stable=True)
    data = replace(data, train=data.train[order.numpy()])
    trainer = Trainer(replace(SMALL, batch=10), data, Processes(0, 1, torch.device("cpu")))
    asked = []
    trainer.evaluate = lambda split, images: asked.append(split.y[torch.from_numpy(images)]) or (0.0, 0)
    trainer.end_epoch(evaluated=True)
    assert asked[1].unique().tolist() == list(range(10))


def test_another_number_of_threads_is_named(tmp_path, monkeypatch, capsys):
    stopped_at(tmp_path, 2, monkeypatch)
    train(SMALL, quiet(tmp_path, resume=True, threads=2))
    assert "computed with 1 threads, this process has 2: rounding will differ" in capsys.readouterr().err


def test_resume_without_a_checkpoint_starts(tmp_path):
    config = replace(SMALL, epochs=1)
    assert train(config, quiet(tmp_path, resume=True))["result"]["steps"] == 5


def test_a_diverged_run_stops_and_leaves_its_last_good_checkpoint(tmp_path, monkeypatch):
    step = Trainer._step

    def poisoned(self, images, index):
        step(self, images, index)
        if self.step == 9:  # the tenth step leaves a weight that is not finite
            next(self.model.parameters()).data[0] = float("nan")

    monkeypatch.setattr(Trainer, "_step", poisoned)
    expected = (
        r"expected finite losses and weights, got others by step 10 .*last good checkpoint is checkpoint-000000009"
    )
    with pytest.raises(FloatingPointError, match=expected):
        train(SMALL, quiet(tmp_path))
    left = Checkpoints(tmp_path / SMALL.name).newest()
    assert left is not None
    assert all(torch.isfinite(t).all() for t in left.tensors.values())
    assert not (tmp_path / SMALL.name / "record.json").exists()


def test_a_learning_rate_far_too_high_is_noticed_in_the_first_epoch(tmp_path):
    config = replace(SMALL, lr=1e30, clip=None, ema=None)
    with pytest.raises(FloatingPointError, match=r"lower lr or set clip \(there was no checkpoint yet\)"):
        train(config, quiet(tmp_path, checkpoint_seconds=1e9))


def test_an_infinite_clean_loss_is_divergence(tmp_path, monkeypatch):
    monkeypatch.setattr(Trainer, "evaluate", lambda self, split, images: (float("inf"), 0))
    with pytest.raises(FloatingPointError, match="expected finite losses and weights, got others by step 10"):
        train(SMALL, quiet(tmp_path))
    assert Checkpoints(tmp_path / SMALL.name).paths()


def test_a_stop_in_the_middle_of_writing_leaves_the_one_before(tmp_path, monkeypatch):
    kept = stopped_at(tmp_path, 4, monkeypatch)
    half = kept.folder / ".checkpoint-000000005.safetensors.1.tmp"  # what a kill leaves: never the final name
    half.write_bytes(kept.paths()[0].read_bytes()[:50])
    newest = kept.newest()
    assert newest is not None
    assert newest.step == 4
    assert read(half) is None


# --- several processes -----------------------------------------------------------------------------------------------

NET = '''
from torch import nn


def net(classes, channels):
    """Without batch statistics, which every process takes of its own part."""
    return nn.Sequential(nn.Conv2d(channels, 4, 3), nn.Softplus(), nn.Flatten(), nn.Linear(4 * 36, classes))
'''


def torchrun(folder: Path, config: RunConfig, net: Path, *more: str) -> subprocess.Popen:
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    words = [*launch, *command(folder, config, *more)[1:]]
    path = f"{net}{os.pathsep}{ROOT}"
    return subprocess.Popen(words, env=environment(PYTHONPATH=path), stderr=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    folder = tmp_path_factory.mktemp("net")
    (folder / "nets_of_mine.py").write_text(NET)
    return folder


def test_two_processes_mix_and_learn_what_one_does(net, tmp_path, monkeypatch):
    config = replace(SMALL, model="nets_of_mine:net", width=None, precision="float64", images=None, batch=64, ema=None)
    process = torchrun(tmp_path / "two", config, net)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    monkeypatch.syspath_prepend(str(net))
    alone = train(config, quiet(tmp_path / "one"))
    two, one = (load_file(tmp_path / k / config.name / "weights.safetensors") for k in ("two", "one"))
    for k in one:
        torch.testing.assert_close(two[k], one[k], rtol=1e-9, atol=1e-11)
    start = Trainer(config, load_data("digits"), Processes(0, 1, torch.device("cpu"))).model.state_dict()
    assert any(not torch.allclose(start[k], one[k], atol=1e-3) for k in one), "nothing was learned"
    both = finished(config, tmp_path / "two")
    assert both is not None
    assert both["result"]["processes"] == 2
    assert both["result"]["test_correct"] == alone["result"]["test_correct"]


def test_two_processes_decode_each_a_part_and_mix_the_whole(net, tmp_path, monkeypatch):
    """Pictures in folders are exchanged before they are mixed, unlike images in memory."""
    pictures = write_splits(tmp_path / "pictures", 33, 10, 9)
    config = RunConfig(
        data=f"folder:{pictures}", size=8, model="nets_of_mine:net", strategy="hmix", per_sample=True,
        epochs=3, batch=8, lr=0.05, precision="float64",
    )  # fmt: skip
    process = torchrun(tmp_path / "two", config, net, "--workers", "2")
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    monkeypatch.syspath_prepend(str(net))
    alone = train(config, quiet(tmp_path / "one", workers=0))["result"]
    two, one = (load_file(tmp_path / k / config.name / "weights.safetensors") for k in ("two", "one"))
    for k in one:
        torch.testing.assert_close(two[k], one[k], rtol=1e-9, atol=1e-11)
    both = finished(config, tmp_path / "two")
    assert both is not None
    assert (both["result"]["processes"], both["result"]["test_correct"]) == (2, alone["test_correct"])
    other = train(replace(config, strategy="vanilla"), quiet(tmp_path / "one", workers=0))["result"]
    assert other["weights_sha256"] != alone["weights_sha256"]


def test_two_processes_with_batch_statistics_killed_and_resumed(net, tmp_path):
    config = replace(SMALL, epochs=10)
    process = torchrun(tmp_path / "killed", config, net)
    wait_for(Checkpoints(tmp_path / "killed" / config.name), 12, process)
    process.terminate()  # torchrun ends both
    process.communicate(timeout=60)
    again = torchrun(tmp_path / "killed", config, net, "--resume")
    straight = torchrun(tmp_path / "straight", config, net)
    for p in (again, straight):
        _, said = p.communicate(timeout=300)
        assert p.returncode == 0, said
    assert weights(tmp_path / "killed", config) == weights(tmp_path / "straight", config)


def test_processes_that_see_other_checkpoints_are_an_error(tmp_path, monkeypatch):
    stopped_at(tmp_path, 2, monkeypatch)
    monkeypatch.setattr(Processes, "agree", lambda self, number: 7 if number == 2 else number)
    with pytest.raises(
        ValueError, match=r"expected the checkpoint of the first process in .* got step 2; put the folder"
    ):
        train(SMALL, quiet(tmp_path, resume=True))
