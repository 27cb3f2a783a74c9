"""Strength of each strategy against the parameter alpha of its Beta law, as shares of that at alpha = 1."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from figures.style import COLOURS, MARKERS, NAMES, PAGE, load, save

CAPTION = (
    "Does alpha below 1 do anything? Shares of the value at alpha = 1. Left and middle: measured rise of the mixed "
    "loss (points; mean over n = {networks} networks, bars are one standard error over them, digits) and the "
    "input-gradient regularizer R2 at the data (lines, exact terms), on networks trained with the strategy itself at "
    "alpha = 1 and on networks trained without mixing. At alpha = {least:g}, {most} keeps the most of its own rise "
    "({kept:.0f} %); the least that is kept is {lost:.0f} %. Lines that coincide hide each other; points are moved "
    "sideways a little, so that bars can be told apart. Right: the mean of a_jj at {size}x{size} pixels, by the law "
    "alone, no sampling error; dashed: CutMix whose box stays inside the image."
)
INSIDE = "cutmix-inside"
TICKS = (0.05, 0.1, 0.2, 0.5, 1, 2, 4)
SPREAD = 1.035  # points of strategies side by side, so that their bars can be told apart


def caption(records: Mapping[str, Any]) -> str:
    """The caption with the numbers of the record."""
    result = records["alpha_sweep"]["result"]
    own = [r for r in result["summary"] if r["training"] == r["strategy"]]
    least = min(r["alpha"] for r in own)
    kept = sorted((r["rise_share"]["mean"], r["strategy"]) for r in own if r["alpha"] == least)
    return CAPTION.format(
        networks=own[0]["rise_share"]["n"],
        least=least,
        most=NAMES[kept[-1][1]],
        kept=100 * kept[-1][0],
        lost=100 * kept[0][0],
        size=max(c["size"] for c in result["laws"]),
    )


def draw(records: Path, out: Path) -> list[Path]:
    """Three panels on one scale."""
    result = load(records, "alpha_sweep")
    strategies = list(dict.fromkeys(r["strategy"] for r in result["summary"]))
    figure = Figure(figsize=(PAGE, 2.7))
    axes = figure.subplots(1, 3, sharey=True)
    own = [r for r in result["summary"] if r["training"] == r["strategy"]]
    vanilla = [r for r in result["summary"] if r["training"] == "vanilla"]
    _networks(axes[0], own, strategies)
    axes[0].set_title("trained with the strategy")
    _networks(axes[1], vanilla, strategies)
    axes[1].set_title("trained without mixing")
    size = max(c["size"] for c in result["laws"])
    for curve in result["laws"]:
        if curve["size"] == size:
            _law(axes[2], curve)
    axes[2].set_title(f"the law alone, {size}x{size}")
    for ax in axes:
        ax.set_xscale("log")
        ax.set_xticks(TICKS, labels=[f"{t:g}" for t in TICKS])
        ax.minorticks_off()
        ax.set_ylim(0, None)
        ax.axvline(1, color="0.85", linewidth=0.8, zorder=0)
        ax.axhline(1, color="0.85", linewidth=0.8, zorder=0)
        ax.set_xlabel("alpha")
    axes[0].set_ylabel("share of the value at alpha = 1")
    handles = [Line2D([], [], color=COLOURS[s], marker=MARKERS[s], label=NAMES[s]) for s in strategies]
    handles.append(Line2D([], [], color=COLOURS["cutmix"], linestyle="--", label="CutMix, box inside"))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), columnspacing=1.2)
    return save(figure, out, "alpha")


def _networks(ax: Axes, rows: list[dict[str, Any]], strategies: list[str]) -> None:
    """R2 as lines, the measured rise as points."""
    for k, name in enumerate(strategies):
        cells = [r for r in rows if r["strategy"] == name]
        x = [r["alpha"] for r in cells]
        ax.plot(x, [r["r2_share"]["mean"] for r in cells], color=COLOURS[name], linewidth=1)
        moved = SPREAD ** (k - (len(strategies) - 1) / 2)
        ax.errorbar(
            [moved * v for v in x],
            [r["rise_share"]["mean"] for r in cells],
            yerr=[r["rise_share"]["se"] for r in cells],
            color=COLOURS[name],
            marker=MARKERS[name],
            markersize=3.5,
            elinewidth=0.7,
            linestyle="none",
        )


def _law(ax: Axes, curve: dict[str, Any]) -> None:
    if curve["strategy"] == INSIDE:
        ax.plot(curve["alpha"], curve["share"], color=COLOURS["cutmix"], linestyle="--")
    else:
        name = curve["strategy"]
        ax.plot(curve["alpha"], curve["share"], color=COLOURS[name], marker=MARKERS[name], markersize=3.5)
