"""What the property tests draw from: strategies with hostile options, image sizes, settings of the search.

The examples are the same in every run (``derandomize``). To hunt for faults, ``make hunt`` sets ``PROPERTY_TIMES=20``:
20 times as many examples, drawn anew in every run.
"""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from msda_theory.masks.base import Strategy
from msda_theory.masks.choice import Choice
from msda_theory.masks.cutmix import CutMix
from msda_theory.masks.dropmix import DropMix
from msda_theory.masks.field import Field
from msda_theory.masks.gmix import GMix
from msda_theory.masks.hmix import HMix
from msda_theory.masks.mixup import Mixup
from msda_theory.masks.vanilla import Vanilla

TIMES = int(os.environ.get("PROPERTY_TIMES", "1"))
LAWS = ("exact", "paper")
BOXES = ("clipped", "inside", "periodic")
LABELS = ("pixels", "nominal")
SHAPES = [(1, 1), (1, 2), (1, 7), (5, 1), (2, 2), (2, 3), (3, 2), (3, 3), (3, 4), (4, 4), (5, 3), (2, 7)]
PRIMES = [(1, 23), (13, 1), (7, 11), (13, 13), (5, 29)]


def examples(number: int, *, shrink: bool = True) -> settings:
    """Settings of one property: ``number`` fixed examples, or many random ones where they are hunted for.

    Without ``shrink`` a failure is reported as it was found: for properties that take long.
    """
    return settings(
        max_examples=number * TIMES,
        derandomize=TIMES == 1,
        database=None,
        deadline=None,
        phases=[Phase.explicit, Phase.generate, *([Phase.shrink] if shrink else [])],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
    )


laws = st.sampled_from(LAWS)
shapes = st.sampled_from(SHAPES)
large_shapes = st.sampled_from(PRIMES)
seeds = st.integers(0, 2**32 - 1)
shares = st.one_of(st.sampled_from([0.0, 1.0, 0.5, 1e-9, 1 - 1e-9, 1 / 3]), st.floats(0, 1))
alphas = st.one_of(
    st.sampled_from([1e-3, 1e-2, 0.1, 0.5, 1.0, 2.0, 10.0, 100.0]),
    st.floats(-3, 2).map(lambda e: float(10.0**e)),
)
tame_alphas = st.floats(-0.5, 1).map(lambda e: float(10.0**e))


def boxed(alpha: SearchStrategy[float] = alphas) -> SearchStrategy[Strategy]:
    """Strategies that cut boxes."""
    boxes = st.sampled_from(BOXES)
    return st.one_of(
        st.builds(CutMix, alpha=alpha, box=boxes, label=st.sampled_from(LABELS)),
        st.builds(HMix, alpha=alpha, ratio=shares, box=boxes),
    )


def images_only(alpha: SearchStrategy[float] = alphas) -> SearchStrategy[Strategy]:
    """Strategies for images that enumerate their law."""
    return st.one_of(
        st.builds(Mixup, alpha=alpha),
        st.builds(Vanilla, alpha=alpha),
        boxed(alpha),
        st.builds(GMix, alpha=alpha, label=st.sampled_from(LABELS)),
    )


fields = st.builds(
    Field,
    alpha=alphas,
    length=st.one_of(st.sampled_from([0.0, 0.3, 2.0, 50.0]), st.floats(0, 20)),
    sharpness=shares,
    edges=st.sampled_from(["periodic", "window"]),
    label=st.sampled_from(LABELS),
)
dropmixes = st.builds(DropMix, alpha=alphas, lam=shares, share=shares, dims=st.sampled_from(["strided", "random"]))


@st.composite
def choices(draw: st.DrawFn, members: SearchStrategy[Strategy]) -> Choice:
    """One to three of ``members``; probabilities may be 0."""
    chosen = draw(st.lists(members, min_size=1, max_size=3))
    weights = draw(st.lists(st.integers(0, 5), min_size=len(chosen), max_size=len(chosen)).filter(any))
    return Choice(tuple(chosen), tuple(np.array(weights) / sum(weights)))


singles = st.one_of(images_only(), fields, dropmixes)
strategies = st.one_of(singles, choices(singles))
enumerable = st.one_of(images_only(), choices(images_only()))


def members(s: Strategy) -> tuple[Strategy, ...]:
    """The strategies that ``s`` chooses among, or itself."""
    return tuple(m for member in s.strategies for m in members(member)) if isinstance(s, Choice) else (s,)


def symmetric(s: Strategy) -> bool:
    """Whether a flip of the image leaves the law as it is; clipped boxes are half a pixel off centre."""

    def one(m: Strategy) -> bool:
        if isinstance(m, DropMix):
            return m.dims == "random"
        return getattr(m, "box", "inside") != "clipped"

    return all(one(m) for m in members(s))


def blends_as_labelled(s: Strategy) -> bool:
    """Whether the label weight of every draw is the mean of M."""

    def one(m: Strategy) -> bool:
        return isinstance(m, Mixup | Vanilla | HMix) or getattr(m, "label", "nominal") == "pixels"

    return all(one(m) for m in members(s))


def nominal_labels(s: Strategy) -> Strategy | None:
    """The same masks with the nominal label weight, where there are two rules."""
    return replace(s, label="nominal") if getattr(s, "label", "nominal") == "pixels" else None
