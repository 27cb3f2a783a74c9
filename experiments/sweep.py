"""Train strategies x networks x data sets x seeds x alphas, on any `concurrent.futures` executor.

``python -m experiments.sweep --data cifar10 fashion_mnist --strategies vanilla mixup cutmix --seeds 0 1 2 --jobs 2``;
on a cluster ``--dask tcp://scheduler:8786`` (workers of one thread each, which see the same folder and data). Runs that
are finished are not run again, interrupted ones go on from their last checkpoint, failed ones are reported, left alone
the next time, and tried again with ``--retry``. One line shows the progress of the whole; each run's ``curve.csv`` is
written after every epoch.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from tqdm import tqdm

from experiments.record import ClaimFailed, plain, read_record, write_record
from experiments.run_config import RunConfig
from experiments.strategies import strategy_from, with_alpha
from experiments.train import Execution, finished, train

USUAL = Execution()


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

    Args:
        runs: what to train.
        how: how each is run; it is resumed and quiet in any case.
        executor: where; its workers must see the folder ``how.out`` and the data. One after another here if not given.
        retry: run again what failed before.
    """
    results: dict[str, dict[str, Any]] = {}
    failures: dict[str, str] = {}
    ahead = []
    for run in runs:
        record, failure = finished(run, how.out), read_failure(run, how.out)
        if record is not None:
            results[run.name] = record
        elif failure is not None and not retry:
            failures[run.name] = failure
        else:
            ahead.append(run)
    known = len(results)
    with tqdm(total=len(runs), initial=len(runs) - len(ahead), desc="sweep", unit="run", disable=how.quiet) as line:
        for run, outcome in _outcomes(ahead, replace(how, resume=True, quiet=True), executor):
            if isinstance(outcome, Exception):
                failures[run.name] = _note(run, how.out, outcome)
            else:
                results[run.name] = outcome
            line.update()
            line.set_postfix(known=known, trained=len(results) - known, failed=len(failures))
    return Outcome([results[r.name] for r in runs if r.name in results], failures)


def _outcomes(
    runs: Sequence[RunConfig], how: Execution, executor: Executor | None
) -> Iterator[tuple[RunConfig, dict[str, Any] | Exception]]:
    """Each run with its record or its error, as they come."""
    if executor is None:
        for run in runs:
            yield run, _attempt(run, how)
        return
    futures: dict[Future[dict[str, Any] | Exception], RunConfig] = {executor.submit(_attempt, r, how): r for r in runs}
    for future in as_completed(futures):
        error = future.exception()  # a worker that was lost
        if error is not None and not isinstance(error, Exception):
            raise error
        yield futures[future], future.result() if error is None else error


def _attempt(run: RunConfig, how: Execution) -> dict[str, Any] | Exception:
    try:
        return train(run, how)
    except Exception as error:  # reported by `sweep`; the other runs go on
        return error


def _note(run: RunConfig, out: Path, error: Exception) -> str:
    text = f"{type(error).__name__}: {error}"
    write_record(out / run.name / "failure.json", {"config": run, "result": {"error": text}})
    return text


def read_failure(run: RunConfig, out: Path) -> str | None:
    """What a run failed with, or None if it did not."""
    record = read_record(out / run.name / "failure.json")
    return None if record is None or record["config"] != plain(run) else str(record["result"]["error"])


@contextlib.contextmanager
def executor_for(jobs: int, dask: str | None = None) -> Iterator[Executor | None]:
    """Processes of one thread each (none for one job), or a Dask cluster's executor.

    Raises:
        ModuleNotFoundError: if a Dask address is given and Dask is not installed (extra ``cluster``).
    """
    if dask is not None:
        from dask.distributed import Client

        with Client(dask) as client:  # type: ignore[no-untyped-call]
            yield client.get_executor()
    elif jobs == 1:
        yield None
    else:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(jobs, mp_context=context, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield pool


def main(
    grid: Annotated[Grid, tyro.conf.arg(name="")],
    how: Annotated[Execution, tyro.conf.arg(name="")],
    jobs: int = os.cpu_count() or 1,
    dask: str | None = None,
    retry: bool = False,
) -> None:
    """Run the grid; exit with 1 if a run failed.

    Args:
        grid: the runs.
        how: how each is run.
        jobs: processes.
        dask: address of a scheduler, instead of processes.
        retry: run again what failed before.
    """
    with executor_for(jobs, dask) as executor:
        outcome = sweep(grid.runs(), how, executor=executor, retry=retry)
    for record in outcome.records:
        run, result = RunConfig(**record["config"]), record["result"]
        print(f"{100 * result['test_accuracy']:6.2f} %  {run.name}")
    for name, text in outcome.failures.items():
        print(f"FAILED    {name}: {text}")
    if outcome.failures:
        print("Failed runs are left alone until you pass --retry.")
        raise ClaimFailed(1)


if __name__ == "__main__":
    tyro.cli(main)
