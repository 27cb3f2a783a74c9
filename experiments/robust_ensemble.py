"""How far is the worst case of the study of robustness from the standard ensemble of attacks?

The study attacks with FGSM, PGD, DeepFool and Square. Here, on some of its networks and images, at one radius of each
norm, the standard ensemble of pyautoattack (two kinds of APGD, FAB, Square with 5,000 queries) runs beside them. Its
cost, about a minute for one network on one core, keeps it out of the study. Reported: accuracy under the study's worst
case, under the ensemble, and their difference by training; what it takes away should not depend on the training, or the
comparison of trainings would. Record: ``robust_ensemble.json``.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from experiments import small_nets
from experiments.layer_measures import interval
from experiments.parallel import one_thread, spread
from experiments.record import RESULTS, cached, check, code_digest, command_line, current, finish
from experiments.robust_measures import broken_at
from experiments.robust_stats import by_training
from experiments.small_nets import Net
from msda_theory.data import ImageData
from msda_theory.robustness import DEFAULT_ATTACKS, robustness
from msda_theory.streams import stream

SOURCES = (*small_nets.SOURCES, "robust_ensemble.py", "robust_measures.py", "robust_stats.py")


@dataclass(frozen=True)
class Config:
    """Networks, one radius of each norm, images; effort of the study's attacks."""

    strategies: tuple[str, ...] = ("vanilla", "mixup", "cutmix")
    seeds: tuple[int, ...] = (0, 1)
    epochs: int = 25
    linf: float = 0.1
    l2: float = 0.5
    images: int = 60
    steps: int = 50
    restarts: int = 2
    queries: int = 200

    def nets(self) -> list[Net]:
        """One network for each strategy and seed."""
        return [Net("conv", s, seed, epochs=self.epochs) for s, seed in product(self.strategies, self.seeds)]


def run(config: Config, *, jobs: int = 1, folder: Path = RESULTS) -> dict[str, Any]:
    """Attack every network, and summarise over seeds."""
    records = spread(_one, [(n, config, folder) for n in config.nets()], jobs, "robust_ensemble", known=_known)
    return cached(
        folder / "robust_ensemble.json",
        config,
        code_digest(*SOURCES),
        command_line("experiments.robust_ensemble", config),
        lambda: _summary([r["result"] for r in records]),
        parts=records,
    )


def _place(net: Net, config: Config, folder: Path) -> tuple[Path, dict[str, Any]]:
    options = {k: getattr(config, k) for k in ("linf", "l2", "images", "steps", "restarts", "queries")}
    return folder / "robust_ensemble" / f"{net.name}.json", {"net": net, "measured": options}


def _known(net: Net, config: Config, folder: Path) -> dict[str, Any] | None:
    return current(*_place(net, config, folder), code_digest(*SOURCES))


def _one(net: Net, config: Config, folder: Path) -> dict[str, Any]:
    command = command_line("experiments.robust_ensemble", config)
    with one_thread():
        return cached(
            *_place(net, config, folder), code_digest(*SOURCES), command, lambda: _measure(net, config, folder)
        )


def _measure(net: Net, config: Config, folder: Path) -> dict[str, Any]:
    model = small_nets.load_model(net, folder).float()
    _, test = small_nets.splits(net)
    images = ImageData(test.x[: config.images].float(), test.y[: config.images], test.num_classes)
    out: dict[str, Any] = {"training": net.strategy, "seed": net.seed}
    for norm in ("linf", "l2"):
        result = robustness(
            model,
            images,
            norm=norm,
            eps=(getattr(config, norm),),
            attacks=(*DEFAULT_ATTACKS, "autoattack"),
            steps=config.steps,
            restarts=config.restarts,
            queries=config.queries,
            rng=stream(0, "attacks", norm),
            batch_size=len(images),
        )
        out[norm] = {name: broken_at(result, name) for name in result.attacks}
    return out


def _summary(results: list[dict[str, Any]]) -> dict[str, Any]:
    rows: list[dict[str, Any]] = []
    for name, own in by_training(results).items():
        for norm in ("linf", "l2"):
            study = np.array([np.min([r[norm][a] for a in DEFAULT_ATTACKS], axis=0) for r in own])
            ensemble = np.array([r[norm]["autoattack"] for r in own])
            row: dict[str, Any] = {"training": name, "norm": norm, "seeds": len(own), "answers": study.size}
            row |= {"worst": interval(study.mean(axis=1)), "ensemble": interval(ensemble.mean(axis=1))}
            row |= {"only_ensemble": int((study > ensemble).sum()), "only_study": int((ensemble > study).sum())}
            rows.append(row)
    missed = sum(r["only_ensemble"] for r in rows) / sum(r["answers"] for r in rows)
    detail = f"the ensemble alone breaks {100 * missed:.1f} % of all images"
    return {"rows": rows, "checks": [check("the study misses few examples (below 10 %)", missed < 0.1, detail)]}


def main(config: Annotated[Config, tyro.conf.arg(name="")] = Config(), jobs: int = os.cpu_count() or 1) -> None:
    """Attack over ``jobs`` processes."""
    finish(run(config, jobs=jobs))


if __name__ == "__main__":
    tyro.cli(main)
