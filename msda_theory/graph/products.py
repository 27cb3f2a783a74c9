"""Products with a fixed matrix, dense or sparse, that gradients pass through."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

# Sparse products pay below this share of entries that are not 0 (`experiments.bench_graph`); larger matrices than this
# are kept sparse whatever their share.
SPARSE_BELOW, DENSE_ENTRIES = 0.1, 10**8


@dataclass(frozen=True, eq=False)
class FixedMatrix:
    """A matrix B [n, m] without gradient, for products ``B z`` with z [m, k] that has one.

    Attributes:
        matrix: B, dense or sparse CSR.
        transposed: its transpose in the same layout; the backward pass of a sparse product needs rows of it.
    """

    matrix: Tensor
    transposed: Tensor

    @classmethod
    def of(cls, matrix: Tensor, *, symmetric: bool = False, sparse: bool | None = None) -> FixedMatrix:
        """From a dense or sparse tensor, kept ``sparse`` or dense; by default as its products are faster."""
        compressed = _csr(matrix)
        if sparse is None:
            few = compressed.values().numel() < SPARSE_BELOW * matrix.numel()
            sparse = few or matrix.numel() > DENSE_ENTRIES
        if not sparse:
            dense = matrix.to_dense()
            return cls(dense, dense.T)
        matrix = _narrow(compressed)
        return cls(matrix, matrix if symmetric else _narrow(_csr(matrix.to_sparse_coo().T.coalesce())))  # type: ignore[no-untyped-call]

    @property
    def shape(self) -> tuple[int, int]:
        """(n, m)."""
        return self.matrix.shape[0], self.matrix.shape[1]

    @property
    def entries(self) -> int:
        """Entries that are stored."""
        return self.matrix.numel() if self.matrix.layout == torch.strided else self.matrix.values().numel()

    def __matmul__(self, z: Tensor) -> Tensor:
        product: Tensor = self.matrix @ z if self.matrix.layout == torch.strided else _Sparse.apply(z, self)  # type: ignore[no-untyped-call]
        return product


class _Sparse(torch.autograd.Function):
    """``B z`` for sparse B; the gradient in z is ``B^T g``."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, fixed: FixedMatrix) -> Tensor:
        ctx.fixed = fixed
        return fixed.matrix @ z

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return ctx.fixed.transposed @ gradients[0].contiguous(), None


def _narrow(matrix: Tensor) -> Tensor:
    """The same matrix with indices of 32 bits, with which products are faster."""
    rows, columns = matrix.crow_indices().int(), matrix.col_indices().int()
    return torch.sparse_csr_tensor(rows, columns, matrix.values(), size=matrix.shape, check_invariants=False)


def _csr(matrix: Tensor) -> Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        return matrix.to_sparse_csr()
