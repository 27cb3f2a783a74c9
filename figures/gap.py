"""Predicted against measured rise of the mixed loss, for the three points of expansion."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from figures.style import COLOURS, MARKERS, NAMES, PAGE, load, save

CAPTION = (
    "Rise of the mixed loss over the loss at the data: second-order prediction against measurement, digits, exact law. "
    "One point for each training strategy, activation (filled: softplus; open: ReLU) and mixing strategy (colour and "
    "marker), {points} a panel; mean over n = {networks} networks, bars are one standard error over them. On the line "
    "the expansion explains the whole rise; below it, too little. Left: around the data, as published (median share "
    "explained {data:.0f} %); middle: around the conditional mean ({mean:.0f} %); right: around the mask-conditional "
    "mean without R3 ({mask:.0f} %)."
)
TICKS = (0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
PANELS = (
    ("data", "predicted", "at the data"),
    ("mean", "predicted", "at the conditional mean"),
    ("mask", "gauss_newton", "at the mask, without $R_3$"),
)


def caption(records: Mapping[str, Any]) -> str:
    """The caption with the numbers of the record."""
    rows = [r for r in records["expansion_gap"]["result"]["summary"] if r["law"] == "exact"]
    medians = {}
    for at, kind, _ in PANELS:
        rises = [_rises(r, kind) for r in rows if r["at"] == at]
        medians[at] = 100 * float(np.median([predicted / measured for measured, predicted in rises]))
    return CAPTION.format(points=len(rises), networks=rows[0]["networks"], **medians)


def draw(records: Path, out: Path) -> list[Path]:
    """Three log-log panels with the diagonal."""
    rows = [r for r in load(records, "expansion_gap")["summary"] if r["law"] == "exact"]
    figure = Figure(figsize=(PAGE, 2.9))
    axes = figure.subplots(1, 3, sharex=True, sharey=True)
    points = [(*_rises(r, kind), r) for at, kind, _ in PANELS for r in rows if r["at"] == at]
    low, high = min(p[1] for p in points) / 1.5, 1.5 * max(max(p[:2]) for p in points)
    for ax, (at, kind, title) in zip(axes, PANELS, strict=True):
        for strategy, activation in dict.fromkeys((r["strategy"], r["activation"]) for r in rows):
            own = [r for r in rows if (r["at"], r["strategy"], r["activation"]) == (at, strategy, activation)]
            _points(ax, own, kind)
        ax.set_title(title)
        ax.plot((low, high), (low, high), color="0.6", linewidth=0.8, zorder=0)
        ax.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, high), aspect="equal")
        ticks = [t for t in TICKS if low < t < high]
        ax.set_xticks(ticks, labels=[f"{t:g}" for t in ticks])
        ax.set_yticks(ticks, labels=[f"{t:g}" for t in ticks])
        ax.minorticks_off()
        ax.set_xlabel("measured rise (nats)")
    axes[0].set_ylabel("predicted rise (nats)")
    axes[0].annotate(
        "all explained", (0.1, 0.1), xytext=(-6, 8), textcoords="offset points", rotation=45, color="0.4", fontsize=7
    )
    vanilla = [p for p in points if p[2]["at"] == "data" and p[2]["training"] == "vanilla"]
    corner = (min(p[0] for p in vanilla), max(p[1] for p in vanilla))
    axes[0].annotate(
        "trained\nwithout\nmixing",
        corner,
        xytext=(-6, -8),
        textcoords="offset points",
        ha="right",
        va="center",
        color="0.4",
        fontsize=7,
    )
    strategies = list(dict.fromkeys(r["strategy"] for r in rows))
    handles = [
        Line2D([], [], color=COLOURS[s], marker=MARKERS[s], linestyle="none", label=NAMES[s]) for s in strategies
    ]
    handles += [
        Line2D([], [], color="0.3", marker="o", linestyle="none", label="softplus"),
        Line2D([], [], color="0.3", marker="o", markerfacecolor="white", linestyle="none", label="ReLU"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), columnspacing=1.2, handletextpad=0.2)
    return save(figure, out, "gap")


def _rises(row: dict[str, Any], kind: str) -> tuple[float, float]:
    """Measured and predicted rise over the loss at the data."""
    clean, predicted = row["clean"]["mean"], row["predicted"]["mean"]
    if kind == "gauss_newton":
        predicted -= row["r3"]["mean"]
    return row["measured"]["mean"] - clean, predicted - clean


def _points(ax: Axes, rows: list[dict[str, Any]], kind: str) -> None:
    """Points of one strategy and activation."""
    rise, predicted = np.array([_rises(r, kind) for r in rows]).T
    colour = COLOURS[rows[0]["strategy"]]
    # The bar of the predicted rise is that of the share: networks differ in both rises together.
    error = rise * [r["explained_gn" if kind == "gauss_newton" else "explained"]["se"] for r in rows]
    ax.errorbar(
        rise,
        predicted,
        xerr=[r["measured"]["se"] for r in rows],
        yerr=[np.minimum(error, 0.9 * predicted), error],
        color=colour,
        marker=MARKERS[rows[0]["strategy"]],
        markerfacecolor=colour if rows[0]["activation"] == "softplus" else "white",
        markersize=3.5,
        markeredgewidth=0.8,
        elinewidth=0.6,
        linestyle="none",
    )
