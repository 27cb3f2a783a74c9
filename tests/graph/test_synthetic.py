"""The block model: exact cases, its law edge by edge on tiny graphs, its counts at the size of PubMed."""

from __future__ import annotations

from itertools import combinations

import mc_checks
import numpy as np
import pytest
import torch
from naive import as_users_run_it

from msda_theory.graph.graphs import Graph, check_split
from msda_theory.graph.synthetic import _pairs, block_graph

PUBMED = (6572, 6573, 6572)
P_IN, P_OUT = 5.5e-4, 7e-5


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.fixture(scope="module")
def large() -> Graph:
    return block_graph(PUBMED, P_IN, P_OUT, features=500, signal=0.05, rng=rng())


def test_numbers_and_pairs():
    """Every pair once, in the order of its larger node; also where the square root of the number is rounded."""
    i, j = _pairs(np.arange(60 * 59 // 2))
    assert list(zip(i.tolist(), j.tolist(), strict=True)) == sorted(combinations(range(60), 2), key=lambda p: p[::-1])
    large = [10**8 - 1, 10**8, 2**31, 3 * 10**9]
    numbers = np.array([k * (k - 1) // 2 + d for k in large for d in (0, 1, k - 1)])
    i, j = _pairs(numbers)
    assert i.tolist() == [d for k in large for d in (0, 1, k - 1)]
    assert j.tolist() == [k for k in large for _ in range(3)]


def test_probabilities_zero_and_one_are_exact():
    """Cliques without edges between, and the complete multipartite graph; features that are the class's words alone."""
    cliques = block_graph((3, 1, 4), 1.0, 0.0, features=7, signal=1.0, background=0.0, rng=rng())
    between = block_graph((3, 1, 4), 0.0, 1.0, features=7, signal=1.0, background=0.0, rng=rng())
    labels = [0, 0, 0, 1, 2, 2, 2, 2]
    assert cliques.labels.tolist() == labels
    for graph, inside in ((cliques, True), (between, False)):
        expected = [[i, j] for i in range(8) for j in range(8) if i != j and (labels[i] == labels[j]) == inside]
        assert graph.edges.T.tolist() == expected
        assert graph.features.tolist() == [[float(word % 3 == label) for word in range(7)] for label in labels]


def test_edges_of_a_tiny_graph_are_independent_coins():
    """Two classes of two nodes: frequencies of all edges and of all pairs of edges.

    The wrong laws: p_in and p_out exchanged; between the classes always two of the four edges, as if the number of
    edges were not random (a pair then has probability 1/4 * 2/3).
    """
    p_in, p_out, draws, source = 0.3, 0.5, 1500, rng(1)
    places = list(combinations(range(4), 2))
    edge = np.array([p_in if place in ((0, 1), (2, 3)) else p_out for place in places])
    found = np.zeros((draws, 6))
    for draw in found:
        with as_users_run_it():
            graph = block_graph((2, 2), p_in, p_out, features=2, signal=0.0, background=1.0, rng=source)
        present = set(map(tuple, graph.edges.T.tolist()))
        draw[:] = [place in present for place in places]
    both = np.array([found[:, a] * found[:, b] for a, b in combinations(range(6), 2)]).T
    products = np.array([edge[a] * edge[b] for a, b in combinations(range(6), 2)])
    outer = np.array([edge[a] == edge[b] == p_out for a, b in combinations(range(6), 2)])
    mc_checks.assert_unbiased(found, edge)
    mc_checks.assert_unbiased(both, products)
    assert mc_checks.fails(lambda: mc_checks.assert_unbiased(found, p_in + p_out - edge))
    assert mc_checks.fails(lambda: mc_checks.assert_unbiased(both, np.where(outer, 1 / 2 * 1 / 3, products)))


def test_numbers_of_edges_at_the_size_of_pubmed(large):
    """Binomial tests of each block; the wrong laws are one probability for all pairs, and probabilities off by 20 %."""
    ends = large.labels[large.edges[:, large.edges[0] < large.edges[1]]]
    counts = torch.bincount(3 * ends[0] + ends[1], minlength=9).reshape(3, 3).tolist()
    pairs = {
        (a, b): PUBMED[a] * PUBMED[b] if a < b else PUBMED[a] * (PUBMED[a] - 1) // 2
        for a in range(3)
        for b in range(a, 3)
    }
    uniform = sum(counts[a][b] for a, b in pairs) / sum(pairs.values())
    for (a, b), number in pairs.items():
        p = P_IN if a == b else P_OUT
        mc_checks.assert_share(counts[a][b], number, p)
        for wrong in (uniform, 0.8 * p, 1.2 * p):
            assert mc_checks.fails(
                lambda count=counts[a][b], number=number, wrong=wrong: mc_checks.assert_share(count, number, wrong)
            )


def test_edges_are_spread_over_nodes_alike(large):
    """The first half of a class has half of the ends of edges to other classes; these are independent."""
    first, second = large.edges
    ends = first[(first < PUBMED[0]) & (second >= PUBMED[0])]
    hits = int((ends < PUBMED[0] // 2).sum())
    mc_checks.assert_share(hits, len(ends), 1 / 2)
    assert mc_checks.fails(lambda: mc_checks.assert_share(hits, len(ends), 0.55))


def test_numbers_of_words_at_the_size_of_pubmed(large):
    """Binomial tests of own and of other words; the wrong law does not know the class."""
    own = torch.arange(500) % 3 == large.labels[:, None]
    assert large.features.unique().tolist() == [0.0, 1.0]
    for mask, p in ((own, 0.06), (~own, 0.01)):
        hits, number = int(large.features[mask].sum()), int(mask.sum())
        mc_checks.assert_share(hits, number, p)
        assert mc_checks.fails(lambda hits=hits, number=number: mc_checks.assert_share(hits, number, 0.01 + 0.05 / 3))


def test_features_are_independent_coins():
    """As for edges: the two words that are not their own, for both nodes of the second class.

    The wrong law gives two of these four, always.
    """
    source, words = rng(2), np.zeros((1500, 4))
    for row in words:
        with as_users_run_it():
            graph = block_graph((1, 2), 0.5, 0.5, features=4, signal=0.5, background=0.5, rng=source)
        assert graph.features[0, [0, 2]].tolist() == [1.0, 1.0]
        row[:] = graph.features[1:, [0, 2]].flatten().numpy()
    both = np.stack([words[:, a] * words[:, b] for a, b in combinations(range(4), 2)], axis=1)
    mc_checks.assert_unbiased(words, np.full(4, 0.5))
    mc_checks.assert_unbiased(both, np.full(6, 0.25))
    assert mc_checks.fails(lambda: mc_checks.assert_unbiased(both, np.full(6, 1 / 2 * 1 / 3)))


def test_the_split_of_planetoid(large):
    assert torch.bincount(large.labels[large.train]).tolist() == [20, 20, 20]
    assert (int(large.val.sum()), int(large.test.sum())) == (500, 1000)
    check_split(large)
    shares = torch.bincount(large.labels[large.test]).tolist()
    mc_checks.assert_share(shares[0], 1000, 1 / 3)
    assert mc_checks.fails(lambda: mc_checks.assert_share(shares[0], 1000, 1 / 4))


@pytest.mark.parametrize(
    ("sizes", "train", "rest"),
    [
        ((5, 3, 1), [3, 2, 1], (1, 2)),
        ((2, 1), [1, 1], (0, 1)),
        ((40, 39), [20, 20], (13, 26)),
        ((700, 860), [20, 20], (500, 1000)),
        ((1, 1), [1, 1], (0, 0)),
    ],
    ids=str,
)
def test_splits_of_small_graphs(sizes, train, rest):
    graph = block_graph(sizes, 0.1, 0.1, features=5, signal=0.0, background=1.0, rng=rng())
    assert torch.bincount(graph.labels[graph.train]).tolist() == train
    assert (int(graph.val.sum()), int(graph.test.sum())) == rest


def test_the_seed_decides_and_each_part_has_its_own_stream():
    def draw(seed: int, **changes: float) -> Graph:
        options = {"features": 9, "signal": 0.3, "background": 0.2, "p_in": 0.2, "p_out": 0.1}
        return block_graph((20, 30), rng=rng(seed), **{**options, **changes})

    first = draw(0)
    for again, equal in (
        (draw(0), (True, True, True)),
        (draw(1), (False, False, False)),
        (draw(0, signal=0.4), (True, False, True)),
        (draw(0, p_in=0.3), (False, True, True)),
    ):
        pairs = ((again.edges, first.edges), (again.features, first.features), (again.train, first.train))
        assert tuple(torch.equal(a, b) for a, b in pairs) == equal


def test_blocks_that_cannot_be_drawn():
    def draw(sizes=(4, 4), p_in=0.5, p_out=0.5, **changes: float) -> Graph:
        return block_graph(sizes, p_in, p_out, **{"features": 4, "signal": 0.2, "rng": rng(), **changes})

    for sizes in ((), (3, 0)):
        with pytest.raises(ValueError, match="expected at least one node in each class, got sizes"):
            draw(sizes)
    for options in ({"p_in": 1.1}, {"p_out": -0.1}, {"signal": -0.1}, {"background": 2.0}, {"p_in": float("nan")}):
        with pytest.raises(
            ValueError, match=rf"expected {next(iter(options))} in \[0, 1\], got .*; it is a probability"
        ):
            draw(**options)
    with pytest.raises(ValueError, match=r"expected background \+ signal <= 1, got 0.9 \+ 0.2"):
        draw(background=0.9)
    with pytest.raises(ValueError, match="expected a feature for each of 2 classes, got features=1"):
        draw(features=1)
    for counts in ({"train": 0}, {"val": -1}, {"test": -1}, {"val": 0, "test": 0}):
        with pytest.raises(ValueError, match="expected a split with train >= 1, val >= 0, test >= 0 and not both 0"):
            draw(**counts)
    with pytest.raises(ValueError, match="features that tell nodes apart, got zeros alone"):
        draw(signal=0.0, background=0.0)
    with as_users_run_it(), pytest.raises(TypeError, match=r"expected rng to be a numpy\.random\.Generator, got int"):
        draw(rng=0)
