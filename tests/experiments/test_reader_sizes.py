"""Files whose length is no measure of what they hold, and calls that a hurried user makes."""

from __future__ import annotations

import gzip
import os
import struct
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save
from torch import nn

from experiments import fuzz_formats as formats
from experiments import fuzz_graphs, pictures, readers, weights
from experiments.checkpoints import Checkpoints
from experiments.own_models import read_weights
from experiments.record import LONGEST, read_record, write_record
from figures.style import load
from msda_theory import files
from msda_theory.files import check_fits, file_size, memory_of, read_whole
from msda_theory.graph.readers import read_graph
from msda_theory.npz import read_npz

LENGTH = 3073 * 3074 * 2**17  # 1.2 TB, whole records of both of CIFAR's layouts
X = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)
NPZ = formats.npz({"x": X, "y": np.arange(2)})
LABELS = formats.idx(np.zeros(2, np.uint8), packed=False)
ROWS = 2**36


def cifar(path):
    return readers.cifar_binary([path], label_bytes=1, label_index=0, classes=10)


def idx(path):
    return readers.idx(path, path.with_name("labels"), classes=10)


SPARSE = {
    "cifar": (cifar, b"\1", "fits into .* bytes of memory, got"),
    "idx": (idx, b"", "expected an idx file of bytes"),
    "idx, declared": (idx, struct.pack(">4I", 0x803, 2, 1, 1), "the header declares 2 x 1 x 1 bytes, which a file of"),
    "npz": (readers.npz, NPZ, "is not a whole npz file"),
    "graph": (read_graph, NPZ, "expected an npz file without pickles"),
    "names": (lambda path: readers.class_names(path, 10), b"a\n" * 10, "expected 10 class names"),
    "record": (read_record, b'{"config": {}, "result": {}}', f"expected at most {LONGEST} bytes in a file of its kind"),
    "figure": (lambda path: load(path.parent, path.stem), b"", f"it has more than {LONGEST} bytes"),
    "weights": (weights.read_tensors, b"", "fits into .* bytes of memory, got"),
    "own model": (read_weights, save({"a": torch.zeros(2)}), "fits into .* bytes of memory, got"),
    "of a record": (lambda p: weights.load_weights(nn.Linear(1, 1), p, ""), b"", "fits into .* bytes of memory, got"),
    "picture": (lambda path: pictures.read_picture(path, 8), b"\xff\xd8", "expected at most 1073741824 bytes in"),
}  # fmt: skip


def sparse(path: Path, start: bytes) -> None:
    path.write_bytes(start)
    os.truncate(path, LENGTH)


@pytest.mark.parametrize("kind", SPARSE)
def test_a_sparse_file_is_refused_by_name_before_memory_is_taken(tmp_path, kind):
    """They ended in a MemoryError without a name, or in "Unable to allocate"."""
    read, start, match = SPARSE[kind]
    (tmp_path / "labels").write_bytes(LABELS)
    path, begin = tmp_path / "hole.json", time.process_time()
    sparse(path, start)
    with pytest.raises(ValueError, match=rf"hole\.json.*{match}.*; "):
        read(path)
    assert time.process_time() - begin < 1.0


def test_a_sparse_file_of_planetoid_is_refused(tmp_path):
    sample = fuzz_graphs.planetoid(tmp_path, np.random.default_rng(0), False)
    sample.read()
    for part in ("allx", "test.index"):
        (path,) = (p for p in sample.paths if p.name.endswith(f".{part}"))
        whole = path.read_bytes()
        sparse(path, whole)
        with pytest.raises(ValueError, match=rf"{part}: expected at most 268435456 bytes in a file of its"):
            sample.read()
        path.write_bytes(whole)


def test_a_sparse_checkpoint_gives_way_to_the_one_before(tmp_path):
    sparse(tmp_path / "checkpoint-000000001.safetensors", b"")
    with pytest.warns(UserWarning, match="damaged"), pytest.raises(ValueError, match="expected a whole checkpoint"):
        Checkpoints(tmp_path).newest()


def test_an_idx_that_declares_all_its_zeros_is_refused(tmp_path):
    head = struct.pack(">4I", 0x803, 2**10, 2**15, 2**15)
    (tmp_path / "x").write_bytes(head)
    os.truncate(tmp_path / "x", len(head) + 2**40)
    (tmp_path / "labels").write_bytes(formats.idx(np.zeros(2**10, np.uint8), packed=False))
    with pytest.raises(ValueError, match=r"x: expected a file that fits into \d+ bytes of memory, got 1099511627776; "):
        idx(tmp_path / "x")


def test_zeros_without_end_after_gzip_data_are_refused(tmp_path):
    """Python's reader passes over zeros after the last member, all of them."""
    path = tmp_path / "x.gz"
    (tmp_path / "labels").write_bytes(LABELS)
    whole = formats.idx(X[:, :, :, 0], packed=True)
    path.write_bytes(whole + bytes(2**16))
    assert idx(path)[0].shape == (2, 1, 4, 4)
    sparse(path, whole)
    with pytest.raises(
        ValueError, match=r"x\.gz does not unpack with gzip \(more than 65536 zeros follow its data\); "
    ):
        idx(path)
    path.write_bytes(bytes(9) + whole)
    with pytest.raises(ValueError, match=r"x\.gz does not unpack with gzip"):
        idx(path)


def test_memory_that_is_refused_names_the_file(tmp_path, monkeypatch):
    def refuse(*given, **named):
        raise MemoryError

    path = tmp_path / "a"
    match = r"a needs more memory than there is; free some, or copy the file again"
    with pytest.raises(ValueError, match=match), memory_of(path):
        refuse()
    path.write_bytes(bytes(3073))
    for place, name, read in (
        (np, "empty", cifar),
        (Path, "open", read_whole),
        (weights, "load", weights.read_tensors),
        (readers, "_labelled", readers.npz),
    ):
        if read in (weights.read_tensors, readers.npz):
            path.write_bytes(NPZ if read is readers.npz else save({"a": torch.zeros(2)}))
        with monkeypatch.context() as patched:
            patched.setattr(place, name, refuse)
            with pytest.raises(ValueError, match=match):
                read(path)
    path.write_bytes(save({"a": torch.zeros(2)}))
    monkeypatch.setattr(weights, "load", refuse)
    with pytest.raises(ValueError, match=match):
        read_weights(path)


def test_a_system_that_does_not_say_its_memory_sets_no_bound(monkeypatch):
    monkeypatch.delattr(os, "sysconf")
    assert files._memory() == 0
    check_fits("a", 2**80)
    monkeypatch.setattr(files, "_memory", lambda: 5)
    check_fits("a", 5)
    with pytest.raises(ValueError, match="a: expected a file that fits into 5 bytes of memory, got 6; copy it again"):
        check_fits("a", 6)


def seconds(read, path, content) -> float:
    path.write_bytes(content)
    begin = time.process_time()
    with pytest.raises(ValueError, match=path.name):
        read(path)
    return time.process_time() - begin


HEADERS = {
    "quotes and backslashes": lambda size: b'"\\' * (size // 2),
    "quotes, then a backslash": lambda size: b'{"' + b'\\"' * (size // 2) + b"\\",
    "backslashes": lambda size: b'{"' + b"\\" * (size | 1),
    "quotes": lambda size: b'"' * (size | 1),
    "empty texts": lambda size: b'{"":' + b'"",' * (size // 3),
    "open texts": lambda size: b'{"a":' * (size // 5) + b'"',
    "nests": lambda size: b"[" * size,
    "spaces": lambda size: b"{" + b" " * size,
    "digits": lambda size: b'{"a":' + b"9" * size,
    "colons": lambda size: b"{" + b'"a":1,' * (size // 6) + b'"',
}


@pytest.mark.parametrize("kind", HEADERS)
def test_a_long_header_of_safetensors_takes_no_time(tmp_path, kind):
    """A text of quotes and backslashes that is not closed took 4.5 s of 40 kB, and four times that of 80 kB."""
    path = tmp_path / "checkpoint-000000001.safetensors"
    content = formats.safetensors(HEADERS[kind](3 * 2**20), b"")
    for read in (weights.read_tensors, read_weights):
        assert seconds(read, path, content) < 1.0
    begin = time.process_time()
    with pytest.warns(UserWarning, match="damaged"), pytest.raises(ValueError, match="expected a whole checkpoint"):
        Checkpoints(tmp_path).newest()
    assert time.process_time() - begin < 1.0


def test_braces_are_counted_outside_of_texts_alone():
    def declares_more(text: bytes) -> bool:
        try:
            weights.check_header(formats.safetensors(text, b"{" * 9000))
        except ValueError:
            return True
        return False

    most = weights.ENTRIES + 2
    assert not declares_more(b"{" * most)
    assert declares_more(b"{" * (most + 1))
    assert declares_more(b'{"a\\"{\n\\\\":' * (most + 1))
    for text in (b'"' + b"{" * 9000, b'"\\"' + b"{" * 9000 + b'"', b'"\\\\\\"' + b"{" * 9000, b'"\n{"' * 9000):
        assert not declares_more(text)


def test_thousands_of_gzip_members_are_refused(tmp_path):
    """300,000 empty ones before an idx file took 12.6 s, and were read."""
    whole = formats.idx(X[:, :, :, 0], packed=True)
    (tmp_path / "labels").write_bytes(LABELS)
    empty, path = gzip.compress(b"", mtime=0), tmp_path / "x.gz"
    for content in (empty * 300_000 + whole, whole + empty * 300_000):
        begin = time.process_time()
        path.write_bytes(content)
        with pytest.raises(
            ValueError, match=r"x\.gz does not unpack with gzip \(it has more than 4096 members\); copy"
        ):
            idx(path)
        assert time.process_time() - begin < 1.0
    path.write_bytes(empty * 4000 + whole + empty * 95)
    assert idx(path)[0].tobytes() == X[:, :, :, 0].tobytes()


def test_members_of_any_size_are_joined(tmp_path):
    """As programs that pack in parallel write them; cut anywhere, the file is refused."""
    pixels = np.random.default_rng(0).integers(0, 256, (300, 30, 30), np.uint8)
    plain, path = formats.idx(pixels, packed=False), tmp_path / "x.gz"
    (tmp_path / "labels").write_bytes(formats.idx(np.zeros(300, np.uint8), packed=False))
    for step in (1000, 2**16, len(plain) - 1, len(plain)):
        parts = [gzip.compress(plain[k : k + step]) for k in range(0, len(plain), step)]
        path.write_bytes(b"".join(parts))
        assert np.array_equal(idx(path)[0][:, 0], pixels)
        for cut in (1, 8, 9, len(parts[-1]) - 1):
            path.write_bytes(b"".join(parts)[:-cut])
            with pytest.raises(ValueError, match=r"x\.gz (does not unpack with gzip|ends \d+ bytes before)"):
                idx(path)
    path.write_bytes(gzip.compress(plain)[:-9])
    with pytest.raises(ValueError, match=r"x\.gz does not unpack with gzip \(it ends within a member\); copy it again"):
        idx(path)


def test_readers_take_paths_as_text(tmp_path, monkeypatch):
    """They said that a text has no attribute "exists"."""
    monkeypatch.chdir(tmp_path)
    Path("x.npz").write_bytes(NPZ)
    Path("x").write_bytes(formats.idx(X[:, :, :, 0], packed=True))
    Path("x.gz").write_bytes(formats.idx(X[:, :, :, 0], packed=True))
    Path("y").write_bytes(LABELS)
    Path("batch.bin").write_bytes(bytes(3073))
    Path("w").write_bytes(save({"weight": torch.zeros(2)}))
    write_record(Path("r.json"), {"config": {}, "result": {"a": 1}})
    Path("names").write_text("a\nb\n", encoding="utf-8")
    Path("c/one").mkdir(parents=True)
    Path("c/one/p.png").write_bytes(formats.picture(X[0], "PNG"))
    assert readers.npz("x.npz")[0].shape == (2, 3, 4, 4)
    assert set(read_npz("x.npz", {"y": "integers"})) == {"y"}
    assert readers.idx("x.gz", "y", classes=2)[0].shape == (2, 1, 4, 4)
    assert readers.class_names("names", 2) == ("a", "b")
    for given in ("batch.bin", Path("batch.bin"), ["batch.bin"], ("batch.bin",)):
        assert readers.cifar_binary(given, label_bytes=1, label_index=0, classes=10)[0].shape == (1, 3, 32, 32)
    assert read_record("r.json") == {"config": {}, "result": {"a": 1}}
    assert read_record("none.json") is None
    assert load(".", "r") == {"a": 1}
    assert list(weights.read_tensors("w")) == list(read_weights("w")[0]) == ["weight"]
    assert file_size("w") == len(read_whole("w"))
    assert pictures.class_folders("c")[2] == ("one",)
    assert pictures.read_picture("c/one/p.png", 4).shape == (3, 4, 4)


def test_no_files_are_no_data_set():
    """They were one of no images."""
    with pytest.raises(ValueError, match="expected at least one file of CIFAR's, got none; list the files"):
        readers.cifar_binary([], label_bytes=1, label_index=0, classes=10)


def test_a_link_to_itself_is_not_a_missing_record(tmp_path):
    """It counted as no record, and the experiment was run again."""
    path = tmp_path / "loop.json"
    path.symlink_to(path)
    with pytest.raises(OSError, match=r"expected a file to read, got: .* correct the path or its permi.*loop\.json"):
        read_record(path)
    with pytest.raises(FileNotFoundError, match="does not exist; correct the path"):
        file_size("a\0b")
