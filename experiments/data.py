"""Data: scikit-learn's digits, bundled and standardised, and by name every data set of the training program."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from experiments import readers
from experiments.images import DataSet, Images, Options, PictureFiles, assemble
from experiments.pictures import class_folders
from msda_theory.data import ImageData

__all__ = ["DATA_SETS", "DataSet", "Images", "Options", "PictureFiles", "Split", "digits", "load_data"]


@dataclass(frozen=True, eq=False)
class Split:
    """Training and held-out images in float64."""

    train: ImageData
    test: ImageData


def digits() -> Split:
    """1,797 digits of 8x8 pixels: 1,347 for training, 450 held out, stratified by class.

    Pixels are standardised by the mean and the standard deviation of all training pixels (two numbers, not one pair
    for each pixel: border pixels never vary).
    """
    images, labels = load_digits(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(
        images.reshape(-1, 1, 8, 8), labels, test_size=450, stratify=labels, random_state=0
    )
    mean, std = x_train.mean(), x_train.std()
    train, test = (
        ImageData(torch.from_numpy((x - mean) / std), torch.from_numpy(y).long(), 10)
        for x, y in ((x_train, y_train), (x_test, y_test))
    )
    return Split(train, test)


def load_data(
    data: str, *, size: int | None = None, images: int | None = None, test_images: int | None = None
) -> DataSet:
    """A data set by name, ``name`` or ``name:path``.

    =================  ==================================================================================
    ``digits``         bundled, integer pixels 0 .. 16, the split of `digits`; no path
    ``cifar10``        ``cifar-10-batches-bin``, binary version: data_batch_*.bin (any of them), test_batch.bin
    ``cifar100``       ``cifar-100-binary``: train.bin, test.bin, fine labels
    ``fashion_mnist``  ``FashionMNIST/raw``: the four idx files, plain or .gz
    ``imagenette64``   ``imagenette64``: train.npz and val.npz
    ``npz``            a folder with train.npz and val.npz (or test.npz): x uint8 [m, H, W, C], y, class_names
    ``folder``         a folder of pictures: train/<class>/* and val/<class>/* (or test)
    =================  ==================================================================================

    Without a path, the folder named above is looked for in the folder that the environment variable MSDA_DATA names;
    ``npz`` and ``folder`` need a path. With one, it is the folder that holds the files, or its parent; a relative one
    may start from here or from MSDA_DATA.

    Args:
        data: the name, or the name and the path.
        size: side of the pictures of ``folder`` (224 if left out); elsewhere it must be that of the images.
        images: keep so many training images, the classes balanced as in `experiments.images.balanced`.
        test_images: the same for test images.

    Raises:
        FileNotFoundError: if files are missing.
        ValueError: if the name is unknown, a path is needed or useless, a file is broken, or an option does not fit.
    """
    name, _, path = data.partition(":")
    if name not in DATA_SETS:
        raise ValueError(f"unknown data set {name!r}; write one of {', '.join(DATA_SETS)}, and :path if needed.")
    return DATA_SETS[name](path or None, Options(size, images, test_images))


def _digits(path: str | None, options: Options) -> DataSet:
    if path is not None:
        raise ValueError(f"digits come with scikit-learn, not from {path!r}; leave the path out.")
    pixels, labels = load_digits(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(
        pixels.astype("uint8").reshape(-1, 1, 8, 8), labels, test_size=450, stratify=labels, random_state=0
    )
    train, test = (
        Images(torch.from_numpy(x), torch.from_numpy(y).long(), 16) for x, y in ((x_train, y_train), (x_test, y_test))
    )
    return assemble("digits", train, test, tuple("0123456789"), options)


def _cifar(
    path: str | None, options: Options, *, name: str, folder: str, train: str, test: str, label_bytes: int, names: str
) -> DataSet:
    """CIFAR-10 or -100; ``train`` is a pattern of file names, the last label of a record counts."""
    place, classes = _folder(name, path, folder), {1: 10, 2: 100}[label_bytes]
    files = sorted(place.glob(train)) or [place / train]
    splits = [
        readers.cifar_binary(part, label_bytes=label_bytes, label_index=label_bytes - 1, classes=classes)
        for part in (files, [place / test])
    ]
    return assemble(name, *_both(splits), readers.class_names(place / names, classes), options)


def _fashion_mnist(path: str | None, options: Options) -> DataSet:
    folder = _folder("fashion_mnist", path, "FashionMNIST/raw")
    splits = []
    for part in ("train", "t10k"):
        plain = [folder / f"{part}-images-idx3-ubyte", folder / f"{part}-labels-idx1-ubyte"]
        files = [file if file.exists() else file.with_name(f"{file.name}.gz") for file in plain]
        splits.append(readers.idx(*files, classes=10))
    names = "T-shirt/top,Trouser,Pullover,Dress,Coat,Sandal,Shirt,Sneaker,Bag,Ankle boot"
    return assemble("fashion_mnist", *_both(splits), tuple(names.split(",")), options)


def _npz(path: str | None, options: Options, *, name: str, folder: str | None) -> DataSet:
    place = _folder(name, path, folder)
    (x, y, names), (x_test, y_test, test_names) = (
        readers.npz(file) for file in (place / "train.npz", _held_out(place, ".npz"))
    )
    if names and test_names and names != test_names:
        raise ValueError(f"{place}: train.npz and the held-out file have different class_names; write both anew.")
    names = names or test_names or tuple(map(str, range(int(y.max()) + 1)))
    return assemble(name, *_both([(x, y), (x_test, y_test)]), names, options)


def _pictures(path: str | None, options: Options) -> DataSet:
    place = _folder("folder", path, None)
    (paths, y, names), (test_paths, y_test, test_names) = map(class_folders, (place / "train", _held_out(place, "")))
    if names != test_names:
        odd = sorted(set(names) ^ set(test_names))
        raise ValueError(
            f"{place}: expected the same class folders in both splits, got {odd[0]!r} in one; complete it."
        )
    size = 224 if options.size is None else options.size
    train, test = (
        PictureFiles(paths, torch.from_numpy(y), size),
        PictureFiles(test_paths, torch.from_numpy(y_test), size),
    )
    return assemble("folder", train, test, names, options)


def _folder(name: str, path: str | None, standard: str | None) -> Path:
    """The folder that holds the files of a data set, whose usual name is ``standard``."""
    if path is None and standard is None:
        raise ValueError(f"{name} needs a path; write {name}:PATH, the folder that holds the files.")
    if path is None and not os.environ.get("MSDA_DATA"):
        raise ValueError(
            f"{name}: the environment variable MSDA_DATA is not set; set it to the folder that holds {standard}, "
            f"or write {name}:PATH."
        )
    home = os.environ.get("MSDA_DATA", "")
    root, parts = Path(path or home), Path(standard or "").parts
    if path is not None and not root.is_dir() and (Path(home) / path).is_dir():
        root = Path(home) / path
    found = next((p for k in range(len(parts) + 1) if (p := root.joinpath(*parts[k:])).is_dir()), None)
    if found is None:
        raise FileNotFoundError(f"{name}: {root} is not a folder; correct the path.")
    return found


def _held_out(folder: Path, suffix: str) -> Path:
    """``val``, or ``test`` where there is no ``val``."""
    value, test = folder / f"val{suffix}", folder / f"test{suffix}"
    return test if test.exists() and not value.exists() else value


def _both(splits: list[readers.Pictures]) -> tuple[Images, Images]:
    train, test = (Images(torch.from_numpy(x), torch.from_numpy(y)) for x, y in splits)
    return train, test


DATA_SETS: dict[str, Callable[[str | None, Options], DataSet]] = {
    "digits": _digits,
    "cifar10": partial(
        _cifar,
        name="cifar10",
        folder="cifar-10-batches-bin",
        train="data_batch_[1-5].bin",
        test="test_batch.bin",
        label_bytes=1,
        names="batches.meta.txt",
    ),
    "cifar100": partial(
        _cifar,
        name="cifar100",
        folder="cifar-100-binary",
        train="train.bin",
        test="test.bin",
        label_bytes=2,
        names="fine_label_names.txt",
    ),
    "fashion_mnist": _fashion_mnist,
    "imagenette64": partial(_npz, name="imagenette64", folder="imagenette64"),
    "npz": partial(_npz, name="npz", folder=None),
    "folder": _pictures,
}
