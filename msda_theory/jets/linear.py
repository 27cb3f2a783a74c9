"""Rules of operators linear in their input, applied to all coefficients in one call; constants only shift z0."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.func import vmap

from msda_theory.jets.jet import Jet, NoRule, Rule

aten = torch.ops.aten


def _convolution(x: Any, weight: Any, bias: Tensor | None, *args: Any) -> Jet:
    if isinstance(weight, Jet) or not isinstance(x, Jet):
        raise NoRule("convolution with a kernel that depends on the input")
    value = aten.convolution.default(x.value, weight, bias, *args)
    rest = aten.convolution.default(x.rest.flatten(0, 1), weight, None, *args)
    return x.linear(value, rest.unflatten(0, (len(x.rest), -1)))


def _reshape(x: Jet, shape: Sequence[int]) -> Jet:
    value = x.value.reshape(shape)
    return x.linear(value, x.rest.reshape(len(x.rest), *value.shape))


def _expand(x: Jet, shape: Sequence[int], **kwargs: Any) -> Jet:
    value = x.value.expand(shape)
    return x.linear(value, x.aligned(value.ndim).expand(len(x.rest), *value.shape))


def _add(a: Any, b: Any, alpha: int | float = 1.0) -> Jet:
    value = torch.add(*(z.value if isinstance(z, Jet) else z for z in (a, b)), alpha=alpha)
    jet = a if isinstance(a, Jet) else b
    if isinstance(a, Jet) and isinstance(b, Jet):
        rest = torch.add(a.aligned(value.ndim), b.aligned(value.ndim), alpha=alpha)
    else:
        rest = jet.aligned(value.ndim) * (1.0 if jet is a or alpha == 1 else alpha)
    return jet.linear(value, rest.expand(len(jet.rest), *value.shape))


def _sub(a: Any, b: Any, alpha: int | float = 1.0) -> Jet:
    if not isinstance(a, Jet) and not isinstance(a, Tensor):
        a = torch.as_tensor(a, dtype=b.value.dtype, device=b.value.device)
    return _add(a, b, alpha=-alpha)


def _rsub(a: Any, b: Any, alpha: int | float = 1.0) -> Jet:
    return _sub(b, a, alpha=alpha)


def _neg(x: Jet) -> Jet:
    return x.linear(-x.value, -x.rest)


def _to_copy(x: Jet, **kwargs: Any) -> Jet:
    if kwargs.get("dtype") is not None and not kwargs["dtype"].is_floating_point:
        raise NoRule(f"conversion to {kwargs['dtype']}")
    return x.linear(aten._to_copy.default(x.value, **kwargs), aten._to_copy.default(x.rest, **kwargs))


def _copy(into: Any, source: Any, *_: Any) -> Jet:
    shape = into.value.shape if isinstance(into, Jet) else into.shape
    return _expand(source if isinstance(source, Jet) else Jet.constant(source, into), shape)


def _masked_fill(x: Jet, mask: Tensor, value: int | float) -> Jet:
    return x.linear(x.value.masked_fill(mask, value), x.rest.masked_fill(mask, 0.0))


def _where(condition: Tensor, a: Any, b: Any) -> Jet:
    condition = condition.value if isinstance(condition, Jet) else condition
    left, right = (z.value if isinstance(z, Jet) else z for z in (a, b))
    value: Tensor = torch.where(condition, left, right)
    jet = a if isinstance(a, Jet) else b
    left, right = (z.aligned(value.ndim) if isinstance(z, Jet) else value.new_zeros(()) for z in (a, b))
    return jet.linear(value, torch.where(condition, left, right))


def _structural(op: Rule) -> Rule:
    """Rule of an operator linear in all its tensors that depend on the input together (reshaping, pooling, joining)."""

    def rule(*args: Any, **kwargs: Any) -> Any:
        jets: list[Jet] = []
        like = next(z for a in args for z in (a if isinstance(a, list | tuple) else [a]) if isinstance(z, Jet))
        places: list[Any] = [_collect(a, like, jets) for a in args]

        def call(*tensors: Tensor) -> Any:
            return op(*(_fill(p, tensors) for p in places), **kwargs)

        values, rests = call(*(j.value for j in jets)), vmap(call)(*(j.rest for j in jets))
        if isinstance(values, Tensor):
            return like.linear(values, rests)
        return type(values)(like.linear(v, r) for v, r in zip(values, rests, strict=True))

    return rule


class _Place(int):
    """Where a tensor that depends on the input stands among the arguments."""


def _collect(argument: Any, like: Jet, jets: list[Jet]) -> Any:
    if isinstance(argument, Jet):
        jets.append(argument)
        return _Place(len(jets) - 1)
    if isinstance(argument, list | tuple) and any(isinstance(a, Jet) for a in argument):
        parts = [Jet.constant(a, like) if isinstance(a, Tensor) else a for a in argument]
        return [_collect(a, like, jets) for a in parts]
    return argument


def _fill(place: Any, tensors: Sequence[Tensor]) -> Any:
    if isinstance(place, _Place):
        return tensors[place]
    return [_fill(p, tensors) for p in place] if isinstance(place, list) else place


def _replace(op: Rule) -> Rule:
    """Rule of ``op(self, source, dim, ...)``, which writes one tensor into another: constants become jets first.

    Without vmap, whose gradients are wrong for select_scatter in torch 2.13.
    """

    def rule(a: Any, b: Any, dim: int = 0, *args: Any) -> Jet:
        like = a if isinstance(a, Jet) else b
        a, b = (z if isinstance(z, Jet) else Jet.constant(z, like) for z in (a, b))
        dim = dim % a.value.ndim
        return like.linear(op(a.value, b.value, dim, *args), op(a.rest, b.rest, dim + 1, *args))

    return rule


_STRUCTURAL: tuple[Callable[..., Any], ...] = (
    aten.permute.default,
    aten.transpose.int,
    aten.t.default,
    aten.squeeze.default,
    aten.squeeze.dim,
    aten.squeeze.dims,
    aten.unsqueeze.default,
    aten.select.int,
    aten.slice.Tensor,
    aten.unbind.int,
    aten.split.Tensor,
    aten.split_with_sizes.default,
    aten.cat.default,
    aten.stack.default,
    aten.flip.default,
    aten.roll.default,
    aten.repeat.default,
    aten.index.Tensor,
    aten.index_select.default,
    aten.diagonal.default,
    aten.tril.default,
    aten.triu.default,
    aten.cumsum.default,
    aten.constant_pad_nd.default,
    aten.reflection_pad2d.default,
    aten.replication_pad2d.default,
    aten.avg_pool2d.default,
    aten.avg_pool3d.default,
    aten._adaptive_avg_pool2d.default,
    aten._adaptive_avg_pool3d.default,
    aten.upsample_nearest2d.default,
    aten.upsample_bilinear2d.default,
    aten.upsample_bicubic2d.default,
    aten.pixel_shuffle.default,
    aten.pixel_unshuffle.default,
    aten.im2col.default,
    aten.col2im.default,
    aten.mean.default,
    aten.mean.dim,
    aten.sum.default,
    aten.sum.dim_IntList,
    aten.clone.default,
    aten.alias.default,
)

RULES: dict[Rule, Rule] = {
    **{op: _structural(op) for op in _STRUCTURAL},
    aten.convolution.default: _convolution,
    aten.view.default: _reshape,
    aten._unsafe_view.default: _reshape,
    aten.expand.default: _expand,
    aten.add.Tensor: _add,
    aten.add.Scalar: _add,
    aten.sub.Tensor: _sub,
    aten.rsub.Scalar: _rsub,
    aten.neg.default: _neg,
    aten._to_copy.default: _to_copy,
    aten.masked_fill.Scalar: _masked_fill,
    aten.where.self: _where,
    aten.copy.default: _copy,
    aten.select_scatter.default: _replace(aten.select_scatter.default),
    aten.slice_scatter.default: _replace(aten.slice_scatter.default),
}
