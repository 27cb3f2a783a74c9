"""ImageData: what it refuses, what it converts, its mean and covariance."""

from __future__ import annotations

import re

import naive
import numpy as np
import pytest
import torch
from naive import images

from msda_theory.data import ImageData


def tensors(m: int = 6, channels: int = 2, shape=(3, 4)) -> tuple[torch.Tensor, torch.Tensor]:
    return images(m, channels, shape, 3, seed=1)


def test_numpy_arrays_are_converted():
    x, y = (v.numpy() for v in tensors())
    data = ImageData(x, y, 3)
    single = ImageData(x.astype(np.float32), y, 3)
    with pytest.raises(TypeError, match=r"got torch.int32; pass class indices"):
        ImageData(x, y.astype(np.int32), 3)
    assert isinstance(data.x, torch.Tensor)
    assert data.x.dtype == torch.float64
    assert data.y.dtype == torch.int64
    np.testing.assert_array_equal(data.x.numpy(), x)
    np.testing.assert_array_equal(data.y.numpy(), y)
    assert len(data) == 6
    assert data.shape == (3, 4)
    assert single.x.dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float16, torch.int64, torch.complex64], ids=str)
def test_other_image_dtypes_are_refused(dtype):
    x, y = tensors()
    with pytest.raises(TypeError, match="expected images in float32 or float64, got torch"):
        ImageData(x.to(dtype), y, 3)


@pytest.mark.parametrize("shape", [(6, 24), (6, 3, 4), (6, 1, 2, 3, 4), (0, 2, 3, 4), (6, 2, 0, 4)], ids=str)
def test_other_image_shapes_are_refused(shape):
    with pytest.raises(ValueError, match=r"expected images \[m, C, H, W\] with no empty axis"):
        ImageData(torch.zeros(shape), torch.zeros(shape[0], dtype=torch.int64), 3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int32, torch.bool], ids=str)
def test_other_label_dtypes_are_refused(dtype):
    x, y = tensors()
    with pytest.raises(TypeError, match=r"expected integer labels \(int64\), got torch"):
        ImageData(x, y.to(dtype), 3)


@pytest.mark.parametrize("shape", [(5,), (6, 1), (1, 6), ()], ids=str)
def test_other_label_shapes_are_refused(shape):
    x, _ = tensors()
    with pytest.raises(ValueError, match="expected one label for each of 6 images, got y of shape"):
        ImageData(x, torch.zeros(shape, dtype=torch.int64), 3)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")], ids=str)
def test_the_first_sample_that_is_not_finite_is_named(value):
    x, y = tensors()
    x[2, 1, 0, 3] = x[4, 0, 1, 1] = value
    with pytest.raises(ValueError, match=r"NaN or infinity in sample 2 \(2 such samples\)"):
        ImageData(x, y, 3)


@pytest.mark.parametrize(("label", "got"), [(3, r"0 \.\. 3"), (-1, r"-1 \.\. 2")], ids=["high", "negative"])
def test_labels_out_of_range_are_refused(label, got):
    x, y = tensors()
    y[-3:] = torch.tensor([0, 2, label])
    with pytest.raises(ValueError, match=rf"expected labels in 0 \.\. 2, got {got}"):
        ImageData(x, y, 3)


def test_indexing_gives_a_data_set():
    x, y = tensors()
    data = ImageData(x, y, 3)
    part = data[1:4]
    assert isinstance(part, ImageData)
    np.testing.assert_array_equal(part.x, x[1:4])
    np.testing.assert_array_equal(part.y, y[1:4])
    assert part.num_classes == 3
    index = torch.tensor([4, 0, 4])
    np.testing.assert_array_equal(data[index].x.numpy(), x[[4, 0, 4]])
    np.testing.assert_array_equal(data[index].y.numpy(), y[[4, 0, 4]])
    np.testing.assert_array_equal(data[data.y == 1].x.numpy(), x[y == 1])
    with pytest.raises(ValueError, match="with no empty axis"):
        data[6:]


def test_to_changes_the_images_only():
    data = ImageData(*tensors(), 3)
    single = data.to(torch.float32)
    assert single.x.dtype == torch.float32
    assert single.y.dtype == torch.int64
    assert data.x.dtype == torch.float64
    assert data.to("cpu").x.dtype == torch.float64
    with pytest.raises(TypeError, match=r"expected images in float32 or float64, got torch.float16"):
        data.to(torch.float16)


def test_mean_and_covariance_against_loops():
    x, y = tensors()
    data = ImageData(x, y, 3)
    m, size = len(x), x[0].numel()
    mean = np.zeros(x.shape[1:])
    for image in x.numpy():
        mean += image / m
    covariance = np.zeros((size, size))
    for image in x.numpy():
        centred = (image - mean).reshape(-1)
        for j in range(size):
            for k in range(size):
                covariance[j, k] += centred[j] * centred[k] / m
    np.testing.assert_allclose(data.mean.numpy(), mean, rtol=0, atol=1e-14)
    np.testing.assert_allclose(data.covariance().numpy(), covariance, rtol=0, atol=1e-14)


def test_mean_and_covariance_of_float32_are_summed_in_float64():
    x = torch.full((5000, 1, 1, 1), 1000.1)
    data = ImageData(x, torch.zeros(5000, dtype=torch.int64), 1)
    assert data.mean.dtype == torch.float32
    assert data.mean.item() == x[0].item()
    assert data.covariance().dtype == torch.float64
    assert abs(float(data.covariance())) < 1e-18


@pytest.mark.parametrize("size", [1, 4, 6, 100])
def test_batches_keep_the_order(size):
    x, y = tensors()
    batches = list(ImageData(x, y, 3).batches(size))
    assert [len(b[0]) for b in batches] == [min(size, 6 - low) for low in range(0, 6, size)]
    np.testing.assert_array_equal(torch.cat([b[0] for b in batches]).numpy(), x)
    np.testing.assert_array_equal(torch.cat([b[1] for b in batches]).numpy(), y)


@pytest.mark.parametrize("values", [None, "images", object()], ids=lambda v: type(v).__name__)
def test_what_is_no_array_is_named(values):
    images, labels = torch.zeros(2, 1, 2, 2), torch.zeros(2, dtype=torch.int64)
    got = type(values).__name__
    with naive.as_users_run_it():
        with pytest.raises(
            TypeError, match=f"expected images as a tensor or an array of numbers, got {got}: .*; convert"
        ):
            ImageData(values, labels, 2)
        with pytest.raises(
            TypeError, match=f"expected labels as a tensor or an array of numbers, got {got}: .*; convert"
        ):
            ImageData(images, values, 2)


@pytest.mark.parametrize("size", ["a", 2.5, None, True], ids=repr)
def test_batch_sizes_are_whole_numbers(size):
    data = ImageData(torch.zeros(2, 1, 2, 2), torch.zeros(2, dtype=torch.int64), 2)
    with naive.as_users_run_it():
        with pytest.raises(
            TypeError, match=re.escape(f"expected batch_size as a whole number, got {size!r}; pass an int")
        ):
            next(data.batches(size))
        assert len(list(data.batches(np.int64(1)))) == 2
