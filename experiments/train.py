"""Train one network with any strategy on real data, on one CPU, one GPU or several; stop at any moment and resume.

``python -m experiments.train --data cifar10 --strategy 'hmix(ratio=0.5)' --epochs 30``; several processes with
``torchrun --nproc-per-node N -m experiments.train ...``. A run's folder, ``results/runs/NAME``, holds ``curve.csv``,
``weights.safetensors`` (those that were evaluated), ``record.json``, and while it goes on its last two checkpoints.
``--resume`` continues from the newest; on a CPU, with the same number of threads, the weights are then to the bit those
of a run that was never stopped.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import multiprocessing
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from filelock import FileLock, Timeout
from safetensors.torch import save
from torch import nn
from tqdm import tqdm

from experiments.checkpoints import Checkpoints
from experiments.data import load_data
from experiments.files import write_whole
from experiments.networks import Normalised, build, source
from experiments.processes import Processes, processes
from experiments.record import RESULTS, cached, code_digest, current, plain
from experiments.resume import LOOK, Saver, fingerprint, start, stop_on_sigterm
from experiments.run_config import RunConfig
from experiments.trainer import Trainer
from experiments.weights import load_weights
from msda_theory.proportions import Proportion

SOURCES = (
    *("train.py", "trainer.py", "resume.py", "checkpoints.py", "run_config.py", "optim.py", "processes.py"),
    *("strategies.py", "models.py", "networks.py", "data.py", "readers.py", "images.py", "pictures.py", "batches.py"),
)
PACKAGE = (
    "masks/",
    "mixing.py",
    "mix_transform.py",
    "streams.py",
    "files.py",
    "npz.py",
)  # what of the package decides a run's weights


_TURN = threading.RLock()


@dataclass(frozen=True)
class Execution:
    """How to run; nothing here changes what is computed, but for rounding.

    Attributes:
        out: folder of all runs.
        device: cpu, cuda, ...; a GPU if there is one.
        workers: processes that decode pictures in folders.
        threads: of this process; torch's own choice if not given.
        resume: continue from the newest checkpoint, if there is one.
        checkpoint_seconds: time from one checkpoint to the next.
        quiet: no progress bar.
    """

    out: Path = RESULTS / "runs"
    device: str | None = None
    workers: int = 2
    threads: int | None = None
    resume: bool = False
    checkpoint_seconds: float = 60.0
    quiet: bool = False


def code(config: RunConfig) -> str:
    """Digest of the code that decides a run's weights, the module of a network of the user's own included."""
    own = source(config.model)
    return code_digest(*SOURCES, package=PACKAGE) + ("" if own is None else f":{hashlib.sha256(own).hexdigest()}")


def finished(config: RunConfig, out: Path = RESULTS / "runs") -> dict[str, Any] | None:
    """The record of this run if it was made with the present code and its weights are there; data are not compared."""
    folder = out / config.name
    return current(folder / "record.json", config, code(config), needs=[folder / "weights.safetensors"])


def train(config: RunConfig, how: Execution = Execution()) -> dict[str, Any]:
    """Train (or find trained) and return the record, whose result holds the clean test accuracy.

    Threads of one process take turns: torch's random state and number of threads are those of the process.

    Raises:
        FloatingPointError: if a loss or a parameter is no longer finite; the last good checkpoint stays.
        ValueError: if there are checkpoints and ``resume`` is off, or they are of another run.
        RuntimeError: if another process is training this run.
        SystemExit: after SIGTERM, once a checkpoint is written (one process only).
    """
    with _TURN, processes(how.device) as group, _threads(how.threads):
        folder = how.out / config.name
        known = finished(config, how.out)
        if group.agree(known is not None):
            if group.first:
                Checkpoints(folder).clear()  # left by an end between record and removal
            return known or {}
        if not group.first:
            return _train(config, how, group, folder, [])
        with _alone(folder):
            earlier: list[dict[str, Any]] = []
            command = " ".join(["python -m experiments.train", *config.options()])
            record = cached(
                folder / "record.json",
                config,
                code(config),
                command,
                lambda: _train(config, how, group, folder, earlier),
                parts=earlier,
            )
            Checkpoints(folder).clear()  # only now: a run that ends before its record is written can be resumed
            return record


def _train(
    config: RunConfig, how: Execution, group: Processes, folder: Path, earlier: list[dict[str, Any]]
) -> dict[str, Any]:
    data = load_data(config.data, size=config.size, images=config.images, test_images=config.test_images)
    # Workers of a Dask cluster are daemons, which may not have children.
    trainer = Trainer(config, data, group, workers=0 if multiprocessing.current_process().daemon else how.workers)
    kept = Checkpoints(folder)
    identity = {"config": plain(asdict(config)), "data": fingerprint(data), "code": code(config)}
    saver = Saver(trainer, kept, identity, how.checkpoint_seconds)
    saver.earlier_s = start(trainer, kept, identity, resume=how.resume)
    earlier.append({"wall_s": saver.earlier_s})
    bar = tqdm(
        total=trainer.steps * config.batch,
        initial=trainer.step * config.batch,
        desc=config.name,
        unit="image",
        unit_scale=True,
        disable=how.quiet or not group.first,
    )
    shown = {"clean test accuracy": "-"}

    def after_step() -> None:
        bar.update(config.batch)
        if trainer.step % LOOK == 0:
            bar.set_postfix({"loss": f"{trainer.mean_loss():.3f}", **shown}, refresh=False)
        saver.after_step()

    with contextlib.closing(trainer), bar, stop_on_sigterm(saver, group):
        while len(trainer.curve) < config.epochs:
            if trainer.step < (len(trainer.curve) + 1) * trainer.epoch_steps:  # else it was stopped at an epoch's end
                trainer.run_epoch(after_step)
            saver.check()
            last = trainer.step == trainer.steps
            epoch = trainer.step // trainer.epoch_steps
            row = trainer.end_epoch(evaluated=last or epoch % config.evaluate_every == 0)
            saver.check()
            if row["test_accuracy"] is not None:
                shown["clean test accuracy"] = f"{row['test_accuracy']:.3f}"
            if group.first:
                write_whole(folder / "curve.csv", curve_csv(trainer.curve))
    return _finish(trainer, folder, identity) if group.first else {}


def _finish(trainer: Trainer, folder: Path, identity: dict[str, Any]) -> dict[str, Any]:
    """Write the weights and the curve; the result of the record."""
    content = save({k: v.detach().cpu().contiguous() for k, v in trainer.result.state_dict().items()})
    write_whole(folder / "weights.safetensors", content)
    write_whole(folder / "curve.csv", curve_csv(trainer.curve))
    last, data, n = trainer.curve[-1], trainer.data, len(trainer.data.test)
    correct = round(last["test_accuracy"] * n)
    return {
        "test_correct": correct,
        "test_images": n,
        "test_accuracy": correct / n,
        "test_interval_95": Proportion(correct, n).interval(),
        **{k: last[k] for k in ("test_loss", "train_accuracy", "train_loss_mixed")},
        "images_per_s": round(trainer.clock.rate, 1),
        "loading_share": round(trainer.clock.loading_share, 4),
        "images": len(data.train),
        "classes": data.classes,
        "shape": data.train.shape,
        "mean": data.mean,
        "std": data.std,
        "parameters": sum(p.numel() for p in trainer.model.parameters()),
        "steps": trainer.steps,
        "processes": trainer.group.world,
        "device": trainer.group.device.type,
        "threads": torch.get_num_threads(),
        "curve": trainer.curve,
        "data_sha256": identity["data"],
        "weights_sha256": hashlib.sha256(content).hexdigest(),
    }


def curve_csv(curve: list[dict[str, Any]]) -> bytes:
    """The curve as a table, one line an epoch."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(curve[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(curve)
    return text.getvalue().encode()


def load_network(record: dict[str, Any], out: Path = RESULTS / "runs") -> nn.Module:
    """The trained network of a run's record: images in [0, 1] to logits, float64, eval mode.

    Raises:
        ValueError: if the weights are not those of the record.
    """
    config, result = RunConfig(**record["config"]), record["result"]
    options = {"width": config.width, "activation": config.activation}
    net = build(config.model, classes=result["classes"], shape=tuple(result["shape"]), seed=config.seed, **options)
    model = Normalised(net, result["mean"], result["std"])
    load_weights(model, out / config.name / "weights.safetensors", result["weights_sha256"])
    return model.double().eval()


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other processes out of a run's folder."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise RuntimeError(
            f"expected to be the only process that trains {folder.name}, got another one at it; wait for it or stop it."
        ) from error
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def _threads(n: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(n or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def main(
    config: Annotated[RunConfig, tyro.conf.arg(name="")], how: Annotated[Execution, tyro.conf.arg(name="")]
) -> None:
    """Train, then print where everything is."""
    record = train(config, how)
    if record:
        result = record["result"]
        low, high = result["test_interval_95"]
        print(
            f"clean test accuracy {100 * result['test_accuracy']:.2f} % (95 % interval {100 * low:.2f} to "
            f"{100 * high:.2f}), {result['images_per_s']:.0f} images/s, waiting for images "
            f"{100 * result['loading_share']:.1f} % of the time; {how.out / config.name}"
        )


if __name__ == "__main__":
    tyro.cli(main)
