"""The map of gradient products against loops, its normalisations and errors, symmetries, and the paired comparison."""

from __future__ import annotations

import distance_reference as slow
import naive
import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

import msda_theory as mt
from msda_theory.gradient_products import GradientProducts, gradient_products, share_difference
from msda_theory.moments.displacements import distances, pair_counts

CASES = {"2x3-3ch": (3, (2, 3), 3), "3x3-1ch": (1, (3, 3), 2), "3x2-2ch-1out": (2, (3, 2), 1)}


def problem(case: str, m: int = 4) -> tuple[nn.Module, mt.ImageData, bool]:
    channels, shape, outputs = CASES[case]
    x, y = naive.images(m, channels, shape, 2, seed=5)
    return naive.network(channels, shape, outputs, seed=6), mt.ImageData(x, y, 2), outputs > 1


def synthetic(seed: int, m: int = 5, shape: tuple[int, int] = (3, 4)) -> GradientProducts:
    rng = np.random.default_rng(seed)
    half = rng.gamma(2.0, size=(m, 2 * shape[0] - 1, 2 * shape[1] - 1))
    return GradientProducts(half + half[:, ::-1, ::-1], True)


@pytest.mark.parametrize("case", CASES)
def test_the_map_is_that_of_loops(case):
    model, data, several = problem(case)
    for centred in (True, False) if several else (False,):
        found = gradient_products(model, data, centred=centred, batch_size=3)
        expected = slow.products(model, data.x, centred)
        np.testing.assert_allclose(found.per_image, expected, rtol=1e-11)
        np.testing.assert_allclose(found.map, expected.mean(axis=0), rtol=1e-11)
        np.testing.assert_allclose(found.se, expected.std(axis=0, ddof=1) / 2, rtol=1e-9)
        assert (found.n, found.shape, found.centred) == (4, data.shape, centred)


@pytest.mark.parametrize("case", CASES)
def test_the_middle_is_the_square_of_the_jacobian_and_the_sum_all_products(case):
    model, data, _ = problem(case)
    g = gradient_products(model, data, centred=False)
    h, w = data.shape
    rows = [slow.rows(model, x) for x in data.x]
    assert g.map[h - 1, w - 1] == pytest.approx(np.mean([(r**2).sum() for r in rows]), rel=1e-12)
    flat = [r.reshape(-1, h * w) for r in rows]
    assert g.map.sum() == pytest.approx(np.mean([np.abs(r.T @ r).sum() for r in flat]), rel=1e-12)
    np.testing.assert_allclose(g.map, g.map[::-1, ::-1], rtol=1e-12)


def test_a_linear_model_has_the_same_map_at_every_image():
    x, y = naive.images(3, 1, (3, 4), 2, seed=1)
    model = naive.linear(1, (3, 4), 1)
    found = gradient_products(model, mt.ImageData(x, y, 2), centred=False)
    size = np.abs(model[1].weight.detach().numpy().reshape(3, 4))
    expected = np.zeros((5, 7))
    for py in range(-2, 3):
        for px in range(-3, 4):
            for a in range(3):
                for b in range(4):
                    if 0 <= a + py < 3 and 0 <= b + px < 4:
                        expected[py + 2, px + 3] += size[a, b] * size[a + py, b + px]
    for image in found.per_image:
        np.testing.assert_allclose(image, expected, rtol=1e-12)
    assert found.se.max() < 1e-14
    assert found.short_share(1.0).se < 1e-15


def test_a_constant_added_to_the_logits_is_not_seen_when_centred():
    model, data, _ = problem("2x3-3ch")

    class Shifted(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return model(x) + (x**2).sum(dim=(1, 2, 3))[:, None]

    found, shifted = (
        [gradient_products(net, data, centred=c).map for c in (True, False)] for net in (model, Shifted().eval())
    )
    np.testing.assert_allclose(shifted[0], found[0], rtol=1e-10)
    assert np.abs(shifted[1] / found[1] - 1).min() > 0.1


def test_rotated_logits_and_colours_change_nothing():
    model, data, _ = problem("2x3-3ch")
    rng = np.random.default_rng(0)
    logits, colours = (torch.from_numpy(np.linalg.qr(rng.normal(size=(3, 3)))[0]) for _ in range(2))

    class Rotated(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return model(torch.einsum("ab,nbhw->nahw", colours, x)) @ logits

    turned = mt.ImageData(torch.einsum("ba,nbhw->nahw", colours, data.x), data.y, 2)
    found = gradient_products(Rotated().eval(), turned, centred=False).map
    np.testing.assert_allclose(found, gradient_products(model, data, centred=False).map, rtol=1e-11)


@pytest.mark.parametrize("axis", [0, 1])
def test_flipping_images_and_model_flips_the_map(axis):
    model, data, _ = problem("2x3-3ch")

    class Flipped(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return model(x.flip(axis + 2))

    found = gradient_products(model, data).map
    turned = gradient_products(Flipped().eval(), mt.ImageData(data.x.flip(axis + 2), data.y, 2)).map
    np.testing.assert_allclose(turned, np.flip(found, axis), rtol=1e-11)
    assert np.abs(turned / found - 1).max() > 1e-3


def test_units_of_the_images_cancel():
    """Images in other units, with the model to match: g has the square of the units, its normalisations have none."""
    model, data, _ = problem("3x3-1ch")

    class Rescaled(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return model((x - 0.3) / 0.2)

    a = gradient_products(model, data)
    b = gradient_products(Rescaled().eval(), mt.ImageData(data.x * 0.2 + 0.3, data.y, 2))
    np.testing.assert_allclose(b.map, a.map / 0.04, rtol=1e-10)
    for by in ("total", "zero", "pairs"):
        np.testing.assert_allclose(b.normalised(by).value, a.normalised(by).value, rtol=1e-10)


def test_normalisations_have_their_constants():
    g = synthetic(1)
    counts, zero = pair_counts((3, 4)), g.map[2, 3]
    total, relative, pairs = (g.normalised(by) for by in ("total", "zero", "pairs"))
    np.testing.assert_allclose(total.value, g.map / g.map.sum(), rtol=1e-13)
    np.testing.assert_allclose(relative.value, g.map / zero, rtol=1e-13)
    np.testing.assert_allclose(pairs.value, (g.map / counts) / (zero / 12), rtol=1e-13)
    assert total.value.sum() == pytest.approx(1)
    assert total.curve.value.sum() == pytest.approx(1)
    assert relative.value[2, 3] == pairs.value[2, 3] == 1.0
    assert relative.se[2, 3] == 0.0
    # By distance: sums, or means over all pairs at that distance
    sums = slow.by_distance(g.map)
    number = slow.by_distance(counts)
    np.testing.assert_allclose(g.by_distance().value, list(sums.values()), rtol=1e-13)
    np.testing.assert_allclose(g.by_distance("zero").value, np.array(list(sums.values())) / zero, rtol=1e-13)
    expected = [sums[r] / number[r] / (zero / 12) for r in sums]
    np.testing.assert_allclose(g.by_distance("pairs").value, expected, rtol=1e-13)
    for by in (None, "total", "zero", "pairs"):
        np.testing.assert_array_equal(g.by_distance(by).pairs, list(number.values()))
        np.testing.assert_array_equal(g.by_distance(by).distance, distances((3, 4)))


def test_equal_products_share_as_the_pairs_do():
    counts = pair_counts((4, 5))
    g = GradientProducts(np.stack([counts, 3 * counts]), False)
    np.testing.assert_allclose(g.normalised("pairs").value, 1, rtol=1e-14)
    lines = g.by_distance()
    for radius in (0.0, 1.0, 1.5, 2.0, 2**0.5, 5**0.5, 100.0):
        share = lines.pairs[lines.distance <= radius + 1e-9].sum() / 400
        assert g.short_share(radius).mean == pytest.approx(share, rel=1e-14)
        assert g.short_share(radius).se == pytest.approx(0, abs=1e-15)
    assert g.short_share(0.0).mean == pytest.approx(20 / 400)
    assert g.short_share(2**0.5).mean > g.short_share(1.4).mean


def test_errors_are_those_of_the_jackknife():
    """The delta method and leaving out one image agree to the order of 1/m."""
    g = synthetic(3, m=400)
    counts = pair_counts((3, 4))

    def statistics(x: np.ndarray) -> np.ndarray:
        mean = x.mean(axis=0)
        near = np.hypot(*np.meshgrid(np.arange(-2, 3), np.arange(-3, 4), indexing="ij")) <= 1.5
        return np.concatenate([(mean / mean.sum()).ravel(), (mean / counts * 12 / mean[2, 3]).ravel(),
                               [mean[near].sum() / mean.sum()]])  # fmt: skip

    left = np.stack([statistics(np.delete(g.per_image, i, axis=0)) for i in range(400)])
    jackknife = np.sqrt(((left - left.mean(axis=0)) ** 2).sum(axis=0) * 399 / 400)
    found = [g.normalised("total").se.ravel(), g.normalised("pairs").se.ravel(), [g.short_share(1.5).se]]
    np.testing.assert_allclose(np.concatenate(found), jackknife, rtol=0.01, atol=1e-12)
    curve = np.array([list(slow.by_distance(v).values()) for v in g.per_image])
    np.testing.assert_allclose(g.by_distance().se, curve.std(axis=0, ddof=1) / 20, rtol=1e-10)


def test_differences_are_paired():
    seeds = range(4)
    first, second = [synthetic(s) for s in seeds], [synthetic(100 + s) for s in seeds]
    found = share_difference(first, second, 1.5)
    values = [a.short_share(1.5).mean - b.short_share(1.5).mean for a, b in zip(first, second, strict=True)]
    assert found.values == pytest.approx(values)
    expected = stats.ttest_rel(
        [a.short_share(1.5).mean for a in first], [b.short_share(1.5).mean for b in second]
    ).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.mean == pytest.approx(np.mean(values))
    assert found.se == pytest.approx(stats.sem(values))
    wide = share_difference(first, second, 1.5, level=0.99)
    assert wide.low < found.low < found.high < wide.high
    other = share_difference(second, first, 1.5)
    assert (other.low, other.high) == pytest.approx((-found.high, -found.low))


def test_a_wrong_use_is_refused():
    model, data, _ = problem("3x2-2ch-1out")
    with pytest.raises(ValueError, match="centred logits need 2 outputs or more"):
        gradient_products(model, data)
    with pytest.raises(ValueError, match="a standard error over images needs 2 images"):
        gradient_products(model, data[:1], centred=False)
    with pytest.raises(ValueError, match="expected finite input gradients"):
        GradientProducts(np.full((2, 3, 3), np.nan), True)
    with pytest.raises(ValueError, match="in train mode"):
        gradient_products(nn.Sequential(nn.BatchNorm2d(2), model).double().train(), data)
    g = synthetic(1)
    with naive.as_users_run_it(), pytest.raises(ValueError, match="expected a normalisation by one of"):
        g.normalised("area")
    with pytest.raises(ValueError, match="expected a radius >= 0 in pixels"):
        g.short_share(-1.0)
    with pytest.raises(ValueError, match="the input gradient is 0 on all images"):
        GradientProducts(np.zeros((2, 3, 3)), True).short_share(1.0)
    for first, second in (([g], [g]), ([g, g], [g])):
        with pytest.raises(ValueError, match="a paired difference over seeds needs two equally long lists"):
            share_difference(first, second, 1.0)
    with pytest.raises(ValueError, match="expected maps of one image size, number of images and centring"):
        share_difference([g, g], [g, synthetic(1, m=6)], 1.0)
