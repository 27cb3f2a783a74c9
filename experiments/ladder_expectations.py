"""What was expected of the order ladder before the first run, and whether it came.

Expected before the first run, exact law, alpha = 1, trained networks on digits:

- *mask*: Gauss-Newton at the mask is nearer to the rise than second order at the data, on average over cells;
- *class*: the class mean as stand-in is nearer still than the mean image;
- *local*: with the blurred partner, base + R1 + R2 is within a tenth of the rise in every cell;
- *paper*: at the data under the paper's law second order falls short of the rise in every cell;
- *r3*: at the mask R3 makes the prediction worse on average over softplus cells;
- *r3-loss*: there the quadratic network with the exact loss is nearer: what hurts is that the loss is truncated;
- *linearised*: at the data the linearised network misses more of the rise than at the mask;
- *order*: Gauss-Newton at the mask orders the strategies better than second order at the data under the paper's law;
- *radius*: the median radius of Gauss-Newton at the mask is larger than that of second order at the data;
- *alpha*: at a smaller alpha the median radius of second order at the data is at most 0.1 larger, since alpha changes
  how often images are mixed strongly, not how strongly at most;
- *stage*: on untrained networks second order at the data is within a tenth of the rise in most cells.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from experiments.record import check

SMALL = ("softplus", "relu")


def expectations(
    shares: pd.DataFrame, order: pd.DataFrame, radii: pd.DataFrame, *, untrained: bool
) -> list[dict[str, Any]]:
    """What was expected before the first run, and whether it came; only of the small networks on digits."""
    small = shares[(shares["data"] == "digits") & shares["network"].isin(SMALL)] if len(shares) else shares
    if not len(small) or "trained" not in set(small["stage"]):
        return []
    shares, top = small, small["alpha"].max()
    own = shares[(shares["stage"] == "trained") & (shares["alpha"] == top)]

    def pick(rows: pd.DataFrame, rung: str, network: str | None = None) -> pd.DataFrame:
        law, at, name = rung.split(".")
        found = rows[(rows["law"] == law) & (rows["at"] == at) & (rows["rung"] == name)]
        return found if network is None else found[found["network"] == network]

    def miss(rung: str, network: str | None = None) -> float:
        return float(pick(own, rung, network)["miss"].mean())

    def nearer(key: str, name: str, a: str, b: str, network: str | None = None) -> dict[str, Any]:
        first, second = miss(a, network), miss(b, network)
        detail = f"mean distance to the rise {first:.3f} ({a}) against {second:.3f} ({b})"
        return {"key": key, **check(name, first < second, detail)}

    local, paper = pick(own, "exact.local.r2"), pick(own, "paper.data.r3")
    near, cells = int(local["within_a_tenth"].sum()), int(local["cells"].sum())
    largest = max(s["max"] for s in paper["over_cells"])
    out = [
        nearer("mask", "Gauss-Newton at the mask beats second order at the data", "exact.mask.r2", "exact.data.r3"),
        nearer("class", "the class mean beats the mean image", "exact.class.r2", "exact.mask.r2"),
        {
            "key": "local",
            **check("the blurred partner is within a tenth everywhere", near == cells, f"{near} of {cells}"),
        },
        {
            "key": "paper",
            **check("the paper's form falls short everywhere", largest < 1, f"largest share {largest:.2f}"),
        },
        nearer("linearised", "linearisation is better at the mask", "exact.mask.linearised", "exact.data.linearised"),
    ]
    if "softplus" in set(own["network"]):
        r2, r3, quadratic = "exact.mask.r2", "exact.mask.r3", "exact.mask.quadratic"
        out += [
            nearer("r3", "R3 makes it worse at the mask (softplus)", r2, r3, "softplus"),
            nearer(
                "r3-loss",
                "with the exact loss the quadratic network is nearer than with R3 (softplus)",
                quadratic,
                r3,
                "softplus",
            ),
        ]
    if untrained:
        second = pick(shares[shares["stage"] == "untrained"], "exact.data.r3")
        near, cells = int(second["within_a_tenth"].sum()), int(second["cells"].sum())
        name = "on untrained networks second order at the data is within a tenth in most cells"
        detail = f"{near} of {cells} cells" if cells else "no cell has a rise that is told"
        out.append({"key": "stage", **check(name, near > cells / 2, detail)})
    return [*out, *_order_expectation(order, top, pick), *_radius_expectations(radii, top, pick)]


def _order_expectation(order: pd.DataFrame, top: float, pick: Any) -> list[dict[str, Any]]:
    if not len(order):
        return []
    own = order[(order["stage"] == "trained") & (order["alpha"] == top)]
    rungs = ("exact.mask.r2", "paper.data.r3", "exact.data.r3")
    a, b, c = (np.mean([k["mean"] for k in pick(own, r)["kendall"]]) for r in rungs)
    name = "Gauss-Newton at the mask orders the strategies better than the paper's form"
    detail = f"mean Kendall tau {a:.2f} against {b:.2f}; second order at the data under the exact law {c:.2f}"
    return [{"key": "order", **check(name, bool(a > b), detail)}]


def _radius_expectations(radii: pd.DataFrame, top: float, pick: Any) -> list[dict[str, Any]]:
    if not len(radii):
        return []

    def median(rung: str, alpha: float) -> float:
        return float(np.mean([c["median"] for c in pick(radii[radii["alpha"] == alpha], rung)["over_cells"]]))

    a, b, low = median("exact.mask.r2", top), median("exact.data.r3", top), radii["alpha"].min()
    c = median("exact.data.r3", low)
    name = "Gauss-Newton at the mask reaches further than second order at the data"
    other = "a smaller alpha does not let second order at the data reach further"
    return [
        {"key": "radius", **check(name, a > b, f"median radius {a:.2f} against {b:.2f}")},
        {"key": "alpha", **check(other, c <= b + 0.1, f"median radius {c:.2f} at alpha {low:g}, {b:.2f} at {top:g}")},
    ]
