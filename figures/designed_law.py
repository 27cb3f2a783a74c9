"""Mask laws made to measure: wanted and obtained coefficients of pixel pairs, masks, and networks trained with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.style import COLOURS, INDIGO, MARKERS, MASK, PAGE, ROSE, TEAL, WINE, load, save

CAPTION = (
    "Masks from Gaussian fields designed for a wanted coefficient a(p) of pixel pairs, 8x8 digits. Upper left: mean "
    "over the pairs at each distance (bins of one pixel), exact law; points wanted, lines obtained (no sampling "
    "error); the fields are periodic, and so is the distance: pixels 7 apart along a side are neighbours. "
    "Upper right: test accuracy of networks trained with "
    "each law, mean over n = {networks} networks with one standard error (bar), dots: the networks. Below: draws from "
    "each law (black 0: the pixel is the partner's), with their label weights. flat: independent pixels; short and "
    "long: exponential decay over 1 and 4 pixels; twin: a(p) of CutMix with a periodic box."
)
DESIGNS = {"flat": (ROSE, "o"), "short": (TEAL, "s"), "long": (INDIGO, "^"), "twin": (WINE, "D")}
KNOWN = {"cutmix-periodic": "cutmix"}  # drawn as the strategy it is a variant of, open
EDGED = mpl.colormaps[MASK].with_extremes(bad="0.75")
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


def caption(records: Mapping[str, Any]) -> str:
    """The caption with the numbers of the record."""
    result = records["designed_law"]["result"]
    return CAPTION.format(networks=len(result["accuracy"][0]["accuracy"]["networks"]))


def draw(records: Path, out: Path) -> list[Path]:
    """Curves and accuracies above, a row of masks for each law below."""
    result = load(records, "designed_law")
    designs = result["designs"]
    lines = -(-len(designs) // 2)
    figure = Figure(figsize=(PAGE, 2.4 + 0.85 * lines))
    panels: Any = figure.subfigures(2, 1, height_ratios=(2.4, 0.85 * lines))
    above, below = panels
    left, right = above.subplots(1, 2, width_ratios=(1.2, 1))
    for entry in designs:
        _curve(left, entry)
    left.set_xlabel("periodic distance of pixels, bins of 1")
    left.set_ylabel("mean coefficient a(p)")
    left.set_ylim(0, None)
    left.legend()
    _accuracy(right, result["accuracy"])
    strips = below.subplots(lines, 2, squeeze=False)
    for ax, entry in zip(strips.flat, designs, strict=False):
        _masks(ax, entry)
    for ax in strips.flat[len(designs) :]:
        ax.set_visible(False)
    return save(figure, out, "designed_law")


def _curve(ax: Axes, entry: dict[str, Any]) -> None:
    colour, marker = DESIGNS[entry["wish"]]
    label = f"{entry['wish']} (residual up to {entry['worst']:.1g})"
    ax.plot(*by_periodic_distance(entry["obtained"]), color=colour, linewidth=0.9)
    ax.plot(*by_periodic_distance(entry["wanted"]), marker, color=colour, markersize=2.8, label=label)


def by_periodic_distance(coefficient: Sequence[Sequence[float]]) -> tuple[np.ndarray, np.ndarray]:
    """Means of a(p) over the pairs of pixels in bins of their distance on a torus.

    Args:
        coefficient: a(p) of a law that shifts leave as it is, on an H x W torus, for every displacement p from
            (-(H - 1), -(W - 1)) to (H - 1, W - 1), ``[2 H - 1, 2 W - 1]``.

    Returns:
        Mean distance and mean a(p) over the pairs of each bin; bin k holds distances from k - 1/2 to k + 1/2.
    """
    a = np.array(coefficient)
    sides = [(n + 1) // 2 for n in a.shape]
    steps = [np.abs(np.arange(1 - n, n)) for n in sides]
    pairs = np.outer(*(n - s for n, s in zip(sides, steps, strict=True)))
    distance = np.hypot(*np.meshgrid(*(np.minimum(s, n - s) for n, s in zip(sides, steps, strict=True)), indexing="ij"))
    bins = np.rint(distance).astype(int).ravel()
    total, at, value = (np.bincount(bins, weights=(pairs * v).ravel()) for v in (np.ones_like(a), distance, a))
    return at / total, value / total


def _accuracy(ax: Axes, rows: list[dict[str, Any]]) -> None:
    for k, row in enumerate(rows):
        value, name = row["accuracy"], KNOWN.get(row["training"], row["training"])
        colour, marker = DESIGNS[name] if name in DESIGNS else (COLOURS[name], MARKERS[name])
        ax.plot([100 * v for v in value["networks"]], [k + 0.28] * len(value["networks"]), ".", color=colour, alpha=0.5)
        ax.errorbar(
            100 * value["mean"], k, xerr=100 * value["se"], color=colour, marker=marker, elinewidth=0.8,
            markerfacecolor="white" if row["training"] in KNOWN else colour,
        )  # fmt: skip
    ax.set_yticks(range(len(rows)), labels=[TRAINING[r["training"]] for r in rows])
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)
    ax.set_xlabel("test accuracy (%)")


def _masks(ax: Axes, entry: dict[str, Any]) -> None:
    """Draws in a row, with a grey pixel around each, and their label weights below."""
    masks = np.pad(np.array(entry["masks"], dtype=float), ((0, 0), (1, 1), (1, 1)), constant_values=np.nan)
    ax.imshow(np.concatenate(list(masks), axis=1), cmap=EDGED, vmin=0, vmax=1, interpolation="nearest")
    side = masks.shape[-1]
    places = [(k + 0.5) * side - 0.5 for k in range(len(masks))]
    ax.set_xticks(places, labels=[f"{w:.2f}" for w in entry["label_weights"]], fontsize=6)
    ax.set_yticks([])
    ax.tick_params(length=0, pad=1.5)
    ax.spines[:].set_visible(False)
    ax.set_ylabel(entry["wish"], color=DESIGNS[entry["wish"]][0])
