"""Cost of `MixTransform` as multiples of ``x.clone()``, on the CPU: ``python -m experiments.bench_mix``.

Question: is mixing almost free (claim C8), for HMix and GMix as for Mixup and CutMix, with one mask for a batch as with
one for each image? Measured: 128 images of 3x224x224, float32, labels of 1,000 classes; Mixup and CutMix also in
bfloat16 and with channels last, as multiples of a clone in that format. Beside them, in the same run, plain code of the
kind that training loops use: partners by ``x.flip(0)``, the mask by slices or as a full map.

Every round times a clone and then each method once, so that a change of the machine's load meets them all; reported are
the median over rounds of the ratio to the clone of that round, and the range. A result is new memory in every case, so
that page faults count alike. Aims: 2.0 or less for Mixup, HMix, GMix; 1.3 or less for CutMix.
"""

from __future__ import annotations

import math
import statistics
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

from experiments.record import RESULTS, check, code_digest, finish, plain, provenance, write_record
from msda_theory.masks.registry import strategy
from msda_theory.mix_transform import MixTransform

NAMES = ("mixup", "cutmix", "hmix", "gmix")
AIMS = {"mixup": 2.0, "cutmix": 1.3, "hmix": 2.0, "gmix": 2.0}
CLASSES = 1000

Call = Callable[[], object]


@dataclass(frozen=True)
class Config:
    """Batch, channels and side of the images; rounds; seed; where to write."""

    images: int = 128
    channels: int = 3
    size: int = 224
    rounds: int = 31
    seed: int = 0
    out: Path = RESULTS


def run(config: Config) -> dict[str, Any]:
    """Measure and write the record."""
    rng = np.random.default_rng(config.seed)
    shape = (config.images, config.channels, config.size, config.size)
    x = torch.from_numpy(rng.random(shape, dtype=np.float32))
    y = torch.from_numpy(rng.integers(CLASSES, size=config.images))
    rows = []
    for form, images, names in (
        ("float32", x, NAMES),
        ("float32, channels last", x.to(memory_format=torch.channels_last), NAMES[:2]),
        ("bfloat16", x.bfloat16(), NAMES[:2]),
    ):
        calls = {
            ("MixTransform", name, mode): _transform(name, mode, images, y, config.seed)
            for name in names
            for mode in ("batch", "per sample")
        }
        if form == "float32":
            calls |= {("plain code", *key): call for key, call in _plain_calls(images, rng).items()}
        rows += [{"format": form, **row} for row in _measure(form, images.clone, calls, config.rounds)]
    record = {
        "experiment": "bench_mix",
        "command": "python -m experiments.bench_mix",
        "config": plain(config),
        "result": {"times": rows, "checks": _checks(rows)},
        "code": code_digest("bench_mix.py"),
        "threads": torch.get_num_threads(),
        **provenance(),
    }
    record["config"].pop("out")
    write_record(config.out / "bench_mix.json", record)
    return record


def _transform(name: str, mode: str, x: Tensor, y: Tensor, seed: int) -> Call:
    mix = MixTransform(strategy(name), CLASSES, rng=np.random.default_rng(seed), per_sample=mode == "per sample")
    return lambda: mix(x, y)


def _measure(form: str, clone: Call, calls: dict[tuple[str, str, str], Call], rounds: int) -> list[dict[str, Any]]:
    """Each call in each round, after a clone; one round before the first is not counted."""
    clones: list[float] = []
    times: dict[tuple[str, str, str], list[float]] = {key: [] for key in calls}
    for _ in tqdm(range(rounds + 1), desc=form):
        clones.append(_time(clone))
        for key, call in calls.items():
            times[key].append(_time(call))
    out = []
    for (method, name, mode), seconds in times.items():
        ratios = [t / c for t, c in zip(seconds[1:], clones[1:], strict=True)]
        out.append(
            {
                "method": method,
                "strategy": name,
                "mode": mode,
                "clones": statistics.median(ratios),
                "min": min(ratios),
                "max": max(ratios),
                "clone_ms": round(1e3 * statistics.median(clones[1:]), 3),
                "ratios": ratios,
            }
        )
    return out


def _checks(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The aims, for the default format."""
    own = [r for r in rows if r["method"] == "MixTransform" and r["format"] == "float32"]
    return [
        check(
            f"{r['strategy']}, {r['mode']}, within {AIMS[r['strategy']]} clones",
            r["clones"] <= AIMS[r["strategy"]],
            f"{r['clones']:.2f} ({r['min']:.2f} to {r['max']:.2f})",
        )
        for r in own
    ]


def _time(call: Call) -> float:
    start = time.perf_counter()
    result = call()
    seconds = time.perf_counter() - start
    del result  # not while the clock runs
    return seconds


# --- plain code: partners in reverse order, images only --------------------------------------------------------------


def _plain_calls(x: Tensor, rng: np.random.Generator) -> dict[tuple[str, str], Call]:
    return {
        ("mixup", "batch"): lambda: plain_mixup(x, float(rng.random())),
        ("cutmix", "batch"): lambda: plain_cutmix(x, *_box(x, float(rng.random()), rng)),
        ("hmix", "batch"): lambda: plain_hmix(x, float(rng.random()), 0.5, rng),
        ("gmix", "batch"): lambda: plain_gmix(x, float(rng.random()), rng),
        ("mixup", "per sample"): lambda: plain_mixup_each(x, rng.random(len(x))),
    }


def plain_mixup(x: Tensor, lam: float) -> Tensor:
    """One weight for the batch."""
    return x.clone().mul_(lam).add_(x.flip(0).mul_(1 - lam))


def plain_cutmix(x: Tensor, rows: slice, columns: slice) -> Tensor:
    """One box for the batch."""
    out = x.clone()
    out[:, :, rows, columns] = x.flip(0)[:, :, rows, columns]
    return out


def plain_hmix(x: Tensor, lam: float, ratio: float, rng: np.random.Generator) -> Tensor:
    """One box for the batch, a blend outside that keeps the mean weight at lam."""
    rows, columns = _box(x, 1 - (1 - lam) * ratio, rng)
    share = (rows.stop - rows.start) * (columns.stop - columns.start) / (x.shape[2] * x.shape[3])
    weight, partners = lam / (1 - share), x.flip(0)
    out = x * weight + partners * (1 - weight)
    out[:, :, rows, columns] = partners[:, :, rows, columns]
    return out


def plain_gmix(x: Tensor, lam: float, rng: np.random.Generator) -> Tensor:
    """One Gaussian map for the batch."""
    h, w = x.shape[2:]
    row, column = (torch.arange(n) - int(rng.integers(n)) for n in (h, w))
    squares = row[:, None] ** 2 + column**2
    mask = torch.exp(-math.pi * squares / (min(lam, 1 - lam) * h * w))
    mask = mask if lam < 0.5 else 1 - mask
    return x * mask + x.flip(0) * (1 - mask)


def plain_mixup_each(x: Tensor, lam: np.ndarray) -> Tensor:
    """One weight for each image, image by image."""
    out, original = x.clone(), x.clone()
    for i, weight in enumerate(lam.tolist()):
        out[i] = out[i] * weight + original[len(x) - 1 - i] * (1 - weight)
    return out


def _box(x: Tensor, lam: float, rng: np.random.Generator) -> tuple[slice, slice]:
    """A box of area ``1 - lam`` around a uniform pixel, clipped at the border."""
    spans = []
    for n in x.shape[2:]:
        half, centre = int(n * math.sqrt(1 - lam)) // 2, int(rng.integers(n))
        spans.append(slice(max(0, centre - half), min(n, centre + half)))
    return spans[0], spans[1]


if __name__ == "__main__":
    finish(run(tyro.cli(Config)))
