"""Two designed tasks, what mixing makes of their images, and test accuracy against predicted conflict."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from figures.style import COLOURS, MARKERS, NAMES, PAGE, load, save

CAPTION = (
    "Two designed tasks. Pictures: an image of the first and one of the last class, and both mixed, by Mixup and by a "
    "box (orange), with the same label: the share of the first class in the title. Above, the label counts the pixels "
    "of the box, not what became of the two patches; below, Mixup of two textures has less contrast, and contrast is "
    "the class. Right: test accuracy of networks trained with each strategy against the conflict of its labels with "
    "the evidence, predicted by base + Gauss-Newton at the mask on the ideal classifier of the task; less conflict "
    "should be better. Means over n = {seeds} drawings of the images, one network each; bars are 95 % intervals over "
    "them (Student's t); dashed: vanilla training."
)


def caption(records: Mapping[str, Any]) -> str:
    """The caption with the numbers of the record."""
    return CAPTION.format(seeds=records["task_winners"]["result"]["tasks"][0]["seeds"])


def draw(records: Path, out: Path) -> list[Path]:
    """One row a task: pictures, and accuracy against conflict."""
    tasks = load(records, "task_winners")["tasks"]
    figure = Figure(figsize=(PAGE, 1.6 * len(tasks) + 0.35))
    left, right = figure.subfigures(1, 2, width_ratios=(1.75, 1), squeeze=False)[0]
    _pictures(left, tasks)
    axes = right.subplots(len(tasks), 1, squeeze=False)[:, 0]
    for ax, task in zip(axes, tasks, strict=True):
        _scatter(ax, task)
    axes[-1].set_xlabel("predicted conflict (nats)")
    names = [r["strategy"] for r in tasks[0]["rows"]]
    handles = [_handle(name) for name in names]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(names), columnspacing=1.2, handletextpad=0.3)
    return save(figure, out, "tasks")


def _pictures(figure: SubFigure, tasks: list[dict[str, Any]]) -> None:
    grid = figure.subplots(len(tasks), 4, squeeze=False)
    for line, task in zip(grid, tasks, strict=True):
        e = task["examples"]
        pictures = {
            f"class {e['classes'][0] + 1}": e["clean"][0],
            f"class {e['classes'][-1] + 1}": e["clean"][-1],
            f"Mixup, label {e['lam']:.2f}": e["mixup"],
            f"CutMix, label {e['lam']:.2f}": e["cutmix"],
        }
        for ax, (title, picture) in zip(line, pictures.items(), strict=True):
            ax.imshow(np.array(picture), cmap="gray", vmin=16, vmax=240, interpolation="nearest")
            ax.set_xticks([])
            ax.set_yticks([])
            for spine in ax.spines.values():
                spine.set_visible(False)
            ax.set_title(title, fontsize=7, pad=3)
        _box(line[-1], np.array(e["cutmix"]) != np.array(e["clean"][0]))
        line[0].set_ylabel(task["task"], fontsize=8)


def _box(ax: Axes, changed: np.ndarray) -> None:
    """Outline of the pasted part, the rectangle around all pixels that changed."""
    rows, columns = (np.flatnonzero(changed.any(axis=k)) for k in (1, 0))
    corner = (columns[0] - 0.5, rows[0] - 0.5)
    size = (columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1)
    ax.add_patch(Rectangle(corner, *size, fill=False, edgecolor=COLOURS["cutmix"], linewidth=1.2, clip_on=False))


def _scatter(ax: Axes, task: dict[str, Any]) -> None:
    for row in task["rows"]:
        y, error, name = 100 * row["accuracy"]["mean"], 100 * row["accuracy"]["half"], row["strategy"]
        if row["ideal"] is None:
            ax.axhline(y, color=COLOURS[name], linewidth=0.8, linestyle="--", zorder=0)
            continue
        x = row["ideal"]["predicted"]
        ax.errorbar(
            x["mean"],
            y,
            xerr=x["half"],
            yerr=error,
            color=COLOURS[name],
            marker=MARKERS[name],
            markersize=4,
            elinewidth=0.7,
            linestyle="none",
        )
    ax.set_title(task["task"], pad=3)
    ax.set_ylabel("test accuracy (%)")


def _handle(name: str) -> Line2D:
    if name == "vanilla":
        return Line2D([], [], color=COLOURS[name], linewidth=0.8, linestyle="--", label=NAMES[name])
    return Line2D([], [], color=COLOURS[name], marker=MARKERS[name], linestyle="none", label=NAMES[name])
