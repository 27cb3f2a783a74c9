"""Named random streams: adding a draw for one purpose does not shift the draws for another."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def stream(seed: int, *labels: str) -> np.random.Generator:
    """The generator of ``seed`` for the purpose named by ``labels``; equal arguments give equal draws.

    A label enters by its checksum of 32 bits, so that two labels share a stream with probability 2^-32.

    Raises:
        ValueError: if a label is empty. Its checksum is 0, which NumPy does not tell from a label that is not there.
    """
    if "" in labels:
        raise ValueError(f"expected labels of at least one character, got {labels}; name the purpose of the draws.")
    return np.random.default_rng([seed, *(zlib.crc32(label.encode()) for label in labels)])


def seed_from(rng: np.random.Generator) -> int:
    """One integer drawn from ``rng``, the seed of all named streams of a call.

    Raises:
        TypeError: if ``rng`` is not a numpy.random.Generator.
    """
    if not isinstance(rng, np.random.Generator):
        raise TypeError(
            f"expected rng to be a numpy.random.Generator, got {type(rng).__name__}; "
            "pass rng=numpy.random.default_rng(seed)."
        )
    return int(rng.integers(2**63))


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Torch's global generators seeded inside, and as they were afterwards."""
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield
