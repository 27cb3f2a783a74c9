"""Effective dimension, Rademacher complexity, train/test gap: naive loops, all signs, invariances, degenerate cases."""

from __future__ import annotations

import itertools
import math

import naive
import numpy as np
import pytest
import torch
from mc_checks import fails
from naive import as_users_run_it
from scipy import stats
from sklearn.datasets import load_digits
from torch import nn

from msda_theory.data import ImageData
from msda_theory.ellipsoids import effective_dimension, ellipsoid, second_moment, squared_size
from msda_theory.estimate import Estimate
from msda_theory.generalization import effective_dimensions, generalization_gap, order_agreement
from msda_theory.losses import Logistic, SoftmaxCrossEntropy, Squared
from msda_theory.masks.base import Strategy
from msda_theory.masks.batches import MaskBatch
from msda_theory.masks.choice import Choice
from msda_theory.masks.cutmix import CutMix
from msda_theory.masks.gmix import GMix
from msda_theory.masks.hmix import HMix
from msda_theory.masks.mixup import Mixup
from msda_theory.masks.vanilla import Vanilla
from msda_theory.moments.moments import Moments, Provenance
from msda_theory.moments.operators import Dense
from msda_theory.rademacher import rademacher_complexity

SHAPE = (3, 3)
STRATEGIES = [Mixup(), CutMix(), HMix(), GMix(), Choice((Mixup(), CutMix()))]
EVERY_STRATEGY = pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda s: s.name)
LAW = pytest.mark.parametrize("law", ["exact", "paper"])


def rng(seed=0):
    return np.random.default_rng(seed)


def problem(m=7, channels=1, seed=1, shape=SHAPE):
    x, y = naive.images(m, channels, shape, 3, seed=seed)
    return ImageData(x, y, 3)


def naive_metric(a: np.ndarray, x: np.ndarray) -> np.ndarray:
    """``S[(c,j),(c',k)] = a_jk mean_i x_icj x_ic'k``, entry by entry; x [m, C, d]."""
    m, channels, d = x.shape
    s = np.zeros((channels * d, channels * d))
    for c, j, e, k in itertools.product(range(channels), range(d), range(channels), range(d)):
        s[c * d + j, e * d + k] = a[j, k] * sum(x[i, c, j] * x[i, e, k] for i in range(m)) / m
    return s


def flat(data):
    return data.x.flatten(2).numpy()


def inverse(s, cutoff=1e-10):
    """Pseudo-inverse on the eigenvalues above the cutoff."""
    values, vectors = np.linalg.eigh(s)
    keep = values > cutoff * values[-1]
    return (vectors[:, keep] / values[keep]) @ vectors[:, keep].T, int(keep.sum())


def trace_of(s, x):
    pinv, rank = inverse(s)
    rows = x.reshape(len(x), -1)
    return sum(float(r @ pinv @ r) for r in rows) / len(rows), rank


def dimension(strategy, data, law="exact", **options):
    metric = ellipsoid(strategy.moments(data.shape, law=law), data, **options)
    return effective_dimension(metric, data)


def moments_of(masks: np.ndarray, law="exact"):
    """Moments of q uniform on the given maps [N, H, W]."""
    rows = masks.reshape(len(masks), -1)
    second = Dense(rows.T @ rows / len(rows), masks.shape[1:])
    return Moments(masks.mean(axis=0), second, law, Provenance("finite sum", 0.0, "test"))


# --- effective dimension --------------------------------------------------------------------------------------------


@EVERY_STRATEGY
@LAW
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("m", [5, 40])
def test_dimension_equals_naive_loops(strategy, law, channels, m):
    data = problem(m, channels)
    a = strategy.moments(SHAPE, law=law).second.dense()
    want, rank = trace_of(naive_metric(a, flat(data)), flat(data))
    got = dimension(strategy, data, law)
    assert got.trace == pytest.approx(want, rel=1e-9)
    assert (got.rank, got.m, got.inputs, got.law) == (rank, m, channels * 9, law)
    assert got.dimension == got.trace
    assert got.bound(2.5) == pytest.approx(math.sqrt(2.5 * want / m), rel=1e-9)


@LAW
def test_dimension_of_cutmix_from_its_enumerated_masks(law):
    """``theta^T S theta = E_q E_i (theta.(q o x_i))^2`` summed over every box, by images and atoms."""
    data = problem(12)
    masks, share, nominal, weights = naive.cutmix_atoms(SHAPE, 1.0)
    atoms = naive.one_sided(masks, share, weights) if law == "exact" else naive.paper_law(masks, nominal, weights)
    x = flat(data)[:, 0]
    s = sum(p * np.outer(q.ravel() * row, q.ravel() * row) for q, p in atoms for row in x) / len(x)
    want, _ = trace_of(s, x)
    assert dimension(CutMix(), data, law).trace == pytest.approx(want, rel=1e-9)


def test_mixup_on_digits_is_the_rank_over_a():
    digits = load_digits()
    data = ImageData(digits.images[:, None] / 16, digits.target.astype(np.int64), 10)
    got = dimension(Mixup(), data)
    rank = np.linalg.matrix_rank(data.x.flatten(1).numpy())
    assert got.rank == rank == 61
    assert got.trace == pytest.approx(6 * 61, rel=1e-9)
    assert got.null == 3
    assert got.outside < 1e-25


@EVERY_STRATEGY
def test_dimension_is_at_most_the_rank_times_one_number_of_the_law(strategy):
    """``tr(S^+ Sigmahat) <= rank 1^T A^+ 1``, with equality for Mixup."""
    data = problem(30)
    a = strategy.moments(SHAPE).second.dense()
    limit = 9 * float(np.ones(9) @ np.linalg.pinv(a, hermitian=True) @ np.ones(9))
    got = dimension(strategy, data).trace
    assert got <= limit * (1 + 1e-10)
    assert (got == pytest.approx(limit, rel=1e-9)) == isinstance(strategy, Mixup)


def test_scaling_laws():
    data = problem(25)
    moments = CutMix().moments(SHAPE)
    base = dimension(CutMix(), data).trace
    scaled = ImageData(3 * data.x, data.y, 3)
    assert dimension(CutMix(), scaled).trace == pytest.approx(base, rel=1e-9)
    metric = ellipsoid(moments, data)
    assert effective_dimension(metric, scaled).trace == pytest.approx(9 * base, rel=1e-9)
    weak = Moments(moments.mean / 4, Dense(moments.second.dense() / 16, SHAPE), "exact", moments.provenance)
    assert effective_dimension(ellipsoid(weak, data), data).trace == pytest.approx(16 * base, rel=1e-9)
    twice = ImageData(torch.cat([data.x, data.x]), torch.cat([data.y, data.y]), 3)
    double = dimension(CutMix(), twice)
    assert double.trace == pytest.approx(base, rel=1e-9)
    assert double.bound() == pytest.approx(dimension(CutMix(), data).bound() / math.sqrt(2), rel=1e-9)


@EVERY_STRATEGY
def test_symmetries(strategy):
    """Order and sign of images, transposition (a symmetry of every built-in law on squares), equal channels."""
    data = problem(25)
    base = dimension(strategy, data).trace
    order = torch.randperm(25, generator=torch.Generator().manual_seed(0))
    signs = torch.where(torch.arange(25) % 2 == 0, 1.0, -1.0)[:, None, None, None]
    for x in (data.x[order], data.x * signs, data.x.transpose(2, 3), data.x.repeat(1, 3, 1, 1)):
        assert dimension(strategy, ImageData(x, data.y, 3)).trace == pytest.approx(base, rel=1e-8)


def test_a_wrong_metric_gives_another_number():
    """Evil twins: the other law, the other strategy, A repeated by the wrong rule over channels."""
    data = problem(25, channels=2)
    right = dimension(CutMix(), data).trace
    wrong = [dimension(CutMix(), data, "paper").trace, dimension(Mixup(), data).trace]
    a, x = CutMix().moments(SHAPE).second.dense(), flat(data).reshape(25, -1)
    wrong.append(trace_of(np.kron(a, np.ones((2, 2))) * (x.T @ x / 25), x)[0])
    wrong.append(trace_of(np.tile(a, (2, 2)) * np.cov(x.T, bias=True), x)[0])  # centred
    assert all(abs(w / right - 1) > 1e-3 for w in wrong), (right, wrong)


# --- degenerate metrics ---------------------------------------------------------------------------------------------


def test_a_pixel_that_is_always_zero_counts_for_nothing():
    data = problem(25)
    x = data.x.clone()
    x[:, :, 1, 2] = 0.0
    got = dimension(CutMix(), ImageData(x, data.y, 3))
    keep = [j for j in range(9) if j != 5]
    a = CutMix().moments(SHAPE).second.dense()[np.ix_(keep, keep)]
    rows = x.flatten(1).numpy()[:, keep]
    assert got.trace == pytest.approx(trace_of(a * (rows.T @ rows / 25), rows)[0], rel=1e-9)
    assert (got.rank, got.null, got.violations) == (8, 1, 0)
    assert got.outside < 1e-25


def test_a_pixel_that_is_never_taken_makes_the_complexity_infinite():
    data = problem(25)
    masks = rng().random((30, *SHAPE))
    masks[:, 0, 0] = 0.0
    moments = moments_of(masks)
    x = data.x.clone()
    x[:10, :, 0, 0] = 0.0
    data = ImageData(x, data.y, 3)
    metric = ellipsoid(moments, data)
    got = effective_dimension(metric, data)
    assert (got.violations, got.null, got.rank) == (15, 1, 8)
    assert not got.condition_holds
    assert got.dimension == got.bound() == math.inf
    assert math.isfinite(got.truncated_bound())
    assert got.outside == pytest.approx(float(x[:, 0, 0, 0].square().sum() / x.square().sum()), rel=1e-9)
    # the reason: theta = t e_0 costs nothing, and its correlation with the signs grows with t
    corner = torch.zeros(1, 9, dtype=torch.float64)
    corner[0, 0] = 1e6
    assert squared_size(corner, moments, data).item() == 0
    complexity = rademacher_complexity(metric, data, draws=50, rng=rng())
    assert complexity.infinite
    assert complexity.truncated.mean < complexity.bound < math.inf
    # the same law on images that are 0 there is in order
    x[:, :, 0, 0] = 0.0
    clean = ImageData(x, data.y, 3)
    assert effective_dimension(ellipsoid(moments, clean), clean).condition_holds


def test_images_outside_the_range_of_a_metric_from_other_images():
    few, many = problem(4, seed=2), problem(6, seed=3)
    metric = ellipsoid(Mixup().moments(SHAPE), few)
    assert effective_dimension(metric, few).violations == 0
    got = effective_dimension(metric, many)
    assert (got.rank, got.violations, got.m) == (4, 6, 6)
    assert 0 < got.outside < 1
    mixed = ImageData(torch.cat([few.x, many.x[:1]]), torch.cat([few.y, many.y[:1]]), 3)
    assert effective_dimension(metric, mixed).violations == 1


def test_vanilla_has_no_class():
    got = dimension(Vanilla(), problem(8))
    assert (got.rank, got.trace, got.dimension, got.outside) == (0, 0.0, math.inf, 1.0)
    assert got.violations == 8


@pytest.mark.parametrize("cutoff", [1e-10, 1e-3, 0.05, 0.5])
def test_the_cutoff_is_the_one_stated(cutoff):
    data = problem(25)
    s = naive_metric(CutMix().moments(SHAPE).second.dense(), flat(data))
    values, vectors = np.linalg.eigh(s)
    keep = values > cutoff * values[-1]
    x = flat(data).reshape(25, -1)
    inside = (x @ vectors[:, keep]) ** 2
    got = dimension(CutMix(), data, cutoff=cutoff)
    assert got.rank == keep.sum()
    assert got.trace == pytest.approx((inside / values[keep]).sum() / 25, rel=1e-9)
    assert got.outside == pytest.approx(1 - inside.sum() / (x**2).sum(), abs=1e-12)
    assert got.condition_holds  # small eigenvalues are cut off, which is no violation


# --- Rademacher complexity ------------------------------------------------------------------------------------------


def naive_complexity(s, x, gamma):
    """Mean over all 2^m signs of the supremum, taken at its maximiser, which is checked to be in the class."""
    pinv, _ = inverse(s)
    rows = x.reshape(len(x), -1)
    values = []
    for signs in itertools.product((1.0, -1.0), repeat=len(rows)):
        total = np.array(signs) @ rows
        theta = math.sqrt(gamma) * pinv @ total / math.sqrt(total @ pinv @ total)
        assert theta @ s @ theta <= gamma * (1 + 1e-9)
        values.append(float(theta @ total) / len(rows))
    return float(np.mean(values))


@EVERY_STRATEGY
@LAW
def test_complexity_equals_the_enumeration_and_is_below_the_bound(strategy, law):
    data, gamma = problem(8, channels=2), 1.7
    moments = strategy.moments(SHAPE, law=law)
    metric = ellipsoid(moments, data)
    got = rademacher_complexity(metric, data, gamma=gamma, draws=None)
    want = naive_complexity(naive_metric(moments.second.dense(), flat(data)), flat(data), gamma)
    assert got.truncated.mean == pytest.approx(want, rel=1e-10)
    assert (got.truncated.se, got.truncated.n) == (0.0, 256)
    assert not got.infinite
    assert got.bound / math.sqrt(2) <= got.truncated.mean <= got.bound * (1 + 1e-12)  # equal: Mixup, 8 free images
    assert got.bound == pytest.approx(effective_dimension(metric, data).bound(gamma), rel=1e-12)


def test_no_member_of_the_class_does_better_than_the_supremum():
    data = problem(6)
    moments = CutMix().moments(SHAPE)
    metric = ellipsoid(moments, data)
    whitened = metric.whitened(data.x).sum(dim=0)  # signs all +1
    supremum = float(whitened.norm()) / 6
    theta = torch.from_numpy(rng().normal(size=(2000, 9)))
    theta /= squared_size(theta, moments, data).sqrt()[:, None]
    values = (theta @ data.x.flatten(1).mean(dim=0)).abs()
    assert 0.3 * supremum < float(values.max()) <= supremum * (1 + 1e-12)


def test_two_equal_images_attain_the_lower_end():
    x = torch.ones(2, 1, 2, 2, dtype=torch.float64)
    data = ImageData(x, torch.tensor([0, 1]), 2)
    got = rademacher_complexity(ellipsoid(Mixup().moments((2, 2)), data), data, draws=None)
    assert got.truncated.mean == pytest.approx(got.bound / math.sqrt(2), rel=1e-12)


def test_one_image_attains_the_bound():
    data = ImageData(torch.ones(1, 1, 2, 2, dtype=torch.float64), torch.tensor([0]), 2)
    got = rademacher_complexity(ellipsoid(Mixup().moments((2, 2)), data), data, draws=None)
    assert got.truncated.mean == pytest.approx(got.bound, rel=1e-12)


class Biased(np.random.Generator):
    """Signs that are +1 with probability 0.7."""

    def integers(self, low, high, size):
        return (self.random(size) < 0.7).astype(np.int64)


def test_sampled_signs_estimate_the_enumeration_and_unfair_ones_do_not():
    """One z test at level 1e-6; the wrong law must fail it."""
    data = problem(10)
    metric = ellipsoid(CutMix().moments(SHAPE), data)
    truth = rademacher_complexity(metric, data, draws=None).truncated.mean
    got = rademacher_complexity(metric, data, draws=4000, rng=rng(3)).truncated
    naive.assert_estimates(got.mean, got.se, truth)
    assert got.n == 4000
    bad = rademacher_complexity(metric, data, draws=4000, rng=Biased(np.random.PCG64(3))).truncated
    assert fails(lambda: naive.assert_estimates(bad.mean, bad.se, truth))


def test_the_error_of_sampled_signs_is_right():
    """Spread of 300 estimates of 20 draws against their own standard errors: chi-square, level 1e-6."""
    data = problem(10)
    metric = ellipsoid(HMix().moments(SHAPE), data)
    source = rng(4)
    runs = [rademacher_complexity(metric, data, draws=20, rng=source).truncated for _ in range(300)]
    ratio = np.var([r.mean for r in runs], ddof=1) / np.mean([r.se**2 for r in runs])
    low, high = stats.f.ppf([5e-7, 1 - 5e-7], 299, 300 * 19 / 2)
    assert low < ratio < high


def test_the_bound_of_digits_holds_for_every_strategy_and_law():
    digits = load_digits()
    data = ImageData(digits.images[:500, None] / 16, digits.target[:500].astype(np.int64), 10)
    second = second_moment(data)
    for strategy in STRATEGIES:
        for law in ("exact", "paper"):
            metric = ellipsoid(strategy.moments((8, 8), law=law), data, second=second)
            got = rademacher_complexity(metric, data, draws=200, rng=rng())
            assert got.truncated.mean - 5 * got.truncated.se < got.bound
            assert got.truncated.mean > 0.95 * got.bound  # many images: Jensen loses little


# --- size of a weight -----------------------------------------------------------------------------------------------


@EVERY_STRATEGY
@LAW
def test_squared_size_equals_the_dense_form(strategy, law):
    data = problem(9, channels=2)
    moments = strategy.moments(SHAPE, law=law)
    theta = rng().normal(size=(3, 18))
    s = naive_metric(moments.second.dense(), flat(data))
    got = squared_size(theta, moments, data)
    np.testing.assert_allclose(got.numpy(), np.einsum("kd,de,ke->k", theta, s, theta), rtol=1e-11)
    other = squared_size(theta, CutMix(alpha=0.3).moments(SHAPE), data)
    assert not np.allclose(got, other, rtol=1e-3)


# --- tables and orders ----------------------------------------------------------------------------------------------


class Rows(Strategy):
    """Masks alone: its moments are sampled."""

    alpha = 1.0

    def masks(self, lam, shape, *, rng):
        mask = np.ones((len(lam), *shape))
        mask[:, 0] = rng.random((len(lam), 1))
        return MaskBatch(mask, mask.mean(axis=(1, 2)))


def test_table_of_strategies():
    data = problem(20)
    table = effective_dimensions([Vanilla(), *STRATEGIES, Rows()], data, rng=rng())
    frame = table.frame(gamma=2.0)
    assert list(frame.columns[:5]) == ["strategy", "law", "dimension", "bound", "truncated_bound"]
    assert len(frame) == 14
    line = frame[(frame.strategy == "cutmix") & (frame.law == "paper")].iloc[0]
    assert line.dimension == pytest.approx(dimension(CutMix(), data, "paper").trace, rel=1e-12)
    assert line.bound == pytest.approx(math.sqrt(2 * line.dimension / 20), rel=1e-12)
    bounds = table.bounds("exact")
    assert bounds["vanilla"] == math.inf
    assert bounds["mixup"] == pytest.approx(math.sqrt(6 * 9 / 20), rel=1e-9)
    # under the exact law 1 is in the range of A
    assert frame[(frame.law == "exact") & (frame.strategy != "vanilla")].violations.sum() == 0
    other = problem(5, seed=9)
    elsewhere = effective_dimensions([CutMix()], data, laws=["exact"], points=other)
    want = effective_dimension(ellipsoid(CutMix().moments(SHAPE), data), other)
    assert elsewhere.rows == (("cutmix", want),)


@pytest.mark.parametrize("n", [3, 5, 7])
def test_order_agreement_equals_scipy(n):
    a, b = rng(n).random(n), rng(n + 1).random(n)
    names = [f"s{k}" for k in range(n)]
    got = order_agreement(dict(zip(names, a, strict=True)), dict(zip(reversed(names), b[::-1], strict=True)))
    want = stats.kendalltau(a, b, method="exact", alternative="greater")
    assert got.tau == pytest.approx(want.statistic)
    assert got.p_value == pytest.approx(want.pvalue)
    assert got.by_bound == tuple(names[k] for k in np.argsort(a))
    assert got.by_gap == tuple(names[k] for k in np.argsort(b))


def test_order_agreement_with_ties_and_infinity_by_enumeration():
    bounds = {"vanilla": math.inf, "mixup": 2.0, "cutmix": 1.0, "hmix": 2.0}
    gaps = {"vanilla": 0.4, "mixup": Estimate(0.3, 0.1, 5), "cutmix": 0.1, "hmix": Estimate(0.2, 0.1, 5)}
    got = order_agreement(bounds, gaps)
    a, b = [9.0, 2.0, 1.0, 2.0], [0.4, 0.3, 0.1, 0.2]
    taus = [stats.kendalltau(a, p).statistic for p in itertools.permutations(b)]
    assert got.tau == pytest.approx(stats.kendalltau(a, b).statistic)
    assert got.p_value == pytest.approx(np.mean(np.array(taus) >= got.tau - 1e-12))
    assert got.by_bound[-1] == got.by_gap[-1] == "vanilla"


def test_perfect_and_reversed_orders():
    names = "abcde"
    up = {k: float(v) for v, k in enumerate(names)}
    down = {k: -v for k, v in up.items()}
    assert (order_agreement(up, up).tau, order_agreement(up, up).p_value) == (1.0, 1 / 120)
    assert (order_agreement(up, down).tau, order_agreement(up, down).p_value) == (-1.0, 1.0)


# --- train/test gap -------------------------------------------------------------------------------------------------


def naive_gap(model, data, loss, labels):
    values, right = [], 0
    for x, label, y in zip(data.x, data.y.tolist(), labels, strict=True):
        f = model(x[None])[0].detach()
        values.append(float(loss(f, y)))
        right += int(f.argmax()) == label if len(f) > 1 else int(f[0] > 0) == label
    return np.mean(values), np.std(values, ddof=1) / math.sqrt(len(values)), right


@pytest.mark.parametrize("kind", ["softmax", "squared", "logistic"])
def test_gap_equals_naive_loops(kind):
    classes, outputs = (2, 1) if kind == "logistic" else (3, 3)
    loss = {"softmax": SoftmaxCrossEntropy(), "squared": Squared(), "logistic": Logistic()}[kind]
    sets = [ImageData(*naive.images(m, 1, SHAPE, classes, seed=s), classes) for m, s in ((40, 1), (23, 2))]
    model = naive.network(1, SHAPE, outputs)
    got = generalization_gap(model, *sets, loss=loss, batch_size=7)
    want = []
    for data in sets:
        y = data.y.double()[:, None] if kind == "logistic" else naive.one_hot(data.y, classes)
        want.append(naive_gap(model, data, getattr(naive, f"{kind}_loss"), y))
    for (mean, se, right), e, p in zip(
        want, (got.train_loss, got.test_loss), (got.train_accuracy, got.test_accuracy), strict=True
    ):
        assert (e.mean, e.se) == (pytest.approx(mean, rel=1e-12), pytest.approx(se, rel=1e-12))
        assert p.hits == right
    assert got.loss.mean == pytest.approx(want[1][0] - want[0][0])
    assert got.loss.se == pytest.approx(math.hypot(want[0][1], want[1][1]))
    assert got.accuracy == pytest.approx(want[0][2] / 40 - want[1][2] / 23)
    low, high = got.accuracy_interval()
    assert low < got.accuracy < high
    assert got.loss_interval(0.9) == pytest.approx(got.loss.interval(1.6448536269514722))


def test_the_interval_of_the_gap_covers_it_and_rejects_a_wrong_one():
    """250 pairs of samples of known loss: coverage of the 95 % interval, exact binomial test at level 1e-6."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(1, 1, bias=False)).double().eval()
    nn.init.ones_(model[1].weight.data)
    source = rng(8)
    hits = wrong = 0
    for _ in range(250):
        parts = []
        for m, shift in ((60, 0.0), (40, 1.0)):  # f^2/2 - f: mean (1 + shift^2) / 2 - shift
            x = torch.from_numpy(source.normal(shift, 1.0, size=(m, 1, 1, 1)))
            parts.append(ImageData(x, torch.zeros(m, dtype=torch.int64), 1))
        low, high = generalization_gap(model, *parts, loss=Squared()).loss_interval()
        hits += low < -0.5 < high
        wrong += low < 0.0 < high
    assert stats.binomtest(hits, 250, 0.95, alternative="less").pvalue > 1e-6, hits
    assert stats.binomtest(wrong, 250, 0.95, alternative="less").pvalue < 1e-6, wrong


# --- errors ---------------------------------------------------------------------------------------------------------


def test_errors_of_metrics():
    data = problem(5)
    moments = CutMix().moments(SHAPE)
    metric = ellipsoid(moments, data)
    large = ImageData(torch.zeros(1, 5, 32, 32), torch.zeros(1, dtype=torch.int64), 2)
    with as_users_run_it():
        with pytest.raises(ValueError, match="the metric holds 5120 x 5120 matrices, allowed up to 4096 inputs; use"):
            second_moment(large)
        with pytest.raises(ValueError, match="expected a cutoff from 2e-15, the rounding error of 9 eigenvalues"):
            ellipsoid(moments, data, cutoff=1e-17)
        with pytest.raises(ValueError, match="the rounding error of 9 eigenvalues"):
            ellipsoid(moments, data, cutoff=1.0)
        with pytest.raises(ValueError, match=r"expected a second moment \[9, 9\] of 9 inputs, got \(4, 4\)"):
            ellipsoid(moments, data, second=torch.eye(4))
        with pytest.raises(ValueError, match=r"expected images \[1, 3, 3\] as those of the metric, got \[2, 3, 3\]"):
            effective_dimension(metric, problem(5, channels=2))
        with pytest.raises(ValueError, match="expected images that are not 0 everywhere"):
            effective_dimension(metric, ImageData(torch.zeros(2, 1, 3, 3), torch.zeros(2, dtype=torch.int64), 1))
        with pytest.raises(ValueError, match=r"expected rows theta \[k, 9\] for 9 inputs, got \(9,\)"):
            squared_size(torch.zeros(9), moments, data)
        with pytest.raises(ValueError, match="expected a finite gamma > 0, the size of the class, got 0"):
            effective_dimension(metric, data).bound(0)


def test_errors_of_complexities():
    data = problem(17)
    metric = ellipsoid(CutMix().moments(SHAPE), data)
    with as_users_run_it():
        with pytest.raises(ValueError, match="all signs of at most 16 images can be enumerated, got 17"):
            rademacher_complexity(metric, data, draws=None)
        with pytest.raises(TypeError, match=r"signs are drawn from a numpy\.random\.Generator, got NoneType"):
            rademacher_complexity(metric, data)
        with pytest.raises(ValueError, match="the error of a complexity needs draws >= 2 sign vectors, got 1"):
            rademacher_complexity(metric, data, draws=1, rng=rng())


def test_errors_of_tables_and_gaps():
    data = problem(5)
    model = naive.network(1, SHAPE, 3)
    with as_users_run_it():
        with pytest.raises(ValueError, match="expected at least one strategy and one law, got none"):
            effective_dimensions([], data)
        with pytest.raises(ValueError, match="expected bounds and gaps of the same strategies"):
            order_agreement({"a": 1.0}, {"b": 1.0})
        with pytest.raises(ValueError, match="expected 3 to 9 strategies, whose orders are enumerated, got 2"):
            order_agreement({"a": 1.0, "b": 2.0}, {"a": 1.0, "b": 2.0})
        three = {"a": 1.0, "b": 2.0, "c": 3.0}
        with pytest.raises(ValueError, match="expected numbers as bounds and gaps, got NaN"):
            order_agreement(three, three | {"a": math.nan})
        with pytest.raises(ValueError, match="expected bounds and gaps that differ among strategies"):
            order_agreement(three, dict.fromkeys("abc", 1.0))
        with pytest.raises(ValueError, match="expected training and test images of the same classes, got 3 and 4"):
            generalization_gap(model, data, ImageData(data.x, data.y, 4))
        with pytest.raises(ValueError, match="a gap with an error needs at least 2 images in each set, got 1"):
            generalization_gap(model, data, data[:1])
        with pytest.raises(ValueError, match="expected a model in eval mode"):
            generalization_gap(nn.Sequential(nn.Dropout(0.5), model).train(), data, data)


class Late(nn.Module):
    """NaN for dark images."""

    def forward(self, x):
        f = x.flatten(1)[:, :3]
        return torch.where(x.mean(dim=(1, 2, 3))[:, None] < 0, math.nan, f)


def test_outputs_are_finite_for_every_image():
    x = torch.ones(5, 1, *SHAPE, dtype=torch.float64)
    x[4] = -1.0
    data = ImageData(x, torch.zeros(5, dtype=torch.int64), 3)
    with as_users_run_it(), pytest.raises(ValueError, match="got NaN or infinity for 1, the first of them image 4"):
        generalization_gap(Late().eval(), data, data)
