"""Corners of the mask laws: tall images, ends of ranges, exponents, highest degrees, stated errors."""

from __future__ import annotations

import numpy as np
import pytest

from msda_theory.masks import wishes
from msda_theory.masks.box_moments import BoxSum
from msda_theory.masks.cutmix import CutMix
from msda_theory.masks.design import design
from msda_theory.masks.field import Field
from msda_theory.masks.gmix import GMix
from msda_theory.masks.hmix import HMix
from msda_theory.masks.orthants import Orthant

TALL = [(8, 1), (8, 2), (16, 2), (12, 5)]


@pytest.mark.parametrize("law", ["exact", "paper"])
@pytest.mark.parametrize("shape", TALL, ids=str)
@pytest.mark.parametrize(
    "strategy",
    [GMix(), GMix(alpha=0.3), GMix(label="nominal"), CutMix(), HMix(), Field(length=1.0, label="pixels")],
    ids=lambda s: s.name,
)
def test_a_tall_image_has_the_moments_of_the_wide_one(strategy, shape, law):
    tall, wide = (strategy.moments(s, law=law) for s in (shape, shape[::-1]))
    np.testing.assert_allclose(tall.mean, wide.mean.T, rtol=0, atol=2e-14)
    d = shape[0] * shape[1]
    turned = wide.second.dense().reshape(*shape[::-1], *shape[::-1]).transpose(1, 0, 3, 2).reshape(d, d)
    np.testing.assert_allclose(tall.second.dense(), turned, rtol=0, atol=2e-14)


@pytest.mark.parametrize("alpha", [0.05, 0.3, 1.0, 8.0, 30.0])
@pytest.mark.parametrize("shape", [(4, 5), (12, 5), (1, 7)], ids=str)
def test_gmix_states_an_error_of_rounding(shape, alpha):
    """Its panels are made so narrow that the quadrature is exact to rounding."""
    for label in ("pixels", "nominal"):
        assert 0 < GMix(alpha=alpha, label=label).moments(shape).provenance.error <= 1e-14


@pytest.mark.parametrize("power", [0, 1, 2])
def test_a_sum_over_boxes_has_one_diagonal(power):
    """By Kronecker products and by sums over positions, for every exponent of rho."""
    boxes = BoxSum(((1, 1), (2, 1)), np.array([0.3, 0.2]), power, (4, 6), "clipped")
    np.testing.assert_allclose(np.diag(boxes.dense()).reshape(4, 6), boxes.diagonal(), rtol=1e-12)


def test_the_series_of_a_narrow_law_ends_at_degree_1024():
    """S is integrated once: degree 1025. The error that is stated grows where this is not enough."""
    errors = [Orthant.of(alpha).error for alpha in (1.0, 1e8)]
    assert Orthant.of(1e8).series.degree() == 1025
    assert errors[0] < 1e-14 < errors[1] < 1e-7


@pytest.mark.parametrize("alpha", [1e-3, 1.0])
def test_a_diagonal_within_the_margin_of_its_end_means_masks_of_two_values(alpha):
    _, middle, high = wishes.reachable(alpha)
    for below in (0.0, 5e-10):
        made = design(wishes.flat((3, 4), diagonal=high - below, level=middle), alpha=alpha)
        assert made.strategy.on((3, 4)).values[0, 0] == 1.0
