"""Which rung of the ladder explains the mixed loss, puts strategies in order, and reaches how far."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from figures.style import GREY, INDIGO, PAGE, ROSE, TEAL, WINE, load, save

CAPTION = (
    "Top: share of the measured rise that each rung predicts on trained networks at alpha = {alpha:g}, digits: median "
    "over n = {cells} cells of training and mixing strategy, bars from the smallest to the largest cell (filled: "
    "softplus; open: ReLU); on the line at 1 the rung predicts the measured loss; shares beyond the axis are cut at "
    "its ends. Bottom left: Kendall's rank correlation of predicted and measured order of the strategies (1: the same "
    "order), mean over n = {networks} networks, bars are one standard error. Bottom right: radius, the strength t up "
    "to which a rung stays within a tenth of the rise; median over networks and strategies, bars are "
    "quartiles{dashes}."
)
POINTS = (
    ("paper", "data", "data,\npaper's law"),
    ("exact", "data", "data"),
    ("exact", "mean", "conditional\nmean"),
    ("exact", "mask", "mask"),
    ("exact", "class", "class mean"),
    ("exact", "local", "blurred\npartner"),
)
RUNGS = {
    "base": (GREY, "o", "base"),
    "r2": (INDIGO, "s", "+ $R_1$ + $R_2$ (Gauss–Newton)"),
    "r3": (ROSE, "^", "+ $R_3$ (second order)"),
    "linearised": (TEAL, "D", "linearised network, exact loss"),
    "quadratic": (WINE, "v", "quadratic network, exact loss"),
}
LOW, HIGH = -0.5, 2.0
FILL = {"softplus": True, "relu": False}

Rows = list[dict[str, Any]]


def caption(records: Mapping[str, Any]) -> str:
    """The caption with the numbers of the record."""
    result = records["order_ladder"]["result"]
    alpha = max(r["alpha"] for r in result["shares"])
    shares, order = (_own(result[k], alpha) for k in ("shares", "order"))
    below = ", ".join(f"{a:g}" for a in sorted({r["alpha"] for r in result["radii"]})[:-1])
    return CAPTION.format(
        alpha=alpha,
        cells=max(r["cells"] for r in shares),
        networks=max(r["networks"] for r in order),
        dashes=f"; dashes: medians at alpha = {below}" if below else "",
    )


def draw(records: Path, out: Path) -> list[Path]:
    """Shares above; order of strategies and radii below."""
    result = load(records, "order_ladder")
    alpha = max(r["alpha"] for r in result["shares"])
    figure = Figure(figsize=(PAGE, 4.8))
    axes = figure.subplot_mosaic([["shares", "shares"], ["order", "radius"]])
    _shares(axes["shares"], _own(result["shares"], alpha))
    _order(axes["order"], _own(result["order"], alpha))
    _radius(axes["radius"], [r for r in result["radii"] if r["network"] in FILL])
    handles = [Line2D([], [], color=c, marker=m, linestyle="none", label=name) for c, m, name in RUNGS.values()]
    handles += [
        Line2D([], [], color="0.3", marker="o", linestyle="none", label="softplus"),
        Line2D([], [], color="0.3", marker="o", markerfacecolor="white", linestyle="none", label="ReLU"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, columnspacing=1.2, handletextpad=0.2)
    return save(figure, out, "order_ladder")


def _own(rows: Rows, alpha: float) -> Rows:
    """Trained networks at one alpha."""
    return [r for r in rows if (r["stage"], r["alpha"]) == ("trained", alpha) and r["network"] in FILL]


def _find(rows: Rows, **labels: object) -> dict[str, Any] | None:
    return next((r for r in rows if all(r[k] == v for k, v in labels.items())), None)


def _shares(ax: Axes, rows: Rows) -> None:
    networks = [n for n in FILL if any(r["network"] == n for r in rows)]
    for place, (law, at, _) in enumerate(POINTS):
        for k, (rung, (colour, marker, _)) in enumerate(RUNGS.items()):
            for side, network in enumerate(networks):
                row = _find(rows, law=law, at=at, rung=rung, network=network)
                if row is None:
                    continue
                x = place + (k - 2) * 0.16 + (side - 0.5) * 0.06
                low, middle, high = (min(max(row["over_cells"][v], LOW), HIGH) for v in ("min", "median", "max"))
                ax.plot((x, x), (low, high), color=colour, linewidth=0.8, alpha=0.7)
                face = colour if FILL[network] else "white"
                ax.plot(x, middle, color=colour, marker=marker, markersize=3.5, markerfacecolor=face)
    ax.axhline(1, color="0.6", linewidth=0.8, zorder=0)
    ax.axhline(0, color="0.85", linewidth=0.8, zorder=0)
    ax.set(ylim=(LOW, HIGH), ylabel="share of the rise", xlabel="expanded at")
    ax.set_xticks(range(len(POINTS)), labels=[name for *_, name in POINTS])
    ax.tick_params(axis="x", length=0)


def _order(ax: Axes, rows: Rows) -> None:
    for place, (law, at, _) in enumerate(POINTS):
        for k, (rung, (colour, marker, _)) in enumerate(RUNGS.items()):
            for side, network in enumerate(FILL):
                row = _find(rows, law=law, at=at, rung=rung, network=network)
                if row is not None:
                    tau, x = row["kendall"], place + (k - 2) * 0.16 + (side - 0.5) * 0.06
                    _point(ax, x, tau["mean"], [[tau["se"] or 0.0]] * 2, colour, marker, filled=FILL[network])
    ax.axhline(0, color="0.85", linewidth=0.8, zorder=0)
    ax.set(ylim=(-1.05, 1.1), ylabel="Kendall's $\\tau$", title="order of the strategies")
    ax.set_xticks(range(len(POINTS)), labels=_short(), fontsize=6)
    ax.set_xlabel("expanded at")


def _radius(ax: Axes, rows: Rows) -> None:
    places = [(law, at, name) for law, at, name in POINTS]
    alphas = sorted({r["alpha"] for r in rows})
    for place, (law, at, _) in enumerate(places):
        for k, (rung, (colour, marker, _)) in enumerate(RUNGS.items()):
            for a, alpha in enumerate(alphas):
                own = [r for r in rows if (r["law"], r["at"], r["rung"], r["alpha"]) == (law, at, rung, alpha)]
                for side, row in enumerate(own):
                    middle, (low, high) = row["over_cells"]["median"], row["over_cells"]["quartiles"]
                    x = place + (k - 2) * 0.16 + (side - 0.5) * 0.06
                    if a < len(alphas) - 1:  # a dash for the smaller alphas
                        ax.plot(x, middle, color=colour, marker="_", markersize=4, markeredgewidth=0.8)
                        continue
                    error = [[middle - low], [high - middle]]
                    _point(ax, x, middle, error, colour, marker, filled=FILL[row["network"]])
    ax.set(ylim=(-0.03, 1.05), ylabel="radius $t^*$", title="radius of each rung")
    ax.set_xticks(range(len(places)), labels=_short(), fontsize=6)
    ax.set_xlabel("expanded at")


def _short() -> list[str]:
    """Names of the points that fit into half a page's width."""
    return [name.replace("conditional\n", "").replace(" ", "\n") for *_, name in POINTS]


def _point(ax: Axes, x: float, y: float, error: list[list[float]], colour: str, marker: str, *, filled: bool) -> None:
    ax.errorbar(
        x,
        y,
        yerr=error,
        color=colour,
        marker=marker,
        markersize=3.5,
        markerfacecolor=colour if filled else "white",
        markeredgewidth=0.8,
        elinewidth=0.6,
        linestyle="none",
    )
