"""The strategies by name: one line each."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from msda_theory.masks.base import Strategy
from msda_theory.masks.choice import Choice
from msda_theory.masks.cutmix import CutMix
from msda_theory.masks.dropmix import DropMix
from msda_theory.masks.field import Field
from msda_theory.masks.gmix import GMix
from msda_theory.masks.hmix import HMix
from msda_theory.masks.mixup import Mixup
from msda_theory.masks.vanilla import Vanilla

REGISTRY: dict[str, type[Strategy]] = {
    "vanilla": Vanilla,
    "mixup": Mixup,
    "cutmix": CutMix,
    "hmix": HMix,
    "gmix": GMix,
    "choice": Choice,
    "field": Field,
    "dropmix": DropMix,
}


def strategies() -> list[str]:
    """Names of the registered strategies, for `strategy`."""
    return list(REGISTRY)


def strategy(name: str, **options: Any) -> Strategy:
    """The strategy called ``name`` (upper or lower case) with its options, e.g. ``strategy("hmix", ratio=0.5)``.

    Raises:
        ValueError: unknown name (the message lists the known ones) or an option's value out of range.
        TypeError: an option that the strategy does not have (the message lists those it has).
    """
    cls = REGISTRY.get(name.lower()) if isinstance(name, str) else None
    if cls is None:
        raise ValueError(f"expected a strategy among {strategies()}, got {name!r}; choose one of them.")
    known = [f.name for f in fields(cls)]  # type: ignore[arg-type]
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise TypeError(f"{name.lower()} has the options {known}, got {unknown}; remove or rename them.")
    return cls(**options)
