"""How wrong is every approximation of the package? Against exact or more precise values, over wide ranges.

Quadrature, series and transforms of the moments of mask laws, their stated errors; diffusions of graphs and their
bounds; eigenvalues that are cut off; standard errors over repeats; float32 and 16-bit formats; finite differences.
alpha from .001 to 100, ratio 0 and 1, images of 1x1, one row, one column, primes, 32x32, and 224x224 for the moments.
References: `mask_references` (enumeration in 80 bits, mpmath), eigenvalues to 40 digits, enumeration of the law,
float64.
Expected, written before the first run: every promise holds, that is each error is at most what the docstring or the
result itself states; moments are right to 1e-14; float32 costs 1e-4 of the terms at most.
Found by it, and mended: the stated error of S(r) left out rounding (it was 3 % too small at alpha = 1), that of
`Field` with label="pixels" left out that S enters three times (a factor up to 1.7), that of DropMix, 1e-16, was
below the rounding of its products, and that of CutMix and HMix, 1e-15 at every size, below that of their sums at 32x32.
Against what was expected: 95 % intervals hold the truth far less often where hardly any draw mixes (HMix at
alpha .001), so `Estimate.interval` says so; and the default step of `kink` is not small enough for the order of its
truncation to show.
Cost: about 6 minutes on one core. Record: ``numerical_errors.json``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from experiments import graph_errors, model_errors, moment_errors, sampling_errors
from experiments.mask_references import LONG
from experiments.parallel import one_thread
from experiments.record import RESULTS, cached, check, code_digest, command_line, finish

SOURCES = (
    *("numerical_errors.py", "error_rows.py", "mask_references.py"),
    *("moment_errors.py", "graph_errors.py", "sampling_errors.py", "model_errors.py"),
)


@dataclass(frozen=True)
class Config:
    """Parameters of Beta laws; images (height and width in turn), a side for the large ones (0: none); nodes of graphs;
    length of representations; repeats and draws of what is sampled.
    """

    alphas: tuple[float, ...] = (1e-3, 1e-2, 0.2, 1.0, 3.0, 100.0)
    heights: tuple[int, ...] = (1, 1, 5, 3, 4, 7, 32)
    widths: tuple[int, ...] = (1, 7, 1, 3, 5, 11, 32)
    large: int = 224
    nodes: int = 14
    length: int = 1024
    repeats: int = 1000
    draws: int = 32
    seed: int = 0

    def __post_init__(self) -> None:
        if len(self.heights) != len(self.widths):
            raise ValueError(
                f"expected a width for each height, got {len(self.widths)} for {len(self.heights)}; pass equally many."
            )


def run(config: Config, *, folder: Path = RESULTS) -> dict[str, Any]:
    """Measure every row."""
    return cached(
        folder / "numerical_errors.json",
        config,
        code_digest(*SOURCES),
        command_line("experiments.numerical_errors", config),
        lambda: _run(config),
    )


def _run(config: Config) -> dict[str, Any]:
    shapes = list(zip(config.heights, config.widths, strict=True))
    with one_thread():
        rows = [
            *moment_errors.rows(config.alphas, shapes, config.large, config.seed),
            *model_errors.rows(config.alphas, shapes, config.large, config.seed),
            *graph_errors.rows(config.seed, config.nodes, config.length),
            *sampling_errors.rows(config.alphas, shapes, config.repeats, config.draws, config.seed),
        ]
    digits = float(np.finfo(LONG).eps)
    return {
        "rows": rows,
        "comparisons": sum(r["cases"] for r in rows),
        "checks": [
            check("references have more digits than float64", digits < 1e-18, f"rounding {digits:.1g}"),
            *(check(f"{r['approximation']}: within what is promised", r["holds"], _detail(r)) for r in rows),
        ],
    }


def _detail(row: dict[str, Any]) -> str:
    return f"{row['strain']:.2g} of it at {row['strain_place']}; largest error {row['error']:.2g} at {row['place']}"


def main(config: Annotated[Config, tyro.conf.arg(name="")] = Config()) -> None:
    """Measure."""
    finish(run(config))


if __name__ == "__main__":
    tyro.cli(main)
