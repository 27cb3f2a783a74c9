"""Views of a graph: the normalised adjacency (local) and its diffusions, personalised PageRank and heat (global).

All three have the eigenvector ``sqrt(d)`` with eigenvalue 1, d the degrees with self-loop, and no negative entries.
Sections and equations: docs/theory.md, Section 12.
"""

from __future__ import annotations

import math
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float64
from scipy.linalg import eigh
from scipy.linalg.lapack import dpotrf, dpotri
from scipy.sparse import csr_array
from torch import Tensor

from msda_theory.graph.diffusion import Walk, chebyshev, heat_coefficients, ppr_coefficients, push, tail_bound
from msda_theory.graph.sparse import check_threshold, to_scipy, to_tensor
from msda_theory.masks.base import check_option

_TELEPORT = 1e-8  # I - (1-a) T has condition number 2/a


@runtime_checkable
class Topology(Protocol):
    """What a view needs of a graph."""

    @property
    def nodes(self) -> int:
        """Number of nodes n."""

    @property
    def edges(self) -> Tensor:
        """int64 [2, E]: every undirected edge in both directions, without self-loops or duplicates."""


def normalized_adjacency(graph: Topology, *, dtype: torch.dtype = torch.float32) -> Tensor:
    """The local view ``T = D^{-1/2} (A + I) D^{-1/2}``, D the degrees with self-loop, Eq. (12).

    A node without edges has ``T_ii = 1``.

    Returns:
        Sparse CSR [n, n], exactly symmetric, on the device of the edges.

    Raises:
        TypeError: if ``dtype`` is not float32 or float64.
    """
    return to_tensor(_walk(graph).matrix.astype(_numpy(dtype)), graph.edges.device)


def ppr(
    graph: Topology,
    *,
    teleport: float = 0.2,
    method: str = "exact",
    threshold: float = 1e-4,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Personalised PageRank ``S = a (I - (1-a) T)^{-1} = a sum_k (1-a)^k T^k``, a the teleport probability, Eq. (12a).

    Everything is computed in float64; ``dtype`` is that of the result. S is symmetric, its entries are in [0, 1], and
    ``S sqrt(d) = sqrt(d)``; its rows do not sum to 1. (J. Gasteiger et al. 2019; with a = 0.2 in Hassani and
    Khasahmadi 2020.)

    Args:
        graph: n nodes; it may be disconnected and may have isolated nodes, for which ``S_ii = 1``.
        teleport: a in [1e-8, 1]; 1 gives the identity.
        method: ``"exact"``: dense, by a Cholesky factor in place (8 n^2 bytes beside the result, n^3 multiplications);
            the condition number 2/a multiplies rounding: an entry is wrong by ``2 (n + 2) 2^-53 / a`` at most.
            ``"threshold"``: sparse, the entries >= ``threshold``, from a Chebyshev series in blocks of columns; before
            the threshold each is wrong by ``threshold / 1000`` at most (1e-12 at least), Eq. (12c).
            ``"push"``: sparse P by pushing residuals, ``0 <= S_ij - P_ij <= threshold sqrt(min(d_i, d_j))``, Eq. (12d).
            `lost_mass` says what an approximation lost.
        threshold: see ``method``; of no effect for ``"exact"``. 0 keeps all entries (``"threshold"`` only).

    Returns:
        [n, n], exactly symmetric, on the device of the edges; dense if exact, else sparse CSR with int32 indices.

    Raises:
        TypeError: if ``dtype`` is not float32 or float64.
        ValueError: for a teleport or threshold out of range, or an unknown method.
    """
    kind = _numpy(dtype)
    if not _TELEPORT <= teleport <= 1:
        raise ValueError(f"expected teleport in (0, 1] and at least {_TELEPORT:g}, got {teleport}; MVGRL takes 0.2.")
    check_option("method", method, ("exact", "threshold", "push"))
    check_threshold(threshold)
    if method == "push" and threshold == 0:
        raise ValueError("pushing needs a threshold > 0, got 0: residuals never vanish; use method='exact'.")
    walk = _walk(graph)
    if method == "exact":
        return torch.from_numpy(_inverse(walk, teleport)).to(graph.edges.device, dtype)
    if method == "push":
        return to_tensor(push(walk, teleport, threshold=threshold, dtype=kind), graph.edges.device)
    coefficients = ppr_coefficients(teleport, tail_bound(threshold))
    return to_tensor(chebyshev(walk, coefficients, threshold=threshold, dtype=kind), graph.edges.device)


def heat(
    graph: Topology,
    *,
    time: float = 5.0,
    method: str = "exact",
    threshold: float = 1e-4,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Heat diffusion ``S = exp(-t (I - T)) = e^{-t} sum_k t^k / k! T^k``, the matrix exponential, Eq. (12b).

    Symmetric, entries in [0, 1], ``S sqrt(d) = sqrt(d)``.

    Args:
        graph: as for `ppr`.
        time: t >= 0; 0 gives the identity.
        method: ``"exact"``: dense, from all eigenvalues of T (float64; some 30 n^2 bytes and ``10 n^3`` operations);
            rounding is ``(n + 2) (t + 4) 2^-53`` in an entry at most.
            ``"threshold"``: as for `ppr`.
        threshold: >= 0, of no effect for ``"exact"``.

    Returns:
        As for `ppr`.

    Raises:
        TypeError: if ``dtype`` is not float32 or float64.
        ValueError: for a negative or infinite time, a threshold out of range, or an unknown method.
    """
    kind = _numpy(dtype)
    if not 0 <= time < math.inf:
        raise ValueError(f"expected a finite time >= 0 for the heat diffusion, got {time}; MVGRL takes 5.")
    check_option("method", method, ("exact", "threshold"))
    check_threshold(threshold)
    walk = _walk(graph)
    if method == "exact":
        values, vectors = eigh(walk.matrix.toarray(order="F"), overwrite_a=True, driver="evd", check_finite=False)
        half = vectors * np.exp(0.5 * time * (values - 1))
        return torch.from_numpy(half @ half.T).to(graph.edges.device, dtype)  # one factor twice: exactly symmetric
    coefficients = heat_coefficients(time, tail_bound(threshold))
    return to_tensor(chebyshev(walk, coefficients, threshold=threshold, dtype=kind), graph.edges.device)


def lost_mass(graph: Topology, matrix: Tensor) -> Float64[np.ndarray, " n"]:
    """Share of the weighted mass of each row that a sparse diffusion P has lost, ``1 - (P sqrt(d))_i / sqrt(d_i)``.

    In [0, 1] up to rounding and the tail of the series. For ``0 <= P <= S`` the largest share bounds the error of the
    whole matrix, ``|S - P|_2 <= max_i lost_i``, Eq. (12e); no dense matrix is needed to know it.

    Args:
        graph: the graph of the diffusion.
        matrix: P [n, n] of `ppr` or `heat`, dense or sparse CSR.

    Raises:
        ValueError: if ``matrix`` is not [n, n].
    """
    if matrix.shape != (graph.nodes, graph.nodes):
        raise ValueError(
            f"expected a diffusion of this graph, {[graph.nodes] * 2}, got {list(matrix.shape)}; pass its own graph."
        )
    roots = _walk(graph).roots
    return 1 - to_scipy(matrix).astype(np.float64) @ roots / roots


def _walk(graph: Topology) -> Walk:
    n = graph.nodes
    loops = np.tile(np.arange(n, dtype=np.int32), (2, 1))
    ends = np.concatenate([graph.edges.cpu().numpy().astype(np.int32), loops], axis=1)
    degrees = np.bincount(ends[0], minlength=n).astype(np.float64)
    # one root of the product, not a product of roots: exactly symmetric
    entries = 1 / np.sqrt(degrees[ends[0]] * degrees[ends[1]])
    return Walk(csr_array((entries, (ends[0], ends[1])), shape=(n, n)), np.sqrt(degrees))


def _inverse(walk: Walk, teleport: float) -> Float64[np.ndarray, "n n"]:
    """``a (I - (1-a) T)^{-1}``, whose eigenvalues are in [a / (2-a), 1]; one dense matrix throughout."""
    dense = walk.matrix.toarray(order="F")
    dense *= -(1 - teleport)
    dense[np.diag_indices_from(dense)] += 1
    factor, info = dpotrf(dense, lower=1, overwrite_a=1)
    assert info == 0, f"dpotrf: {info}"
    inverse, info = dpotri(factor, lower=1, overwrite_c=1)
    assert info == 0, f"dpotri: {info}"
    for k in range(len(inverse)):
        inverse[k, k + 1 :] = inverse[k + 1 :, k]
    inverse *= teleport
    return inverse.T  # symmetric; rows are contiguous


def _numpy(dtype: torch.dtype) -> np.dtype[np.floating]:
    if dtype not in (torch.float32, torch.float64):
        raise TypeError(f"expected dtype torch.float32 or torch.float64, got {dtype}; convert the view afterwards.")
    return np.dtype(np.float32 if dtype == torch.float32 else np.float64)
