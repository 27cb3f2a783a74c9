"""Every rule of the Taylor engine against automatic differentiation in float64."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from msda_theory.jets.program import Program
from msda_theory.jets.trace import RULES, operators

aten = torch.ops.aten
B, K, SHAPE = 2, 3, (4, 4, 6)
WEIGHTS = (1.0, -0.5, 2.0)


class Bent(nn.Module):
    """``function`` after a quadratic map, so that its argument has second-order coefficients of its own."""

    def __init__(self, function):
        super().__init__()
        self.function = function
        self.gain = nn.Parameter(0.3 + torch.rand(SHAPE, generator=torch.Generator().manual_seed(1)).double())

    def forward(self, x):
        out = self.function(x + self.gain * x * x).flatten(1)
        return out @ bank(out.shape[1], 7, seed=14)  # every entry counts


@cache
def bank(*shape, seed=3):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def batch_norm(z):
    return F.batch_norm(z, bank(4), bank(4, seed=4).square() + 0.5, bank(4, seed=5), bank(4, seed=6))


def attention(z):
    q = z.flatten(2)
    return F.scaled_dot_product_attention(q, 0.5 * q.flip(1), q * q)


def written(z):
    """In-place writes into parts of a result."""
    out = z.clone()
    out[:, 0] = 2.0 * z[:, 1]
    out[:, :, 1:3] = z[:, :, :2] * z[:, :, 2:4]
    out[:, 3].mul_(z[:, 2])
    return out


def constants_into(z):
    out = z.clone()
    out[:, 0] = 1.5
    return out * out


def jets_into_constants(z):
    out = torch.zeros_like(z)
    out[:, 1] = z[:, 1]
    return out * z


# Operators on one argument away from kinks, poles and ties; `positive` maps it into the positive numbers first.
def positive(z):
    return 0.5 + z * z


ELEMENTWISE = {
    "relu": F.relu,
    "relu6": F.relu6,
    "leaky_relu": lambda z: F.leaky_relu(z, 0.2),
    "hardtanh": F.hardtanh,
    "hardswish": F.hardswish,
    "hardsigmoid": F.hardsigmoid,
    "threshold": lambda z: F.threshold(z, 0.1, -2.0),
    "clamp": lambda z: z.clamp(-0.4, 0.7),
    "clamp_min": lambda z: z.clamp_min(0.1),
    "clamp_max": lambda z: z.clamp_max(0.1),
    "abs": torch.abs,
    "elu": lambda z: F.elu(z, 0.7),
    "selu": F.selu,
    "celu": lambda z: F.celu(z, 0.6),
    "gelu": F.gelu,
    "gelu-tanh": lambda z: F.gelu(z, approximate="tanh"),
    "silu": F.silu,
    "mish": F.mish,
    "softplus": lambda z: F.softplus(z, beta=1.7),
    "softplus-far": lambda z: F.softplus(30 * z),
    "sigmoid": torch.sigmoid,
    "logsigmoid": F.logsigmoid,
    "tanh": torch.tanh,
    "softsign": F.softsign,
    "exp": torch.exp,
    "expm1": torch.expm1,
    "log": lambda z: positive(z).log(),
    "log1p": lambda z: positive(z).log1p(),
    "log2-log10": lambda z: positive(z).log2() + positive(z).log10(),
    "sqrt": lambda z: positive(z).sqrt(),
    "rsqrt": lambda z: positive(z).rsqrt(),
    "reciprocal": lambda z: positive(z).reciprocal(),
    "square": torch.square,
    "pow-0": lambda z: z**0,
    "pow-1": lambda z: z**1,
    "pow-2": lambda z: z**2,
    "pow-3": lambda z: z**3,
    "pow-1.5": lambda z: positive(z) ** 1.5,
    "sin": torch.sin,
    "cos": torch.cos,
    "erf": torch.erf,
    "atan": torch.atan,
    "prelu": lambda z: F.prelu(z, torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)),
}

LINEAR = {
    "conv": lambda z: F.conv2d(z, bank(6, 4, 3, 3), bank(6), padding=1),
    "conv-grouped": lambda z: F.conv2d(z, bank(4, 2, 3, 3), stride=2, groups=2, dilation=1),
    "conv1d": lambda z: F.conv1d(z.flatten(2), bank(3, 4, 5), bank(3)),
    "conv-transposed": lambda z: F.conv_transpose2d(z, bank(4, 3, 3, 3), bank(3), stride=2),
    "linear": lambda z: F.linear(z, bank(5, 6), bank(5)),
    "linear-2d": lambda z: F.linear(z.flatten(1), bank(5, 96), bank(5)),
    "linear-no-bias": lambda z: F.linear(z, bank(5, 6)),
    "batchnorm": batch_norm,
    "batchnorm-plain": lambda z: F.batch_norm(z, bank(4), bank(4, seed=4).square() + 0.5),
    "add-sub": lambda z: (2.0 - z) + torch.sub(z, z.flip(1), alpha=0.5) + torch.add(z, 3.0) - 1.0 - (-z),
    "add-broadcast": lambda z: z[:, :1] + z[0, 0, 0] + bank(2, 1, 1, 1) + torch.add(bank(1), z, alpha=2.0),
    "const-minus": lambda z: bank(6) - z,
    "expand": lambda z: z[:, :1].expand(-1, 3, -1, -1) * z[:, 1:],
    "reshape": lambda z: z.transpose(1, 2).reshape(B, 4, -1).permute(0, 2, 1).contiguous().view(B, -1),
    "squeeze": lambda z: (z[:, :1].squeeze(1) + z[:, :, :1].squeeze()[:, :, :1] + z[:, :1].squeeze((1,))).unsqueeze(1),
    "matrix-t": lambda z: (z.flatten(1).t() * bank(96, B)).t(),
    "select-slice": lambda z: z[:, 1, ::2, 1:][...],
    "unbind": lambda z: torch.stack([a * b for a, b in zip(z.unbind(1), z.flip(1).unbind(1), strict=True)], 2),
    "split": lambda z: z.split(2, dim=1)[0] * z.split([2, 2], dim=1)[1],
    "cat": lambda z: torch.cat([z[:, :1], torch.ones(B, 1, 4, 6, dtype=torch.float64), z * z], dim=1),
    "roll-flip-repeat": lambda z: z.roll(1, 2).flip(3).repeat(1, 2, 1, 1),
    "index": lambda z: z[:, [0, 3, 1]] + z.index_select(1, torch.tensor([2, 1, 0])),
    "diagonal": lambda z: z[..., :4].diagonal(dim1=2, dim2=3) + z[..., :4].tril().sum(-1) + z[..., :4].triu().sum(-2),
    "cumsum": lambda z: z.cumsum(2),
    "pad": lambda z: F.pad(z, (1, 0, 2, 1)),
    "pad-reflect": lambda z: F.pad(z, (1, 1, 1, 1), mode="reflect"),
    "pad-replicate": lambda z: F.pad(z, (1, 1, 1, 1), mode="replicate"),
    "pad-circular": lambda z: F.pad(z, (1, 1, 1, 1), mode="circular"),
    "avg-pool": lambda z: F.avg_pool2d(z, 2) + F.adaptive_avg_pool2d(z, (2, 3)),
    "avg-pool-1d": lambda z: F.avg_pool1d(z.flatten(2), 6) + F.adaptive_avg_pool1d(z.flatten(2), 4),
    "avg-pool-3d": lambda z: F.avg_pool3d(z, 2) + F.adaptive_avg_pool3d(z[:, None], (2, 2, 3))[:, 0],
    "upsample": lambda z: F.interpolate(z, scale_factor=2) + F.interpolate(z, scale_factor=2, mode="bilinear"),
    "upsample-bicubic": lambda z: F.interpolate(z, size=(5, 5), mode="bicubic"),
    "pixel-shuffle": lambda z: F.pixel_shuffle(z, 2) + F.pixel_shuffle(F.pixel_unshuffle(F.pixel_shuffle(z, 2), 2), 2),
    "unfold": lambda z: F.fold(F.unfold(z, 3), (4, 6), 3),
    "mean-sum": lambda z: z.mean(dim=(2, 3)) + z.sum(dim=-1).sum(-1) + z.sum() * 0 + z.mean() * 0,
    "masked": lambda z: z.masked_fill(bank(4, 4, 6) > 0, 1.5) + torch.where(bank(4, 6) > 0, z, 2.0),
    "where-both": lambda z: torch.where(z > 0, z * z, torch.exp(z)),
    "to-float64": lambda z: z.to(torch.float64, copy=True) + z.detach().sign() + torch.zeros_like(z),
    "written": written,
    "constants-into": constants_into,
    "jets-into-constants": jets_into_constants,
}

PRODUCTS = {
    "mul": lambda z: z * z.flip(1),
    "detached": lambda z: z.detach().exp() * z,
    "mul-broadcast": lambda z: z.mean(dim=(2, 3), keepdim=True).sigmoid() * z,
    "mul-ranks": lambda z: z * z[:, 0].mean(0),
    "mul-constant": lambda z: bank(2, 3, 1, 1, 1) * z[:, None] * 2.0,
    "div": lambda z: z / positive(z.flip(1)),
    "div-constants": lambda z: 1.0 / positive(z) + z / 3.0 + z / (bank(6).abs() + 1) + bank(6) / positive(z),
    "mm": lambda z: z.flatten(1) @ z.flatten(1).t(),
    "mm-constants": lambda z: z.flatten(1) @ bank(96, 3) + (bank(3, 96) @ z.flatten(1).t()).t(),
    "bmm": lambda z: torch.bmm(z[:, 0], z[:, 1].transpose(1, 2)),
    "bmm-constants": lambda z: torch.bmm(z[:, 0], bank(B, 6, 3)) + torch.bmm(bank(B, 4, 4), z[:, 1])[..., :3],
    "matmul-4d": lambda z: z @ z.transpose(-1, -2),
    "addmm-scaled": lambda z: torch.addmm(bank(3), z.flatten(1), bank(96, 3), beta=0.5, alpha=2.0),
    "einsum": lambda z: torch.einsum("bchw,bdhw->bcd", z, z),
    "softmax": lambda z: z.softmax(dim=1),
    "log-softmax": lambda z: z.log_softmax(dim=-1),
    "logsumexp": lambda z: z.logsumexp(dim=(1, 2))[:, None] + z.logsumexp(dim=-1, keepdim=True).flatten(1)[:, :6],
    "attention": attention,
    "layer-norm": lambda z: F.layer_norm(z, (4, 6), bank(4, 6), bank(4, 6, seed=9)),
    "layer-norm-plain": lambda z: F.layer_norm(z, (6,)),
    "rms-norm": lambda z: F.rms_norm(z, (6,), bank(6)),
    "group-norm": lambda z: F.group_norm(z, 2, bank(4), bank(4, seed=9)),
    "group-norm-plain": lambda z: F.group_norm(z, 4),
    "instance-norm": lambda z: F.instance_norm(z, weight=bank(4), bias=bank(4, seed=9)),
    "variance": lambda z: z.var(dim=(2, 3)) + z.std(dim=1).flatten(1)[:, :4] + z.var(dim=-1, keepdim=True)[:, :, 0, 0],
    "normalize": lambda z: F.normalize(z, dim=1) + z / z.norm(dim=(2, 3), keepdim=True),
    "max-pool": lambda z: F.max_pool2d(z, 2) * z.mean(),
    "max": lambda z: z.max(dim=1).values + z.min(dim=1).values,
    "amax": lambda z: z.amax(dim=(2, 3)) + z.amin(dim=(2, 3)) + z.flatten(2).amax(-1, keepdim=True)[..., 0],
    "sort-topk": lambda z: z.sort(dim=2).values[:, :, :2] * z.topk(2, dim=2).values,
    "maximum": lambda z: torch.maximum(z, z.flip(1) * 0.3) + torch.minimum(z, bank(6)),
    "outer-function": lambda z: torch.tanh(F.gelu(z) * torch.sigmoid(z.roll(1, 1))),
}
CASES = {**ELEMENTWISE, **LINEAR, **PRODUCTS}


def standard(z, dims):
    return (z - z.mean(dims, keepdim=True)) / (z.var(dims, correction=0, keepdim=True) + 1e-5).sqrt()


def scaled(z):
    shape = (4, 1, 1)
    return standard(z, (2, 3)) * bank(4).reshape(shape) + bank(4, seed=9).reshape(shape)


# The same functions written out, where torch has no second derivative or computes it in single precision, or where its
# third derivative is wrong (LayerNorm and InstanceNorm in torch 2.13).
REFERENCES = {
    "layer-norm-plain": lambda z: standard(z, (3,)),
    "layer-norm": lambda z: standard(z, (2, 3)) * bank(4, 6) + bank(4, 6, seed=9),
    "instance-norm": scaled,
    "hardsigmoid": lambda z: (z / 6 + 0.5).clamp(0, 1),
    "celu": lambda z: torch.where(z > 0, z, 0.6 * (z.clamp(max=0) / 0.6).expm1()),
}

# Operators that reach the engine on a GPU only.
ELSEWHERE = {aten.cudnn_batch_norm.default}


def points():
    return bank(B, *SHAPE, seed=11), bank(K, B, *SHAPE, seed=12)


def nested(model, x, d):
    """First and second derivative of ``t -> f(x + t d)`` at 0 by automatic differentiation, [B, c] each."""

    def along(t):
        return model(x + t * d)

    t = torch.zeros((), dtype=x.dtype, requires_grad=True)
    flat = along(t).flatten()
    first, second = [], []
    for out in flat:
        (g,) = torch.autograd.grad(out, t, create_graph=True)
        first.append(g.detach())
        h = torch.autograd.grad(g, t, retain_graph=True, allow_unused=True)[0] if g.requires_grad else None
        second.append(torch.zeros_like(g).detach() if h is None else h.detach())
    shape = (len(x), -1)
    return torch.stack(first).reshape(shape), torch.stack(second).reshape(shape)


@pytest.mark.parametrize("name", CASES)
def test_rule_against_automatic_differentiation(name):
    model = Bent(CASES[name]).eval()
    x, d = points()
    expected = model(x).detach()  # first, so that random constants are made outside of the trace
    program = Program(model, x)
    with torch.no_grad():
        value, firsts, seconds = program(x, d, WEIGHTS)
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=1e-12)
    reference = Bent(REFERENCES[name]) if name in REFERENCES else model
    pairs = [nested(reference, x, direction) for direction in d]
    first = torch.stack([p[0] for p in pairs])
    second = sum(w * p[1] for w, p in zip(WEIGHTS, pairs, strict=True))
    scale = 1 + max(float(first.abs().max()), float(second.abs().max()))
    assert float((firsts - first).abs().max()) <= 1e-9 * scale
    assert float((seconds - second).abs().max()) <= 1e-9 * scale
    assert firsts.shape == first.shape
    assert seconds.shape == second.shape


@pytest.mark.parametrize("name", CASES)
def test_rule_is_differentiable_in_parameters(name):
    """Gradient of a sum over value, first and second coefficients: in-place writes must not break it."""
    model, reference = (Bent(cases.get(name, CASES[name])).eval() for cases in (CASES, REFERENCES))
    x, d = points()
    cotangent = bank(*model(x).shape, seed=13)
    value, first, second = Program(model, x)(x, d[:2], (1.0, -0.5))
    total = (cotangent * (value + first[0] + second)).sum()
    t = torch.zeros((), dtype=x.dtype, requires_grad=True)
    expected = (cotangent * reference(x)).sum()
    for k, w in enumerate((1.0, -0.5)):
        (g,) = torch.autograd.grad((cotangent * reference(x + t * d[k])).sum(), t, create_graph=True)
        (h,) = torch.autograd.grad(g, t, create_graph=True, allow_unused=True) if g.requires_grad else (None,)
        expected = expected + (g if k == 0 else 0.0) + (0.0 if h is None else w * h)
    # The gradient of torch's own hardsigmoid holds 1/6 in single precision.
    tolerance = 1e-7 if name == "hardsigmoid" else 1e-9
    (got,), (want,) = (torch.autograd.grad(s, m.gain) for s, m in ((total, model), (expected, reference)))
    assert name == "pow-0" or float(want.abs().max()) > 0
    assert float((got - want).abs().max()) <= tolerance * float(want.abs().max())


def test_every_rule_is_reached_by_a_case():
    x, _ = points()
    reached = set()
    for function in CASES.values():
        reached |= {n.target for n in operators(Bent(function).eval(), x).graph.nodes if n.op == "call_function"}
    missing = " ".join(sorted(map(str, set(RULES) - reached - ELSEWHERE)))
    assert missing == ""
