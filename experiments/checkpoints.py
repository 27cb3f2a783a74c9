"""Checkpoints: tensors and state in one safetensors file each, verified by a digest; the newest whole one counts."""

from __future__ import annotations

import hashlib
import json
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from experiments.files import parse, write_whole
from experiments.weights import check_header
from msda_theory.files import read_whole

_NAME = re.compile(r"checkpoint-(\d{9})\.safetensors")


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """State of a run after ``step`` steps: tensors by name, and what JSON can hold."""

    step: int
    tensors: dict[str, Tensor]
    state: dict[str, Any]


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints in a folder; the ``keep`` newest stay."""

    folder: Path
    keep: int = 2

    def write(self, checkpoint: Checkpoint) -> Path:
        """Write a checkpoint whole, then remove the oldest ones."""
        tensors = {k: v.detach().cpu().contiguous() for k, v in checkpoint.tensors.items()}
        state = json.dumps({"step": checkpoint.step, **checkpoint.state}, allow_nan=False)
        content = save(tensors, {"state": state, "sha256": _digest(tensors, state)})
        path = self.folder / f"checkpoint-{checkpoint.step:09d}.safetensors"
        write_whole(path, content)
        for old in self.paths()[self.keep :]:
            old.unlink(missing_ok=True)
        return path

    def paths(self) -> list[Path]:
        """Files of the checkpoints, newest first."""
        if not self.folder.is_dir():
            return []
        return sorted((p for p in self.folder.iterdir() if _NAME.fullmatch(p.name)), reverse=True)

    def newest(self) -> Checkpoint | None:
        """The newest checkpoint that is whole; damaged ones are named in a warning. None where there is none.

        Raises:
            ValueError: if there are checkpoints and none of them is whole.
        """
        paths = self.paths()
        for path in paths:
            checkpoint = read(path)
            if checkpoint is not None:
                return checkpoint
            warnings.warn(f"{path.name} is damaged; the checkpoint before it is used.", stacklevel=2)
        if paths:
            raise ValueError(
                f"expected a whole checkpoint in {self.folder}, got {len(paths)} damaged ones; delete them and train "
                "again."
            )
        return None

    def clear(self) -> None:
        """Remove all checkpoints."""
        for path in self.paths():
            path.unlink(missing_ok=True)
        for half in self.folder.glob(".checkpoint-*.tmp"):  # what a kill in the middle of writing leaves
            half.unlink(missing_ok=True)


def read(path: Path) -> Checkpoint | None:
    """The checkpoint in a file, or None if it does not hold what was written."""
    try:
        content = read_whole(path)
        check_header(content)
        tensors, meta = load(content), _metadata(content)
        if _digest(tensors, meta["state"]) != meta["sha256"]:
            return None
        state = parse(meta["state"].encode())
        step = state.pop("step")
        return Checkpoint(step, tensors, state) if type(step) is int and step >= 0 else None
    except (SafetensorError, OSError, LookupError, TypeError, ValueError, AttributeError, RuntimeError):
        return None


def _metadata(content: bytes) -> dict[str, str]:
    """What stands beside the tensors of a safetensors file, of which ``load`` has checked the header."""
    length = int.from_bytes(content[:8], "little")
    return dict(parse(content[8 : 8 + length])["__metadata__"])


def _digest(tensors: dict[str, Tensor], state: str) -> str:
    """SHA-256 of names, types, shapes, bytes and state."""
    digest = hashlib.sha256(state.encode())
    for name, t in sorted(tensors.items()):
        digest.update(f"{name} {t.dtype} {list(t.shape)}".encode())
        digest.update(t.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
