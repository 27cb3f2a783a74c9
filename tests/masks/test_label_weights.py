"""`Weights`: label weight, partner and smoothing, read from labels of known ones; what is rounding and what is not."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from msda_theory.masks.probes import Weights, one_smoothing

TOLERANCE = 1e-4
EXACT = 2.0**-10  # a tolerance whose multiples are without rounding


def read(rows: np.ndarray, tolerance: float = TOLERANCE) -> Weights:
    return Weights.of(torch.from_numpy(rows), tolerance)


def labels(own: np.ndarray, partner: np.ndarray, classes: int, smoothing: float = 0.0) -> np.ndarray:
    """``(1 - s)(w e_i + (1 - w) e_p) + s / K`` by loops [G, B, K]."""
    rows = np.zeros((*own.shape, classes))
    for g, i in np.ndindex(*own.shape):
        rows[g, i, i] += own[g, i]
        rows[g, i, partner[g, i]] += 1 - own[g, i]
    return (1 - smoothing) * rows + smoothing / classes


@pytest.mark.parametrize("smoothing", [0.0, 0.005, 0.1, 0.9])
@pytest.mark.parametrize("classes", [4, 7, 100])
def test_labels_of_known_weights_are_read(classes, smoothing):
    rng = np.random.default_rng(0)
    own = rng.uniform(0.01, 0.99, size=(5, 4))
    partner = (np.arange(4) + rng.integers(1, 4, size=(5, 4))) % 4
    own[0, 1], own[3, 2] = 1.0, 0.0
    weights = read(labels(own, partner, classes, smoothing))
    np.testing.assert_allclose(weights.own, own, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(weights.partner, np.where(own == 1, -1, partner))
    assert weights.smoothing == pytest.approx(smoothing, abs=1e-12)


def test_exact_labels_need_no_tolerance():
    rows = np.zeros((1, 4, 4))
    rows[0] = [[1, 0, 0, 0], [0.5, 0.5, 0, 0], [0, 1, 0, 0], [0, 0, 0.75, 0.25]]
    weights = read(rows, 0.0)
    np.testing.assert_array_equal(weights.own, [[1, 0.5, 0, 0.25]])
    np.testing.assert_array_equal(weights.partner, [[-1, 0, 1, 2]])
    assert weights.smoothing == 0


def sample_of_class_one(row: list[float]) -> np.ndarray:
    """Four samples, all as they were but that of class 1."""
    rows = np.eye(4)[None]
    rows[0, 1] = row
    return rows


@pytest.mark.parametrize(
    ("row", "own", "partner"),
    [
        ([0, 1 + EXACT, 0, 0], 1, -1),
        ([1 + EXACT, -EXACT, 0, 0], 0, 0),
        ([0, 1 - EXACT, EXACT, 0], 1 - EXACT, -1),
        ([0, 1 - 2 * EXACT, 2 * EXACT, 0], 1 - 2 * EXACT, 2),
        ([0, 0.5, 0.5 + EXACT, 0], 0.5, 2),
        ([0, 0.5, 0.5 - EXACT, 0], 0.5, 2),
        ([EXACT, 0.5, 0.5, -EXACT], 0.5, 2),
    ],
    ids=["above-1", "below-0", "hardly-mixed", "mixed", "sum-above", "sum-below", "spread"],
)
def test_deviations_up_to_the_tolerance_are_rounding(row, own, partner):
    weights = read(sample_of_class_one(row), EXACT)
    assert weights.own[0, 1] == own
    assert weights.partner[0, 1] == partner
    assert weights.smoothing == 0


@pytest.mark.parametrize(
    "row",
    [
        [0, 1 + 2 * EXACT, 0, 0],
        [1 + 2 * EXACT, -2 * EXACT, 0, 0],
        [0, 0.5, 0.5 + 2 * EXACT, 0],
        [0, 0.5, 0.5 - 2 * EXACT, 0],
        [2 * EXACT, 0.5, 0.5, -2 * EXACT],
        [1.25, -0.25, 0, 0],
        [0, 0.5, 0.25, 0],
        [0, 0, 0, 0],
        [0, 1, 1, 0],
    ],
    ids=["above-1", "below-0", "sum-above", "sum-below", "spread", "extrapolated", "missing", "nothing", "twice"],
)
def test_larger_deviations_are_not(row):
    with pytest.raises(ValueError, match="expected labels that are a convex combination w y_i"):
        read(sample_of_class_one(row), EXACT)


def test_labels_of_three_samples_are_refused():
    with pytest.raises(ValueError, match="of the labels of two samples"):
        read(np.stack([np.roll([0.5, 0.3, 0.2, 0, 0], i) for i in range(4)])[None])


def test_smoothing_up_to_the_tolerance_is_rounding():
    """Over 8 classes: 1/8 of the tolerance in every class is none; twice of that is read as it is."""
    own, partner = np.full((2, 4), 0.5), np.array([[1, 0, 3, 2]] * 2)
    assert read(labels(own, partner, 8, EXACT), EXACT).smoothing == 0
    assert read(labels(own, partner, 8, 2 * EXACT), EXACT).smoothing == pytest.approx(2 * EXACT, rel=1e-12)


@pytest.mark.parametrize("smoothing", [1.2, 1.8])
def test_more_smoothing_than_there_is_label_is_refused(smoothing):
    """Samples of least weight in their own class: ``s / K`` everywhere with s > 1 is a form of it, but no smoothing."""
    with pytest.raises(ValueError, match="expected labels that are a convex combination"):
        read(labels(np.ones((1, 4)), np.zeros((1, 4), dtype=int), 4, smoothing))


def test_all_samples_have_one_smoothing():
    own, partner = np.full((2, 4), 0.5), np.array([[1, 0, 3, 2]] * 2)
    rows = labels(own, partner, 10, 0.1)
    rows[1, 2] = labels(own, partner, 10, 0.25)[1, 2]
    with pytest.raises(ValueError, match=r"expected one label smoothing, got 0.1 and 0.25; measure the mixing step"):
        read(rows)


@pytest.mark.parametrize(
    ("deviations", "worst"),
    [({1: -0.1, 2: 0.05}, 1), ({1: -0.05, 3: 0.1}, 3), ({0: -0.2, 3: 0.1}, 0)],
)
def test_the_sample_that_is_farthest_off_is_shown(deviations, worst):
    rows = np.zeros((2, 4, 5))
    rows[:, np.arange(4), np.arange(4)] = 0.12345
    rows[:, np.arange(4), np.array([1, 0, 3, 2])] = 1 - 0.12345
    for i, d in deviations.items():
        rows[1, i, [1, 0, 3, 2][i]] += d
    shown = [f"{v:.3g}" for v in rows[1, worst]]
    with pytest.raises(ValueError, match="convex combination") as caught:
        read(rows)
    text = str(caught.value)
    got = text[text.index("got [") + 5 : text.index("]")].split(",")
    assert [f"{float(v):.3g}" for v in got] == shown
    assert "0.123," in text
    assert f"for the sample of class {worst}; return w and 1 - w" in text


def test_the_one_smoothing_is_the_middle_of_values_that_agree():
    assert one_smoothing(np.array([0.25, 0.25]), 0.0) == 0.25
    assert one_smoothing(np.array([0.5, 0.5 + EXACT, 0.5]), EXACT) == 0.5 + EXACT / 2
    with pytest.raises(ValueError, match=r"expected one label smoothing, got 0.5 and 0.502; measure"):
        one_smoothing(np.array([0.5, 0.5 + 2 * EXACT, 0.5]), EXACT)
