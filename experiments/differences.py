"""What differs between two records: every number to the bit, every text; times of a run apart."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

RELATIVE, ABSOLUTE = 1e-9, 1e-12  # rounding: |a - b| <= RELATIVE max(|a|, |b|) + ABSOLUTE
# Times and sizes of a process never come again.
TIMES = frozenset({"wall_s", "seconds", "images_per_s", "loading_share", "slowest_s", "slowest", "again_s"})
TIMES |= {"share_of_bound", "over_legitimate"}
WORDS = frozenset({"detail"})  # sentences made of numbers of the record, digits cut off: named, and not judged
_ABSENT = object()


@dataclass(frozen=True)
class Difference:
    """One place where two records differ; ``words`` where it is no number, and no verdict of a check either."""

    place: str
    old: Any
    new: Any
    words: bool = False

    @property
    def relative(self) -> float:
        """``|a - b| / max(|a|, |b|)`` of two numbers; infinite for anything else."""
        if not (_is_number(self.old) and _is_number(self.new)):
            return float("inf")
        return abs(self.old - self.new) / max(abs(self.old), abs(self.new), 5e-324)

    @property
    def rounding(self) -> bool:
        """Whether rounding explains it."""
        if not (_is_number(self.old) and _is_number(self.new)):
            return False
        return abs(self.old - self.new) <= RELATIVE * max(abs(self.old), abs(self.new)) + ABSOLUTE


@dataclass(frozen=True)
class Comparison:
    """All differences, and how many numbers and other values were compared; none of the `TIMES`."""

    numbers: int
    others: int
    found: tuple[Difference, ...]

    @property
    def identical(self) -> bool:
        """Something was compared, every number is the same to the bit and of the same kind, everything else equal."""
        return not self.found and self.numbers + self.others > 0

    @property
    def beyond(self) -> list[Difference]:
        """What rounding does not explain, words apart."""
        return [d for d in self.found if not (d.rounding or d.words)]

    @property
    def largest(self) -> Difference | None:
        """The largest difference of two numbers that rounding does not explain, or if there is none, of any."""
        numbers = [d for d in self.found if d.relative < float("inf")]
        beyond = [d for d in numbers if not d.rounding]
        return max(beyond or numbers, key=lambda d: d.relative, default=None)


def compare(old: Any, new: Any) -> Comparison:
    """Compare two values that JSON can hold."""
    numbers, others, found = 0, 0, []
    for place, name, a, b in _leaves("", "", old, new):
        numbers, others = numbers + _is_number(a), others + (not _is_number(a))
        if not _same(a, b):
            found.append(Difference(place, _shown(a), _shown(b), words=name in WORDS))
    return Comparison(numbers, others, tuple(found))


def _leaves(place: str, name: str, old: Any, new: Any) -> Iterator[tuple[str, str, Any, Any]]:
    """Place, last name on the way to it, and both values of everything that is no list and no object."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*old, *(k for k in new if k not in old)]:
            if key not in TIMES:
                inner = f"{place}.{key}" if place else key
                yield from _leaves(inner, key, old.get(key, _ABSENT), new.get(key, _ABSENT))
    elif isinstance(old, list) and isinstance(new, list):
        for k, (a, b) in enumerate(zip_longest(old, new, fillvalue=_ABSENT)):
            yield from _leaves(f"{place}[{k}]", name, a, b)
    else:
        yield place, name, old, new


def leaves(value: Any) -> Iterator[tuple[str, Any]]:
    """Place and value of everything that is compared."""
    return ((place, a) for place, _, a, _ in _leaves("", "", value, value))


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, float) and isinstance(b, float):
        return a.hex() == b.hex()  # tells -0.0 from 0.0
    return type(a) is type(b) and bool(a == b)  # tells 1 from 1.0 and from true


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _shown(value: Any) -> Any:
    return "nothing" if value is _ABSENT else value
