"""`DrawLog`, fed by hand: what it counts of the calls, and what it refuses."""

from __future__ import annotations

import math
import warnings
from collections import Counter

import numpy as np
import pytest
from draw_calls import FLIP, SHAPE, B, Call, call, logged

from msda_theory.masks.draw_log import DrawLog, _groups


def random_calls(n: int, seed: int = 0) -> list[Call]:
    """Masks of few values, so that some draws are equal; partners -1 to 3."""
    rng = np.random.default_rng(seed)
    return [
        call([float(v) for v in rng.choice([0.25, 0.5], size=B)], rng.integers(-1, B, size=B).tolist())
        for _ in range(n)
    ]


# --- what is counted --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("together", [False, True])
def test_partners_and_unmixed_samples_are_counted(together):
    calls = random_calls(60)
    log = logged(calls, together=together)
    pairs = np.zeros((B, B))
    for k, (_, _, partner) in enumerate(calls):
        for i, p in enumerate(partner.tolist()):
            if p >= 0:
                pairs[i, p] += 1
        unmixed = [i for i in range(B) if partner[i] == -1]
        assert np.concatenate(log.unmixed)[k] == len(unmixed)
        assert np.concatenate(log.alone)[k] == sum(i not in partner for i in unmixed)
    np.testing.assert_array_equal(log.pairs, pairs)
    assert log.number == 60


@pytest.mark.parametrize("together", [False, True])
def test_equal_draws_of_a_call_are_one_draw_with_their_share(together):
    calls = random_calls(60)
    log = logged(calls, together=together)
    found = Counter()
    for k, (mask, own, partner) in enumerate(calls):
        for i in range(B):
            found[k, float(mask[i, 0, 0]), float(own[i]), bool(partner[i] >= 0)] += 1 / B
    masks = log.masks.joined(np.ones(sum(map(len, log.own)), dtype=bool))[slice(None)]
    parts = (np.concatenate(v).tolist() for v in (log.call, log.own, log.mixed, log.share))
    got = {(k, m, w, on): s for m, k, w, on, s in zip(masks[:, 0, 0].tolist(), *parts, strict=True)}
    assert len(masks) == len(got)
    assert got == dict(found)


def test_per_call_counts_the_draws_that_mixed_something():
    unmixed = call(1.0, [-1] * B)
    calls = [unmixed, call([0.2, 0.3, 0.3, 0.4], FLIP), call(0.2, [1, 0, -1, -1]), unmixed, unmixed]
    assert logged(calls).per_call == (1 + 3 + 1 + 1 + 1) / 5


def test_sums_are_those_of_the_masks_and_their_squares_in_float64():
    """In float32 sums of 900 are off by some 1e-6 of themselves."""
    rng = np.random.default_rng(1)
    mask = rng.random((2, 900, B, *SHAPE), dtype=np.float32)
    own, partner = rng.random((2, 900, B)), np.tile(FLIP, (900, 1))
    log = DrawLog(B, SHAPE, 1e-4)
    for t, part in ((0, slice(0, 500)), (1, slice(0, 900)), (0, slice(500, 900))):
        log.add(mask[t, part], own[t, part], partner[part], t)
    exact = mask.astype(float)
    assert log.sums.shape == (2, 2, B, *SHAPE)
    np.testing.assert_allclose(log.sums[:, 0], exact.sum(axis=1), rtol=1e-14)
    np.testing.assert_allclose(log.sums[:, 1], (exact**2).sum(axis=1), rtol=2e-8)
    np.testing.assert_array_equal(log.counts, [900, 900])
    in_order = [np.concatenate([v[0, :500], v[1], v[0, 500:]]) for v in (exact, own)]
    expected = np.stack([v.reshape(1800, -1).mean(axis=1) for v in in_order], axis=1)
    np.testing.assert_allclose(np.concatenate(log.means), expected, rtol=1e-14)


@pytest.mark.parametrize(("tolerance", "same"), [(1e-9, 1e-5), (1e-4, 1e-5), (1e-3, 1e-5), (2e-3, 4e-3), (0.02, 0.04)])
@pytest.mark.parametrize("factor", [0.8, 1.2])
@pytest.mark.parametrize("what", ["mask", "label"])
def test_draws_that_differ_by_rounding_are_one(tolerance, same, factor, what):
    """By 1e-5; by twice the tolerance where the user allows for more than a thousandth."""
    moved = 0.25 + factor * same
    draw = call([0.25, moved, 0.25, 0.25], FLIP) if what == "mask" else call(0.25, FLIP, [0.25, moved, 0.25, 0.25])
    log = logged([draw], tolerance)
    np.testing.assert_array_equal(log.share, [[1.0]] if factor < 1 else [[0.75, 0.25]])


@pytest.mark.parametrize("partner", [0, 2])
def test_a_mixed_sample_is_no_draw_of_an_unmixed_one(partner):
    """However little was taken, and whoever the partner is."""
    log = logged([call(1.0, [-1, partner, -1, -1], 1.0)])
    np.testing.assert_array_equal(log.share, [[0.75, 0.25]])
    np.testing.assert_array_equal(log.mixed, [[False, True]])


@pytest.mark.parametrize("what", ["mask", "label"])
def test_a_sample_belongs_to_the_first_one_with_the_same_draw(what):
    """Nearness, here by less than 1, goes no further: sample 2 is near 0 and 1, 4 near 3 only, which is one with 0."""
    values = np.array([[0.0, 1.6, 0.8, -0.6, -1.2], [0.0, 1.0, 2.0, 1.75, 5.0]])
    mask, own = values[:, :, None, None] * np.ones(SHAPE), np.zeros((2, 5))
    if what == "label":
        mask, own = np.zeros_like(mask), values
    first, share = _groups(mask, own, np.ones((2, 5), dtype=bool), 1.0)
    np.testing.assert_array_equal(first, [[0, 1, 0, 0, 4], [0, 1, 2, 1, 4]])
    np.testing.assert_array_equal(share, [[3, 1, 0, 0, 1], [1, 2, 1, 0, 1]])


@pytest.mark.parametrize(
    ("draw", "one"),
    [
        (call(0.5, FLIP), True),
        (call(0.5, [1, 0, -1, -1]), True),
        (call(0.5, [1, 0, 3, -1]), False),
        (call([0.5, 0.5, 0.4, 0.5], FLIP), False),
        (call([0.5, 0.5, 0.985, 0.5], FLIP), False),
        (call([0.5, 0.5, 0.995, 0.5], FLIP), True),
        (call(0.985, [1, 0, 3, -1]), False),
        (call(0.995, [1, 0, 3, -1]), True),
        (call(1.0, [-1] * B), True),
    ],
    ids=["all", "pair", "unmixed-taken", "two", "two-faint", "two-unsure", "taken-faint", "taken-unsure", "none"],
)
def test_one_draw_for_each_call(draw, one):
    """Samples of which less than 0.01 was taken everywhere decide nothing: others of their draw may look unmixed."""
    assert logged([draw]).one_draw is one
    several = logged([call(0.3, FLIP), draw, call(0.6, FLIP)], together=True)
    assert several.one_draw is one


def test_a_draw_without_own_label_has_a_finite_mark():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        log = logged([call(0.4, FLIP, 0.0), call(0.4, FLIP, 0.0), call(0.4, FLIP, 0.3)])
    a, b, c = np.concatenate(log.marks)
    assert a == b
    assert abs(c - a) > 1


# --- what is refused --------------------------------------------------------------------------------------------


def constant(value: float, own: float | None = None) -> Call:
    return call(value, FLIP, value if own is None else own)


def raises(check, message: str, wanted: bool) -> None:
    if wanted:
        with pytest.raises(ValueError, match=message):
            check()
    else:
        check()


@pytest.mark.parametrize("tolerance", [0.0, 1e-4])
def test_kept_labels_are_refused_unless_asked_for(tolerance):
    kept = logged([constant(0.5, 1 - tolerance / 2)], tolerance)
    message = "the transform mixes images and returns the labels as they were"
    raises(lambda: kept.check_labels("auto"), message, True)
    kept.check_labels("onehot")
    logged([constant(0.5, 1 - 2 * tolerance - 1e-6)], tolerance).check_labels("auto")
    logged([constant(0.5, 1.0), constant(0.5, 0.7)], tolerance).check_labels("auto")
    logged([call(1.0, [-1] * B)], tolerance).check_labels("auto")


@pytest.mark.parametrize(
    ("period", "draws", "refused"),
    [(1, 12, False), (1, 13, True), (5, 16, False), (5, 17, True), (17, 33, False), (17, 34, True)],
)
def test_draws_that_come_again_are_refused(period, draws, refused):
    """After 12 that came again, and after a whole period; neither rounding nor unmixed calls in between matter."""
    values = np.random.default_rng(2).uniform(0.2, 0.8, period)[np.arange(draws) % period]
    noise = np.random.default_rng(3).uniform(-1e-6, 1e-6, draws)
    again = [constant(v, v + e) for v, e in zip(values.tolist(), noise.tolist(), strict=True)]
    message = f"expected random draws, got the same {period} again and again in {{}} calls: does the transform"
    for calls in (again, [c for d in again for c in (d, call(1.0, [-1] * B))]):
        log = logged(calls)
        raises(lambda log=log: log.check_repeats(False), message.format(log.number), refused)
        log.check_repeats(True)


def test_draws_that_come_again_by_chance_are_not_refused():
    values = np.random.default_rng(3).choice([0.3, 0.4, 0.5], 60).tolist()
    logged([constant(v) for v in values]).check_repeats(False)
    logged([constant(0.5, v) for v in values]).check_repeats(False)
    logged([constant(v, 0.5) for v in values]).check_repeats(False)


def test_an_augmenter_that_mixes_nothing_is_refused_unless_asked_for():
    log = logged([call(1.0, [-1] * B)] * 3)
    raises(lambda: log.check_constancy(False), "the transform mixed nothing in 3 calls; if that is meant, pass", True)
    log.check_constancy(True)
    logged([constant(0.5)] * 3).check_constancy(False)


def spread(width: np.ndarray, mask_shift: np.ndarray, own_shift: np.ndarray) -> list[Call]:
    """Calls, alike in both textures, of masks and label weights 0.5 +- width; and shifts of each."""
    signs = width * (1 - 2 * (np.arange(len(width)) // 2 % 2))
    return [
        (
            np.broadcast_to(0.5 + sign + np.reshape(m, (-1, 1, 1)), (B, *SHAPE)).astype(np.float32),
            np.full(B, 0.5 + sign + w),
            np.array(FLIP),
        )
        for sign, m, w in zip(signs, mask_shift, own_shift, strict=True)
    ]


@pytest.mark.parametrize("factor", [0.98, 1.02])
@pytest.mark.parametrize("what", ["mask", "label", "texture"])
@pytest.mark.parametrize("part", [1.0, 0.5])
def test_a_change_of_eight_standard_errors_is_refused(what, factor, part):
    """Between halves of the calls, or between the textures: of 12 calls each, so with a variance over 11.

    One of both varies by a part of the other only.
    """
    distance = factor * 8 * math.sqrt((1 + part**2) * (1 / 64) ** 2 / 11)
    second = np.arange(24) % 2 if what == "texture" else np.arange(24) >= 12
    late, odd, none = (np.arange(24) >= 12) * distance, np.arange(24) % 2 * distance, np.zeros(24)
    shifts = {"mask": (late, none), "label": (none, late), "texture": (odd[:, None] * [0, 0, 1, 0], none)}[what]
    log = logged(spread(np.where(second, part, 1) / 64, *shifts), tolerance=1e-9)
    message = (
        "expected masks that do not depend on the images, got other masks for other images"
        if what == "texture"
        else "expected one law, got another one in the second half of 24 calls; measure a transform"
    )
    raises(lambda: log.check_constancy(False), message, factor > 1)


@pytest.mark.parametrize("factor", [0.95, 1.05])
def test_differences_of_ten_tolerances_are_rounding(factor):
    calls = [constant(0.5 + (k >= 12) * factor * 10 * 1e-3) for k in range(24)]
    log = logged(calls, tolerance=1e-3)
    raises(lambda: log.check_constancy(False), "expected one law, got another one in the second half", factor > 1)


def test_one_constant_mask_is_one_law_without_any_tolerance():
    logged([constant(0.5)] * 24, tolerance=0.0).check_constancy(True)


def test_opposite_changes_of_mask_and_label_do_not_cancel():
    calls = [constant(0.5 + (k >= 12) * 0.1, 0.5 - (k >= 12) * 0.1) for k in range(24)]
    raises(lambda: logged(calls).check_constancy(False), "expected one law, got another one in the second half", True)


def test_a_change_near_the_end_is_seen():
    calls = [constant(0.5 + (k >= 60) * 0.2) for k in range(90)]
    raises(lambda: logged(calls).check_constancy(False), "expected one law, got another one in the second half", True)


def test_fewer_than_twelve_calls_of_a_texture_show_no_change():
    calls = [constant(0.3 + 0.4 * (k % 2)) for k in range(24)]
    logged(calls[:23]).check_constancy(False)
    raises(lambda: logged(calls).check_constancy(False), "expected masks that do not depend on the images", True)
