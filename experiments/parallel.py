"""Independent tasks over processes, one thread each, with a progress bar."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from tqdm import tqdm

from experiments.workers import LOOK, STOPPED, WorkerLost, executor_for

T = TypeVar("T")
ATTEMPTS = 3  # at a task whose process dies


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute with one thread: sums over a batch are split by thread, and so are their rounding errors."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def spread(
    function: Callable[..., T],
    arguments: Sequence[tuple[Any, ...]],
    jobs: int,
    title: str,
    *,
    known: Callable[..., T | None] = lambda *_: None,
) -> list[T]:
    """``[function(*a) for a in arguments]``, over ``jobs`` processes; results in the order of the arguments.

    Every process, also a single one, computes with one thread, so that results do not depend on ``jobs``. Arguments
    for which ``known`` has a result are not run. A task whose process dies is run again. No process outlives this one.

    Raises:
        RuntimeError: if the process of one task died at every attempt.
        SystemExit: after SIGTERM.
    """
    found = [known(*a) for a in arguments]
    missing = [a for a, result in zip(arguments, found, strict=True) if result is None]
    made = iter(_run(function, missing, jobs, title) if missing else ())
    return [next(made) if result is None else result for result in found]  # what is made may be None


def _run(function: Callable[..., T], arguments: Sequence[tuple[Any, ...]], jobs: int, title: str) -> list[T]:
    with (
        _stop_on_sigterm() as look,
        executor_for(jobs) as pool,
        tqdm(total=len(arguments), desc=title, unit="run") as bar,
    ):
        if pool is not None:
            return _gather(pool, function, arguments, bar, look)
        results = []
        with one_thread():
            for a in arguments:
                results.append(function(*a))
                bar.update()
                look()
        return results


def _gather(
    pool: Executor, function: Callable[..., T], arguments: Sequence[tuple[Any, ...]], bar: Any, look: Callable[[], None]
) -> list[T]:
    results: dict[int, T] = {}
    attempts = [1] * len(arguments)
    pending: dict[Future[T], int] = {pool.submit(function, *a): k for k, a in enumerate(arguments)}
    try:
        while pending:
            done, _ = wait(pending, timeout=LOOK, return_when=FIRST_COMPLETED)
            look()
            for future in done:
                k = pending.pop(future)
                try:
                    results[k] = future.result()
                    bar.update()
                except WorkerLost as error:
                    if attempts[k] == ATTEMPTS:
                        raise RuntimeError(
                            f"expected task {k + 1} of {len(arguments)} to finish, its process died at {ATTEMPTS} "
                            f"attempts ({error}); what is finished is kept: start the same command again."
                        ) from error
                    attempts[k] += 1
                    pending[pool.submit(function, *arguments[k])] = k
    except Exception:
        pool.shutdown(cancel_futures=True)  # what runs may finish: its record is kept
        raise
    return [results[k] for k in range(len(arguments))]


@contextmanager
def _stop_on_sigterm() -> Iterator[Callable[[], None]]:
    """SIGTERM ends this process with a message, and its workers with it; yields a look whether it has come.

    The look is needed where the handler's exception was raised in a callback, and so lost. A handler of the user's own
    stays, and in other threads, where no signals arrive, nothing changes.
    """
    got: list[int] = []

    def look() -> None:
        if got:
            raise SystemExit(f"{STOPPED} {got[0]}; what is finished is kept: start the same command again to continue.")

    def stop(number: int, _frame: object) -> None:
        got.append(number)
        look()

    if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield look
        return
    try:
        signal.signal(signal.SIGTERM, stop)
    except ValueError:
        yield look
        return
    try:
        yield look
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
