"""What does training with mixing do to calibration, and to accuracy on images that were not mixed but damaged?

Users of MSDA ask this beside claims C3 and C4, and the paper's terms do not say: expected calibration error (15 bins of
equal width) with bootstrap intervals, log-likelihood, reliability diagrams; accuracy under occlusion by the mean image,
shuffled patches and common corruptions, for convolutional networks on digits in [0, 1], five seeds, every strategy.
All networks see the same damaged images; differences to vanilla are paired by seed.

Expectations, set down before the study ran (after trials of the code with a few epochs) and reported whatever comes of
them:

- underconfident: networks trained with mixing are less sure than they are right (mean confidence below accuracy);
- occlusion: CutMix, whose masks occlude, is more accurate than vanilla at every occluded share.

Check: every network is accurate on clean images, so that its answers mean something.

Cost: about 2 s to train a network (those of ``robust_accuracy``) and 2 s to measure it. Record: ``reliability.json``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
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
from experiments.robust_stats import by_training, over_both, paired
from experiments.small_nets import Net
from msda_theory.calibration import calibration
from msda_theory.corruptions import Corruption, Occlusion, PatchShuffle, common_corruptions
from msda_theory.streams import stream
from msda_theory.stress import CLEAN, stress

SOURCES = (*small_nets.SOURCES, "reliability.py", "robust_stats.py", "layer_measures.py")


@dataclass(frozen=True)
class Config:
    """Networks; occluded shares, grids of patches, severities of the common corruptions."""

    strategies: tuple[str, ...] = ("vanilla", "mixup", "cutmix", "hmix", "gmix", "choice")
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    epochs: int = 25
    shares: tuple[float, ...] = (0.1, 0.25, 0.5)
    grids: tuple[int, ...] = (2, 4)
    severities: tuple[int, ...] = (1, 3, 5)
    resamples: int = 1000
    min_accuracy: float = 0.9

    def __post_init__(self) -> None:
        if "vanilla" not in self.strategies:
            raise ValueError(f"reliability is compared with vanilla training, got {self.strategies}; add vanilla.")

    def nets(self) -> list[Net]:
        """One network for each strategy and seed."""
        return [Net("conv", s, seed, epochs=self.epochs) for s, seed in product(self.strategies, self.seeds)]

    def corruptions(self) -> list[Corruption]:
        """Everything that is done to the images."""
        hidden = [Occlusion(share) for share in self.shares]
        return [*hidden, *(PatchShuffle(g) for g in self.grids), *common_corruptions(self.severities)]


def run(config: Config, *, jobs: int = 1, folder: Path = RESULTS) -> dict[str, Any]:
    """Measure every network, and summarise over seeds."""
    records = spread(_one, [(n, config, folder) for n in config.nets()], jobs, "reliability", known=_known)
    return cached(
        folder / "reliability.json",
        config,
        code_digest(*SOURCES),
        command_line("experiments.reliability", config),
        lambda: _summary([r["result"] for r in records], config.min_accuracy),
        parts=records,
    )


def _place(net: Net, config: Config, folder: Path) -> tuple[Path, dict[str, Any]]:
    options = {k: getattr(config, k) for k in ("shares", "grids", "severities", "resamples")}
    return folder / "reliability" / f"{net.name}.json", {"net": net, "measured": options}


def _known(net: Net, config: Config, folder: Path) -> dict[str, Any] | None:
    return current(*_place(net, config, folder), code_digest(*SOURCES))


def _one(net: Net, config: Config, folder: Path) -> dict[str, Any]:
    command = command_line("experiments.reliability", config)
    with one_thread():
        return cached(
            *_place(net, config, folder), code_digest(*SOURCES), command, lambda: _measure(net, config, folder)
        )


def _measure(net: Net, config: Config, folder: Path) -> dict[str, Any]:
    model, (train, test) = small_nets.load_model(net, folder), small_nets.splits(net)
    found = calibration(model, test, resamples=config.resamples, rng=stream(0, "bootstrap"))
    diagram = found.diagram
    mean = train.x.mean(dim=0)
    report = stress({"network": model}, test, config.corruptions(), rng=stream(0, "stress"), mean=mean)
    return {
        "training": net.strategy,
        "seed": net.seed,
        "ece": found.ece,
        "ece_noise": found.noise,
        "ece_interval": found.interval,
        "nll": found.nll.mean,
        "brier": found.brier.mean,
        "overconfidence": _overconfidence(diagram.count, diagram.confidence, diagram.accuracy),
        "edges": diagram.edges,
        "count": diagram.count,
        "confidence": np.nan_to_num(diagram.confidence),
        "accuracy": np.nan_to_num(diagram.accuracy),
        "stress": [
            {"corruption": r.corruption, "level": r.level, "correct": r.correct.astype(int)} for r in report.rows
        ],
    }


def _overconfidence(count: np.ndarray, confidence: np.ndarray, accuracy: np.ndarray) -> float:
    """Mean confidence minus accuracy."""
    return float((count * np.nan_to_num(confidence - accuracy)).sum() / count.sum())


def _summary(results: Sequence[dict[str, Any]], min_accuracy: float) -> dict[str, Any]:
    groups = by_training(results)
    rows = [_calibration_row(name, own, groups["vanilla"]) for name, own in groups.items()]
    damaged = [row for name, own in groups.items() for row in _stress_rows(name, own, groups["vanilla"])]
    test_images = len(results[0]["stress"][0]["correct"])
    return {
        "test_images": test_images,
        "rows": rows,
        "stress": damaged,
        "expectations": _expectations(rows, damaged),
        "checks": [_accurate(results, min_accuracy)],
    }


def _accurate(results: Sequence[dict[str, Any]], least: float) -> dict[str, Any]:
    clean = [np.mean(row["correct"]) for r in results for row in r["stress"] if row["corruption"] == CLEAN]
    detail = f"lowest of {len(clean)} networks {min(clean):.3f}"
    return check(f"every network reaches {least:g} accuracy on clean images", min(clean) >= least, detail)


def _calibration_row(name: str, own: list[Mapping[str, Any]], base: list[Mapping[str, Any]]) -> dict[str, Any]:
    """Means over seeds, paired differences to vanilla, and the diagram of all networks' answers together."""
    measures = ("ece", "ece_noise", "nll", "brier", "overconfidence")
    counts = np.array([r["count"] for r in own])
    total = counts.sum(axis=0)
    pooled = {
        key: np.where(total > 0, (counts * [r[key] for r in own]).sum(axis=0) / np.maximum(total, 1), 0.0).round(5)
        for key in ("confidence", "accuracy")
    }
    row: dict[str, Any] = {"training": name, "seeds": len(own), **{k: interval([r[k] for r in own]) for k in measures}}
    row["ece_intervals"] = [r["ece_interval"] for r in own]
    row["diagram"] = {"edges": own[0]["edges"], "count": total, **pooled}
    row["difference"] = None
    if name != "vanilla":
        pairs = {k: [a[k] - b[k] for a, b in zip(own, base, strict=True)] for k in measures}
        row["difference"] = {k: interval(v) for k, v in pairs.items()}
    return row


def _stress_rows(name: str, own: list[Mapping[str, Any]], base: list[Mapping[str, Any]]) -> list[dict[str, Any]]:
    rows = []
    for k, place in enumerate(own[0]["stress"]):
        bits, clean = (np.array([r["stress"][k]["correct"] for r in group]) for group in (own, base))
        rows.append(
            {"training": name, "corruption": place["corruption"], "level": place["level"], "seeds": len(bits)}
            | {"accuracy": over_both(bits)}
            | {"difference": None if name == "vanilla" else paired(bits, clean)}
        )
    return rows


def _expectations(rows: list[dict[str, Any]], damaged: list[dict[str, Any]]) -> list[dict[str, Any]]:
    mixing = [r for r in rows if r["training"] != "vanilla"]
    shy = [r["overconfidence"]["mean"] + r["overconfidence"]["half"] < 0 for r in mixing]
    hidden = [r for r in damaged if r["training"] == "cutmix" and r["corruption"].startswith("occlusion")]
    better = [r["difference"]["side"] == "above" for r in hidden]
    places = [r for r in damaged if r["corruption"] != CLEAN and r["training"] != "vanilla"]
    sides = [r["difference"]["side"] for r in places]
    return [
        {"key": "underconfident"}
        | check(
            "networks trained with mixing are less sure than right",
            all(shy),
            f"in {sum(shy)} of {len(shy)} strategies, by 95 % intervals",
        ),
        {"key": "occlusion"}
        | check(
            "CutMix is more accurate than vanilla on occluded images",
            all(better) and bool(better),
            f"in {sum(better)} of {len(better)} shares; of all {len(sides)} corruptions, levels and strategies "
            f"{sides.count('above')} above vanilla, {sides.count('below')} below, {sides.count('?')} not told",
        ),
    ]


def main(config: Annotated[Config, tyro.conf.arg(name="")] = Config(), jobs: int = os.cpu_count() or 1) -> None:
    """Measure over ``jobs`` processes; print what was expected and what came."""
    finish(run(config, jobs=jobs))


if __name__ == "__main__":
    tyro.cli(main)
