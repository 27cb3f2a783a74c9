"""Terms of the expansion as stacked bars beside the measured mixed loss: of the study, and of a model of one's own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from figures.own_style import colour, label, marker
from figures.style import PAGE, load, save

RECORDS = ("expansion_gap",)
OWN_RECORDS = ("compare",)
BARS = (
    ("paper", "data", "data, paper"),
    ("exact", "data", "data"),
    ("exact", "mean", "mean"),
    ("exact", "mask", "mask"),
)
# Slate in steps of lightness, the last with a hatch: in order of the stack, and told apart in grey print.
TERMS: dict[str, tuple[str, dict[str, Any]]] = {
    "base": ("base", {"facecolor": "#2F3640"}),
    "r1": ("$R_1$", {"facecolor": "#7F8C9B"}),
    "r2": ("$R_2$", {"facecolor": "#CDD4DC"}),
    "r3": ("$R_3$", {"facecolor": "white", "hatch": "//////"}),
}
STRATEGIES = ("mixup", "cutmix", "hmix", "gmix")
ACTIVATIONS = {"softplus": "softplus", "relu": "ReLU"}
CAPTION = (
    "Terms of the second-order expansion and the mixed loss that they stand for, digits; alpha = 1. Rows: softplus and "
    "ReLU networks; left: trained without mixing, right: trained with the strategy that is measured. For each strategy "
    "four bars: the expansion at the data under the paper's law and under the exact law, at the conditional mean and "
    "at the mask. A bar stacks the base loss, R1, R2 and R3, negative terms downwards from 0; the short line across it "
    "is their sum. The marker and the dotted line are the measured loss. At the data the base is the loss of the "
    "unmixed images, and the sum under the exact law is {data_vanilla} of the measured loss on networks trained "
    "without mixing, {data_own} on networks trained with the strategy. At the mask base and R2 together are "
    "{mask_vanilla} and {mask_own} of it; there R3 is {r3} times the measured loss on softplus networks. ReLU networks "
    "have no R3. Means over n = {networks} networks, {images} training images and {draws} draws an image; error bars "
    "are standard errors of the measured loss over networks."
)
OWN_CAPTION = (
    "Terms of the second-order expansion and the mixed loss that they stand for, {models}; {images} images of {data}. "
    "For each strategy a bar for each law and point of expansion: base loss, R1, R2 and R3 stacked, negative terms "
    "downwards from 0; the short line across a bar is their sum. The marker and the dotted line are the measured loss: "
    "a bar whose short line meets it explains the strategy. n = {draws} draws of mask and partner, the same for all "
    "models and strategies; error bars are standard errors over these draws."
)


def draw(records: Path, out: Path) -> list[Path]:
    """Networks trained without mixing beside networks trained with the strategy itself, for both activations."""
    summary = load(records, "expansion_gap")["summary"]
    figure = Figure(figsize=(PAGE, 4.6))
    axes = figure.subplots(2, 2, sharex=True, sharey="col")
    bars = [b for b in BARS if any((r["law"], r["at"]) == b[:2] for r in summary)]
    for line, (activation, name) in zip(axes, ACTIVATIONS.items(), strict=True):
        for ax, matched in zip(line, (False, True), strict=True):
            own = [r for r in summary if r["activation"] == activation]
            own = [r for r in own if r["training"] == (r["strategy"] if matched else "vanilla")]
            _panel(ax, own, [s for s in STRATEGIES if any(r["strategy"] == s for r in own)], bars)
            ax.set_title(f"{name}, trained {'with the same strategy' if matched else 'without mixing'}")
        line[0].set_ylabel("loss (nats)")
    _legend(figure)
    return save(figure, out, "terms")


def caption(records: Mapping[str, Any]) -> str:
    """What the study's figure shows, with its numbers of networks, images and draws."""
    result = records["expansion_gap"]["result"]
    rows = [r for r in result["summary"] if r["law"] == "exact" and r["strategy"] in STRATEGIES]
    vanilla = [r for r in rows if r["training"] == "vanilla"]
    own = [r for r in rows if r["training"] == r["strategy"]]
    return CAPTION.format(
        networks=rows[0]["networks"],
        images=result["images"],
        draws=result["draws"],
        r3=_span([r for r in vanilla + own if r["activation"] == "softplus"], "mask", ("r3",)),
        data_vanilla=_span(vanilla, "data", ("predicted",)),
        data_own=_span(own, "data", ("predicted",)),
        mask_vanilla=_span(vanilla, "mask", ("base", "r2")),
        mask_own=_span(own, "mask", ("base", "r2")),
    )


def _span(rows: Iterable[Mapping[str, Any]], at: str, terms: Sequence[str]) -> str:
    """Smallest and largest share of the measured loss that these terms are together, over rows with means."""
    shares = [sum(r[t]["mean"] for t in terms) / r["measured"]["mean"] for r in rows if r["at"] == at]
    return f"{min(shares):.2f} to {max(shares):.2f}".replace("-", "−")


def draw_own(records: Path, out: Path) -> list[Path]:
    """One panel for each model of the record ``compare``, on scales of their own."""
    result = load(records, "compare")
    models, strategies = [m["model"] for m in result["models"]], result["strategies"]
    bars = [b for b in BARS if any((r["law"], r["at"]) == b[:2] for r in result["terms"])]
    bars += [(law, at, f"{at}, paper") for law, at in _pairs(result["terms"]) if law == "paper" and at != "data"]
    figure = Figure(figsize=(PAGE, 0.7 + 2.3 * len(models)))
    axes = figure.subplots(len(models), 1, squeeze=False, sharex=True)[:, 0]
    for ax, model in zip(axes, models, strict=True):
        _panel(ax, [r for r in result["terms"] if r["model"] == model], strategies, bars)
        ax.set_title(model, loc="left")
        ax.set_ylabel("loss (nats)")
    _legend(figure)
    return save(figure, out, "own_terms")


def own_caption(records: Mapping[str, Any]) -> str:
    """What the figure of one's own models shows."""
    result = records["compare"]["result"]
    models = " and ".join(m["model"] for m in result["models"])
    images, data = result["data"]["images"], result["data"]["name"].partition(":")[0]
    return OWN_CAPTION.format(models=models, images=images, data=data, draws=result["terms"][0]["measured"]["n"])


def _pairs(rows: Iterable[Mapping[str, Any]]) -> list[tuple[str, str]]:
    return list(dict.fromkeys((r["law"], r["at"]) for r in rows))


def _panel(
    ax: Axes, rows: Sequence[Mapping[str, Any]], strategies: Sequence[str], bars: Sequence[tuple[str, str, str]]
) -> None:
    """A group of bars for each strategy, and its measured loss to their right."""
    width = len(bars) + 2  # the marker's place and a gap
    ticks, names = [], []
    for group, strategy in enumerate(strategies):
        cells = {(r["law"], r["at"]): r for r in rows if r["strategy"] == strategy}
        start = group * width
        for k, (law, at, name) in enumerate(bars):
            ticks.append(start + k)
            names.append(name)
            _bar(ax, start + k, cells[law, at])
        _measured(ax, start, start + len(bars), cells, strategy)
    ax.axhline(0, color="black", linewidth=0.6)
    ax.set_xticks(ticks, labels=names, rotation=90, fontsize=6)
    ax.tick_params(axis="x", length=0)
    ax.set_xlim(-1, len(strategies) * width - 1)
    ax.margins(y=0.2 if any("(" in s for s in strategies) else 0.14)  # room for the names


def _measured(
    ax: Axes, start: float, place: float, cells: Mapping[tuple[str, str], Mapping[str, Any]], strategy: str
) -> None:
    """A marker beside the bars, a dotted line across them, and the strategy's name above all."""
    measured = next(iter(cells.values()))["measured"]
    ax.plot((start - 0.5, place), [measured["mean"]] * 2, color=colour(strategy), linestyle=":", linewidth=0.9)
    ax.errorbar(
        place,
        measured["mean"],
        yerr=measured["se"],
        color=colour(strategy),
        marker=marker(strategy),
        markersize=4.5,
        elinewidth=0.9,
        capsize=2,
        linestyle="none",
    )
    top = max(sum(max(r[t]["mean"], 0.0) for t in TERMS) for r in cells.values())
    ax.annotate(
        label(strategy).replace(" (", "\n("),
        ((start + place) / 2, max(top, measured["mean"] + measured["se"])),
        xytext=(0, 5),
        textcoords="offset points",
        ha="center",
        va="bottom",
        fontsize=7,
    )


def _bar(ax: Axes, x: float, row: Mapping[str, Any]) -> None:
    """Positive terms upwards from 0, negative ones downwards; a line at their sum."""
    top = bottom = 0.0
    for term, (_, look) in TERMS.items():
        value = row[term]["mean"]
        ax.bar(x, value, 0.8, bottom=top if value > 0 else bottom, edgecolor="#2F3640", linewidth=0.4, **look)
        top, bottom = top + max(value, 0.0), bottom + min(value, 0.0)
    sum_of = row["predicted"]["mean"]
    ax.plot((x - 0.5, x + 0.5), (sum_of, sum_of), color="white", linewidth=2.2, solid_capstyle="butt", zorder=3)
    ax.plot((x - 0.5, x + 0.5), (sum_of, sum_of), color="black", linewidth=1.1, solid_capstyle="butt", zorder=4)


def _legend(figure: Figure) -> None:
    handles: list[Any] = [
        Patch(edgecolor="#2F3640", linewidth=0.4, label=name, **look) for name, look in TERMS.values()
    ]
    handles.append(Line2D([], [], color="black", linewidth=1.1, label="their sum"))
    handles.append(Line2D([], [], color="0.4", marker="o", linestyle=":", linewidth=0.9, label="measured mixed loss"))
    figure.legend(handles=handles, loc="outside lower center", ncols=6, columnspacing=1.6, handletextpad=0.5)
