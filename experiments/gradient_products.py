"""Does CutMix leave networks with smaller products of near input gradients than Mixup does?

Claim C5 (Park, Yun, Chun, NeurIPS 2022): CutMix regularizes input gradients by pixel distance, Mixup regardless of it.
Under the paper's law CutMix's coefficient a(p) falls with distance, so that its R2 charges products of near gradients
most. Measured here, on networks trained with each strategy: the map of gradient products g(p) (docs/theory.md,
Eq. (3p)), divided by its total; the share of its mass within a radius; and R2 by distance under the exact and the
paper's law of every strategy that mixes. Images are training images without augmentation.

The test of C5, set down before the first run: the share of the product mass within a quarter of the image side,
CutMix-trained less Mixup-trained network of the same seed (equal initial weights), 95 % interval of Student over seeds.
*Expected*: below 0 in every cell. *Reported whatever comes*, cell by cell, for the other radii and trainings too. Few
seeds see large differences only; intervals are not corrected for their number.

Checks, which must hold: the parts of R2 by displacement sum to R2 of the expansion; shares of the mass sum to 1.

By default the digit networks of ``digit_nets``; ``--runs FOLDER`` measures, instead of them, every finished run of
``experiments.train`` in that folder (``results/runs``), cells by data set and network, and needs MSDA_DATA where the
data do. Cost: about a second a network on digits, a minute at 32x32, on one core. Record: ``gradient_products.json``,
for runs ``gradient_products_runs.json``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from experiments import digit_nets
from experiments.parallel import spread
from experiments.product_measures import Network, cells, measure
from experiments.record import (
    RESULTS,
    cached,
    check,
    code_digest,
    command_line,
    current,
    finish,
    read_record,
    weights_digest,
)

SOURCES = (*digit_nets.SOURCES, "gradient_products.py", "product_measures.py", "accuracy_stats.py", "train.py")


@dataclass(frozen=True)
class Config:
    """Which networks, how many images, which laws.

    Attributes:
        training: the digit networks, where ``runs`` is not given.
        runs: folder of finished runs of ``experiments.train``.
        images: the first training images of each data set.
        laws: strategies whose R2 is taken apart.
        fractions: radii of the short distances, as parts of the shorter image side; the first is the test's.
    """

    training: digit_nets.Config = field(default_factory=digit_nets.Config)
    runs: str | None = None
    images: int = 256
    laws: tuple[str, ...] = ("mixup", "cutmix", "hmix", "gmix")
    fractions: tuple[float, ...] = (0.25, 0.125, 0.375, 0.5)

    @property
    def record(self) -> str:
        """Name of the record."""
        return "gradient_products" if self.runs is None else "gradient_products_runs"


def run(config: Config, *, jobs: int = 1, folder: Path = RESULTS) -> dict[str, Any]:
    """Measure every network and compare trainings within seeds.

    Raises:
        ValueError: if ``runs`` holds no finished run.
    """
    networks = _networks(config, jobs, folder)
    records = spread(_one, [(n, config, folder) for n in networks], jobs, "gradient_products", known=_known)
    return cached(
        folder / f"{config.record}.json",
        config,
        code_digest(*SOURCES) + weights_digest(records),
        command_line("experiments.gradient_products", config),
        lambda: _summary(config, records),
        parts=records,
    )


def _networks(config: Config, jobs: int, folder: Path) -> list[Network]:
    if config.runs is None:
        tasks = [(c, folder) for c in config.training.runs()]
        records = spread(digit_nets.train_one, tasks, jobs, "digit_nets", known=digit_nets.trained)
        return [Network.of_digits(r, folder) for r in records]
    found = [read_record(path) for path in sorted(Path(config.runs).glob("*/record.json"))]
    if not found:
        raise ValueError(
            f"expected finished runs in {config.runs}, found no record.json; train with experiments.train --out."
        )
    return [Network.of_run(r, Path(config.runs)) for r in found if r is not None]


def _key(network: Network, config: Config, folder: Path) -> tuple[Path, dict[str, Any], str]:
    options = {k: getattr(config, k) for k in ("images", "laws", "fractions")}
    place = folder / config.record / f"{network.name}.json"
    return place, {"network": network.record["config"], **options}, code_digest(*SOURCES) + network.weights_sha256


def _known(network: Network, config: Config, folder: Path) -> dict[str, Any] | None:
    return current(*_key(network, config, folder))


def _one(network: Network, config: Config, folder: Path) -> dict[str, Any]:
    return cached(
        *_key(network, config, folder),
        command_line("experiments.gradient_products", config),
        lambda: measure(network, config.images, config.laws, config.fractions),
    )


def _summary(config: Config, records: list[dict[str, Any]]) -> dict[str, Any]:
    results = [r["result"] for r in records]
    summary = cells(results, config.fractions)
    return {
        "images": config.images,
        "laws": config.laws,
        "fractions": config.fractions,
        "cells": summary,
        "expectations": [_expectation(summary)],
        "checks": _checks(results),
    }


def _expectation(summary: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """C5: is the share of near products lower on CutMix-trained networks, with its interval, in every cell?"""
    found = [
        {"cell": c["cell"], **d}
        for c in summary
        for d in c["differences"]
        if (d["first"], d["second"]) == ("cutmix", "mixup")
    ]
    first = [d for d in found if d["primary"]]
    sides = [d["side"] for d in first]
    detail = f"lower in {sides.count('below')} of {len(sides)} cells, higher in {sides.count('above')}"
    name = "CutMix-trained networks have a smaller share of near products than Mixup-trained ones"
    return {"key": "c5", **check(name, bool(sides) and set(sides) == {"below"}, detail), "cells": found}


def _checks(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    rest = [r["rest"] for r in results if r["rest"] is not None]
    lost = max(abs(sum(r["share"]) - 1) for r in results)
    whole = [
        check(
            "parts of R2 by displacement sum to R2 of the expansion",
            max(rest) < 1e-9,
            f"relative distance {max(rest):.1g} on {len(rest)} networks of at most 256 inputs",
        )
        for _ in rest[:1]
    ]
    return [
        *whole,
        check("shares of the product mass sum to 1", lost < 1e-9, f"off by {lost:.1g} on {len(results)} networks"),
    ]


def main(config: Annotated[Config, tyro.conf.arg(name="")] = Config(), jobs: int = os.cpu_count() or 1) -> None:
    """Measure over ``jobs`` processes; print what was expected and what came."""
    finish(run(config, jobs=jobs))


if __name__ == "__main__":
    tyro.cli(main)
