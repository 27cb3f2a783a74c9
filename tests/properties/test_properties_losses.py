"""Losses h(f) - y.f at any logits: derivatives against automatic differentiation, affine in the label."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from property_cases import examples, seeds
from torch import Tensor
from torch.nn import functional as F

from msda_theory.losses import FunctionLoss, Logistic, Loss, SoftmaxCrossEntropy, Squared, as_loss


def cross_entropy(f: Tensor, y: Tensor) -> Tensor:
    return f.logsumexp(dim=-1) - (y * f).sum(dim=-1)


losses: st.SearchStrategy[Loss] = st.sampled_from(
    [SoftmaxCrossEntropy(), Logistic(), Squared(), as_loss(cross_entropy, 3)]
)
scales = st.sampled_from([0.0, 1e-8, 0.1, 1.0, 10.0, 100.0, 1e4])
sizes = st.tuples(st.integers(1, 5), st.integers(2, 6))


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def problem(loss: Loss, seed: int, size: tuple[int, int], scale: float) -> tuple[Tensor, Tensor]:
    """Logits and directions [B, c]."""
    n, c = size[0], 1 if isinstance(loss, Logistic) else size[1]
    both = normal(seed, 2 * n, c)
    return scale * both[:n], both[n:]


def independent_h(loss: Loss, f: Tensor) -> Tensor:
    """h by functions of torch that the package does not use."""
    if isinstance(loss, Squared):
        return (f**2 / 2).sum(dim=-1)
    if isinstance(loss, Logistic):
        return -F.logsigmoid(-f).sum(dim=-1)
    zero = torch.zeros(len(f), dtype=torch.int64)
    return F.cross_entropy(f, zero, reduction="none") + f[:, 0]


@examples(100)
@given(losses, seeds, sizes, scales)
def test_values_and_derivatives_are_those_of_h(loss, seed, size, scale):
    f, v = problem(loss, seed, size, scale)
    rounding = {"rtol": 1e-9, "atol": 1e-12 * (1 + scale)}
    torch.testing.assert_close(loss.h(f), independent_h(loss, f), **rounding)
    gradient = torch.func.grad(lambda z: independent_h(loss, z).sum())
    torch.testing.assert_close(loss.d1(f), gradient(f), **rounding)
    curved = torch.func.jvp(gradient, (f,), (v,))[1]
    torch.testing.assert_close(loss.d2(f, v), curved, **rounding)


@examples(60)
@given(losses, seeds, sizes, st.sampled_from([0.0, 0.1, 1.0, 5.0]))
def test_derivatives_are_limits_of_differences(loss, seed, size, scale):
    """Central differences with step 1e-4: errors of order 1e-8 beside rounding."""
    f, v = problem(loss, seed, size, scale)
    step = 1e-4
    slope = (loss.h(f + step * v) - loss.h(f - step * v)) / (2 * step)
    torch.testing.assert_close((loss.d1(f) * v).sum(dim=-1), slope, rtol=1e-6, atol=1e-7)
    bend = (loss.d1(f + step * v) - loss.d1(f - step * v)) / (2 * step)
    torch.testing.assert_close(loss.d2(f, v), bend, rtol=1e-6, atol=1e-7)


@examples(60)
@given(losses, seeds, sizes, scales, st.floats(-3, 3))
def test_the_value_is_affine_in_the_label(loss, seed, size, scale, lam):
    """Also outside the simplex; FunctionLoss takes its h at one label and must not depend on which."""
    f, y = problem(loss, seed, size, scale)
    z = y.flip(0) + 0.3
    mixed = loss.value(f, lam * y + (1 - lam) * z)
    expected = lam * loss.value(f, y) + (1 - lam) * loss.value(f, z)
    torch.testing.assert_close(mixed, expected, rtol=1e-10, atol=1e-10 * (1 + scale))
    torch.testing.assert_close(loss.value(f, y), loss.h(f) - (y * f).sum(dim=-1), rtol=1e-12, atol=1e-11 * (1 + scale))


@examples(60)
@given(losses, seeds, sizes, scales)
def test_the_hessian_is_symmetric_linear_and_convex(loss, seed, size, scale):
    f, v = problem(loss, seed, size, scale)
    w = normal(seed // 2 + 1, *v.shape)
    rounding = {"rtol": 1e-9, "atol": 1e-12}
    torch.testing.assert_close((w * loss.d2(f, v)).sum(), (v * loss.d2(f, w)).sum(), **rounding)
    torch.testing.assert_close(loss.d2(f, v - 2 * w), loss.d2(f, v) - 2 * loss.d2(f, w), **rounding)
    assert float((v * loss.d2(f, v)).sum(dim=-1).min()) >= -1e-12


@examples(60)
@given(seeds, sizes, scales, st.sampled_from([1.0, -30.0, 1e4, -1e6]))
def test_softmax_does_not_see_a_constant(seed, size, scale, constant):
    """h grows by the constant; on labels that sum to 1 the value, and all derivatives, stay."""
    loss = SoftmaxCrossEntropy()
    f, v = problem(loss, seed, size, scale)
    y = v.softmax(dim=-1)
    rounding = {"rtol": 0, "atol": 1e-13 * (1 + scale + abs(constant))}
    torch.testing.assert_close(loss.h(f + constant), loss.h(f) + constant, **rounding)
    torch.testing.assert_close(loss.value(f + constant, y), loss.value(f, y), **rounding)
    torch.testing.assert_close(loss.d1(f + constant), loss.d1(f), **rounding)
    torch.testing.assert_close(loss.d2(f + constant, v), loss.d2(f, v), **rounding)


@examples(40)
@given(seeds, st.integers(1, 5), scales)
def test_two_classes_by_softmax_are_the_logistic_loss(seed, n, scale):
    logit = scale * normal(seed, n, 1)
    f = torch.cat([torch.zeros_like(logit), logit], dim=1)
    y = torch.arange(n) % 2
    softmax, logistic = SoftmaxCrossEntropy(), Logistic()
    rounding = {"rtol": 1e-12, "atol": 1e-13 * (1 + scale)}
    torch.testing.assert_close(
        softmax.value(f, softmax.targets(y, 2, f.dtype)),
        logistic.value(logit, logistic.targets(y, 2, f.dtype)),
        **rounding,
    )
    torch.testing.assert_close(softmax.d1(f)[:, 1:], logistic.d1(logit), **rounding)
    v = torch.cat([torch.zeros_like(logit), torch.ones_like(logit)], dim=1)
    torch.testing.assert_close(softmax.d2(f, v)[:, 1:], logistic.d2(logit, torch.ones_like(logit)), **rounding)


@examples(60)
@given(losses, seeds, sizes, st.sampled_from([0.0, 1.0, 100.0, 1e4, 1e30]))
def test_single_precision_stays_and_is_finite(loss, seed, size, scale):
    f, v = (t.float() for t in problem(loss, seed, size, scale))
    for result in (loss.h(f), loss.d1(f), loss.d2(f, v), loss.value(f, v)):
        assert result.dtype == torch.float32
        if not (isinstance(loss, Squared) and scale == 1e30):  # its square is beyond float32
            assert torch.isfinite(result).all()


@pytest.mark.parametrize("c", [2, 3, 10])
def test_a_function_is_taken_as_its_own_loss(c):
    wrapped = as_loss(cross_entropy, c)
    assert isinstance(wrapped, FunctionLoss)
    f = normal(0, 4, c)
    torch.testing.assert_close(wrapped.d1(f), SoftmaxCrossEntropy().d1(f), rtol=1e-12, atol=1e-13)
