"""Sparse matrices: thinning out, thresholds, conversion between torch and scipy."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

THRESHOLDS = (1e-5, 1e-4, 1e-3, 1e-2)  # among which the code of Hassani and Khasahmadi (2020) chooses


@dataclass(frozen=True, eq=False)
class Sparsified:
    """A matrix without its small entries.

    Attributes:
        matrix: sparse CSR [n, m], dtype and device of the full one.
        threshold: entries of at least this magnitude were kept.
        kept_per_row: their mean number in a row.
        lost: largest sum of dropped magnitudes in a row. For a symmetric matrix it bounds the spectral norm of what was
            dropped, as every norm that is a largest row sum does.
    """

    matrix: Tensor
    threshold: float
    kept_per_row: float
    lost: float


def sparsify(matrix: Tensor, *, threshold: float | None = None, degree: float | None = None) -> Sparsified:
    """The entries of at least ``threshold`` in magnitude (and not 0), or about ``degree`` of them in a row.

    With ``degree`` the threshold is the one of ``THRESHOLDS`` (1e-5, 1e-4, 1e-3, 1e-2) whose mean number of entries
    kept in a row is nearest to it, the smaller in case of a tie: with the mean degree of the graph (without self-loops)
    the rule by which Hassani and Khasahmadi (2020) thin the PPR diffusion of CiteSeer. (They then scale every column to
    [0, 1]; that breaks the symmetry, and is not done here.)

    Args:
        matrix: [n, m], dense or sparse CSR.
        threshold: >= 0.
        degree: > 0.

    Raises:
        TypeError: if ``matrix`` is neither dense nor CSR.
        ValueError: if it is no matrix, for neither or both of ``threshold`` and ``degree``, or values out of range.
    """
    if matrix.layout not in (torch.strided, torch.sparse_csr):
        raise TypeError(f"expected a dense or a sparse CSR matrix, got {matrix.layout}; use .to_sparse_csr().")
    if matrix.ndim != 2:
        raise ValueError(f"expected a matrix to thin out, got {matrix.ndim} axes; pass one matrix.")
    if (threshold is None) == (degree is None):
        raise ValueError(
            f"expected either a threshold or a degree, got threshold={threshold} and degree={degree}; give one of them."
        )
    full = to_scipy(matrix)
    size = np.abs(full.data if isinstance(full, csr_array) else full)
    if threshold is None:
        assert degree is not None
        if not 0 < degree < math.inf:
            raise ValueError(f"expected a finite degree > 0 to aim at, got {degree}; pass the graph's mean degree.")
        kept = [np.count_nonzero(size >= e) / full.shape[0] for e in THRESHOLDS]
        threshold = THRESHOLDS[int(np.argmin([abs(degree - k) for k in kept]))]
    check_threshold(threshold)
    keep = (size >= threshold) & (size > 0)
    if isinstance(full, csr_array):
        sparse, dropped = stored(full, keep), abs(stored(full, ~keep))
    else:
        sparse, dropped = csr_array(np.where(keep, full, 0)), np.where(keep, 0, size)
    lost = dropped.sum(axis=1, dtype=np.float64).max(initial=0.0)
    return Sparsified(to_tensor(sparse, matrix.device), threshold, sparse.nnz / max(1, full.shape[0]), float(lost))


def check_threshold(threshold: float) -> None:
    """Raise a ValueError unless ``threshold`` is finite and >= 0."""
    if not 0 <= threshold < math.inf:
        raise ValueError(f"expected a finite threshold >= 0, got {threshold}; 1e-4 suits most graphs.")


def to_scipy(matrix: Tensor) -> np.ndarray | csr_array:
    """The same numbers in NumPy or in scipy's CSR, without a copy where they are on the CPU."""
    matrix = matrix.detach().cpu()
    if matrix.layout == torch.strided:
        return matrix.numpy()
    parts = (matrix.values(), matrix.col_indices(), matrix.crow_indices())
    return csr_array(tuple(p.numpy() for p in parts), shape=tuple(matrix.shape))


def to_tensor(matrix: csr_array, device: torch.device) -> Tensor:
    """Sparse CSR tensor with the indices of ``matrix``, int32 as a rule: half the memory, equal speed."""
    starts, columns, values = (torch.from_numpy(p) for p in (matrix.indptr, matrix.indices, matrix.data))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
        return torch.sparse_csr_tensor(starts, columns, values, matrix.shape, check_invariants=False).to(device)


def stored(matrix: csr_array, keep: np.ndarray) -> csr_array:
    """The stored entries that ``keep`` marks, in arrays of their own: ``eliminate_zeros`` would work in those given."""
    starts = np.concatenate([[0], np.cumsum(keep)])[matrix.indptr].astype(matrix.indptr.dtype)
    return csr_array((matrix.data[keep], matrix.indices[keep], starts), shape=matrix.shape)
