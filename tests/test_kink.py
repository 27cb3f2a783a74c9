"""The second-order response by symmetric differences, against naive differences and derivatives."""

from __future__ import annotations

import naive
import numpy as np
import pytest
import torch
from torch import nn

from msda_theory.compare import compare
from msda_theory.data import ImageData
from msda_theory.expansion import expand
from msda_theory.kink import kink
from msda_theory.losses import Squared
from msda_theory.masks.cutmix import CutMix
from msda_theory.masks.mixup import Mixup
from msda_theory.pairs import draw_tiles
from msda_theory.streams import seed_from

SHAPE = (3, 4)


def problem(activation=nn.ReLU, m=6):
    x, y = naive.images(m, 2, SHAPE, 3, seed=7)
    return naive.network(2, SHAPE, 3, activation=activation, hidden=20, gain=3.0), ImageData(x, y, 3)


@pytest.mark.parametrize("law", ["exact", "paper"])
def test_response_against_loops(law):
    model, data = problem()
    result = kink(model, data, CutMix(), law=law, scale=0.25, draws=5, rng=np.random.default_rng(3), batch_size=7)
    values = {0.25: [], 0.125: []}
    for tile in draw_tiles(data, CutMix(), law, 5, seed_from(np.random.default_rng(3))):
        for i, (qs, rs) in enumerate(zip(tile.q, tile.partner, strict=True)):
            for q, r in zip(qs, rs, strict=True):
                x, y = data.x[tile.start + i], data.y[tile.start + i]
                delta = torch.from_numpy(q) * (data.x[r] - x)
                for t, found in values.items():
                    three = torch.stack([x + t * delta, x - t * delta, x])
                    a, b, c = nn.functional.cross_entropy(model(three), y.expand(3), reduction="none").tolist()
                    found.append((a + b - 2 * c) / (2 * t * t))
    assert result.response.mean == pytest.approx(np.mean(values[0.25]), rel=1e-10)
    assert result.half.mean == pytest.approx(np.mean(values[0.125]), rel=1e-10)
    assert result.change.mean == pytest.approx(result.half.mean - result.response.mean, rel=1e-10)
    assert result.excess.mean == pytest.approx(result.response.mean - result.derivatives.mean, rel=1e-10)
    assert result.excess_half.mean == pytest.approx(result.half.mean - result.derivatives.mean, rel=1e-10)
    assert result.response.n == 6 * 5
    assert (result.scale, result.strategy, result.law) == (0.25, CutMix().name, law)


def test_a_smooth_network_has_no_kinks():
    """K(t) = R2 + R3 + O(t^2): a quarter of the excess at half the step."""
    result = kink(*problem(nn.Tanh), Mixup(), scale=1 / 16, draws=8, rng=np.random.default_rng(0))
    assert abs(result.excess.mean) > 1e-7
    assert result.excess.mean / result.excess_half.mean == pytest.approx(4.0, rel=0.05)
    # Paired: known far better than the response itself.
    assert result.excess.se < result.response.se / 10


def test_kinks_of_a_relu_network_show_and_derivatives_do_not_see_them():
    model, data = problem(m=40)
    result = kink(model, data, Mixup(), scale=0.5, draws=200, rng=np.random.default_rng(0))
    e = expand(model, data, Mixup(), method="dense")
    naive.assert_estimates(result.derivatives.mean, result.derivatives.se, e.r2.mean)
    assert e.r3.mean == 0.0
    assert abs(result.excess.mean) > 6 * result.excess.se
    smooth = kink(problem(nn.Softplus)[0], data, Mixup(), scale=1 / 64, draws=200, rng=np.random.default_rng(0))
    assert abs(smooth.excess.mean) < 0.05 * abs(smooth.response.mean)


def test_the_change_between_steps_shows_a_kink_that_only_the_longer_one_reaches():
    """Squared loss of one ReLU unit with its kink at 1/2, which steps from 0 and 1 reach at t = 1, never at 1/2."""

    class Hinge(nn.Module):
        def forward(self, x):
            return torch.relu(x.flatten(1).sum(dim=1, keepdim=True) - 0.5).expand(-1, 2)

    x = torch.tensor([0.0, 1.0], dtype=torch.float64).reshape(2, 1, 1, 1)
    data = ImageData(x, torch.tensor([0, 0]), 2)
    result = kink(Hinge(), data, Mixup(alpha=50.0), loss=Squared(), scale=1.0, draws=400, rng=np.random.default_rng(1))
    # With h > 0 the loss h^2 - h is below that at h = 0: crossing lowers K(1).
    assert result.change.mean > 6 * result.change.se
    assert result.half.mean == pytest.approx(result.derivatives.mean, rel=1e-9)


def test_compare_reports_it():
    model, data = problem()
    options = {"draws": 6, "batch_size": 11}
    c = compare(
        {"net": model}, data, [CutMix()], law=("exact", "paper"), kink=0.25, rng=np.random.default_rng(5), **options
    )
    for row in c.rows:
        alone = kink(model, data, CutMix(), law=row.law, scale=0.25, rng=np.random.default_rng(5), **options)
        assert row.kink.mean == pytest.approx(alone.response.mean, rel=1e-12)
        assert row.kink.se == pytest.approx(alone.response.se, rel=1e-9)
        assert row.kink_half.mean == pytest.approx(alone.half.mean, rel=1e-12)
    frame = c.frame()
    assert {"kink", "kink_se", "kink_half", "kink_half_se"} <= set(frame.columns)
    without = compare({"net": model}, data, [CutMix()], rng=np.random.default_rng(5), **options)
    assert not [name for name in without.frame().columns if "kink" in name]
    assert without.rows[0].r2.mean == c.rows[0].r2.mean  # the same draws


@pytest.mark.parametrize("scale", [0.0, -0.1, 1.5, float("nan"), "x"])
def test_scales_outside_the_step_are_refused(scale):
    model, data = problem()
    match = r"expected a scale in \(0, 1\], got .*; give the share of the step, e.g. 1/8"
    with naive.as_users_run_it(), pytest.raises(ValueError, match=match):
        kink(model, data, CutMix(), scale=scale, rng=np.random.default_rng(0))
    with naive.as_users_run_it(), pytest.raises(ValueError, match=match):
        compare({"net": model}, data, [CutMix()], kink=scale, rng=np.random.default_rng(0))
