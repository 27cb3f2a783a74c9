"""Does MSDA regularize the parameters of the first layer, and which norm of theirs?

Claim C2 (Park, Yun, Chun, NeurIPS 2022): MSDA regularizes the first-layer parameters. Precisely: R2 is a quadratic form
of the first layer's weights W, in the metric A o C_i of mask law and data, weighted by the curvature above the layer
(docs/theory.md, Eq. (3g)). Here: networks trained without mixing, with each strategy, and, as a control, without mixing
but with that form as an explicit penalty on W alone (everything above frozen, no gradient into it). Two kinds of
networks on digits; equal seeds have equal initial weights and batches, so that ratios to vanilla are paired.

Checks, which must hold: the form equals R2 of the expansion on every trained network; contributions of filters sum to
it; networks are trained. Expectations, set down before the first run and reported whatever comes of them:

- size: MSDA training lowers the first layer's norm in the strategy's own metric, relative to vanilla;
- shape: also after division by the Frobenius norm, so that not only the scale changes;
- response: it lowers the first-order change of the logits by a mixing step relative to their own variance;
- control: the explicit penalty lowers that norm and that response too;
- frequency: the metrics weigh low frequencies most, so MSDA training lowers the low frequencies' share of energy.

Known before (record ``expansion_gap.json``): R2 itself is *larger* on networks trained with mixing, since on vanilla
networks the curvature h'' nearly vanishes on the training images. So R2 alone is no measure of regularization.
Asked after the first run: does the norm fall more in the own metric than in those of the other laws (``specific``)? Is
the control, which overdoes it at full strength, like MSDA at a part of it (``strengths``, one hidden layer)?
Cost: about 4 s a network, 4 to 20 s a control, on one core; 90 networks. Record: ``first_layer.json``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from torch import nn

from experiments import digit_nets
from experiments.data import digits
from experiments.layer_measures import BANDS, EDGES, Measures, contributions, distance_to_expansion, interval
from experiments.layer_training import NETWORKS, RunConfig, train_network
from experiments.parallel import one_thread, spread
from experiments.record import RESULTS, cached, check, code_digest, command_line, current, finish
from msda_theory.masks.registry import strategy as make_strategy

SOURCES = (*digit_nets.SOURCES, "first_layer.py", "layer_training.py", "layer_measures.py")
REFERENCE = "cutmix"  # metric in which networks trained without mixing are looked at


@dataclass(frozen=True)
class Config:
    """The grid of runs and what is measured."""

    networks: tuple[str, ...] = NETWORKS
    strategies: tuple[str, ...] = ("vanilla", "mixup", "cutmix", "hmix", "gmix")
    penalties: tuple[str, ...] = ("mixup", "cutmix")
    strengths: tuple[float, ...] = (0.1, 0.3)
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    epochs: int = 20
    checkpoints: tuple[int, ...] = (0, 1, 2, 5, 10, 15)
    images: int = 256
    min_accuracy: float = 0.9

    def __post_init__(self) -> None:
        if "vanilla" not in self.strategies or not set(self.penalties) <= set(self.mixing):
            raise ValueError(
                "first-layer ratios are taken to vanilla, and penalties compared with training by the same strategy; "
                f"got strategies {self.strategies} and penalties {self.penalties}."
            )

    @property
    def mixing(self) -> tuple[str, ...]:
        """Strategies that mix."""
        return tuple(s for s in self.strategies if s != "vanilla")

    def runs(self) -> list[RunConfig]:
        """One configuration for each network; controls, which take longest, first."""
        kinds = [(n, s, 1.0) for s, n in product(self.penalties, self.networks)]
        kinds += [("mlp", s, v) for s, v in product(self.penalties, self.strengths) if "mlp" in self.networks]
        controls = [
            RunConfig(s, seed=k, epochs=self.epochs, network=n, penalty=True, strength=v)
            for (n, s, v), k in product(kinds, self.seeds)
        ]
        grid = product(self.strategies, self.networks, self.seeds)
        return [*controls, *(RunConfig(s, seed=k, epochs=self.epochs, network=n) for s, n, k in grid)]


def run(config: Config, *, jobs: int = 1, folder: Path = RESULTS) -> dict[str, Any]:
    """Train and measure the grid, and summarise over seeds."""
    records = spread(_one, [(c, config, folder) for c in config.runs()], jobs, "first_layer", known=_known)
    return cached(
        folder / "first_layer.json",
        config,
        code_digest(*SOURCES),
        command_line("experiments.first_layer", config),
        lambda: _summary(config, records),
        parts=records,
    )


def _place(run_config: RunConfig, config: Config, folder: Path) -> tuple[Path, dict[str, Any]]:
    options = {k: getattr(config, k) for k in ("checkpoints", "images")} | {"laws": config.mixing}
    return folder / "first_layer" / f"{run_config.name}.json", {"run": run_config, "measured": options}


def _known(run_config: RunConfig, config: Config, folder: Path) -> dict[str, Any] | None:
    return current(*_place(run_config, config, folder), code_digest(*SOURCES))


def _one(run_config: RunConfig, config: Config, folder: Path) -> dict[str, Any]:
    command = command_line("experiments.first_layer", config)
    place = _place(run_config, config, folder)
    with one_thread():
        return cached(*place, code_digest(*SOURCES), command, lambda: _measure(run_config, config))


def _measure(run_config: RunConfig, config: Config) -> dict[str, Any]:
    """Train one network and measure it on the way."""
    data = digits()
    images = data.train[: config.images]
    laws = {name: make_strategy(name).moments(images.shape) for name in config.mixing}
    measures: list[Measures] = []
    curve: dict[str, list[float]] = {"epoch": []}

    def observe(epoch: int, model: nn.Module) -> None:
        if epoch not in (*config.checkpoints, run_config.epochs):
            return
        if not measures:
            measures.append(Measures(model, images, data.test, laws))
        for name, value in {"epoch": epoch, **measures[0](model)}.items():
            curve.setdefault(name, []).append(value)

    model = train_network(run_config, observe)
    return {
        "network": run_config.network,
        "training": run_config.training,
        "penalty": run_config.strength if run_config.penalty else None,
        "own": _reference(config) if run_config.strategy == "vanilla" else run_config.strategy,
        "curve": curve,
        "distance_to_expansion": distance_to_expansion(model, images, laws),
        "contributions": contributions(measures[0].forms(model)[_reference(config)], images.shape),
    }


def _reference(config: Config) -> str:
    return REFERENCE if REFERENCE in config.mixing else config.mixing[0]


def _summary(config: Config, records: list[dict[str, Any]]) -> dict[str, Any]:
    results = [r["result"] for r in records]
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for r in sorted(results, key=lambda r: (config.networks.index(r["network"]), r["penalty"] or 0.0)):
        groups.setdefault((r["network"], r["training"]), []).append(r)
    rows = [_row(own, groups[network, "vanilla"], config.mixing) for (network, _), own in groups.items()]
    radius = np.hypot(*np.meshgrid(*[2 * np.pi * np.fft.fftfreq(n) for n in digits().train.shape], indexing="ij"))
    white = np.histogram(radius, bins=EDGES)[0] / radius.size
    return {
        "images": config.images,
        "reference": _reference(config),
        "bands": dict(zip(BANDS, white, strict=True)),
        "rows": rows,
        "expectations": _expectations(config, rows),
        "checks": _checks(config, results),
    }


def _row(own: list[dict[str, Any]], base: list[dict[str, Any]], laws: tuple[str, ...]) -> dict[str, Any]:
    """Means over seeds at the end, paired ratios to vanilla, and curves, with 95 % intervals."""
    law, vanilla_itself = own[0]["own"], own[0]["training"] == "vanilla"
    names = [n for n in own[0]["curve"] if n != "epoch"]
    end = {n: np.array([r["curve"][n][-1] for r in own]) for n in names}
    vanilla = {n: np.array([r["curve"][n][-1] for r in base]) for n in names}
    shares = np.array([r["contributions"]["share"] for r in own])
    curves = {}
    for n in names:
        points = [interval([r["curve"][n][k] for r in own]) for k in range(len(own[0]["curve"]["epoch"]))]
        curves[n] = {k: [p[k] for p in points] for k in ("mean", "half")}
    ratio = {n: v / vanilla[n] for n, v in end.items()}
    others = [ratio[f"norm_{name}"] for name in laws if name != law]
    return {
        **{k: own[0][k] for k in ("network", "training", "penalty", "own")},
        "seeds": len(own),
        "end": {n: interval(v) for n, v in end.items()},
        "ratio": None if vanilla_itself else {n: interval(v) for n, v in ratio.items()},
        # Is it the norm in the own metric that falls, more than those in the metrics of the other laws?
        "specific": None if vanilla_itself or not others else interval(ratio[f"norm_{law}"] / np.mean(others, axis=0)),
        "epoch": own[0]["curve"]["epoch"],
        "curves": curves,
        "contributions": {"mean": shares.mean(axis=0).round(5), "half": [interval(s)["half"] for s in shares.T]},
        "top_share": own[0]["contributions"]["share"][: len(own[0]["contributions"]["filters"])],
        "filters": own[0]["contributions"]["filters"],
    }


def _expectations(config: Config, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What was expected before the first run, and whether it came, cell by cell."""
    mixing = [r for r in rows if r["training"] in config.mixing]
    controls = [r for r in rows if r["penalty"] == 1.0]
    return [
        _lower("size", "MSDA training lowers the norm in its own metric", mixing, "norm"),
        _lower("shape", "it lowers that norm over the Frobenius norm", mixing, "relative"),
        _lower("response", "it lowers the relative change of the logits", mixing, "change"),
        _lower("control-size", "the penalty alone lowers the norm in its metric", controls, "norm"),
        _lower("control-response", "the penalty alone lowers the relative change of the logits", controls, "change"),
        _lower("frequency", "MSDA training lowers the share of low frequencies", mixing, "low"),
    ]


def _lower(key: str, name: str, rows: Iterable[dict[str, Any]], measure: str) -> dict[str, Any]:
    """Is the paired ratio to vanilla below 1, with its 95 % interval, in every cell?"""
    cells = []
    for r in rows:
        ratio = r["ratio"][measure if measure == "low" else f"{measure}_{r['own']}"]
        side = "lower" if ratio["mean"] + ratio["half"] < 1 else "higher" if ratio["mean"] - ratio["half"] > 1 else "?"
        cells.append({"network": r["network"], "training": r["training"], **ratio, "side": side})
    count = {s: sum(c["side"] == s for c in cells) for s in ("lower", "higher", "?")}
    detail = f"lower in {count['lower']} of {len(cells)} cells, higher in {count['higher']}, not told in {count['?']}"
    return {"key": key, **check(name, count["lower"] == len(cells), detail), "cells": cells}


def _checks(config: Config, results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    worst = max(r["distance_to_expansion"] for r in results)
    rest = max(r["contributions"]["rest"] for r in results)
    lowest = min(r["curve"]["accuracy"][-1] for r in results)
    return [
        check("the form of the first layer is R2 of the expansion", worst < 1e-9, f"relative distance {worst:.1g}"),
        check("contributions of the filters sum to R2", rest < 1e-9, f"relative distance {rest:.1g}"),
        check(
            f"every network reaches {config.min_accuracy:.2f} test accuracy",
            lowest >= config.min_accuracy,
            f"lowest of {len(results)} networks {lowest:.3f}",
        ),
    ]


def main(config: Annotated[Config, tyro.conf.arg(name="")] = Config(), jobs: int = os.cpu_count() or 1) -> None:
    """Train and measure over ``jobs`` processes; print what was expected and what came."""
    finish(run(config, jobs=jobs))


if __name__ == "__main__":
    tyro.cli(main)
