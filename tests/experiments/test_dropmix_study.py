"""The study of DropMix: a tiny run of it whole, its summary by hand, its tables and figures."""

from __future__ import annotations

import json

import numpy as np
import pytest
from graph_files import write_npz
from scipy import stats

from experiments import dropmix, graph_runs, tables_dropmix
from experiments.record import failed
from figures import dropmix as figure
from msda_theory.graph.synthetic import block_graph

CONFIG = dropmix.Config(
    data=("cora", "citeseer"),
    seeds=(0, 1, 2),
    sweep_seeds=(0, 1),
    shares=(0.0, 1 / 6, 0.5, 1.0),
    lams=(0.35, 0.5),
    kept=("0.15-0.95", "0.5-0.9"),
    epochs=12,
    width=24,
)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Two small graphs under the names of the real ones."""
    folder = tmp_path_factory.mktemp("graphs")
    for k, name in enumerate(CONFIG.data):
        rng = np.random.default_rng([9, k])
        write_npz(
            folder / f"{name}.npz",
            block_graph([60, 50, 60], 0.1, 0.01, features=40, signal=0.3, val=30, test=60, rng=rng),
        )
    return folder


@pytest.fixture(scope="module")
def tiny(root, tmp_path_factory):
    folder = tmp_path_factory.mktemp("dropmix")
    return dropmix.run(CONFIG, root=root, folder=folder), folder


def parts(folder):
    return [json.loads(p.read_text()) for p in sorted((folder / "graph_runs").glob("*.json"))]


def accuracy(folder, data, seed, probe="accuracy", **options):
    wanted = {"strategy": "dropmix", "mode": "per_view", "low": 0.15, "loss": "bce", "weights": "best"} | options
    wanted |= {
        "threshold": 1e-3,
        "rows": None,
        "patience": 20,
        "high": options.get("high", 0.95),
        "data": data,
        "seed": seed,
    }
    found = [r["result"] for r in parts(folder) if all(r["config"][k] == v for k, v in wanted.items())]
    assert len(found) == 1
    return found[0]["accuracy"]["mean"] if probe == "accuracy" else found[0]["validated"]["accuracy"]


def row_of(record, data, name):
    return next(r for r in record["result"]["rows"] if (r["data"], r["name"]) == (data, name))


def test_every_run_is_made_once(tiny):
    _, folder = tiny
    runs = [r for _, r in CONFIG.runs()]
    assert len(parts(folder)) == len(runs) == len(set(runs)) == len({r.name for r in runs})
    assert len(runs) == 2 * (3 * 7 + 2 * (1 + 1 + 1 + 2 + 1 + 2 + 2 + 1))


def test_published_values_are_the_defaults():
    recipe = graph_runs.GraphRun().recipe()
    assert (recipe.low, recipe.high, recipe.epochs, recipe.patience, recipe.width) == (0.15, 0.95, 600, 20, 512)
    assert (recipe.lr, recipe.weight_decay, recipe.loss, recipe.mode) == (1e-3, 2e-3, "bce", "per_view")
    assert (recipe.strategy.lam, recipe.strategy.share, recipe.strategy.dims) == (0.35, 1 / 6, "strided")


def test_accuracies_and_paired_differences_are_those_of_the_parts(tiny):
    record, folder = tiny
    none = {"strategy": "vanilla", "low": 0.0, "high": 1.0}
    for probe in ("accuracy", "validated"):
        key = "published" if probe == "accuracy" else "validated"
        a = np.array([accuracy(folder, "cora", s, probe) for s in CONFIG.seeds])
        b = np.array([accuracy(folder, "cora", s, probe, **none) for s in CONFIG.seeds])
        row = row_of(record, "cora", "dropmix")
        assert row["seeds"] == 3
        assert row[key]["mean"] == pytest.approx(a.mean(), rel=1e-4)
        d = row[f"{key}_minus_none"]
        half = stats.t.ppf(0.975, 2) * (a - b).std(ddof=1) / np.sqrt(3)
        assert d["mean"] == pytest.approx((a - b).mean(), rel=1e-4, abs=1e-9)
        assert d["half"] == pytest.approx(half, rel=1e-4, abs=1e-9)
        told = "above" if d["mean"] > half else "below" if d["mean"] < -half else "not told"
        assert d["told"] == told


def test_sweeps_are_compared_with_the_same_seeds(tiny):
    record, folder = tiny
    row = row_of(record, "citeseer", "lam 0.5")
    own = [accuracy(folder, "citeseer", s, strategy="dropmix(lam=0.5)") for s in CONFIG.sweep_seeds]
    base = [accuracy(folder, "citeseer", s) for s in CONFIG.sweep_seeds]
    assert row["seeds"] == row["published_minus_dropmix"]["seeds"] == 2
    assert row["published_minus_dropmix"]["mean"] == pytest.approx(np.subtract(own, base).mean(), abs=1e-6)


def test_what_no_mixing_cannot_change_does_not(tiny):
    record, _ = tiny
    names = [c["check"] for c in record["result"]["checks"]]
    assert names[1:] == [
        "without mixed dimensions nothing changes",
        "the quadratic term is positive wherever something is mixed",
    ]
    assert all("representations" in text for text in failed(record))  # twelve epochs need not be enough
    for row in record["result"]["information"]:
        explained = [k for k in row if k.startswith("explained")]
        assert bool(explained) == (row["share"] > 0)
        if row["share"] == 1:
            assert row["similarity"]["mean"] < 0.999


def test_the_expansion_in_the_record_is_near_the_enumerated_change(tiny):
    """At the mean the second order is nearly all, for weights of the partner as small as these."""
    record, _ = tiny
    for row in record["result"]["information"]:
        if row["share"] > 0:
            assert row["at_mean"]["mean"] == pytest.approx(row["rise"]["mean"], abs=0.1 * abs(row["clean"]["mean"]))
            assert row["at_data"]["mean"] == pytest.approx(row["r1"]["mean"] + row["r2"]["mean"], rel=1e-3, abs=1e-7)


def test_parts_are_kept(tiny, root):
    record, folder = tiny
    before = {p.name: p.stat().st_mtime_ns for p in (folder / "graph_runs").glob("*.json")}
    (folder / "dropmix.json").unlink()
    assert dropmix.run(CONFIG, root=root, folder=folder)["result"] == record["result"]
    assert {p.name: p.stat().st_mtime_ns for p in (folder / "graph_runs").glob("*.json")} == before


def test_tables_and_figures_come_from_the_record(tiny, tmp_path):
    record, folder = tiny
    found = tables_dropmix.blocks({"dropmix": record})
    assert len(found["dropmix-accuracy"].splitlines()) == 2 + 2 * 7
    assert len(found["dropmix-pairs"].splitlines()) == 2 + 2 * 9
    assert len(found["dropmix-sweeps"].splitlines()) == 2 + 11
    assert len(found["dropmix-information"].splitlines()) == 2 + 2 * 2 * 4
    assert len(found["dropmix-expansion"].splitlines()) == 2 + 2 * 2 * 3
    assert found["dropmix-expectations"].count("hold") == 4
    assert "python -m experiments.dropmix --seeds 0 1 2" in found["dropmix-setting"]
    for name in ("d1", "d2", "d3"):
        assert "\n" not in found[name]
        assert "Cora" in found[name]
    files = figure.draw(folder, tmp_path) + figure.draw_hardness(folder, tmp_path)
    assert {f.name for f in files} == {f"dropmix{k}.{e}" for k in ("", "_hardness") for e in ("pdf", "png")}
    first = [f.read_bytes() for f in files]
    assert first == [f.read_bytes() for f in figure.draw(folder, tmp_path) + figure.draw_hardness(folder, tmp_path)]
