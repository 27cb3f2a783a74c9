"""Named random streams: adding a draw for one purpose does not shift the draws for another."""

from __future__ import annotations

import zlib

import numpy as np


def stream(seed: int, *labels: str) -> np.random.Generator:
    """The generator of ``seed`` for the purpose named by ``labels``; equal arguments give equal draws."""
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
