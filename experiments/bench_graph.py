"""Time and memory of graph contrastive learning: ``python -m experiments.bench_graph``.

- Cora with the published recipe (512 units): seconds an epoch and the projection to 600 epochs, for the search in
  float32 and in bfloat16, for the dense diffusion and the one without its entries below 1e-3; then one whole run of the
  default setting, early stop included. Aims, for the default: 3 minutes on two cores, 3 GB.
- A block model with the counts of PubMed (20,000 nodes, 500 words, 3 classes, about 45,000 edges): the sparse diffusion
  by threshold and by pushing; an epoch with the search in float32, in bfloat16, and without hardness. Aims, for
  bfloat16: 5 s, 8 GB; whether float32 reaches them is said too. Its degrees are Poisson's, PubMed's are heavier-tailed.
- Sparse over dense products with the diffusion of a block model of Cora's size, for several thresholds.
- What the search in bfloat16 changes in hardness and in what is kept.

Every setting runs in a fresh process with ``threads`` threads; all take turns in every round, so that a change of the
machine's load meets them all; ratios are within a round, reported are medians. Cora is read from ``--root`` or
MSDA_DATA, and left out where it is not there.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tyro
from tqdm import tqdm

from experiments import graph_runs
from experiments.graph_costs import in_fresh_process
from experiments.graph_runs import GraphRun
from experiments.record import RESULTS, check, code_digest, command_line, finish, plain, provenance, write_record
from msda_theory.graph.readers import load_graph

FULL = 600  # epochs of the published recipe, at most
RUN, RUN_MEMORY = 180.0, 3e9  # aims on Cora: seconds of a run, bytes
EPOCH, EPOCH_MEMORY = 5.0, 8e9  # aims on the large block model
LOSS = 3 * 2.0**-8  # most that a search in bfloat16 may lose of a hardness, see `hardness`


@dataclass(frozen=True)
class Config:
    """What is measured.

    Attributes:
        data: a benchmark graph.
        root: folder of the data; by default that in the environment variable MSDA_DATA, or ``data``.
        thresholds: of its diffusion; 0 is the dense one.
        nodes: of the large block model.
        views: its sparse diffusions, as "method threshold".
        diffusion: the one of ``views`` with which its epochs are measured.
        small: nodes of the block model after Cora, for products and the search.
        densities: thresholds for which products are measured.
        trained: epochs of the encoders whose search is compared.
        width: units of the encoders.
        warmup, epochs: epochs that are not counted, and epochs that are.
        whole: most epochs of the whole run; 0 leaves it out.
        rounds: fresh processes for each setting.
        products: rounds of the products, within one process.
        threads: of every process.
        out: where to write.
    """

    data: str = "cora"
    root: Path | None = None
    thresholds: tuple[float, ...] = (0.0, 1e-3)
    nodes: int = 20_000
    views: tuple[str, ...] = ("threshold 1e-3", "push 1e-3", "push 1e-4")
    diffusion: str = "push 1e-3"
    small: int = 2708
    densities: tuple[float, ...] = (1e-2, 3e-3, 1e-3, 5e-4, 3e-4, 1e-4)
    trained: int = 100
    width: int = 512
    warmup: int = 3
    epochs: int = 15
    whole: int = FULL
    rounds: int = 3
    products: int = 9
    threads: int = 2
    out: Path = RESULTS


def run(config: Config) -> dict[str, Any]:
    """Measure and write the record."""
    start = os.getloadavg()[0]
    cora, views, epochs = _benchmark_graph(config), _views(config), _large(config)
    products = _products(config)
    search = in_fresh_process(
        "searches", config.threads, style="cora", nodes=config.small, threshold=GraphRun.threshold, width=config.width,
        epochs=config.trained,
    )  # fmt: skip
    result = {"benchmark": cora, "views": views, "epochs": epochs, "products": products, "search": search}
    record = {
        "experiment": "bench_graph",
        "command": command_line("experiments.bench_graph", replace(config, out=RESULTS, root=None)),
        "config": plain(config),
        "result": {**result, "expectations": _expectations(result), "checks": _checks(result)},
        "code": code_digest(
            "bench_graph.py", "graph_costs.py", "memory.py", *graph_runs.SOURCES, package=graph_runs.PACKAGE
        ),
        "threads": config.threads,
        "load": [start, os.getloadavg()[0]],
        **provenance(),
    }
    for place in ("out", "root"):
        record["config"].pop(place)
    write_record(config.out / "bench_graph.json", record)
    return record


def _benchmark_graph(config: Config) -> dict[str, Any]:
    root = Path(os.environ.get("MSDA_DATA", "data")) if config.root is None else config.root
    try:
        load_graph(config.data, root)
    except FileNotFoundError:
        return {"left_out": f"no file of {config.data} under --root or MSDA_DATA", "rows": [], "whole": None}
    common = {"data": config.data, "root": str(root.resolve()), "width": config.width}
    settings = [
        {"search": search, "threshold": t, "warmup": config.warmup, "epochs": config.epochs, **common}
        for t in config.thresholds
        for search in ("float32", "bfloat16")
    ]
    rows = [
        {
            **{k: setting[k] for k in ("search", "threshold")},
            **_summary(found),
            "projected_s": statistics.median(f["views_s"] + FULL * statistics.median(f["seconds"]) for f in found),
        }
        for setting, found in zip(settings, _turns("epochs_of_data", settings, config, config.data), strict=True)
    ]
    default = {"search": GraphRun.search, "threshold": GraphRun.threshold, "epochs": config.whole}
    whole = in_fresh_process("whole_run", config.threads, **common, **default) if config.whole else None
    return {"left_out": None, "rows": _relative(rows), "whole": whole}


def _views(config: Config) -> list[dict[str, Any]]:
    settings = [{"style": "pubmed", "nodes": config.nodes, **_diffusion(text)} for text in config.views]
    rows = []
    for setting, found in zip(settings, _turns("view_of_blocks", settings, config, "views"), strict=True):
        spans = [f["seconds"] for f in found]
        rows.append(
            {
                **{k: setting[k] for k in ("method", "threshold")},
                **found[0],
                "seconds": statistics.median(spans),
                "cpu_s": statistics.median(f["cpu_s"] for f in found),
                "peak_bytes": max(f["peak_bytes"] for f in found),
                "rounds": spans,
            }
        )
    return rows


def _large(config: Config) -> list[dict[str, Any]]:
    settings = [
        {
            **{"style": "pubmed", "nodes": config.nodes, "search": search, "width": config.width},
            **{"warmup": 1, "epochs": max(1, config.epochs // 5), **_diffusion(config.diffusion)},
        }
        for search in ("float32", "bfloat16", None)
    ]
    turns = _turns("epochs_of_blocks", settings, config, "epochs")
    return _relative([{"search": s["search"], **_summary(f)} for s, f in zip(settings, turns, strict=True)])


def _diffusion(text: str) -> dict[str, Any]:
    method, threshold = text.split()
    return {"method": method, "threshold": float(threshold)}


def _turns(what: str, settings: list[dict[str, Any]], config: Config, title: str) -> list[list[dict[str, Any]]]:
    """What each setting costs in every round, all settings in turn."""
    rounds = [
        [in_fresh_process(what, config.threads, **setting) for setting in settings]
        for _ in tqdm(range(config.rounds), desc=title, unit="round")
    ]
    return [list(found) for found in zip(*rounds, strict=True)]


def _summary(found: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians over rounds of the medians over epochs; the largest memory."""
    medians = [statistics.median(f["seconds"]) for f in found]
    return {
        "epoch_s": statistics.median(medians),
        "min": min(medians),
        "max": max(medians),
        "cpu_s": statistics.median(statistics.median(f["cpu_s"]) for f in found),
        "views_s": statistics.median(f["views_s"] for f in found),
        "entries": found[0]["entries"],
        "peak_bytes": max(f["peak_bytes"] for f in found),
        "rounds": medians,
    }


def _relative(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows with their epochs over those of the first in the same round."""
    first = rows[0]["rounds"]
    ratios = [[a / b for a, b in zip(r["rounds"], first, strict=True)] for r in rows]
    return [{**r, "over_first": statistics.median(q), "ratios": q} for r, q in zip(rows, ratios, strict=True)]


def _products(config: Config) -> list[dict[str, Any]]:
    found = in_fresh_process(
        "products", config.threads, style="cora", nodes=config.small, thresholds=config.densities, width=config.width,
        rounds=config.products,
    )  # fmt: skip
    rows = []
    for row in found["rows"]:
        ratios = [a / b for a, b in zip(row["sparse_s"], row["dense_s"], strict=True)]
        rows.append({**row, "ratio": statistics.median(ratios), "min": min(ratios), "max": max(ratios)})
    return rows


def _checks(result: dict[str, Any]) -> list[dict[str, Any]]:
    """The aims for the default settings, and what `hardness` says of its search."""
    checks = []
    whole = result["benchmark"]["whole"]
    for row in _rows(result["benchmark"]["rows"], search=GraphRun.search, threshold=GraphRun.threshold):
        checks += [_within("600 epochs on the benchmark graph", "s", row["projected_s"], RUN)]
    if whole is not None:
        checks += [
            _within("a whole run on the benchmark graph", "s", whole["seconds"], RUN),
            _within("a whole run on the benchmark graph", "GB", whole["peak_bytes"] / 1e9, RUN_MEMORY / 1e9),
        ]
    for row in _rows(result["epochs"], search=GraphRun.search):
        checks += _epoch_aims("bfloat16 search", row)
    largest = max(v["peak_bytes"] for v in result["views"])
    lost = max(row["largest_difference"] for row in result["search"]["rows"])
    return [
        *checks,
        _within("sparse views of the large block model", "GB", largest / 1e9, EPOCH_MEMORY / 1e9),
        check(f"a bfloat16 search loses {LOSS:.3f} of hardness at most", lost <= LOSS, f"{lost:.5f}"),
    ]


def _expectations(result: dict[str, Any]) -> list[dict[str, Any]]:
    """The same aims where the default search is not used."""
    found = [_epoch_aims("float32 search", row) for row in _rows(result["epochs"], search="float32")]
    return [c for pair in found for c in pair]


def _epoch_aims(name: str, row: dict[str, Any]) -> list[dict[str, Any]]:
    title = f"an epoch on the large block model, {name}"
    return [
        _within(title, "s", row["epoch_s"], EPOCH),
        _within(title, "GB", row["peak_bytes"] / 1e9, EPOCH_MEMORY / 1e9),
    ]


def _within(name: str, unit: str, value: float, aim: float) -> dict[str, Any]:
    return check(f"{name} within {aim:g} {unit}", value <= aim, f"{value:.2f} {unit}")


def _rows(rows: Iterable[dict[str, Any]], **wanted: Any) -> list[dict[str, Any]]:
    return [r for r in rows if all(r[k] == v for k, v in wanted.items())]


if __name__ == "__main__":
    finish(run(tyro.cli(Config)))
