"""Figures of a model of one's own, from the record ``compare``: rungs of the order ladder; coefficients and R2."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from figures.own_style import colour, dashes, label, marker
from figures.style import LAWS, PAGE, load, save

RECORDS = ("compare",)
POINTS = (
    ("paper", "data", "data, paper's law"),
    ("exact", "data", "data"),
    ("exact", "mean", "conditional mean"),
    ("exact", "mask", "mask"),
    ("exact", "class", "class mean"),
    ("exact", "local", "blurred partner"),
)
RUNGS = {"base": "base", "r2": "+$R_1$+$R_2$", "r3": "+$R_3$", "linearised": "linearised", "quadratic": "quadratic"}
LOW, HIGH = -0.5, 2.0
LADDER = (
    "Share of the measured rise of the mixed loss that each rung of the order ladder predicts, {models}; {images} "
    "images of {data}. One marker for each strategy. Within a point of expansion, from left to right: base loss, with "
    "R1 and R2 (Gauss-Newton), with R3 (second order), the linearised and the quadratic network with the exact loss. "
    "On the line at 1 a rung explains the whole rise; shares beyond the axis are drawn at its ends. n = {draws} draws "
    "of mask and partner, the same as for the terms; bars are standard errors over these draws, paired with those of "
    "the measured loss."
)
COEFFICIENTS = (
    "Top: mean coefficient a(p) of the pixel pairs at distance |p| (bins of one pixel) in {height}x{width} images: "
    "what each strategy weights, whatever the model. {below}No sampling error where the moments of the strategy are "
    "known in closed form."
)
BELOW = (
    "Below, for {models}: the share of R2 at the data that comes from pairs up to this distance, so what the model "
    "makes of these weights; exact over these images. Where a curve lies above another, the strategy regularizes near "
    "pixels more. "
)


def draw_ladder(records: Path, out: Path) -> list[Path]:
    """One panel for each model."""
    result = load(records, "compare")
    models, strategies = [m["model"] for m in result["models"]], result["strategies"]
    columns = [
        (*point, rung)
        for point, rung in product(POINTS, RUNGS)
        if any((r["law"], r["at"], r["rung"]) == (*point[:2], rung) for r in result["ladder"])
    ]
    figure = Figure(figsize=(PAGE, 0.8 + 2.2 * len(models)))
    axes = figure.subplots(len(models), 1, squeeze=False, sharex=True)[:, 0]
    for ax, model in zip(axes, models, strict=True):
        rows = {(r["strategy"], r["law"], r["at"], r["rung"]): r for r in result["ladder"] if r["model"] == model}
        _ladder(ax, rows, strategies, columns)
        ax.set(title=model, ylabel="share of the rise")
    handles = [Line2D([], [], color=colour(s), marker=marker(s), linestyle="none", label=label(s)) for s in strategies]
    figure.legend(handles=handles, loc="outside lower center", ncols=5, columnspacing=1.2, handletextpad=0.2)
    return save(figure, out, "own_ladder")


def ladder_caption(records: Mapping[str, Any]) -> str:
    """What the ladder shows, with its numbers of images and draws."""
    result = records["compare"]["result"]
    return LADDER.format(
        models=_models(result),
        images=result["data"]["images"],
        data=result["data"]["name"].partition(":")[0],
        draws=result["terms"][0]["measured"]["n"],
    )


def draw_coefficients(records: Path, out: Path) -> list[Path]:
    """Coefficients, one panel for each law; below, R2 cumulated over distance, one row for each model that has it."""
    result = load(records, "compare")
    laws = [law for law in LAWS if any(r["law"] == law for r in result["laws"])]
    models = list(_drawn(result))
    styles, side = dashes(result["strategies"]), max(result["data"]["shape"][1:])
    figure = Figure(figsize=(PAGE, 0.6 + 2.0 * (1 + len(models))))
    axes = figure.subplots(1 + len(models), len(laws), squeeze=False, sharex=True, sharey="row")
    for column, law in enumerate(laws):
        axes[0, column].set_xlim(-0.02 * side, side)
        for r in (r for r in result["laws"] if r["law"] == law):
            _curve(axes[0, column], r["distance"], r["coefficient"], r["strategy"], styles[r["strategy"]])
        for line, model in zip(axes[1:], models, strict=True):
            for r in result["distance"]["rows"]:
                if (r["law"], r["model"]) == (law, model) and r["r2"]:
                    share = np.cumsum(r["value"]) / r["r2"]
                    _curve(line[column], range(len(share)), share, r["strategy"], styles[r["strategy"]])
        axes[0, column].set(title=LAWS[law], ylim=(0, None))
        axes[-1, column].set_xlabel("distance |p| between pixels (pixels)")
    axes[0, 0].set_ylabel("mean coefficient a(p)")
    for line, model in zip(axes[1:], models, strict=True):
        line[0].set(ylabel=f"share of $R_2$ within |p|\n{model}", ylim=(min(0.0, line[0].get_ylim()[0]), None))
    handles = [
        Line2D([], [], color=colour(s), marker=marker(s), linestyle=styles[s], label=label(s))
        for s in result["strategies"]
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=5, columnspacing=1.2)
    return save(figure, out, "own_coefficients")


def coefficients_caption(records: Mapping[str, Any]) -> str:
    """What the coefficients show, and R2 by distance of the models that have it."""
    result = records["compare"]["result"]
    _, height, width = result["data"]["shape"]
    models = " and ".join(f"{model} (n = {images} images)" for model, images in _drawn(result).items())
    return COEFFICIENTS.format(height=height, width=width, below=BELOW.format(models=models) if models else "")


def _drawn(result: Mapping[str, Any]) -> dict[str, int]:
    """Models with R2 by distance, and images behind it."""
    return {d["model"]: d["images"] for d in result["distance"]["models"] if d["reason"] is None}


def _models(result: Mapping[str, Any]) -> str:
    return " and ".join(m["model"] for m in result["models"])


def _ladder(
    ax: Axes,
    rows: Mapping[tuple[str, str, str, str], Mapping[str, Any]],
    strategies: list[str],
    columns: list[tuple[str, str, str, str]],
) -> None:
    """A column for each point and rung, a gap after each point."""
    places: list[float] = []
    for k, (law, at, _, _) in enumerate(columns):
        new = k > 0 and columns[k - 1][:2] != (law, at)
        places.append(places[-1] + (1.8 if new else 1.0) if places else 0.0)
    for x, (law, at, _, rung) in zip(places, columns, strict=True):
        for k, strategy in enumerate(strategies):
            share = rows.get((strategy, law, at, rung), {}).get("share")
            if share is not None:
                _share(ax, x + 0.14 * (k - (len(strategies) - 1) / 2), share, strategy)
    ax.axhline(1, color="0.6", linewidth=0.8, zorder=0)
    ax.axhline(0, color="0.85", linewidth=0.8, zorder=0)
    ax.set(ylim=(LOW, HIGH))
    ax.set_xticks(places, labels=[RUNGS[c[3]] for c in columns], rotation=90, fontsize=6)
    ax.tick_params(axis="x", length=0)
    for _, _, name in dict.fromkeys(c[:3] for c in columns):
        own = [x for x, c in zip(places, columns, strict=True) if c[2] == name]
        ax.annotate(
            name, (sum(own) / len(own), 1), xycoords=("data", "axes fraction"), ha="center", va="top", fontsize=6
        )
    if not any(r["share"] for r in rows.values()):
        reason = "mixing changes the loss by no more than rounding" if rows else "not computed: leave out --no-ladder"
        ax.annotate(reason, (0.5, 0.5), xycoords="axes fraction", ha="center", fontsize=7)


def _share(ax: Axes, x: float, share: Mapping[str, float], strategy: str) -> None:
    inside = LOW <= share["mean"] <= HIGH
    ax.errorbar(
        x,
        min(max(share["mean"], LOW), HIGH),
        yerr=share["se"] if inside else None,
        color=colour(strategy),
        marker=marker(strategy),
        markersize=3,
        elinewidth=0.6,
        linestyle="none",
        clip_on=False,
    )


def _curve(ax: Axes, x: Any, y: Any, strategy: str, style: str) -> None:
    every = max(1, len(x) // 8)
    ax.plot(x, y, color=colour(strategy), marker=marker(strategy), markevery=every, markersize=3, linestyle=style)
