"""The remainder of the expansion against the step t, with its slope."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from figures.style import COLOURS, COLUMN, MARKERS, NAMES, load, save

CAPTION = (
    "Remainder |R(t)| of the second-order expansion at the data with the step shrunk to t delta, one softplus network "
    "trained with CutMix, n = {images} digits, every mask and partner enumerated (exact law): no sampling error, no "
    "error bars. Correct terms fall with slope 3 (grey line; fitted slopes in the legend); lines that coincide hide "
    "each other; with every a_jk 1 % off (dashed, CutMix) the slope tends to 2."
)


def caption(records: Mapping[str, Any]) -> str:
    """The caption with the numbers of the record."""
    return CAPTION.format(images=records["remainder_order"]["result"]["images"])


def draw(records: Path, out: Path) -> list[Path]:
    """One log-log panel; curves of strategies nearly coincide."""
    rows = load(records, "remainder_order")["rows"]
    figure = Figure(figsize=(COLUMN, 2.9))
    ax = figure.subplots()
    for row in rows:
        name, size = row["strategy"], np.abs(row["remainder"])
        if row["kind"] == "right" and row["law"] == "exact":
            label = f"{NAMES[name]}: {row['slope']:.2f}"
            ax.plot(row["t"], size, color=COLOURS[name], marker=MARKERS[name], label=label)
        elif row["kind"] == "a_jk 1 % off" and name == "cutmix":
            label = f"{NAMES[name]}, $a_{{jk}}$ 1 % off: {row['slope']:.2f}"
            ax.plot(
                row["t"], size, color=COLOURS[name], marker=MARKERS[name], markerfacecolor="white", ls="--", label=label
            )
    t = np.array(rows[0]["t"])
    guide = np.abs(rows[0]["remainder"][0]) / 6 * (t / t[0]) ** 3
    ax.plot(t, guide, color="0.5", linewidth=0.8)
    ax.annotate("slope 3", (t[2], guide[2]), xytext=(4, -9), textcoords="offset points", color="0.4", fontsize=7)
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    ax.set_xlabel("step t (share of the full step)")
    ax.set_ylabel("remainder |R(t)| (nats)")
    ax.legend(loc="upper left", title="fitted slope", fontsize=6, title_fontsize=6, alignment="left", labelspacing=0.3)
    return save(figure, out, "remainder")
