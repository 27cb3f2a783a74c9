"""Functions of the normalised adjacency of a large graph without a dense matrix: Chebyshev series and pushing.

Both go through the n seeds (columns) in blocks, so that beside the result they hold a few million numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64
from scipy.sparse import csr_array, diags_array, vstack
from scipy.special import ive

from msda_theory.graph.sparse import stored

_DENSE = 2**20  # numbers in a dense block: 8 MB; larger ones leave the cache and take longer for each column
_PUSHED = 2**22  # most entries of a sparse block of residuals
_SMALLEST = 1e-9  # threshold for which a series is still cut in proportion


class Walk(NamedTuple):
    """The normalised adjacency and its leading eigenvector.

    Attributes:
        matrix: ``T = D^{-1/2} (A + I) D^{-1/2}``, sparse [n, n], float64, exactly symmetric.
        roots: ``sqrt(d)`` [n], d the degrees with self-loop; ``T sqrt(d) = sqrt(d)``.
    """

    matrix: csr_array
    roots: Float64[np.ndarray, " n"]


def tail_bound(threshold: float) -> float:
    """Largest error of an entry before the threshold is applied: ``threshold / 1000``, 1e-12 at least."""
    return 1e-3 * max(threshold, _SMALLEST)


def ppr_coefficients(teleport: float, tail: float) -> Float64[np.ndarray, " K"]:
    """Chebyshev coefficients of ``a / (1 - (1-a) x)`` on [-1, 1]; those left out sum to ``tail`` at most, Eq. (12c)."""
    stay = 1 - teleport
    root = np.sqrt(teleport * (2 - teleport))  # sqrt(1 - stay^2)
    ratio = stay / (1 + root)
    scale = 2 * teleport / root
    if ratio == 0:
        return np.ones(1)
    # sum_{k > K} scale ratio^k = scale ratio^(K+1) / (1 - ratio)
    last = int(max(0.0, np.ceil(np.log(tail * (1 - ratio) / scale) / np.log(ratio)) - 1))
    coefficients = scale * ratio ** np.arange(last + 1.0)
    coefficients[0] /= 2
    return coefficients


def heat_coefficients(time: float, tail: float) -> Float64[np.ndarray, " K"]:
    """Chebyshev coefficients of ``exp(-t (1 - x))`` on [-1, 1]; those left out sum to ``tail`` at most, Eq. (12c)."""
    count = 32
    while True:
        bessel = ive(np.arange(count), time)  # e^{-t} I_k(t)
        # I_{k+1} / I_k falls in k, so those not computed are below a geometric series
        ratio = bessel[-1] / bessel[-2] if bessel[-2] > 0 else 0.0
        beyond = 2 * bessel[-1] * ratio / (1 - ratio)
        if beyond <= 1e-3 * tail:
            break
        count *= 2
    coefficients = np.concatenate([bessel[:1], 2 * bessel[1:]])
    rest = np.append(np.cumsum(coefficients[:0:-1])[::-1], 0.0) + beyond  # rest[k]: the sum of those after k
    return coefficients[: int(np.argmax(rest <= tail)) + 1]


def chebyshev(
    walk: Walk, coefficients: Float64[np.ndarray, " K"], *, threshold: float, dtype: np.dtype[np.floating]
) -> csr_array:
    """The entries >= ``threshold`` (and not 0) of ``sum_k c_k T_k(T)``, T_k the Chebyshev polynomials.

    Only the entries on and above the diagonal are kept from the series; the others are their mirror, so that rounding
    does not make a pattern that is not symmetric.

    Returns:
        CSR [n, n] in ``dtype``, exactly symmetric, indices int32, sorted.
    """
    n = walk.matrix.shape[0]
    rows = []
    for low, high in _blocks(n, max(1, _DENSE // max(1, n))):
        block = _series(walk.matrix, coefficients, low, high)
        seed, node = np.nonzero((block >= threshold).T & (block != 0).T)
        keep = node <= seed + low
        seed, node = seed[keep], node[keep]
        values = block[node, seed].astype(dtype)
        starts = np.searchsorted(seed, np.arange(high - low + 1))
        rows.append(csr_array((values, node.astype(np.int32), starts.astype(np.int32)), shape=(high - low, n)))
    lower = _stack(rows, n, dtype)
    return _tidy(lower + lower.T.tocsr() - diags_array(lower.diagonal(), format="csr", dtype=dtype))


def _series(matrix: csr_array, coefficients: Float64[np.ndarray, " K"], low: int, high: int) -> np.ndarray:
    """Columns ``low .. high-1`` of the series [n, high - low], by the recursion of the polynomials."""
    before = np.zeros((matrix.shape[0], high - low))
    before[np.arange(low, high), np.arange(high - low)] = 1.0
    total = coefficients[0] * before
    if len(coefficients) == 1:
        return total
    now = matrix @ before
    total += coefficients[1] * now
    twice = 2 * matrix
    for c in coefficients[2:]:
        after = twice @ now
        after -= before
        before, now = now, after
        total += c * now
    return total


def push(walk: Walk, teleport: float, *, threshold: float, dtype: np.dtype[np.floating]) -> csr_array:
    """PPR diffusion by pushing residuals: ``0 <= S_ij - P_ij <= threshold sqrt(min(d_i, d_j))``, Eq. (12d).

    Starting from P = 0 and the residual R = I (a row for each seed), all entries ``R_ji > threshold sqrt(d_i)`` are
    pushed at once: with Q these entries of R, ``P += a Q`` and ``R += (1-a) Q T - Q``, until there are none. The larger
    of P_ij and P_ji is kept.

    Returns:
        CSR [n, n] in ``dtype``, exactly symmetric, indices int32, sorted.
    """
    n = walk.matrix.shape[0]
    onward = (1 - teleport) * walk.matrix
    limit = threshold * walk.roots
    rows = []
    for low, high in _blocks(n, max(1, _PUSHED // max(1, n))):
        seeds = np.arange(low, high)
        shape = (high - low, n)
        residual = csr_array((np.ones(len(seeds)), (seeds - low, seeds)), shape=shape)
        found = csr_array(shape)
        while (active := residual.data > limit[residual.indices]).any():
            pushed = stored(residual, active)
            found = found + teleport * pushed
            residual = stored(residual, ~active) + pushed @ onward
        rows.append(csr_array((found.data.astype(dtype), found.indices, found.indptr), shape=shape))
    stacked = _stack(rows, n, dtype)
    return _tidy(stacked.maximum(stacked.T.tocsr()))


def _blocks(n: int, size: int) -> Iterator[tuple[int, int]]:
    return ((low, min(n, low + size)) for low in range(0, n, size))


def _stack(rows: list[csr_array], n: int, dtype: np.dtype[np.floating]) -> csr_array:
    """The blocks of rows one below the other; they are taken from the list, which would double the memory."""
    stacked = vstack(rows, format="csr", dtype=dtype) if rows else csr_array((n, n), dtype=dtype)
    rows.clear()
    return stacked


def _tidy(matrix: csr_array) -> csr_array:
    matrix.sort_indices()
    if matrix.nnz < 2**31:
        return csr_array((matrix.data, matrix.indices.astype(np.int32), matrix.indptr.astype(np.int32)), matrix.shape)
    return matrix
