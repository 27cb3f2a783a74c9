"""Attacks of foolbox and pyautoattack behind one call; none is written here.

What is ours: the model is frozen (parameters detached, so that no gradient reaches them), starts come from a
`numpy.random.Generator`, every example is pulled back into the ball and into [0, 1], and predictions are made anew.
The libraries are imported when an attack runs: the package works without them.

| name | library | what it uses |
|---|---|---|
| ``fgsm`` | foolbox | one step along the gradient |
| ``pgd`` | foolbox | ``steps`` steps of ``2.5 eps / steps`` along the gradient, from ``restarts`` random starts |
| ``deepfool`` | foolbox | linearised boundaries, smallest step; one run serves every eps |
| ``square`` | pyautoattack | no gradient: ``queries`` evaluations of the margin under random squares |
| ``autoattack`` | pyautoattack | the standard ensemble: two gradient attacks, one of boundaries, and Square |

Square is the attack without gradients because it needs outputs only, works on images of any size with a budget of
thousands of small forward passes, and is the one that the standard ensemble trusts; decision-based attacks (foolbox's
Boundary, HopSkipJump) need more queries for less.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from msda_theory.attack_libraries import MAKERS, AttackSettings, Frozen
from msda_theory.data import ImageData
from msda_theory.streams import stream

GRADIENT = ("fgsm", "pgd", "deepfool")
GRADIENT_FREE = ("square",)
ENSEMBLE = ("autoattack",)
ATTACKS = (*GRADIENT, *GRADIENT_FREE, *ENSEMBLE)


@dataclass(frozen=True, eq=False)
class AttackRun:
    """What one attack did to every image.

    Attributes:
        broken: misclassified at this or a smaller radius [e, m].
        images: the first example found for each image, or the image itself [m, C, H, W].
    """

    broken: Bool[np.ndarray, "e m"]
    images: Float[Tensor, "m C H W"]


def run_attack(
    name: str,
    model: nn.Module,
    data: ImageData,
    eps: tuple[float, ...],
    settings: AttackSettings,
    *,
    seed: int,
    batch_size: int,
) -> AttackRun:
    """Examples within the radii ``eps``, rising, for images on [0, 1] (checked by `robustness`).

    An image that is misclassified as it is counts as broken at every radius, and one that was broken at a radius counts
    as broken at all larger ones, whose balls contain the example; neither is attacked again. An example counts if it is
    finite, lies in [0, 1] and within the ball (to the rounding of the images: one unit of their dtype for linf,
    ``(C H W)^(1/2)`` units for l2), and is misclassified when the model is asked again.

    Seeds are those of the attack, batch, radius and restart: equal for every model. PGD starts and Square's first step
    are drawn for all images of a batch, so that two models see the same ones whichever images they get wrong. The
    ensemble draws for the images that are left.

    Raises:
        ImportError: without the extra ``robustness``.
        ValueError: unknown attack.
    """
    if name not in ATTACKS:
        raise ValueError(f"expected attacks among {list(ATTACKS)}, got {name!r}; choose among them.")
    net = Frozen(model, data.x.dtype)
    broken = np.zeros((len(eps), len(data)), dtype=bool)
    images, low = data.x.clone(), 0
    tries = settings.restarts if name == "pgd" else 1
    for number, (x, y) in enumerate(data.batches(batch_size)):

        def seeds(radius: float, restart: int, number: int = number) -> int:
            labels = (name, settings.norm, str(number), repr(float(radius)), str(restart))
            return int(stream(seed, *labels).integers(2**31))

        failed, propose = net.classes(x) != y, None
        for e, radius in enumerate(eps):
            for restart in range(tries if radius > 0 else 0):
                todo = (~failed).nonzero()[:, 0]
                if len(todo):
                    with torch.enable_grad():
                        propose = propose or MAKERS[name](net, x, y, settings, seeds)
                        found = propose(radius, restart, todo)
                    found = pull_back(found.detach(), x[todo], radius, settings.norm)
                    success = (net.classes(found) != y[todo]) & valid(found, x[todo], radius, settings.norm)
                    images[low + todo[success]] = found[success]
                    failed[todo[success]] = True
            broken[e, low : low + len(x)] = failed.cpu().numpy()
        low += len(x)
    return AttackRun(broken, images)


def sizes(step: Float[Tensor, "B C H W"], norm: str) -> Float[Tensor, " B"]:
    """Norm of each step, over channels and pixels together."""
    flat = step.flatten(1)
    return flat.abs().amax(dim=1) if norm == "linf" else flat.norm(dim=1)


def pull_back(found: Tensor, x: Tensor, radius: float, norm: str) -> Float[Tensor, "B C H W"]:
    """The examples moved into [0, 1] and then towards x into the ball, in the dtype of x; x where not finite."""
    found = found.to(x.dtype)
    finite = torch.isfinite(found).flatten(1).all(dim=1)
    found = torch.where(finite[:, None, None, None], found, x).clamp(0, 1)
    step = found - x
    if norm == "linf":
        step = step.clamp(-radius, radius)
    else:
        step = step * (radius / sizes(step, norm).clamp_min(radius))[:, None, None, None]
    return (x + step).clamp(0, 1)


def valid(found: Tensor, x: Tensor, radius: float, norm: str) -> Bool[Tensor, " B"]:
    """Whether examples are in [0, 1] and within the ball, to the rounding of their dtype."""
    rounding = torch.finfo(x.dtype).eps * (x[0].numel() ** 0.5 if norm == "l2" else 1.0)
    inside = ((found >= 0) & (found <= 1)).flatten(1).all(dim=1)
    return inside & (sizes(found - x, norm) <= radius + rounding)
