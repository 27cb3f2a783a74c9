"""The inequality between the expanded mixed loss and an adversarial loss, both sides; docs/theory.md, Section 4."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float64
from torch import nn

from msda_theory.adversarial_sides import ROUNDING, LawMatrices, LocalForms, sides
from msda_theory.checks import check_model
from msda_theory.data import ImageData
from msda_theory.losses import Loss, SoftmaxCrossEntropy
from msda_theory.masks.base import Strategy, check_strategy
from msda_theory.moments.moments import LAWS, check_law
from msda_theory.streams import seed_from, stream

RADII = ("margin", "certified")
_MAX_INPUTS = 4096
_MAX_NUMBERS = 2**27  # of the Jacobians of all images
Values = Float64[np.ndarray, " m"]


@dataclass(frozen=True, eq=False)
class AdversarialBound:
    """Both sides of the inequality for one strategy and law, image by image; docs/theory.md, Eqs. (4) to (4d).

    Attributes:
        strategy: its name.
        law: ``"exact"`` or ``"paper"``.
        radius: ``"margin"``, Eq. (4), or ``"certified"``, Eq. (4c).
        centred: whether the radius was taken for ``x_i - mu`` (proven) or for ``x_i`` (the paper's, for mu = 0).
        loss: l_i, at the data [m].
        r1: first-order term ``(h' - y)^T J_i (qbar o (mu - x_i))`` [m].
        r2: ``1/2 tr(h'' J_i (A o C_i) J_i^T)`` [m].
        partner: part of r2 that the covariance of the images causes, ``1/2 tr(h'' J_i (A o Sigma) J_i^T)`` [m].
        mask: part that the randomness of the mask causes, ``1/2 tr(h'' J_i ((A - qbar qbar^T) o v_i v_i^T) J_i^T)``,
            ``v_i = x_i - mu`` [m]. Partner and mask are the slack where the assumption holds.
        eps: radius of each image, in pixel units and in the Euclidean norm [m]; 0 where the gradient vanishes.
        adversarial: largest second-order loss within eps_i [m]; for several outputs an upper bound of it.
        assumption: whether the image satisfies the assumption [m].
        inhomogeneity: ``|f(x_i) - J_i x_i| / |f(x_i)|``, 0 for nets without bias, for which z_i is a margin [m].
    """

    strategy: str
    law: str
    radius: str
    centred: bool
    loss: Values
    r1: Values
    r2: Values
    partner: Values
    mask: Values
    eps: Values
    adversarial: Values
    assumption: Bool[np.ndarray, " m"]
    inhomogeneity: Values

    @property
    def left(self) -> float:
        """L + R1 + R2, mean over images."""
        return float((self.loss + self.r1 + self.r2).mean())

    @property
    def right(self) -> float:
        """Mean over images of the second-order adversarial loss."""
        return float(self.adversarial.mean())

    @property
    def gap(self) -> float:
        """Left less right side; below 0 the inequality is violated."""
        return self.left - self.right

    @property
    def tightness(self) -> float:
        """Share of the rise ``left - L`` that the adversarial loss reaches, ``(right - L) / (left - L)``.

        NaN if the left side does not rise.
        """
        clean = float(self.loss.mean())
        return (self.right - clean) / (self.left - clean) if self.left > clean else float("nan")

    @property
    def holds(self) -> bool:
        """Whether the left side is at least the right side, up to rounding."""
        size = np.abs(self.loss) + np.abs(self.r1) + np.abs(self.r2) + np.abs(self.adversarial)
        return self.gap >= -ROUNDING * float(size.mean())

    @property
    def share(self) -> float:
        """Share of images that satisfy the assumption. At 1, with ``centred``, the inequality is a theorem."""
        return float(self.assumption.mean())


def bounds_frame(bounds: Sequence[AdversarialBound]) -> pd.DataFrame:
    """One row for each bound.

    Columns: ``strategy law radius centred clean r1 r2 left right gap tightness holds share eps_mean eps_median
    slack_partner slack_mask inhomogeneity`` (the last the median over images).
    """
    rows = [
        {
            "strategy": b.strategy,
            "law": b.law,
            "radius": b.radius,
            "centred": b.centred,
            "clean": float(b.loss.mean()),
            "r1": float(b.r1.mean()),
            "r2": float(b.r2.mean()),
            **{name: getattr(b, name) for name in ("left", "right", "gap", "tightness", "holds", "share")},
            "eps_mean": float(b.eps.mean()),
            "eps_median": float(np.median(b.eps)),
            "slack_partner": float(b.partner.mean()),
            "slack_mask": float(b.mask.mean()),
            "inhomogeneity": float(np.median(b.inhomogeneity)),
        }
        for b in bounds
    ]
    return pd.DataFrame(rows)


def adversarial_bounds(
    model: nn.Module,
    data: ImageData,
    strategies: Sequence[Strategy],
    *,
    loss: Loss | None = None,
    laws: Sequence[str] = LAWS,
    radius: str | None = None,
    centred: bool = True,
    rng: np.random.Generator | None = None,
    batch_size: int = 256,
) -> list[AdversarialBound]:
    """Both sides of ``L + R1 + R2 >= E_i max_{|u|_2 <= eps_i} [second-order loss at x_i + u]``, Eq. (4) or Eq. (4c).

    With ``v_i = x_i - mu``, ``u_i = -qbar o v_i``, gradient ``p_i = J_i^T (h'_i - y_i)`` and curvature
    ``G_i = J_i^T h''_i J_i`` of the loss in the image:

    - ``radius="margin"``, one output (logistic loss): ``eps_i = |J_i u_i| / |J_i|``; the assumption is
      ``p_i.u_i >= 0``. The right side is the maximum itself.
    - ``radius="certified"``, any number of outputs: eps_i is the largest radius with
      ``|p_i| eps + 1/2 top(G_i) eps^2 <= p_i.u_i + 1/2 u_i^T G_i u_i``; the assumption is that this right side is not
      negative (otherwise eps_i = 0). The right side of the inequality is the upper bound
      ``l_i + |p_i| eps_i + 1/2 top(G_i) eps_i^2`` of the maximum.

    The model is any module. What is proven concerns its local expansions, without the Hessian of f: for linear models
    and ReLU networks that is all of the second order (almost everywhere, kinks left aside), for smooth networks R3 is
    missing on both sides. Where the assumption fails for some images, the inequality is measured, not promised.
    The mean mu need not be 0, since v_i is centred. ``centred=False`` takes ``u_i = -qbar o x_i`` for radius and
    assumption, as the paper does, while R1 and R2 keep the true mu: then nothing is promised unless mu = 0.

    Args:
        model: module in eval mode with outputs [B, c].
        data: images [m, C, H, W] of at most 4096 inputs, and labels; sides are computed in float64 from derivatives
            in the dtype of the data.
        strategies: any; moments without a closed form are sampled.
        loss: ``Logistic()`` for one output, `SoftmaxCrossEntropy` by default.
        laws: among ``"exact"`` and ``"paper"``.
        radius: ``"margin"`` by default for one output, otherwise ``"certified"``.
        centred: see above.
        rng: needed where moments are sampled.
        batch_size: images differentiated together.

    Raises:
        ValueError: unknown law or radius, a margin for several outputs, too many inputs or numbers, or a model outside
            the preconditions.
    """
    loss = SoftmaxCrossEntropy() if loss is None else loss
    outputs = loss.outputs(data.num_classes)
    radius = _checked_radius(radius, outputs)
    for law in laws:
        check_law(law)
    for strategy in strategies:
        check_strategy(strategy)
    check_model(model, data, loss)
    _check_size(data, outputs)
    local = [LocalForms.at(model, x, y, data, loss) for x, y in data.batches(batch_size)]
    spread = data.covariance().cpu()
    seed = None if rng is None else seed_from(rng)
    found = []
    for strategy in strategies:
        for law in laws:
            source = None if seed is None else stream(seed, "moments", law)
            moments = strategy.moments(data.shape, law=law, rng=source)
            matrices = LawMatrices.of(moments, data, spread)
            columns = [sides(batch, matrices, radius, centred) for batch in local]
            merged = {name: torch.cat([c[name] for c in columns]).numpy() for name in columns[0]}
            found.append(AdversarialBound(strategy.name, law, radius, centred, **merged))
    return found


def _checked_radius(radius: str | None, outputs: int) -> str:
    radius = radius or ("margin" if outputs == 1 else "certified")
    if radius not in RADII:
        raise ValueError(f"expected radius among {list(RADII)}, got {radius!r}; choose one of them.")
    if radius == "margin" and outputs > 1:
        raise ValueError(
            f"the margin is a radius for one output, got {outputs}; use Logistic(), or radius='certified'."
        )
    return radius


def _check_size(data: ImageData, outputs: int) -> None:
    inputs = data.x[0].numel()
    if inputs > _MAX_INPUTS:
        raise ValueError(
            f"both sides form {inputs} x {inputs} matrices, allowed up to {_MAX_INPUTS} inputs; use smaller images."
        )
    if len(data) * outputs * inputs > _MAX_NUMBERS:
        raise ValueError(
            f"the Jacobians of {len(data)} images hold {len(data) * outputs * inputs} numbers, allowed up to "
            f"{_MAX_NUMBERS}; take fewer images."
        )
