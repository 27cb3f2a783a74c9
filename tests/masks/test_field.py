"""Masks from Gaussian fields: the orthant curve, closed moments, the sampler, and the law in the expansion."""

from __future__ import annotations

import math
from dataclasses import dataclass

import naive
import numpy as np
import pytest
import reference
import torch
from mask_cases import LAWS
from mc_checks import assert_unbiased, fails
from scipy import special

import msda_theory as mt
from msda_theory.masks.batches import Atoms
from msda_theory.masks.field import Covariance, Field
from msda_theory.masks.orthants import Orthant
from msda_theory.moments.moments import Moments

ALPHAS = (1e-3, 0.2, 1.0, 3.0, 100.0)
SHAPES = ((3, 3), (4, 5), (1, 5))
CORRELATIONS = np.array([-1.0, -0.97, -0.5, -0.1, 0.0, 0.2, 0.6, 0.9, 0.999, 1.0])
N = 40_000


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng([11, seed])


def flat_covariance(shape: tuple[int, int], level: float, variance: float = 1.0) -> Covariance:
    values = np.full(shape, level)
    values[0, 0] = variance
    return Covariance(values, shape)


# --- the curve S(r) ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", ALPHAS)
def test_the_curve_equals_quadrature_over_lam(alpha):
    """Owen's T function at each lam, against a Chebyshev series of another integral."""
    lam, weight = reference.beta_rule(alpha, alpha, [0.5], 24)
    t = special.ndtri(lam)
    truth = np.array([weight @ reference.both_below(t, r) for r in CORRELATIONS])
    curve = Orthant.of(alpha)
    np.testing.assert_allclose(curve(CORRELATIONS), truth, rtol=0, atol=1e-12)
    assert curve.error < 1e-12
    assert np.abs(Orthant.of(1.01 * alpha)(CORRELATIONS) - truth).max() > 1e-6


def test_the_curve_of_uniform_lam_is_an_arc_sine():
    r = np.linspace(-1, 1, 41)
    np.testing.assert_allclose(Orthant.of(1.0)(r), 0.25 + np.arcsin((1 + r) / 2) / (2 * np.pi), rtol=0, atol=1e-14)


def test_the_curve_at_large_alpha_is_that_of_lam_one_half():
    """Sheppard's formula: 1/4 + arcsin(r) / (2 pi)."""
    r = np.linspace(-0.9, 1, 20)
    np.testing.assert_allclose(Orthant.of(1e7)(r), 0.25 + np.arcsin(r) / (2 * np.pi), rtol=0, atol=1e-6)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_slope_and_inverse_of_the_curve(alpha):
    curve, r = Orthant.of(alpha), np.linspace(-0.95, 0.95, 20)
    difference = (curve(r + 1e-5) - curve(r - 1e-5)) / 2e-5
    np.testing.assert_allclose(curve.slope(r), difference, rtol=1e-6, atol=1e-9)
    assert (np.diff(curve(np.linspace(-1, 1, 200))) >= -1e-14).all()
    if alpha >= 0.2:  # near alpha = 0 the curve is flat to rounding
        np.testing.assert_allclose(curve.inverse(curve(r)), r, rtol=0, atol=1e-10)
    assert curve.inverse(np.array([0.6, 0.5, -0.1])).tolist() == [1.0, 1.0, -1.0]
    beyond = curve.near_one(np.array([-1e-15, 2 + 1e-15]))  # correlations that are wrong by rounding
    np.testing.assert_array_equal(beyond, curve.near_one(np.array([0.0, 2.0])))


# --- moments ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variance", [0.3, 0.8])
@pytest.mark.parametrize("share", [1.0, 0.7, 0.0, -0.6])
def test_a_squashed_field_has_the_orthant_of_a_smaller_correlation(variance, share):
    """E[M_j M_k | lam] of the definition is Phi_2(t, t; r): Eq. (11)."""
    for lam in (0.05, 0.5, 0.8):
        t = float(special.ndtri(lam))
        found = reference.soft_product(t, variance, share * variance)
        assert found == pytest.approx(float(reference.both_below(np.array(t), share * variance)), rel=0, abs=1e-12)


FIELDS = [
    Field(),
    Field(alpha=0.2, length=0.7, sharpness=0.6),
    Field(alpha=3.0, edges="window"),
    Field(label="pixels"),
    Field(alpha=0.5, label="pixels", edges="window", length=1.3, sharpness=0.9),
    Field(sharpness=0.0, label="pixels"),
]


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("field", FIELDS, ids=lambda s: s.name)
def test_closed_moments_equal_quadrature_pair_by_pair(field, shape, law):
    torus = shape if field.edges == "periodic" else (2 * shape[0], 2 * shape[1])
    r = reference.field_covariance(shape, torus, field.length, field.sharpness)
    mean, second = reference.field_moments(r, shape, law, field.alpha, field.label)
    moments = field.moments(shape, law=law)
    np.testing.assert_allclose(moments.mean, mean, rtol=0, atol=1e-10)
    np.testing.assert_allclose(moments.second.dense(), second, rtol=0, atol=1e-10)
    np.testing.assert_allclose(
        moments.second.by_displacement(), reference.displacement_means(second, shape), atol=1e-10
    )
    assert moments.provenance.method == "quadrature"
    wrong = field.moments(shape, law=law).second.dense() + 1e-9
    with pytest.raises(AssertionError):
        np.testing.assert_allclose(wrong, second, rtol=0, atol=1e-10)


@dataclass(frozen=True)
class Enumerated(Field):
    """A field of equal correlations, whose law can be enumerated: all masks of 0 and 1, with nominal labels."""

    def atoms(self, shape, *, order=16):
        level = float(self.covariance.values[-1, -1])
        masks, weight, lam = zip(*reference.equicorrelated_patterns(shape, level, self.alpha), strict=True)
        return Atoms(np.array(masks), np.array(lam), 2 * np.array(lam), np.array(weight))


def enumerated(shape: tuple[int, int], level: float = 0.4, alpha: float = 1.0) -> Enumerated:
    return Enumerated(alpha=alpha, covariance=flat_covariance(shape, level))


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("alpha", [0.3, 1.0, 3.0])
@pytest.mark.parametrize("level", [0.0, 0.4, 0.9])
def test_closed_moments_equal_the_enumeration_of_all_masks(level, alpha, law):
    shape = (2, 3)
    field = enumerated(shape, level, alpha)
    q, p = field.atoms(shape).partner(law)
    flat, moments = q.reshape(len(q), -1), field.moments(shape, law=law)
    assert p.sum() == pytest.approx(1, abs=1e-10)
    np.testing.assert_allclose(p @ flat, moments.mean.ravel(), rtol=0, atol=1e-10)
    np.testing.assert_allclose(flat.T @ (p[:, None] * flat), moments.second.dense(), rtol=0, atol=1e-10)


@pytest.mark.parametrize("law", LAWS)
def test_limits(law):
    for alpha in (0.2, 1.0, 3.0):
        mixup = mt.Mixup(alpha=alpha).moments((3, 4), law=law)
        for label in ("nominal", "pixels"):
            blend = Field(alpha=alpha, sharpness=0.0, label=label).moments((3, 4), law=law)
            np.testing.assert_allclose(blend.second.dense(), mixup.second.dense(), rtol=0, atol=1e-12)
            np.testing.assert_allclose(blend.mean, mixup.mean, rtol=0, atol=1e-12)
        apart = Field(alpha=alpha, length=0.0).moments((3, 4), law=law).second.dense()
        together = Field(alpha=alpha, length=1e4).moments((3, 4), law=law).second.dense()
        own = alpha / (
            2 * alpha + 1
        )  # masks of 0 and 1 have a_jj = qbar; other pairs are independent given lam, or equal
        np.testing.assert_allclose(apart, own / 2 + np.eye(12) * own / 2, rtol=0, atol=1e-12)
        np.testing.assert_allclose(together, own, rtol=0, atol=1e-5)


def test_laws_agree_with_nominal_labels_only():
    for field in FIELDS:
        exact, paper = (field.moments((3, 4), law=law).second.dense() for law in LAWS)
        agree = field.label == "nominal" or field.sharpness == 0.0
        assert (np.abs(exact - paper).max() < 1e-12) == agree
        assert agree or np.abs(exact - paper).max() > 1e-3


def test_moments_of_large_images_need_no_matrix():
    shape = (224, 160)
    moments = Field(length=9.0, label="pixels", edges="window").moments(shape)
    u = rng().normal(size=shape)
    assert moments.second.quadratic(u) == pytest.approx(float((u * moments.second.apply(u)).sum()), rel=1e-10)
    pixel = np.zeros(shape)
    pixel[0, 0] = 1.0
    assert moments.second.quadratic(pixel) == pytest.approx(moments.second.diagonal()[0, 0], rel=1e-10)
    assert moments.second.diagonal() == pytest.approx(moments.mean, abs=1e-12)  # masks of 0 and 1


# --- draws ------------------------------------------------------------------------------------------------------------


def products(q: np.ndarray) -> np.ndarray:
    """q_j, and q_j times two fixed pixels."""
    flat = q.reshape(len(q), -1)
    return np.concatenate([flat, flat * flat[:, :1], flat * flat[:, 7:8]], axis=1)


def expected(moments: Moments) -> np.ndarray:
    second = moments.second.dense()
    return np.concatenate([moments.mean.ravel(), second[0], second[7]])


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("field", FIELDS, ids=lambda s: s.name)
def test_draws_have_the_closed_moments(field, law):
    shape = (4, 5)
    draws = products(field.partner_weights(N, shape, law=law, rng=rng(1)))
    assert_unbiased(draws, expected(field.moments(shape, law=law)))
    assert fails(lambda: assert_unbiased(draws, expected(mt.HMix(alpha=3.0, ratio=0.9).moments(shape, law=law))))


@pytest.mark.parametrize(
    "wrong",
    [
        Field(length=2.5),
        Field(alpha=1.2),
        Field(sharpness=0.95),
        Field(edges="window"),
        Field(label="pixels"),
        mt.CutMix(box="periodic"),
    ],
    ids=lambda s: s.name,
)
def test_wrong_laws_are_rejected(wrong):
    shape = (4, 5)
    draws = products(Field().partner_weights(N, shape, rng=rng(2)))
    assert_unbiased(draws, expected(Field().moments(shape)))
    assert fails(lambda: assert_unbiased(draws, expected(wrong.moments(shape))))


@pytest.mark.parametrize("lam", [0.05, 0.5, 0.9])
@pytest.mark.parametrize("field", FIELDS, ids=lambda s: s.name)
def test_masks_at_a_given_lam_have_mean_lam_and_its_orthants(field, lam):
    shape = (3, 4)
    batch = field.masks(np.full(20_000, lam), shape, rng=rng(3))
    torus = shape if field.edges == "periodic" else (6, 8)
    r = reference.field_covariance(shape, torus, field.length, field.sharpness)[0]
    t = np.array(special.ndtri(lam))
    first = np.array([reference.both_below(t, float(v)) for v in r])
    flat = batch.mask.reshape(len(batch.mask), -1)
    truth = np.concatenate([np.full(12, lam), first])
    assert_unbiased(np.concatenate([flat, flat * flat[:, :1]], axis=1), truth)
    if field.label == "nominal":
        assert (batch.lam == lam).all()
    else:
        np.testing.assert_allclose(batch.lam, batch.mask.mean(axis=(1, 2)), rtol=0, atol=1e-15)


def test_a_sharp_field_has_masks_of_zero_and_one():
    assert set(np.unique(Field().sample(50, (6, 7), rng=rng(4)).mask)) == {0.0, 1.0}
    soft = Field(sharpness=0.5).sample(50, (6, 7), rng=rng(4)).mask
    assert 0 < soft.min() < soft.max() < 1


def test_draws_do_not_depend_on_the_chunks_they_are_made_in():
    shape = (40, 56)  # 2,240 pixels: chunks of 936
    whole = Field(length=3.0).masks(np.full(1000, 0.4), shape, rng=rng(5)).mask
    own = rng(5)
    parts = [Field(length=3.0).masks(np.full(n, 0.4), shape, rng=own).mask for n in (300, 700)]
    np.testing.assert_array_equal(whole, np.concatenate(parts))


def test_small_alpha_draws_whole_images():
    """Half of Beta(0.001, 0.001) rounds to 0 or 1: t is infinite there."""
    for field in (Field(alpha=1e-3), Field(alpha=1e-3, sharpness=0.5)):
        batch = field.sample(300, (4, 4), rng=rng(6))
        ends = (batch.lam == 0) | (batch.lam == 1)
        assert ends.sum() > 50
        np.testing.assert_array_equal(
            batch.mask[ends], np.broadcast_to(batch.lam[ends, None, None], (ends.sum(), 4, 4))
        )


# --- the field in the expansion ---------------------------------------------------------------------------------------

SCALES = (1 / 64, 1 / 128, 1 / 256, 1 / 512, 1 / 1024)


def problem(shape: tuple[int, int]):
    x, _ = naive.images(4, 1, shape, 3, seed=9)
    model = naive.network(1, shape, 3, hidden=12, gain=2.0)
    with torch.no_grad():
        y = model(x).argmax(dim=1)
    return model, mt.ImageData(x, y, 3)


@pytest.mark.parametrize("law", LAWS)
def test_correct_terms_leave_a_third_order_remainder(law):
    """The loss is summed over all 512 masks; the terms come from the closed moments."""
    shape = (3, 3)
    field = enumerated(shape)
    order = mt.remainder_order(*problem(shape), field, law=law, scales=SCALES)
    assert (order.method, order.slope > 2.7) == ("enumerated", True)
    other = enumerated(shape, 0.45).moments(shape, law=law)  # a_jk 1.5 % off, mean and diagonal the same
    assert mt.remainder_order(*problem(shape), field, law=law, scales=SCALES, moments=other).slope < 2.5


def test_the_paired_method_has_slope_three():
    order = mt.remainder_order(*problem((3, 4)), Field(), scales=SCALES, method="paired", draws=32, rng=rng(7))
    assert order.slope > 2.7


def test_expansion_and_mixed_loss_run_and_agree_with_enumeration():
    shape = (2, 3)
    model, data = problem(shape)
    field = enumerated(shape)
    atoms = field.atoms(shape)
    truth = naive.mix_directly(
        model, naive.softmax_loss, data.x, naive.one_hot(data.y, 3), atoms.mask, atoms.lam, atoms.weight
    )
    got = mt.mixed_loss(model, data, field, draws=3000, rng=rng(8))
    naive.assert_estimates(got.mean, got.se, truth)
    for at in ("data", "mean", "mask"):
        exact = mt.expand(model, data, field, at=at, method="dense")
        drawn = mt.expand(model, data, field, at=at, draws=500, rng=rng(9))
        for term in ("base", "r2", "r3"):
            estimate = getattr(drawn, term)
            if estimate.se > 1e-12:
                naive.assert_estimates(estimate.mean, estimate.se, getattr(exact, term).mean)
            else:
                assert estimate.mean == pytest.approx(getattr(exact, term).mean, rel=1e-9)


def test_the_law_is_not_enumerated_in_general():
    with pytest.raises(ValueError, match="does not enumerate its law, which an exact computation needs"):
        Field().atoms((3, 3))


# --- options and errors -----------------------------------------------------------------------------------------------


def test_fields_by_name():
    assert mt.strategy("field") == Field()
    assert mt.strategy("field", length=3.0, sharpness=0.5).name == "field(length=3, sharpness=0.5)"
    designed = Field(covariance=flat_covariance((3, 4), 0.2))
    assert designed.name == "field(covariance=designed)"
    assert designed == Field(covariance=flat_covariance((3, 4), 0.2))
    assert hash(designed) == hash(Field(covariance=flat_covariance((3, 4), 0.2)))
    assert designed != Field(covariance=flat_covariance((3, 4), 0.3))
    assert designed != Field()


def test_the_covariance_is_that_of_its_draws_and_wraps():
    covariance = Field(length=1.0, sharpness=0.7).on((4, 5))
    assert covariance.values[0, 0] == pytest.approx(0.7, abs=1e-15)
    assert covariance.values[1, 2] == pytest.approx(covariance.values[-1, -2], abs=1e-15)
    table = covariance.table()
    assert table.shape == (7, 9)
    assert table[3, 4] == covariance.values[0, 0]
    assert table[0, 4] == covariance.values[1, 0]  # three rows up is one row down, on a torus of 4
    window = Field(length=1.0, edges="window").on((4, 5))
    assert window.values.shape == (8, 10)
    assert window.table()[0, 4] == pytest.approx(math.exp(-4.5), rel=1e-3)


def test_options_are_checked():
    with pytest.raises(ValueError, match="expected a correlation length >= 0 in pixels, got length=-1"):
        Field(length=-1.0)
    with pytest.raises(ValueError, match="expected a correlation length >= 0 in pixels, got length=inf"):
        Field(length=math.inf)
    with pytest.raises(ValueError, match=r"expected sharpness in \[0, 1\], got 1.5; 1 gives masks of 0 and 1"):
        Field(sharpness=1.5)
    with pytest.raises(ValueError, match=r"expected edges among \['periodic', 'window'\], got 'clipped'"):
        Field(edges="clipped")
    with pytest.raises(ValueError, match=r"expected label among \['nominal', 'pixels'\], got 'area'"):
        Field(label="area")
    with pytest.raises(ValueError, match="expected a covariance or a length, sharpness and edges, got both"):
        Field(length=1.0, covariance=flat_covariance((3, 3), 0.1))


def test_covariances_are_checked():
    values = np.eye(1, 12).reshape(3, 4)
    with pytest.raises(ValueError, match=r"expected a torus at least as large as the image \(4, 4\), got \(3, 4\)"):
        Covariance(values, (4, 4))
    with pytest.raises(ValueError, match=r"expected a variance r\(0\) in \[0, 1\], got 1.1;"):
        Covariance(1.1 * values, (3, 4))
    lopsided = values.copy()
    lopsided[0, 1] = 0.1
    with pytest.raises(ValueError, match=r"a covariance must be equal at p and -p, got a gap of 0\.1; average"):
        Covariance(lopsided, (3, 4))
    with pytest.raises(ValueError, match=r"a covariance must have a spectrum >= 0, got -1\.2; use design\(\)"):
        flat_covariance((3, 4), -0.2)
    with pytest.raises(ValueError, match="this field was designed for images of 3x4 pixels, got 4x4; design one for"):
        Field(covariance=flat_covariance((3, 4), 0.2)).sample(3, (4, 4), rng=rng())
