"""Train strategies x networks x data sets x seeds x alphas, on any `concurrent.futures` executor.

``python -m experiments.sweep --data cifar10 fashion_mnist --strategies vanilla mixup cutmix --seeds 0 1 2 --jobs 2``;
on a cluster ``--dask tcp://scheduler:8786`` (workers of one thread each, which see the same folder and data). Runs that
are finished are not run again, interrupted ones go on from their last checkpoint, failed ones are reported, left alone
the next time, and tried again with ``--retry``. One line shows the progress of the whole; each run's ``curve.csv`` is
written after every epoch.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from tqdm import tqdm

from experiments import accuracy_stats, tables_accuracy
from experiments.record import ClaimFailed, plain, read_record, write_record
from experiments.run_config import RunConfig
from experiments.strategies import strategy_from, with_alpha
from experiments.train import Execution, finished, train
from experiments.workers import executor_for

USUAL = Execution()
LOST = "lost with its worker"
LOOK = 1.0  # seconds from one look for a signal to the next
_signals: list[int] = []  # that the sweep has got


@dataclass(frozen=True)
class Grid:
    """The runs: every combination of these, the rest of each run as in ``run``.

    Attributes:
        data: data sets, ``name`` or ``name:path``.
        models: networks.
        strategies: as text.
        seeds: one run each.
        alphas: if given, each strategy with each of these; vanilla training has none and runs once.
        run: all other settings.
    """

    data: tuple[str, ...] = ("digits",)
    models: tuple[str, ...] = ("resnet8",)
    strategies: tuple[str, ...] = ("vanilla", "mixup", "cutmix", "choice", "hmix", "gmix")
    seeds: tuple[int, ...] = (0, 1, 2)
    alphas: tuple[float, ...] = ()
    run: RunConfig = field(default_factory=RunConfig)

    def __post_init__(self) -> None:
        usual = RunConfig()
        for name in ("data", "model", "strategy", "seed"):
            if getattr(self.run, name) != getattr(usual, name):
                raise ValueError(
                    f"expected the grid to say what varies, got run.{name}={getattr(self.run, name)!r}; give the "
                    f"values of {name} to the grid itself."
                )

    def runs(self) -> list[RunConfig]:
        """The runs, each once; seeds vary slowest, so that whole comparisons come early."""
        texts = [text for s in self.strategies for text in self._with_alphas(s)]
        grid = product(self.seeds, self.data, self.models, texts)
        runs = [replace(self.run, seed=s, data=d, model=m, strategy=t) for s, d, m, t in grid]
        return list(dict.fromkeys(runs))

    def _with_alphas(self, text: str) -> list[str]:
        if not self.alphas:
            return [text]
        return list(dict.fromkeys(with_alpha(strategy_from(text), alpha).name for alpha in self.alphas))


@dataclass(frozen=True)
class Outcome:
    """Records of the finished runs, in the order of the runs, and what became of the others, by their names."""

    records: list[dict[str, Any]]
    failures: dict[str, str]


def sweep(
    runs: Sequence[RunConfig], how: Execution = USUAL, *, executor: Executor | None = None, retry: bool = False
) -> Outcome:
    """Train what is not finished yet; a run that fails does not stop the others.

    A run that was lost with its worker has not failed: it is named in the outcome, and the next sweep continues it.

    Args:
        runs: what to train.
        how: how each is run; it is resumed and quiet in any case.
        executor: where; its workers must see the folder ``how.out`` and the data. One after another here if not given.
        retry: run again what failed before.

    Raises:
        ValueError: under torchrun, whose processes share one run.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ValueError(
            "expected a sweep to be started alone, got several processes of torchrun; start experiments.train with it."
        )
    results: dict[str, dict[str, Any]] = {}
    failures: dict[str, str] = {}
    ahead = []
    for run in runs:
        try:
            record, failure = finished(run, how.out), read_failure(run, how.out)
        except ValueError as error:  # a file that is no record
            failures[run.name] = str(error)
            continue
        if record is not None:
            results[run.name] = record
        elif failure is not None and not retry:
            failures[run.name] = failure
        else:
            ahead.append(run)
    known = len(results)
    with tqdm(total=len(runs), initial=len(runs) - len(ahead), desc="sweep", unit="run", disable=how.quiet) as line:
        each = replace(how, resume=True, quiet=True, threads=how.threads or 1)
        for run, outcome in _outcomes(ahead, each, executor):
            if isinstance(outcome, str):
                failures[run.name] = outcome
            else:
                results[run.name] = outcome
            line.update()
            line.set_postfix(known=known, trained=len(results) - known, failed=len(failures))
    return Outcome([results[r.name] for r in runs if r.name in results], failures)


def _outcomes(
    runs: Sequence[RunConfig], how: Execution, executor: Executor | None
) -> Iterator[tuple[RunConfig, dict[str, Any] | str]]:
    """Each run with its record or what it failed with, as they come."""
    if executor is None:
        for run in runs:
            yield run, _attempt(run, how)
        return
    futures: dict[Future[dict[str, Any] | str], RunConfig] = {executor.submit(_attempt, r, how): r for r in runs}
    pending = set(futures)
    while pending:
        done, pending = wait(pending, timeout=LOOK, return_when=FIRST_COMPLETED)
        _stop_if_signalled()  # the exception of the handler can be lost, where it was raised in a callback
        for future in done:
            run = futures[future]
            try:
                yield run, future.result()
            except Exception as error:  # the worker was lost, perhaps with its work done
                yield run, finished(run, how.out) or f"{LOST} ({type(error).__name__}: {error})"


def _attempt(run: RunConfig, how: Execution) -> dict[str, Any] | str:
    """The record of a run; or what it failed with, which is noted beside it."""
    note = how.out / run.name / "failure.json"
    try:
        record = train(run, how)
    except SystemExit:  # after SIGTERM
        if multiprocessing.parent_process() is None:
            raise
        os._exit(1)  # a worker that went on would take the next run
    except Exception as error:  # the other runs go on
        text = f"{type(error).__name__}: {error}"
        write_record(note, {"config": run, "result": {"error": text}})
        return text
    note.unlink(missing_ok=True)
    return record


def read_failure(run: RunConfig, out: Path) -> str | None:
    """What a run failed with, or None if it did not."""
    record = read_record(out / run.name / "failure.json")
    return None if record is None or record["config"] != plain(run) else str(record["result"]["error"])


def main(
    grid: Annotated[Grid, tyro.conf.arg(name="")],
    how: Annotated[Execution, tyro.conf.arg(name="")],
    jobs: int | None = None,
    dask: str | None = None,
    retry: bool = False,
) -> None:
    """Run the grid, print the table; exit with 1 if a run failed.

    Args:
        grid: the runs.
        how: how each is run.
        jobs: processes; one for each core by default, one in all where there is a GPU.
        dask: address of a scheduler, instead of processes.
        retry: run again what failed before.
    """
    outcome = run_all(grid.runs(), how, jobs=jobs, dask=dask, retry=retry)
    if outcome.records:
        runs = [summary(r) for r in outcome.records]
        print(tables_accuracy.table({"result": accuracy_stats.summary(runs)}))
    for name, text in outcome.failures.items():
        print(f"FAILED    {name}: {text}")
    if outcome.failures:
        print("Runs that failed are left alone until you pass --retry; lost ones continue when you start again.")
        raise ClaimFailed(1)


def run_all(
    runs: Sequence[RunConfig],
    how: Execution,
    *,
    jobs: int | None = None,
    dask: str | None = None,
    retry: bool = False,
    attempts: int = 3,
) -> Outcome:
    """A `sweep` over processes or a Dask cluster, which is started anew for runs that were lost with a worker."""
    _signals.clear()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    if jobs is None:
        jobs = 1 if torch.cuda.is_available() else os.cpu_count() or 1
    for k in range(attempts):
        with executor_for(jobs, dask) as executor:
            outcome = sweep(runs, how, executor=executor, retry=retry and k == 0)
        if not any(text.startswith(LOST) for text in outcome.failures.values()):
            break
    return outcome


def _interrupt(number: int, _frame: object) -> None:
    _signals.append(number)
    _stop_if_signalled()


def _stop_if_signalled() -> None:
    if _signals:
        raise KeyboardInterrupt(f"stopped by signal {_signals[-1]}; start the sweep again to continue")


def summary(record: dict[str, Any]) -> dict[str, Any]:
    """What tables need of a run's record; ``wall_s`` in seconds."""
    config, result = RunConfig(**record["config"]), record["result"]
    name, _, path = config.data.partition(":")
    kept = (
        *("test_correct", "test_images", "test_accuracy", "train_accuracy", "train_loss_mixed", "test_loss"),
        *("images", "classes", "images_per_s", "loading_share", "weights_sha256"),
    )
    return {
        "data": f"{name} {Path(path).name}" if name in ("folder", "npz") else name,
        **{k: getattr(config, k) for k in ("model", "strategy", "seed", "epochs")},
        **{k: result[k] for k in kept},
        "wall_s": record["wall_s"],
        "run": config.name,
    }


if __name__ == "__main__":
    tyro.cli(main)
