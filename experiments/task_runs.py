"""One task and seed of the study of winners: terms of the theory on the ideal classifier, then training and testing."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from experiments.designed import CENTRE, SCALE, SIZE, Array, Designed, units
from experiments.images import DataSet, Images
from experiments.run_config import RunConfig
from experiments.short_runs import train_in_memory
from msda_theory.compare import compare
from msda_theory.data import ImageData
from msda_theory.masks.base import Strategy
from msda_theory.masks.registry import strategy as make_strategy
from msda_theory.mixed_loss import mixed_loss
from msda_theory.streams import stream

TEMPERATURES = (1, 2, 4, 8, 16, 32, 64, 128)  # divide the logits


def network(*, classes: int, width: int = 16) -> nn.Sequential:
    """Three convolutions (5x5, and 3x3 with stride 2 twice) with BatchNorm and SiLU, mean over pixels, linear layer.

    About 15,000 weights at width 16.
    """
    layers: list[nn.Module] = []
    inputs = 1
    for outputs, size, stride in ((width, 5, 1), (2 * width, 3, 2), (2 * width, 3, 2)):
        conv = nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)
        layers += [conv, nn.BatchNorm2d(outputs), nn.SiLU()]
        inputs = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, classes))


def train_network(
    images: Array, labels: Array, strategy: str, *, classes: int, seed: int, epochs: int, batch: int, lr: float
) -> nn.Module:
    """A network of images in `units`, trained on bytes [m, 1, H, W]; a mask for each image, no crops, no warm-up.

    Equal seeds have equal initial weights, batches and partners whatever the strategy. Returned in float64, eval mode.

    Raises:
        FloatingPointError: if the loss or a weight is no longer finite.
    """
    split = Images(torch.from_numpy(images), torch.from_numpy(labels))
    names, centre, scale = tuple(map(str, range(classes))), (CENTRE / split.white,), (SCALE / split.white,)
    config = RunConfig(
        model="experiments.task_runs:network",
        strategy=strategy,
        per_sample=True,
        seed=seed,
        epochs=epochs,
        batch=batch,
        lr=lr,
        warmup=0.0,
        crop=0,
        flip=False,
    )
    return train_in_memory(config, DataSet("designed task", split, split, names, centre, scale)).net


def accuracy(model: nn.Module, images: Array, labels: Array) -> float:
    """Share of the images whose largest logit is that of their label."""
    with torch.no_grad():
        right = model(units(images)).argmax(dim=1) == torch.from_numpy(labels)
    return float(right.double().mean())


class Tempered(nn.Module):
    """Logits of a classifier over a temperature."""

    def __init__(self, model: nn.Module, temperature: float) -> None:
        super().__init__()
        self.model, self.temperature = model, temperature

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to [B, classes]."""
        return self.model(x) / self.temperature


def label_entropy(name: str, classes: int, *, draws: int = 20_000) -> float:
    """Mean entropy of mixed labels: ``P(y_i != y_r) E[-lam log lam - (1 - lam) log(1 - lam)]``, in nats.

    No prediction of mixed labels from mixed images has a smaller expected loss, whatever it knows of the images.
    """
    lam = make_strategy(name).sample(draws, (SIZE, SIZE), rng=stream(0, "label entropy")).lam
    shares = np.stack([lam, 1 - lam])
    logs = np.log(shares, where=shares > 0, out=np.zeros_like(shares))
    return float(-(shares * logs).sum(axis=0).mean() * (1 - 1 / classes))


def conflicts(
    model: nn.Module, images: Array, labels: Array, strategies: tuple[str, ...], *, classes: int, draws: int, seed: int
) -> dict[str, dict[str, float]]:
    """Conflict of each strategy's labels with the evidence that ``model`` finds, predicted by terms of the theory.

    The logits are divided by a temperature first, the one on a grid with the smallest mixed loss: training sets the
    confidence freely, so too much of it shall not count. ``predicted`` is then base + Gauss-Newton at the mask
    (docs/theory.md, Eq. (3c)) minus `label_entropy`, and ``measured`` the mixed loss minus it: the loss that no
    confidence removes. ``data`` is R1 + R2 at the data, the published expansion, at the same temperature.
    """
    data = ImageData(units(images), torch.from_numpy(labels), classes)
    found = {}
    for name in strategies:
        strategy, entropy = make_strategy(name), label_entropy(name, classes)

        def loss(t: float, strategy: Strategy = strategy) -> float:
            return mixed_loss(Tempered(model, t).eval(), data, strategy, draws=draws, rng=stream(seed, "terms")).mean

        best = min(TEMPERATURES, key=loss)
        models = {"classifier": Tempered(model, best).eval()}
        rows = compare(models, data, [strategy], at=("data", "mask"), draws=draws, rng=stream(seed, "terms")).rows
        paper, mask = rows
        found[name] = {
            "temperature": float(best),
            "entropy": entropy,
            "base": mask.base.mean,
            "r2": mask.r2.mean,
            "predicted": mask.base.mean + mask.r1.mean + mask.r2.mean - entropy,
            "measured": mask.measured.mean - entropy,
            "data": paper.r1.mean + paper.r2.mean,
        }
    return found


def measure(
    task: Designed,
    strategies: tuple[str, ...],
    *,
    seed: int,
    epochs: int,
    batch: int,
    lr: float,
    draws: int,
    ideal: nn.Module,
) -> dict[str, Any]:
    """Terms and test accuracies of every strategy on one drawing of a task; the terms see no test image."""
    x, y, classes = task.x_train, task.y_train, task.classes
    mixing = tuple(s for s in strategies if s != "vanilla")
    out: dict[str, Any] = {"ideal": conflicts(ideal.eval(), x, y, mixing, classes=classes, draws=draws, seed=seed)}
    models = {
        s: train_network(x, y, s, classes=classes, seed=seed, epochs=epochs, batch=batch, lr=lr) for s in strategies
    }
    out["network"] = conflicts(models["vanilla"], x, y, mixing, classes=classes, draws=draws, seed=seed)
    out["train_accuracy"] = {s: accuracy(m, x, y) for s, m in models.items()}
    out["test_accuracy"] = {s: accuracy(m, task.x_test, task.y_test) for s, m in models.items()}
    out["ideal_accuracy"] = accuracy(ideal, task.x_test, task.y_test)
    return out
