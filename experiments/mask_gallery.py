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

    strategies: tuple[str, ...] = ("mixup", "cutmix", "hmix", "gmix")
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
        batch = make_strategy(name).masks(np.array([config.lam]), shape, rng=stream(config.seed, "place"))
        masks[name] = {"mask": np.round(batch.mask[0], 3), "label_weight": float(batch.lam[0])}
        mean = float(batch.mask[0].mean())
        name_of_check = f"{name}: the mean of the mask is the label weight"
        checks.append(check(name_of_check, abs(mean - batch.lam[0]) < 1e-12, f"{mean:.4f}"))
    return {"lam": config.lam, "masks": masks, "checks": checks}


if __name__ == "__main__":
    finish(run(tyro.cli(Config)))
