"""What a training run is: everything that decides its weights."""

from __future__ import annotations

import hashlib
import json
import math
import shlex
from dataclasses import asdict, dataclass, fields

from experiments.optim import SCHEDULES
from experiments.strategies import strategy_from
from msda_theory.masks.base import Strategy

PRECISIONS = ("float32", "bfloat16", "float64")


@dataclass(frozen=True)
class RunConfig:
    """One training run.

    Attributes:
        data: ``name`` or ``name:path``, see `experiments.data.load_data`.
        images: class-balanced subset of the training images of this size; all by default.
        test_images: likewise of the test images.
        size: side of pictures in folders.
        model: a network of `experiments.models.NETWORKS`, or ``module:function`` of your own, called with ``classes``,
            ``channels`` and, where it takes them, ``width``, ``activation``, ``image``.
        width: of the network; its own default if not given.
        activation: of the network, likewise.
        strategy: as text, e.g. ``hmix(alpha=0.5, ratio=0.75)``, see `experiments.strategies.strategy_from`.
        per_sample: a mask for each image rather than one for the batch.
        smoothing: share of uniform labels.
        seed: of initial weights, order, augmentation, partners and masks, each a stream of its own.
        epochs: passes over the training images.
        batch: images a step, over all processes.
        lr: peak learning rate.
        momentum: of Nesterov's method.
        weight_decay: of weights; biases and norms have none.
        schedule: ``cosine``, ``onecycle`` or ``constant``.
        warmup: epochs (or parts of one) in which the learning rate rises; by default 1, for onecycle 30 % of all.
        clip: bound on the norm of the whole gradient.
        ema: decay of an average of the weights, which is then what is evaluated and kept.
        crop: zero padding of random crops, in pixels (not for pictures in folders, which get random resized crops).
        flip: mirror half of the images.
        precision: ``float32``, ``bfloat16`` (autocast; weights stay in float32) or ``float64``.
        channels_last: memory format of images and weights; by default on GPUs only. On the CPU torch 2.13 in this
            format can crash on narrow networks (a 1x1 convolution with stride 2 of 8 channels at 48x48, say).
        compile: run the network through torch.compile.
        evaluate_every: epochs from one evaluation to the next; the last epoch is always evaluated.
    """

    data: str = "digits"
    images: int | None = None
    test_images: int | None = None
    size: int | None = None
    model: str = "resnet8"
    width: int | None = None
    activation: str | None = None
    strategy: str = "cutmix"
    per_sample: bool = False
    smoothing: float = 0.0
    seed: int = 0
    epochs: int = 30
    batch: int = 128
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    schedule: str = "cosine"
    warmup: float | None = None
    clip: float | None = None
    ema: float | None = None
    crop: int = 4
    flip: bool = True
    precision: str = "float32"
    channels_last: bool | None = None
    compile: bool = False
    evaluate_every: int = 1

    def __post_init__(self) -> None:
        self.law()
        for name, known in (("schedule", SCHEDULES), ("precision", PRECISIONS)):
            if getattr(self, name) not in known:
                raise ValueError(f"expected {name} among {list(known)}, got {getattr(self, name)!r}; choose one.")
        for name, low in (("epochs", 1), ("batch", 1), ("evaluate_every", 1), ("crop", 0), ("seed", 0)):
            if getattr(self, name) < low:
                raise ValueError(f"expected {name} >= {low}, got {getattr(self, name)}; raise it to {low} or more.")
        if not 0 <= self.weight_decay < math.inf:
            raise ValueError(f"expected a weight decay >= 0, got {self.weight_decay}; 5e-4 is usual.")
        for name, positive in (("lr", self.lr), ("clip", self.clip), ("width", self.width)):
            if positive is not None and not 0 < positive < math.inf:
                raise ValueError(f"expected {name} > 0 and finite, got {positive}; choose another.")
        for name, share in (("momentum", self.momentum), ("ema", self.ema), ("smoothing", self.smoothing)):
            if share is not None and not 0 <= share < 1:
                raise ValueError(f"expected {name} in [0, 1), got {share}; lower it.")
        if self.warmup is not None and not 0 <= self.warmup < self.epochs:
            raise ValueError(f"expected warmup in [0, {self.epochs}) epochs, got {self.warmup}; shorten it.")

    def law(self) -> Strategy:
        """The strategy that the text names."""
        return strategy_from(self.strategy)

    def warmup_steps(self, steps_per_epoch: int) -> int:
        """Steps in which the learning rate rises."""
        usual = 0.3 * self.epochs if self.schedule == "onecycle" else min(1.0, self.epochs / 2)
        return round((usual if self.warmup is None else self.warmup) * steps_per_epoch)

    @property
    def name(self) -> str:
        """Name of the run's folder: data, network, strategy, seed, and eight digits that stand for everything."""
        digits = hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:8]
        strategy = "".join(c if c.isalnum() or c in "=.+" else "-" for c in self.strategy).strip("-")
        model = self.model.replace(":", ".")
        return f"{self.data.split(':')[0]}-{model}-{strategy[:60]}-{self.seed}-{digits}"

    def options(self) -> list[str]:
        """The command line that makes it: options that are not default."""
        words = []
        for f in fields(self):
            value = getattr(self, f.name)
            if value != f.default:
                option = f.name.replace("_", "-")
                if isinstance(value, bool) and f.default is not None:
                    words.append(f"--{option}" if value else f"--no-{option}")
                else:
                    words += [f"--{option}", shlex.quote(str(value))]
        return words
