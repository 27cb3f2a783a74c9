"""The expansion of the contrastive loss in its mixed negatives: closed form against enumeration and the engine."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from mc_checks import assert_unbiased, fails

import msda_theory as mt
from msda_theory.graph.expansion import (
    as_problem,
    enumerated_negative_loss,
    expand_negatives,
    mixed_negative_loss,
    score_steps,
)
from msda_theory.graph.negatives import draw_partners, draw_weights, mix_negatives

K, SIZE = 9, 7
LAWS = [mt.DropMix(share=0.4), mt.DropMix(share=1.0), mt.DropMix(share=0.5, dims="random"), mt.Mixup(), mt.GMix()]


def problem(seed: int = 0, k: int = K, size: int = SIZE) -> tuple[torch.Tensor, torch.Tensor, float]:
    rng = np.random.default_rng([9, seed])
    return torch.from_numpy(rng.normal(size=(k, size))), torch.from_numpy(rng.normal(size=size)), 0.3


def naive_steps(n, w, q, weight, others):
    """First and second moment of the step of each score, summed over partners and masks."""
    mean, square = np.zeros(len(n)), np.zeros(len(n))
    for k in range(len(n)):
        partners = [r for r in range(len(n)) if r != k] if others else range(len(n))
        for r in partners:
            step = q @ (w * (n[r] - n[k]))  # of every mask
            mean[k] += weight @ step / len(partners)
            square[k] += weight @ step**2 / len(partners)
    return mean, square


@pytest.mark.parametrize("partners", ["others", "all"])
@pytest.mark.parametrize("law", [s for s in LAWS if "random" not in s.name], ids=lambda s: s.name)
def test_moments_of_the_steps_are_those_of_enumeration(law, partners):
    n, w, bias = problem()
    steps = score_steps(n, w, bias, law.moments((1, SIZE)), partners=partners)
    q, weight = law.atoms((1, SIZE), order=32).partner("exact")
    mean, square = naive_steps(n.numpy(), w.numpy(), q[:, 0], weight, partners == "others")
    np.testing.assert_allclose(steps.score, n.numpy() @ w.numpy() + bias, rtol=1e-12)
    np.testing.assert_allclose(steps.mean, mean, rtol=0, atol=1e-10)
    np.testing.assert_allclose(steps.square, square, rtol=1e-10)


@pytest.mark.parametrize("law", [mt.DropMix(share=0.4), mt.DropMix(share=0.5, dims="random"), mt.Mixup()], ids=str)
def test_closed_form_is_the_expansion_of_the_package(law):
    """The score is a linear model, negatives are images of class 0: the same theory, the same numbers, R3 = 0."""
    n, w, bias = problem()
    model, data = as_problem(n, w, bias)
    moments = law.moments((1, SIZE))
    ours = expand_negatives(score_steps(n, w, bias, moments, partners="all"))
    theirs = mt.expand(model, data, law, loss=mt.Logistic(), method="dense")
    for name in ("base", "r1", "r2", "total"):
        assert getattr(ours, name) == pytest.approx(getattr(theirs, name).mean, abs=1e-10)
    assert theirs.r3.mean == pytest.approx(0, abs=1e-14)


def test_the_remainder_is_of_third_order_and_of_second_with_a_wrong_moment():
    n, w, bias = problem()
    law, scales = mt.DropMix(share=0.4), np.array([1 / 4, 1 / 8, 1 / 16, 1 / 32])
    exact = enumerated_negative_loss(n, w, bias, law, scales=[*scales, 0.0])
    slopes = {}
    for name, used in (("right", law), ("wrong", mt.DropMix(share=0.4, lam=0.36))):
        e = expand_negatives(score_steps(n, w, bias, used.moments((1, SIZE))))
        r1 = expand_negatives(score_steps(n, w, bias, law.moments((1, SIZE)))).r1
        rest = np.abs(exact[:-1] - exact[-1] - scales * r1 - scales**2 * e.r2)
        slopes[name] = np.polyfit(np.log(scales), np.log(rest), 1)[0]
    assert slopes["right"] > 2.9
    assert slopes["wrong"] < 2.3


def test_the_package_measures_the_same_order():
    model, data = as_problem(*problem(k=6))
    found = mt.remainder_order(model, data, mt.DropMix(share=0.4), loss=mt.Logistic())
    assert found.slope > 2.7


@pytest.mark.parametrize("positives", [False, True], ids=["bce", "info_nce"])
@pytest.mark.parametrize("law", LAWS, ids=lambda s: s.name)
def test_the_remainder_on_equal_draws_is_of_third_order(law, positives):
    """Loss and terms of the same draws, each expanded by the naive derivatives of autograd."""
    n, w, bias = problem()
    s = torch.from_numpy(np.random.default_rng(3).normal(size=4)) if positives else None
    rng = np.random.default_rng(5)
    partners, q = draw_partners(K, rng=rng), draw_weights(K, SIZE, law, rng=rng)

    def loss(t):
        z = mix_negatives(n, partners, t * q) @ w + bias
        if s is None:
            return torch.nn.functional.softplus(z).mean()
        return (torch.logsumexp(torch.cat([s[:, None], z.expand(4, K)], dim=1), dim=1) - s).mean()

    zero = torch.zeros((), dtype=torch.float64, requires_grad=True)
    first = torch.autograd.grad(loss(zero), zero, create_graph=True)[0]
    second = torch.autograd.grad(first, zero)[0]
    scales = np.array([1 / 8, 1 / 16, 1 / 32])
    base, first, second = (float(v.detach()) for v in (loss(zero), first, second))
    rest = [float(loss(torch.tensor(t))) - base - t * first - t**2 * second / 2 for t in scales]
    assert np.polyfit(np.log(scales), np.log(np.abs(rest)), 1)[0] > 2.7


def steps_of_draws(n, w, law, draws, rng):
    """Steps of the scores [draws, K], every draw with partners of its own, mixed in one call."""
    partners = torch.cat([draw_partners(K, rng=rng) + K * d for d in range(draws)])
    stacked = n.repeat(draws, 1)
    mixed = mix_negatives(stacked, partners, draw_weights(draws * K, SIZE, law, rng=rng))
    return ((mixed - stacked) @ w).reshape(draws, K)


@pytest.mark.parametrize("at", ["data", "mean"])
@pytest.mark.parametrize("positives", [False, True], ids=["bce", "info_nce"])
@pytest.mark.parametrize("law", LAWS, ids=lambda s: s.name)
def test_the_terms_are_the_means_of_those_of_the_draws(law, positives, at):
    """R1 and R2 of single draws, by the gradient and the Hessian of the loss in the scores, against the closed form."""
    n, w, bias = problem(1)
    s = torch.from_numpy(np.random.default_rng(3).normal(size=4)) if positives else None
    steps = score_steps(n, w, bias, law.moments((1, SIZE)))
    ours = expand_negatives(steps, positives=s, at=at)
    shift = torch.from_numpy(steps.mean) if at == "mean" else torch.zeros(K, dtype=torch.float64)

    def loss(z):
        if s is None:
            return torch.nn.functional.softplus(z).mean()
        return (torch.logsumexp(torch.cat([s[:, None], z.expand(4, K)], dim=1), dim=1) - s).mean()

    z = n @ w + bias + shift
    gradient, hessian = torch.func.grad(loss)(z), torch.func.hessian(loss)(z)
    step = steps_of_draws(n, w, law, 4000, np.random.default_rng(8)) - shift
    values = torch.stack([step @ gradient, torch.einsum("dk,kl,dl->d", step, hessian, step) / 2], dim=1).numpy()
    assert ours.base == pytest.approx(float(loss(z)), rel=1e-12)
    assert_unbiased(values, np.array([ours.r1, ours.r2]))
    for wrong in (0.8, 1.2):
        assert fails(lambda wrong=wrong: assert_unbiased(values[:, 1:], np.array([wrong * ours.r2])))


def test_monte_carlo_meets_enumeration():
    n, w, bias = problem(2, k=4)
    law = mt.DropMix(share=0.6)
    found = mixed_negative_loss(n, w, bias, law, draws=1000, rng=np.random.default_rng(1))
    assert abs(found.mean - enumerated_negative_loss(n, w, bias, law)[0]) < 5 * found.se
    assert abs(found.mean - enumerated_negative_loss(n, w, bias, law, partners="all")[0]) > 5 * found.se
    assert found.n == 1000


def test_monte_carlo_of_info_nce_meets_enumeration():
    """All eight choices of partners of three negatives; the wrong loss has other positives."""
    n, w, bias = problem(2, k=3)
    law, a = mt.DropMix(share=0.6), torch.tensor([0.5, -1.0], dtype=torch.float64)
    q = torch.from_numpy(0.35 * law.mixed(SIZE))

    def loss(partners, positives):
        z = ((1 - q) * n + q * n[list(partners)]) @ w + bias
        return float(
            (torch.logsumexp(torch.cat([positives[:, None], z.expand(2, 3)], 1) / 0.7, 1) - positives / 0.7).mean()
        )

    choices = list(itertools.product((1, 2), (0, 2), (0, 1)))
    truth, wrong = (sum(loss(c, p) for c in choices) / 8 for p in (a, 0.9 * a))
    found = mixed_negative_loss(n, w, bias, law, positives=a, temperature=0.7, draws=1000, rng=np.random.default_rng(1))
    assert abs(found.mean - truth) < 5 * found.se
    assert abs(found.mean - wrong) > 5 * found.se


def test_no_mixing_is_exact():
    """The box of CutMix has no height in an image of one row: ``floor(1 sqrt(1 - lam)) = 0``."""
    n, w, bias = problem()
    for law in (mt.DropMix(share=0.0), mt.DropMix(lam=0.0), mt.Vanilla(), mt.CutMix()):
        e = expand_negatives(score_steps(n, w, bias, law.moments((1, SIZE))))
        assert (e.r1, e.r2, e.base) == (0, 0, e.clean)
        assert mixed_negative_loss(n, w, bias, law, draws=2, rng=np.random.default_rng(0)).mean == pytest.approx(
            e.clean
        )


def test_mean_point_is_exact_where_the_step_does_not_vary():
    """Two negatives have one possible partner each: nothing is random but the score is moved."""
    n, w, bias = problem(k=2)
    law = mt.DropMix(share=0.6)
    e = expand_negatives(score_steps(n, w, bias, law.moments((1, SIZE))), at="mean")
    assert e.total == pytest.approx(enumerated_negative_loss(n, w, bias, law)[0], rel=1e-12)
    assert e.r1 == 0
    assert e.r2 == pytest.approx(0, abs=1e-14)


def test_bad_input():
    n, w, bias = problem()
    moments = mt.DropMix().moments((1, SIZE))
    with pytest.raises(ValueError, match="expected partners among"):
        score_steps(n, w, bias, moments, partners="some")
    with pytest.raises(ValueError, match="expected at among"):
        expand_negatives(score_steps(n, w, bias, moments), at="mask")
    with pytest.raises(ValueError, match="expected at least two negatives to mix, got 1; keep more"):
        score_steps(n[:1], w, bias, moments)
    with pytest.raises(ValueError, match="expected at least two negatives to mix, got 1; keep more"):
        enumerated_negative_loss(n[:1], w, bias, mt.DropMix())
    with pytest.raises(ValueError, match="expected moments for the 1x7 pixels"):
        score_steps(n, w, bias, mt.DropMix().moments((1, 8)))
    with pytest.raises(ValueError, match="expected at least 2 draws for a standard error, got draws=1"):
        mixed_negative_loss(n, w, bias, mt.DropMix(), draws=1, rng=np.random.default_rng(0))
    with pytest.raises(ValueError, match="does not enumerate its law"):
        enumerated_negative_loss(n, w, bias, mt.DropMix(dims="random"))
