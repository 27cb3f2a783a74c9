"""Graphs by name: made files in every layout, what is refused, and Cora and CiteSeer themselves."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from graph_files import arrays, same, write_npz, write_planetoid, write_shchur

from msda_theory.graph.graphs import Graph, check_split, undirected
from msda_theory.graph.readers import GRAPHS, load_graph, normalize_rows, read_graph
from msda_theory.graph.splits import random_split
from msda_theory.graph.synthetic import block_graph

DATA = Path(os.environ.get("MSDA_DATA", "/nowhere")) / "planetoid"
TITLES = {"cora": "Cora", "citeseer": "CiteSeer"}
needs_data = pytest.mark.skipif(
    not (DATA / "cora.npz").exists(), reason="MSDA_DATA does not hold planetoid/cora.npz and its neighbours"
)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def blocks() -> Graph:
    return block_graph((60, 70), 0.1, 0.02, features=12, signal=0.3, background=0.1, rng=rng())


def planetoid_graph(gaps: int) -> tuple[Graph, list[int]]:
    """A graph in Planetoid's order of nodes (40 train, 500 val, 10 in no mask, 30 test) and its shuffled test nodes.

    ``gaps`` nodes between the test nodes have no features, no edges and no label.
    """
    graph = block_graph((300, 280), 0.02, 0.005, features=12, signal=0.3, background=0.1, rng=rng(3), val=500, test=40)
    order = torch.cat([getattr(graph, name).nonzero()[:, 0] for name in ("train", "val", "test")])
    place = torch.empty_like(order)
    place[order] = torch.arange(580)
    lost = torch.tensor([555, 560, 570][:gaps], dtype=torch.int64)
    features, labels = graph.features[order], graph.labels[order]
    features[lost], labels[lost] = 0, -1
    edges = place[graph.edges]
    edges = edges[:, ~torch.isin(edges, lost).any(dim=0)]
    test = [node for node in rng(4).permutation(np.arange(550, 580)).tolist() if node not in lost.tolist()]
    masks = [torch.zeros(580, dtype=torch.bool) for _ in range(3)]
    for mask, nodes in zip(masks, (torch.arange(40), torch.arange(40, 540), torch.tensor(test)), strict=True):
        mask[nodes] = True
    return Graph(features, undirected(edges, 580), labels, *masks), test


def test_an_npz_gives_back_its_graph(tmp_path):
    graph = blocks()
    for place in ("cora.npz", "planetoid/citeseer.npz", "Planetoid/pubmed.npz"):
        write_npz(tmp_path / place, graph)
        loaded = load_graph(Path(place).stem, tmp_path)
        assert same(loaded, graph)
        assert loaded.name == Path(place).stem
    assert same(load_graph("cora", str(tmp_path)), graph)
    assert read_graph(tmp_path / "cora.npz", name="mine").name == "mine"


def test_files_need_no_torch_geometric_but_downloads_do(tmp_path, monkeypatch):
    for module in ("torch_geometric", "torch_geometric.io", "torch_geometric.datasets"):
        monkeypatch.setitem(sys.modules, module, None)
    write_npz(tmp_path / "cora.npz", blocks())
    assert same(load_graph("cora", tmp_path), blocks())
    graph, test = planetoid_graph(0)
    write_planetoid(tmp_path / "PubMed" / "raw", "PubMed", graph, test)
    assert same(load_graph("pubmed", tmp_path), graph)
    with pytest.raises(ImportError, match=r"graphs need torch_geometric, .* pip install 'msda_theory\[graph\]'"):
        load_graph("citeseer", tmp_path, download=True)


def test_an_npz_without_split_or_labels(tmp_path):
    graph = blocks()
    bare = {key: value for key, value in arrays(graph).items() if not key.endswith("_idx")}
    np.savez(tmp_path / "cora.npz", **bare)
    with pytest.raises(ValueError, match=r"cora\.npz holds no split; pass rng="):
        load_graph("cora", tmp_path)
    assert same(load_graph("cora", tmp_path, rng=rng(2)), random_split(graph, rng=rng(2)))
    del bare["y"]
    np.savez(tmp_path / "cora.npz", **bare)
    unknown = read_graph(tmp_path / "cora.npz")
    assert same(unknown, graph, "features", "edges")
    assert unknown.classes == 0
    assert not (unknown.train | unknown.val | unknown.test).any()


def test_the_split_of_an_npz_wins(tmp_path):
    write_npz(tmp_path / "amazon" / "amazon-photo.npz", blocks())
    assert same(load_graph("amazon-photo", tmp_path, rng=rng()), blocks())
    assert same(load_graph("amazon-photo", tmp_path), blocks())


@pytest.mark.parametrize("key", ["x_indptr", "x_indices", "x_data", "x_shape", "edge_index", "val_idx"])
def test_an_npz_that_lacks_an_array(tmp_path, key):
    np.savez(tmp_path / "cora.npz", **{k: v for k, v in arrays(blocks()).items() if k != key})
    with pytest.raises(ValueError, match=rf"cora\.npz: expected the arrays of a graph, got none of \['{key}'\]"):
        load_graph("cora", tmp_path)


BROKEN: dict[str, Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]] = {
    "column out of range": lambda a: {"x_indices": np.full_like(a["x_indices"], 12)},
    "rows whose difference wraps": lambda a: {
        "x_indptr": np.concatenate([a["x_indptr"][:5], [2**31 - 1, -(2**31)], a["x_indptr"][7:]]).astype(np.int32)
    },
    "negative column": lambda a: {"x_indices": np.full_like(a["x_indices"], -1)},
    "rows that go back": lambda a: {"x_indptr": a["x_indptr"][::-1].copy()},
    "more rows": lambda a: {"x_shape": np.array([131, 12])},
    "a shape of one number": lambda a: {"x_shape": np.array([130])},
    "a shape without numbers": lambda a: {"x_shape": np.array([], dtype=np.int64)},
    "a shape beyond memory": lambda a: {"x_shape": np.array([130, 2**45])},
    "an edge out of range": lambda a: {"edge_index": np.array([[0, 130], [1, 0]])},
    "edges in fractions": lambda a: {"edge_index": a["edge_index"] + 0.5},
    "labels of others": lambda a: {"y": a["y"][:-1]},
    "features that are not finite": lambda a: {"x_data": a["x_data"] * np.nan},
}


@pytest.mark.parametrize("name", ["x_shape", "y", "train_idx"])
def test_text_in_the_place_of_numbers(tmp_path, name):
    np.savez(tmp_path / "cora.npz", **{**arrays(blocks()), name: np.array(["a", "b"])})
    with pytest.raises(ValueError, match=rf"cora\.npz, array {name}: expected numbers, got dtype '<U1'"):
        read_graph(tmp_path / "cora.npz")


@pytest.mark.parametrize("change", BROKEN.values(), ids=BROKEN)
def test_an_npz_whose_arrays_are_wrong(tmp_path, change):
    given = arrays(blocks())
    np.savez(tmp_path / "cora.npz", **{**given, **change(given)})
    with pytest.raises(ValueError, match=r"cora\.npz: the arrays do not make a graph: "):
        load_graph("cora", tmp_path)


@pytest.mark.parametrize("nodes", [[0, 0], [130], [-1], [0.0], [[1, 2]]], ids=str)
def test_an_npz_whose_split_is_wrong(tmp_path, nodes):
    np.savez(tmp_path / "cora.npz", **{**arrays(blocks()), "val_idx": np.array(nodes)})
    with pytest.raises(ValueError, match=r"expected a split of distinct node numbers in 0 \.\. 129"):
        load_graph("cora", tmp_path)


def test_files_that_are_no_npz(tmp_path):
    path = tmp_path / "cora.npz"
    write_npz(path, blocks())
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"text", whole[:200] + bytes(200) + whole[400:]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"cora\.npz: expected an npz file without pickles, got: "):
            load_graph("cora", tmp_path)
    with path.open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(ValueError, match="expected an npz file without pickles, got: "):
        load_graph("cora", tmp_path)
    np.savez(path, x_data=np.array([{}], dtype=object))
    with pytest.raises(
        ValueError, match=r"expected an npz file without pickles, got: .*expected numbers, got dtype '.O'"
    ):
        load_graph("cora", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"other\.npz is not there; correct the path"):
        read_graph(tmp_path / "other.npz")


@pytest.mark.parametrize(("name", "title", "gaps"), [("pubmed", "PubMed", 0), ("citeseer", "CiteSeer", 3)])
@pytest.mark.parametrize("place", [".", "planetoid", "Planetoid"])
def test_raw_planetoid_files(tmp_path, name, title, gaps, place):
    """Every layout that is looked for; nodes in gaps of the test index have no label."""
    graph, test = planetoid_graph(gaps)
    write_planetoid(tmp_path / place / title / "raw", title, graph, test)
    loaded = load_graph(name, tmp_path)
    assert same(loaded, graph)
    assert int((loaded.labels < 0).sum()) == gaps
    check_split(loaded)
    assert sorted(p.name for p in (tmp_path / place / title).iterdir()) == ["raw"]


def test_an_npz_goes_before_raw_files(tmp_path):
    graph, test = planetoid_graph(0)
    write_planetoid(tmp_path / "PubMed" / "raw", "PubMed", graph, test)
    write_npz(tmp_path / "planetoid" / "pubmed.npz", blocks())
    assert same(load_graph("pubmed", tmp_path), blocks())


@pytest.mark.parametrize("name", [n for n, source in GRAPHS.items() if not source.has_split])
def test_graphs_without_a_public_split(tmp_path, name):
    """Words are 0/1, edges undirected, the split 20 and 30 of each class, by the seed."""
    source, graph = GRAPHS[name], blocks()
    write_shchur(tmp_path / source.dataset.lower() / source.title / "raw" / source.files[0], graph)
    with pytest.raises(ValueError, match=rf"{name} has no published split; pass rng="):
        load_graph(name, tmp_path)
    loaded = load_graph(name, tmp_path, rng=rng(7))
    assert same(loaded, random_split(graph, rng=rng(7)))
    assert torch.bincount(loaded.labels[loaded.train]).tolist() == [20, 20]
    assert torch.bincount(loaded.labels[loaded.val]).tolist() == [30, 30]
    assert torch.bincount(loaded.labels[loaded.test]).tolist() == [10, 20]
    assert not torch.equal(load_graph(name, tmp_path, rng=rng(8)).train, loaded.train)


@pytest.mark.parametrize("name", GRAPHS)
def test_downloads_are_torch_geometrics(tmp_path, monkeypatch, name):
    """With a stand-in for the network: the raw files land where the next call finds them."""
    datasets = pytest.importorskip("torch_geometric.datasets", reason="torch_geometric is not installed")
    source, calls = GRAPHS[name], []

    def download(dataset: object) -> None:
        calls.append(dataset)
        folder = Path(dataset.raw_dir)
        if source.dataset == "Planetoid":
            write_planetoid(folder, source.title, *planetoid_graph(0))
        else:
            write_shchur(folder / source.files[0], blocks())

    monkeypatch.setattr(getattr(datasets, source.dataset), "download", download)
    expected = planetoid_graph(0)[0] if source.has_split else random_split(blocks(), rng=rng())
    assert same(load_graph(name, tmp_path, download=True, rng=rng()), expected)
    assert same(load_graph(name, tmp_path, rng=rng()), expected)
    assert same(load_graph(name, tmp_path, download=True, rng=rng()), expected)
    assert len(calls) == 1


def test_a_download_that_fails(tmp_path, monkeypatch):
    datasets = pytest.importorskip("torch_geometric.datasets", reason="torch_geometric is not installed")

    def download(dataset: object) -> None:
        raise TimeoutError("no answer")

    monkeypatch.setattr(datasets.Planetoid, "download", download)
    with pytest.raises(OSError, match="torch_geometric could not download pubmed: no answer; check the network"):
        load_graph("pubmed", tmp_path, download=True)


def test_missing_files_are_named(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"expected cora\.npz, or Cora/raw with ind\.cora\.x, .* pass download="
    ):
        load_graph("cora", tmp_path)
    graph, test = planetoid_graph(0)
    write_planetoid(tmp_path / "Cora" / "raw", "Cora", graph, test)
    (tmp_path / "Cora" / "raw" / "ind.cora.graph").unlink()
    with pytest.raises(FileNotFoundError, match=r"\(there, but not all: ind\.cora\.x, .*; put them there"):
        load_graph("cora", tmp_path)


@pytest.mark.parametrize("part", ["allx", "graph", "test.index"])
def test_broken_raw_files(tmp_path, part):
    graph, test = planetoid_graph(0)
    write_planetoid(tmp_path / "Cora" / "raw", "Cora", graph, test)
    (tmp_path / "Cora" / "raw" / f"ind.cora.{part}").write_bytes(b"text")
    with pytest.raises(ValueError, match=rf"ind\.cora\.{part}: expected .*; copy the file again"):
        load_graph("cora", tmp_path)


def test_an_unknown_name(tmp_path):
    with pytest.raises(ValueError, match=r"expected a graph among \['cora', .*\], got 'Cora'; use from_data"):
        load_graph("Cora", tmp_path)


def test_rows_that_sum_to_one():
    graph = blocks()
    features = graph.features * torch.arange(1.0, 131.0)[:, None]
    features[7] = 0
    once = normalize_rows(replace(graph, features=features))
    expected = [[value / sum(row) if sum(row) else 0.0 for value in row] for row in features.tolist()]
    torch.testing.assert_close(once.features, torch.tensor(expected), rtol=1e-7, atol=0)
    assert not once.features[7].any()
    assert same(once, graph, "edges", "labels", "train", "val", "test")
    features[3, 0] = -1
    with pytest.raises(ValueError, match="rows are divided by their sums, which needs features >= 0"):
        normalize_rows(replace(graph, features=features))


# As published and as torch_geometric counts: nodes, edges in both directions, features, classes; nodes without a paper.
COUNTS = {"cora": (2708, 10556, 1433, 7, 0), "citeseer": (3327, 9104, 3703, 6, 15)}


@pytest.mark.data
@needs_data
@pytest.mark.parametrize("name", COUNTS)
def test_the_counts_of_real_graphs(name):
    graph = load_graph(name, DATA.parent)
    nodes, edges, features, classes, unlabeled = COUNTS[name]
    assert graph.features.shape == (nodes, features)
    assert graph.edges.shape == (2, edges)
    assert graph.classes == classes
    without = graph.labels < 0
    assert int(without.sum()) == unlabeled
    assert not graph.features[without].any()
    assert graph.features.unique().tolist() == [0.0, 1.0]
    assert torch.bincount(graph.labels[graph.train]).tolist() == [20] * classes
    assert (int(graph.val.sum()), int(graph.test.sum())) == (500, 1000)
    check_split(graph)


@pytest.mark.data
@needs_data
@pytest.mark.parametrize("name", COUNTS)
def test_npz_and_raw_files_hold_the_same_graph(name, tmp_path):
    """The raw files copied alone, so that they are what is read; torch_geometric's own data set, beside them."""
    datasets = pytest.importorskip("torch_geometric.datasets", reason="torch_geometric is not installed")
    source = GRAPHS[name]
    raw = tmp_path / source.title / "raw"
    raw.mkdir(parents=True)
    for file in source.files:
        (raw / file).write_bytes((DATA / source.title / "raw" / file).read_bytes())
    npz, loaded = load_graph(name, DATA.parent), load_graph(name, tmp_path)
    assert same(npz, loaded)
    data = datasets.Planetoid(str(tmp_path), source.title)[0]
    assert torch.equal(data.x, npz.features)
    assert sorted(data.edge_index.T.tolist()) == npz.edges.T.tolist()
    known = npz.labels >= 0
    assert torch.equal(data.y[known], npz.labels[known])
    assert not data.y[~known].any()
    for part in ("train", "val", "test"):
        assert torch.equal(data[f"{part}_mask"], getattr(npz, part))
