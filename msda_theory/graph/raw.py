"""The files that benchmark graphs were published in, as arrays: Planetoid's eight, and the npz of Amazon and Coauthor.

Nothing in them is run, and no array is made larger than what the files hold makes plausible.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from scipy import sparse

from msda_theory.files import FileError, read_whole
from msda_theory.graph.stored import read_stored
from msda_theory.npz import Shapes, read_npz

_LONGEST = 2**28  # bytes of a file of Planetoid's, at most; the longest is a tenth of that
_SPARSEST = 2**14  # entries of a dense matrix for each one stored, at most
_ATTRIBUTES = tuple(f"{name}_{part}" for name in ("attr", "adj") for part in ("data", "indices", "indptr", "shape"))


def dense(data: Any, indices: Any, indptr: Any, shape: Any) -> np.ndarray:
    """A CSR matrix as a dense one; sides of the shape that its entries do not bear out are refused before.

    Raises:
        ValueError: if it is not a matrix, has over 1,024 columns more than entries, or stores less than one entry in
            16,384.
    """
    rows = csr(data, indices, indptr, shape)
    if rows.shape[1] > rows.nnz + 1024 or rows.shape[0] * rows.shape[1] > _SPARSEST * (rows.nnz + 1024):
        raise ValueError(
            f"expected features of which at least one in {_SPARSEST:,} is stored, got {rows.nnz:,} of "
            f"{rows.shape[0]:,} x {rows.shape[1]:,}; drop columns that no node has."
        )
    return rows.toarray()


def fit(path: Path, shapes: Shapes) -> None:
    """Refuse an npz file whose arrays cannot be matrices, edges and labels of one graph.

    Raises:
        ValueError: then.
    """
    for name in ("x", "attr", "adj"):
        names = [f"{name}_{part}" for part in ("data", "indices", "indptr", "shape")]
        parts = [shapes[part] for part in names if part in shapes]
        if len(parts) < 4:  # what is missing is said elsewhere
            continue
        if parts[0] != parts[1] or any(len(part) != 1 for part in parts) or parts[3][0] > 2:
            raise FileError(f"{path}: the parts of the matrix {name} have shapes {parts}; write the file anew.")
    counts = [s[0] - 1 for name in ("x_indptr", "attr_indptr") if (s := shapes.get(name))]
    nodes = counts[0] if counts else 2**40
    for name, shape in shapes.items():
        most = 2 if name == "edge_index" else nodes
        if not name.startswith(("x_", "attr_", "adj_")) and (len(shape) not in (1, 2) or shape[0] > most):
            raise FileError(f"{path}: array {name} has shape {list(shape)}, beyond {most} rows; write the file anew.")


def csr(data: Any, indices: Any, indptr: Any, shape: Any) -> sparse.csr_matrix:
    """A checked CSR matrix of its parts.

    Raises:
        ValueError: if they do not make one.
        TypeError: if they are not numbers.
    """
    sides = tuple(int(side) for side in shape)
    counts = [np.asarray(part).dtype.kind for part in (indices, indptr)]
    if any(np.ndim(part) != 1 for part in (data, indices, indptr)) or len(data) != len(indices):
        raise ValueError("expected a matrix's values and their columns, equally many, each in one row; write it anew.")
    if len(sides) != 2 or min(sides) < 0 or max(sides) >= 2**31 or not set(counts) <= set("iu"):
        raise ValueError(f"expected a matrix's two sides and whole numbers for its places, got {shape}; write it anew.")
    if len(indptr) != sides[0] + 1:
        raise ValueError(f"expected {sides[0] + 1} row pointers, one more than rows, got {len(indptr)}; write it anew.")
    # In 64 bits: scipy's own check subtracts in the type of the file, where a difference can wrap and be positive.
    starts, columns = (np.asarray(part).astype(np.int64) for part in (indptr, indices))
    ordered = ((starts >= 0) & (starts <= len(data))).all() and starts[0] == 0 and (np.diff(starts) >= 0).all()
    if not ordered or starts[-1] != len(data) or not ((columns >= 0) & (columns < sides[1])).all():
        raise ValueError("expected row pointers that rise from 0 to the number of entries, and columns in range.")
    matrix = sparse.csr_matrix((data, columns, starts), shape=sides)
    matrix.check_format(full_check=True)
    return matrix


def planetoid(folder: Path, title: str) -> SimpleNamespace:
    """Features, edges, labels and masks of Planetoid's files ``ind.<title>.*``, as `from_data` takes them.

    Train are the nodes of ``x``, val the next 500, test those of ``test.index``. Nodes in gaps of that index have no
    features and the label -1.

    Raises:
        FileNotFoundError: if a file is missing.
        ValueError: if one is broken, or they do not fit together.
    """
    parts = {}
    for part in ("tx", "allx", "y", "ty", "ally", "graph"):
        path = folder / f"ind.{title}.{part}"
        content = read_whole(path, most=_LONGEST)
        parts[part] = found = read_stored(content, str(path))
        if part == "graph":
            parts[part] = _edges(found, len(content), path)
        elif part in ("tx", "allx"):
            parts[part] = _checked(path, dense, found) if isinstance(found, tuple) else _matrix(found, path)
        else:
            parts[part] = _matrix(found, path)
    index = _test_index(folder / f"ind.{title}.test.index")
    allx, tx, ally, ty = (parts[name] for name in ("allx", "tx", "ally", "ty"))
    first, nodes, train = len(allx), int(index.max()) + 1, len(parts["y"])
    fits = len(ally) == first == index.min() and len(tx) == len(ty) == len(index) and train + 500 <= nodes
    if not fits or tx.shape[1:] != allx.shape[1:] or ty.shape[1:] != ally.shape[1:] or 0 in ally.shape:
        raise FileError(f"{folder}: the files ind.{title}.* do not fit together; copy all eight from one source.")
    x, y = np.zeros((nodes, allx.shape[1]), np.float32), np.full(nodes, -1)
    x[:first], x[index], y[:first], y[index] = allx, tx, ally.argmax(1), ty.argmax(1)
    masks = {name: np.zeros(nodes, bool) for name in ("train_mask", "val_mask", "test_mask")}
    masks["train_mask"][:train] = masks["val_mask"][train : train + 500] = masks["test_mask"][index] = True
    return SimpleNamespace(x=x, edge_index=parts["graph"], y=y, **masks)


def published_npz(path: Path) -> SimpleNamespace:
    """Features (1 where the file has a positive number), edges and labels of an Amazon or Coauthor graph.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is broken or not such a file.
    """
    kinds = dict.fromkeys((*_ATTRIBUTES, "labels"), "numbers")
    arrays = read_npz(path, kinds, fit)
    if missing := sorted(set(kinds) - set(arrays)):
        raise FileError(f"{path}: expected the arrays of a published graph, got none of {missing}; copy it again.")
    attributes, adjacency = ([arrays[name] for name in part] for part in (_ATTRIBUTES[:4], _ATTRIBUTES[4:]))
    edges = _checked(path, csr, adjacency).tocoo()
    x = _checked(path, dense, attributes).astype(np.float32)
    x[x > 0] = 1
    index = np.stack([edges.row, edges.col]).astype(np.int64)
    return SimpleNamespace(x=x, edge_index=index, y=arrays["labels"])


def _checked(path: Path, make: Any, parts: Any) -> Any:
    try:
        return make(*parts)
    except (ValueError, TypeError, LookupError, OverflowError, MemoryError) as error:
        raise FileError(f"{path}: its numbers do not make a matrix ({error}); copy it again.") from error


def _matrix(found: Any, path: Path) -> np.ndarray:
    if not isinstance(found, np.ndarray) or found.ndim != 2:
        raise FileError(f"{path}: expected a matrix with a row for each node, got another object; copy it again.")
    return found


def _edges(found: Any, length: int, path: Path) -> np.ndarray:
    """Edges [2, E] of a dict of neighbour lists; a list that the file has once and names often is no way to more."""
    lists: dict[Any, Any] = found if isinstance(found, dict) else {None: None}
    whole = all(type(node) is int and type(near) is list for node, near in lists.items())
    if (
        not whole
        or sum(map(len, lists.values())) > length
        or not all(type(n) is int for v in lists.values() for n in v)
    ):
        raise FileError(f"{path}: expected a list of neighbours for each node, got another object; copy it again.")
    both = [[node for node, near in lists.items() for _ in near], [n for near in lists.values() for n in near]]
    if any(not 0 <= node < 2**31 for side in both for node in side):
        raise FileError(f"{path}: expected nodes from 0 up, got one below or beyond 2^31; copy the file again.")
    return np.array(both, dtype=np.int64)


def _test_index(path: Path) -> np.ndarray:
    """The test nodes, one a line; distinct, and at most half of their range missing."""
    words = read_whole(path, most=_LONGEST).split()
    if not all(word.isdigit() and len(word) < 10 for word in words):
        raise FileError(f"{path}: expected a node number on each line, got other text; copy the file again.")
    index = np.array([int(word) for word in words], dtype=np.int64)
    if len(index) == 0 or len(np.unique(index)) != len(index) or index.max() - index.min() >= 2 * len(index):
        raise FileError(f"{path}: expected distinct test nodes close together, got others; copy the file again.")
    return index
