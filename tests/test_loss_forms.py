"""What the check of a loss sees where there are two classes, or one output only."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch

from msda_theory.losses import Logistic, Loss, as_loss


def curved(f, y):
    """Softmax, but of the squares of the labels: the same for one-hot labels."""
    return f.logsumexp(dim=-1) - (y**2 * f).sum(dim=-1)


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_a_loss_that_is_affine_at_one_hot_labels_alone_is_refused(classes):
    with pytest.raises(ValueError, match="expected a loss affine in the label, of the form"):
        as_loss(curved, classes)


@dataclass(frozen=True)
class OneOutput(Loss):
    """The logistic loss by hand; its label squared, or its second derivative without the vector."""

    squared: bool = False
    forgetful: bool = False

    def h(self, f):
        return Logistic().h(f)

    def d1(self, f):
        return f.sigmoid()

    def d2(self, f, v):
        return f.sigmoid() * (-f).sigmoid() * (f if self.forgetful else v)

    def value(self, f, y):
        return self.h(f) - ((y**2 if self.squared else y) * f).sum(dim=-1)

    def outputs(self, num_classes):
        return 1

    def targets(self, y, num_classes, dtype):
        return y.to(dtype)[:, None]


def test_losses_of_one_output_are_checked_at_soft_labels_and_other_vectors():
    assert as_loss(OneOutput(), 2) == OneOutput()
    with pytest.raises(ValueError, match="expected a loss affine in the label, of the form"):
        as_loss(OneOutput(squared=True), 2)
    with pytest.raises(ValueError, match="expected d2 of OneOutput to be the derivative of its h"):
        as_loss(OneOutput(forgetful=True), 2)
    logits = torch.tensor([[0.3]], dtype=torch.float64)
    assert float(OneOutput().value(logits, torch.ones(1, 1))) == pytest.approx(math.log1p(math.exp(0.3)) - 0.3)
