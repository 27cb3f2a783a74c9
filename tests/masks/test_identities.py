"""Limits, symmetries and published numbers of the moment maps."""

from __future__ import annotations

import numpy as np
import pytest
import reference
from mask_cases import BOXES, LABELS, LAWS, case_id, variants

from msda_theory.masks.base import Strategy
from msda_theory.masks.choice import Choice
from msda_theory.masks.cutmix import CutMix
from msda_theory.masks.gmix import GMix
from msda_theory.masks.hmix import HMix
from msda_theory.masks.mixup import Mixup
from msda_theory.masks.registry import REGISTRY, strategies, strategy
from msda_theory.masks.vanilla import Vanilla

SIZES = ((6, 6), (5, 8))
ALPHAS = (0.2, 1.0, 3.0)
CLOSED = [cls() for cls in REGISTRY.values() if cls().closed_moments((2, 2), "exact") is not None]


def pair(s: Strategy, shape: tuple[int, int], law: str) -> tuple[np.ndarray, np.ndarray]:
    """Mean [H, W] and second moment [d, d]."""
    moments = s.moments(shape, law=law)
    return moments.mean, moments.second.dense()


def distance(first: tuple[np.ndarray, ...], second: tuple[np.ndarray, ...]) -> float:
    return max(float(np.abs(a - b).max()) for a, b in zip(first, second, strict=True))


def flipped(moments: tuple[np.ndarray, np.ndarray], axis: int) -> tuple[np.ndarray, np.ndarray]:
    """The moments of the mirrored image."""
    mean, second = moments
    a = second.reshape(mean.shape + mean.shape)
    return np.flip(mean, axis), np.flip(a, (axis, axis + 2)).reshape(second.shape)


# --- one strategy as the limit of another -------------------------------------------------------------------


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("box", BOXES)
def test_hmix_of_ratio_zero_is_mixup(box, law):
    for shape in SIZES:
        for alpha in ALPHAS:
            hybrid, mixup = HMix(alpha=alpha, ratio=0.0, box=box), Mixup(alpha=alpha)
            assert distance(pair(hybrid, shape, law), pair(mixup, shape, law)) < 1e-12
    assert distance(pair(HMix(ratio=0.5, box=box), (6, 6), law), pair(Mixup(), (6, 6), law)) > 1e-2


@pytest.mark.parametrize("law", LAWS)
def test_periodic_hmix_of_ratio_one_tends_to_cutmix_like_one_over_size(law):
    """The floored sides leave a box too small by O(1 / size), which HMix makes up for outside."""
    gaps = []
    for n in (8, 16, 32, 64):
        maps = [
            s.moments((n, n), law=law).second.by_displacement()
            for s in (HMix(ratio=1.0, box="periodic"), CutMix(box="periodic"))
        ]
        gaps.append(float(np.abs(maps[0] - maps[1]).max()))
    ratios = np.array(gaps[1:]) / np.array(gaps[:-1])
    assert (np.diff(ratios) < 0).all()  # towards 1/2
    assert 0.5 < ratios[-1] < 0.58


def test_choice_of_one_is_that_one():
    one = Choice(strategies=(CutMix(alpha=0.3),), probabilities=(1.0,))
    sure = Choice(strategies=(CutMix(alpha=0.3), Mixup()), probabilities=(1.0, 0.0))
    for law in LAWS:
        assert distance(pair(one, (5, 8), law), pair(CutMix(alpha=0.3), (5, 8), law)) < 1e-15
        assert distance(pair(sure, (5, 8), law), pair(CutMix(alpha=0.3), (5, 8), law)) < 1e-15


@pytest.mark.parametrize("law", LAWS)
def test_vanilla_takes_nothing(law):
    mean, second = pair(Vanilla(), (5, 8), law)
    assert not mean.any()
    assert not second.any()


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("alpha", ALPHAS)
def test_mixup_is_constant_in_pixel_pairs(alpha, law):
    mean, second = pair(Mixup(alpha=alpha), (5, 8), law)
    assert (mean == alpha / (2 * alpha + 1)).all()
    np.testing.assert_allclose(second, alpha / (2 * alpha + 1) / 2, rtol=1e-15)


def test_large_alpha_is_lam_of_one_half():
    """lam tends to 1/2: Mixup has q = 1/2, HMix a box of area ratio / 2, nothing else."""
    mean, second = pair(Mixup(alpha=1e7), (4, 4), "exact")
    assert np.abs(mean - 0.5).max() < 1e-7
    assert np.abs(second - 0.25).max() < 1e-7
    at_half = np.zeros((4, 4))
    for mask, _, p in reference.cutmix(0.5, (4, 4)):
        at_half += p * (1 - mask)
    assert np.abs(CutMix(alpha=1e7).moments((4, 4), law="paper").mean - at_half).max() < 1e-3


# --- the two laws -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("cls", [Vanilla, Mixup], ids=lambda c: c.__name__.lower())
def test_laws_agree_for_uniform_masks(cls, alpha):
    for shape in SIZES:
        assert distance(*(pair(cls(alpha=alpha), shape, law) for law in LAWS)) < 1e-10


@pytest.mark.parametrize("alpha", ALPHAS)
def test_laws_agree_for_gmix_with_nominal_labels(alpha):
    """M(1 - lam) has the law of 1 - M(lam), and the label weight is lam."""
    for shape in SIZES:
        assert distance(*(pair(GMix(alpha=alpha, label="nominal"), shape, law) for law in LAWS)) < 1e-10
        assert distance(*(pair(GMix(alpha=alpha, label="pixels"), shape, law) for law in LAWS)) > 1e-3


@pytest.mark.parametrize("box", BOXES)
@pytest.mark.parametrize("s", [CutMix(), CutMix(label="nominal"), HMix()], ids=case_id)
def test_laws_differ_for_boxes(s, box):
    s = type(s)(**{**s.__dict__, "box": box})
    for shape in ((8, 8), (5, 8)):
        assert distance(*(pair(s, shape, law) for law in LAWS)) > 1e-3


def test_label_rules_matter_only_under_the_exact_law():
    for cls in (CutMix, GMix):
        pixels, nominal = cls(label="pixels"), cls(label="nominal")
        assert distance(pair(pixels, (5, 8), "paper"), pair(nominal, (5, 8), "paper")) < 1e-14
        assert distance(pair(pixels, (5, 8), "exact"), pair(nominal, (5, 8), "exact")) > 1e-3


@pytest.mark.parametrize("box", BOXES)
def test_mean_ratio_of_hmix_is_one_half(box):
    """The mean of M is lam: under the exact law the mean of q is 2 lam (1 - lam), under the paper's 1 - lam."""
    for alpha in ALPHAS:
        for law in LAWS:
            mean = HMix(alpha=alpha, box=box).moments((5, 8), law=law).mean.mean()
            assert abs(mean - alpha / (2 * alpha + 1)) < 1e-12


# --- symmetries ---------------------------------------------------------------------------------------------

SYMMETRIC = [
    Mixup(),
    GMix(),
    GMix(label="nominal"),
    *(CutMix(box=box, label=label) for box in ("inside", "periodic") for label in LABELS),
    *(HMix(box=box) for box in ("inside", "periodic")),
]


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("s", SYMMETRIC, ids=case_id)
def test_moments_are_symmetric_under_flips(s, law):
    for shape in SIZES:
        moments = pair(s, shape, law)
        for axis in (0, 1):
            assert distance(moments, flipped(moments, axis)) < 1e-14


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("s", [CutMix(), HMix(ratio=1.0)], ids=case_id)
def test_clipped_boxes_are_not_symmetric_under_flips(s, law):
    """Rows c - k to c + k (end excluded) are half a pixel off centre: the first pixel is covered more often."""
    for axis in (0, 1):
        moments = pair(s, (6, 6), law)
        assert distance(moments, flipped(moments, axis)) > 1e-3
    mean = CutMix().moments((6, 6), law="paper").mean
    assert (mean[0] > mean[-1]).all()
    assert (mean[:, 0] > mean[:, -1]).all()


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("s", variants(0.5), ids=case_id)
def test_moments_are_symmetric_under_transposition(s, law):
    """On rectangles too: the moments at (W, H) are those at (H, W) with rows and columns exchanged."""
    mean, second = pair(s, (4, 6), law)
    other_mean, other = pair(s, (6, 4), law)
    turned = other.reshape(6, 4, 6, 4).transpose(1, 0, 3, 2).reshape(24, 24)
    assert distance((mean, second), (other_mean.T, turned)) < 1e-14


def stationarity_gap(s: Strategy, shape: tuple[int, int], law: str) -> float:
    """Largest change of a_jk over pairs with one displacement modulo the size."""
    h, w = shape
    a = s.moments(shape, law=law).second.dense().reshape(h, w, h, w)
    shifts = [np.roll(a, (-r, -c, -r, -c), axis=(0, 1, 2, 3)) for r in range(h) for c in range(w)]
    return float(np.ptp(np.stack(shifts), axis=0).max())


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("shape", SIZES, ids=lambda s: f"{s[0]}x{s[1]}")
def test_periodic_boxes_depend_on_displacement_alone(shape, law):
    for alpha in ALPHAS:
        for label in LABELS:
            assert stationarity_gap(CutMix(alpha=alpha, box="periodic", label=label), shape, law) < 1e-14
        assert stationarity_gap(HMix(alpha=alpha, box="periodic"), shape, law) < 1e-14
    for other in (CutMix(), CutMix(box="inside"), HMix(ratio=1.0), GMix()):
        assert stationarity_gap(other, shape, law) > 1e-3


# --- 32x32 --------------------------------------------------------------------------------------------------


def cutmix_coverage_of_a_pixel(row: int, column: int, n: int) -> float:
    """P(pixel in the clipped box) under lam ~ Beta(2, 1), by loops: this is a_jj in the paper's form at alpha = 1."""
    breaks = reference.breakpoints("cutmix", (n, n))
    total = 0.0
    for lam, weight in zip(*reference.beta_rule(2.0, 1.0, breaks), strict=True):
        positions = reference.covered_pixels(n, reference.side_length(float(lam), n, 1.0), "clipped")
        rows = sum(p for pixels, p in positions if row in pixels)
        columns = sum(p for pixels, p in positions if column in pixels)
        total += weight * rows * columns
    return total


def test_diagonal_of_clipped_cutmix_at_32():
    """Paper's form: .09 at the first corner to .30 in the middle; exact form: about .35 everywhere.

    The last corner, half a pixel further from the boxes, has .075.
    """
    paper, exact = (CutMix(alpha=1.0).moments((32, 32), law=law).second.diagonal() for law in LAWS[::-1])
    for pixel in ((0, 0), (0, 31), (31, 31), (16, 16)):
        assert abs(paper[pixel] - cutmix_coverage_of_a_pixel(*pixel, 32)) < 1e-12
    assert abs(paper[0, 0] - 0.09) < 0.005
    assert abs(paper.max() - 0.30) < 0.005
    assert abs(paper.min() - 0.075) < 0.0005
    assert paper.min() == paper[31, 31]
    assert abs(exact.mean() - 0.35) < 0.005
    assert np.abs(exact - 0.35).max() < 0.021


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("s", [*CLOSED, HMix(ratio=1.0, box="periodic")], ids=case_id)
def test_operators_agree_with_their_matrix_at_32(s, law):
    h, w = 32, 32
    operator = s.moments((h, w), law=law).second
    a = operator.dense()
    u = np.random.default_rng(1).normal(size=(3, h, w))
    au = (u.reshape(3, -1) @ a).reshape(u.shape)
    np.testing.assert_allclose(operator.apply(u), au, rtol=0, atol=1e-11)
    np.testing.assert_allclose(operator.quadratic(u), (u * au).sum(axis=(1, 2)), rtol=0, atol=1e-9)
    np.testing.assert_allclose(operator.diagonal(), np.diag(a).reshape(h, w), rtol=0, atol=1e-14)
    assert np.abs(a - a.T).max() < 1e-14
    table = operator.by_displacement()
    full = a.reshape(h, w, h, w)
    for py, px in ((0, 0), (1, 0), (0, -1), (-3, 7), (31, -31), (-31, 0), (12, 12)):
        entries = [
            full[y, x, y + py, x + px] for y in range(h) for x in range(w) if 0 <= y + py < h and 0 <= x + px < w
        ]
        assert abs(table[h - 1 + py, w - 1 + px] - np.mean(entries)) < 1e-12


def test_cutmix_decays_with_distance_and_mixup_does_not():
    """Claim C5: CutMix couples near pixels more than far ones; Mixup couples all alike."""
    row = CutMix().moments((32, 32), law="paper").second.by_displacement()[31, 31:]
    assert (np.diff(row)[:30] < 0).all()
    assert np.abs(row[30:]).max() < 1e-15  # a box of 30 columns joins no two pixels that far apart
    flat = Mixup().moments((32, 32), law="paper").second.by_displacement()
    assert np.ptp(flat) < 1e-15


# --- names --------------------------------------------------------------------------------------------------


def test_registry_builds_strategies_by_name():
    assert strategies() == list(REGISTRY)
    assert {"vanilla", "mixup", "cutmix", "hmix", "gmix", "choice"} <= set(strategies())
    for name, cls in REGISTRY.items():
        assert strategy(name) == cls()
        assert strategy(name.upper()) == cls()
    assert strategy("hmix", alpha=2.0, ratio=0.3, box="inside") == HMix(alpha=2.0, ratio=0.3, box="inside")


def test_names_show_the_options_that_were_changed():
    assert Mixup().name == "mixup"
    assert CutMix(alpha=0.5, box="periodic").name == "cutmix(alpha=0.5, box=periodic)"
    chosen = Choice(strategies=(Mixup(), GMix(label="nominal")), probabilities=(0.25, 0.75))
    assert chosen.name == "choice(strategies=mixup+gmix(label=nominal), probabilities=0.25+0.75)"
    names = [s.name for alpha in ALPHAS for s in variants(alpha)]
    assert len(set(names)) == len(names)
