"""The first layer along training in each kind of training, and its filters with their contributions to R2."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from figures.style import COLOURS, MARKERS, NAMES, PAGE, load, save

CAPTION = (
    "First layer along training, digits, mean over {seeds} networks of each kind (top: convolutional, bottom: one "
    "hidden layer) with 95 % intervals (Student's t); dashed: no mixing, but R2 as an explicit penalty on the first "
    "layer's weights alone. From left: root mean square over filters of the norm in {metric}'s metric; that norm over "
    "the one of white filters with equal Frobenius norm; first-order change of the logits by a mixing step of "
    "{metric}, mean square over their variance; R2 under {metric}. R2 itself falls towards 0 on networks trained "
    "without mixing because the curvature of their loss vanishes; the other columns are free of it."
)
CAPTION_FILTERS = (
    "Filters of the hidden layer ({shown} of {filters}) with the largest contribution to {metric}'s R2, one network "
    "of each training, each picture on its own symmetric scale (blue negative, red positive); above it its share of "
    "R2 in %. Right: shares of all filters, largest first, mean over {seeds} networks with 95 % intervals (Student's "
    "t); they sum to 1, and one may be negative, since filters can cancel."
)
LABELS = {"conv": "convolutional", "mlp": "one hidden layer"}


def caption(result: dict[str, Any]) -> str:
    """The caption of the curves, with the numbers of a record."""
    return CAPTION.format(seeds=result["rows"][0]["seeds"], metric=NAMES[result["reference"]])


def caption_filters(result: dict[str, Any]) -> str:
    """The caption of the pictures, with the numbers of a record."""
    row = next(r for r in result["rows"] if r["network"] == "mlp")
    return CAPTION_FILTERS.format(
        shown=len(row["filters"]),
        filters=len(row["contributions"]["mean"]),
        metric=NAMES[result["reference"]],
        seeds=row["seeds"],
    )


def name_of(training: str) -> str:
    """What a kind of training is called."""
    if not training.startswith("penalty-"):
        return NAMES[training]
    _, base, *strength = training.split("-")
    return "".join([*(f"{s} × " for s in strength), f"penalty of {NAMES[base]}"])


def draw(records: Path, out: Path) -> list[Path]:
    """Four measures against epochs, a row for each kind of network."""
    result = load(records, "first_layer")
    networks = list(dict.fromkeys(r["network"] for r in _shown(result)))
    metric = result["reference"]
    panels = {
        f"norm_{metric}": f"norm in {NAMES[metric]}'s metric",
        f"relative_{metric}": "norm over white filters'",
        f"change_{metric}": "relative change of logits",
        f"r2_{metric}": f"R2 under {NAMES[metric]}",
    }
    figure = Figure(figsize=(PAGE, 1.55 * len(networks) + 0.75))
    axes = figure.subplots(len(networks), len(panels), squeeze=False, sharex=True)
    for line, network in zip(axes, networks, strict=True):
        rows = [r for r in _shown(result) if r["network"] == network]
        for ax, name in zip(line, panels, strict=True):
            for row in rows:
                _curve(ax, row, name)
            ax.set_ylim(0, None)
            ax.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=[1, 5, 10]))
        line[0].set_ylabel(LABELS[network])
    for ax, title in zip(axes[0], panels.values(), strict=True):
        ax.set_title(title)
    for ax in axes[-1]:
        ax.set_xlabel("epoch")
    trainings = dict.fromkeys(r["training"] for r in _shown(result))
    figure.legend(handles=[_handle(t) for t in trainings], loc="outside lower center", ncols=4, columnspacing=1.5)
    return save(figure, out, "first_layer")


def draw_filters(records: Path, out: Path) -> list[Path]:
    """Pictures of filters by training; contributions of all filters by kind of network."""
    result = load(records, "first_layer")
    rows = [r for r in _shown(result) if r["network"] == "mlp"]
    networks = list(dict.fromkeys(r["network"] for r in _shown(result)))
    figure = Figure(figsize=(PAGE, 0.62 * len(rows) + 0.55))
    left, right = figure.subfigures(1, 2, width_ratios=(1.45, 1), squeeze=False)[0]
    pictures = left.subplots(len(rows), len(rows[0]["filters"]), squeeze=False)
    for line, row in zip(pictures, rows, strict=True):
        for ax, picture, share in zip(line, row["filters"], row["top_share"], strict=True):
            _picture(ax, np.array(picture), share)
        label = name_of(row["training"]).replace("penalty of ", "penalty of\n")
        line[0].set_ylabel(label, rotation=0, ha="right", va="center", color=_colour(row["training"]))
    axes = right.subplots(len(networks), 1, squeeze=False)[:, 0]
    for ax, network in zip(axes, networks, strict=True):
        for row in (r for r in _shown(result) if r["network"] == network):
            _shares(ax, row)
        ax.axhline(0, color="0.8", linewidth=0.6, zorder=0)
        ax.set_title(LABELS[network])
        ax.set_ylabel(f"share of {NAMES[result['reference']]}'s R2")
    axes[-1].set_xlabel("filter, by rank")
    trainings = dict.fromkeys(r["training"] for r in _shown(result))
    right.legend(handles=[_handle(t) for t in trainings], loc="outside lower center", ncols=2, columnspacing=1.2)
    return save(figure, out, "first_layer_filters")


def _shown(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows of the figures: without the controls at a part of their strength."""
    return [r for r in result["rows"] if r["penalty"] in (None, 1.0)]


def _curve(ax: Axes, row: dict[str, Any], name: str) -> None:
    curve = row["curves"][name]
    mean, half = (np.array(curve[k], dtype=float) for k in ("mean", "half"))
    colour = _colour(row["training"])
    ax.fill_between(row["epoch"], mean - half, mean + half, color=colour, alpha=0.15, linewidth=0)
    ax.plot(row["epoch"], mean, **_line(row["training"]))


def _shares(ax: Axes, row: dict[str, Any]) -> None:
    mean, half = (np.array(row["contributions"][k], dtype=float) for k in ("mean", "half"))
    rank = np.arange(1, len(mean) + 1)
    colour = _colour(row["training"])
    ax.fill_between(rank, mean - half, mean + half, color=colour, alpha=0.12, linewidth=0)
    ax.plot(rank, mean, **_line(row["training"]) | {"marker": None})


def _picture(ax: Axes, picture: np.ndarray, share: float) -> None:
    top = float(np.abs(picture).max())
    ax.imshow(picture, cmap="RdBu_r", vmin=-top, vmax=top, interpolation="nearest")
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_visible(False)
    ax.set_title(f"{100 * share:.1f}", fontsize=6, pad=1.5)


def _colour(training: str) -> str:
    return COLOURS[training.removeprefix("penalty-")]


def _line(training: str) -> dict[str, Any]:
    base = training.removeprefix("penalty-")
    control = base != training
    return {
        "color": COLOURS[base],
        "marker": MARKERS[base],
        "markersize": 3,
        "linewidth": 1,
        "linestyle": "--" if control else "-",
        "markerfacecolor": "white" if control else COLOURS[base],
        "markeredgewidth": 0.7,
    }


def _handle(training: str) -> Line2D:
    return Line2D([], [], label=name_of(training), **_line(training))
