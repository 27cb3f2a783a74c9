"""The training loop: a run's state, its steps and epochs. All randomness is a function of the seed and the step.

So a run continued from any step is the run that was never stopped, and several processes that draw the same numbers
for the whole batch mix what one process would have mixed.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from itertools import chain, islice
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from experiments.batches import batches, crop_and_flip, on_device, to_unit
from experiments.checkpoints import Checkpoint
from experiments.data import DataSet, Images, PictureFiles
from experiments.networks import Normalised, build
from experiments.optim import average, learning_rate, set_learning_rate, sgd
from experiments.processes import Processes
from experiments.run_config import RunConfig
from msda_theory.mix_transform import MixTransform
from msda_theory.streams import stream

DTYPES = {"float32": torch.float32, "bfloat16": torch.float32, "float64": torch.float64}


@dataclasses.dataclass
class Clock:
    """Seconds of training and of waiting for images, and images, since the run began."""

    training: float = 0.0
    loading: float = 0.0
    images: int = 0

    @property
    def rate(self) -> float:
        """Images per second."""
        return self.images / self.training if self.training else float("nan")

    @property
    def loading_share(self) -> float:
        """Share of the time spent waiting for images."""
        return self.loading / self.training if self.training else float("nan")

    def since(self, other: Clock) -> Clock:
        """What went by since another state of this clock."""
        return Clock(self.training - other.training, self.loading - other.loading, self.images - other.images)


class Trainer:
    """Network, optimiser, average and place in the run.

    Raises:
        ValueError: if a batch is larger than the data or not shared equally by the processes.
    """

    def __init__(self, config: RunConfig, data: DataSet, group: Processes, *, workers: int = 0) -> None:
        data = dataclasses.replace(data, train=_on(group.device, data.train), test=_on(group.device, data.test))
        self.config, self.data, self.group, self.workers = config, data, group, workers
        self.epoch_steps = len(data.train) // config.batch
        if not self.epoch_steps:
            raise ValueError(f"expected a batch of at most {len(data.train)} images, got {config.batch}; lower it.")
        self.steps = config.epochs * self.epoch_steps
        self.step, self.curve = 0, list[dict[str, Any]]()
        self.dtype, self.part = DTYPES[config.precision], group.share(config.batch)
        options = {"width": config.width, "activation": config.activation}
        net = build(config.model, classes=data.classes, shape=data.train.shape, seed=config.seed, **options)
        last = config.channels_last
        self.channels_last = group.device.type == "cuda" if last is None else last
        format_ = torch.channels_last if self.channels_last else torch.contiguous_format
        model = Normalised(net, data.mean, data.std)
        self.model = model.to(device=group.device, dtype=self.dtype, memory_format=format_)  # type: ignore[call-overload]
        self.average = None if config.ema is None else average(self.model, config.ema)
        self.optimizer = sgd(self.model, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay)
        self.mix = MixTransform(
            config.law(),
            data.classes,
            rng=stream(config.seed, "mix"),
            per_sample=config.per_sample,
            smoothing=config.smoothing,
        )
        self.y = data.train.y.to(group.device)
        # sum of the losses of the epoch so far, one for each image of this process; not finite once one is not
        self.loss = torch.zeros((), dtype=torch.float64, device=group.device)
        self.clock, self.mark = Clock(), Clock()  # now, and at the end of the last epoch
        self._images: Iterator[Tensor] | None = None
        forward = torch.compile(self.model) if config.compile else self.model
        self.forward: Callable[[Tensor], Tensor] = DistributedDataParallel(forward) if group.world > 1 else forward

    @property
    def result(self) -> nn.Module:
        """The network that is evaluated and kept: the average if there is one."""
        return self.model if self.average is None else self.average.module

    def run_epoch(self, after_step: Callable[[], None]) -> None:
        """Train to the end of the present epoch, from wherever in it the run is.

        Torch's global random state, which networks with dropout draw from, is left as it was.
        """
        with torch.random.fork_rng(devices=[self.group.device] if self.group.device.type == "cuda" else []):
            self._run_epoch(after_step)

    def _run_epoch(self, after_step: Callable[[], None]) -> None:
        self.model.train()
        epoch = self.step // self.epoch_steps
        indices = self._indices(epoch)
        self._images = self._images or self._load()
        start = time.perf_counter()
        while self.step < (epoch + 1) * self.epoch_steps:
            waiting = time.perf_counter()
            images = next(self._images)
            self.clock.loading += time.perf_counter() - waiting
            self._step(images, indices[self.step % self.epoch_steps])
            self.step += 1
            self.clock.images += self.config.batch
            self.clock.training += time.perf_counter() - start
            after_step()
            start = time.perf_counter()

    def close(self) -> None:
        """End the processes that decode pictures."""
        self._images = None

    def _indices(self, epoch: int) -> list[np.ndarray]:
        """Images of each step of an epoch, over all processes."""
        order, size = stream(self.config.seed, "order", str(epoch)).permutation(len(self.data.train)), self.config.batch
        return [order[k * size : (k + 1) * size] for k in range(self.epoch_steps)]

    def _load(self) -> Iterator[Tensor]:
        """Whole batches [B, C, H, W] in uint8, on the device, from the present step to the end of the run."""
        first, last = self.step // self.epoch_steps, self.config.epochs
        ahead = islice(chain.from_iterable(map(self._indices, range(first, last))), self.step % self.epoch_steps, None)
        split, device = self.data.train, self.group.device
        if isinstance(split, Images):  # every process has all images
            return batches(split, ahead, device, train=True)
        own = (i[self.part] for i in ahead)
        parts = batches(split, own, device, train=True, workers=self.workers, seed=self.config.seed, first=self.step)
        return (self.group.gather(x) for x in parts)

    def _step(self, images: Tensor, index: np.ndarray) -> None:
        config, step = self.config, self.step
        set_learning_rate(
            self.optimizer,
            learning_rate(
                step,
                peak=config.lr,
                steps=self.steps,
                warmup=config.warmup_steps(self.epoch_steps),
                schedule=config.schedule,
            ),
        )
        x, soft = self._mixed(images, index)
        # Networks with dropout draw from torch's global state: fixed by the step, different in each process.
        _seed(self.group, int(stream(config.seed, "network", str(step), str(self.group.rank)).integers(2**63)))
        with torch.autocast(self.group.device.type, torch.bfloat16, enabled=config.precision == "bfloat16"):
            f = self.forward(x)
        loss = F.cross_entropy(f.to(self.dtype), soft)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if config.clip is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), config.clip)
        self.optimizer.step()
        if self.average is not None:
            self.average.update_parameters(self.model)
        self.loss += loss.detach().double() * len(x)

    def _mixed(self, images: Tensor, index: np.ndarray) -> tuple[Tensor, Tensor]:
        """This process's part of the mixed batch: partners come from the whole batch, over all processes."""
        config, step = self.config, self.step
        if isinstance(self.data.train, Images):
            rng = stream(config.seed, "augment", str(step))
            images = crop_and_flip(images, rng, pad=config.crop, flip=config.flip)
        x = to_unit(images, self.data.train.white, self.dtype, channels_last=self.channels_last)
        self.mix.set_epoch(step)  # draws of this step, whatever was drawn before
        y = self.y[on_device(index, x.device)]
        hot = torch.zeros(len(x), self.data.classes, dtype=self.dtype, device=x.device).scatter_(1, y[:, None], 1.0)
        x, soft = self.mix(x, hot)  # soft labels: class indices would have to be read back from a GPU to be checked
        return x[self.part], soft[self.part]

    def mean_loss(self) -> float:
        """Mean loss over the steps of the present epoch (NaN before its first step); the same in all processes."""
        steps = self.step % self.epoch_steps or min(self.step, self.epoch_steps)
        images = steps * self.config.batch
        return float(self.group.total(self.loss)) / images if images else float("nan")

    def finite(self) -> bool:
        """Whether losses, parameters and statistics are finite; the same in all processes."""
        kept = [t for m in (self.model, self.average) if m is not None for t in m.state_dict().values()]
        sizes = torch.stack([t.abs().max().double() for t in kept if t.is_floating_point()])
        bad = ~(torch.isfinite(self.loss) & torch.isfinite(sizes).all())
        clean = self.curve[-1]["test_loss"] if self.curve else None
        return not bool(self.group.total(bad.double())) and (clean is None or math.isfinite(clean))

    def end_epoch(self, *, evaluated: bool) -> dict[str, Any]:
        """Add a row to the curve, with clean losses and accuracies where ``evaluated``."""
        row: dict[str, Any] = {
            "epoch": self.step // self.epoch_steps,
            "train_loss_mixed": self.mean_loss(),
            "test_loss": None,
            "test_accuracy": None,
            "train_accuracy": None,
        }
        if evaluated:
            train, test = len(self.data.train), len(self.data.test)
            test_loss, test_correct = self.evaluate(self.data.test, np.arange(test))
            # As many training images, spread evenly: lists are often sorted by class.
            seen = np.linspace(0, train - 1, min(train, test)).round().astype(np.int64)
            _, train_correct = self.evaluate(self.data.train, seen)
            row |= {"test_loss": test_loss, "test_accuracy": test_correct / test}
            row |= {"train_accuracy": train_correct / len(seen)}
        epoch, self.mark = self.clock.since(self.mark), dataclasses.replace(self.clock)
        row |= {"images_per_s": round(epoch.rate, 1), "loading_share": round(epoch.loading_share, 4)}
        self.curve.append(row)
        self.loss.zero_()
        return row

    @torch.no_grad()
    def evaluate(self, split: Images | PictureFiles, images: np.ndarray) -> tuple[float, int]:
        """Mean loss and number of right answers on images of these numbers, neither mixed nor augmented."""
        model = self.result.eval()
        self.group.same_buffers(model)
        size = 2 * self.config.batch
        own = np.array_split(images, self.group.world)[self.group.rank]
        indices = [own[k : k + size] for k in range(0, len(own), size)]
        sums = torch.zeros(2, dtype=torch.float64, device=self.group.device)
        loaded = batches(split, indices, self.group.device, train=False, workers=self.workers)
        for index, batch in zip(indices, loaded, strict=True):
            x = to_unit(batch, split.white, self.dtype, channels_last=self.channels_last)
            y = split.y[torch.from_numpy(index)].to(x.device)
            f = model(x)
            sums += torch.stack([F.cross_entropy(f, y, reduction="sum"), (f.argmax(dim=1) == y).sum()]).double()
        loss, correct = self.group.total(sums).tolist()
        return loss / len(images), round(correct)

    # --- state ---------------------------------------------------------------------------------------------------

    def checkpoint(self) -> Checkpoint:
        """Everything that decides the rest of the run."""
        tensors = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        if self.average is not None:
            tensors |= {f"average.{k}": v for k, v in self.average.state_dict().items()}
        for k, state in self.optimizer.state_dict()["state"].items():
            if state.get("momentum_buffer") is not None:
                tensors[f"momentum.{k}"] = state["momentum_buffer"]
        state = {"curve": self.curve, "clock": dataclasses.asdict(self.clock), "mark": dataclasses.asdict(self.mark)}
        return Checkpoint(self.step, tensors | {"loss": self.group.total(self.loss)}, state)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Continue from a checkpoint of this run."""
        self.step, self.curve = checkpoint.step, list(checkpoint.state["curve"])
        self.clock, self.mark = Clock(**checkpoint.state["clock"]), Clock(**checkpoint.state["mark"])
        parts: dict[str, dict[str, Tensor]] = {"model": {}, "average": {}, "momentum": {}}
        for name, t in checkpoint.tensors.items():
            kind, _, rest = name.partition(".")
            if kind in parts:
                parts[kind][rest] = t
        self.model.load_state_dict(parts["model"])
        if self.average is not None:
            self.average.load_state_dict(parts["average"])
        state = self.optimizer.state_dict()
        state["state"] = {int(k): {"momentum_buffer": t} for k, t in parts["momentum"].items()}
        self.optimizer.load_state_dict(state)
        # the sum over all processes, which is the first one's to carry on
        self.loss.copy_(checkpoint.tensors["loss"] if self.group.first else torch.zeros(()))


def _seed(group: Processes, seed: int) -> None:
    """As torch.manual_seed, which at each call would also queue one for every other kind of device."""
    torch.default_generator.manual_seed(seed)
    if group.device.type == "cuda":
        torch.cuda.manual_seed(seed)


def _on(device: torch.device, split: Images | PictureFiles) -> Images | PictureFiles:
    return split.to(device) if isinstance(split, Images) else split
