"""A traced module as a list of steps on jets."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from msda_theory.jets.jet import Jet, NoRule
from msda_theory.jets.recording import Recording, Triple
from msda_theory.jets.trace import KINKED, RULES, operators, state


@dataclass(frozen=True, eq=False)
class _Step:
    """One operator: its result goes to ``place``; results in ``dead`` are not used after it."""

    place: fx.Node
    call: Any
    dead: tuple[fx.Node, ...]


class Program:
    """Second-order Taylor mode of a module, for batches of the shape it was traced at.

    Attributes:
        kinked: whether piecewise-linear units, selections of a largest entry, or comparisons depend on the input.
        bytes_per_sample: of results alive at once in a plain forward pass, at most, for each sample.
    """

    def __init__(self, model: nn.Module, x: Tensor) -> None:
        """Trace ``model`` at ``x`` [B, ...].

        Raises:
            NoRule: naming the operators without a rule, or what cannot be traced.
            ValueError: results of lower precision than the input.
        """
        self._model, self._places = model, list(state(model))
        module = operators(model, x)
        nodes = list(module.graph.nodes)
        self._inputs = [n for n in nodes if n.op == "placeholder"]
        self._output = _only(nodes[-1].args[0])
        self._constants = {n: getattr(module, n.target) for n in nodes if n.op == "get_attr"}
        depends = _dependants(self._inputs[-1], nodes)
        _check_precision(depends, x.dtype)
        missing = sorted({str(n.target) for n in depends if n.op == "call_function" and not _known(n)})
        if missing:
            raise NoRule(f"the operators {', '.join(missing)}")
        self.kinked = any(n.target in KINKED for n in nodes if not depends.isdisjoint(n.all_input_nodes))
        last = _last_uses(nodes)
        self._steps = [
            _Step(n, RULES[n.target] if n in depends and n.target in RULES else _plain(n), tuple(last.get(n, ())))
            for n in nodes
            if n.op == "call_function"
        ]
        self.bytes_per_sample = _peak(nodes, last, depends) // len(x)
        self._passes: dict[tuple[float, ...], int | Recording] = {}

    def __call__(self, x: Tensor, directions: Tensor, weights: Sequence[float]) -> Triple:
        """Value [B, c], first [K, B, c] and ``sum_k w_k`` second [B, c] for x [B, ...], directions [K, B, ...].

        On a GPU and without gradients the third pass of a kind is recorded, and later ones are replayed.
        """
        tensors = state(self._model)
        if list(tensors) != self._places:
            changed = sorted(set(tensors) ^ set(self._places))
            raise ValueError(
                f"expected the parameters and buffers of the trace, got changes at {changed}; trace again with "
                "Taylor(model, x)."
            )

        def run(z: Tensor, d: Tensor) -> Triple:
            return self._run(list(tensors.values()), z, d, tuple(weights))

        if not x.is_cuda or torch.is_grad_enabled():
            return run(x, directions)
        kind = (len(directions), *weights, *(t.data_ptr() for t in tensors.values()))
        return self._replayed(kind, run, x, directions)

    def _replayed(
        self, kind: tuple[float, ...], run: Callable[[Tensor, Tensor], Triple], x: Tensor, directions: Tensor
    ) -> Triple:
        """``run(x, directions)``; a kind names shapes, weights and addresses of the state."""
        passes = self._passes.get(kind, 0)
        if isinstance(passes, Recording):
            return passes(x, directions)
        if 0 <= passes < 2:
            self._passes[kind] = passes + 1
        elif passes == 2:
            self._passes = {k: v for k, v in self._passes.items() if k[0] != kind[0]}  # of earlier addresses
            try:
                self._passes[kind] = Recording(run, x, directions)
            except RuntimeError:  # an operator that cannot be recorded
                self._passes[kind] = -1
        return run(x, directions)

    def _run(self, tensors: Sequence[Tensor], x: Tensor, directions: Tensor, weights: tuple[float, ...]) -> Triple:
        jet = Jet.line(x, directions, weights)
        results: dict[fx.Node, Any] = {
            **dict(zip(self._inputs, (*tensors, jet), strict=True)),
            **self._constants,
        }
        for step in self._steps:
            args = fx.map_arg(step.place.args, results.__getitem__)
            kwargs = fx.map_arg(step.place.kwargs, results.__getitem__)
            results[step.place] = step.call(*args, **kwargs)
            del args, kwargs
            for node in step.dead:
                results.pop(node, None)
        out = results[self._output]
        if not isinstance(out, Jet):
            out = Jet.constant(out, jet)
        return out.value, out.first, out.second


def _check_precision(nodes: set[fx.Node], dtype: torch.dtype) -> None:
    kinds = {v.dtype for n in nodes if isinstance(v := n.meta.get("val"), Tensor) and v.is_floating_point()}
    lower = sorted(str(k) for k in kinds if k.itemsize < dtype.itemsize)
    if lower:
        raise ValueError(
            f"second derivatives need one precision throughout, got {', '.join(lower)} inside the module for inputs in "
            f"{dtype}; leave torch.autocast and casts out of its forward."
        )


def _only(output: Any) -> fx.Node:
    if isinstance(output, fx.Node):
        return output
    if isinstance(output, list | tuple) and len(output) == 1:
        return _only(output[0])
    raise NoRule("an output that is not a single tensor")


def _dependants(source: fx.Node, nodes: Sequence[fx.Node]) -> set[fx.Node]:
    """Nodes that depend on ``source`` differentiably."""
    found = {source}
    for node in nodes:
        if node.op == "call_function" and any(n in found for n in node.all_input_nodes) and not _constant(node):
            found.add(node)
    return found


_STOPS = frozenset(
    {
        torch.ops.aten.detach.default,
        torch.ops.aten.sign.default,
        torch.ops.aten.floor.default,
        torch.ops.aten.ceil.default,
        torch.ops.aten.round.default,
        torch.ops.aten.zeros_like.default,
        torch.ops.aten.ones_like.default,
        torch.ops.aten.full_like.default,
        torch.ops.aten.empty_like.default,
        torch.ops.aten.new_zeros.default,
        torch.ops.aten.new_ones.default,
        torch.ops.aten.new_full.default,
        torch.ops.aten.new_empty.default,
    }
)


def _constant(node: fx.Node) -> bool:
    """Whether the derivative of the result is 0 wherever it exists: comparisons, indices, signs, detached results."""
    value = node.meta.get("val")
    if node.target in _STOPS:
        return True
    return isinstance(value, Tensor) and not (value.dtype.is_floating_point or value.dtype.is_complex)


def _known(node: fx.Node) -> bool:
    return node.target in RULES or node.target is operator.getitem


def _plain(node: fx.Node) -> Any:
    target: Any = node.target
    if target is operator.getitem:
        return target

    def call(*args: Any, **kwargs: Any) -> Any:
        return target(*_values(args), **{k: _values(v) for k, v in kwargs.items()})

    return call


def _values(argument: Any) -> Any:
    if isinstance(argument, Jet):
        return argument.value
    if isinstance(argument, list | tuple):
        return type(argument)(_values(a) for a in argument)
    return argument


def _last_uses(nodes: Sequence[fx.Node]) -> dict[fx.Node, list[fx.Node]]:
    """For each node the results that it is the last to use."""
    out: dict[fx.Node, list[fx.Node]] = {}
    seen: set[fx.Node] = set()
    for node in reversed(nodes):
        for source in node.all_input_nodes:
            if source not in seen and source.op != "get_attr":
                seen.add(source)
                out.setdefault(node, []).append(source)
    return out


def _peak(nodes: Sequence[fx.Node], last: dict[fx.Node, list[fx.Node]], depends: set[fx.Node]) -> int:
    """Largest sum of bytes of the results alive at once, over those that depend on the input."""
    sizes = {n: _bytes(n.meta.get("val")) for n in depends}
    alive, peak = 0, 0
    for node in nodes:
        alive += sizes.get(node, 0)
        peak = max(peak, alive)
        alive -= sum(sizes.get(n, 0) for n in last.get(node, ()))
    return peak


def _bytes(value: Any) -> int:
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    return sum(map(_bytes, value)) if isinstance(value, list | tuple) else 0
