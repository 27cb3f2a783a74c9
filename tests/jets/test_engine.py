"""What the engine promises: differentiability, weights, passes of fixed size, exact cases, compositions."""

from __future__ import annotations

import pytest
import torch
from derivatives import assert_near, normal, reference, uneven
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from experiments.models import Attention
from msda_theory.jets.program import Program
from msda_theory.taylor import Taylor, curvature, taylor

SHAPE, CLASSES = (2, 6, 6), 3


class Patches(nn.Module):
    """Convolution, BatchNorm, attention over patches, LayerNorm, classes."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(2, 8, 2, stride=2), nn.BatchNorm2d(8)
        self.attention, self.after, self.head = Attention(8, 2), nn.LayerNorm(8), nn.Linear(8, CLASSES)

    def forward(self, x):
        z = F.gelu(self.norm(self.conv(x))).flatten(2).transpose(1, 2)
        z = z + self.attention(z)
        return self.head(_written_layer_norm(z, self.after).mean(dim=1))


def _written_layer_norm(z, layer):
    """Not torch's, whose third derivative is wrong in 2.13: gradients are compared."""
    z = (z - z.mean(-1, keepdim=True)) / (z.var(-1, correction=0, keepdim=True) + layer.eps).sqrt()
    return z * layer.weight + layer.bias


def convolutions(act=nn.Softplus, width=4, **kwargs):
    torch.manual_seed(1)
    return uneven(
        nn.Sequential(
            nn.Conv2d(2, width, 3, padding=1),
            nn.BatchNorm2d(width),
            act(**kwargs),
            nn.Conv2d(width, width, 3, stride=2),
            act(**kwargs),
            nn.Flatten(),
            nn.Linear(4 * width, CLASSES),
        )
    )


def patches():
    torch.manual_seed(1)
    return uneven(Patches())


def points(n=2, k=3):
    return normal(n, *SHAPE, seed=5), normal(k, n, *SHAPE, seed=6)


def grads(scalar, model):
    return torch.autograd.grad(scalar, list(model.parameters()), materialize_grads=True)


def penalty(value, first, second):
    """Quadratic in all three, with the signs of no symmetry."""
    return (
        value.logsumexp(1).mean() + (first**2).mean() + (second * value.softmax(1)).sum() + second[:, 0].square().sum()
    )


# --- differentiability -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("build", [convolutions, patches], ids=["convolutions", "patches"])
def test_gradients_in_the_parameters(build):
    model, (x, d) = build(), points()
    weights = (1.0, 2.0, -0.5)
    t = taylor(model, x, d, weights)
    got = grads(penalty(t.value, t.first, t.second), model)
    expected = grads(penalty(*reference(model, x, d, weights, graph=True)), model)
    # The key bias of attention has gradient 0 up to rounding: one scale for all.
    flat = [torch.cat([g.flatten() for g in part]) for part in (got, expected)]
    assert_near(*flat, 1e-8)


def test_each_coefficient_has_a_gradient_of_its_own():
    model, (x, d) = patches(), points()
    for part in range(3):
        t = taylor(model, x, d)
        got = grads((t.value, t.first, t.second)[part].sum(), model)[0]
        assert_near(got, grads(reference(model, x, d, graph=True)[part].sum(), model)[0], 1e-8)


def test_no_graph_without_gradients():
    model, (x, d) = convolutions(), points()
    engine = Taylor(model, x)
    with torch.no_grad():
        t = engine(x, d)
    assert not any(z.requires_grad for z in (t.value, t.first, t.second))
    t = engine(x, d)
    assert all(z.requires_grad for z in (t.value, t.first, t.second))


def test_parameters_and_buffers_are_read_at_each_call(monkeypatch):
    model, (x, d) = convolutions(), points()
    engine = Taylor(model, x)
    before = engine(x, d)
    monkeypatch.setattr(Program, "__init__", None)  # no second trace
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before.second.square().sum().backward()
    optimizer.step()
    with torch.no_grad():
        model[1].running_var *= 1.5
        after = engine(x, d)
    value, first, second = reference(model, x, d)
    assert_near(after.value, value, 1e-12)
    assert_near(after.first, first, 1e-9)
    assert_near(after.second, second, 1e-9)
    assert float((after.second - before.second.detach()).abs().max()) > 1e-3


# --- weights, passes, exact cases ------------------------------------------------------------------------------------


@pytest.mark.parametrize("weights", [(2.0, -1.5, 0.25), (0.0, 1.0, 0.0), (-1.0, 0.0, -3.0), (0.0, 0.0, 0.0)], ids=str)
@pytest.mark.parametrize("build", [convolutions, patches], ids=["convolutions", "patches"])
def test_weights_against_explicit_sums(build, weights):
    model, (x, d) = build(), points()
    engine = Taylor(model, x)
    with torch.no_grad():
        t, plain = engine(x, d, weights), engine(x, d)
        parts = [engine(x, d[k : k + 1]).second for k in range(3)]
    expected = sum(w * p for w, p in zip(weights, parts, strict=True))
    assert float((t.second - expected).abs().max()) <= 1e-12 * float(plain.second.abs().max())
    assert torch.equal(t.first, plain.first)
    assert torch.equal(t.value, plain.value)


@pytest.mark.parametrize("n", [1, 4, 5, 9])
@pytest.mark.parametrize("build", [convolutions, patches], ids=["convolutions", "patches"])
def test_passes_give_what_single_samples_give(build, n):
    model, (x, d) = build(), points(9)
    with torch.no_grad():
        t = Taylor(model, x[:4])(x[:n], d[:, :n])
        single = Taylor(model, x[:1])
        for b in range(n):
            s = single(x[b : b + 1], d[:, b : b + 1])
            assert_near(t.value[b], s.value[0], 1e-12)
            assert_near(t.first[:, b], s.first[:, 0], 1e-12)
            assert_near(t.second[b], s.second[0], 1e-12)
    assert len(t.value) == len(t.second) == t.first.shape[1] == n


def test_a_linear_module_has_no_second_order():
    model = uneven(
        nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(16, 3))
    )
    x, d = points()
    with torch.no_grad():
        t = taylor(model, x, d)
        assert not t.second.any()
        assert_near(t.first[0], model(x + d[0]) - model(x), 1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_the_value_is_the_output_bit_for_bit(dtype):
    model, (x, d) = convolutions(nn.GELU).to(dtype), points()
    with torch.no_grad():
        assert torch.equal(taylor(model, x.to(dtype), d.to(dtype)).value, model(x.to(dtype)))


@pytest.mark.parametrize("build", [convolutions, patches], ids=["convolutions", "patches"])
def test_float32(build):
    model, (x, d) = build(), points()
    with torch.no_grad():
        exact = taylor(model, x, d)
        rounded = taylor(model.float(), x.float(), d.float())
    for name in ("value", "first", "second"):
        assert_near(getattr(rounded, name), getattr(exact, name).float(), 1e-5)


def test_curvature_is_taylor_with_one_combination_of_outputs():
    model, (x, d) = patches(), points()
    weights = normal(2, CLASSES, seed=8)
    engine = Taylor(model, x)
    with torch.no_grad():
        f, first, curved = curvature(engine, x, d, lambda _: weights)
        t = engine(x, d)
    assert torch.equal(f, t.value)
    assert torch.equal(first, t.first)
    assert_near(curved, (weights * t.second).sum(1), 1e-14)


@pytest.mark.parametrize(
    ("act", "kinked"),
    [(nn.ReLU, True), (nn.LeakyReLU, True), (nn.GELU, False), (nn.Softplus, False), (nn.ELU, False)],
    ids=lambda v: getattr(v, "__name__", None),
)
def test_kinks_are_found(act, kinked):
    assert Taylor(convolutions(act), points()[0]).kinked is kinked


class Cases(nn.Module):
    """ReLU by comparison of its input, or of a constant only."""

    def __init__(self, compared):
        super().__init__()
        self.compared, self.shift = compared, nn.Parameter(normal(72, seed=3))

    def forward(self, x):
        x = x.flatten(1)
        return torch.where((x if self.compared else self.shift) > 0, x, 0.1 * x)[:, :3]


def test_kinks_of_pooling_and_comparisons_are_found():
    x, _ = points()
    pooled = nn.Sequential(nn.Conv2d(2, 4, 3), nn.GELU(), nn.MaxPool2d(2), nn.Flatten()).double().eval()
    assert Taylor(pooled, x).kinked is True
    assert Taylor(Cases(True), x).kinked is True
    assert Taylor(Cases(False), x).kinked is False


def test_memory_grows_with_width_but_not_with_the_batch():
    x, _ = points(4)
    sizes = [Program(convolutions(width=w), x).bytes_per_sample for w in (16, 32, 64)]
    # Two results of the first convolution, [w, 6, 6] in float64, are alive at once; the input is small beside them.
    for w, size in zip((16, 32, 64), sizes, strict=True):
        assert 2 * w * 36 * 8 <= size <= 3 * w * 36 * 8
    assert Program(convolutions(width=16), x[:1]).bytes_per_sample == sizes[0]


# --- compositions ----------------------------------------------------------------------------------------------------

KERNEL, HEAD = normal(2, 2, 3, 3, seed=21), normal(72, CLASSES, seed=23)
OPS = {
    "tanh": torch.tanh,
    "gelu": F.gelu,
    "softplus": F.softplus,
    "sine": torch.sin,
    "gate": lambda z: z * z.flip(1).sigmoid(),
    "layer-norm": lambda z: F.layer_norm(z, (6, 6)),
    "group-norm": lambda z: F.group_norm(z, 1),
    "softmax": lambda z: 3 * z.softmax(-1),
    "matmul": lambda z: torch.tanh(z @ z.transpose(-1, -2)),
    "divide": lambda z: z / (1 + z * z),
    "pad-conv": lambda z: F.conv2d(F.pad(z, (1, 1, 1, 1)), KERNEL),
    "written": lambda z: torch.cat([z[:, :1] * z[:, 1:], z[:, 1:].square()], dim=1),
}


class Composition(nn.Module):
    def __init__(self, names):
        super().__init__()
        self.names, self.gain = names, nn.Parameter(1 + 0.2 * normal(2, 6, 6, seed=22))

    def forward(self, x):
        for name in self.names:
            x = OPS[name](self.gain * x)
        return x.flatten(1) @ HEAD


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.lists(st.sampled_from(sorted(OPS)), min_size=3, max_size=6))
def test_compositions_agree_with_the_reference(names):
    model, (x, d) = Composition(names).eval(), points(2, 2)
    engine = Taylor(model, x)
    assert engine.fallback is None
    with torch.no_grad():
        t = engine(x, d, (1.0, -0.5))
    value, first, second = reference(model, x, d, (1.0, -0.5))
    assert_near(t.value, value, 1e-11)
    # Second coefficients of each layer may be larger than those of the result, which then holds their rounding.
    scale = 1e-9 * (1 + max(float(first.abs().max()), float(second.abs().max())))
    assert float((t.first - first).abs().max()) <= scale
    assert float((t.second - second).abs().max()) <= scale
