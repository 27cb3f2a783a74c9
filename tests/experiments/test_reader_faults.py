"""Faults that fuzzing found in the readers, by name."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import pickle
import tracemalloc
import zipfile
import zlib

import numpy as np
import pytest
import torch
from safetensors.torch import save
from torch import nn

from experiments import fuzz_formats as formats
from experiments import pictures, readers, record, weights
from experiments.checkpoints import Checkpoint, Checkpoints, _digest
from experiments.fuzz_faults import PLACES
from experiments.resume import start
from figures.style import load
from msda_theory import npz
from msda_theory.files import read_whole
from msda_theory.graph.readers import load_graph, read_graph


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def traced():
    tracemalloc.start()
    yield lambda: tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()


def touched(tmp_path):
    return list(tmp_path.rglob("executed"))


def test_a_malicious_file_runs_nothing(tmp_path):
    """The same call of a shell in a pickle, an npz, a torch checkpoint and a safetensors file; control: it works."""
    call = formats.WOULD_RUN
    raw = tmp_path / "Cora" / "raw"
    raw.mkdir(parents=True)
    for part in ("x", "tx", "allx", "y", "ty", "ally", "graph", "test.index"):
        (raw / f"ind.cora.{part}").write_bytes(call)
    with pytest.raises(
        ValueError, match=r"ind\.cora\.tx: expected arrays or lists as Planetoid stores them, got: it asks"
    ):
        load_graph("cora", tmp_path)
    (tmp_path / "a.npz").write_bytes(
        formats.zipped({"x.npy": formats.npy([0], objects=True), "y.npy": formats.npy([0])})
    )
    with pytest.raises(ValueError, match="array x: expected uint8, got dtype"):
        readers.npz(tmp_path / "a.npz")
    (tmp_path / "g.npz").write_bytes(formats.zipped({"x_data.npy": formats.npy([0], objects=True)}))
    with pytest.raises(ValueError, match="expected an npz file without pickles"):
        read_graph(tmp_path / "g.npz")
    for content in (call, formats.zipped({"archive/data.pkl": call})):
        (tmp_path / "w.pt").write_bytes(content)
        with pytest.raises(ValueError, match=r"w\.pt is not a whole safetensors file"):
            weights.read_tensors(tmp_path / "w.pt")
        with pytest.raises(ValueError, match=r"w\.pt is not a JSON record"):
            record.read_record(tmp_path / "w.pt")
    assert touched(tmp_path) == []
    pickle.loads(call)
    assert touched(tmp_path) == [tmp_path / "executed"]


@pytest.mark.parametrize("place", ["a pipe", "a link to /dev/zero", "a folder", "a socket", "a link to its folder"])
def test_a_record_or_weights_that_are_no_file(tmp_path, place):
    """A pipe was waited for and /dev/zero read until memory was full."""
    PLACES[place](tmp_path / "a.json")
    for read in (record.read_record, weights.read_tensors, read_whole):
        with pytest.raises(ValueError, match=r"a\.json.*expected a file, got a folder or a device"):
            read(tmp_path / "a.json")
    with pytest.raises(ValueError, match="holds no result of a study; make it with"):
        load(tmp_path, "a")
    with pytest.raises(ValueError, match="expected a file, got a folder or a device"):
        pictures.read_picture(tmp_path / "a.json", 8)


def test_a_file_that_grows_while_it_is_read(tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(b"abc")
    for size in (2, 4):
        monkeypatch.setattr("msda_theory.files.file_size", lambda path, size=size: size)
        with pytest.raises(ValueError, match="a changed while it was read; wait for the program that writes it"):
            read_whole(tmp_path / "a")


def test_weights_of_another_network(tmp_path):
    content = save({"weight": torch.zeros(3)})
    (tmp_path / "w").write_bytes(content)
    with pytest.raises(ValueError, match="w holds weights of another network"):
        weights.load_weights(nn.Linear(2, 2), tmp_path / "w", hashlib.sha256(content).hexdigest())


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ('{"config": {}, "result": {"a": NaN}}', "NaN where a finite number belongs"),
        ('{"config": {}, "result": {"a": 1e999}}', "1e999 where a finite number belongs"),
        ('{"config": {}, "result": {"a": 1, "a": 2}}', "an object has a key twice"),
        ('{"config": {}, "result": ' + "[" * 10**5, "it is nested too deeply"),
        ('{"config": {}, "result": {"a": "\\ud800"}}', "surrogates not allowed"),
        ('{"config": [], "result": {}}', r"is not a record \(no config and result\)"),
    ],
    ids=["nan", "infinite", "twice", "deep", "half a character", "types"],
)
def test_json_that_is_no_record(tmp_path, text, match):
    """Nesting ended in a RecursionError; the others were read, and failed where they were used."""
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ValueError, match=rf"a\.json .*{match}"):
        record.read_record(tmp_path / "a.json")


def test_a_record_without_its_result_is_named_by_figures(tmp_path):
    for text in ("{", "[]", '{"config": {}}', '{"result": {"a": NaN}}', "[" * 10**5):
        (tmp_path / "a.json").write_text(text)
        with pytest.raises(ValueError, match=r"a\.json does not hold a record \(.*\); make it with"):
            load(tmp_path, "a")


@pytest.mark.parametrize(
    "state", ["[1]", '"a"', "{}", '{"step": "4"}', '{"step": -1}', "[" * 10**5], ids=lambda s: s[:9]
)
def test_a_checkpoint_whose_state_is_none(tmp_path, state):
    """Its digest may be right; a list or a deep nest ended in errors of their own."""
    tensors = {"a": torch.zeros(2)}
    path = tmp_path / "checkpoint-000000001.safetensors"
    path.write_bytes(save(tensors, {"state": state, "sha256": _digest(tensors, state)}))
    with pytest.warns(UserWarning, match="damaged"), pytest.raises(ValueError, match="expected a whole checkpoint in"):
        Checkpoints(tmp_path).newest()


def test_a_checkpoint_of_something_else_is_not_resumed(tmp_path):
    """It ended in a KeyError."""

    class Alone:
        def agree(self, step):
            return step

    class Trainer:
        group = Alone()

    kept = Checkpoints(tmp_path)
    kept.write(Checkpoint(1, {"a": torch.zeros(2)}, {"threads": 1}))
    with pytest.raises(ValueError, match=r"expected a checkpoint of a training run .* got one without \['wall_s'"):
        start(Trainer(), kept, {}, resume=True)


def test_thousands_of_zip_entries_take_no_memory(tmp_path, traced):
    (tmp_path / "a.npz").write_bytes(formats.zipped({f"{k}": b"" for k in range(20_000)}))
    tracemalloc.reset_peak()
    with pytest.raises(ValueError, match=r"a\.npz is not a whole npz file \(its list of entries is too long"):
        npz.read_npz(tmp_path / "a.npz", {})
    assert traced() < 2**21  # 14 MB were taken


def test_a_declared_size_takes_no_memory_before_the_data_are_there(tmp_path, traced):
    """A gzip file that declares the most that its length allows, and ends at once."""
    noise = np.random.default_rng(0).bytes(10**5)
    head = (0x803).to_bytes(4, "big") + (10**5).to_bytes(4, "big") + (28).to_bytes(4, "big") * 2
    (tmp_path / "i.gz").write_bytes(gzip.compress(head + noise))
    (tmp_path / "l.gz").write_bytes(
        gzip.compress((0x801).to_bytes(4, "big") + (10**5).to_bytes(4, "big") + bytes(10**5))
    )
    tracemalloc.reset_peak()
    with pytest.raises(ValueError, match=r"i\.gz ends \d+ bytes before its declared end"):
        readers.idx(tmp_path / "i.gz", tmp_path / "l.gz", classes=10)
    assert traced() < 4 * 10**6  # 78 MB were taken


def test_texts_of_a_png_are_not_inflated(tmp_path):
    """60 texts of a megabyte each in a file of 60 KB."""
    whole = formats.picture(np.full((9, 9, 3), 7, np.uint8), "PNG")
    text = formats.chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(10**6)))
    (tmp_path / "a.png").write_bytes(whole[:33] + text * 60 + whole[33:])
    assert (pictures.read_picture(tmp_path / "a.png", 4) == 7).all()
    assert pictures._plain_png((tmp_path / "a.png").read_bytes()) == whole


def test_a_picture_of_more_pixels_than_its_length_can_hold(tmp_path):
    """8,192 x 8,192 pixels in 200 bytes took 200 MB."""
    (tmp_path / "a.ppm").write_bytes(b"P6 8192 8192 255\n" + bytes(200))
    with pytest.raises(ValueError, match="8192 x 8192 pixels are more than 67108864, or than its length can hold"):
        pictures.read_picture(tmp_path / "a.ppm", 8)


def test_a_class_folder_whose_name_is_no_text(tmp_path):
    """It was read, and no record could be written of it."""
    place = os.fsencode(tmp_path / "train") + b"/\xff"
    os.makedirs(place)  # noqa: PTH103
    open(place + b"/a.png", "wb").close()  # noqa: PTH123
    with pytest.raises(ValueError, match=r"the class folder .* has a name that is not UTF-8, or blank; rename it"):
        pictures.class_folders(tmp_path / "train")


def test_a_link_to_nothing_is_no_missing_list_of_names(tmp_path):
    (tmp_path / "names.txt").symlink_to("nothing")
    with pytest.raises(FileNotFoundError, match=r"names\.txt does not exist; correct the path"):
        readers.class_names(tmp_path / "names.txt", 3)


def test_json_of_records_is_what_write_record_writes(tmp_path):
    value = {"config": {"größe": [1.5, None]}, "result": {"n": -(10**20), "text": "\u2028\U0001f600"}}
    record.write_record(tmp_path / "a.json", value)
    assert record.read_record(tmp_path / "a.json") == json.loads((tmp_path / "a.json").read_text()) == value


def test_entries_of_zip_files_are_found_beyond_other_bytes(tmp_path):
    """Negative control of the limit on entries: an npz with bytes before and a comment behind is read."""
    file = io.BytesIO(formats.npz({"x": np.zeros((2, 4, 4, 3), np.uint8), "y": np.arange(2)}))
    with zipfile.ZipFile(file, "a") as archive:
        archive.comment = b"c" * 60_000
    (tmp_path / "a.npz").write_bytes(b"before" * 30_000 + file.getvalue())
    assert readers.npz(tmp_path / "a.npz")[0].shape == (2, 3, 4, 4)
