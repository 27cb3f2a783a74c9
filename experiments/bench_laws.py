"""Cost of mask laws at full size and of measuring a law: ``make bench`` writes ``bench_laws.json``.

- Moments at 224x224 (50,176 pixels; the matrix would take 20 GB): seconds for the moments, one product A u, one
  quadratic form, the diagonal and the sums by displacement and by distance, and the peak memory of the whole process,
  imports included, each in a fresh process; closed laws under both laws, and a law measured from draws. Aim: 1 GB.
- `law_of` with 10,000 draws at 32x32: seconds, for one mask a batch (10,000 calls) and one a sample. Aim: 20 s.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from torch import Tensor
from tqdm import tqdm

from experiments.record import RESULTS, ROOT, check, code_digest, finish, plain, provenance, write_record
from msda_theory.masks.law_of import law_of
from msda_theory.masks.registry import strategies, strategy

OPERATIONS = ("apply", "quadratic", "diagonal", "by_displacement", "by_distance")

_MOMENTS = """
import json, sys, time
import numpy as np
import torch
from experiments.memory import peak_bytes
from msda_theory.masks.law_of import law_of
from msda_theory.masks.registry import strategy
name, law, size, draws = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
s, shape, seconds = strategy(name), (size, size), {}
if draws:
    rng = np.random.default_rng(0)
    def transform(x, y):
        batch = s.sample(1, shape, rng=rng)
        mask, lam = torch.from_numpy(batch.mask).float()[:, None], float(batch.lam[0])
        return mask * x + (1 - mask) * x.flip(0), lam * y + (1 - lam) * y.flip(0)
    start = time.perf_counter()
    s = law_of(transform, shape, draws)
    seconds["law_of"] = time.perf_counter() - start
start = time.perf_counter()
moments = s.moments(shape, law=law)
seconds["moments"] = time.perf_counter() - start
u = np.random.default_rng(0).normal(size=shape)
for operation in sys.argv[5:]:
    start = time.perf_counter()
    call = getattr(moments.second, operation)
    call(u) if operation in ("apply", "quadratic") else call()
    seconds[operation] = time.perf_counter() - start
peak = peak_bytes()
print(json.dumps({"seconds": seconds, "peak_bytes": peak, "method": moments.provenance.method,
                  "error": moments.provenance.error}))
"""


@dataclass(frozen=True)
class Config:
    """Image side of the moments, draws of the measured law there; draws and side of `law_of`; where to write."""

    size: int = 224
    measured: int = 1_000
    draws: int = 10_000
    side: int = 32
    out: Path = RESULTS


def run(config: Config) -> dict[str, Any]:
    """Measure and write the record."""
    cases = [(name, law, 0) for name in strategies() for law in ("exact", "paper")]
    cases += [(name, "exact", config.measured) for name in ("cutmix", "gmix")]
    moments = [
        _moments(name, law, n, config.size)
        for name, law, n in tqdm(cases, desc=f"moments at {config.size}x{config.size}")
    ]
    modes = [(name, mode) for name in ("mixup", "cutmix", "gmix") for mode in ("batch", "sample")]
    measured = [_law_of(name, mode, config) for name, mode in tqdm(modes, desc="law_of")]
    largest = max(m["peak_bytes"] for m in moments)
    slowest = max(m["seconds"] for m in measured)
    record = {
        "experiment": "bench_laws",
        "command": "make bench",
        "config": plain(config),
        "result": {
            "moments": moments,
            "law_of": measured,
            "checks": [
                check(f"moments at {config.size}x{config.size} within 1 GB", largest <= 1e9, f"{largest / 1e6:.0f} MB"),
                check(
                    f"law_of with {config.draws} draws at {config.side}x{config.side} within 20 s",
                    slowest <= 20,
                    f"slowest {slowest:.1f} s",
                ),
            ],
        },
        "code": code_digest("bench_laws.py", "memory.py"),
        "threads": torch.get_num_threads(),
        **provenance(),
    }
    record["config"].pop("out")
    write_record(config.out / "bench_laws.json", record)
    return record


def _moments(name: str, law: str, draws: int, size: int) -> dict[str, Any]:
    command = [sys.executable, "-c", _MOMENTS, name, law, str(size), str(draws), *OPERATIONS]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return {"strategy": name, "law": law, "measured_draws": draws, **json.loads(done.stdout)}


def _law_of(name: str, mode: str, config: Config) -> dict[str, Any]:
    """Wall time of one measurement, the augmenter's own time included."""
    transform = _augmenter(name, mode == "sample")
    start = time.perf_counter()
    law = law_of(transform, (config.side, config.side), config.draws, name=name)
    seconds = time.perf_counter() - start
    return {"strategy": name, "mode": mode, "draws": len(law), "detail": law.detail, "seconds": seconds}


def _augmenter(name: str, per_sample: bool) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Plain mixing with masks, partner by flip."""
    rng = np.random.default_rng(0)

    def transform(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        batch = strategy(name).sample(len(x) if per_sample else 1, (x.shape[2], x.shape[3]), rng=rng)
        mask, lam = torch.from_numpy(batch.mask).float()[:, None], torch.from_numpy(batch.lam).float()[:, None]
        return mask * x + (1 - mask) * x.flip(0), lam * y + (1 - lam) * y.flip(0)

    return transform


if __name__ == "__main__":
    finish(run(tyro.cli(Config)))
