"""What libraries ship as CutMix: where pixels are replaced, what is regularized, and which pixel pairs are weighted."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from figures.style import COLOURS, CYAN, GREY, INDIGO, PAGE, TEAL, WINE, load, save

CAPTION = (
    "{laws} laws under the name CutMix, alpha = 1, each measured as a black box from {draws:,} draws; colours are "
    "families of laws. Left: probability that a pixel comes from the partner, {size}x{size}: corners, middle of the "
    "edges, centre, and the mean over all pixels (upright stroke). Middle: regularizer R2 at the data and measured "
    "rise of the mixed loss on n = {networks} CutMix-trained networks (8x8 digits), over those of the published CutMix "
    "on the same networks; at 1 a law does what the published one does. Right: mean coefficient a(p) of the pixel "
    "pairs at distance |p|, exact law, {size}x{size}. Bars and bands are one standard error (of the measurement of the "
    "law; in the middle also over networks); those that are not seen are smaller than the marker."
)
FAMILIES = {
    "clipped": (COLOURS["cutmix"], "clipped, label corrected"),
    "uniform": (CYAN, "centres beyond the border"),
    "range": (TEAL, "sides from a range"),
    "inside": (INDIGO, "inside the image"),
    "random alpha": (GREY, "inside, random alpha"),
    "uncorrected": (WINE, "clipped, label not corrected"),
    "misread": ("black", "label misread"),
}
PLACES = {"corner": ("o", "white"), "edge": ("^", "white"), "centre": ("s", None)}


def caption(records: Mapping[str, Any]) -> str:
    """The caption with the numbers of the record."""
    record = records["law_zoo"]
    return CAPTION.format(
        laws=sum(r["family"] in FAMILIES for r in record["result"]["rows"]),
        draws=record["config"]["draws"],
        networks=len(record["config"]["seeds"]),
        size=record["result"]["size"],
    )


def draw(records: Path, out: Path) -> list[Path]:
    """Two panels of rows, one row a law, and the coefficient against distance."""
    rows = [r for r in load(records, "law_zoo")["rows"] if r["family"] in FAMILIES]
    figure = Figure(figsize=(PAGE, 3.7))
    left, middle, right = figure.subplots(1, 3, width_ratios=(1.1, 0.9, 1.2))
    for k, row in enumerate(rows):
        _replaced(left, k, row)
        _regularized(middle, k, row)
    for ax in (left, middle):
        ax.set_ylim(len(rows) - 0.5, -0.5)
        ax.grid(axis="y", color="0.93", linewidth=0.6)
        ax.set_axisbelow(True)
        ax.tick_params(axis="y", length=0)
        ax.spines["left"].set_visible(False)
    left.set_yticks(range(len(rows)), labels=[r["title"] for r in rows])
    middle.set_yticks(range(len(rows)), labels=[])
    left.set_xlim(-0.03, 0.9)
    left.set_xlabel("probability of replacement")
    middle.axvline(1, color="0.8", linewidth=0.8, zorder=0)
    middle.set_xlim(0, None)
    middle.set_xlabel("ratio to published CutMix")
    for row in rows:
        _coefficient(right, row)
    right.set_ylim(0, None)
    right.set_xlabel("distance |p| (pixels)")
    right.set_ylabel("mean coefficient a(p)")
    _legends(figure, left, middle)
    return save(figure, out, "laws")


def _replaced(ax: Axes, k: int, row: dict[str, Any]) -> None:
    size, colour = row["sizes"][0], FAMILIES[row["family"]][0]
    values = [size[name]["mean"] for name in PLACES]
    ax.plot([min(values), max(values)], [k, k], color=colour, linewidth=0.8, zorder=1)
    for name, (marker, face) in PLACES.items():
        ax.errorbar(
            size[name]["mean"],
            k,
            xerr=size[name]["se"],
            color=colour,
            marker=marker,
            markerfacecolor=face or colour,
            markersize=4,
            markeredgewidth=0.8,
            elinewidth=0.7,
        )
    ax.plot(size["share"]["mean"], k, color=colour, marker="|", markersize=8, markeredgewidth=1.4)


def _regularized(ax: Axes, k: int, row: dict[str, Any]) -> None:
    colour = FAMILIES[row["family"]][0]
    for name, shift, face in (("r2", -0.14, "white"), ("rise", 0.14, colour)):
        value = row["relative"][name]
        ax.errorbar(
            value["mean"],
            k + shift,
            xerr=value["se"],
            color=colour,
            marker="D",
            markerfacecolor=face,
            markersize=3.5,
            markeredgewidth=0.8,
            elinewidth=0.7,
        )


def _coefficient(ax: Axes, row: dict[str, Any]) -> None:
    curve, colour = row["by_distance"], FAMILIES[row["family"]][0]
    ax.plot(curve["distance"], curve["coefficient"], color=colour, linewidth=0.9)
    low, high = ([a + sign * s for a, s in zip(curve["coefficient"], curve["se"], strict=True)] for sign in (-1, 1))
    ax.fill_between(curve["distance"], low, high, color=colour, alpha=0.15, linewidth=0)


def _legends(figure: Figure, left: Axes, middle: Axes) -> None:
    def mark(marker: str, face: str | None, label: str, size: float = 4) -> Line2D:
        face = face or "0.3"
        return Line2D(
            [], [], color="0.3", marker=marker, markerfacecolor=face, markersize=size, linestyle="none", label=label
        )

    places = [mark(marker, face, name) for name, (marker, face) in PLACES.items()]
    style = {"handletextpad": 0.1, "columnspacing": 0.8, "borderaxespad": 0.2}
    left.legend(
        handles=[*places, mark("|", None, "mean", 8)], loc="lower right", bbox_to_anchor=(1, 1), ncols=4, **style
    )
    both = [mark("D", "white", "R2", 3.5), mark("D", None, "measured rise", 3.5)]
    middle.legend(handles=both, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, **style)
    families = [Line2D([], [], color=c, linewidth=2, label=label) for c, label in FAMILIES.values()]
    figure.legend(handles=families, loc="outside lower center", ncols=4, columnspacing=1.2)
