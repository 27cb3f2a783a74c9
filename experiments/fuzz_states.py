"""Whole weights, checkpoints and records for the fuzzing of readers, and what was read compared with them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor, nn

from experiments import own_models, weights
from experiments.checkpoints import Checkpoint, Checkpoints
from experiments.fuzz_values import Sample, held, same, written
from experiments.record import read_record
from figures.style import load

_JSON = 80.0  # times its length in memory: a list or an object without values takes 2 characters, and 64 bytes or more
_ENTRIES = 6 * 2**20  # of tensors, each of which takes 2 kB whatever its size
_TYPES = {
    **{"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "BOOL": torch.bool},
    **{f"I{bits}": getattr(torch, f"int{bits}") for bits in (8, 16, 32, 64)},
    **{f"U{bits}": getattr(torch, f"uint{bits}") for bits in (8, 16, 32, 64)},
    **{"F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2, "C64": torch.complex64},
}


def _tensors(rng: np.random.Generator, large: bool) -> dict[str, Tensor]:
    wide = 700 if large else 6
    values = {"weight": rng.normal(size=(wide, wide)), "bias": rng.normal(size=wide)}
    return {name: torch.from_numpy(value).float() for name, value in values.items()}


def weights_file(folder: Path, rng: np.random.Generator, large: bool, *, reader: str) -> Sample:
    """Weights read for a record, by "safetensors" alone, or for an "own model"."""
    values = _tensors(rng, large)
    content = save(values)
    (path,) = written(folder, **{"weights.safetensors": content})
    model, sha256 = nn.Linear(len(values["bias"]), len(values["bias"])), hashlib.sha256(content).hexdigest()

    def filled() -> dict[str, Tensor]:
        weights.load_weights(model, path, sha256)
        return dict(model.state_dict())

    if reader == "record":
        return Sample((path,), filled, lambda v: same(v, values), held(values), constant=_ENTRIES)
    read: Callable[[], Any] = partial(weights.read_tensors, path)
    if reader == "own model":
        read = lambda: own_models.read_weights(path)[0]  # noqa: E731
    return Sample((path,), read, lambda v: _stored(v) == _parsed(path.read_bytes()), held(values), constant=_ENTRIES)


def _stored(found: dict[str, Tensor]) -> dict[str, Any]:
    """Types, shapes and bytes of tensors."""
    return {
        name: (t.dtype, list(t.shape), t.reshape(-1).view(torch.uint8).numpy().tobytes() if t.numel() else b"")
        for name, t in found.items()
    }


def _parsed(content: bytes) -> dict[str, Any]:
    """The same of a safetensors file, read by its published format."""
    end = 8 + int.from_bytes(content[:8], "little")
    header, data = json.loads(content[8:end]), content[end:]
    header.pop("__metadata__", None)
    return {
        name: (_TYPES[one["dtype"]], one["shape"], data[slice(*one["data_offsets"])]) for name, one in header.items()
    }


def checkpoint(folder: Path, rng: np.random.Generator, large: bool, *, older: bool) -> Sample:
    """The newest checkpoint of a run, with an ``older`` one or alone."""
    kept = Checkpoints(folder)
    found = [Checkpoint(step, _tensors(rng, large), {"threads": 1, "curve": [{"loss": 0.5}]}) for step in (3, 4)]
    for checkpoint in found if older else found[1:]:
        kept.write(checkpoint)

    def valid(value: Any) -> bool:
        if value is None:
            return not path.exists() and not path.is_symlink()
        if any(same(value, c) for c in found[0 if older else 1 :]):
            return True
        header = path.read_bytes()[8:]  # another state whose digest is right
        state = json.JSONDecoder().raw_decode(header.decode(errors="replace"))[0]["__metadata__"]["state"]
        return {"step": value.step, **value.state} == json.loads(state) and same(value.tensors, found[1].tensors)

    path = kept.paths()[0]
    return Sample((path,), kept.newest, valid, held(found[1]), factor=_JSON, constant=_ENTRIES)


def record_file(folder: Path, rng: np.random.Generator, large: bool, *, figure: bool) -> Sample:
    """A record, as the experiments read it or as a ``figure`` does."""
    rows = [{"strategy": "cutmix", "mean": v, "se": None, "näme": "größe"} for v in rng.random(8_000 if large else 5)]
    record = {
        "experiment": "gap",
        "config": {"draws": 4, "names": ["a"]},
        "result": {"rows": rows, "checks": []},
        "code": "0",
    }
    (path,) = written(folder, **{"gap.json": json.dumps(record, ensure_ascii=large, indent=1).encode()})

    def valid(found: Any) -> bool:
        json.dumps(found, allow_nan=False, ensure_ascii=False).encode()
        whole = json.loads(path.read_bytes())
        return bool(found == (whole["result"] if figure else whole)) and repr(found) == repr(
            whole["result"] if figure else whole
        )

    read = partial(load, folder, "gap") if figure else partial(_there, path)
    return Sample((path,), read, valid, held(read()), factor=_JSON)


def _there(path: Path) -> Any:
    found = read_record(path)
    if found is None:
        raise FileNotFoundError(f"{path}: no record, which is an answer; run the experiment.")
    return found
