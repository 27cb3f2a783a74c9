"""The first layer: the cut, R2 as a quadratic form of its weights, the metric of the filters and their measures."""

from __future__ import annotations

import copy

import naive
import numpy as np
import pytest
import torch
from torch import nn

import msda_theory as mt
from msda_theory.cut import first_layer
from msda_theory.filters import FilterMeasures, filter_metric, frequency_energy, metric_spectrum
from msda_theory.first_layer import first_layer_form, first_layer_r2

SHAPE, CHANNELS, CLASSES = (5, 6), 2, 3


class Standardize(nn.Module):
    """A normalisation with fixed statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.4, 0.6], dtype=torch.float64)[:, None, None])
        self.register_buffer("std", torch.tensor([0.2, 3.0], dtype=torch.float64)[:, None, None])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x - self.mean) / self.std


class Scale(nn.Module):
    """A normalisation that is learned."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.tensor([0.4, 0.6])[:, None, None])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x - self.mean


class Standard(nn.Conv2d):
    """Computes with standardized weights."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._conv_forward(x, self.weight - self.weight.mean(), self.bias)


class Windows(nn.Module):
    """Applies its layer to halves of the images as if they were images."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.last = nn.Linear(30, 4), nn.Linear(8, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        halves = torch.stack([x[:, 0], x[:, 1]], dim=1).reshape(2 * len(x), 30)
        return self.last(self.inner(halves).tanh().reshape(len(x), 8))


class Skip(nn.Module):
    """Uses its input beside the first layer."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(60, 4)
        self.last = nn.Linear(64, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        flat = x.flatten(1)
        return self.last(torch.cat([flat, self.inner(flat).tanh()], dim=1))


class Shared(nn.Module):
    """Uses one layer twice."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(60, 60)
        self.last = nn.Linear(60, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.inner(self.inner(x.flatten(1)).tanh()))


def conv(activation: type[nn.Module] = nn.Softplus, **options: object) -> nn.Sequential:
    settings = {"kernel_size": 3, "padding": 1, **options}
    return nn.Sequential(nn.Conv2d(CHANNELS, 4, **settings), activation(), nn.Flatten(), nn.LazyLinear(CLASSES))


def mlp(*before: nn.Module) -> nn.Sequential:
    return nn.Sequential(*before, nn.Flatten(), nn.Linear(60, 7), nn.Tanh(), nn.Linear(7, CLASSES))


# name -> (network, name of its first layer)
NETWORKS = {
    "conv": (conv, "0"),
    "stride": (lambda: conv(stride=2, padding=(1, 2)), "0"),
    "groups-dilation": (lambda: conv(groups=2, dilation=2, kernel_size=2), "0"),
    "no-bias-relu": (lambda: conv(nn.ReLU, bias=False), "0"),
    "rectangle": (lambda: conv(kernel_size=(1, 4), padding=0), "0"),
    "circular": (lambda: conv(padding_mode="circular"), "0"),
    "same": (lambda: conv(padding="same"), "0"),
    "mlp": (mlp, "1"),
    "standardized": (lambda: mlp(Standardize()), "2"),
    "batch-norm": (lambda: nn.Sequential(nn.BatchNorm2d(CHANNELS), *conv(stride=2)), "1"),
    "inplace-relu": (
        lambda: nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.LazyLinear(3)),
        "0",
    ),
    "inplace-silu": (
        lambda: nn.Sequential(nn.Conv2d(2, 4, 3), nn.SiLU(inplace=True), nn.Flatten(), nn.LazyLinear(3)),
        "0",
    ),
    "weight-norm": (
        lambda: nn.Sequential(
            nn.utils.parametrizations.weight_norm(nn.Conv2d(2, 4, 3, bias=False)),
            nn.Tanh(),
            nn.Flatten(),
            nn.LazyLinear(3),
        ),
        "0",
    ),
    "instance-norm": (
        lambda: nn.Sequential(nn.InstanceNorm2d(2, affine=True, track_running_stats=True), *conv(stride=2)),
        "1",
    ),
    "tokens": (
        lambda: nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Flatten(), nn.LazyLinear(3)),
        "0",
    ),
    "linear": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(60, CLASSES)), "1"),
}


def network(name: str) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = NETWORKS[name][0]() if name in NETWORKS else {"skip": Skip, "shared": Shared}[name]()
        model(torch.rand(8, CHANNELS, *SHAPE, dtype=torch.float32)) if "standardized" not in name else None
        for p in model.parameters():
            p.data.add_(0.3 * torch.randn_like(p))
    return model.double().eval()


def images(m: int = 9) -> mt.ImageData:
    x, y = naive.images(m, CHANNELS, SHAPE, CLASSES, seed=4)
    return mt.ImageData(x, y, CLASSES)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_first_layer_is_found(name):
    cut = first_layer(network(name), images().x)
    assert cut.name == NETWORKS[name][1]
    assert cut.layer is cut.model.get_submodule(cut.name)


# --- the form -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("law", ["exact", "paper"])
@pytest.mark.parametrize("strategy", [mt.CutMix(), mt.Mixup(), mt.GMix()], ids=lambda s: s.name)
@pytest.mark.parametrize("name", NETWORKS)
def test_the_form_is_r2(name, strategy, law):
    model, data = network(name), images()
    form = first_layer_form(model, data, strategy.moments(data.shape, law=law))
    r2 = mt.expand(model, data, strategy, law=law, method="dense").r2.mean
    assert float(form.value()) == pytest.approx(r2, rel=1e-9)
    assert form.per_filter().sum() == pytest.approx(r2, rel=1e-9)


@pytest.mark.parametrize("loss", [mt.SoftmaxCrossEntropy(), mt.Squared()], ids=lambda v: type(v).__name__)
@pytest.mark.parametrize("name", ["conv", "mlp"])
def test_other_losses(name, loss):
    model, data = network(name), images()
    form = first_layer_form(model, data, mt.CutMix().moments(data.shape), loss=loss)
    r2 = mt.expand(model, data, mt.CutMix(), loss=loss, method="dense").r2.mean
    assert float(form.value()) == pytest.approx(r2, rel=1e-9)


@pytest.mark.parametrize("name", NETWORKS)
def test_sampled_pairs_give_the_sampled_r2(name):
    model, data = network(name), images()
    own = first_layer_r2(model, data, mt.CutMix(), draws=70, rng=np.random.default_rng(1))
    r2 = mt.expand(model, data, mt.CutMix(), draws=70, rng=np.random.default_rng(1)).r2
    exact = float(first_layer_form(model, data, mt.CutMix().moments(data.shape)).value())
    assert own.mean == pytest.approx(r2.mean, rel=1e-9)
    assert own.se == pytest.approx(r2.se, rel=0.5)
    assert abs(own.mean - exact) < 5 * own.se


@pytest.mark.parametrize("name", ["conv", "groups-dilation", "mlp", "batch-norm"])
def test_the_form_is_quadratic_in_the_weights_and_the_model_is_left_alone(name):
    """Values at other weights are those of a model with these weights and the curvature of the old one."""
    model, data = network(name), images()
    before = copy.deepcopy(model.state_dict())
    form = first_layer_form(model, data, mt.CutMix().moments(data.shape))
    w, v = (
        form.cut.weight,
        torch.randn(form.cut.weight.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0)),
    )
    values = {t: float(form.value(w + t * v)) for t in (-1.0, 0.0, 0.5, 2.0)}
    quadratic = np.polyfit([-1.0, 0.0, 0.5], [values[t] for t in (-1.0, 0.0, 0.5)], 2)
    assert np.polyval(quadratic, 2.0) == pytest.approx(values[2.0], rel=1e-9)
    assert float(form.value(-3 * w)) == pytest.approx(9 * values[0.0], rel=1e-9)
    assert float(form.value(0 * w)) == 0
    assert min(values.values()) > 0
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key])


def test_the_gradient_is_that_of_finite_differences():
    model, data = network("conv"), images()
    form = first_layer_form(model, data, mt.CutMix().moments(data.shape))
    weight = form.cut.weight.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(form.value(weight), weight)
    step = torch.zeros_like(weight)
    step[1, 0, 2, 1] = 1e-3
    slope = (float(form.value(form.cut.weight + step)) - float(form.value(form.cut.weight - step))) / 2e-3
    assert float(gradient[1, 0, 2, 1]) == pytest.approx(slope, rel=1e-8)


def test_filters_alone_and_together():
    """The diagonal blocks by hand: all other filters set to 0; without curvature between filters they are the whole."""
    model, data = network("mlp"), images()
    form = first_layer_form(model, data, mt.CutMix().moments(data.shape))
    alone = form.alone()
    assert (alone >= 0).all()
    only = torch.zeros_like(form.cut.weight)
    only[2] = form.cut.weight[2]
    assert alone[2] == pytest.approx(float(form.value(only)), rel=1e-12)
    assert abs(alone.sum() - float(form.value())) > 1e-3 * alone.sum()
    single = nn.Sequential(nn.Flatten(), nn.Linear(60, 1), nn.Tanh(), nn.Linear(1, CLASSES)).double().eval()
    one = first_layer_form(single, data, mt.CutMix().moments(data.shape))
    assert one.alone()[0] == pytest.approx(float(one.value()), rel=1e-12)
    assert one.per_filter()[0] == pytest.approx(float(one.value()), rel=1e-12)


def test_partners_may_come_from_a_larger_set():
    """A batch with partners from all images: the mean of the forms of the batches is the form of all."""
    model, data = network("conv"), images(8)
    moments = mt.CutMix().moments(data.shape)
    whole = float(first_layer_form(model, data, moments).value())
    halves = [data[:4], data[4:]]
    parts = [float(first_layer_form(model, part, moments, population=data).value()) for part in halves]
    assert np.mean(parts) == pytest.approx(whole, rel=1e-12)


# --- the metric -----------------------------------------------------------------------------------------------


def responses(cut, data: mt.ImageData, strategy: mt.Strategy, weight: torch.Tensor) -> np.ndarray:
    """Mean square of every filter's step over positions, images, partners and atoms of the law, by enumeration."""
    atoms, p = strategy.atoms(data.shape).partner("exact")
    total = np.zeros(len(weight))
    cut.model.requires_grad_(False)
    for q, probability in zip(torch.from_numpy(atoms), p, strict=True):
        for i in range(len(data)):
            delta = q * (data.x - data.x[i])
            step = cut.steps(cut.inputs(data.x[i] + delta) - cut.inputs(data.x[i : i + 1]), weight)
            step = step.flatten(1, -2).mT if isinstance(cut.layer, nn.Linear) and step.ndim > 2 else step
            step = step.reshape(len(data), len(weight), -1)
            total += probability * (step**2).mean(dim=(0, 2)).numpy() / len(data)
    return total


@pytest.mark.parametrize("name", [n for n in NETWORKS if n not in ("circular", "same")])
def test_the_metric_is_the_mean_square_response(name):
    model, data = network(name), images(4)
    cut = first_layer(model, data.x)
    strategy = mt.CutMix()
    metric = filter_metric(cut, data, strategy.moments(data.shape))
    measures = FilterMeasures.of(cut.weight, metric)
    np.testing.assert_allclose(measures.metric**2, responses(cut, data, strategy, cut.weight), rtol=1e-9)
    assert metric.shape[0] == getattr(cut.layer, "groups", 1)
    assert np.linalg.eigvalsh(metric).min() > -1e-12 * np.abs(metric).max()
    other = filter_metric(cut, data, mt.Mixup().moments(data.shape))
    assert np.abs(other / other[0, 0, 0] - metric / metric[0, 0, 0]).max() > 1e-3  # Mixup's is another shape


def test_the_spectrum_of_mixups_metric_is_the_datas():
    """A constant mask multiplies the covariance: all eigenvalues by one number; a box does not."""
    data = images(40)
    cut = first_layer(network("linear"), data.x)
    mixup, cutmix = (filter_metric(cut, data, s.moments(data.shape)) for s in (mt.Mixup(), mt.CutMix()))
    spectrum = metric_spectrum(mixup)[0]
    own = np.linalg.eigvalsh(data.covariance().numpy())[::-1]
    np.testing.assert_allclose(spectrum, 2 / 6 * own, rtol=0, atol=1e-12)
    assert (np.diff(spectrum) <= 1e-15).all()
    assert metric_spectrum(cutmix)[0].sum() == pytest.approx(np.trace(cutmix[0]), rel=1e-12)
    ratio = metric_spectrum(cutmix)[0][:30] / spectrum[:30]
    assert ratio.max() > 1.2 * ratio.min()


def test_measures_of_a_known_matrix():
    weight = torch.tensor([[3.0, 0.0], [0.0, 4.0]])
    measures = FilterMeasures.of(weight, np.array([[[1.0, 0.0], [0.0, 0.25]]]))
    assert (measures.frobenius, measures.spectral) == (5.0, 4.0)
    assert measures.stable_rank == pytest.approx(25 / 16)
    np.testing.assert_allclose(measures.metric, [3.0, 2.0])
    assert FilterMeasures.of(0 * weight, np.eye(2)[None]).stable_rank == 0


def test_energy_by_frequency():
    edges = np.array([0.0, 1.0, 2.5, 5.0])
    flat, checks = torch.ones(2, 1, 8, 8), torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).repeat(4, 4)[None, None]
    np.testing.assert_allclose(frequency_energy(flat, (8, 8), edges), [1, 0, 0], atol=1e-15)
    np.testing.assert_allclose(frequency_energy(checks, (8, 8), edges), [0, 0, 1], atol=1e-15)
    impulse = torch.zeros(1, 1, 3, 3)
    impulse[0, 0, 1, 1] = 2.0
    omega = np.abs(np.fft.fftfreq(8)) * 2 * np.pi
    counts = np.histogram(np.hypot(omega[:, None], omega), bins=edges)[0]
    np.testing.assert_allclose(frequency_energy(impulse, (8, 8), edges), counts / 64, rtol=1e-12)


# --- bad input ------------------------------------------------------------------------------------------------


def refused(model: nn.Module, message: str, **options: object) -> None:
    model(images().x.float()) if any(isinstance(p, nn.UninitializedParameter) for p in model.parameters()) else None
    with pytest.raises(ValueError, match=message):
        first_layer(model.double().eval(), images().x, **options)


def test_a_learned_normalisation_is_folded_in():
    model = nn.Sequential(Scale(), nn.Flatten(), nn.Linear(60, 7), nn.Tanh(), nn.Linear(7, CLASSES)).double().eval()
    data = images()
    form = first_layer_form(model, data, mt.CutMix().moments(data.shape))
    assert form.cut.name == "2"
    r2 = mt.expand(model, data, mt.CutMix(), method="dense").r2.mean
    assert float(form.value()) == pytest.approx(r2, rel=1e-9)


def test_single_precision_and_no_grad():
    model, data = network("conv"), images()
    moments = mt.CutMix().moments(data.shape)
    exact = float(first_layer_form(model, data, moments).value())
    with torch.no_grad():
        form = first_layer_form(model, data, moments)
        assert float(form.value()) == pytest.approx(exact, rel=1e-12)
        assert form.per_filter().sum() == pytest.approx(exact, rel=1e-9)
        assert not form.value().requires_grad
        assert first_layer_r2(model, data, mt.CutMix(), draws=4, rng=np.random.default_rng(0)).mean > 0
    single, small = copy.deepcopy(model).float(), data.to(torch.float32)
    form = first_layer_form(single, small, moments)
    assert float(form.value()) == pytest.approx(exact, rel=1e-4)
    metric = filter_metric(form.cut, small, moments)
    np.testing.assert_allclose(metric, filter_metric(first_layer(model, data.x), data, moments), rtol=1e-4, atol=1e-6)


def test_hooks_are_gone_after_errors():
    model = network("skip")
    with pytest.raises(ValueError, match="not only through the layer"):
        first_layer(model, images().x)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_layers_that_do_something_else_are_refused():
    standard = nn.Sequential(Standard(2, 4, 3), nn.Tanh(), nn.Flatten(), nn.LazyLinear(3))
    refused(
        standard, r"the layer '0' \(Standard\) does not compute W u \+ b with its own weights; replace it by a plain"
    )
    refused(Windows(), "expected one input of the layer 'inner' for each image, got 18 for 9; a layer that is")
    refused(
        nn.Sequential(nn.ConvTranspose2d(2, 2, 3), nn.Flatten(), nn.LazyLinear(3)), "'0' is ConvTranspose2d; only torch"
    )
    with pytest.raises(ValueError, match="expected at least 2 images to find the first layer with, got 1"):
        first_layer(network("conv"), images().x[:1])
    with pytest.raises(ValueError, match="train"):
        first_layer(network("batch-norm").train(), images().x)


def test_moments_and_partners_of_other_sizes_are_refused():
    model, data = network("conv"), images()
    for wrong in ((6, 5), (3, 10), (1, 30), (4, 4)):
        moments = mt.CutMix().moments(wrong)
        message = f"expected moments for the 5x6 pixels of the images, got moments for {wrong[0]}x{wrong[1]}"
        with pytest.raises(ValueError, match=message):
            first_layer_form(model, data, moments)
        with pytest.raises(ValueError, match=message):
            filter_metric(first_layer(model, data.x), data, moments)
    other = mt.ImageData(torch.rand(3, CHANNELS, 6, 5, dtype=torch.float64), torch.arange(3), 3)
    with pytest.raises(
        ValueError, match=r"expected partners of the shape of the images, \[2, 5, 6\], got \[2, 6, 5\]; pass"
    ):
        first_layer_form(model, data, mt.CutMix().moments(data.shape), population=other)


def test_layers_that_are_not_linear_are_named():
    norm = nn.Sequential(nn.LayerNorm([CHANNELS, *SHAPE]), nn.Flatten(), nn.Linear(60, 3))
    shown = r"the input of the layer '2' is not affine in the image \(parametric layers before it: {'0': 'LayerNorm'}\)"
    refused(norm, shown)
    refused(norm, "; a normalisation with fixed statistics may come before it, nothing else", name="2")
    refused(mlp(), "the input of the layer '3' is not affine in the image", name="3")
    refused(nn.Sequential(nn.Flatten(), nn.PReLU(), nn.Linear(60, 3)), "parametric layers before it: {'1': 'PReLU'}")


def test_other_ways_through_the_network_are_refused():
    refused(network("skip"), "the output depends on the image not only through the layer 'inner'; R2 is no quadratic")
    refused(network("shared"), "the layer 'inner' is used 2 times in one pass; name one used once")


def test_names_are_checked():
    refused(mlp(), r"expected a layer with parameters among \['1', '3'\], got '2'", name="2")
    refused(
        nn.Sequential(nn.Flatten(), nn.BatchNorm1d(60)), "the first parametric layer '1' is BatchNorm1d; only torch"
    )


def test_sizes_are_checked():
    model, data = network("conv"), images()
    form = first_layer_form(model, data, mt.CutMix().moments(data.shape))
    with pytest.raises(ValueError, match=r"expected weights \[4, 2, 3, 3\] of the layer '0', got \[4, 2, 3\]"):
        form.value(torch.zeros(4, 2, 3))
    large = mt.ImageData(torch.rand(3, 1, 33, 32, dtype=torch.float64), torch.arange(3), 3)
    net = nn.Sequential(nn.Flatten(), nn.Linear(33 * 32, 3)).double().eval()
    moments = mt.Mixup().moments(large.shape)
    with pytest.raises(ValueError, match="the exact form holds 1056 x 1056 matrices, allowed up to 1024 inputs; use f"):
        first_layer_form(net, large, moments)
    with pytest.raises(ValueError, match="the metric holds 1056 x 1056 matrices, allowed up to 1024 inputs"):
        filter_metric(first_layer(net, large.x), large, moments)
    assert first_layer_r2(net, large, mt.Mixup(), draws=8, rng=np.random.default_rng(0)).mean > 0


def test_measures_check_their_input():
    with pytest.raises(
        ValueError, match="expected a metric for filters of 2 weights, got one for 3 in 1 groups; build"
    ):
        FilterMeasures.of(torch.ones(4, 2), np.eye(3)[None])
    with pytest.raises(
        ValueError, match=r"expected filters \[O, C, kh, kw\] of at most 2x2 pixels, got \[1, 1, 3, 3\]"
    ):
        frequency_energy(torch.ones(1, 1, 3, 3), (2, 2), np.array([0.0, 5.0]))
    with pytest.raises(ValueError, match="the energy of filters that are all zero has no distribution"):
        frequency_energy(torch.zeros(1, 1, 3, 3), (4, 4), np.array([0.0, 5.0]))
    for name, shown in (("circular", "'circular' and"), ("same", "'zeros' and 'same'; write the padding as numbers")):
        model, data = network(name), images(3)
        with pytest.raises(ValueError, match=f"is for zero padding given in pixels, got {shown}"):
            filter_metric(first_layer(model, data.x), data, mt.Mixup().moments(data.shape))
