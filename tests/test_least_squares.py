"""The optimum of mixed least squares, Eqs. (3i), (3j), against training on the enumerated loss and ridge regression."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import naive
import numpy as np
import pytest
import torch
from linear_cases import (
    EVERY_SIZE,
    EVERY_STRATEGY,
    LAW,
    STRATEGIES,
    TRAINED,
    Mixed,
    assert_stationary,
    assert_trained,
    layer,
    problem,
)
from torch import nn

from msda_theory.data import ImageData
from msda_theory.dense import exact_mixed_loss
from msda_theory.linear_models import glm_terms, least_squares_optimum
from msda_theory.losses import Squared
from msda_theory.masks.base import Strategy
from msda_theory.masks.batches import Atoms, MaskBatch
from msda_theory.masks.cutmix import CutMix
from msda_theory.masks.mixup import Mixup
from msda_theory.masks.vanilla import Vanilla
from msda_theory.moments.moments import Moments, Provenance
from msda_theory.moments.operators import Constant, Dense


@EVERY_STRATEGY
@EVERY_SIZE
@LAW
def test_the_gradient_of_the_enumerated_loss_vanishes(strategy, case, law):
    data = problem(case)
    assert_stationary(
        Mixed.of(data, strategy, law), *least_squares_optimum(data, strategy.moments(data.shape, law=law))
    )


@pytest.mark.parametrize(("name", "case"), TRAINED)
@LAW
def test_the_optimum_is_what_training_reaches(name, case, law):
    data, strategy = problem(case), STRATEGIES[name]
    assert_trained(Mixed.of(data, strategy, law), *least_squares_optimum(data, strategy.moments(data.shape, law=law)))


def test_the_enumerated_loss_is_that_of_the_package():
    data = problem()
    model = naive.linear(1, data.shape, 3)
    exact = exact_mixed_loss(model, data, Squared(), CutMix().atoms(data.shape).partner("exact"), scales=np.ones(1))
    assert Mixed.of(data, CutMix()).loss(*layer(model, 1)).item() == pytest.approx(float(exact[0]), rel=1e-12)


def test_without_mixing_the_optimum_is_ordinary_least_squares():
    data = problem()
    weight, bias = least_squares_optimum(data, Vanilla().moments(data.shape))
    rows = torch.cat([data.x.flatten(1), torch.ones(len(data), 1, dtype=torch.float64)], dim=1).numpy()
    want = np.linalg.lstsq(rows, naive.one_hot(data.y, 3).numpy(), rcond=None)[0].T
    np.testing.assert_allclose(torch.cat([weight, bias[:, None]], dim=1).numpy(), want, rtol=0, atol=1e-10)


def altered(moments: Moments, name: str, data: ImageData) -> Moments:
    """Wrong moments: the paper's law; a_jk 1 % low off the diagonal; qbar 1 % high."""
    if name == "paper":
        return CutMix().moments(data.shape, law="paper")
    a, mean = moments.second.dense(), moments.mean
    if name == "a_jk":
        a = 0.99 * a + 0.01 * np.diag(np.diag(a))
    else:
        mean = mean * 1.01
    return Moments(mean, Dense(a, data.shape), moments.law, moments.provenance)


@pytest.mark.parametrize("name", ["paper", "a_jk", "qbar"])
def test_evil_twin_wrong_moments_are_not_optimal(name):
    data = problem()
    moments = CutMix().moments(data.shape)
    mixed = Mixed.of(data, CutMix())
    wrong = least_squares_optimum(data, altered(moments, name, data))
    with pytest.raises(AssertionError, match="not stationary"):
        assert_stationary(mixed, *wrong)
    with pytest.raises(AssertionError, match="Tensor-likes are not close"):
        assert_trained(mixed, *wrong)
    assert mixed.gradient(*wrong) > 1e-4
    assert float(mixed.loss(*wrong)) > float(mixed.loss(*least_squares_optimum(data, moments))) + 1e-8


def test_constant_pixels_get_no_weight():
    """T o Sigma has zero rows there; any weight fits as well, the least norm has none."""
    data = problem()
    x = data.x.clone()
    x[:, :, 0] = torch.tensor([0.3, 0.0, 0.7], dtype=torch.float64)
    data = ImageData(x, data.y, 3)
    weight, bias = least_squares_optimum(data, CutMix().moments(data.shape))
    assert_trained(Mixed.of(data, CutMix()), weight, bias)
    assert float(weight[:, :3].abs().max()) < 1e-14


def test_fewer_images_than_inputs_give_the_minimum_norm():
    data = problem("6x3x4-2ch")
    weight, _ = least_squares_optimum(data, Mixup().moments(data.shape))
    flat, y = data.x.flatten(1), naive.one_hot(data.y, 3)
    want = np.linalg.lstsq((flat - flat.mean(0)).numpy(), (y - y.mean(0)).numpy(), rcond=1e-10)[0].T
    np.testing.assert_allclose(weight.numpy(), want, rtol=0, atol=1e-10)


def test_constant_images_give_the_mean_label():
    data = problem()
    same = ImageData(torch.full_like(data.x, 0.3), data.y, 3)
    weight, bias = least_squares_optimum(same, CutMix().moments(data.shape))
    assert float(weight.abs().max()) == 0
    torch.testing.assert_close(bias, naive.one_hot(data.y, 3).mean(dim=0))


def test_the_optimum_can_be_loaded_into_a_layer():
    data = problem().to(torch.float32)
    weight, bias = least_squares_optimum(data, CutMix().moments(data.shape))
    assert weight.dtype == bias.dtype == torch.float64
    module = nn.Linear(9, 3)
    module.load_state_dict({"weight": weight, "bias": bias})


# --- the ridge limit, and Mixup -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class IndependentPixels(Strategy):
    """Every pixel taken with probability eps, independently; label weight 1 - eps, or the share of pixels kept."""

    eps: float = 0.2
    label: str = "nominal"
    alpha: float = 1.0

    def masks(self, lam, shape, *, rng):
        mask = (rng.random((len(lam), *shape)) >= self.eps).astype(float)
        return MaskBatch(mask, self._label(mask))

    def atoms(self, shape, *, order=16):
        mask = np.array(list(product((0.0, 1.0), repeat=shape[0] * shape[1]))).reshape(-1, *shape)
        weight = np.where(mask == 1, 1 - self.eps, self.eps).prod(axis=(1, 2))
        return Atoms(mask, self._label(mask), np.ones(len(mask)), weight)

    def closed_moments(self, shape, law):
        e, d = self.eps, shape[0] * shape[1]
        taken = e**2 + e * (1 - e) * np.eye(d)  # E[(1-M)(1-M)^T]
        mean, second = np.full(shape, e), taken
        if law == "exact":
            c = e  # E[1 - w]
            u = e**2 if self.label == "nominal" else e**2 + e * (1 - e) / d  # E[(1-w)(1-M_j)]
            mean, second = mean - 2 * u + c, taken - 2 * u + c
        return Moments(mean, Dense(second, shape), law, Provenance("closed form", 1e-15, "independent pixels"))

    def _label(self, mask):
        return np.full(len(mask), 1 - self.eps) if self.label == "nominal" else mask.mean(axis=(1, 2))


def small(channels: int = 1) -> ImageData:
    return ImageData(*naive.images(9, channels, (2, 3), 3, seed=8), 3)


def ridge(data: ImageData, rho: float) -> np.ndarray:
    """Ridge regression on centred data as least squares with extra rows: ``rho Sigma_jj w_j^2`` for each pixel."""
    flat, y = data.x.flatten(1).numpy(), naive.one_hot(data.y, data.num_classes).numpy()
    rows, labels = flat - flat.mean(axis=0), y - y.mean(axis=0)
    extra = np.diag(np.sqrt(rho * len(rows) * rows.var(axis=0)))
    return np.linalg.lstsq(np.vstack([rows, extra]), np.vstack([labels, np.zeros((len(extra), 3))]), rcond=None)[0].T


INDEPENDENT = pytest.mark.parametrize(
    ("law", "label"), [("paper", "nominal"), ("exact", "nominal"), ("exact", "share")]
)


@INDEPENDENT
def test_independent_pixels_have_these_moments(law, label):
    q, p = IndependentPixels(label=label).atoms((2, 3)).partner(law)
    got = IndependentPixels(label=label).moments((2, 3), law=law)
    flat = q.reshape(len(q), -1)
    np.testing.assert_allclose(got.mean.ravel(), p @ flat, rtol=0, atol=1e-15)
    np.testing.assert_allclose(got.second.dense(), np.einsum("n,nj,nk", p, flat, flat), rtol=0, atol=1e-15)


@INDEPENDENT
@pytest.mark.parametrize("eps", [0.02, 0.2, 0.5])
def test_independent_pixels_are_ridge_regression(law, label, eps):
    data, strategy = small(), IndependentPixels(eps=eps, label=label)
    weight, bias = least_squares_optimum(data, strategy.moments(data.shape, law=law))
    assert_trained(Mixed.of(data, strategy, law), weight, bias)
    mixing = 2 * eps * (1 - eps)
    qbar = {"paper": eps, "exact": mixing if label == "nominal" else mixing * (1 - 1 / 6)}[law]
    want = (1 - qbar) / (1 - mixing) * ridge(data, mixing / (1 - mixing))
    np.testing.assert_allclose(weight.numpy(), want, rtol=0, atol=1e-11)


def test_the_exact_law_of_independent_pixels_is_ridge_without_a_factor():
    """And no scale makes it the solution without ridge: directions are treated differently."""
    data = small()
    weight, _ = least_squares_optimum(data, IndependentPixels(eps=0.2).moments(data.shape))
    np.testing.assert_allclose(weight.numpy(), ridge(data, 0.32 / 0.68), rtol=0, atol=1e-11)
    plain = ridge(data, 0.0)
    scale = float((weight.numpy() * plain).sum() / (plain**2).sum())
    assert np.abs(weight.numpy() - scale * plain).max() > 0.1 * np.abs(weight.numpy()).max()


def test_the_ridge_of_several_channels_is_a_block_for_each_pixel():
    data, eps = small(channels=2), 0.2
    weight, _ = least_squares_optimum(data, IndependentPixels(eps=eps).moments(data.shape))
    flat, y = data.x.flatten(1), naive.one_hot(data.y, 3)
    centred = flat - flat.mean(dim=0)
    sigma, cross = centred.T @ centred / 9, (y - y.mean(dim=0)).T @ centred / 9
    blocks = torch.eye(6, dtype=torch.float64).repeat(2, 2)
    mixing = 2 * eps * (1 - eps)
    want = cross @ torch.linalg.inv(sigma + mixing / (1 - mixing) * blocks * sigma)
    torch.testing.assert_close(weight, want, rtol=0, atol=1e-10)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 5.0])
def test_mixup_has_the_optimum_of_plain_least_squares(alpha):
    """Its factor is 1; the loss is not that of plain training, and the second order alone would shrink."""
    data = small()
    moments = Mixup(alpha=alpha).moments(data.shape)
    weight, bias = least_squares_optimum(data, moments)
    np.testing.assert_allclose(weight.numpy(), ridge(data, 0.0), rtol=0, atol=1e-11)
    got = glm_terms(weight, bias, data, moments, loss=Squared())
    qbar, constant = float(moments.mean[0, 0]), -0.5 * float((naive.one_hot(data.y, 3).mean(dim=0) ** 2).sum())
    assert got.clean + got.r1 + got.r2 == pytest.approx((1 - qbar) * got.clean + qbar * constant, rel=1e-12)
    assert got.r2 > 1e-3


@dataclass(frozen=True)
class Blend(Strategy):
    """M = lam everywhere with the label of the first image kept: constant masks whose factor is not 1."""

    alpha: float = 1.0

    def masks(self, lam, shape, *, rng):
        return MaskBatch(np.broadcast_to(lam[:, None, None], (len(lam), *shape)).copy(), np.ones(len(lam)))

    def atoms(self, shape, *, order=16):
        atoms = Mixup(alpha=self.alpha).atoms(shape, order=order)
        return Atoms(atoms.mask, np.ones(order), atoms.tilt, atoms.weight)

    def closed_moments(self, shape, law):
        a = (self.alpha + 1) / (2 * (2 * self.alpha + 1))  # E[(1 - lam)^2]
        return Moments(np.full(shape, 0.5), Constant(a, shape), law, Provenance("closed form", 1e-16, "Beta"))


def test_constant_masks_scale_the_solution_by_one_factor():
    data = small()
    weight, bias = least_squares_optimum(data, Blend().moments(data.shape))
    assert_trained(Mixed.of(data, Blend()), weight, bias)
    kappa = (1 - 0.5) / (1 - 2 * 0.5 + 2 / 3)
    assert kappa == pytest.approx(0.75)
    np.testing.assert_allclose(weight.numpy(), kappa * ridge(data, 0.0), rtol=0, atol=1e-11)


# --- errors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cutoff", [0.0, 1.0, -1e-12, float("nan")])
def test_a_cutoff_out_of_range(cutoff):
    with pytest.raises(ValueError, match=r"expected a cutoff in \(0, 1\), got"):
        least_squares_optimum(problem(), CutMix().moments((3, 3)), cutoff=cutoff)


def test_images_too_large_for_the_normal_equations():
    data = ImageData(torch.zeros(2, 2, 46, 46), torch.tensor([0, 1]), 2)
    with pytest.raises(ValueError, match="the normal equations form 4232 x 4232 matrices, allowed up to 4096"):
        least_squares_optimum(data, Mixup().moments(data.shape))


def test_a_direction_below_the_cutoff_that_predicts_the_labels():
    data = problem()
    x = data.x.clone()
    x[:, 0, 1, 1] = 1e-7 * data.y
    data = ImageData(x, data.y, 3)
    with pytest.raises(ValueError, match="of the largest predict the labels"):
        least_squares_optimum(data, CutMix().moments(data.shape))
    weight, bias = least_squares_optimum(data, CutMix().moments(data.shape), cutoff=1e-18)
    assert Mixed.of(data, CutMix()).gradient(weight, bias) < 1e-8  # weights of 1e6
