"""Calibration: naive loops, hand-made cases, invariances, coverage of the interval."""

from __future__ import annotations

import math
from itertools import pairwise

import naive
import numpy as np
import pytest
import torch
from naive import as_users_run_it
from scipy import stats
from torch import nn

from msda_theory.calibration import calibration, calibration_error, calibration_of
from msda_theory.data import ImageData
from msda_theory.proportions import Proportion


def rng(seed=0):
    return np.random.default_rng(seed)


def answers(m=200, classes=4, seed=1):
    source = rng(seed)
    return torch.from_numpy(2 * source.normal(size=(m, classes))), torch.from_numpy(source.integers(0, classes, m))


def naive_error(confidence, correct, edges, norm):
    gaps, shares = [], []
    for low, high in pairwise(edges):
        inside = [i for i, c in enumerate(confidence) if low < c <= high or (c == low == 0.0)]
        if inside:
            gap = abs(sum(confidence[i] for i in inside) - sum(correct[i] for i in inside)) / len(inside)
            gaps.append(gap)
            shares.append(len(inside) / len(confidence))
    if norm == "max":
        return max(gaps)
    power = {"l1": 1, "l2": 2}[norm]
    return sum(s * g**power for s, g in zip(shares, gaps, strict=True)) ** (1 / power)


@pytest.mark.parametrize("norm", ["l1", "l2", "max"])
@pytest.mark.parametrize("bins", [1, 7, 15])
def test_error_equals_naive_loops(norm, bins):
    f, y = answers()
    p = torch.exp(f) / torch.exp(f).sum(dim=1, keepdim=True)
    confidence = [float(row.max()) for row in p]
    correct = [int(row.argmax()) == int(label) for row, label in zip(p, y, strict=True)]
    got = calibration_of(f, y, bins=bins, norm=norm, resamples=20, rng=rng())
    want = naive_error(confidence, correct, [k / bins for k in range(bins + 1)], norm)
    assert got.ece == pytest.approx(want, rel=1e-10)
    assert calibration_error(np.array(confidence), np.array(correct), bins=bins, norm=norm) == pytest.approx(want)


@pytest.mark.parametrize("norm", ["l1", "l2", "max"])
@pytest.mark.parametrize(("m", "bins"), [(60, 6), (61, 6), (5, 8)])
def test_bins_of_equal_mass(norm, m, bins):
    source = rng(m)
    confidence, correct = source.uniform(0.2, 1, m), source.random(m) < 0.6
    order = np.argsort(confidence)
    groups = [order[k * m // bins : (k + 1) * m // bins] for k in range(bins)]
    groups = [g for g in groups if len(g)]
    gaps = np.array([abs(confidence[g].mean() - correct[g].mean()) for g in groups])
    share = np.array([len(g) / m for g in groups])
    want = {"l1": (share * gaps).sum(), "l2": math.sqrt((share * gaps**2).sum()), "max": gaps.max()}[norm]
    assert calibration_error(confidence, correct, bins=bins, binning="mass", norm=norm) == pytest.approx(want)


def test_equal_confidences_share_a_bin():
    confidence = np.array([0.5] * 6 + [0.9] * 2)
    correct = np.array([1, 1, 1, 0, 0, 0, 1, 1], dtype=bool)
    # whatever the number of bins: gaps 0 (6 images) and 0.1 (2 images)
    for bins in (2, 3, 4, 8):
        assert calibration_error(confidence, correct, bins=bins, binning="mass") == pytest.approx(0.025)


def test_confidences_on_the_edges_belong_below():
    confidence, correct = np.array([0.5, 0.50001, 1.0, 0.0]), np.array([True, False, True, False])
    # bins (0, .5] and (.5, 1]: gaps |.25 - .5| and |.750005 - .5|
    assert calibration_error(confidence, correct, bins=2) == pytest.approx(0.25, abs=1e-5)
    assert calibration_error(confidence, correct, bins=2, norm="max") == pytest.approx(0.250005, abs=1e-9)


def test_scores_equal_naive_loops():
    f, y = answers(50)
    got = calibration_of(f, y, resamples=20, rng=rng())
    nll, brier, right = [], [], 0
    for row, label in zip(f.tolist(), y.tolist(), strict=True):
        p = [math.exp(v) / sum(math.exp(w) for w in row) for v in row]
        nll.append(-math.log(p[label]))
        brier.append(sum((v - (k == label)) ** 2 for k, v in enumerate(p)))
        right += p.index(max(p)) == label
    for estimate, values in ((got.nll, nll), (got.brier, brier)):
        assert estimate.mean == pytest.approx(np.mean(values), rel=1e-12)
        assert estimate.se == pytest.approx(np.std(values, ddof=1) / math.sqrt(50), rel=1e-12)
    assert got.accuracy == Proportion(right, 50)


def test_diagram():
    f, y = answers(300)
    got = calibration_of(f, y, bins=10, level=0.9, resamples=20, rng=rng())
    d, frame = got.diagram, got.diagram.frame()
    assert list(frame.columns) == ["lower", "upper", "count", "confidence", "accuracy", "low", "high"]
    assert d.count.sum() == 300
    assert d.count[:2].sum() == 0  # four classes: the confidence is at least .25
    assert np.isnan(frame.loc[:1, ["confidence", "accuracy", "low", "high"]]).all(axis=None)
    used = d.count > 0
    for row in frame[used].itertuples():
        assert row.lower < row.confidence <= row.upper
        want = Proportion(round(row.accuracy * row.count), row.count).interval(0.9)
        assert (row.low, row.high) == pytest.approx(want)
    assert got.ece == pytest.approx((d.count * np.abs(d.confidence - d.accuracy))[used].sum() / 300)


def test_invariances():
    f, y = answers()
    order = torch.from_numpy(rng(3).permutation(len(y)))
    base = calibration_of(f, y, resamples=20, rng=rng())
    for logits, labels in ((f[order], y[order]), (f + 7.0, y), (f.roll(1, dims=1), (y + 1) % 4)):
        got = calibration_of(logits, labels, resamples=20, rng=rng())
        assert got.ece == pytest.approx(base.ece, rel=1e-10)
        assert got.nll.mean == pytest.approx(base.nll.mean, rel=1e-10)
        assert got.brier.mean == pytest.approx(base.brier.mean, rel=1e-10)


def test_a_constant_predictor_with_the_right_share_is_calibrated():
    f = torch.log(torch.tensor([[0.75, 0.25]], dtype=torch.float64)).expand(8, 2)
    y = torch.tensor([0, 0, 0, 1, 0, 0, 0, 1])
    for norm in ("l1", "l2", "max"):
        got = calibration_of(f, y, norm=norm, resamples=50, rng=rng())
        assert got.ece < 1e-15
        assert got.interval[0] == 0.0
        assert got.interval[1] > 0.1


def test_bootstrap_equals_a_naive_one():
    """On the same multiplicities: distance of resampled from observed sums or means, bin by bin."""
    f, y = answers(40)
    p = f.softmax(dim=1)
    c, a = p.max(dim=1).values.numpy(), (p.argmax(dim=1) == y).numpy()
    place = np.ceil(c * 3).astype(int) - 1
    for norm in ("l1", "l2", "max"):
        got = calibration_of(f, y, bins=3, norm=norm, resamples=30, level=0.8, rng=rng(5))
        weights = rng(5).multinomial(40, np.full(40, 1 / 40), size=30)
        distances = []
        for w in weights:
            rows = np.repeat(np.arange(40), w)
            bins = [(rows[place[rows] == b], np.flatnonzero(place == b)) for b in range(3)]
            if norm == "l1":
                parts = [abs((a[r] - c[r]).sum() - (a[o] - c[o]).sum()) / 40 for r, o in bins]
                distances.append(sum(parts))
                continue
            gaps = [abs((a[r] - c[r]).mean() - (a[o] - c[o]).mean()) if len(r) else 0.0 for r, o in bins]
            squares = sum(len(r) / 40 * g**2 for (r, _), g in zip(bins, gaps, strict=True))
            distances.append(max(gaps) if norm == "max" else math.sqrt(squares))
        q = np.quantile(distances, 0.8)
        assert got.noise == pytest.approx(np.mean(distances), rel=1e-9)
        assert got.interval == pytest.approx((max(0.0, got.ece - q), got.ece + q), rel=1e-9)


@pytest.mark.parametrize("excess", [0.0, 0.1])
def test_the_interval_covers_the_error_of_the_population(excess):
    """150 samples of 300: coverage at least 95 %, exact binomial test at level 1e-6; a wrong truth must be rejected.

    Every answer has confidence .6 or .9 and is right with that probability minus ``excess``: the error is ``excess``.
    """
    source, hits, wrong = rng(7), 0, 0
    for _ in range(150):
        c = source.choice([0.6, 0.9], size=300)
        right = source.random(300) < c - excess
        f = torch.from_numpy(np.stack([np.log(c), np.log1p(-c)], axis=1))
        low, high = calibration_of(f, torch.from_numpy((~right).astype(np.int64)), resamples=60, rng=source).interval
        hits += low <= excess <= high
        wrong += low <= excess + 0.12 <= high
    assert stats.binomtest(hits, 150, 0.95, alternative="less").pvalue > 1e-6, hits
    assert stats.binomtest(wrong, 150, 0.95, alternative="less").pvalue < 1e-6, wrong


def test_from_a_model_and_from_its_logits():
    x, y = naive.images(30, 1, (3, 3), 3, seed=1)
    data, model = ImageData(x, y, 3), naive.network(1, (3, 3), 3)
    got = calibration(model, data, bins=5, resamples=25, rng=rng(), batch_size=7)
    want = calibration_of(model(x).detach(), y, bins=5, resamples=25, rng=rng())
    assert (got.ece, *got.interval, got.noise) == pytest.approx((want.ece, *want.interval, want.noise))
    assert got.nll.mean == pytest.approx(want.nll.mean)
    assert (
        calibration(model, data, resamples=25, rng=rng()).interval
        == calibration(model, data, resamples=25, rng=rng()).interval
    )


def test_errors():
    f, y = answers(10)
    with as_users_run_it():
        with pytest.raises(TypeError, match=r"the bootstrap needs a numpy\.random\.Generator, got int"):
            calibration_of(f, y, rng=0)
        with pytest.raises(ValueError, match="quantiles of a bootstrap need resamples >= 20, got 5"):
            calibration_of(f, y, resamples=5, rng=rng())
        with pytest.raises(ValueError, match="expected a confidence level in"):
            calibration_of(f, y, level=95, rng=rng())
        with pytest.raises(ValueError, match="expected at least 1 bin, got bins=0"):
            calibration_of(f, y, bins=0, rng=rng())
        with pytest.raises(ValueError, match=r"expected binning among .* choose equal width or mass"):
            calibration_of(f, y, binning="size", rng=rng())
        with pytest.raises(ValueError, match=r"expected norm among .* choose how gaps of bins are pooled"):
            calibration_of(f, y, norm="l3", rng=rng())
        with pytest.raises(ValueError, match=r"expected logits \[m, c\] and labels \[m\] .* got \(10, 1\)"):
            calibration_of(f[:, :1], y, rng=rng())
        with pytest.raises(ValueError, match="expected finite logits, got NaN or infinity; clip probabilities"):
            calibration_of(torch.log(torch.zeros(10, 4)), y, rng=rng())
        with pytest.raises(ValueError, match=r"expected int64 labels in 0 \.\. 3, got torch.float32"):
            calibration_of(f, y.float(), rng=rng())
        with pytest.raises(ValueError, match="expected int64 labels in"):
            calibration_of(f, y + 1, rng=rng())
        with pytest.raises(ValueError, match=r"expected confidences \[m\] and bits \[m\] of dtype bool"):
            calibration_error(np.array([0.5]), np.array([1]))
        with pytest.raises(ValueError, match=r"expected confidences in \[0, 1\], got 1.2 .. 1.2"):
            calibration_error(np.array([1.2]), np.array([True]))
        x, labels = naive.images(4, 1, (3, 3), 3, seed=1)
        dropout = nn.Sequential(nn.Dropout(0.5), naive.network(1, (3, 3), 3)).train()
        with pytest.raises(ValueError, match="expected a model in eval mode"):
            calibration(dropout, ImageData(x, labels, 3), rng=rng())
