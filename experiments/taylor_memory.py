"""Peak memory of one call above what was there before it: forward pass, or Taylor coefficients on as many images.

On CUDA: largest allocation during the call, less what was allocated before. On the CPU (Linux): growth of the largest
resident size of a fresh process (VmHWM) over the resident size just before the call (VmRSS), after a small call has
loaded the libraries; blocks of 64 KiB or more are mapped alone, so that freed ones do not hide in the heap.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from experiments.memory import status_bytes
from experiments.models import network
from experiments.record import ROOT
from msda_theory.taylor import Taylor

_CHILD = """
import json, sys
from experiments.taylor_memory import grown
print(json.dumps(grown(**json.loads(sys.argv[1]))))
"""


def points(batch: int, image: int, draws: int, *, seed: int, device: str = "cpu") -> tuple[Tensor, Tensor]:
    """Inputs [B, 3, image, image] in [0, 1] and directions [K, B, 3, image, image], float32."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(batch, 3, image, image, generator=generator)
    return x.to(device), torch.randn(draws, *x.shape, generator=generator).to(device)


def build(options: dict[str, Any], *, seed: int, device: str = "cpu") -> nn.Module:
    """A network of the benchmark from its options; its parameters need no gradient, which would cost every method."""
    return network(**options, seed=seed).eval().requires_grad_(False).to(device)


def peaks(options: dict[str, Any], batch: int, image: int, draws: int, *, seed: int, device: str) -> dict[str, Any]:
    """Peak bytes of both, and their ratio (NaN if the forward pass is too small to see)."""
    size = {"options": options, "batch": batch, "image": image, "draws": draws, "seed": seed}
    measure = _on_cuda if device == "cuda" else _in_fresh_process
    forward, taylor = (measure({**size, "method": method}) for method in ("forward", "taylor"))
    return {
        "draws": draws,
        "forward_bytes": forward,
        "taylor_bytes": taylor,
        "ratio": taylor / forward if forward > 0 else math.nan,
    }


def grown(options: dict[str, Any], batch: int, image: int, draws: int, seed: int, method: str) -> int:
    """Growth in bytes of this process's largest resident size by one call; for a fresh process."""
    x, directions = points(batch, image, draws, seed=seed)
    small, large = _calls(build(options, seed=seed), method, x, directions)
    small()
    before, earlier = status_bytes("VmRSS"), status_bytes("VmHWM")
    large()
    after = status_bytes("VmHWM")
    return after - before if after > earlier else 0


def _calls(model: nn.Module, method: str, x: Tensor, directions: Tensor) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """A call at one sample and direction, and the one to measure."""
    if method == "forward":
        images = directions.flatten(0, 1)
        return lambda: _no_grad(lambda: model(images[:1])), lambda: _no_grad(lambda: model(images))
    engine = Taylor(model, x)
    return lambda: _no_grad(lambda: engine(x[:1], directions[:1, :1])), lambda: _no_grad(lambda: engine(x, directions))


def _no_grad(call: Callable[[], Any]) -> Any:
    with torch.no_grad():
        return call()


def _on_cuda(size: dict[str, Any]) -> int:
    x, directions = points(size["batch"], size["image"], size["draws"], seed=size["seed"], device="cuda")
    model = build(size["options"], seed=size["seed"], device="cuda")
    small, large = _calls(model, size["method"], x, directions)
    small()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    large()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def _in_fresh_process(size: dict[str, Any]) -> int:
    return int(fresh(["-c", _CHILD, json.dumps(size)]))


def fresh(arguments: list[str]) -> str:
    """What a new Python process prints, run from the project's folder with every large block mapped alone."""
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(2**16)}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout
