"""Strategies under test, their readable ids, and their description for `reference`."""

from __future__ import annotations

from dataclasses import fields

import reference

from msda_theory.masks.base import Strategy
from msda_theory.masks.choice import Choice
from msda_theory.masks.cutmix import CutMix
from msda_theory.masks.gmix import GMix
from msda_theory.masks.hmix import HMix
from msda_theory.masks.mixup import Mixup
from msda_theory.masks.vanilla import Vanilla

LAWS = ("exact", "paper")
BOXES = ("clipped", "inside", "periodic")
LABELS = ("pixels", "nominal")


def describe(s: Strategy) -> tuple[str, tuple[tuple[str, object], ...]]:
    """Kind and options, as `reference.moments` takes them."""
    kind = type(s).__name__.lower()
    if isinstance(s, Choice):
        members = tuple((p, *describe(m)) for p, m in zip(s.probabilities, s.strategies, strict=True))
        return kind, (("members", members),)
    options = {f.name: getattr(s, f.name) for f in fields(s)}
    if isinstance(s, Vanilla):
        options = {}
    return kind, tuple(options.items())


def reference_moments(s: Strategy, shape: tuple[int, int], law: str, order: int = 12):
    kind, options = describe(s)
    return reference.moments(kind, shape, law, order=order, **dict(options))


def case_id(s: Strategy) -> str:
    """E.g. ``cutmix-clipped-pixels-a0.2`` or ``hmix-r0.5-inside-a1``."""
    if isinstance(s, Choice):
        return "choice-" + "-or-".join(case_id(m) for m in s.strategies)
    words = [type(s).__name__.lower()]
    for f in fields(s):
        value = getattr(s, f.name)
        if f.name == "alpha":
            continue
        words.append(f"r{value:g}" if f.name == "ratio" else str(value))
    return "-".join([*words, f"a{s.alpha:g}"])


def variants(alpha: float) -> list[Strategy]:
    """Every option of every strategy at one alpha."""
    cases: list[Strategy] = [Vanilla(alpha=alpha), Mixup(alpha=alpha)]
    cases += [CutMix(alpha=alpha, box=box, label=label) for box in BOXES for label in LABELS]
    cases += [HMix(alpha=alpha, ratio=ratio, box=box) for ratio in (0.0, 0.3, 0.5, 1.0) for box in BOXES]
    cases += [GMix(alpha=alpha, label=label) for label in LABELS]
    cases.append(
        Choice(strategies=(Mixup(alpha=alpha), CutMix(alpha=1.0), HMix(alpha=3.0)), probabilities=(0.2, 0.5, 0.3))
    )
    return cases
