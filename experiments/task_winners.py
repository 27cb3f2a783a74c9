"""Does the best strategy depend on the task, and do terms of the theory say beforehand which one wins?

Claim C6 (Park, Yun, Chun, NeurIPS 2022). Two designed tasks (`designed`): all evidence in a small patch
(``object``), or spread over all pixels as the contrast of a texture (``texture``). One network, one optimiser and one
number of images for both.

The prediction is made on each drawing of a task before its test images are looked at. It is the *conflict* of a
strategy's labels with the evidence: the mixed loss on a classifier, at the best temperature, minus the entropy of the
mixed labels, where the mixed loss is predicted at the mask by base + Gauss-Newton (docs/theory.md, Eq. (3c)); the
strategy with the smallest conflict is to win. Written before the final run, from these terms on the ideal classifier:

- object: Mixup over CutMix. CutMix's box deletes or pastes the patch as a whole, while its label counts pixels;
- texture: CutMix over Mixup. Averaging two independent textures lowers the contrast, which is the class, even where
  both labels agree; a box keeps it, and the label is the share of evidence.

Checks, which must hold: on each task the predicted difference of CutMix and Mixup has its 95 % interval on one side of
0, and so has that of their test accuracies (paired over seeds), on the side that is predicted; signs differ between
the tasks; without mixing the networks learn the tasks. The conflict ranks strategies that mix; it does not say whether
to mix at all.
Also reported: the same on vanilla-trained networks in place of the ideal classifier, and R1 + R2 at the data.
Seeds 1000 and up were used while the tasks were designed; the record is made with others.
Cost: about 40 s a drawing of a task on one core, 16 of them. Record: ``task_winners.json``.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from scipy import stats

from experiments import short_runs
from experiments.designed import CLASSES, Ideal, check_kind, designed
from experiments.layer_measures import interval
from experiments.parallel import one_thread, spread
from experiments.record import RESULTS, cached, check, code_digest, command_line, current, finish
from experiments.task_runs import measure

SOURCES = ("designed.py", "task_runs.py", "task_winners.py", "layer_measures.py", *short_runs.SOURCES)
DESIGN_SEEDS = 1000  # seeds from here on were used while the tasks were designed
CLASSIFIERS = ("ideal", "network")  # exact posterior of the task; network trained without mixing
QUANTITIES = ("predicted", "measured", "data", "base", "r2", "entropy", "temperature")


@dataclass(frozen=True)
class Config:
    """Tasks, strategies, seeds; images; training; pairs (q, r) for each image in the terms."""

    tasks: tuple[str, ...] = ("object", "texture")
    strategies: tuple[str, ...] = ("vanilla", "mixup", "cutmix", "hmix", "gmix", "choice")
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4, 5, 6, 7)
    train: int = 120
    test: int = 2000
    epochs: int = 60
    batch: int = 24
    lr: float = 0.1
    draws: int = 4
    min_accuracy: float = 0.7

    def __post_init__(self) -> None:
        for task in self.tasks:
            check_kind(task)
        if not {"vanilla", "mixup", "cutmix"} <= set(self.strategies):
            raise ValueError(f"a study of winners compares vanilla, mixup and cutmix, got {self.strategies}; add them.")
        if max(self.seeds) >= DESIGN_SEEDS:
            raise ValueError(
                f"expected seeds below {DESIGN_SEEDS}, got {max(self.seeds)}; the others have seen the design."
            )

    @property
    def mixing(self) -> tuple[str, ...]:
        """Strategies that mix."""
        return tuple(s for s in self.strategies if s != "vanilla")


def run(config: Config, *, jobs: int = 1, folder: Path = RESULTS) -> dict[str, Any]:
    """Terms, training and test on every drawing of the tasks, and their summary over seeds."""
    units_of_work = [(task, seed, config, folder) for seed, task in product(config.seeds, config.tasks)]
    records = spread(_one, units_of_work, jobs, "task_winners", known=_known)
    return cached(
        folder / "task_winners.json",
        config,
        code_digest(*SOURCES),
        command_line("experiments.task_winners", config),
        lambda: _summary(config, [r["result"] for r in records]),
        parts=records,
    )


def _place(task: str, seed: int, config: Config, folder: Path) -> tuple[Path, dict[str, Any]]:
    names = ("strategies", "train", "test", "epochs", "batch", "lr", "draws")
    options = {"task": task, "seed": seed, **{k: getattr(config, k) for k in names}}
    return folder / "task_winners" / f"{task}-{seed}.json", options


def _known(task: str, seed: int, config: Config, folder: Path) -> dict[str, Any] | None:
    return current(*_place(task, seed, config, folder), code_digest(*SOURCES))


def _one(task: str, seed: int, config: Config, folder: Path) -> dict[str, Any]:
    def work() -> dict[str, Any]:
        drawn = designed(task, train=config.train, test=config.test, seed=seed)
        options = {k: getattr(config, k) for k in ("epochs", "batch", "lr", "draws")}
        found = measure(drawn, config.strategies, ideal=Ideal(task), seed=seed, **options)
        return {"task": task, "seed": seed, **found}

    command = command_line("experiments.task_winners", config)
    with one_thread():
        return cached(*_place(task, seed, config, folder), code_digest(*SOURCES), command, work)


def _summary(config: Config, results: list[dict[str, Any]]) -> dict[str, Any]:
    tasks = [_task(config, task, [r for r in results if r["task"] == task]) for task in config.tasks]
    return {"tasks": tasks, "checks": _checks(config, tasks)}


def _task(config: Config, task: str, own: list[dict[str, Any]]) -> dict[str, Any]:
    """One task over its seeds: strategies, predicted and measured differences, examples."""
    accuracy = {s: np.array([r["test_accuracy"][s] for r in own]) for s in config.strategies}
    conflict = {
        (c, q, s): np.array([r[c][s][q] for r in own]) for c, q, s in product(CLASSIFIERS, QUANTITIES, config.mixing)
    }
    rows = [
        {
            "strategy": s,
            "accuracy": _point(accuracy[s]),
            "train_accuracy": _point([r["train_accuracy"][s] for r in own]),
            "to_vanilla": None if s == "vanilla" else _point(accuracy[s] - accuracy["vanilla"]),
            "to_mixup": None if s == "mixup" else _point(accuracy[s] - accuracy["mixup"]),
            **{c: None if s == "vanilla" else {q: _point(conflict[c, q, s]) for q in QUANTITIES} for c in CLASSIFIERS},
        }
        for s in config.strategies
    ]
    flips = {
        f"{c}_{q}": _point(conflict[c, q, "cutmix"] - conflict[c, q, "mixup"])
        for c, q in product(CLASSIFIERS, ("predicted", "measured", "data"))
    }
    means = [float(accuracy[s].mean()) for s in config.mixing]
    ranks = {
        f"{c}_{q}": _rank_correlation([-conflict[c, q, s].mean() for s in config.mixing], means)
        for c, q in product(CLASSIFIERS, ("predicted", "measured", "data"))
    }
    return {
        "task": task,
        "classes": CLASSES[task],
        "seeds": len(own),
        "ideal_accuracy": _point([r["ideal_accuracy"] for r in own]),
        "rows": rows,
        "predicted_winner": min(config.mixing, key=lambda s: conflict["ideal", "predicted", s].mean()),
        "measured_winner": max(config.mixing, key=lambda s: accuracy[s].mean()),
        "cutmix_minus_mixup": {"accuracy": _point(accuracy["cutmix"] - accuracy["mixup"]), **flips},
        "spearman": ranks,
        "by_seed": dict(accuracy),
        "examples": _examples(task),
    }


def _checks(config: Config, tasks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    sides, checks = {}, []
    for t in tasks:
        predicted = t["cutmix_minus_mixup"]["ideal_predicted"]
        measured = t["cutmix_minus_mixup"]["accuracy"]
        sides[t["task"]] = side(measured)
        more = {1: "CutMix", -1: "Mixup", 0: "neither"}
        checks.append(
            check(
                f"{t['task']}: the one of Mixup and CutMix that the terms predict has the higher test accuracy",
                side(predicted) == -side(measured) != 0,
                f"predicted {more[-side(predicted)]}, CutMix - Mixup in conflict {_words(predicted)} nats; "
                f"measured {more[side(measured)]}, in accuracy {_words(measured)}, n = {measured['n']}",
            )
        )
        vanilla = next(r for r in t["rows"] if r["strategy"] == "vanilla")["accuracy"]["mean"]
        checks.append(
            check(f"{t['task']}: learned without mixing", vanilla >= config.min_accuracy, f"accuracy {vanilla:.3f}")
        )
    flips = {1, -1} <= set(sides.values())
    return [*checks, check("the winner differs between the tasks", flips, f"signs of CutMix - Mixup {sides}")]


def side(value: dict[str, float]) -> int:
    """1 or -1 where the 95 % interval is above or below 0, else 0."""
    mean, half = value["mean"], value["half"]
    return 0 if half is None or not abs(mean) > half else 1 if mean > 0 else -1


def _point(values: Any) -> dict[str, float]:
    """Mean over seeds, half-width of its 95 % interval (Student's t), standard error, number."""
    v = np.asarray(values, dtype=float)
    se = float(v.std(ddof=1) / np.sqrt(len(v))) if len(v) > 1 else float("nan")
    return {**interval(v), "se": round(se, 6), "n": len(v)}


def _rank_correlation(a: list[float], b: list[float]) -> float:
    """Spearman's; NaN where one of the lists is constant."""
    if min(np.ptp(a), np.ptp(b)) == 0:
        return float("nan")
    return round(float(stats.spearmanr(a, b).statistic), 4)


def _words(value: dict[str, float]) -> str:
    return f"{value['mean']:+.3f} ± {value['half']:.3f}"


def _examples(task: str) -> dict[str, Any]:
    """Bytes of an image of each of four classes, and of two of them mixed, for the figure."""
    drawn = designed(task, train=8 * CLASSES[task], test=CLASSES[task], seed=DESIGN_SEEDS - 1)
    wanted = np.linspace(0, CLASSES[task] - 1, 4).round().astype(int)
    clean = np.stack([drawn.x_train[drawn.y_train == c][0, 0] for c in wanted])
    one, other = clean[0].astype(float), clean[-1].astype(float)
    mask = np.ones_like(one)
    mask[3:14, 5:16] = 0  # a box; Mixup with the same label weight
    lam = float(mask.mean())
    mixed = {"mixup": lam * one + (1 - lam) * other, "cutmix": mask * one + (1 - mask) * other}
    return {
        "classes": wanted,
        "clean": clean.astype(int),
        "lam": round(lam, 4),
        **{k: v.round().astype(int) for k, v in mixed.items()},
    }


def main(config: Annotated[Config, tyro.conf.arg(name="")] = Config(), jobs: int = os.cpu_count() or 1) -> None:
    """Measure over ``jobs`` processes."""
    finish(run(config, jobs=jobs))


if __name__ == "__main__":
    tyro.cli(main)
