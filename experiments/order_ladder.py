"""Which expansion explains the mixed loss? The order ladder on networks of every kind and stage of training.

Claims C1, C5 and C6 (Park, Yun, Chun, NeurIPS 2022) rest on a second-order expansion at the data. For every network,
strategy, alpha and law: the rungs base, + R1, + R2 (Gauss-Newton), + R3, the linearised and the quadratic network with
the exact loss, at the data, at the conditional mean, at the mask-conditional mean, with the partner's class mean and
with the blurred partner as stand-in, each as a share of the measured rise on the same draws; which rungs put the
strategies in the measured order; and up to which strength t of the step each rung stays within a tenth of the rise.
Expected, written before the first run: the list in `experiments.ladder_expectations`; the record tells whether each
came. Rungs: docs/theory.md, Section 3.7.
Digits: both activations, six trainings, three seeds; untrained, two checkpoints and trained.
With ``--runs FOLDER`` the same for every finished run of `experiments.train` in it.
Record: ``order_ladder.json``, or ``order_ladder_runs.json``.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

import tyro
from torch import Tensor, nn

from experiments import digit_nets, ladder_nets, ladder_verdicts
from experiments.ladder_nets import Subject
from experiments.parallel import spread
from experiments.record import RESULTS, cached, code_digest, command_line, current, finish, weights_digest
from experiments.strategies import strategy_from, with_alpha
from msda_theory.data import ImageData
from msda_theory.engines import Engines
from msda_theory.ladder_table import OrderLadder
from msda_theory.masks.base import Strategy
from msda_theory.order_ladder import order_ladder
from msda_theory.radii import order_radii
from msda_theory.stand_ins import class_means, default_length, local_means
from msda_theory.streams import stream

SOURCES = (*ladder_nets.SOURCES, "order_ladder.py", "strategies.py")  # of the analysis of one network
PARTS = {"loss": ("r2", "linearised"), "network": ("linearised", "measured")}  # what each leaves unexplained
POINTS = ("data", "mean", "mask", "class", "local")


@dataclass(frozen=True)
class Config:
    """Which networks, strategies, alphas; how many images and draws.

    Networks that are not trained to their end are analysed at ``alphas[-1]`` only, without radii; the quadratic network
    at the data and the mean at ``alphas[-1]`` only.

    Attributes:
        training: the grid of networks on digits.
        checkpoints: epochs of the networks that are not trained to their end.
        strategies: to mix with, as text.
        alphas: of the strategies.
        images, draws: of the ladder. Many images with few draws: partners are among them, and the class mean of few
            images would know too much of each.
        radius_images, radius_draws: of the radius, whose cost is that of a ladder for each of ``scales``.
        scales: t.
        quadratic: that rung at the data and the mean too, which takes as long as all others.
        runs: folder of finished runs, in place of the networks on digits.
        precision: of runs; digits are in float64.
        seed: of the draws.
    """

    training: digit_nets.Config = field(default_factory=digit_nets.Config)
    checkpoints: tuple[int, ...] = (5, 15)
    strategies: tuple[str, ...] = ("mixup", "cutmix", "hmix", "gmix", "choice")
    alphas: tuple[float, ...] = (0.05, 0.2, 0.5, 1.0)
    images: int = 192
    draws: int = 4
    radius_images: int = 96
    radius_draws: int = 3
    scales: tuple[float, ...] = (0.03125, 0.0625, 0.125, 0.25, 0.375, 0.5, 0.75, 1.0)
    quadratic: bool = True
    runs: str | None = None
    precision: str = "float32"
    seed: int = 0


def run(config: Config, *, jobs: int = 1, folder: Path = RESULTS) -> dict[str, Any]:
    """Analyse every network and sum up."""
    if config.runs is None:
        subjects = list(ladder_nets.digit_subjects(config.training, config.checkpoints))
    else:
        subjects = list(ladder_nets.run_subjects(Path(config.runs)))
    records = spread(_one, [(s, config, folder) for s in subjects], jobs, "order_ladder", known=_analysed)
    name = "order_ladder" if config.runs is None else "order_ladder_runs"
    return cached(
        folder / f"{name}.json",
        config,
        code_digest(*SOURCES, "ladder_verdicts.py", "ladder_expectations.py") + weights_digest(records),
        command_line("experiments.order_ladder", config),
        lambda: ladder_verdicts.summary(records),
        parts=records,
    )


def _key(subject: Subject, config: Config, trained: dict[str, Any] | None) -> tuple[dict[str, Any], str]:
    """Configuration and code of the analysis of one network."""
    names = ("strategies", "images", "draws", "quadratic", "seed", "precision")
    options = {k: getattr(config, k) for k in names} | {"alphas": _alphas(subject, config)}
    if subject.stage == "trained":
        options |= {k: getattr(config, k) for k in ("radius_images", "radius_draws", "scales")}
    own = {**subject.labels, "run": trained["config"] if trained else None}
    return {"subject": own, "ladder": options}, code_digest(*SOURCES) + ladder_nets.weights_sha256(trained)


def _alphas(subject: Subject, config: Config) -> tuple[float, ...]:
    return config.alphas if subject.stage == "trained" else config.alphas[-1:]


def _path(subject: Subject, folder: Path) -> Path:
    return folder / "order_ladder" / f"{subject.name}.json"


def _analysed(subject: Subject, config: Config, folder: Path) -> dict[str, Any] | None:
    trained = ladder_nets.known(subject, folder)
    if trained is None and subject.stage != "untrained":
        return None
    return current(_path(subject, folder), *_key(subject, config, trained))


def _one(subject: Subject, config: Config, folder: Path) -> dict[str, Any]:
    trained = ladder_nets.prepare(subject, folder)
    return cached(
        _path(subject, folder),
        *_key(subject, config, trained),
        command_line("experiments.order_ladder", config),
        lambda: {
            **_measure(subject, trained, config, folder),
            "weights_sha256": ladder_nets.weights_sha256(trained),
        },
    )


def _measure(subject: Subject, trained: dict[str, Any] | None, config: Config, folder: Path) -> dict[str, Any]:
    """Ladder and radii of one network, for every strategy and alpha."""
    model, data = ladder_nets.load(subject, trained, folder, config.images, config.precision)
    engines = Engines(model, data.x)
    cells: list[dict[str, Any]] = []
    radii: list[dict[str, Any]] = []
    for alpha in _alphas(subject, config):
        named = {name: with_alpha(strategy_from(name), alpha) for name in config.strategies}
        # Other draws for each network, so that errors over networks contain the error of the draws; the same for
        # every strategy and alpha.
        rng = stream(config.seed, "order_ladder", subject.name)
        options: dict[str, Any] = {"draws": config.draws, "engines": engines}
        options["quadratic"] = config.quadratic and alpha == config.alphas[-1]
        table = order_ladder(model, data, list(named.values()), rng=rng, **options)
        cells += [_cell(table, name, s, alpha) for name, s in named.items()]
        if subject.stage == "trained":
            rising = {name: s for name, s in named.items() if table.rises[s.name]}
            radii += _radii(model, data, rising, alpha, config, subject, engines)
    return {"cells": cells, "radii": radii}


def _cell(table: OrderLadder, name: str, strategy: Strategy, alpha: float) -> dict[str, Any]:
    """All rungs under one strategy, and what of the rise the curvature of the loss and of the network make."""
    rows = [r for r in table.rows if r.strategy == strategy.name]
    measured = table.row(strategy.name).value
    parts = [
        {"law": law, "at": at, "part": part, "share": table.part(strategy.name, law=law, at=at, lower=a, upper=b)}
        for law in ("exact", "paper")
        for at in POINTS
        for part, (a, b) in PARTS.items()
        if table.rises[strategy.name]
    ]
    return {
        "strategy": name,
        "alpha": alpha,
        "clean": table.clean.mean,
        "rise": measured.mean - table.clean.mean,
        "rise_se": measured.se,
        "rungs": [[r.law, r.at, r.rung] for r in rows],
        "share": [r.share.mean if r.share else None for r in rows],
        "share_se": [r.share.se if r.share else None for r in rows],
        "parts": parts,
    }


def _radii(
    model: nn.Module,
    data: ImageData,
    named: dict[str, Strategy],
    alpha: float,
    config: Config,
    subject: Subject,
    engines: Engines,
) -> list[dict[str, Any]]:
    """Radii at all points under the exact law, and at the data under the paper's."""
    if not named:
        return []
    few = data[: config.radius_images]
    stand_ins: dict[str, Tensor] = {
        "class": class_means(few),
        "local": local_means(few, default_length(few)),
    }
    options: dict[str, Any] = {"draws": config.radius_draws, "quadratic": False, "engines": engines}
    options["scales"] = config.scales
    strategies = list(named.values())

    def measure(laws: tuple[str, ...], ats: tuple[str, ...], images: dict[str, Tensor]) -> Any:
        rng = stream(config.seed, "order_ladder", "radius", subject.name)
        return order_radii(model, few, strategies, laws=laws, ats=ats, stand_ins=images, rng=rng, **options)

    found = [measure(("exact",), POINTS[:3], stand_ins), measure(("paper",), ("data",), {})]
    text = {s.name: name for name, s in named.items()}
    return [
        {
            "strategy": text[r.strategy],
            "alpha": alpha,
            "rung": [r.law, r.at, r.rung],
            **{k: round(getattr(r.radius, k), 4) for k in ("value", "low", "high")},
        }
        for r in chain(*(f.rows for f in found))
    ]


def main(config: Annotated[Config, tyro.conf.arg(name="")] = Config(), jobs: int = os.cpu_count() or 1) -> None:
    """Analyse over ``jobs`` processes; print what was expected and what came."""
    finish(run(config, jobs=jobs))


if __name__ == "__main__":
    tyro.cli(main)
