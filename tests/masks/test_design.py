"""Designed laws: wishes that a field has are met to rounding, others as nearly as can be, and the residual is said."""

from __future__ import annotations

import math

import numpy as np
import pytest
import reference
from mc_checks import assert_unbiased, fails
from scipy import optimize

from msda_theory.masks import wishes
from msda_theory.masks.cutmix import CutMix
from msda_theory.masks.design import design
from msda_theory.masks.field import Covariance, Field
from msda_theory.masks.gmix import GMix
from msda_theory.masks.mixup import Mixup
from msda_theory.masks.orthants import Orthant

SHAPES = ((8, 8), (5, 8), (1, 6), (4, 3))
LOW, MIDDLE, HIGH = wishes.reachable(1.0)


def table(strategy, shape) -> np.ndarray:
    return strategy.moments(shape).second.by_displacement()


# --- wishes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [0.2, 1.0, 3.0])
def test_the_reach_of_a_pair(alpha):
    """Equal pixels, independent ones given lam (Mixup's coefficient), and opposite ones, by quadrature over lam."""
    lam, weight = reference.beta_rule(alpha, alpha, [0.5])
    low, middle, high = wishes.reachable(alpha)
    assert high == pytest.approx(weight @ (2 * lam * (1 - lam)), abs=1e-12)
    assert middle == pytest.approx(table(Mixup(alpha=alpha), (1, 1))[0, 0], abs=1e-12)
    assert low == pytest.approx(weight @ (lam * (1 - 2 * lam) + np.maximum(0, 2 * lam - 1)), abs=1e-12)


def test_tables_of_wishes_entry_by_entry():
    shape = (4, 6)
    flat = wishes.flat(shape, diagonal=0.3, level=0.2)
    exponential = wishes.decaying(shape, near=0.3, far=0.1, length=1.5)
    gaussian = wishes.decaying(shape, near=0.3, far=0.1, length=1.5, power=2.0, periodic=False)
    plain = wishes.power_law(shape, near=0.3, far=0.1, length=1.5)
    slow = wishes.power_law(shape, near=0.3, far=0.1, length=1.5, power=2.0)
    for py in range(-3, 4):
        for px in range(-5, 6):
            at = 3 + py, 5 + px
            on_torus = math.hypot(min(abs(py), 4 - abs(py)), min(abs(px), 6 - abs(px)))
            assert flat[at] == (0.3 if (py, px) == (0, 0) else 0.2)
            assert exponential[at] == pytest.approx(0.1 + 0.2 * math.exp(-on_torus / 1.5), abs=1e-15)
            assert gaussian[at] == pytest.approx(0.1 + 0.2 * math.exp(-(py**2 + px**2) / 1.5**2), abs=1e-15)
            assert plain[at] == pytest.approx(0.1 + 0.2 / (1 + on_torus / 1.5), abs=1e-15)
            assert slow[at] == pytest.approx(0.1 + 0.2 / (1 + on_torus / 1.5) ** 2, abs=1e-15)


def test_lengths_and_powers_are_positive():
    with pytest.raises(ValueError, match=r"expected a length and a power > 0, got 0.0 and 1.0; use flat\(\)"):
        wishes.decaying((3, 3), near=0.3, far=0.1, length=0.0)
    with pytest.raises(ValueError, match=r"expected a length and a power > 0, got 1.0 and -1.0;"):
        wishes.power_law((3, 3), near=0.3, far=0.1, length=1.0, power=-1.0)
    with pytest.raises(ValueError, match=r"expected a length and a power > 0, got 1.0 and 0.0;"):
        wishes.power_law((3, 3), near=0.3, far=0.1, length=1.0, power=0.0)


# --- wishes that are met ----------------------------------------------------------------------------------------------

KNOWN = [
    Field(),
    Field(alpha=0.3, length=1.0, sharpness=0.6),
    Field(alpha=3.0, label="pixels", length=0.8),
    Field(length=0.0),
    Field(sharpness=0.0),
]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("field", KNOWN, ids=lambda s: s.name)
def test_the_covariance_of_a_field_is_recovered(field, shape):
    made = design(table(field, shape), alpha=field.alpha, label=field.label)
    assert made.steps == 0
    assert made.worst < 1e-12
    np.testing.assert_allclose(made.strategy.on(shape).values, field.on(shape).values, rtol=0, atol=1e-7)
    np.testing.assert_allclose(made.strategy.moments(shape).mean, field.moments(shape).mean, rtol=0, atol=1e-10)


@pytest.mark.parametrize("shape", [(8, 8), (5, 8)], ids=str)
def test_a_window_is_recovered_where_the_free_displacements_allow_it(shape):
    field = Field(length=1.0, sharpness=0.9, edges="window")
    made = design(table(field, shape), edges="window")
    assert made.strategy.on(shape).values.shape == (2 * shape[0], 2 * shape[1])
    assert made.worst < 1e-8
    np.testing.assert_allclose(made.strategy.on(shape).table(), field.on(shape).table(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("shape", [(8, 8), (5, 8)], ids=str)
def test_feasible_wishes_are_met_to_rounding(shape):
    for wish in (
        wishes.flat(shape, diagonal=HIGH, level=0.25),
        wishes.flat(shape, diagonal=0.3, level=MIDDLE),
        wishes.flat(shape, diagonal=HIGH, level=HIGH),
        wishes.decaying(shape, near=HIGH, far=MIDDLE, length=1.0),
        wishes.decaying(shape, near=HIGH, far=0.2, length=0.5, power=2.0),
        wishes.power_law(shape, near=HIGH, far=MIDDLE, length=0.5),
    ):
        made = design(wish)
        assert made.worst < 1e-13
        assert made.rms < 1e-13
        assert (made.lowest > -1e-12, made.steps, made.out_of_range.any()) == (True, 0, False)
        np.testing.assert_array_equal(made.residual, made.obtained - made.wanted)


def test_what_was_obtained_is_the_law_of_the_draws():
    """By sampling, with a wrong law: the coefficient at a few displacements."""
    shape = (5, 8)
    made = design(wishes.decaying(shape, near=HIGH, far=MIDDLE, length=1.0), label="nominal")
    q = made.strategy.partner_weights(40_000, shape, rng=np.random.default_rng(3))
    found = np.stack(
        [q[:, 2, 3] * q[:, 2 + py, 3 + px] for py, px in ((0, 0), (0, 1), (1, 1), (2, -3), (-2, 4))], axis=1
    )
    truth = np.array([made.wanted[4 + py, 7 + px] for py, px in ((0, 0), (0, 1), (1, 1), (2, -3), (-2, 4))])
    assert_unbiased(found, truth)
    assert fails(lambda: assert_unbiased(found, 1.05 * truth))


# --- wishes that no field has -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(4, 4), (3, 5)], ids=str)
def test_equal_repulsion_ends_at_the_smallest_common_correlation(shape):
    """Off the diagonal r >= -1 / (d - 1) on average, so the nearest flat law has that correlation everywhere."""
    made = design(wishes.flat(shape, diagonal=HIGH, level=LOW))
    d = shape[0] * shape[1]
    r = made.strategy.on(shape).values.ravel()[1:]
    np.testing.assert_allclose(r, -1 / (d - 1), rtol=0, atol=1e-6)
    assert made.lowest < -1
    assert not made.out_of_range.any()
    assert design(wishes.flat(shape, diagonal=HIGH, level=LOW - 0.01)).out_of_range.sum() == made.wanted.size - 1


def squares(spectrum: np.ndarray, wish: np.ndarray, shape: tuple[int, int]) -> float:
    """The sum that a design minimises, through the moments of a field of that spectrum."""
    r = np.fft.ifft2(spectrum.reshape(shape)).real
    r = (r + np.roll(r[::-1, ::-1], (1, 1), axis=(0, 1))) / 2
    r = np.clip(r / r[0, 0], -1, 1)
    r[0, 0] = 1.0
    a = Orthant.of(1.0)(r) - 1 / 6
    rows, columns = (np.arange(1 - n, n) % n for n in shape)
    pairs = np.multiply.outer(*(n - np.abs(np.arange(1 - n, n)) for n in shape))
    return float((pairs * (a[np.ix_(rows, columns)] - wish) ** 2).sum() / pairs.sum())


@pytest.mark.parametrize("shape", [(4, 4), (3, 5)], ids=str)
@pytest.mark.parametrize("power", [1.0, 2.0])
def test_the_nearest_law_is_a_minimum(shape, power):
    """Another optimiser over non-negative spectra finds nothing lower; cutting negative values off is worse."""
    wish = wishes.decaying(shape, near=HIGH, far=LOW, length=2.0, power=power)
    made = design(wish)
    assert made.lowest < 0 < made.steps
    d = shape[0] * shape[1]
    starts = [np.fft.fft2(made.strategy.on(shape).values).real.ravel(), np.ones(d)]
    starts += list(np.random.default_rng(5).dirichlet(np.ones(d), 2) * d)
    found = [
        optimize.minimize(
            squares, np.maximum(s, 1e-9), (wish, shape), method="L-BFGS-B", bounds=[(0, None)] * d, tol=1e-14
        ).fun
        for s in starts
    ]
    assert made.rms**2 <= min(found) + 1e-9
    assert made.rms**2 == pytest.approx(squares(starts[0], wish, shape), abs=1e-12)
    pairwise = Orthant.of(1.0).inverse(wish[shape[0] - 1 :, shape[1] - 1 :] + 1 / 6)
    cut = np.maximum(np.fft.fft2(pairwise).real, 0).ravel()
    assert squares(cut, wish, shape) > 1.001 * made.rms**2


@pytest.mark.parametrize("label", ["nominal", "pixels"])
def test_a_wish_from_another_strategy(label):
    """The nearest field to periodic CutMix: the residual is what is said, and small against the range of a(p)."""
    shape = (8, 8)
    wish = table(CutMix(box="periodic"), shape)
    made = design(wish, alpha=1.5, label=label)
    np.testing.assert_allclose(made.obtained, table(made.strategy, shape), rtol=0, atol=1e-15)
    assert 1e-3 < made.worst < 0.03 < 0.2 < np.ptp(wish)
    pairs = np.multiply.outer(8 - np.abs(np.arange(-7, 8)), 8 - np.abs(np.arange(-7, 8)))
    assert made.rms == pytest.approx(np.sqrt((pairs * (made.obtained - wish) ** 2).sum() / 64**2), rel=1e-12)


def test_a_wish_without_the_period_of_the_image_is_averaged():
    """Clipped CutMix is not stationary and not periodic; a window comes nearer."""
    wish = table(CutMix(), (8, 8))
    on_torus, in_window = (design(wish, alpha=0.8, edges=edges) for edges in ("periodic", "window"))
    assert in_window.rms < on_torus.rms
    np.testing.assert_allclose(on_torus.obtained[7, 1], on_torus.obtained[7, 9], rtol=0, atol=1e-12)


def test_a_soft_wish_has_soft_masks():
    made = design(table(GMix(), (6, 6)), alpha=1.0, label="pixels")
    assert 0.3 < made.strategy.on((6, 6)).values[0, 0] < 1
    masks = made.strategy.sample(20, (6, 6), rng=np.random.default_rng(0)).mask
    assert ((masks > 0.01) & (masks < 0.99)).any()


# --- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("diagonal", [0.1, 0.4])
def test_a_diagonal_out_of_reach_is_refused(diagonal):
    wish = wishes.flat((4, 4), diagonal=diagonal, level=0.2)
    with pytest.raises(
        ValueError, match=r"the wanted a\(0\) must lie in \[0.166667, 0.333333\] for alpha = 1, got 0\.[14]"
    ):
        design(wish)


def test_wishes_are_checked():
    good = wishes.flat((3, 4), diagonal=HIGH, level=0.2)
    with pytest.raises(ValueError, match=r"expected a wanted a\(p\) for each displacement, \[2H-1, 2W-1\], got shape"):
        design(good[1:])
    with pytest.raises(ValueError, match=r"the wanted a\(p\) must be finite, got 1 values that are not"):
        design(np.where(np.arange(35).reshape(5, 7) == 3, np.nan, good))
    lopsided = good.copy()
    lopsided[0, 0] += 0.1
    with pytest.raises(ValueError, match=r"the wanted a\(p\) must be equal at p and -p, got a gap of 0.1"):
        design(lopsided)
    with pytest.raises(ValueError, match="with label='pixels' only periodic fields are designed"):
        design(good, edges="window", label="pixels")
    with pytest.raises(ValueError, match="expected alpha in "):
        design(good, alpha=0.0)
    with pytest.raises(ValueError, match="expected edges among"):
        design(good, edges="clipped")


def test_the_inputs_are_left_alone():
    wish = wishes.decaying((4, 4), near=HIGH, far=LOW, length=3.0)
    kept = wish.copy()
    made = design(wish)
    np.testing.assert_array_equal(wish, kept)
    assert made.wanted is not wish
    assert isinstance(made.strategy.covariance, Covariance)
    assert design(wish).strategy == made.strategy
