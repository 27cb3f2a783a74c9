"""Costs of graph contrastive learning: seconds, entries and peak memory, each measured in a fresh process.

Peak memory is the largest resident size of that whole process (VmHWM), imports included. Seconds are of the clock on
the wall; ``cpu_s`` beside them is processor time of all threads, which other programs on the machine change less.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from experiments.graph_runs import GraphRun, load
from experiments.memory import peak_bytes
from experiments.record import ROOT
from msda_theory.graph.encoders import Views
from msda_theory.graph.graphs import Graph
from msda_theory.graph.hardness import Kept, select
from msda_theory.graph.products import FixedMatrix
from msda_theory.graph.sparse import sparsify
from msda_theory.graph.synthetic import block_graph
from msda_theory.graph.training import Recipe, measure_hardness, train_contrastive
from msda_theory.graph.views import lost_mass, normalized_adjacency, ppr
from msda_theory.streams import stream

WITHIN = 0.8  # share of edges within a class; 0.81 in Cora, 0.80 in PubMed


@dataclass(frozen=True)
class Style:
    """Published counts of a citation graph, after which a block model is drawn.

    Attributes:
        sizes: nodes of each class.
        edges: undirected edges.
        features: words.
        words: share of the words that a node has.
    """

    sizes: tuple[int, ...]
    edges: int
    features: int
    words: float

    def draw(self, nodes: int) -> Graph:
        """A graph of so many nodes, its classes and mean number of edges in proportion; always the same."""
        ends = np.round(np.cumsum((0, *self.sizes)) * (nodes / sum(self.sizes))).astype(int)
        sizes = np.diff(ends).tolist()
        pairs, inside = nodes * (nodes - 1) / 2, sum(s * (s - 1) / 2 for s in sizes)
        edges = self.edges * nodes / sum(self.sizes)
        p_in, p_out = WITHIN * edges / inside, (1 - WITHIN) * edges / (pairs - inside)
        background = 0.8 * self.words  # the rest are words of the node's own class
        return block_graph(
            sizes, min(1.0, p_in), min(1.0, p_out), features=self.features, background=background,
            signal=0.2 * self.words * len(sizes), rng=stream(0, "graph_costs"),
        )  # fmt: skip


STYLES = {
    "cora": Style((351, 217, 418, 818, 426, 298, 180), 5278, 1433, 0.0127),
    "pubmed": Style((4103, 7739, 7875), 44324, 500, 0.1),
}


def in_fresh_process(what: str, threads: int, **options: Any) -> dict[str, Any]:
    """What the function ``what`` of `COSTS` returns in a new process with so many threads, and its peak memory."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    environment = {**os.environ, **dict.fromkeys(names, str(threads))}
    command = [sys.executable, "-m", "experiments.graph_costs", what, json.dumps(options)]
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def epochs_of_data(
    data: str, root: str, search: str, threshold: float, width: int, warmup: int, epochs: int
) -> dict[str, Any]:
    """Epochs of the published recipe on a benchmark graph, and its views before."""
    run = GraphRun(data, threshold=threshold, search=search, width=width)
    with _Stopwatch() as clock:
        views = load(data, Path(root), run.rows, run.teleport, threshold)[1]
    return {"views_s": clock.seconds, "entries": views.global_.entries} | _epochs(views, run.recipe(), warmup, epochs)


def whole_run(data: str, root: str, search: str, threshold: float, width: int, epochs: int) -> dict[str, Any]:
    """A run of the published recipe from the file to the trained encoders, early stop included."""
    run = GraphRun(data, threshold=threshold, search=search, width=width, epochs=epochs)
    with _Stopwatch() as clock:
        views = load(data, Path(root), run.rows, run.teleport, threshold)[1]
        found = train_contrastive(views, run.recipe(), rng=stream(run.seed, "graph_runs", data))
    return {"seconds": clock.seconds, "cpu_s": clock.cpu, "epochs": len(found.losses)}


def view_of_blocks(style: str, nodes: int, method: str, threshold: float) -> dict[str, Any]:
    """The sparse PPR diffusion of a block model, its size, and the share of mass that it lost."""
    graph = STYLES[style].draw(nodes)
    with _Stopwatch() as clock:
        view = ppr(graph, method=method, threshold=threshold)
    peak = peak_bytes()
    lost = lost_mass(graph, view)
    return {
        "seconds": clock.seconds,
        "cpu_s": clock.cpu,
        "entries": view.values().numel(),
        "lost_mean": float(lost.mean()),
        "lost_max": float(lost.max()),
        "edges": graph.edges.shape[1] // 2,
        "peak_bytes": peak,
    }


def epochs_of_blocks(
    style: str, nodes: int, search: str | None, method: str, threshold: float, width: int, warmup: int, epochs: int
) -> dict[str, Any]:
    """Epochs on a block model: with this precision of the search, or with no ranking at all (None)."""
    graph = STYLES[style].draw(nodes)
    recipe = Recipe(width=width, low=0.0, high=1.0) if search is None else Recipe(width=width, search=search)
    with _Stopwatch() as clock:
        views = _views(graph, method, threshold)
    return {"views_s": clock.seconds, "entries": views.global_.entries} | _epochs(views, recipe, warmup, epochs)


def products(style: str, nodes: int, thresholds: Sequence[float], width: int, rounds: int) -> dict[str, Any]:
    """Sparse over dense product with the diffusion, backward pass included, for several thresholds.

    The right side is that of an epoch, [n, width]. Both take turns in every round; one round before the first is not
    counted.
    """
    graph = STYLES[style].draw(nodes)
    exact = ppr(graph)
    z = torch.from_numpy(stream(0, "products").normal(size=(graph.nodes, width)).astype(np.float32))
    dense = FixedMatrix(exact, exact.T)
    rows = []
    for threshold in thresholds:
        sparse = FixedMatrix.of(sparsify(exact, threshold=threshold).matrix, symmetric=True, sparse=True)
        pairs = [(_product(sparse, z), _product(dense, z)) for _ in range(rounds + 1)][1:]
        rows.append(
            {
                "threshold": threshold,
                "share": sparse.entries / graph.nodes**2,
                "sparse_s": [a for a, _ in pairs],
                "dense_s": [b for _, b in pairs],
            }
        )
    return {"rows": rows}


def searches(style: str, nodes: int, threshold: float, width: int, epochs: int) -> dict[str, Any]:
    """What a search in bfloat16 changes against one in float32: hardness and kept negatives of trained encoders."""
    graph = STYLES[style].draw(nodes)
    views = _views(graph, "threshold", threshold)
    found = train_contrastive(views, Recipe(width=width, epochs=epochs), rng=stream(0, "searches", "train"))
    order = torch.from_numpy(stream(0, "searches", "order").permutation(graph.nodes))
    with torch.no_grad():
        nodes_of = found.model.represent(views, order)
    full, rough = measure_hardness(nodes_of), measure_hardness(nodes_of, search="bfloat16")
    kept = [select(h.local, h.global_) for h in (full, rough)]
    rows = [
        {"view": name.rstrip("_")} | agreement(getattr(full, name), getattr(rough, name), *_of(kept, name))
        for name in ("local", "global_")
    ]
    return {"rows": rows, "epochs": len(found.losses)}


def agreement(full: Tensor, rough: Tensor, kept: Tensor, rough_kept: Tensor) -> dict[str, float]:
    """How far two hardnesses [n] of the same negatives, and what is kept by each, agree.

    Returns:
        ``same``: share of ``kept`` that is in ``rough_kept``; ``by_chance``: its mean for a random set of this size;
        ``equal``: share of negatives of equal hardness, to 1e-6; ``largest_difference``; ``spearman`` of the ranks.
    """
    difference = full - rough
    return {
        "same": torch.isin(kept, rough_kept).double().mean().item(),
        "by_chance": len(rough_kept) / len(full),
        "equal": (difference.abs() <= 1e-6).double().mean().item(),
        "largest_difference": difference.abs().max().item(),
        "spearman": float(stats.spearmanr(full.numpy(), rough.numpy()).statistic),
    }


COSTS: dict[str, Callable[..., dict[str, Any]]] = {
    f.__name__: f for f in (epochs_of_data, whole_run, view_of_blocks, epochs_of_blocks, products, searches)
}


class _Stopwatch:
    def __enter__(self) -> _Stopwatch:
        self._wall, self._process = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds, self.cpu = time.perf_counter() - self._wall, time.process_time() - self._process


def _views(graph: Graph, method: str, threshold: float) -> Views:
    return Views.of(graph.features, normalized_adjacency(graph), ppr(graph, method=method, threshold=threshold))


def _epochs(views: Views, recipe: Recipe, warmup: int, epochs: int) -> dict[str, Any]:
    """Seconds of each epoch after ``warmup`` ones; an epoch is what lies between two reports of the loss."""
    marks: list[tuple[float, float]] = []
    count = warmup + epochs + 1
    train_contrastive(
        views,
        replace(recipe, epochs=count, patience=count),
        rng=stream(0, "graph_costs", "epochs"),
        observe=lambda *_: marks.append((time.perf_counter(), time.process_time())),
    )
    wall, cpu = np.diff(np.array(marks), axis=0)[warmup:].T
    return {"seconds": wall.tolist(), "cpu_s": cpu.tolist()}


def _product(matrix: FixedMatrix, z: Tensor) -> float:
    """Seconds of ``B z`` and of its backward pass."""
    z = z.detach().requires_grad_()
    start = time.perf_counter()
    torch.autograd.backward(matrix @ z, z.detach())
    return time.perf_counter() - start


def _of(kept: Sequence[Kept], view: str) -> list[Tensor]:
    return [getattr(k, view) for k in kept]


if __name__ == "__main__":
    cost = COSTS[sys.argv[1]](**json.loads(sys.argv[2]))
    print(json.dumps({"peak_bytes": peak_bytes(), **cost}))
