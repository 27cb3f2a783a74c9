"""Linear evaluation of representations: logistic regression on frozen vectors, accuracy on the test nodes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor
from torch.nn.functional import cross_entropy

from msda_theory.estimate import Estimate
from msda_theory.graph.graphs import Graph, check_split


@dataclass(frozen=True)
class ValidatedProbe:
    """Accuracy of logistic regression with the strength that the validation nodes choose.

    Attributes:
        accuracy: share of the test nodes that are right.
        validation: the same on the validation nodes.
        strength: inverse of the penalty, C of scikit-learn.
    """

    accuracy: float
    validation: float
    strength: float


def linear_probe(
    vectors: Tensor,
    graph: Graph,
    *,
    repeats: int = 50,
    steps: int = 300,
    lr: float = 1e-2,
    weight_decay: float = 0.0,
    rng: np.random.Generator,
) -> Estimate:
    """Test accuracy as published: softmax regression, ``steps`` of Adam from random weights, mean over repeats.

    First weights are uniform in ``+- sqrt(6 / (h + c))``, biases 0. The standard error is that over ``repeats``, for
    these vectors. Ma, Chen, Li 2023 (after MVGRL) use a weight decay of 0 on Cora and 0.01 on CiteSeer. All repeats are
    trained at once; each has its own weights, so they do not influence each other.

    Args:
        vectors: frozen representations [n, h].
        graph: labels and split.
        repeats: at least 2.
        steps: of Adam.
        lr: of Adam.
        weight_decay: of Adam.
        rng: a numpy.random.Generator.

    Raises:
        ValueError: no usable split, vectors of another number of nodes or not finite, or fewer than 2 repeats.
    """
    _check(vectors, graph)
    if repeats < 2 or steps < 1:
        raise ValueError(f"expected at least 2 repeats and 1 step, got {repeats} and {steps}; raise them.")
    vectors, h, c = vectors.detach(), vectors.shape[1], graph.classes
    x, y = vectors[graph.train], graph.labels[graph.train]
    bound = math.sqrt(6 / (h + c))
    weight = torch.from_numpy(rng.uniform(-bound, bound, (h, repeats * c))).to(vectors).requires_grad_()
    bias = torch.zeros(repeats * c, dtype=vectors.dtype, requires_grad=True)
    optimizer = torch.optim.Adam([weight, bias], lr=lr, weight_decay=weight_decay)
    for _ in range(steps):
        optimizer.zero_grad()
        logits = (x @ weight + bias).reshape(len(x), repeats, c)
        # Summed over repeats: the gradient of each is that of its own mean loss.
        loss = cross_entropy(logits.flatten(0, 1), y.repeat_interleave(repeats)) * repeats
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    with torch.no_grad():
        found = (vectors[graph.test] @ weight + bias).reshape(-1, repeats, c).argmax(dim=2)
    right = (found == graph.labels[graph.test][:, None]).double().mean(dim=0).numpy()
    return Estimate(float(right.mean()), float(right.std(ddof=1) / math.sqrt(repeats)), repeats)


def validated_probe(
    vectors: Tensor, graph: Graph, *, strengths: Sequence[float] = (0.01, 0.1, 1.0, 10.0, 100.0)
) -> ValidatedProbe:
    """Test accuracy of scikit-learn's logistic regression; the validation nodes choose the penalty, the smallest wins.

    Deterministic: the problem is convex. Vectors are divided by their root mean square over the training nodes.

    Args:
        vectors: frozen representations [n, h].
        graph: labels and split, with validation nodes.
        strengths: values of C to choose from.

    Raises:
        ValueError: no usable split, no validation nodes, strengths not above 0, or vectors of another number of nodes
            or not finite.
    """
    _check(vectors, graph)
    if not graph.val.any():
        raise ValueError(
            "choosing a penalty needs validation nodes, got none; pass a split with them, or linear_probe."
        )
    if not strengths or not all(math.isfinite(c) and c > 0 for c in strengths):
        raise ValueError(f"expected strengths of a penalty above 0, got {tuple(strengths)}; e.g. 0.01, 1 and 100.")
    x, y = vectors.detach().double().numpy(), graph.labels.numpy()
    train, val, test = (m.numpy() for m in (graph.train, graph.val, graph.test))
    x = x / np.sqrt((x[train] ** 2).mean())
    found = []
    for strength in strengths:
        fitted = LogisticRegression(C=strength, max_iter=2000).fit(x[train], y[train])
        found.append(ValidatedProbe(fitted.score(x[test], y[test]), fitted.score(x[val], y[val]), float(strength)))
    return max(found, key=lambda p: (p.validation, -p.strength))


def _check(vectors: Tensor, graph: Graph) -> None:
    check_split(graph)
    if vectors.ndim != 2 or len(vectors) != graph.nodes:
        raise ValueError(
            f"expected vectors [n, h] of the {graph.nodes} nodes, got {list(vectors.shape)}; embed the same graph."
        )
    if not bool(torch.isfinite(vectors).all()):
        raise ValueError("expected finite vectors to classify, got NaN or infinity; look at the training.")
