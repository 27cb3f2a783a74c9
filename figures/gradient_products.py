"""Gradient products of trained networks: maps, curves against distance, and R2 by distance."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from figures.style import COLOURS, LAWS, MARKERS, NAMES, PAGE, SIGNED, load, save

CAPTION = (
    "Products of input gradients by pixel displacement, {images} training images, mean over n = {seeds} networks of "
    "each training; a row for each activation. Maps: share of the product mass at displacement p, over that of "
    "vanilla-trained networks (red more, blue less; p = 0 in the middle, from one border of the image to the other). "
    "Middle: mean product over pairs at distance |p| over the mean square gradient; bands are 95 % intervals over "
    "networks (Student's t). Right: share of the mass within a radius, less that of the vanilla network of the same "
    "seed, bars as the bands; the dotted line marks the radius of the test. Below 0 the products reach farther than "
    "vanilla's."
)
CAPTION_R2 = (
    "Share of R2 at the data from pixel pairs at distance |p|, for each strategy's law, on networks without mixing "
    "(black) and trained with the strategy itself (colour): mean over n = {seeds} networks with 95 % intervals "
    "(Student's t; bands, exact law), terms exact. Solid: exact law; dashed: the paper's. A row for each activation. "
    "Shares sum to 1; a negative one is possible, where gradients at the two pixels point against the covariance of "
    "the images."
)


def caption(records: Mapping[str, Any]) -> str:
    """The caption of maps and curves with the numbers of the record."""
    return _filled(CAPTION, records["gradient_products"]["result"])


def caption_r2(records: Mapping[str, Any]) -> str:
    """The caption of R2 by distance with the numbers of the record."""
    return _filled(CAPTION_R2, records["gradient_products"]["result"])


def _filled(text: str, result: dict[str, Any]) -> str:
    return text.format(images=result["images"], seeds=result["cells"][0]["rows"][0]["seeds"])


def draw(records: Path, out: Path, name: str = "gradient_products") -> list[Path]:
    """A row for each cell: maps over vanilla's, curves by pairs, differences of shares."""
    cells = load(records, name)["cells"]
    mixing = list(dict.fromkeys(r["training"] for c in cells for r in c["rows"] if r["training"] != "vanilla"))
    figure = Figure(figsize=(PAGE, 1.75 * len(cells) + 0.45))
    left, right = figure.subfigures(1, 2, width_ratios=(1.15, 1.6), squeeze=False)[0]
    columns = (len(mixing) + 1) // 2
    maps = left.subplots(2 * len(cells), columns, squeeze=False)
    axes = right.subplots(len(cells), 2, squeeze=False)
    image = None
    for k, cell in enumerate(cells):
        image = _maps(maps[2 * k : 2 * k + 2].ravel(), cell, mixing) or image
        maps[2 * k, 0].set_ylabel(cell["cell"], fontsize=7, loc="top")
        _pairs(axes[k, 0], cell)
        _differences(axes[k, 1], cell)
    axes[0, 0].set_title("mean product over pairs")
    axes[0, 1].set_title("share in radius − vanilla's")
    axes[-1, 0].set_xlabel("distance |p| (pixels)")
    axes[-1, 1].set_xlabel("radius (pixels)")
    if image is not None:
        bar = left.colorbar(image, ax=maps, location="bottom", shrink=0.8, aspect=30, pad=0.02, extend="both")
        bar.set_ticks([0.4, 0.63, 1, 1.6, 2.5], labels=["0.4", "0.63", "1", "1.6", "2.5"])
        bar.minorticks_off()
        bar.set_label("share of the products over vanilla's")
    handles = [Line2D([], [], label=NAMES[t], **_line(t)) for t in ["vanilla", *mixing]]
    right.legend(handles=handles, loc="outside lower center", ncols=3, columnspacing=1.2)
    return save(figure, out, name)


def draw_r2(records: Path, out: Path, name: str = "gradient_products") -> list[Path]:
    """R2 by distance: a row for each cell, a column for each law's strategy."""
    result = load(records, name)
    cells, laws = result["cells"], result["laws"]
    figure = Figure(figsize=(PAGE, 1.45 * len(cells) + 0.6))
    axes = figure.subplots(len(cells), len(laws), squeeze=False, sharey="row", sharex="row")
    for line, cell in zip(axes, cells, strict=True):
        rows = {r["training"]: r for r in cell["rows"]}
        for ax, strategy in zip(line, laws, strict=True):
            for training in ("vanilla", strategy):
                if training in rows:
                    _r2(ax, rows[training], strategy)
            ax.axhline(0, color="0.8", linewidth=0.6, zorder=0)
        line[0].set_ylabel(f"{cell['cell']}\nshare of R2", fontsize=7)
    for ax, strategy in zip(axes[0], laws, strict=True):
        ax.set_title(f"{NAMES[strategy]}'s R2", color=COLOURS[strategy])
    for ax in axes[-1]:
        ax.set_xlabel("distance |p| (pixels)")
    handles = [Line2D([], [], color="0.3", label=LAWS["exact"])]
    handles += [Line2D([], [], color="0.3", linestyle="--", label=LAWS["paper"])]
    handles += [Line2D([], [], color="black", label="on vanilla networks")]
    handles += [Line2D([], [], color=COLOURS[s], label=f"on {NAMES[s]}-trained") for s in laws]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, columnspacing=1.2)
    return save(figure, out, f"{name}_r2")


def _maps(axes: Any, cell: dict[str, Any], mixing: list[str]) -> Any:
    rows, image = {r["training"]: r for r in cell["rows"]}, None
    for ax in axes:
        ax.set_xticks([])
        ax.set_yticks([])
        for spine in ax.spines.values():
            spine.set_visible(False)
    for ax, training in zip(axes, mixing, strict=False):
        if "vanilla" in rows and training in rows:
            ratio = np.array(rows[training]["map"]) / np.array(rows["vanilla"]["map"])
            image = ax.imshow(ratio, cmap=SIGNED, norm=LogNorm(0.4, 2.5), interpolation="nearest")
            ax.set_title(NAMES[training].replace(" or ", "/"), fontsize=6.5, pad=2, color=COLOURS[training])
    return image


def _pairs(ax: Axes, cell: dict[str, Any]) -> None:
    for row in cell["rows"]:
        _band(ax, row["per_pair"], row["training"])
    ax.set_yscale("log")
    lowest = min(v for row in cell["rows"] for v in row["per_pair"]["mean"] if v > 0)
    ax.set_ylim(0.6 * lowest, 1.4)  # an interval may reach below 0, which has no place here
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))


def _differences(ax: Axes, cell: dict[str, Any]) -> None:
    """Side by side at each radius."""
    radii = sorted({d["radius"] for d in cell["differences"]})
    apart = min(np.diff(radii), default=1.0)
    for d in (d for d in cell["differences"] if d["second"] == "vanilla"):
        error = None if d["low"] is None else [[d["mean"] - d["low"]], [d["high"] - d["mean"]]]
        step = 0.13 * (list(MARKERS).index(d["first"]) - 3) * apart
        x = d["radius"] + step
        ax.errorbar(x, d["mean"], _ends(error), **_line(d["first"]), elinewidth=0.8, linestyle="none")
        if d["primary"]:
            ax.axvline(d["radius"], color="0.8", linewidth=0.6, linestyle=":", zorder=0)
    ax.axhline(0, color="0.8", linewidth=0.6, zorder=0)


def _ends(error: list[list[float]] | None) -> np.ndarray | None:
    """Distances to the ends of an interval, as matplotlib takes them."""
    return None if error is None else np.array(error)


def _r2(ax: Axes, row: dict[str, Any], strategy: str) -> None:
    for law, style in (("exact", "-"), ("paper", "--")):
        _band(ax, row["r2"][strategy][law], row["training"], linestyle=style, alpha=0.12 if law == "exact" else 0.0)


def _band(ax: Axes, curve: dict[str, Any], training: str, *, linestyle: str = "-", alpha: float = 0.12) -> None:
    x = np.arange(len(curve["mean"]))
    low, high = (np.array(curve[k], dtype=float) for k in ("low", "high"))
    ax.fill_between(x, low, high, color=COLOURS[training], alpha=alpha, linewidth=0)
    every = max(1, len(x) // 12)
    ax.plot(x, curve["mean"], **_line(training) | {"linestyle": linestyle, "markevery": every})


def _line(training: str) -> dict[str, Any]:
    return {"color": COLOURS[training], "marker": MARKERS[training], "markersize": 3, "linewidth": 1}
