"""Time and memory, as ratios within one run where machines differ: ``make bench`` writes ``bench.json``.

- Dense exact moments at 32x32: seconds and peak memory for every strategy and law, each in a fresh process.
  Aim: 5 s and 1 GB or less (peak of the whole process, imports included).
- `make reproduce` and `make test` in a fresh clone, environment included, packages cached. Aim: 6 and 8 minutes.
- `mixed_loss` against plain forward passes over the same number of images, alternating, on a four-layer convolutional
  network (3x32x32, widths 32 to 64, float32) and on the digits network (float64). Aim on the former: 85 % or more.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from torch import nn
from tqdm import tqdm

from experiments.models import small_conv_net
from experiments.record import RESULTS, ROOT, check, code_digest, finish, plain, provenance, write_record
from msda_theory.data import ImageData
from msda_theory.masks.registry import strategies, strategy
from msda_theory.mixed_loss import mixed_loss

_MOMENTS = """
import json, sys, time
from experiments.memory import peak_bytes
from msda_theory.masks.registry import strategy
start = time.perf_counter()
moments = strategy(sys.argv[1]).moments((32, 32), law=sys.argv[2])
dense = moments.second.dense()
seconds = time.perf_counter() - start
print(json.dumps([seconds, peak_bytes()]))
"""


@dataclass(frozen=True)
class Config:
    """Rounds and images of the throughput; whether to time the two commands in a fresh clone; where to write."""

    rounds: int = 5
    images: int = 128
    commands: bool = True
    out: Path = RESULTS


def run(config: Config) -> dict[str, Any]:
    """Measure and write the record."""
    moments = [_moments(name, law) for name in tqdm(strategies(), desc="moments") for law in ("exact", "paper")]
    throughput = [
        _throughput(label, model, data, name, draws, config.rounds)
        for label, model, data, draws in _networks(config.images)
        for name in tqdm(("mixup", "cutmix", "hmix", "gmix"), desc=f"mixed_loss, {label}")
    ]
    commands = _commands() if config.commands else []
    slow, large = max(m["seconds"] for m in moments), max(m["peak_bytes"] for m in moments)
    lowest = min(t["ratio"] for t in throughput if t["network"] == "conv-32x32")
    record = {
        "experiment": "bench",
        "command": "make bench",
        "config": plain(config),
        "result": {
            "moments_32x32": moments,
            "throughput": throughput,
            "commands": commands,
            "checks": [
                check("dense moments at 32x32 within 5 s", slow <= 5, f"slowest {slow:.3f} s"),
                check("dense moments at 32x32 within 1 GB", large <= 1e9, f"largest peak {large / 1e6:.0f} MB"),
                check("mixed_loss reaches 85 % of plain forwards", lowest >= 0.85, f"lowest ratio {lowest:.3f}"),
                *(
                    check(f"`{c['command']}` within {c['aim']} s", c["seconds"] <= c["aim"], f"{c['seconds']:.0f} s")
                    for c in commands
                ),
            ],
        },
        "code": code_digest("bench.py", "memory.py", "models.py"),
        "threads": torch.get_num_threads(),
        **provenance(),
    }
    record["config"].pop("out")
    write_record(config.out / "bench.json", record)
    return record


def _commands() -> list[dict[str, Any]]:
    """Wall time of the README's two commands in a fresh clone without an environment."""
    out = []
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["git", "clone", "--quiet", str(ROOT), folder], check=True)
        for command, aim in (("make reproduce", 360), ("make test", 480)):
            start = time.perf_counter()
            with open(f"{folder}/log", "wb") as log:  # noqa: PTH123
                done = subprocess.run(command.split(), cwd=folder, stdout=log, stderr=log)
            seconds = round(time.perf_counter() - start, 1)
            out.append({"command": command, "seconds": seconds, "aim": aim, "status": done.returncode})
    return out


def _moments(name: str, law: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", _MOMENTS, name, law], cwd=ROOT, capture_output=True, text=True, check=True
    )
    seconds, peak = json.loads(done.stdout)
    return {"strategy": name, "law": law, "seconds": seconds, "peak_bytes": peak}


def _networks(images: int) -> list[tuple[str, nn.Module, ImageData, int]]:
    """Networks with their images and the draws for each image; the small one gets the default number."""
    rng = np.random.default_rng(0)
    y = torch.from_numpy(rng.integers(10, size=images))
    natural = ImageData(torch.from_numpy(rng.normal(size=(images, 3, 32, 32)).astype(np.float32)), y, 10)
    digit = ImageData(torch.from_numpy(rng.normal(size=(images, 1, 8, 8))), y, 10)
    layers: list[nn.Module] = []
    for before, after in pairwise((3, 32, 32, 64, 64)):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)]
    return [
        ("conv-32x32", nn.Sequential(*layers, *head).eval(), natural, 8),
        ("digits", small_conv_net("softplus", seed=0).double().eval(), digit, 64),
    ]


def _throughput(label: str, model: nn.Module, data: ImageData, name: str, draws: int, rounds: int) -> dict[str, Any]:
    """Median over rounds of (time of plain forwards) / (time of mixed_loss), the same number of images."""

    def forwards() -> None:
        with torch.no_grad():
            for _ in range(draws):
                model(data.x)

    def mixed() -> None:
        mixed_loss(model, data, strategy(name), draws=draws, rng=np.random.default_rng(0), batch_size=len(data.x))

    forwards()
    mixed()
    pairs = [(_time(forwards), _time(mixed)) for _ in range(rounds)]
    ratios = [plain_s / mixed_s for plain_s, mixed_s in pairs]
    return {
        "network": label,
        "strategy": name,
        "images": len(data) * draws,
        "ratio": statistics.median(ratios),
        "ratios": ratios,
    }


def _time(function: Callable[[], None]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


if __name__ == "__main__":
    finish(run(tyro.cli(Config)))
