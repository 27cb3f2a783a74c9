"""Strategies written as text, for command lines and records: the text is the strategy's own ``name``."""

from __future__ import annotations

import ast
from dataclasses import replace

from msda_theory.masks.base import Strategy
from msda_theory.masks.choice import Choice
from msda_theory.masks.registry import REGISTRY, strategies
from msda_theory.masks.registry import strategy as make_strategy
from msda_theory.masks.vanilla import Vanilla

Value = str | float | Strategy | tuple[str | float | Strategy, ...]


def strategy_from(text: str) -> Strategy:
    """The strategy written as ``name`` or ``name(option=value, ...)``; several values of an option are joined by +.

    ``cutmix``, ``hmix(alpha=0.5, ratio=0.75)``, ``cutmix(box=periodic, label=nominal)``,
    ``choice(strategies=mixup(alpha=0.8)+cutmix, probabilities=0.3+0.7)``. Every built-in strategy's ``name`` is such a
    text.

    Raises:
        ValueError: if the text has another form or names an unknown strategy; and whatever the strategy itself raises
            about its options.
    """
    try:
        node = ast.parse(text.strip(), mode="eval").body
        if isinstance(node, ast.Name):
            return make_strategy(node.id)
        value = _value(node)
    except SyntaxError:
        value = None
    if not isinstance(value, Strategy):
        raise ValueError(
            f"expected a strategy among {strategies()}, perhaps with options as in 'hmix(ratio=0.75)', got {text!r}; "
            "join several values by +."
        )
    return value


def _value(node: ast.expr) -> Value | None:
    """A strategy, a word, a number, or a tuple of these from a sum; None for anything else."""
    match node:
        case ast.Call(func=ast.Name(id=name), args=[], keywords=keywords):
            options = {k.arg: _value(k.value) for k in keywords if k.arg is not None}
            if len(options) < len(keywords) or None in options.values():
                return None
            return make_strategy(name, **{k: _several(k, v) for k, v in options.items()})
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            parts = [_value(left), _value(right)]
            flat = [v for p in parts for v in (p if isinstance(p, tuple) else (p,))]
            members = tuple(make_strategy(v) if isinstance(v, str) and v in REGISTRY else v for v in flat)
            return None if None in members else members  # type: ignore[return-value]
        case ast.Name(id=word):
            return word
        case ast.Constant(value=int() | float() as number):
            return float(number)
    return None


def _several(option: str, value: Value | None) -> Value | None:
    """Options of `Choice` are tuples, also of one."""
    if option in ("strategies", "probabilities") and not isinstance(value, tuple):
        member = make_strategy(value) if isinstance(value, str) else value
        return (member,)  # type: ignore[return-value]
    return value


def with_alpha(strategy: Strategy, alpha: float) -> Strategy:
    """The strategy with ``alpha``, which goes to every member of a `Choice`; vanilla training has none and stays."""
    if isinstance(strategy, Vanilla):
        return strategy
    if isinstance(strategy, Choice):
        return replace(strategy, strategies=tuple(with_alpha(s, alpha) for s in strategy.strategies))
    return replace(strategy, alpha=alpha)  # type: ignore[type-var]
