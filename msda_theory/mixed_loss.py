"""The measured mixed loss, by Monte Carlo over pairs (q, r) of the one-sided form."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from torch import Tensor, nn

from msda_theory.checks import check_model
from msda_theory.data import ImageData
from msda_theory.estimate import Estimate, Joint
from msda_theory.losses import Loss, SoftmaxCrossEntropy, as_loss
from msda_theory.masks.base import Strategy, check_strategy
from msda_theory.pairs import draw_tiles
from msda_theory.streams import seed_from
from msda_theory.terms import pair_losses


def mixed_loss(
    model: nn.Module,
    data: ImageData,
    strategy: Strategy,
    *,
    loss: Loss | Callable[[Tensor, Tensor], Tensor] | None = None,
    draws: int = 64,
    rng: np.random.Generator,
    batch_size: int = 512,
) -> Estimate:
    """``L_mix = E_i E_r E_q l(f(x_i + q (r - x_i)), y_i)``, what training with ``strategy`` minimises; Eq. (1).

    Streams over tiles of samples and draws; nothing of the size of all draws is held.

    Args:
        model: module in eval mode with outputs [B, c].
        data: images and labels; partners are drawn from the same images, a sample may be its own partner.
        strategy: any `Strategy`; q follows its exact law.
        loss: `SoftmaxCrossEntropy` by default; any loss of the form ``h(f) - y.f``.
        draws: pairs for each image, at least 2.
        rng: source of the draws; one integer is taken from it.
        batch_size: images evaluated at once, at most a tile of 512 pairs; changes results by rounding only.

    Returns:
        Mean over images and draws; the standard error is that of the draws, for the given images (Eq. (9)).
    """
    loss = as_loss(SoftmaxCrossEntropy() if loss is None else loss, data.num_classes)
    check_strategy(strategy)
    check_model(model, data, loss)
    tiles = draw_tiles(data, strategy, "exact", draws, seed_from(rng))
    return Joint.merge(
        Joint.from_strata({"loss": tile.group_means(pair_losses(model, data, loss, tile, batch_size))}, tile.sizes)
        for tile in tiles
    )["loss"]
