"""Networks for the study of the order ladder: on digits at all stages of training, and finished runs of any data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from experiments import digit_nets
from experiments.data import digits, load_data
from experiments.images import Images, balanced
from experiments.models import small_conv_net
from experiments.record import read_record
from experiments.run_config import RunConfig
from experiments.train import load_network
from msda_theory.data import ImageData

SOURCES = (*digit_nets.SOURCES, "ladder_nets.py", "images.py", "networks.py", "readers.py")


@dataclass(frozen=True)
class Subject:
    """One network of the study and how to get it.

    Attributes:
        data, network, training, stage, seed: labels; ``training`` is the strategy it was trained with.
        digits: the run on digits; None for a finished run of `experiments.train`.
        run: the folder of that run.
    """

    data: str
    network: str
    training: str
    stage: str
    seed: int
    digits: digit_nets.RunConfig | None = None
    run: str | None = None

    @property
    def name(self) -> str:
        """Name of the subject's file."""
        stage = self.stage.replace(" ", "-")
        return Path(self.run).name if self.run else f"{self.training}-{self.network}-{stage}-{self.seed}"

    @property
    def labels(self) -> dict[str, Any]:
        """What tables sort by."""
        return {k: getattr(self, k) for k in ("data", "network", "training", "stage", "seed")}


def stages(checkpoints: tuple[int, ...]) -> list[str]:
    """Names of the stages of training, in their order."""
    return ["untrained", *(f"epoch {k}" for k in sorted(checkpoints)), "trained"]


def digit_subjects(training: digit_nets.Config, checkpoints: tuple[int, ...]) -> Iterator[Subject]:
    """Every network of the grid trained to its end, its checkpoints after so many epochs, and its first weights."""
    for c in training.runs():
        yield Subject("digits", c.activation, c.strategy, "trained", c.seed, c)
        for k in checkpoints:
            yield Subject("digits", c.activation, c.strategy, f"epoch {k}", c.seed, replace(c, stop=k))
    for activation in training.activations:
        for seed in training.seeds:
            run = digit_nets.RunConfig("vanilla", activation, seed)
            yield Subject("digits", activation, "none", "untrained", seed, run)


def run_subjects(folder: Path) -> Iterator[Subject]:
    """Every finished run of `experiments.train` in a folder.

    Raises:
        FileNotFoundError: if there is none.
    """
    records = sorted(folder.glob("*/record.json"))
    if not records:
        raise FileNotFoundError(f"{folder} holds no finished run; make one with: python -m experiments.train --out ...")
    for path in records:
        config = RunConfig(**_record(path)["config"])
        network = "-".join(filter(None, (config.model, config.activation)))
        data = config.data.split(":")[0]
        yield Subject(data, network, config.strategy, "trained", config.seed, run=str(path.parent))


def prepare(subject: Subject, folder: Path) -> dict[str, Any] | None:
    """The record of the subject's training, which is made if it is missing; None for first weights."""
    if subject.run:
        return _record(Path(subject.run) / "record.json")
    assert subject.digits is not None, "a subject is a run or a network on digits"
    return None if subject.stage == "untrained" else digit_nets.train_one(subject.digits, folder)


def known(subject: Subject, folder: Path) -> dict[str, Any] | None:
    """The record of the subject's training if it was made already."""
    if subject.run or subject.digits is None or subject.stage == "untrained":
        return prepare(subject, folder)
    return digit_nets.trained(subject.digits, folder)


def weights_sha256(record: dict[str, Any] | None) -> str:
    """Digest of a subject's weights; first weights follow from the seed."""
    return "" if record is None else str(record["result"]["weights_sha256"])


def load(
    subject: Subject, record: dict[str, Any] | None, folder: Path, images: int, precision: str
) -> tuple[nn.Module, ImageData]:
    """The network in eval mode and ``images`` of its training images, on digits in float64."""
    if subject.digits is not None:
        data = digits().train[:images]
        if record is None:
            c = subject.digits
            return small_conv_net(c.activation, width=c.width, seed=c.seed).double().eval(), data
        return digit_nets.load_model(record, folder), data
    assert record is not None, "a run has a record"
    assert subject.run is not None, "a subject is a run or a network on digits"
    config, dtype = RunConfig(**record["config"]), getattr(torch, precision)
    data_set = load_data(config.data, size=config.size, images=config.images)
    train = data_set.train
    if not isinstance(train, Images):
        raise ValueError(f"expected a data set held in memory, got pictures in folders ({config.data}); use npz.")
    part = train[balanced(train.y.numpy(), min(images, len(train)), data_set.class_names, config.data)]
    x = part.x.to(torch.float64) / part.white
    model = load_network(record, Path(subject.run).parent)
    return model.to(dtype), ImageData(x.to(dtype), part.y, data_set.classes)


def _record(path: Path) -> dict[str, Any]:
    record = read_record(path)
    assert record is not None, "listed just before"
    return record
