"""Graph, from_data, check_split and random_split: what they refuse, what they convert, against loops over edges."""

from __future__ import annotations

from types import SimpleNamespace

import mc_checks
import numpy as np
import pytest
import torch
from naive import as_users_run_it
from torch import Tensor

from msda_theory.graph.graphs import Graph, check_split, from_data, undirected
from msda_theory.graph.splits import random_split

NODES = 6


def parts(**changes: object) -> dict[str, object]:
    """A path 0 - 1 - 2 - 3, a node 4 alone and a node 5 alone without label; classes 0 and 1."""
    edges = [(0, 1), (1, 0), (1, 2), (2, 1), (2, 3), (3, 2)]
    masks = {name: torch.zeros(NODES, dtype=torch.bool) for name in ("train", "val", "test")}
    for name, nodes in (("train", [0, 1]), ("val", [2]), ("test", [3, 4])):
        masks[name][nodes] = True
    given = {
        "features": torch.eye(NODES)[:, :4].contiguous(),
        "edges": torch.tensor(edges).T.contiguous(),
        "labels": torch.tensor([0, 1, 0, 1, 0, -1]),
        **masks,
    }
    return {**given, **changes}


def with_nodes(nodes: list[int]) -> Tensor:
    mask = torch.zeros(NODES, dtype=torch.bool)
    mask[nodes] = True
    return mask


def pairs(*edges: tuple[int, int]) -> Tensor:
    return torch.tensor(edges, dtype=torch.int64).reshape(-1, 2).T.contiguous()


def test_a_graph_with_isolated_unlabeled_and_empty_nodes():
    graph = Graph(**parts(), name="path")
    assert (graph.nodes, graph.classes, graph.name) == (6, 2, "path")
    assert graph.degrees.tolist() == [1, 2, 2, 1, 0, 0]
    assert not graph.features[5].any()
    check_split(graph)


def test_a_graph_without_edges_labels_and_masks():
    empty = {name: with_nodes([]) for name in ("train", "val", "test")}
    graph = Graph(**parts(edges=pairs(), labels=torch.full((NODES,), -1), **empty))
    assert graph.classes == 0
    assert graph.degrees.tolist() == [0] * NODES


@pytest.mark.parametrize("field", ["features", "edges", "labels", "train", "val", "test"])
def test_other_dtypes_are_refused(field):
    with as_users_run_it():
        with pytest.raises(TypeError, match=f"expected {field} of a graph as a tensor of torch.*, got torch.int32"):
            Graph(**parts(**{field: parts()[field].int()}))
        with pytest.raises(TypeError, match=r"of a graph as a tensor of torch.*, got ndarray"):
            Graph(**parts(**{field: parts()[field].numpy()}))


def test_two_devices_are_refused():
    with pytest.raises(ValueError, match="expected all tensors of a graph on cpu, got labels on meta"):
        Graph(**parts(labels=torch.zeros(NODES, dtype=torch.int64, device="meta")))


@pytest.mark.parametrize("shape", [(6,), (1, 4), (0, 4), (6, 0), (6, 4, 1)], ids=str)
def test_features_of_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match=r"dense features .* of at least two nodes and one feature"):
        Graph(**parts(features=torch.ones(shape)))


def test_sparse_features_are_refused():
    with pytest.raises(ValueError, match=r"of at least two nodes and one feature.*sparse_coo"):
        Graph(**parts(features=parts()["features"].to_sparse()))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")], ids=str)
def test_features_that_are_not_finite_are_refused(value):
    features = parts()["features"].clone()
    features[4, 2] = value
    with pytest.raises(ValueError, match=r"got NaN or infinity in node 4 \(1 such nodes\)"):
        Graph(**parts(features=features))


def test_features_all_zero_are_refused():
    with pytest.raises(ValueError, match="features that tell nodes apart, got zeros alone"):
        Graph(**parts(features=torch.zeros(NODES, 4)))


@pytest.mark.parametrize("shape", [(6,), (3, 2), (2, 2, 2)], ids=str)
def test_edges_of_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match=r"expected edges of shape \[2, E\], got"):
        Graph(**parts(edges=torch.zeros(shape, dtype=torch.int64)))


@pytest.mark.parametrize("node", [-1, NODES])
def test_edges_to_nodes_that_are_not_there_are_refused(node):
    edges = pairs(*sorted([(0, node), (node, 0)]))
    with pytest.raises(ValueError, match=r"expected edges between nodes 0 .. 5, got"):
        Graph(**parts(edges=edges))
    with pytest.raises(ValueError, match=r"expected edges between nodes 0 .. 5, got"):
        from_data(SimpleNamespace(x=torch.eye(NODES), edge_index=edges))


def test_self_loops_are_refused():
    with pytest.raises(ValueError, match="expected a graph without self-loops, got 2"):
        Graph(**parts(edges=pairs((0, 0), (0, 1), (1, 0), (3, 3))))


@pytest.mark.parametrize(
    "edges",
    [[(1, 0), (0, 1)], [(0, 1), (0, 1), (1, 0), (1, 0)], [(0, 2), (0, 1), (1, 0), (2, 0)]],
    ids=["order", "twice", "second"],
)
def test_edges_in_another_order_or_repeated_are_refused(edges):
    with pytest.raises(ValueError, match="expected edges sorted by first and then by second node"):
        Graph(**parts(edges=pairs(*edges)))


@pytest.mark.parametrize("edges", [[(0, 1)], [(0, 1), (1, 2), (2, 0)], [(0, 1), (1, 0), (1, 2), (3, 1)]], ids=str)
def test_one_sided_edges_are_refused(edges):
    with pytest.raises(ValueError, match="expected every edge in both directions, got some in one direction"):
        Graph(**parts(edges=pairs(*edges)))


@pytest.mark.parametrize("field", ["labels", "train", "val", "test"])
@pytest.mark.parametrize("shape", [(5,), (6, 1), ()], ids=str)
def test_labels_and_masks_of_other_shapes_are_refused(field, shape):
    value = torch.zeros(shape, dtype=parts()[field].dtype)
    with pytest.raises(ValueError, match=rf"expected {field} of shape \[6\], one entry for each node, got"):
        Graph(**parts(**{field: value}))


def test_labels_below_minus_one_are_refused():
    with pytest.raises(ValueError, match=r"or -1 for an unknown label, got -2"):
        Graph(**parts(labels=torch.tensor([0, 1, 0, 1, 0, -2])))


@pytest.mark.parametrize(("first", "second"), [("train", "val"), ("train", "test"), ("val", "test")])
def test_overlapping_masks_are_refused(first, second):
    both = parts()[first] | parts()[second]
    count = int(parts()[second].sum())
    with pytest.raises(ValueError, match=f"expected disjoint masks for train, val and test, got {count} nodes"):
        Graph(**parts(**{first: both}))


@pytest.mark.parametrize("field", ["train", "test"])
def test_evaluation_needs_train_and_test_nodes(field):
    with pytest.raises(ValueError, match=f"evaluation needs train and test nodes, got no {field} node"):
        check_split(Graph(**parts(**{field: with_nodes([])})))
    check_split(Graph(**parts(val=with_nodes([]))))


@pytest.mark.parametrize("field", ["train", "val", "test"])
def test_evaluation_needs_labels_in_all_masks(field):
    mask = parts()[field].clone()
    mask[5] = True
    with pytest.raises(ValueError, match="evaluation needs a label for each node of the masks, got 1 without one"):
        check_split(Graph(**parts(**{field: mask})))


@pytest.mark.parametrize("node", [2, 4], ids=["val", "test"])
def test_evaluation_needs_every_class_in_train(node):
    labels = parts()["labels"].clone()
    labels[node] = 2
    with pytest.raises(
        ValueError, match=r"each class of the val and test nodes among the train nodes .* none of \[2\]"
    ):
        check_split(Graph(**parts(labels=labels)))


def naive_edges(edges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    return sorted({pair for a, b in edges if a != b for pair in ((a, b), (b, a))})


@pytest.mark.parametrize("seed", range(5))
def test_edges_of_a_user_against_a_loop(seed):
    """Twenty of the 36 pairs with repetition, self-loops among them."""
    given = np.random.default_rng(seed).integers(NODES, size=(2, 20))
    expected = naive_edges([tuple(pair) for pair in given.T.tolist()])
    graph = from_data(SimpleNamespace(x=torch.eye(NODES), edge_index=given.astype(np.int32)))
    assert [tuple(pair) for pair in graph.edges.T.tolist()] == expected
    again = undirected(
        graph.edges[:, torch.randperm(len(expected), generator=torch.Generator())], NODES, directed="error"
    )
    assert torch.equal(again, graph.edges)


def test_directed_edges():
    data = SimpleNamespace(x=torch.eye(4), edge_index=pairs((0, 1), (1, 0), (2, 1), (3, 3), (2, 1), (2, 3)))
    assert from_data(data).edges.T.tolist() == [[0, 1], [1, 0], [1, 2], [2, 1], [2, 3], [3, 2]]
    with pytest.raises(ValueError, match="expected undirected edges, got 2 in one direction only"):
        from_data(data, directed="error")
    with pytest.raises(ValueError, match=r"expected directed among .*, got 'keep'"):
        from_data(data, directed="keep")
    both = SimpleNamespace(x=torch.eye(4), edge_index=pairs((1, 0), (0, 1), (3, 3), (0, 1)))
    assert from_data(both, directed="error").edges.T.tolist() == [[0, 1], [1, 0]]


def torch_geometric_data(**changes: object) -> object:
    geometric = pytest.importorskip("torch_geometric.data", reason="torch_geometric is not installed")
    given = parts()
    fields = {"x": given["features"], "edge_index": given["edges"], "y": given["labels"]}
    fields |= {f"{name}_mask": given[name] for name in ("train", "val", "test")}
    return geometric.Data(**{**fields, **changes})


def test_data_of_torch_geometric():
    data = torch_geometric_data(edge_weight=torch.full((6,), 0.5), edge_attr=torch.ones(6, 3))
    graph, expected = from_data(data, name="mine"), Graph(**parts())
    for field in ("features", "edges", "labels", "train", "val", "test"):
        assert torch.equal(getattr(graph, field), getattr(expected, field)), field
    assert graph.name == "mine"


def test_an_edge_index_of_torch_geometric():
    data = torch_geometric_data()
    from torch_geometric import EdgeIndex

    data.edge_index = EdgeIndex(data.edge_index, sparse_size=(NODES, NODES))
    edges = from_data(data).edges
    assert type(edges) is Tensor
    assert torch.equal(edges, parts()["edges"])


def test_data_without_labels_and_masks():
    graph = from_data(torch_geometric_data(y=None, train_mask=None, val_mask=None, test_mask=None))
    assert graph.labels.tolist() == [-1] * NODES
    assert not (graph.train | graph.val | graph.test).any()
    with pytest.raises(ValueError, match="evaluation needs train and test nodes"):
        check_split(graph)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.int64, torch.bool], ids=str)
def test_features_are_converted(dtype):
    x = parts()["features"]
    graph = from_data(torch_geometric_data(x=x.to(dtype).requires_grad_(dtype.is_floating_point)))
    assert torch.equal(graph.features, x)
    assert not graph.features.requires_grad


@pytest.mark.parametrize("layout", ["to_sparse", "to_sparse_csr"])
@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")
def test_sparse_features_are_made_dense(layout):
    x = parts()["features"]
    assert torch.equal(from_data(torch_geometric_data(x=getattr(x, layout)())).features, x)


def test_data_without_features_or_edges():
    with pytest.raises(ValueError, match=r"expected node features data\.x, got none"):
        from_data(torch_geometric_data(x=None))
    with pytest.raises(ValueError, match=r"expected edges data.edge_index \[2, E\], got none"):
        from_data(torch_geometric_data(edge_index=None))
    with pytest.raises(ValueError, match=r"expected data.x of shape \[n, F\], got \(6,\)"):
        from_data(torch_geometric_data(x=torch.ones(NODES)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bool, torch.complex64], ids=str)
def test_edges_that_are_no_integers_are_refused(dtype):
    with pytest.raises(TypeError, match="expected edge_index in integers, got torch"):
        from_data(torch_geometric_data(edge_index=parts()["edges"].to(dtype)))


def test_complex_features_are_refused():
    with pytest.raises(TypeError, match=r"expected real features, got torch\.complex64"):
        from_data(torch_geometric_data(x=parts()["features"].to(torch.complex64)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int32, torch.int8], ids=str)
@pytest.mark.parametrize("shape", [(6,), (6, 1)], ids=str)
def test_labels_are_converted(dtype, shape):
    labels = parts()["labels"]
    assert torch.equal(from_data(torch_geometric_data(y=labels.to(dtype).reshape(shape))).labels, labels)


def test_labels_that_are_nan_are_unknown():
    y = torch.tensor([0.0, 1.0, float("nan"), 1.0, 0.0, -1.0])
    assert from_data(torch_geometric_data(y=y)).labels.tolist() == [0, 1, -1, 1, 0, -1]


@pytest.mark.parametrize("value", [0.5, float("inf")])
def test_labels_that_are_no_classes_are_refused(value):
    with pytest.raises(ValueError, match="expected classes as whole numbers in y, got fractions"):
        from_data(torch_geometric_data(y=torch.tensor([0, 1, 0, 1, 0, value])))


@pytest.mark.parametrize("shape", [(1,), (6, 2), (5,)], ids=str)
def test_labels_for_other_things_than_nodes_are_refused(shape):
    with pytest.raises(ValueError, match=r"expected labels y of shape \[6\] or \[6, 1\], one class for each node"):
        from_data(torch_geometric_data(y=torch.zeros(shape, dtype=torch.int64)))


def test_one_of_several_splits():
    """As in WikiCS: k splits of train and val, one test set."""
    train, val = torch.eye(NODES, dtype=torch.bool)[:, :2], torch.eye(NODES, dtype=torch.bool)[:, 2:4]
    data = torch_geometric_data(train_mask=train, val_mask=val, test_mask=with_nodes([4]))
    for split in (0, 1):
        graph = from_data(data, split=split)
        used = [getattr(graph, name).nonzero()[:, 0].tolist() for name in ("train", "val", "test")]
        assert used == [[split], [2 + split], [4]]
    for split in (-1, 2):
        with pytest.raises(ValueError, match=rf"expected split in 0 .. 1 \(train_mask\), got {split}"):
            from_data(data, split=split)
    with pytest.raises(ValueError, match=r"expected masks of shape \[n, k\] for split=1, got one split"):
        from_data(torch_geometric_data(), split=1)


@pytest.mark.parametrize("mask", [torch.ones(NODES, dtype=torch.uint8), torch.tensor([0, 1])], ids=["0/1", "index"])
def test_masks_of_other_dtypes_are_refused(mask):
    with pytest.raises(TypeError, match=r"expected val_mask in torch\.bool, got torch"):
        from_data(torch_geometric_data(val_mask=mask))


def test_wrong_masks_of_data_are_refused():
    with pytest.raises(ValueError, match=r"expected val of shape \[6\], one entry for each node"):
        from_data(torch_geometric_data(val_mask=torch.zeros(5, dtype=torch.bool)))
    with pytest.raises(ValueError, match="expected disjoint masks for train, val and test"):
        from_data(torch_geometric_data(val_mask=with_nodes([0])))


def labeled() -> Graph:
    """Classes of 3, 4 and 5 nodes and two nodes without label."""
    labels = torch.tensor([0, 1, 2, -1, 0, 1, 2, 0, 1, 2, 1, 2, 2, -1])
    none = torch.zeros(14, dtype=torch.bool)
    return Graph(torch.eye(14), pairs(), labels, none, none, none)


def test_a_random_split_has_its_sizes():
    graph = random_split(labeled(), train=1, val=1, rng=np.random.default_rng(0))
    for mask, counts in ((graph.train, [1, 1, 1]), (graph.val, [1, 1, 1]), (graph.test, [1, 2, 3])):
        assert torch.bincount(graph.labels[mask], minlength=3).tolist() == counts
    check_split(graph)
    again, other = (random_split(labeled(), train=1, val=1, rng=np.random.default_rng(seed)) for seed in (0, 1))
    assert torch.equal(again.train, graph.train)
    assert not torch.equal(other.train, graph.train)


def test_every_node_of_a_class_is_drawn_alike():
    """3,000 splits of 2 and 1 nodes a class, against the share of the class; the wrong law forgets the class sizes."""
    graph, rng = random_split(labeled(), train=2, val=0, rng=np.random.default_rng(0)), np.random.default_rng(1)
    assert not graph.val.any()
    with as_users_run_it():
        splits = [random_split(graph, train=1, val=1, rng=rng) for _ in range(3000)]
    sizes = torch.bincount(graph.labels.clamp(min=0), weights=(graph.labels >= 0).double())
    share = torch.where(graph.labels >= 0, 1 / sizes[graph.labels], 0.0).numpy()
    for name in ("train", "val"):
        drawn = np.stack([getattr(split, name).numpy() for split in splits])
        mc_checks.assert_unbiased(drawn, share)
        assert mc_checks.fails(lambda drawn=drawn: mc_checks.assert_unbiased(drawn, np.where(share > 0, 1 / 4, 0.0)))


def test_random_splits_that_cannot_be_drawn():
    rng = np.random.default_rng(0)
    for counts in ((0, 1), (1, -1)):
        with pytest.raises(ValueError, match="expected train >= 1 and val >= 0 nodes of each class, got"):
            random_split(labeled(), train=counts[0], val=counts[1], rng=rng)
    with pytest.raises(ValueError, match="expected more than 3 nodes in each class, got 3 in class 0"):
        random_split(labeled(), train=2, val=1, rng=rng)
    with pytest.raises(ValueError, match="a split by classes needs labels, got none in 'graph'"):
        random_split(from_data(SimpleNamespace(x=torch.eye(3), edge_index=pairs())), rng=rng)
    with as_users_run_it(), pytest.raises(TypeError, match=r"expected rng to be a numpy\.random\.Generator, got int"):
        random_split(labeled(), train=1, val=1, rng=3)
