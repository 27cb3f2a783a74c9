"""Graph contrastive runs: one recipe on one graph with one seed, trained and measured."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from experiments.parallel import one_thread
from experiments.record import cached, code_digest, current
from experiments.strategies import strategy_from
from msda_theory.graph.encoders import Views
from msda_theory.graph.expansion import enumerated_negative_loss, expand_negatives, score_steps
from msda_theory.graph.graphs import Graph
from msda_theory.graph.hardness import select
from msda_theory.graph.information import information_kept
from msda_theory.graph.probes import linear_probe, validated_probe
from msda_theory.graph.readers import load_graph, normalize_rows
from msda_theory.graph.training import Hardness, Recipe, Trained, measure_hardness, train_contrastive
from msda_theory.graph.views import normalized_adjacency, ppr
from msda_theory.masks.dropmix import DropMix
from msda_theory.streams import stream

SOURCES = ("graph_runs.py", "strategies.py")
PACKAGE = ("graph/", "masks/", "moments/", "estimate.py", "data.py", "streams.py")
ROWS = ("citeseer",)  # features divided by their row sum, as the reference code does on CiteSeer alone
WEIGHT_DECAY = {"citeseer": 0.01}  # of the published linear evaluation; 0 elsewhere
BINS = np.linspace(-0.2, 1.0, 61)  # of histograms of hardness


@dataclass(frozen=True)
class GraphRun:
    """One training run.

    Attributes:
        data: name of the graph, see `load_graph`.
        seed: of first weights, shuffles, partners.
        strategy: law on the dimensions, as text.
        mode, low, high, loss, weights, epochs, patience, width: as in `Recipe`.
        teleport: of the diffusion.
        threshold: entries of the diffusion below it are dropped; 0 keeps the dense matrix.
        rows: whether rows of the features are divided by their sums; by default as `ROWS` says.
        search: precision of the search for hardness.
        shares: of mixed dimensions for which information and the expansion are measured too; none by default.
    """

    data: str = "cora"
    seed: int = 0
    strategy: str = "dropmix"
    mode: str = "per_view"
    low: float = 0.15
    high: float = 0.95
    loss: str = "bce"
    weights: str = "best"
    epochs: int = 600
    patience: int = 20
    width: int = 512
    teleport: float = 0.2
    threshold: float = 1e-3
    rows: bool | None = None
    search: str = "bfloat16"
    shares: tuple[float, ...] = ()

    @property
    def name(self) -> str:
        """Name of the run's file."""
        plain = {k: v for k, v in vars(self).items() if k not in ("data", "seed", "shares")}
        own = [f"{k}-{v}" for k, v in plain.items() if v != getattr(GraphRun, k)]
        text = "_".join([self.data, *own, *(["details"] if self.shares else []), str(self.seed)])
        return "".join(c if c.isalnum() or c in "-_." else "-" for c in text)

    def recipe(self) -> Recipe:
        """What `train_contrastive` is told."""
        return Recipe(
            strategy_from(self.strategy), self.mode, self.low, self.high, self.loss, epochs=self.epochs,
            patience=self.patience, width=self.width, weights=self.weights, search=self.search,
        )  # fmt: skip


def trained(run: GraphRun, folder: Path) -> dict[str, Any] | None:
    """The run's record if it is there and current."""
    return current(_place(run, folder), run, code_digest(*SOURCES, package=PACKAGE))


def train_one(run: GraphRun, root: Path, folder: Path, command: str) -> dict[str, Any]:
    """Train and measure, or read the record."""
    with one_thread():
        return cached(
            _place(run, folder),
            run,
            code_digest(*SOURCES, package=PACKAGE),
            command,
            lambda: _measure(run, root),
        )


@cache
def load(data: str, root: Path, rows: bool | None, teleport: float, threshold: float) -> tuple[Graph, Views]:
    """The graph and its views."""
    graph = load_graph(data, root, rng=stream(0, "graph_runs", "split"))  # drawn where the files hold no split
    graph = normalize_rows(graph) if (data in ROWS if rows is None else rows) else graph
    if threshold > 0:
        diffusion = ppr(graph, teleport=teleport, method="threshold", threshold=threshold)
    else:
        diffusion = ppr(graph, teleport=teleport, method="exact")
    return graph, Views.of(graph.features, normalized_adjacency(graph), diffusion)


def _place(run: GraphRun, folder: Path) -> Path:
    return folder / "graph_runs" / f"{run.name}.json"


def _measure(run: GraphRun, root: Path) -> dict[str, Any]:
    graph, views = load(run.data, root, run.rows, run.teleport, run.threshold)
    found = train_contrastive(views, run.recipe(), rng=stream(run.seed, "graph_runs", run.data))
    vectors = found.model.embed(views)
    published = linear_probe(
        vectors, graph, weight_decay=WEIGHT_DECAY.get(run.data, 0.0), rng=stream(run.seed, "probe")
    )
    result: dict[str, Any] = {
        "epochs": len(found.losses),
        "best": found.best,
        "loss": found.losses[found.best],
        "accuracy": published,
        "validated": validated_probe(vectors, graph),
    }
    return result | (_details(run, graph, views, found) if run.shares else {})


def _details(run: GraphRun, graph: Graph, views: Views, found: Trained) -> dict[str, Any]:
    """Hardness of fresh negatives, what mixing them leaves, and the expansion in them; of the trained encoders."""
    rng = stream(run.seed, "graph_runs", "details", run.data)
    order = torch.from_numpy(rng.permutation(graph.nodes))
    with torch.no_grad():
        nodes = found.model.represent(views, order)
    hard = measure_hardness(nodes)
    kept = select(hard.local, hard.global_)
    both = len(select(hard.local, hard.global_, mode="both"))
    sides = {
        "local": (nodes.local_negatives, nodes.local, kept.local, nodes.global_),
        "global": (nodes.global_negatives, nodes.global_, kept.global_, nodes.local),
    }
    rows = []
    for view, (negatives, positives, chosen, other) in sides.items():
        direction = found.model.direction(other).detach()
        bias = found.model.discriminator.bias.item()
        probe, test = _probe(negatives, graph.labels[order], chosen)
        for share in run.shares:
            rows.append(
                {"view": view, "share": share}
                | _information(negatives, positives, test, graph.labels[order], probe, share, rng)
                | _expansion(negatives[chosen], direction, bias, share)
            )
    return {
        "hardness": {v: np.histogram(h.clamp(-0.2, 1).numpy(), BINS)[0] for v, h in vars(hard).items()},
        "kept_by_each": len(kept) / graph.nodes,
        "kept_by_both": both / graph.nodes,
        "rank_agreement": _spearman(hard),
        "shares": rows,
    }


def _probe(negatives: torch.Tensor, classes: torch.Tensor, kept: torch.Tensor) -> tuple[Pipeline, torch.Tensor]:
    """A probe of the class of the node whose features a negative carries, fitted on half of the kept ones.

    Returns it with the other half.
    """
    kept = kept[classes[kept] >= 0]
    first, second = kept[::2], kept[1::2]
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
    return probe.fit(negatives[first].numpy(), classes[first].numpy()), second


def _information(
    negatives: torch.Tensor,
    positives: torch.Tensor,
    test: torch.Tensor,
    classes: torch.Tensor,
    probe: Pipeline,
    share: float,
    rng: np.random.Generator,
) -> dict[str, Any]:
    found = information_kept(
        negatives[test], positives, DropMix(share=share), probe=probe, classes=classes[test], rng=rng
    )
    return {"information": found}


def _expansion(vectors: torch.Tensor, direction: torch.Tensor, bias: float, share: float) -> dict[str, Any]:
    strategy = DropMix(share=share)
    steps = score_steps(vectors, direction, bias, strategy.moments((1, vectors.shape[1])))
    mixed = float(enumerated_negative_loss(vectors, direction, bias, strategy)[0])
    terms = {at: expand_negatives(steps, at=at) for at in ("data", "mean")}
    return {"mixed": mixed, **terms}


def _spearman(hard: Hardness) -> float:
    return float(stats.spearmanr(hard.local.numpy(), hard.global_.numpy()).statistic)
