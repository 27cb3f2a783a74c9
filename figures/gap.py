"""Predicted against measured rise of the mixed loss, for the three points of expansion."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from figures.style import COLOURS, MARKERS, NAMES, PAGE, load, save

CAPTION = (
    "Rise of the mixed loss over the loss at the data: second-order prediction against measurement, digits. One point "
    "for each training strategy, activation (filled: softplus; open: ReLU) and mixing strategy (colour), mean over "
    "seeds; bars are standard errors over seeds. On the line the expansion explains the whole rise. Left: around the "
    "data, as published; middle: around the conditional mean; right: around the mask-conditional mean without R3."
)
TICKS = (0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
PANELS = (
    ("data", "predicted", "at the data"),
    ("mean", "predicted", "at the conditional mean"),
    ("mask", "gauss_newton", "at the mask, without $R_3$"),
)


def draw(records: Path, out: Path) -> list[Path]:
    """Three log-log panels with the diagonal."""
    rows = [r for r in load(records, "expansion_gap")["summary"] if r["law"] == "exact"]
    figure = Figure(figsize=(PAGE, 2.9))
    axes = figure.subplots(1, 3, sharex=True, sharey=True)
    for ax, (at, kind, title) in zip(axes, PANELS, strict=True):
        for row in rows:
            if row["at"] == at:
                _point(ax, row, kind)
        ax.set_title(title)
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.plot(TICKS[:: len(TICKS) - 1], TICKS[:: len(TICKS) - 1], color="0.6", linewidth=0.8, zorder=0)
        ax.set_xlim(0.45, 5)
        ax.set_xticks([0.5, 1, 2, 4], labels=["0.5", "1", "2", "4"])
        ax.set_yticks(TICKS[1:-1], labels=[f"{t:g}" for t in TICKS[1:-1]])
        ax.minorticks_off()
        ax.set_xlabel("measured rise (nats)")
    axes[0].annotate("networks trained\nwithout mixing", (1.05, 0.045), color="0.4", fontsize=7)
    axes[0].set_ylabel("predicted rise (nats)")
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


def _point(ax: Axes, row: dict[str, Any], kind: str) -> None:
    clean, measured, colour = row["clean"]["mean"], row["measured"], COLOURS[row["strategy"]]
    explained = row["explained_gn" if kind == "gauss_newton" else "explained"]
    rise = measured["mean"] - clean
    predicted = row["predicted"]["mean"] - (row["r3"]["mean"] if kind == "gauss_newton" else 0.0) - clean
    # The bar of the predicted rise is that of the share: networks differ in both rises together.
    error = explained["se"] * rise
    ax.errorbar(
        rise,
        predicted,
        xerr=measured["se"],
        yerr=[[min(error, 0.9 * predicted)], [error]],
        color=colour,
        marker=MARKERS[row["strategy"]],
        markerfacecolor=colour if row["activation"] == "softplus" else "white",
        markersize=3.5,
        markeredgewidth=0.8,
        elinewidth=0.6,
        linestyle="none",
    )
