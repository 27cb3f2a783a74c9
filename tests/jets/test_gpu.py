"""The engine on a GPU: the numbers of the CPU, also when passes are recorded and replayed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from msda_theory.compare import compare
from msda_theory.data import ImageData
from msda_theory.masks.cutmix import CutMix
from msda_theory.taylor import Taylor

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def net():
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.GELU(), nn.MaxPool2d(2), nn.GroupNorm(2, 8)
    return nn.Sequential(*layers, nn.Softplus(), nn.Flatten(), nn.Linear(128, 5)).double().eval()


def points(seed, batch=6, directions=4):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(batch, 3, 8, 8, generator=generator, dtype=torch.float64)
    return x, torch.randn(directions, *x.shape, generator=generator, dtype=torch.float64)


def same(a, b):
    for name in ("value", "first", "second"):
        torch.testing.assert_close(getattr(a, name).cpu(), getattr(b, name).cpu(), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("weights", [None, (1.0, -2.0, 0.5, 0.0)], ids=["ones", "weights"])
def test_recorded_passes_give_the_numbers_of_the_cpu(weights):
    cpu, gpu = net(), net().cuda()
    one, other = Taylor(cpu, points(0)[0]), Taylor(gpu, points(0)[0].cuda())
    with torch.no_grad():
        for seed in range(6):
            x, d = points(seed)
            same(one(x, d, weights), other(x.cuda(), d.cuda(), weights))
        # A training step in place, then parameters at another address.
        for model in (cpu, gpu):
            model[7].weight.mul_(1.5)
        x, d = points(7)
        same(one(x, d, weights), other(x.cuda(), d.cuda(), weights))
        for model in (cpu, gpu):
            model[7].weight = nn.Parameter(model[7].weight * 2)
        for seed in range(5):
            x, d = points(seed)
            same(one(x, d, weights), other(x.cuda(), d.cuda(), weights))
    x, d = points(8, batch=9, directions=2)
    other(x.cuda(), d.cuda()).second.sum().backward()
    one(x, d).second.sum().backward()
    torch.testing.assert_close(cpu[0].weight.grad, gpu[0].weight.grad.cpu(), rtol=1e-9, atol=1e-12)


def test_the_table_of_the_cpu():
    x, _ = points(1, batch=70)
    y = torch.arange(70) % 5
    options = {"law": ("exact", "paper"), "at": ("data", "mean", "mask"), "draws": 40, "kink": 0.25}
    rows = [
        compare({"net": model}, data, [CutMix()], rng=np.random.default_rng(0), **options).rows
        for model, data in ((net(), ImageData(x, y, 5)), (net().cuda(), ImageData(x.cuda(), y.cuda(), 5)))
    ]
    for cpu, gpu in zip(*rows, strict=True):
        for term in ("base", "r1", "r2", "r3", "predicted", "measured", "gap", "explained", "kink"):
            assert getattr(gpu, term).mean == pytest.approx(getattr(cpu, term).mean, rel=1e-9, abs=1e-11)
            assert getattr(gpu, term).se == pytest.approx(getattr(cpu, term).se, rel=1e-6, abs=1e-12)
