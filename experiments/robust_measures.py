"""What the study of robustness measures on one network: accuracy under attack, and both sides of the inequality."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from msda_theory.adversarial_bound import AdversarialBound, adversarial_bounds, bounds_frame
from msda_theory.data import ImageData
from msda_theory.inner_maximum import inner_maximum, linear_inner_maximum
from msda_theory.losses import Logistic, Loss
from msda_theory.masks.mixup import Mixup
from msda_theory.masks.registry import strategy as make_strategy
from msda_theory.robustness import Robustness, robustness
from msda_theory.streams import stream

BOUND_COLUMNS = (
    *("strategy", "law", "radius", "centred", "clean", "left", "right", "gap", "tightness", "holds", "share"),
    *("eps_mean", "inhomogeneity"),
)


def attacked(
    model: nn.Module,
    data: ImageData,
    grids: dict[str, tuple[float, ...]],
    *,
    steps: int,
    restarts: int,
    queries: int,
    seed: int,
) -> dict[str, Any]:
    """Of each norm and attack: the number of the radius that first broke each image, as many as radii if none did.

    Attacks are those of `robustness`, in float32, with the same starts for every network of equal ``seed``. With them,
    for each radius, the images broken without gradients alone, with gradients alone, and the p-value of the sign test.
    """
    images = ImageData(data.x.float(), data.y, data.num_classes)
    net = copy.deepcopy(model).float()
    found = {}
    for norm, eps in grids.items():
        rng = stream(seed, "attacks", norm)
        result = robustness(
            net,
            images,
            norm=norm,
            eps=eps,
            steps=steps,
            restarts=restarts,
            queries=queries,
            rng=rng,
            batch_size=len(data),
        )
        pairs = result.gradient_versus_free
        found[norm] = {
            "broken_at": {name: broken_at(result, name) for name in result.attacks},
            "only_free": [p.only_first for p in pairs],
            "only_gradient": [p.only_second for p in pairs],
            "p_free": [p.p_value if p.mean > 0 else 1.0 for p in pairs],
        }
    return found


def broken_at(result: Robustness, attack: str) -> list[int]:
    """Number of the first radius at which each image is misclassified: its radii withstood."""
    return [int(k) for k in result.bits(attack).sum(axis=0)]


def bounds(model: nn.Module, data: ImageData, strategies: Sequence[str], loss: Loss) -> list[AdversarialBound]:
    """Both sides of Eq. (4) (one output) or (4c) (several) for every strategy and law, with and without centring."""
    laws = [make_strategy(s) for s in strategies]
    return [b for centred in (True, False) for b in adversarial_bounds(model, data, laws, loss=loss, centred=centred)]


def rows(bounds: list[AdversarialBound]) -> list[dict[str, Any]]:
    """The columns of `bounds_frame` that the study keeps."""
    found: list[dict[str, Any]] = bounds_frame(bounds)[list(BOUND_COLUMNS)].to_dict(orient="records")
    return found


def inner(model: nn.Module, data: ImageData, bound: AdversarialBound, loss: Loss, *, affine: bool) -> dict[str, Any]:
    """Mean rise of the loss within the radii of a bound: to second order, and truly.

    The true one is exact for an affine model, and a lower bound by attacks otherwise.
    """
    if affine:
        true = linear_inner_maximum(model, data, bound.eps, loss=loss)
    else:
        true = inner_maximum(model, data, bound.eps, loss=loss, rng=stream(0, "inner"))
    rises = {"second_order": bound.adversarial - bound.loss, "true": true - bound.loss}
    return {"strategy": bound.strategy, **{name: float(r.mean()) for name, r in rises.items()}}


def counter_example(size: float = 0.3) -> AdversarialBound:
    """Two images of one pixel, 1 and -1, both on the wrong side of ``theta = -size``: Eq. (4) fails for Mixup."""

    class Wrong(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return -size * x.flatten(1)

    x = torch.tensor([1.0, -1.0], dtype=torch.float64).reshape(2, 1, 1, 1)
    data = ImageData(x, torch.tensor([1, 0]), 2)
    return adversarial_bounds(Wrong().eval(), data, [Mixup()], loss=Logistic(), laws=["exact"])[0]
