"""Does training with mixing close the gap between training and test, and do effective dimensions predict how much?

Claim C4 (Park, Yun, Chun, NeurIPS 2022): MSDA improves generalization. The theory: R2 keeps theta^T S theta small, and
the class {theta^T S theta <= gamma} has Rademacher complexity at most sqrt(gamma dim / m), dim = tr(S^+ Sigmahat) the
effective dimension of the strategy (docs/theory.md, Eq. (5)). Measured on digits, with all training images and with
few, for generalized linear models (odd against even digits), of which the bound speaks, and convolutional networks, of
which it does not: gaps of loss and accuracy, test accuracy beside vanilla training, effective dimensions under both
laws, the empirical Rademacher complexity beside its bound, and whether the bounds order the strategies as the gaps do,
at equal gamma and, for linear models, at the gamma = theta^T S theta that each trained model has.

Expectations, set down before the study ran (after trials of the code with a few epochs) and reported whatever comes of
them:

- gap: every mixing strategy has a smaller gap of loss than vanilla, in every cell (kind of network, number of images);
- accuracy: every mixing strategy has at least vanilla's test accuracy (no cell significantly below);
- order: the bound at equal gamma orders the mixing strategies as the gap of loss does (Kendall's tau above 0 in every
  cell, exact law), vanilla left out, whose bound is infinite.

Checks, which must hold: no complexity above its bound, nor below its 1/sqrt(2); Mixup's dimension is rank / a.
Cost: about 2 s a network on one core, 120 networks of which 60 belong to ``robust_accuracy``. Record:
``generalization.json``.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro
from torch import nn

from experiments import small_nets
from experiments.gap_orders import orders_of, with_side
from experiments.layer_measures import interval
from experiments.parallel import one_thread, spread
from experiments.record import RESULTS, cached, check, code_digest, command_line, current, finish
from experiments.robust_stats import paired
from experiments.small_nets import Net
from msda_theory.data import ImageData
from msda_theory.ellipsoids import ellipsoid, squared_size
from msda_theory.generalization import effective_dimensions, generalization_gap
from msda_theory.masks.registry import strategy as make_strategy
from msda_theory.moments.moments import LAWS
from msda_theory.predictions import correct_bits, predict
from msda_theory.rademacher import rademacher_complexity
from msda_theory.streams import stream

SOURCES = (*small_nets.SOURCES, "generalization.py", "gap_orders.py", "robust_stats.py", "layer_measures.py")
MEASURES = ("train_loss", "test_loss", "loss_gap", "train_accuracy", "test_accuracy", "accuracy_gap")


@dataclass(frozen=True)
class Config:
    """Networks; numbers of training images (0: all) with epochs for each, of about equally many steps; sign vectors."""

    kinds: tuple[str, ...] = ("conv", "linear")
    strategies: tuple[str, ...] = ("vanilla", "mixup", "cutmix", "hmix", "gmix", "choice")
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    sizes: tuple[int, ...] = (0, 200)
    epochs: tuple[int, ...] = (25, 125)
    signs: int = 1000

    def __post_init__(self) -> None:
        if len(self.sizes) != len(self.epochs):
            raise ValueError(f"expected epochs for each size, got {len(self.epochs)} for {len(self.sizes)} sizes.")
        if not {"vanilla", "mixup"} <= set(self.strategies) or len(self.mixing) < 3:
            raise ValueError(
                f"gaps are compared with vanilla training and ordered, got strategies {self.strategies}; take vanilla "
                "and at least three that mix, Mixup among them."
            )

    @property
    def mixing(self) -> tuple[str, ...]:
        """Strategies that mix."""
        return tuple(s for s in self.strategies if s != "vanilla")

    def nets(self) -> list[Net]:
        """One network for each kind, size, strategy and seed."""
        sizes = [(size or None, epochs) for size, epochs in zip(self.sizes, self.epochs, strict=True)]
        grid = product(self.kinds, sizes, self.strategies, self.seeds)
        return [Net(kind, s, seed, images=size, epochs=epochs) for kind, (size, epochs), s, seed in grid]


def run(config: Config, *, jobs: int = 1, folder: Path = RESULTS) -> dict[str, Any]:
    """Train and measure every network, and summarise over seeds."""
    records = spread(_one, [(n, folder) for n in config.nets()], jobs, "generalization", known=_known)
    return cached(
        folder / "generalization.json",
        config,
        code_digest(*SOURCES),
        command_line("experiments.generalization", config),
        lambda: _summary(config, [r["result"] for r in records]),
        parts=records,
    )


def _place(net: Net, folder: Path) -> Path:
    return folder / "generalization" / f"{net.name}.json"


def _known(net: Net, folder: Path) -> dict[str, Any] | None:
    return current(_place(net, folder), net, code_digest(*SOURCES))


def _one(net: Net, folder: Path) -> dict[str, Any]:
    with one_thread():
        command = "python -m experiments.generalization"
        return cached(_place(net, folder), net, code_digest(*SOURCES), command, lambda: _measure(net, folder))


def _measure(net: Net, folder: Path) -> dict[str, Any]:
    model, (train, test) = small_nets.load_model(net, folder), small_nets.splits(net)
    gap = generalization_gap(model, train, test, loss=net.loss)
    out = {"kind": net.kind, "training": net.strategy, "seed": net.seed, "images": len(train), "test": len(test)}
    return out | {
        "correct": correct_bits(predict(model, test, loss=net.loss), test.y).astype(int),
        "train_loss": gap.train_loss.mean,
        "test_loss": gap.test_loss.mean,
        "loss_gap": gap.loss.mean,
        "loss_gap_se": gap.loss.se,
        "train_accuracy": gap.train_accuracy.mean,
        "test_accuracy": gap.test_accuracy.mean,
        "accuracy_gap": gap.accuracy,
        "gamma": _gamma(model, net, train),
    }


def _gamma(model: nn.Module, net: Net, train: ImageData) -> float | None:
    """``theta^T S theta`` of a linear model in the metric of its own training, exact law; None for others."""
    if net.kind != "linear" or net.strategy == "vanilla":
        return None
    x = torch.zeros_like(train.x[:1]).requires_grad_()
    (theta,) = torch.autograd.grad(model(x).sum(), x)
    moments = make_strategy(net.strategy).moments(train.shape)
    return float(squared_size(theta.flatten(1), moments, train)[0])


def _summary(config: Config, results: list[dict[str, Any]]) -> dict[str, Any]:
    rows = _rows(results)
    dimensions = [row for size in config.sizes for row in _dimensions(config, size)]
    orders = orders_of(config.mixing, results, rows, dimensions)
    return {
        "test_images": results[0]["test"],
        "rows": rows,
        "dimensions": dimensions,
        "orders": orders,
        "expectations": _expectations(rows, orders),
        "checks": _checks(dimensions),
    }


def _rows(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """By kind, number of images and training: every measure, and its paired difference to vanilla, over seeds."""
    groups: dict[tuple[str, int, str], dict[int, dict[str, Any]]] = {}
    for r in results:
        groups.setdefault((r["kind"], r["images"], r["training"]), {})[r["seed"]] = r
    rows = []
    for (kind, images, training), own in groups.items():
        base = groups[kind, images, "vanilla"]
        row: dict[str, Any] = {"kind": kind, "images": images, "training": training, "seeds": len(own)}
        row |= {name: interval([r[name] for r in own.values()]) for name in MEASURES}
        # Of one network: the error of means over the two sets of images; the mean over seeds has the same test images.
        row["loss_gap_se_images"] = float(np.mean([r["loss_gap_se"] for r in own.values()]))
        row["gamma"] = None if own[next(iter(own))]["gamma"] is None else interval([r["gamma"] for r in own.values()])
        row["difference"] = None
        if training != "vanilla":
            pairs = {name: [r[name] - base[k][name] for k, r in own.items()] for name in MEASURES}
            row["difference"] = {name: with_side(interval(v)) for name, v in pairs.items()}
            bits = [np.array([g[k]["correct"] for k in own]) for g in (own, base)]
            row["difference"]["test_accuracy"] = paired(*bits)
        rows.append(row)
    return rows


def _dimensions(config: Config, size: int) -> list[dict[str, Any]]:
    """Effective dimensions and Rademacher complexities on the training images, both laws, gamma = 1."""
    train, _ = small_nets.splits(Net("conv", images=size or None))
    laws = [make_strategy(s) for s in config.strategies]
    frame = effective_dimensions(laws, train).frame()
    rows: list[dict[str, Any]] = frame.to_dict(orient="records")
    for row, (s, law) in zip(rows, product(laws, LAWS), strict=True):
        row["images"] = len(train)
        row["infinite"] = not math.isfinite(row["dimension"])
        row |= {k: None for k in ("dimension", "bound") if not math.isfinite(row[k])}
        row["complexity"] = row["a"] = None
        if s.name == "vanilla":
            continue
        moments = s.moments(train.shape, law=law)
        rng = stream(0, "signs", s.name, law)
        found = rademacher_complexity(ellipsoid(moments, train), train, draws=config.signs, rng=rng)
        row["complexity"] = found.truncated
        row["a"] = float(moments.second.dense()[0, 0])
    return rows


def _expectations(rows: list[dict[str, Any]], orders: list[dict[str, Any]]) -> list[dict[str, Any]]:
    mixing = [r for r in rows if r["difference"] is not None]
    gaps = [r["difference"]["loss_gap"]["side"] for r in mixing]
    accuracy = [r["difference"]["test_accuracy"]["side"] for r in mixing]
    equal = [o for o in orders if o["gamma"] == "equal" and o["law"] == "exact"]
    taus = ", ".join(f"{o['tau']:+.2f}" for o in equal)
    return [
        {"key": "gap"} | check("mixing has a smaller gap of loss than vanilla", set(gaps) == {"below"}, _counted(gaps)),
        {"key": "accuracy"}
        | check("mixing has at least vanilla's test accuracy", "below" not in accuracy, _counted(accuracy)),
        {"key": "order"}
        | check(
            "the bound at equal gamma orders strategies as the gap does",
            all(o["tau"] > 0 for o in equal),
            f"Kendall's tau {taus} over {len(equal)} cells of {equal[0]['n']} strategies",
        ),
    ]


def _counted(sides: list[str]) -> str:
    return (
        f"above vanilla in {sides.count('above')} of {len(sides)} cells, below in {sides.count('below')}, not told in "
        f"{sides.count('?')}"
    )


def _checks(dimensions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    known = [d for d in dimensions if d["complexity"] is not None]
    shares = [d["complexity"].mean / d["truncated_bound"] for d in known]
    slack = max(4 * d["complexity"].se / d["truncated_bound"] for d in known)
    mixup = [abs(d["trace"] * d["a"] / d["rank"] - 1) for d in known if d["strategy"] == "mixup"]
    return [
        check(
            "complexities are within 1/sqrt(2) and 1 of their bounds",
            math.sqrt(0.5) - slack <= min(shares) and max(shares) <= 1 + slack,
            f"{min(shares):.4f} to {max(shares):.4f} in {len(known)} cases, 4 standard errors {slack:.1g}",
        ),
        check("Mixup's dimension is rank / a", max(mixup) < 1e-9, f"relative distance {max(mixup):.1g}"),
    ]


def main(config: Annotated[Config, tyro.conf.arg(name="")] = Config(), jobs: int = os.cpu_count() or 1) -> None:
    """Train and measure over ``jobs`` processes; print what was expected and what came."""
    finish(run(config, jobs=jobs))


if __name__ == "__main__":
    tyro.cli(main)
