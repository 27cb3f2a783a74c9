"""Train the networks of the study: small convolutional nets on digits, every strategy, two activations, three seeds.

Question: what does training with each strategy do to test accuracy on digits? (Claim C4 and C6 need larger data; here
the networks are made that the other experiments analyse, and a broken training run is noticed.)
Expected: every network reaches 93 % test accuracy or more. Cost: about 3 s a network on one core.
Record: ``digit_nets.json``; weights in safetensors beside the record of each run.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro
from safetensors.torch import save
from scipy import stats
from torch import nn

from experiments.data import digits
from experiments.files import write_whole
from experiments.models import small_conv_net
from experiments.parallel import one_thread, spread
from experiments.record import (
    RESULTS,
    cached,
    check,
    code_digest,
    command_line,
    current,
    finish,
    weights_digest,
)
from experiments.weights import load_weights
from msda_theory.losses import SoftmaxCrossEntropy
from msda_theory.masks.base import Strategy
from msda_theory.masks.registry import strategy as make_strategy
from msda_theory.proportions import Proportion
from msda_theory.streams import stream

SOURCES = ("digit_nets.py", "data.py", "models.py")


@dataclass(frozen=True)
class RunConfig:
    """One training run; with ``stop``, its checkpoint after so many of the ``epochs`` that the schedule is made for."""

    strategy: str = "cutmix"
    activation: str = "softplus"
    seed: int = 0
    epochs: int = 40
    batch: int = 64
    lr: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 5e-4
    width: int = 12
    stop: int | None = None

    @property
    def last(self) -> int:
        """The last epoch that is trained."""
        return self.epochs if self.stop is None else self.stop

    @property
    def name(self) -> str:
        """Name of the run's files."""
        return f"{self.strategy}-{self.activation}-{self.seed}" + ("" if self.stop is None else f"-epoch-{self.stop}")


@dataclass(frozen=True)
class Config:
    """The grid of runs."""

    strategies: tuple[str, ...] = ("vanilla", "mixup", "cutmix", "hmix", "gmix", "choice")
    activations: tuple[str, ...] = ("softplus", "relu")
    seeds: tuple[int, ...] = (0, 1, 2)
    epochs: int = 40
    min_accuracy: float = 0.93

    def runs(self) -> list[RunConfig]:
        """One configuration for each network."""
        grid = product(self.strategies, self.activations, self.seeds)
        return [RunConfig(s, a, seed, epochs=self.epochs) for s, a, seed in grid]


def trained(config: RunConfig, folder: Path = RESULTS) -> dict[str, Any] | None:
    """The record of a network that was already trained with this configuration and code."""
    path = folder / "digit_nets" / f"{config.name}.json"
    return current(path, config, code_digest(*SOURCES), needs=[path.with_suffix(".safetensors")])


def train_one(config: RunConfig, folder: Path = RESULTS) -> dict[str, Any]:
    """Train one network (or find it trained) and return its record; one thread, so that equal seeds give equal bits."""
    path = folder / "digit_nets" / f"{config.name}.json"
    weights = path.with_suffix(".safetensors")
    command = (
        f"python -m experiments.digit_nets --strategies {config.strategy} --activations {config.activation} "
        f"--seeds {config.seed} --epochs {config.epochs}"
    )
    with one_thread():
        return cached(
            path,
            config,
            code_digest(*SOURCES),
            command,
            lambda: train_with(make_strategy(config.strategy), config, weights),
            needs=[weights],
        )


def load_model(record: dict[str, Any], folder: Path = RESULTS, *, study: str = "digit_nets") -> nn.Module:
    """The trained network of a run's record, from the folder of its ``study``; float64 and in eval mode.

    Raises:
        ValueError: if the weights are not those of the record.
    """
    config = RunConfig(**record["config"])
    path = folder / study / f"{config.name}.safetensors"
    model = small_conv_net(config.activation, width=config.width, seed=config.seed)
    load_weights(model, path, record["result"]["weights_sha256"])
    return model.double().eval()


def run(config: Config, *, jobs: int = 1, folder: Path = RESULTS) -> dict[str, Any]:
    """Train the grid and summarise test accuracy."""
    records = spread(train_one, [(c, folder) for c in config.runs()], jobs, "digit_nets", known=trained)
    code = code_digest(*SOURCES)
    return cached(
        folder / "digit_nets.json",
        config,
        code + weights_digest(records),
        command_line("experiments.digit_nets", config),
        lambda: _summary(config, records),
        parts=records,
    )


def train_with(strategy: Strategy, config: RunConfig, weights: Path) -> dict[str, Any]:
    """Train with any strategy (the configuration's name of it does not count), write the weights, return the result."""
    data, loss = digits(), SoftmaxCrossEntropy()
    x, y = data.train.x.float(), data.train.y
    targets = loss.targets(y, 10, torch.float32)
    model = small_conv_net(config.activation, width=config.width, seed=config.seed)
    steps = config.epochs * (len(x) // config.batch)
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=config.lr,
        momentum=config.momentum,
        nesterov=True,
        weight_decay=config.weight_decay,
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.lr, total_steps=steps, pct_start=0.2)
    order, masks = stream(config.seed, "order"), stream(config.seed, "masks")
    curve = []
    for _ in range(config.last):
        losses = []
        permutation = order.permutation(len(x))
        for k in range(len(x) // config.batch):
            i = torch.from_numpy(permutation[k * config.batch : (k + 1) * config.batch])
            j = i[torch.from_numpy(order.permutation(len(i)))]
            draw = strategy.sample(len(i), data.train.shape, rng=masks)
            mask = torch.from_numpy(draw.mask).float()[:, None]
            lam = torch.from_numpy(draw.lam).float()[:, None]
            f = model(mask * x[i] + (1 - mask) * x[j])
            value = loss.value(f, lam * targets[i] + (1 - lam) * targets[j]).mean()
            optimizer.zero_grad()
            value.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            losses.append(value.item())
        curve.append(float(np.mean(losses)))
        if not np.isfinite(curve[-1]):
            raise FloatingPointError(f"training of {config.name} diverged (loss {curve[-1]}); lower lr.")
    content = save(model.state_dict())
    write_whole(weights, content)
    model = model.double().eval()
    with torch.no_grad():
        correct = int((model(data.test.x).argmax(dim=1) == data.test.y).sum())
        train_correct = int((model(data.train.x).argmax(dim=1) == data.train.y).sum())
    return {
        "test_correct": correct,
        "test_images": len(data.test),
        "test_accuracy": correct / len(data.test),
        "test_interval_95": Proportion(correct, len(data.test)).interval(),
        "train_accuracy": train_correct / len(data.train),
        "training_loss": curve,
        "weights_sha256": hashlib.sha256(content).hexdigest(),
    }


def _summary(config: Config, records: list[dict[str, Any]]) -> dict[str, Any]:
    rows = []
    for activation, name in product(config.activations, config.strategies):
        own = [r for r in records if (r["config"]["strategy"], r["config"]["activation"]) == (name, activation)]
        values = np.array([r["result"]["test_accuracy"] for r in own])
        half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)) if len(own) > 1 else None
        rows.append(
            {
                "strategy": name,
                "activation": activation,
                "seeds": len(own),
                "test_accuracy": values.mean(),
                "interval_95_half_width": half,
                "runs": [
                    {k: r["result"][k] for k in ("test_accuracy", "test_interval_95", "train_accuracy")} for r in own
                ],
            }
        )
    worst = min(records, key=lambda r: r["result"]["test_accuracy"])
    lowest = worst["result"]["test_accuracy"]
    detail = f"lowest of {len(records)} networks {lowest:.3f} ({worst['config']['strategy']})"
    name = f"every network reaches {config.min_accuracy:.2f} test accuracy"
    return {
        "test_images": records[0]["result"]["test_images"],
        "rows": rows,
        "checks": [check(name, lowest >= config.min_accuracy, detail)],
    }


def main(config: Annotated[Config, tyro.conf.arg(name="")] = Config(), jobs: int = os.cpu_count() or 1) -> None:
    """Train the grid over ``jobs`` processes."""
    finish(run(config, jobs=jobs))


if __name__ == "__main__":
    tyro.cli(main)
