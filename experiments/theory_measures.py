"""How far two networks are from each other: predictions on clean and mixed test images, input gradients."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import jacrev, vmap

from msda_theory.data import ImageData
from msda_theory.masks.base import Strategy
from msda_theory.moments.displacements import displacement_sums
from msda_theory.streams import stream

GRADIENTS = 200  # images whose input gradients are compared
DISTANCES = ("tv_clean", "kl_clean", "tv_mixed", "kl_mixed", "angle", "profile")


@dataclass(frozen=True, eq=False)
class Responses:
    """What a network answers.

    Attributes:
        clean, mixed: logarithms of class probabilities [n, c].
        jacobian: input gradients of the logits less their mean over classes [n, c, D].
        profile: map of gradient products, docs/theory.md, Eq. (3f), summed over classes and divided by its sum,
            [2H-1, 2W-1]; NaN for a network that is constant around every image.
    """

    clean: Tensor
    mixed: Tensor
    jacobian: Tensor
    profile: np.ndarray


def mixed_images(data: ImageData, strategy: Strategy, seed: int = 0, draws: int = 4) -> Tensor:
    """Images ``x + q (r - x)``, ``draws`` of each, the same for every network."""
    x = data.x.repeat(draws, 1, 1, 1)
    partner = torch.from_numpy(stream(seed, "partner").integers(len(data), size=len(x)))
    q = strategy.partner_weights(len(x), data.shape, rng=stream(seed, "mask"))
    return torch.lerp(x, data.x[partner], torch.from_numpy(q)[:, None])


def responses(model: nn.Module, data: ImageData, mixed: Tensor) -> Responses:
    """What ``model`` answers on the images of ``data`` and on ``mixed`` ones."""
    with torch.no_grad():
        clean, other = (model(x).log_softmax(dim=1) for x in (data.x, mixed))
    jacobian = vmap(jacrev(lambda z: model(z[None])[0]))(data.x[:GRADIENTS]).detach()
    centred = jacobian - jacobian.mean(dim=1, keepdim=True)  # [n, c, C, H, W]
    size = centred.flatten(3).abs().sum(dim=2).flatten(0, 1)  # [n c, d]
    product = displacement_sums((size.T @ size).numpy(), data.shape)
    total = product.sum()
    profile = product / total if total > 0 else np.full_like(product, np.nan)
    return Responses(clean, other, centred.flatten(2), profile)


def distances(a: Responses, b: Responses) -> dict[str, float]:
    """Distances of b from a, all 0 for equal networks.

    ``tv_*``: mean total variation ``1/2 sum_c |p_a - p_b|``. ``kl_*``: mean ``KL(p_a, p_b)`` in nats. ``angle``: 1 less
    the mean over images of the cosine of the two Jacobians. ``profile``: total variation of the maps of gradient
    products.
    """
    found = {}
    for name in ("clean", "mixed"):
        p, q = getattr(a, name), getattr(b, name)
        found[f"tv_{name}"] = float((p.exp() - q.exp()).abs().sum(dim=1).mean()) / 2
        found[f"kl_{name}"] = float((p.exp() * (p - q)).sum(dim=1).mean())
    cosine = torch.cosine_similarity(a.jacobian.flatten(1), b.jacobian.flatten(1), dim=1)
    found["angle"] = 1 - float(cosine.mean())
    found["profile"] = float(np.abs(a.profile - b.profile).sum()) / 2
    return found
