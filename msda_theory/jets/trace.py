"""From a module to the list of operators between its input and its output."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from threading import RLock
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._decomp import core_aten_decompositions
from torch.func import functional_call, functionalize
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.attention import SDPBackend, sdpa_kernel

from msda_theory.jets import elementwise, linear, products
from msda_theory.jets.jet import NoRule, Rule

RULES: dict[Rule, Rule] = {**linear.RULES, **elementwise.RULES, **products.RULES}
aten = torch.ops.aten
# A function written in cases compares, as torch.where(x > 0, x, 0) does.
_COMPARISONS: frozenset[Rule] = frozenset(
    getattr(getattr(aten, name), kind)
    for name, kinds in {
        **dict.fromkeys(("gt", "ge", "lt", "le"), ("Scalar", "Tensor")),
        **dict.fromkeys(("sign", "floor", "ceil", "round"), ("default",)),
    }.items()
    for kind in kinds
)
KINKED = elementwise.PIECEWISE_LINEAR | products.SELECTIONS | _COMPARISONS


def register(op: Any) -> Callable[[Rule], Rule]:
    """Decorator: the function becomes the rule of ``op`` in programs traced from then on (docs/engine.md).

    Raises:
        TypeError: if ``op`` is not an overload, such as ``torch.ops.aten.sinh.default``.
    """
    if not isinstance(op, torch._ops.OpOverload):
        raise TypeError(
            f"expected an overload of an operator, got {op}; name one, such as torch.ops.aten.sinh.default."
        )

    def add(rule: Rule) -> Rule:
        RULES[op] = rule
        _decompositions.cache_clear()  # operators with a rule are not decomposed
        return rule

    return add


_TURNS = RLock()


def state(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by place, as they are now.

    Every place once, though a module may have several names and a tensor several places: `call` would leave a module
    with copies of its parameters otherwise.
    """
    found: dict[str, Tensor] = {}
    for prefix, module in model.named_modules():
        for name, tensor in (*module._parameters.items(), *module._buffers.items()):
            if tensor is not None:
                found[f"{prefix}.{name}" if prefix else name] = tensor
    return found


def call(model: nn.Module, tensors: dict[str, Tensor], z: Tensor) -> Any:
    """``model(z)`` with these tensors in the places of its `state`."""
    return functional_call(model, tensors, (z,), tie_weights=False)


def operators(model: nn.Module, x: Tensor) -> fx.GraphModule:
    """Operators of ``model`` at inputs of the shape of ``x``: placeholders are its state, in order, and then the input.

    Operators without a rule are decomposed as far as torch can.

    Raises:
        NoRule: if the module cannot be traced, as with control flow that depends on data.
    """
    names = list(state(model))

    def function(tensors: list[Tensor], z: Tensor) -> Any:
        return call(model, dict(zip(names, tensors, strict=True)), z)

    # Contiguous: in other memory layouts some operators decompose into raw strides.
    tensors, x = [t.detach().contiguous() for t in state(model).values()], x.contiguous()
    module = _traced(function, tensors, x)
    if any(node.op == "call_function" and _mutates(node.target) for node in module.graph.nodes):
        # Of the traced module, since decompositions may write in place too.
        module = _traced(functionalize(module, remove="mutations"), tensors, x)
    module.graph.eliminate_dead_code()
    return module


def _traced(function: Callable[..., Any], tensors: list[Tensor], x: Tensor) -> fx.GraphModule:
    try:
        with plain_kernels(), torch.no_grad():
            return make_fx(function, decomposition_table=_decompositions())(tensors, x)
    except RuntimeError as error:
        if "data-dependent" not in str(error):
            raise
        raise NoRule("control flow that depends on the data") from error


@cache
def _decompositions() -> dict[Any, Callable[..., Any]]:
    # detach would become an alias, and its derivative would not be 0.
    kept = {*RULES, aten.detach.default}
    return {op: how for op, how in dict(core_aten_decompositions()).items() if op not in kept}


def _mutates(target: Any) -> bool:
    return isinstance(target, torch._ops.OpOverload) and target._schema.is_mutable


@contextmanager
def plain_kernels() -> Iterator[None]:
    """Attention and transformer layers written out in matrix products: their fused kernels have no rules and no
    forward mode. The choice is global to the process, so threads take turns.
    """
    with _TURNS:
        yield from _plain_kernels()


def _plain_kernels() -> Iterator[None]:
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
