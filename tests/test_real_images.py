"""The main path on real colour images: CIFAR-10 in its binary layout, where MSDA_DATA points to it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import msda_theory as mt

FILE = Path(os.environ.get("MSDA_DATA", "/nowhere")) / "cifar-10-batches-bin" / "test_batch.bin"

pytestmark = [
    pytest.mark.data,
    pytest.mark.skipif(not FILE.exists(), reason="MSDA_DATA does not hold cifar-10-batches-bin/test_batch.bin"),
]
STRATEGIES = [mt.Mixup(), mt.CutMix(), mt.HMix(), mt.GMix(), mt.Choice()]


@pytest.fixture(scope="module")
def data() -> mt.ImageData:
    records = np.fromfile(FILE, dtype=np.uint8, count=16 * 3073).reshape(16, 3073)
    x = records[:, 1:].reshape(-1, 3, 32, 32).astype(np.float64) / 255
    return mt.ImageData((x - 0.48) / 0.25, records[:, 0].astype(np.int64), 10)


@pytest.fixture(scope="module")
def model() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = [nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.GELU(), nn.Conv2d(8, 16, 3, stride=2), nn.GELU()]
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10)).double().eval()


def test_the_expansion_of_a_smooth_network_leaves_a_third_order_remainder(model, data):
    for strategy in STRATEGIES:
        order = mt.remainder_order(model, data, strategy, method="paired", draws=4, rng=np.random.default_rng(0))
        assert 2.7 < order.slope < 3.3, strategy.name


def test_the_expansion_of_a_linear_network_with_squared_loss_is_the_mixed_loss(data):
    """Both the loss and the network are of second order at most, so no draw leaves a remainder, wherever expanded."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        linear = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 10)).double().eval()
    points, rng = ("data", "mean", "mask"), np.random.default_rng(1)
    frame = mt.compare({"net": linear}, data, STRATEGIES, loss=mt.Squared(), at=points, draws=8, rng=rng).frame()
    assert len(frame) == len(points) * len(STRATEGIES)
    assert (frame["r3"].abs() < 1e-12).all()
    assert (frame["r2"] > 1e-3).all()
    assert (frame["gap"].abs() < 1e-10).all()
