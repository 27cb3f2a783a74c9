"""Speed of training with each strategy over training without mixing: ``python -m experiments.bench_train``.

Question: do HMix and GMix slow training down (claim C8), and do the cores ever wait for images? Measured: images per
second of the trainer itself (crop, flip, mix, forward, backward, step) on 3x32x32 images in memory, and on JPEG
pictures in folders that worker processes decode. In every round all strategies train the same number of steps in turn,
vanilla first, so that a change of the machine's load meets them all; reported are the median over rounds of the ratio
to vanilla in that round, and the range. Aims: 0.95 or more; share of time spent waiting for images below 5 %.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from PIL import Image
from tqdm import tqdm

from experiments.data import load_data
from experiments.images import DataSet, Images
from experiments.pictures import read_picture
from experiments.processes import Processes
from experiments.record import RESULTS, check, code_digest, command_line, finish, plain, provenance, write_record
from experiments.run_config import RunConfig
from experiments.trainer import Clock, Trainer

STRATEGIES = ("vanilla", "mixup", "cutmix", "choice", "hmix", "gmix")
AIM, WAIT = 0.95, 0.05


@dataclass(frozen=True)
class Config:
    """Steps a round, rounds, batch; pictures in folders and their side; seed; where to write."""

    steps: int = 12
    rounds: int = 11
    batch: int = 128
    pictures: int = 1024
    side: int = 64
    workers: int = 1
    seed: int = 0
    out: Path = RESULTS


def run(config: Config) -> dict[str, Any]:
    """Measure and write the record."""
    rng = np.random.default_rng(config.seed)
    group = Processes(0, 1, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    base = RunConfig(batch=config.batch, epochs=10_000, seed=config.seed)
    memory = _in_memory(config.steps * config.batch, rng)
    settings = {
        "resnet8, float32": base,
        "resnet8, bfloat16": replace(base, precision="bfloat16"),
        "resnet8, bfloat16, a mask for each image": replace(base, precision="bfloat16", per_sample=True),
    }
    rows = [r for name, c in settings.items() for r in _measure(name, c, memory, group, config)]
    loading = [{"images": "in memory", "share": max(r["loading_share"] for r in rows)}]
    with tempfile.TemporaryDirectory() as folder:
        _write_pictures(Path(folder), config, rng)
        loading.append(_loading(Path(folder), replace(base, precision="bfloat16"), group, config))
        decoded = _decoding(Path(folder), rng)
    record = {
        "experiment": "bench_train",
        "command": command_line("experiments.bench_train", replace(config, out=RESULTS)),
        "config": plain(config),
        "result": {"speeds": rows, "loading": loading, "decoded_per_s": decoded, "checks": _checks(rows, loading)},
        "code": code_digest("bench_train.py"),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if group.device.type == "cuda" else "cpu",
        **provenance(),
    }
    record["config"].pop("out")
    write_record(config.out / "bench_train.json", record)
    return record


def _measure(setting: str, base: RunConfig, data: DataSet, group: Processes, config: Config) -> list[dict[str, Any]]:
    """Images per second of every strategy in every round; one round before the first is not counted."""
    trainers = {s: Trainer(replace(base, strategy=s), data, group) for s in STRATEGIES}
    speeds: dict[str, list[float]] = {s: [] for s in STRATEGIES}
    waits = {s: Clock() for s in STRATEGIES}
    for k in tqdm(range(config.rounds + 1), desc=setting):
        for s, trainer in trainers.items():
            trainer.clock = Clock()
            start = time.perf_counter()
            trainer.run_epoch(lambda: None)
            trainer.mean_loss()  # waits for the device
            seconds = time.perf_counter() - start
            trainer.loss.zero_()
            if k:
                speeds[s].append(trainer.clock.images / seconds)
                waits[s].training += trainer.clock.training
                waits[s].loading += trainer.clock.loading
    rows = []
    for s in STRATEGIES:
        ratios = [a / b for a, b in zip(speeds[s], speeds["vanilla"], strict=True)]
        rows.append(
            {
                "setting": setting,
                "strategy": s,
                "over_vanilla": statistics.median(ratios),
                "min": min(ratios),
                "max": max(ratios),
                "images_per_s": round(statistics.median(speeds[s]), 1),
                "loading_share": waits[s].loading_share,
                "ratios": ratios,
            }
        )
    return rows


def _loading(folder: Path, base: RunConfig, group: Processes, config: Config) -> dict[str, Any]:
    """Share of time that training waits for pictures decoded by other processes, the first epoch not counted."""
    data = load_data(f"folder:{folder}", size=config.side)
    trainer = Trainer(replace(base, strategy="cutmix"), data, group, workers=config.workers)
    for k in range(3):
        if k == 1:
            trainer.clock = Clock()
        trainer.run_epoch(lambda: None)
        trainer.mean_loss()
        trainer.loss.zero_()
    trainer.close()
    name = f"{config.pictures} JPEG files of {config.side}x{config.side}, decoded by {config.workers} process(es)"
    return {"images": name, "share": trainer.clock.loading_share, "images_per_s": round(trainer.clock.rate, 1)}


def _decoding(folder: Path, rng: np.random.Generator, pictures: int = 50, rounds: int = 9) -> float:
    """Pictures of 500x375 pixels, usual in ImageNet, that one core decodes and crops to 224x224 in a second."""
    path = folder / "large.jpg"
    coarse = Image.fromarray(rng.integers(256, size=(30, 40, 3), dtype=np.uint8))
    coarse.resize((500, 375), Image.Resampling.BICUBIC).save(path, quality=90)
    seconds = []
    for k in range(rounds):
        start = time.perf_counter()
        for i in range(pictures):
            read_picture(path, 224, np.random.default_rng([k, i]))
        seconds.append(time.perf_counter() - start)
    return round(pictures / statistics.median(seconds), 1)


def _in_memory(n: int, rng: np.random.Generator) -> DataSet:
    x = torch.from_numpy(rng.integers(256, size=(n, 3, 32, 32), dtype=np.uint8))
    images = Images(x, torch.from_numpy(rng.integers(10, size=n)))
    return DataSet("noise", images, images, tuple("0123456789"), (0.5,) * 3, (0.3,) * 3)


def _write_pictures(folder: Path, config: Config, rng: np.random.Generator) -> None:
    """Smooth noise as JPEG, ten classes."""
    for split, n in (("train", config.pictures), ("val", 10)):
        for k in range(n):
            place = folder / split / str(k % 10)
            place.mkdir(parents=True, exist_ok=True)
            coarse = Image.fromarray(rng.integers(256, size=(8, 8, 3), dtype=np.uint8))
            coarse.resize((config.side, config.side), Image.Resampling.BICUBIC).save(place / f"{k}.jpg", quality=90)


def _checks(rows: list[dict[str, Any]], loading: list[dict[str, Any]]) -> list[dict[str, Any]]:
    checks = [
        check(
            f"{r['setting']}: {r['strategy']} at {AIM} of vanilla's speed or more",
            r["over_vanilla"] >= AIM,
            f"{r['over_vanilla']:.3f} ({r['min']:.3f} to {r['max']:.3f})",
        )
        for r in rows
        if r["strategy"] != "vanilla"
    ]
    waits = (
        check(f"waiting for images below {WAIT:.0%}: {r['images']}", r["share"] < WAIT, f"{r['share']:.2%}")
        for r in loading
    )
    return [*checks, *waits]


if __name__ == "__main__":
    finish(run(tyro.cli(Config)))
