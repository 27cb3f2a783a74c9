"""Cost of PGD beside the passes it needs: ``python -m experiments.bench_attacks``.

Question: does `robustness` cost more than its attacks must? PGD with 50 steps on 1,000 images of 3x32x32 of an
untrained resnet8 (one start, one radius, labels that the network gives) against as many plain forward and backward
passes of the same network in the same batches, down to the image only and with the parameters frozen, the cheapest pass
that has the gradient. Both in turn in every round; reported is the median over rounds of the ratio of processor time
(on a GPU, of wall time), which other programs on the machine do not change. Aim: at most 2.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from torch import nn
from torch.nn import functional as F

from experiments.models import network
from experiments.record import RESULTS, check, code_digest, finish, plain, provenance, write_record
from msda_theory.attack_libraries import AttackSettings
from msda_theory.attacks import run_attack
from msda_theory.data import ImageData

AIM = 2.0
RADIUS = 1e-6  # too small to fool: every image is attacked to the last step


@dataclass(frozen=True)
class Config:
    """Images, batch, steps of PGD, rounds, width of the network; seed; where to write."""

    images: int = 1000
    batch: int = 250
    steps: int = 50
    rounds: int = 3
    width: int = 16
    seed: int = 0
    out: Path = RESULTS


class Counted(nn.Module):
    """A network that counts the batches it differentiates."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net, self.passes = net, 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Outputs of the network."""
        self.passes += int(torch.is_grad_enabled() and x.requires_grad)
        return self.net(x)


def run(config: Config) -> dict[str, Any]:
    """Measure and write the record."""
    rng = np.random.default_rng(config.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    net = network("resnet8", seed=config.seed, width=config.width).eval().to(device)
    x = torch.from_numpy(rng.uniform(size=(config.images, 3, 32, 32)).astype(np.float32)).to(device)
    with torch.no_grad():
        y = torch.cat([net(part).argmax(dim=1) for part in torch.split(x, config.batch)])
    data, counted = ImageData(x, y, 10), Counted(net)
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    settings = AttackSettings("linf", steps=config.steps, restarts=1)
    times: dict[str, list[float]] = {"attack": [], "passes": []}
    passes = 0
    for k in range(config.rounds + 1):  # one round before the first is not counted
        counted.passes = 0
        start = clock()
        run_attack("pgd", counted, data, (RADIUS,), settings, seed=config.seed, batch_size=config.batch)
        middle = clock()
        passes = _passes(net, data, config)
        if k:
            times["attack"].append(middle - start)
            times["passes"].append(clock() - middle)
    ratio = statistics.median(a / b for a, b in zip(times["attack"], times["passes"], strict=True))
    detail = f"{ratio:.2f} times {passes} passes of {config.batch} images"
    record = {
        "experiment": "bench_attacks",
        "command": "python -m experiments.bench_attacks",
        "config": plain(config),
        "result": {
            "seconds": times,
            "passes": passes,
            "attack_passes": counted.passes,
            "ratio": ratio,
            "checks": [
                check(f"PGD-{config.steps} within {AIM:g} times its forward-backward passes", ratio <= AIM, detail),
                check("both differentiate as many batches", passes == counted.passes, f"{passes}, {counted.passes}"),
            ],
        },
        "code": code_digest("bench_attacks.py"),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        **provenance(),
    }
    record["config"].pop("out")
    write_record(config.out / "bench_attacks.json", record)
    return record


def _passes(net: nn.Module, data: ImageData, config: Config) -> int:
    """As many gradients in the image, parameters frozen."""
    needed = [p.requires_grad for p in net.parameters()]
    net.requires_grad_(False)
    count = 0
    for x, y in data.batches(config.batch):
        x = x.clone().requires_grad_()
        for _ in range(config.steps):
            (gradient,) = torch.autograd.grad(F.cross_entropy(net(x), y, reduction="sum"), x)
            count += 1
        float(gradient.sum())  # waits for the device
    for p, flag in zip(net.parameters(), needed, strict=True):
        p.requires_grad_(flag)
    return count


if __name__ == "__main__":
    finish(run(tyro.cli(Config)))
