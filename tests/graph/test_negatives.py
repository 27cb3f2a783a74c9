"""Partners, weights, and mixing of negatives against a loop."""

from __future__ import annotations

import naive
import naive_graph
import numpy as np
import pytest
import torch
from mc_checks import assert_unbiased, fails

from msda_theory.graph.negatives import draw_partners, draw_weights, mix_negatives
from msda_theory.masks.dropmix import DropMix
from msda_theory.masks.registry import REGISTRY
from msda_theory.masks.vanilla import Vanilla

N = 4


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng([42, seed])


def vectors(n: int, size: int) -> torch.Tensor:
    return torch.from_numpy(rng(9).normal(size=(n, size)))


# --- partners -----------------------------------------------------------------------------------------------


def test_partners_are_uniform_over_the_others_and_independent():
    """Indicators of (partner of a, partner of b); wrong laws: oneself included, and partners that all differ."""
    source, draws = rng(1), 6000
    found = np.stack([draw_partners(N, rng=source).numpy() for _ in range(draws)])
    hits = found[:, :, None] == np.arange(N)
    joint = (hits[:, :, :, None, None] & hits[:, None, None, :, :]).reshape(draws, -1)
    others = (1 - np.eye(N)) / (N - 1)
    independent = others[:, :, None, None] * others[None, None]
    same = np.einsum("ab,bd,ac->abcd", others, np.eye(N), np.eye(N))
    own = np.eye(N)[:, None, :, None]
    assert_unbiased(joint, (own * same + (1 - own) * independent).ravel())
    assert fails(lambda: assert_unbiased(hits, np.full((N, N), 1 / N)))
    distinct = (1 - own) * independent * (1 - np.eye(N)[None, :, None, :]) * 1.5
    assert fails(lambda: assert_unbiased(joint, (own * same + distinct).ravel()))


def test_two_negatives_have_one_partner_each():
    for seed in range(5):
        assert draw_partners(2, rng=rng(seed)).tolist() == [1, 0]


def test_equal_seeds_give_equal_partners():
    first, again, other = (draw_partners(50, rng=rng(seed)) for seed in (1, 1, 2))
    assert first.dtype == torch.int64
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("n", [0, 1])
def test_one_negative_has_no_partner(n):
    with pytest.raises(ValueError, match=rf"expected at least two negatives to mix, got {n}; keep more\."):
        draw_partners(n, rng=rng())


# --- weights ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", [cls() for cls in REGISTRY.values()], ids=list(REGISTRY))
def test_weights_are_draws_of_the_law_for_an_image_of_one_row(strategy):
    q = draw_weights(6, 9, strategy, rng=rng(2))
    assert q.dtype == torch.float64
    again = strategy.partner_weights(len(q), (1, 9), rng=rng(2))[:, 0]
    np.testing.assert_array_equal(q, again)
    if len(q) == 1:  # a single mask stands for all draws
        many = strategy.partner_weights(6, (1, 9), rng=rng(3))[:, 0]
        np.testing.assert_array_equal(many, q.expand(6, 9))


def test_laws_of_one_mask_are_drawn_once():
    for strategy in (DropMix(), DropMix(share=0.0), Vanilla()):
        assert draw_weights(6, 9, strategy, rng=rng()).shape == (1, 9)
    assert draw_weights(6, 9, DropMix(dims="random"), rng=rng()).shape == (6, 9)


def test_weights_need_a_strategy():
    with naive.as_users_run_it(), pytest.raises(TypeError, match="expected a strategy such as CutMix"):
        draw_weights(6, 9, "dropmix", rng=rng())


# --- mixing -------------------------------------------------------------------------------------------------


def test_every_sixth_dimension_is_mixed_and_no_other():
    n, partners = vectors(7, 20), draw_partners(7, rng=rng(3))
    found = mix_negatives(n, partners, draw_weights(7, 20, DropMix(), rng=rng()))
    np.testing.assert_allclose(found, naive_graph.mixed(n, partners.tolist(), 0.35, 6), rtol=0, atol=1e-15)
    moved = (found != n).any(dim=0)
    assert moved.nonzero()[:, 0].tolist() == [0, 6, 12, 18]


def test_mixing_with_a_weight_for_each_entry():
    n, partners, q = vectors(5, 4), torch.tensor([3, 0, 1, 2, 2]), torch.from_numpy(rng(4).random((5, 4)))
    found = mix_negatives(n, partners, q)
    for k in range(5):
        for j in range(4):
            own, other, weight = float(n[k, j]), float(n[partners[k], j]), float(q[k, j])
            assert float(found[k, j]) == pytest.approx((1 - weight) * own + weight * other, abs=1e-15)


def test_weights_of_one_take_the_partner_and_of_zero_leave_all_as_it_was():
    n, partners = vectors(5, 4), draw_partners(5, rng=rng(5))
    torch.testing.assert_close(mix_negatives(n, partners, torch.ones(1, 4)), n[partners], rtol=0, atol=1e-15)
    assert torch.equal(mix_negatives(n, partners, torch.zeros(5, 4)), n)


def test_precision_stays_and_gradients_reach_both_sides():
    n = vectors(3, 2).float().requires_grad_()
    found = mix_negatives(n, torch.tensor([1, 2, 1]), torch.tensor([[0.25, 0.0]], dtype=torch.float64))
    assert found.dtype == torch.float32
    found.sum().backward()
    # first column: 3/4 of oneself and 1/4 from each negative that has it as a partner
    assert n.grad.tolist() == [[0.75, 1.0], [1.25, 1.0], [1.0, 1.0]]


def test_weights_that_do_not_fit():
    n, partners = vectors(5, 4), draw_partners(5, rng=rng())
    cases = ((partners[:4], torch.ones(1, 4)), (partners, torch.ones(4, 4)), (partners, torch.ones(5, 1)))
    for p, q in (*cases, (partners, torch.ones(4))):
        with pytest.raises(ValueError, match=r"expected a partner and weights for each of the vectors \[5, 4\], got"):
            mix_negatives(n, p, q)
