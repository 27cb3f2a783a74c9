"""Closed terms of generalized linear models and two-layer networks, Eq. (3h), against the dense reference."""

from __future__ import annotations

import naive
import numpy as np
import pytest
import torch
from linear_cases import EVERY_LOSS, EVERY_SIZE, EVERY_STRATEGY, LAW, LOSSES, Mixed, layer, outputs, problem
from torch import nn

from msda_theory import linear_models
from msda_theory.data import ImageData
from msda_theory.dense import exact_mixed_loss
from msda_theory.expansion import expand
from msda_theory.linear_models import glm_terms, two_layer_r2
from msda_theory.losses import Logistic, SoftmaxCrossEntropy, Squared
from msda_theory.masks.cutmix import CutMix
from msda_theory.masks.gmix import GMix
from msda_theory.masks.hmix import HMix
from msda_theory.masks.mixup import Mixup

# --- generalized linear models --------------------------------------------------------------------------------------


@EVERY_STRATEGY
@EVERY_LOSS
@EVERY_SIZE
@LAW
def test_glm_terms_equal_the_dense_expansion(strategy, kind, case, law):
    loss, classes = LOSSES[kind]
    data = problem(case, classes)
    model = naive.linear(data.x.shape[1], data.shape, outputs(kind))
    want = expand(model, data, strategy, loss=loss, law=law, method="dense")
    got = glm_terms(*layer(model, 1), data, strategy.moments(data.shape, law=law), loss=loss)
    assert got.clean == pytest.approx(want.base.mean, rel=1e-12)
    np.testing.assert_allclose([got.r1, got.r2], [want.r1.mean, want.r2.mean], rtol=1e-11, atol=1e-13)
    assert abs(want.r3.mean) < 1e-12
    assert min(abs(got.r1), abs(got.r2)) > 1e-3


@EVERY_LOSS
def test_glm_terms_by_automatic_differentiation_of_the_enumerated_loss(kind):
    """R1 and R2 are the first and half the second derivative of ``E l(f(x + t delta), y)`` at t = 0."""
    loss, classes = LOSSES[kind]
    data = problem(classes=classes)
    model = naive.linear(1, data.shape, outputs(kind))
    function = getattr(naive, f"{kind}_loss")
    mixed = Mixed.of(data, CutMix())
    y = data.y.double()[:, None] if kind == "logistic" else naive.one_hot(data.y, classes)
    t = torch.zeros((), dtype=torch.float64, requires_grad=True)
    f = model(mixed.start + t * (mixed.x - mixed.start))
    value = (torch.func.vmap(function)(f, y[mixed.image]) * mixed.weight).sum()
    (first,) = torch.autograd.grad(value, t, create_graph=True)
    (second,) = torch.autograd.grad(first, t)
    got = glm_terms(*layer(model, 1), data, CutMix().moments(data.shape), loss=loss)
    want = (value.item(), first.item(), second.item() / 2)
    np.testing.assert_allclose((got.clean, got.r1, got.r2), want, rtol=1e-11)


def test_squared_loss_of_a_linear_model_has_no_remainder():
    data = problem()
    model = naive.linear(1, data.shape, 3)
    got = glm_terms(*layer(model, 1), data, CutMix().moments(data.shape), loss=Squared())
    exact = exact_mixed_loss(model, data, Squared(), CutMix().atoms(data.shape).partner("exact"), scales=np.ones(1))
    assert got.clean + got.r1 + got.r2 == pytest.approx(float(exact[0]), rel=1e-12)


def test_a_callable_loss_and_arrays_are_taken():
    data = problem()
    weight, bias = (v.detach().numpy() for v in layer(naive.linear(1, data.shape, 3), 1))
    moments = CutMix().moments(data.shape)
    got = glm_terms(weight, bias, data, moments, loss=lambda f, y: f.logsumexp(dim=-1) - (y * f).sum(dim=-1))
    want = glm_terms(weight, bias, data, moments, loss=SoftmaxCrossEntropy())
    np.testing.assert_allclose((got.clean, got.r1, got.r2), (want.clean, want.r1, want.r2), rtol=1e-12)


def test_blocks_of_images_change_rounding_only(monkeypatch):
    data = problem()
    first = naive.network(1, data.shape, 3)
    arguments = (*layer(first, 1), *layer(first, 3), data, CutMix().moments(data.shape))
    options = {"loss": SoftmaxCrossEntropy(), "activation": torch.tanh, "slope": lambda z: 1 - torch.tanh(z) ** 2}
    whole = two_layer_r2(*arguments, **options)
    monkeypatch.setattr(linear_models, "_CHUNK", 5 * 6 * 9)
    assert two_layer_r2(*arguments, **options) == pytest.approx(whole, rel=1e-13)


def test_a_large_image_needs_no_matrix():
    """At 224x224 A alone would take 20 GB; Mixup's R2 is that of the data's own second moment, scaled."""
    rng = np.random.default_rng(0)
    x, y = torch.from_numpy(rng.random((3, 1, 224, 224))), torch.tensor([0, 1, 0])
    weight = torch.from_numpy(rng.normal(size=(1, 224 * 224)) / 224)
    data = ImageData(x, y, 2)
    got = glm_terms(weight, torch.zeros(1), data, Mixup().moments(data.shape), loss=Logistic())
    f = x.flatten(1) @ weight.T
    shift = f.mean() - f
    want = 0.5 / 6 * float((torch.sigmoid(f) * torch.sigmoid(-f) * (shift**2 + (shift**2).mean())).mean())
    assert got.r2 == pytest.approx(want, rel=1e-9)
    assert glm_terms(weight, torch.zeros(1), data, CutMix().moments(data.shape), loss=Logistic()).r2 > 0


# --- two layers -----------------------------------------------------------------------------------------------------

ACTIVATIONS = {
    "tanh": (nn.Tanh, torch.tanh, lambda z: 1 - torch.tanh(z) ** 2),
    "relu": (nn.ReLU, torch.relu, lambda z: (z > 0).to(z.dtype)),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
@EVERY_LOSS
@EVERY_SIZE
@LAW
def test_two_layer_r2_equals_the_dense_expansion(name, kind, case, law):
    loss, classes = LOSSES[kind]
    module, activation, slope = ACTIVATIONS[name]
    data = problem(case, classes)
    model = naive.network(data.x.shape[1], data.shape, outputs(kind), activation=module)
    for strategy in (CutMix(), HMix(), GMix()):
        want = expand(model, data, strategy, loss=loss, law=law, method="dense").r2.mean
        moments = strategy.moments(data.shape, law=law)
        first, second = layer(model, 1), layer(model, 3)
        got = two_layer_r2(*first, *second, data, moments, loss=loss, activation=activation, slope=slope)
        assert got == pytest.approx(want, rel=1e-11)
        assert got > 1e-3


def test_an_identity_between_the_layers_is_a_linear_model():
    data, moments = problem(), CutMix().moments((3, 3))
    model = naive.network(1, data.shape, 3, activation=nn.Identity)
    (w, b), (v, c) = layer(model, 1), layer(model, 3)
    loss = SoftmaxCrossEntropy()
    got = two_layer_r2(w, b, v, c, data, moments, loss=loss, activation=lambda z: z, slope=torch.ones_like)
    assert got == pytest.approx(glm_terms(v @ w, v @ b + c, data, moments, loss=loss).r2, rel=1e-12)


# --- errors ---------------------------------------------------------------------------------------------------------


def glm(weight=(3, 9), bias=3, shape=(3, 3), loss=None):
    return glm_terms(
        torch.zeros(weight), torch.zeros(bias), problem(), CutMix().moments(shape), loss=loss or SoftmaxCrossEntropy()
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight": (3, 8)}, r"expected a weight \[n, 9\] for 9 inputs, got \(3, 8\)"),
        ({"weight": (3, 1, 9)}, r"expected a weight \[n, 9\]"),
        ({"bias": 2}, r"expected a bias \[3\] beside a weight \(3, 9\), got \(2,\)"),
        ({"weight": (2, 9), "bias": 2}, "expected 3 rows in the last weight, the outputs of SoftmaxCrossEntropy"),
        ({"loss": Logistic()}, "the logistic loss is for 2 classes"),
        ({"shape": (4, 3)}, "expected moments for the 3x3 pixels of the images, got moments for 4x3"),
    ],
    ids=["inputs", "axes", "bias", "outputs", "loss", "moments"],
)
def test_shapes_that_do_not_fit(options, message):
    with naive.as_users_run_it(), pytest.raises(ValueError, match=message):
        glm(**options)


def test_shapes_of_two_layers_that_do_not_fit():
    data, moments = problem(), CutMix().moments((3, 3))
    model = naive.network(1, data.shape, 3)
    options = {"loss": Squared(), "activation": torch.tanh, "slope": lambda z: 1 - torch.tanh(z) ** 2}
    with pytest.raises(ValueError, match=r"expected a weight \[n, 6\] for 6 inputs, got \(3, 5\)"):
        two_layer_r2(*layer(model, 1), torch.zeros(3, 5), torch.zeros(3), data, moments, **options)
    for slope in (torch.tanh, lambda z: torch.ones(1, 1)):
        with pytest.raises(ValueError, match="slope is not the derivative of activation"):
            two_layer_r2(*layer(model, 1), *layer(model, 3), data, moments, **(options | {"slope": slope}))
