"""DropMix: accuracy against the share of mixed dimensions, what mixing keeps, hardness in both views."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from figures.style import PAGE, load, save

CAPTION = (
    "Against the share of mixed dimensions, from hard negatives that are not mixed (0) to Mixup of all dimensions (1); "
    "the dotted line is the published share, one in six. Left: test accuracy minus that without mixing, paired by "
    "seed; bars are 95 % intervals over seeds (Student's t), filled where all seeds were run, open where a few. "
    "Middle: what a mixed negative keeps: cosine with the original (circles) and hardness over that of the original "
    "(squares), local view filled, global open. Right: share of the held-out negatives in which a linear probe, fitted "
    "on unmixed ones, finds the class of the node whose features they carry. Encoders trained with DropMix; bands and "
    "bars are 95 % intervals over seeds."
)
CAPTION_HARDNESS = (
    "Hardness of the negatives, their largest cosine similarity to a positive of the same view, over all seeds; bins "
    "of 0.02. Rows: graphs; left encoders trained without mixing, right with DropMix. Shaded: what DropMix keeps of "
    "each view, between 15 and 95 % of the ranking (approximately, from the histogram)."
)
GRAPHS = {"cora": ("Cora", "#0072B2", "o"), "citeseer": ("CiteSeer", "#D55E00", "s")}
OTHER = ("#009E73", "#CC79A7", "#E69F00")
VIEWS = {"local": ("local view", "#0072B2"), "global": ("global view", "#D55E00")}
TITLES = {"none": "trained without mixing", "dropmix": "trained with DropMix"}
LOW, HIGH = 0.15, 0.95


def draw(records: Path, out: Path) -> list[Path]:
    """Accuracy, information, probe against the share."""
    result = load(records, "dropmix")
    graphs = list(dict.fromkeys(r["data"] for r in result["rows"]))
    figure = Figure(figsize=(PAGE, 2.6))
    left, middle, right = figure.subplots(1, 3)
    for k, data in enumerate(graphs):
        _, colour, marker = _look(data, k)
        _accuracy(left, [r for r in result["rows"] if r["data"] == data], colour, marker, 0.008 * (k - 0.5))
        own = [r for r in result["information"] if (r["data"], r["name"]) == (data, "dropmix")]
        _curve(middle, own, "similarity", colour, "o", 1)
        _curve(middle, own, "kept", colour, "s", 1)
        _curve(right, own, "probe", colour, marker, 100)
    left.axhline(0, color="0.6", linewidth=0.8, zorder=0)
    left.set_ylabel("points over no mixing")
    middle.set_ylabel("share kept")
    right.set_ylabel("class found by the probe (%)")
    for ax in (left, middle, right):
        ax.axvline(1 / 6, color="0.6", linewidth=0.8, linestyle=":", zorder=0)
        ax.set_xlabel("share of mixed dimensions")
    looks = [_look(d, k) for k, d in enumerate(graphs)]
    handles = [Line2D([], [], color=c, marker=m, label=name) for name, c, m in looks]
    handles += [
        Line2D([], [], color="0.3", marker="o", linestyle="none", label="cosine with the original"),
        Line2D([], [], color="0.3", marker="s", linestyle="none", label="hardness kept"),
        Line2D([], [], color="0.3", marker="D", linestyle="none", label="local view, or all seeds"),
        Line2D(
            [],
            [],
            color="0.3",
            marker="D",
            markerfacecolor="white",
            linestyle="none",
            label="global view, or few seeds",
        ),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return save(figure, out, "dropmix")


def draw_hardness(records: Path, out: Path) -> list[Path]:
    """Histograms of hardness in both views."""
    result = load(records, "dropmix")
    rows, edges = result["hardness"], np.array(result["bins"])
    graphs, names = (list(dict.fromkeys(r[k] for r in rows)) for k in ("data", "name"))
    figure = Figure(figsize=(PAGE, 1.6 * len(graphs) + 0.4))
    axes = figure.subplots(len(graphs), len(names), sharex=True, squeeze=False)
    for row in rows:
        ax = axes[graphs.index(row["data"]), names.index(row["name"])]
        for view, (label, colour) in VIEWS.items():
            _histogram(ax, np.array(row["counts"][view], dtype=float), edges, colour, label)
        ax.set_title(f"{_look(row['data'], 0)[0]}, {TITLES[row['name']]}")
        ax.set(xlim=(0, 1), ylim=(0, None))
    for ax in axes[-1]:
        ax.set_xlabel("hardness")
    for ax in axes[:, 0]:
        ax.set_ylabel("density")
    handles = [Line2D([], [], color=c, label=label) for label, c in VIEWS.values()]
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return save(figure, out, "dropmix_hardness")


def _look(data: str, k: int) -> tuple[str, str, str]:
    return GRAPHS.get(data, (data, OTHER[k % len(OTHER)], "D"))


def _accuracy(ax: Axes, rows: list[dict[str, Any]], colour: str, marker: str, shift: float) -> None:
    """Points of the sweep, and those of the main comparison at 0, 1/6 and 1."""
    main = {"hard": 0.0, "dropmix": 1 / 6, "mixup": 1.0}
    points = [(main[r["name"]], r, True) for r in rows if r["name"] in main]
    points += [(float(r["name"].split()[1]), r, False) for r in rows if r["name"].startswith("share ")]
    points.sort(key=lambda p: p[0])
    x, d = [p[0] + shift for p in points], [p[1]["published_minus_none"] for p in points]
    ax.plot(x, [100 * v["mean"] for v in d], color=colour, linewidth=0.8)
    for place, value, (_, _, full) in zip(x, d, points, strict=True):
        half = 0 if value["half"] is None else 100 * value["half"]
        ax.errorbar(
            place, 100 * value["mean"], yerr=half, color=colour, marker=marker, elinewidth=0.7,
            markerfacecolor=colour if full else "white",
        )  # fmt: skip


def _curve(ax: Axes, rows: list[dict[str, Any]], key: str, colour: str, marker: str, factor: float) -> None:
    for view in VIEWS:
        own = sorted((r for r in rows if r["view"] == view), key=lambda r: r["share"])
        x = np.array([r["share"] for r in own])
        mean = factor * np.array([r[key]["mean"] for r in own])
        half = factor * np.array([r[key]["half"] or 0.0 for r in own])
        ax.fill_between(x, mean - half, mean + half, color=colour, alpha=0.15, linewidth=0)
        ax.plot(
            x, mean, color=colour, marker=marker, linewidth=0.9, markersize=3.5,
            markerfacecolor=colour if view == "local" else "white",
        )  # fmt: skip


def _histogram(ax: Axes, counts: np.ndarray, edges: np.ndarray, colour: str, label: str) -> None:
    density = counts / counts.sum() / np.diff(edges)
    ax.stairs(density, edges, color=colour, linewidth=1.0, label=label)
    cumulated = np.concatenate([[0.0], counts.cumsum()]) / counts.sum()
    low, high = np.interp([LOW, HIGH], cumulated, edges)
    kept = np.where((edges[:-1] >= low) & (edges[1:] <= high), density, 0.0)
    ax.stairs(kept, edges, color=colour, fill=True, alpha=0.2)
