"""`Moments`: first and second moment of q under a named law, validated at birth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float64

from msda_theory.moments.operators import SecondMoment
from msda_theory.moments.sampled import DrawStore, Sampled

Law = Literal["exact", "paper"]
LAWS: tuple[str, ...] = get_args(Law)

_FULL_CHECK = 144  # pixels up to which positive semi-definiteness is checked by eigenvalues
_TOLERANCE = 1e-10


@dataclass(frozen=True)
class Provenance:
    """How moments were computed.

    Attributes:
        method: ``"closed form"``, ``"finite sum"``, ``"quadrature"`` or ``"sampled"``.
        error: largest absolute error expected in an entry: rounding, quadrature error, or standard error.
        detail: one line in words.
    """

    method: str
    error: float
    detail: str


@dataclass(frozen=True, eq=False)
class Moments:
    """Moments (2) of q, the weight taken from the partner: ``qbar_j = E q_j`` and ``a_jk = E q_j q_k``.

    Attributes:
        mean: qbar [H, W].
        second: A as an operator on maps [..., H, W].
        law: ``"exact"`` (Eq. (2)) or ``"paper"`` (Eq. (2a)).
        provenance: method and error.
        sample: where the mean is one over draws, these draws (or their conditional means); the error of anything
            linear in qbar follows from them.

    Raises:
        ValueError: if sizes disagree, the law is unknown, ``0 <= a_jk <= min(qbar_j, qbar_k) <= 1`` fails, or
            ``A - qbar qbar^T`` is not positive semi-definite. Up to 144 pixels every entry and eigenvalue is
            checked, above that the diagonal and fixed test directions.
    """

    mean: Float64[np.ndarray, "H W"]
    second: SecondMoment
    law: str
    provenance: Provenance
    sample: Sampled | None = None

    def __post_init__(self) -> None:
        check_law(self.law)
        if self.mean.shape != self.second.shape:
            raise ValueError(
                f"expected mean and second moment of one size, got {self.mean.shape} and {self.second.shape}; "
                "build both for the same image size."
            )
        tolerance = _TOLERANCE if self.provenance.method != "sampled" else 1e-8
        self._check_bounds(tolerance)
        self._check_semidefinite(tolerance)

    def _check_bounds(self, tolerance: float) -> None:
        if not (self.mean.min() >= -tolerance and self.mean.max() <= 1 + tolerance):
            raise ValueError(
                f"the mean of q must lie in [0, 1], got {self.mean.min():.3g} .. {self.mean.max():.3g}; "
                "check that masks lie in [0, 1]."
            )
        flat = self.mean.reshape(-1)
        if flat.size <= _FULL_CHECK:
            a = self.second.dense()
            if not np.abs(a - a.T).max() <= tolerance:
                raise ValueError("the second moment must be symmetric, got a_jk != a_kj; check its construction.")
            low, excess = a.min(), (a - np.minimum(flat[:, None], flat[None, :])).max()
        else:
            diagonal = self.second.diagonal()
            low, excess = diagonal.min(), (diagonal - self.mean).max()
        if not (low >= -tolerance and excess <= tolerance):
            raise ValueError(
                "the second moment must satisfy 0 <= a_jk <= min(mean_j, mean_k), got a smallest entry of "
                f"{low:.3g} and an excess of {excess:.3g}; check that masks lie in [0, 1]."
            )

    def _check_semidefinite(self, tolerance: float) -> None:
        flat = self.mean.reshape(-1)
        if flat.size <= _FULL_CHECK:
            smallest = float(np.linalg.eigvalsh(self.second.dense() - np.outer(flat, flat)).min())
        else:
            u = _test_directions(self.mean.shape[0], self.mean.shape[1])
            smallest = float((self.second.quadratic(u) - (u * self.mean).sum(axis=(1, 2)) ** 2).min())
        if not smallest >= -tolerance * flat.size:
            raise ValueError(
                "second - mean mean^T must be positive semi-definite, got a direction of variance "
                f"{smallest:.3g}; mean and second moment must come from one law."
            )

    @classmethod
    def from_draws(cls, q: DrawStore, law: str) -> Moments:
        """Sample moments of draws q [n, H, W], for laws without closed moments.

        ``provenance.error`` is the largest standard error of a diagonal entry a_jj.
        """
        n, second = q.shape[0], Sampled(q)
        mean, square, _, fourth = second.power_means(4)
        error = float(np.sqrt(np.maximum(fourth - square**2, 0).max() / n))
        return cls(mean, second, law, Provenance("sampled", error, f"{n} draws"), sample=second)


def check_law(law: str) -> None:
    """Raise a ValueError that lists the known laws if ``law`` is not one of them."""
    if law not in LAWS:
        raise ValueError(f"expected law among {list(LAWS)}, got {law!r}; choose one of them.")


def check_moments(moments: Moments, shape: tuple[int, int]) -> None:
    """Raise a ValueError unless ``moments`` are for images of size ``shape``."""
    if moments.mean.shape != shape:
        raise ValueError(
            f"expected moments for the {shape[0]}x{shape[1]} pixels of the images, got moments for "
            f"{moments.mean.shape[0]}x{moments.mean.shape[1]}; build them with strategy.moments({shape})."
        )


def check_shape(shape: tuple[int, int]) -> tuple[int, int]:
    """(H, W) as two positive integers.

    Raises:
        ValueError: otherwise.
    """
    sizes = tuple(int(s) for s in shape) if np.iterable(shape) else ()
    if len(sizes) != 2 or min(sizes) < 1 or sizes != tuple(shape):
        raise ValueError(f"expected an image size (height, width) of positive integers, got {shape!r}.")
    return sizes


def _test_directions(h: int, w: int) -> np.ndarray:
    """Fixed unit maps [8, H, W]: the constant, low and high cosines, a corner pixel."""
    y = (np.arange(h)[:, None] + 0.5) / h
    x = (np.arange(w)[None, :] + 0.5) / w
    waves = [np.cos(np.pi * (a * y + b * x)) for a, b in ((0, 0), (1, 0), (0, 1), (2, 3), (h - 1, 0), (0, w - 1))]
    corner, checker = np.zeros((h, w)), np.where((np.indices((h, w)).sum(axis=0)) % 2, 1.0, -1.0)
    corner[0, 0] = 1.0
    maps = np.stack([*waves, corner, checker])
    return maps / np.linalg.norm(maps, axis=(1, 2), keepdims=True)
