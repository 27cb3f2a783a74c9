"""What a table of approximations is made of: cases, each an error beside what is promised, and rows of cases."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

from msda_theory.masks.base import Strategy


def named(strategy: Strategy) -> str:
    """Its name, with alpha where that is left out for being 1."""
    name = strategy.name
    return name if "alpha" in name else f"{name}, alpha=1"


class Case(NamedTuple):
    """One comparison with a reference; ``bound`` is what is promised, None where nothing is."""

    error: float
    bound: float | None
    place: str

    @property
    def strain(self) -> float:
        """Error over what is promised."""
        if self.bound is None:
            return 0.0
        if self.error == 0:
            return 0.0
        return self.error / self.bound if self.bound else math.inf


def row(
    approximation: str, *, reference: str, covered: str, measure: str, promise: str, cases: Iterable[Case]
) -> dict[str, Any]:
    """The largest error of ``cases``, the case nearest to (or farthest beyond) what is promised, and whether all hold.

    Args:
        approximation: what is approximate, and in which module.
        reference: what it is compared with.
        covered: parameters and sizes.
        measure: what the error is: absolute, relative to what.
        promise: in words.
        cases: at least one.
    """
    found = list(cases)
    errors = [c.error for c in found]
    # A comparison that gives no number has failed: it counts as the worst.
    worst = max(found, key=lambda c: math.inf if math.isnan(c.error) else c.error)
    tightest = max(found, key=lambda c: math.inf if math.isnan(c.strain) else c.strain)
    return {
        "approximation": approximation,
        "reference": reference,
        "covered": covered,
        "measure": measure,
        "promise": promise,
        "cases": len(found),
        "error": worst.error,
        "place": worst.place,
        "promised": any(c.bound is not None for c in found),
        "strain": tightest.strain,
        "strain_place": tightest.place,
        "holds": all(e < math.inf for e in errors) and all(c.bound is None or c.error <= c.bound for c in found),
    }
