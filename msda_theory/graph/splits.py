"""Random splits of the nodes of a graph."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from msda_theory.graph.graphs import Graph
from msda_theory.streams import seed_from, stream


def random_split(graph: Graph, *, train: int = 20, val: int = 30, rng: np.random.Generator) -> Graph:
    """The graph with ``train`` and ``val`` nodes of each class in these masks and all other labeled nodes in ``test``.

    The usual split of graphs without a public one: Shchur et al., "Pitfalls of Graph Neural Network Evaluation"
    (2018). Within a class every choice of nodes has the same probability; its masks replace those of ``graph``.

    Args:
        graph: with labels; nodes with label -1 are in no mask.
        train: nodes of each class for training, at least 1.
        val: nodes of each class for validation, possibly 0.
        rng: random generator.

    Raises:
        TypeError: rng is not a numpy.random.Generator.
        ValueError: no labels, a count out of range, or a class without a node left for the test.
    """
    if train < 1 or val < 0:
        raise ValueError(f"expected train >= 1 and val >= 0 nodes of each class, got {train} and {val}; change them.")
    masks = [torch.zeros(graph.nodes, dtype=torch.bool) for _ in range(3)]
    labels = graph.labels.cpu()
    if graph.classes == 0:
        raise ValueError(f"a split by classes needs labels, got none in {graph.name!r}; give labels to its nodes.")
    own = stream(seed_from(rng), "split")
    for label in sorted(set(labels[labels >= 0].tolist())):
        members = shuffled((labels == label).nonzero()[:, 0], rng=own)
        if len(members) <= train + val:
            raise ValueError(
                f"expected more than {train + val} nodes in each class, got {len(members)} in class {label} of "
                f"{graph.name!r}; lower train or val."
            )
        for mask, part in zip(masks, members.tensor_split((train, train + val)), strict=True):
            mask[part] = True
    masks = [mask.to(graph.labels.device) for mask in masks]
    return replace(graph, train=masks[0], val=masks[1], test=masks[2])


def shuffled(nodes: Tensor, *, rng: np.random.Generator) -> Tensor:
    """``nodes`` in a random order."""
    return nodes[torch.from_numpy(rng.permutation(len(nodes)))]
