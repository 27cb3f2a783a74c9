"""Whole networks, and ways to write them, against automatic differentiation in float64."""

from __future__ import annotations

import pytest
import torch
from derivatives import assert_near, normal, reference, uneven
from torch import nn
from torch.func import jvp
from torch.nn import functional as F
from torch.nn.utils import parametrizations

from experiments.models import NETWORKS, network
from msda_theory.taylor import Taylor, taylor

WEIGHTS = (1.5, -0.5)
WIDTHS = {"resnet8": 4, "preactresnet18": 4, "wideresnet28": 1, "wideresnet16": 1, "resnet50": 4, "vit": 12}
# torch's nested forward mode is wrong for LayerNorm.
NESTED = [name for name in NETWORKS if name != "vit"]


def built(name, activation):
    model = uneven(network(name, classes=3, seed=1, width=WIDTHS[name], activation=activation))
    size = 64 if name == "resnet50" else 32
    return model, 0.5 * normal(2, 3, size, size, seed=2), 0.5 * normal(2, 2, 3, size, size, seed=3)


def check(model, x, directions, *, curved=True):
    """`taylor` has a rule for everything and agrees with double backward; returns its results."""
    engine = Taylor(model, x)
    assert engine.fallback is None
    with torch.no_grad():
        t = engine(x, directions, WEIGHTS)
    value, first, second = reference(model, x, directions, WEIGHTS)
    assert_near(t.value, value, 1e-12)
    assert_near(t.first, first, 1e-9)
    assert_near(t.second, second, 1e-9)
    assert (float(second.abs().max()) > 1e-6) == curved  # whether there was something to compare
    return t


@pytest.mark.parametrize("activation", ["gelu", "relu"])
@pytest.mark.parametrize("name", NETWORKS)
def test_network_against_double_backward(name, activation):
    model, x, directions = built(name, activation)
    check(model, x, directions, curved=activation == "gelu" or name == "vit")


@pytest.mark.parametrize("name", NESTED)
def test_network_against_nested_forward_mode(name):
    model, x, directions = built(name, "gelu")
    with torch.no_grad():
        t = taylor(model, x, directions, WEIGHTS)
    second = torch.zeros_like(t.second)
    for w, d in zip(WEIGHTS, directions, strict=True):
        second += w * jvp(lambda z, d=d: jvp(model, (z,), (d,))[1], (x,), (d,))[1].detach()
    assert_near(t.second, second, 1e-9)


def test_unknown_network():
    with pytest.raises(ValueError, match=r"expected network among \['resnet8', .*\], got 'lenet'; choose one"):
        network("lenet", seed=0)


# --- ways to write a network -----------------------------------------------------------------------------------------


class Tokens(nn.Module):
    """A layer on tokens [B, 5, 8], between a quadratic map and a linear head."""

    def __init__(self, layer):
        super().__init__()
        self.layer, self.head = layer, nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.layer(x + 0.3 * x * x).mean(dim=1))


class MultiHead(nn.Module):
    def __init__(self, need_weights):
        super().__init__()
        self.attention, self.need_weights = nn.MultiheadAttention(8, 2, dropout=0.1, batch_first=True), need_weights

    def forward(self, z):
        return self.attention(z, z, z * z, need_weights=self.need_weights)[0]


class Written(nn.Module):
    """Attention written out: by einsum, or by torch's function with a causal mask."""

    def __init__(self, causal):
        super().__init__()
        self.qkv, self.causal = nn.Linear(8, 24), causal

    def forward(self, z):
        q, k, v = self.qkv(z).chunk(3, dim=-1)
        if self.causal:
            return F.scaled_dot_product_attention(q, k, v, is_causal=True)
        p = torch.einsum("bqd,bkd->bqk", q, k).softmax(dim=-1)
        return torch.einsum("bqk,bkd->bqd", p, v)


def encoder(norm_first, activation):
    return nn.TransformerEncoderLayer(
        8, 2, 16, dropout=0.1, activation=activation, batch_first=True, norm_first=norm_first
    )


TOKENS = {
    "encoder-norm-first": lambda: encoder(True, "gelu"),
    "encoder-norm-last": lambda: encoder(False, "relu"),
    "encoder-stack": lambda: nn.TransformerEncoder(encoder(False, "gelu"), 2, enable_nested_tensor=False),
    "multihead": lambda: MultiHead(False),
    "multihead-with-weights": lambda: MultiHead(True),
    "causal": lambda: Written(True),
    "einsum": lambda: Written(False),
}


@pytest.mark.parametrize("name", TOKENS)
def test_attention(name):
    torch.manual_seed(0)
    check(uneven(Tokens(TOKENS[name]())), normal(2, 5, 8, seed=4), normal(2, 2, 5, 8, seed=5))


class Excitation(nn.Module):
    """Squeeze-and-excitation, then classes."""

    def __init__(self):
        super().__init__()
        self.conv, self.down, self.up, self.head = (
            nn.Conv2d(2, 6, 3),
            nn.Linear(6, 2),
            nn.Linear(2, 6),
            nn.Linear(6, 3),
        )

    def forward(self, x):
        z = self.conv(x)
        gate = torch.sigmoid(self.up(F.silu(self.down(z.mean(dim=(2, 3))))))
        return self.head(F.adaptive_avg_pool2d((z * gate[:, :, None, None]) ** 2, 1).flatten(1))


class Views(nn.Module):
    """Writes in place into views of its results."""

    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(2, 4, 3, padding=1), nn.Linear(4, 3)

    def forward(self, x):
        z = self.conv(x)
        out = z.clone()
        half = out[:, :2]
        half.mul_(z[:, 2:].sigmoid())
        out[:, 3] += z[:, 0] ** 2
        out.view(len(z), -1)[:, :5].add_(z.flatten(1)[:, 5:10].exp())
        out.transpose(2, 3)[:, 1, 2:4] *= 2.0
        out[:, 2, 1:3] = 0.5
        return self.head(out.mean(dim=(2, 3)))


class Tied(nn.Module):
    """Two layers with one weight."""

    def __init__(self):
        super().__init__()
        self.one, self.two, self.head = nn.Linear(6, 6), nn.Linear(6, 6, bias=False), nn.Linear(6, 3)
        self.two.weight = self.one.weight

    def forward(self, x):
        return self.head(torch.tanh(self.two(torch.tanh(self.one(x.flatten(1)[:, :6])))))


class Attributes(nn.Module):
    """Tensors that are neither parameters nor buffers."""

    def __init__(self):
        super().__init__()
        self.filter, self.tables = normal(5, 2, 3, 3, seed=8), [normal(5, 3, seed=9)]

    def forward(self, x):
        return F.conv2d(x, self.filter).square().mean(dim=(2, 3)) @ self.tables[0]


class Shaped(nn.Module):
    """An output that is not contiguous."""

    def __init__(self, part):
        super().__init__()
        self.linear, self.part = nn.Linear(72, 6), part

    def forward(self, x):
        return self.part(F.softplus(self.linear(x.flatten(1))))


def stack(*layers):
    return nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), *layers, nn.Flatten(), nn.LazyLinear(3))


IMAGES = {
    "excitation": Excitation,
    "inplace": lambda: stack(
        nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Conv2d(4, 4, 3), nn.SiLU(inplace=True), nn.ELU(inplace=True)
    ),
    "views": Views,
    "tied": Tied,
    "attributes": Attributes,
    "weight-norm": lambda: nn.Sequential(parametrizations.weight_norm(nn.Conv2d(2, 4, 3)), nn.GELU(), Head()),
    "spectral-norm": lambda: nn.Sequential(parametrizations.spectral_norm(nn.Conv2d(2, 4, 3)), nn.GELU(), Head()),
    "orthogonal": lambda: nn.Sequential(nn.Flatten(), parametrizations.orthogonal(nn.Linear(72, 3)), nn.Softplus()),
    "slice": lambda: Shaped(lambda z: z[:, 1::2]),
    "transpose": lambda: Shaped(lambda z: z.t().contiguous().t()[:, :3]),
    "flipped": lambda: Shaped(lambda z: z.unflatten(1, (3, 2)).transpose(1, 2).select(1, 0)),
    "channels-last": lambda: nn.Sequential(nn.Conv2d(2, 4, 3).to(memory_format=torch.channels_last), nn.GELU(), Head()),
}


class Head(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 3)

    def forward(self, z):
        return self.linear(z.mean(dim=(2, 3)))


@pytest.mark.parametrize("name", IMAGES)
def test_ways_to_write_a_network(name):
    torch.manual_seed(0)
    model = IMAGES[name]()
    model(torch.zeros(1, 2, 6, 6, dtype=next(model.parameters(), normal(1, seed=1)).dtype))  # lazy layers
    check(uneven(model), normal(2, 2, 6, 6, seed=6), normal(2, 2, 2, 6, 6, seed=7))


class Constant(nn.Module):
    """Does not look at its input."""

    def __init__(self, written):
        super().__init__()
        self.bias, self.written = nn.Parameter(torch.arange(3.0)), written

    def forward(self, x):
        return torch.full((len(x), 3), 2.0, dtype=x.dtype) if self.written else self.bias.exp().expand(len(x), -1)


@pytest.mark.parametrize("written", [True, False], ids=["written", "parameter"])
def test_constant_output(written):
    t = check(uneven(Constant(written)), normal(2, 4, seed=6), normal(2, 2, 4, seed=7), curved=False)
    assert not t.first.any()
    assert not t.second.any()
