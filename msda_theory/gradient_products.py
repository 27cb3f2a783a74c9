"""Products of a trained model's input gradients at two pixels, by the displacement of the pixels; Eq. (3p).

``g(p) = E_i sum_j |d_j f . d_{j+p} f|`` depends on model and data alone. A strategy whose coefficient falls with
distance charges near products most (claim C5): `short_share` and `share_difference` are made to test what training
with it left of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float64
from scipy import stats
from torch import nn

from msda_theory.adversarial_sides import jacobians
from msda_theory.checks import check_apart, check_eval, check_module, check_precision
from msda_theory.data import ImageData
from msda_theory.estimate import Estimate
from msda_theory.moments.displacements import (
    ByDistance,
    DisplacementMap,
    diagonal_sums,
    distance_sums,
    distances,
    pair_counts,
)

By = Literal["total", "zero", "pairs"]
Array = np.ndarray


@dataclass(frozen=True, eq=False)
class GradientProducts:
    """The map g(p) of a model, image by image; p = 0 sits at [H-1, W-1].

    Attributes:
        per_image: ``g_i(p) = sum_j |d_j f(x_i) . d_{j+p} f(x_i)|`` [m, 2H-1, 2W-1], a sum over the pixels j for which
            j + p is a pixel; the dot product sums over logits and channels.
        centred: whether the logits are taken less their mean over classes.

    Raises:
        ValueError: fewer than two images (no standard error), or numbers that are not finite.
    """

    per_image: Float64[Array, "m P Q"]
    centred: bool

    def __post_init__(self) -> None:
        if len(self.per_image) < 2:
            raise ValueError(
                f"a standard error over images needs 2 images or more, got {len(self.per_image)}; pass more data."
            )
        if not np.isfinite(self.per_image).all():
            raise ValueError("expected finite input gradients, got NaN or infinity; check the model's weights.")

    @property
    def n(self) -> int:
        """Number of images."""
        return len(self.per_image)

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W)."""
        return (self.per_image.shape[1] + 1) // 2, (self.per_image.shape[2] + 1) // 2

    @cached_property
    def map(self) -> Float64[Array, "P Q"]:
        """g(p) [2H-1, 2W-1], the mean over images; ``g(0) = E_i |J_i|_F^2``."""
        return self.per_image.mean(axis=0)

    @cached_property
    def se(self) -> Float64[Array, "P Q"]:
        """Standard error of g(p) over images, ``s / sqrt(m)``: as an estimate for further images of this kind."""
        return self.per_image.std(axis=0, ddof=1) / np.sqrt(self.n)

    def normalised(self, by: By = "total") -> DisplacementMap:
        """g(p) free of the scale of the gradients, which differs from model to model.

        With d pixels and N(p) = (H - |p_y|)(W - |p_x|) pairs at displacement p:

        - ``"total"``: ``g(p) / sum_p g(p)``, the share of the product mass; sums to 1, and so does the curve;
        - ``"zero"``: ``g(p) / g(0)``; the curve sums over the displacements at each distance, over g(0);
        - ``"pairs"``: ``[g(p) / N(p)] / [g(0) / d]``, the mean over pairs relative to the mean square gradient; the
          curve is a mean over all pairs at each distance. It has the fewer pairs at long distance taken out.

        Ratios of means over images, not means of ratios: images with large gradients count more. Standard errors over
        images by the delta method, ``e_i = (n_i - R d_i) / mean(d)`` for the ratio R of the means of n and d.

        Raises:
            ValueError: an unknown ``by``, or a model whose gradient is 0 on all images.
        """
        if by not in get_args(By):
            raise ValueError(f"expected a normalisation by one of {list(get_args(By))}, got {by!r}; choose one.")
        pairs, (h, w) = pair_counts(self.shape), self.shape
        near, at_distance = (1.0, 1.0) if by != "pairs" else (pairs / (h * w), distance_sums(pairs) / (h * w))
        base = self._totals if by == "total" else self.per_image[:, h - 1, w - 1]
        value, se = _ratio(self.per_image / near, base)
        curve, curve_se = _ratio(distance_sums(self.per_image) / at_distance, base)
        lines = ByDistance(distances(self.shape), curve, distance_sums(pairs), curve_se)
        return DisplacementMap(value, se, lines, self.n)

    def by_distance(self, by: By | None = None) -> ByDistance:
        """Sum of g(p) over the displacements at each distance, with standard errors; or the curve of `normalised`."""
        if by is not None:
            return self.normalised(by).curve
        sums = distance_sums(self.per_image)
        se = sums.std(axis=0, ddof=1) / np.sqrt(self.n)
        return ByDistance(distances(self.shape), sums.mean(axis=0), distance_sums(pair_counts(self.shape)), se)

    def short_share(self, radius: float) -> Estimate:
        """``sum_{|p| <= radius} g(p) / sum_p g(p)``, p = 0 included; standard error over images (delta method).

        If all pairs had equal products it would be the share of the ordered pixel pairs within ``radius``.

        Raises:
            ValueError: if ``radius`` is negative, or the gradient is 0 on all images.
        """
        if not radius >= 0:
            raise ValueError(f"expected a radius >= 0 in pixels, got {radius}; 0 takes the pixels themselves.")
        # Distances are square roots of whole numbers; the margin keeps a radius of sqrt(2), say, on their side.
        near = distances(self.shape) <= radius * (1 + 1e-12)
        value, se = _ratio(distance_sums(self.per_image)[:, near].sum(axis=1)[:, None], self._totals)
        return Estimate(float(value[0]), float(se[0]), self.n)

    @cached_property
    def _totals(self) -> Float64[Array, " m"]:
        return self.per_image.sum(axis=(1, 2))


def gradient_products(
    model: nn.Module, data: ImageData, *, centred: bool = True, batch_size: int = 32
) -> GradientProducts:
    """The map g(p) of a model; docs/theory.md, Eq. (3p).

    The Gram matrix of the pixels: entry (j, k) is the dot product of ``d_j f`` and
    ``d_k f`` as vectors of c C numbers, unchanged by a rotation of the logits or of the colours. Then absolute values,
    then sums by displacement. Images may be in [0, 1] or standardised: one scale of the input scales g as a whole.

    Args:
        model: in eval mode, outputs [B, c].
        data: the images; labels are not used.
        centred: take the logits less their mean over classes. Softmax does not see that mean, nor does h'' of softmax
            cross-entropy: the default leaves out gradients that change no prediction. False for one output, and where
            outputs have an absolute meaning (squared loss).
        batch_size: images at a time; it holds ``batch_size (c C + W) d`` numbers, and the result m (2H-1)(2W-1).

    Raises:
        ValueError: one output and ``centred``; fewer than two images; a model in train mode, or that is no function
            of each sample alone.
    """
    check_precision(data.x.device)
    check_module(model, data.x)
    check_eval(model)
    check_apart(model, data.x[:3])
    maps = []
    for x, _ in data.batches(batch_size):
        f, jacobian = jacobians(model, x)
        if centred and f.shape[1] == 1:
            raise ValueError("centred logits need 2 outputs or more, got 1, which would vanish; pass centred=False.")
        if centred:
            jacobian = jacobian - jacobian.mean(dim=1, keepdim=True)
        maps.append(_products(jacobian.numpy().reshape(len(x), -1, *data.shape)))
    return GradientProducts(np.concatenate(maps), centred)


@dataclass(frozen=True)
class ShareDifference:
    """Paired difference of short-distance shares, first less second.

    Attributes:
        mean: over the pairs.
        se: its standard error over the pairs.
        low, high: Student's interval.
        values: one difference for each pair.
    """

    mean: float
    se: float
    low: float
    high: float
    values: tuple[float, ...]


def share_difference(
    first: Sequence[GradientProducts], second: Sequence[GradientProducts], radius: float, *, level: float = 0.95
) -> ShareDifference:
    """``short_share(radius)`` of the first models less that of the second, paired; the test of claim C5.

    ``mean -+ t se`` with ``se = s / sqrt(n)`` and t the quantile of Student's law with n - 1 degrees of freedom. The
    spread is that over pairs (seeds), given the images: the errors over images, which both models of a pair share, are
    not added.

    Args:
        first: maps of models trained one way (CutMix), one for each seed.
        second: maps of models trained another way (Mixup), with the same seeds in the same order.
        radius: of the short distances, in pixels.
        level: of the interval.

    Raises:
        ValueError: fewer than two pairs, lists of different lengths, or maps of different image sizes or centring.
    """
    if len(first) != len(second) or len(first) < 2:
        raise ValueError(
            f"a paired difference over seeds needs two equally long lists of 2 maps or more, got {len(first)} and "
            f"{len(second)}."
        )
    kinds = {(g.shape, g.n, g.centred) for g in (*first, *second)}
    if len(kinds) > 1:
        raise ValueError(
            f"expected maps of one image size, number of images and centring, got {sorted(kinds)}; measure all alike."
        )
    values = [a.short_share(radius).mean - b.short_share(radius).mean for a, b in zip(first, second, strict=True)]
    mean, se = float(np.mean(values)), float(np.std(values, ddof=1) / np.sqrt(len(values)))
    half = float(stats.t.ppf((1 + level) / 2, len(values) - 1)) * se
    return ShareDifference(mean, se, mean - half, mean + half, tuple(values))


def _products(rows: Float64[Array, "B f H W"]) -> Float64[Array, "B P Q"]:
    """``sum_j |rows_j . rows_{j+p}|``, one row of pixels j at a time: no [d, d] matrix is held."""
    batch, f, h, w = rows.shape
    flat = rows.reshape(batch, f, h * w)
    out = np.zeros((batch, 2 * h - 1, 2 * w - 1))
    for y in range(h):
        products = np.abs(rows[:, :, y].transpose(0, 2, 1) @ flat)  # [B, W, d]
        by_row = products.reshape(batch, w, h, w).swapaxes(1, 2).reshape(batch * h, w, w)
        out[:, h - 1 - y : 2 * h - 1 - y] += diagonal_sums(by_row).reshape(batch, h, 2 * w - 1)
    return out


def _ratio(numerator: Float64[Array, "m ..."], base: Float64[Array, " m"]) -> tuple[Array, Array]:
    """Ratio of means over images and its standard error by the delta method."""
    mean, m = float(base.mean()), len(base)
    if mean == 0.0:
        raise ValueError("the input gradient is 0 on all images, so there is nothing to divide by; check the model.")
    value = numerator.mean(axis=0) / mean
    rest = (numerator - value * base.reshape(m, *[1] * (numerator.ndim - 1))) / mean
    return value, np.sqrt((rest**2).sum(axis=0) / (m * (m - 1)))
