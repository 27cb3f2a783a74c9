"""DropMix (Ma, Chen, Li 2023): do harder, partly mixed negatives help graph contrastive learning? (D1-D3)

Two encoders on Cora and CiteSeer (`msda_theory.graph`, the published recipe), ten seeds: no mixing with all negatives
(MVGRL), hard negatives unmixed, Mixup of all dimensions, DropMix; hardness ranked by each view for itself, by the local
or the global one alone, by both. Sweeps of a few seeds over the share of mixed dimensions, the weight of the partner,
the kept part of the ranking, and settings: sum of both similarities, InfoNCE, longer patience, last weights, dense
diffusion, features.
Equal seeds have equal first weights and shuffles, so that differences are paired. Test accuracy of the published linear
evaluation on the public split, and of one whose penalty the validation nodes choose.

What the claims ask for, reported whatever comes of it (trials of the code with one seed had been seen):
- D3: DropMix is above no mixing on both graphs;
- D1: ranking by both views (``both``) is above each single view on both graphs;
- D2: the linear probe and the similarity lose less on a share of the dimensions than on all, on both graphs, and mixed
  negatives are harder than before (more than half of them, at the published share).

Cost: about 50 s of one core a run, 242 runs. Records: ``dropmix.json``, and one a run in ``graph_runs``.
Needs the graphs: ``--root``, or the environment variable MSDA_DATA.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from experiments import graph_runs
from experiments.dropmix_summary import summary
from experiments.graph_runs import GraphRun
from experiments.parallel import spread
from experiments.record import RESULTS, cached, code_digest, command_line, finish
from msda_theory.masks.dropmix import DropMix

SOURCES = (*graph_runs.SOURCES, "dropmix.py", "dropmix_summary.py", "layer_measures.py")
NONE = {"strategy": "vanilla", "low": 0.0, "high": 1.0}


@dataclass(frozen=True)
class Config:
    """Graphs, seeds, what is varied.

    Attributes:
        data: names of graphs, see `msda_theory.graph.readers.load_graph`.
        seeds: of the main comparison.
        sweep_seeds: of the sweeps, among ``seeds``.
        shares: of mixed dimensions; 0 is hard negatives unmixed, 1 Mixup.
        lams: weights of the partner.
        kept: parts of the ranking, as "low-high".
        epochs, width: of every run.
        patience: longer than the published one, in a sweep.
    """

    data: tuple[str, ...] = ("cora", "citeseer")
    seeds: tuple[int, ...] = tuple(range(10))
    sweep_seeds: tuple[int, ...] = (0, 1, 2)
    shares: tuple[float, ...] = (0.0, 1 / 12, 1 / 6, 1 / 3, 1 / 2, 1.0)
    lams: tuple[float, ...] = (0.1, 0.35, 0.5, 0.7)
    kept: tuple[str, ...] = ("0-1", "0.15-0.95", "0.15-1", "0.55-0.95")
    epochs: int = 600
    width: int = 512
    patience: int = 100

    def variants(self) -> dict[str, dict[str, Any]]:
        """What is compared over all seeds: name -> options of `GraphRun`."""
        measured = {"shares": self.shares}
        return {
            "none": NONE | measured,
            "hard": {"strategy": "dropmix(share=0.0)"},
            "mixup": {"strategy": "dropmix(share=1.0)"},
            "dropmix": measured,
            **{f"dropmix, {mode}": {"mode": mode} for mode in ("local", "global", "both")},
        }

    def sweeps(self) -> dict[str, dict[str, Any]]:
        """What is compared over a few seeds: name -> options."""
        default = GraphRun()
        law = DropMix()
        found: dict[str, dict[str, Any]] = {
            f"share {v:.3g}": {"strategy": f"dropmix(share={v:.6g})"} for v in self.shares if v not in (0, law.share, 1)
        }
        found |= {f"lam {v:g}": {"strategy": f"dropmix(lam={v:g})"} for v in self.lams if v != law.lam}
        for text in self.kept:
            low, high = map(float, text.split("-"))
            if (low, high) != (default.low, default.high):
                found[f"kept {text}"] = {"low": low, "high": high}
        found |= {"InfoNCE, none": NONE | {"loss": "info_nce"}, "InfoNCE, dropmix": {"loss": "info_nce"}}
        found["dropmix, sum"] = {"mode": "sum"}
        longer = {"patience": self.patience}
        found |= {f"patience {self.patience}, {k}": v | longer for k, v in (("none", NONE), ("dropmix", {}))}
        return found | {"last weights": {"weights": "last"}, "dense diffusion": {"threshold": 0.0}}

    def runs(self) -> Iterator[tuple[str, GraphRun]]:
        """Every run with the name of what it varies; published values of a sweep are runs of the main comparison."""
        for seed in self.seeds:
            for data in self.data:
                for name, options in self.variants().items():
                    yield name, self._run(data, seed, options)
        for seed in self.sweep_seeds:
            for data in self.data:
                for name, options in self.sweeps().items():
                    yield name, self._run(data, seed, options)
                rows = {"rows": data not in graph_runs.ROWS}
                yield "other features", self._run(data, seed, rows)

    def _run(self, data: str, seed: int, options: dict[str, Any]) -> GraphRun:
        return GraphRun(data, seed, epochs=self.epochs, width=self.width, **options)


def run(config: Config, *, jobs: int = 1, root: Path | None = None, folder: Path = RESULTS) -> dict[str, Any]:
    """Train and measure every run, and sum up."""
    root = Path(os.environ.get("MSDA_DATA", "data")) if root is None else root
    named = list(config.runs())
    command = command_line("experiments.dropmix", config)
    unique = list(dict.fromkeys(r for _, r in named))
    records = spread(_one, [(r, root, folder, command) for r in unique], jobs, "dropmix", known=_known)
    found = dict(zip(unique, records, strict=True))
    return cached(
        folder / "dropmix.json",
        config,
        code_digest(*SOURCES, package=graph_runs.PACKAGE),
        command,
        lambda: summary([(name, r, found[r]["result"]) for name, r in named], config.shares, list(config.variants())),
        parts=records,
    )


def _known(run: GraphRun, root: Path, folder: Path, command: str) -> dict[str, Any] | None:
    return graph_runs.trained(run, folder)


def _one(run: GraphRun, root: Path, folder: Path, command: str) -> dict[str, Any]:
    return graph_runs.train_one(run, root, folder, command)


def main(
    config: Annotated[Config, tyro.conf.arg(name="")] = Config(),
    jobs: int = os.cpu_count() or 1,
    root: Path | None = None,
) -> None:
    """Run over ``jobs`` processes; print what was expected and what came."""
    finish(run(config, jobs=jobs, root=root))


if __name__ == "__main__":
    tyro.cli(main)
