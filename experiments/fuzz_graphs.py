"""Whole files of graphs for the fuzzing of readers, and what was read of them compared with them."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import sparse

from experiments import fuzz_formats as formats
from experiments.fuzz_values import Sample, declared_npz, held, same, written
from msda_theory.graph.graphs import Graph
from msda_theory.graph.readers import load_graph, read_graph

Array = np.ndarray


def _graph_parts(rng: np.random.Generator, nodes: int) -> tuple[Any, Array, Array]:
    x = sparse.csr_matrix((rng.random((nodes, 12)) < 0.3).astype(np.float32) + np.eye(nodes, 12, dtype=np.float32))
    return x, rng.integers(0, nodes, (2, 3 * nodes)), rng.integers(0, 3, nodes)


def graph(folder: Path, rng: np.random.Generator, large: bool) -> Sample:
    """A graph in the format of `read_graph`."""
    nodes = 20_000 if large else 60
    x, edges, y = _graph_parts(rng, nodes)
    arrays = {
        **{"x_indptr": x.indptr, "x_indices": x.indices, "x_data": x.data, "x_shape": np.array(x.shape)},
        **{"edge_index": edges.astype(np.int32), "y": y},
        **{name: np.arange(k, nodes, 3) for k, name in enumerate(("train_idx", "val_idx", "test_idx"))},
    }
    (path,) = written(folder, **{"own.npz": formats.npz(arrays)})
    read = partial(read_graph, path)
    whole = read()
    return Sample((path,), read, partial(_graph_valid, whole), held(whole), declared_npz, 8.0, 4 * 2**20)


def _graph_valid(whole: Graph, found: Graph) -> bool:
    """Equal; labels and the split may be missing, whose entries may have lost their names."""
    split = [torch.stack([g.train, g.val, g.test]) for g in (whole, found)]
    return (
        same((whole.features, whole.edges), (found.features, found.edges))
        and (same(whole.labels, found.labels) or bool((found.labels == -1).all()))
        and (same(*split) or not bool(split[1].any()))
    )


def published(folder: Path, rng: np.random.Generator, large: bool) -> Sample:
    """A graph as Amazon's and Coauthor's were published."""
    nodes = 20_000 if large else 200
    x, edges, _ = _graph_parts(rng, nodes)
    adjacency = sparse.csr_matrix((np.ones(edges.shape[1], np.float32), edges), shape=(nodes, nodes))
    parts = {"adj": adjacency, "attr": x}
    arrays: dict[str, Any] = {
        f"{name}_{part}": getattr(matrix, part)
        for name, matrix in parts.items()
        for part in ("data", "indices", "indptr", "shape")
    }
    raw = folder / "Photo" / "raw"
    (path,) = written(raw, **{"amazon_electronics_photo.npz": formats.npz({**arrays, "labels": np.arange(nodes) % 2})})

    def read() -> Graph:
        return load_graph("amazon-photo", folder, rng=np.random.default_rng(0))

    whole = read()
    return Sample((path,), read, partial(_graph_valid, whole), held(whole), declared_npz, 8.0, 4 * 2**20)


def planetoid(folder: Path, rng: np.random.Generator, large: bool) -> Sample:
    """A graph in Planetoid's eight files, of which ``x`` is not read."""
    test = 20_000 if large else 30
    nodes = 520 + test
    x, edges, y = _graph_parts(rng, nodes)
    edges = edges[:, :test]
    one_hot, first = np.eye(3, dtype=np.int32)[y], nodes - test
    index = first + rng.permutation(test)
    near: dict[int, list[int]] = {node: [] for node in range(nodes)}
    for a, b in edges.T.tolist():
        near[a].append(b)

    def rows(part: Any) -> tuple[Any, ...]:
        return part.data, part.indices, part.indptr, part.shape

    parts = {
        **{"tx": rows(x[index]), "allx": rows(x[:first]), "y": one_hot[:20], "ty": one_hot[index]},
        **{"ally": one_hot[:first], "graph": near},
    }
    files = {f"ind.cora.{name}": formats.stored(value) for name, value in parts.items()}
    files["ind.cora.test.index"] = "".join(f"{node}\n" for node in index).encode()
    paths = written(folder / "Cora" / "raw", **files, **{"ind.cora.x": formats.stored(rows(x[:20]))})
    read = partial(load_graph, "cora", folder)
    contents = [path.read_bytes() for path in paths[:-1]]

    def valid(found: Any) -> bool:  # no checksum stands behind: a changed number is another graph
        if not isinstance(found, Graph) or [path.read_bytes() for path in paths[:-1]] != contents:
            return isinstance(found, Graph)
        return same((found.features, found.labels), (torch.from_numpy(x.toarray()), torch.from_numpy(y)))

    return Sample(paths[:-1], read, valid, held(read()), factor=80.0)
