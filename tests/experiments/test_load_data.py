"""The front door of the data sets: names, paths, subsets, statistics, and real data where MSDA_DATA points to them."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from picture_files import arrays, write_cifar, write_idx, write_npz, write_pictures

from experiments.data import DATA_SETS, DataSet, Images, PictureFiles, digits, load_data
from experiments.images import balanced, channel_statistics
from experiments.pictures import read_picture

REAL = os.environ.get("MSDA_DATA", "/nowhere")
NAMES = tuple("0123456789")


def write_all(root: Path) -> dict[str, tuple[np.ndarray, ...]]:
    """One small data set of each kind under ``root``, and what it holds: x, y, test x, test y."""
    held = {}
    for name, channels, side, classes in (
        ("cifar10", 3, 32, 10),
        ("cifar100", 3, 32, 100),
        ("fashion_mnist", 1, 28, 10),
        ("imagenette64", 3, 64, 2),
    ):
        held[name] = *arrays(12, channels, side, classes), *arrays(5, channels, side, classes, seed=1)
    x, y, x_test, y_test = held["cifar10"]
    folder = root / "cifar-10-batches-bin"
    write_cifar(folder / "data_batch_2.bin", x[:7], y[:7])
    write_cifar(folder / "data_batch_4.bin", x[7:], y[7:])
    write_cifar(folder / "test_batch.bin", x_test, y_test)
    x, y, x_test, y_test = held["cifar100"]
    folder = root / "cifar-100-binary"
    write_cifar(folder / "train.bin", x, y % 20, y)
    write_cifar(folder / "test.bin", x_test, y_test % 20, y_test)
    (folder / "fine_label_names.txt").write_text("".join(f"class {k}\n" for k in range(100)))
    x, y, x_test, y_test = held["fashion_mnist"]
    write_idx(root / "FashionMNIST" / "raw", "train", x, y, packed=True)
    write_idx(root / "FashionMNIST" / "raw", "t10k", x_test, y_test, packed=False)
    x, y, x_test, y_test = held["imagenette64"]
    write_npz(root / "imagenette64" / "train.npz", x, y, class_names=["tench", "church"])
    write_npz(root / "imagenette64" / "val.npz", x_test, y_test)
    return held


def assert_split(split: Images | PictureFiles, x: np.ndarray, y: np.ndarray) -> None:
    assert isinstance(split, Images)
    assert split.y.dtype == torch.int64
    np.testing.assert_array_equal(split.x, x)
    np.testing.assert_array_equal(split.y, y)


FOLDERS = {
    "cifar10": "cifar-10-batches-bin",
    "cifar100": "cifar-100-binary",
    "fashion_mnist": "FashionMNIST/raw",
    "imagenette64": "imagenette64",
}


@pytest.mark.parametrize("name", FOLDERS)
def test_data_sets_are_found_by_name_and_by_path(tmp_path, monkeypatch, name):
    x, y, x_test, y_test = write_all(tmp_path)[name]
    monkeypatch.setenv("MSDA_DATA", str(tmp_path))
    for data in (name, f"{name}:{tmp_path}", f"{name}:{tmp_path / FOLDERS[name]}"):
        got = load_data(data)
        assert got.name == name
        assert_split(got.train, x, y)
        assert_split(got.test, x_test, y_test)
        assert got.shape == x.shape[1:]
        np.testing.assert_allclose(got.mean, (x / 255).mean((0, 2, 3)), rtol=1e-13)
        np.testing.assert_allclose(got.std, (x / 255).std((0, 2, 3)), rtol=1e-13)
    names = {"cifar10": NAMES, "imagenette64": ("tench", "church"), "cifar100": tuple(f"class {k}" for k in range(100))}
    assert got.class_names == names.get(name, got.class_names)
    assert got.classes == {"cifar10": 10, "cifar100": 100, "fashion_mnist": 10, "imagenette64": 2}[name]


def test_digits_are_those_of_the_other_experiments():
    got, old = load_data("digits"), digits()
    for new, split in ((got.train, old.train), (got.test, old.test)):
        assert isinstance(new, Images)
        assert new.white == 16
        np.testing.assert_array_equal(new.y, split.y)
        scaled = (new.x.double() / 16 - got.mean[0]) / got.std[0]
        np.testing.assert_allclose(scaled, split.x, rtol=0, atol=1e-12)
    assert got.class_names == NAMES
    with pytest.raises(ValueError, match="digits come with scikit-learn, not from '/x'; leave the path out"):
        load_data("digits:/x")


def test_npz_by_path(tmp_path):
    x, y, (x_test, y_test) = *arrays(6, 1, 8, 3), arrays(3, 1, 8, 3)
    write_npz(tmp_path / "train.npz", x, y)
    write_npz(tmp_path / "test.npz", x_test, y_test)
    got = load_data(f"npz:{tmp_path}", size=8)
    assert_split(got.train, x, y)
    assert_split(got.test, x_test, y_test)
    assert got.class_names == ("0", "1", "2")
    write_npz(tmp_path / "val.npz", x_test[:2], y_test[:2], class_names=["a", "b", "c"])
    got = load_data(f"npz:{tmp_path}")
    assert_split(got.test, x_test[:2], y_test[:2])
    assert got.class_names == ("a", "b", "c")
    write_npz(tmp_path / "train.npz", x, y, class_names=["a", "b", "d"])
    with pytest.raises(ValueError, match=r"train.npz and the held-out file have different class_names; write both"):
        load_data(f"npz:{tmp_path}")
    write_npz(tmp_path / "train.npz", x, y, class_names=["a", "b", "a"])
    (tmp_path / "val.npz").unlink()
    with pytest.raises(ValueError, match="npz: expected different class names, got 'a' twice; rename one"):
        load_data(f"npz:{tmp_path}")
    write_npz(tmp_path / "train.npz", x, y)
    write_npz(tmp_path / "test.npz", x_test, y_test + 1)
    with pytest.raises(ValueError, match=r"npz: 3 class names, but there is a label 3; name every class"):
        load_data(f"npz:{tmp_path}")
    write_npz(tmp_path / "test.npz", x_test[:, :, :5], y_test)
    with pytest.raises(ValueError, match=r"one shape, got \(1, 8, 8\) and \(1, 5, 8\); resize them"):
        load_data(f"npz:{tmp_path}")


def test_folder_of_pictures(tmp_path):
    x, y, (x_test, y_test) = *arrays(8, 3, 20, 2), arrays(4, 3, 20, 2, seed=1)
    write_pictures(tmp_path / "train", x, y, ["b", "a"])
    write_pictures(tmp_path / "test", x_test, y_test, ["b", "a"])
    got = load_data(f"folder:{tmp_path}", size=14)
    assert isinstance(got.train, PictureFiles)
    assert got.shape == got.test.shape == (3, 14, 14)
    assert got.class_names == ("a", "b")
    assert [p.parent.name for p in got.train.paths] == [got.class_names[k] for k in got.train.y]
    assert (len(got.train), len(got.test)) == (8, 4)
    pixels = np.stack([read_picture(p, 14) for p in got.train.paths]) / 255
    np.testing.assert_allclose(got.mean, pixels.mean((0, 2, 3)), rtol=1e-13)
    np.testing.assert_allclose(got.std, pixels.std((0, 2, 3)), rtol=1e-13)
    part = load_data(f"folder:{tmp_path}", images=3)
    assert part.shape == (3, 224, 224)
    assert [p.parent.name for p in part.train.paths] == ["a", "a", "b"]
    (tmp_path / "val" / "a").mkdir(parents=True)
    write_pictures(tmp_path / "val", x_test, y_test, ["c", "a"])
    with pytest.raises(ValueError, match=r"expected the same class folders in both splits, got 'b' in one; complete"):
        load_data(f"folder:{tmp_path}")
    with pytest.raises(ValueError, match="expected pictures of at least 1 pixel a side, got size=0; 224 is usual"):
        PictureFiles([], torch.zeros(0, dtype=torch.int64), 0)


def test_the_statistics_of_many_files_are_those_of_some(tmp_path, monkeypatch):
    write_pictures(tmp_path, *arrays(9, 3, 8, 1), ["a"])
    paths = sorted((tmp_path / "a").iterdir())
    monkeypatch.setattr("experiments.images._SAMPLE", 3)
    mean, _ = channel_statistics(PictureFiles(paths, torch.zeros(9, dtype=torch.int64), 7))
    pixels = np.stack([read_picture(paths[i], 7) for i in (0, 4, 8)]) / 255
    np.testing.assert_allclose(mean, pixels.mean((0, 2, 3)), rtol=1e-13)


def test_subsets_are_balanced_and_in_file_order():
    y = np.array([2, 0, 0, 1, 1, 0, 2, 1, 0])
    np.testing.assert_array_equal(balanced(y, 5, ("a", "b", "c"), ""), [0, 1, 2, 3, 4])
    np.testing.assert_array_equal(balanced(y, 3, ("a", "b", "c"), ""), [0, 1, 3])
    np.testing.assert_array_equal(balanced(y, 1, ("a", "b", "c"), ""), [1])
    got = load_data("digits", images=101, test_images=30)
    whole = load_data("digits").train
    assert torch.bincount(got.train.y).tolist() == [11] + [10] * 9
    assert torch.bincount(got.test.y).tolist() == [3] * 10
    first = [int(np.flatnonzero(whole.y == k)[n]) for k in range(10) for n in range(11 if k == 0 else 10)]
    assert isinstance(whole, Images)
    assert_split(got.train, whole.x.numpy()[sorted(first)], whole.y.numpy()[sorted(first)])
    np.testing.assert_allclose(got.mean, float(got.train.x.double().mean()) / 16, rtol=1e-13)


def test_options_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"digits has images of 8 x 8 pixels, got size=224; leave size out"):
        load_data("digits", size=224)
    with pytest.raises(ValueError, match=r"digits, training images: 1400 of 10 classes need 140 of class '0', got 133"):
        load_data("digits", images=1400)
    with pytest.raises(ValueError, match="digits, test images: expected a positive number of images to keep, got 0"):
        load_data("digits", test_images=0)


def test_names_and_paths_that_lead_nowhere(tmp_path, monkeypatch):
    monkeypatch.delenv("MSDA_DATA", raising=False)
    with pytest.raises(
        ValueError, match=r"unknown data set 'svhn'; write one of digits, cifar10, .*, folder, and :path"
    ):
        load_data("svhn")
    with pytest.raises(
        ValueError, match=r"environment variable MSDA_DATA is not set; set it to .* cifar-10-batches-bin"
    ):
        load_data("cifar10")
    for name in ("npz", "folder"):
        with pytest.raises(ValueError, match=rf"{name} needs a path; write {name}:PATH, the folder"):
            load_data(name)
    for name in set(DATA_SETS) - {"digits"}:
        with pytest.raises(FileNotFoundError, match=rf"{name}: .*none is not a folder; correct the path"):
            load_data(f"{name}:{tmp_path / 'none'}")
        with pytest.raises(FileNotFoundError, match=re.escape(str(tmp_path))):
            load_data(f"{name}:{tmp_path}")


def test_splits_refuse_other_tensors():
    x, y = map(torch.from_numpy, arrays(3, 1, 4, 2))
    for bad in (x.float(), x[0], x[:0]):
        with pytest.raises(ValueError, match=r"expected uint8 images \[m, C, H, W\] with no empty axis, got torch"):
            Images(bad, y)
    for labels in (y[:2], y.int(), y[:, None]):
        with pytest.raises(ValueError, match="expected 3 labels in int64, one an image, got torch"):
            Images(x, labels)
    with pytest.raises(ValueError, match="expected labels from 0 up, got -1; number the classes"):
        Images(x, y - 1)


COUNTS = {
    "cifar10": (12_000, 2_000, 10, (0.49187, 0.48167, 0.44533), (0.24710, 0.24388, 0.26164)),
    "cifar100": (50_000, 10_000, 100, (0.50707516, 0.48654887, 0.44091784), (0.26733429, 0.25643846, 0.27615047)),
    "fashion_mnist": (60_000, 10_000, 10, (0.28604,), (0.35302,)),
    "imagenette64": (640, 160, 10, None, None),
}


@pytest.mark.data
@pytest.mark.parametrize("name", COUNTS)
def test_real_data(name):
    """Counts, balance, and the published channel statistics, to all their digits."""
    if not (Path(REAL) / FOLDERS[name]).is_dir():
        pytest.skip(f"MSDA_DATA does not hold {FOLDERS[name]}")
    got: DataSet = load_data(name)
    train, test, classes, mean, std = COUNTS[name]
    assert (len(got.train), len(got.test), got.classes) == (train, test, classes)
    assert torch.bincount(got.train.y).tolist() == [train // classes] * classes
    assert torch.bincount(got.test.y).tolist() == [test // classes] * classes
    assert not any(name.isdigit() for name in got.class_names)
    if mean is not None:
        digits_given = 8 if name == "cifar100" else 5
        np.testing.assert_allclose(got.mean, mean, rtol=0, atol=0.51 * 10**-digits_given)
        np.testing.assert_allclose(got.std, std, rtol=0, atol=0.51 * 10**-digits_given)
