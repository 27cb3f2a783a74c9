"""Statistics of the accuracy study: means, paired differences, ranks and verdicts from a list of run summaries.

A run is a dictionary with at least ``data, model, strategy, seed, epochs, images, test_correct, test_images,
test_accuracy, train_accuracy``. A *cell* is one (data, model); its runs share epochs, images and test images. All
functions are pure and do not depend on the order of the runs.

Every interval is Student's 95 % interval over seeds: it holds for this training set and this test set, since all seeds
are judged on the same test images. What the finite test set adds is stated apart, as ``se_test``. Intervals are not
corrected for their number. What cannot be known is None.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

Row = dict[str, Any]
Cell = dict[str, dict[int, Row]]  # strategy -> seed -> run

EARLIER = ("mixup", "cutmix", "choice")
NEW = ("hmix", "gmix")
ORDER = ("vanilla", "mixup", "cutmix", "hmix", "gmix", "choice", "field", "dropmix")  # as in all tables and figures
SHARED = ("epochs", "images", "test_images")


class Interval(NamedTuple):
    """Mean of ``n`` values, its standard error and its 95 % interval; None where n is too small."""

    mean: float | None
    se: float | None
    low: float | None
    high: float | None
    n: int


def interval(values: Iterable[float]) -> Interval:
    """Mean, standard error ``s / sqrt(n)`` and ``mean -+ t(0.975, n - 1) se`` of independent values.

    Not valid for few values that are far from normal; for n = 2, t is 12.7, and the interval is honest but wide.
    """
    v = np.array(list(values), dtype=float)
    n = len(v)
    if n < 2:
        return Interval(float(v[0]) if n else None, None, None, None, n)
    if np.ptp(v) == 0:  # exactly, where rounding of the mean would leave a width of 1e-17
        return Interval(float(v[0]), 0.0, float(v[0]), float(v[0]), n)
    mean, se = float(v.mean()), float(v.std(ddof=1) / math.sqrt(n))
    half = float(stats.t.ppf(0.975, n - 1)) * se
    return Interval(mean, se, mean - half, mean + half, n)


def side(difference: Mapping[str, Any] | None) -> str | None:
    """Where the interval of a difference lies: ``above`` 0, ``below`` 0, or ``contains`` 0; None without an interval.

    An interval of no width is none: a few seeds that agree to the last test image say nothing about their spread.
    """
    if difference is None or difference["low"] is None or difference["low"] == difference["high"]:
        return None
    if difference["low"] > 0:
        return "above"
    return "below" if difference["high"] < 0 else "contains"


def base(strategy: str) -> str:
    """The name in a strategy's text: ``hmix`` of ``hmix(ratio=0.75)``."""
    return strategy.split("(", 1)[0].strip().lower()


def place(strategy: str) -> tuple[int, str]:
    """Sort key of strategies: by name as in ORDER, variants after the plain form.

    Raises:
        ValueError: if the name is not a known one.
    """
    if base(strategy) not in ORDER:
        raise ValueError(f"expected runs of a strategy among {ORDER}, got {strategy!r}; add it to ORDER.")
    return ORDER.index(base(strategy)), strategy


def rows(runs: Iterable[Row]) -> list[Row]:
    """One row for each data, model and strategy; cells by name, strategies in the order of `place`.

    Fractions, not percent. Keys beside the setting of the cell:

    ``n, seeds, correct``: seeds and their test images classified right.
    ``accuracy, train_accuracy, gap``: `Interval` over seeds as a dictionary; gap is train minus test accuracy.
    ``se_test``: ``sqrt(p (1 - p) / test_images)``, the binomial standard error of the mean test accuracy p as an
    estimate for new images. It does not shrink with seeds, which share the test images, and is an upper bound for
    their mean.
    ``minus_vanilla, gap_minus_vanilla``: paired differences of test accuracy and gap to vanilla over common seeds, with
    ``seeds`` and ``values``; None for vanilla and without a vanilla run of a common seed.
    ``best_earlier, minus_best_earlier``: for HMix and GMix, the earlier strategy (Mixup, CutMix, Mixup or CutMix) with
    the largest mean test accuracy in the cell, and the paired difference to it. The best is selected on the same runs,
    and the mean of the selected one is too large by its luck: the difference is biased downwards. That is conservative
    against the new strategies (for "is better") but liberal for "is worse". The selection is by means alone, so an
    interval above 0 does not exclude that one with a smaller mean and a wider interval is as good.

    Raises:
        ValueError: two runs of one strategy and seed, a cell of several settings, an unknown strategy, an accuracy that
            is not that of its count.
    """
    found: list[Row] = []
    for (data, model), cell in sorted(_cells(runs).items()):
        own = {s: {"data": data, "model": model, "strategy": s, **_own(cell[s])} for s in sorted(cell, key=place)}
        found += [row | _compared(row, own) for row in own.values()]
    return found


def ranks(rows: Sequence[Row]) -> list[Row]:
    """Rank of every strategy within each cell, 1 = largest test accuracy, ties averaged.

    ``ranks``: for each strategy ``rank``, of its mean over its own seeds, and ``mean_rank``, the `Interval` of its
    rank over the ``n`` seeds that all strategies of the cell have.
    ``friedman_p``: of Friedman's test that the strategies are exchangeable within a seed, from 3 strategies and 3
    seeds on, else None (also where all tie). Its chi-squared law is an approximation, rough below ten seeds.
    ``best, second, lead``: the two largest means, the first in order where they tie, and their paired difference;
    selected by this very difference, so it is biased upwards. None for a single strategy.
    """
    found = []
    for (data, model), own in _by_cell(rows).items():
        means = [round(r["accuracy"]["mean"], 12) for r in own]
        seeds = sorted(set.intersection(*(set(r["seeds"]) for r in own)))
        table = np.array([[r["correct"][r["seeds"].index(s)] for s in seeds] for r in own]).reshape(len(own), -1)
        per_seed = stats.rankdata(-table, axis=0) if seeds else table
        first, *others = sorted(own, key=lambda r: (-round(r["accuracy"]["mean"], 12), place(r["strategy"])))
        found.append(
            {
                "data": data,
                "model": model,
                "n": len(seeds),
                "ranks": [
                    {"strategy": r["strategy"], "rank": float(rank), "mean_rank": interval(line)._asdict()}
                    for r, rank, line in zip(own, stats.rankdata([-m for m in means]), per_seed, strict=True)
                ],
                "friedman_p": _friedman(table),
                "best": first["strategy"],
                "second": others[0]["strategy"] if others else None,
                "lead": _paired(first, others[0]) if others else None,
            }
        )
    return found


def reversals(rows: Sequence[Row]) -> Row:
    """Pairs of strategies that are told apart both ways: interval above 0 in one cell, below 0 in another (claim C6).

    Different winners alone are what chance would give among equal strategies. ``pairs``: pairs of strategies that are
    told apart in two cells or more, which is where a reversal could show; ``found``: those that reverse.
    """
    told: dict[tuple[str, str], dict[str, list[tuple[str, str]]]] = {}
    for cell, own in _by_cell(rows).items():
        for a, b in combinations(own, 2):
            where = side(_paired(a, b))
            if where in ("above", "below"):
                pair = told.setdefault((a["strategy"], b["strategy"]), {"above": [], "below": []})
                pair[where].append(cell)
    several = {k: v for k, v in told.items() if len(v["above"]) + len(v["below"]) > 1}
    found = [{"first": a, "second": b, **v} for (a, b), v in several.items() if v["above"] and v["below"]]
    return {"pairs": len(several), "found": found}


def verdict_c9(rows: Sequence[Row]) -> Row:
    """Do HMix and GMix beat the best earlier strategy? From the intervals of ``minus_best_earlier`` alone.

    A case (cell and new strategy) ``holds`` if its interval lies above 0, ``fails`` below 0, and is ``undecided`` if it
    contains 0 or there is none. The claim holds if every case does, fails if one does, and is undecided otherwise.
    See `rows` for the bias of the selected best: downwards, so "holds" is the conservative verdict, "fails" is not.
    """
    words = {"above": "holds", "below": "fails"}
    cases = [
        {
            **{k: r[k] for k in ("data", "model", "strategy", "best_earlier")},
            "difference": r["minus_best_earlier"],
            "verdict": words.get(side(r["minus_best_earlier"]) or "", "undecided"),
        }
        for r in rows
        if r["best_earlier"] is not None
    ]
    counts = {v: sum(c["verdict"] == v for c in cases) for v in ("holds", "fails", "undecided")}
    verdict = "fails" if counts["fails"] else "undecided" if counts["undecided"] or not cases else "holds"
    sentence = (
        f"HMix and GMix minus the best earlier strategy, 95 % intervals of paired differences over seeds: above 0 in "
        f"{counts['holds']}, below 0 in {counts['fails']}, undecided in {counts['undecided']} of {len(cases)} cases; "
        f"{verdict}."
        if cases
        else "No runs of HMix or GMix beside an earlier strategy; undecided."
    )
    return {"verdict": verdict, "sentence": sentence, "counts": counts, "cases": cases}


def throughput(runs: Iterable[Row]) -> list[Row]:
    """Images a second over vanilla's run of the same cell and seed: ``median`` and ``n`` seeds of each strategy."""
    found = []
    for (data, model), cell in sorted(_cells(runs).items()):
        for strategy in sorted(set(cell) - {"vanilla"}, key=place):
            plain, own = cell.get("vanilla", {}), cell[strategy]
            ratios = [own[s]["images_per_s"] / plain[s]["images_per_s"] for s in own if s in plain]
            if ratios:
                median = float(np.median(ratios))
                found.append({"data": data, "model": model, "strategy": strategy, "median": median, "n": len(ratios)})
    return found


def summary(runs: Sequence[Row]) -> Row:
    """The study's result as it lies in its record: the runs, and their rows for the figure, which only draws."""
    return {"runs": list(runs), "rows": rows(runs)}


def _cells(runs: Iterable[Row]) -> dict[tuple[str, str], Cell]:
    """Checked runs by cell, strategy and seed."""
    cells: dict[tuple[str, str], Cell] = {}
    settings: dict[tuple[str, str], Row] = {}
    for run in runs:
        cell, key = (run["data"], run["model"]), (run["data"], run["model"], run["strategy"], run["seed"])
        first = settings.setdefault(cell, run)
        different = {k: [first[k], run[k]] for k in SHARED if first[k] != run[k]}
        if different:
            raise ValueError(f"expected one setting for all runs of {cell}, got {different}; leave the others out.")
        if abs(run["test_accuracy"] - run["test_correct"] / run["test_images"]) > 0.5 / run["test_images"]:
            raise ValueError(
                f"expected the test accuracy of {key} to be {run['test_correct']} / {run['test_images']}, got "
                f"{run['test_accuracy']}; train it again."
            )
        own = cells.setdefault(cell, {}).setdefault(run["strategy"], {})
        if run["seed"] in own:
            raise ValueError(f"expected one run for data, model, strategy and seed, got two of {key}; remove one.")
        own[run["seed"]] = run
    return cells


def _own(runs: dict[int, Row]) -> Row:
    """What the runs of one strategy say by themselves."""
    in_order = [runs[seed] for seed in sorted(runs)]
    first = in_order[0]
    correct, images = [r["test_correct"] for r in in_order], first["test_images"]
    train = [r["train_accuracy"] for r in in_order]
    gaps = [t - c / images for t, c in zip(train, correct, strict=True)]
    p = sum(correct) / len(correct) / images
    return {
        **{k: first[k] for k in SHARED},
        "n": len(runs),
        "seeds": sorted(runs),
        "correct": correct,
        "gaps": gaps,
        "accuracy": interval(c / images for c in correct)._asdict(),
        "se_test": math.sqrt(p * (1 - p) / images),
        "train_accuracy": interval(train)._asdict(),
        "gap": interval(gaps)._asdict(),
    }


def _compared(row: Row, own: dict[str, Row]) -> Row:
    """Paired differences of a row to others of its cell."""
    vanilla = own.get("vanilla") if row["strategy"] != "vanilla" else None
    earlier = [r for s, r in own.items() if base(s) in EARLIER] if base(row["strategy"]) in NEW else []
    best = max(earlier, key=lambda r: round(r["accuracy"]["mean"], 12), default=None)  # the first where they tie
    return {
        "minus_vanilla": _paired(row, vanilla) if vanilla else None,
        "gap_minus_vanilla": _paired(row, vanilla, "gaps") if vanilla else None,
        "best_earlier": best["strategy"] if best else None,
        "minus_best_earlier": _paired(row, best) if best else None,
    }


def _paired(a: Row, b: Row, what: str = "correct") -> Row | None:
    """`Interval` of ``a - b`` over common seeds, with the seeds and values; None without a common seed."""
    left, right = (dict(zip(r["seeds"], r[what], strict=True)) for r in (a, b))
    seeds = sorted(set(left) & set(right))
    scale = a["test_images"] if what == "correct" else 1  # counts are subtracted first: equal ones give equal values
    values = [(left[s] - right[s]) / scale for s in seeds]
    return {**interval(values)._asdict(), "seeds": seeds, "values": values} if seeds else None


def _by_cell(rows: Sequence[Row]) -> dict[tuple[str, str], list[Row]]:
    cells: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        cells.setdefault((row["data"], row["model"]), []).append(row)
    return {cell: sorted(own, key=lambda r: place(r["strategy"])) for cell, own in sorted(cells.items())}


def _friedman(table: np.ndarray) -> float | None:
    strategies, seeds = table.shape
    if strategies < 3 or seeds < 3 or bool((table == table[0]).all()):
        return None
    return float(stats.friedmanchisquare(*table).pvalue)
