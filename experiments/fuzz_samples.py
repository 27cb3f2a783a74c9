"""A whole file for every reader, how it is read, and how to tell that what was read is what the file holds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from scipy import sparse
from torch import Tensor, nn

from experiments import fuzz_formats as formats
from experiments import pictures, readers, weights
from experiments.checkpoints import Checkpoint, Checkpoints
from experiments.fuzz_values import held, same
from experiments.record import read_record
from figures.style import load
from msda_theory.graph.graphs import Graph
from msda_theory.graph.readers import load_graph, read_graph

Array = np.ndarray


@dataclass(frozen=True)
class Sample:
    """Files of one reader.

    Attributes:
        paths: files that are damaged, one in each case.
        read: the reader.
        valid: whether what was read is what the files hold.
        decoded: bytes that the undamaged content takes in memory.
    """

    paths: tuple[Path, ...]
    read: Callable[[], Any]
    valid: Callable[[Any], bool]
    decoded: int


def _written(folder: Path, **files: bytes) -> tuple[Path, ...]:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return tuple(folder / name for name in files)


def _images(rng: np.random.Generator, m: int, channels: int, side: int) -> tuple[Array, Array]:
    return rng.integers(0, 256, (m, channels, side, side), np.uint8), np.arange(m) % 4


def _cifar(folder: Path, rng: np.random.Generator, large: bool, *, label_bytes: int) -> Sample:
    x, y = _images(rng, 1000 if large else 4, 3, 32)
    (path,) = _written(folder, **{"batch.bin": formats.cifar(x, *[y] * label_bytes)})
    read = partial(
        readers.cifar_binary, [path], label_bytes=label_bytes, label_index=label_bytes - 1, classes=10**label_bytes
    )

    def valid(found: Any) -> bool:
        rows = np.frombuffer(path.read_bytes(), np.uint8).reshape(-1, label_bytes + 3072)
        return found[0].tobytes() == rows[:, label_bytes:].tobytes() and same(
            found[1], rows[:, label_bytes - 1].astype(np.int64)
        )

    return Sample((path,), read, valid, held(read()))


def _idx(folder: Path, rng: np.random.Generator, large: bool, *, packed: bool) -> Sample:
    x, y = _images(rng, 3000 if large else 7, 1, 28 if large else 5)
    ending = ".gz" if packed else ""
    names = (f"train-images-idx3-ubyte{ending}", f"train-labels-idx1-ubyte{ending}")
    parts = (formats.idx(x[:, 0], packed=packed), formats.idx(y, packed=packed))
    paths = _written(folder, **dict(zip(names, parts, strict=True)))
    read = partial(readers.idx, *paths, classes=4)
    whole = read()

    def valid(found: Any) -> bool:
        if packed:  # a checksum stands behind
            return same(found, whole)
        return all(p.read_bytes().endswith(v.astype(np.uint8).tobytes()) for p, v in zip(paths, found, strict=True))

    return Sample(paths, read, valid, held(whole))


def _npz(folder: Path, rng: np.random.Generator, large: bool, *, packed: bool) -> Sample:
    x, y = _images(rng, 500 if large else 4, 3, 64 if large else 6)
    arrays = {"x": x.transpose(0, 2, 3, 1), "y": y, "class_names": np.array(["a", "b", "größe", "d"])}
    (path,) = _written(folder, **{"train.npz": formats.npz(arrays, packed=packed)})
    whole = readers.npz(path)
    # An entry of another name does not count, so that class names may be lost with theirs.
    return Sample(
        (path,), partial(readers.npz, path), lambda v: same(v, whole) or same(v, (*whole[:2], None)), held(whole)
    )


def _names(folder: Path, rng: np.random.Generator, large: bool) -> Sample:
    count = 20_000 if large else 10
    (path,) = _written(folder, **{"names.txt": "".join(f"größe {k}\n" for k in range(count)).encode()})
    read = partial(readers.class_names, path, count)
    return Sample((path,), read, lambda v: len(v) == count and all(v), held(read()))


def _graph_parts(rng: np.random.Generator, nodes: int) -> tuple[Any, Array, Array]:
    x = sparse.csr_matrix((rng.random((nodes, 12)) < 0.3).astype(np.float32) + np.eye(nodes, 12, dtype=np.float32))
    return x, rng.integers(0, nodes, (2, 3 * nodes)), rng.integers(0, 3, nodes)


def _graph(folder: Path, rng: np.random.Generator, large: bool) -> Sample:
    nodes = 20_000 if large else 60
    x, edges, y = _graph_parts(rng, nodes)
    arrays = {
        **{"x_indptr": x.indptr, "x_indices": x.indices, "x_data": x.data, "x_shape": np.array(x.shape)},
        **{"edge_index": edges.astype(np.int32), "y": y},
        **{name: np.arange(k, nodes, 3) for k, name in enumerate(("train_idx", "val_idx", "test_idx"))},
    }
    (path,) = _written(folder, **{"own.npz": formats.npz(arrays)})
    read = partial(read_graph, path)
    whole = read()
    return Sample((path,), read, partial(_graph_valid, whole), held(whole))


def _graph_valid(whole: Graph, found: Graph) -> bool:
    """Equal; labels and the split may be missing, whose entries may have lost their names."""
    split = [torch.stack([g.train, g.val, g.test]) for g in (whole, found)]
    return (
        same((whole.features, whole.edges), (found.features, found.edges))
        and (same(whole.labels, found.labels) or bool((found.labels == -1).all()))
        and (same(*split) or not bool(split[1].any()))
    )


def _published(folder: Path, rng: np.random.Generator, large: bool) -> Sample:
    nodes = 20_000 if large else 200
    x, edges, _ = _graph_parts(rng, nodes)
    adjacency = sparse.csr_matrix((np.ones(edges.shape[1], np.float32), edges), shape=(nodes, nodes))
    parts = {"adj": adjacency, "attr": x}
    arrays: dict[str, Any] = {
        f"{name}_{part}": getattr(matrix, part)
        for name, matrix in parts.items()
        for part in ("data", "indices", "indptr", "shape")
    }
    raw = folder / "Photo" / "raw"
    (path,) = _written(raw, **{"amazon_electronics_photo.npz": formats.npz({**arrays, "labels": np.arange(nodes) % 2})})

    def read() -> Graph:
        return load_graph("amazon-photo", folder, rng=np.random.default_rng(0))

    whole = read()
    return Sample((path,), read, partial(_graph_valid, whole), held(whole))


def _planetoid(folder: Path, rng: np.random.Generator, large: bool) -> Sample:
    test = 20_000 if large else 30
    nodes = 520 + test
    x, edges, y = _graph_parts(rng, nodes)
    edges = edges[:, :test]
    one_hot, first = np.eye(3, dtype=np.int32)[y], nodes - test
    index = first + rng.permutation(test)
    near: dict[int, list[int]] = {node: [] for node in range(nodes)}
    for a, b in edges.T.tolist():
        near[a].append(b)

    def rows(part: Any) -> tuple[Any, ...]:
        return part.data, part.indices, part.indptr, part.shape

    parts = {
        **{"tx": rows(x[index]), "allx": rows(x[:first]), "y": one_hot[:20], "ty": one_hot[index]},
        **{"ally": one_hot[:first], "graph": near},
    }
    files = {f"ind.cora.{name}": formats.stored(value) for name, value in parts.items()}
    files["ind.cora.test.index"] = "".join(f"{node}\n" for node in index).encode()
    paths = _written(folder / "Cora" / "raw", **files, **{"ind.cora.x": formats.stored(rows(x[:20]))})
    read = partial(load_graph, "cora", folder)
    return Sample(paths[:-1], read, lambda v: isinstance(v, Graph), held(read()))


def _tensors(rng: np.random.Generator, large: bool) -> dict[str, Tensor]:
    wide = 700 if large else 6
    values = {"weight": rng.normal(size=(wide, wide)), "bias": rng.normal(size=wide)}
    return {name: torch.from_numpy(value).float() for name, value in values.items()}


def _weights(folder: Path, rng: np.random.Generator, large: bool, *, digest: bool) -> Sample:
    tensors = _tensors(rng, large)
    content = save(tensors)
    (path,) = _written(folder, **{"weights.safetensors": content})
    model, sha256 = nn.Linear(len(tensors["bias"]), len(tensors["bias"])), hashlib.sha256(content).hexdigest()

    def filled() -> dict[str, Tensor]:
        weights.load_weights(model, path, sha256)
        return dict(model.state_dict())

    if digest:
        return Sample((path,), filled, lambda v: same(v, tensors), held(tensors))
    return Sample(
        (path,),
        partial(weights.read_tensors, path),
        lambda v: held(v) <= 2 * path.stat().st_size + 2**16,
        held(tensors),
    )


def _checkpoint(folder: Path, rng: np.random.Generator, large: bool, *, older: bool) -> Sample:
    kept = Checkpoints(folder)
    found = [Checkpoint(step, _tensors(rng, large), {"threads": 1, "curve": [{"loss": 0.5}]}) for step in (3, 4)]
    for checkpoint in found if older else found[1:]:
        kept.write(checkpoint)

    def valid(value: Any) -> bool:
        if value is None:
            return not path.exists() and not path.is_symlink()
        return any(same(value, c) for c in found[0 if older else 1 :])

    path = kept.paths()[0]
    return Sample((path,), kept.newest, valid, held(found[1]))


def _record(folder: Path, rng: np.random.Generator, large: bool, *, figure: bool) -> Sample:
    rows = [{"strategy": "cutmix", "mean": v, "se": None, "näme": "größe"} for v in rng.random(20_000 if large else 5)]
    record = {
        "experiment": "gap",
        "config": {"draws": 4, "names": ["a"]},
        "result": {"rows": rows, "checks": []},
        "code": "0",
    }
    (path,) = _written(folder, **{"gap.json": json.dumps(record, ensure_ascii=large, indent=1).encode()})

    def valid(found: Any) -> bool:
        json.dumps(found, allow_nan=False, ensure_ascii=False).encode()
        return isinstance(found, dict) and (figure or all(isinstance(found[k], dict) for k in ("config", "result")))

    read = partial(load, folder, "gap") if figure else partial(_there, path)
    return Sample((path,), read, valid, held(read()))


def _there(path: Path) -> Any:
    found = read_record(path)
    if found is None:
        raise FileNotFoundError(f"{path}: no record, which is an answer; run the experiment.")
    return found


def _picture(folder: Path, rng: np.random.Generator, large: bool, *, kind: str) -> Sample:
    side = 600 if large else 32
    ramp = np.broadcast_to(np.linspace(0, 255, side).astype(np.uint8)[:, None, None], (side, side, 3))
    x = np.ascontiguousarray(ramp + rng.integers(0, 4, (side, side, 3), np.uint8))
    (path,) = _written(folder, **{f"a.{kind.lower()}": formats.picture(x, kind)})
    read = partial(pictures.read_picture, path, 16)
    return Sample((path,), read, lambda v: v.shape == (3, 16, 16) and v.dtype == np.uint8, 4 * side * side)


def _folders(folder: Path, rng: np.random.Generator, large: bool) -> Sample:
    content = formats.picture(np.zeros((8, 8, 3), np.uint8), "PNG")
    for name in ("a", "b"):
        _written(folder / "train" / name, **{f"{k}.png": content for k in range(500 if large else 3)})

    def valid(found: Any) -> bool:
        return len(found[0]) == len(found[1]) > 0 and set(found[1].tolist()) == set(range(len(found[2])))

    read = partial(pictures.class_folders, folder / "train")
    return Sample((folder / "train" / "b",), read, valid, held(read()))


READERS: dict[str, Callable[[Path, np.random.Generator, bool], Sample]] = {
    "CIFAR-10 binary": partial(_cifar, label_bytes=1),
    "CIFAR-100 binary": partial(_cifar, label_bytes=2),
    "idx": partial(_idx, packed=False),
    "idx.gz": partial(_idx, packed=True),
    "npz of images, stored": partial(_npz, packed=False),
    "npz of images, deflated": partial(_npz, packed=True),
    "class names": _names,
    "npz of a graph": _graph,
    "npz of Amazon and Coauthor": _published,
    "Planetoid": _planetoid,
    "weights of a record": partial(_weights, digest=True),
    "safetensors": partial(_weights, digest=False),
    "checkpoint": partial(_checkpoint, older=False),
    "checkpoint with an older one": partial(_checkpoint, older=True),
    "record": partial(_record, figure=False),
    "record of a figure": partial(_record, figure=True),
    **{f"picture, {kind}": partial(_picture, kind=kind) for kind in ("JPEG", "PNG", "WEBP", "BMP", "PPM")},
    "folder of pictures": _folders,
}
