"""Benchmark graphs by name: from npz files, from the raw files of torch_geometric's data sets, or downloaded.

The npz format is that of `read_graph` and holds no pickle. Planetoid's raw files (``ind.cora.x`` and so on) are Python
pickles; they are read as data (`msda_theory.graph.stored`), and nothing that they hold is run.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

from msda_theory.files import FileError
from msda_theory.graph.extra import geometric
from msda_theory.graph.graphs import Graph, from_data
from msda_theory.graph.raw import dense, fit, planetoid, published_npz
from msda_theory.graph.splits import random_split
from msda_theory.npz import read_npz


@dataclass(frozen=True)
class Source:
    """Where a benchmark graph comes from.

    Attributes:
        dataset: class of ``torch_geometric.datasets``; its name in lower case is also a folder that is looked into.
        title: the name that this class takes, and the folder of the raw files.
        files: names of the raw files.
    """

    dataset: str
    title: str
    files: tuple[str, ...]

    @property
    def has_split(self) -> bool:
        """Whether a split was published with the graph."""
        return self.dataset == "Planetoid"

    def folders(self, root: Path) -> list[Path]:
        """Folders that are looked into: ``root`` itself, then by the data set's class."""
        return [root, root / self.dataset.lower(), root / self.dataset]


def _planetoid(title: str) -> Source:
    parts = ("x", "tx", "allx", "y", "ty", "ally", "graph", "test.index")
    return Source("Planetoid", title, tuple(f"ind.{title.lower()}.{part}" for part in parts))


#: The graphs of `load_graph`.
GRAPHS: dict[str, Source] = {
    "cora": _planetoid("Cora"),
    "citeseer": _planetoid("CiteSeer"),
    "pubmed": _planetoid("PubMed"),
    "amazon-computers": Source("Amazon", "Computers", ("amazon_electronics_computers.npz",)),
    "amazon-photo": Source("Amazon", "Photo", ("amazon_electronics_photo.npz",)),
    "coauthor-cs": Source("Coauthor", "CS", ("ms_academic_cs.npz",)),
    "coauthor-physics": Source("Coauthor", "Physics", ("ms_academic_phy.npz",)),
}

_ARRAYS = ("x_indptr", "x_indices", "x_data", "x_shape", "edge_index")
_SPLIT = ("train_idx", "val_idx", "test_idx")
_KINDS = dict.fromkeys((*_ARRAYS, "y", *_SPLIT), "numbers")


def load_graph(name: str, root: str | Path, *, download: bool = False, rng: np.random.Generator | None = None) -> Graph:
    """A benchmark graph, its features as they are in the files (0/1 but for PubMed, whose words are weighted).

    In ``root``, ``root/planetoid`` and ``root/Planetoid`` (``amazon``, ``coauthor`` for the others) are looked for, in
    this order: ``<name>.npz`` in the format of `read_graph`, and ``<Title>/raw/`` with the files that torch_geometric's
    data set downloads. All are undirected on the way, and self-loops
    and repeated edges dropped. CiteSeer's 15 nodes without a paper, which torch_geometric puts in class 0, have
    label -1 (they have edges, but no words). Features are dense: coauthor-physics takes 1.2 GB.

    Args:
        name: one of `GRAPHS`.
        root: folder of the data.
        download: let torch_geometric download files that are missing, into ``root/<data set's class in lower case>``.
        rng: for the split of graphs that have none, the Amazon and Coauthor graphs, by `random_split` with its default
            sizes; not used for others.

    Raises:
        FileNotFoundError: no such file, with the places that were looked into.
        ImportError: torch_geometric is needed (for downloads) and missing.
        OSError: the download failed.
        ValueError: an unknown name, a file that is not what it should be, or no rng where a split is to be drawn.
    """
    source = GRAPHS.get(name)
    if source is None:
        raise ValueError(f"expected a graph among {list(GRAPHS)}, got {name!r}; use from_data for your own.")
    root = Path(root)
    found = [folder / f"{name}.npz" for folder in source.folders(root) if (folder / f"{name}.npz").is_file()]
    if found:
        graph = read_graph(found[0], name=name)
    else:
        if not source.has_split and rng is None:
            raise ValueError(f"{name} has no published split; pass rng=numpy.random.default_rng(seed) to draw one.")
        graph = _read_raw(name, source, _raw_folder(name, source, root, download))
    if bool(graph.train.any()):
        return graph
    if rng is None:
        raise ValueError(f"{found[0]} holds no split; pass rng=numpy.random.default_rng(seed) to draw one.")
    return random_split(graph, rng=rng)


def read_graph(path: str | Path, *, name: str | None = None) -> Graph:
    """The graph of an npz file without pickles.

    Its arrays: the features in CSR (``x_indptr``, ``x_indices``, ``x_data``, ``x_shape``), ``edge_index`` [2, E],
    ``y`` [n] (-1 where unknown, may be missing), and the node numbers ``train_idx``, ``val_idx``, ``test_idx`` (all or
    none).

    Args:
        path: the file.
        name: of the graph; the file's by default.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file that is broken, lacks an array or holds one that does not fit, named with the file.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path} is not there; correct the path, or use load_graph to look for a benchmark.")
    try:
        arrays = read_npz(path, _KINDS, fit)
    except ValueError as error:
        raise FileError(f"{path}: expected an npz file without pickles, got: {error}") from error
    split = [key for key in _SPLIT if key in arrays]
    missing = [key for key in (*_ARRAYS, *(_SPLIT if split else ())) if key not in arrays]
    if missing:
        raise ValueError(
            f"{path}: expected the arrays of a graph, got none of {missing}; see read_graph for the format."
        )
    try:
        x = dense(*(arrays[f"x_{part}"] for part in ("data", "indices", "indptr", "shape")))
        masks = {f"{key[:-4]}_mask": _mask(arrays[key], len(x)) for key in split}
        data = SimpleNamespace(x=x, edge_index=arrays["edge_index"], y=arrays.get("y"), **masks)
        return from_data(data, name=name or path.stem)
    except (TypeError, ValueError, IndexError, OverflowError, MemoryError) as error:
        raise ValueError(f"{path}: the arrays do not make a graph: {error}; see read_graph for the format.") from error


def _mask(nodes: np.ndarray, count: int) -> np.ndarray:
    whole = nodes.ndim == 1 and nodes.dtype.kind in "iu"
    if not whole or len(np.unique(nodes)) != len(nodes) or ((nodes < 0) | (nodes >= count)).any():
        raise ValueError(f"expected a split of distinct node numbers in 0 .. {count - 1}, got others; write it again.")
    mask = np.zeros(count, dtype=bool)
    mask[nodes] = True
    return mask


def _raw_folder(name: str, source: Source, root: Path, download: bool) -> Path:
    folders = [folder / source.title / "raw" for folder in source.folders(root)]
    for folder in folders:
        if all((folder / file).is_file() for file in source.files):
            return folder
    if download:
        return _download(name, source, root)
    places = ", ".join(str(folder) for folder in source.folders(root))
    parts = [f for folder in folders for f in source.files if (folder / f).is_file()]
    absent = f" (there, but not all: {', '.join(parts)})" if parts else ""
    raise FileNotFoundError(
        f"expected {name}.npz, or {source.title}/raw with {', '.join(source.files)}, in one of {places}, got "
        f"neither{absent}; put them there, or pass download=True."
    )


def _download(name: str, source: Source, root: Path) -> Path:
    datasets = geometric("datasets")
    home = root / source.dataset.lower()
    try:
        with warnings.catch_warnings():
            getattr(datasets, source.dataset)(str(home), source.title)
    except Exception as error:  # of many libraries, by protocol
        raise OSError(
            f"torch_geometric could not download {name}: {error}; check the network, or put the files into "
            f"{home / source.title / 'raw'}."
        ) from error
    return home / source.title / "raw"


def _read_raw(name: str, source: Source, folder: Path) -> Graph:
    """Graph of the raw files of a data set, not written to disk in another form as its class does."""
    try:
        if source.has_split:
            return from_data(planetoid(folder, source.title.lower()), name=name)
        return from_data(published_npz(folder / source.files[0]), name=name)
    except FileError:
        raise
    except (TypeError, ValueError, IndexError, OverflowError, MemoryError) as error:
        raise FileError(f"{folder}: the files do not make the graph {name}: {error} Copy them again.") from error


def normalize_rows(graph: Graph) -> Graph:
    """The graph with features x_ij / sum_k x_ik (sums in float64); rows of zeros stay zeros.

    Raises:
        ValueError: negative features, whose sum is no size.
    """
    if bool((graph.features < 0).any()):
        raise ValueError("rows are divided by their sums, which needs features >= 0, got negative ones; shift them.")
    sums = graph.features.sum(dim=1, keepdim=True, dtype=torch.float64)
    return replace(graph, features=(graph.features / torch.where(sums > 0, sums, 1.0)).float())
