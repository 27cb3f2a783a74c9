"""Second-order Taylor coefficients against full Jacobians and Hessians."""

from __future__ import annotations

import math

import naive
import pytest
import torch
from torch import nn

from msda_theory.taylor import Taylor, curvature, taylor

B, K, CHANNELS, SHAPE, CLASSES = 3, 4, 2, (6, 5), 3


class Residual(nn.Module):
    """A skip connection and two scales of pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(CHANNELS, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.norm, self.head = nn.BatchNorm2d(4), nn.Linear(4, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        z = self.one(x)
        z = z + self.two(nn.functional.silu(self.norm(z)))
        return self.head(nn.functional.adaptive_avg_pool2d(torch.tanh(z), 1).flatten(1))


def build(*layers: nn.Module, features: int) -> nn.Module:
    return naive.randomize(nn.Sequential(*layers, nn.Flatten(), nn.Linear(features, CLASSES)), 1, gain=2.0)


def first(channels: int = 4) -> nn.Module:
    return nn.Conv2d(CHANNELS, channels, 3, padding=1)


NETWORKS = {
    "gelu-batchnorm-avgpool": build(first(), nn.BatchNorm2d(4), nn.GELU(), nn.AvgPool2d(2), features=24),
    "gelu-batchnorm-maxpool": build(first(), nn.BatchNorm2d(4), nn.GELU(), nn.MaxPool2d(2), features=24),
    "tanh-gelu": build(first(), nn.GELU(approximate="tanh"), features=120),
    "softplus": build(first(), nn.Softplus(), features=120),
    "silu-groupnorm": build(first(), nn.GroupNorm(2, 4), nn.SiLU(), nn.AdaptiveAvgPool2d(2), features=16),
    "instancenorm": build(first(), nn.InstanceNorm2d(4), nn.Softplus(), features=120),
    "layernorm": build(nn.Flatten(), nn.LayerNorm(60), nn.Linear(60, 8), nn.ELU(), features=8),
    "relu": build(first(), nn.ReLU(), nn.MaxPool2d(2), features=24),
    "residual": naive.randomize(Residual(), 1, gain=2.0),
}


def problem():
    x, _ = naive.images(B, CHANNELS, SHAPE, CLASSES, seed=6)
    directions = torch.randn(K, *x.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    return x, directions


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("grad", [True, False], ids=["grad", "no_grad"])
def test_coefficients_against_full_derivatives(name, grad):
    model = NETWORKS[name]
    x, directions = problem()
    with torch.set_grad_enabled(grad):  # the expansion calls it without gradients
        t = taylor(model, x, directions)
    assert t.value.shape == (B, CLASSES)
    assert t.first.shape == (K, B, CLASSES)
    assert t.second.shape == (B, CLASSES)
    for b in range(B):

        def outputs(z, like=x[b]):
            return model(z.reshape(1, *like.shape))[0]

        z = x[b].reshape(-1)
        torch.testing.assert_close(t.value[b], outputs(z).detach(), rtol=0, atol=1e-12)
        j = torch.autograd.functional.jacobian(outputs, z).detach()
        for k in range(K):
            torch.testing.assert_close(t.first[k, b], j @ directions[k, b].reshape(-1), rtol=0, atol=1e-10)
        for c in range(CLASSES):
            hessian = torch.autograd.functional.hessian(lambda v, c=c: outputs(v)[c], z).detach()
            expected = sum(float(d @ hessian @ d) for d in directions[:, b].reshape(K, -1))
            assert t.second.detach()[b, c].item() == pytest.approx(expected, rel=1e-10, abs=1e-10)
    if name != "relu":
        assert t.second.detach().abs().min().item() > 1e-3  # the comparison above had something to compare


@pytest.mark.parametrize("name", NETWORKS)
def test_one_direction_is_one_term_of_taylor(name):
    x, directions = problem()
    engine = Taylor(NETWORKS[name], x)
    t = engine(x, directions)
    parts = [engine(x, d[None]) for d in directions]
    for k, part in enumerate(parts):
        torch.testing.assert_close(part.value, t.value, rtol=0, atol=1e-13)
        torch.testing.assert_close(part.first[0], t.first[k], rtol=0, atol=1e-13)
    torch.testing.assert_close(sum(p.second for p in parts), t.second, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", NETWORKS)
def test_curvature_is_one_combination_of_outputs(name):
    x, directions = problem()
    weights = torch.randn(B, CLASSES, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    engine = Taylor(NETWORKS[name], x)
    t = engine(x, directions)
    f, slopes, curved = curvature(engine, x, directions, lambda _: weights)
    torch.testing.assert_close(f, t.value, rtol=0, atol=1e-13)
    torch.testing.assert_close(slopes, t.first, rtol=0, atol=1e-13)
    torch.testing.assert_close(curved, (weights * t.second).sum(dim=1), rtol=0, atol=1e-12)


def test_coefficients_predict_the_function_to_third_order():
    """Finite differences: f(x + t d) - f - t J d - t^2/2 d^T D2f d is of order t^3."""
    model = NETWORKS["gelu-batchnorm-avgpool"]
    x, directions = problem()
    one = taylor(model, x, directions[:1])
    value, slope, second = one.value.detach(), one.first[0].detach(), one.second.detach()
    errors = []
    for t in (1 / 16, 1 / 64):
        with torch.no_grad():
            remainder = model(x + t * directions[0]) - value - t * slope - t**2 / 2 * second
        errors.append(float(remainder.abs().mean()))
    order = math.log(errors[0] / errors[1]) / math.log(4)
    assert 2.7 < order < 3.3
    # Evil twin: a second derivative 1 % off.
    errors = []
    for t in (1 / 256, 1 / 1024):
        with torch.no_grad():
            remainder = model(x + t * directions[0]) - value - t * slope - 1.01 * t**2 / 2 * second
        errors.append(float(remainder.abs().mean()))
    assert math.log(errors[0] / errors[1]) / math.log(4) < 2.5


def test_relu_has_no_second_order():
    x, directions = problem()
    assert torch.equal(taylor(NETWORKS["relu"], x, directions).second, torch.zeros(B, CLASSES, dtype=torch.float64))


def test_a_linear_map_and_a_known_quadratic():
    class Quadratic(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.stack([(x**2).sum(dim=1), x[:, 0] * x[:, 1]], dim=1)

    x = torch.tensor([[1.0, 2.0, 3.0]], dtype=torch.float64)
    d = torch.tensor([[[1.0, 0.0, 1.0]], [[1.0, 1.0, 0.0]]], dtype=torch.float64)
    t = taylor(Quadratic(), x, d)
    assert t.value.tolist() == [[14.0, 2.0]]
    assert t.first.tolist() == [[[8.0, 2.0]], [[6.0, 3.0]]]
    assert t.second.tolist() == [[4.0 + 4.0, 0.0 + 2.0]]  # 2 |d|^2 and 2 d_0 d_1, summed over both directions


def test_float32_keeps_its_dtype():
    model = build(first(), nn.GELU(), features=120).float()
    x, directions = problem()
    t = taylor(model, x.float(), directions.float())
    assert t.value.dtype == t.first.dtype == t.second.dtype == torch.float32


@pytest.mark.parametrize(
    "shape",
    [(B, CHANNELS, *SHAPE), (K, B + 1, CHANNELS, *SHAPE), (K, B, 1, *SHAPE), (0, B, CHANNELS, *SHAPE), (K,)],
    ids=str,
)
def test_wrong_directions_are_refused(shape):
    x, _ = problem()
    with pytest.raises(ValueError, match=r"expected directions \[K, 3, 2, 6, 5\] with K >= 1, got"):
        taylor(NETWORKS["relu"], x, torch.zeros(shape, dtype=torch.float64))
