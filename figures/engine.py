"""Cost of second-order Taylor coefficients against the number of directions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from figures.style import INDIGO, PAGE, TEAL, WINE, load, save

CAPTION = (
    "Cost of second-order Taylor coefficients for K directions at B samples, in plain forward passes on K*B images "
    "(thin line: 1); a row for each device, on one scale of cost. Lower is cheaper: 'taylor' is this package's engine. "
    "Median over n = {rounds} rounds, bars from the least to the largest. Open markers: wrong derivatives (nested "
    "forward mode, jvp of jvp, through LayerNorm). The Hessian-vector product (HVP) gives one combination of outputs "
    "and no first derivative."
)
METHODS = {
    "nested jvp": (WINE, "s", "nested forward mode"),
    "HVP": (TEAL, "D", "Hessian-vector product\n(one combination of outputs)"),
    "taylor": (INDIGO, "o", "taylor (this package)"),
}
TITLES = {"preactresnet18": "PreActResNet-18", "wideresnet28": "WideResNet-28", "vit": "ViT", "resnet50": "ResNet-50"}
TICKS = (0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500)


def caption(records: Mapping[str, Any]) -> str:
    """The caption with the numbers of the record of the CPU (that of the GPU has as many rounds)."""
    return CAPTION.format(rounds=records["bench_taylor"]["config"]["rounds"])


def draw(records: Path, out: Path) -> list[Path]:
    """A row of log-log panels for the CPU, and one for the GPU if its record is there."""
    rows = [load(records, "bench_taylor")]
    if (records / "bench_taylor_gpu.json").exists():
        rows.append(load(records, "bench_taylor_gpu"))
    devices = [_device(records / f"{name}.json") for name in ("bench_taylor", "bench_taylor_gpu")[: len(rows)]]
    columns = max(len(r["networks"]) for r in rows)
    figure = Figure(figsize=(PAGE, 2.3 * len(rows)))
    grid = figure.subplots(len(rows), columns, squeeze=False, sharey=True)
    for axes, result, device in zip(grid, rows, devices, strict=True):
        for ax, network in zip(axes, result["networks"], strict=False):
            _panel(ax, network, result["times"])
        for ax in axes[len(result["networks"]) :]:
            ax.set_visible(False)
        axes[0].set_ylabel(f"cost (forward passes)\n{device}")
    measured = [t for r in rows for t in r["times"] if t["ratios"]]
    grid[0, 0].set_ylim(min(0.8, *(t["min"] / 1.3 for t in measured)), max(1.3 * t["max"] for t in measured))
    handles = [Line2D([], [], color=colour, marker=m, label=label) for colour, m, label in METHODS.values()]
    if any(t["agrees"] is False for r in rows for t in r["times"]):
        open_marker = Line2D([], [], color="0.3", marker="o", markerfacecolor="white", linestyle="none")
        open_marker.set_label("wrong derivatives")
        handles.append(open_marker)
    empty = [ax for ax in grid.flat if not ax.get_visible()]
    if len(empty) > 1:  # room for the legend
        empty[0].set_visible(True)
        empty[0].axis("off")
        empty[0].legend(handles=handles, loc="center left", bbox_to_anchor=(0.1, 0.5), labelspacing=1.0).set_in_layout(
            False
        )
    else:
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), columnspacing=1.4)
    return save(figure, out, "engine")


def _device(path: Path) -> str:
    device: str = json.loads(path.read_text(encoding="utf-8"))["device"]
    return device


def _panel(ax: Axes, network: dict[str, Any], times: list[dict[str, Any]]) -> None:
    own = [t for t in times if (t["network"], t["batch"]) == (network["network"], network["batch"])]
    for method, (colour, marker, _) in METHODS.items():
        rows = [t for t in own if t["method"] == method and t["forwards"] is not None]
        if not rows:
            continue
        cost = np.array([t["forwards"] for t in rows])
        ax.errorbar(
            [t["draws"] for t in rows],
            cost,
            yerr=[cost - [t["min"] for t in rows], [t["max"] for t in rows] - cost],
            color=colour,
            marker=marker,
            markerfacecolor="white" if any(t["agrees"] is False for t in rows) else colour,
            elinewidth=0.6,
        )
    ax.axhline(1, color="0.5", linewidth=0.6, zorder=0)
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    draws = sorted({t["draws"] for t in own})
    ax.set_xticks(draws, labels=[f"{k}" for k in draws])
    ax.set_yticks(TICKS, labels=[f"{t:g}" for t in TICKS])
    ax.minorticks_off()
    ax.set_xlabel("directions K")
    size = network["image"]
    ax.set_title(f"{TITLES[network['network']]}\n{size}x{size}, B = {network['batch']}")
