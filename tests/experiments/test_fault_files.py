"""Faults of files: disks that are full, read-only or shared, clocks, records of another time, publishing."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import itertools
import json
import os
import resource
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from fault_runs import STUDY, TRAINING, Config, contents, environment, wait_until

from experiments import digit_nets, publish, record, resume, tables
from experiments import train as train_module
from experiments.checkpoints import Checkpoints
from experiments.record import ROOT
from experiments.train import Execution, train

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
def test_a_folder_that_cannot_be_written_to_is_named_before_anything_is_run(kind, tmp_path, monkeypatch):
    folder = tmp_path / "out"
    if kind == "read-only":
        folder.mkdir()
        if not mounted(folder, "ro,size=64k"):
            pytest.skip("a read-only mount needs rights that this process does not have")
    else:
        folder.write_text("mine")
    runs: list[int] = []
    monkeypatch.setattr(train_module, "_train", lambda *_: {"run": runs.append(2)})
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


@pytest.mark.parametrize("days", [-1, 1], ids=["backwards", "forwards"])
def test_clocks_that_jump_change_no_number(days, tmp_path, monkeypatch):
    """The clock of durations, which cannot be set, may leap ahead while a machine sleeps; dates are never compared."""
    calls = itertools.count()

    class Jumping(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.datetime(2030, 1, 1, tzinfo=tz) + days * datetime.timedelta(days=next(calls))

    leaps = SimpleNamespace(monotonic=lambda: 86400.0 * next(calls))
    usual = train(TRAINING, Execution(out=tmp_path / "usual", device="cpu", threads=1, quiet=True))
    before = next(calls)
    monkeypatch.setattr(record.datetime, "datetime", Jumping)
    if days > 0:
        for module in (record, resume):
            monkeypatch.setattr(module, "time", leaps)
    how = Execution(out=tmp_path / "jumps", device="cpu", threads=1, quiet=True)
    jumped = train(TRAINING, how)
    assert next(calls) > before + 1, "these are the clocks that are read"
    assert jumped["result"]["weights_sha256"] == usual["result"]["weights_sha256"]
    assert jumped["wall_s"] >= 86400 if days > 0 else 0 <= jumped["wall_s"] < 600
    assert train(TRAINING, how) == jumped
    path, made = tmp_path / "r.json", []
    dates = [
        record.cached(path, Config(k), "code", "command", lambda: {"made": made.append(1)})["date"] for k in (1, 1, 2)
    ]
    assert len(made) == 2
    assert dates[0] == dates[1] != dates[2]
    assert (dates[2] > dates[1]) == (days > 0)


def test_two_whole_studies_in_one_folder_leave_weights_of_their_records(tmp_path):
    code = (
        "import pathlib, sys, time\nfrom experiments import digit_nets\nfrom fault_runs import STUDY\n"
        f"folder = pathlib.Path({str(tmp_path)!r})\n"
        "(folder / f'ready{sys.argv[1]}').touch()\n"
        "while len(list(folder.glob('ready*'))) < 2:\n    time.sleep(0.001)\n"
        "digit_nets.run(STUDY, folder=folder)\n"
    )
    env = {**environment(), "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    both = [subprocess.Popen([sys.executable, "-c", code, str(k)], env=env, stderr=subprocess.PIPE) for k in (1, 2)]
    said = [p.communicate(timeout=240)[1] for p in both]
    assert [p.returncode for p in both] == [0, 0], said
    assert not list(tmp_path.rglob("*.tmp"))
    parts = sorted((tmp_path / "digit_nets").glob("*.json"))
    assert len(parts) == len(STUDY.runs())
    for path in parts:
        weights = path.with_suffix(".safetensors").read_bytes()
        found = record.read_record(path)
        assert found is not None
        assert found["result"]["weights_sha256"] == hashlib.sha256(weights).hexdigest()
    kept = {p: p.read_bytes() for p in parts}
    again = digit_nets.run(STUDY, folder=tmp_path)
    assert {p: p.read_bytes() for p in parts} == kept
    assert again["result"] == digit_nets.run(STUDY, folder=tmp_path / "straight")["result"]


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
