"""Corruptions and accuracy under them: exact definitions, laws of the random ones, pairing across models."""

from __future__ import annotations

import math
from itertools import pairwise, permutations

import naive
import numpy as np
import pytest
import torch
from mc_checks import assert_share, assert_unbiased, fails
from naive import as_users_run_it
from scipy import ndimage
from sklearn.datasets import load_digits
from torch import nn

from msda_theory.corruptions import (
    CommonCorruption,
    Corruption,
    Occlusion,
    PatchShuffle,
    common_corruptions,
    corrupt,
    corrupt_with,
)
from msda_theory.data import ImageData
from msda_theory.proportions import Proportion
from msda_theory.stress import stress

COMMON = common_corruptions()
KINDS = sorted({c.kind for c in COMMON})
ALL = [*COMMON, Occlusion(0.25), Occlusion(0.5, "zero", "pixels"), PatchShuffle(2), PatchShuffle(4)]
EVERY = pytest.mark.parametrize("corruption", ALL, ids=lambda c: f"{c.kind}-{c.level:g}")
KIND = pytest.mark.parametrize("kind", KINDS)


def rng(seed=0):
    return np.random.default_rng(seed)


def pictures(m=6, channels=3, shape=(8, 8), seed=0, dtype=torch.float64):
    """Smooth random images in [0, 1] with some detail."""
    source = rng(seed)
    smooth = ndimage.gaussian_filter(source.random((m, channels, *shape)), (0, 0, shape[0] / 8, shape[1] / 8))
    smooth = (smooth - smooth.min()) / np.ptp(smooth)
    return torch.tensor(0.7 * smooth + 0.3 * source.random((m, channels, *shape)), dtype=dtype)


# --- every corruption -----------------------------------------------------------------------------------------------


@EVERY
@pytest.mark.parametrize(
    ("channels", "shape", "dtype"),
    [(1, (8, 8), torch.float64), (3, (32, 32), torch.float32), (3, (12, 20), torch.float32)],
)
def test_results_are_images(corruption, channels, shape, dtype):
    x = pictures(3, channels, shape, dtype=dtype)
    before = x.clone()
    got = corrupt(x, corruption, rng=rng())
    assert (got.shape, got.dtype) == (x.shape, dtype)
    assert 0 <= float(got.min()) <= float(got.max()) <= 1
    assert not torch.equal(got, x)
    assert torch.equal(x, before)
    assert torch.equal(got, corrupt(x, corruption, rng=rng()))


@EVERY
def test_each_image_has_its_own_stream(corruption):
    """A subset that keeps the indices, another batch, other images around it: the same corrupted image."""
    x, mean = pictures(6), torch.full((3, 8, 8), 0.5, dtype=torch.float64)
    whole = corrupt_with(x, corruption, 7, mean)
    assert torch.equal(corrupt_with(x[:2], corruption, 7, mean), whole[:2])
    other = torch.cat([x[:3], 1 - x[3:]])
    assert torch.equal(corrupt_with(other, corruption, 7, mean)[:3], whole[:3])


@KIND
@pytest.mark.parametrize("size", [8, 32, 96])
def test_severities_do_more_and_more(kind, size):
    """Mean square change, which depends on the severity alone as noise is shared; 8x8, 32x32 and larger."""
    x = pictures(4, 3, (size, size), seed=2)
    changes = [float((corrupt_with(x, CommonCorruption(kind, s), 1) - x).square().mean()) for s in range(1, 6)]
    assert all(b > a for a, b in pairwise(changes)), changes
    assert changes[0] > 1e-6


@KIND
def test_severities_do_more_and_more_to_digits(kind):
    x = torch.tensor(load_digits().images[:50, None] / 16)
    changes = [float((corrupt_with(x, CommonCorruption(kind, s), 1) - x).square().mean()) for s in range(1, 6)]
    assert all(b > a for a, b in pairwise(changes)), changes


def test_large_images():
    x = pictures(1, 3, (224, 224))
    for kind in KINDS:
        got = corrupt(x, CommonCorruption(kind, 5), rng=rng())
        assert float((got - x).square().mean()) > 1e-4


@KIND
def test_grey_stays_grey_without_noise(kind):
    x = torch.full((2, 1, 8, 8), 0.5, dtype=torch.float64)
    got = corrupt(x, CommonCorruption(kind, 4), rng=rng())
    change = {"brightness": 0.2, "jpeg": 0.5 / 255}.get(kind, 0.0)
    if "noise" in kind:
        assert float(got.std()) > 0.01
    else:
        assert float((got - 0.5).abs().max()) == pytest.approx(change, abs=1e-12)


# --- definitions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("severity", [1, 5])
def test_gaussian_noise(severity):
    k = (0.04, 0.06, 0.08, 0.09, 0.10)[severity - 1]
    x = torch.full((40, 3, 8, 8), 0.5, dtype=torch.float64)  # five deviations from the ends
    z = ((corrupt_with(x, CommonCorruption("gaussian_noise", severity), 3) - x) / k).flatten().numpy()
    assert_unbiased(np.stack([z, z**2], axis=1), np.array([0.0, 1.0]), alpha=1e-6)
    assert fails(lambda: assert_unbiased(np.stack([z, (1.1 * z) ** 2], axis=1), np.array([0.0, 1.0]), alpha=1e-6))


@pytest.mark.parametrize("severity", [1, 5])
def test_shot_noise(severity):
    k = (500, 250, 100, 75, 50)[severity - 1]
    x = torch.full((40, 3, 8, 8), 0.4, dtype=torch.float64)
    z = (corrupt_with(x, CommonCorruption("shot_noise", severity), 3) - x).flatten().numpy()
    assert_unbiased(np.stack([z, z**2], axis=1), np.array([0.0, 0.4 / k]), alpha=1e-6)
    assert fails(lambda: assert_unbiased(np.stack([z, 1.2 * z**2], axis=1), np.array([0.0, 0.4 / k]), alpha=1e-6))


def test_blur_equals_explicit_sums():
    x = pictures(1, 2, (40, 36), seed=4)
    sigma = 0.8 * 36 / 32
    got = corrupt(x, CommonCorruption("gaussian_blur", 4), rng=rng())[0].numpy()
    reach = int(4 * sigma + 0.5)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    weights /= weights.sum()
    padded = np.pad(x[0].numpy(), ((0, 0), (reach, reach), (reach, reach)), mode="symmetric")
    for c, i, j in ((0, 0, 0), (1, 39, 35), (0, 20, 3)):
        window = padded[c, i : i + 2 * reach + 1, j : j + 2 * reach + 1]
        assert got[c, i, j] == pytest.approx(weights @ window @ weights, rel=1e-10)


@pytest.mark.parametrize(("size", "pixels"), [(8, 0.7), (32, 0.7), (64, 1.4), (224, 4.9)])
def test_the_width_of_the_blur_grows_from_32_pixels_on(size, pixels):
    """A bright line becomes a Gaussian: its peak is that of the discrete kernel."""
    x = torch.zeros(1, 1, size, size, dtype=torch.float64)
    x[..., size // 2, :] = 1.0
    got = corrupt(x, CommonCorruption("gaussian_blur", 3), rng=rng())
    reach = np.arange(-int(4 * pixels + 0.5), int(4 * pixels + 0.5) + 1)
    want = 1 / np.exp(-0.5 * (reach / pixels) ** 2).sum()
    assert float(got[0, 0, size // 2, 0]) == pytest.approx(want, rel=1e-9)


def test_contrast_and_brightness_entry_by_entry():
    x = pictures(2)
    got = corrupt(x, CommonCorruption("contrast", 2), rng=rng())
    bright = corrupt(x, CommonCorruption("brightness", 3), rng=rng())
    for i, c, j, k in ((0, 0, 0, 0), (1, 2, 7, 3)):
        mean = sum(float(v) for v in x[i, c].flatten()) / 64
        assert float(got[i, c, j, k]) == pytest.approx(mean + 0.5 * (float(x[i, c, j, k]) - mean), rel=1e-12)
        assert float(bright[i, c, j, k]) == pytest.approx(min(1.0, float(x[i, c, j, k]) + 0.15), rel=1e-12)


def test_pixelate_is_the_mean_of_cells():
    x = pictures(1, 1, (8, 8))
    got = corrupt(x, CommonCorruption("pixelate", 4), rng=rng())  # 4 x 4 cells of 2 x 2 pixels
    want = x.reshape(1, 1, 4, 2, 4, 2).mean(dim=(3, 5)).repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    torch.testing.assert_close(got, want)
    # 3 cells over 8 pixels: the first is pixels 0, 1 and two thirds of pixel 2, which belongs to two cells
    row = torch.zeros(1, 1, 8, 8, dtype=torch.float64)
    row[..., 2, :] = 1.0
    got = corrupt(row, CommonCorruption("pixelate", 5), rng=rng())[0, 0, :, 0]
    want = [0.25] * 2 + [2 / 3 * 0.25 + 1 / 3 * 0.125] + [0.125] * 2 + [1 / 3 * 0.125] + [0.0] * 2
    np.testing.assert_allclose(got.numpy(), want, atol=1e-12)


def test_jpeg_has_whole_levels():
    x = pictures(2, 3, (32, 32))
    steps = corrupt(x, CommonCorruption("jpeg", 1), rng=rng()) * 255
    torch.testing.assert_close(steps, steps.round())


# --- occlusion and patches ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", ["box", "pixels"])
@pytest.mark.parametrize(("share", "sides"), [(0.25, (3, 4)), (1.0, (6, 8)), (0.001, (1, 1)), (0.5, (4, 6))])
def test_occlusion_covers_what_it_says(shape, share, sides):
    x = torch.full((20, 2, 6, 8), 0.3, dtype=torch.float64)
    mean = torch.rand(2, 6, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    got = corrupt(x, Occlusion(share, "mean", shape), rng=rng(), mean=mean)
    hidden = got != 0.3
    assert torch.equal(hidden[:, 0], hidden[:, 1])
    count = sides[0] * sides[1] if shape == "box" else max(1, round(48 * share))
    assert hidden[:, 0].sum(dim=(1, 2)).tolist() == [count] * 20
    torch.testing.assert_close(got, torch.where(hidden, mean, x))
    zero = corrupt(x, Occlusion(share, "zero", shape), rng=rng())
    assert int((zero == 0).sum()) == 40 * count
    if shape == "box":
        for h in hidden[:, 0]:
            assert (int(h.any(dim=1).sum()), int(h.any(dim=0).sum())) == sides


def test_occlusion_by_the_mean_of_the_images_themselves():
    x = pictures(5)
    got = corrupt(x, Occlusion(1.0), rng=rng())
    torch.testing.assert_close(got, x.mean(dim=0).expand_as(x))


def test_places_of_the_box_are_uniform():
    """2,000 boxes of 2 x 2 on 4 x 4 at nine places, family-wise level 1e-6; places of a 3 x 3 box must fail."""
    rows = np.stack([Occlusion(0.25).mask((4, 4), rng(s)) for s in range(2000)])
    corner = rows.reshape(2000, 16).argmax(axis=1)
    places = [4 * r + c for r in range(3) for c in range(3)]
    for p in places:
        assert_share(int((corner == p).sum()), 2000, 1 / 9, alpha=1e-6 / 9)
    wrong = np.stack([Occlusion(0.5625).mask((4, 4), rng(s)) for s in range(2000)]).reshape(2000, 16).argmax(axis=1)
    assert fails(lambda: assert_share(int((wrong == 0).sum()), 2000, 1 / 9, alpha=1e-6 / 9))


def test_hidden_pixels_are_uniform_and_grow_with_the_share():
    rows = np.stack([Occlusion(0.25, shape="pixels").mask((3, 4), rng(s)) for s in range(2000)])
    for hits in rows.sum(axis=0).ravel():
        assert_share(int(hits), 2000, 3 / 12, alpha=1e-6 / 12)
    more = np.stack([Occlusion(0.5, shape="pixels").mask((3, 4), rng(s)) for s in range(2000)])
    assert (more | rows == more).all()


def test_patches_are_kept_and_every_order_is_equally_likely():
    """2,400 shuffles of 2 x 2 patches, 24 orders, family-wise level 1e-6; a fixed order must fail."""
    x = torch.arange(16, dtype=torch.float64).reshape(1, 1, 4, 4) / 15
    cells = [x[0, 0, r : r + 2, c : c + 2] for r in (0, 2) for c in (0, 2)]
    pictures_ = corrupt_with(x.expand(2400, -1, -1, -1), PatchShuffle(2), 11)
    counts = dict.fromkeys(permutations(range(4)), 0)
    for p in pictures_[:, 0]:
        parts = [p[r : r + 2, c : c + 2] for r in (0, 2) for c in (0, 2)]
        counts[tuple(next(k for k, cell in enumerate(cells) if torch.equal(cell, part)) for part in parts)] += 1
    for hits in counts.values():
        assert_share(hits, 2400, 1 / 24, alpha=1e-6 / 24)
    assert fails(lambda: assert_share(2400, 2400, 1 / 24, alpha=1e-6 / 24))


def test_patches_of_rectangles_keep_channels_together():
    x = pictures(4, 3, (6, 9))
    got = corrupt(x, PatchShuffle(3), rng=rng())
    for image, shuffled in zip(x, got, strict=True):
        before = {image[:, r : r + 2, c : c + 3].numpy().tobytes() for r in (0, 2, 4) for c in (0, 3, 6)}
        after = {shuffled[:, r : r + 2, c : c + 3].numpy().tobytes() for r in (0, 2, 4) for c in (0, 3, 6)}
        assert before == after
    assert not torch.equal(got, x)


# --- accuracy -------------------------------------------------------------------------------------------------------


def problem(m=40):
    x = pictures(m, 1, seed=5)
    data = ImageData(x, torch.from_numpy(rng(6).integers(0, 3, m)), 3)
    return data, {f"net{s}": naive.network(1, (8, 8), 3, seed=s) for s in range(2)}


class Darken(Corruption):
    """A user's own corruption."""

    kind = "darken"
    level = 0.5

    def image(self, x, mean, rng):
        return 0.5 * x


def test_rows_equal_naive_accuracies_on_the_same_images():
    data, models = problem()
    chosen = [CommonCorruption("gaussian_noise", 5), Occlusion(0.25), PatchShuffle(2), Darken()]
    report = stress(models, data, chosen, rng=rng(1), batch_size=7)
    seed = int(rng(1).integers(2**63))
    assert len(report.rows) == 2 * 5
    for name, model in models.items():
        for kind, level, x in [
            ("clean", 0.0, data.x),
            *((c.kind, c.level, corrupt_with(data.x, c, seed)) for c in chosen),
        ]:
            want = [int(model(image[None])[0].argmax()) == int(y) for image, y in zip(x, data.y, strict=True)]
            row = report.row(name, kind, level)
            assert row.correct.tolist() == want
            assert row.accuracy == Proportion(sum(want), 40)


def test_tables_and_paired_differences():
    data, models = problem()
    report = stress(models, data, [CommonCorruption("contrast", 5), Occlusion(0.25)], rng=rng(1))
    frame = report.frame(0.9)
    assert list(frame.columns) == ["model", "corruption", "level", "accuracy", "low", "high", "n"]
    row = frame.iloc[3]
    assert (row.model, row.corruption, row.level, row.n) == ("net1", "contrast", 5.0, 40)
    assert (row.low, row.high) == Proportion(round(row.accuracy * 40), 40).interval(0.9)
    table = report.differences("net0", "net1")
    assert table.corruption.tolist() == ["clean", "contrast", "occlusion box mean"]
    for line in table.itertuples():
        a = report.row("net0", line.corruption, line.level).correct.astype(int)
        b = report.row("net1", line.corruption, line.level).correct.astype(int)
        assert line.mean == pytest.approx((a - b).mean())
        assert line.se == pytest.approx((a - b).std(ddof=1) / math.sqrt(40))
    same = stress({"a": models["net0"], "b": models["net0"]}, data, ALL[:3], rng=rng(1))
    assert (same.differences("a", "b")["mean"] == 0).all()


def test_hiding_the_only_pixel_that_counts():
    """A model that reads one pixel fails exactly where it is hidden."""

    class Corner(nn.Module):
        def forward(self, x):
            return torch.stack([0.5 - x[:, 0, 0, 0], x[:, 0, 0, 0] - 0.5], dim=1)

    x = torch.ones(50, 1, 4, 4, dtype=torch.float64)
    data = ImageData(x, torch.ones(50, dtype=torch.int64), 2)
    occlusion = Occlusion(0.25, "zero")
    report = stress({"corner": Corner().eval()}, data, [occlusion], rng=rng(2))
    assert report.row("corner").accuracy.mean == 1
    hidden = corrupt_with(x, occlusion, int(rng(2).integers(2**63)))[:, 0, 0, 0] == 0
    assert 0 < int(hidden.sum()) < 50
    assert report.row("corner", occlusion.kind, 0.25).correct.tolist() == (~hidden).tolist()


def test_statistics_of_normalisation_layers_stay():
    data, _ = problem()
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 3)).double().eval()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    stress({"net": net}, data, ALL[:2], rng=rng())
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    with as_users_run_it(), pytest.raises(ValueError, match="expected a model in eval mode"):
        stress({"net": net.train()}, data, ALL[:2], rng=rng())


# --- errors ---------------------------------------------------------------------------------------------------------


def test_errors_of_corruptions():
    with as_users_run_it():
        with pytest.raises(ValueError, match=r"expected a share of pixels in \(0, 1\], got 0"):
            Occlusion(0.0)
        with pytest.raises(ValueError, match="expected fill 'mean' or 'zero' and shape 'box' or 'pixels', got 'grey'"):
            Occlusion(0.5, fill="grey")
        with pytest.raises(ValueError, match="expected a grid of at least 2 x 2 patches, got 1"):
            PatchShuffle(1)
        with pytest.raises(ValueError, match="expected a grid that divides 8x8 pixels, got 3"):
            corrupt(pictures(), PatchShuffle(3), rng=rng())
        with pytest.raises(ValueError, match=r"expected a corruption among \['gaussian_noise'.*got 'fog'"):
            CommonCorruption("fog", 1)
        for severity in (0, 6, 2.5):
            with pytest.raises(ValueError, match="expected a severity from 1 to 5, got"):
                CommonCorruption("contrast", severity)
        with pytest.raises(ValueError, match="JPEG has one or three channels, got 2"):
            corrupt(pictures(channels=2), CommonCorruption("jpeg", 1), rng=rng())
        with pytest.raises(TypeError, match=r"expected a corruption such as Occlusion\(0\.25\), got 'contrast'"):
            corrupt(pictures(), "contrast", rng=rng())
        with pytest.raises(TypeError, match=r"expected rng to be a numpy\.random\.Generator, got int"):
            corrupt(pictures(), ALL[0], rng=0)
        with pytest.raises(ValueError, match=r"expected a mean image \[3, 8, 8\] as the images, got \[8, 8\]"):
            corrupt(pictures(), Occlusion(0.5), rng=rng(), mean=torch.zeros(8, 8))
        with pytest.raises(ValueError, match=r"corruptions take images \[m, C, H, W\], got shape \(3, 8, 8\)"):
            corrupt(pictures()[0], ALL[0], rng=rng())
        with pytest.raises(ValueError, match=r"corruptions are defined on pixels in \[0, 1\], got -0\.\d+ \.\. "):
            corrupt(pictures() - 0.5, ALL[0], rng=rng())


def test_errors_of_stress():
    data, models = problem(5)
    report = stress(models, data, [], rng=rng())
    with as_users_run_it():
        with pytest.raises(ValueError, match="expected at least one model to stress, got none"):
            stress({}, data, ALL, rng=rng())
        with pytest.raises(ValueError, match="expected corruptions that differ in kind or level"):
            stress(models, data, [Occlusion(0.25), Occlusion(0.25)], rng=rng())
        with pytest.raises(ValueError, match="put the normalisation inside the model"):
            stress(models, ImageData(2 * data.x, data.y, 3), ALL, rng=rng())
        with pytest.raises(KeyError, match="no row for model 'net9', corruption 'clean'"):
            report.row("net9")
        with pytest.raises(KeyError, match="no rows for model 'net9'; the models are"):
            report.differences("net9", "net0")
