"""Tables and sentences of the study of the order ladder, made from its record."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np

POINTS = {
    "data": "data",
    "mean": "conditional mean",
    "mask": "mask-conditional mean",
    "class": "partner's class mean",
    "local": "blurred partner",
}
RUNGS = {"base": "base", "r1": "+ R1", "r2": "+ R2", "r3": "+ R3", "linearised": "linearised", "quadratic": "quadratic"}
LAWS = {"exact": "exact", "paper": "paper's"}

Record = dict[str, Any]
Row = dict[str, Any]


def blocks(records: dict[str, Record]) -> dict[str, str]:
    """The generated blocks of ``order_ladder`` by name, and those of finished runs where their record is there."""
    record, runs = records["order_ladder"], records.get("order_ladder_runs")
    return {
        "ladder-shares": share_table(record),
        "ladder-small-alpha": share_table(record, alpha=min(record["config"]["alphas"])),
        "ladder-parts": part_table(record),
        "ladder-order": order_table(record),
        "ladder-radius": radius_table(record),
        "ladder-stages": stage_table(record),
        "ladder-checkpoints": checkpoint_tables(record),
        "ladder-expectations": expectation_list(record),
        "ladder-setting": setting(record),
        "ladder-sentence": sentence(record),
        **({} if runs is None else run_blocks(runs)),
    }


def run_blocks(record: Record) -> dict[str, str]:
    """The same for networks of `experiments.train`, one table of shares and one of orders for each data set."""
    sets = _kinds(record["result"]["shares"], "data")
    shares = "\n\n".join(f"{name}:\n\n{share_table(record, data=name)}" for name in sets)
    orders = "\n\n".join(f"{name}:\n\n{order_table(record, data=name)}" for name in sets)
    return {"ladder-runs": shares, "ladder-runs-order": orders, "ladder-runs-setting": setting(record)}


def sentence(record: Record) -> str:
    """The main result in one sentence: ranges of shares over cells, exact law but for the published form."""
    rows = _rows(record, "shares", "trained", None, "digits")
    parts = []
    for network in _kinds(rows, "network"):
        found = {
            name: _find(rows, network=network, law=law, at=at, rung=rung)
            for name, (law, at, rung) in {
                "second order at the data, paper's law": ("paper", "data", "r3"),
                "network linearised at the data, exact loss": ("exact", "data", "linearised"),
                "Gauss-Newton at the mask": ("exact", "mask", "r2"),
                "Gauss-Newton with class means": ("exact", "class", "r2"),
            }.items()
        }
        words = [
            f"{name} {100 * r['over_cells']['min']:.0f} to {100 * r['over_cells']['max']:.0f} %, {r['within_a_tenth']} "
            "cells within a tenth"
            for name, r in found.items()
            if r is not None
        ]
        cells = max(r["cells"] for r in found.values() if r is not None)
        parts.append(f"{network} ({cells} cells of training and strategy): {'; '.join(words)}")
    return (
        f"Share of the measured rise on trained networks of digits, smallest and largest cell. {'. '.join(parts)}. "
        f"({record['result']['networks']} networks; `{record['command']}`.)"
    )


def share_table(record: Record, *, stage: str = "trained", alpha: float | None = None, data: str = "digits") -> str:
    """Shares of the rise in %, as Markdown: mean ± standard error, smallest and largest cell in brackets."""
    return _rung_table(_rows(record, "shares", stage, alpha, data), _share)


def part_table(record: Record, *, stage: str = "trained", alpha: float | None = None, data: str = "digits") -> str:
    """What of the rise Gauss-Newton leaves to the curvature of the loss, and linearisation to that of the network."""
    rows = [r for r in _rows(record, "parts", stage, alpha, data) if r["law"] == "exact"]
    lines = ["| net | expanded at | curvature of the loss | curvature of the network |", "|---|---|--:|--:|"]
    for network in _kinds(rows, "network"):
        for at, name in POINTS.items():
            found = [_find(rows, network=network, at=at, part=p) for p in ("loss", "network")]
            if any(found):
                lines.append(f"| {network} | {name} | {' | '.join(_share(r) for r in found)} |")
    return "\n".join(lines)


def order_table(record: Record, *, stage: str = "trained", alpha: float | None = None, data: str = "digits") -> str:
    """Kendall's tau between predicted and measured order of the strategies, mean ± standard error over networks.

    In brackets the number of networks with the very order that was measured. The last row of a law is the loss measured
    under it, where that is not the law of training.
    """
    return _rung_table(_rows(record, "order", stage, alpha, data), _tau)


def _rung_table(rows: list[Row], cell: Callable[[Row | None], str]) -> str:
    """A row for each network, law and point, a column for each rung."""
    lines = [f"| net | law | expanded at | {' | '.join(RUNGS.values())} |", "|---|---|---|" + "--:|" * len(RUNGS)]
    for network in _kinds(rows, "network"):
        for law in LAWS:
            for at, name in POINTS.items():
                found = [_find(rows, network=network, law=law, at=at, rung=r) for r in RUNGS]
                if any(found):
                    lines.append(f"| {network} | {LAWS[law]} | {name} | {' | '.join(cell(r) for r in found)} |")
            measured = _find(rows, network=network, law=law, at="all", rung="measured")
            if measured is not None and law != "exact":
                rest = " |" * (len(RUNGS) - 1)
                lines.append(f"| {network} | {LAWS[law]} | measured under this law | {cell(measured)} |{rest}")
    return "\n".join(lines)


def checkpoint_tables(record: Record) -> str:
    """The table of shares for every checkpoint, as Markdown."""
    config = record["config"]
    return "\n\n".join(
        f"After {k} of {config['training']['epochs']} epochs:\n\n{share_table(record, stage=f'epoch {k}')}"
        for k in config["checkpoints"]
    )


def stage_table(record: Record) -> str:
    """Loss at the data and rise by mixing at each stage of training, as Markdown."""
    rows = [r for r in record["result"]["stages"] if r["alpha"] == max(record["config"]["alphas"])]
    lines = ["| net | stage | networks | loss at the data | rise by mixing | told (%) |", "|---|---|--:|--:|--:|--:|"]
    order = ["untrained", *(f"epoch {k}" for k in sorted(record["config"]["checkpoints"])), "trained"]
    for network, stage in product(_kinds(rows, "network"), order):
        row = _find(rows, network=network, stage=stage)
        if row is None:
            continue
        spans = [f"{row[k]['median']:.4f} [{row[k]['min']:.4f}, {row[k]['max']:.4f}]" for k in ("clean", "rise")]
        lines.append(f"| {network} | {stage} | {row['networks']} | {' | '.join(spans)} | {100 * row['told']:.0f} |")
    return "\n".join(lines) + "\n\nMedian, smallest and largest over networks and strategies, in nats, alpha = 1."


def radius_table(record: Record, *, data: str = "digits") -> str:
    """Median radius over networks and strategies with quartiles, for each alpha; and by strategy for the largest."""
    rows = [r for r in record["result"]["radii"] if r["data"] == data and r["rung"] in ("r2", "r3", "linearised")]
    alphas = sorted({r["alpha"] for r in rows})
    strategies = list(rows[0]["by_strategy"]) if rows else []
    names = [*(f"alpha = {a:g}" for a in alphas), *strategies]
    lines = [f"| net | law | expanded at | rung | {' | '.join(names)} |", "|---|---|---|---|" + "--:|" * len(names)]
    for key in _kinds(rows, "network", "law", "at", "rung"):
        labels = dict(zip(("network", "law", "at", "rung"), key, strict=True))
        found = [_find(rows, alpha=a, **labels) for a in alphas]
        if found[-1] is None:
            continue
        least = min(record["config"]["scales"])
        medians = [found[-1]["by_strategy"].get(s, np.nan) for s in strategies]
        numbers = [_radius(r, least) for r in found] + [_scale(m, least) for m in medians]
        cells = (labels["network"], LAWS[labels["law"]], POINTS[labels["at"]], RUNGS[labels["rung"]])
        lines.append(f"| {' | '.join([*cells, *numbers])} |")
    return "\n".join(lines)


def expectation_list(record: Record) -> str:
    """What was expected before the first run and whether it came, as Markdown."""
    return "\n".join(
        f"- {'as expected' if e['holds'] else '**not** as expected'}: {e['check']} ({e['detail']})."
        for e in record["result"]["expectations"]
    )


def setting(record: Record) -> str:
    """Sizes, errors and command, for the line under a table."""
    config, result = record["config"], record["result"]
    scales = ", ".join(f"{t:g}" for t in config["scales"])
    return (
        "Shares in %: mean ± one standard error over networks (strategies averaged first; none where there is one "
        "seed), smallest and largest cell of training and strategy in brackets. "
        f"{result['networks']} networks, {config['images']} training images, {config['draws']} pairs each; radii: "
        f"{config['radius_images']} images, {config['radius_draws']} pairs, t = {scales}; cells whose rise is below 5 "
        f"standard errors ({result['unresolved']}) are left out. Prediction and measurement share their draws. R1 is "
        "sampled like all terms: where its expectation is 0 (conditional means, class mean), it takes noise out of R2 "
        f"and may add some alone. `{record['command']}`; {record['wall_s'] / 60:.0f} min of processor time; "
        f"{record['machine']}."
    )


def _rows(record: Record, part: str, stage: str, alpha: float | None, data: str) -> list[Row]:
    own = [r for r in record["result"][part] if (r["stage"], r["data"]) == (stage, data)]
    wanted = max((r["alpha"] for r in own), default=None) if alpha is None else alpha
    return [r for r in own if r["alpha"] == wanted]


def _kinds(rows: list[Row], *keys: str) -> list[Any]:
    """Values of the keys in the order in which they come first."""
    return list(dict.fromkeys(r[keys[0]] if len(keys) == 1 else tuple(r[k] for k in keys) for r in rows))


def _find(rows: list[Row], **labels: object) -> Row | None:
    return next((r for r in rows if all(r[k] == v for k, v in labels.items())), None)


def _share(row: Row | None) -> str:
    """In %: mean over cells ± its error over seeds, smallest and largest cell in brackets."""
    if row is None:
        return "-"
    low, high, se = row["over_cells"]["min"], row["over_cells"]["max"], row["share"]["se"]
    mean = f"{100 * row['share']['mean']:.1f}" + ("" if se is None else f" ± {100 * se:.1f}")
    return f"{mean} [{100 * low:.0f}, {100 * high:.0f}]"


def _tau(row: Row | None) -> str:
    return "-" if row is None else f"{_estimate(row['kendall'])} ({row['same_order']}/{row['networks']})"


def _radius(row: Row | None, least: float) -> str:
    if row is None:
        return "-"
    low, high = row["over_cells"]["quartiles"]
    return f"{_scale(row['over_cells']['median'], least)} [{_scale(low, least)}, {_scale(high, least)}]"


def _scale(value: float, least: float) -> str:
    return f"< {least:g}" if value < least else f"{value:.2f}"


def _estimate(value: dict[str, Any]) -> str:
    return f"{value['mean']:.2f}" + ("" if value["se"] is None else f" ± {value['se']:.2f}")
