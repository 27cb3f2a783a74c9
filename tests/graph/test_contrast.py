"""Contrastive losses against torch's own, which know no negatives, and against loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from msda_theory.graph.contrast import binary_cross_entropy, info_nce


def scores(n: int, seed: int) -> torch.Tensor:
    return torch.from_numpy(3 * np.random.default_rng([43, seed]).normal(size=n)).requires_grad_()


@pytest.mark.parametrize("numbers", [(5, 3), (1, 1), (2, 40), (4, 0)], ids=str)
def test_binary_cross_entropy(numbers):
    p, n = (scores(number, seed) for seed, number in enumerate(numbers))
    found = binary_cross_entropy(p, n)
    labels = torch.cat([torch.ones_like(p), torch.zeros_like(n)])
    truth = binary_cross_entropy_with_logits(torch.cat([p, n]), labels)
    torch.testing.assert_close(found, truth, rtol=1e-14, atol=0)
    ours, theirs = (torch.autograd.grad(loss, (p, n)) for loss in (found, truth))
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-15)
    by_hand = sum(math.log1p(math.exp(-s)) for s in p.tolist()) + sum(math.log1p(math.exp(s)) for s in n.tolist())
    assert found.item() == pytest.approx(by_hand / sum(numbers), rel=1e-13)


@pytest.mark.parametrize("temperature", [1.0, 0.1, 5.0])
@pytest.mark.parametrize("numbers", [(5, 3), (1, 1), (2, 40)], ids=str)
def test_info_nce(numbers, temperature):
    """A softmax over one positive and all negatives, whose right answer is the positive."""
    p, n = (scores(number, seed) for seed, number in enumerate(numbers))
    found = info_nce(p, n, temperature=temperature)
    logits = torch.cat([p[:, None], n.expand(len(p), -1)], dim=1) / temperature
    truth = cross_entropy(logits, torch.zeros(len(p), dtype=torch.int64))
    torch.testing.assert_close(found, truth, rtol=1e-13, atol=1e-15)
    ours, theirs = (torch.autograd.grad(loss, (p, n)) for loss in (found, truth))
    torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-14)


def test_large_scores_stay_finite():
    large = torch.tensor([1000.0, -1000.0])
    assert binary_cross_entropy(large, large).item() == 500
    assert info_nce(large, large).item() == pytest.approx(1000 + math.log(2) / 2, abs=0.5)
    assert info_nce(-large.abs(), large.abs()).item() == pytest.approx(2000 + math.log(2), rel=1e-6)


def test_scores_that_cannot_be_told_apart():
    zeros = torch.zeros(3, dtype=torch.float64)
    assert binary_cross_entropy(zeros, zeros).item() == pytest.approx(math.log(2), rel=1e-15)
    assert info_nce(zeros, zeros).item() == pytest.approx(math.log(4), rel=1e-15)


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("inf"), float("nan")])
def test_temperature_must_be_positive(temperature):
    with pytest.raises(ValueError, match=f"expected a temperature > 0, got {temperature}; the usual range"):
        info_nce(torch.zeros(2), torch.zeros(2), temperature=temperature)
