"""Rules of products of two results, of normalisations, and of selections of the largest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from msda_theory.jets.elementwise import _of_power
from msda_theory.jets.jet import Jet, NoRule, Rule, chain, product, weighted

aten = torch.ops.aten


def _value(z: Any) -> Any:
    return z.value if isinstance(z, Jet) else z


def _mul(a: Any, b: Any) -> Jet:
    value = torch.mul(_value(a), _value(b))
    if not isinstance(a, Jet):
        a, b = b, a
    if not isinstance(b, Jet):
        return a.linear(value, a.aligned(value.ndim) * b)
    a, b = (Jet(z.value, z.aligned(value.ndim), z.weights) for z in (a, b))
    shape = (len(a.weights), *value.shape)
    cross = weighted(a.first.expand(shape), b.first.expand(shape), a.weights)
    return product(a, b, value, torch.mul, cross)


def _div(a: Any, b: Any) -> Jet:
    if isinstance(b, Jet):
        return _mul(a, chain(b, 1 / b.value, *_of_power(-1.0)(b.value)))
    value = torch.div(a.value, b)
    return a.linear(value, a.aligned(value.ndim) / b)


def _matmul(a: Any, b: Any) -> Jet:
    """``a @ b`` for matrices or batches of matrices."""
    value = torch.matmul(_value(a), _value(b))
    if not isinstance(b, Jet):
        return a.linear(value, torch.matmul(a.rest, b))
    if not isinstance(a, Jet):
        return b.linear(value, torch.matmul(a, b.rest))
    first = a.first
    if set(a.weights) != {1.0}:
        first = first * first.new_tensor(a.weights).reshape(-1, *(1,) * a.value.ndim)
    # sum_k a_k b_k is one product of [.., n, K m] with [.., K m, p].
    left = first.movedim(0, -2).flatten(-2)
    right = b.first.movedim(0, -3).flatten(-3, -2)
    return product(a, b, value, torch.matmul, torch.matmul(left, right))


def _addmm(bias: Any, a: Any, b: Any, *, beta: int | float = 1.0, alpha: int | float = 1.0) -> Jet:
    if isinstance(bias, Jet):
        raise NoRule("addmm with a bias that depends on the input")
    jet = _matmul(a, b)
    value = torch.addmm(bias, _value(a), _value(b), beta=beta, alpha=alpha)
    return jet.linear(value, jet.rest if alpha == 1 else alpha * jet.rest)


def _softmax(x: Jet, dim: int, *_: Any) -> Jet:
    """``y = softmax(z)``; with u = z1 - <y, z1>: ``y1 = y u``, ``y2 = y (z2 - <y, z2> + u^2 - <y, u^2>)``."""
    dim = dim % x.value.ndim
    y = x.value.softmax(dim)
    centred = x.rest - (y * x.rest).sum(dim + 1, keepdim=True)
    spread = weighted(centred[:-1], centred[:-1], x.weights)
    rest = y * centred
    rest[-1].add_(y * (spread - (y * spread).sum(dim, keepdim=True)))
    return x.linear(y, rest)


def _log_softmax(x: Jet, dim: int, *_: Any) -> Jet:
    """``y = z - lse(z)``; with p = softmax(z), u = z1 - <p, z1>: ``y1 = u``, ``y2 = z2 - <p, z2> - <p, u^2>``."""
    dim = dim % x.value.ndim
    p = x.value.softmax(dim)
    u = x.rest - (p * x.rest).sum(dim + 1, keepdim=True)
    # Not in place: automatic differentiation has saved u.
    second = u[-1] - (p * weighted(u[:-1], u[:-1], x.weights)).sum(dim, keepdim=True)
    return x.linear(x.value.log_softmax(dim), torch.cat([u[:-1], second[None]]))


def _logsumexp(x: Jet, dim: Sequence[int], keepdim: bool = False) -> Jet:
    """``y = lse(z)``; ``y1 = <p, z1>``, ``y2 = <p, z2> + <p, (z1 - y1)^2>``."""
    dims = [d % x.value.ndim for d in dim]
    value = x.value.logsumexp(dims, keepdim=True)
    p, over = (x.value - value).exp(), [d + 1 for d in dims]
    rest = (p * x.rest).sum(over, keepdim=True)
    u = x.first - rest[:-1]
    rest[-1].add_((p * weighted(u, u, x.weights)).sum(dims, keepdim=True))
    if not keepdim:
        value, rest = value.sum(dims), rest.sum(over)
    return x.linear(value, rest)


def _normalized(x: Jet, dims: Sequence[int], eps: float) -> Jet:
    """``(z - mean) rsqrt(var + eps)`` over ``dims`` (not negative); the variance divides by the number of entries."""
    dims, over = list(dims), [d + 1 for d in dims]
    c = x.linear(x.value - x.value.mean(dims, keepdim=True), x.rest - x.rest.mean(over, keepdim=True))
    v_rest = 2 * (c.value * c.rest).mean(over, keepdim=True)
    v_rest[-1].add_(weighted(c.first, c.first, x.weights).mean(dims, keepdim=True), alpha=2.0)
    v = x.linear(c.value.square().mean(dims, keepdim=True) + eps, v_rest)
    r = chain(v, v.value.rsqrt(), *_of_power(-0.5)(v.value))
    return _mul(c, r)


def _affine(x: Jet, weight: Tensor | None, value: Tensor) -> Jet:
    return x.linear(value, x.rest if weight is None else x.rest * weight)


def _layer_norm(x: Jet, shape: Sequence[int], weight: Tensor | None, bias: Tensor | None, eps: float) -> Any:
    value, *others = aten.native_layer_norm.default(x.value, shape, weight, bias, eps)
    normal = _normalized(x, range(x.value.ndim - len(shape), x.value.ndim), eps)
    return _affine(normal, weight, value), *others


def _group_norm(
    x: Jet, weight: Tensor | None, bias: Tensor | None, n: int, c: int, hxw: int, g: int, eps: float
) -> Any:
    value, *others = aten.native_group_norm.default(x.value, weight, bias, n, c, hxw, g, eps)
    grouped = x.linear(x.value.reshape(n, g, -1), x.rest.reshape(len(x.rest), n, g, -1))
    normal = _normalized(grouped, (2,), eps)
    scale = None if weight is None else weight.reshape(-1, *(1,) * (x.value.ndim - 2))
    shaped = x.linear(value, normal.rest.reshape(x.rest.shape))
    return _affine(shaped, scale, value), *others


def _batch_norm(op: Rule) -> Rule:
    """Rule of a batch-norm operator ``op(input, weight, bias, mean, variance, training, momentum, eps)``.

    Normalisation by the input's own statistics is
    how instance normalisation reaches the operators, as a batch of one.
    """

    def rule(x: Jet, *args: Any) -> Any:
        weight, _, _, variance, training, _, eps = args
        value, *others = op(x.value, *args)
        shape = (-1, *(1,) * (x.value.ndim - 2))
        if not training:
            scale = (variance + eps).rsqrt() * (1.0 if weight is None else weight)
            return x.linear(value, x.rest * scale.reshape(shape)), *others
        if len(x.value) > 1:
            raise NoRule("batch normalisation by the statistics of the batch")
        normal = _normalized(x, (0, *range(2, x.value.ndim)), eps)
        return _affine(normal, None if weight is None else weight.reshape(shape), value), *others

    return rule


def _variance(x: Jet, dim: Sequence[int] | None = None, *, correction: int | float = 1, keepdim: bool = False) -> Jet:
    dims = [d % x.value.ndim for d in (range(x.value.ndim) if dim is None else dim)]
    over = [d + 1 for d in dims]
    count = x.value[tuple(slice(None) if d in dims else 0 for d in range(x.value.ndim))].numel()
    c = x.linear(x.value - x.value.mean(dims, keepdim=True), x.rest - x.rest.mean(over, keepdim=True))
    square = _mul(c, c)
    return x.linear(
        square.value.sum(dims, keepdim) / (count - correction), square.rest.sum(over, keepdim) / (count - correction)
    )


def _vector_norm(x: Jet, ord: int | float = 2, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Jet:
    if ord != 2 or dtype is not None:
        raise NoRule(f"linalg_vector_norm with ord={ord}")
    dims = [d % x.value.ndim for d in (range(x.value.ndim) if dim is None else [dim] if isinstance(dim, int) else dim)]
    square = _mul(x, x)
    v = x.linear(square.value.sum(dims, keepdim), square.rest.sum([d + 1 for d in dims], keepdim))
    # At 0, where the norm has no derivative, 0: as automatic differentiation does.
    safe = torch.where(v.value > 0, v.value, 1.0)
    d1, d2 = (d * (v.value > 0) for d in _of_power(0.5)(safe) if d is not None)
    return chain(v, v.value.sqrt(), d1, d2)


def _max_pool(x: Jet, *args: Any) -> Any:
    value, indices = aten.max_pool2d_with_indices.default(x.value, *args)
    chosen = indices.flatten(-2)
    rest = x.rest.flatten(-2).gather(-1, chosen.expand(len(x.rest), *chosen.shape))
    return x.linear(value, rest.reshape(len(rest), *value.shape)), indices


def _selection(op: Rule) -> Rule:
    """Rule of an operator that returns chosen entries along one axis, and their indices."""

    def rule(x: Jet, *args: Any, **kwargs: Any) -> Any:
        value, indices = op(x.value, *args, **kwargs)
        dim = _axis(op, args, kwargs) % x.value.ndim
        kept = indices if indices.ndim == x.value.ndim else indices.unsqueeze(dim)
        rest = x.rest.gather(dim + 1, kept.expand(len(x.rest), *kept.shape))
        return x.linear(value, rest.reshape(len(x.rest), *value.shape)), indices

    return rule


def _axis(op: Rule, args: Sequence[Any], kwargs: dict[str, Any]) -> int:
    if "dim" in kwargs:
        return int(kwargs["dim"])
    place = 1 if op is aten.topk.default else 0
    return int(args[place]) if len(args) > place else -1


def _amax(sign: float) -> Rule:
    op = aten.amax.default if sign > 0 else aten.amin.default

    def rule(x: Jet, dim: Sequence[int] = (), keepdim: bool = False) -> Jet:
        dims = [d % x.value.ndim for d in (dim or range(x.value.ndim))]
        best = op(x.value, dims, True)
        share = (x.value == best).to(x.value.dtype)
        share = share / share.sum(dims, keepdim=True)
        return x.linear(op(x.value, dims, keepdim), (x.rest * share).sum([d + 1 for d in dims], keepdim=keepdim))

    return rule


def _larger(sign: float) -> Rule:
    op = torch.maximum if sign > 0 else torch.minimum

    def rule(a: Any, b: Any) -> Jet:
        jet = a if isinstance(a, Jet) else b
        value = op(_value(a), _value(b))
        # Ties count half to each side, as in automatic differentiation.
        share = torch.heaviside((sign * (_value(a) - _value(b))).detach(), value.new_tensor(0.5))
        parts = [z.aligned(value.ndim) * weight for z, weight in ((a, share), (b, 1 - share)) if isinstance(z, Jet)]
        return jet.linear(value, sum(parts[1:], parts[0]))

    return rule


SELECTIONS: frozenset[Rule] = frozenset(
    {
        aten.max_pool2d_with_indices.default,
        aten.max.dim,
        aten.min.dim,
        aten.sort.default,
        aten.topk.default,
        aten.amax.default,
        aten.amin.default,
        aten.maximum.default,
        aten.minimum.default,
    }
)

RULES: dict[Rule, Rule] = {
    aten.mul.Tensor: _mul,
    aten.mul.Scalar: _mul,
    aten.div.Tensor: _div,
    aten.mm.default: _matmul,
    aten.bmm.default: _matmul,
    aten.addmm.default: _addmm,
    aten._softmax.default: _softmax,
    aten._safe_softmax.default: _softmax,
    aten._log_softmax.default: _log_softmax,
    aten.logsumexp.default: _logsumexp,
    aten.native_layer_norm.default: _layer_norm,
    aten.native_group_norm.default: _group_norm,
    aten.native_batch_norm.default: _batch_norm(aten.native_batch_norm.default),
    aten.cudnn_batch_norm.default: _batch_norm(aten.cudnn_batch_norm.default),
    aten.var.correction: _variance,
    aten.linalg_vector_norm.default: _vector_norm,
    aten.max_pool2d_with_indices.default: _max_pool,
    aten.max.dim: _selection(aten.max.dim),
    aten.min.dim: _selection(aten.min.dim),
    aten.sort.default: _selection(aten.sort.default),
    aten.topk.default: _selection(aten.topk.default),
    aten.amax.default: _amax(1.0),
    aten.amin.default: _amax(-1.0),
    aten.maximum.default: _larger(1.0),
    aten.minimum.default: _larger(-1.0),
}
