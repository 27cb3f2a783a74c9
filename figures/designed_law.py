"""Mask laws made to measure: wanted and obtained coefficients of pixel pairs, masks, and networks trained with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.style import PAGE, load, save

CAPTION = (
    "Masks from Gaussian fields designed for a wanted coefficient a(p) of pixel pairs, 8x8 digits. Upper left: mean "
    "over the pairs at each distance, exact law; points wanted, lines obtained (no sampling error); the fields are "
    "periodic, so that pixels 7 apart along a side are neighbours. Upper right: test accuracy (mean and standard error "
    "over networks) of networks trained with each law. Below: draws from each law (black 0: the pixel is the "
    "partner's), with their label weights. flat: independent pixels; short and long: exponential decay over 1 and 4 "
    "pixels; twin: a(p) of CutMix with a periodic box."
)
COLOURS = {"flat": "#CC79A7", "short": "#56B4E9", "long": "#009E73", "twin": "#D55E00"}
TRAINING = {
    "vanilla": "vanilla",
    "mixup": "Mixup",
    "cutmix": "CutMix",
    "cutmix-periodic": "CutMix, periodic box",
    "flat": "flat",
    "short": "short",
    "long": "long",
    "twin": "twin of periodic CutMix",
}


def draw(records: Path, out: Path) -> list[Path]:
    """Curves and accuracies above, a row of masks for each law below."""
    result = load(records, "designed_law")
    designs = result["designs"]
    figure = Figure(figsize=(PAGE, 2.4 + 0.75 * len(designs)))
    panels: Any = figure.subfigures(2, 1, height_ratios=(2.4, 0.75 * len(designs)))
    above, below = panels
    left, right = above.subplots(1, 2, width_ratios=(1.2, 1))
    for entry in designs:
        _curve(left, entry)
    left.set_xlabel("distance |p| between pixels (pixels)")
    left.set_ylabel("mean coefficient a(p)")
    left.set_ylim(0, None)
    left.legend()
    _accuracy(right, result["accuracy"])
    columns = len(designs[0]["masks"])
    for row, entry in zip(below.subplots(len(designs), columns), designs, strict=True):
        for ax, mask, weight in zip(row, entry["masks"], entry["label_weights"], strict=True):
            ax.imshow(mask, cmap="gray", vmin=0, vmax=1)
            ax.set_title(f"{weight:.2f}", fontsize=6, pad=2)
            ax.set_xticks([])
            ax.set_yticks([])
            ax.spines[:].set_visible(True)
        row[0].set_ylabel(entry["wish"], color=COLOURS[entry["wish"]])
    return save(figure, out, "designed_law")


def _curve(ax: Axes, entry: dict[str, Any]) -> None:
    colour = COLOURS[entry["wish"]]
    label = f"{entry['wish']} (residual up to {entry['worst']:.1g})"
    ax.plot(entry["distance"], entry["obtained_by_distance"], color=colour, label=label)
    ax.plot(entry["distance"], entry["wanted_by_distance"], "o", color=colour, markersize=2.5)


def _accuracy(ax: Axes, rows: list[dict[str, Any]]) -> None:
    for k, row in enumerate(rows):
        value, colour = row["accuracy"], COLOURS.get(row["training"], "0.4")
        ax.plot([100 * v for v in value["networks"]], [k] * len(value["networks"]), ".", color=colour, alpha=0.4)
        ax.errorbar(100 * value["mean"], k, xerr=100 * value["se"], color=colour, marker="D", elinewidth=0.8)
    ax.set_yticks(range(len(rows)), labels=[TRAINING[r["training"]] for r in rows])
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.set_xlabel("test accuracy (%)")
