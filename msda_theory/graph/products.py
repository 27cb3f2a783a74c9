"""Products with a fixed matrix, dense or sparse, that gradients pass through."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

SPARSE_BELOW = 0.1  # share of entries that are not 0 below which the sparse product is used


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
    def of(cls, matrix: Tensor, *, symmetric: bool = False) -> FixedMatrix:
        """From a dense or sparse tensor; a dense one with few entries becomes sparse."""
        if matrix.layout == torch.strided and (matrix != 0).float().mean().item() < SPARSE_BELOW:
            matrix = matrix.to_sparse_csr()
        if matrix.layout == torch.strided:
            return cls(matrix, matrix.T)
        matrix = matrix.to_sparse_csr()
        return cls(matrix, matrix if symmetric else matrix.to_sparse_coo().T.coalesce().to_sparse_csr())  # type: ignore[no-untyped-call]

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
