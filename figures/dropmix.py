"""DropMix: accuracy against the share of mixed dimensions, what mixing keeps, hardness in both views."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from figures.style import GREY, INDIGO, PAGE, ROSE, TEAL, WINE, load, save

CAPTION = (
    "Against the share of mixed dimensions, from hard negatives that are not mixed (0) to Mixup of all dimensions (1); "
    "the dotted line is the published share, one in six. First: test accuracy minus that without mixing, paired by "
    "seed; above 0 mixing helps; filled: mean over all n = {seeds} seeds, open: over fewer ({fewest} or more). The "
    "others: encoders trained with DropMix, n = {seeds} seeds; filled, solid: local view; open, dashed: global. "
    "Second: share of the held-out negatives in which a linear probe, fitted on unmixed ones, finds the class of the "
    "node whose features they carry. Third and fourth: what a mixed negative keeps, cosine with the original and "
    "hardness over that of the original; the nearer to 1, the more is kept. Bars are 95 % intervals over seeds "
    "(Student's t), none where there is one seed."
)
CAPTION_HARDNESS = (
    "Hardness of the negatives, their largest cosine similarity to a positive of the same view, over all n = {seeds} "
    "seeds together; bins of 0.02; scales differ between panels. Rows: graphs; columns: how the encoders were trained. "
    "Shaded: what DropMix keeps of each view, between 15 and 95 % of the ranking (approximately, from the histogram). "
    "Counts of all negatives: no error bars."
)
SHARE = 1 / 6  # the published one
MAIN = {"hard": 0.0, "dropmix": SHARE, "mixup": 1.0}  # the share of each training of the main comparison
GRAPHS = {"cora": ("Cora", INDIGO, "o"), "citeseer": ("CiteSeer", WINE, "s")}
OTHER = (TEAL, ROSE, GREY)
VIEWS: dict[str, tuple[str, str, Any]] = {  # label, colour, line style
    "local": ("local view", TEAL, "-"),
    "global": ("global view", ROSE, "--"),
}
TITLES = {"none": "trained without mixing", "dropmix": "trained with DropMix"}
LOW, HIGH = 0.15, 0.95
MEASURES = {  # of the record: label of the axis, factor
    "probe": ("class found by the probe (%)", 100),
    "similarity": ("cosine with the original", 1),
    "kept": ("hardness over the original's", 1),
}


def caption(records: Mapping[str, Any]) -> str:
    """The caption of the curves with the numbers of the record."""
    rows = records["dropmix"]["result"]["rows"]
    seeds = [r["published_minus_none"]["seeds"] for r in rows if r["name"] in MAIN or r["name"].startswith("share ")]
    return CAPTION.format(seeds=max(seeds), fewest=min(seeds))


def caption_hardness(records: Mapping[str, Any]) -> str:
    """The caption of the histograms with the numbers of the record."""
    return CAPTION_HARDNESS.format(seeds=max(r["seeds"] for r in records["dropmix"]["result"]["rows"]))


def draw(records: Path, out: Path) -> list[Path]:
    """Accuracy and what mixing keeps, against the share."""
    result = load(records, "dropmix")
    graphs = list(dict.fromkeys(r["data"] for r in result["rows"]))
    figure = Figure(figsize=(PAGE, 4.3))
    axes = figure.subplots(2, 2, sharex=True).ravel()
    for k, data in enumerate(graphs):
        _, colour, marker = _look(data, k)
        shift = 0.012 * (k - (len(graphs) - 1) / 2)
        _accuracy(axes[0], [r for r in result["rows"] if r["data"] == data], colour, marker, shift)
        own = [r for r in result["information"] if (r["data"], r["name"]) == (data, "dropmix")]
        for ax, (key, (_, factor)) in zip(axes[1:], MEASURES.items(), strict=True):
            _curve(ax, own, key, (colour, marker), factor, shift)
    axes[0].axhline(0, color="0.6", linewidth=0.8, zorder=0)
    axes[0].set_ylabel("accuracy gain (points)")
    for ax, (label, _) in zip(axes[1:], MEASURES.values(), strict=True):
        ax.set_ylabel(label)
    for ax in axes:
        ax.axvline(SHARE, color="0.6", linewidth=0.8, linestyle=":", zorder=0)
    for ax in axes[2:]:
        ax.set_xlabel("share of mixed dimensions")
    few: dict[str, Any] = {"color": "0.3", "marker": "D", "markersize": 3.5, "linestyle": "none"}
    seeds = [Line2D([], [], label="all seeds", **few), Line2D([], [], label="few", markerfacecolor="white", **few)]
    axes[0].legend(handles=seeds, loc="lower right", bbox_to_anchor=(1, 1), ncols=2, borderaxespad=0, handletextpad=0.2)
    handles = [
        Line2D([], [], color=c, marker=m, label=name) for name, c, m in (_look(d, k) for k, d in enumerate(graphs))
    ]
    handles += [
        Line2D([], [], label=label, linestyle=style, **_face("0.3", "D", view))
        for view, (label, _, style) in VIEWS.items()
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), handlelength=2.6)
    return save(figure, out, "dropmix")


def draw_hardness(records: Path, out: Path) -> list[Path]:
    """Histograms of hardness in both views."""
    result = load(records, "dropmix")
    rows, edges = result["hardness"], np.array(result["bins"])
    graphs, names = (list(dict.fromkeys(r[k] for r in rows)) for k in ("data", "name"))
    figure = Figure(figsize=(PAGE, 1.5 * len(graphs) + 0.5))
    axes = figure.subplots(len(graphs), len(names), sharex=True, squeeze=False)
    for row in rows:
        ax = axes[graphs.index(row["data"]), names.index(row["name"])]
        for view, (_, colour, style) in VIEWS.items():
            _histogram(ax, np.array(row["counts"][view], dtype=float), edges, colour, style)
        ax.set_title(f"{_look(row['data'], 0)[0]}, {TITLES.get(row['name'], row['name'])}")
        ax.set(xlim=(0, 1), ylim=(0, None))
    for ax in axes[-1]:
        ax.set_xlabel("hardness (cosine similarity)")
    for ax in axes[:, 0]:
        ax.set_ylabel("density")
    handles = [Line2D([], [], color=c, linestyle=style, label=label) for label, c, style in VIEWS.values()]
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return save(figure, out, "dropmix_hardness")


def _look(data: str, k: int) -> tuple[str, str, str]:
    return GRAPHS.get(data, (data, OTHER[k % len(OTHER)], "D"))


def _accuracy(ax: Axes, rows: list[dict[str, Any]], colour: str, marker: str, shift: float) -> None:
    """Points of the sweep, and those of the main comparison at 0, 1/6 and 1."""
    every = max(r["published_minus_none"]["seeds"] for r in rows)
    points = [(MAIN[r["name"]], r) for r in rows if r["name"] in MAIN]
    points += [(float(r["name"].split()[1]), r) for r in rows if r["name"].startswith("share ")]
    points.sort(key=lambda p: p[0])
    x, d = [p + shift for p, _ in points], [r["published_minus_none"] for _, r in points]
    ax.plot(x, [100 * v["mean"] for v in d], color=colour, linewidth=0.8)
    for place, value in zip(x, d, strict=True):
        half = None if value["half"] is None else 100 * value["half"]
        ax.errorbar(
            place, 100 * value["mean"], yerr=half, color=colour, marker=marker, elinewidth=0.7,
            markerfacecolor=colour if value["seeds"] == every else "white",
        )  # fmt: skip


def _curve(ax: Axes, rows: list[dict[str, Any]], key: str, look: tuple[str, str], factor: float, shift: float) -> None:
    for view, (_, _, style) in VIEWS.items():
        own = sorted((r for r in rows if r["view"] == view), key=lambda r: r["share"])
        mean = factor * np.array([r[key]["mean"] for r in own])
        half = factor * np.array([r[key]["half"] or 0.0 for r in own])
        x = np.array([r["share"] for r in own]) + shift
        ax.errorbar(x, mean, half, linestyle=style, linewidth=0.9, elinewidth=0.7, **_face(*look, view))


def _face(colour: str, marker: str, view: str) -> dict[str, Any]:
    face = colour if view == "local" else "white"
    return {"color": colour, "marker": marker, "markersize": 3.5, "markerfacecolor": face, "markeredgewidth": 0.8}


def _histogram(ax: Axes, counts: np.ndarray, edges: np.ndarray, colour: str, style: str) -> None:
    density = counts / counts.sum() / np.diff(edges)
    ax.stairs(density, edges, color=colour, linewidth=1.0, linestyle=style)
    cumulated = np.concatenate([[0.0], counts.cumsum()]) / counts.sum()
    low, high = np.interp([LOW, HIGH], cumulated, edges)
    inside = np.clip(edges, low, high)  # bins that end where the ranking is cut
    ax.stairs(np.where(np.diff(inside) > 0, density, 0.0), inside, color=colour, fill=True, alpha=0.25, linewidth=0)
