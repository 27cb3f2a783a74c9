"""Summary of the study of robustness over seeds: accuracies, paired differences, the inequality, expectations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from experiments.layer_measures import interval
from experiments.record import check

Array = np.ndarray
Results = Sequence[dict[str, Any]]
LEVEL = 0.01  # of the test for masked gradients, over all networks, norms and radii together


def told(mean: float, half: float) -> str:
    """Where an interval lies: ``above`` 0, ``below`` 0, or ``?`` if it contains 0 or is not known."""
    return "above" if mean > half else "below" if mean < -half else "?"


def over_both(values: Array) -> dict[str, Any]:
    """Mean of values [seeds, images] with 95 % intervals over networks, over images, and over both.

    ``half_seeds`` is the half-width of Student's interval over seeds at these images, ``half_images`` that of the
    normal one over images at these networks, ``half`` the root of the sum of their squares. What is particular to a
    network and an image is in both, so that ``half`` is too wide rather than too narrow. ``side`` as in `told`.
    """
    v = np.asarray(values, dtype=float)
    seeds = interval(v.mean(axis=1))
    images = float(stats.norm.ppf(0.975) * v.mean(axis=0).std(ddof=1) / np.sqrt(v.shape[1]))
    half = float(np.hypot(seeds["half"], images))
    both = {"half": half, "half_seeds": seeds["half"], "half_images": images}
    return {"mean": seeds["mean"], **both, "side": told(seeds["mean"], half)}


def paired(first: Array, second: Array) -> dict[str, Any]:
    """`over_both` of ``first - second`` [seeds, images]: equal seeds and images are paired.

    Raises:
        ValueError: if the shapes differ.
    """
    if np.shape(first) != np.shape(second):
        raise ValueError(
            f"paired differences need equal seeds and images, got {np.shape(first)} and {np.shape(second)}; "
            "measure both on the same."
        )
    return over_both(np.asarray(first, dtype=float) - np.asarray(second, dtype=float))


def by_training(results: Iterable[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """Results by training, in the order of their seeds."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for r in sorted(results, key=lambda r: r["seed"]):
        groups.setdefault(r["training"], []).append(r)
    return {name: groups[name] for name in dict.fromkeys(r["training"] for r in results)}


def attack_table(results: Results, grids: Mapping[str, Sequence[float]]) -> list[dict[str, Any]]:
    """One row for each norm, attack (and ``worst``), training and radius: accuracy, and its difference to vanilla."""
    rows = []
    groups = by_training(results)
    for norm, radii in grids.items():
        for attack in (*results[0]["attacks"][norm]["broken_at"], "worst"):
            withstood = {n: np.array([_withstood(r, norm, attack) for r in own]) for n, own in groups.items()}
            for k, eps in enumerate(radii):
                bits = {n: w > k for n, w in withstood.items()}
                for n in groups:
                    difference = None if n == "vanilla" else paired(bits[n], bits["vanilla"])
                    row = {"norm": norm, "attack": attack, "eps": eps, "training": n, "seeds": len(bits[n])}
                    rows.append(row | {"accuracy": over_both(bits[n]), "difference": difference})
    return rows


def _withstood(result: Mapping[str, Any], norm: str, attack: str) -> Array:
    """How many radii of the grid each image withstood [images]."""
    kinds = result["attacks"][norm]["broken_at"]
    return np.min(list(kinds.values()), axis=0) if attack == "worst" else np.array(kinds[attack])


def masked(results: Results) -> dict[str, Any]:
    """Is any network broken without gradients on more images than by gradients? One-sided sign test for each.

    The level is divided by the number of tests (Bonferroni): networks, norms and radii.
    """
    cells = [a for r in results if "attacks" in r for a in r["attacks"].values()]
    tests = [p / 2 for a in cells for p in a["p_free"]]  # two-sided, of those with more images broken without gradients
    counts = {name: sum(sum(a[name]) for a in cells) for name in ("only_free", "only_gradient")}
    smallest = min(tests)
    return counts | {"tests": len(tests), "smallest_p": smallest, "found": bool(smallest < LEVEL / len(tests))}


def bound_table(results: Results) -> list[dict[str, Any]]:
    """The inequality by kind of network, training, strategy and law, centred and not: means over seeds."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for r in results:
        true = {i["strategy"]: i["second_order"] / i["true"] for i in r["inner"]}
        for row in r["bounds"]:
            share = true.get(row["strategy"]) if row["centred"] and row["law"] == "exact" else None
            key = (r["kind"], r["training"], row["strategy"], row["law"], row["centred"])
            groups.setdefault(key, []).append(row | {"over_true": share})
    rows = []
    for (kind, training, strategy, law, centred), own in groups.items():
        row = {"kind": kind, "training": training, "strategy": strategy, "law": law, "centred": centred}
        row |= {"seeds": len(own), "holds": sum(o["holds"] for o in own)}
        for name in ("clean", "left", "right", "gap", "tightness", "share", "eps_mean", "inhomogeneity"):
            row[name] = interval([o[name] for o in own])
        row["smallest_gap"] = min(o["gap"] for o in own)
        known = [o["over_true"] for o in own if o["over_true"] is not None]
        row["second_order_over_true"] = interval(known) if known else None
        rows.append(row)
    return rows


def agreement(attacks: Results, inequality: Results) -> list[dict[str, Any]]:
    """Kendall's tau, over trainings, of tightness under one strategy's inequality with worst-case accuracy."""
    rows = []
    places = dict.fromkeys((c["norm"], c["eps"]) for c in informative(attacks))
    conv = [r for r in inequality if r["kind"] == "conv" and r["centred"] and r["law"] == "exact"]
    for norm, eps in places:
        accuracy = {
            r["training"]: r["accuracy"]["mean"]
            for r in attacks
            if (r["attack"], r["norm"], r["eps"]) == ("worst", norm, eps)
        }
        for strategy in dict.fromkeys(r["strategy"] for r in conv):
            tight = {r["training"]: r["tightness"]["mean"] for r in conv if r["strategy"] == strategy}
            tau = stats.kendalltau([tight[n] for n in accuracy], list(accuracy.values())).statistic
            rows.append({"norm": norm, "eps": eps, "strategy": strategy, "tau": float(tau), "n": len(accuracy)})
    return rows


def expectations(attacks: Results, inequality: Results) -> list[dict[str, Any]]:
    """What was expected before the first run, and whether it came."""
    cells = informative(attacks)
    strong = [c for c in cells if c["eps"] == max(o["eps"] for o in cells if o["norm"] == c["norm"])]
    exact = [r for r in inequality if r["centred"] and r["law"] == "exact"]
    base = {(r["kind"], r["strategy"]): r["tightness"] for r in exact if r["training"] == "vanilla"}
    own = [r for r in exact if r["training"] == r["strategy"]]
    tighter = [r["tightness"]["mean"] > base[r["kind"], r["strategy"]]["mean"] for r in own]
    return [
        _sides("robust", "more accurate than vanilla in the worst case, radius by radius", cells),
        _sides("strong", "also at the largest radius that tells networks apart", strong),
        {
            "key": "specific",
            **check(
                "the inequality is tighter on networks trained with the strategy than on vanilla ones",
                all(tighter) and bool(tighter),
                f"in {sum(tighter)} of {len(tighter)} kinds of network and strategies, by means over seeds",
            ),
        },
    ]


def informative(attacks: Results) -> list[dict[str, Any]]:
    """Worst-case rows of mixing strategies at radii above 0 where vanilla's mean accuracy is within 5 and 95 %."""
    worst = [r for r in attacks if r["attack"] == "worst"]
    base = {(r["norm"], r["eps"]): r["accuracy"]["mean"] for r in worst if r["training"] == "vanilla"}
    mixing = [r for r in worst if r["training"] != "vanilla" and r["eps"] > 0]
    return [r for r in mixing if 0.05 <= base[r["norm"], r["eps"]] <= 0.95]


def _sides(key: str, name: str, cells: Results) -> dict[str, Any]:
    count = {s: sum(c["difference"]["side"] == s for c in cells) for s in ("above", "below", "?")}
    detail = f"above in {count['above']} of {len(cells)} cells, below in {count['below']}, not told in {count['?']}"
    return {"key": key, **check(name, count["above"] == len(cells) > 0, detail), "count": count}
