"""The terms of the expansion: dense against naive loops, sampled against dense, identities, other strategies."""

from __future__ import annotations

from dataclasses import dataclass

import naive
import numpy as np
import pytest
import torch
from torch import nn

from msda_theory.compare import compare
from msda_theory.data import ImageData
from msda_theory.expansion import expand
from msda_theory.losses import Logistic, SoftmaxCrossEntropy, Squared
from msda_theory.masks.base import Strategy
from msda_theory.masks.batches import MaskBatch
from msda_theory.masks.choice import Choice
from msda_theory.masks.cutmix import CutMix
from msda_theory.masks.gmix import GMix
from msda_theory.masks.hmix import HMix
from msda_theory.masks.mixup import Mixup
from msda_theory.masks.registry import REGISTRY
from msda_theory.masks.vanilla import Vanilla
from msda_theory.mixed_loss import mixed_loss

LAWS, POINTS = ("exact", "paper"), ("data", "mean", "mask")
TERMS = ("base", "r1", "r2", "r3")
GRID = pytest.mark.parametrize("at", POINTS)
LAW = pytest.mark.parametrize("law", LAWS)
IMAGES = {"3x4-2ch": (3, 2, (3, 4)), "4x3-1ch": (4, 1, (4, 3)), "3x3-1ch": (3, 1, (3, 3))}
STRATEGIES = {name: cls() for name, cls in REGISTRY.items() if cls.atoms is not Strategy.atoms} | {
    "cutmix-nominal": CutMix(alpha=0.6, label="nominal"),
    "cutmix-inside": CutMix(box="inside"),
    "hmix-r1-periodic": HMix(alpha=2.0, ratio=1.0, box="periodic"),
    "gmix-nominal": GMix(alpha=0.5, label="nominal"),
}


def problem(case: str = "3x4-2ch", **options):
    m, channels, shape = IMAGES[case]
    x, y = naive.images(m, channels, shape, 3, seed=2)
    return naive.network(channels, shape, 3, **options), ImageData(x, y, 3)


def values(e) -> tuple[float, ...]:
    return tuple(getattr(e, term).mean for term in TERMS)


# --- dense against loops --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", IMAGES)
@LAW
@GRID
def test_dense_cutmix_against_loops_that_build_their_own_boxes(case, law, at):
    model, data = problem(case)
    masks, share, nominal, weights = naive.cutmix_atoms(data.shape, 1.0)
    q = naive.one_sided(masks, share, weights) if law == "exact" else naive.paper_law(masks, nominal, weights)
    expected = naive.terms(model, naive.softmax_loss, data.x, naive.one_hot(data.y, 3), q, at)
    got = expand(model, data, CutMix(), law=law, at=at, method="dense")
    np.testing.assert_allclose(values(got), expected, rtol=0, atol=1e-10)
    assert got.total.mean == pytest.approx(sum(expected), rel=0, abs=1e-10)
    assert got.gauss_newton.mean == pytest.approx(sum(expected[:3]), rel=0, abs=1e-10)


@pytest.mark.parametrize("name", STRATEGIES)
@LAW
@pytest.mark.parametrize("at", ["data", "mean"])
def test_dense_every_strategy_against_loops(name, law, at):
    strategy = STRATEGIES[name]
    model, data = problem("3x4-2ch", activation=nn.Softplus)
    atoms = strategy.atoms(data.shape, order=12)
    if law == "exact":
        q = naive.one_sided(atoms.mask, atoms.lam, atoms.weight)
    else:
        q = naive.paper_law(atoms.mask, atoms.tilt / 2, atoms.weight)
    expected = naive.terms(model, naive.softmax_loss, data.x, naive.one_hot(data.y, 3), q, at)
    got = expand(model, data, strategy, law=law, at=at, method="dense")
    np.testing.assert_allclose(values(got), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", ["mixup", "hmix", "hmix-r1-periodic", "cutmix-inside", "choice"])
@LAW
def test_dense_at_the_mask_against_loops(name, law):
    strategy = STRATEGIES[name]
    model, data = problem("3x3-1ch")
    atoms = strategy.atoms(data.shape)  # the rule that the package uses
    if law == "exact":
        q = naive.one_sided(atoms.mask, atoms.lam, atoms.weight)
    else:
        q = naive.paper_law(atoms.mask, atoms.tilt / 2, atoms.weight)
    expected = naive.terms(model, naive.softmax_loss, data.x, naive.one_hot(data.y, 3), q, "mask")
    got = expand(model, data, strategy, law=law, at="mask", method="dense")
    np.testing.assert_allclose(values(got), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("loss", ["logistic", "squared"])
@GRID
def test_dense_for_the_other_losses(loss, at):
    m, channels, shape = IMAGES["3x4-2ch"]
    classes = 2 if loss == "logistic" else 3
    x, y = naive.images(m, channels, shape, classes, seed=3)
    model = naive.network(channels, shape, 1 if loss == "logistic" else 3, activation=nn.GELU)
    targets = y.double()[:, None] if loss == "logistic" else naive.one_hot(y, 3)
    masks, share, _, weights = naive.cutmix_atoms(shape, 1.0)
    q = naive.one_sided(masks, share, weights)
    expected = naive.terms(model, getattr(naive, f"{loss}_loss"), x, targets, q, at)
    package = Logistic() if loss == "logistic" else Squared()
    got = expand(model, ImageData(x, y, classes), CutMix(), loss=package, at=at, method="dense")
    np.testing.assert_allclose(values(got), expected, rtol=0, atol=1e-10)


def test_no_term_is_small_in_the_comparisons_above():
    """Otherwise a wrong coefficient could hide below their tolerance."""
    model, data = problem()
    got = values(expand(model, data, CutMix(), method="dense"))
    assert min(abs(v) for v in got) > 1e-3


# --- sampled against dense ------------------------------------------------------------------------------------------

SAMPLED = {name: STRATEGIES[name] for name in ("mixup", "cutmix", "cutmix-nominal", "hmix", "choice")}


@pytest.mark.parametrize("name", SAMPLED)
@LAW
@GRID
def test_sampled_agrees_with_dense(name, law, at):
    model, data = problem("3x3-1ch" if "hmix" in name or name == "choice" else "3x4-2ch")
    exact = expand(model, data, SAMPLED[name], law=law, at=at, method="dense")
    got = expand(model, data, SAMPLED[name], law=law, at=at, draws=400, rng=np.random.default_rng(21))
    assert got.r1.mean == pytest.approx(exact.r1.mean, rel=0, abs=1e-12)
    assert got.r1.se == 0
    assert got.clean.mean == pytest.approx(exact.clean.mean, rel=0, abs=1e-12)
    sampled = ("r2", "r3", "total", "gauss_newton") if at == "data" else ("base", "r2", "r3", "total", "gauss_newton")
    for term in sampled:
        one = getattr(got, term)
        assert one.n == 400 * len(data)
        if at == "mean" and term == "base":  # no randomness in the point
            assert one.mean == pytest.approx(exact.base.mean, rel=0, abs=1e-12)
        else:
            naive.assert_estimates(one.mean, one.se, getattr(exact, term).mean)


@pytest.mark.parametrize("at", POINTS)
def test_evil_twin_the_other_law_is_rejected(at):
    model, data = problem()
    wrong = expand(model, data, CutMix(), law="paper", at=at, method="dense")
    got = expand(model, data, CutMix(), law="exact", at=at, draws=2000, rng=np.random.default_rng(21))
    with pytest.raises(AssertionError, match=r"\|z\|"):
        naive.assert_estimates(got.r2.mean, got.r2.se, wrong.r2.mean)


def test_evil_twin_the_other_point_is_rejected():
    model, data = problem()
    wrong = expand(model, data, CutMix(), at="mean", method="dense")
    got = expand(model, data, CutMix(), at="mask", draws=2000, rng=np.random.default_rng(21))
    for term in ("r2", "total"):
        one = getattr(got, term)
        with pytest.raises(AssertionError, match=r"\|z\|"):
            naive.assert_estimates(one.mean, one.se, getattr(wrong, term).mean)


# --- identities -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "at"),
    # GMix has a thousand atoms: at the mask, too many Hessians.
    [(name, at) for name in STRATEGIES for at in POINTS if not (at == "mask" and name.startswith("gmix"))],
)
def test_a_linear_model_with_squared_loss_is_expanded_exactly(name, at):
    """The loss is a quadratic polynomial of the image, so nothing is left after second order, around any point."""
    strategy, order = STRATEGIES[name], 16 if at == "mask" else 12  # the rules behind atoms and closed moments of GMix
    m, channels, shape = IMAGES["3x3-1ch"]
    x, y = naive.images(m, channels, shape, 3, seed=2)
    model = naive.linear(channels, shape, 3)
    atoms = strategy.atoms(shape, order=order)
    truth = naive.mix_directly(model, naive.squared_loss, x, naive.one_hot(y, 3), atoms.mask, atoms.lam, atoms.weight)
    e = expand(model, ImageData(x, y, 3), strategy, loss=Squared(), at=at, method="dense")
    assert e.gauss_newton.mean == pytest.approx(truth, rel=0, abs=1e-12)
    assert e.r3.mean == 0


@pytest.mark.parametrize("loss", [SoftmaxCrossEntropy(), Squared()], ids=["softmax", "squared"])
@GRID
def test_a_linear_model_has_no_hessian_term(loss, at):
    _, data = problem()
    model = naive.linear(2, data.shape, 3)
    for method in ("dense", "sampled"):
        e = expand(model, data, CutMix(), loss=loss, at=at, method=method, draws=4, rng=np.random.default_rng(0))
        assert e.r3.mean == 0
        assert e.r2.mean > 0


@GRID
def test_a_relu_network_has_no_hessian_term(at):
    """D2f = 0 wherever it exists."""
    model, data = problem(activation=nn.ReLU)
    for method in ("dense", "sampled"):
        e = expand(model, data, CutMix(), at=at, method=method, draws=4, rng=np.random.default_rng(0))
        assert e.r3.mean == 0
        assert e.r2.mean > 0


@LAW
@GRID
@pytest.mark.parametrize("method", ["dense", "sampled"])
def test_vanilla_changes_nothing(law, at, method):
    model, data = problem()
    e = expand(model, data, Vanilla(), law=law, at=at, method=method, draws=5, rng=np.random.default_rng(0))
    assert (e.r1.mean, e.r2.mean, e.r3.mean) == (0, 0, 0)
    assert (e.r1.se, e.r2.se, e.r3.se) == (0, 0, 0)
    assert e.base.mean == pytest.approx(e.clean.mean, rel=0, abs=1e-14)
    measured = mixed_loss(model, data, Vanilla(), draws=5, rng=np.random.default_rng(0))
    assert measured.mean == pytest.approx(e.clean.mean, rel=0, abs=1e-14)


@pytest.mark.parametrize("at", ["mean", "mask"])
@pytest.mark.parametrize("method", ["dense", "sampled"])
def test_first_order_vanishes_around_a_mean(at, method):
    model, data = problem()
    e = expand(model, data, CutMix(), at=at, method=method, draws=4, rng=np.random.default_rng(0))
    assert e.r1.mean == 0
    assert e.r1.se == 0


@GRID
@pytest.mark.parametrize("method", ["dense", "sampled"])
def test_total_is_the_sum_and_labels_are_kept(at, method):
    model, data = problem()
    e = expand(model, data, HMix(ratio=0.3), law="paper", at=at, method=method, draws=4, rng=np.random.default_rng(0))
    assert e.total.mean == pytest.approx(sum(values(e)), rel=1e-13)
    assert e.gauss_newton.mean == pytest.approx(sum(values(e)[:3]), rel=1e-13)
    assert (e.strategy, e.law, e.at, e.method) == (HMix(ratio=0.3).name, "paper", at, method)


def test_at_the_data_the_base_is_the_clean_loss():
    model, data = problem()
    with torch.no_grad():
        f = model(data.x)
    expected = np.mean([float(naive.softmax_loss(*pair)) for pair in zip(f, naive.one_hot(data.y, 3), strict=True)])
    e = expand(model, data, CutMix(), draws=2, rng=np.random.default_rng(0))
    assert e.base.mean == pytest.approx(expected, rel=1e-13)
    assert e.clean == e.base
    assert e.base.se == 0


def test_mixup_law_makes_no_difference():
    model, data = problem()
    got = [values(expand(model, data, Mixup(), law=law, at="data", method="dense")) for law in LAWS]
    np.testing.assert_allclose(got[0], got[1], rtol=1e-13)


# --- randomness and batches -----------------------------------------------------------------------------------------


@GRID
def test_batch_size_changes_rounding_only(at):
    model, data = problem()
    runs = [
        expand(model, data, CutMix(), at=at, draws=19, rng=np.random.default_rng(4), batch_size=size)
        for size in (1, 7, 512)
    ]
    for other in runs[1:]:
        for term in (*TERMS, "total", "gauss_newton", "clean"):
            one, two = getattr(runs[0], term), getattr(other, term)
            assert one.mean == pytest.approx(two.mean, rel=0, abs=1e-12)
            assert one.se == pytest.approx(two.se, rel=0, abs=1e-12)


@GRID
def test_equal_seeds_give_equal_numbers_and_other_seeds_do_not(at):
    model, data = problem()
    runs = [expand(model, data, CutMix(), at=at, draws=6, rng=np.random.default_rng(seed)) for seed in (1, 1, 2)]
    assert runs[0] == runs[1]
    assert runs[0].r2.mean != runs[2].r2.mean
    # A generator moves on: a second call with the same one is another draw.
    rng = np.random.default_rng(1)
    first, second = (expand(model, data, CutMix(), at=at, draws=6, rng=rng) for _ in range(2))
    assert first == runs[0]
    assert first.r2.mean != second.r2.mean


@dataclass(frozen=True)
class WithoutMoments(CutMix):
    """Draws alone."""

    def moments(self, shape, *, law="exact", rng=None, draws=None):
        raise AssertionError("nothing asked for moments")


def test_at_the_mask_no_moments_are_taken():
    model, data = problem()
    run, same = (
        expand(model, data, s, at="mask", draws=3, rng=np.random.default_rng(1)) for s in (WithoutMoments(), CutMix())
    )
    assert run.total == same.total
    with pytest.raises(AssertionError, match="nothing asked for moments"):
        expand(model, data, WithoutMoments(), at="data", draws=3, rng=np.random.default_rng(1))


def test_sixty_four_draws_are_the_default():
    model, data = problem("4x3-1ch")
    assert expand(model, data, Mixup(), rng=np.random.default_rng(1)).total.n == 64 * len(data)


def test_float32_runs_and_agrees():
    model, data = problem()
    truth = {at: expand(model, data, CutMix(), at=at, draws=9, rng=np.random.default_rng(8)) for at in POINTS}
    dense = {at: expand(model, data, CutMix(), at=at, method="dense") for at in POINTS}
    single, x = model.float(), data.to(torch.float32)
    for at in POINTS:
        got = expand(single, x, CutMix(), at=at, draws=9, rng=np.random.default_rng(8))
        np.testing.assert_allclose(values(got), values(truth[at]), rtol=1e-4, atol=1e-5)
        got = expand(single, x, CutMix(), at=at, method="dense")
        np.testing.assert_allclose(values(got), values(dense[at]), rtol=1e-4, atol=1e-5)


# --- networks in use ------------------------------------------------------------------------------------------------

LAYERS = {
    "silu": nn.SiLU(),
    "mish": nn.Mish(),
    "groupnorm": nn.Sequential(nn.GroupNorm(2, 2), nn.Tanh()),
    "layernorm": nn.Sequential(nn.LayerNorm([2, 3, 4]), nn.Tanh()),
    "instancenorm": nn.Sequential(nn.InstanceNorm2d(2), nn.Tanh()),
}


@pytest.mark.parametrize("name", LAYERS)
def test_sampled_agrees_with_dense_for_layers_in_use(name):
    """Forward-over-forward differentiation (sampled) against forward-over-reverse (dense)."""
    x, y = naive.images(3, 2, (3, 4), 3, seed=2)
    layers = nn.Sequential(nn.Conv2d(2, 2, 3, padding=1), LAYERS[name], nn.Flatten(), nn.Linear(24, 3))
    model, data = naive.randomize(layers, 3, gain=2.0), ImageData(x, y, 3)
    exact = expand(model, data, Mixup(), method="dense")
    got = expand(model, data, Mixup(), draws=2000, rng=np.random.default_rng(5))
    naive.assert_estimates(got.r2.mean, got.r2.se, exact.r2.mean)
    naive.assert_estimates(got.r3.mean, got.r3.se, exact.r3.mean)


# --- a user's strategy ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stripe(Strategy):
    """One row from the partner; nothing but masks."""

    alpha: float = 1.0

    def masks(self, lam, shape, *, rng):
        mask = np.ones((len(lam), *shape))
        mask[np.arange(len(lam)), rng.integers(shape[0], size=len(lam))] = 0.0
        return MaskBatch(mask, mask.mean(axis=(1, 2)))


def stripe_law(shape) -> naive.Law:
    masks = np.ones((shape[0], *shape))
    for row in range(shape[0]):
        masks[row, row] = 0.0
    return naive.one_sided(masks, masks.mean(axis=(1, 2)), np.full(shape[0], 1 / shape[0]))


@GRID
def test_a_strategy_with_masks_alone_can_be_expanded(at):
    model, data = problem("4x3-1ch")
    q = stripe_law(data.shape)
    truth = naive.terms(model, naive.softmax_loss, data.x, naive.one_hot(data.y, 3), q, at)
    got = expand(model, data, Stripe(), at=at, draws=500, rng=np.random.default_rng(31))
    if at == "data":
        assert got.r1.se > 0
        naive.assert_estimates(got.r1.mean, got.r1.se, truth[1])
    if at == "mask":
        naive.assert_estimates(got.base.mean, got.base.se, truth[0])
    # At the mean, qbar itself is estimated, from 20,000 draws: an error far below that of the 2,000 draws of the terms.
    naive.assert_estimates(got.r2.mean, got.r2.se, truth[2])
    naive.assert_estimates(got.r3.mean, got.r3.se, truth[3])
    naive.assert_estimates(got.total.mean, got.total.se, sum(truth))


def test_the_error_of_sampled_moments_is_calibrated():
    """R1 of 40 independent seeds against the truth: chi-square, two-sided at 1e-6, bounds chosen in advance."""
    from scipy import stats

    model, data = problem("4x3-1ch")
    truth = naive.terms(model, naive.softmax_loss, data.x, naive.one_hot(data.y, 3), stripe_law(data.shape), "data")[1]
    runs = [expand(model, data, Stripe(), draws=2, rng=np.random.default_rng([7, s])).r1 for s in range(40)]
    chi2 = sum(((r.mean - truth) / r.se) ** 2 for r in runs)
    assert stats.chi2.ppf(5e-7, 40) < chi2 < stats.chi2.isf(5e-7, 40)


def test_a_strategy_with_masks_alone_is_measured_and_compared():
    model, data = problem("4x3-1ch")
    truth = naive.mix_one_sided(model, naive.softmax_loss, data.x, naive.one_hot(data.y, 3), stripe_law(data.shape))
    got = mixed_loss(model, data, Stripe(), draws=500, rng=np.random.default_rng(32))
    naive.assert_estimates(got.mean, got.se, truth)
    table = compare({"net": model}, data, [Stripe(), CutMix()], at=POINTS, draws=20, rng=np.random.default_rng(33))
    frame = table.frame()
    assert len(frame) == 6
    assert frame["strategy"].tolist() == ["stripe"] * 3 + ["cutmix"] * 3
    assert (frame.loc[(frame["strategy"] == "stripe") & (frame["at"] == "data"), "r1_se"] > 0).all()
    assert (frame.loc[frame["strategy"] == "cutmix", "r1_se"] == 0).all()


def test_a_choice_with_a_strategy_of_masks_alone():
    model, data = problem("4x3-1ch")
    mixture = Choice((Stripe(), Mixup()), (0.5, 0.5))
    e = expand(model, data, mixture, draws=8, rng=np.random.default_rng(1))
    assert e.r1.se > 0
