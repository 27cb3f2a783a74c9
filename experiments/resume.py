"""Stop and resume: when checkpoints are written, which are good, and how a run continues from one."""

from __future__ import annotations

import contextlib
import hashlib
import signal
import sys
import time
from collections.abc import Iterator
from typing import Any

import torch

from experiments.checkpoints import Checkpoints
from experiments.data import DataSet, Images
from experiments.processes import Processes
from experiments.trainer import Trainer

PARTS = ("curve", "clock", "mark")  # of a trainer's state
LOOK = 20  # steps from one look at the loss to the next: on a GPU each one waits for the device


def start(trainer: Trainer, kept: Checkpoints, identity: dict[str, Any], *, resume: bool) -> float:
    """Continue from the newest checkpoint, the same one in all processes; returns the seconds that it took so far."""
    if kept.paths() and not resume:
        raise ValueError(
            f"expected a folder without checkpoints, got {kept.paths()[0].name} in {kept.folder}; pass --resume to "
            "continue that run, or delete the folder."
        )
    checkpoint = kept.newest() if resume else None
    step = -1 if checkpoint is None else checkpoint.step
    if trainer.group.agree(step) != step:
        raise ValueError(
            f"expected the checkpoint of the first process in {kept.folder}, got step {step}; put the folder where all "
            "processes read the same files."
        )
    if checkpoint is None:
        return 0.0
    if missing := [key for key in ("threads", "wall_s", *PARTS) if key not in checkpoint.state]:
        raise ValueError(
            f"expected a checkpoint of a training run in {kept.folder}, got one without {missing}; delete the folder."
        )
    for key, value in identity.items():
        if checkpoint.state.get(key) != value:
            raise ValueError(
                f"expected a checkpoint of this run's {key}, got one of another in {kept.folder}; delete the folder or "
                "restore what was changed."
            )
    threads = checkpoint.state["threads"]
    if threads != torch.get_num_threads() and trainer.group.device.type == "cpu":
        print(
            f"The checkpoint was computed with {threads} threads, this process has {torch.get_num_threads()}: "
            f"rounding will differ. Pass --threads {threads} for the same bits.",
            file=sys.stderr,
        )
    trainer.restore(checkpoint)
    return float(checkpoint.state["wall_s"])


class Saver:
    """Writes checkpoints from time to time, good ones only."""

    def __init__(self, trainer: Trainer, kept: Checkpoints, identity: dict[str, Any], seconds: float) -> None:
        self.trainer, self.kept, self.seconds = trainer, kept, seconds
        self.identity = {**identity, "threads": torch.get_num_threads()}
        self.stopped: int | None = None
        self.earlier_s = 0.0  # of the run before it was stopped
        self._start = self._last = time.monotonic()

    @property
    def wall_s(self) -> float:
        """Seconds of the whole run so far."""
        return self.earlier_s + time.monotonic() - self._start

    def after_step(self) -> None:
        """Look at the loss now and then, write when it is time, stop when told to."""
        trainer = self.trainer
        due = time.monotonic() - self._last >= self.seconds
        look = trainer.step % LOOK == 0 or self.seconds == 0
        if trainer.group.world > 1:  # several processes must decide alike, and asking costs an exchange
            due = look and bool(trainer.group.agree(due))
        if look or due or self.stopped is not None:
            self.check()
        if due or self.stopped is not None:
            self.write()
        if self.stopped is not None:
            raise SystemExit(
                f"stopped by signal {self.stopped} after step {trainer.step} of {trainer.steps}; --resume continues."
            )

    def write(self) -> None:
        """Write a checkpoint (the first process does)."""
        checkpoint = self.trainer.checkpoint()
        if self.trainer.group.first:
            checkpoint.state.update(self.identity, wall_s=self.wall_s)
            self.kept.write(checkpoint)
        self._last = time.monotonic()

    def check(self) -> None:
        """Raise if the run has diverged."""
        if not self.trainer.finite():
            paths = self.kept.paths()
            left = f"the last good checkpoint is {paths[0].name}" if paths else "there was no checkpoint yet"
            raise FloatingPointError(
                f"expected finite losses and weights, got others by step {self.trainer.step} of "
                f"{self.trainer.config.name}; lower lr or set clip ({left})."
            )


def fingerprint(data: DataSet) -> str:
    """Digest of labels and pixels; of pictures in files their names, sizes and the channel statistics."""
    digest = hashlib.sha256(repr((data.class_names, data.train.shape, data.mean, data.std)).encode())
    for split in (data.train, data.test):
        digest.update(split.y.numpy().data)
        if isinstance(split, Images):
            digest.update(split.x.contiguous().numpy().data)
        else:
            digest.update(repr([(*p.parts[-3:], p.stat().st_size) for p in split.paths]).encode())
    return digest.hexdigest()


@contextlib.contextmanager
def stop_on_sigterm(saver: Saver, group: Processes) -> Iterator[None]:
    """After SIGTERM (a cluster's notice) finish the step and write a checkpoint; several processes just end."""
    if group.world > 1:
        yield
        return

    def stop(number: int, _frame: object) -> None:
        saver.stopped = number

    try:
        before = signal.signal(signal.SIGTERM, stop)
    except ValueError:  # not the main thread: signals go elsewhere
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
