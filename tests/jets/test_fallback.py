"""Modules with an operator that has no rule: one warning that names it, and right numbers."""

from __future__ import annotations

import re

import pytest
import torch
from derivatives import assert_near, normal, reference, uneven
from torch import nn

from msda_theory.jets.jet import NoRule
from msda_theory.jets.program import Program
from msda_theory.taylor import Taylor, curvature, taylor

CLASSES = 3


def points(n=2):
    return normal(n, 2, 6, 6, seed=5), normal(3, n, 2, 6, 6, seed=6)


class Bessel(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(72, CLASSES)

    def forward(self, x):
        return torch.special.i0(self.linear(0.3 * x.flatten(1)))


class Fourier(Bessel):
    def forward(self, x):
        return torch.tanh(torch.fft.fft(self.linear(x.flatten(1))).abs())


SQUARE = normal(3, 3, seed=24)


class Determinant(Bessel):
    def forward(self, x):
        z = self.linear(x.flatten(1))
        return torch.linalg.det(torch.tanh(z[:, :, None] * SQUARE))[:, None] * z


class Branches(Bessel):
    """Control flow that depends on data."""

    def forward(self, x):
        z = self.linear(x.flatten(1))
        return z.exp() if bool(self.linear.weight.sum() < 1e6) else z


FALLBACKS = {
    "i0": (Bessel, r"aten\.i0\.default"),
    "fft": (Fourier, r"aten\._fft_r2c\.default"),
    "det": (Determinant, r"aten\._linalg_det\.default"),
    "branches": (Branches, "control flow that depends on the data"),
}


@pytest.mark.parametrize("name", FALLBACKS)
def test_fallback_warns_once_and_is_right(name):
    torch.manual_seed(2)
    build, message = FALLBACKS[name]
    model, (x, d) = uneven(build()), points(5)
    with pytest.warns(UserWarning, match="no second-order rule for .*" + message) as caught:
        engine = Taylor(model, x[:2])
    assert len(caught) == 1
    assert re.search(message, engine.fallback)
    assert engine.kinked is engine.bytes_per_sample is None
    weights, outputs = (1.0, -2.0, 0.5), normal(5, CLASSES, seed=4)
    with torch.no_grad():  # calls do not warn: warnings are errors here
        t = engine(x, d, weights)
        f, slopes, curved = curvature(engine, x, d, lambda _: outputs)
    value, first, second = reference(model, x, d, weights)
    assert_near(t.value, value, 1e-12)
    assert_near(t.first, first, 1e-9)
    assert_near(t.second, second, 1e-9)
    assert_near(f, value, 1e-12)
    assert_near(slopes, first, 1e-9)
    assert_near(curved, (outputs * reference(model, x, d)[2]).sum(1), 1e-9)


def test_gradients_of_the_fallback():
    torch.manual_seed(2)
    model, (x, d) = uneven(Bessel()), points()
    with pytest.warns(UserWarning, match="no second-order rule"):
        t = taylor(model, x, d)
    value, first, second = reference(model, x, d, graph=True)
    for got, expected in ((t.value, value), (t.first, first), (t.second, second)):
        pairs = (torch.autograd.grad(z.square().sum(), model.parameters(), retain_graph=True) for z in (got, expected))
        for g, e in zip(*pairs, strict=True):
            assert_near(g, e, 1e-8)


def test_no_graph_without_gradients():
    model, (x, d) = uneven(Bessel()), points()
    with pytest.warns(UserWarning, match="no second-order rule"):
        engine = Taylor(model, x)
    with torch.no_grad():
        t = engine(x, d)
    assert not any(z.requires_grad for z in (t.value, t.first, t.second))


class Use(nn.Module):
    """``function`` of the result z [B, 2, 6, 6] of a convolution."""

    def __init__(self, function):
        super().__init__()
        self.conv, self.function = nn.Conv2d(2, 2, 3, padding=1), function

    def forward(self, x):
        return self.function(torch.tanh(self.conv(x))).flatten(1)[:, :CLASSES]


def own_kernels(z):
    """Each sample filters itself."""
    kernels = z[:, :, :3, :3].flatten(0, 1)[:, None]
    return nn.functional.conv2d(z.flatten(0, 1)[None], kernels, groups=len(kernels)).reshape(len(z), 2, 4, 4)


USES = {
    "convolution with a kernel that depends on the input": own_kernels,
    "PReLU with a slope that depends on the input": lambda z: torch.prelu(z[:1] * 0 + 1.5, z[0, 0, 0, :2]) * z,
    "addmm with a bias that depends on the input": lambda z: torch.addmm(z[:, 0, 0], z[:, 1, 1], TABLE),
    "linalg_vector_norm with ord=3": lambda z: z.norm(p=3, dim=1),
    "conversion to torch.complex128": lambda z: z.to(torch.complex128).abs(),
    "batch normalisation by the statistics of the batch": lambda z: nn.functional.batch_norm(
        z, None, None, training=True
    ),
}
TABLE = normal(6, 6, seed=25)
ALONE = [reason for reason in USES if not reason.startswith(("PReLU", "batch"))]  # functions of each sample alone


@pytest.mark.parametrize("reason", USES)
def test_uses_of_an_operator_without_a_rule_are_named(reason):
    torch.manual_seed(2)
    model, (x, d) = uneven(Use(USES[reason])), points()
    with torch.no_grad(), pytest.raises(NoRule, match=reason):
        Program(model, x)(x, d, (1.0, 1.0, 1.0))


@pytest.mark.parametrize("reason", ALONE)
def test_uses_of_an_operator_without_a_rule_fall_back(reason):
    torch.manual_seed(2)
    model, (x, d) = uneven(Use(USES[reason])), points()
    with pytest.warns(UserWarning, match=reason), torch.no_grad():
        t = taylor(model, x, d)
    value, first, second = reference(model, x, d)
    assert_near(t.value, value, 1e-12)
    assert_near(t.first, first, 1e-9)
    assert_near(t.second, second, 1e-9)


def test_a_program_has_one_output():
    with pytest.raises(NoRule, match="an output that is not a single tensor"):
        Program(Pair().double().eval(), points()[0])


class Pair(nn.Module):
    def forward(self, x):
        return x.flatten(1), x.square()
