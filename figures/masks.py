"""Masks and mixed images of every strategy side by side."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image
from sklearn.datasets import load_sample_images

from figures.style import NAMES, PAGE, load, save

CAPTION = (
    "Masks M (weight of the first image; black 0, white 1) and mixed images of each strategy at lam = .65 "
    "(HMix with r = .5), box and bump at one centre. The number is the label weight of the first image; CutMix and "
    "GMix use the mean of M, which differs from lam by the rounding of the box and by the border."
)
ZOOM = 3  # photograph pixels for each mask pixel, along each side


def draw(records: Path, out: Path) -> list[Path]:
    """Two rows, masks above mixed photographs; the photographs are scikit-learn's samples."""
    masks = load(records, "mask_gallery")["masks"]
    first, second = (_photo(k, ZOOM * len(next(iter(masks.values()))["mask"])) for k in (0, 1))
    figure = Figure(figsize=(PAGE, 2.55))
    axes = figure.subplots(2, len(masks) + 1)
    for ax, image, title in zip(axes[:, 0], (first, second), ("first image", "second image"), strict=True):
        ax.imshow(image)
        ax.set_title(title)
    for column, (name, entry) in zip(axes[:, 1:].T, masks.items(), strict=True):
        mask = np.kron(entry["mask"], np.ones((ZOOM, ZOOM)))
        column[0].imshow(mask, cmap="gray", vmin=0, vmax=1)
        column[0].set_title(NAMES[name])
        column[1].imshow(mask[:, :, None] * first + (1 - mask[:, :, None]) * second)
        column[1].set_title(f"label {entry['label_weight']:.2f}", fontsize=7)
    for ax in axes.flat:
        ax.set_xticks([])
        ax.set_yticks([])
        ax.spines[:].set_visible(True)
    return save(figure, out, "masks")


def _photo(index: int, size: int) -> np.ndarray:
    """The middle square of one of scikit-learn's two sample photographs, values in [0, 1], [size, size, 3]."""
    image = Image.fromarray(load_sample_images().images[index])
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    small = image.crop((left, top, left + side, top + side)).resize((size, size), Image.Resampling.LANCZOS)
    return np.asarray(small) / 255
