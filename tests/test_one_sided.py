"""Eq. (1): direct mixing with mixed labels equals the one-sided sum, for every strategy; sampling agrees with both."""

from __future__ import annotations

import math

import naive
import numpy as np
import pytest
import torch
from torch import nn

from msda_theory.data import ImageData
from msda_theory.losses import Logistic, SoftmaxCrossEntropy, Squared
from msda_theory.masks.base import Strategy
from msda_theory.masks.cutmix import CutMix
from msda_theory.masks.gmix import GMix
from msda_theory.masks.hmix import HMix
from msda_theory.masks.mixup import Mixup
from msda_theory.masks.registry import REGISTRY
from msda_theory.mixed_loss import mixed_loss

SHAPE, CHANNELS, CLASSES, M = (3, 4), 2, 3, 4
DRAWS = 3000

STRATEGIES = {name: cls() for name, cls in REGISTRY.items() if cls.atoms is not Strategy.atoms} | {
    "mixup-a0.3": Mixup(alpha=0.3),
    "cutmix-nominal": CutMix(label="nominal"),
    "cutmix-inside": CutMix(box="inside"),
    "cutmix-periodic-a0.5": CutMix(alpha=0.5, box="periodic"),
    "hmix-r0": HMix(ratio=0.0),
    "hmix-r0.3": HMix(ratio=0.3),
    "hmix-r1": HMix(ratio=1.0),
    "gmix-nominal": GMix(label="nominal"),
}
ALL = pytest.mark.parametrize("strategy", STRATEGIES.values(), ids=STRATEGIES.keys())


def problem(loss: str = "softmax"):
    """Model, data, package loss, naive loss, targets.

    A steep network whose largest logit is right, so that mixing raises the loss and laws differ visibly.
    """
    x, y = naive.images(M, CHANNELS, SHAPE, CLASSES, seed=5)
    outputs = 1 if loss == "logistic" else CLASSES
    model = naive.network(CHANNELS, SHAPE, outputs, activation=nn.Softplus if loss == "squared" else nn.Tanh, gain=3.0)
    with torch.no_grad():
        f = model(x)
    if loss != "squared":
        y = (f[:, 0] > 0).long() if loss == "logistic" else f.argmax(dim=1)
    assert len(y.unique()) > 1
    targets = y.double()[:, None] if loss == "logistic" else naive.one_hot(y, CLASSES)
    package = {"softmax": SoftmaxCrossEntropy(), "logistic": Logistic(), "squared": Squared()}[loss]
    data = ImageData(x, y, 2 if loss == "logistic" else CLASSES)
    return model, data, package, getattr(naive, f"{loss}_loss"), targets


def enumerated(strategy, loss: str = "softmax") -> float:
    model, data, _, function, targets = problem(loss)
    atoms = strategy.atoms(SHAPE)
    return naive.mix_directly(model, function, data.x, targets, atoms.mask, atoms.lam, atoms.weight)


@ALL
def test_direct_mixing_equals_the_one_sided_sum(strategy):
    model, data, _, function, targets = problem()
    q, p = strategy.atoms(SHAPE).partner("exact")
    got = naive.mix_one_sided(model, function, data.x, targets, list(zip(q, p, strict=True)))
    assert got == pytest.approx(enumerated(strategy), rel=0, abs=1e-12)


@pytest.mark.parametrize("loss", ["logistic", "squared"])
@pytest.mark.parametrize("name", ["mixup", "cutmix", "gmix"])
def test_one_sided_sum_for_the_other_losses(name, loss):
    model, data, _, function, targets = problem(loss)
    q, p = STRATEGIES[name].atoms(SHAPE, order=4).partner("exact")
    got = naive.mix_one_sided(model, function, data.x, targets, list(zip(q, p, strict=True)))
    atoms = STRATEGIES[name].atoms(SHAPE, order=4)
    direct = naive.mix_directly(model, function, data.x, targets, atoms.mask, atoms.lam, atoms.weight)
    assert got == pytest.approx(direct, rel=0, abs=1e-12)


def test_the_paper_law_breaks_the_identity_for_cutmix():
    """Negative control of the identity: the paper's law of q is another loss."""
    model, data, _, function, targets = problem()
    q, p = CutMix().atoms(SHAPE).partner("paper")
    other = naive.mix_one_sided(model, function, data.x, targets, list(zip(q, p, strict=True)))
    assert abs(other - enumerated(CutMix())) > 0.01


@ALL
def test_mixed_loss_estimates_the_direct_loss(strategy):
    model, data, loss, _, _ = problem()
    got = mixed_loss(model, data, strategy, loss=loss, draws=DRAWS, rng=np.random.default_rng(11))
    assert got.n == M * DRAWS
    truth = enumerated(strategy)
    if type(strategy).__name__ == "Vanilla":
        assert got.mean == pytest.approx(truth, rel=0, abs=1e-12)
        assert got.se < 1e-15
    else:
        naive.assert_estimates(got.mean, got.se, truth)


@pytest.mark.parametrize("loss", ["logistic", "squared"])
def test_mixed_loss_for_the_other_losses(loss):
    model, data, package, _, _ = problem(loss)
    got = mixed_loss(model, data, CutMix(), loss=package, draws=DRAWS, rng=np.random.default_rng(12))
    naive.assert_estimates(got.mean, got.se, enumerated(CutMix(), loss))


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        (Mixup(), CutMix()),
        (HMix(ratio=1.0), CutMix()),
        (CutMix(), CutMix(label="nominal")),
        (Mixup(alpha=1.0), Mixup(alpha=0.3)),
    ],
    ids=["mixup-for-cutmix", "hmix-for-cutmix", "label", "alpha"],
)
def test_evil_twin_a_wrong_law_is_rejected(wrong, right):
    model, data, loss, _, _ = problem()
    got = mixed_loss(model, data, wrong, loss=loss, draws=DRAWS, rng=np.random.default_rng(13))
    naive.assert_estimates(got.mean, got.se, enumerated(wrong))
    with pytest.raises(AssertionError, match=r"\|z\|"):
        naive.assert_estimates(got.mean, got.se, enumerated(right))


def test_evil_twin_the_paper_law_is_rejected():
    model, data, loss, function, targets = problem()
    got = mixed_loss(model, data, CutMix(), loss=loss, draws=DRAWS, rng=np.random.default_rng(14))
    q, p = CutMix().atoms(SHAPE).partner("paper")
    other = naive.mix_one_sided(model, function, data.x, targets, list(zip(q, p, strict=True)))
    with pytest.raises(AssertionError, match=r"\|z\|"):
        naive.assert_estimates(got.mean, got.se, other)


@pytest.mark.parametrize("name", ["cutmix", "gmix", "hmix", "choice"])
def test_direct_mixing_by_sampling_agrees_with_mixed_loss(name):
    """As a training loop does it: random pairs, sampled masks, soft labels; two-sample z test."""
    strategy, n = STRATEGIES[name], 20000
    model, data, loss, _, targets = problem()
    rng = np.random.default_rng(15)
    batch = strategy.sample(n, SHAPE, rng=rng)
    i, j = (torch.from_numpy(rng.integers(M, size=n)) for _ in range(2))
    mask, lam = torch.from_numpy(batch.mask)[:, None], torch.from_numpy(batch.lam)[:, None]
    with torch.no_grad():
        f = model(mask * data.x[i] + (1 - mask) * data.x[j])
        label = lam * targets[i] + (1 - lam) * targets[j]
        values = (torch.log(torch.exp(f).sum(dim=1)) - (label * f).sum(dim=1)).numpy()
    got = mixed_loss(model, data, strategy, loss=loss, draws=DRAWS, rng=np.random.default_rng(16))
    se = math.hypot(got.se, values.std(ddof=1) / math.sqrt(n))
    naive.assert_estimates(got.mean, se, float(values.mean()))
    # Evil twin: labels that forget the mixing.
    forgotten = (torch.log(torch.exp(f).sum(dim=1)) - (targets[i] * f).sum(dim=1)).numpy()
    with pytest.raises(AssertionError, match=r"\|z\|"):
        naive.assert_estimates(got.mean, se, float(forgotten.mean()))
