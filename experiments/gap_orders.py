"""Do bounds of the generalization gap order strategies as their measured gaps do?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np

from experiments.layer_measures import interval
from experiments.robust_stats import told
from msda_theory.generalization import order_agreement
from msda_theory.moments.moments import LAWS

Rows = Sequence[dict[str, Any]]


def with_side(value: dict[str, float]) -> dict[str, Any]:
    """An interval over seeds, and where it lies."""
    return value | {"side": told(value["mean"], value["half"])}


def orders_of(mixing: Sequence[str], results: Rows, rows: Rows, dimensions: Rows) -> list[dict[str, Any]]:
    """Do bounds order the strategies ``mixing`` as their gaps of loss do? By cell, at equal gamma and at the own one.

    Args:
        mixing: strategies.
        results: one for each network.
        rows: means over seeds.
        dimensions: with ``truncated_bound`` by images, law and strategy.
    """
    found = []
    for kind, images in dict.fromkeys((r["kind"], r["images"]) for r in rows):
        own = {r["training"]: r for r in rows if (r["kind"], r["images"]) == (kind, images)}
        gaps = _gaps(mixing, [r for r in results if (r["kind"], r["images"]) == (kind, images)])
        for law in LAWS:
            bounds = {
                d["strategy"]: d["truncated_bound"]
                for d in dimensions
                if (d["images"], d["law"]) == (images, law) and d["strategy"] in mixing
            }
            forms = {"equal": bounds}
            if law == "exact" and own[mixing[0]]["gamma"] is not None:
                forms["own"] = {s: b * math.sqrt(own[s]["gamma"]["mean"]) for s, b in bounds.items()}
            place = {"kind": kind, "images": images, "law": law}
            found += [place | {"gamma": gamma} | _order(values, gaps) for gamma, values in forms.items()]
    return found


def _gaps(mixing: Sequence[str], results: Rows) -> dict[str, np.ndarray]:
    """Gaps of loss [seeds] of each mixing strategy."""
    return {
        s: np.array([r["loss_gap"] for r in sorted(results, key=lambda r: r["seed"]) if r["training"] == s])
        for s in mixing
    }


def _order(bounds: dict[str, float], gaps: dict[str, np.ndarray]) -> dict[str, Any]:
    """Kendall's tau with the gaps of each seed and with their means, and what of the gaps' own order is told.

    Of all pairs of strategies, ``told`` have a paired difference of gaps whose 95 % interval over seeds leaves out 0,
    and ``concordant`` of these are in the order of the bounds.
    """
    mean = order_agreement(bounds, {s: float(v.mean()) for s, v in gaps.items()})
    seeds = range(len(next(iter(gaps.values()))))
    each = [order_agreement(bounds, {s: float(v[k]) for s, v in gaps.items()}).tau for k in seeds]
    signs = []
    for a, b in combinations(gaps, 2):
        side = with_side(interval(gaps[a] - gaps[b]))["side"]
        if side != "?":
            signs.append((side == "above") == (bounds[a] > bounds[b]))
    return {
        "bounds": bounds,
        "by_bound": mean.by_bound,
        "by_gap": mean.by_gap,
        "tau": mean.tau,
        "p_value": mean.p_value,
        "tau_seeds": interval(each),
        "pairs": math.comb(len(gaps), 2),
        "told": len(signs),
        "concordant": sum(signs),
        "n": mean.n,
    }
