"""Every error of the mask laws and their moments is raised, with the text that says what to do.

Errors of `Moments` and the operators are in tests/moments/test_operators.py. Under pytest, annotations are checked
first; errors that they hide are tested in a Python without the checks, as users run it.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import dataclass

import naive
import numpy as np
import pytest

from msda_theory.masks.base import Strategy
from msda_theory.masks.batches import MaskBatch
from msda_theory.masks.choice import Choice
from msda_theory.masks.cutmix import CutMix
from msda_theory.masks.dropmix import DropMix
from msda_theory.masks.field import Field
from msda_theory.masks.gmix import GMix
from msda_theory.masks.hmix import HMix
from msda_theory.masks.mixup import Mixup
from msda_theory.masks.registry import REGISTRY, strategy
from msda_theory.masks.vanilla import Vanilla

WITH_ALPHA = [cls for cls in REGISTRY.values() if cls is not Choice]


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@dataclass(frozen=True)
class Sampler(Strategy):
    """A strategy that defines nothing but its sampler."""

    alpha: float = 1.0

    def masks(self, lam, shape, *, rng):
        return MaskBatch(np.ones((len(lam), *shape)), lam)


# --- options ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [0.0, -1.0, 1e-308, 9.9e-13, 1.1e7, 1e16, float("inf"), float("nan")])
@pytest.mark.parametrize("cls", WITH_ALPHA, ids=lambda c: c.__name__.lower())
def test_alpha_must_be_in_its_range(cls, alpha):
    message = re.escape(f"expected alpha in [1e-12, 1e7], got {alpha}; take a number between")
    with pytest.raises(ValueError, match=message):
        cls(alpha=alpha)


@pytest.mark.parametrize("ratio", [-0.1, 1.1, float("nan")])
def test_ratio_must_be_a_share(ratio):
    with pytest.raises(ValueError, match=rf"expected ratio in \[0, 1\], got {ratio}; it is the share of area that is"):
        HMix(ratio=ratio)


@pytest.mark.parametrize("cls", [CutMix, HMix], ids=lambda c: c.__name__.lower())
def test_box_must_be_known(cls):
    with pytest.raises(
        ValueError, match=r"expected box among \['clipped', 'inside', 'periodic'\], got 'clip'; choose one of them"
    ):
        cls(box="clip")


@pytest.mark.parametrize("cls", [CutMix, GMix], ids=lambda c: c.__name__.lower())
def test_label_must_be_known(cls):
    with pytest.raises(ValueError, match=r"expected label among \['pixels', 'nominal'\], got 'area'; choose one of"):
        cls(label="area")


@pytest.mark.parametrize(
    ("members", "probabilities", "got"),
    [((Mixup(),), (0.5, 0.5), "got 2 for 1"), ((), (), "got 0 for 0"), ((Mixup(), CutMix()), (1.0,), "got 1 for 2")],
    ids=["more", "none", "fewer"],
)
def test_choice_needs_one_probability_for_each_member(members, probabilities, got):
    with pytest.raises(ValueError, match=f"expected one probability for each strategy, {got}; pass equally many"):
        Choice(strategies=members, probabilities=probabilities)


@pytest.mark.parametrize("probabilities", [(0.5, 0.6), (-0.5, 1.5), (0.0, 0.0), (float("nan"), 1.0)], ids=str)
def test_choice_needs_probabilities(probabilities):
    with pytest.raises(ValueError, match=r"expected probabilities >= 0 that sum to 1, got \(.*\) \(sum .*\); rescale"):
        Choice(strategies=(Mixup(), CutMix()), probabilities=probabilities)


def test_unknown_strategies_list_the_known_ones():
    with pytest.raises(ValueError, match=r"expected a strategy among \['vanilla', 'mixup', .*\], got 'cutout'; choose"):
        strategy("cutout")


def test_unknown_options_list_the_known_ones():
    with pytest.raises(TypeError, match=r"cutmix has the options \['alpha', 'box', 'label'\], got \['beta', 'ratio'\]"):
        strategy("CutMix", ratio=0.5, beta=1.0)
    with pytest.raises(ValueError, match="expected alpha in "):
        strategy("mixup", alpha=-1.0)


CHOICE = Choice(strategies=(Mixup(), CutMix()), probabilities=(0.5, 0.5))


@pytest.mark.parametrize("value", ["1", True, None, 1j], ids=repr)
def test_options_that_are_numbers_are_numbers(value):
    calls = {
        "ratio": lambda: HMix(ratio=value),
        "lam": lambda: DropMix(lam=value),
        "share": lambda: DropMix(share=value),
        "length": lambda: Field(length=value),
        "sharpness": lambda: Field(sharpness=value),
        "probabilities": lambda: Choice(strategies=(Mixup(), CutMix()), probabilities=(0.5, value)),
    }
    for name, call in calls.items():
        with (
            naive.as_users_run_it(),
            pytest.raises(TypeError, match=f"expected {name} as a number, got {value!r}; pass"),
        ):
            call()


@pytest.mark.parametrize("kind", [int, np.int64, np.float32, np.float64])
def test_options_are_numbers_of_any_kind(kind):
    one, zero = kind(1), kind(0)
    with naive.as_users_run_it():
        made = (
            HMix(ratio=one),
            DropMix(lam=one, share=one),
            Field(length=one, sharpness=one),
            Choice((Mixup(), CutMix()), (one, zero)),
        )
        for s in made:
            s.moments((3, 4))
            s.sample(2, (3, 4), rng=rng())


# --- draws --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [0, -3])
@pytest.mark.parametrize("name", list(REGISTRY))
def test_at_least_one_draw(name, n):
    with pytest.raises(ValueError, match=f"expected at least 1 draw, got n={n}"):
        strategy(name).sample(n, (4, 4), rng=rng())
    with pytest.raises(ValueError, match=f"expected at least 1 draw, got n={n}"):
        strategy(name).partner_weights(n, (4, 4), rng=rng())


@pytest.mark.parametrize("n", ["2", 2.5, True, None], ids=repr)
@pytest.mark.parametrize("name", list(REGISTRY))
def test_the_number_of_draws_is_a_whole_number(name, n):
    s = strategy(name)
    for call in (s.sample, s.sample_compact, s.partner_weights):
        with naive.as_users_run_it():
            with pytest.raises(TypeError, match=re.escape(f"expected n as a whole number, got {n!r}; pass an int")):
                call(n, (3, 4), rng=rng())
            call(np.int64(2), (3, 4), rng=rng())


WEIGHTED = [*(cls() for cls in REGISTRY.values()), CutMix(label="nominal"), Field(label="pixels"), Field(sharpness=0.5)]


def given_weights(s):
    """Every public call of a strategy that takes nominal weights."""
    return [f for f in (s.masks, getattr(s, "factors", None)) if f is not None]


@pytest.mark.parametrize("value", [float("nan"), 2.0, -1e-300, np.nextafter(1, 2), float("inf")], ids=str)
@pytest.mark.parametrize("s", WEIGHTED, ids=lambda s: s.name)
def test_nominal_weights_are_in_the_unit_interval(s, value):
    """They gave masks of ones and a warning of NumPy."""
    message = re.escape(f"expected nominal weights lam in [0, 1], got {value} at 1; draw them from a Beta law")
    for call in given_weights(s):
        with pytest.raises(ValueError, match=message):
            call(np.array([0.5, value, value]), (3, 3), rng=rng())
        assert len(call(np.array([0.0, 1.0, 5e-324]), (3, 3), rng=rng()).lam) == 3


@pytest.mark.parametrize(
    ("lam", "got"),
    [
        (0.5, "float"),
        ([0.5], "list"),
        (np.array(0.5), "[] in float64"),
        (np.full((2, 1), 0.5), "[2, 1] in float64"),
        (np.array([1]), "[1] in int64"),
        (np.array([0.5], dtype=np.float32), "[1] in float32"),
        (np.array(["0.5"]), "[1] in <U3"),
        (np.array([True]), "[1] in bool"),
    ],
    ids=repr,
)
@pytest.mark.parametrize("s", WEIGHTED, ids=lambda s: s.name)
def test_nominal_weights_are_an_array_of_floats(s, lam, got):
    message = re.escape(f"expected nominal weights lam as an array [n] in float64, got {got}; pass e.g. numpy.array")
    for call in given_weights(s):
        with naive.as_users_run_it(), pytest.raises(TypeError, match=message):
            call(lam, (3, 3), rng=rng())


@pytest.mark.parametrize("shape", [(4, 0), (-1, 4), (0, 0)], ids=str)
@pytest.mark.parametrize("name", list(REGISTRY))
def test_sizes_are_positive(name, shape):
    text = rf"expected an image size \(height, width\) of positive integers, got {re.escape(str(shape))}"
    s = strategy(name)
    for call in (
        lambda: s.sample(2, shape, rng=rng()),
        lambda: s.partner_weights(2, shape, rng=rng()),
        lambda: s.moments(shape),
    ):
        with pytest.raises(ValueError, match=text):
            call()


@pytest.mark.parametrize("law", ["Exact", "park", ""])
@pytest.mark.parametrize("name", list(REGISTRY))
def test_laws_are_known(name, law):
    text = rf"expected law among \['exact', 'paper'\], got '{law}'; choose one of them"
    with pytest.raises(ValueError, match=text):
        strategy(name).moments((4, 4), law=law)
    with pytest.raises(ValueError, match=text):
        strategy(name).partner_weights(2, (4, 4), law=law, rng=rng())


def test_laws_of_atoms_are_known():
    """A misspelt law must not silently be the exact one."""
    with pytest.raises(ValueError, match=r"expected law among \['exact', 'paper'\], got 'papers'"):
        CutMix().atoms((3, 3)).partner("papers")


@pytest.mark.parametrize("cls", [Vanilla, Mixup], ids=lambda c: c.__name__.lower())
def test_the_generator_is_required(cls):
    with pytest.raises(TypeError, match=r"rng"):
        cls().sample(2, (4, 4))


def test_a_box_never_covers_the_image_even_where_one_minus_lam_rounds_to_one():
    batch = HMix(ratio=1.0, box="periodic").masks(np.array([0.0, 1e-300, 1e-17]), (4, 4), rng=rng())
    assert ((batch.mask > 0).sum(axis=(1, 2)) == [0, 12, 12]).all()


def test_without_closed_moments_the_generator_is_needed():
    with pytest.raises(
        ValueError, match=r"sampler has no closed moments; pass rng=numpy.random.default_rng\(seed\) to estimate them"
    ):
        Sampler().moments((4, 4))
    with pytest.raises(ValueError, match="has no closed moments; pass rng="):
        Choice(strategies=(Mixup(), Sampler())).moments((4, 4))


def test_without_atoms_the_way_out_is_named():
    with pytest.raises(
        ValueError, match=r'sampler does not enumerate its law.*; define atoms\(\), or use method="sampled"'
    ):
        Sampler().atoms((4, 4))
    with pytest.raises(ValueError, match="sampler does not enumerate its law"):
        Choice(strategies=(Mixup(), Sampler())).atoms((4, 4))


# --- batches of masks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mask", "lam"),
    [((4, 4), (4,)), ((2, 1, 4, 4), (2,)), ((2, 4, 4), (3,)), ((2, 4, 4), (2, 1)), ((2, 4, 4), ())],
    ids=str,
)
def test_mask_batches_have_matching_shapes(mask, lam):
    text = rf"expected masks \[n, H, W\] and label weights \[n\], got {re.escape(f'{mask} and {lam}')}"
    with pytest.raises(ValueError, match=text):
        MaskBatch(np.ones(mask), np.ones(lam))


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan"), 255.0])
def test_mask_batches_are_weights(value):
    mask, lam = np.full((2, 3, 3), 0.5), np.full(2, 0.5)
    MaskBatch(mask, lam)
    broken, wrong = mask.copy(), lam.copy()
    broken[1, 2, 2] = wrong[1] = value
    with pytest.raises(ValueError, match=r"^masks must lie in \[0, 1\], got .* \.\. .*; rescale them"):
        MaskBatch(broken, lam)
    with pytest.raises(ValueError, match=r"^label weights must lie in \[0, 1\], got .* \.\. .*; rescale them"):
        MaskBatch(mask, wrong)


# --- errors that annotations hide under pytest --------------------------------------------------------------

WITHOUT_CHECKS = {
    "rng-seed": (
        "CutMix().sample(2, (4, 4), rng=0)",
        "TypeError: expected rng to be a numpy.random.Generator, got int; pass numpy.random.default_rng(seed).",
    ),
    "rng-legacy": (
        "CutMix().partner_weights(2, (4, 4), rng=np.random.RandomState(0))",
        "TypeError: expected rng to be a numpy.random.Generator, got RandomState; pass numpy.random.default_rng(seed).",
    ),
    "rng-choice": (
        "Choice().sample(2, (4, 4), rng=None)",
        "TypeError: expected rng to be a numpy.random.Generator, got NoneType; pass numpy.random.default_rng(seed).",
    ),
    "size-of-three": (
        "CutMix().sample(2, (3, 4, 4), rng=np.random.default_rng(0))",
        "ValueError: expected an image size (height, width) of positive integers, got (3, 4, 4).",
    ),
    "size-a-number": (
        "CutMix().moments(32)",
        "ValueError: expected an image size (height, width) of positive integers, got 32.",
    ),
    "size-a-fraction": (
        "CutMix().moments((4.5, 4))",
        "ValueError: expected an image size (height, width) of positive integers, got (4.5, 4).",
    ),
    "choice-of-names": (
        "Choice(strategies=('mixup', 'cutmix'))",
        "TypeError: expected strategies such as Mixup(), got 'mixup'; build each with its class.",
    ),
    "list-of-members": ("Choice(strategies=[Mixup(), CutMix()], probabilities=[0.5, 0.5]).moments([4, 4])", "no error"),
    "whole-alpha": ("Mixup(alpha=1).moments((4, 4))", "no error"),
}


@pytest.fixture(scope="module")
def unchecked() -> dict[str, str]:
    """What each call of WITHOUT_CHECKS raises in a Python of its own."""
    program = f"""
import json
import numpy as np
from msda_theory.masks.choice import Choice
from msda_theory.masks.cutmix import CutMix
from msda_theory.masks.mixup import Mixup
results = {{}}
for name, call in json.loads({json.dumps({k: c for k, (c, _) in WITHOUT_CHECKS.items()})!r}).items():
    try:
        eval(call)
        results[name] = "no error"
    except Exception as error:
        results[name] = f"{{type(error).__name__}}: {{error}}"
print(json.dumps(results))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", list(WITHOUT_CHECKS))
def test_errors_as_users_see_them(unchecked, name):
    assert unchecked[name] == WITHOUT_CHECKS[name][1]


# --- nothing is left out ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class WrongSize(Strategy):
    alpha: float = 1.0

    def masks(self, lam, shape, *, rng):
        return MaskBatch(np.ones((len(lam), 3, 3)), lam)


@pytest.mark.parametrize("law", ["exact", "paper"])
def test_masks_of_another_size_than_the_image_are_refused(law):
    message = r"expected masks \[5, 4, 4\] for images of 4x4 pixels, got \[5, 3, 3\] from WrongSize.masks"
    with pytest.raises(ValueError, match=message):
        WrongSize().partner_weights(5, (4, 4), law=law, rng=rng())
    with pytest.raises(ValueError, match=message):
        WrongSize().sample(5, (4, 4), rng=rng())
