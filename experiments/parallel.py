"""Independent tasks over processes, one thread each, with a progress bar."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from tqdm import tqdm

T = TypeVar("T")


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
    for which ``known`` has a result are not run.
    """
    results = [known(*a) for a in arguments]
    missing = [k for k, result in enumerate(results) if result is None]
    made = _run(function, [arguments[k] for k in missing], jobs, title) if missing else []
    for k, result in zip(missing, made, strict=True):
        results[k] = result
    return [result for result in results if result is not None]


def _run(function: Callable[..., T], arguments: Sequence[tuple[Any, ...]], jobs: int, title: str) -> list[T]:
    if jobs == 1:
        with one_thread():
            return [function(*a) for a in tqdm(arguments, desc=title, unit="run")]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        futures: list[Future[T]] = [pool.submit(function, *a) for a in arguments]
        try:
            for future in tqdm(as_completed(futures), total=len(futures), desc=title, unit="run"):
                future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return [future.result() for future in futures]
