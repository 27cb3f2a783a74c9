"""What does each strategy weight: the coefficient of pixel pairs against their distance, in both laws.

Claim C5 (Park, Yun, Chun, NeurIPS 2022): CutMix regularizes input gradients by pixel distance, Mixup regardless of it.
The coefficient a_jk of a pair of pixels is a property of the mask law alone; here it is exact, so the claim is checked
without sampling. What trained networks make of it is in ``expansion_gap``.
Expected: constant for Mixup; falling over near distances for CutMix, HMix and GMix. Not falling throughout: under the
exact law the outside of the box is taken as well, which holds pairs at opposite borders together.
Cost: 2 s. Record: ``mask_coefficients.json``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from experiments.record import RESULTS, cached, check, code_digest, command_line, finish
from msda_theory.masks.registry import strategy as make_strategy
from msda_theory.moments.displacements import ByDistance
from msda_theory.moments.moments import LAWS


@dataclass(frozen=True)
class Config:
    """Strategies by name, image sizes (squares)."""

    strategies: tuple[str, ...] = ("mixup", "cutmix", "hmix", "gmix", "choice")
    sizes: tuple[int, ...] = (8, 32)


def run(config: Config, *, folder: Path = RESULTS) -> dict[str, Any]:
    """Coefficients of every strategy, law and size."""
    return cached(
        folder / "mask_coefficients.json",
        config,
        code_digest("mask_coefficients.py"),
        command_line("experiments.mask_coefficients", config),
        lambda: _run(config),
    )


def _run(config: Config) -> dict[str, Any]:
    curves, checks = [], []
    for size in config.sizes:
        for name in config.strategies:
            for law in LAWS:
                moments = make_strategy(name).moments((size, size), law=law)
                by = moments.second.by_distance()
                diagonal = moments.second.diagonal()
                displaced = moments.second.by_displacement()
                curves.append(
                    {
                        "strategy": name,
                        "law": law,
                        "size": size,
                        "mean_share": float(moments.mean.mean()),
                        "diagonal": {"min": diagonal.min(), "mean": diagonal.mean(), "max": diagonal.max()},
                        "decay": _decay(by, size),
                        "along_row": displaced[size - 1, size - 1 :],
                        "half_map": np.round(displaced[size - 1 :], 5),
                        "distance": by.distance,
                        "coefficient": by.value,
                        "provenance": moments.provenance,
                    }
                )
                checks += _claims(name, law, size, by)
                odd = float(np.abs(displaced - displaced[::-1, ::-1]).max())
                checks.append(
                    check(f"{name}, law={law}, {size}x{size}: a(-p) is a(p)", odd < 1e-9, f"off by {odd:.1g}")
                )
    return {"curves": curves, "checks": checks}


def _decay(by: ByDistance, size: int) -> float:
    """Coefficient at half the image size over that at distance 1 (the distances nearest to these)."""
    near, far = (int(np.abs(by.distance - d).argmin()) for d in (1.0, size / 2))
    return float(by.value[far] / by.value[near])


def _claims(name: str, law: str, size: int, by: ByDistance) -> list[dict[str, Any]]:
    label = f"{name}, law={law}, {size}x{size}"
    if name == "mixup":
        spread = float(by.value.max() - by.value.min())
        return [check(f"{label}: the coefficient does not depend on distance", spread < 1e-12, f"spread {spread:.1g}")]
    decay = _decay(by, size)
    detail = f"a(half the image) / a(1 pixel) = {decay:.3f}"
    return [check(f"{label}: the coefficient falls over half the image", decay < 0.99, detail)]


if __name__ == "__main__":
    finish(run(tyro.cli(Config)))
