"""Graphs for node classification, validated once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

DIRECTED = ("symmetrize", "error")


@dataclass(frozen=True, eq=False)
class Graph:
    """An undirected graph of n nodes with features, labels and a split.

    Isolated nodes are allowed: all that the views of a graph know of such a node is the self-loop that they add.
    Nodes whose features are all zero are allowed as well, as in CiteSeer; a graph of such nodes alone is not.
    Labels may be unknown and the masks empty, since contrastive training reads neither: `check_split` tells whether a
    graph can be evaluated.

    Attributes:
        features: float32 [n, F], dense.
        edges: int64 [2, E], each undirected edge in both directions, no self-loops, no duplicates, sorted by first node
            and then by second.
        labels: int64 [n], classes 0, 1, ..., or -1 where unknown.
        train, val, test: bool [n], disjoint.
        name: of the graph, for tables.

    Raises:
        TypeError: a tensor of another dtype.
        ValueError: shapes or devices that disagree, fewer than two nodes, no features, features that are not finite
            or all zero, edges out of range, not sorted, repeated, in one direction only or from a node to itself,
            labels below -1, or overlapping masks.
    """

    features: Tensor
    edges: Tensor
    labels: Tensor
    train: Tensor
    val: Tensor
    test: Tensor
    name: str = "graph"

    def __post_init__(self) -> None:
        tensors = {"features": torch.float32, "edges": torch.int64, "labels": torch.int64}
        for field, dtype in {**tensors, "train": torch.bool, "val": torch.bool, "test": torch.bool}.items():
            value = getattr(self, field)
            if not isinstance(value, Tensor) or value.dtype != dtype:
                got = value.dtype if isinstance(value, Tensor) else type(value).__name__
                raise TypeError(
                    f"expected {field} of a graph as a tensor of {dtype}, got {got}; convert it, or build the graph "
                    "with from_data."
                )
            if value.device != self.features.device:
                raise ValueError(
                    f"expected all tensors of a graph on {self.features.device}, got {field} on {value.device}; "
                    "move one of them."
                )
        _check_features(self.features)
        _check_edges(self.edges, self.nodes)
        _check_nodewise(self)

    @property
    def nodes(self) -> int:
        """The number n of nodes."""
        return len(self.features)

    @property
    def classes(self) -> int:
        """Largest label + 1; 0 if no label is known."""
        return int(self.labels.max()) + 1

    @property
    def degrees(self) -> Int64[Tensor, " n"]:
        """Neighbours of each node, 0 for an isolated one."""
        return torch.bincount(self.edges[0], minlength=self.nodes)


def _check_features(features: Tensor) -> None:
    if features.layout != torch.strided or features.ndim != 2 or len(features) < 2 or features.shape[1] < 1:
        raise ValueError(
            "expected dense features [n, F] of at least two nodes and one feature, got shape "
            f"{tuple(features.shape)} ({features.layout}); give one row for each node."
        )
    finite = torch.isfinite(features).all(dim=1)
    if not bool(finite.all()):
        raise ValueError(
            f"expected finite features, got NaN or infinity in node {int((~finite).nonzero()[0])} "
            f"({int((~finite).sum())} such nodes); repair or remove them."
        )
    if not bool(features.any()):
        raise ValueError(
            "expected features that tell nodes apart, got zeros alone; give e.g. one-hot rows, torch.eye(n)."
        )


def _check_range(edges: Tensor, nodes: int) -> None:
    if edges.ndim != 2 or len(edges) != 2:
        raise ValueError(f"expected edges of shape [2, E], got {tuple(edges.shape)}; give one column for each edge.")
    if edges.numel() and (int(edges.min()) < 0 or int(edges.max()) >= nodes):
        raise ValueError(
            f"expected edges between nodes 0 .. {nodes - 1}, got {int(edges.min())} .. {int(edges.max())}; "
            "number the nodes by the rows of the features."
        )


def _check_edges(edges: Tensor, nodes: int) -> None:
    _check_range(edges, nodes)
    loops = int((edges[0] == edges[1]).sum())
    if loops:
        raise ValueError(f"expected a graph without self-loops, got {loops}; drop them, or build it with from_data.")
    keys = edges[0] * nodes + edges[1]
    if not bool((keys.diff() > 0).all()):
        raise ValueError(
            "expected edges sorted by first and then by second node, none of them twice, got another order or a "
            "repeated edge; build the graph with from_data."
        )
    if not torch.equal((edges[1] * nodes + edges[0]).sort().values, keys):
        raise ValueError(
            "expected every edge in both directions, got some in one direction only; build the graph with from_data, "
            "which makes them undirected."
        )


def _check_nodewise(graph: Graph) -> None:
    for field in ("labels", "train", "val", "test"):
        shape = getattr(graph, field).shape
        if shape != (graph.nodes,):
            raise ValueError(
                f"expected {field} of shape [{graph.nodes}], one entry for each node, got {tuple(shape)}; reshape it."
            )
    if int(graph.labels.min()) < -1:
        raise ValueError(
            f"expected classes 0, 1, ... or -1 for an unknown label, got {int(graph.labels.min())}; relabel the nodes."
        )
    twice = int((graph.train.long() + graph.val.long() + graph.test.long() > 1).sum())
    if twice:
        raise ValueError(
            f"expected disjoint masks for train, val and test, got {twice} nodes in more than one; keep each in one."
        )


def check_split(graph: Graph) -> None:
    """Raise unless a classifier trained on the train nodes of ``graph`` can be evaluated on its test nodes.

    Raises:
        ValueError: no train or no test node, an unlabeled node in a mask (val included), or a class of the val or the
            test nodes that no train node has.
    """
    for field in ("train", "test"):
        if not bool(getattr(graph, field).any()):
            raise ValueError(
                f"evaluation needs train and test nodes, got no {field} node in {graph.name!r}; give masks, e.g. with "
                "random_split."
            )
    used = graph.train | graph.val | graph.test
    unknown = int((graph.labels[used] < 0).sum())
    if unknown:
        raise ValueError(
            f"evaluation needs a label for each node of the masks, got {unknown} without one in {graph.name!r}; take "
            "these nodes out of the masks."
        )
    missing = set(graph.labels[graph.val | graph.test].tolist()) - set(graph.labels[graph.train].tolist())
    if missing:
        raise ValueError(
            f"expected each class of the val and test nodes among the train nodes of {graph.name!r}, got none of "
            f"{sorted(missing)}; move some nodes of each class to train."
        )


def from_data(data: Any, *, name: str = "graph", directed: str = "symmetrize", split: int = 0) -> Graph:
    """The graph of a ``torch_geometric.data.Data`` object, or of anything that has its attributes.

    Read are ``x`` [n, F] (dense or sparse, any real dtype), ``edge_index`` [2, E], ``y`` and ``train_mask``,
    ``val_mask``, ``test_mask``. Self-loops and repeated edges are dropped. Weights and attributes of edges
    (``edge_weight``, ``edge_attr``) are ignored: the views of a graph take each edge as 1. Features lose precision
    beyond float32.

    Args:
        data: the object; it is left as it is.
        name: of the graph.
        directed: what to do with an edge that has no counterpart: ``"symmetrize"`` adds it, ``"error"`` raises.
        split: column of masks of shape [n, k] (k splits, e.g. WikiCS); masks [n] belong to every split.

    Returns:
        The graph. Labels [n, 1] are flattened and whole numbers in a float dtype converted; NaN, like a missing ``y``,
        becomes -1. A missing mask is empty.

    Raises:
        TypeError: edges that are not integers, complex features, or masks that are not boolean.
        ValueError: no ``x`` or ``edge_index``, one-sided edges under ``directed="error"``, labels that are not one
            class a node, a split that is not there, or what `Graph` refuses.
    """
    if directed not in DIRECTED:
        raise ValueError(f"expected directed among {list(DIRECTED)}, got {directed!r}; choose one of them.")
    x, index = getattr(data, "x", None), getattr(data, "edge_index", None)
    if x is None:
        raise ValueError(
            "expected node features data.x, got none; set them, e.g. data.x = torch.eye(n) or degrees in one column."
        )
    if index is None:
        raise ValueError("expected edges data.edge_index [2, E], got none; set it (adj_t and the like are not read).")
    features = torch.as_tensor(x).detach()
    if features.is_complex():
        raise TypeError(f"expected real features, got {features.dtype}; split them into real and imaginary parts.")
    if features.layout != torch.strided:
        features = features.to_dense()
    features = features.to(torch.float32)
    index = index.as_tensor() if hasattr(index, "as_tensor") else torch.as_tensor(index)  # EdgeIndex is a wrapper
    if index.is_floating_point() or index.is_complex() or index.dtype == torch.bool:
        raise TypeError(f"expected edge_index in integers, got {index.dtype}; give numbers of nodes.")
    if features.ndim != 2:
        raise ValueError(f"expected data.x of shape [n, F], got {tuple(features.shape)}; give one row for each node.")
    nodes = len(features)
    edges = undirected(index.long(), nodes, directed=directed)
    train, val, test = _masks(data, features, split)
    return Graph(features, edges, _labels(data, features), train, val, test, name)


def undirected(edges: Int64[Tensor, "..."], nodes: int, *, directed: str = "symmetrize") -> Int64[Tensor, "2 E"]:
    """Edges as `Graph` wants them, from edges [2, E'] in any order and number.

    Raises:
        ValueError: wrong shape, nodes out of range, or one-sided edges under ``directed="error"``.
    """
    _check_range(edges, nodes)
    first, second = edges[:, edges[0] != edges[1]]
    given = torch.unique(first * nodes + second)
    both = torch.unique(torch.cat([given, second * nodes + first]))
    if directed == "error" and len(both) != len(given):
        raise ValueError(
            f"expected undirected edges, got {len(both) - len(given)} in one direction only; pass "
            "directed='symmetrize' to add the other."
        )
    return torch.stack([both // nodes, both % nodes])


def _labels(data: Any, features: Tensor) -> Int64[Tensor, "..."]:
    nodes, y = len(features), getattr(data, "y", None)
    if y is None:
        return torch.full((nodes,), -1, device=features.device)
    labels = torch.as_tensor(y).detach()
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.shape != (nodes,):
        raise ValueError(
            f"expected labels y of shape [{nodes}] or [{nodes}, 1], one class for each node, got "
            f"{tuple(labels.shape)}; several labels a node or one for the whole graph cannot be used."
        )
    if labels.is_floating_point():
        labels = torch.where(labels.isnan(), -1.0, labels.double())
        if not bool(((labels == labels.round()) & labels.isfinite()).all()):
            raise ValueError("expected classes as whole numbers in y, got fractions or infinity; pass class indices.")
    return labels.long()


def _masks(data: Any, features: Tensor, split: int) -> list[Bool[Tensor, "..."]]:
    masks, several = [], False
    for field in ("train_mask", "val_mask", "test_mask"):
        mask = getattr(data, field, None)
        if mask is None:
            mask = torch.zeros(len(features), dtype=torch.bool, device=features.device)
        mask = torch.as_tensor(mask)
        if mask.dtype != torch.bool:
            raise TypeError(
                f"expected {field} in torch.bool, got {mask.dtype}; convert a 0/1 mask with .bool(), and a list of "
                "nodes with torch_geometric.utils.index_to_mask."
            )
        if mask.ndim == 2:
            if not 0 <= split < mask.shape[1]:
                raise ValueError(f"expected split in 0 .. {mask.shape[1] - 1} ({field}), got {split}; choose another.")
            mask, several = mask[:, split], True
        masks.append(mask)
    if split != 0 and not several:
        raise ValueError(f"expected masks of shape [n, k] for split={split}, got one split; leave split out.")
    return masks
