"""The coefficient of pixel pairs, per strategy, in both laws: against pixel distance and as maps of displacement."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure, SubFigure

from figures.style import COLOURS, LAWS, MARKERS, NAMES, PAGE, SEQUENTIAL, load, save

CAPTION = (
    "Mean coefficient a(p) of the pixel pairs with displacement p, {size}x{size} images, alpha = 1. Above: against the "
    "distance |p| (bins of one pixel). Below: as maps, p = 0 in the middle, one colour scale for all. Mixup weights "
    "all pairs alike; the others weight near pairs more{steepest}. Exact law: the one that training minimises; "
    "paper's: that of the published expansion. A property of each law alone (n = {laws} strategies), computed exactly: "
    "no sampling error, no error bars."
)


def caption(records: Mapping[str, Any]) -> str:
    """The caption with the numbers of the record."""
    curves = records["mask_coefficients"]["result"]["curves"]
    size = max(c["size"] for c in curves)
    own = [c for c in curves if (c["law"], c["size"]) == ("exact", size)]
    least = min(own, key=lambda c: c["decay"])
    steepest = f", {NAMES[least['strategy']]} the most (half an image apart {least['decay']:.2f} of the next pixel's)"
    return CAPTION.format(size=size, laws=len(own), steepest=steepest)


def draw(records: Path, out: Path) -> list[Path]:
    """A panel of curves for each law, and a row of maps for each."""
    curves = load(records, "mask_coefficients")["curves"]
    size = max(c["size"] for c in curves)
    curves = [c for c in curves if c["size"] == size]
    figure = Figure(figsize=(PAGE, 5.1))
    panels: Any = figure.subfigures(2, 1, height_ratios=(2.25, 2.85))
    above, below = panels
    _against_distance(above, curves, size)
    _maps(below, curves, size)
    return save(figure, out, "coefficients")


def _against_distance(figure: SubFigure, curves: list[dict[str, Any]], size: int) -> None:
    pairs = _pairs(size)
    axes = figure.subplots(1, 2, sharey=True)
    for ax, law in zip(axes, LAWS, strict=True):
        for c in (c for c in curves if c["law"] == law):
            x, y = _binned(np.array(c["distance"]), np.array(c["coefficient"]), pairs, size)
            name = c["strategy"]
            ax.plot(x, y, color=COLOURS[name], marker=MARKERS[name], markevery=4, label=NAMES[name])
        ax.set_title(LAWS[law])
        ax.set_xlabel("distance |p| (pixels)")
        ax.set_ylim(0, None)
    axes[0].set_ylabel("mean coefficient a(p)")
    axes[1].legend()


def _maps(figure: SubFigure, curves: list[dict[str, Any]], size: int) -> None:
    names = list(dict.fromkeys(c["strategy"] for c in curves))
    cells = {(c["law"], c["strategy"]): _whole(np.array(c["half_map"])) for c in curves}
    top, reach = max(float(m.max()) for m in cells.values()), size - 1
    axes = figure.subplots(len(LAWS), len(names), sharex=True, sharey=True, squeeze=False)
    for line, law in zip(axes, LAWS, strict=True):
        for ax, name in zip(line, names, strict=True):
            extent = (-size + 0.5, size - 0.5, size - 0.5, -size + 0.5)
            image = ax.imshow(cells[law, name], cmap=SEQUENTIAL, vmin=0, vmax=top, extent=extent)
            ax.set_xticks((-reach, 0, reach))
            ax.set_yticks((-reach, 0, reach))
        line[0].set_ylabel(LAWS[law])
    for ax, name in zip(axes[0], names, strict=True):
        ax.set_title(NAMES[name])
    axes[-1, len(names) // 2].set_xlabel("displacement p, across and down (pixels)")
    figure.colorbar(image, ax=axes, aspect=30, pad=0.01).set_label("mean coefficient a(p)")


def _whole(half: np.ndarray) -> np.ndarray:
    """Displacements down from 0 on, [size, 2 size - 1], and the others by a(-p) = a(p): [2 size - 1, 2 size - 1]."""
    return np.concatenate([half[:0:-1, ::-1], half])


def _pairs(size: int) -> np.ndarray:
    """Number of pixel pairs at each distinct distance, in increasing distance."""
    side = size - np.abs(np.arange(1 - size, size))
    squared = np.add.outer(np.arange(1 - size, size) ** 2, np.arange(1 - size, size) ** 2)
    _, index = np.unique(squared, return_inverse=True)
    return np.bincount(index.ravel(), weights=np.multiply.outer(side, side).ravel())


def _binned(distance: np.ndarray, value: np.ndarray, pairs: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean over the pairs whose distance rounds to 0, 1, ... pixels, up to the image side."""
    index = np.rint(distance).astype(int)
    total, weight = np.bincount(index, weights=pairs * value), np.bincount(index, weights=pairs)
    return np.arange(size), (total / weight)[:size]
