"""Fuzzing of readers: a small sample of the study's cases, and readers that slip, which it must see."""

from __future__ import annotations

import json
import subprocess
import sys
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import torch

from experiments import fuzz_readers, fuzz_worker, record, tables_fuzz
from experiments.fuzz_faults import BYTES, PLACES
from experiments.fuzz_samples import READERS
from experiments.fuzz_values import held
from experiments.fuzz_worker import Bench


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


@pytest.fixture
def traced():
    tracemalloc.start()
    yield lambda: tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()


@pytest.mark.parametrize("reader", READERS)
def test_a_sample_of_the_cases_is_right(reader, traced, monkeypatch):
    """Two cases of each fault of bytes, all things in the place of a file, and 40 small files made to do harm.

    Memory is what Python and numpy ask for: the resident size of this process also grows by what other tests left.
    """
    monkeypatch.setattr(fuzz_worker, "_memory", lambda name: 0)
    bench = Bench(reader, 0, False)
    bench.harm = [harm for harm in bench.harm if len(harm.content) < 9000]
    faults = bench.faults()
    harm = [name for name in faults if name not in (*BYTES, *PLACES, "none")]
    wrong = []
    for fault in faults:
        count = 2 if fault in BYTES else 1 if fault not in harm else -(-40 // len(harm))
        wrong += [(fault, c) for k in range(count) if (c := bench.case(fault, k))["outcome"] not in ("read", "refused")]
    assert wrong == []
    assert reader == "folder of pictures" or bench.case("none", 0)["outcome"] == "read"


def test_a_case_is_the_same_each_time():
    first, second = (Bench("idx.gz", 3, False) for _ in range(2))
    for fault in BYTES:
        assert first.damage(fault, 5)[1] == second.damage(fault, 5)[1]
    assert first.damage("one bit flipped", 5)[1] != first.damage("one bit flipped", 6)[1]


SLIPS = {
    "another error": lambda: [][0],
    "unclear error": lambda: (_ for _ in ()).throw(ValueError("no")),
    "too much memory": lambda: bytearray(4 * 2**20) and (_ for _ in ()).throw(ValueError("batch.bin; do")),
    "read wrong": lambda: (np.zeros((1, 3, 32, 32), np.uint8), np.zeros(1, np.int64)),
    "executed": lambda: open("executed", "w").close(),  # noqa: PTH123
}


@pytest.mark.parametrize("outcome", SLIPS)
def test_a_reader_that_slips_is_seen(outcome, traced, monkeypatch):
    """Negative control: readers that do each of the things that none does."""
    bench = Bench("CIFAR-10 binary", 0, False)
    bench.sample = replace(bench.sample, read=SLIPS[outcome])
    assert bench.case("none", 0)["outcome"] == outcome


DEEDS = {
    "a shell": "os.system('true')",
    "a process": "subprocess.Popen(['true']).wait()",
    "code": "exec('1')",
    "compiled code": "compile('1', 'a', 'eval')",
    "a library": "ctypes.CDLL(None)",
    "a connection": "socket.socket().connect(('127.0.0.1', 9))",
    "marshal": "marshal.loads(marshal.dumps(1))",
    "an import": "__import__('colorsys')",
    "a pickle": "pickle.loads(pickle.dumps(os.getpid))",
    "a file": "open('x', 'w').close()",
    "a file, by the system": "os.open('y', os.O_CREAT | os.O_WRONLY)",
    "a file removed": "os.remove('z')",
}
SCRIPT = """
import ctypes, marshal, os, pickle, socket, subprocess
from dataclasses import replace
from experiments import fuzz_samples, fuzz_worker
true = fuzz_samples.READERS["idx"]
def sample(deed, *given):
    made, first = true(*given), []
    def read():
        if first:
            exec_(deed)
        first.append(1)
        return made.read()
    return replace(made, read=read)
DEEDS = {deeds}
def exec_(deed):
    DEEDS[deed]()
for deed in DEEDS:
    fuzz_samples.READERS[deed] = lambda *given, deed=deed: sample(deed, *given)
fuzz_samples.READERS["nothing"] = lambda *given: sample("nothing", *given)
DEEDS["nothing"] = lambda: __import__("ast").literal_eval("[1]")
fuzz_worker.main()
"""


def test_a_worker_sees_what_is_not_reading():
    """Negative control in a process of its own, with its audit hook: each deed is seen, reading alone is not."""
    deeds = "{" + ", ".join(f"{name!r}: lambda: {deed}" for name, deed in DEEDS.items()) + "}"
    asked = [
        {"reader": r, "seed": 0, "large": False, "fault": "none", "low": 0, "high": 1} for r in [*DEEDS, "nothing"]
    ]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.replace("{deeds}", deeds)],
        input="\n".join(map(json.dumps, asked)),
        capture_output=True,
        text=True,
        check=True,
        cwd=record.ROOT,
    )
    outcomes = [json.loads(line)["outcome"] for line in done.stdout.splitlines()]
    assert dict(zip([*DEEDS, "nothing"], outcomes, strict=True)) == {
        **dict.fromkeys(DEEDS, "executed"),
        "nothing": "read",
    }


def test_a_worker_that_hangs_or_dies_is_named_and_replaced(monkeypatch):
    """With stand-ins for the process: one that never answers, one that ends."""
    answer = fuzz_readers.Worker.answer
    true = fuzz_readers.subprocess.Popen
    for script, outcome, seconds in (("input()", "hang", 0.5), ("raise SystemExit(3)", "crash", 120.0)):
        worker = fuzz_readers.Worker(0.3)
        monkeypatch.setattr(
            fuzz_readers.subprocess,
            "Popen",
            lambda c, script=script, **k: true([c[0], "-c", f"input(); {script}"], **k),
        )
        request = {"reader": "idx", "seed": 0, "large": False, "fault": "none"}
        with monkeypatch.context() as quick:
            quick.setattr(fuzz_readers.Worker, "answer", lambda self, seconds=None, s=seconds: answer(self, s))
            found = list(fuzz_readers._fault(worker, request, 2))
        monkeypatch.setattr(fuzz_readers.subprocess, "Popen", true)
        assert found == [{"number": 0, "outcome": outcome}, {"number": 1, "outcome": outcome}]
        assert worker.process is None


def test_the_study_of_two_readers(tmp_path):
    config = fuzz_readers.Config(cases=150, large=10, readers=("idx", "class names"))
    made = fuzz_readers.run(config, folder=tmp_path)
    assert record.failed(made) == []
    result = made["result"]
    assert set(result["outcomes"]) == {"read", "refused"}
    assert sum(result["outcomes"].values()) == result["cases"] >= result["different"] >= 150
    assert [row["reader"] for row in result["rows"]] == ["idx", "class names"]
    with pytest.raises(ValueError, match=r"expected cases, and readers among .* got 0 and \['pdf'\]; correct them"):
        fuzz_readers.Config(cases=0, readers=("pdf",))


def test_a_plan_runs_all_contents_that_are_counted_and_shares_the_rest():
    assert fuzz_readers.plan({"a": 3, "b": 0, "c": 0}, 10) == {"a": 3, "b": 4, "c": 4}
    assert fuzz_readers.plan({"a": 30, "b": 0, "c": 0}, 10) == {"a": 30, "b": 3, "c": 3}


def test_the_table_of_a_study(tmp_path):
    made = fuzz_readers.run(fuzz_readers.Config(cases=20, large=10, readers=("idx",)), folder=tmp_path)
    text = tables_fuzz.blocks({"fuzz_readers": made})["fuzz-readers"]
    result = made["result"]
    assert f"{result['cases']:,} cases of" in text
    assert "and 0 ended otherwise. The slowest" in text
    assert text.splitlines()[-1].startswith(f"| idx | {result['cases']:,} | ")
    broken = {**result, "outcomes": {**result["outcomes"], "hang": 2}, "cases": result["cases"] + 2}
    assert "and 2 ended otherwise (hang: 2)" in tables_fuzz.sentence({**made, "result": broken})


def test_what_values_hold():
    assert held({"a": np.zeros(1000)}) > 8000
    assert held([torch.zeros(1000)]) > 4000
    nest, levels = [], 5000
    for _ in range(levels):
        nest = [nest]
    assert held(nest) == sys.getsizeof([]) + levels * sys.getsizeof([[]])
