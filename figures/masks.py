"""Masks and mixed images of every strategy side by side."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image
from sklearn.datasets import load_sample_images

from figures.style import MASK, NAMES, PAGE, load, save

CAPTION = (
    "One mask M of each strategy at lam = {lam:g} (above; the weight of the first image) and the mixed images (below); "
    "HMix with r = .5; one place of box and bump for all. Mixup fades everything, CutMix replaces a box, HMix does "
    "both, GMix replaces softly around a point, the Gaussian field in patches. The number is the label weight of "
    "the first image: the mean of M for CutMix and GMix, which the rounding of the box and the border move away from "
    "lam; lam for the others. Single draws, n = 1; no error bars. 'Mixup or CutMix' draws one of the two; vanilla "
    "training has M = 1."
)
ZOOM = 3  # photograph pixels for each mask pixel, along each side


def caption(records: Mapping[str, Any]) -> str:
    """The caption with the numbers of the record."""
    return CAPTION.format(lam=records["mask_gallery"]["result"]["lam"])


def draw(records: Path, out: Path) -> list[Path]:
    """Two rows, masks above mixed photographs; the photographs are scikit-learn's samples."""
    masks = load(records, "mask_gallery")["masks"]
    first, second = (_photo(k, ZOOM * len(next(iter(masks.values()))["mask"])) for k in (0, 1))
    figure = Figure(figsize=(PAGE, 2.45))
    axes = figure.subplots(2, len(masks) + 1)
    for ax, image, title in zip(axes[:, 0], (first, second), ("first image", "second image"), strict=True):
        ax.imshow(image)
        ax.set_title(title)
    for column, (name, entry) in zip(axes[:, 1:].T, masks.items(), strict=True):
        mask = np.kron(entry["mask"], np.ones((ZOOM, ZOOM)))
        scale = column[0].imshow(entry["mask"], cmap=MASK, vmin=0, vmax=1)
        column[0].set_title(NAMES[name])
        column[1].imshow(mask[:, :, None] * first + (1 - mask[:, :, None]) * second)
        column[1].set_title(f"label weight {entry['label_weight']:.2f}", fontsize=7)
    for ax in axes.flat:
        ax.set_xticks([])
        ax.set_yticks([])
        ax.spines[:].set_visible(True)
    bar = figure.colorbar(scale, ax=axes[:, -1], ticks=(0, 0.5, 1), shrink=0.8, aspect=22)
    bar.set_label("weight of the first image")
    return save(figure, out, "masks")


def _photo(index: int, size: int) -> np.ndarray:
    """The middle square of one of scikit-learn's two sample photographs, values in [0, 1], [size, size, 3]."""
    image = Image.fromarray(load_sample_images().images[index])
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    small = image.crop((left, top, left + side, top + side)).resize((size, size), Image.Resampling.LANCZOS)
    return np.asarray(small) / 255
