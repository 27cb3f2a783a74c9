"""Graphs written in the layouts that users have; the pickles of Planetoid included, for torch_geometric to read."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import torch
from scipy import sparse

from msda_theory.graph.graphs import Graph


def arrays(graph: Graph) -> dict[str, np.ndarray]:
    """The arrays of the npz format."""
    x = sparse.csr_matrix(graph.features.numpy())
    split = {f"{part}_idx": getattr(graph, part).nonzero()[:, 0].numpy() for part in ("train", "val", "test")}
    return {
        **{"x_indptr": x.indptr, "x_indices": x.indices, "x_data": x.data, "x_shape": np.array(x.shape)},
        **{"edge_index": graph.edges.numpy().astype(np.int32), "y": graph.labels.numpy()},
        **split,
    }


def write_npz(path: Path, graph: Graph) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **arrays(graph))


def write_planetoid(folder: Path, title: str, graph: Graph, test: list[int]) -> None:
    """Raw files of a graph whose first nodes are train, the next 500 val and the last those of ``test``, in its order.

    Nodes after the smallest of ``test`` that are not in it are in no feature file, like those of CiteSeer.
    """
    folder.mkdir(parents=True, exist_ok=True)
    x, y = graph.features.numpy(), np.eye(graph.classes, dtype=np.int32)[graph.labels.numpy()]
    neighbours: dict[int, list[int]] = {node: [] for node in range(graph.nodes)}
    for a, b in graph.edges.T.tolist():
        neighbours[a].append(b)
    train, first = int(graph.train.sum()), min(test)
    parts = {
        **{"x": sparse.csr_matrix(x[:train]), "tx": sparse.csr_matrix(x[test]), "allx": sparse.csr_matrix(x[:first])},
        **{"y": y[:train], "ty": y[test], "ally": y[:first], "graph": neighbours},
    }
    for part, value in parts.items():
        (folder / f"ind.{title.lower()}.{part}").write_bytes(pickle.dumps(value))
    (folder / f"ind.{title.lower()}.test.index").write_text("".join(f"{node}\n" for node in test))


def write_shchur(path: Path, graph: Graph) -> None:
    """The npz of the Amazon and Coauthor graphs, each edge in one direction and a self-loop at node 0."""
    path.parent.mkdir(parents=True, exist_ok=True)
    one = graph.edges[:, graph.edges[0] < graph.edges[1]].numpy()
    i, j = np.append(one[0], 0), np.append(one[1], 0)
    adjacency = sparse.csr_matrix((np.ones(len(i), dtype=np.float32), (i, j)), shape=(graph.nodes,) * 2)
    matrices = {"adj": adjacency, "attr": sparse.csr_matrix(3 * graph.features.numpy())}
    parts = {
        f"{name}_{part}": getattr(matrix, part)
        for name, matrix in matrices.items()
        for part in ("data", "indices", "indptr", "shape")
    }
    np.savez(path, **parts, labels=graph.labels.numpy())


def same(a: Graph, b: Graph, *fields: str) -> bool:
    """Whether all tensors, or those named, are equal."""
    fields = fields or ("features", "edges", "labels", "train", "val", "test")
    return all(torch.equal(getattr(a, f), getattr(b, f)) for f in fields)
