"""The networks of the studies of robustness and generalization: three small kinds on digits, trained once and kept.

- ``conv``: `models.conv8` with ReLU on the ten classes.
- ``linear``: one logit, affine in the image, odd digits (label 1) against even ones: a generalized linear model.
- ``relu``: one logit, two hidden ReLU layers without biases, odd against even, so that f(x) = J(x) x.

All are functions of images in [0, 1]. The two kinds of one logit are trained with two outputs and the softmax, of which
only the difference counts: that is the logistic loss of this difference.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor, nn

from experiments import short_runs
from experiments.data import load_data
from experiments.files import write_whole
from experiments.images import DataSet, Images
from experiments.networks import Normalised, build
from experiments.parallel import one_thread
from experiments.record import RESULTS, cached, code_digest
from experiments.run_config import RunConfig
from experiments.weights import load_weights
from msda_theory.data import ImageData
from msda_theory.losses import Logistic, Loss, SoftmaxCrossEntropy

KINDS = {"conv": "conv8", "linear": "linear", "relu": "relu_without_bias"}
SOURCES = ("small_nets.py", "data.py", "images.py", "models.py", *short_runs.SOURCES)


@dataclass(frozen=True)
class Net:
    """One network: its kind, training strategy and seed; how many training images (all by default) and epochs."""

    kind: str = "conv"
    strategy: str = "vanilla"
    seed: int = 0
    images: int | None = None
    epochs: int = 25

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"expected a kind of network among {list(KINDS)}, got {self.kind!r}; choose one.")

    @property
    def name(self) -> str:
        """Name of the network's files."""
        size = "" if self.images is None else f"-{self.images}"
        return f"{self.kind}-{self.strategy}-{self.seed}{size}-{self.epochs}"

    @property
    def loss(self) -> Loss:
        """The loss of its outputs."""
        return SoftmaxCrossEntropy() if self.kind == "conv" else Logistic()

    def run(self) -> RunConfig:
        """Settings of its training: optimiser and schedule of `digit_nets`, a mask for each image."""
        return RunConfig(
            model=KINDS[self.kind],
            strategy=self.strategy,
            per_sample=True,
            seed=self.seed,
            epochs=self.epochs,
            batch=64,
            lr=0.05,
            schedule="onecycle",
            crop=0,
            flip=False,
        )


class OneLogit(nn.Module):
    """The second output minus the first, [B, 1]."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to [B, 1]."""
        f = self.net(x)
        return f[:, 1:] - f[:, :1]


def data_of(net: Net) -> DataSet:
    """Digits with the labels of the kind; as many training images of each digit as can be.

    Images of the kinds with one logit are not centred: only then is a network without biases homogeneous in them.
    """
    data = load_data("digits", images=net.images)
    if net.kind == "conv":
        return data
    train, test = (Images(s.x, s.y % 2, s.white) for s in _in_memory(data))
    return DataSet("odd digits", train, test, ("even", "odd"), (0.0,), (0.5,))


def splits(net: Net) -> tuple[ImageData, ImageData]:
    """Training and test images in [0, 1], float64, with the labels of the kind."""
    data = data_of(net)
    train, test = (ImageData(s.x.double() / s.white, s.y, data.classes) for s in _in_memory(data))
    return train, test


def _in_memory(data: DataSet) -> tuple[Images, Images]:
    assert isinstance(data.train, Images), "digits are in memory"
    assert isinstance(data.test, Images), "digits are in memory"
    return data.train, data.test


def train_one(net: Net, folder: Path = RESULTS) -> dict[str, Any]:
    """Train a network (or find it trained) and return its record; one thread, so that equal seeds give equal bits."""
    path = folder / "small_nets" / f"{net.name}.json"
    weights = path.with_suffix(".safetensors")

    def train() -> dict[str, Any]:
        content = save(short_runs.train_in_memory(net.run(), data_of(net)).state_dict())
        write_whole(weights, content)
        return {"weights_sha256": hashlib.sha256(content).hexdigest()}

    with one_thread():
        return cached(path, net, code_digest(*SOURCES), "python -m experiments.robust_accuracy", train, needs=[weights])


def load_model(net: Net, folder: Path = RESULTS) -> nn.Module:
    """The trained network, float64, in eval mode: [B, 10] logits, or [B, 1] of the kinds with one logit.

    Raises:
        ValueError: if the weights are not those of the record.
    """
    record = train_one(net, folder)
    path = folder / "small_nets" / f"{net.name}.safetensors"
    data, run = data_of(net), net.run()
    inner = build(run.model, classes=data.classes, shape=data.train.shape, seed=run.seed)
    model = Normalised(inner, data.mean, data.std).double()
    load_weights(model, path, record["result"]["weights_sha256"])
    return (model if net.kind == "conv" else OneLogit(model)).eval()
