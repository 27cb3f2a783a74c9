"""A measured law of a few draws written down by hand: storage, checks, draws, atoms, moments and their errors."""

from __future__ import annotations

import naive
import numpy as np
import pytest

from msda_theory.masks.measured import MeasuredLaw, TwoLevelMasks, compact

SHAPE = (2, 3)
LAWS = ("exact", "paper")
MASKS = np.array(
    [
        [[0.0, 1.0, 1.0], [1.0, 0.0, 1.0]],
        [[0.3, 0.3, 0.3], [0.3, 0.3, 0.3]],
        [[0.1, 0.2, 0.4], [0.5, 0.7, 0.8]],
        [[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]],
        [[0.0, 0.0, 0.0], [0.0, 0.0, 0.9]],
    ]
)
LAM = np.array([0.6, 0.3, 0.5, 1.0, 0.0])
WEIGHT = np.array([0.1, 0.3, 0.25, 0.15, 0.2])
GROUP = np.array([4, 4, 7, 8, 8])


def by_hand(group: np.ndarray | None = GROUP) -> MeasuredLaw:
    return MeasuredLaw(MASKS, LAM, WEIGHT, "by hand", group)


class Fixed(np.random.Generator):
    """Draws the same number in [0, 1) each time."""

    def __init__(self, value: float) -> None:
        super().__init__(np.random.PCG64(0))
        self.value = value

    def random(self, size: int) -> np.ndarray:
        return np.full(size, self.value)


LARGEST = 1 - 2.0**-53  # that a generator draws


# --- storage ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("levels", [(0.6, 0.7), (0.0, 0.1), (0.5, 0.5 + 5e-6), (1e-3, 1.0)], ids=str)
def test_two_levels_come_back_to_the_bit(levels):
    low, high = levels
    masks = np.where(np.random.default_rng(0).random((4, 3, 7)) < 0.5, low, high)
    stored = compact(masks)
    assert isinstance(stored, TwoLevelMasks)
    for part in (slice(0, 4), slice(2, 3), np.array([3, 0])):
        np.testing.assert_allclose(stored[part], masks[part], rtol=0, atol=1e-15)


@pytest.mark.parametrize(("off", "two_levels"), [(3e-6, True), (4e-6, True), (5e-6, False), (1e-3, False)])
def test_values_change_by_4e_6_at_most(off, two_levels):
    for masks in (np.array([[[0.0, off, 1.0]]]), np.array([[[0.3, 0.3 + 0.99 * off, 0.9, 0.9 - 0.99 * off]]])):
        stored = compact(masks)
        assert isinstance(stored, TwoLevelMasks) == two_levels
        np.testing.assert_allclose(stored[slice(0, 1)], masks, rtol=0, atol=4.001e-6)


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_rounding_of_a_constant_is_taken_off(value):
    masks = np.clip(value + np.array([[[0.0, 1e-7, -1e-7, 1.5e-6]], [[0.0, 0.0, 0.0, 0.0]]]), 0, 1)
    stored = compact(masks)[slice(0, 2)]
    assert (np.ptp(stored, axis=(1, 2)) == 0).all()
    np.testing.assert_allclose(stored, value, rtol=0, atol=2e-6)
    if value in (0.0, 1.0):
        assert (stored == value).all()


def test_masks_of_more_values_keep_them_but_for_the_ends():
    masks = np.array([[[1e-7, 0.3, 0.6, 1 - 1e-7]]])
    stored = compact(masks)
    assert not isinstance(stored, TwoLevelMasks)
    np.testing.assert_array_equal(stored, [[[0.0, 0.3, 0.6, 1.0]]])


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.float32])
def test_masks_in_any_form_are_read_as_float64(dtype):
    masks = (MASKS > 0.5).astype(dtype)
    law = MeasuredLaw(masks, LAM, WEIGHT, "form", GROUP)
    same = MeasuredLaw(masks.astype(float), LAM, WEIGHT, "form", GROUP)
    for name in LAWS:
        np.testing.assert_array_equal(law.moments(SHAPE, law=name).mean, same.moments(SHAPE, law=name).mean)
        q = law.partner_weights(20, SHAPE, law=name, rng=np.random.default_rng(0))
        assert q.dtype == np.float64
        np.testing.assert_array_equal(q, same.partner_weights(20, SHAPE, law=name, rng=np.random.default_rng(0)))
    assert law.sample(3, SHAPE, rng=np.random.default_rng(0)).mask.dtype == np.float64
    assert law.atoms(SHAPE).mask.dtype == np.float64


# --- checks ------------------------------------------------------------------------------------------------------


def test_what_a_law_says_of_itself():
    law = MeasuredLaw(MASKS, LAM, WEIGHT, "plain")
    assert (law.name, law.shape, len(law), law.smoothing, law.detail) == ("plain", SHAPE, 5, 0.0, "")
    assert law.moments(SHAPE).provenance.detail == ""


@pytest.mark.parametrize(
    "change",
    [
        {"group": np.array([0, 0, 0, 0, 1])},
        {"group": np.array([0, 1, 1, 1, 1])},
        {"group": np.array([-2, -2, 5, 5, 5])},
        {"group": None},
        {"lam": np.full(5, -1e-12)},
        {"lam": np.full(5, 1 + 1e-12)},
        {"weight": np.array([0.5, 0, 0, 0, 0.5])},
        {"weight": WEIGHT * (1 + 5e-10)},
    ],
    ids=["last", "first", "negative", "each", "lam-below", "lam-above", "no-weight", "sum"],
)
def test_what_a_law_may_be_made_of(change):
    fields = {"lam": LAM, "weight": WEIGHT, "group": GROUP, **change}
    law = MeasuredLaw(MASKS, fields["lam"], fields["weight"], "law", fields["group"])
    assert np.isfinite(law.moments(SHAPE).provenance.error)


WEIGHTS = "probabilities of draws must be >= 0 and sum to 1, got a sum of"
LABELS = r"label weights of draws must lie in \[0, 1\], got"
GROUPS = r"expected increasing numbers of at least two groups \(calls\), for an error; measure more"
EACH = "expected one label weight, probability and group for each of 5 masks, got"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lam": LAM - 0.1}, LABELS + r" -0.1 .. 0.9"),
        ({"lam": LAM + 0.5}, LABELS + r" 0.5 .. 1.5"),
        ({"lam": LAM - 1e-11}, LABELS),
        ({"lam": LAM + 1e-11}, LABELS),
        ({"weight": WEIGHT / 2}, WEIGHTS + " 0.5"),
        ({"weight": WEIGHT * 1.5}, WEIGHTS + " 1.5"),
        ({"weight": WEIGHT * (1 + 1e-8)}, WEIGHTS + " 1"),
        ({"weight": WEIGHT + np.array([-0.2, 0.2, 0, 0, 0])}, WEIGHTS + " 1"),
        ({"group": np.array([3, 3, 3, 3, 3])}, GROUPS),
        ({"group": np.array([0, 1, 0, 1, 2])}, GROUPS),
        ({"lam": LAM[:4]}, EACH + r" \(4,\), \(5,\) and \(5,\)"),
        ({"weight": WEIGHT[:4]}, EACH + r" \(5,\), \(4,\) and \(5,\)"),
        ({"group": GROUP[:4]}, EACH + r" \(5,\), \(5,\) and \(4,\)"),
        ({"lam": LAM[:4], "weight": WEIGHT[:4], "group": GROUP[:4]}, EACH + r" \(4,\), \(4,\) and \(4,\)"),
    ],
)
def test_what_it_may_not(change, message):
    fields = {"lam": LAM, "weight": WEIGHT, "group": GROUP, **change}
    with naive.as_users_run_it(), pytest.raises(ValueError, match=message):
        MeasuredLaw(MASKS, fields["lam"], fields["weight"], "law", fields["group"])


# --- draws -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("u", [0.0, 0.05, 0.1, 0.3, 0.5, 0.7, 0.9, LARGEST])
def test_draws_are_taken_by_their_probabilities(u):
    """The number u in [0, 1) falls into one of the intervals that the probabilities cut [0, 1) into."""
    weight = np.array([0.0, 0.5, 0.0, 0.25, 0.25])
    drawn = next(k for k in range(5) if u < weight[: k + 1].sum())
    batch = MeasuredLaw(MASKS, LAM, weight, "dyadic").sample(3, SHAPE, rng=Fixed(u))
    np.testing.assert_array_equal(batch.lam, LAM[[drawn] * 3])
    np.testing.assert_array_equal(batch.mask, MASKS[[drawn] * 3])


def test_probabilities_that_sum_to_a_little_less_than_one_have_a_last_draw():
    batch = MeasuredLaw(MASKS, LAM, WEIGHT * (1 - 5e-10), "rounded").sample(2, SHAPE, rng=Fixed(LARGEST))
    np.testing.assert_array_equal(batch.mask, MASKS[[4, 4]])


@pytest.mark.parametrize("u", [0.0, 0.25, 0.5, 0.75, LARGEST])
@pytest.mark.parametrize("lam", [0.0, 0.5, 1.0])
def test_the_partner_has_what_the_label_says(lam, u):
    """``1 - M`` if u < w, M otherwise: never ``1 - M`` where the own label has no weight, never M where it has all."""
    law = MeasuredLaw(MASKS[[2, 2]], np.full(2, lam), np.full(2, 0.5), "one")
    q = law.partner_weights(1, SHAPE, rng=Fixed(u))
    np.testing.assert_array_equal(q[0], 1 - MASKS[2] if u < lam else MASKS[2])
    if lam:
        np.testing.assert_array_equal(law.partner_weights(1, SHAPE, law="paper", rng=Fixed(u))[0], 1 - MASKS[2])


def test_the_exact_law_is_meant_unless_another_is_named():
    law = by_hand()
    q, named, other = (
        law.partner_weights(50, SHAPE, rng=np.random.default_rng(1), **k) for k in ({}, *({"law": x} for x in LAWS))
    )
    np.testing.assert_array_equal(q, named)
    assert (q != other).any()


def test_the_papers_law_takes_draws_by_their_label_weight():
    """Probabilities 0.06, 0.09, 0.125, 0.15, 0 over their sum 0.425; the last draw never."""
    law = by_hand()
    edges = np.array([0, 0.06, 0.15, 0.275, 0.425]) / 0.425
    for k, u in enumerate((edges[1:] + edges[:-1]) / 2):
        np.testing.assert_array_equal(law.partner_weights(1, SHAPE, law="paper", rng=Fixed(u))[0], 1 - MASKS[k])


# --- atoms -------------------------------------------------------------------------------------------------------


def test_atoms_are_the_draws_and_the_tilt_is_the_label_weight_over_its_mean():
    atoms = by_hand().atoms(SHAPE)
    np.testing.assert_array_equal(atoms.mask, MASKS)
    np.testing.assert_array_equal(atoms.lam, LAM)
    np.testing.assert_array_equal(atoms.weight, WEIGHT)
    np.testing.assert_allclose(atoms.tilt, LAM / 0.425, rtol=1e-15)


def test_draws_of_no_probability_had_no_tilt():
    """Their tilt was 0 / 0, and with it the paper's law not a number."""
    law = MeasuredLaw(MASKS, LAM, np.array([0.0, 0.5, 0.0, 0.25, 0.25]), "law")
    q, p = law.atoms(SHAPE).partner("paper")
    np.testing.assert_allclose(p, np.array([0, 0.15, 0, 0.25, 0]) / 0.4, rtol=1e-15)
    np.testing.assert_allclose(np.tensordot(p, q, 1), law.moments(SHAPE, law="paper").mean, rtol=0, atol=1e-15)


def test_a_law_without_the_own_label_was_refused_under_the_exact_law_too():
    """``atoms`` asked for the paper's law, which is empty there, whatever law they were for."""
    law = MeasuredLaw(MASKS, np.zeros(5), WEIGHT, "partner")
    q, p = law.atoms(SHAPE).partner("exact")
    np.testing.assert_array_equal(q, MASKS)
    np.testing.assert_array_equal(p, WEIGHT)
    with pytest.raises(ValueError, match='the own label never has weight, so law="paper" is empty; use "exact"'):
        law.atoms(SHAPE).partner("paper")


# --- moments and their errors --------------------------------------------------------------------------------------


def conditional(law: str, power: int) -> tuple[np.ndarray, np.ndarray]:
    """``E[q^power | draw]`` [5, H, W] and the probability of each draw, one pixel at a time."""
    out, p = np.empty_like(MASKS), np.empty(5)
    for s in range(5):
        w = LAM[s] if law == "exact" else 1.0
        p[s] = WEIGHT[s] if law == "exact" else WEIGHT[s] * LAM[s] / 0.425
        for j in np.ndindex(*SHAPE):
            out[s][j] = w * (1 - MASKS[s][j]) ** power + (1 - w) * MASKS[s][j] ** power
    return out, p


def spread(values: np.ndarray, p: np.ndarray, group: np.ndarray) -> float:
    """Standard error of ``sum_s p_s v_s``, from the sums over groups of deviations from it."""
    mean = sum(a * b for a, b in zip(p, values, strict=True))
    sums: dict[int, float] = {}
    for g, a, b in zip(group.tolist(), p, values, strict=True):
        sums[g] = sums.get(g, 0.0) + a * (b - mean)
    n = len(sums)
    return float(np.sqrt(n / (n - 1) * sum(v**2 for v in sums.values())))


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("grouped", [True, False])
def test_errors_are_those_of_groups(grouped, law):
    group = GROUP if grouped else np.arange(5)
    moments = by_hand(GROUP if grouped else None).moments(SHAPE, law=law)
    second, p = conditional(law, 2)
    expected = max(spread(second[:, i, j], p, group) for i, j in np.ndindex(*SHAPE))
    assert moments.provenance.method == "sampled"
    assert moments.provenance.error == pytest.approx(expected, rel=1e-12)
    first, _ = conditional(law, 1)
    u = np.random.default_rng(0).normal(size=SHAPE)
    values = (first * u).sum(axis=(1, 2))
    assert moments.sample.linear_error(u) == pytest.approx(spread(values, p, group), rel=1e-12)


@pytest.mark.parametrize("law", LAWS)
def test_mean_and_second_moment_are_those_of_the_draws(law):
    moments = by_hand().moments(SHAPE, law=law)
    first, p = conditional(law, 1)
    second, _ = conditional(law, 2)
    np.testing.assert_allclose(moments.mean, np.tensordot(p, first, 1), rtol=0, atol=1e-14)
    np.testing.assert_allclose(moments.second.diagonal(), np.tensordot(p, second, 1), rtol=0, atol=1e-14)
    dense = np.zeros((6, 6))
    for s in range(5):
        flat, w = MASKS[s].ravel(), LAM[s] if law == "exact" else 1.0
        dense += p[s] * (w * np.outer(1 - flat, 1 - flat) + (1 - w) * np.outer(flat, flat))
    np.testing.assert_allclose(moments.second.dense(), dense, rtol=0, atol=1e-14)


def test_sizes_are_rows_and_columns():
    law, rng = by_hand(), np.random.default_rng(0)
    message = r"by hand was measured at 2x3 pixels, got 3x2; measure it there: law_of\(transform, \(3, 2\)\)"
    for use in (law.moments, law.atoms, lambda s: law.sample(1, s, rng=rng)):
        with pytest.raises(ValueError, match=message):
            use((3, 2))
    with pytest.raises(ValueError, match=r"by hand was measured and has no nominal weight to condition on; use sam"):
        law.masks(np.array([0.5]), SHAPE, rng=rng)
    empty = MeasuredLaw(MASKS, np.zeros(5), WEIGHT, "partner")
    with pytest.raises(ValueError, match='partner never gives weight to the own label, so law="paper" is empty'):
        empty.moments(SHAPE, law="paper")
