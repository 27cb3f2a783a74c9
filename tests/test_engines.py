"""Passes within a budget of memory, groups of draws, a pilot for a wanted error."""

from __future__ import annotations

import math

import naive
import numpy as np
import pytest
import torch
from torch import nn

from msda_theory.compare import compare
from msda_theory.data import ImageData
from msda_theory.engines import Engines
from msda_theory.expansion import _draws_for, expand, needed_moments
from msda_theory.losses import SoftmaxCrossEntropy
from msda_theory.masks.cutmix import CutMix
from msda_theory.masks.mixup import Mixup
from msda_theory.pairs import Tile, draw_tiles
from msda_theory.terms import pair_terms

SHAPE = (3, 4)


def problem(m=7, dtype=torch.float64):
    x, y = naive.images(m, 2, SHAPE, 3, seed=7)
    model = naive.network(2, SHAPE, 3, activation=nn.Softplus, gain=3.0)
    return model.to(dtype), ImageData(x.to(dtype), y, 3)


# --- memory ---------------------------------------------------------------------------------------------------------


def test_passes_shrink_with_the_budget_and_hold_every_row_if_they_can():
    model, data = problem()
    need = Engines(model, data.x)._first.bytes_per_sample
    assert need > 0
    for memory, directions, rows, batch in (
        (2**30, 16, 40, 40),
        (2**30, 16, 500, 64),
        (2**30, 1, 5000, 384),
        (27 * need, 16, 40, 1),
        (3 * 27 * need, 16, 40, 3),
        (3 * 27 * need, 7, 40, 6),
    ):
        assert Engines(model, data.x, memory).sized(directions, rows).batch == batch


def test_a_traced_pass_is_kept():
    model, data = problem()
    engines = Engines(model, data.x)
    assert engines.sized(4, 10) is engines.sized(3, 10)
    assert engines.sized(4, 10) is not engines.sized(4, 9)


def test_too_little_memory_for_one_image_is_refused():
    model, data = problem()
    with pytest.raises(ValueError, match=r"expected memory for one image, .* bytes, got 1 bytes; raise memory"):
        expand(model, data, CutMix(), draws=4, memory=1, rng=np.random.default_rng(0))


@pytest.mark.parametrize("at", ["data", "mean", "mask"])
def test_the_budget_changes_results_by_rounding_only(at):
    model, data = problem()
    need = Engines(model, data.x)._first.bytes_per_sample

    def run(memory):
        return expand(model, data, CutMix(), at=at, draws=40, memory=memory, rng=np.random.default_rng(0))

    whole, small = run(None), run(40 * need)
    for term in ("base", "r1", "r2", "r3", "total"):
        a, b = getattr(whole, term), getattr(small, term)
        assert a.mean == pytest.approx(b.mean, rel=1e-12, abs=1e-14)
        assert a.se == pytest.approx(b.se, rel=1e-9, abs=1e-14)


@pytest.mark.parametrize(
    "function",
    [
        lambda model, data, options: expand(model, data, CutMix(), **options),
        lambda model, data, options: compare({"net": model}, data, [CutMix()], **options),
    ],
    ids=["expand", "compare"],
)
@pytest.mark.parametrize(
    ("memory", "error", "match"),
    [
        (0, ValueError, "expected memory > 0 bytes, got 0"),
        (1.5, TypeError, "expected memory as a whole number of bytes, got 1.5"),
    ],
)
def test_memory_must_be_a_positive_whole_number(function, memory, error, match):
    model, data = problem()
    options = {"draws": 4, "memory": memory, "rng": np.random.default_rng(0)}
    with naive.as_users_run_it(), pytest.raises(error, match=match):
        function(model, data, options)


# --- groups of draws ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("images", [1, 5, 64, 1000])
@pytest.mark.parametrize("draws", [2, 3, 12, 16, 33, 64])
def test_groups_cover_the_draws(images, draws):
    tile = Tile(0, np.zeros((2, draws, 1, 1)), np.zeros((2, draws), dtype=np.int64), images)
    covered = [j for g in tile.groups for j in range(g.start, g.stop)]
    assert covered == list(range(draws))
    assert tile.sizes == [g.stop - g.start for g in tile.groups]
    assert 2 <= len(tile.groups) <= draws
    assert max(tile.sizes) <= 16
    assert max(tile.sizes) - min(tile.sizes) <= 1
    assert images * (len(tile.groups) - 1) >= 200 or len(tile.groups) == draws
    values = np.random.default_rng(0).normal(size=(2, draws))
    total = (tile.group_means(values) * tile.sizes).sum(axis=1) / draws
    np.testing.assert_allclose(total, values.mean(axis=1), rtol=1e-12)


@pytest.mark.parametrize("at", ["data", "mean", "mask"])
def test_group_terms_are_means_of_single_draws(at):
    """Groups of several draws, also of unequal size, against groups of one."""
    model, data = problem()
    qbar = torch.full(SHAPE, 0.4, dtype=torch.float64)
    (tile,) = draw_tiles(data, CutMix(), "exact", 7, 3)
    single = Tile(tile.start, tile.q, tile.partner, 1)
    coarse = Tile(tile.start, tile.q, tile.partner, 10**6)
    assert (single.sizes, coarse.sizes) == ([1] * 7, [4, 3])
    engines = Engines(model, data.x)
    fine = pair_terms(engines, data, SoftmaxCrossEntropy(), single, at, qbar)
    for term, values in pair_terms(engines, data, SoftmaxCrossEntropy(), coarse, at, qbar).items():
        np.testing.assert_allclose(values, coarse.group_means(fine[term]), rtol=1e-10, atol=1e-13)


def test_float32_networks_are_summed_in_float64():
    """The terms of a float32 network differ from those in float64 by its rounding alone."""
    exact = expand(*problem(), CutMix(), draws=16, rng=np.random.default_rng(0))
    single = expand(*problem(dtype=torch.float32), CutMix(), draws=16, rng=np.random.default_rng(0))
    for term in ("clean", "base", "r1", "r2", "r3"):
        assert getattr(single, term).mean == pytest.approx(getattr(exact, term).mean, rel=2e-5, abs=1e-6)


# --- a wanted error -------------------------------------------------------------------------------------------------


def test_the_pilot_brings_the_error_to_the_target():
    model, data = problem()
    pilot = expand(model, data, CutMix(), draws=64, rng=np.random.default_rng(1))
    target = pilot.total.se / 3
    e = expand(model, data, CutMix(), draws=64, target_se=target, rng=np.random.default_rng(1))
    assert 0.75 * target < e.total.se < 1.25 * target
    assert e.total.n > 5 * pilot.total.n


def test_the_final_draws_are_fresh():
    """Where the pilot happens to ask for as many draws as it had, the result is not the pilot's."""
    model, data = problem()
    first = expand(model, data, Mixup(), draws=8, rng=np.random.default_rng(2))
    e = expand(model, data, Mixup(), draws=8, target_se=10.0, rng=np.random.default_rng(2))
    assert e.total.n == 2 * len(data)
    assert e.total.mean != first.total.mean
    # The pilot has streams of its own: what follows is what this many draws give without it.
    again = expand(model, data, Mixup(), draws=2, rng=np.random.default_rng(2))
    assert e.total == again.total


def test_the_mean_over_runs_with_a_target_is_unbiased():
    """Two-stage sampling: the pilot decides how many, never which; |z| < 5 over 60 runs."""
    model, data = problem(m=3)
    truth = expand(model, data, Mixup(), method="dense").total.mean
    runs = [
        expand(model, data, Mixup(), draws=4, target_se=0.05, rng=np.random.default_rng([9, s])).total.mean
        for s in range(60)
    ]
    assert abs(np.mean(runs) - truth) < 5 * np.std(runs, ddof=1) / math.sqrt(len(runs))


@pytest.mark.parametrize(
    ("target", "match"),
    [
        (0.0, "expected target_se > 0, got 0.0"),
        (float("nan"), "expected target_se > 0, got nan"),
        (1e-300, "expected a target_se within reach, got 1e-300, which takes inf pairs for each image"),
        (5e-324, "expected a target_se within reach, got 5e-324, which takes inf pairs for each image"),
        (1e-9, "expected a target_se within reach, got 1e-09, which takes .* pairs for each image"),
    ],
)
def test_targets_are_checked(target, match):
    model, data = problem()
    with pytest.raises(ValueError, match=match):
        expand(model, data, CutMix(), draws=4, target_se=target, rng=np.random.default_rng(0))


def test_a_target_is_a_number_of_any_kind():
    model, data = problem()
    with naive.as_users_run_it():
        for target in ("0.1", True):
            with pytest.raises(TypeError, match=f"expected target_se as a number, got {target!r}; pass a float"):
                expand(model, data, CutMix(), target_se=target, rng=np.random.default_rng(0))
        found = [
            expand(model, data, CutMix(), draws=4, target_se=target, rng=np.random.default_rng(0)).total
            for target in (0.5, np.float32(0.5))
        ]
    assert found[0] == found[1]


def test_draws_for_a_target_grow_with_the_square_of_the_error_up_to_a_million():
    assert _draws_for(1.0, 3.0, 10) == 90
    assert _draws_for(2.0, 3.0, 10) == 23  # 22.5
    assert _draws_for(3.0, 0.1, 10) == 2
    assert _draws_for(1.0, 2.0**10, 1) == 2**20
    with pytest.raises(ValueError, match=r"expected a target_se within reach, got 1.0, which takes 1048577 pairs for"):
        _draws_for(1.0, 2.0**10 * (1 + 1e-9), 1)


def test_moments_are_taken_under_the_law_and_for_points_that_need_them():
    data, law = problem()[1], CutMix()
    assert needed_moments(law, data, "exact", ("mask",), 0) is None
    for points in (("data",), ("mask", "mean")):
        moments = needed_moments(law, data, "paper", points, 0)
        assert moments.law == "paper"
        np.testing.assert_array_equal(moments.mean, law.moments(data.shape, law="paper").mean)


def test_a_target_needs_draws():
    model, data = problem()
    match = "expected target_se, a number, with method='sampled' only, got"
    with naive.as_users_run_it(), pytest.raises(TypeError, match=match):
        expand(model, data, CutMix(), rng=np.random.default_rng(0), method="dense", target_se=0.1)
