"""Gap of the loss between test and training images against the effective dimension of the strategy."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from figures.style import COLOURS, MARKERS, NAMES, PAGE, load, save

CAPTION = (
    "Gap of the loss (test minus training, unmixed images) against the effective dimension of the training strategy on "
    "the same training images (exact law), digits; mean over n = {seeds} networks; bars and the grey band are 95 % "
    "intervals over them (Student's t); dashed: vanilla training, whose dimension is infinite. Were the dimension all "
    "that counts, points would rise from left to right. The bound grows with the root of the dimension, and it speaks "
    "of the linear models (odd against even digits); tau is Kendall's rank correlation over the strategies that mix."
)
KINDS = {"conv": "convolutional", "linear": "linear"}


def caption(records: Mapping[str, Any]) -> str:
    """The caption with the numbers of the record."""
    return CAPTION.format(seeds=records["generalization"]["result"]["rows"][0]["seeds"])


def draw(records: Path, out: Path) -> list[Path]:
    """One panel for each kind of network and number of training images."""
    result = load(records, "generalization")
    cells = list(dict.fromkeys((r["kind"], r["images"]) for r in result["rows"]))
    figure = Figure(figsize=(PAGE, 2.2))
    for ax, (kind, images) in zip(figure.subplots(1, len(cells)), cells, strict=True):
        dimension = {
            d["strategy"]: d["dimension"] for d in result["dimensions"] if (d["images"], d["law"]) == (images, "exact")
        }
        for row in (r for r in result["rows"] if (r["kind"], r["images"]) == (kind, images)):
            name, gap = row["training"], row["loss_gap"]
            if dimension[name] is None:
                ax.axhline(gap["mean"], color=COLOURS[name], linewidth=0.8, linestyle="--")
                ax.axhspan(gap["mean"] - gap["half"], gap["mean"] + gap["half"], color="0.9", linewidth=0, zorder=0)
                continue
            ax.errorbar(
                dimension[name], gap["mean"], yerr=gap["half"], color=COLOURS[name], marker=MARKERS[name],
                elinewidth=0.7, linestyle="none",
            )  # fmt: skip
        tau = next(
            o["tau"]
            for o in result["orders"]
            if (o["kind"], o["images"], o["law"], o["gamma"]) == (kind, images, "exact", "equal")
        )
        ax.set_title(f"{KINDS[kind]}\n{images:,} images, τ = {tau:+.1f}".replace("-", "−"), pad=3)
        ax.set_xlabel("effective dimension")
        ax.set_ylim(bottom=0)
        ax.margins(x=0.12)
    figure.axes[0].set_ylabel("gap of the loss (nats)")
    names = list(dict.fromkeys(r["training"] for r in result["rows"]))
    handles = [_handle(n) for n in names]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), columnspacing=1.2)
    return save(figure, out, "generalization")


def _handle(name: str) -> Line2D:
    if name == "vanilla":
        return Line2D([], [], color=COLOURS[name], linewidth=0.8, linestyle="--", label=NAMES[name])
    return Line2D([], [], color=COLOURS[name], marker=MARKERS[name], linestyle="none", label=NAMES[name])
