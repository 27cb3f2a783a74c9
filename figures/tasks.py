"""Two designed tasks, what mixing makes of their images, and test accuracy against predicted conflict."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D

from figures.style import COLOURS, MARKERS, NAMES, PAGE, load, save

CAPTION = (
    "Two designed tasks. Pictures: an image of each of four classes, then the first and the last of them mixed, by "
    "Mixup and by a box with the same label weight (in the title). Above, the label counts the pixels of the box, not "
    "what became of the two patches; below, Mixup of two textures has less contrast, and contrast is the class. Right: "
    "test accuracy of networks trained with each strategy against the conflict of its labels with the evidence, "
    "predicted by base + Gauss-Newton at the mask on the ideal classifier of the task, without training; less conflict "
    "should be better. Bars are 95 % intervals over drawings (Student's t); dashed: vanilla training."
)


def draw(records: Path, out: Path) -> list[Path]:
    """One row a task: pictures, and accuracy against conflict."""
    tasks = load(records, "task_winners")["tasks"]
    figure = Figure(figsize=(PAGE, 1.75 * len(tasks) + 0.45))
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
    grid = figure.subplots(len(tasks), 6, squeeze=False)
    for line, task in zip(grid, tasks, strict=True):
        e = task["examples"]
        titles = [f"class {c + 1}" for c in e["classes"]]
        weight = f"{e['lam']:.2f}"
        titles += [
            f"Mixup\n{weight} of class {e['classes'][0] + 1}",
            f"CutMix\n{weight} of class {e['classes'][0] + 1}",
        ]
        for ax, picture, title in zip(line, [*e["clean"], e["mixup"], e["cutmix"]], titles, strict=True):
            ax.imshow(np.array(picture), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            ax.set_xticks([])
            ax.set_yticks([])
            ax.set_title(title, fontsize=7)
        line[0].set_ylabel(task["task"], fontsize=8)


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
    ax.set_title(task["task"])
    ax.set_ylabel("test accuracy (%)")


def _handle(name: str) -> Line2D:
    if name == "vanilla":
        return Line2D([], [], color=COLOURS[name], linewidth=0.8, linestyle="--", label=NAMES[name])
    return Line2D([], [], color=COLOURS[name], marker=MARKERS[name], linestyle="none", label=NAMES[name])
