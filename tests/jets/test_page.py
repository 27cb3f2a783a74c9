"""The code of docs/engine.md runs, and `register` does what the page says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from naive import as_users_run_it
from torch import nn

from msda_theory.jets import trace
from msda_theory.jets.jet import chain
from msda_theory.jets.program import Program

PAGE = Path(__file__).parents[2] / "docs" / "engine.md"


@pytest.fixture
def rules():
    """Rules that a test adds are gone after it."""
    before = dict(trace.RULES)
    yield trace.RULES
    trace.RULES.clear()
    trace.RULES.update(before)
    trace._decompositions.cache_clear()


def test_the_code_of_the_page_runs(rules):
    """All python blocks, in order and in one namespace."""
    text = PAGE.read_text(encoding="utf-8")
    blocks = [(m.start(), m.group(1)) for m in re.finditer(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)]
    assert len(blocks) == 4
    known, namespace = len(rules), {"__name__": "page"}
    for start, block in blocks:
        line = text[:start].count("\n") + 2
        try:
            with as_users_run_it():
                exec(compile("\n" * (line - 1) + block, str(PAGE), "exec"), namespace)
        except Exception as error:
            pytest.fail(f"engine.md, block at line {line}: {type(error).__name__}: {error}")
    assert len(rules) == known + 2


class StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx, z):
        return z * z

    @staticmethod
    def backward(ctx, g):
        return g


class Custom(nn.Module):
    def forward(self, x):
        return StraightThrough.apply(x.flatten(1)) * x.flatten(1).detach()


def test_derivatives_are_those_of_the_forward_operators_and_detach_is_respected():
    x = torch.full((1, 2), 3.0, dtype=torch.float64)
    _, first, second = Program(Custom(), x)(x, torch.ones_like(x)[None], (1.0,))
    assert first.flatten().tolist() == [2 * 3.0 * 3.0] * 2  # of z^2 times a constant 3
    assert second.flatten().tolist() == [2 * 3.0] * 2


def test_a_registered_operator_is_no_longer_decomposed(rules):
    op, x = torch.ops.aten.softshrink.default, torch.full((1, 4), 2.0, dtype=torch.float64)

    class Shrunk(nn.Module):
        def forward(self, z):
            return torch.nn.functional.softshrink(z) * 1.0

    def targets():
        return {n.target for n in trace.operators(Shrunk(), x).graph.nodes}

    assert op not in targets()

    @trace.register(op)
    def rule(z, threshold=0.5):
        return chain(z, op(z.value, threshold), (z.value.abs() > threshold).to(z.value.dtype) * 3, None)

    assert op in targets()
    _, first, _ = Program(Shrunk(), x)(x, x[None], (1.0,))
    assert first.flatten().tolist() == [6.0] * 4  # by the rule, which is wrong by 3 on purpose


@pytest.mark.parametrize("op", [torch.ops.aten.sinh, torch.sinh], ids=["packet", "function"])
def test_register_takes_overloads(op, rules):
    with pytest.raises(TypeError, match=r"expected an overload of an operator, got .*; name one, such as"):
        trace.register(op)
