"""The parts of `law_of` that face the augmenter: probe images and their reading, calls, label weights, diagnoses."""

from __future__ import annotations

import naive
import numpy as np
import pytest
import torch
from torch import Tensor

from msda_theory.masks.probes import LabelForm, Probe, call

SHAPE = (3, 5)
TOLERANCE = 1e-4


def probe(
    batch: int = 6, channels: int = 3, shape: tuple[int, int] = SHAPE, tolerance: float = TOLERANCE, texture: int = 0
) -> Probe:
    return Probe.of(batch, channels, shape, tolerance, texture)


def complex_pairs(x: Tensor) -> np.ndarray:
    """Each pair of channels as one complex number on the unit circle [B, C / 2, H, W]."""
    values = 2 * x.numpy().astype(float) - 1
    return values[:, 0::2] + 1j * values[:, 1::2]


# --- images ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("texture", [None, 0, 1])
@pytest.mark.parametrize(("batch", "channels"), [(4, 2), (6, 4), (8, 6)])
def test_images_are_corners_of_a_regular_polygon_with_one_corner_left_out(batch, channels, texture):
    images = Probe.of(batch, channels, SHAPE, TOLERANCE, texture)
    assert images.tolerance == TOLERANCE
    assert images.x.dtype == torch.float32
    assert images.x.shape == (batch, channels, *SHAPE)
    z = complex_pairs(images.x)
    np.testing.assert_allclose(np.abs(z), 1, rtol=0, atol=1e-6)
    turn = z[1:] / z[:-1]  # from one image to the next: 1 / (B + 1) of a circle, the same way everywhere
    np.testing.assert_allclose(turn, turn[0, 0, 0, 0], rtol=0, atol=1e-6)
    assert abs(np.angle(turn[0, 0, 0, 0])) == pytest.approx(2 * np.pi / (batch + 1), abs=1e-6)


@pytest.mark.parametrize("channels", [2, 3, 5])
def test_values_are_colours(channels):
    x = probe(channels=channels).x
    assert x.shape[1] == channels
    assert x.min() >= 0
    assert x.max() <= 1
    assert x.max() - x.min() > 0.9


def test_turns_differ_from_pixel_to_pixel_between_pairs_and_between_textures():
    shape = (8, 9)
    first, second = (complex_pairs(probe(channels=4, shape=shape, texture=t).x)[0] for t in (0, 1))
    np.testing.assert_array_equal(first, complex_pairs(probe(channels=4, shape=shape, texture=0).x)[0])
    for map_ in (first[0], first[1], second[0], second[1]):
        assert len(np.unique(map_.round(4))) == 7  # every corner is taken by some pixel
        assert (np.abs(np.diff(map_, axis=0)) > 0.1).mean() > 0.6
        assert (np.abs(np.diff(map_, axis=1)) > 0.1).mean() > 0.6
    assert (np.abs(first[0] - first[1]) > 0.1).mean() > 0.6
    assert (np.abs(first - second) > 0.1).mean() > 0.6


def test_without_a_texture_each_image_has_one_colour_of_its_own():
    x = Probe.of(6, 3, SHAPE, TOLERANCE, None).x
    assert (x == x[:, :, :1, :1]).all()
    assert len(np.unique(x[:, :, 0, 0].numpy().round(4), axis=0)) == 6


# --- reading --------------------------------------------------------------------------------------------------


def blends(x: Tensor, mask: np.ndarray) -> tuple[Tensor, np.ndarray]:
    """Calls g = 0 .. B - 1 with partner i + g of sample i, masks [B(g), B, H, W]: images and partners."""
    own = np.arange(len(x))
    partner = (own + own[:, None]) % len(x)
    m = torch.from_numpy(mask)[:, :, None]
    return m * x + (1 - m) * x[torch.from_numpy(partner)], partner


@pytest.mark.parametrize("kind", ["smooth", "box"])
@pytest.mark.parametrize(("batch", "channels", "shape"), [(4, 2, SHAPE), (6, 3, (1, 1)), (8, 3, (4, 1)), (5, 5, SHAPE)])
def test_every_partner_and_every_mask_are_read(batch, channels, shape, kind):
    rng = np.random.default_rng(1)
    mask = rng.random((batch, batch, *shape))
    mask = mask if kind == "smooth" else (mask < 0.5).astype(float)
    mask[:, :, 0, 0] = 0.4
    images = probe(batch, channels, shape)
    out, partner = blends(images.x, mask)
    for form in (out, out.float()):
        read = images.read(form)
        assert read is not None
        taken, found = read
        np.testing.assert_allclose(taken[1:], 1 - mask[1:], rtol=0, atol=2e-6)
        np.testing.assert_array_equal(found[1:], partner[1:])
        assert (taken[0] == 0).all()
        assert (found[0] == -1).all()  # a sample that met itself came back as it was


def test_one_changed_pixel_shows_the_partner():
    images = probe()
    for pixel in np.ndindex(*SHAPE):
        mask = np.ones((6, 6, *SHAPE))
        mask[:, :, pixel[0], pixel[1]] = 0.7
        out, partner = blends(images.x, mask)
        taken, found = images.read(out)
        np.testing.assert_array_equal(found[1:], partner[1:])
        np.testing.assert_allclose(taken[1:], 1 - mask[1:], rtol=0, atol=2e-6)


def test_without_any_tolerance_exact_copies_are_read():
    """A deviation of the tolerance itself counts as rounding, so that 0 is a tolerance."""
    images = probe(tolerance=0.0)
    out, partner = blends(images.x, np.zeros((6, 6, *SHAPE)))
    taken, found = images.read(out[1:].float())
    assert (taken == 1).all()
    np.testing.assert_array_equal(found, partner[1:])
    taken, found = images.read(out[:1].float())
    assert (taken == 0).all()
    assert (found == -1).all()
    assert images.read(out[1:].float() + 1e-6) is None


@pytest.mark.parametrize("beyond", [0.3, 3.0, 5_000.0], ids=["rounding", "little", "far"])
@pytest.mark.parametrize("end", [0, 1])
def test_weights_beyond_the_ends_count_as_rounding_up_to_the_tolerance(end, beyond):
    mask = np.full((6, 6, *SHAPE), 0.5)
    mask[:, :, 1, 2] = 1 + beyond * TOLERANCE if end else -beyond * TOLERANCE
    images = probe()
    read = images.read(blends(images.x, mask)[0][1:])
    if beyond > 1:
        assert read is None
    else:
        assert (read[0][:, :, 1, 2] == 1 - end).all()
        np.testing.assert_allclose(read[0][:, :, 0, 0], 0.5, rtol=0, atol=2e-6)


@pytest.mark.parametrize("size", [0.3, 3.0, 3_000.0])
@pytest.mark.parametrize("mixed", [False, True])
def test_what_lies_off_the_blend_counts_as_rounding_up_to_the_tolerance(size, mixed):
    """One value of one pixel of one image of one call deviates."""
    images = probe()
    out, partner = blends(images.x, np.full((6, 6, *SHAPE), 0.5))
    call_ = 2 if mixed else 0
    out[call_, 3, 2, 1, 4] += size * TOLERANCE
    read = images.read(out)
    if size > 1:
        assert read is None
    else:
        np.testing.assert_array_equal(read[1], np.where(np.arange(6)[:, None] == 0, -1, partner))


def test_pixels_of_two_partners_are_no_blend():
    images = probe()
    out, _ = blends(images.x, np.full((6, 6, *SHAPE), 0.5))
    out[1, :, :, :, 2:] = out[2, :, :, :, 2:]
    assert images.read(out) is None


# --- calls ----------------------------------------------------------------------------------------------------

B, K = 4, 6
X = probe(B).x
Y = torch.arange(B)
OTHER = Y.flip(0)
ROWS = torch.nn.functional.one_hot(Y, K).double()
HALF = 0.5 * X + 0.5 * X.flip(0)


@pytest.mark.parametrize(
    "labels",
    [
        (Y, OTHER, 0.3),
        [Y, OTHER, 0.3],
        (Y, OTHER, torch.tensor(0.3, dtype=torch.float64)),
        (Y, OTHER, np.full(B, 0.3)),
        (Y, OTHER, torch.full((B, 1), 0.3, dtype=torch.float64)),
        (ROWS, ROWS.flip(0), 0.3),
        (ROWS.long(), ROWS.flip(0).long(), 0.3),  # rows of whole numbers
        (Y.int(), OTHER.int(), 0.3),
        0.3 * ROWS + 0.7 * ROWS.flip(0),
    ],
    ids=["tuple", "list", "tensor", "each", "column", "rows", "whole-rows", "int32", "soft"],
)
@pytest.mark.parametrize("flat", [False, True])
def test_forms_of_a_result_say_the_same(labels, flat):
    out = (HALF, *labels) if flat and not isinstance(labels, Tensor) else (HALF, labels)
    images, soft = call(lambda x, y: out, X, Y, B)
    np.testing.assert_array_equal(images, HALF)
    expected = 0.3 * ROWS + (1 - 0.3) * ROWS.flip(0)
    assert soft.dtype == torch.float64
    np.testing.assert_allclose(soft, expected[:, : soft.shape[1]], rtol=0, atol=1e-15)
    assert soft.shape == (B, B if not isinstance(labels, Tensor) and labels[0].ndim == 1 else K)


def test_each_sample_may_have_a_weight_of_its_own():
    lam = np.array([0.1, 0.2, 0.3, 0.4])
    _, soft = call(lambda x, y: (HALF, (Y, OTHER, lam)), X, Y, B)
    np.testing.assert_allclose(soft.numpy()[np.arange(B), np.arange(B)], lam, rtol=0, atol=1e-15)
    np.testing.assert_allclose(soft.numpy()[np.arange(B), OTHER], 1 - lam, rtol=0, atol=1e-15)


def test_rows_of_as_many_classes_as_samples_are_enough():
    _, soft = call(lambda x, y: (HALF, ROWS[:, :B]), X, Y, B)
    np.testing.assert_array_equal(soft, np.eye(B))


def test_the_probe_batch_and_the_result_share_no_memory():
    kept = []

    def transform(x, y):
        x.zero_()
        y.zero_()
        kept.append(x)
        kept.append(torch.eye(B))
        return kept[0], kept[1]

    x, y = X.clone(), Y.clone()
    images, soft = call(transform, x, y, B)
    assert torch.equal(x, X)
    assert torch.equal(y, Y)
    kept[0].fill_(9)
    kept[1].fill_(9)
    assert (images == 0).all()
    np.testing.assert_array_equal(soft, np.eye(B))


def test_gradients_are_left_behind():
    images, soft = call(lambda x, y: (HALF.clone().requires_grad_(), ROWS.clone().requires_grad_()), X, Y, B)
    assert not images.requires_grad
    assert not soft.requires_grad


TUPLES = r"expected \(x, y\), \(x, \(y_a, y_b, lam\)\) or \(x, y_a, y_b, lam\) from the transform, got "
LABELS = r"expected soft labels \[4, classes\] with at least 4 classes, got a tensor of shape "
REFUSED = {
    "images-only": (HALF, TUPLES + r"a tensor of shape \[4, 3, 3, 5\] and type torch.float32; wrap it"),
    "one": ((HALF,), TUPLES + "1 values"),
    "three": ((HALF, Y, OTHER), TUPLES + "3 values"),
    "five": ((HALF, Y, OTHER, 0.3, 0), TUPLES + "5 values"),
    "dict": ({"x": HALF, "y": ROWS}, TUPLES + "dict"),
    "array": ((HALF.numpy(), ROWS), "expected floating point images from the transform, got ndarray; wrap it"),
    "bytes": ((HALF.byte(), ROWS), "expected floating point images from the transform, got a tensor of .* torch.uint8"),
    "fewer": ((HALF[:3], ROWS[:3]), "the transform changes the batch size: 4 images in, 3 out; let it return one"),
    "flat": ((HALF.flatten(1), ROWS), r"changes the size of the images .*: \[4, 3, 3, 5\] in, \[4, 45\] out"),
    "merged": ((HALF.flatten(0, 1), ROWS), r"changes the size of the images .*: \[4, 3, 3, 5\] in, \[12, 3, 5\] out"),
    "cut": ((HALF[..., 1:], ROWS), r"changes the size of the images .*: \[4, 3, 3, 5\] in, \[4, 3, 3, 4\] out"),
    "pair": ((HALF, (Y, OTHER)), r"expected labels \(y_a, y_b, lam\) as a triple, got 2 parts; wrap the transform"),
    "four-parts": ((HALF, (Y, Y, Y, 0.3)), r"expected labels \(y_a, y_b, lam\) as a triple, got 4 parts"),
    "word": ((HALF, (Y, OTHER, "half")), "expected lam as a number or one for each sample, got 'half'; wrap it"),
    "two-weights": ((HALF, (Y, OTHER, np.ones(2))), "expected one lam or one for each of 4 samples, got 2; wrap"),
    "indices": ((HALF, Y), "the transform returns integer labels only, so the label weight is unknown"),
    "no-tensor": ((HALF, (Y.tolist(), OTHER, 0.3)), "expected labels as a tensor, got 4 values; wrap the transform"),
    "above": ((HALF, (Y, Y + 1, 0.3)), "expected labels of samples of the batch, classes 0 to 3, got 1 to 4; let"),
    "below": ((HALF, (Y - 1, OTHER, 0.3)), "expected labels of samples of the batch, classes 0 to 3, got -1 to 2"),
}
OF_ANOTHER_FORM = {
    "mixed-indices": ((HALF, Y.float()), LABELS + r"\[4\] and type torch.float32; build the transform for as many"),
    "numbers": ((HALF, (Y.float(), OTHER.float(), 0.3)), LABELS + r"\[4\] and type torch.float32"),
    "few-indices": ((HALF, (Y[:3], OTHER[:3], 0.3)), LABELS + r"\[3\] and type torch.int64"),
    "columns": ((HALF, (Y[:, None], OTHER[:, None], 0.3)), LABELS + r"\[4, 1\] and type torch.int64"),
    "few-classes": ((HALF, ROWS[:, :3]), LABELS + r"\[4, 3\] and type torch.float64"),
    "few-rows": ((HALF, ROWS[:3]), LABELS + r"\[3, 6\] and type torch.float64"),
    "maps": ((HALF, ROWS[..., None]), LABELS + r"\[4, 6, 1\] and type torch.float64"),
}


@pytest.mark.parametrize("case", [*REFUSED, *OF_ANOTHER_FORM])
def test_results_that_cannot_be_read_are_refused(case):
    out, message = {**REFUSED, **OF_ANOTHER_FORM}[case]
    with naive.as_users_run_it(), pytest.raises(ValueError, match=message) as caught:
        call(lambda x, y: out, X, Y, B)
    assert isinstance(caught.value, LabelForm) == (case in OF_ANOTHER_FORM)


def test_a_partner_from_outside_the_batch_was_an_error_of_torch():
    """One label beyond the batch among the partners' only made rows of two lengths, which do not add up."""
    other = OTHER.clone()
    other[0] = 9
    with pytest.raises(ValueError, match="expected labels of samples of the batch, classes 0 to 3, got 0 to 9; let"):
        call(lambda x, y: (HALF, (Y, other, 0.5)), X, Y, B)


def test_a_transform_that_fails_is_named_with_its_batch():
    def transform(x, y):
        raise KeyError("nothing here")

    message = (
        r"failed on a probe batch, images \[4, 3, 3, 5\] and labels \[4\]: KeyError: 'nothing here'; .* least 4 cl"
    )
    with pytest.raises(LabelForm, match=message):
        call(transform, X, Y, B)
