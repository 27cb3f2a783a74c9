"""Summary of the study of training on the theory: distances to MSDA, shares of its effect, what was expected."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from experiments.data import digits
from experiments.layer_measures import interval
from experiments.record import check
from experiments.theory_measures import DISTANCES, Responses, distances, mixed_images, responses
from experiments.theory_runs import MIXED, load_network
from msda_theory.masks.registry import strategy as make_strategy

Cell = dict[str, dict[int, dict[str, float]]]  # kind of training -> seed -> measures, none where it diverged
SHARE = "share_mixed"
# Key, what was expected, and the difference that should be positive: of a measure of one training and another, or of a
# training and a number.
EXPECTED: tuple[tuple[str, str, str, str | float, str | float], ...] = (
    ("order", "mean-gn reproduces more of the drop than data-r1r2", SHARE, "mean-gn", "data-r1r2"),
    ("order", "mask-gn reproduces more of the drop than mean-gn", SHARE, "mask-gn", "mean-gn"),
    ("mask", "mask-gn reproduces at least 90 % of the drop", SHARE, "mask-gn", 0.9),
    ("near", "mask-gn brings mixed predictions half the way", "share_tv_mixed", "mask-gn", 0.5),
    ("noise", "mask-gn reproduces more of the drop than mask-base", SHARE, "mask-gn", "mask-base"),
    ("r2", "R2 alone at the data reproduces less than half", SHARE, 0.5, "data-r2"),
    ("unbounded", "data-all diverges or ends above vanilla", SHARE, "vanilla", "data-all"),
    ("hessian", "R3 at the mean makes it worse", SHARE, "mean-gn", "mean-all"),
    ("hessian", "R3 at the mask makes it worse", SHARE, "mask-gn", "mask-all"),
    ("linear", "mask-linear reproduces more of the drop than mask-gn", SHARE, "mask-linear", "mask-gn"),
)


def cell(activation: str, strategy: str, records: list[dict[str, Any]], folder: Path) -> Cell:
    """Measures of the networks of one activation and strategy, those relative to MSDA and vanilla of the same seed."""
    test = digits().test
    mixed, found_by_training = mixed_images(test, make_strategy(strategy)), Cell()
    own = [
        r
        for r in records
        if r["config"]["run"]["activation"] == activation and r["config"]["run"]["strategy"] in ("vanilla", strategy)
    ]
    for seed in dict.fromkeys(r["config"]["run"]["seed"] for r in own):
        found: dict[str, dict[str, float]] = {}
        answers: dict[str, Responses] = {}
        for record in (r for r in own if r["config"]["run"]["seed"] == seed):
            result = record["result"]
            name = result["training"]
            if result["diverged"] is None:
                answers[name] = responses(load_network(record, folder), test, mixed)
                parts = {part: result[part][strategy]["mean"] for part in ("mixed", "mixed_test")}
                objective = result["curve"]["loss"][-1]  # mean over the last epoch
                found[name] = {"accuracy": result["accuracy"], "objective": objective, **parts}
            found_by_training.setdefault(name, {})[seed] = found.get(name, {})
        relate(found, answers)
    return found_by_training


def relate(found: dict[str, dict[str, float]], answers: dict[str, Responses]) -> None:
    """Add distances to MSDA, and shares: 0 is vanilla, 1 is MSDA, or for distances a second training by mixing."""
    away = {name: distances(answers["msda"], answer) for name, answer in answers.items() if name != "msda"}
    for name, own in found.items():
        for part in ("mixed", "mixed_test"):
            start, end = (found[k][part] for k in ("vanilla", "msda"))
            own[f"share_{part}"] = (start - own[part]) / (start - end)
        if name == "msda":
            continue
        for measure in DISTANCES:
            start, end = (away[k][measure] for k in ("vanilla", "msda-pairs"))
            own[measure] = away[name][measure]
            own[f"share_{measure}"] = (start - away[name][measure]) / (start - end)


def row(activation: str, strategy: str, training: str, cell: Cell) -> dict[str, Any]:
    """Means over seeds with 95 % intervals, and how many trainings diverged."""
    runs = [r for r in cell[training].values() if r]
    return {
        "activation": activation,
        "strategy": strategy,
        "training": training,
        "seeds": len(cell[training]),
        "diverged": len(cell[training]) - len(runs),
        "measures": {name: interval([r[name] for r in runs]) for name in (runs[0] if runs else ())},
    }


def expectations(cells: dict[tuple[str, str], Cell]) -> list[dict[str, Any]]:
    """What was expected, and whether it came, cell by cell."""
    out = []
    for key, name, measure, high, low in EXPECTED:
        cells_told = [
            {"activation": activation, "strategy": strategy, **told(cell, measure, high, low)}
            for (activation, strategy), cell in cells.items()
            if all(isinstance(side, float) or side in cell for side in (high, low))
        ]
        count = {s: sum(c["side"] == s for c in cells_told) for s in ("yes", "no", "?")}
        detail = f"yes in {count['yes']} of {len(cells_told)} cells, no in {count['no']}, not told in {count['?']}"
        out.append({"key": key, **check(name, count["yes"] == len(cells_told), detail), "cells": cells_told})
    return out


def told(cell: Cell, measure: str, high: str | float, low: str | float) -> dict[str, Any]:
    """Is ``high - low`` positive, by the 95 % interval of its paired differences?

    Seeds in which one of the two diverged are left out; where all of one side diverged it is the lower one.
    """
    seeds = next(iter(cell.values()))
    sides = [
        [side if isinstance(side, float) else cell[side].get(s, {}).get(measure, math.nan) for s in seeds]
        for side in (high, low)
    ]
    lost = [sum(map(math.isnan, values)) for values in sides]
    differences = [a - b for a, b in zip(*sides, strict=True) if not math.isnan(a - b)]
    found = interval(differences or [math.nan])
    if len(seeds) in lost:
        side = "?" if lost[0] == lost[1] else "yes" if lost[1] == len(seeds) else "no"
    else:
        side = "yes" if found["mean"] > found["half"] else "no" if found["mean"] < -found["half"] else "?"
    return {**found, "side": side, "diverged": lost}


def checks(min_accuracy: float, cells: dict[tuple[str, str], Cell]) -> list[dict[str, Any]]:
    """What must hold before shares mean something."""
    ways = ("vanilla", *MIXED)
    lowest = min(run.get("accuracy", 0.0) for c in cells.values() for k in ways for run in c[k].values())
    drops = [c["vanilla"][s]["mixed"] - c["msda"][s]["mixed"] for c in cells.values() for s in c["msda"]]
    return [
        check(
            f"networks trained by mixing or without reach {min_accuracy:.2f} test accuracy",
            lowest >= min_accuracy,
            f"lowest {lowest:.3f}",
        ),
        check(
            "mixing lowers the measured mixed loss of every network",
            min(drops) > 0,
            f"smallest drop {min(drops):.3f} nats",
        ),
    ]
