"""Published files of graphs: Planetoid's as data, never run, and what is refused in them by name."""

from __future__ import annotations

import pickle
import time

import numpy as np
import pytest
from graph_files import arrays, write_npz, write_planetoid
from scipy import sparse

from msda_theory.graph.raw import csr, dense, fit, planetoid, published_npz
from msda_theory.graph.readers import load_graph
from msda_theory.graph.stored import read_stored
from msda_theory.graph.synthetic import block_graph

ROWS = (np.ones(3, np.float32), np.array([0, 2, 1]), np.array([0, 2, 3]), (2, 3))


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("dtype", ["<f4", ">f8", "<i8", "|u1", "|b1"])
def test_arrays_of_every_protocol(protocol, dtype):
    for value in (
        np.arange(6).reshape(2, 3).astype(dtype),
        np.asfortranarray(np.eye(3).astype(dtype)),
        np.zeros((0, 2), dtype),
    ):
        found = read_stored(pickle.dumps(value, protocol=protocol), "file")
        assert found.dtype == value.dtype
        np.testing.assert_array_equal(found, value)


@pytest.mark.parametrize("protocol", range(6))
def test_matrices_and_lists_of_every_protocol(protocol):
    matrix = sparse.csr_matrix(np.arange(6.0).reshape(2, 3))
    np.testing.assert_array_equal(
        dense(*read_stored(pickle.dumps(matrix, protocol=protocol), "file")), matrix.toarray()
    )
    lists = {k: list(range(k % 4)) for k in range(2500)}
    assert read_stored(pickle.dumps(lists, protocol=protocol), "file") == lists


def call(command: str) -> bytes:
    class Call:
        def __reduce__(self):
            return eval, (command,)

    return pickle.dumps(Call())


STORED = {
    "a call": (call("open('executed', 'w')"), r"it asks to import 'builtins eval', which no array needs"),
    "a call in a list": (b"(lcposix\nsystem\n.", "it asks to import 'posix system'"),
    "an instruction": (b"\x80\x02\x82\x01.", "an instruction EXT1, which no array needs"),
    "an instance": (b"(S'a'\niposix\nsystem\n.", "an instruction INST, which no array needs"),
    "many values": (b"]" * 5000 + b".", "more than 4096 values that are no part of another"),
    "a short tuple": (b"N\x86.", "a tuple of more values than there are"),
    "lists in lists": (b"]]a.", "a list of other things than numbers"),
    "keys": (b"}]Ns.", "keys that are neither numbers nor words"),
    "a key without value": (b"}(K\x01u.", "keys that are neither numbers nor words"),
    "a number as a list": (b"K\x01K\x01a.", "a int in the place of a list"),
    "an object": (
        b"ccopy_reg\n_reconstructor\n(c__builtin__\nobject\nc__builtin__\nobject\nNtR.",
        "an object of no kind that a graph has",
    ),
    "a dtype": (b"cnumpy\ndtype\n(S'f4'\nI0\nI1\ntR.", "a dtype in the place of an array"),
    "an array of objects": (pickle.dumps(np.array([None])), "a list of other things than numbers"),
    "an array without bytes": (
        pickle.dumps(np.zeros(300), 2).replace(b"M,\x01", b"M,\x02"),
        r"an array of shape \(556,\) with 2400 bytes",
    ),
    "a shape": (pickle.dumps(np.zeros((2, 2, 2))), r"an array of shape \(2, 2, 2\) with 64 bytes"),
    "a negative side": (
        pickle.dumps(np.zeros(300), 2).replace(b"M,\x01", b"J\xff\xff\xff\xff"),
        "or of a shape that is none",
    ),
    "text": (b"text", "expected arrays or lists as Planetoid stores them"),
    "nothing": (b".", "expected arrays or lists as Planetoid stores them"),
}


@pytest.mark.parametrize("case", STORED)
def test_a_file_that_holds_or_asks_for_something_else(tmp_path, monkeypatch, case):
    monkeypatch.chdir(tmp_path)
    content, match = STORED[case]
    with pytest.raises(ValueError, match=match):
        read_stored(content, "file")
    assert list(tmp_path.iterdir()) == []


def test_a_key_that_takes_forever_to_compare():
    """A tuple of twice itself, 200 times: its hash takes 2^200 steps."""
    start = time.monotonic()
    with pytest.raises(ValueError, match="keys that are neither numbers nor words"):
        read_stored(b"\x80\x02}q\x01)q\x00" + b"h\x00h\x00\x86q\x00" * 200 + b"h\x01h\x00K\x01s.", "file")
    assert time.monotonic() - start < 5


MATRICES = {
    "equally many": ({0: np.ones(2)}, "expected a matrix's values and their columns, equally many"),
    "two axes": ({0: np.ones((3, 1)), 1: np.zeros((3, 1), int)}, "equally many, each in one row"),
    "one side": ({3: (2,)}, r"expected a matrix's two sides and whole numbers for its places, got \(2,\)"),
    "fractions": ({1: np.zeros(3)}, "expected a matrix's two sides and whole numbers for its places"),
    "rows": ({3: (3, 3)}, "expected 4 row pointers, one more than rows, got 3"),
    "order": ({2: np.array([0, 4, 3])}, "expected row pointers that rise from 0 to the number of entries"),
    "wrap": ({2: np.array([0, 2**31 - 1, -(2**31)], np.int32), 3: (2, 3)}, "expected row pointers that rise from 0"),
    "columns": ({1: np.array([0, 3, 1])}, "expected row pointers .* and columns in range"),
}


@pytest.mark.parametrize("case", MATRICES)
def test_parts_that_make_no_matrix(case):
    change, match = MATRICES[case]
    with pytest.raises(ValueError, match=match):
        csr(*(change.get(k, part) for k, part in enumerate(ROWS)))


def test_a_matrix_is_dense_only_where_its_entries_bear_out_its_shape():
    np.testing.assert_array_equal(dense(*ROWS), [[1, 0, 1], [0, 1, 0]])
    with pytest.raises(
        ValueError, match=r"expected features of which at least one in 16,384 is stored, got 3 of 2 x 2,000"
    ):
        dense(*ROWS[:3], (2, 2000))
    rows = np.zeros(10**6 + 1, int)
    with pytest.raises(ValueError, match=r"at least one in 16,384 is stored, got 0 of 1,000,000 x 1,000"):
        dense(np.ones(0), np.zeros(0, int), rows, (10**6, 1000))


@pytest.fixture
def files(tmp_path):
    graph = block_graph((300, 280), 0.02, 0.005, features=12, signal=0.3, background=0.1, rng=np.random.default_rng(3))
    write_planetoid(tmp_path, "Cora", graph, list(range(550, 580)))
    return tmp_path


PARTS = {
    "graph of text": ("graph", {1: ["a"]}, r"ind\.cora\.graph: expected arrays or lists as Planetoid stores them"),
    "graph of numbers": (
        "graph",
        {1: 2},
        r"ind\.cora\.graph: expected a list of neighbours for each node, got another",
    ),
    "no graph": ("graph", [1], "expected a list of neighbours for each node"),
    "node below 0": ("graph", {0: [-1]}, "expected nodes from 0 up, got one below or beyond"),
    "node beyond": ("graph", {0: [2**31]}, "expected nodes from 0 up, got one below or beyond"),
    "edge beyond": ("graph", {0: [580]}, "the files do not make the graph cora: .* Copy them again"),
    "one axis": (
        "ally",
        np.zeros(550, int),
        r"ind\.cora\.ally: expected a matrix with a row for each node, got another",
    ),
    "too few rows": ("ally", np.zeros((549, 2), int), r"the files ind\.cora\.\* do not fit together; copy all eight"),
    "columns out of range": ("tx", sparse.csr_matrix(([1.0], [0], [0] + [1] * 30), (30, 12)), None),
}


@pytest.mark.parametrize("case", PARTS)
def test_planetoid_files_that_do_not_fit(files, case):
    part, value, match = PARTS[case]
    content = pickle.dumps(value)
    if match is None:
        value.indices[0] = 12
        content, match = pickle.dumps(value), r"ind\.cora\.tx: its numbers do not make a matrix \(expected row pointers"
    (files / f"ind.cora.{part}").write_bytes(content)
    raw = files / "Cora" / "raw"
    raw.mkdir(parents=True)
    for path in files.glob("ind.*"):
        path.rename(raw / path.name)
    with pytest.raises(ValueError, match=match):
        load_graph("cora", files)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("1 a", r"test\.index: expected a node number on each line, got other text"),
        ("-1", "expected a node number on each line"),
        ("9999999999", "expected a node number on each line"),
        ("550\n550", r"test\.index: expected distinct test nodes close together, got others"),
        ("1\n999999999", "expected distinct test nodes close together"),
        (" ", "expected distinct test nodes close together"),
    ],
)
def test_a_test_index_that_is_none(files, text, match):
    """A range of a billion nodes was made an array of."""
    (files / "ind.cora.test.index").write_text(text)
    with pytest.raises(ValueError, match=match):
        planetoid(files, "cora")


def test_one_list_in_many_places_makes_no_more_edges_than_the_file_has_bytes(files):
    near = [0] * 3000
    (files / "ind.cora.graph").write_bytes(pickle.dumps(dict.fromkeys(range(500), near)))
    with pytest.raises(ValueError, match="expected a list of neighbours for each node"):
        planetoid(files, "cora")


def test_shapes_of_arrays_that_make_no_graph(tmp_path):
    fit(tmp_path / "a.npz", {"x_indptr": (5,), "y": (4, 1), "edge_index": (2, 10**9)})
    matrix = {"x_data": (3,), "x_indices": (3,), "x_indptr": (5,), "x_shape": (2,)}
    fit(tmp_path / "a.npz", matrix)
    for change in ({"x_data": (4,)}, {"x_data": (3, 1), "x_indices": (3, 1)}, {"x_shape": (10**9,)}):
        with pytest.raises(ValueError, match=r"a\.npz: the parts of the matrix x have shapes .*; write the file anew"):
            fit(tmp_path / "a.npz", {**matrix, **change})
    for change in ({"y": (5,)}, {"y": ()}, {"edge_index": (3, 2)}, {"val_idx": (4, 4, 4)}):
        with pytest.raises(ValueError, match=r"a\.npz: array \w+ has shape .*, beyond \d rows; write the file anew"):
            fit(tmp_path / "a.npz", {**matrix, **change})


def test_a_published_npz_that_lacks_arrays(tmp_path):
    graph = block_graph((30, 30), 0.1, 0.02, features=12, signal=0.3, background=0.1, rng=np.random.default_rng(0))
    write_npz(tmp_path / "a.npz", graph)
    assert "x_data" in arrays(graph)
    with pytest.raises(ValueError, match=r"a\.npz: expected the arrays of a published graph, got none of \['adj_data'"):
        published_npz(tmp_path / "a.npz")
