"""The range of alpha: laws at both ends are their limits, samplers agree, nothing warns; outside, alpha is refused."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pytest
from mask_cases import LAWS, case_id, variants
from naive import as_users_run_it

from msda_theory.masks import wishes
from msda_theory.masks.base import SeparableStrategy, Strategy
from msda_theory.masks.batches import MaskBatch, SeparableMasks, uniform_masks
from msda_theory.masks.betas import gauss
from msda_theory.masks.choice import Choice
from msda_theory.masks.cutmix import CutMix
from msda_theory.masks.design import design
from msda_theory.masks.field import Field
from msda_theory.masks.gmix import GMix, _nodes
from msda_theory.masks.hmix import HMix
from msda_theory.masks.mixup import Mixup
from msda_theory.masks.registry import REGISTRY
from msda_theory.scalars import as_alpha

SHAPE, DRAWS = (3, 4), 4_000
SMALLEST, LARGEST = 1e-12, 1e7
WITH_ALPHA = [cls for cls in REGISTRY.values() if cls is not Choice]


def cases(alpha: float) -> list[Strategy]:
    fields = [Field(alpha, label="pixels"), Field(alpha, length=0.0, sharpness=0.5, edges="window")]
    both = Choice((Mixup(alpha), CutMix(alpha), GMix(alpha)), (0.2, 0.5, 0.3))
    return [*(s for s in variants(alpha) if not isinstance(s, Choice)), *fields, both]


ENDS = [s for alpha in (SMALLEST, LARGEST) for s in cases(alpha)]


def limit(s: Strategy, law: str, rng: np.random.Generator) -> np.ndarray:
    """q where lam is 0 or 1, each half of the time (alpha -> 0); or next to 1/2, on either side (alpha -> infinity)."""
    sides = np.where(rng.random(DRAWS) < 0.5, -1.0, 1.0)
    lam = 0.5 + 0.5 * sides if s.alpha < 1 else 0.5 + 1e-9 * sides
    u = rng.random(DRAWS)
    if isinstance(s, Choice):
        member = rng.choice(3, p=s.probabilities, size=DRAWS)
        parts = np.stack([limit(m, law, rng) for m in s.strategies])
        return parts[member, np.arange(DRAWS)]
    if law == "paper":
        return 1 - s.masks(np.where(u < lam, lam, 1 - lam), SHAPE, rng=rng).mask
    batch = s.masks(lam, SHAPE, rng=rng)
    return np.where((u < batch.lam)[:, None, None], 1 - batch.mask, batch.mask)


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("s", ENDS, ids=lambda s: f"{case_id(s)}-{s.alpha:g}")
def test_moments_at_the_ends_of_the_range_are_those_of_the_limits_and_of_the_draws(s, law):
    """To 5 standard errors, and 1e-3 for lam, whose standard deviation is 1.1e-4 at the upper end."""
    moments, second = s.moments(SHAPE, law=law), s.moments(SHAPE, law=law).second.dense()
    assert moments.provenance.error < 1e-11
    for q in (
        limit(s, law, np.random.default_rng(3)),
        s.partner_weights(DRAWS, SHAPE, law=law, rng=np.random.default_rng(4)),
    ):
        flat = q.reshape(DRAWS, -1)
        se = flat.std(axis=0) / DRAWS**0.5
        assert (np.abs(flat.mean(axis=0) - moments.mean.ravel()) <= 5 * se.max() + 1e-3).all()
        products = flat[:, :, None] * flat[:, None, :]
        assert (np.abs(products.mean(axis=0) - second) <= 5 * products.std(axis=0).max() / DRAWS**0.5 + 1e-3).all()


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("s", [s for s in ENDS if not isinstance(s, Field)], ids=lambda s: f"{case_id(s)}-{s.alpha:g}")
def test_atoms_at_the_ends_of_the_range_have_the_closed_moments(s, law):
    q, p = s.atoms(SHAPE).partner(law)
    moments, flat = s.moments(SHAPE, law=law), q.reshape(len(q), -1)
    np.testing.assert_allclose(p @ flat, moments.mean.ravel(), rtol=0, atol=1e-11)
    np.testing.assert_allclose((flat.T * p) @ flat, moments.second.dense(), rtol=0, atol=1e-11)


def test_gmix_keeps_no_node_without_probability():
    """At alpha = 1e7 all 26,000 nodes would take 11 GB for one factor at 224x224."""
    for alpha, most in ((1.0, 250), (1e3, 250), (LARGEST, 250)):
        s, p = _nodes(alpha, (224, 224), 12)
        assert s.shape == p.shape
        assert 100 < len(p) < most
        assert (p > 0).all()
        assert p.sum() == pytest.approx(0.5, rel=1e-12)


# --- outside the range ----------------------------------------------------------------------------------------------


def test_the_ends_belong_to_the_range():
    for alpha in (SMALLEST, LARGEST):
        assert as_alpha(alpha) == alpha
    for alpha in (np.nextafter(SMALLEST, 0), np.nextafter(LARGEST, 1e8), 10**400, -(10**400)):
        with (
            as_users_run_it(),
            pytest.raises(ValueError, match=r"expected alpha in \[1e-12, 1e7\], got .*; take a numb"),
        ):
            as_alpha(alpha)


@pytest.mark.parametrize("alpha", [1, np.int64(1), np.float32(1), np.float64(1), Fraction(1)], ids=repr)
@pytest.mark.parametrize("cls", WITH_ALPHA, ids=lambda c: c.__name__.lower())
def test_every_real_number_is_an_alpha(cls, alpha):
    with as_users_run_it():
        s = cls(alpha=alpha)
    assert type(s.alpha) is float
    assert s == cls(alpha=1.0)


@pytest.mark.parametrize("alpha", [True, "1", None, 1j, np.ones(1), np.True_], ids=repr)
@pytest.mark.parametrize("cls", WITH_ALPHA, ids=lambda c: c.__name__.lower())
def test_nothing_else_is_an_alpha(cls, alpha):
    with as_users_run_it(), pytest.raises(TypeError, match=r"expected alpha as a number, got .*; pass a float"):
        cls(alpha=alpha)


def test_wishes_and_designs_take_every_real_alpha():
    wish = wishes.flat((2, 2), diagonal=0.3, level=0.2)
    with as_users_run_it():
        assert wishes.reachable(np.float32(1)) == wishes.reachable(1.0)
        assert type(design(wish, alpha=np.int64(1)).strategy.alpha) is float
        for call in (lambda: wishes.reachable(True), lambda: design(wish, alpha="1")):
            with pytest.raises(TypeError, match="expected alpha as a number, got "):
                call()


@dataclass(frozen=True)
class Own(Strategy):
    """A user's strategy, which checks nothing itself."""

    alpha: float = 1.0

    def masks(self, lam, shape, *, rng):
        return MaskBatch(np.ones((len(lam), *shape)), lam)


@dataclass(frozen=True)
class OwnFactors(SeparableStrategy):
    """Likewise, with factors."""

    alpha: float = 1.0

    def factors(self, lam, shape, *, rng) -> SeparableMasks:
        return uniform_masks(lam, shape)


@pytest.mark.parametrize("cls", [Own, OwnFactors])
def test_alphas_of_a_users_strategy_are_checked_where_weights_are_drawn(cls):
    def calls(s: Strategy):
        rng = np.random.default_rng(0)
        return (
            lambda: s.sample(2, SHAPE, rng=rng),
            lambda: s.sample_compact(2, SHAPE, rng=rng),
            lambda: s.partner_weights(2, SHAPE, rng=rng),
        )

    with as_users_run_it():
        for bad in (1e-308, 1e16):
            for call in calls(cls(alpha=bad)):
                with pytest.raises(ValueError, match="expected alpha in "):
                    call()
        for call in calls(cls(alpha=np.float32(1))):
            call()


# --- Gauss rules ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("edges", [[0.0, 0.5], [0.5, 1.0], [0.0, 0.5, 1.0]], ids=str)
def test_weights_that_leave_float64_are_refused(edges):
    """They were not numbers from alpha = 1025 on, with a warning."""
    _, weights = gauss(1001.0, np.array(edges), 12)
    assert weights.sum() == pytest.approx(edges[-1] - edges[0], rel=1e-12)
    for alpha in (1002.0, 1e5):
        with pytest.raises(
            ValueError, match=r"expected intervals as narrow as the law, got 0.* at alpha = .*; pass the"
        ):
            gauss(alpha, np.array(edges), 12)


@pytest.mark.parametrize("s", [Mixup(), HMix(), HMix(ratio=0.0), GMix(), Choice()], ids=case_id)
def test_an_order_is_a_whole_number_of_nodes(s):
    for order in (0, -1):
        with pytest.raises(
            ValueError, match=f"expected at least 1 Gauss node for each interval of lam, got order={order}"
        ):
            s.atoms(SHAPE, order=order)
    with as_users_run_it():
        assert len(s.atoms(SHAPE, order=np.int64(1)).lam) == len(s.atoms(SHAPE, order=1).lam)
        for order in ("2", 2.5, True, None):
            with pytest.raises(TypeError, match=r"expected order as a whole number, got .*; pass an int"):
                s.atoms(SHAPE, order=order)
