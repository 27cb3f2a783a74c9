"""Doctored runs of the accuracy study."""

from __future__ import annotations

import numpy as np

from experiments.accuracy_stats import ORDER, rows, summary
from experiments.record import plain

VANILLA = (700, 710, 720)


def make(counts, data="cifar10", model="resnet8", seeds=None, **changes):
    """Runs of one strategy after another from their counts of right test images, of 1000."""
    return [
        {
            "data": data,
            "model": model,
            "strategy": strategy,
            "seed": seed,
            "epochs": 30,
            "images": 12_000,
            "test_correct": count,
            "test_images": 1000,
            "test_accuracy": count / 1000,
            "train_accuracy": 0.9 + 0.01 * seed,
            "images_per_s": 1000.0 if strategy == "vanilla" else 950.0 + 10 * seed,
            **changes,
        }
        for strategy, numbers in counts.items()
        for seed, count in zip((seeds or {}).get(strategy, range(len(numbers))), numbers, strict=True)
    ]


def noisy(cells, *, seeds=4, names=ORDER):
    rng = np.random.default_rng(0)
    runs = []
    for data, model in cells:
        level = rng.integers(500, 800, size=seeds)
        runs += make({n: [int(v) for v in level + rng.integers(-20, 40, size=seeds)] for n in names}, data, model)
    return runs


def record(runs):
    config = {"seeds": [0, 1], "base": {"batch": 128, "lr": 0.1, "flip": True, "smoothing": 0.0, "crop": None}}
    about = {"machine": "CPU, 2 cores", "command": "python -m experiments.accuracy", "versions": {"torch": "2.13"}}
    return plain({"config": config, **about, "result": summary(runs)})


def by_strategy(runs):
    return {r["strategy"]: r for r in rows(runs)}


FOUR = [("cifar10", "resnet8"), ("cifar100", "resnet8"), ("digits", "resnet8"), ("fashion_mnist", "preactresnet18")]
NEW_AHEAD = {"vanilla": VANILLA, "mixup": (700, 711, 721), "cutmix": (712, 720, 735), "hmix": (752, 759, 775)}
NEW_AHEAD |= {"gmix": (733, 740, 754)}
