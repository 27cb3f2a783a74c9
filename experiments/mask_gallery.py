"""Masks of every strategy at one label weight, for the figure that shows them beside mixed images.

The paper shows its strategies at lam = .65 and r = .5; the same here, with the box and the bump at one centre.
Cost: 1 s. Record: ``mask_gallery.json`` (masks only; the photographs come with scikit-learn and are not stored).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from experiments.record import RESULTS, cached, check, code_digest, command_line, finish
from msda_theory.masks.registry import strategy as make_strategy
from msda_theory.streams import stream


@dataclass(frozen=True)
class Config:
    """Label weight, size, and the seed that places box and bump (the same place for all)."""

    strategies: tuple[str, ...] = ("mixup", "cutmix", "hmix", "gmix", "field")
    lam: float = 0.65
    size: int = 64
    seed: int = 4


def run(config: Config, *, folder: Path = RESULTS) -> dict[str, Any]:
    """One mask for each strategy."""
    return cached(
        folder / "mask_gallery.json",
        config,
        code_digest("mask_gallery.py"),
        command_line("experiments.mask_gallery", config),
        lambda: _run(config),
    )


def _run(config: Config) -> dict[str, Any]:
    shape = (config.size, config.size)
    masks, checks = {}, []
    for name in config.strategies:
        strategy = make_strategy(name)
        batch = strategy.masks(np.array([config.lam]), shape, rng=stream(config.seed, "place"))
        masks[name] = {"mask": np.round(batch.mask[0], 3), "label_weight": float(batch.lam[0])}
        mean = float(batch.mask[0].mean())
        nominal = getattr(strategy, "label", "pixels") == "nominal"
        label, weight = ("lam", config.lam) if nominal else ("the mean of the mask", mean)
        checks.append(
            check(f"{name}: the label weight is {label}", abs(weight - batch.lam[0]) < 1e-12, f"{weight:.4f}")
        )
    return {"lam": config.lam, "masks": masks, "checks": checks}


if __name__ == "__main__":
    finish(run(tyro.cli(Config)))
