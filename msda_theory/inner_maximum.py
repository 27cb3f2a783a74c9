"""The true worst loss within a Euclidean ball around each image, beside the second-order one of `adversarial_bound`."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor, nn

from msda_theory.adversarial_sides import jacobians
from msda_theory.attack_libraries import Frozen, foolbox_model, libraries, projected_gradient
from msda_theory.checks import check_model
from msda_theory.data import ImageData
from msda_theory.losses import Logistic, Loss, SoftmaxCrossEntropy
from msda_theory.streams import seed_from, seeded, stream

Values = Float64[np.ndarray, " m"]


def linear_inner_maximum(model: nn.Module, data: ImageData, eps: Values, *, loss: Loss) -> Values:
    """``max_{|u|_2 <= eps_i} l(f(x_i + u), y_i)`` of a linear model with one output, in closed form [m].

    ``max over s of l(f_i + s |th| eps_i, y_i)``, s in {-1, 1}: the loss is convex in f, so the maximum is at an end.
    The ball is not cut at [0, 1]. Source: docs/theory.md, Eq. (4d).

    Args:
        model: module with one output that is affine in the image.
        data: images and labels.
        eps: radii [m], not negative.
        loss: a loss of one output, ``Logistic()``.

    Raises:
        ValueError: several outputs, radii that do not fit, or a model that is not affine (compared at the worst points,
            to 1e-6 of the outputs in float64, 1e-3 in float32).
    """
    check_model(model, data, loss)
    _check_eps(eps, len(data))
    outputs = loss.outputs(data.num_classes)
    if outputs != 1:
        raise ValueError(f"the closed form is for one output, got {outputs}; use inner_maximum.")
    f, jacobian = jacobians(model, data.x)
    size = jacobian[:, 0].norm(dim=1)
    reach = (size * torch.from_numpy(eps))[:, None]
    target = loss.targets(data.y, data.num_classes, torch.float64).cpu()
    direction = jacobian[:, 0] / size.clamp_min(torch.finfo(size.dtype).tiny)[:, None] * torch.from_numpy(eps)[:, None]
    with torch.no_grad():
        moved = model(data.x + direction.reshape(data.x.shape).to(data.x)).double().cpu()
    error = float((moved - f - reach).abs().max() / (1 + f.abs().max() + reach.max()))
    if error > (1e-6 if data.x.dtype == torch.float64 else 1e-3):
        raise ValueError(
            f"the closed form is for outputs affine in the image, got a change of {error:.2g}; use inner_maximum."
        )
    return torch.maximum(loss.value(f + reach, target), loss.value(f - reach, target)).numpy()


def inner_maximum(
    model: nn.Module,
    data: ImageData,
    eps: Values,
    *,
    loss: Loss | None = None,
    steps: int = 50,
    restarts: int = 2,
    rng: np.random.Generator,
    batch_size: int = 256,
) -> Values:
    """Lower bound of ``max_{|u|_2 <= eps_i} l(f(x_i + u), y_i)`` [m]: the largest loss that foolbox's attacks reach.

    Tried are u = 0, one step along the gradient, and PGD with ``steps`` steps from each of ``restarts`` random starts,
    on ``w -> f(x_i + eps_i w)`` in the unit ball, so that every image has its own radius. The ball
    is not cut at [0, 1].

    Args:
        model: module in eval mode with outputs [B, c].
        data: images and labels.
        eps: radii [m], not negative.
        loss: `SoftmaxCrossEntropy` (by default) or `Logistic`, the losses that the library ascends.
        steps: of PGD.
        restarts: of PGD.
        rng: source of the starts.
        batch_size: images attacked together.

    Raises:
        ValueError: another loss, radii that do not fit, or a model outside the preconditions.
        ImportError: without the extra ``robustness``.
    """
    loss = SoftmaxCrossEntropy() if loss is None else loss
    if not isinstance(loss, SoftmaxCrossEntropy | Logistic):
        raise ValueError(
            f"the attacks ascend cross-entropy, got {type(loss).__name__}; use SoftmaxCrossEntropy() or Logistic()."
        )
    check_model(model, data, loss)
    _check_eps(eps, len(data))
    seed, low, best = seed_from(rng), 0, []
    kinds = libraries()[0].attacks
    attacks = [kinds.L2FastGradientAttack()] + [projected_gradient("l2", steps)] * restarts
    for number, (x, y) in enumerate(data.batches(batch_size)):
        ball = _Ball(Frozen(model, x.dtype), x, torch.from_numpy(eps[low : low + len(x)]).to(x), loss)
        target, zero = loss.targets(y, data.num_classes, torch.float64), torch.zeros_like(x)
        found = loss.value(ball.outputs(zero), target)
        for k, attack in enumerate(attacks):
            with seeded(int(stream(seed, "inner", str(number), str(k)).integers(2**31))), torch.enable_grad():
                w = attack.run(foolbox_model(ball, x, (-1.0, 1.0)), zero, y, epsilon=1.0)
            w = w / w.flatten(1).norm(dim=1).clamp_min(1)[:, None, None, None]
            found = torch.maximum(found, loss.value(ball.outputs(w), target))
        best.append(found.cpu().numpy())
        low += len(x)
    return np.concatenate(best)


class _Ball(nn.Module):
    """``w -> f(x_i + eps_i w)`` as logits of two classes or more, for one batch."""

    def __init__(self, net: Frozen, x: Tensor, eps: Tensor, loss: Loss) -> None:
        super().__init__()
        self._inner: tuple[Any, ...] = (net, x, eps[:, None, None, None])
        self._single = isinstance(loss, Logistic)
        self.eval()

    def forward(self, w: Tensor) -> Tensor:
        net, x, eps = self._inner
        f = net(x + eps * w)
        return torch.cat([torch.zeros_like(f), f], dim=1) if self._single else f

    def outputs(self, w: Tensor) -> Tensor:
        """The model's own outputs, in float64."""
        with torch.no_grad():
            f = self(w).double()
        return f[:, 1:] if self._single else f


def _check_eps(eps: Values, m: int) -> None:
    if eps.shape != (m,) or not (np.isfinite(eps).all() and (eps >= 0).all()):
        raise ValueError(f"expected a finite radius >= 0 for each of {m} images, got shape {eps.shape}; pass eps [m].")
