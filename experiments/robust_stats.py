"""Summary of the study of robustness over seeds: accuracies, paired differences, the inequality, expectations."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from scipy import stats

from experiments.layer_measures import interval
from experiments.record import check

Array = np.ndarray


def paired(first: Array, second: Array) -> dict[str, float | str | None]:
    """Mean of ``first - second`` over seeds and images [seeds, images], with two errors and where it lies.

    ``half_seeds`` is the half-width of Student's 95 % interval over seeds at these images; ``half_images`` that of the
    normal one over images at these networks. ``half`` is the root of the sum of their squares: it covers both, and
    counts the choice of images twice (once through the seeds), so it is too wide rather than too narrow. ``side`` is
    ``above`` or ``below`` 0 by ``half``, ``?`` if it contains 0 or there is one seed.
    """
    d = np.asarray(first, dtype=float) - np.asarray(second, dtype=float)
    seeds = interval(d.mean(axis=1))
    images = float(stats.norm.ppf(0.975) * d.mean(axis=0).std(ddof=1) / np.sqrt(d.shape[1]))
    half = float(np.hypot(seeds["half"], images))
    side = "above" if seeds["mean"] > half else "below" if seeds["mean"] < -half else "?"
    return {"mean": seeds["mean"], "half": half, "half_seeds": seeds["half"], "half_images": images, "side": side}


def attack_table(results: Sequence[dict[str, Any]], grids: dict[str, Sequence[float]]) -> list[dict[str, Any]]:
    """One row for each norm, attack (and ``worst``), training and radius: accuracy, and its difference to vanilla."""
    rows = []
    names = list(dict.fromkeys(r["training"] for r in results))
    for norm, radii in grids.items():
        for attack in (*results[0]["attacks"][norm]["broken_at"], "worst"):
            withstood = {n: _withstood(results, n, norm, attack) for n in names}
            for k, eps in enumerate(radii):
                bits = {n: w > k for n, w in withstood.items()}
                for n in names:
                    share = interval(bits[n].mean(axis=1))
                    difference = None if n == "vanilla" else paired(bits[n], bits["vanilla"])
                    row = {"norm": norm, "attack": attack, "eps": eps, "training": n, "accuracy": share}
                    rows.append(row | {"seeds": len(bits[n]), "difference": difference})
    return rows


def _withstood(results: Iterable[dict[str, Any]], training: str, norm: str, attack: str) -> Array:
    """How many radii of the grid each image withstood [seeds, images]."""
    found = []
    for r in results:
        if r["training"] == training:
            kinds = r["attacks"][norm]["broken_at"]
            found.append(np.min(list(kinds.values()), axis=0) if attack == "worst" else np.array(kinds[attack]))
    return np.array(found)


def masked(results: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """By norm and radius, over networks: images broken without gradients alone, with gradients alone, sign test."""
    attacks = [r["attacks"] for r in results if "attacks" in r]
    rows = []
    for norm in attacks[0]:
        for k in range(len(attacks[0][norm]["only_free"])):
            free, gradient = (sum(a[norm][name][k] for a in attacks) for name in ("only_free", "only_gradient"))
            p = stats.binomtest(free, free + gradient, alternative="greater").pvalue if free + gradient else 1.0
            rows.append({"norm": norm, "radius": k, "only_free": free, "only_gradient": gradient, "p_value": float(p)})
    return rows


def bound_table(results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The inequality by kind of network, training, strategy and law, centred and not: means over seeds."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for r in results:
        for row in r["bounds"]:
            key = (r["kind"], r["training"], row["strategy"], row["law"], row["centred"])
            groups.setdefault(key, []).append(row | {"inner": r.get("inner")})
    rows = []
    for (kind, training, strategy, law, centred), own in groups.items():
        row = {"kind": kind, "training": training, "strategy": strategy, "law": law, "centred": centred}
        row |= {"seeds": len(own), "holds": sum(o["holds"] for o in own)}
        for name in ("clean", "left", "right", "gap", "tightness", "share", "eps_mean", "inhomogeneity"):
            row[name] = interval([o[name] for o in own])
        row["smallest_gap"] = min(o["gap"] for o in own)
        mine = [o["inner"] for o in own if o["inner"] is not None]
        if mine and strategy == training and law == "exact" and centred:
            row["second_order_over_true"] = interval([i["second_order"] / i["true"] for i in mine])
        rows.append(row)
    return rows


def expectations(attacks: list[dict[str, Any]], inequality: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What was expected before the first run, and whether it came."""
    cells = informative(attacks)
    strong = [c for c in cells if c["eps"] == max(o["eps"] for o in cells if o["norm"] == c["norm"])]
    own = [r for r in inequality if r["centred"] and r["law"] == "exact" and r["training"] == r["strategy"]]
    base = {
        (r["kind"], r["strategy"]): r["tightness"]
        for r in inequality
        if r["centred"] and r["law"] == "exact" and r["training"] == "vanilla"
    }
    tighter = [r["tightness"]["mean"] > base[r["kind"], r["strategy"]]["mean"] for r in own]
    return [
        _sides("robust", "more accurate than vanilla in the worst case, radius by radius", cells),
        _sides("strong", "also at the largest radius that tells networks apart", strong),
        {
            "key": "specific",
            **check(
                "the inequality is tighter on networks trained with the strategy than on vanilla ones",
                all(tighter),
                f"in {sum(tighter)} of {len(tighter)} kinds of network and strategies, by means over seeds",
            ),
        },
    ]


def informative(attacks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Worst-case rows of mixing strategies at radii above 0 where vanilla's mean accuracy is within 5 and 95 %."""
    base = {(r["norm"], r["eps"]): r["accuracy"]["mean"] for r in attacks if _worst_of(r, "vanilla")}
    return [
        r
        for r in attacks
        if r["attack"] == "worst"
        and r["training"] != "vanilla"
        and r["eps"] > 0
        and 0.05 <= base[r["norm"], r["eps"]] <= 0.95
    ]


def _worst_of(row: dict[str, Any], training: str) -> bool:
    return bool(row["attack"] == "worst" and row["training"] == training)


def _sides(key: str, name: str, cells: list[dict[str, Any]]) -> dict[str, Any]:
    count = {s: sum(c["difference"]["side"] == s for c in cells) for s in ("above", "below", "?")}
    detail = f"above in {count['above']} of {len(cells)} cells, below in {count['below']}, not told in {count['?']}"
    return {"key": key, **check(name, count["above"] == len(cells) > 0, detail), "count": count}
