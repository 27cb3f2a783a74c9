"""What the engine refuses, by message, and what it leaves as it was."""

from __future__ import annotations

import pytest
import torch
from derivatives import normal, uneven
from torch import nn

from msda_theory.jets.jet import NoRule
from msda_theory.jets.program import Program
from msda_theory.taylor import Taylor, taylor

SHAPE = (2, 6, 6)


def points(dtype=torch.float64):
    return normal(3, *SHAPE, seed=5, dtype=dtype), normal(2, 3, *SHAPE, seed=6, dtype=dtype)


def net(*layers):
    torch.manual_seed(0)
    out = nn.Sequential(nn.Conv2d(2, 4, 3), *layers, nn.Flatten(), nn.LazyLinear(3))
    out(torch.zeros(1, *SHAPE))
    return uneven(out)


class Function(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function, self.head = function, net()

    def forward(self, x):
        return self.function(self.head(x))


# --- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "layer", [nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Dropout2d(0.5)], ids=lambda v: type(v).__name__
)
def test_train_mode(layer):
    x, d = points()
    trained = net(layer)
    engine = Taylor(trained, x)
    trained.train()
    message = rf"expected a model in eval mode, got {type(layer).__name__} '1' in train mode; call model\.eval\(\)"
    for call in (lambda: Taylor(trained, x), lambda: taylor(trained, x, d), lambda: engine(x, d)):
        with pytest.raises(ValueError, match=message):
            call()


COUPLED = {
    "centred": lambda z: z - z.mean(dim=0),
    "softmax-over-batch": lambda z: z.softmax(dim=0),
}


@pytest.mark.parametrize("name", COUPLED)
def test_samples_that_influence_each_other(name):
    coupled = Function(COUPLED[name]).double().eval()
    with pytest.raises(ValueError, match="expected outputs that do not depend on the rest of the batch, got a change"):
        Taylor(coupled, points()[0])


def test_a_model_that_changes_its_input():
    x, _ = points()
    before = x.clone()
    with pytest.raises(ValueError, match="expected a model that leaves its input as it is"):
        Taylor(nn.Sequential(nn.ReLU(inplace=True), net()).eval(), x)
    assert torch.equal(x, before)


@pytest.mark.parametrize("dtype", [torch.int64, torch.float16, torch.bfloat16, torch.complex64, torch.bool], ids=str)
def test_inputs_of_another_dtype(dtype):
    x, d = points()
    engine = Taylor(net(), x)
    for call in (lambda: Taylor(net(), x.to(dtype)), lambda: engine(x.to(dtype), d.to(dtype))):
        with pytest.raises(TypeError, match=rf"expected inputs in float32 or float64, got {dtype}; convert with"):
            call()


def test_mixed_precision():
    x, d = points(torch.float32)
    engine = Taylor(net().float(), x)
    with torch.autocast("cpu"):
        for call in (lambda: Taylor(net().float(), x), lambda: engine(x, d)):
            with pytest.raises(ValueError, match=r"got automatic mixed precision; leave torch\.autocast"):
                call()


def test_samples_unlike_those_of_the_trace():
    x, d = points()
    engine = Taylor(net(), x)
    message = r"expected samples \[2, 6, 6\] of torch.float64 on cpu, as at the trace, got {}; trace again with Taylor"
    with pytest.raises(ValueError, match=message.format(r"\[2, 5, 6\] of torch.float64 on cpu")):
        engine(x[:, :, 1:], d[:, :, :, 1:])
    with pytest.raises(ValueError, match=message.format(r"\[2, 6, 6\] of torch.float32 on cpu")):
        engine(x.float(), d.float())


@pytest.mark.parametrize("weights", [(), (1.0,), (1.0, 2.0, 3.0)], ids=len)
def test_wrong_number_of_weights(weights):
    x, d = points()
    with pytest.raises(ValueError, match=rf"expected 2 weights, got {len(weights)}; give one for each direction"):
        Taylor(net(), x)(x, d, weights)


@pytest.mark.parametrize("cut", [lambda d: d[0], lambda d: d[:, :2], lambda d: d[..., 1:], lambda d: d[:0]])
def test_wrong_directions(cut):
    x, d = points()
    with pytest.raises(ValueError, match=r"expected directions \[K, 3, 2, 6, 6\] with K >= 1, got .* stack one"):
        Taylor(net(), x)(x, cut(d))


def test_directions_of_another_dtype():
    x, d = points()
    with pytest.raises(
        TypeError, match=r"expected directions in torch.float64 on cpu, as the inputs, got torch.float32"
    ):
        Taylor(net(), x)(x, d.float())


def test_no_samples():
    x, d = points()
    with pytest.raises(ValueError, match="expected at least one sample, got 0"):
        Taylor(net(), x[:0])
    with pytest.raises(ValueError, match="expected at least one sample, got 0"):
        Taylor(net(), x)(x[:0], d[:, :0])


@pytest.mark.parametrize(
    ("function", "got"),
    [(lambda z: (z, z), "tuple"), (lambda z: z[:, 0], r"\(3,\)"), (lambda z: z[:, None], r"\(3, 1, 3\)")],
)
def test_outputs_of_another_form(function, got):
    with pytest.raises(ValueError, match=rf"expected model outputs \[3, c\] for 3 samples, got {got}"):
        Taylor(Function(function).eval(), points()[0])


# --- what stays as it was --------------------------------------------------------------------------------------------


def snapshot(module):
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    return (
        torch.get_rng_state().tolist(),
        torch.is_grad_enabled(),
        torch.backends.mha.get_fastpath_enabled(),
        [torch.backends.cuda.flash_sdp_enabled(), torch.backends.cuda.mem_efficient_sdp_enabled()],
        [m.training for m in module.modules()],
        {k: (id(t), t._version, t.requires_grad, t.grad, t.detach().tolist()) for k, t in tensors.items()},
    )


class Raises(nn.Module):
    """Fails in the trace, or in the first pass after it."""

    def __init__(self, calls):
        super().__init__()
        self.head, self.calls = net(nn.BatchNorm2d(4), nn.Dropout(0.5)), calls

    def forward(self, x):
        self.calls -= 1
        if self.calls < 0:
            raise RuntimeError("not today")
        return self.head(x)


@pytest.mark.parametrize("fast", [True, False], ids=["fastpath", "no-fastpath"])
@pytest.mark.parametrize("grad", [True, False], ids=["grad", "no_grad"])
def test_tracing_and_calling_leave_the_state(fast, grad):
    x, d = points()
    module = net(nn.BatchNorm2d(4), nn.Dropout(0.5))
    module[0].weight.requires_grad_(False)
    module[4].train()  # a linear layer: no refusal
    default = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(fast)
    try:
        with torch.set_grad_enabled(grad):
            before = snapshot(module)
            taylor(module, x, d)
            assert snapshot(module) == before
    finally:
        torch.backends.mha.set_fastpath_enabled(default)


@pytest.mark.parametrize("calls", [0, 1, 3, 4])
def test_a_failed_trace_leaves_the_state(calls):
    x, _ = points()
    module = Raises(calls).eval()
    before = snapshot(module)
    with pytest.raises(RuntimeError, match="not today"):
        Taylor(module, x)
    assert snapshot(module) == before


def test_a_fallback_leaves_the_state():
    x, d = points()
    module = Function(torch.special.i0).eval()
    before = snapshot(module)
    with pytest.warns(UserWarning, match="i0"):
        taylor(module, x, d)
    assert snapshot(module) == before


def test_a_program_names_all_operators_without_a_rule():
    x, _ = points()
    with pytest.raises(NoRule, match=r"^the operators aten\.i0\.default, aten\.sinh\.default$"):
        Program(Function(lambda z: torch.special.i0(z) + z.sinh()).eval(), x)


class Counts(nn.Module):
    """Keeps state that is no parameter or buffer."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return x.flatten(1)[:, :3] * (1.0 if self.calls <= 4 else 2.0)  # check: 3 calls, trace: 1, comparison: 1


def test_state_kept_elsewhere_is_found():
    with pytest.warns(UserWarning, match=r"no second-order rule for outputs that differ when traced \(random, state"):
        Taylor(Counts(), points()[0])


def test_a_shape_that_hangs_on_the_call_is_found():
    class Grows(Counts):
        def forward(self, x):
            self.calls += 1
            return x.flatten(1)[:, : 3 if self.calls <= 4 else 4]

    with pytest.warns(UserWarning, match="no second-order rule for outputs that change shape when traced"):
        Taylor(Grows(), points()[0])
