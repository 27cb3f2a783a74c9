"""Pairs (q, r) of the one-sided form (1), drawn in tiles that do not depend on the batch size.

A tile holds a few samples with a few draws each; its draws come from streams named after its place. The same seed
gives the same partners, and the same random numbers behind q, to every strategy: comparisons are paired.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from msda_theory.data import ImageData, check_batch_size
from msda_theory.masks.base import Strategy
from msda_theory.streams import stream

_SAMPLES, _DRAWS, _PIXELS = 64, 8, 2**23  # largest tile: samples, draws of each, mask entries


@dataclass(frozen=True, eq=False)
class Tile:
    """Draws for the samples ``start .. start + n - 1``.

    Attributes:
        start: index of the first sample.
        q: weight taken from the partner [n, K, H, W].
        partner: indices of the partners r [n, K], uniform over the data (a sample may be its own partner).
    """

    start: int
    q: Float64[np.ndarray, "n K H W"]
    partner: Int64[np.ndarray, "n K"]

    @property
    def samples(self) -> slice:
        """The samples of this tile."""
        return slice(self.start, self.start + len(self.partner))


def draw_tiles(data: ImageData, strategy: Strategy, law: str, draws: int, seed: int) -> Iterator[Tile]:
    """All tiles of ``draws`` pairs for each sample.

    Raises:
        ValueError: if ``draws`` is below 2 (no standard error).
    """
    if not isinstance(draws, int | np.integer):
        raise TypeError(f"expected draws as a whole number, got {draws!r}; pass an int.")
    if draws < 2:
        raise ValueError(f"a standard error needs draws >= 2 for each image, got {draws}; raise draws.")
    m, (h, w) = len(data), data.shape
    groups = np.array_split(np.arange(draws), math.ceil(draws / _DRAWS))
    rows = max(1, min(_SAMPLES, _PIXELS // (_DRAWS * h * w)))
    for start in range(0, m, rows):
        n = min(rows, m - start)
        for g, group in enumerate(groups):
            k, place = len(group), (str(start), str(g))
            partner = stream(seed, "partner", *place).integers(m, size=(n, k))
            q = strategy.partner_weights(n * k, (h, w), law=law, rng=stream(seed, "mask", *place))
            yield Tile(start, q.reshape(n, k, h, w), partner)


@dataclass(frozen=True, eq=False)
class PairBatch:
    """Pairs as tensors in the dtype and on the device of the data.

    Attributes:
        x: images [B, C, H, W].
        q: masks [B, 1, H, W], shared by channels.
        r: partners [B, C, H, W].
        y: label index of x [B].
    """

    x: Tensor
    q: Tensor
    r: Tensor
    y: Tensor


def pair_batches(data: ImageData, tile: Tile, batch_size: int) -> Iterator[PairBatch]:
    """The n K pairs of a tile, row-major, in batches of at most ``batch_size``."""
    check_batch_size(batch_size)
    n, k = tile.partner.shape
    device = data.x.device
    sample = torch.arange(tile.start, tile.start + n, device=device).repeat_interleave(k)
    partner = torch.from_numpy(tile.partner.reshape(-1)).to(device)
    q = torch.from_numpy(tile.q.reshape(n * k, 1, *data.shape)).to(device=device, dtype=data.x.dtype)
    for low in range(0, n * k, batch_size):
        part = slice(low, low + batch_size)
        i = sample[part]
        yield PairBatch(data.x[i], q[part], data.x[partner[part]], data.y[i])
