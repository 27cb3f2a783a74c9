"""Products with a fixed matrix: dense and sparse give the same numbers and gradients."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from torch.autograd.gradcheck import GradcheckError

from msda_theory.graph.products import SPARSE_BELOW, FixedMatrix


def matrix(rows: int, columns: int, share: float, seed: int = 0) -> torch.Tensor:
    """Entries of a normal law, each there with probability ``share``; not symmetric."""
    rng = np.random.default_rng([44, seed])
    return torch.from_numpy(rng.normal(size=(rows, columns)) * (rng.random((rows, columns)) < share))


def operand(rows: int, columns: int = 3) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng([44, 99]).normal(size=(rows, columns))).requires_grad_()


DENSE = {
    "square": matrix(6, 6, 0.4),
    "wide": matrix(4, 9, 0.4),
    "tall": matrix(9, 4, 0.4),
    "full": matrix(5, 5, 1.0),
    "empty-rows": matrix(12, 12, 0.05, seed=2),
    "zero": torch.zeros(4, 5, dtype=torch.float64),
}


def csr(b: torch.Tensor) -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        return b.to_sparse_csr()


def csc(b: torch.Tensor) -> torch.Tensor:
    return csr(b).to_sparse_csc()


LAYOUTS = {
    "as-it-is": lambda b: b,
    "csr": csr,
    "coo": lambda b: b.to_sparse_coo(),
    "csc": csc,
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", DENSE)
def test_products_and_gradients(name, layout):
    b = DENSE[name]
    fixed, z = FixedMatrix.of(LAYOUTS[layout](b), sparse=layout != "as-it-is"), operand(b.shape[1])
    assert fixed.shape == tuple(b.shape)
    torch.testing.assert_close(fixed @ z, b @ z, rtol=0, atol=1e-14)
    weights = operand(b.shape[0]).detach()
    (found,) = torch.autograd.grad(((fixed @ z) * weights).sum(), z)
    torch.testing.assert_close(found, b.T @ weights, rtol=0, atol=1e-14)
    assert torch.autograd.gradcheck(lambda v: fixed @ v, z)


def test_a_wrong_transpose_is_seen():
    """Called symmetric though it is not, a sparse matrix keeps its product and has a wrong gradient."""
    b = DENSE["square"]
    fixed, z = FixedMatrix.of(csr(b), symmetric=True, sparse=True), operand(6)
    torch.testing.assert_close(fixed @ z, b @ z, rtol=0, atol=1e-14)
    with pytest.raises(GradcheckError, match="Jacobian mismatch"):
        torch.autograd.gradcheck(lambda v: fixed @ v, z)


def test_a_symmetric_matrix_is_stored_once():
    b = DENSE["empty-rows"] + DENSE["empty-rows"].T
    fixed, z = FixedMatrix.of(csr(b), symmetric=True, sparse=True), operand(12)
    assert fixed.transposed is fixed.matrix
    assert torch.autograd.gradcheck(lambda v: fixed @ v, z)


def test_gradients_through_two_products_and_not_contiguous():
    b = DENSE["square"]
    fixed, z = FixedMatrix.of(csr(b), sparse=True), operand(6)
    assert torch.autograd.gradcheck(lambda v: (fixed @ (fixed @ v).T[:, :6].T.sin()).T, z)


@pytest.mark.parametrize("layout", ["as-it-is", "csr"])
@pytest.mark.parametrize("entries", [9, 10])
def test_few_entries_make_it_sparse(entries, layout):
    b = torch.zeros(10, 10)
    b.view(-1)[:entries] = 1
    fixed = FixedMatrix.of(LAYOUTS[layout](b))
    sparse = entries / 100 < SPARSE_BELOW
    assert (fixed.matrix.layout == torch.sparse_csr) == sparse
    assert fixed.entries == (entries if sparse else 100)
    torch.testing.assert_close(fixed @ torch.eye(10), b)


def test_indices_are_narrow_and_single_precision_stays():
    fixed = FixedMatrix.of(csr(DENSE["square"].float()), sparse=True)
    for part in (fixed.matrix, fixed.transposed):
        assert part.crow_indices().dtype == part.col_indices().dtype == torch.int32
    assert (fixed @ operand(6).float()).dtype == torch.float32
    assert not fixed.matrix.requires_grad
