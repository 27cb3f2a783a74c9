"""Training on the expansion beside training by mixing: shares of its effect that each objective reproduces."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from figures.style import COLOURS, MARKERS, NAMES, PAGE, load, save

CAPTION = (
    "Networks trained on the expansion of the mixed loss, nothing mixed, beside networks of the same initial weights "
    "and batches trained by mixing. Left: share of the drop of the measured mixed loss from vanilla (0) to MSDA (1). "
    "Middle: share of the way of the predictions on mixed test images, in total variation, from vanilla (0) to a "
    "second training by mixing with other masks and partners (1). Right: test accuracy, with vanilla and MSDA. Mean "
    "over n = {seeds} networks (fewer where some diverged), bars are 95 % intervals over them (Student's t), cut at "
    "the axis; filled: softplus, open: ReLU; arrows: beyond the axis. The nearer to 1, the more of the effect of "
    "mixing the objective reproduces. data, mean, mask: the point of expansion. GN: base + Gauss-Newton, that is "
    "without R3; linear: the network linear in the step, the loss as it is; clipped: norm of the gradient limited. "
    "MSDA, other masks: a second training by mixing with the batches and partners of MSDA, but other draws of the "
    "masks; MSDA, other pairs: with other masks and other partners from the batch, the second training of the middle "
    "panel."
)
LABELS = {
    "vanilla": "vanilla",
    "data-r1": "data: + R1",
    "data-r1-clip": "data: + R1, clipped",
    "data-r2": "data: + R2",
    "data-r3": "data: + R3",
    "data-r1r2": "data: + R1 + R2",
    "data-all": "data: + R1 + R2 + R3",
    "data-linear": "data: linear",
    "mean-base": "mean: base",
    "mean-gn": "mean: GN",
    "mean-all": "mean: GN + R3",
    "mask-base": "mask: base",
    "mask-gn": "mask: GN",
    "mask-linear": "mask: linear",
    "mask-all": "mask: GN + R3",
    "mask-all-clip": "mask: GN + R3, clipped",
    "msda": "MSDA",
    "msda-masks": "MSDA, other masks",
    "msda-pairs": "MSDA, other pairs",
}
PANELS = {
    "share_mixed": ("share of the mixed loss's drop", (-0.8, 1.35), 1.0),
    "share_tv_mixed": ("share of the predictions' way", (-0.8, 1.35), 1.0),
    "accuracy": ("test accuracy (%)", (90.0, 100.0), 100.0),
}


def caption(records: Mapping[str, Any]) -> str:
    """The caption with the numbers of the record."""
    return CAPTION.format(seeds=max(r["seeds"] for r in records["theory_training"]["result"]["rows"]))


def name_of(training: str) -> str:
    """What a kind of training is called."""
    return LABELS[training]


def draw(records: Path, out: Path) -> list[Path]:
    """One line for each kind of training, one panel for each measure."""
    rows = load(records, "theory_training")["rows"]
    trainings = [t for t in LABELS if any(r["training"] == t for r in rows)]
    kinds = list(dict.fromkeys((r["strategy"], r["activation"]) for r in rows))
    figure = Figure(figsize=(PAGE, 0.19 * len(trainings) + 1.0))
    axes = figure.subplots(1, len(PANELS), sharey=True)
    for ax, (measure, (title, limits, factor)) in zip(axes, PANELS.items(), strict=True):
        ax.set_xlim(*limits)
        for row in rows:
            place = trainings.index(row["training"])
            offset = 0.7 * ((kinds.index((row["strategy"], row["activation"])) + 0.5) / len(kinds) - 0.5)
            _point(ax, row, measure, place + offset, factor)
        if measure != "accuracy":
            for x in (0, 1):
                ax.axvline(x, color="0.6", linewidth=0.7, zorder=0)
        for line in range(1, len(trainings)):
            ax.axhline(line - 0.5, color="0.93", linewidth=0.5, zorder=0)
        ax.set_title(title)
    axes[0].set_yticks(range(len(trainings)), labels=[LABELS[t] for t in trainings])
    axes[0].set_ylim(len(trainings) - 0.5, -0.5)
    figure.legend(handles=_handles(kinds), loc="outside lower center", ncols=len(kinds) + 2, handletextpad=0.2)
    return save(figure, out, "theory_training")


def _point(ax: Axes, row: dict[str, Any], measure: str, y: float, factor: float) -> None:
    value = row["measures"].get(measure)
    if value is None:
        return
    x, half = factor * value["mean"], factor * (value["half"] or 0.0)
    low, high = ax.get_xlim()
    colour = COLOURS[row["strategy"]]
    face = colour if row["activation"] != "relu" else "white"
    if not low <= x <= high:
        edge, marker = (low, "<") if x < low else (high, ">")
        ax.plot([edge], [y], marker=marker, markersize=3.5, color=colour, markerfacecolor=face, clip_on=False)
        return
    ax.errorbar(
        x,
        y,
        xerr=half,
        color=colour,
        marker=MARKERS[row["strategy"]],
        markerfacecolor=face,
        markersize=3.2,
        markeredgewidth=0.7,
        elinewidth=0.6,
        linestyle="none",
    )


def _handles(kinds: list[tuple[str, str]]) -> list[Line2D]:
    return [
        Line2D(
            [],
            [],
            color=COLOURS[strategy],
            marker=MARKERS[strategy],
            markerfacecolor=COLOURS[strategy] if activation != "relu" else "white",
            markersize=4,
            linestyle="none",
            label=f"{NAMES[strategy]}, {'ReLU' if activation == 'relu' else activation}",
        )
        for strategy, activation in kinds
    ]
