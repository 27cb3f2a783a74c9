"""Losses of the form ``l(f, y) = h(f) - y.f``, the only ones for which the one-sided form (1) is exact.

Each loss gives ``h``, its gradient ``h'`` and products with its Hessian ``h''`` in the logits f [B, c]; labels enter
as target vectors y [B, c]. Source: docs/theory.md, Eqs. (1) and (3).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


class Loss(ABC):
    """``l(f, y) = h(f) - y.f`` per sample; subclasses give ``h``, ``d1`` and ``d2``."""

    @abstractmethod
    def h(self, f: Tensor) -> Tensor:
        """h(f) [B] for logits f [B, c]."""

    @abstractmethod
    def d1(self, f: Tensor) -> Tensor:
        """h'(f) [B, c]."""

    @abstractmethod
    def d2(self, f: Tensor, v: Tensor) -> Tensor:
        """h''(f) v [B, c] for v [B, c]."""

    def value(self, f: Tensor, y: Tensor) -> Tensor:
        """l(f, y) = h(f) - sum_c y_c f_c, [B], for target vectors y [B, c]."""
        return self.h(f) - (y * f).sum(dim=-1)

    def outputs(self, num_classes: int) -> int:
        """Number of model outputs c that this loss expects for ``num_classes`` classes."""
        return num_classes

    def targets(self, y: Tensor, num_classes: int, dtype: torch.dtype) -> Tensor:
        """Target vectors [B, c] of class indices y [B]: one-hot."""
        return F.one_hot(y, num_classes).to(dtype)


@dataclass(frozen=True)
class SoftmaxCrossEntropy(Loss):
    """Softmax cross-entropy: ``h(f) = log sum_c exp f_c``, ``h' = p``, ``h'' = diag(p) - p p^T``, p = softmax(f)."""

    def h(self, f: Tensor) -> Tensor:
        """Log-sum-exp of the logits."""
        return f.logsumexp(dim=-1)

    def d1(self, f: Tensor) -> Tensor:
        """Class probabilities p."""
        return f.softmax(dim=-1)

    def d2(self, f: Tensor, v: Tensor) -> Tensor:
        """``p * (v - p.v)``."""
        p = f.softmax(dim=-1)
        return p * (v - (p * v).sum(dim=-1, keepdim=True))


@dataclass(frozen=True)
class Logistic(Loss):
    """Logistic loss of one logit, y in {0, 1}: ``h(f) = log(1 + exp f)``, ``h' = s``, ``h'' = s (1 - s)``."""

    def h(self, f: Tensor) -> Tensor:
        """Softplus, summed over the single output."""
        # Not F.softplus, which switches to the identity above 20 and so loses its derivatives there.
        return torch.logaddexp(f, torch.zeros_like(f)).sum(dim=-1)

    def d1(self, f: Tensor) -> Tensor:
        """s = sigmoid(f)."""
        return f.sigmoid()

    def d2(self, f: Tensor, v: Tensor) -> Tensor:
        """``s (1 - s) v``."""
        return f.sigmoid() * (-f).sigmoid() * v

    def outputs(self, num_classes: int) -> int:
        """One output; defined for two classes only."""
        if num_classes != 2:
            raise ValueError(f"the logistic loss is for 2 classes, got {num_classes}; use SoftmaxCrossEntropy().")
        return 1

    def targets(self, y: Tensor, num_classes: int, dtype: torch.dtype) -> Tensor:
        """The label itself as a column [B, 1]."""
        return y.to(dtype)[:, None]


@dataclass(frozen=True)
class Squared(Loss):
    """Squared loss ``1/2 |f|^2 - y.f``: ``1/2 |f - y|^2`` less the constant ``1/2 |y|^2``, which is not affine in y.

    For one-hot labels the constant is 1/2; it cancels in every rise and in every term.
    """

    def h(self, f: Tensor) -> Tensor:
        """Half the squared norm."""
        return 0.5 * (f * f).sum(dim=-1)

    def d1(self, f: Tensor) -> Tensor:
        """The logits themselves."""
        return f

    def d2(self, f: Tensor, v: Tensor) -> Tensor:
        """The identity."""
        return v


@dataclass(frozen=True)
class FunctionLoss(Loss):
    """A user's ``l(f [B, c], y [B, c]) -> [B]`` of the form ``h(f) - y.f``; derivatives by automatic differentiation.

    Build it with `as_loss`, which checks the form.
    """

    function: Callable[[Tensor, Tensor], Tensor]

    def h(self, f: Tensor) -> Tensor:
        """l(f, y) + y.f, the same for every label; taken at the first class."""
        first = torch.zeros_like(f)
        first[..., 0] = 1
        return self.function(f, first) + f[..., 0]

    def d1(self, f: Tensor) -> Tensor:
        """Gradient of h."""
        return torch.func.grad(lambda z: self.h(z).sum())(f)

    def d2(self, f: Tensor, v: Tensor) -> Tensor:
        """Hessian-vector product of h, forward over reverse."""
        product: Tensor = torch.func.jvp(self.d1, (f,), (v,))[1]
        return product


def as_loss(loss: Loss | Callable[[Tensor, Tensor], Tensor], num_classes: int) -> Loss:
    """``loss`` itself, or a callable ``l(f, y)`` wrapped, after a check that it is of the form ``h(f) - y.f``.

    The check evaluates, in float64 on fixed logits, ``l(f, y) + y.f`` for one-hot and soft labels; it must not depend
    on y, to 1e-9 relative. The one-sided form (1) needs a loss that is affine in the label, and the terms (3) need
    this slope. Subclasses of `Loss` other than the built-in ones are checked too, with their derivatives.

    Raises:
        TypeError: if ``loss`` is neither a `Loss` nor callable, or does not return a tensor.
        ValueError: if it returns the wrong shape, is not of the form ``h(f) - y.f``, or has wrong derivatives.
    """
    if isinstance(loss, type) or not callable(getattr(loss, "value", loss)):
        name = loss.__name__ if isinstance(loss, type) else type(loss).__name__
        raise TypeError(
            f"expected a loss such as SoftmaxCrossEntropy() or a callable l(f, y), got {name}; build the loss first."
        )
    if isinstance(loss, SoftmaxCrossEntropy | Logistic | Squared):
        return loss
    wrapped = loss if isinstance(loss, Loss) else FunctionLoss(loss)
    _check_form(wrapped.value if isinstance(loss, Loss) else loss, wrapped, num_classes)
    return wrapped


def _check_form(value: Callable[[Tensor, Tensor], Tensor], loss: Loss, num_classes: int) -> None:
    c, probes = loss.outputs(num_classes), 6
    f = torch.linspace(-2.0, 3.0, probes * c, dtype=torch.float64).sin().mul(2).reshape(probes, c)
    labels = loss.targets(torch.arange(probes) % num_classes, num_classes, torch.float64)
    for y in (labels, 0.7 * labels + 0.3 * labels.roll(1, dims=0)):
        got = value(f, y)
        if not isinstance(got, Tensor):
            raise TypeError(f"expected a loss that returns a tensor, got {type(got).__name__}; return values [B].")
        if got.shape != (probes,):
            raise ValueError(
                f"expected a loss value for each sample, shape [{probes}], got {tuple(got.shape)}; "
                "use reduction='none'."
            )
        expected = loss.h(f) - (y * f).sum(dim=-1)
        error = float((got - expected).abs().max())
        if not error <= 1e-9 * (1 + float(expected.abs().max())):
            raise ValueError(
                f"expected a loss affine in the label, of the form l(f, y) = h(f) - y.f, got a difference of "
                f"{error:.2g}; use SoftmaxCrossEntropy(), Logistic() or Squared(), or rewrite it in this form."
            )
    if not isinstance(loss, FunctionLoss):
        reference = FunctionLoss(loss.value)
        v = f.flip(0)
        for name, a, b in (("d1", loss.d1(f), reference.d1(f)), ("d2", loss.d2(f, v), reference.d2(f, v))):
            error = float((a - b).abs().max())
            if not error <= 1e-9 * (1 + float(b.abs().max())):
                raise ValueError(
                    f"expected {name} of {type(loss).__name__} to be the derivative of its h, got a difference of "
                    f"{error:.2g}; correct {name}."
                )
