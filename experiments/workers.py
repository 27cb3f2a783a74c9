"""Processes (or a Dask cluster) for long runs, which end with the process that started them, each with a checkpoint."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor

import torch

PATIENCE = 60  # seconds in which a process that is told to stop may finish its step and write a checkpoint


@contextlib.contextmanager
def executor_for(jobs: int, dask: str | None = None) -> Iterator[Executor | None]:
    """Processes of one thread each (none for one job), or a Dask cluster's executor.

    Processes end with this one, however it ends, each with a checkpoint of its run.

    Raises:
        ModuleNotFoundError: if a Dask address is given and Dask is not installed (extra ``cluster``).
    """
    if dask is not None:
        from dask.distributed import Client

        with Client(dask) as client:  # type: ignore[no-untyped-call]
            yield client.get_executor()
        return
    if jobs == 1:
        yield None
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=_worker)
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        children = multiprocessing.active_children()
        for child in children:
            child.terminate()
        for child in children:
            child.join(PATIENCE)
            child.kill()
        raise
    pool.shutdown()


def _worker() -> None:
    """One thread; ^C is for the process that started this one, and when that is gone, so is this one."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def follow() -> None:
        if parent is not None:
            parent.join()
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(PATIENCE)
            os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
