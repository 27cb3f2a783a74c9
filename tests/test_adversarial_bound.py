"""Both sides of the adversarial inequality against naive loops, its proof's conditions, and the true inner maximum."""

from __future__ import annotations

from dataclasses import dataclass

import bound_reference
import naive
import numpy as np
import pytest
import torch
from linear_cases import EVERY_STRATEGY, IMAGES, LAW, STRATEGIES
from torch import nn

from msda_theory.adversarial_bound import adversarial_bounds, bounds_frame
from msda_theory.data import ImageData
from msda_theory.inner_maximum import inner_maximum, linear_inner_maximum
from msda_theory.losses import Logistic, SoftmaxCrossEntropy, Squared
from msda_theory.masks.base import Strategy
from msda_theory.masks.batches import MaskBatch
from msda_theory.masks.mixup import Mixup
from msda_theory.masks.vanilla import Vanilla

CASE = "6x3x4-2ch"
COLUMNS = ("loss", "r1", "r2", "eps", "adversarial")
ENUMERATED = ["cutmix", "cutmix-nominal-a0.6", "mixup", "hmix"]


def relu_net(outputs: int, *, bias: bool = False, hidden: int = 8, inputs: int = 24, seed: int = 0) -> nn.Module:
    layers = (nn.Linear(inputs, hidden, bias=bias), nn.ReLU(), nn.Linear(hidden, outputs, bias=bias))
    return naive.randomize(nn.Sequential(nn.Flatten(), *layers), seed, 2.0)


def problem(kind: str) -> tuple[nn.Module, ImageData, object, naive.SampleLoss]:
    """Model, data of mean far from 0, loss and the naive loss."""
    classes = 3 if kind == "softmax-relu" else 2
    m, channels, shape = IMAGES[CASE]
    data = ImageData(*naive.images(m, channels, shape, classes, seed=6), classes)
    if kind == "linear":
        return naive.linear(channels, shape, 1, seed=3), data, Logistic(), naive.logistic_loss
    if kind == "relu":
        return relu_net(1), data, Logistic(), naive.logistic_loss
    return relu_net(3), data, SoftmaxCrossEntropy(), naive.softmax_loss


EVERY_MODEL = pytest.mark.parametrize("kind", ["linear", "relu", "softmax-relu"])


def targets(data: ImageData, kind: str) -> torch.Tensor:
    return data.y.double()[:, None] if kind != "softmax-relu" else naive.one_hot(data.y, 3)


@EVERY_MODEL
@LAW
@pytest.mark.parametrize("name", ENUMERATED)
def test_both_sides_are_those_of_naive_loops(kind, law, name):
    model, data, loss, naive_loss = problem(kind)
    atoms, p = STRATEGIES[name].atoms(data.shape, order=8).partner(law)
    for centred in (True, False):
        (bound,) = adversarial_bounds(model, data, [STRATEGIES[name]], loss=loss, laws=(law,), centred=centred)
        expected = bound_reference.sides(
            model, naive_loss, data.x, targets(data, kind), list(zip(atoms, p, strict=True)), centred=centred
        )
        for column in COLUMNS:
            np.testing.assert_allclose(getattr(bound, column), getattr(expected, column), rtol=1e-10, atol=1e-11)
        assert bound.assumption.tolist() == expected.assumption
        assert bound.left == pytest.approx(np.mean(np.add(np.add(expected.loss, expected.r1), expected.r2)), rel=1e-10)
        assert bound.right == pytest.approx(np.mean(expected.adversarial), rel=1e-10)


@EVERY_MODEL
@LAW
@EVERY_STRATEGY
def test_images_that_satisfy_the_assumption_have_a_slack_of_two_parts(kind, law, strategy):
    """The proof, image by image; where the assumption fails nothing is promised."""
    model, data, loss, _ = problem(kind)
    (bound,) = adversarial_bounds(model, data, [strategy], loss=loss, laws=(law,), batch_size=3)
    assert bound.assumption.any()
    assert (bound.partner >= 0).all()
    assert (bound.mask >= -1e-14).all()
    slack = (bound.loss + bound.r1 + bound.r2 - bound.adversarial)[bound.assumption]
    np.testing.assert_allclose(slack, (bound.partner + bound.mask)[bound.assumption], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", ["linear", "relu"])
@LAW
@EVERY_STRATEGY
def test_it_holds_where_every_image_satisfies_the_assumption(kind, law, strategy):
    """Labels from the sign of z, which does not depend on them."""
    model, data, loss, _ = problem(kind)
    if kind == "linear":
        data = ImageData(data.x, 1 - data.y, 2)  # the others are right for all images by chance
    (before,) = adversarial_bounds(model, data, [strategy], loss=loss, laws=(law,))
    y = torch.where(torch.from_numpy(before.assumption), data.y, 1 - data.y)
    assert not before.assumption.all()
    (bound,) = adversarial_bounds(model, ImageData(data.x, y, 2), [strategy], loss=loss, laws=(law,))
    assert bound.share == 1
    assert bound.holds
    assert bound.gap == pytest.approx(float((bound.partner + bound.mask).mean()), rel=1e-10)
    assert 0 < bound.tightness < 1


def test_the_counter_example_of_the_page_violates_it():
    """Section 4: one pixel, both images on the wrong side."""
    theta, mixup = 0.5, Mixup()
    data = ImageData(torch.tensor([1.0, -1.0]).double().reshape(2, 1, 1, 1), torch.tensor([1, 0]), 2)
    model = nn.Sequential(nn.Flatten(), nn.Linear(1, 1)).double().eval()
    with torch.no_grad():
        model[1].weight.fill_(-theta)
        model[1].bias.zero_()
    moments = mixup.moments((1, 1))
    qbar, a = float(moments.mean[0, 0]), float(moments.second.dense()[0, 0])
    s = 1 / (1 + np.exp(theta))
    (bound,) = adversarial_bounds(model, data, [mixup], loss=Logistic(), laws=("exact",))
    assert bound.share == 0
    assert not bound.holds
    expected = -2 * qbar * theta * (1 - s) + 0.5 * s * (1 - s) * theta**2 * (2 * a - qbar**2)
    assert expected < -0.05
    assert bound.gap == pytest.approx(expected, rel=1e-12)
    with torch.no_grad():
        model[1].weight.fill_(theta)
    (right,) = adversarial_bounds(model, data, [mixup], loss=Logistic(), laws=("exact",))
    assert right.share == 1
    assert right.holds


def test_without_mixing_both_sides_are_the_loss():
    model, data, loss, _ = problem("relu")
    for bound in adversarial_bounds(model, data, [Vanilla()], loss=loss):
        assert bound.left == bound.right == bound.loss.mean()
        assert np.isnan(bound.tightness)
        assert bound.holds


@LAW
def test_the_mean_is_taken_out(law):
    """Shifted images and a bias that makes up for it change nothing; with mean 0 both readings of z agree."""
    model, data, loss, _ = problem("linear")
    shifted = ImageData(data.x - data.mean, data.y, 2)
    other = naive.linear(2, (3, 4), 1, seed=3)
    with torch.no_grad():
        other[1].bias += other[1].weight @ data.mean.flatten()
    strategy = STRATEGIES["cutmix"]
    (here,) = adversarial_bounds(model, data, [strategy], loss=loss, laws=(law,))
    (there,) = adversarial_bounds(other, shifted, [strategy], loss=loss, laws=(law,))
    (raw,) = adversarial_bounds(other, shifted, [strategy], loss=loss, laws=(law,), centred=False)
    (paper,) = adversarial_bounds(model, data, [strategy], loss=loss, laws=(law,), centred=False)
    for column in COLUMNS:
        np.testing.assert_allclose(getattr(here, column), getattr(there, column), rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(getattr(raw, column), getattr(there, column), rtol=1e-9, atol=1e-12)
    assert np.abs(paper.eps - here.eps).max() > 0.02 * here.eps.max()
    np.testing.assert_array_equal(paper.r1, here.r1)


def test_one_output_has_the_margin_as_its_certified_radius():
    model, data, loss, _ = problem("relu")
    pair = [adversarial_bounds(model, data, [Mixup()], loss=loss, radius=r)[0] for r in ("margin", "certified")]
    both = pair[0].assumption
    assert both.any()
    assert pair[1].assumption[both].all()
    np.testing.assert_allclose(pair[0].eps[both], pair[1].eps[both], rtol=1e-12)
    assert (pair[1].adversarial >= pair[1].loss - 1e-15).all()


def test_no_point_of_the_ball_exceeds_the_certified_right_side():
    model, data, _, naive_loss = problem("softmax-relu")
    (bound,) = adversarial_bounds(model, data, [Mixup()], laws=("exact",))
    rng = np.random.default_rng(0)
    for i in range(len(data)):
        y = naive.one_hot(data.y, 3)[i]
        value, residual, curvature, j = bound_reference._derivatives(model, naive_loss, data.x[i], y)
        directions = np.concatenate([rng.normal(size=(200, 24)), (j.T @ residual)[None], j])
        u = bound.eps[i] * directions / np.linalg.norm(directions, axis=1, keepdims=True)
        moved = u @ j.T
        values = value + moved @ residual + 0.5 * np.einsum("nk,kl,nl->n", moved, curvature, moved)
        assert values.max() <= bound.adversarial[i] + 1e-12


def test_an_image_of_no_gradient_has_radius_0():
    model, data, loss, _ = problem("relu")
    with torch.no_grad():
        model[1].weight.copy_(model[1].weight.abs())
    negative = ImageData(torch.cat([data.x.abs(), -data.x[:1].abs()]), torch.cat([data.y, data.y[:1]]), 2)
    for radius in ("margin", "certified"):
        (bound,) = adversarial_bounds(model, negative, [Mixup()], loss=loss, laws=("exact",), radius=radius)
        assert bound.eps[-1] == 0
        assert bound.adversarial[-1] == bound.loss[-1]
        assert (bound.eps[:-1] > 0).any()


def test_homogeneity_is_measured():
    model, data, loss, _ = problem("relu")
    (free,) = adversarial_bounds(model, data, [Mixup()], loss=loss, laws=("exact",))
    (biased,) = adversarial_bounds(relu_net(1, bias=True), data, [Mixup()], loss=loss, laws=("exact",))
    assert free.inhomogeneity.max() < 1e-12
    assert np.median(biased.inhomogeneity) > 1e-2


def test_single_precision_agrees():
    model, data, _, _ = problem("softmax-relu")
    (double,) = adversarial_bounds(model, data, [Mixup()], laws=("exact",))
    (single,) = adversarial_bounds(model.float(), data.to(torch.float32), [Mixup()], laws=("exact",))
    for column in COLUMNS:
        np.testing.assert_allclose(getattr(single, column), getattr(double, column), rtol=1e-4, atol=1e-5)
    assert single.loss.dtype == np.float64


def test_the_frame_has_a_row_for_each_strategy_and_law():
    model, data, loss, _ = problem("linear")
    bounds = adversarial_bounds(model, data, [Mixup(), STRATEGIES["cutmix"]], loss=loss)
    frame = bounds_frame(bounds)
    assert list(zip(frame.strategy, frame.law, strict=True)) == [(b.strategy, b.law) for b in bounds]
    assert frame.law.tolist() == ["exact", "paper"] * 2
    np.testing.assert_allclose(frame.left - frame.right, frame.gap)
    np.testing.assert_allclose(frame.clean + frame.r1 + frame.r2, frame.left)
    # Mixup has one law of q under both names
    assert frame.gap[0] == pytest.approx(frame.gap[1], rel=1e-10)


@dataclass(frozen=True)
class Drawn(Strategy):
    """Masks alone: moments are sampled."""

    def masks(self, lam, shape, *, rng):
        mask = np.ones((len(lam), *shape)) * lam[:, None, None]
        return MaskBatch(mask, lam)


def test_sampled_moments_need_a_generator():
    model, data, loss, _ = problem("linear")
    with pytest.raises(ValueError, match="has no closed moments"):
        adversarial_bounds(model, data, [Drawn()], loss=loss)
    pair = [
        adversarial_bounds(model, data, [Drawn()], loss=loss, laws=("exact",), rng=np.random.default_rng(1))[0]
        for _ in range(2)
    ]
    assert pair[0].gap == pair[1].gap
    (closed,) = adversarial_bounds(model, data, [Mixup()], loss=loss, laws=("exact",))
    assert pair[0].left == pytest.approx(closed.left, rel=0.05)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"radius": "ball"}, "expected radius among"),
        ({"radius": "margin"}, "the margin is a radius for one output, got 3"),
        ({"laws": ("other",)}, "expected law among"),
    ],
    ids=["radius", "margin", "law"],
)
def test_wrong_options_are_refused(options, message):
    model, data, _, _ = problem("softmax-relu")
    with pytest.raises(ValueError, match=message):
        adversarial_bounds(model, data, [Mixup()], **options)


def test_too_large_problems_are_refused(monkeypatch):
    x = torch.zeros(2, 1, 65, 64)
    wide = nn.Sequential(nn.Flatten(), nn.Linear(65 * 64, 2)).eval()
    with pytest.raises(ValueError, match="both sides form 4160 x 4160 matrices"):
        adversarial_bounds(wide, ImageData(x, torch.tensor([0, 1]), 2), [Mixup()])
    monkeypatch.setattr("msda_theory.adversarial_bound._MAX_NUMBERS", 100)
    model, data, loss, _ = problem("linear")
    with pytest.raises(ValueError, match="take fewer images"):
        adversarial_bounds(model, ImageData(data.x.repeat(2, 1, 1, 1), data.y.repeat(2), 2), [Mixup()], loss=loss)


# --- the true inner maximum -----------------------------------------------------------------------------------------


def test_the_closed_inner_maximum_is_that_of_a_search():
    model, data, loss, _ = problem("linear")
    eps = np.linspace(0, 2, len(data))
    closed = linear_inner_maximum(model, data, eps, loss=loss)
    theta, f = model[1].weight[0].detach().numpy(), model(data.x)[:, 0].detach().numpy()
    for i in range(len(data)):
        tau = np.linspace(-1, 1, 2001) * np.linalg.norm(theta) * eps[i]
        assert closed[i] == pytest.approx(
            np.logaddexp(0, f[i] + tau).max() if data.y[i] == 0 else (np.logaddexp(0, f[i] + tau) - f[i] - tau).max(),
            rel=1e-12,
        )


def test_the_second_order_loss_is_near_the_true_maximum_within_its_remainder():
    model, data, loss, _ = problem("linear")
    (bound,) = adversarial_bounds(model, data, [STRATEGIES["cutmix"]], loss=loss, laws=("exact",))
    true = linear_inner_maximum(model, data, bound.eps, loss=loss)
    reach = float(model[1].weight.detach().norm()) * bound.eps
    wrong = np.abs(true - bound.adversarial)
    assert (wrong <= 0.0161 * reach**3 + 1e-12).all()
    assert wrong.max() > 1e-4


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["f64", "f32"])
def test_attacks_reach_the_closed_inner_maximum_and_never_exceed_it(dtype):
    model, data, loss, _ = problem("linear")
    model, data = model.to(dtype), data.to(dtype)
    eps = np.linspace(0, 1, len(data))
    closed = linear_inner_maximum(model, data, eps, loss=loss)
    found = inner_maximum(model, data, eps, loss=loss, steps=5, restarts=1, rng=np.random.default_rng(0), batch_size=4)
    rounding = 1e-12 if dtype == torch.float64 else 1e-5
    assert (found <= closed * (1 + rounding) + rounding).all()
    assert (found >= closed * (1 - 1e-5)).all()  # one step along the gradient is exact here


def test_attacks_of_a_network_raise_the_loss_and_repeat():
    model, data, _, _ = problem("softmax-relu")
    eps = np.full(len(data), 0.3)
    first, second = (
        inner_maximum(model, data, eps, steps=10, restarts=2, rng=np.random.default_rng(4)) for _ in range(2)
    )
    np.testing.assert_array_equal(first, second)
    clean = inner_maximum(model, data, np.zeros(len(data)), steps=1, restarts=1, rng=np.random.default_rng(4))
    (bound,) = adversarial_bounds(model, data, [Mixup()], laws=("exact",))
    np.testing.assert_allclose(clean, bound.loss, rtol=1e-12)
    assert (first > clean).all()
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


def test_wrong_inner_problems_are_refused():
    linear, data, loss, _ = problem("linear")
    relu, three, _, _ = problem("softmax-relu")
    eps, rng = np.ones(len(data)), np.random.default_rng(0)
    with pytest.raises(ValueError, match="the closed form is for one output, got 3"):
        linear_inner_maximum(relu, three, eps, loss=SoftmaxCrossEntropy())
    with pytest.raises(ValueError, match="for outputs affine in the image"):
        linear_inner_maximum(relu_net(1), data, 10 * eps, loss=loss)
    with pytest.raises(ValueError, match="expected a finite radius >= 0 for each of"):
        linear_inner_maximum(linear, data, -eps, loss=loss)
    with pytest.raises(ValueError, match="expected a finite radius >= 0 for each of"):
        inner_maximum(linear, data, eps[:2], loss=loss, rng=rng)
    with pytest.raises(ValueError, match="the attacks ascend cross-entropy, got Squared"):
        inner_maximum(relu, three, eps, loss=Squared(), rng=rng)
