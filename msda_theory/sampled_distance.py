"""R2 by displacement from sampled pairs (q, r), at any image size; docs/theory.md, Section 3.5."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float64
from scipy import fft
from torch import nn

from msda_theory.adversarial_sides import jacobians
from msda_theory.checks import check_model
from msda_theory.data import ImageData, check_batch_size
from msda_theory.distance import bends
from msda_theory.losses import Loss, SoftmaxCrossEntropy
from msda_theory.masks.base import Strategy, check_strategy
from msda_theory.moments.displacements import ByDistance, DisplacementMap, distance_sums, distances, pair_counts
from msda_theory.moments.moments import check_law
from msda_theory.pairs import Tile, draw_tiles
from msda_theory.streams import seed_from

_ENTRIES = 2**22  # complex entries of the transforms that are held together: 64 MB
Array = np.ndarray


def sampled_gradient_term(
    model: nn.Module,
    data: ImageData,
    strategy: Strategy,
    *,
    loss: Loss | None = None,
    law: str = "exact",
    draws: int = 64,
    rng: np.random.Generator,
    batch_size: int = 32,
) -> DisplacementMap:
    """R2(p) at the data [2H-1, 2W-1] and by distance, sums over pairs as in `gradient_term_by_displacement`.

    ``1/2 E sum_cc' h''_cc' sum_j V_cj V_c'(j+p)`` with ``V_cj = sum_ch J_c(ch,j) delta_(ch,j)``, by FFT. Mean over
    images of means over ``draws`` pairs (q, r) each; standard errors are those of the draws for this data set, see
    `Estimate`. Draws are those of `expand` with an equal generator: the map sums to its R2. Time: c transforms of
    2H x 2W a pair.

    Args:
        model: in eval mode.
        data: the images.
        strategy: the mask law.
        loss: by default softmax cross-entropy.
        law: ``"exact"`` or ``"paper"``.
        draws: pairs for each image, at least 2.
        rng: names all streams of the call.
        batch_size: images of one backward pass.

    Raises:
        ValueError, TypeError: see `expand`.
    """
    loss = SoftmaxCrossEntropy() if loss is None else loss
    check_model(model, data, loss)
    check_strategy(strategy)
    check_law(law)
    check_batch_size(batch_size)
    h, w = data.shape
    counts = pair_counts((h, w))
    whole, curve = (_Strata(len(data), draws, size) for size in (counts.size, len(distances((h, w)))))
    for tile in draw_tiles(data, strategy, law, draws, seed_from(rng)):
        for low in range(0, len(tile.partner), batch_size):
            _add(whole, curve, model, data, loss, tile, range(low, min(low + batch_size, len(tile.partner))))
    (value, se), (by_distance, by_distance_se) = whole.result(), curve.result()
    lines = ByDistance(distances((h, w)), by_distance, distance_sums(counts), by_distance_se)
    return DisplacementMap(value.reshape(counts.shape), se.reshape(counts.shape), lines, len(data) * draws)


class _Strata:
    """Sums and sums of squares of the draws of each image, for the mean over images and its standard error."""

    def __init__(self, images: int, draws: int, size: int) -> None:
        self.images, self.draws = images, draws
        self.mean, self.variance = np.zeros(size), np.zeros(size)
        self._open: dict[int, tuple[int, Array, Array]] = {}  # draws so far, their sum and sum of squares

    def add(self, image: int, values: Float64[Array, "k size"]) -> None:
        """Add draws of an image; all its draws close its stratum."""
        n, first, second = self._open.pop(image, (0, np.zeros(values.shape[1]), np.zeros(values.shape[1])))
        n, first, second = n + len(values), first + values.sum(axis=0), second + (values**2).sum(axis=0)
        if n < self.draws:
            self._open[image] = (n, first, second)
            return
        self.mean += first / n / self.images
        spread = np.maximum(second - first**2 / n, 0) / (n - 1)
        self.variance += spread / n / self.images**2

    def result(self) -> tuple[Array, Array]:
        """Mean and standard error."""
        assert not self._open, "every image has all its draws"
        return self.mean, np.sqrt(self.variance)


def _add(
    whole: _Strata, curve: _Strata, model: nn.Module, data: ImageData, loss: Loss, tile: Tile, samples: range
) -> None:
    """Add the draws of some samples of a tile."""
    channels, (h, w) = data.x.shape[1], data.shape
    places = slice(tile.start + samples.start, tile.start + samples.stop)
    f, rows = jacobians(model, data.x[places])
    jacobian = rows.reshape(len(samples), -1, channels, h, w).numpy()
    bend = bends(loss, f).numpy()
    step = max(1, _ENTRIES // (f.shape[1] * 2 * h * (w + 1)))
    for k, sample in enumerate(samples):
        x = data.x[tile.start + sample].double().cpu().numpy()
        for low in range(0, tile.partner.shape[1], step):
            partner = torch.from_numpy(tile.partner[sample, low : low + step]).to(data.x.device)
            delta = tile.q[sample, low : low + step, None] * (data.x[partner].double().cpu().numpy() - x)
            maps = 0.5 * _correlations(np.einsum("cxhw,kxhw->kchw", jacobian[k], delta), bend[k])
            whole.add(tile.start + sample, maps.reshape(len(maps), -1))
            curve.add(tile.start + sample, distance_sums(maps))


def _correlations(v: Float64[Array, "k c H W"], bend: Float64[Array, "c c"]) -> Float64[Array, "k P Q"]:
    """``sum_cc' bend_cc' sum_j v_cj v_c'(j+p)`` for every displacement; the transform is linear, so h'' acts on it."""
    h, w = v.shape[-2:]
    spectrum = fft.rfft2(v, s=(2 * h, 2 * w))
    power = (spectrum.conj() * np.einsum("ab,kbuv->kauv", bend, spectrum)).sum(axis=1)
    full = fft.irfft2(power, s=(2 * h, 2 * w))
    return np.roll(full, (h - 1, w - 1), axis=(-2, -1))[:, : 2 * h - 1, : 2 * w - 1]
