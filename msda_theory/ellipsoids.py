"""The class that R2 keeps small, {theta : theta^T S theta <= gamma}: its metric S and its effective dimension.

``S = A o E[x x^T]``; docs/theory.md, Section 5. Masks are shared by channels: images [C, H, W] are flattened to
D = C H W inputs, channel after channel, and A [d, d], d = H W, is repeated over the C x C pairs of channels.
Matrices D x D are formed and decomposed: up to 4,096 inputs, so 32x32x3 fits.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from msda_theory.data import ImageData
from msda_theory.moments.moments import Moments, check_moments

_MAX_INPUTS = 4096
_CHUNK = 2**23  # numbers in a block of images
_OUTSIDE = 1e-6  # squared relative distance from the range of S above which an image violates the range condition


@dataclass(frozen=True, eq=False)
class Ellipsoid:
    """Eigenvectors of the metric S and the truncated class {theta in V : theta^T S theta <= gamma}, Eq. (5a).

    V is spanned by the eigenvectors with eigenvalues above ``cutoff`` times the largest one. Nothing is added to S.

    Attributes:
        values: eigenvalues of S [D], ascending.
        vectors: eigenvectors of S [D, D], in columns.
        size: (C, H, W) of the images; D = C H W.
        law: law of the moments, ``"exact"`` or ``"paper"``.
        cutoff: relative eigenvalue threshold.
    """

    values: Float64[Tensor, " D"]
    vectors: Float64[Tensor, "D D"]
    size: tuple[int, int, int]
    law: str
    cutoff: float

    @property
    def kept(self) -> int:
        """Number of eigenvalues above the threshold: the dimension of V."""
        largest = float(self.values[-1])
        return int((self.values > self.cutoff * largest).sum()) if largest > 0 else 0

    @property
    def null(self) -> int:
        """Number of eigenvalues that are 0 to rounding: at most D machine epsilons of the largest."""
        return int((self.values <= _rounding(len(self.values)) * float(self.values[-1])).sum())

    def coordinates(self, x: Tensor) -> Float64[Tensor, "B D"]:
        """Images [B, C, H, W] in the eigenvectors of S."""
        return x.double().cpu().flatten(1) @ self.vectors

    def whitened(self, x: Tensor) -> Float64[Tensor, "B r"]:
        """``S_tau^{+/2} x`` in the r kept eigenvectors, for images [B, C, H, W]."""
        kept = slice(len(self.values) - self.kept, None)
        return x.double().cpu().flatten(1) @ (self.vectors[:, kept] / self.values[kept].sqrt())


@dataclass(frozen=True)
class EffectiveDimension:
    """``tr(S_tau^+ Sigmahat)`` of a truncated class on m images, and what the truncation left out.

    Attributes:
        trace: ``1/m sum_i x_i^T S_tau^+ x_i``, S_tau^+ the pseudo-inverse on the kept eigenvectors; Eq. (5a).
        law: law of the moments.
        m: number of images behind Sigmahat (not centred).
        inputs: D.
        rank: number r of eigenvalues of S that were kept.
        null: number of eigenvalues of S that are 0 to rounding.
        cutoff: relative eigenvalue threshold.
        outside: share ``1 - tr(P Sigmahat) / tr(Sigmahat)`` of the images outside the kept space, Eq. (5b).
        violations: images that are not in the range of S: more than 1e-6 of their squared norm lies in the null space
            of S, Eq. (5c). If there are any, the range condition of Eq. (5) fails, and the class without truncation has
            infinite complexity.
    """

    trace: float
    law: str
    m: int
    inputs: int
    rank: int
    null: int
    cutoff: float
    outside: float
    violations: int

    @property
    def condition_holds(self) -> bool:
        """Whether every image lies in the range of S, the assumption of Eq. (5)."""
        return self.violations == 0

    @property
    def dimension(self) -> float:
        """The effective dimension: ``trace``, but infinite where the range condition fails (for Vanilla always)."""
        return self.trace if self.condition_holds else math.inf

    def bound(self, gamma: float = 1.0) -> float:
        """``sqrt(gamma dimension / m)``: bound of the empirical Rademacher complexity, Eq. (5); may be infinite."""
        return math.sqrt(check_gamma(gamma) * self.dimension / self.m)

    def truncated_bound(self, gamma: float = 1.0) -> float:
        """``sqrt(gamma trace / m)``: the bound for the truncated class, Eq. (5a); finite whatever the images."""
        return math.sqrt(check_gamma(gamma) * self.trace / self.m)


def second_moment(data: ImageData) -> Float64[Tensor, "D D"]:
    """``1/m sum_i x_i x_i^T`` of the flattened images, not centred; float64 on the CPU.

    Raises:
        ValueError: for more than 4,096 inputs.
    """
    inputs = data.x[0].numel()
    if inputs > _MAX_INPUTS:
        raise ValueError(
            f"the metric holds {inputs} x {inputs} matrices, allowed up to {_MAX_INPUTS} inputs; use smaller images."
        )
    total = torch.zeros(inputs, inputs, dtype=torch.float64)
    for x in blocks(data):
        flat = x.flatten(1)
        total.addmm_(flat.T, flat)
    return total / len(data)


def ellipsoid(moments: Moments, data: ImageData, *, cutoff: float = 1e-10, second: Tensor | None = None) -> Ellipsoid:
    """The metric ``S = A o E[x x^T]`` in its eigenvectors; A from ``moments``, E the mean over ``data``; Eq. (5).

    Args:
        moments: A for the size of the images; its law is that of the result.
        data: the images that R2 is computed on.
        cutoff: eigenvalues count up to ``cutoff`` times the largest one; see Eq. (5a). Below the default they are
            known to less than six digits.
        second: `second_moment` of ``data`` if it is known already.

    Raises:
        ValueError: moments for another size, more than 4,096 inputs, ``cutoff`` outside [D epsilon, 1), or ``second``
            of another shape.
    """
    check_moments(moments, data.shape)
    channels, h, w = (int(s) for s in data.x.shape[1:])
    inputs = channels * h * w
    if not _rounding(inputs) <= cutoff < 1:
        raise ValueError(
            f"expected a cutoff from {_rounding(inputs):.2g}, the rounding error of {inputs} eigenvalues, to 1, got "
            f"{cutoff}; it is relative to the largest eigenvalue."
        )
    metric = second_moment(data) if second is None else second.double().cpu().clone()
    if metric.shape != (inputs, inputs):
        raise ValueError(
            f"expected a second moment [{inputs}, {inputs}] of {inputs} inputs, got {tuple(metric.shape)}; pass "
            "second_moment(data)."
        )
    a = torch.from_numpy(moments.second.dense())
    metric.view(channels, h * w, channels, h * w).mul_(a[None, :, None, :])
    values, vectors = torch.linalg.eigh(metric)
    return Ellipsoid(values, vectors, (channels, h, w), moments.law, cutoff)


def effective_dimension(metric: Ellipsoid, points: ImageData) -> EffectiveDimension:
    """``tr(S_tau^+ Sigmahat)`` with ``Sigmahat = 1/m sum_i x_i x_i^T`` over ``points``, Eqs. (5) and (5a).

    Args:
        metric: S, from these or other images.
        points: the m images of the Rademacher complexity, of the same size.

    Raises:
        ValueError: for images of another size, or images that are all 0.
    """
    check_size(metric, points)
    kept, null = metric.kept, metric.null
    spread = torch.zeros(len(metric.values), dtype=torch.float64)
    violations = 0
    for x in blocks(points):
        squares = metric.coordinates(x).square_()
        spread += squares.sum(dim=0) / len(points)
        violations += int((squares[:, :null].sum(dim=1) > _OUTSIDE * x.flatten(1).square().sum(dim=1)).sum())
    total = float(spread.sum())
    if total == 0:
        raise ValueError("expected images that are not 0 everywhere: their second moment has no range; check x.")
    used = slice(len(spread) - kept, None)
    trace = float((spread[used] / metric.values[used]).sum())
    outside = float(spread[: len(spread) - kept].sum()) / total
    inputs = len(metric.values)
    return EffectiveDimension(trace, metric.law, len(points), inputs, kept, null, metric.cutoff, outside, violations)


def squared_size(weight: Tensor | np.ndarray, moments: Moments, data: ImageData) -> Float64[Tensor, " k"]:
    """``theta^T S theta`` of each row theta of ``weight``: the smallest gamma whose class, Eq. (5), holds it.

    ``1/m sum_i u_i^T A u_i`` with ``u_i = sum_c theta_c o x_ic``, a map [H, W]; no matrix is formed, nothing cut off.

    Args:
        weight: [k, D], D = C H W in the order of ``data.x.flatten(1)``, as in ``nn.Linear``.
        moments: A for the size of the images.
        data: the images of S.

    Raises:
        ValueError: if shapes do not fit together.
    """
    check_moments(moments, data.shape)
    w = torch.as_tensor(weight).detach().double().cpu()
    inputs = data.x[0].numel()
    if w.ndim != 2 or w.shape[1] != inputs:
        raise ValueError(f"expected rows theta [k, {inputs}] for {inputs} inputs, got {tuple(w.shape)}; flatten them.")
    total = torch.zeros(len(w), dtype=torch.float64)
    rows = w.reshape(len(w), *data.x.shape[1:])
    for x in blocks(data, len(w) * inputs):
        maps = torch.einsum("kchw,bchw->kbhw", rows, x).numpy()
        total += torch.from_numpy(np.asarray(moments.second.quadratic(maps))).sum(dim=1)
    return total / len(data)


def check_gamma(gamma: float) -> float:
    """``gamma`` if it is positive and finite.

    Raises:
        ValueError: otherwise.
    """
    if not (gamma > 0 and math.isfinite(gamma)):
        raise ValueError(f"expected a finite gamma > 0, the size of the class, got {gamma}; see squared_size.")
    return gamma


def blocks(data: ImageData, numbers: int = 0) -> Iterator[Tensor]:
    """Images in float64 on the CPU, so many at a time that ``numbers`` for each stay within the limit."""
    for x, _ in data.batches(max(1, _CHUNK // max(numbers, data.x[0].numel()))):
        yield x.double().cpu()


def check_size(metric: Ellipsoid, points: ImageData) -> None:
    """Raise unless the images have the size of the metric.

    Raises:
        ValueError: with both sizes.
    """
    if tuple(points.x.shape[1:]) != metric.size:
        raise ValueError(
            f"expected images {list(metric.size)} as those of the metric, got {list(points.x.shape[1:])}; build both "
            "for one size."
        )


def _rounding(inputs: int) -> float:
    """Relative size of the rounding errors of eigenvalues."""
    return inputs * float(np.finfo(np.float64).eps)
