"""Accuracy under attack against the radius, and how much of the inequality's left side the right one reaches."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from figures.style import COLOURS, MARKERS, NAMES, PAGE, load, save

CAPTION = (
    "Left and middle, above: accuracy of convolutional networks on digits in [0, 1] in the worst case over the "
    "attacks, against the radius in either norm, mean over n = {seeds} networks of each training. Below: the same "
    "minus that of vanilla training, paired by seed, image and start; bars are 95 % intervals that cover networks and "
    "the {images} test images. Right: how much of the rise of the expanded mixed loss, L + R1 + R2 less L, that "
    "of the second-order adversarial loss reaches, its mean over images of the worst case in a ball, less L; the "
    "balls' radii come from the mean mixing step (docs/theory.md, Eq. (4); (4c) for the convolutional networks, of ten "
    "outputs). In %, under each strategy (exact law), on networks trained with it (filled) and without mixing "
    "(open); means over networks, bars are 95 % intervals over them (Student's t). Below "
    "100 % the inequality holds, that is, the expanded "
    "mixed loss is at least the adversarial one; the nearer to it, the tighter."
)
KINDS = {"linear": "linear", "relu": "ReLU,\nno bias", "conv": "convo-\nlutional"}
NORMS = {"linf": r"$\ell_\infty$", "l2": r"$\ell_2$"}


def caption(records: Mapping[str, Any]) -> str:
    """The caption with the numbers of the record."""
    result = records["robust_accuracy"]["result"]
    return CAPTION.format(seeds=result["attacks"][0]["seeds"], images=result["test_images"])


def draw(records: Path, out: Path) -> list[Path]:
    """Accuracies above, differences to vanilla below, the inequality beside them."""
    result = load(records, "robust_accuracy")
    figure = Figure(figsize=(PAGE, 4.0))
    axes = figure.subplot_mosaic([["linf", "l2", "bound"], ["linf-", "l2-", "bound"]])
    for norm in NORMS:
        rows = [r for r in result["attacks"] if (r["norm"], r["attack"]) == (norm, "worst")]
        _accuracy(axes[norm], rows)
        _differences(axes[f"{norm}-"], rows)
        axes[f"{norm}-"].set_xlabel(f"radius ({NORMS[norm]}, pixels in [0, 1])")
    axes["linf"].set_ylabel("worst-case accuracy (%)")
    axes["linf-"].set_ylabel("difference to vanilla (points)")
    _inequality(axes["bound"], [r for r in result["bounds"] if r["centred"] and r["law"] == "exact"])
    names = list(dict.fromkeys(r["training"] for r in result["attacks"]))
    handles = [Line2D([], [], color=COLOURS[n], marker=MARKERS[n], label=NAMES[n]) for n in names]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), columnspacing=1.2)
    return save(figure, out, "robust")


def _accuracy(ax: Axes, rows: list[dict[str, Any]]) -> None:
    for name in dict.fromkeys(r["training"] for r in rows):
        own = [r for r in rows if r["training"] == name]
        x, y = [r["eps"] for r in own], [100 * r["accuracy"]["mean"] for r in own]
        ax.plot(x, y, color=COLOURS[name], marker=MARKERS[name], markersize=3)
    ax.set_ylim(-3, 103)


def _differences(ax: Axes, rows: list[dict[str, Any]]) -> None:
    """Side by side at each radius."""
    mixing = [n for n in dict.fromkeys(r["training"] for r in rows) if n != "vanilla"]
    radii = list(dict.fromkeys(r["eps"] for r in rows))
    for k, name in enumerate(mixing):
        own = [r["difference"] for r in rows if r["training"] == name]
        x = [place + 0.15 * (k - (len(mixing) - 1) / 2) for place in range(len(radii))]
        ax.errorbar(
            x, [100 * d["mean"] for d in own], yerr=[100 * d["half"] for d in own], color=COLOURS[name],
            marker=MARKERS[name], markersize=3, elinewidth=0.7, linestyle="none",
        )  # fmt: skip
    ax.axhline(0, color=COLOURS["vanilla"], linewidth=0.8, linestyle="--", zorder=0)
    ax.set_xticks(range(len(radii)), labels=[f"{e:g}" for e in radii])


def _inequality(ax: Axes, rows: list[dict[str, Any]]) -> None:
    kinds = [k for k in KINDS if any(r["kind"] == k for r in rows)]
    names = list(dict.fromkeys(r["strategy"] for r in rows))
    for place, kind in enumerate(kinds):
        for k, name in enumerate(names):
            x = place + 0.14 * (k - (len(names) - 1) / 2)
            for training, face in ((name, COLOURS[name]), ("vanilla", "white")):
                row = next(r for r in rows if (r["kind"], r["strategy"], r["training"]) == (kind, name, training))
                y, half = (100 * row["tightness"][k] for k in ("mean", "half"))
                ax.errorbar(
                    x, y, yerr=half, color=COLOURS[name], marker=MARKERS[name], markerfacecolor=face, elinewidth=0.7,
                    markersize=3.5, markeredgewidth=0.8, linestyle="none",
                )  # fmt: skip
    ax.set_xticks(range(len(kinds)), labels=[KINDS[k] for k in kinds])
    ax.axhline(100, color="0.6", linewidth=0.8, linestyle="--")
    ax.set_ylim(0, 108)
    ax.set_ylabel("adversarial over expanded mixed rise (%)")
