"""Sweeps: the grid, what is run and what is not, failures, executors."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import Executor, Future
from dataclasses import replace
from pathlib import Path

import pytest
from distributed import Client, LocalCluster
from picture_files import write_splits

from experiments import sweep as sweeps
from experiments.record import ROOT
from experiments.run_config import RunConfig
from experiments.sweep import Grid, read_failure, sweep
from experiments.train import Execution, finished
from experiments.workers import executor_for

ATTEMPT = sweeps._attempt
TINY = RunConfig(images=40, test_images=20, width=4, epochs=1, batch=16, crop=1)


def grid(**options) -> list[RunConfig]:
    return Grid(**{"strategies": ("vanilla", "cutmix"), "seeds": (0, 1), "run": TINY, **options}).runs()


def how(folder: Path) -> Execution:
    return Execution(out=folder, device="cpu", threads=1, quiet=True)


def bits(runs: list[RunConfig], folder: Path) -> list[bytes]:
    return [(folder / r.name / "weights.safetensors").read_bytes() for r in runs]


def test_the_grid_has_every_combination_once():
    runs = grid(data=("digits", "digits:"), models=("resnet8", "vit"), alphas=(0.2, 1.0))
    assert len(runs) == len(set(runs)) == 2 * 2 * 2 * 3  # vanilla training has no alpha
    assert {r.strategy for r in runs} == {"vanilla", "cutmix", "cutmix(alpha=0.2)"}
    assert [r.seed for r in runs] == [0] * 12 + [1] * 12
    assert all(r.epochs == 1 for r in runs)


def test_finished_runs_are_not_run_again_and_the_order_is_that_of_the_runs(tmp_path, monkeypatch):
    runs = grid()
    first = sweep(runs[:2], how(tmp_path))
    asked = []
    train = sweeps.train
    monkeypatch.setattr(sweeps, "train", lambda run, how: asked.append(run) or train(run, how))
    both = sweep(runs[::-1], how(tmp_path))
    assert asked == runs[:1:-1]
    assert both.records[::-1][:2] == first.records
    assert [RunConfig(**r["config"]) for r in both.records] == runs[::-1]
    assert not both.failures


def test_a_failed_run_is_reported_left_alone_and_tried_again_on_request(tmp_path, monkeypatch):
    runs = grid()
    broken = replace(runs[1], lr=1e30)
    runs[1] = broken
    outcome = sweep(runs, how(tmp_path))
    assert [RunConfig(**r["config"]) for r in outcome.records] == [runs[0], *runs[2:]]
    assert list(outcome.failures) == [broken.name]
    assert "FloatingPointError: expected finite losses" in outcome.failures[broken.name]
    assert read_failure(broken, tmp_path) == outcome.failures[broken.name]
    asked = []
    train = sweeps.train
    monkeypatch.setattr(sweeps, "train", lambda run, how: asked.append(run) or train(run, how))
    assert sweep(runs, how(tmp_path)).failures == outcome.failures
    assert asked == []
    assert sweep(runs, how(tmp_path), retry=True).failures == outcome.failures
    assert asked == [broken]
    note = tmp_path / broken.name / "failure.json"
    assert note.exists()
    monkeypatch.setattr(sweeps, "train", lambda run, how: train(replace(run, lr=0.1), how))
    assert not sweep(runs, how(tmp_path), retry=True).failures
    assert not note.exists(), "a note of what is past would stop later sweeps"


def test_interrupted_runs_go_on(tmp_path, monkeypatch):
    runs = grid()[:1]
    seen = []
    monkeypatch.setattr(sweeps, "train", lambda run, how: seen.append(how) or {"config": {}})
    sweep(runs, how(tmp_path))
    assert seen[0].resume


class Lost(Executor):
    """Workers that die."""

    def submit(self, function, /, *arguments, **options):
        future: Future = Future()
        future.set_exception(RuntimeError("a worker was lost"))
        return future


def test_lost_runs_are_named_and_not_held_against_them(tmp_path):
    sweep(grid()[:1], how(tmp_path))
    outcome = sweep(grid(), how(tmp_path), executor=Lost())
    assert set(outcome.failures.values()) == {"lost with its worker (RuntimeError: a worker was lost)"}
    assert len(outcome.failures) == 3
    assert not list(tmp_path.glob("*/failure.json"))
    assert not sweep(grid(), how(tmp_path)).failures


def dying_once(run: RunConfig, how: Execution) -> dict | str:
    """A run whose worker is killed in the first attempt."""
    mark = how.out / "killed"
    if run.strategy == "cutmix" and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return ATTEMPT(run, how)


def test_a_killed_worker_costs_time_and_nothing_else(tmp_path, one_by_one, monkeypatch):
    monkeypatch.setattr(sweeps, "_attempt", dying_once)
    outcome = sweeps.run_all(grid(), how(tmp_path), jobs=2)
    assert (tmp_path / "killed").exists()
    assert not outcome.failures
    assert bits(grid(), tmp_path) == one_by_one


def group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_an_interrupted_sweep_leaves_no_process_and_can_go_on(tmp_path):
    """^C and SIGTERM: running runs write a checkpoint, no other run starts, no process stays."""
    words = [
        "--strategies",
        "vanilla",
        "cutmix",
        "mixup",
        "--seeds",
        "0",
        "--run.epochs",
        "20000",
        "--run.images",
        "40",
    ]
    words += ["--run.test-images", "20", "--run.width", "4", "--run.batch", "16", "--run.evaluate-every", "20000"]
    command = [sys.executable, "-m", "experiments.sweep", *words, "--out", str(tmp_path), "--quiet", "--jobs", "2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    for number in (signal.SIGINT, signal.SIGTERM):
        before = set(tmp_path.glob("*/checkpoint-*"))
        process = subprocess.Popen(
            [*command, "--checkpoint-seconds", "0.2"],
            env=environment,
            start_new_session=True,
            stderr=subprocess.PIPE,
            text=True,
        )
        limit = time.monotonic() + 120
        while len({p.parent for p in set(tmp_path.glob("*/checkpoint-*")) - before}) < 2:
            assert time.monotonic() < limit
            time.sleep(0.05)
        process.send_signal(number)
        _, said = process.communicate(timeout=120)
        assert process.returncode not in (0, None)
        assert number == signal.SIGINT or "stopped by signal 15; start the sweep again to continue" in said
        gone = time.monotonic() + 60
        while group_lives(process.pid):
            assert time.monotonic() < gone, "a process stayed"
            time.sleep(0.1)
        assert len({p.parent for p in tmp_path.glob("*/checkpoint-*")}) == 2, "no other run was started"
        assert not list(tmp_path.glob("*/failure.json"))


def test_sweeps_are_not_started_by_torchrun(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="expected a sweep to be started alone, got several processes of torchrun"):
        sweep(grid(), how(tmp_path))


def test_what_varies_is_said_by_the_grid():
    with pytest.raises(
        ValueError, match=r"expected the grid to say what varies, got run\.seed=3; give the values of seed"
    ):
        Grid(run=replace(TINY, seed=3))


def test_a_broken_record_concerns_its_run_alone(tmp_path):
    runs = grid()
    place = tmp_path / runs[0].name
    place.mkdir()
    (place / "record.json").write_bytes(b"")
    outcome = sweep(runs, how(tmp_path))
    assert list(outcome.failures) == [runs[0].name]
    assert "is not a JSON record" in outcome.failures[runs[0].name]
    assert len(outcome.records) == 3


class Interrupted(Executor):
    """Someone pressed ^C in a worker."""

    def submit(self, function, /, *arguments, **options):
        future: Future = Future()
        future.set_exception(KeyboardInterrupt())
        return future


def test_an_interrupt_is_no_failure_of_a_run(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        sweep(grid(), how(tmp_path), executor=Interrupted())
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def one_by_one(tmp_path_factory):
    folder = tmp_path_factory.mktemp("one_by_one")
    with executor_for(1) as executor:
        assert executor is None
        sweep(grid(), how(folder), executor=executor)
    return bits(grid(), folder)


def test_processes_give_the_same_bits(tmp_path, one_by_one):
    with executor_for(2) as executor:
        sweep(grid(), how(tmp_path), executor=executor)
    assert bits(grid(), tmp_path) == one_by_one


def test_pictures_in_folders_on_a_dask_cluster(tmp_path):
    """Its workers are daemons, which may not have the children that decode."""
    pictures = write_splits(tmp_path / "pictures", 8, 4, 12)
    run = replace(TINY, images=None, test_images=None, size=8, batch=4)
    runs = grid(data=(f"folder:{pictures}",), strategies=("cutmix",), seeds=(0,), run=run)
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, processes=True, dashboard_address=":0") as cluster,
        executor_for(1, cluster.scheduler_address) as executor,
    ):
        outcome = sweep(runs, replace(how(tmp_path), workers=2), executor=executor)
    assert not outcome.failures
    assert sweeps.summary(outcome.records[0])["data"] == "folder pictures"


def test_a_dask_cluster_gives_the_same_bits(tmp_path, one_by_one):
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0") as cluster,
        executor_for(1, cluster.scheduler_address) as executor,
    ):
        outcome = sweep(grid(), how(tmp_path), executor=executor)
    assert not outcome.failures
    assert bits(grid(), tmp_path) == one_by_one


def test_a_lost_dask_worker_costs_time_and_nothing_else(tmp_path, one_by_one, monkeypatch):
    """The cluster gives the run of a killed worker to another, which continues it."""
    monkeypatch.setattr(sweeps, "_attempt", dying_once)
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0") as cluster,
        executor_for(1, cluster.scheduler_address) as executor,
    ):
        outcome = sweep(grid(), how(tmp_path), executor=executor)
    assert (tmp_path / "killed").exists()
    assert not outcome.failures
    assert bits(grid(), tmp_path) == one_by_one


def test_the_line_of_the_whole(tmp_path, capfd):
    runs = grid()
    sweep(runs[:1], how(tmp_path))
    sweep([*runs, replace(runs[0], lr=1e30)], replace(how(tmp_path), quiet=False))
    last = capfd.readouterr().err.split("\r")[-1]
    assert "5/5" in last
    assert "failed=1, known=1, trained=3" in last


def test_the_command_lists_accuracies_and_fails_where_a_run_failed(tmp_path, capsys):
    usual = Grid(strategies=("vanilla",), seeds=(0,), run=TINY)
    sweeps.main(usual, how(tmp_path), jobs=1)
    assert "| digits | ResNet-8 | vanilla |" in capsys.readouterr().out
    with pytest.raises(SystemExit) as stop:
        sweeps.main(replace(usual, run=replace(TINY, lr=1e30)), how(tmp_path), jobs=1)
    assert stop.value.code == 1
    said = capsys.readouterr().out
    assert "FAILED    digits-resnet8-vanilla-0-" in said
    assert "Runs that failed are left alone until you pass --retry; lost ones continue when you start again." in said


def test_client_is_closed(tmp_path):
    with LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=":0") as cluster:
        with executor_for(1, cluster.scheduler_address) as executor:
            assert executor.submit(sum, (1, 2)).result() == 3
        with Client(cluster) as client:
            assert len(client.scheduler_info()["workers"]) == 1


def test_nothing_is_left_of_a_run_that_never_was(tmp_path):
    assert finished(grid()[0], tmp_path) is None
    assert read_failure(grid()[0], tmp_path) is None
