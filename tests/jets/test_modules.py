"""Modules as people build them: shared layers, other memory layouts, compiled, with values taken out of torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from derivatives import assert_near, reference
from naive import as_users_run_it
from torch import nn
from torch.nn import functional as F

from msda_theory.taylor import Taylor, taylor


def points(batch=2, channels=3, size=4, directions=2):
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(batch, channels, size, size, generator=generator, dtype=torch.float64)
    return x, torch.randn(directions, *x.shape, generator=generator, dtype=torch.float64)


class TwoNames(nn.Module):
    """One layer under two names, and its weight in a second layer."""

    def __init__(self):
        super().__init__()
        self.a, self.head = nn.Linear(48, 48).double(), nn.Linear(48, 3).double()
        self.seq = nn.Sequential(self.a, nn.Tanh())
        self.tied = nn.Linear(48, 48).double()
        self.tied.weight = self.a.weight

    def forward(self, x):
        return self.head(torch.tanh(self.tied(self.seq(x.flatten(1)))))


def test_shared_layers_and_weights_stay_the_modules_own():
    model = TwoNames().eval()
    x, d = points()
    before = {name: (id(p), p.clone()) for name, p in model.named_parameters(remove_duplicate=False)}
    t = taylor(model, x, d)
    _, first, second = reference(model, x, d)
    assert_near(t.first.detach(), first.detach(), 1e-9)
    assert_near(t.second.detach(), second.detach(), 1e-9)
    t.second.sum().backward()
    after = dict(model.named_parameters(remove_duplicate=False))
    assert {name: id(p) for name, p in after.items()} == {name: i for name, (i, _) in before.items()}
    assert all(p.requires_grad and torch.equal(p, before[name][1]) for name, p in after.items())
    assert model.a.weight.grad.abs().max() > 0
    assert model.tied.weight is model.a.weight is model.seq[0].weight


def test_channels_last_needs_no_fallback():
    layers = nn.Conv2d(3, 6, 3, padding=1), nn.GELU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3)
    model = nn.Sequential(*layers).double().eval().to(memory_format=torch.channels_last)
    x, d = points()
    x = x.to(memory_format=torch.channels_last)
    engine = Taylor(model, x)
    assert engine.fallback is None
    with torch.no_grad():
        t = engine(x, d)
    _, first, second = reference(model, x, d)
    assert_near(t.first, first.detach(), 1e-9)
    assert_near(t.second, second.detach(), 1e-9)


def test_a_compiled_module_is_traced_as_the_one_inside():
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 3), nn.Tanh()).double().eval()
    x, d = points()
    compiled = torch.compile(model, backend="eager")
    assert torch.equal(taylor(compiled, x, d).second, taylor(model, x, d).second)


def test_values_taken_out_of_torch_are_noticed():
    class Outside(nn.Module):
        def forward(self, x):
            scale = torch.from_numpy(np.asarray(x.detach().flatten(1).tolist())).sum(dim=1, keepdim=True)
            return x.flatten(1)[:, :3] * scale

    x, _ = points()
    with pytest.warns(UserWarning, match="no second-order rule for outputs that differ when traced"):
        assert Taylor(Outside().eval(), x).fallback is not None


def test_a_norm_of_zero_has_derivative_zero():
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 5, bias=False)).double().eval()

    class Cosine(nn.Module):
        def forward(self, x):
            return F.normalize(model(x), dim=1)

    x, d = points()
    x[0] = 0
    t = taylor(Cosine(), x, d)
    assert torch.isfinite(t.first).all()
    assert torch.isfinite(t.second).all()


class Half(nn.Module):
    def __init__(self, how):
        super().__init__()
        self.linear, self.how = nn.Linear(48, 3), how

    def forward(self, x):
        if self.how == "autocast":
            with torch.autocast("cpu", dtype=torch.bfloat16):
                return self.linear(x.flatten(1)).float()
        return self.linear(x.flatten(1)).half().float()


@pytest.mark.parametrize("how", ["autocast", "cast"])
def test_lower_precision_inside_is_refused(how):
    x, _ = points()
    match = r"second derivatives need one precision throughout, got torch\.\w*float16 inside the module"
    with pytest.raises(ValueError, match=match):
        Taylor(Half(how).eval(), x.float())


def test_train_mode_after_the_trace_is_refused():
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 3)).double().eval()
    x, d = points()
    engine = Taylor(model, x)
    model.train()
    with pytest.raises(ValueError, match="expected the module in the mode of the trace, got other train or eval flags"):
        engine(x, d)


def test_parameters_added_after_the_trace_are_refused():
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 3)).double().eval()
    x, d = points()
    engine = Taylor(model, x)
    model.register_buffer("extra", torch.zeros(1))
    with pytest.raises(
        ValueError, match=r"expected the parameters and buffers of the trace, got changes at \['extra'\]"
    ):
        engine(x, d)


def test_other_kinds_of_model_are_refused():
    x, _ = points()
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 3)).double().eval()
    with as_users_run_it(), pytest.raises(TypeError, match=r"expected a torch\.nn\.Module, got function"):
        Taylor(lambda z: z, x)
    with pytest.raises(TypeError, match=r"expected parameters in the dtype of the images \(torch.float32\)"):
        Taylor(model, x.float())
    with pytest.warns(DeprecationWarning, match="torch.jit.trace"):
        scripted = torch.jit.trace(model, x)
    match = r"expected a module in Python code, got .*; pass the module that torch\.jit was given"
    with pytest.raises(TypeError, match=match):
        Taylor(scripted, x)
