"""Moments at 224x224 and other large sizes: single entries against enumeration over all centres, memory, symmetries."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import reference

from msda_theory.masks.registry import strategy

# A corner, an edge, the centre and two neighbours; the order of the rule that makes the integral over lam exact
# (boxes: polynomials in lam between the steps; n nodes are exact up to degree 2 n - 1) or accurate to 1e-11 (the
# Gaussian).
CASES = [("cutmix", (224, 224), 1), ("cutmix", (61, 224), 1), ("hmix", (224, 224), 2), ("hmix", (61, 224), 2)]
CASES += [("gmix", (61, 96), 12)]


@pytest.mark.parametrize(("name", "shape", "order"), CASES, ids=lambda v: v if isinstance(v, str) else str(v))
@pytest.mark.parametrize("law", ["exact", "paper"])
def test_entries_equal_enumeration(name, law, shape, order):
    h, w = shape
    pixels = np.array([(0, 0), (h - 1, w - 1), (0, w // 2), (h // 2, w // 2), (h // 2 + 1, w // 2 - 2)])
    mean, second = reference.moments_at(name, shape, law, pixels, order)
    moments = strategy(name).moments(shape, law=law)
    at = tuple(pixels.T)
    np.testing.assert_allclose(moments.mean[at], mean, rtol=0, atol=1e-10)
    units = np.zeros((len(pixels), *shape))
    units[np.arange(len(pixels)), *at] = 1.0
    np.testing.assert_allclose(moments.second.apply(units)[:, *at], second, rtol=0, atol=1e-10)
    np.testing.assert_allclose(moments.second.quadratic(units), np.diagonal(second), rtol=0, atol=1e-10)
    np.testing.assert_allclose(moments.second.diagonal()[at], np.diagonal(second), rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", ["mixup", "cutmix", "hmix", "gmix", "choice"])
def test_displacements_agree_with_products(name):
    """Sums over displacements are quadratic forms too: sum_p a(p) n(p) cos(p . w) = u^T A u over a pair of waves."""
    shape = (96, 150)
    second = strategy(name).moments(shape).second
    y, x = np.indices(shape)
    py, px = np.arange(1 - shape[0], shape[0])[:, None], np.arange(1 - shape[1], shape[1])
    for wy, wx in ((0.0, 0.0), (0.3, -0.7), (3.0, 0.01)):
        phase = wy * y + wx * x
        direct = second.quadratic(np.stack([np.cos(phase), np.sin(phase)])).sum()
        collected = (second.displacement_sums() * np.cos(wy * py + wx * px)).sum()
        np.testing.assert_allclose(collected, direct, rtol=1e-10, atol=1e-8)


PROGRAM = """
import json, sys
import numpy as np
from msda_theory.masks.registry import strategy
moments = strategy(sys.argv[1]).moments((224, 224))
u = np.random.default_rng(0).normal(size=(224, 224))
second = moments.second
assert abs(second.quadratic(u) - (u * second.apply(u)).sum()) < 1e-8 * second.quadratic(u)
second.diagonal(), second.by_displacement(), second.by_distance()
with open("/proc/self/status") as status:  # ru_maxrss would start from the memory of the process that started this one
    print(json.dumps(next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))))
"""


@pytest.mark.parametrize("name", ["cutmix", "hmix", "gmix", "choice"])
def test_memory_at_224(name):
    """The whole process, imports included, stays below 1 GB; the matrix itself would take 20 GB."""
    done = subprocess.run([sys.executable, "-c", PROGRAM, name], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) < 1e9
