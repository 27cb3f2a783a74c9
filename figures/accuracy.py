"""Test accuracy of each strategy minus vanilla's, paired over seeds, a panel for each data set and network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from figures.engine import TITLES
from figures.style import COLOURS, COLUMN, MARKERS, NAMES, load, save

CAPTION = (
    "Test accuracy minus that of vanilla training with the same seed, in percentage points; right of the line a "
    "strategy is better than vanilla training; scales differ between panels. Small dots: one a seed, n = {seeds}; "
    "marker and bar: mean and 95 % interval of the paired differences (Student's t) over seeds, filled where the "
    "interval does not contain 0. Intervals are for the given training and test images and are not corrected for their "
    "number."
)
DATA = {"digits": "digits", "cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "fashion_mnist": "Fashion-MNIST"}
DATA |= {"imagenette64": "Imagenette 64x64", "folder imagenet": "ImageNet"}
MODELS = TITLES | {"resnet8": "ResNet-8", "resnet18": "ResNet-18", "wideresnet16": "WideResNet-16"}
RECORD = "accuracy"
COLUMNS = 2
LABEL = "test accuracy minus vanilla (points)"


def caption(records: Mapping[str, Any]) -> str:
    """The caption with the numbers of the record."""
    rows = [r for r in records[RECORD]["result"]["rows"] if r["minus_vanilla"]]
    counts = sorted({len(r["minus_vanilla"]["values"]) for r in rows})
    return CAPTION.format(seeds=" to ".join(str(n) for n in dict.fromkeys((counts[0], counts[-1]))))


def strategy_name(strategy: str) -> str:
    """What a strategy's text is called: ``HMix (ratio=0.75)``."""
    return " (".join([NAMES[_base(strategy)], *strategy.split("(", 1)[1:]])


def data_name(data: str) -> str:
    """What a data set is called; a path after its name is left out."""
    name = data.split(":")[0]
    return DATA.get(name, name)


def model_name(model: str) -> str:
    """What a network is called."""
    return MODELS.get(model, model)


def cell_name(data: str, model: str) -> str:
    """Title of a data set and a network."""
    return f"{data_name(data)}, {model_name(model)}"


def draw(records: Path, out: Path) -> list[Path]:
    """One panel a cell; strategies from top to bottom in the order of all figures.

    Raises:
        ValueError: if no row has a vanilla run of the same seed.
    """
    rows = [r for r in load(records, RECORD).get("rows", []) if r["minus_vanilla"]]
    if not rows:
        raise ValueError(
            f"expected rows paired with vanilla in the record {RECORD}, got none; make its result with "
            "experiments.accuracy_stats.summary, from vanilla runs of the others' seeds too."
        )
    cells = list(dict.fromkeys((r["data"], r["model"]) for r in rows))
    names = list(NAMES)
    strategies = sorted({r["strategy"] for r in rows}, key=lambda s: (names.index(_base(s)), s))
    columns = min(COLUMNS, len(cells))
    lines = -(-len(cells) // columns)
    figure = Figure(figsize=(COLUMN, lines * (0.21 * len(strategies) + 0.42) + 0.22))
    grid = figure.subplots(lines, columns, squeeze=False, sharey=True)
    for ax, cell in zip(grid.flat, cells, strict=False):
        _panel(ax, [r for r in rows if (r["data"], r["model"]) == cell], strategies)
        ax.set_title(cell_name(*cell), fontsize=7)
    for ax in grid.flat[len(cells) :]:
        ax.set_visible(False)
    if columns == 1:
        grid[-1, 0].set_xlabel(LABEL)
    else:
        figure.supxlabel(LABEL, fontsize=8)
    return save(figure, out, "accuracy")


def _base(strategy: str) -> str:
    return strategy.split("(", 1)[0].strip().lower()


def _panel(ax: Axes, rows: list[dict[str, Any]], strategies: list[str]) -> None:
    ax.axvline(0, color="0.45", linewidth=0.8, zorder=0.9)
    for row in rows:
        _line(ax, row, strategies.index(row["strategy"]))
    names = [strategy_name(s).replace(" or ", "\nor ").replace(" (", "\n(") for s in strategies]
    ax.set_yticks(range(len(strategies)), labels=names, linespacing=0.95)
    ax.set_ylim(len(strategies) - 0.4, -0.6)
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    ax.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10], min_n_ticks=3))
    ax.xaxis.set_major_formatter(lambda x, _: f"{x:+g}".replace("-", "−") if x else "0")
    ax.grid(axis="x", color="0.92", linewidth=0.6)
    ax.set_axisbelow(True)
    ax.margins(x=0.06)


def _line(ax: Axes, row: dict[str, Any], y: int) -> None:
    """Seeds below, mean and interval above the middle of a line."""
    d, colour = row["minus_vanilla"], COLOURS[_base(row["strategy"])]
    ax.plot(
        [100 * v for v in d["values"]],
        [y + 0.24] * len(d["values"]),
        color=colour,
        marker="o",
        markersize=2.6,
        markeredgewidth=0,
        alpha=0.5,
        linestyle="none",
    )
    known = d["low"] is not None
    told = known and d["low"] != d["high"] and d["low"] * d["high"] > 0  # as accuracy_stats.side
    ax.errorbar(
        100 * d["mean"],
        y - 0.1,
        xerr=[[100 * (d["mean"] - d["low"])], [100 * (d["high"] - d["mean"])]] if known else None,
        color=colour,
        marker=MARKERS[_base(row["strategy"])],
        markerfacecolor=colour if told else "white",
        markersize=4,
        markeredgewidth=0.8,
        elinewidth=1,
        linestyle="none",
    )
