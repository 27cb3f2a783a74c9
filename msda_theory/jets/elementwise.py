"""Rules of elementwise functions: first and second derivative at the value; None for a second derivative of 0."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from msda_theory.jets.jet import Jet, NoRule, Rule, chain

aten = torch.ops.aten
Derivatives = tuple[Tensor, Tensor | None]


def _relu(x: Tensor) -> Derivatives:
    return (x > 0).to(x.dtype), None


def _leaky_relu(x: Tensor, slope: int | float = 0.01) -> Derivatives:
    return torch.where(x > 0, torch.ones_like(x), slope), None


def _clamp(x: Tensor, low: int | float | None = None, high: int | float | None = None) -> Derivatives:
    inside = torch.ones_like(x, dtype=torch.bool)
    if low is not None:
        inside = inside & (x >= low)
    if high is not None:
        inside = inside & (x <= high)
    return inside.to(x.dtype), None


def _hardtanh(x: Tensor, low: int | float = -1.0, high: int | float = 1.0) -> Derivatives:
    return ((x > low) & (x < high)).to(x.dtype), None


def _threshold(x: Tensor, threshold: int | float, value: int | float) -> Derivatives:
    return (x > threshold).to(x.dtype), None


def _hardswish(x: Tensor) -> Derivatives:
    inside = (x.abs() < 3).to(x.dtype)
    return inside * (2 * x + 3) / 6 + (x >= 3), inside / 3


def _hardsigmoid(x: Tensor) -> Derivatives:
    return (x.abs() < 3).to(x.dtype) / 6, None


def _elu(x: Tensor, alpha: int | float = 1.0, scale: int | float = 1.0, input_scale: int | float = 1.0) -> Derivatives:
    # alpha scale (exp(input_scale x) - 1) below 0, scale x above; the exponent is cut there so that it cannot overflow.
    below = (alpha * scale * input_scale) * (input_scale * x.clamp(max=0)).exp()
    return torch.where(x > 0, scale, below), torch.where(x > 0, 0.0, input_scale * below)


def _celu(x: Tensor, alpha: int | float = 1.0) -> Derivatives:
    return _elu(x, alpha, 1.0, 1.0 / alpha)


def _gelu(x: Tensor, *, approximate: str = "none") -> Derivatives:
    if approximate == "none":
        density = (-0.5 * x * x).exp() / math.sqrt(2 * math.pi)
        below = 0.5 * (1 + (x / math.sqrt(2)).erf())
        return below + x * density, density * (2 - x * x)
    scale = math.sqrt(2 / math.pi)
    u1, u2 = scale * (1 + 3 * 0.044715 * x * x), scale * 6 * 0.044715 * x
    t = (scale * (x + 0.044715 * x**3)).tanh()
    t1 = 1 - t * t
    return 0.5 * (1 + t) + 0.5 * x * t1 * u1, t1 * u1 + 0.5 * x * t1 * (u2 - 2 * t * u1 * u1)


def _silu(x: Tensor) -> Derivatives:
    s = x.sigmoid()
    s1 = s * (1 - s)
    return s + x * s1, s1 * (2 + x * (1 - 2 * s))


def _mish(x: Tensor) -> Derivatives:
    s = x.sigmoid()
    t = torch.nn.functional.softplus(x).tanh()
    t1 = (1 - t * t) * s
    return t + x * t1, 2 * t1 + x * t1 * (1 - s - 2 * t * s)


def _softplus(x: Tensor, beta: int | float = 1.0, threshold: int | float = 20.0) -> Derivatives:
    s = (beta * x).sigmoid()
    linear = beta * x > threshold
    return torch.where(linear, 1.0, s), torch.where(linear, 0.0, beta * s * (1 - s))


def _sigmoid(x: Tensor) -> Derivatives:
    s = x.sigmoid()
    s1 = s * (1 - s)
    return s1, s1 * (1 - 2 * s)


def _tanh(x: Tensor) -> Derivatives:
    t = x.tanh()
    t1 = 1 - t * t
    return t1, -2 * t * t1


def _exp(x: Tensor) -> Derivatives:
    e = x.exp()
    return e, e


def _log(x: Tensor) -> Derivatives:
    return 1 / x, -1 / (x * x)


def _log2(x: Tensor) -> Derivatives:
    d1 = 1 / (math.log(2.0) * x)
    return d1, -d1 / x


def _log10(x: Tensor) -> Derivatives:
    d1 = 1 / (math.log(10.0) * x)
    return d1, -d1 / x


def _log1p(x: Tensor) -> Derivatives:
    return _log(1 + x)


def _sin(x: Tensor) -> Derivatives:
    return x.cos(), -x.sin()


def _cos(x: Tensor) -> Derivatives:
    return -x.sin(), -x.cos()


def _erf(x: Tensor) -> Derivatives:
    d1 = (2 / math.sqrt(math.pi)) * (-x * x).exp()
    return d1, -2 * x * d1


def _atan(x: Tensor) -> Derivatives:
    d1 = 1 / (1 + x * x)
    return d1, -2 * x * d1 * d1


def _abs(x: Tensor) -> Derivatives:
    return x.sign(), None


def _power(x: Tensor, p: int | float) -> Derivatives:
    # Small whole powers apart: 0 * x^(p - 2) is NaN at x = 0.
    if p == 0:
        return torch.zeros_like(x), None
    if p == 1:
        return torch.ones_like(x), None
    if p == 2:
        return 2 * x, torch.full_like(x, 2.0)
    return p * x ** (p - 1), p * (p - 1) * x ** (p - 2)


def _of_power(p: int | float) -> Callable[[Tensor], Derivatives]:
    def derivatives(x: Tensor) -> Derivatives:
        return _power(x, p)

    return derivatives


def _elementwise(op: Rule, derivatives: Callable[..., Derivatives]) -> Rule:
    def rule(x: Jet, *args: object, **kwargs: object) -> Jet:
        return chain(x, op(x.value, *args, **kwargs), *derivatives(x.value, *args, **kwargs))

    return rule


def _log_sigmoid(x: Jet) -> tuple[Jet, Tensor]:
    value, buffer = aten.log_sigmoid_forward.default(x.value)
    s = (-x.value).sigmoid()
    return chain(x, value, s, -s * (1 - s)), buffer


def _prelu(x: Any, weight: Any) -> Jet:
    if not isinstance(x, Jet) or isinstance(weight, Jet):
        raise NoRule("PReLU with a slope that depends on the input")
    slope = torch.where(x.value > 0, torch.ones_like(x.value), weight)
    return x.linear(aten._prelu_kernel.default(x.value, weight), x.rest * slope)


_DERIVATIVES: dict[Rule, Callable[..., Derivatives]] = {
    aten.relu.default: _relu,
    aten.leaky_relu.default: _leaky_relu,
    aten.clamp.default: _clamp,
    aten.clamp_min.default: _clamp,
    aten.clamp_max.default: lambda x, high: _clamp(x, None, high),
    aten.hardtanh.default: _hardtanh,
    aten.threshold.default: _threshold,
    aten.hardswish.default: _hardswish,
    aten.hardsigmoid.default: _hardsigmoid,
    aten.abs.default: _abs,
    aten.elu.default: _elu,
    aten.celu.default: _celu,
    aten.gelu.default: _gelu,
    aten.silu.default: _silu,
    aten.mish.default: _mish,
    aten.softplus.default: _softplus,
    aten.sigmoid.default: _sigmoid,
    aten.tanh.default: _tanh,
    aten.exp.default: _exp,
    aten.expm1.default: _exp,
    aten.log.default: _log,
    aten.log2.default: _log2,
    aten.log10.default: _log10,
    aten.log1p.default: _log1p,
    aten.sin.default: _sin,
    aten.cos.default: _cos,
    aten.erf.default: _erf,
    aten.atan.default: _atan,
    aten.sqrt.default: _of_power(0.5),
    aten.rsqrt.default: _of_power(-0.5),
    aten.reciprocal.default: _of_power(-1.0),
    aten.pow.Tensor_Scalar: _power,
}

PIECEWISE_LINEAR: frozenset[Rule] = frozenset(
    {
        aten.relu.default,
        aten.leaky_relu.default,
        aten.clamp.default,
        aten.clamp_min.default,
        aten.clamp_max.default,
        aten.hardtanh.default,
        aten.threshold.default,
        aten.hardsigmoid.default,
        aten.abs.default,
        aten._prelu_kernel.default,
    }
)

RULES: dict[Rule, Rule] = {
    **{op: _elementwise(op, derivatives) for op, derivatives in _DERIVATIVES.items()},
    aten.log_sigmoid_forward.default: _log_sigmoid,
    aten._prelu_kernel.default: _prelu,
}
