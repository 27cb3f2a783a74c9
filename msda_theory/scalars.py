"""Numbers that a user passes: whole numbers, real ones, the parameter alpha, nominal weights; checked in one place."""

from __future__ import annotations

from numbers import Integral, Real

import numpy as np

ALPHAS = (1e-12, 1e7)  # docs/laws.md, "The range of alpha"


def check_whole(name: str, value: object) -> None:
    """Raise a TypeError unless ``value`` is a whole number, Python's or NumPy's; True and False are none."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"expected {name} as a whole number, got {value!r}; pass an int.")


def check_real(name: str, value: object) -> None:
    """Raise a TypeError unless ``value`` is a real number, Python's or NumPy's; True and False are none."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"expected {name} as a number, got {value!r}; pass a float.")


def as_alpha(alpha: float) -> float:
    """The parameter of Beta(alpha, alpha) as a float.

    Raises:
        TypeError: if it is no real number.
        ValueError: if it is outside [1e-12, 1e7], where every law and its moments were found right.
    """
    check_real("alpha", alpha)
    if not ALPHAS[0] <= alpha <= ALPHAS[1]:
        raise ValueError(
            f"expected alpha in [1e-12, 1e7], got {alpha}; take a number between, lam is all but surely 0 or 1 at the "
            "lower end and 1/2 at the upper one."
        )
    return float(alpha)


def check_weights(lam: np.ndarray) -> None:
    """Raise unless ``lam`` are nominal weights: an array [n] of float64, each in [0, 1].

    Raises:
        TypeError, ValueError: with what was given.
    """
    if not (isinstance(lam, np.ndarray) and lam.ndim == 1 and lam.dtype == np.float64):
        got = f"{list(lam.shape)} in {lam.dtype}" if isinstance(lam, np.ndarray) else type(lam).__name__
        raise TypeError(
            f"expected nominal weights lam as an array [n] in float64, got {got}; pass e.g. numpy.array([0.3])."
        )
    outside = np.flatnonzero(~((lam >= 0) & (lam <= 1)))
    if len(outside):
        raise ValueError(
            f"expected nominal weights lam in [0, 1], got {lam[outside[0]]} at {outside[0]}; draw them from a Beta law."
        )
