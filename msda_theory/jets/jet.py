"""A jet: the Taylor coefficients of one intermediate result along K directions, second order summed over them.

Along direction k, ``z(t) = z0 + t z1_k + t^2/2 z2_k + ...``. Since no rule multiplies second-order coefficients with
one another, ``sum_k w_k z2_k`` can be propagated in place of the K coefficients themselves: K + 2 arrays instead of
2 K + 1 (docs/engine.md; Dangel et al., "Collapsing Taylor Mode Automatic Differentiation", 2025).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


class NoRule(NotImplementedError):
    """An operator, or a use of it, that has no rule; the message names it."""


@dataclass(frozen=True, eq=False)
class Jet:
    """Coefficients of a result of shape S along K directions.

    Attributes:
        value: z0 [*S].
        rest: ``z1_1, ..., z1_K`` and ``sum_k w_k z2_k``, stacked [K + 1, *S]: a linear operator acts on all alike.
        weights: w_1, ..., w_K.
    """

    value: Tensor
    rest: Tensor
    weights: tuple[float, ...]

    @classmethod
    def line(cls, x: Tensor, directions: Tensor, weights: tuple[float, ...]) -> Jet:
        """The input itself: ``x + t d_k``, x [*S], directions [K, *S]."""
        return cls(x, torch.cat([directions, torch.zeros_like(x)[None]]), weights)

    @classmethod
    def constant(cls, value: Tensor, like: Jet) -> Jet:
        """A result that does not depend on the input."""
        return cls(value, value.new_zeros(len(like.rest), *value.shape), like.weights)

    @property
    def first(self) -> Tensor:
        """z1 [K, *S]."""
        return self.rest[:-1]

    @property
    def second(self) -> Tensor:
        """``sum_k w_k z2_k`` [*S]."""
        return self.rest[-1]

    def linear(self, value: Tensor, rest: Tensor) -> Jet:
        """The jet with these coefficients and the same weights."""
        return Jet(value, rest, self.weights)

    def aligned(self, ndim: int) -> Tensor:
        """``rest`` with S padded by ones to ``ndim`` axes, so that it broadcasts against arrays of that rank."""
        missing = ndim - self.value.ndim
        return self.rest.reshape(len(self.rest), *(1,) * missing, *self.value.shape) if missing > 0 else self.rest


def weighted(a: Tensor, b: Tensor, weights: tuple[float, ...]) -> Tensor:
    """``sum_k w_k a_k b_k`` for a, b [K, *S].

    On the CPU without an array of the size of a, one k after the other; on a GPU in few kernels, whatever K.
    """
    if not weights:
        return torch.zeros_like(a.sum(dim=0) * b.sum(dim=0))
    if a.is_cuda:
        products = a * b
        if set(weights) != {1.0}:
            products = products * products.new_tensor(weights).reshape(-1, *(1,) * (products.ndim - 1))
        return products.sum(dim=0)
    total = a[0] * b[0] if weights[0] == 1.0 else weights[0] * a[0] * b[0]
    for w, u, v in zip(weights[1:], a[1:], b[1:], strict=True):
        total = total.addcmul_(u, v, value=w)
    return total


def chain(x: Jet, value: Tensor, d1: Tensor, d2: Tensor | None) -> Jet:
    """``phi(x)`` elementwise: ``z1 = phi' x1`` and ``z2 = phi' x2 + phi'' sum_k w_k x1_k^2``; d2 None for phi'' = 0."""
    rest = x.rest * d1
    if d2 is not None:
        rest[-1].addcmul_(d2, weighted(x.first, x.first, x.weights))
    return x.linear(value, rest)


def product(a: Jet, b: Jet, value: Tensor, times: Callable[[Tensor, Tensor], Tensor], cross: Tensor) -> Jet:
    """A bilinear operator: ``z1 = a1 b0 + a0 b1``, ``z2 = a2 b0 + 2 sum_k w_k a1_k b1_k + a0 b2``.

    ``times`` applies it to stacks [K + 1, ...] against single arrays; ``cross`` is ``sum_k w_k a1_k b1_k``.
    """
    rest = times(a.rest, b.value) + times(a.value, b.rest)
    rest[-1].add_(cross, alpha=2.0)
    return a.linear(value, rest)


Rule = Callable[..., Any]
