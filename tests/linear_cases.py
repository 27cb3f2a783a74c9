"""Cases and brute force that the tests of linear models share: data, strategies, every mixed image of a law."""

from __future__ import annotations

from dataclasses import dataclass

import naive
import pytest
import torch
from torch import Tensor, nn

from msda_theory.data import ImageData
from msda_theory.losses import Logistic, SoftmaxCrossEntropy, Squared
from msda_theory.masks.base import Strategy
from msda_theory.masks.cutmix import CutMix
from msda_theory.masks.gmix import GMix
from msda_theory.masks.hmix import HMix
from msda_theory.masks.mixup import Mixup

LAWS = ("exact", "paper")
STRATEGIES = {
    "cutmix": CutMix(),
    "cutmix-nominal-a0.6": CutMix(alpha=0.6, label="nominal"),
    "mixup": Mixup(),
    "mixup-a0.3": Mixup(alpha=0.3),
    "hmix": HMix(),
    "gmix": GMix(),
}
LOSSES = {"softmax": (SoftmaxCrossEntropy(), 3), "logistic": (Logistic(), 2), "squared": (Squared(), 3)}
IMAGES = {"12x3x3-1ch": (12, 1, (3, 3)), "6x3x4-2ch": (6, 2, (3, 4)), "7x2x3-2ch": (7, 2, (2, 3))}
SIZES = ("12x3x3-1ch", "6x3x4-2ch")  # the second has fewer images than inputs
# Training needs a metric of moderate condition: the 6 images, with HMix, have 1e8.
TRAINED = [
    (name, case) for name in STRATEGIES for case in ("12x3x3-1ch", "7x2x3-2ch") if (name, case[0]) != ("gmix", "1")
]

EVERY_STRATEGY = pytest.mark.parametrize("strategy", STRATEGIES.values(), ids=STRATEGIES.keys())
EVERY_LOSS = pytest.mark.parametrize("kind", LOSSES)
EVERY_SIZE = pytest.mark.parametrize("case", SIZES)
LAW = pytest.mark.parametrize("law", LAWS)


def problem(case: str = "12x3x3-1ch", classes: int = 3) -> ImageData:
    m, channels, shape = IMAGES[case]
    return ImageData(*naive.images(m, channels, shape, classes, seed=6), classes)


def outputs(kind: str) -> int:
    return 1 if kind == "logistic" else 3


def layer(model: nn.Module, index: int) -> tuple[Tensor, Tensor]:
    return model[index].weight, model[index].bias


@dataclass(frozen=True, eq=False)
class Mixed:
    """Every mixed image of a law: image i, partner r, atom q."""

    x: Tensor  # [n, C, H, W]
    start: Tensor  # x_i [n, C, H, W]
    image: Tensor  # i [n]
    weight: Tensor  # [n]
    y: Tensor  # one-hot [n, K]

    @classmethod
    def of(cls, data: ImageData, strategy: Strategy, law: str = "exact") -> Mixed:
        atoms, p = strategy.atoms(data.shape, order=8).partner(law)
        q, m = torch.from_numpy(atoms)[:, None, None, None], len(data)
        x = (data.x[None, :, None] + q * (data.x[None, None] - data.x[None, :, None])).flatten(0, 2)
        index = torch.arange(m).repeat_interleave(m).repeat(len(p))
        weight = torch.from_numpy(p).repeat_interleave(m * m) / m**2
        return cls(x, data.x[index], index, weight, naive.one_hot(data.y, data.num_classes)[index])

    def loss(self, weight: Tensor, bias: Tensor) -> Tensor:
        """``E 1/2 |f|^2 - y.f`` by summation."""
        f = self.x.flatten(1) @ weight.T + bias
        return (((f * f).sum(dim=1) / 2 - (self.y * f).sum(dim=1)) * self.weight).sum()

    def slope(self, weight: Tensor, bias: Tensor) -> Tensor:
        """Gradient in weight and bias, flattened, by automatic differentiation."""
        parameters = [weight.clone().requires_grad_(), bias.clone().requires_grad_()]
        return torch.cat([p.flatten() for p in torch.autograd.grad(self.loss(*parameters), parameters)])

    def gradient(self, weight: Tensor, bias: Tensor) -> float:
        return float(self.slope(weight, bias).norm())

    def train(self) -> tuple[Tensor, Tensor]:
        """Weight and bias by conjugate gradients on the enumerated loss, from zero to convergence.

        Curvature along a unit vector is the difference of two gradients. Each round gains a factor of 1e6, before
        rounding makes directions in which nothing varies look curved.
        """
        classes, size = self.y.shape[1], self.x[0].numel()

        def parts(v: Tensor) -> tuple[Tensor, Tensor]:
            return v[: classes * size].reshape(classes, size), v[classes * size :]

        point = torch.zeros(classes * (size + 1), dtype=torch.float64)
        origin = self.slope(*parts(point))
        for _ in range(3):
            start = residual = -self.slope(*parts(point))
            direction = residual
            for _ in range(100):
                if residual.norm() <= max(1e-6 * float(start.norm()), 1e-13):
                    break
                length = direction.norm()
                bent = (self.slope(*parts(direction / length)) - origin) * length
                step = (residual @ residual) / (direction @ bent)
                point, following = point + step * direction, residual - step * bent
                direction = following + (following @ following) / (residual @ residual) * direction
                residual = following
        return parts(point)


def assert_stationary(mixed: Mixed, weight: Tensor, bias: Tensor) -> None:
    norm = mixed.gradient(weight, bias)
    assert norm < 1e-12, f"not stationary: gradient of norm {norm:.2g}"


def assert_trained(mixed: Mixed, weight: Tensor, bias: Tensor) -> None:
    """Equal in loss, and in the predictions on all mixed images, to what training reaches."""
    trained = mixed.train()
    norm = mixed.gradient(*trained)
    assert norm < 1e-12, f"training has not converged: gradient of norm {norm:.2g}"
    here, there = (mixed.x.flatten(1) @ w.T + b for w, b in ((weight, bias), trained))
    torch.testing.assert_close(here, there, rtol=0, atol=1e-9)
    excess = float(mixed.loss(weight, bias) - mixed.loss(*trained))
    assert abs(excess) < 1e-12, f"loss off by {excess:.2g}"
