"""Up to which strength of mixing does each rung of the ladder hold?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from torch import nn

from msda_theory.data import ImageData
from msda_theory.engines import Engines
from msda_theory.ladder_table import OrderLadder
from msda_theory.masks.base import Strategy
from msda_theory.order_ladder import order_ladder
from msda_theory.streams import seed_from, stream
from msda_theory.verdicts import Radius, radius

SCALES = (1 / 16, 1 / 8, 1 / 4, 3 / 8, 1 / 2, 5 / 8, 3 / 4, 7 / 8, 1.0)


@dataclass(frozen=True)
class RadiusRow:
    """Radius of one rung for one strategy, law and point of expansion."""

    strategy: str
    law: str
    at: str
    rung: str
    radius: Radius


@dataclass(frozen=True, eq=False)
class Radii:
    """Rows of `order_radii`, as objects (``rows``) or as a table (``frame()``), and what they were read from.

    Attributes:
        rows: for each strategy, law, point and rung.
        ladders: the ladder at each scale t, increasing; all on the same draws.
    """

    rows: tuple[RadiusRow, ...]
    ladders: Mapping[float, OrderLadder]

    def frame(self) -> pd.DataFrame:
        """One line for each row: strategy law at rung radius low high tolerance."""
        return pd.DataFrame(
            {
                **{k: [getattr(r, k) for r in self.rows] for k in ("strategy", "law", "at", "rung")},
                "radius": [r.radius.value for r in self.rows],
                **{k: [getattr(r.radius, k) for r in self.rows] for k in ("low", "high", "tolerance")},
            }
        )


def order_radii(
    model: nn.Module,
    data: ImageData,
    strategies: Sequence[Strategy],
    *,
    scales: Sequence[float] = SCALES,
    tolerance: float = 0.1,
    rng: np.random.Generator,
    **options: Any,
) -> Radii:
    """Radius of every rung: the largest t up to which its error stays under ``tolerance`` of the rise, Eq. (9c).

    At each scale t of the step, ``t q (r - x)``, the whole ladder is evaluated on the same draws. Scales at which the
    loss rises by no more than rounding say nothing and are left out.

    Args:
        model: as in `order_ladder`.
        data: as in `order_ladder`.
        strategies: as in `order_ladder`.
        scales: t, increasing, in (0, 1].
        tolerance: error allowed, as a share of the rise at the same t.
        rng: source of the draws; one integer is taken from it.
        options: of `order_ladder`.

    Raises:
        ValueError, TypeError: as `order_ladder` and `radius`; ValueError if a strategy does not change the loss, or
            without scales.
    """
    if not scales or "scale" in options:
        raise ValueError("a radius is read from several scales t of the step, got none or one; pass scales=(0.5, 1.0).")
    seed = seed_from(rng)
    if options.get("engines") is None:
        options["engines"] = Engines(model, data.x, options.get("memory"))
    ladders = {
        float(t): order_ladder(model, data, strategies, scale=float(t), rng=stream(seed, "radius"), **options)
        for t in scales
    }
    rows = []
    for same in zip(*(ladder.rows for ladder in ladders.values()), strict=True):
        row = same[0]
        if row.rung == "measured" and row.law == "exact":
            continue  # compared with itself
        told = {t: r.share for t, r in zip(ladders, same, strict=True) if r.share is not None}
        if not told:
            raise ValueError(f"no rise to compare with under {row.strategy}, which does not mix; leave it out.")
        found = radius(list(told), list(told.values()), tolerance=tolerance)
        rows.append(RadiusRow(row.strategy, row.law, row.at, row.rung, found))
    return Radii(tuple(rows), ladders)
