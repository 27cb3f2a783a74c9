"""Rungs of the order ladder as rows with shares of the rise, and what lies between two of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from msda_theory.estimate import Estimate, Joint

if TYPE_CHECKING:
    import pandas

RUNGS = ("base", "r1", "r2", "r3", "linearised", "quadratic")


@dataclass(frozen=True)
class RungRow:
    """One rung for one strategy, law and point.

    Attributes:
        strategy, law: what was mixed, and the law of q.
        at: point of expansion: ``data``, ``mean``, ``mask`` or the name of a stand-in; ``all`` for ``measured``.
        rung: see the table of this module.
        value: the prediction, from the draws alone: also R1, whose closed form is not used.
        share: ``(value - clean) / (measured - clean)``, Eq. (9b), measured under the exact law whatever the row's;
            the error contains that of the measured loss, paired, Eq. (9a). None where nothing rises.
    """

    strategy: str
    law: str
    at: str
    rung: str
    value: Estimate
    share: Estimate | None


@dataclass(frozen=True, eq=False)
class OrderLadder:
    """Rows of `order_ladder`, as estimates (``rows``) or as a table (``frame()``).

    Attributes:
        rows: for each strategy, law, point and rung; the last of each law is ``measured``.
        clean: loss at the data.
        joints: by strategy, all parts of the rungs on their common draws.
        rises: by strategy, whether mixing changes the loss by more than rounding.
        scale: t; every step is ``t q (r - x)``.
    """

    rows: tuple[RungRow, ...]
    clean: Estimate
    joints: Mapping[str, Joint]
    rises: Mapping[str, bool]
    scale: float

    def frame(self) -> pandas.DataFrame:
        """One line for each row: strategy law at rung value se share share_se clean scale n; NaN where no share."""
        import pandas  # here: see `compare`

        return pandas.DataFrame(
            {
                **{k: [getattr(r, k) for r in self.rows] for k in ("strategy", "law", "at", "rung")},
                "value": [r.value.mean for r in self.rows],
                "se": [r.value.se for r in self.rows],
                "share": [r.share.mean if r.share else float("nan") for r in self.rows],
                "share_se": [r.share.se if r.share else float("nan") for r in self.rows],
                "clean": self.clean.mean,
                "scale": self.scale,
                "n": [r.value.n for r in self.rows],
            }
        )

    def row(self, strategy: str, *, law: str = "exact", at: str = "all", rung: str = "measured") -> RungRow:
        """The row of a strategy, by name.

        Raises:
            KeyError: if there is none.
        """
        for row in self.rows:
            if (row.strategy, row.law, row.at, row.rung) == (strategy, law, at, rung):
                return row
        raise KeyError(
            f"no rung {rung!r} of {strategy!r} at {at!r} under the law {law!r}; frame() lists what there is."
        )

    def part(self, strategy: str, *, law: str = "exact", at: str = "data", lower: str, upper: str) -> Estimate:
        """``(upper - lower) / (measured - clean)``: the share of the rise between two rungs at one point, paired.

        From ``r2`` to ``linearised``: what the truncation of the loss leaves out; from ``linearised`` to ``measured``:
        the curvature of the network.

        Raises:
            KeyError: if there is no such rung.
            ValueError: where nothing rises.
        """
        for rung in (lower, upper):
            self.row(strategy, law=law, at="all" if rung == "measured" else at, rung=rung)
        if not self.rises[strategy]:
            raise ValueError(f"no share of the rise under {strategy}, which does not change the loss; leave it out.")
        weights = rung_weights(law, at, upper)
        for name, w in rung_weights(law, at, lower).items():
            weights[name] = weights.get(name, 0.0) - w
        return self.joints[strategy].ratio(weights, {"exact.measured": 1.0}, (0.0, -self.clean.mean))


def rung_weights(law: str, at: str, rung: str) -> dict[str, float]:
    """Which parts add up to a rung."""
    if rung == "measured":
        return {f"{law}.measured": 1.0}
    if rung in ("linearised", "quadratic"):
        return {f"{law}.{at}.{rung}": 1.0}
    return {f"{law}.{at}.{part}": 1.0 for part in RUNGS[: RUNGS.index(rung) + 1]}


def ladder_rows(
    strategy: str, joint: Joint, clean: Estimate, laws: Sequence[str], points: Mapping[str, Sequence[str]], rises: bool
) -> Iterator[RungRow]:
    """The rows of one strategy; ``points`` names the rungs of each point."""
    for law in laws:
        for at, rung in [*((name, rung) for name, rungs in points.items() for rung in rungs), ("all", "measured")]:
            weights = rung_weights(law, at, rung)
            share = joint.ratio(weights, {"exact.measured": 1.0}, (-clean.mean, -clean.mean)) if rises else None
            yield RungRow(strategy, law, at, rung, joint.linear(weights), share)
