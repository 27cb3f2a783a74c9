"""Batches: crops and mirrors against a loop, pictures that depend on no worker and no restart, scaling."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
import torch
from picture_files import arrays, write_pictures

from experiments.batches import batches, crop_and_flip, to_unit
from experiments.data import Images, PictureFiles
from experiments.pictures import class_folders, read_picture

DEVICES = ["cpu", *["cuda"] * torch.cuda.is_available()]


def naive(x: np.ndarray, rng: np.random.Generator, pad: int, flip: bool) -> np.ndarray:
    """One image after the other, one pixel after the other, from the same draws."""
    b, _, height, width = x.shape
    rows, columns = rng.integers(2 * pad + 1, size=b), rng.integers(2 * pad + 1, size=b)
    mirrored = rng.integers(2, size=b) if flip else [0] * b
    out = np.zeros_like(x)
    for i in range(b):
        image = x[i, :, :, ::-1] if mirrored[i] else x[i]
        for u in range(height):
            for v in range(width):
                row, column = u + rows[i] - pad, v + columns[i] - pad
                if 0 <= row < height and 0 <= column < width:
                    out[i, :, u, v] = image[:, row, column]
    return out


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("flip", [True, False], ids=["flip", "no-flip"])
@pytest.mark.parametrize("pad", [0, 1, 3, 9])
@pytest.mark.parametrize("shape", [(40, 3, 5, 7), (1, 1, 1, 1), (30, 1, 6, 4)], ids=str)
def test_crop_and_flip_against_a_loop(shape, pad, flip, device):
    x = np.random.default_rng(1).integers(1, 256, shape, np.uint8)
    given = torch.from_numpy(x).to(device)
    got = crop_and_flip(given, np.random.default_rng(2), pad=pad, flip=flip)
    assert got.dtype == torch.uint8
    assert got.is_contiguous()
    assert got.device == given.device
    np.testing.assert_array_equal(got.cpu(), naive(x, np.random.default_rng(2), pad, flip))
    np.testing.assert_array_equal(given.cpu(), x)


def test_every_shift_and_mirror_is_drawn_equally_often():
    """18 outcomes of 1,000 each: chi squared with 17 degrees of freedom stays under its 1 - 1e-6 quantile."""
    x = torch.arange(1, 10, dtype=torch.uint8).view(1, 1, 3, 3).expand(18_000, 1, 3, 3)
    got = crop_and_flip(x, np.random.default_rng(0), pad=1, flip=True).flatten(1).numpy()
    kinds, counts = np.unique(got, axis=0, return_counts=True)
    assert len(kinds) == 18
    assert ((counts - 1000) ** 2 / 1000).sum() < 61.5


def test_a_view_is_cropped_like_its_copy():
    x = torch.from_numpy(arrays(6, 3, 8, 2)[0]).to(memory_format=torch.channels_last)[::2]
    got = [crop_and_flip(v, np.random.default_rng(0), pad=2, flip=True) for v in (x, x.contiguous())]
    np.testing.assert_array_equal(*got)


def test_a_negative_pad_is_refused():
    with pytest.raises(ValueError, match="expected pad of 0 or more pixels, got -1; the usual value"):
        crop_and_flip(torch.zeros(1, 1, 2, 2, dtype=torch.uint8), np.random.default_rng(0), pad=-1, flip=False)


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_to_unit(dtype, channels_last):
    x = torch.arange(256, dtype=torch.uint8).view(2, 2, 8, 8)
    got = to_unit(x, 255, dtype, channels_last=channels_last)
    assert got.dtype == dtype
    assert got.is_contiguous(memory_format=torch.channels_last) == channels_last
    torch.testing.assert_close(got.contiguous(), (x.double() / 255).to(dtype), rtol=0, atol=0)
    assert float(to_unit(x[:1] // 8, 16, dtype).max()) == 15 / 16


@pytest.mark.parametrize("device", DEVICES)
def test_images_are_indexed(device):
    x, y = map(torch.from_numpy, arrays(9, 3, 4, 3))
    split = Images(x, y).to(device)
    index = [np.array([3, 1, 3]), np.array([8], np.int32)]
    got = list(batches(split, index, device, train=True))
    for chosen, batch in zip(index, got, strict=True):
        assert batch.device == split.x.device
        np.testing.assert_array_equal(batch.cpu(), x.numpy()[chosen])
    np.testing.assert_array_equal(split[index[0]].x.cpu(), x.numpy()[index[0]])
    np.testing.assert_array_equal(split[index[0]].y, y.numpy()[index[0]])
    assert len(split) == 9


@pytest.fixture
def files(tmp_path) -> PictureFiles:
    write_pictures(tmp_path, *arrays(12, 3, 20, 2), ["a", "b"], suffix=".jpg")
    paths, y, _ = class_folders(tmp_path)
    return PictureFiles(paths, torch.from_numpy(y), 8)


INDEX = [np.array([0, 3, 5]), np.array([7]), np.array([3, 3]), np.array([11, 0])]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("workers", [0, 1, 2])
def test_pictures_do_not_depend_on_workers(files, workers, device):
    got = list(batches(files, INDEX, device, train=True, workers=workers, seed=5))
    for k, (chosen, batch) in enumerate(zip(INDEX, got, strict=True)):
        expected = [read_picture(files.paths[i], 8, np.random.default_rng([5, k, i])) for i in chosen]
        np.testing.assert_array_equal(batch.cpu(), np.stack(expected))
    assert not torch.equal(got[0][1], got[2][0])  # the same picture in another batch
    assert torch.equal(got[2][0], got[2][1])
    assert files.shape == got[0].shape[1:]


def test_a_run_goes_on_with_the_same_pictures(files):
    whole = list(batches(files, INDEX, "cpu", train=True, seed=5))
    rest = list(batches(files, INDEX[2:], "cpu", train=True, seed=5, first=2))
    other = list(batches(files, INDEX, "cpu", train=True, seed=6))
    for a, b in zip(whole[2:], rest, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not torch.equal(whole[0], other[0])


def test_pictures_for_evaluation_are_not_random(files):
    state = torch.get_rng_state()
    for batch, chosen in zip(batches(files, INDEX, "cpu", train=False, workers=1, seed=1), INDEX, strict=True):
        np.testing.assert_array_equal(batch, np.stack([read_picture(files.paths[i], 8) for i in chosen]))
    assert torch.equal(torch.get_rng_state(), state)


def test_an_endless_index_is_read_as_needed(files):
    read = []

    def endless():
        while True:
            read.append(1)
            yield INDEX[0]

    assert len(list(islice(batches(files, endless(), "cpu", train=True), 3))) == 3
    assert len(read) <= 4


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_picture_is_named(files, workers):
    files.paths[5].write_bytes(files.paths[5].read_bytes()[:300])
    with pytest.raises(ValueError, match=rf"{files.paths[5].name} does not decode as a picture"):
        list(batches(files, INDEX, "cpu", train=True, workers=workers))
    files.paths[7].unlink()
    with pytest.raises(FileNotFoundError, match=files.paths[7].name):
        list(batches(files, INDEX[1:], "cpu", train=True, workers=workers))
