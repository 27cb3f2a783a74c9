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
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from safetensors.torch import load, save
from scipy import stats
from torch import nn
from tqdm import tqdm

from experiments.checkpoints import Checkpoints
from experiments.data import load_data
from experiments.networks import Normalised, build
from experiments.processes import Processes, processes
from experiments.record import RESULTS, cached, code_digest, current, plain, write_whole
from experiments.resume import LOOK, Saver, fingerprint, start, stop_on_sigterm
from experiments.run_config import RunConfig
from experiments.trainer import Trainer

SOURCES = (
    *("train.py", "trainer.py", "run_config.py", "optim.py", "processes.py", "strategies.py", "models.py"),
    "networks.py",
    "resume.py",
    *("data.py", "readers.py", "images.py", "pictures.py", "batches.py"),
)
PACKAGE = ("masks/", "mixing.py", "mix_transform.py", "streams.py")  # what of the package decides a run's weights


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


def code() -> str:
    """Digest of the code that decides a run's weights."""
    return code_digest(*SOURCES, package=PACKAGE)


def finished(config: RunConfig, out: Path = RESULTS / "runs") -> dict[str, Any] | None:
    """The record of this run if it was made with the present code and its weights are there."""
    folder = out / config.name
    return current(folder / "record.json", config, code(), needs=[folder / "weights.safetensors"])


def train(config: RunConfig, how: Execution = Execution()) -> dict[str, Any]:
    """Train (or find trained) and return the record, whose result holds the clean test accuracy.

    Raises:
        FloatingPointError: if the loss or a parameter is no longer finite; the last good checkpoint stays.
        ValueError: if there are checkpoints and ``resume`` is off, or they are of another run.
        SystemExit: after SIGTERM, once a checkpoint is written (one process only).
    """
    with processes(how.device) as group, _threads(how.threads), torch.random.fork_rng(enabled=True):
        folder = how.out / config.name
        known = finished(config, how.out)
        if group.agree(known is not None):
            return known or {}
        if not group.first:
            return _train(config, how, group, folder)
        command = " ".join(["python -m experiments.train", *config.options()])
        return cached(folder / "record.json", config, code(), command, lambda: _train(config, how, group, folder))


def _train(config: RunConfig, how: Execution, group: Processes, folder: Path) -> dict[str, Any]:
    data = load_data(config.data, size=config.size, images=config.images, test_images=config.test_images)
    trainer = Trainer(config, data, group, workers=how.workers)
    kept = Checkpoints(folder)
    identity = {"config": plain(asdict(config)), "data": fingerprint(data)}
    start(trainer, kept, identity, resume=how.resume)
    saver = Saver(trainer, kept, identity, how.checkpoint_seconds)
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

    with bar, stop_on_sigterm(saver, group):
        while len(trainer.curve) < config.epochs:
            if trainer.step < (len(trainer.curve) + 1) * trainer.epoch_steps:  # else it was stopped at an epoch's end
                trainer.run_epoch(after_step)
            saver.check()
            last = trainer.step == trainer.steps
            epoch = trainer.step // trainer.epoch_steps
            row = trainer.end_epoch(evaluated=last or epoch % config.evaluate_every == 0)
            if row["test_accuracy"] is not None:
                shown["clean test accuracy"] = f"{row['test_accuracy']:.3f}"
            if group.first:
                write_whole(folder / "curve.csv", curve_csv(trainer.curve))
    if not group.first:
        return {}
    result = _finish(trainer, folder)
    kept.clear()
    return result


def _finish(trainer: Trainer, folder: Path) -> dict[str, Any]:
    """Write the weights and the curve; the result of the record."""
    content = save({k: v.detach().cpu().contiguous() for k, v in trainer.result.state_dict().items()})
    write_whole(folder / "weights.safetensors", content)
    write_whole(folder / "curve.csv", curve_csv(trainer.curve))
    last, data, n = trainer.curve[-1], trainer.data, len(trainer.data.test)
    correct = round(last["test_accuracy"] * n)
    interval = stats.binomtest(correct, n).proportion_ci(0.95, method="wilson")
    return {
        "test_correct": correct,
        "test_images": n,
        "test_accuracy": correct / n,
        "test_interval_95": (float(interval.low), float(interval.high)),
        **{k: last[k] for k in ("test_loss", "train_accuracy", "train_loss_mixed", "images_per_s", "loading_share")},
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
    content = (out / config.name / "weights.safetensors").read_bytes()
    if hashlib.sha256(content).hexdigest() != result["weights_sha256"]:
        raise ValueError(f"the weights of {config.name} are not those of its record; train it again.")
    options = {"width": config.width, "activation": config.activation}
    net = build(config.model, classes=result["classes"], shape=tuple(result["shape"]), seed=config.seed, **options)
    model = Normalised(net, result["mean"], result["std"])
    model.load_state_dict(load(content))
    return model.double().eval()


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
