"""The order of the remainder: 3 for correct terms, 2 or 1 for wrong ones."""

from __future__ import annotations

import naive
import numpy as np
import pytest
import torch
from torch import nn

from msda_theory.data import ImageData
from msda_theory.losses import Logistic, SoftmaxCrossEntropy, Squared
from msda_theory.masks.choice import Choice
from msda_theory.masks.cutmix import CutMix
from msda_theory.masks.gmix import GMix
from msda_theory.masks.hmix import HMix
from msda_theory.masks.mixup import Mixup
from msda_theory.masks.vanilla import Vanilla
from msda_theory.moments.moments import Moments
from msda_theory.moments.operators import Dense
from msda_theory.verify import remainder_order

LAWS = ("exact", "paper")
SCALES = (1 / 64, 1 / 128, 1 / 256, 1 / 512, 1 / 1024)
STRATEGIES = {
    "mixup": Mixup(alpha=0.7),
    "cutmix": CutMix(),
    "cutmix-nominal-inside": CutMix(box="inside", label="nominal"),
    "hmix": HMix(),
    "hmix-r1-periodic": HMix(ratio=1.0, box="periodic"),
    "gmix": GMix(),
    "choice": Choice(),
}
SHAPE = (3, 4)


def problem(activation: type[nn.Module] = nn.Tanh, m: int = 4, channels: int = 1):
    """A network that is right about its images: then R2 and R3 are large against the third order (.12 to .02 here)."""
    x, _ = naive.images(m, channels, SHAPE, 3, seed=9)
    model = naive.network(channels, SHAPE, 3, activation=activation, hidden=12, gain=2.0)
    with torch.no_grad():
        y = model(x).argmax(dim=1)
    return model, ImageData(x, y, 3)


def wrong(strategy, law: str, *, mean: float = 1.0, second: float = 1.0) -> Moments:
    """Moments times a factor, past the validation that would refuse them."""
    right = strategy.moments(SHAPE, law=law)
    made = object.__new__(Moments)
    object.__setattr__(made, "mean", mean * right.mean)
    object.__setattr__(made, "second", Dense(second * right.second.dense(), SHAPE))
    object.__setattr__(made, "law", law)
    object.__setattr__(made, "provenance", right.provenance)
    return made


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("law", LAWS)
def test_correct_terms_leave_a_third_order_remainder(name, law):
    model, data = problem()
    order = remainder_order(model, data, STRATEGIES[name], law=law, scales=SCALES)
    assert order.slope > 2.7
    assert order.scales == SCALES
    assert (order.method, order.strategy, order.law) == ("enumerated", STRATEGIES[name].name, law)
    assert all(r.se == 0 for r in order.remainder)
    assert order.fitted == (True,) * len(SCALES)


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("law", LAWS)
def test_a_second_moment_one_percent_off_shows_as_slope_two(name, law):
    model, data = problem()
    moments = wrong(STRATEGIES[name], law, second=1.01)
    order = remainder_order(model, data, STRATEGIES[name], law=law, scales=SCALES, moments=moments)
    assert order.slope < 2.5


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("law", LAWS)
def test_a_first_moment_one_percent_off_shows_as_slope_one(name, law):
    model, data = problem()
    moments = wrong(STRATEGIES[name], law, mean=1.01)
    order = remainder_order(model, data, STRATEGIES[name], law=law, scales=SCALES, moments=moments)
    assert order.slope < 1.5


@pytest.mark.parametrize("name", ["cutmix", "hmix"])
def test_moments_of_the_other_law_are_detected(name):
    model, data = problem()
    moments = STRATEGIES[name].moments(SHAPE, law="paper")
    order = remainder_order(model, data, STRATEGIES[name], law="exact", scales=SCALES, moments=moments)
    assert order.slope < 2.5


def test_for_mixup_the_laws_are_one():
    model, data = problem()
    moments = Mixup().moments(SHAPE, law="paper")
    assert remainder_order(model, data, Mixup(), law="exact", scales=SCALES, moments=moments).slope > 2.7


@pytest.mark.parametrize("loss", [SoftmaxCrossEntropy(), Squared()], ids=["softmax", "squared"])
@pytest.mark.parametrize("activation", [nn.Softplus, nn.GELU], ids=["softplus", "gelu"])
def test_other_losses_and_networks(loss, activation):
    model, data = problem(activation, channels=2)
    assert remainder_order(model, data, CutMix(), loss=loss, scales=SCALES).slope > 2.7


def test_logistic_loss():
    x, y = naive.images(4, 1, SHAPE, 2, seed=9)
    model = naive.network(1, SHAPE, 1, gain=1.0)
    assert remainder_order(model, ImageData(x, y, 2), CutMix(), loss=Logistic(), scales=SCALES).slope > 2.7


def test_a_linear_model_under_softmax():
    """The Hessian of f is 0; the remainder comes from h alone, and is still of third order."""
    _, data = problem()
    assert remainder_order(naive.linear(1, SHAPE, 3), data, CutMix(), scales=SCALES).slope > 2.7


def test_a_relu_network_has_kinks():
    """Kinks crossed with probability O(t) leave a second-order remainder; many images make it visible."""
    x, y = naive.images(16, 1, SHAPE, 3, seed=9)
    model = naive.network(1, SHAPE, 3, activation=nn.ReLU, hidden=64, gain=2.5)
    order = remainder_order(model, ImageData(x, y, 3), Mixup(), scales=(1 / 2, 1 / 4, 1 / 8, 1 / 16))
    assert 1.5 < order.slope < 2.5


def test_scales_are_sorted_and_distinct():
    model, data = problem()
    order = remainder_order(model, data, CutMix(), scales=(1 / 64, 1 / 16, 1 / 64, 1 / 32))
    assert order.scales == (1 / 16, 1 / 32, 1 / 64)
    sizes = [abs(r.mean) for r in order.remainder]
    assert sizes == sorted(sizes, reverse=True)


def test_the_remainder_is_the_difference_of_naive_sums():
    model, data = problem()
    masks, share, _, weights = naive.cutmix_atoms(SHAPE, 1.0)
    law, y = naive.one_sided(masks, share, weights), naive.one_hot(data.y, 3)
    base, r1, r2, r3 = naive.terms(model, naive.softmax_loss, data.x, y, law, "data")
    order = remainder_order(model, data, CutMix(), scales=(0.5, 1.0))
    for t, remainder in zip(order.scales, order.remainder, strict=True):
        loss = naive.mix_one_sided(model, naive.softmax_loss, data.x, y, law, t)
        assert remainder.mean == pytest.approx(loss - base - t * r1 - t**2 * (r2 + r3), rel=0, abs=1e-12)


# --- paired ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mixup", "cutmix", "gmix"])
@pytest.mark.parametrize("law", LAWS)
def test_the_paired_method_has_slope_three(name, law):
    model, data = problem(m=5)
    order = remainder_order(
        model, data, STRATEGIES[name], law=law, method="paired", scales=SCALES, draws=32, rng=np.random.default_rng(3)
    )
    assert order.slope > 2.7
    assert order.method == "paired"
    assert all(r.se > 0 and r.n == 160 for r in order.remainder)


def test_the_paired_method_runs_on_images_of_any_size():
    """No matrix of pixel pairs is formed, and no law enumerated."""
    rng = np.random.default_rng(0)
    x, y = torch.from_numpy(rng.normal(size=(3, 3, 32, 32))), torch.tensor([0, 1, 2])
    model = naive.randomize(
        nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4), nn.GELU(), nn.Flatten(), nn.Linear(900, 3)), 0
    )
    order = remainder_order(
        model, ImageData(x, y, 3), CutMix(), method="paired", scales=SCALES, draws=4, rng=np.random.default_rng(3)
    )
    assert order.slope > 2.7


def test_the_paired_method_agrees_with_enumeration():
    model, data = problem()
    scales = (1 / 2, 1 / 4)
    exact = remainder_order(model, data, CutMix(), scales=scales)
    paired = remainder_order(
        model, data, CutMix(), scales=scales, method="paired", draws=2000, rng=np.random.default_rng(5)
    )
    for one, truth in zip(paired.remainder, exact.remainder, strict=True):
        naive.assert_estimates(one.mean, one.se, truth.mean)
    # Evil twin: the other law.
    other = remainder_order(
        model, data, CutMix(), law="paper", scales=scales, method="paired", draws=2000, rng=np.random.default_rng(5)
    )
    with pytest.raises(AssertionError, match=r"\|z\|"):
        naive.assert_estimates(other.remainder[0].mean, other.remainder[0].se, exact.remainder[0].mean)


def test_paired_runs_with_equal_seeds_are_equal():
    model, data = problem()
    runs = [
        remainder_order(model, data, CutMix(), method="paired", draws=4, rng=np.random.default_rng(s))
        for s in (1, 1, 2)
    ]
    assert runs[0] == runs[1]
    assert runs[0].remainder != runs[2].remainder


# --- errors ---------------------------------------------------------------------------------------------------------


def test_float32_is_warned_about_and_fits_only_what_is_above_its_rounding():
    model, data = problem()
    model, data = model.float(), data.to(torch.float32)
    with pytest.warns(UserWarning, match=r"the order of a remainder needs float64, got images in torch.float32"):
        result = remainder_order(model, data, CutMix(), scales=(1.0, 1 / 2, 1 / 4, 1 / 256, 1 / 1024))
    assert not all(result.fitted)
    assert result.fitted[0]


@pytest.mark.parametrize(
    "scales", [(), (0.1,), (0.1, 0.1), (0.1, 0.0), (0.1, -0.1), (0.1, 1.5), (0.1, float("nan"))], ids=str
)
def test_scales_are_checked(scales):
    model, data = problem()
    with pytest.raises(ValueError, match=r"expected at least two different scales in \(0, 1\], got"):
        remainder_order(model, data, CutMix(), scales=scales)


def test_unknown_method_and_law_are_refused():
    model, data = problem()
    with pytest.raises(ValueError, match=r"expected method among \['enumerated', 'paired'\], got 'sampled'"):
        remainder_order(model, data, CutMix(), method="sampled")
    with pytest.raises(ValueError, match=r"expected law among \['exact', 'paper'\], got 'beta'"):
        remainder_order(model, data, CutMix(), law="beta")


def test_the_paired_method_needs_rng():
    model, data = problem()
    with pytest.raises(TypeError, match=r"method='paired' needs rng; pass rng=numpy.random.default_rng"):
        remainder_order(model, data, CutMix(), method="paired")


@pytest.mark.parametrize("method", ["enumerated", "paired"])
def test_a_remainder_of_zero_has_no_order(method):
    model, data = problem()
    with pytest.raises(ValueError, match="the remainder is at the level of rounding"):
        remainder_order(model, data, Vanilla(), method=method, rng=np.random.default_rng(0))
