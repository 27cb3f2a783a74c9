"""Losses against automatic differentiation, and what counts as a loss of the form h(f) - y.f."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from naive import as_users_run_it
from torch.nn import functional as F

from msda_theory.losses import FunctionLoss, Logistic, Loss, SoftmaxCrossEntropy, Squared, as_loss


def softmax_function(f, y):
    return f.logsumexp(dim=-1) - (y * f).sum(dim=-1)


def quartic(f, y):
    return (f**4).sum(dim=-1) / 4 + (f[:, 0] * f[:, -1]).sin() - (y * f).sum(dim=-1)


# name, loss, outputs, an independent formula of h for one sample
LOSSES = [
    ("softmax", SoftmaxCrossEntropy(), 4, lambda f: torch.log(torch.exp(f).sum())),
    ("logistic", Logistic(), 1, lambda f: torch.log(1 + torch.exp(f)).sum()),
    ("squared", Squared(), 3, lambda f: (f**2).sum() / 2),
    ("function-softmax", as_loss(softmax_function, 4), 4, lambda f: torch.log(torch.exp(f).sum())),
    ("function-quartic", as_loss(quartic, 3), 3, lambda f: (f**4).sum() / 4 + (f[0] * f[-1]).sin()),
]
IDS = [case[0] for case in LOSSES]
CASES = pytest.mark.parametrize(("loss", "outputs", "h"), [case[1:] for case in LOSSES], ids=IDS)


def logits(outputs: int, n: int = 5) -> torch.Tensor:
    return torch.randn(n, outputs, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


@CASES
def test_value_is_h_minus_label_times_logits(loss, outputs, h):
    f = logits(outputs)
    y = torch.rand(f.shape, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    expected = torch.stack([h(row) - (label * row).sum() for row, label in zip(f, y, strict=True)])
    torch.testing.assert_close(loss.value(f, y), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(loss.h(f), torch.stack([h(row) for row in f]), rtol=1e-12, atol=1e-12)


@CASES
def test_gradient_is_that_of_h(loss, outputs, h):
    f = logits(outputs)
    expected = torch.stack([torch.autograd.functional.jacobian(h, row) for row in f])
    torch.testing.assert_close(loss.d1(f), expected, rtol=1e-12, atol=1e-12)


@CASES
def test_hessian_product_is_that_of_h(loss, outputs, h):
    f, v = logits(outputs), logits(outputs, 10)[5:]
    expected = torch.stack([torch.autograd.functional.hessian(h, row) @ u for row, u in zip(f, v, strict=True)])
    torch.testing.assert_close(loss.d2(f, v), expected, rtol=1e-11, atol=1e-12)


@CASES
def test_derivatives_do_not_need_gradients_enabled(loss, outputs, h):
    f = logits(outputs)
    outside = loss.d1(f), loss.d2(f, f)
    with torch.no_grad():
        torch.testing.assert_close((loss.d1(f), loss.d2(f, f)), outside, rtol=0, atol=0)


@CASES
def test_value_is_affine_in_soft_labels(loss, outputs, h):
    f, classes = logits(outputs), max(outputs, 2)
    a = loss.targets(torch.tensor([0, 1, 1, 0, 1]), classes, torch.float64)
    b = loss.targets(torch.tensor([1, 1, 0, 0, 0]), classes, torch.float64)
    lam = torch.tensor([[0.0], [0.2], [0.5], [0.9], [1.0]], dtype=torch.float64)
    mixed = loss.value(f, lam * a + (1 - lam) * b)
    expected = lam[:, 0] * loss.value(f, a) + (1 - lam[:, 0]) * loss.value(f, b)
    torch.testing.assert_close(mixed, expected, rtol=1e-13, atol=1e-13)


def test_softmax_and_logistic_equal_torch():
    f, y = logits(4), torch.tensor([0, 3, 1, 2, 2])
    loss = SoftmaxCrossEntropy()
    torch.testing.assert_close(
        loss.value(f, loss.targets(y, 4, f.dtype)), F.cross_entropy(f, y, reduction="none"), rtol=1e-12, atol=1e-12
    )
    f, y = logits(1), torch.tensor([0, 1, 1, 0, 1])
    expected = F.binary_cross_entropy_with_logits(f[:, 0], y.double(), reduction="none")
    torch.testing.assert_close(Logistic().value(f, Logistic().targets(y, 2, f.dtype)), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("loss", [SoftmaxCrossEntropy(), Squared()], ids=["softmax", "squared"])
def test_targets_are_one_hot(loss):
    assert loss.outputs(3) == 3
    y = loss.targets(torch.tensor([2, 0]), 3, torch.float32)
    assert y.dtype == torch.float32
    assert y.tolist() == [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]


def test_logistic_has_one_output_for_two_classes_only():
    assert Logistic().outputs(2) == 1
    assert Logistic().targets(torch.tensor([1, 0]), 2, torch.float64).tolist() == [[1.0], [0.0]]
    with pytest.raises(ValueError, match="the logistic loss is for 2 classes, got 3"):
        Logistic().outputs(3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["f32", "f64"])
def test_softmax_of_extreme_logits(dtype):
    f = torch.tensor([[1000.0, -1000.0, 0.0], [-1000.0, -1000.0, -1000.0], [1000.0, 1000.0, 1000.0]], dtype=dtype)
    loss, y = SoftmaxCrossEntropy(), torch.tensor([[0.0, 1.0, 0.0]] * 3, dtype=dtype)
    log3 = torch.log(torch.tensor(3.0, dtype=dtype)).item()
    torch.testing.assert_close(loss.value(f, y), torch.tensor([2000.0, log3, log3], dtype=dtype), rtol=0, atol=1e-3)
    assert loss.d1(f)[0].tolist() == [1.0, 0.0, 0.0]
    assert torch.isfinite(loss.d2(f, f)).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["f32", "f64"])
def test_logistic_of_extreme_logits(dtype):
    f = torch.tensor([[1000.0], [-1000.0], [30.0]], dtype=dtype)
    loss, y = Logistic(), torch.tensor([[0.0], [0.0], [1.0]], dtype=dtype)
    value = loss.value(f, y)
    assert value[:2].tolist() == [1000.0, 0.0]
    assert abs(float(value[2])) < 1e-6
    assert loss.d1(f)[:2].tolist() == [[1.0], [0.0]]
    assert loss.d2(f, torch.ones_like(f))[:2].tolist() == [[0.0], [0.0]]
    # At 30 the curvature is exp(-30), not 0: 1 - sigmoid(30) must not cancel.
    assert float(loss.d2(f, torch.ones_like(f))[2]) == pytest.approx(9.357622968839299e-14, rel=1e-5)


def test_as_loss_passes_losses_through_and_wraps_functions():
    loss = Squared()
    assert as_loss(loss, 3) is loss
    wrapped = as_loss(softmax_function, 5)
    assert isinstance(wrapped, FunctionLoss)
    assert wrapped.outputs(5) == 5


def test_as_loss_accepts_cross_entropy_of_torch():
    """For labels on the simplex it is logsumexp(f) - y.f; away from the simplex (y = 0) it is not."""
    wrapped = as_loss(lambda f, y: F.cross_entropy(f, y, reduction="none"), 4)
    f, reference = logits(4), SoftmaxCrossEntropy()
    y = reference.targets(torch.tensor([0, 3, 1, 2, 2]), 4, f.dtype)
    torch.testing.assert_close(wrapped.value(f, y), reference.value(f, y), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(wrapped.d1(f), reference.d1(f), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(wrapped.d2(f, f), reference.d2(f, f), rtol=1e-11, atol=1e-12)


def half_square(f, y):
    return 0.5 * ((f - y) ** 2).sum(dim=-1)


def focal(f, y):
    log_p = f.log_softmax(dim=-1)
    return -(y * (1 - log_p.exp()) ** 2 * log_p).sum(dim=-1)


def twice(f, y):
    return 2 * softmax_function(f, y)


def nan_loss(f, y):
    return softmax_function(f, y) * float("nan")


@pytest.mark.parametrize("function", [half_square, focal, twice, nan_loss])
def test_as_loss_refuses_losses_of_another_form(function):
    with pytest.raises(
        ValueError, match=r"expected a loss affine in the label, of the form l\(f, y\) = h\(f\) - y\.f, got a"
    ):
        as_loss(function, 3)


@pytest.mark.parametrize(
    "function",
    [lambda f, y: softmax_function(f, y).mean(), lambda f, y: softmax_function(f, y)[:, None]],
    ids=["mean", "column"],
)
def test_as_loss_refuses_reductions(function):
    with pytest.raises(ValueError, match="expected a loss value for each sample, shape"):
        as_loss(function, 3)


@pytest.mark.parametrize("loss", ["softmax", None, 3], ids=["str", "none", "int"])
def test_as_loss_refuses_what_is_not_callable(loss):
    with as_users_run_it(), pytest.raises(TypeError, match="or a callable l"):
        as_loss(loss, 3)


@dataclass(frozen=True)
class ByHand(Loss):
    """Softmax by hand, its derivatives wrong by a factor."""

    first: float = 1.0
    second: float = 1.0
    scale: float = 1.0

    def h(self, f):
        return self.scale * f.logsumexp(dim=-1)

    def d1(self, f):
        return self.scale * self.first * f.softmax(dim=-1)

    def d2(self, f, v):
        return self.scale * self.second * SoftmaxCrossEntropy().d2(f, v)


def test_derivatives_of_a_loss_of_ones_own_are_checked():
    for scale in (1.0, 1000.0):
        for first, second in ((1.0, 1.0), (1 + 5e-10, 1.0), (1.0, 1 - 5e-10)):
            loss = ByHand(first, second, scale)
            assert as_loss(loss, 3) is loss
    with pytest.raises(ValueError, match=r"expected d1 of ByHand to be the derivative of its h, got a difference of"):
        as_loss(ByHand(first=1 + 1e-8), 3)
    with pytest.raises(ValueError, match=r"expected d2 of ByHand to be the derivative of its h, got .*; correct d2"):
        as_loss(ByHand(second=1 - 1e-8), 3)
    with pytest.raises(ValueError, match=r"expected d1 of ByHand to be the derivative of its h"):
        as_loss(ByHand(first=-1.0), 3)
    with pytest.raises(ValueError, match=r"expected d1 of ByHand to be the derivative of its h"):
        as_loss(ByHand(first=1 + 4e-9, scale=1000.0), 3)


@pytest.mark.parametrize("slope", [0.0, 2e-10, 1e-7])
def test_a_loss_is_affine_in_the_label_up_to_rounding(slope):
    """A part in y^2 of 1e-9 of the value is rounding; more is another form."""

    def bent(f, y):
        return softmax_function(f, y) + slope * (y**2).sum(dim=-1)

    if slope < 1e-9:
        assert isinstance(as_loss(bent, 3), FunctionLoss)
    else:
        with pytest.raises(ValueError, match="expected a loss affine in the label, of the form"):
            as_loss(bent, 3)


@pytest.mark.parametrize(("slope", "fine"), [(1e-6, True), (4e-6, False)])
def test_rounding_of_a_loss_is_relative_to_its_size(slope, fine):
    """1e-9 of a value of 1000; a part in y^2 shows by .42 of itself where labels are .7 and .3."""

    def bent(f, y):
        return 1000 + softmax_function(f, y) + slope * (y**2).sum(dim=-1)

    if fine:
        assert isinstance(as_loss(bent, 3), FunctionLoss)
    else:
        with pytest.raises(ValueError, match="expected a loss affine in the label, of the form"):
            as_loss(bent, 3)
