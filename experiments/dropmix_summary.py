"""Summary of the study of DropMix: accuracies, paired differences, sweeps, hardness, information, expansion."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product
from typing import Any

import numpy as np

from experiments.graph_runs import BINS, GraphRun
from experiments.layer_measures import interval
from experiments.record import check

Result = dict[str, Any]
Named = Sequence[tuple[str, GraphRun, Result]]  # what is varied, the run, its result
PROBES = ("published", "validated")
SINGLE, TOGETHER = ("dropmix, local", "dropmix, global"), "dropmix, both"
LEARNT = 0.5  # accuracy above which representations mean something; chance is 1/7 and 1/6


def summary(found: Named, shares: Sequence[float], main: Sequence[str]) -> dict[str, Any]:
    """Everything the pages show.

    Args:
        found: every run.
        shares: of mixed dimensions, for which information and expansion were measured.
        main: names of the main comparison.
    """
    data = list(dict.fromkeys(r.data for _, r, _ in found))
    names = list(dict.fromkeys(n for n, _, _ in found))
    values = {(d, n): _accuracies(found, d, n) for d, n in product(data, names)}
    rows = [_row(d, n, values) for d, n in product(data, names) if values[d, n]["published"]]
    detailed = [(n, r, x) for n, r, x in found if "shares" in x]
    pairs = [_difference(values, d, a, b, p) for d, p in product(data, PROBES) for a, b in _pairs(main)]
    result = {
        "rows": rows,
        "pairs": pairs,
        "epochs": [_epochs(found, d, n) for d, n in product(data, main)],
        "bins": BINS,
        "hardness": [_hardness(detailed, d, n) for d, n in product(data, _names(detailed))],
        "information": [
            _at_share(detailed, d, n, v, s)
            for d, n, v, s in product(data, _names(detailed), ("local", "global"), shares)
        ],
    }
    return result | {"expectations": _expectations(result, data), "checks": _checks(found, result)}


def _accuracies(found: Named, data: str, name: str) -> dict[str, dict[int, float]]:
    own = {r.seed: x for n, r, x in found if (r.data, n) == (data, name)}
    return {
        "published": {s: x["accuracy"]["mean"] for s, x in own.items()},
        "validated": {s: x["validated"]["accuracy"] for s, x in own.items()},
    }


def _row(data: str, name: str, values: dict[tuple[str, str], dict[str, dict[int, float]]]) -> dict[str, Any]:
    own = values[data, name]
    row: dict[str, Any] = {"data": data, "name": name, "seeds": len(own["published"])}
    for probe in PROBES:
        row[probe] = interval(list(own[probe].values()))
        for other in ("none", "dropmix"):
            row[f"{probe}_minus_{other}"] = _difference(values, data, name, other, probe)
    return row


def _difference(
    values: dict[tuple[str, str], dict[str, dict[int, float]]], data: str, name: str, other: str, probe: str
) -> dict[str, Any]:
    """Paired by seed."""
    a, b = values[data, name][probe], values[data, other][probe]
    both = sorted(a.keys() & b.keys())
    d = interval([a[s] - b[s] for s in both])
    told = "above" if d["mean"] > d["half"] else "below" if d["mean"] < -d["half"] else "not told"
    return {"data": data, "name": name, "other": other, "probe": probe, "seeds": len(both), "told": told} | d


def _pairs(main: Iterable[str]) -> list[tuple[str, str]]:
    """Differences that the claims are about."""
    wanted = [("dropmix", "none"), ("dropmix", "hard"), ("dropmix", "mixup"), ("hard", "none"), ("mixup", "none")]
    wanted += [(a, b) for a in (TOGETHER, "dropmix") for b in SINGLE]
    return [(a, b) for a, b in wanted if {a, b} <= set(main)]


def _epochs(found: Named, data: str, name: str) -> dict[str, Any]:
    own = [x for n, r, x in found if (r.data, n) == (data, name)]
    return {"data": data, "name": name} | {k: interval([x[k] for x in own]) for k in ("epochs", "loss")}


def _names(detailed: Named) -> list[str]:
    return list(dict.fromkeys(n for n, _, _ in detailed))


def _hardness(detailed: Named, data: str, name: str) -> dict[str, Any]:
    own = [x for n, r, x in detailed if (r.data, n) == (data, name)]
    counts = {
        v: np.sum([x["hardness"][k] for x in own], axis=0) for v, k in (("local", "local"), ("global", "global_"))
    }
    sizes = {k: interval([x[k] for x in own]) for k in ("kept_by_each", "kept_by_both", "rank_agreement")}
    return {"data": data, "name": name, "counts": counts} | sizes


def _at_share(detailed: Named, data: str, name: str, view: str, share: float) -> dict[str, Any]:
    """Information and expansion of the negatives of one view at one share, over seeds."""
    own = [
        row
        for n, r, x in detailed
        if (r.data, n) == (data, name)
        for row in x["shares"]
        if row["view"] == view and row["share"] == share
    ]
    parts: dict[str, list[float]] = {}
    for row in own:
        found, at_data, at_mean = row["information"], row["data"], row["mean"]
        clean = at_data["clean"]
        line = {
            "similarity": found["similarity"]["mean"],
            "kept": found["kept"],
            "harder": found["harder"]["mean"],
            "probe": found["probe"]["mean"],
            "clean": clean,
            "rise": row["mixed"] - clean,
            "r1": at_data["r1"],
            "r2": at_data["r2"],
            "at_data": at_data["r1"] + at_data["r2"],
            "at_mean": at_mean["base"] - clean + at_mean["r2"],
        }
        for k, v in line.items():
            parts.setdefault(k, []).append(v)
    line = {k: interval(v) for k, v in parts.items()}
    if share > 0:
        for at in ("at_data", "at_mean"):
            line[f"explained_{at}"] = interval([p / m for p, m in zip(parts[at], parts["rise"], strict=True)])
    return {"data": data, "name": name, "view": view, "share": share} | line


def _expectations(result: dict[str, Any], data: Sequence[str]) -> list[dict[str, Any]]:
    def told(a: str, b: str) -> list[dict[str, Any]]:
        rows = [p for p in result["pairs"] if (p["name"], p["other"], p["probe"]) == (a, b, "published")]
        assert len(rows) == len(data), "one for each graph"
        return rows

    d3, d1 = told("dropmix", "none"), [p for b in SINGLE for p in told(TOGETHER, b)]
    at = {(r["data"], r["view"], r["share"]): r for r in result["information"] if r["name"] == "dropmix"}
    largest, published = max(s for *_, s in at), min(s for *_, s in at if abs(s - 1 / 6) < 1e-3)
    cells = [(d, v) for d in data for v in ("local", "global")]
    less = [
        at[d, v, published][k]["mean"] > at[d, v, largest][k]["mean"]
        for (d, v), k in product(cells, ("similarity", "probe"))
    ]
    harder = [at[d, v, published]["harder"]["mean"] for d, v in cells]
    return [
        check("D3: DropMix is above no mixing on every graph", all(p["told"] == "above" for p in d3), _say(d3)),
        check("D1: ranking by both views is above each single view", all(p["told"] == "above" for p in d1), _say(d1)),
        check(
            "D2: a share of the dimensions loses less of similarity and probe than all of them",
            all(less),
            f"in {sum(less)} of {len(less)} cells of graph, view and measure",
        ),
        check(
            "D2: more than half of the mixed negatives are harder than before",
            min(harder) > 0.5,
            f"{100 * min(harder):.0f} to {100 * max(harder):.0f} % are, over graphs and views",
        ),
    ]


def _say(pairs: Iterable[dict[str, Any]]) -> str:
    return "; ".join(
        f"{p['data']}, {p['name']} - {p['other']}: {100 * p['mean']:+.2f} ± {100 * p['half']:.2f} points" for p in pairs
    )


def _checks(found: Named, result: dict[str, Any]) -> list[dict[str, Any]]:
    worst = min((x["accuracy"]["mean"], n, r.data) for n, r, x in found)
    none = [r for r in result["information"] if r["share"] == 0]
    moved = max(max(abs(r["rise"]["mean"]), abs(1 - r["similarity"]["mean"])) for r in none)
    mixed = [r for r in result["information"] if r["share"] > 0]
    return [
        check("every training makes representations that a linear model can use", worst[0] > LEARNT, f"lowest {worst}"),
        check("without mixed dimensions nothing changes", moved < 1e-6, f"largest change {moved:.1g}"),
        check(
            "the quadratic term is positive wherever something is mixed",
            min(r["r2"]["mean"] for r in mixed) > 0,
            f"smallest {min(r['r2']['mean'] for r in mixed):.3g} in {len(mixed)} cells",
        ),
    ]
