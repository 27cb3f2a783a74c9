"""The law that `DrawLog` makes of the calls, Eq. (10a); whether samples met themselves; storage of the masks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
import pytest
from draw_calls import FLIP, SHAPE, B, Call, call, logged

from msda_theory.masks.draw_log import DrawLog, _Masks, _without_self_pairs
from msda_theory.masks.measured import MeasuredLaw, TwoLevelMasks

BOX = np.array([[0.0, 1.0, 1.0], [0.0, 1.0, 1.0]])
RAMP = np.linspace(0.1, 0.9, 6).reshape(SHAPE)


def total(parts: Iterable[tuple[int, np.ndarray, float, float]]) -> dict[tuple, float]:
    """Probability of each draw, by call, mask and label weight; all unmixed ones together."""
    found = Counter()
    for k, mask, own, p in parts:
        values = mask.astype(float).round(5).ravel().tolist()
        found["unmixed" if min(values) == 1 else (int(k), *values, float(own))] += float(p)
    return {key: p for key, p in found.items() if p > 0}


def assert_law(law: MeasuredLaw, calls: Sequence[Call], share: dict[tuple[int, int], float]) -> None:
    """The law gives every sample (call, place) its share."""
    wanted = total((k, calls[k][0][i], calls[k][1][i], p) for (k, i), p in share.items())
    got = total(zip(law.group, law.store[slice(0, len(law))], law.lam, law.weight, strict=True))
    assert got.keys() == wanted.keys()
    assert len(law) == len({(k, calls[k][0][i].tobytes()) for (k, i), p in share.items() if p > 0})
    np.testing.assert_allclose([got[k] for k in wanted], list(wanted.values()), rtol=1e-12)


def by_10a(calls: Sequence[Call], probability: float, *, met: bool) -> dict[tuple[int, int], float]:
    """Shares of samples (call, place); with ``met``, unmixed samples of calls that mixed something are left out."""
    share = {}
    for k, (_, _, partner) in enumerate(calls):
        kept = [i for i in range(B) if not met or partner[i] >= 0 or (partner < 0).all()]
        share.update({(k, i): 1 / len(kept) / len(calls) for i in kept})
    unmixed = {at for at in share if calls[at[0]][2][at[1]] < 0}
    phi = sum(share[at] for at in unmixed)
    pi = max(0.0, (phi - probability) / (1 - probability))
    return {at: s * (pi / phi if at in unmixed else (1 - pi) / (1 - phi)) for at, s in share.items()}


def permuted(rng: np.random.Generator, applied: float = 1.0) -> list[int]:
    """Partners by a uniform permutation; -1 for samples that met themselves or were not mixed."""
    return [-1 if p == i or rng.random() > applied else p for i, p in enumerate(rng.permutation(B).tolist())]


def per_batch(n: int) -> list[Call]:
    """One box or ramp in a call; every third call mixes nothing."""
    rng = np.random.default_rng(4)
    draws = [BOX * v if k % 2 else RAMP * v for k, v in enumerate(rng.uniform(0.2, 0.8, n))]
    return [call(d, permuted(rng) if k % 3 else [-1] * B, 0.3) for k, d in enumerate(draws)]


def per_sample(n: int, applied: float) -> list[Call]:
    rng = np.random.default_rng(5)
    return [call(rng.uniform(0.2, 0.8, B).tolist(), permuted(rng, applied), 0.4) for _ in range(n)]


def test_one_draw_in_a_call_leaves_out_samples_that_met_themselves():
    calls = per_batch(60)
    law = logged(calls).law("mine", 0.1, True)
    assert_law(law, calls, by_10a(calls, 1 / 24, met=True))
    assert law.detail == f"{len(law)} draws in 60 calls; samples that met themselves left out"
    assert (law.label, law.smoothing) == ("mine", 0.1)


def test_a_draw_for_each_sample_takes_the_fixed_points_off():
    calls = per_sample(60, 0.7)
    law = logged(calls).law("mine", 0.0, True)
    assert_law(law, calls, by_10a(calls, 1 / 4, met=False))
    assert law.detail == f"{len(law)} draws in 60 calls; 1/4 of the samples taken to have met themselves"


def test_fewer_unmixed_samples_than_by_chance_get_no_weight():
    calls = [*per_sample(30, 1.0), *[call([0.2, 0.3, 0.4, 0.5], FLIP)] * 30]
    law = logged(calls).law("mine", 0.0, True)
    assert_law(law, calls, by_10a(calls, 1 / 4, met=False))
    assert (law.lam < 1).all()


@pytest.mark.parametrize("calls", [per_batch(60), per_sample(60, 0.7)], ids=["per-batch", "per-sample"])
def test_without_self_pairs_every_sample_has_its_share(calls):
    law = logged(calls).law("mine", 0.0, False)
    assert_law(law, calls, by_10a(calls, 0.0, met=False))
    assert law.detail == f"{len(law)} draws in 60 calls"


@pytest.mark.parametrize("known", [None, True])
def test_fixed_partners_leave_every_sample_its_share(known):
    """Partners that never change are no random permutation: unmixed samples did not meet themselves."""
    calls = [call(0.2 + k / 100, [-1, -1, 1, 0]) for k in range(20)]
    law = logged(calls).law("mine", 0.0, known)
    assert_law(law, calls, by_10a(calls, 0.0, met=False))
    assert law.detail == "40 draws in 20 calls"


def test_two_partners_of_an_image_are_random():
    calls = [call(0.2 + k / 100, [1, 0, -1, -1] if k % 2 else [3, -1, -1, 0]) for k in range(20)]
    law = logged(calls).law("mine", 0.0, True)
    assert_law(law, calls, by_10a(calls, 1 / 24, met=True))
    assert law.detail == "20 draws in 20 calls; samples that met themselves left out"


NEVER = [
    call(draw.tolist(), [-1 if rest else (i + shift) % B for i, rest in enumerate(still)])
    for draw, still, shift in zip(
        np.random.default_rng(6).uniform(0.2, 0.8, (250, B)),
        np.random.default_rng(7).random((250, B)) > 0.7,
        np.random.default_rng(8).integers(1, B, 250).tolist(),
        strict=True,
    )
]


@pytest.mark.parametrize(
    ("calls", "met", "probability"),
    [(per_batch(60), True, 1 / 24), (per_sample(250, 0.7), False, 1 / 4), (NEVER, False, 0.0)],
    ids=["per-batch", "per-sample", "never"],
)
def test_calls_show_whether_samples_met_themselves(calls, met, probability):
    law = logged(calls, together=True).law("mine", 0.0, None)
    assert_law(law, calls, by_10a(calls, probability, met=met))


# --- whether samples met themselves -----------------------------------------------------------------------------


def shown(
    alone: Sequence[int], unmixed: Sequence[int], *, one_draw: bool = False, on: Sequence[bool] | None = None
) -> list[bool] | str:
    """Calls of 8 samples, of which so many were unmixed and alone: calls with self pairs, or "asked"."""
    log = DrawLog(8, (1, 1), 1e-4, number=len(alone), one_draw=one_draw)
    log.alone, log.unmixed = [np.array(alone)], [np.array(unmixed)]
    try:
        return log._calls_with_self_pairs(np.ones(len(alone), dtype=bool) if on is None else np.array(on)).tolist()
    except ValueError as error:
        return "asked" if "it does not show whether these met themselves. Pass self_" in str(error) else str(error)


def test_a_hypothesis_is_rejected_at_three_and_a_half_standard_errors():
    """Half the samples unmixed: alone are 8 / 4 = 2 without self pairs, 1 + 7 (3/7)^2 = 16/7 with them.

    The variance of a call is that of the number alone, 1, and, as both depend on the share of unmixed samples, that of
    this share, 1 / 64, times (2 * 8 / 2)^2. So 2/7 are 3.5 standard errors of 300.1 calls.
    """
    for n, answer in ((300, "asked"), (304, [False] * 304)):
        assert shown([1, 3, 1, 3] * (n // 4), [3, 3, 5, 5] * (n // 4)) == answer


@pytest.mark.parametrize(
    ("n", "larger", "decided"),
    [(441, 242, True), (600, 337, False)],
    ids=["2.1 and 4.0", "3.0 and 4.0"],
)
def test_the_hypotheses_must_differ_by_one_and_a_half_standard_errors(n, larger, decided):
    """Alone are 1 or 3, on average between the 2 and 16/7 of the hypotheses; the ids say how many errors off each."""
    alone = [3] * larger + [1] * (n - larger)
    assert shown(alone, [4] * n) == ([False] * n if decided else "asked")


def test_with_one_draw_one_sample_in_a_call_meets_itself():
    """Six of 8 unmixed: alone are 1 with self pairs, 8 (3/4)^2 = 4.5 without."""
    assert shown([0, 2] * 50, [6] * 100, one_draw=True) == [True] * 100
    assert shown([4, 5] * 50, [6] * 100, one_draw=True) == [False] * 100
    assert shown([2, 3] * 50, [6] * 100, one_draw=True) == "asked"


def test_calls_that_are_all_alike_decide():
    assert shown([1] * 9, [1] * 9, one_draw=True) == [True] * 9
    assert shown([2] * 9, [4] * 9) == [False] * 9


def test_calls_that_mixed_something_decide_first():
    """Two calls with one sample alone, among many that mixed nothing; then what all calls show."""
    alone, unmixed, on = [1, 1] + [8] * 98, [1, 1] + [8] * 98, [True, True] + [False] * 98
    assert shown(alone, unmixed, one_draw=True, on=on) == on
    alone[:2] = 2, 6
    unmixed[:2] = 6, 6
    assert shown(alone, unmixed, one_draw=True, on=on) == [False] * 100


def test_weights_of_unmixed_draws_lose_the_probability_of_meeting_themselves():
    """Of a sum of 6 a half is unmixed: less 1/5, that is (1/2 - 1/5) / (1 - 1/5) = 3/8 of 6, in the old proportion."""
    weight, mixed = np.array([1.0, 0.5, 2.0, 2.5]), np.array([True, False, True, False])
    wanted = [6 * 5 / 8 / 3, 6 * 3 / 8 / 6, 6 * 5 / 8 * 2 / 3, 6 * 3 / 8 * 5 / 6]
    for scale in (1.0, 1 / 6):  # whatever the sum is
        got = _without_self_pairs(scale * weight, mixed, 0.2)
        np.testing.assert_allclose(got, scale * np.array(wanted), rtol=1e-14)
    np.testing.assert_allclose(_without_self_pairs(weight, mixed, 0.6), [2, 0, 4, 0], rtol=1e-14)


@pytest.mark.parametrize("mixed", [True, False])
def test_weights_of_draws_that_are_all_mixed_or_all_unmixed_stay(mixed):
    weight = np.array([1.0, 0.5])
    np.testing.assert_array_equal(_without_self_pairs(weight, np.full(2, mixed), 0.2), weight)


# --- storage ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kinds", ["bbb", "rrr", "brb", "rbr", "rrbbr"])
def test_masks_keep_their_order_in_any_form(kinds):
    """Boxes are two-level masks, ramps are rows of float32; both together become rows."""
    rng = np.random.default_rng(7)
    log, added = _Masks(SHAPE), []
    for k, kind in enumerate(kinds):
        scale = (rng.integers(1, 64, size=(2 * k + 1, 1, 1)) / 64).astype(np.float32)
        added.append((scale * (BOX if kind == "b" else RAMP)).astype(np.float32).astype(float))
        log.add(added[-1])
    masks = np.concatenate(added)
    for keep in (np.ones(len(masks), dtype=bool), rng.random(len(masks)) < 0.5):
        store = log.joined(keep)
        assert store.shape == (keep.sum(), *SHAPE)
        assert isinstance(store, TwoLevelMasks) if set(kinds) == {"b"} else store.dtype == np.float32
        np.testing.assert_array_equal(store[slice(0, len(masks))], masks[keep])
