"""Terms and rise under each strategy against the parameter alpha of its Beta law, as shares of those at alpha = 1."""

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
    "Does alpha below 1 do anything? Shares of the value at alpha = 1. Lines: R1, R2 and R3 at the data (exact law); "
    "points: measured rise of the mixed loss, the same in the three panels of a row; digits, above on networks trained "
    "with the strategy itself at alpha = 1, below on networks trained without mixing. Means over n = {networks} "
    "networks; bands and bars are one standard error over them. Where the points follow a line, the rise changes with "
    "alpha as that term does. At alpha = {least:g}, {most} keeps the most of its own rise "
    "({kept:.0f} %); the least that is kept is {lost:.0f} %. Lines that coincide hide each other; points are moved "
    "sideways a little, so that bars can be told apart. Upper right: the mean of a_jj at {size}x{size} pixels, by the "
    "law alone, no sampling error; dashed: CutMix whose box stays inside the image."
)
INSIDE = "cutmix-inside"
TERMS = {"r1": "$R_1$", "r2": "$R_2$", "r3": "$R_3$"}
TICKS = {0.05: ".05", 0.1: "", 0.2: ".2", 0.5: "", 1: "1", 2: "", 4: "4"}
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
    """A row of panels for each kind of training, a column for each term; the law alone beside them."""
    result = load(records, "alpha_sweep")
    strategies = list(dict.fromkeys(r["strategy"] for r in result["summary"]))
    figure = Figure(figsize=(PAGE, 4.2))
    axes = figure.subplots(2, len(TERMS) + 1, sharex=True, sharey=True)
    rows = {
        "trained with the strategy": [r for r in result["summary"] if r["training"] == r["strategy"]],
        "trained without mixing": [r for r in result["summary"] if r["training"] == "vanilla"],
    }
    for line, (training, cells) in zip(axes, rows.items(), strict=True):
        for ax, (term, name) in zip(line, TERMS.items(), strict=False):
            _networks(ax, cells, strategies, term)
            ax.set_title(f"{name} and measured rise")
        line[0].set_ylabel(f"{training}\nshare of the value at alpha = 1")
    law, corner = axes[:, -1]
    size = max(c["size"] for c in result["laws"])
    for curve in result["laws"]:
        if curve["size"] == size:
            _law(law, curve)
    law.set_title(f"the law alone, {size}x{size}")
    for ax in (*axes[:, :-1].flat, law):
        ax.set_xscale("log")
        ax.set_xticks(list(TICKS), labels=list(TICKS.values()))
        ax.tick_params(labelbottom=True)
        ax.minorticks_off()
        ax.set_ylim(0, None)
        ax.axvline(1, color="0.85", linewidth=0.8, zorder=0)
        ax.axhline(1, color="0.85", linewidth=0.8, zorder=0)
        ax.set_xlabel("alpha")
    handles = [Line2D([], [], color=COLOURS[s], marker=MARKERS[s], label=NAMES[s]) for s in strategies]
    handles.append(Line2D([], [], color=COLOURS["cutmix"], linestyle="--", label="CutMix, box inside"))
    corner.axis("off")
    corner.legend(handles=handles, loc="center").set_in_layout(False)
    return save(figure, out, "alpha")


def _networks(ax: Axes, rows: list[dict[str, Any]], strategies: list[str], term: str) -> None:
    """The term as lines with bands, the measured rise as points."""
    for k, name in enumerate(strategies):
        cells = [r for r in rows if r["strategy"] == name]
        x = [r["alpha"] for r in cells]
        mean, se = (np.array([r[f"{term}_share"][k] for r in cells]) for k in ("mean", "se"))
        ax.fill_between(x, mean - se, mean + se, color=COLOURS[name], alpha=0.2, linewidth=0)
        ax.plot(x, mean, color=COLOURS[name], linewidth=1)
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
