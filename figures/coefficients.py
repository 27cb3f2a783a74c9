"""The coefficient of pixel pairs against pixel distance, per strategy, in both laws."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from figures.style import COLOURS, LAWS, MARKERS, NAMES, PAGE, load, save

CAPTION = (
    "Mean coefficient a(p) of the pixel pairs at distance |p| (bins of one pixel), 32x32 images, alpha = 1; exact, no "
    "sampling error. Mixup weights all pairs alike; CutMix, HMix and GMix weight near pairs more. Left: the law that "
    "training minimises. Right: the law of the published expansion."
)
SIZE = 32


def draw(records: Path, out: Path) -> list[Path]:
    """Two panels, one for each law, on one scale."""
    curves = [c for c in load(records, "mask_coefficients")["curves"] if c["size"] == SIZE]
    pairs = _pairs()
    figure = Figure(figsize=(PAGE, 2.5))
    axes = figure.subplots(1, 2, sharey=True)
    for ax, law in zip(axes, LAWS, strict=True):
        for c in curves:
            if c["law"] != law:
                continue
            x, y = _binned(np.array(c["distance"]), np.array(c["coefficient"]), pairs)
            name = c["strategy"]
            ax.plot(x, y, color=COLOURS[name], marker=MARKERS[name], markevery=4, label=NAMES[name])
        ax.set_title(LAWS[law])
        ax.set_xlabel("distance |p| between pixels (pixels)")
        ax.set_ylim(0, None)
    axes[0].set_ylabel("mean coefficient a(p)")
    axes[1].legend()
    return save(figure, out, "coefficients")


def _pairs() -> np.ndarray:
    """Number of pixel pairs at each distinct distance, in increasing distance."""
    side = SIZE - np.abs(np.arange(1 - SIZE, SIZE))
    squared = np.add.outer(np.arange(1 - SIZE, SIZE) ** 2, np.arange(1 - SIZE, SIZE) ** 2)
    _, index = np.unique(squared, return_inverse=True)
    return np.bincount(index.ravel(), weights=np.multiply.outer(side, side).ravel())


def _binned(distance: np.ndarray, value: np.ndarray, pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean over the pairs whose distance rounds to 0, 1, ... pixels, up to the image side."""
    index = np.rint(distance).astype(int)
    total, weight = np.bincount(index, weights=pairs * value), np.bincount(index, weights=pairs)
    return np.arange(SIZE), (total / weight)[:SIZE]
