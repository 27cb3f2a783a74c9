"""What the tests of faults share: a short training, a short study, and looks at processes and folders."""

from __future__ import annotations

import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from experiments import digit_nets
from experiments.record import ROOT
from experiments.run_config import RunConfig

TRAINING = RunConfig(images=60, test_images=20, width=4, epochs=2, batch=16, crop=1, seed=3)
STUDY = digit_nets.Config(
    strategies=("vanilla", "mixup"), activations=("softplus",), seeds=(0, 1), epochs=4, min_accuracy=0.0
)


@dataclass(frozen=True)
class Config:
    draws: int = 4


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def wait_until(happened, process: subprocess.Popen | None = None, seconds: float = 240) -> None:
    limit = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < limit, "it did not happen in time"
        assert process is None or process.poll() is None, "the process ended first"
        time.sleep(0.005)


def group_is_gone(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
