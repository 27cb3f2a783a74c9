"""Random graphs with known classes: the stochastic block model with sparse features."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64
from torch import Tensor

from msda_theory.graph.graphs import Graph, undirected
from msda_theory.graph.splits import shuffled
from msda_theory.streams import seed_from, stream


def block_graph(
    sizes: Sequence[int],
    p_in: float,
    p_out: float,
    *,
    features: int,
    signal: float,
    rng: np.random.Generator,
    background: float = 0.01,
    train: int = 20,
    val: int = 500,
    test: int = 1000,
    name: str = "blocks",
) -> Graph:
    """A draw of the stochastic block model with 0/1 features.

    Every pair of nodes is an edge with probability ``p_in`` within a class and ``p_out`` between classes, every feature
    j of a node of class c is 1 with probability ``background + signal`` if j mod k = c (the class's own words) and
    ``background`` otherwise, k = number of classes; all of these are independent. The nodes of a class are consecutive.

    Each block of pairs is drawn as a binomial number of edges and a uniformly distributed set of so many distinct
    pairs, the same law as one coin for each pair: time and memory grow with the edges and the features, not with n^2.

    The split is Planetoid's, drawn at random: ``train`` nodes of each class, and ``val`` and ``test`` of the rest. A
    class of fewer than 2 ``train`` nodes gives half of them, rounded up; if fewer than ``val + test`` nodes are left,
    val and test share them in proportion, rounded in favour of test.

    Args:
        sizes: nodes of each class, k numbers.
        p_in: probability of an edge within a class.
        p_out: probability of an edge between classes.
        features: number of features, at least k.
        signal: what being its own word adds to the probability of a feature.
        rng: random generator.
        background: probability of a feature that is not a word of the node's class.
        train: nodes of each class for training.
        val: nodes for validation.
        test: nodes for the test.
        name: of the graph.

    Raises:
        TypeError: rng is not a numpy.random.Generator.
        ValueError: an empty class, a probability outside [0, 1], fewer features than classes, negative counts of the
            split, or what `Graph` refuses.
    """
    if not sizes or min(sizes) < 1:
        raise ValueError(f"expected at least one node in each class, got sizes {list(sizes)}; raise or drop them.")
    for what, value in (("p_in", p_in), ("p_out", p_out), ("background", background), ("signal", signal)):
        if not 0 <= value <= 1:
            raise ValueError(f"expected {what} in [0, 1], got {value}; it is a probability.")
    if background + signal > 1:
        raise ValueError(f"expected background + signal <= 1, got {background} + {signal}; lower one of them.")
    if features < len(sizes):
        raise ValueError(
            f"expected a feature for each of {len(sizes)} classes, got features={features}; raise it to {len(sizes)}."
        )
    if train < 1 or val < 0 or test < 0 or val + test < 1:
        raise ValueError(
            f"expected a split with train >= 1, val >= 0, test >= 0 and not both 0, got {train}, {val} and {test}; "
            "change them."
        )
    labels = np.repeat(np.arange(len(sizes)), sizes)
    seed = seed_from(rng)
    words = _features(labels, features, background, background + signal, stream(seed, "features"))
    edges = undirected(_edges(sizes, p_in, p_out, stream(seed, "edges")), len(labels))
    masks = _split(sizes, train, val, test, stream(seed, "split"))
    return Graph(words, edges, torch.from_numpy(labels), *masks, name=name)


def _successes(trials: int, probability: float, rng: np.random.Generator) -> np.ndarray:
    """Numbers of the successes among independent trials 0 .. trials - 1, in no order, in time O(successes)."""
    count = int(rng.binomial(trials, probability))
    return rng.choice(trials, size=count, replace=False, shuffle=False) if count else np.empty(0, dtype=np.int64)


def _edges(sizes: Sequence[int], p_in: float, p_out: float, rng: np.random.Generator) -> Int64[Tensor, "2 E"]:
    """One direction of each edge."""
    starts = np.cumsum([0, *sizes])
    parts = []
    for a in range(len(sizes)):
        i, j = _pairs(_successes(sizes[a] * (sizes[a] - 1) // 2, p_in, rng))
        parts.append(np.stack([starts[a] + i, starts[a] + j]))
        for b in range(a + 1, len(sizes)):
            i, j = np.divmod(_successes(sizes[a] * sizes[b], p_out, rng), sizes[b])
            parts.append(np.stack([starts[a] + i, starts[b] + j]))
    return torch.from_numpy(np.concatenate(parts, axis=1))


def _pairs(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The pairs i < j with j (j - 1) / 2 + i = number."""
    j = ((1 + np.sqrt(1 + 8 * numbers.astype(np.float64))) / 2).astype(np.int64)
    j -= j * (j - 1) // 2 > numbers  # from j = 10^8 on, the root may be rounded up to a whole number
    return numbers - j * (j - 1) // 2, j


def _features(
    labels: np.ndarray, count: int, low: float, high: float, rng: np.random.Generator
) -> Float32[Tensor, "n F"]:
    x = np.zeros((len(labels), count), dtype=np.float32)
    classes = int(labels[-1]) + 1
    for label in range(classes):
        rows = np.flatnonzero(labels == label)
        own = np.arange(count) % classes == label
        for columns, probability in ((np.flatnonzero(own), high), (np.flatnonzero(~own), low)):
            if len(columns):
                i, j = np.divmod(_successes(len(rows) * len(columns), probability, rng), len(columns))
                x[rows[i], columns[j]] = 1.0
    return torch.from_numpy(x)


def _split(
    sizes: Sequence[int], train: int, val: int, test: int, rng: np.random.Generator
) -> tuple[Bool[Tensor, " n"], Bool[Tensor, " n"], Bool[Tensor, " n"]]:
    nodes = torch.arange(sum(sizes))
    first = [shuffled(part, rng=rng)[: min(train, -(-len(part) // 2))] for part in torch.split(nodes, list(sizes))]
    masks = tuple(torch.zeros(len(nodes), dtype=torch.bool) for _ in range(3))
    masks[0][torch.cat(first)] = True
    rest = shuffled(nodes[~masks[0]], rng=rng)
    if len(rest) < val + test:
        val = len(rest) * val // (val + test)
        test = len(rest) - val
    masks[1][rest[:val]] = True
    masks[2][rest[val : val + test]] = True
    return masks[0], masks[1], masks[2]
