"""How much of the rise of the mixed loss does the second-order expansion explain, on trained networks?

Claim C1 (Park, Yun, Chun, NeurIPS 2022): whatever the strategy, the mixed loss is, to second order, the loss plus
regularizers of the input gradient and Hessian. For every trained network and strategy: base, R1, R2, R3, predicted and
measured mixed loss and the share of the rise explained, at the data (both laws, exact terms), at the conditional mean
and at the mask-conditional mean (exact law, sampled terms), on training images. Also the distribution of R2 over pixel
distance (claim C5).
Expected: the terms have the right sign everywhere; at full strength the expansion at the data falls short; the
mask-conditional mean with the Gauss-Newton term alone explains most of the rise.
Cost: about 10 s a network on one core. Record: ``expansion_gap.json``.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import tyro

from experiments import digit_nets
from experiments.data import digits
from experiments.parallel import spread
from experiments.record import RESULTS, cached, check, code_digest, command_line, current, finish, weights_digest
from msda_theory.compare import Comparison, compare
from msda_theory.distance import gradient_term_by_distance
from msda_theory.estimate import Estimate
from msda_theory.masks.registry import strategy as make_strategy
from msda_theory.streams import stream

SOURCES = (*digit_nets.SOURCES, "expansion_gap.py")


KINK = 1 / 8  # step t of the second-order response by symmetric differences, docs/theory.md, Eq. (3e)


@dataclass(frozen=True)
class Config:
    """Which networks, which strategies, how many images and draws."""

    training: digit_nets.Config = field(default_factory=digit_nets.Config)
    strategies: tuple[str, ...] = ("mixup", "cutmix", "hmix", "gmix", "choice")
    images: int = 256
    draws: int = 12
    seed: int = 0


def run(config: Config, *, jobs: int = 1, folder: Path = RESULTS) -> dict[str, Any]:
    """Analyse every network of the training grid and summarise over seeds."""
    digit_nets.run(config.training, jobs=jobs, folder=folder)
    tasks = [(c, config, folder) for c in config.training.runs()]
    records = spread(_analyse_one, tasks, jobs, "expansion_gap", known=_analysed)
    return cached(
        folder / "expansion_gap.json",
        config,
        code_digest(*SOURCES) + weights_digest(records),
        command_line("experiments.expansion_gap", config),
        lambda: _summary(config, records),
        parts=records,
    )


def _key(run_config: digit_nets.RunConfig, config: Config, trained: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """Configuration and code of the analysis of one network."""
    options = {k: getattr(config, k) for k in ("strategies", "images", "draws", "seed")}
    return {"run": run_config, "gap": options}, code_digest(*SOURCES) + trained["result"]["weights_sha256"]


def _analysed(run_config: digit_nets.RunConfig, config: Config, folder: Path) -> dict[str, Any] | None:
    trained = digit_nets.trained(run_config, folder)
    path = folder / "expansion_gap" / f"{run_config.name}.json"
    return current(path, *_key(run_config, config, trained)) if trained else None


def _analyse_one(run_config: digit_nets.RunConfig, config: Config, folder: Path) -> dict[str, Any]:
    trained = digit_nets.train_one(run_config, folder)
    return cached(
        folder / "expansion_gap" / f"{run_config.name}.json",
        *_key(run_config, config, trained),
        command_line("experiments.expansion_gap", config),
        lambda: {**_analyse(trained, config, folder), "weights_sha256": trained["result"]["weights_sha256"]},
    )


def _analyse(trained: dict[str, Any], config: Config, folder: Path) -> dict[str, Any]:
    model = digit_nets.load_model(trained, folder)
    data = digits().train[: config.images]
    strategies = [make_strategy(name) for name in config.strategies]
    labels = {s.name: name for s, name in zip(strategies, config.strategies, strict=True)}

    def measure(**options: Any) -> Comparison:
        # The same draws both times, so that there is one measured loss; others for each network, so that errors
        # over networks contain the error of the draws.
        rng = stream(config.seed, "expansion_gap", digit_nets.RunConfig(**trained["config"]).name)
        return compare({"model": model}, data, strategies, draws=config.draws, rng=rng, **options)

    at_data = measure(at="data", method="dense", law=("exact", "paper"), kink=KINK)
    elsewhere = measure(at=("mean", "mask"))
    kinks = at_data.frame().query("law == 'exact'").replace({"strategy": labels})
    rows = pd.concat([at_data.frame(), elsewhere.frame()], ignore_index=True)
    rows = rows.drop(columns=["model", *(c for c in rows if c.startswith("kink"))]).replace({"strategy": labels})
    weights = at_data.weights["model"]
    by_distance = [gradient_term_by_distance(weights, s.moments(data.shape)) for s in strategies]
    return {
        "rows": rows.to_dict(orient="records"),
        "kinks": kinks[["strategy", "r2", "r3", *(c for c in kinks if c.startswith("kink"))]].to_dict(orient="records"),
        "r2_by_distance": {
            "distance": by_distance[0].distance,
            "pairs": by_distance[0].pairs,
            "r2": {name: b.value for name, b in zip(config.strategies, by_distance, strict=True)},
        },
    }


def _summary(config: Config, records: list[dict[str, Any]]) -> dict[str, Any]:
    rows = pd.concat([_labelled(r) for r in records], ignore_index=True)
    key = ["training", "activation", "strategy", "law", "at"]
    summary = [
        {**dict(zip(key, name, strict=True)), **_over_seeds(group)} for name, group in rows.groupby(key, sort=False)
    ]
    return {
        "images": config.images,
        "draws": config.draws,
        "columns": rows.drop(columns=["method"]).round(6).to_dict(orient="list"),
        "summary": summary,
        "shares": _shares(pd.DataFrame(summary)),
        "kinks": _kinks(records),
        "distance": _distance(config, records),
        "checks": [*_sign_checks(rows), *_share_checks(summary)],
    }


def _labelled(record: dict[str, Any], part: str = "rows") -> pd.DataFrame:
    run_config = record["config"]["run"]
    frame = pd.DataFrame(record["result"][part])
    frame.insert(0, "training", run_config["strategy"])
    frame.insert(1, "activation", run_config["activation"])
    frame.insert(2, "seed", run_config["seed"])
    return frame


def _over_seeds(group: pd.DataFrame) -> dict[str, Any]:
    """Means over networks with the standard error over networks, which contains that of their independent draws."""
    columns = ("clean", "base", "r1", "r2", "r3", "predicted", "measured", "explained", "explained_gn")
    out: dict[str, Any] = {"networks": len(group)}
    for name in columns:
        values = group[name].to_numpy(dtype=float)
        se = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else float("nan")
        out[name] = {"mean": values.mean(), "se": se, "n": len(values)}
    return out


def _shares(summary: pd.DataFrame) -> list[dict[str, Any]]:
    """Smallest, median and largest share explained over trainings and strategies, for each point, law, activation."""
    out = []
    for (activation, at, law), group in summary.groupby(["activation", "at", "law"], sort=False):
        row: dict[str, Any] = {"activation": activation, "at": at, "law": law, "cells": len(group)}
        for name in ("explained", "explained_gn"):
            values = np.array([v["mean"] for v in group[name]])
            row[name] = {"min": values.min(), "median": np.median(values), "max": values.max()}
        out.append(row)
    return out


def _kinks(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Second-order response at the data over R2 + R3, at t and t/2, over kinds of training and strategies.

    Means over seeds first, exact law. 1 where derivatives see all of the response.
    """
    kinks = pd.concat([_labelled(r, "kinks") for r in records], ignore_index=True)
    means = kinks.groupby(["activation", "training", "strategy"], sort=False).mean(numeric_only=True)
    out = []
    for activation, group in means.groupby("activation", sort=False):
        row: dict[str, Any] = {"activation": activation, "t": KINK, "cells": len(group)}
        for name in ("kink", "kink_half"):
            ratio = (group[name] / (group["r2"] + group["r3"])).to_numpy()
            row[name] = {"min": ratio.min(), "median": np.median(ratio), "max": ratio.max()}
        out.append(row)
    return out


def _distance(config: Config, records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Share of R2 from pairs at most one pixel apart, per strategy, and its paired difference to Mixup."""
    out = []
    for activation in config.training.activations:
        own = [r for r in records if r["config"]["run"]["activation"] == activation]
        for name in config.strategies:
            # One stratum for each training strategy, its seeds as independent draws.
            shares = np.array([_near_share(r, name) for r in own]).reshape(len(config.training.strategies), -1)
            baseline = np.array([_near_share(r, "mixup") for r in own]).reshape(shares.shape)
            out.append(
                {
                    "activation": activation,
                    "strategy": name,
                    "networks": len(own),
                    "near_share": Estimate.from_strata(shares),
                    "difference_to_mixup": Estimate.from_strata(shares - baseline),
                }
            )
    return out


def _near_share(record: dict[str, Any], name: str) -> float:
    """Share of R2 from pairs at most one pixel apart."""
    by_distance = record["result"]["r2_by_distance"]
    distance, values = np.array(by_distance["distance"]), np.array(by_distance["r2"][name])
    return float(values[distance <= 1].sum() / values.sum())


def _share_checks(summary: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The expected order of the points of expansion, over kinds of network and strategies (means over seeds)."""
    key = ("training", "activation", "strategy")
    cells = {(*(r[k] for k in key), r["law"], r["at"]): r for r in summary}
    kinds = list(dict.fromkeys(tuple(r[k] for k in key) for r in summary))
    largest = max(r["explained"]["mean"] for r in summary if r["at"] == "data")
    at_data = np.array([cells[*k, "exact", "data"]["explained"]["mean"] for k in kinds])
    at_mask = np.array([cells[*k, "exact", "mask"]["explained_gn"]["mean"] for k in kinds])
    closer = np.abs(at_mask - 1) < np.abs(at_data - 1)
    return [
        check(
            "at the data the expansion falls short of the rise everywhere, in both laws",
            largest < 1,
            f"largest share {largest:.2f}",
        ),
        check(
            "at the mask, without R3, the share is nearer to 1 than at the data everywhere",
            bool(closer.all()),
            f"in {closer.sum()} of {len(kinds)} cells",
        ),
        check(
            "at the mask, without R3, the share of the rise is within a half of 1 everywhere",
            bool((np.abs(at_mask - 1) < 0.5).all()),
            f"shares {at_mask.min():.2f} to {at_mask.max():.2f}",
        ),
    ]


def _sign_checks(rows: pd.DataFrame) -> list[dict[str, Any]]:
    rises = rows["measured"] - rows["clean"]
    exact = rows[(rows["law"] == "exact") & (rows["at"] == "data")]
    return [
        check("mixing raises the loss in every cell", bool((rises > 0).all()), f"smallest rise {rises.min():.3g}"),
        check(
            "the input-gradient regularizer R2 is positive in every cell",
            bool((rows["r2"] > 0).all()),
            f"smallest R2 {rows['r2'].min():.3g}",
        ),
        check(
            "R3 vanishes on ReLU networks",
            bool((rows.loc[rows["activation"] == "relu", "r3"].abs() < 1e-12).all()),
            f"largest |R3| {rows.loc[rows['activation'] == 'relu', 'r3'].abs().max():.2g}",
        ),
        check(
            "the first-order term R1 is positive at the data in every cell",
            bool((exact["r1"] > 0).all()),
            f"smallest R1 {exact['r1'].min():.3g}",
        ),
    ]


def main(config: Annotated[Config, tyro.conf.arg(name="")] = Config(), jobs: int = os.cpu_count() or 1) -> None:
    """Analyse the networks over ``jobs`` processes."""
    finish(run(config, jobs=jobs))


if __name__ == "__main__":
    tyro.cli(main)
