"""Hardness against a double loop, its search in half precision, and the choice of negatives against sorted lists."""

from __future__ import annotations

import itertools

import naive_graph
import numpy as np
import pytest
import torch

from msda_theory.graph.hardness import MODES, Kept, hardness, select


def vectors(n: int, size: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng([41, seed]).normal(size=(n, size)))


# --- hardness -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [1, 3, 11, 2048])
def test_hardness_is_the_largest_cosine(rows):
    n, p = vectors(11, 5), vectors(7, 5, seed=1)
    n[3], p[2], n[4] = 0, 0, 2.5 * p[6]
    found = hardness(n, p, rows=rows)
    np.testing.assert_allclose(found, naive_graph.hardness(n, p), rtol=0, atol=1e-14)
    assert found[3] == 0
    assert found[4] == pytest.approx(1, abs=1e-15)
    assert found.dtype == torch.float64


def test_hardness_may_be_negative():
    p = vectors(1, 4)
    np.testing.assert_allclose(hardness(torch.cat([-p, p]), p), [-1, 1], rtol=1e-15)


def test_lengths_do_not_count_and_no_gradient_flows():
    n, p = vectors(6, 5).float().requires_grad_(), vectors(4, 5, seed=1).float().requires_grad_()
    found = hardness(n, p)
    assert found.dtype == torch.float32
    assert not found.requires_grad
    scaled = hardness(n * torch.arange(1, 7)[:, None], 100 * p)
    torch.testing.assert_close(scaled, found, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("size", [2, 3, 16, 200])
def test_search_in_half_precision_is_near_and_never_above(size):
    """Positives close together, so that the wrong one is often found."""
    base = vectors(1, size).abs()
    n, p = base + 0.1 * vectors(60, size, seed=1), base + 0.1 * vectors(300, size, seed=2)
    exact, found = hardness(n, p), hardness(n, p, search=torch.bfloat16, rows=7)
    assert (found <= exact + 1e-14).all()
    assert (exact - found <= 0.012).all()
    assert (exact - found > 1e-6).any(), "the search was exact: this test would see nothing"
    similarity = torch.tensor([[naive_graph.cosine(a, b) for b in p.tolist()] for a in n[:5].tolist()])
    gap = (similarity - found[:5, None]).abs().amin(dim=1)
    assert (gap < 1e-6).all(), "not the similarity of a positive"


def test_the_worst_case_that_we_know_of_half_precision():
    """2^-7, the error of one rounded similarity with margin, is exceeded where two are compared."""
    n = torch.tensor([[0.6818772177846776, -0.5051122790790407, 0.5290605309317684]], dtype=torch.float64)
    p = torch.tensor(
        [
            [0.9984188543160251, 0.04108880867992227, -0.038360150515093935],
            [-0.10883964412851405, -0.6268856091378833, 0.771471558077032],
        ],
        dtype=torch.float64,
    )
    lost = float(hardness(n, p) - hardness(n, p, search=torch.bfloat16))
    assert 2**-7 < lost <= 0.012


def test_search_in_the_precision_of_the_vectors_changes_nothing():
    n, p = vectors(6, 5), vectors(4, 5, seed=1)
    assert torch.equal(hardness(n, p, search=torch.float64), hardness(n, p))


def test_vectors_that_do_not_fit():
    for n, p in ((vectors(3, 4), vectors(3, 5)), (vectors(3, 4)[0], vectors(3, 4)), (vectors(3, 4), vectors(3, 4)[0])):
        with pytest.raises(
            ValueError, match=r"expected negatives \[k, h\] and positives \[n, h\] of one length h, got"
        ):
            hardness(n, p)
    for n, p in ((vectors(0, 4), vectors(3, 4)), (vectors(3, 4), vectors(0, 4))):
        with pytest.raises(ValueError, match="expected at least one negative and one positive, got"):
            hardness(n, p)


# --- choice -------------------------------------------------------------------------------------------------

LOCAL = torch.tensor([0.9, 0.1, 0.5, 0.7, 0.3, 0.2, 0.8, 0.6, 0.4, 0.0])
GLOBAL = torch.tensor([0.1, 0.9, 0.4, 0.8, 0.2, 0.25, 0.7, 0.0, 0.5, 0.6])
# Ranks 2 to 7 of ten by hand. Local from easy to hard: 9 1 | 5 4 8 2 7 3 | 6 0; global: 7 0 | 4 5 2 8 9 6 | 3 1;
# sum: 5 (.45) 4 (.5) | 7 (.6) 9 (.6) 2 (.9) 8 (.9) 0 (1) 1 (1) | 3 6 (1.5).
BY_HAND = {
    "per_view": ([5, 4, 8, 2, 7, 3], [4, 5, 2, 8, 9, 6]),
    "local": ([5, 4, 8, 2, 7, 3], [5, 4, 8, 2, 7, 3]),
    "global": ([4, 5, 2, 8, 9, 6], [4, 5, 2, 8, 9, 6]),
    "both": ([5, 4, 8, 2], [5, 4, 8, 2]),
}


@pytest.mark.parametrize("mode", BY_HAND)
def test_kept_negatives_by_hand(mode):
    kept = select(LOCAL, GLOBAL, mode=mode, low=0.2, high=0.8)
    assert (kept.local.tolist(), kept.global_.tolist()) == BY_HAND[mode]
    assert len(kept) == len(BY_HAND[mode][0])


def test_kept_by_the_sum_by_hand():
    kept = select(*(torch.tensor(v) for v in ([0, 8, 2, 4, 1], [5, 0, 1, 2, 1])), mode="sum", low=0.2, high=0.8)
    assert kept.local.tolist() == kept.global_.tolist() == [2, 0, 3]  # sums 5 8 3 6 2: 4 | 2 0 3 | 1


def test_the_cases_by_hand_cover_every_mode():
    assert {*BY_HAND, "sum"} == set(MODES)


@pytest.mark.parametrize("mode", MODES)
def test_all_rankings_of_four(mode):
    """Every order of four negatives in the local view, against sorted lists; ranks 1 and 2 are kept."""
    steady = [3.0, 1.0, 2.0, 2.0]
    for order in itertools.permutations([0.0, 1.0, 1.0, 2.0]):
        ranks = [naive_graph.ranking(v, 1, 3) for v in (order, steady)]
        total = naive_graph.ranking([a + b for a, b in zip(order, steady, strict=True)], 1, 3)
        common = [k for k in ranks[0] if k in ranks[1]]
        wanted = {"per_view": ranks, "local": ranks[:1] * 2, "global": ranks[1:] * 2, "sum": [total] * 2}
        wanted["both"] = [common] * 2
        if len(wanted[mode][0]) < 2:
            with pytest.raises(ValueError, match="expected at least two negatives to mix, got"):
                select(torch.tensor(order), torch.tensor(steady), mode=mode, low=0.25, high=0.75)
            continue
        kept = select(torch.tensor(order), torch.tensor(steady), mode=mode, low=0.25, high=0.75)
        assert [kept.local.tolist(), kept.global_.tolist()] == wanted[mode]


def test_both_is_a_subset_of_what_each_view_keeps():
    a, b = vectors(2, 200)
    each, both = (select(a, b, mode=mode) for mode in ("per_view", "both"))
    inside = set(both.local.tolist())
    assert inside == set(each.local.tolist()) & set(each.global_.tolist())
    assert len(inside) < len(each)
    assert (a[both.local].diff() > 0).all()
    assert torch.equal(both.local, both.global_)


def test_ties_go_by_number():
    kept = select(torch.zeros(10), torch.zeros(10), low=0.3, high=0.7)
    assert kept.local.tolist() == kept.global_.tolist() == [3, 4, 5, 6]


def test_the_published_shares():
    """floor(0.15 n) to floor(0.95 n): of 100, 80 are kept, the 5 hardest are not."""
    values = torch.arange(100.0)
    assert select(values, values).local.tolist() == list(range(15, 95))
    assert len(select(torch.arange(2708.0), torch.arange(2708.0))) == 2572 - 406
    assert select(values[:11], values[:11]).local.tolist() == list(range(1, 10))  # 1.65 and 10.45
    assert len(select(values, values, low=0.0, high=1.0)) == 100


def test_two_are_enough_and_one_is_not():
    values = torch.arange(10.0)
    kept = select(values, values, low=0.5, high=0.7)
    assert isinstance(kept, Kept)
    assert kept.local.tolist() == [5, 6]
    for low, high, number in ((0.5, 0.6, 1), (0.5, 0.59, 0)):
        with pytest.raises(
            ValueError,
            match=rf"expected at least two negatives to mix, got {number} of 10 between the shares {low} and {high} "
            r"\(per_view\); widen them",
        ):
            select(values, values, low=low, high=high)
    with pytest.raises(ValueError, match=r"got 0 of 10 between .*\(both\); widen them"):
        select(values, -values, mode="both", low=0.6, high=1.0)


def test_choices_that_do_not_exist():
    values = torch.arange(10.0)
    with pytest.raises(ValueError, match=r"expected the mode of hardness among \['per_view', .*got 'hard'"):
        select(values, values, mode="hard")
    for low, high in ((0.5, 0.5), (0.9, 0.1), (-0.1, 0.5), (0.5, 1.1), (float("nan"), 1.0)):
        with pytest.raises(
            ValueError, match=rf"expected shares 0 <= low < high <= 1, got low={low} and high={high}; exchange"
        ):
            select(values, values, low=low, high=high)
    for a, b in ((values, values[:-1]), (values[None], values[None])):
        with pytest.raises(ValueError, match=r"expected one hardness for each negative in both views, got \["):
            select(a, b)


def test_shares_that_floats_do_not_hold():
    """0.29 * 100 is 28.999999999999996."""
    values = torch.arange(100.0)
    kept = select(values, values, mode="local", low=0.29, high=0.57)
    assert (kept.local.min(), kept.local.max(), len(kept)) == (29, 56, 28)
