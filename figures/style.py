"""One look for all figures: colours and markers of strategies, sizes, saving with fixed bytes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

LONGEST = 2**26  # bytes of a record, at most
COLUMN, PAGE = 3.4, 6.9  # widths in inches: one column, two columns

# Okabe and Ito's palette, safe for colour-blind readers; markers repeat the code for print in grey.
COLOURS = {
    "vanilla": "#000000",
    "mixup": "#0072B2",
    "cutmix": "#D55E00",
    "hmix": "#009E73",
    "gmix": "#CC79A7",
    "choice": "#E69F00",
    "field": "#56B4E9",
    "dropmix": "#999933",
}
MARKERS = {
    "vanilla": "X",
    "mixup": "o",
    "cutmix": "s",
    "hmix": "D",
    "gmix": "^",
    "choice": "v",
    "field": "P",
    "dropmix": "*",
}
NAMES = {
    "vanilla": "vanilla",
    "mixup": "Mixup",
    "cutmix": "CutMix",
    "hmix": "HMix",
    "gmix": "GMix",
    "choice": "Mixup or CutMix",
    "field": "Gaussian field",
    "dropmix": "DropMix",
}
LAWS = {"exact": "exact law", "paper": "paper's law"}
# For what is no strategy (methods, graphs, designs): Paul Tol's muted palette, so that strategies keep their colours.
INDIGO, WINE, TEAL, ROSE, CYAN, GREY = "#332288", "#882255", "#44AA99", "#CC6677", "#88CCEE", "#BBBBBB"
SIGNED, SEQUENTIAL, MASK = "RdBu_r", "viridis", "gray"  # maps: diverging, perceptually uniform, weights in [0, 1]


def use_style() -> None:
    """Set matplotlib's defaults for every figure."""
    mpl.use("Agg")
    mpl.rcParams.update(
        {
            "font.size": 8,
            "axes.labelsize": 8,
            "axes.titlesize": 8,
            "xtick.labelsize": 7,
            "ytick.labelsize": 7,
            "legend.fontsize": 7,
            "legend.frameon": False,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.linewidth": 0.6,
            "lines.linewidth": 1.2,
            "lines.markersize": 4,
            "pdf.fonttype": 42,
            "figure.dpi": 300,
            "savefig.dpi": 300,
            "figure.constrained_layout.use": True,
        }
    )


def load(records: str | Path, name: str) -> dict[str, Any]:
    """The result of a record.

    Raises:
        FileNotFoundError: with the command that makes the record.
        ValueError: if the file is not a record of at most `LONGEST` bytes.
    """
    path = Path(records) / f"{name}.json"
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing; make it with: python -m experiments.{name}")
    try:
        if path.stat().st_size > LONGEST:
            raise ValueError(f"it has more than {LONGEST} bytes")
        text = path.read_text(encoding="utf-8") if path.is_file() else '{"result": null}'
        result = json.loads(text, parse_int=_whole)["result"]
        json.dumps(result, allow_nan=False, ensure_ascii=False).encode()  # refuses what no record holds
    except (ValueError, LookupError, TypeError, OverflowError, RecursionError) as error:
        raise ValueError(
            f"{path} does not hold a record ({error}); make it with: python -m experiments.{name}"
        ) from error
    if not isinstance(result, dict):
        raise ValueError(f"{path} holds no result of a study; make it with: python -m experiments.{name}")
    return result


def _whole(text: str) -> int:
    number = int(text)
    float(number)  # refuses what no axis can take
    return number


def save(figure: Figure, out: Path, name: str) -> list[Path]:
    """Write NAME.pdf and NAME.png without dates, so that a rebuild gives the same bytes."""
    out.mkdir(parents=True, exist_ok=True)
    layout = figure.get_layout_engine()
    if layout is not None:  # once for both files
        layout.execute(figure)
        figure.set_layout_engine("none")
    pdf, png = out / f"{name}.pdf", out / f"{name}.png"
    figure.savefig(pdf, metadata={"CreationDate": None, "Producer": None, "Creator": None})
    figure.savefig(png, metadata={"Software": None})
    return [pdf, png]
