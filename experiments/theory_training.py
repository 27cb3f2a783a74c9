"""Is training on the expansion the same as training by mixing?

If MSDA *is* a regularizer (claim C1), then minimising the expansion of the mixed loss without mixing a single image,
at equal steps, should give the networks that MSDA gives. Here the expansion at the data (L + R1, + R2, + R3, + R1 + R2,
+ R1 + R2 + R3), at the conditional mean and at the mask (base, Gauss-Newton, with R3) are minimised directly, through
the second-order engine, with the optimiser, the initial weights and the batches of training by mixing, and compared
with it: test accuracy, the measured mixed loss, predictions on test images, clean and mixed, and input gradients.
Softplus and ReLU networks on digits; for ReLU R3 is 0, so nothing with R3 is trained.

Two yardsticks: training without mixing (share 0), and a second training by mixing with other masks and partners, which
says how near two trainings on the same loss come (share 1 of a distance).

Checks, which must hold: networks trained by mixing or without reach ``min_accuracy``; mixing lowers the measured mixed
loss, in every cell, so that shares mean something. Expectations, set down before the first run and reported whatever
comes of them:

- order: the share of MSDA's drop of the mixed loss rises from data-r1r2 over mean-gn to mask-gn;
- mask: mask-gn, mean replacement plus structured noise, reproduces at least 90 % of that drop;
- near: mask-gn brings predictions on mixed images at least half the way from vanilla's to MSDA's own spread;
- noise: the Gauss-Newton term is needed: mask-base alone reproduces less than mask-gn;
- r2: R2 alone at the data reproduces less than half of the drop;
- unbounded: what has R1 or R3 at the data is unbounded below, and training on data-all diverges or ends with a larger
  mixed loss than vanilla (softplus);
- hessian: R3 around either mean makes it worse (softplus).

Added after a pilot on one seed, in which data-r1 and mask-all left the region where networks classify: both again with
the norm of the gradient limited to ``clip``; and the network linear in the step with the loss as it is (``*-linear``),
to tell the curvature of the network from that of the loss. Expected before those runs:

- linear: at the mask that reproduces more than Gauss-Newton.

Cost: about 2 to 7 s a network on one free core, 192 networks. Record: ``theory_training.json``.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from safetensors.torch import save
from torch import nn

from experiments import digit_nets
from experiments.data import digits
from experiments.files import write_whole
from experiments.parallel import one_thread, spread
from experiments.record import (
    RESULTS,
    cached,
    code_digest,
    command_line,
    current,
    finish,
    weights_digest,
)
from experiments.theory_runs import EXPANSIONS, MIXED, RunConfig, train_network
from experiments.theory_summary import cell, checks, expectations, row
from msda_theory.data import ImageData
from msda_theory.masks.registry import strategy as make_strategy
from msda_theory.mixed_loss import mixed_loss
from msda_theory.streams import stream

RUNS = (*digit_nets.SOURCES, "theory_training.py", "theory_runs.py")
SOURCES = (*RUNS, "theory_measures.py", "theory_summary.py", "layer_measures.py")


@dataclass(frozen=True)
class Config:
    """The grid of runs and what is measured."""

    strategies: tuple[str, ...] = ("cutmix", "mixup")
    activations: tuple[str, ...] = ("softplus", "relu")
    seeds: tuple[int, ...] = (0, 1, 2)
    objectives: tuple[str, ...] = tuple(EXPANSIONS)
    clipped: tuple[str, ...] = ("data-r1", "mask-all")
    clip: float = 1.0
    epochs: int = 20
    pairs: int = 2
    images: int = 512
    draws: int = 8
    min_accuracy: float = 0.93

    def __post_init__(self) -> None:
        if "vanilla" in self.strategies:
            raise ValueError(f"theory training needs strategies that mix, got {self.strategies}; leave vanilla out.")

    def runs(self) -> list[RunConfig]:
        """One configuration for each network; what has R3 with smooth activations only."""
        runs = []
        for activation, seed in product(self.activations, self.seeds):
            common: dict[str, Any] = {"activation": activation, "seed": seed, "epochs": self.epochs}
            runs.append(RunConfig("vanilla", **common))
            for name, objective in product(self.strategies, (*MIXED, *self.objectives)):
                if _possible(objective, activation):
                    runs.append(RunConfig(name, objective=objective, pairs=self.pairs, **common))
            for name, objective in product(self.strategies, self.clipped):
                if _possible(objective, activation):
                    runs.append(RunConfig(name, objective=objective, pairs=self.pairs, clip=self.clip, **common))
        return runs


def _possible(objective: str, activation: str) -> bool:
    return activation != "relu" or "r3" not in EXPANSIONS.get(objective, ("", ()))[1]


def run(config: Config, *, jobs: int = 1, folder: Path = RESULTS) -> dict[str, Any]:
    """Train and measure the grid, and summarise over seeds."""
    records = spread(_one, [(c, config, folder) for c in config.runs()], jobs, "theory_training", known=_known)
    return cached(
        folder / "theory_training.json",
        config,
        code_digest(*SOURCES) + weights_digest(records),
        command_line("experiments.theory_training", config),
        lambda: _summary(config, records, folder / "theory_training"),
        parts=records,
    )


def _place(run_config: RunConfig, config: Config, folder: Path) -> tuple[Path, dict[str, Any]]:
    names = config.strategies if run_config.strategy == "vanilla" else (run_config.strategy,)
    measured = {"images": config.images, "draws": config.draws, "strategies": names}
    return folder / "theory_training" / f"{run_config.name}.json", {"run": run_config, "measured": measured}


def _known(run_config: RunConfig, config: Config, folder: Path) -> dict[str, Any] | None:
    path, content = _place(run_config, config, folder)
    return current(path, content, code_digest(*RUNS), needs=[path.with_suffix(".safetensors")])


def _one(run_config: RunConfig, config: Config, folder: Path) -> dict[str, Any]:
    path, content = _place(run_config, config, folder)
    weights, command = path.with_suffix(".safetensors"), command_line("experiments.theory_training", config)
    with one_thread():
        return cached(
            path,
            content,
            code_digest(*RUNS),
            command,
            lambda: _measure(run_config, weights, **content["measured"]),
            needs=[weights],
        )


def _measure(
    run_config: RunConfig, weights: Path, *, images: int, draws: int, strategies: tuple[str, ...]
) -> dict[str, Any]:
    """Train one network, keep its weights, and measure it alone."""
    trained, data = train_network(run_config), digits()
    content = save({k: v.float() for k, v in trained.model.state_dict().items()})
    write_whole(weights, content)
    found: dict[str, Any] = {
        "training": run_config.training,
        "diverged": trained.diverged,
        "curve": trained.curve,
        "weights_sha256": hashlib.sha256(content).hexdigest(),
    }
    if trained.diverged is None:
        found |= {"accuracy": _accuracy(trained.model, data.test)}
        for part, some in (("mixed", data.train[:images]), ("mixed_test", data.test)):
            # Equal draws for all networks: differences between them are paired.
            found[part] = {
                name: mixed_loss(trained.model, some, make_strategy(name), draws=draws, rng=stream(0, part))
                for name in strategies
            }
    return found


def _accuracy(model: nn.Module, data: ImageData) -> float:
    with torch.no_grad():
        return float((model(data.x).argmax(dim=1) == data.y).double().mean())


def _summary(config: Config, records: list[dict[str, Any]], folder: Path) -> dict[str, Any]:
    grid = list(product(config.activations, config.strategies))
    cells = {key: cell(*key, records, folder) for key in grid}
    return {
        "test_images": len(digits().test),
        "rows": [row(*key, training, cells[key]) for key in grid for training in cells[key]],
        "expectations": expectations(cells),
        "checks": checks(config.min_accuracy, cells),
    }


def main(config: Annotated[Config, tyro.conf.arg(name="")] = Config(), jobs: int = os.cpu_count() or 1) -> None:
    """Train and measure over ``jobs`` processes; print what was expected and what came."""
    finish(run(config, jobs=jobs))


if __name__ == "__main__":
    tyro.cli(main)
