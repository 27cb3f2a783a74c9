"""Faults while running: what is killed, full, read-only, shared or in the past costs time and nothing else."""

from __future__ import annotations

import ast
import contextlib
import datetime
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from picture_files import write_splits

from experiments import digit_nets, parallel, publish, record, resume, tables
from experiments.checkpoints import Checkpoints
from experiments.parallel import spread
from experiments.record import ROOT
from experiments.run_config import RunConfig
from experiments.train import Execution, train
from experiments.workers import WorkerLost, Workers

TRAINING = RunConfig(images=60, test_images=20, width=4, epochs=2, batch=16, crop=1, seed=3)
STUDY = digit_nets.Config(
    strategies=("vanilla", "mixup"), activations=("softplus",), seeds=(0, 1), epochs=4, min_accuracy=0.0
)


@dataclass(frozen=True)
class Config:
    draws: int = 4


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def wait_until(happened, process: subprocess.Popen | None = None, seconds: float = 240) -> None:
    limit = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < limit, "it did not happen in time"
        assert process is None or process.poll() is None, "the process ended first"
        time.sleep(0.005)


def group_is_gone(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


# --- processes that die ----------------------------------------------------------------------------------------------


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
        "import pathlib\nfrom experiments import digit_nets\nfrom test_faults import STUDY\n"
        f"digit_nets.run(STUDY, jobs=2, folder=pathlib.Path({str(tmp_path)!r}))\n"
    )
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests"), str(Path(__file__).parent)])
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


# --- places that cannot be written to --------------------------------------------------------------------------------


class Disk:
    """A folder whose disk can be made full."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.kind, self.folder = kind, folder / "disk"
        self.folder.mkdir()
        if kind == "tmpfs" and not mounted(self.folder, "size=2m"):
            pytest.skip("mounting a tmpfs needs rights that this process does not have")

    def fill(self) -> None:
        if self.kind == "limit":
            self.before = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, self.before[1]))
            return
        with contextlib.suppress(OSError), (self.folder / "filler").open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))

    def free(self) -> None:
        if self.kind == "limit":
            resource.setrlimit(resource.RLIMIT_FSIZE, self.before)
        else:
            (self.folder / "filler").unlink()

    def close(self) -> None:
        if self.kind == "tmpfs":
            subprocess.run(["umount", "-l", str(self.folder)], check=True)


def mounted(folder: Path, options: str) -> bool:
    words = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    return os.geteuid() == 0 and shutil.which("mount") is not None and not subprocess.run(
        words, capture_output=True, check=False
    ).returncode  # fmt: skip


@pytest.fixture(params=["tmpfs", "limit"])
def disk(request, tmp_path):
    made = Disk(request.param, tmp_path)
    yield made
    made.close()


FULL = r"expected to write {}, got: (No space left on device|File too large)\. What was there is as it was; make room"


def test_a_full_disk_costs_the_new_record_and_not_the_old_one(disk):
    path = disk.folder / "r.json"
    record.cached(path, Config(), "code", "command", lambda: {"values": [1.0]})
    before = path.read_bytes()
    disk.fill()
    try:
        with pytest.raises(OSError, match=FULL.format(r"r\.json")):
            record.cached(path, Config(5), "code", "command", lambda: {"values": [1 / 3] * 5000})
    finally:
        disk.free()
    assert contents(disk.folder) == {"r.json": before}
    new = record.cached(path, Config(5), "code", "command", lambda: {"values": [1 / 3] * 5000})
    assert record.read_record(path) == new


def test_training_on_a_full_disk_goes_on_when_there_is_room(disk, tmp_path, monkeypatch):
    how = Execution(out=disk.folder, device="cpu", threads=1, quiet=True, checkpoint_seconds=0)
    write = resume.Saver.write

    def fill(self):
        if self.trainer.step == 4:
            disk.fill()
        write(self)

    monkeypatch.setattr(resume.Saver, "write", fill)
    try:
        with pytest.raises(OSError, match=FULL.format(r"checkpoint-000000004\.safetensors")):
            train(TRAINING, how)
    finally:
        disk.free()
    monkeypatch.undo()
    newest = Checkpoints(disk.folder / TRAINING.name).newest()
    assert newest is not None
    assert newest.step == 3
    resumed = train(TRAINING, replace(how, resume=True))
    straight = train(TRAINING, replace(how, out=tmp_path / "straight"))
    assert resumed["result"]["weights_sha256"] == straight["result"]["weights_sha256"]


@pytest.mark.parametrize("kind", ["a file in its place", "read-only"])
def test_a_folder_that_cannot_be_written_to_is_named_before_anything_is_run(kind, tmp_path):
    folder = tmp_path / "out"
    if kind == "read-only":
        folder.mkdir()
        if not mounted(folder, "ro,size=64k"):
            pytest.skip("a read-only mount needs rights that this process does not have")
    else:
        folder.write_text("mine")
    runs: list[int] = []
    try:
        expected = r"expected to write r\.json, got: (Read-only file system|Not a directory|File exists)\. What was"
        with pytest.raises(OSError, match=expected):
            record.cached(folder / "r.json", Config(), "code", "command", lambda: {"run": runs.append(1)})
        with pytest.raises(OSError, match=r"Read-only file system|Not a directory|File exists") as error:
            train(TRAINING, Execution(out=folder, device="cpu", quiet=True))
        assert str(folder) in str(error.value)
    finally:
        if kind == "read-only":
            subprocess.run(["umount", "-l", str(folder)], check=True)
    assert not runs
    assert kind == "read-only" or folder.read_text() == "mine"


# --- two at once, clocks, records of another time --------------------------------------------------------------------


def test_two_runs_that_write_one_record_leave_one_of_theirs(tmp_path):
    """Two processes write their record again and again; whoever reads meanwhile sees all of one of them."""
    path, go = tmp_path / "r.json", tmp_path / "go"
    code = (
        "import pathlib, sys\nfrom experiments.record import write_record\n"
        f"own, path, go = int(sys.argv[1]), pathlib.Path({str(path)!r}), pathlib.Path({str(go)!r})\n"
        "(path.parent / f'ready{own}').touch()\n"
        "while not go.exists():\n    pass\n"
        "for _ in range(30):\n"
        "    write_record(path, {'config': {'own': own}, 'result': {'values': [own] * 20_000}})\n"
    )
    both = [subprocess.Popen([sys.executable, "-c", code, str(k)], env=environment()) for k in (1, 2)]
    wait_until(lambda: len(list(tmp_path.glob("ready*"))) == 2)
    go.touch()
    seen = set()
    while any(p.poll() is None for p in both):
        found = record.read_record(path)
        if found is not None:
            own = found["config"]["own"]
            assert found["result"]["values"] == [own] * 20_000
            seen.add(own)
    assert [p.returncode for p in both] == [0, 0]
    assert seen
    assert {p.name for p in tmp_path.iterdir()} == {"r.json", "go", "ready1", "ready2"}


def test_clocks_that_go_backwards_change_no_number(tmp_path, monkeypatch):
    """Durations come from a clock that cannot be set; dates are shown and never compared."""
    days = iter(range(10_000))

    class Backwards(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.datetime(2030, 1, 1, tzinfo=tz) - datetime.timedelta(days=next(days))

    usual = train(TRAINING, Execution(out=tmp_path / "usual", device="cpu", threads=1, quiet=True))
    monkeypatch.setattr(record.datetime, "datetime", Backwards)
    monkeypatch.setattr(time, "time", lambda: 2e9 - 86400.0 * next(days))
    how = Execution(out=tmp_path / "back", device="cpu", threads=1, quiet=True, checkpoint_seconds=0)
    back = train(TRAINING, how)
    assert back["result"]["weights_sha256"] == usual["result"]["weights_sha256"]
    assert 0 <= back["wall_s"] < 600
    assert train(TRAINING, how) == back
    path, made = tmp_path / "r.json", []
    dates = [
        record.cached(path, Config(k), "code", "command", lambda: {"made": made.append(1)})["date"] for k in (1, 1, 2)
    ]
    assert len(made) == 2
    assert dates[0] == dates[1] > dates[2]


def test_a_record_without_a_digest_of_its_code_is_made_again(tmp_path):
    path = tmp_path / "r.json"
    record.write_record(path, {"config": Config(), "result": {}})
    assert record.cached(path, Config(), "code", "command", lambda: {"value": 1})["result"] == {"value": 1}


# --- publish ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def published(tmp_path, monkeypatch):
    """A project with committed records, two pages of which one is out of date, an old figure, and new results."""
    root = tmp_path / "project"
    for folder in (root / "experiments" / "records", root / "results"):
        shutil.copytree(record.RECORDS, folder)
    (root / "docs" / "figures").mkdir(parents=True)
    (root / "docs" / "figures" / "old.png").write_bytes(b"old")
    changed = record.read_record(root / "results" / "mask_gallery.json")
    assert changed is not None
    record.write_record(root / "results" / "mask_gallery.json", {**changed, "wall_s": 12345.0})
    for page in ("README.md", "paper_repro.md"):
        text = (ROOT / page).read_text(encoding="utf-8")
        (root / page).write_text(text.replace(" ± ", " ± 9"), encoding="utf-8")
    monkeypatch.setattr(publish, "ROOT", root)
    monkeypatch.setattr(publish, "RECORDS", root / "experiments" / "records")
    monkeypatch.setattr(publish, "RESULTS", root / "results")
    monkeypatch.setattr(publish, "PAGES", ("README.md", "paper_repro.md"))

    def draw(config):
        config.out.mkdir(parents=True)
        for name in ("new.png", "new.pdf", "masks.png"):
            (config.out / name).write_bytes(b"drawn")
        return sorted(config.out.iterdir())

    monkeypatch.setattr(publish.make, "make", draw)
    return root


def test_a_publish_that_is_stopped_while_it_draws_changes_nothing(published, monkeypatch):
    before = contents(published)

    def stopped(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(publish.make, "make", stopped)
    with pytest.raises(KeyboardInterrupt):
        publish.publish()
    assert contents(published) == before
    (published / "results" / "law_zoo.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"law_zoo\.json is missing"):
        publish.publish()
    (published / "results" / "mask_gallery.json").write_text("{")
    with pytest.raises((ValueError, FileNotFoundError)):
        publish.publish()
    assert {k: v for k, v in contents(published).items() if not k.startswith("results")} == {
        k: v for k, v in before.items() if not k.startswith("results")
    }


def test_a_publish_that_is_stopped_while_it_writes_is_done_again(published, monkeypatch):
    before, write, written = contents(published), publish.write_whole, []

    def stopped(path, content):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(path)
        write(path, content)

    monkeypatch.setattr(publish, "write_whole", stopped)
    with pytest.raises(KeyboardInterrupt):
        publish.publish()
    between = contents(published)
    monkeypatch.setattr(publish, "write_whole", write)
    publish.publish()
    after = contents(published)
    assert all(between[k] in (before.get(k), after[k]) for k in between if k in after), "a half-written file"
    assert after["README.md"] != before["README.md"]
    records = tables.load_all(published / "experiments" / "records")
    assert after["README.md"].decode() == tables.fill(before["README.md"].decode(), records)
    assert json.loads(after["experiments/records/mask_gallery.json"])["wall_s"] == 12345.0
    assert {k for k in after if k.startswith("docs/figures")} == {"docs/figures/new.png"}


# --- the page --------------------------------------------------------------------------------------------------------


def test_every_test_that_the_page_names_exists():
    text = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", text)
    assert len(named) > 30
    for path, name in named:
        tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
        assert name in {n.name for n in tree.body if isinstance(n, ast.FunctionDef)}, f"{path} has no {name}"
