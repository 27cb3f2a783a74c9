"""The first layer along training in each kind of training, and its filters with their contributions to R2."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from figures.style import COLOURS, MARKERS, NAMES, PAGE, SIGNED, load, save

CAPTION = (
    "First layer along training, digits, mean over n = {seeds} networks of each kind (top: convolutional, bottom: one "
    "hidden layer) with 95 % intervals over them (Student's t; bands); dashed: no mixing, but R2 as an explicit "
    "penalty on the first layer's weights alone. From left: root mean square over filters of the norm in {metric}'s "
    "metric; that norm over the one of white filters with equal Frobenius norm; first-order change of the logits by a "
    "mixing step of {metric}, mean square over their variance; R2 under {metric}. R2 also carries the curvature of the "
    "loss, which vanishes where a network is sure of its images; the other columns are free of it, and in them a lower "
    "curve is more regularized."
)
CAPTION_FILTERS = (
    "Filters of the hidden layer ({shown} of {filters}) with the largest contribution to {metric}'s R2, one network of "
    "each training, weights over the largest magnitude of each filter; above it its share of R2 in %. Red and blue: "
    "opposite signs. Right: shares of all filters, largest first, mean over n = {seeds} networks with 95 % intervals "
    "over them (Student's t; bands); they sum to 1, and one may be negative, since filters can cancel. A flat curve "
    "means that all filters carry R2 alike."
)
ABOVE = 3  # empty pixels above a filter, for its share
LABELS = {"conv": "convolutional", "mlp": "one hidden layer"}


def caption(records: Mapping[str, Any]) -> str:
    """The caption of the curves, with the numbers of the record."""
    result = records["first_layer"]["result"]
    return CAPTION.format(seeds=result["rows"][0]["seeds"], metric=NAMES[result["reference"]])


def caption_filters(records: Mapping[str, Any]) -> str:
    """The caption of the pictures, with the numbers of the record."""
    result = records["first_layer"]["result"]
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
        f"r2_{metric}": f"R2 under {NAMES[metric]} (nats)",
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
    left, right = figure.subfigures(1, 2, width_ratios=(1.15, 1), squeeze=False)[0]
    _pictures(left.subplots(), rows)
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


def _pictures(ax: Axes, rows: list[dict[str, Any]]) -> None:
    """A line of filters for each training, as one image with empty pixels between them."""
    side, columns = len(rows[0]["filters"][0]), len(rows[0]["filters"])
    down, across = side + ABOVE, side + 1
    canvas = np.full((down * len(rows), across * columns - 1), np.nan)
    for k, row in enumerate(rows):
        for column, (picture, share) in enumerate(zip(row["filters"], row["top_share"], strict=True)):
            top, left = down * k + ABOVE, across * column
            weights = np.array(picture)
            canvas[top : top + side, left : left + side] = weights / np.abs(weights).max()
            place = (left + (side - 1) / 2, top - 0.8)
            ax.text(*place, f"{100 * share:.1f}".replace("-", "−"), fontsize=6, ha="center", va="bottom")
    image = ax.imshow(canvas, cmap=SIGNED, vmin=-1, vmax=1, interpolation="nearest", aspect="equal")
    names = [name_of(r["training"]).replace("penalty of ", "penalty of\n") for r in rows]
    ax.set_yticks([down * k + ABOVE + (side - 1) / 2 for k in range(len(rows))], labels=names)
    for label, row in zip(ax.get_yticklabels(), rows, strict=True):
        label.set_color(_colour(row["training"]))
    ax.set_xticks([])
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    bar = ax.figure.colorbar(image, ax=ax, location="bottom", ticks=(-1, 0, 1), shrink=0.6, aspect=40, pad=0.01)
    bar.set_label("weight over the filter's largest")
    ax.set_anchor("NW")  # narrowed, it stays at its labels, so that the layout sees how wide they are


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
