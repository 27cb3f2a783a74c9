"""What the order ladder says: shares with intervals, order of strategies, radii."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from experiments.ladder_expectations import expectations
from experiments.record import check
from msda_theory.estimate import Estimate
from msda_theory.verdicts import rank_agreement

RESOLVED = 5.0  # standard errors of the rise below which a share of it is not told
GROUP = ["data", "network", "stage", "alpha"]
CELL = ["training", "strategy"]
RUNG = ["law", "at", "rung"]


def summary(records: list[dict[str, Any]]) -> dict[str, Any]:
    """The result of the record, from the parts of every network."""
    rows, radii, parts = (_long(records, kind) for kind in ("cells", "radii", "parts"))
    resolved = rows[(rows["rise"] > RESOLVED * rows["rise_se"]) & rows["share"].notna()]
    shares, order = _shares(resolved), _orders(rows)
    limits = _limits(radii) if len(radii) else []
    return {
        "networks": len(records),
        "stages": _stages(rows),
        "rungs": [".".join(r) for r in _rungs(resolved)],
        "cells": _cells(resolved),
        "unresolved": int((len(rows) - len(resolved)) // rows.groupby(RUNG).ngroups),
        "shares": shares,
        "parts": _parts(parts[parts["rise"] > RESOLVED * parts["rise_se"]]),
        "order": order,
        "radii": limits,
        "expectations": expectations(
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
    """Mean over networks with its standard error: trainings are strata, seeds their draws; n counts networks.

    Strategies are averaged first, since all are measured on the same network, images and partners.
    """
    table = cells.groupby(["training", "seed"])[value].mean().unstack("seed").dropna()
    values = table.to_numpy(dtype=float)
    if values.shape[0] and values.shape[1] > 1:
        e = Estimate.from_strata(values)
        return {"mean": round(e.mean, 5), "se": round(e.se, 5), "n": values.size, "df": values.size - len(values)}
    return {
        "mean": round(float(cells[value].mean()), 5),
        "se": None,
        "n": cells[["training", "seed"]].drop_duplicates().shape[0],
        "df": 0,
    }


def _interval(share: dict[str, Any]) -> list[float] | None:
    """Student's 95 % interval; None where there is one seed."""
    if share["se"] is None:
        return None
    half = float(stats.t.ppf(0.975, share["df"])) * share["se"]
    return [round(share["mean"] - half, 5), round(share["mean"] + half, 5)]


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
                "interval_95": _interval(share),
                "over_cells": _spread(means),
                "miss": float(miss.mean()),
                "within_a_tenth": int((miss <= 0.1).sum()),
            }
        )
    return out


def _stages(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """How far training has come and what mixing adds: loss at the data and measured rise, by stage."""
    measured = rows[(rows["law"] == "exact") & (rows["rung"] == "measured")]
    out = []
    for key, group in _grouped(measured, GROUP):
        line: dict[str, Any] = dict(zip(GROUP, key, strict=True))
        line["networks"] = len(group[["training", "seed"]].drop_duplicates())
        line["told"] = float((group["rise"] > RESOLVED * group["rise_se"]).mean())
        out.append(line | {k: _spread(group[k].to_numpy(dtype=float)) for k in ("clean", "rise")})
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
    """For each kind of network and rung: rank correlation of predicted and measured order of the strategies.

    ``choice`` is left out: its loss is the mean of Mixup's and CutMix's, so that its place between them is no finding.
    """
    lines = []
    rows = rows[rows["strategy"] != "choice"].assign(share=lambda r: r["share"].astype(float))
    for key, group in _grouped(rows, [*GROUP, "training", "seed", *RUNG]):
        predicted, measured = group["share"].to_numpy() * group["rise"].to_numpy(), group["rise"].to_numpy()
        enough = len(group) >= 3 and np.isfinite(predicted).all() and np.ptp(predicted) > 1e-9 * np.ptp(measured)
        if enough and key[-3:] != ("exact", "all", "measured"):
            found = rank_agreement(predicted, measured)
            labels = dict(zip([*GROUP, "training", "seed", *RUNG], key, strict=True))
            lines.append({**labels, "kendall": found.kendall, "spearman": found.spearman})
    out = []
    for key, group in _grouped(pd.DataFrame(lines), [*GROUP, *RUNG]) if lines else []:
        own = group.assign(strategy="all")  # one stratum for each training, its seeds as draws
        out.append(
            {
                **dict(zip([*GROUP, *RUNG], key, strict=True)),
                "networks": len(group),
                "kendall": _over(own, "kendall"),
                "spearman": _over(own, "spearman"),
                "same_order": int((group["kendall"] > 1 - 1e-9).sum()),
            }
        )
    return out


def _limits(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Radius of each rung for each alpha: over networks and strategies, and the median for each strategy.

    A radius of 0 is one below the smallest scale; ``below`` is the share of these.
    """
    out = []
    for key, group in _grouped(rows, [*GROUP, *RUNG]):
        low, high = np.quantile(group["radius"], (0.25, 0.75))
        out.append(
            {
                **dict(zip([*GROUP, *RUNG], key, strict=True)),
                "values": len(group),
                "below": float((group["radius"] == 0).mean()),
                "over_cells": {**_spread(group["radius"].to_numpy()), "quartiles": [low, high]},
                "by_strategy": group.groupby("strategy")["radius"].median().round(4).to_dict(),
            }
        )
    return out


def _checks(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """What must hold whatever the networks are."""
    told = check("mixing raises the loss clearly somewhere", len(rows) > 0, f"{len(rows)} shares are told")
    if not len(rows):
        return [told]
    wide = rows.pivot_table(index=[*GROUP, *CELL, "seed"], columns=RUNG, values="share", sort=False)
    kinked = wide.index.get_level_values("network").str.contains("relu")
    out = [
        told,
        _between(rows),
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


def _between(rows: pd.DataFrame) -> dict[str, Any]:
    """Choice draws Mixup or CutMix with equal odds: its measured rise is the mean of theirs, within the errors."""
    name = "the measured rise of Mixup or CutMix is the mean of theirs"
    measured = rows[(rows["law"] == "exact") & (rows["rung"] == "measured")]
    wide = measured.pivot_table(index=[*GROUP, "training", "seed"], columns="strategy", values=["rise", "rise_se"])
    if not {"choice", "mixup", "cutmix"} <= set(measured["strategy"]):
        return check(name, True, "not all three were measured")
    rise, se = wide["rise"], wide["rise_se"]
    away = rise["choice"] - (rise["mixup"] + rise["cutmix"]) / 2
    z = (away / np.sqrt(se["choice"] ** 2 + (se["mixup"] ** 2 + se["cutmix"] ** 2) / 4)).dropna()
    return check(name, bool(z.abs().max() < 5), f"largest of {len(z)} z scores {z.abs().max():.1f}")
