"""R2 as a quadratic form of the weights of a network's first layer; docs/theory.md, Eq. (3g).

``f = g(z)``, ``z = W u + b`` with a linear or convolutional first layer, ``u = P x + c`` affine in the image. With the
upper part g frozen at the data, ``R2(W) = 1/2 E_i tr(K_i W S_i W^T)``, ``K_i = G_i^T h''(f_i) G_i``, ``G_i = Dg(z_i)``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn

from msda_theory.checks import check_model
from msda_theory.cut import FirstLayer, first_layer
from msda_theory.data import ImageData
from msda_theory.estimate import Estimate
from msda_theory.losses import Loss, SoftmaxCrossEntropy
from msda_theory.masks.base import Strategy, check_strategy
from msda_theory.moments.moments import Moments, check_law, check_moments
from msda_theory.pairs import draw_tiles, pair_batches
from msda_theory.streams import seed_from

_MAX_INPUTS = 1024
_CHUNK = 64  # images whose derivatives are taken together
Array = np.ndarray


@dataclass(frozen=True, eq=False)
class FirstLayerForm:
    """``R2(W) = 1/2 E_i sum_kl h''_kl J_ik^T S_i J_il``, ``J_i = G_i W P``, as a function of W, G_i and h'' frozen.

    Attributes:
        cut: the model and its first layer.
        x: the images x_i [m, C, H, W].
        mu: mean of the images that partners are drawn from [C, H, W].
        curvature: h''(f_i) [m, c, c].
        upper: G_i, derivatives of the logits in the pre-activations [m, c, ...].
        mixed: A o Sigma [D, D].
        second: A [D, D].
    """

    cut: FirstLayer
    x: Float[Tensor, "m C H W"]
    mu: Float[Tensor, "C H W"]
    curvature: Float64[Tensor, "m c c"]
    upper: Tensor
    mixed: Float64[Tensor, "D D"]
    second: Float64[Tensor, "D D"]

    def value(self, weight: Tensor | None = None) -> Tensor:
        """R2(W), a number; differentiable in ``weight`` (by default the model's own).

        Raises:
            ValueError: if ``weight`` has not the shape of the layer's.
        """
        weight = self._weight(weight)
        with torch.enable_grad():
            total = self._value(weight)
        return total if weight.requires_grad else total.detach()

    def _value(self, weight: Tensor) -> Tensor:
        total = torch.zeros((), dtype=torch.float64, device=weight.device)
        for low in range(0, len(self.x), _CHUNK):
            part = slice(low, low + _CHUNK)
            jacobian = self._jacobian(part, weight).double()
            shift = (self.mu - self.x[part]).double().flatten(1)[:, None]
            own = jacobian * shift
            inner = jacobian @ self.mixed @ jacobian.mT + own @ self.second @ own.mT  # [B, c, c]
            total = total + 0.5 * (self.curvature[part] * inner).sum()
        return total / len(self.x)

    def per_filter(self, weight: Tensor | None = None) -> Float64[Array, " O"]:
        """``1/2 W_o . dR2/dW_o`` for each filter (row) o; they sum to R2, and one may be negative."""
        weight = self._weight(weight).detach().clone().requires_grad_()
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(self._value(weight), weight)
        return np.asarray(0.5 * (weight.detach() * gradient).flatten(1).sum(dim=1).cpu().numpy())

    def alone(self, weight: Tensor | None = None) -> Float64[Array, " O"]:
        """R2 of each filter with all others 0: the diagonal blocks of the form, each >= 0 for a convex loss."""
        weight = self._weight(weight)
        out = []
        for o in range(len(weight)):
            only = torch.zeros_like(weight)
            only[o] = weight[o]
            out.append(float(self.value(only)))
        return np.array(out)

    def _weight(self, weight: Tensor | None) -> Tensor:
        own = self.cut.weight
        if weight is None:
            return own
        if weight.shape != own.shape:
            raise ValueError(
                f"expected weights {list(own.shape)} of the layer {self.cut.name!r}, got {list(weight.shape)}."
            )
        return weight

    def _jacobian(self, part: slice, weight: Tensor) -> Float[Tensor, "B c D"]:
        """``G_i W P`` by pulling the rows of G_i back through the layer."""
        x = self.x[part].clone().requires_grad_()
        z = self.cut.steps(self.cut.inputs(x), weight)
        rows = []
        for k in range(self.upper.shape[1]):
            (row,) = torch.autograd.grad(
                z, x, self.upper[part, k], create_graph=weight.requires_grad, retain_graph=True
            )
            rows.append(row.flatten(1))
        return torch.stack(rows, dim=1)


def first_layer_form(
    model: nn.Module,
    data: ImageData,
    moments: Moments,
    *,
    loss: Loss | None = None,
    name: str | None = None,
    population: ImageData | None = None,
) -> FirstLayerForm:
    """R2 at the data as a quadratic form of the first layer's weights, exact; docs/theory.md, Eq. (3g).

    Args:
        model: in eval mode; float64, where more than six digits matter.
        data: the images; at most 1024 inputs each.
        moments: of the mask law, ``strategy.moments(data.shape, law=...)``.
        loss: by default softmax cross-entropy.
        name: of the layer, see `first_layer`.
        population: the images that partners are drawn from; by default ``data``.

    Raises:
        ValueError: more than 1024 inputs, or see `first_layer`.
    """
    loss = SoftmaxCrossEntropy() if loss is None else loss
    check_model(model, data, loss)
    check_moments(moments, data.shape)
    inputs = data.x[0].numel()
    if inputs > _MAX_INPUTS:
        raise ValueError(
            f"the exact form holds {inputs} x {inputs} matrices, allowed up to {_MAX_INPUTS} inputs; use "
            "first_layer_r2."
        )
    cut = first_layer(model, data.x[:4], name=name)
    parts = [_upper(cut, x, loss) for x, _ in data.batches(_CHUNK)]
    population = data if population is None else population
    if population.x.shape[1:] != data.x.shape[1:]:
        raise ValueError(
            f"expected partners of the shape of the images, {list(data.x.shape[1:])}, got "
            f"{list(population.x.shape[1:])}; pass a population of such images."
        )
    a = torch.from_numpy(moments.second.dense()).to(data.x.device).repeat(data.x.shape[1], data.x.shape[1])
    upper, curvature = (torch.cat(v) for v in zip(*parts, strict=True))
    return FirstLayerForm(cut, data.x, population.mean, curvature, upper, a * population.covariance(), a)


def first_layer_r2(
    model: nn.Module,
    data: ImageData,
    strategy: Strategy,
    *,
    loss: Loss | None = None,
    law: str = "exact",
    name: str | None = None,
    draws: int = 64,
    rng: np.random.Generator,
    batch_size: int = 256,
) -> Estimate:
    """The same number from sampled pairs (q, r), at any image size: ``1/2 E (G_i W P delta)^T h'' (G_i W P delta)``.

    Draws are those of `expand` with an equal generator: the two agree to rounding.

    Raises:
        ValueError, TypeError: see `first_layer` and `expand`.
    """
    loss = SoftmaxCrossEntropy() if loss is None else loss
    check_model(model, data, loss)
    check_strategy(strategy)
    check_law(law)
    cut = first_layer(model, data.x[:4], name=name)
    per_image = np.zeros((len(data), draws))
    filled = np.zeros(len(data), dtype=int)
    for tile in draw_tiles(data, strategy, law, draws, seed_from(rng)):
        n, k = tile.partner.shape
        values = [_response(cut, loss, b.x, b.q * (b.r - b.x)) for b in pair_batches(data, tile, batch_size)]
        start = filled[tile.start]
        per_image[tile.samples, start : start + k] = torch.cat(values).cpu().numpy().reshape(n, k)
        filled[tile.samples] += k
    return Estimate.from_strata(per_image)


def _response(cut: FirstLayer, loss: Loss, x: Tensor, delta: Tensor) -> Float64[Tensor, " B"]:
    """``1/2 (G W P delta)^T h'' (G W P delta)`` for each pair."""
    upper, curvature = _upper(cut, x, loss)
    with torch.no_grad():
        step = cut.steps(cut.inputs(x + delta) - cut.inputs(x), cut.weight)
        change = (upper * step[:, None]).flatten(2).sum(dim=2).double()
        return 0.5 * torch.einsum("bk,bkl,bl->b", change, curvature, change)


def _upper(cut: FirstLayer, x: Tensor, loss: Loss) -> tuple[Tensor, Float64[Tensor, "B c c"]]:
    """G_i [B, c, ...] and h''(f_i) [B, c, c]."""
    with torch.no_grad():
        z = cut.layer(cut.inputs(x))
    with torch.enable_grad():
        z = z.requires_grad_()
        f = cut.upper(x, z)
        rows = [torch.autograd.grad(f[:, k].sum(), z, retain_graph=True)[0] for k in range(f.shape[1])]
    basis = torch.eye(f.shape[1], dtype=torch.float64, device=f.device)
    flat = f.detach().double()
    curvature = torch.stack([loss.d2(flat, e.expand_as(flat)) for e in basis], dim=1)
    return torch.stack(rows, dim=1).detach(), curvature
