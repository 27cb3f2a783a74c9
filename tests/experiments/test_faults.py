"""Faults while running: a process that is killed costs time and nothing else; and the page that lists all faults."""

from __future__ import annotations

import ast
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from fault_runs import STUDY, contents, environment, group_is_gone, wait_until
from picture_files import write_splits

from experiments import digit_nets, parallel
from experiments.checkpoints import Checkpoints
from experiments.parallel import spread
from experiments.record import ROOT
from experiments.run_config import RunConfig
from experiments.workers import WorkerLost, Workers


def identity(value: object) -> object:
    return value


def die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_once(mark: Path, value: int) -> int:
    if not mark.exists():
        mark.touch()
        die()
    return value


def fail(text: str) -> None:
    raise ValueError(text)


def unsendable() -> object:
    return threading.Lock()


def test_a_pool_survives_its_workers(tmp_path):
    """One process after the other dies; each takes its own task with it, and no other."""
    pool = Workers(2)
    futures = [pool.submit(die if k % 3 == 0 else identity, k) for k in range(7)]
    for k, future in enumerate(futures):
        if k % 3 == 0:
            with pytest.raises(WorkerLost, match=r"expected an answer of process \d+, it ended with signal 9; if the"):
                future.result()
        else:
            assert future.result() == k
    with pytest.raises(ValueError, match="the reason") as failure:
        pool.submit(fail, "the reason").result()
    assert "in process" in failure.value.__notes__[0]
    with pytest.raises(TypeError, match="expected a result that can be sent to another process"):
        pool.submit(unsendable).result()
    with pytest.raises(TypeError, match="pickle"):
        pool.submit(identity, threading.Lock()).result()
    assert pool.submit(identity, 8).result() == 8
    pool.shutdown()
    with pytest.raises(RuntimeError, match="expected tasks before these processes were shut down, got one after"):
        pool.submit(identity, 1)


def test_a_stopped_pool_begins_nothing():
    pool = Workers(1)
    pool.stop()
    with pool._lock:
        pool._open = True
    with pytest.raises(WorkerLost, match="stopped before it began"):
        pool._start()


def test_a_task_whose_process_dies_is_run_again_three_times_at_most(tmp_path):
    tasks = [(tmp_path / str(k), k) for k in range(3)]
    assert spread(die_once, tasks, 3, "dying") == [0, 1, 2]
    with pytest.raises(RuntimeError, match=r"expected task 2 of 2 to finish, its process died at 3 attempts .*kept"):
        spread(die_second, [(k,) for k in range(2)], 2, "dying")


class TwoParts(Exception):
    """Its arguments are not those of its constructor, so that it cannot be made again from what is sent."""

    def __init__(self, text: str, part: int) -> None:
        super().__init__(text)
        self.part = part


def fail_in_two_parts() -> None:
    raise TwoParts("the whole reason", 2)


def leave(status: object, mark: Path) -> None:
    mark.write_text(mark.read_text() + "x" if mark.exists() else "x")
    sys.exit(status)  # type: ignore[arg-type]


def none_for_one(k: int) -> int | None:
    return None if k == 1 else k


def test_an_error_that_cannot_be_sent_keeps_its_kind_and_text():
    with Workers(1) as pool:
        with pytest.raises(RuntimeError, match=r"^TwoParts: the whole reason") as failure:
            pool.submit(fail_in_two_parts).result()
        assert "in fail_in_two_parts" in failure.value.__notes__[0]
        assert pool.submit(identity, 8).result() == 8


def test_a_task_that_exits_is_an_error_and_is_not_run_again(tmp_path):
    mark = tmp_path / "mark"
    with pytest.raises(RuntimeError, match=r"expected a task that returns or raises, it ended with sys\.exit.3.\."):
        spread(leave, [(3, mark), (3, tmp_path / "other")], 2, "leaving")
    assert mark.read_text() == "x"
    with Workers(1) as pool, pytest.raises(WorkerLost, match="it ended with status 1"):  # its process is to end
        pool.submit(leave, "stopped by signal 15 after step 3", mark).result()


def test_a_task_whose_result_is_none_keeps_its_place():
    assert spread(none_for_one, [(k,) for k in range(3)], 1, "none") == [0, None, 2]
    known = {0: None, 1: None, 2: 5}
    assert spread(none_for_one, [(k,) for k in range(3)], 1, "none", known=known.get) == [0, None, 5]


def die_second(k: int) -> int:
    if k == 1:
        die()
    return k


def terminate_self(k: int) -> int:
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(5)
    return k


@pytest.fixture
def usual_sigterm():
    """No handler but the system's; other tests may have left theirs."""
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("usual_sigterm")
def test_sigterm_ends_a_study_of_one_process_with_a_message():
    said = r"stopped by signal 15; what is finished is kept: start the same command again to continue"
    with pytest.raises(SystemExit, match=said):
        spread(terminate_self, [(0,)], 1, "stopped")
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.usefixtures("usual_sigterm")
def test_a_signal_whose_exception_was_lost_is_looked_for():
    with parallel._stop_on_sigterm() as look:
        look()
        with contextlib.suppress(SystemExit):  # as the interpreter does in a callback
            terminate_self(0)
        with pytest.raises(SystemExit, match="stopped by signal 15"):
            look()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["kill -9", "SIGTERM"])
def test_a_killed_study_leaves_no_process_and_goes_on(number, tmp_path):
    code = (
        "import pathlib\nfrom experiments import digit_nets\nfrom fault_runs import STUDY\n"
        f"digit_nets.run(STUDY, jobs=2, folder=pathlib.Path({str(tmp_path)!r}))\n"
    )
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    process = subprocess.Popen(
        [sys.executable, "-c", code], env={**environment(), "PYTHONPATH": path}, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    parts = tmp_path / "digit_nets"
    wait_until(lambda: list(parts.glob("[!.]*.json")), process)
    process.send_signal(number)
    _, said = process.communicate(timeout=120)
    assert process.returncode == (-9 if number == signal.SIGKILL else 1)
    assert number == signal.SIGKILL or "stopped by signal 15; what is finished is kept" in said
    wait_until(lambda: group_is_gone(process.pid))
    kept = contents(parts)
    done = [name for name in kept if name.endswith(".json") and not name.startswith(".")]
    assert 1 <= len(done) < len(STUDY.runs())
    assert not (tmp_path / "digit_nets.json").exists()
    assert all(json.loads(kept[name])["result"]["weights_sha256"] for name in done)
    resumed = digit_nets.run(STUDY, folder=tmp_path)
    assert {name: kept[name] for name in done} == {name: (parts / name).read_bytes() for name in done}
    assert resumed["result"] == digit_nets.run(STUDY, folder=tmp_path / "straight")["result"]


def test_kill_9_of_training_leaves_no_decoding_process(tmp_path):
    pictures = write_splits(tmp_path / "pictures", 16, 8, 9)
    config = RunConfig(data=f"folder:{pictures}", size=8, width=4, epochs=5000, batch=8, lr=0.01, evaluate_every=5000)
    words = [w.strip("'") for w in config.options()]
    own = ["--out", str(tmp_path / "runs"), "--device", "cpu", "--quiet", "--checkpoint-seconds", "0", "--workers", "2"]
    process = subprocess.Popen(
        [sys.executable, "-m", "experiments.train", *words, *own], env=environment(), start_new_session=True,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    kept = Checkpoints(tmp_path / "runs" / config.name)
    wait_until(lambda: len(kept.paths()) == 2, process)
    process.kill()
    process.wait()
    wait_until(lambda: group_is_gone(process.pid))
    assert kept.newest() is not None


# --- the page --------------------------------------------------------------------------------------------------------


def test_every_test_that_the_page_names_exists():
    text = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", text)
    assert len(named) > 30
    for path, name in named:
        tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
        assert name in {n.name for n in tree.body if isinstance(n, ast.FunctionDef)}, f"{path} has no {name}"
