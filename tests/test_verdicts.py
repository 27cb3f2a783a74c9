"""Rank agreement, radius, stand-ins: closed cases, loops, every permutation."""

from __future__ import annotations

import math
from itertools import permutations

import naive
import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from msda_theory.data import ImageData
from msda_theory.estimate import Estimate
from msda_theory.losses import Squared
from msda_theory.masks.cutmix import CutMix
from msda_theory.masks.mixup import Mixup
from msda_theory.masks.vanilla import Vanilla
from msda_theory.order_ladder import order_ladder
from msda_theory.radii import order_radii
from msda_theory.stand_ins import class_means, default_length, local_means
from msda_theory.streams import seed_from, stream
from msda_theory.verdicts import radius, rank_agreement

# --- order of strategies --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [3, 5, 7])
def test_rank_agreement_is_the_exact_test_of_kendall(n):
    rng = np.random.default_rng(n)
    for _ in range(5):
        a, b = rng.normal(size=n), rng.normal(size=n)
        found, known = rank_agreement(a, b), stats.kendalltau(a, b, alternative="greater", method="exact")
        assert found.kendall == pytest.approx(known.statistic, abs=1e-14)
        assert found.p_value == pytest.approx(known.pvalue, abs=1e-12)
        assert found.spearman == pytest.approx(stats.spearmanr(a, b).statistic, abs=1e-14)
        assert found.n == n


def test_orders_that_agree_and_orders_that_do_not():
    perfect = rank_agreement([0.1, 0.2, 0.3, 0.5, 0.9], np.arange(5))
    assert (perfect.kendall, perfect.spearman, perfect.p_value) == tuple(pytest.approx(v) for v in (1, 1, 1 / 120))
    reverse = rank_agreement(-np.arange(5), np.arange(5))
    assert (reverse.kendall, reverse.p_value) == (pytest.approx(-1), 1)


def test_ties_against_tau_of_every_order():
    a, b = np.array([1.0, 1, 2, 3]), np.array([2.0, 1, 1, 4])
    taus = [stats.kendalltau(a[list(o)], b).statistic for o in permutations(range(4))]
    found = rank_agreement(a, b)
    assert found.p_value == pytest.approx(np.mean(np.array(taus) >= found.kendall - 1e-12), abs=1e-12)


@pytest.mark.parametrize(
    ("a", "b", "match"),
    [
        ([1, 2], [1, 2], "expected as many predicted as measured values"),
        ([1, 2, 3], [1, 2, 3, 4], "expected as many predicted as measured values"),
        (list(range(9)), list(range(9)), "expected as many predicted as measured values, 3 to 8"),
        ([1, 1, 1], [1, 2, 3], "expected finite values that are not all equal"),
        ([1, 2, 3], [1, math.nan, 3], "expected finite values that are not all equal"),
    ],
)
def test_what_has_no_order_is_refused(a, b, match):
    with pytest.raises(ValueError, match=match):
        rank_agreement(np.array(a), np.array(b))


# --- radius ---------------------------------------------------------------------------------------------------------


def shares(*means: float, se: float = 0.0) -> list[Estimate]:
    return [Estimate(m, se, 10) for m in means]


def test_radius_between_scales():
    t = (0.25, 0.5, 0.75, 1.0)
    assert radius(t, shares(1.02, 0.96, 0.84, 0.5)).value == pytest.approx(0.5 + 0.25 * (0.1 - 0.04) / (0.16 - 0.04))
    assert radius(t, shares(1.02, 0.96, 1.05, 0.95)).value == 1.0  # never too large
    assert radius(t, shares(1.2, 1.0, 1.0, 1.0)).value == 0.0  # too large from the start
    assert radius(t, shares(1.0, 1.2, 1.0, 1.0)).value == pytest.approx(0.25 + 0.25 * 0.5)  # the first crossing counts
    assert radius(t, shares(1.0, 1.2, 1.0, 1.0), tolerance=0.3).value == 1.0


def test_the_interval_of_a_radius():
    found = radius((0.5, 1.0), shares(1.0, 1.2, se=0.05), z=1.0)
    assert found.value == pytest.approx(0.75)
    assert found.low == pytest.approx(0.5 + 0.5 * (0.1 - 0.05) / 0.2)
    assert found.high == pytest.approx(0.5 + 0.5 * 0.1 / 0.15)
    assert found.tolerance == 0.1


@pytest.mark.parametrize(
    ("t", "options", "match"),
    [
        ((0.5,), {}, "expected positive, increasing scales, one for each share"),
        ((0.5, 0.5), {}, "expected positive, increasing scales"),
        ((0.0, 0.5), {}, "expected positive, increasing scales"),
        ((0.5, 1.0), {"tolerance": 0.0}, "expected a tolerance > 0, got 0.0"),
    ],
)
def test_scales_and_tolerances_that_make_no_sense(t, options, match):
    with pytest.raises(ValueError, match=match):
        radius(t, shares(1.0, 1.0), **options)


def problem(activation=nn.Tanh):
    x, y = naive.images(5, 1, (3, 3), 3, seed=2)
    return naive.network(1, (3, 3), 3, activation=activation, gain=3.0), ImageData(x, y, 3)


def test_radii_are_read_from_ladders_on_the_same_draws():
    model, data = problem()
    scales, options = (0.25, 1.0), {"draws": 20, "laws": ("exact",), "ats": ("data",)}
    found = order_radii(model, data, [CutMix(), Mixup()], scales=scales, rng=np.random.default_rng(3), **options)
    seed = seed_from(np.random.default_rng(3))
    for t in scales:
        table = order_ladder(model, data, [CutMix(), Mixup()], scale=t, rng=stream(seed, "radius"), **options)
        assert table.rows == found.ladders[t].rows
    frame = found.frame()
    assert frame.columns.tolist() == ["strategy", "law", "at", "rung", "radius", "low", "high", "tolerance"]
    assert len(frame) == 2 * 3 * 6
    for row in found.rows:
        own = [found.ladders[t].row(row.strategy, at=row.at, rung=row.rung).share for t in scales]
        assert row.radius == radius(scales, own)


def test_an_exact_prediction_holds_everywhere_and_one_without_its_first_order_nowhere():
    model, data = naive.linear(1, (3, 3), 3), problem()[1]
    found = order_radii(
        model, data, [CutMix()], loss=Squared(), scales=(0.1, 0.5, 1.0), draws=20, rng=np.random.default_rng(0)
    ).frame()  # fmt: skip
    exact = found.query("law == 'exact'")
    assert (exact.query("rung in ('r2', 'r3', 'linearised', 'quadratic')")["radius"] == 1).all()
    assert (exact.query("at == 'data' and rung == 'base'")["radius"] == 0).all()
    assert (found.query("law == 'paper'")["rung"] == "measured").any()
    assert (exact["rung"] != "measured").all()


def test_no_radius_where_nothing_is_mixed():
    with pytest.raises(ValueError, match="no rise to compare with under vanilla, which does not mix"):
        order_radii(*problem(), [Vanilla()], scales=(0.5, 1.0), draws=3, rng=np.random.default_rng(0))


# --- stand-ins ------------------------------------------------------------------------------------------------------


def test_class_means_against_loops():
    x, y = naive.images(7, 2, (3, 4), 3, seed=1)
    found = class_means(ImageData(x, y, 5))  # two classes without images
    for i in range(7):
        own = [x[k] for k in range(7) if y[k] == y[i]]
        torch.testing.assert_close(found[i], sum(own) / len(own), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("length", [0.6, 2.0])
def test_local_means_against_loops(length):
    x, y = naive.images(3, 2, (3, 4), 3, seed=1)
    found, mu = local_means(ImageData(x, y, 3), length), sum(x) / 3
    for a in range(3):
        for b in range(4):
            total, weights = torch.zeros(3, 2, dtype=torch.float64), 0.0
            for i in range(3):
                for j in range(4):
                    w = math.exp(-((a - i) ** 2 + (b - j) ** 2) / (2 * length**2))
                    total, weights = total + w * (x - mu)[:, :, i, j], weights + w
            expected = mu[:, a, b] + total / weights
            torch.testing.assert_close(found[:, :, a, b], expected, rtol=1e-11, atol=1e-11)


def test_the_ends_of_the_blur():
    x, y = naive.images(4, 2, (3, 4), 3, seed=1)
    data = ImageData(x, y, 3)
    torch.testing.assert_close(local_means(data, 0.0), x, rtol=1e-13, atol=1e-13)
    rest = x - x.mean(dim=0)
    flat = x.mean(dim=0) + rest.mean(dim=(2, 3), keepdim=True)
    torch.testing.assert_close(local_means(data, math.inf), flat, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(local_means(data, 1.0).mean(dim=0), x.mean(dim=0), rtol=1e-12, atol=1e-12)
    assert default_length(data) == 0.5


@pytest.mark.parametrize("length", [-1.0, math.nan, "x"])
def test_lengths_that_are_none(length):
    x, y = naive.images(4, 1, (3, 4), 3, seed=1)
    with naive.as_users_run_it(), pytest.raises(ValueError, match="expected a blur of length >= 0 pixels, got"):
        local_means(ImageData(x, y, 3), length)
