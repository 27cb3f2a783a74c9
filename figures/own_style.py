"""Colour, marker and label of a strategy with options, as ``hmix(ratio=0.75)``: those of its family."""

from __future__ import annotations

from typing import Any

from figures.style import COLOURS, MARKERS, NAMES


def family(strategy: str) -> str:
    """The name without options."""
    return strategy.partition("(")[0]


def colour(strategy: str) -> str:
    """Of the family; grey for a strategy of one's own."""
    return COLOURS.get(family(strategy), "0.4")


def marker(strategy: str) -> str:
    """Of the family; a plus for a strategy of one's own."""
    return MARKERS.get(family(strategy), "P")


def label(strategy: str) -> str:
    """The family's name in figures, with the options."""
    name, bracket, options = strategy.partition("(")
    return NAMES.get(name, name) + (f" ({options}" if bracket else "")


def dashes(strategies: list[str]) -> dict[str, Any]:
    """A line style for each, different within a family."""
    styles, seen, out = ("-", "--", ":", "-."), dict.fromkeys(map(family, strategies), 0), {}
    for strategy in strategies:
        out[strategy] = styles[seen[family(strategy)] % len(styles)]
        seen[family(strategy)] += 1
    return out
