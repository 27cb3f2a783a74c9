"""What the readers give: how much memory it takes, and whether two of it are equal."""

from __future__ import annotations

import sys
from dataclasses import fields
from typing import Any

import torch
from numpy import ndarray as Array
from torch import Tensor

from experiments.checkpoints import Checkpoint
from msda_theory.graph.graphs import Graph


def held(value: Any) -> int:
    """Bytes that a value takes in memory, its parts included."""
    if isinstance(value, Array):
        return value.nbytes
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, Graph | Checkpoint):
        return sum(held(getattr(value, f.name)) for f in fields(value))
    parts = [*value.keys(), *value.values()] if isinstance(value, dict) else value
    return sys.getsizeof(value) + (sum(map(held, parts)) if isinstance(parts, list | tuple) else 0)


def same(a: Any, b: Any) -> bool:
    """Whether two values are equal to the bit, in arrays and below."""
    if isinstance(a, Array) and isinstance(b, Array):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, tuple) and isinstance(b, tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, Checkpoint) and isinstance(b, Checkpoint):
        return (a.step, a.state) == (b.step, b.state) and same(a.tensors, b.tensors)
    return bool(a == b)
