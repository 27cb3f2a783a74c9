"""What files made to do harm did to the readers, by name."""

from __future__ import annotations

import io
import struct
import time
import tracemalloc
import warnings
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save

from experiments import fuzz_formats as formats
from experiments import pictures, readers, record, weights
from experiments.checkpoints import Checkpoints
from experiments.own_models import read_weights
from figures.style import load
from msda_theory.files import read_whole
from msda_theory.graph.readers import read_graph
from msda_theory.graph.stored import read_stored

X = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)
IMAGES = {"x.npy": formats.npy(X), "y.npy": formats.npy(np.arange(2))}


@pytest.fixture
def traced():
    tracemalloc.start()
    yield lambda: tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()


def array(descr, shape, data, order="False"):
    """An npy file with this header, whatever it says."""
    text = f"{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text + data


@pytest.mark.parametrize(
    ("descr", "match"),
    [
        ("<U9999", "class_names: expected text, got dtype"),
        ("<U999", "expected text of at most 2097152 bytes, got 5994"),
    ],
)
def test_long_class_names_of_zeros_take_no_memory(tmp_path, traced, descr, match):
    """58,855 bytes took 68.8 MB."""
    count = 1500
    names = array(descr, (count,), bytes(count * np.dtype(descr).itemsize))
    (tmp_path / "a.npz").write_bytes(formats.zipped({**IMAGES, "class_names.npy": names}))
    tracemalloc.reset_peak()
    before = traced()
    with pytest.raises(ValueError, match=match):
        readers.npz(tmp_path / "a.npz")
    assert traced() - before < 2**20


def test_text_in_a_graph_takes_no_memory(tmp_path, traced):
    """59,000 bytes took 127 MB."""
    text = array("<U9999", (1500,), bytes(1500 * 39_996))
    (tmp_path / "g.npz").write_bytes(formats.zipped({"x_data.npy": text}))
    del text
    tracemalloc.reset_peak()
    before = traced()
    with pytest.raises(ValueError, match="array x_data: expected numbers, got dtype '<U9999'"):
        read_graph(tmp_path / "g.npz")
    assert traced() - before < 2**20


def entries(count, **more):
    return {**{f"{k}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for k in range(count)}, **more}


def test_thousands_of_empty_tensors_take_no_memory(tmp_path, traced):
    """3.2 MB with 50,000 of them took 84 MB; names and words beside them may hold braces."""
    path = tmp_path / "checkpoint-000000001.safetensors"
    path.write_bytes(formats.safetensors(entries(50_000), b""))
    size = path.stat().st_size
    tracemalloc.reset_peak()
    before = traced()
    for read in (weights.read_tensors, read_weights):
        with pytest.raises(ValueError, match="it declares more than 4096 tensors"):
            read(path)
    with pytest.warns(UserWarning, match="damaged"), pytest.raises(ValueError, match="expected a whole checkpoint"):
        Checkpoints(tmp_path).newest()
    assert traced() - before < 2 * size
    words = {"a\\": "{" * 9000, 'b"{': '\\"{' * 9000}
    path.write_bytes(formats.safetensors(entries(weights.ENTRIES, __metadata__=words), b""))
    assert len(weights.read_tensors(path)) == weights.ENTRIES


@pytest.mark.parametrize("kind", ["F4", "F6_E2M3", "F8_E8M0"])
def test_weights_of_own_models_of_a_type_that_torch_lacks(tmp_path, kind):
    """They ended in a KeyError, of a second reader."""
    path = tmp_path / "w.safetensors"
    bits = {"F4": 4, "F6_E2M3": 6}.get(kind, 8)
    header = {"a": {"dtype": kind, "shape": [4], "data_offsets": [0, bits // 2]}}
    path.write_bytes(formats.safetensors(header, bytes(bits // 2)))
    with pytest.raises(ValueError, match=rf"is not a safetensors file \('{kind}'\); pickles are not read"):
        read_weights(path)


def test_weights_of_own_models_are_read_whole(tmp_path):
    path = tmp_path / "w.safetensors"
    path.write_bytes(save({"a": torch.arange(3.0)}))
    found, digest = read_weights(path)
    assert found["a"].tolist() == [0.0, 1.0, 2.0]
    assert len(digest) == 64


def test_a_jpeg_of_a_thousand_scans_takes_no_time(tmp_path):
    """223 kB took 22 s; a progressive one with a thumbnail is read."""
    file = io.BytesIO()
    Image.new("L", (1000, 1000), 128).save(file, "JPEG", progressive=True, quality=50)
    whole = file.getvalue()
    start = whole.rindex(b"\xff\xc4", 0, whole.rindex(b"\xff\xda"))
    path = tmp_path / "a.jpg"
    path.write_bytes(whole[:-2] + whole[start:-2] * 1000 + whole[-2:])
    begin = time.process_time()
    with pytest.raises(ValueError, match=r"a\.jpg does not decode as a picture \(it is a JPEG file of more than 64"):
        pictures.read_picture(path, 32)
    assert time.process_time() - begin < 1.0
    thumbnail = b"\xff\xe1" + (2 + 65_000).to_bytes(2, "big") + (b"\xff\xda\0\0" * 17_000)[:65_000]
    path.write_bytes(whole[:2] + thumbnail + whole[2:-2] + b"\xff\xd9" + b"\xff\xda" * 999)
    assert (pictures.read_picture(path, 32) == 128).all()
    assert pictures._scans(whole) == whole.count(b"\xff\xda")


def test_a_bmp_with_run_lengths_is_refused(tmp_path):
    """Pillow decodes it in Python, byte by byte."""
    pixels, start = b"\x09\x00\x00\x00" * 9 + b"\0\1", 54 + 1024
    head = struct.pack("<2sI2HI", b"BM", start + len(pixels), 0, 0, start)
    info = struct.pack("<IiiHHIIiiII", 40, 9, 9, 1, 8, 1, len(pixels), 0, 0, 256, 0)
    (tmp_path / "a.bmp").write_bytes(head + info + bytes(1024) + pixels)
    with pytest.raises(ValueError, match=r"a\.bmp does not decode .*it is a BMP file with run lengths; save it as PNG"):
        pictures.read_picture(tmp_path / "a.bmp", 8)


@pytest.mark.parametrize("first", [b"VP8X", b"VP8L", b"VP8 "])
def test_a_webp_that_declares_millions_of_pixels_is_refused_before_it_is_opened(tmp_path, monkeypatch, first):
    """Pillow takes eight bytes for every pixel of the canvas when it opens the file, whatever it holds."""
    pixels = np.random.default_rng(0).integers(256, size=(37, 53, 4)).astype(np.uint8)
    image = Image.fromarray(pixels if first == b"VP8X" else pixels[..., :3])
    path, file = tmp_path / "p.webp", io.BytesIO()
    image.save(file, "WEBP", lossless=first == b"VP8L", exif=b"Exif" if first == b"VP8X" else b"")
    content = bytearray(file.getvalue())
    assert content[12:16] == first
    assert pictures._webp_size(bytes(content)) == (53, 37)
    path.write_bytes(content)
    assert pictures.read_picture(path, 8).shape == (3, 8, 8)
    start = {b"VP8X": 24, b"VP8L": 21, b"VP8 ": 26}[first]
    content[start : start + 4] = b"\xff\x3f\xff\x3f" if first != b"VP8L" else b"\xff\xff\xff\x0f"
    path.write_bytes(content)
    monkeypatch.setattr(Image, "open", lambda *_, **__: pytest.fail("it was opened"))
    with pytest.raises(ValueError, match=r"\d+ x \d+ pixels are more than \d+, or than its length can hold"):
        pictures.read_picture(path, 8)


def test_a_webp_of_unknown_beginning_is_refused(tmp_path):
    path = tmp_path / "p.webp"
    path.write_bytes(b"RIFF\x20\0\0\0WEBPANIM" + bytes(28))
    with pytest.raises(ValueError, match="it is a WebP file that does not begin with its picture"):
        pictures.read_picture(path, 8)


def test_too_many_class_names_are_counted_and_not_kept(tmp_path, traced):
    path = tmp_path / "names.txt"
    path.write_text("a\n" * 2**19, encoding="utf-8")
    with pytest.raises(ValueError, match="expected 10 class names in UTF-8, one a line, got 524288; delete it"):
        readers.class_names(path, 10)
    assert traced() < 4 * 2**20


@pytest.mark.parametrize(("kind", "match"), [(b"Pf", "its pixels are numbers of any size"), (b"PF", "cannot identify")])
def test_a_picture_of_numbers_is_refused(tmp_path, kind, match):
    """It was read as zeros."""
    (tmp_path / "f.ppm").write_bytes(kind + b"\n4 4\n-1.0\n" + np.full((4, 4, 3), 0.5, "<f4").tobytes())
    with pytest.raises(ValueError, match=rf"f\.ppm does not decode as a picture \({match}"):
        pictures.read_picture(tmp_path / "f.ppm", 4)


def test_all_grey_values_of_16_bits_are_rounded(tmp_path):
    """Against floating point, to the last value."""
    values = np.arange(2**16).astype(np.uint16).reshape(256, 256)
    found = np.asarray(pictures._eight_bits(Image.fromarray(values)))
    np.testing.assert_array_equal(found, (values.astype(np.float64) / 257).round())


@pytest.mark.parametrize("digits", [309, 400, 4000])
def test_a_whole_number_that_no_float_can_take(tmp_path, digits):
    """It was read, and ended in an OverflowError where it was compared."""
    (tmp_path / "a.json").write_text(f'{{"config": {{}}, "result": {{"a": -1{"0" * digits}}}}}')
    with pytest.raises(ValueError, match=r"-1000.* where a finite number belongs"):
        record.read_record(tmp_path / "a.json")
    with pytest.raises(ValueError, match=r"does not hold a record .*int too large to convert to float"):
        load(tmp_path, "a")
    for whole in (10**308, -(10**308), 0):
        (tmp_path / "a.json").write_text(f'{{"config": {{}}, "result": {{"a": {whole}}}}}')
        assert record.read_record(tmp_path / "a.json")["result"] == load(tmp_path, "a") == {"a": whole}


@pytest.mark.parametrize("name", ["", " \t", "a\0b", "\ud800", "a\udfffb"])
def test_class_names_that_no_record_can_hold(tmp_path, name):
    stored = np.array([name, "b"]).astype("U9")
    (tmp_path / "a.npz").write_bytes(formats.npz({"x": X, "y": np.arange(2), "class_names": stored}))
    with pytest.raises(ValueError, match="class_names holds a name that is empty or no text; write it anew"):
        readers.npz(tmp_path / "a.npz")


def test_a_line_of_class_names_with_a_nul(tmp_path):
    (tmp_path / "names.txt").write_bytes(b"a\nb\0c\n")
    with pytest.raises(ValueError, match="expected 2 class names in UTF-8"):
        readers.class_names(tmp_path / "names.txt", 2)


@pytest.mark.parametrize("order", ["'no'", "1", "None", "0"])
def test_the_order_of_an_array_is_true_or_false(tmp_path, order):
    """The text "no" counted as true, and pixels changed places."""
    members = {**IMAGES, "x.npy": array("|u1", X.shape, X.tobytes(), order)}
    (tmp_path / "a.npz").write_bytes(formats.zipped(members))
    with pytest.raises(ValueError, match="array x: its header has no plain dtype and shape"):
        readers.npz(tmp_path / "a.npz")


def test_two_arrays_of_one_name_are_refused(tmp_path):
    with warnings.catch_warnings(), zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        warnings.simplefilter("ignore")
        for name, content in [*IMAGES.items(), ("x.npy", formats.npy(X + 1))]:
            archive.writestr(name, content)
    with pytest.raises(ValueError, match=r"a\.npz has two entries of one name"):
        readers.npz(tmp_path / "a.npz")


def test_a_folder_in_the_place_of_a_record(tmp_path):
    """It said to give the folder, and to delete it."""
    (tmp_path / "a.json").mkdir()
    with pytest.raises(ValueError, match=r"got a folder or a device; correct the path, or move that away") as caught:
        record.read_record(tmp_path / "a.json")
    assert "give the folder" not in str(caught.value)


def test_a_path_that_is_too_long_is_named(tmp_path):
    """It ended in the system's number 36 alone."""
    name = "a" * 300
    for read in (record.read_record, readers.npz, read_whole, weights.read_tensors, read_weights):
        with pytest.raises(OSError, match=f"expected a file to read, got: .*; correct the path.*{name}"):
            read(tmp_path / name)


def test_a_file_that_may_not_be_opened_is_named(tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(b"abc")

    def closed(path, *args, **kwargs):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("pathlib.Path.open", closed)
    with pytest.raises(PermissionError, match=r"got: Permission denied; correct the path or its permissions: .*/a'"):
        read_whole(tmp_path / "a")


def test_a_png_whose_pixels_were_changed_is_refused(tmp_path):
    """Pillow passes over the checksum of pixels, and gave others."""
    whole = formats.picture(np.random.default_rng(0).integers(0, 256, (9, 9, 3), np.uint8), "PNG")
    start = whole.index(b"IDAT") + 4
    for place in (start + 20, start + 100, whole.index(b"IEND") - 5):
        broken = bytearray(whole)
        broken[place] ^= 1
        (tmp_path / "a.png").write_bytes(broken)
        with pytest.raises(ValueError, match=r"a\.png does not decode .*the checksum of a part of it is wrong"):
            pictures.read_picture(tmp_path / "a.png", 8)


def test_a_value_numbered_without_end_in_a_planetoid_file():
    """Each byte took a hundred of memory."""
    with pytest.raises(ValueError, match="a value that is numbered twice"):
        read_stored(b"\x80\x04]" + b"\x94" * 9 + b".", "ind.cora.graph")
