"""Linear evaluation: all repeats at once against one training after the other; scikit-learn by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn

from msda_theory.graph.graphs import Graph
from msda_theory.graph.probes import linear_probe, validated_probe
from msda_theory.graph.synthetic import block_graph

GRAPH = block_graph(
    (25, 30, 20), 0.1, 0.1, features=9, signal=0.2, background=0.2, train=6, val=20, test=30,
    rng=np.random.default_rng(47),
)  # fmt: skip


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng([47, seed])


def vectors(noise: float, graph: Graph = GRAPH) -> torch.Tensor:
    """The class in one-hot, and noise [n, 5]."""
    clean = nn.functional.one_hot(graph.labels, 5).double()
    return clean + noise * torch.from_numpy(rng(9).normal(size=clean.shape))


@pytest.fixture
def adams(monkeypatch):
    """Optimizers as they are made."""
    made = []

    class Recorded(torch.optim.Adam):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            made.append(self)

    monkeypatch.setattr(torch.optim, "Adam", Recorded)
    return made


@pytest.mark.parametrize("weight_decay", [0.0, 0.05])
def test_repeats_at_once_are_trainings_apart(adams, weight_decay):
    x, repeats, steps, classes = vectors(0.8), 4, 25, 3
    found = linear_probe(x, GRAPH, repeats=repeats, steps=steps, lr=0.03, weight_decay=weight_decay, rng=rng())
    together = [p.detach() for p in adams[0].param_groups[0]["params"]]
    bound = math.sqrt(6 / (5 + classes))
    first = torch.from_numpy(rng().uniform(-bound, bound, (5, repeats * classes)))
    train, test = GRAPH.train, GRAPH.test
    shares = []
    for r in range(repeats):
        part = slice(r * classes, (r + 1) * classes)
        layer = nn.Linear(5, classes).double()
        with torch.no_grad():
            layer.weight.copy_(first[:, part].T)
            layer.bias.zero_()
        optimizer = torch.optim.Adam(layer.parameters(), lr=0.03, weight_decay=weight_decay)
        for _ in range(steps):
            optimizer.zero_grad()
            nn.functional.cross_entropy(layer(x[train]), GRAPH.labels[train]).backward()
            optimizer.step()
        torch.testing.assert_close(together[0][:, part], layer.weight.detach().T, rtol=0, atol=1e-10)
        torch.testing.assert_close(together[1][part], layer.bias.detach(), rtol=0, atol=1e-10)
        right = [int(layer(v).argmax()) == int(y) for v, y in zip(x[test], GRAPH.labels[test], strict=True)]
        shares.append(sum(right) / len(right))
    assert len(set(shares)) > 1
    assert found.mean == pytest.approx(np.mean(shares), abs=1e-14)
    assert found.se == pytest.approx(np.std(shares, ddof=1) / 2, abs=1e-14)
    assert found.n == repeats


def test_weight_decay_shrinks(adams):
    for weight_decay in (0.0, 1.0):
        linear_probe(vectors(0.3), GRAPH, repeats=2, steps=50, weight_decay=weight_decay, rng=rng())
    free, held = (float(a.param_groups[0]["params"][0].detach().norm()) for a in adams)
    assert held < 0.8 * free


def test_classes_that_are_apart_are_found_without_error():
    x = vectors(0.0)
    found = linear_probe(x, GRAPH, repeats=3, lr=0.1, rng=rng())
    assert (found.mean, found.se) == (1, 0)
    best = validated_probe(x, GRAPH)
    assert (best.accuracy, best.validation) == (1, 1)


def test_vectors_that_say_nothing():
    """All vectors equal: one class for all, the largest that training gives."""
    found = linear_probe(torch.ones(75, 2), GRAPH, repeats=2, rng=rng())
    shares = torch.bincount(GRAPH.labels[GRAPH.test]) / GRAPH.test.sum()
    assert shares.min() - 1e-6 <= found.mean <= shares.max() + 1e-6


def test_equal_seeds_give_equal_probes_in_the_precision_of_the_vectors():
    x = vectors(0.8).float()
    a, b, c = (linear_probe(x, GRAPH, repeats=5, steps=5, rng=rng(seed)) for seed in (1, 1, 2))
    assert a == b
    assert a != c
    assert not x.requires_grad


# --- with validation ----------------------------------------------------------------------------------------


def test_validation_chooses_the_penalty():
    x = vectors(0.8).numpy()
    masks = [m.numpy() for m in (GRAPH.train, GRAPH.val, GRAPH.test)]
    scaled = x / math.sqrt((x[masks[0]] ** 2).mean())
    y = GRAPH.labels.numpy()
    by_hand = {}
    for strength in (0.01, 0.1, 1.0, 10.0, 100.0):
        fitted = LogisticRegression(C=strength, max_iter=2000).fit(scaled[masks[0]], y[masks[0]])
        by_hand[strength] = [float((fitted.predict(scaled[m]) == y[m]).mean()) for m in masks[1:]]
    found = validated_probe(torch.from_numpy(x), GRAPH)
    best = max(v for v, _ in by_hand.values())
    assert len({v for v, _ in by_hand.values()}) > 1
    assert found.strength == min(s for s, (v, _) in by_hand.items() if v == best)
    assert [found.validation, found.accuracy] == by_hand[found.strength]


def test_the_size_of_the_vectors_does_not_count():
    x = vectors(0.8)
    assert validated_probe(1000 * x, GRAPH) == validated_probe(x, GRAPH)


def test_the_smallest_strength_wins_a_tie():
    for strengths in ((1.0, 2.0), (2.0, 1.0)):
        assert validated_probe(vectors(0.0), GRAPH, strengths=strengths).strength == 1.0


# --- input --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("probe", [lambda x, g: linear_probe(x, g, rng=rng()), validated_probe], ids=["linear", "val"])
def test_input_that_cannot_be_evaluated(probe):
    x, no = vectors(0.1), torch.zeros(75, dtype=torch.bool)
    for wrong in (x[:-1], x[:, 0], x[None]):
        with pytest.raises(ValueError, match=r"expected vectors \[n, h\] of the 75 nodes, got .*; embed the same"):
            probe(wrong, GRAPH)
    for part in ("train", "test"):
        with pytest.raises(ValueError, match=f"evaluation needs train and test nodes, got no {part} node"):
            probe(x, replace(GRAPH, **{part: no}))
    with pytest.raises(ValueError, match="evaluation needs a label for each node of the masks, got"):
        probe(x, replace(GRAPH, labels=torch.where(GRAPH.test, -1, GRAPH.labels)))


def test_nothing_to_validate_on():
    with pytest.raises(ValueError, match="choosing a penalty needs validation nodes, got none; pass a split"):
        validated_probe(vectors(0.1), replace(GRAPH, val=torch.zeros(75, dtype=torch.bool)))


@pytest.mark.parametrize(("repeats", "steps"), [(1, 10), (2, 0)])
def test_too_few_repeats_or_steps(repeats, steps):
    with pytest.raises(ValueError, match=f"expected at least 2 repeats and 1 step, got {repeats} and {steps}"):
        linear_probe(vectors(0.1), GRAPH, repeats=repeats, steps=steps, rng=rng())


@pytest.mark.parametrize("probe", [lambda x, g: linear_probe(x, g, rng=rng()), validated_probe], ids=["linear", "val"])
def test_vectors_are_finite_and_frozen(probe):
    x = vectors(0.3)
    assert probe(x.clone().requires_grad_(), GRAPH) == probe(x, GRAPH)
    x[3, 1] = float("nan")
    with pytest.raises(ValueError, match="expected finite vectors to classify, got NaN or infinity"):
        probe(x, GRAPH)


@pytest.mark.parametrize("strengths", [(), (1.0, 0.0), (-1.0,), (float("nan"),)])
def test_strengths_are_positive(strengths):
    with pytest.raises(ValueError, match="expected strengths of a penalty above 0, got"):
        validated_probe(vectors(0.1), GRAPH, strengths=strengths)
