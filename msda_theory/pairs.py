"""Pairs (q, r) of the one-sided form (1), drawn in tiles that do not depend on the batch size.

A tile holds a few samples with a few draws each; its draws come from streams named after its place. The same seed
gives the same partners, and the same random numbers behind q, to every strategy: comparisons are paired.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from msda_theory.data import ImageData, check_batch_size
from msda_theory.masks.base import Strategy
from msda_theory.streams import stream

_SAMPLES, _DRAWS, _PIXELS = 64, 64, 2**23  # largest tile: samples, draws of each, mask entries
GROUP = 16  # draws that share one propagation of second-order coefficients, at most
_FREEDOM = 200  # degrees of freedom of a standard error


@dataclass(frozen=True, eq=False)
class Tile:
    """Draws for the samples ``start .. start + n - 1``.

    Attributes:
        start: index of the first sample.
        q: weight taken from the partner [n, K, H, W].
        partner: indices of the partners r [n, K], uniform over the data (a sample may be its own partner).
        images: number of images m.
    """

    start: int
    q: Float64[np.ndarray, "n K H W"]
    partner: Int64[np.ndarray, "n K"]
    images: int

    @property
    def samples(self) -> slice:
        """The samples of this tile."""
        return slice(self.start, self.start + len(self.partner))

    @property
    def groups(self) -> list[slice]:
        """The K draws of a sample in at least two groups of at most 16 draws.

        Second-order terms are known as sums over a group; the spread between groups gives their error. Large groups
        are cheaper; the number of groups gives the errors at least 200 degrees of freedom over all images if there
        are enough draws, so that they are known within about 5 %.
        """
        draws = self.partner.shape[1]
        number = min(draws, max(2, math.ceil(draws / GROUP), 1 + math.ceil(_FREEDOM / self.images)))
        edges = np.linspace(0, draws, number + 1).round().astype(int)
        return [slice(int(a), int(b)) for a, b in pairwise(edges)]

    @property
    def singles(self) -> list[slice]:
        """Each draw as a group of its own."""
        return [slice(k, k + 1) for k in range(self.partner.shape[1])]

    @property
    def sizes(self) -> list[int]:
        """Draws in each group."""
        return [g.stop - g.start for g in self.groups]

    def scaled(self, t: float) -> Tile:
        """The same draws with every step q (r - x) shrunk to t q (r - x), Eq. (3d)."""
        return replace(self, q=t * self.q)

    def group_means(self, values: Float64[np.ndarray, "n K"]) -> Float64[np.ndarray, "n G"]:
        """Means over the draws of each group."""
        return np.stack([values[:, g].mean(axis=1) for g in self.groups], axis=1)


def check_draws(draws: int) -> None:
    """Raise unless ``draws`` is a whole number of at least 2.

    Raises:
        TypeError, ValueError: with what was given.
    """
    if not isinstance(draws, int | np.integer):
        raise TypeError(f"expected draws as a whole number, got {draws!r}; pass an int.")
    if draws < 2:
        raise ValueError(f"a standard error needs draws >= 2 for each image, got {draws}; raise draws.")


def tile_starts(data: ImageData) -> range:
    """First samples of the tiles."""
    h, w = data.shape
    return range(0, len(data), max(1, min(_SAMPLES, _PIXELS // (_DRAWS * h * w))))


def draw_tiles(
    data: ImageData, strategy: Strategy, law: str, draws: int, seed: int, starts: Sequence[int] | None = None
) -> Iterator[Tile]:
    """Tiles of ``draws`` pairs for each sample: all of them, or those that begin at ``starts``.

    Draws follow from the seed and the place of the tile alone, so parts of the work may be done anywhere.

    Raises:
        ValueError: if ``draws`` is below 2 (no standard error).
    """
    check_draws(draws)
    m, (h, w) = len(data), data.shape
    rows = tile_starts(data).step
    blocks = np.array_split(np.arange(draws), math.ceil(draws / _DRAWS))
    for start in tile_starts(data) if starts is None else starts:
        n = min(rows, m - start)
        for g, block in enumerate(blocks):
            k, place = len(block), (str(start), str(g))
            partner = stream(seed, "partner", *place).integers(m, size=(n, k))
            q = strategy.partner_weights(n * k, (h, w), law=law, rng=stream(seed, "mask", *place))
            yield Tile(start, q.reshape(n, k, h, w), partner, m)


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
