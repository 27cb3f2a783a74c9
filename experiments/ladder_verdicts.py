"""What the order ladder says: shares with intervals, order of strategies, radii, and the expectations written before.

Expected before the first run, exact law, alpha = 1, trained networks on digits:

- *mask*: Gauss-Newton at the mask is nearer to the rise than second order at the data, on average over cells;
- *class*: the class mean as stand-in is nearer still than the mean image;
- *local*: with the blurred partner, base + R1 + R2 is within a tenth of the rise in every cell;
- *paper*: at the data under the paper's law second order falls short of the rise in every cell;
- *r3*: at the mask R3 makes the prediction worse on average over softplus cells;
- *r3-loss*: there the quadratic network with the exact loss is nearer: what hurts is that the loss is truncated;
- *linearised*: at the data the linearised network misses more of the rise than at the mask;
- *order*: Gauss-Newton at the mask orders the strategies better than second order at the data under the paper's law;
- *radius*: the median radius of Gauss-Newton at the mask is larger than that of second order at the data;
- *alpha*: at a smaller alpha the median radius of second order at the data is at most 0.1 larger, since alpha changes
  how often images are mixed strongly, not how strongly at most;
- *stage*: on untrained networks second order at the data is within a tenth of the rise in most cells.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from experiments.record import check
from msda_theory.estimate import Estimate
from msda_theory.verdicts import rank_agreement

RESOLVED = 5.0  # standard errors of the rise below which a share of it is not told
SMALL = ("softplus", "relu")
GROUP = ["data", "network", "stage", "alpha"]
CELL = ["training", "strategy"]
RUNG = ["law", "at", "rung"]
_Z95 = (-1.959963984540054, 1.959963984540054)


def summary(records: list[dict[str, Any]]) -> dict[str, Any]:
    """The result of the record, from the parts of every network."""
    rows, radii, parts = (_long(records, kind) for kind in ("cells", "radii", "parts"))
    resolved = rows[(rows["rise"] > RESOLVED * rows["rise_se"]) & rows["share"].notna()]
    shares, order = _shares(resolved), _orders(rows)
    limits = _limits(radii) if len(radii) else []
    return {
        "networks": len(records),
        "rungs": [".".join(r) for r in _rungs(resolved)],
        "cells": _cells(resolved),
        "unresolved": int((len(rows) - len(resolved)) // rows.groupby(RUNG).ngroups),
        "shares": shares,
        "parts": _parts(parts[parts["rise"] > RESOLVED * parts["rise_se"]]),
        "order": order,
        "radii": limits,
        "expectations": _expectations(
            pd.DataFrame(shares), pd.DataFrame(order), pd.DataFrame(limits), untrained="untrained" in set(rows["stage"])
        ),
        "checks": _checks(resolved),
    }


def _long(records: list[dict[str, Any]], kind: str) -> pd.DataFrame:
    """One line for each network, strategy, alpha and rung (or part of the rise)."""
    lines = []
    for record in records:
        labels = {k: v for k, v in record["config"]["subject"].items() if k != "run"}
        for cell in record["result"]["radii" if kind == "radii" else "cells"]:
            own = {**labels, **{k: cell[k] for k in ("strategy", "alpha")}}
            if kind == "radii":
                lines.append({**own, **dict(zip(RUNG, cell["rung"], strict=True)), "radius": cell["value"]})
                continue
            own |= {k: cell[k] for k in ("clean", "rise", "rise_se")}
            if kind == "parts":
                lines += [{**own, **p, "share": p["share"]["mean"]} for p in cell["parts"]]
                continue
            for rung, share, se in zip(cell["rungs"], cell["share"], cell["share_se"], strict=True):
                lines.append({**own, **dict(zip(RUNG, rung, strict=True)), "share": share, "se": se})
    return pd.DataFrame(lines)


def _grouped(rows: pd.DataFrame, by: list[str]) -> Any:
    return rows.groupby(by, sort=False, dropna=False)


def _over(cells: pd.DataFrame, value: str) -> dict[str, Any]:
    """Mean over cells, with the error over seeds: each cell is a stratum, its seeds are the draws."""
    table = cells.pivot_table(index=CELL, columns="seed", values=value, dropna=False).dropna()
    values = table.to_numpy(dtype=float)
    if values.shape[0] and values.shape[1] > 1:
        e = Estimate.from_strata(values)
        return {"mean": round(e.mean, 5), "se": round(e.se, 5), "n": values.size}
    return {"mean": round(float(cells[value].mean()), 5), "se": None, "n": len(cells)}


def _spread(values: np.ndarray) -> dict[str, float]:
    found = {"min": values.min(), "median": np.median(values), "max": values.max()}
    return {k: round(float(v), 5) for k, v in found.items()}


def _shares(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """For each kind of network and rung: shares of the rise over cells (training and strategy; means over seeds)."""
    out = []
    for key, group in _grouped(rows, [*GROUP, *RUNG]):
        means = group.groupby(CELL)["share"].mean().to_numpy()
        miss = np.abs(means - 1)
        out.append(
            {
                **dict(zip([*GROUP, *RUNG], key, strict=True)),
                "cells": len(means),
                "share": (share := _over(group, "share")),
                "interval_95": None if share["se"] is None else [share["mean"] + z * share["se"] for z in _Z95],
                "over_cells": _spread(means),
                "miss": float(miss.mean()),
                "within_a_tenth": int((miss <= 0.1).sum()),
            }
        )
    return out


def _rungs(rows: pd.DataFrame) -> list[tuple[str, ...]]:
    return list(dict.fromkeys(rows[RUNG].itertuples(index=False, name=None)))


def _cells(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Every cell: mean share of each rung over seeds with its error over seeds, in the order of ``rungs``."""
    out, rungs = [], _rungs(rows)
    for key, group in _grouped(rows, [*GROUP, *CELL]):
        table = group.groupby(RUNG, sort=False)["share"].agg(["mean", "std", "count"]).reindex(rungs)
        se = table["std"] / np.sqrt(table["count"])
        out.append(
            {
                **dict(zip([*GROUP, *CELL], key, strict=True)),
                "networks": group["seed"].nunique(),
                "rise": float(group["rise"].mean()),
                "share": table["mean"].round(4).tolist(),
                "se": se.round(4).tolist(),
            }
        )
    return out


def _parts(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """What truncating the loss, and what the curvature of the network, leave of the rise; over cells."""
    out = []
    for key, group in _grouped(rows, [*GROUP, "law", "at", "part"]):
        means = group.groupby(CELL)["share"].mean().to_numpy()
        out.append(
            {
                **dict(zip([*GROUP, "law", "at", "part"], key, strict=True)),
                "cells": len(means),
                "share": _over(group, "share"),
                "over_cells": _spread(means),
            }
        )
    return out


def _orders(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """For each kind of network and rung: rank correlation of predicted and measured order of the strategies."""
    lines = []
    rows = rows.assign(share=rows["share"].astype(float))
    for key, group in _grouped(rows, [*GROUP, "training", "seed", *RUNG]):
        predicted, measured = group["share"].to_numpy() * group["rise"].to_numpy(), group["rise"].to_numpy()
        enough = len(group) >= 3 and np.isfinite(predicted).all() and np.ptp(predicted) > 1e-9 * np.ptp(measured)
        if enough and key[-3:] != ("exact", "all", "measured"):
            found = rank_agreement(predicted, measured)
            labels = dict(zip([*GROUP, "training", "seed", *RUNG], key, strict=True))
            lines.append({**labels, "kendall": found.kendall, "spearman": found.spearman, "p": found.p_value})
    out = []
    for key, group in _grouped(pd.DataFrame(lines), [*GROUP, *RUNG]) if lines else []:
        own = group.assign(strategy="all")  # one stratum for each training, its seeds as draws
        out.append(
            {
                **dict(zip([*GROUP, *RUNG], key, strict=True)),
                "networks": len(group),
                "kendall": _over(own, "kendall"),
                "spearman": _over(own, "spearman"),
                "significant": int((group["p"] <= 0.05).sum()),
            }
        )
    return out


def _limits(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Radius of each rung for each alpha: over cells, and the median for each strategy."""
    out = []
    for key, group in _grouped(rows, [*GROUP, *RUNG]):
        means = group.groupby(CELL)["radius"].mean()
        low, high = np.quantile(means, (0.25, 0.75))
        out.append(
            {
                **dict(zip([*GROUP, *RUNG], key, strict=True)),
                "cells": len(means),
                "radius": _over(group, "radius"),
                "over_cells": {**_spread(means.to_numpy()), "quartiles": [low, high]},
                "by_strategy": means.groupby("strategy").median().round(4).to_dict(),
            }
        )
    return out


def _expectations(
    shares: pd.DataFrame, order: pd.DataFrame, radii: pd.DataFrame, *, untrained: bool
) -> list[dict[str, Any]]:
    """What was expected before the first run, and whether it came; only of the small networks on digits."""
    small = shares[(shares["data"] == "digits") & shares["network"].isin(SMALL)] if len(shares) else shares
    if not len(small) or "trained" not in set(small["stage"]):
        return []
    shares, top = small, small["alpha"].max()
    own = shares[(shares["stage"] == "trained") & (shares["alpha"] == top)]

    def pick(rows: pd.DataFrame, rung: str, network: str | None = None) -> pd.DataFrame:
        law, at, name = rung.split(".")
        found = rows[(rows["law"] == law) & (rows["at"] == at) & (rows["rung"] == name)]
        return found if network is None else found[found["network"] == network]

    def miss(rung: str, network: str | None = None) -> float:
        return float(pick(own, rung, network)["miss"].mean())

    def nearer(key: str, name: str, a: str, b: str, network: str | None = None) -> dict[str, Any]:
        first, second = miss(a, network), miss(b, network)
        detail = f"mean distance to the rise {first:.3f} ({a}) against {second:.3f} ({b})"
        return {"key": key, **check(name, first < second, detail)}

    local, paper = pick(own, "exact.local.r2"), pick(own, "paper.data.r3")
    near, cells = int(local["within_a_tenth"].sum()), int(local["cells"].sum())
    largest = max(s["max"] for s in paper["over_cells"])
    out = [
        nearer("mask", "Gauss-Newton at the mask beats second order at the data", "exact.mask.r2", "exact.data.r3"),
        nearer("class", "the class mean beats the mean image", "exact.class.r2", "exact.mask.r2"),
        {
            "key": "local",
            **check("the blurred partner is within a tenth everywhere", near == cells, f"{near} of {cells}"),
        },
        {
            "key": "paper",
            **check("the paper's form falls short everywhere", largest < 1, f"largest share {largest:.2f}"),
        },
        nearer("linearised", "linearisation is better at the mask", "exact.mask.linearised", "exact.data.linearised"),
    ]
    if "softplus" in set(own["network"]):
        r2, r3, quadratic = "exact.mask.r2", "exact.mask.r3", "exact.mask.quadratic"
        out += [
            nearer("r3", "R3 makes it worse at the mask (softplus)", r2, r3, "softplus"),
            nearer(
                "r3-loss",
                "with the exact loss the quadratic network is nearer than with R3 (softplus)",
                quadratic,
                r3,
                "softplus",
            ),
        ]
    if untrained:
        second = pick(shares[shares["stage"] == "untrained"], "exact.data.r3")
        near, cells = int(second["within_a_tenth"].sum()), int(second["cells"].sum())
        name = "on untrained networks second order at the data is within a tenth in most cells"
        detail = f"{near} of {cells} cells" if cells else "no cell has a rise that is told"
        out.append({"key": "stage", **check(name, near > cells / 2, detail)})
    return [*out, *_order_expectation(order, top, pick), *_radius_expectations(radii, top, pick)]


def _order_expectation(order: pd.DataFrame, top: float, pick: Any) -> list[dict[str, Any]]:
    if not len(order):
        return []
    own = order[(order["stage"] == "trained") & (order["alpha"] == top)]
    a, b = (np.mean([k["mean"] for k in pick(own, r)["kendall"]]) for r in ("exact.mask.r2", "paper.data.r3"))
    name = "Gauss-Newton at the mask orders the strategies better than the paper's form"
    return [{"key": "order", **check(name, bool(a > b), f"mean Kendall tau {a:.2f} against {b:.2f}")}]


def _radius_expectations(radii: pd.DataFrame, top: float, pick: Any) -> list[dict[str, Any]]:
    if not len(radii):
        return []

    def median(rung: str, alpha: float) -> float:
        return float(np.mean([c["median"] for c in pick(radii[radii["alpha"] == alpha], rung)["over_cells"]]))

    a, b, low = median("exact.mask.r2", top), median("exact.data.r3", top), radii["alpha"].min()
    c = median("exact.data.r3", low)
    name = "Gauss-Newton at the mask reaches further than second order at the data"
    other = "a smaller alpha does not let second order at the data reach further"
    return [
        {"key": "radius", **check(name, a > b, f"median radius {a:.2f} against {b:.2f}")},
        {"key": "alpha", **check(other, c <= b + 0.1, f"median radius {c:.2f} at alpha {low:g}, {b:.2f} at {top:g}")},
    ]


def _checks(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """What must hold whatever the networks are."""
    told = check("mixing raises the loss clearly somewhere", len(rows) > 0, f"{len(rows)} shares are told")
    if not len(rows):
        return [told]
    wide = rows.pivot_table(index=[*GROUP, *CELL, "seed"], columns=RUNG, values="share", sort=False)
    kinked = wide.index.get_level_values("network").str.contains("relu")
    out = [
        told,
        check(
            "the measured loss explains itself",
            bool((wide["exact", "all", "measured"] - 1).abs().max() < 1e-9),
            f"largest difference {(wide['exact', 'all', 'measured'] - 1).abs().max():.1g}",
        ),
        check(
            "the Gauss-Newton term is positive in every cell",
            bool(((wide["exact", "mask", "r2"] - wide["exact", "mask", "r1"]) > 0).all()),
            f"smallest {(wide['exact', 'mask', 'r2'] - wide['exact', 'mask', 'r1']).min():.3g} of the rise",
        ),
        check(
            "the linearised network is never below its tangent",
            bool(((wide["exact", "mask", "linearised"] - wide["exact", "mask", "r1"]) > -1e-9).all()),
            f"smallest {(wide['exact', 'mask', 'linearised'] - wide['exact', 'mask', 'r1']).min():.3g} of the rise",
        ),
    ]
    if kinked.any():
        bend = (wide["exact", "mask", "r3"] - wide["exact", "mask", "r2"])[kinked].abs().max()
        out.append(check("ReLU networks have no R3", bool(bend < 1e-6), f"largest {bend:.1g} of the rise"))
    return out
