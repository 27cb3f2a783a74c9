"""Reliability diagrams, and accuracy on damaged images relative to vanilla training."""

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
    "Left: accuracy against confidence on {images} test digits, answers of n = {seeds} networks of each training "
    "together, in bins of width 1/15 with {fewest} answers or more; above the diagonal a network is less sure than "
    "right; no error bars. Right: accuracy on damaged images minus that of vanilla training (points), the same images "
    "for all; bars are 95 % intervals that cover networks and images. In brackets the accuracy of vanilla training "
    "(%)."
)
FEWEST = 20  # answers in a bin that is drawn


def caption(records: Mapping[str, Any]) -> str:
    """The caption with the numbers of the record."""
    result = records["reliability"]["result"]
    return CAPTION.format(seeds=result["rows"][0]["seeds"], images=result["test_images"], fewest=FEWEST)


def draw(records: Path, out: Path) -> list[Path]:
    """A reliability diagram and a dot plot."""
    result = load(records, "reliability")
    figure = Figure(figsize=(PAGE, 3.3))
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.25))
    _diagram(left, result["rows"])
    _damage(right, result["stress"])
    names = [r["training"] for r in result["rows"]]
    handles = [Line2D([], [], color=COLOURS[n], marker=MARKERS[n], label=NAMES[n]) for n in names]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), columnspacing=1.2)
    return save(figure, out, "reliability")


def _diagram(ax: Axes, rows: list[dict[str, Any]]) -> None:
    for row in rows:
        d, name = {k: np.array(v) for k, v in row["diagram"].items()}, row["training"]
        shown = d["count"] >= FEWEST
        ax.plot(d["confidence"][shown], d["accuracy"][shown], color=COLOURS[name], marker=MARKERS[name], markersize=3)
    ax.plot((0, 1), (0, 1), color="0.6", linewidth=0.8, linestyle="--", zorder=0)
    ax.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1.02), ylim=(0, 1.02), aspect="equal")


def _damage(ax: Axes, rows: list[dict[str, Any]]) -> None:
    """The strongest level of each corruption, one line each."""
    kinds = {r["corruption"]: max(o["level"] for o in rows if o["corruption"] == r["corruption"]) for r in rows}
    labels = []
    names = [n for n in dict.fromkeys(r["training"] for r in rows) if n != "vanilla"]
    for place, (kind, level) in enumerate(kinds.items()):
        own = {r["training"]: r for r in rows if (r["corruption"], r["level"]) == (kind, level)}
        labels.append(f"{damage_label(kind, level)} ({100 * own['vanilla']['accuracy']['mean']:.0f})")
        for k, name in enumerate(names):
            y, d = place + 0.14 * (k - (len(names) - 1) / 2), own[name]["difference"]
            ax.errorbar(
                100 * d["mean"], y, xerr=100 * d["half"], color=COLOURS[name], marker=MARKERS[name], markersize=2.5,
                elinewidth=0.6, linestyle="none",
            )  # fmt: skip
    ax.axvline(0, color="0.6", linewidth=0.8, linestyle="--", zorder=0)
    ax.set_yticks(range(len(labels)), labels=labels)
    ax.invert_yaxis()
    ax.set_xlabel("accuracy minus vanilla's (points)")


def damage_label(kind: str, level: float) -> str:
    """A corruption and its level in words."""
    if kind == "clean":
        return "clean"
    if kind.startswith("occlusion"):
        return f"occlusion, {100 * level:.0f} % of pixels"
    if kind == "patch shuffle":
        return f"patch shuffle, {level:.0f}x{level:.0f}"
    return f"{kind.replace('_', ' ')}, severity {level:.0f}"
