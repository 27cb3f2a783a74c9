"""Processes (or a Dask cluster) for long runs, which end with the process that started them, each with a checkpoint.

`Workers` stands in for ``concurrent.futures.ProcessPoolExecutor``. Of that one, a process that dies takes all tasks
with it, and where others are being started at that moment CPython 3.11 waits for ever; and when the process that
started it is killed, its processes stay.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import queue
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import ForkingPickler
from typing import Any

import torch

PATIENCE = 60  # seconds in which a process that is told to stop may finish its step and write a checkpoint
STOPPED = "stopped by signal"  # so begin the texts of exits after a signal, here and in training
LOOK = 1.0  # seconds from one look whether a process lives to the next


class WorkerLost(RuntimeError):
    """The process that ran a task has died."""


class Workers(Executor):
    """``jobs`` processes of one thread each, started when there is work for them, and again after they died.

    A task whose process dies ends with `WorkerLost`; the other tasks go on. Each process has a thread here that hands
    it one task after the other, so that no two processes share a queue or a lock which one could leave broken.
    """

    def __init__(self, jobs: int) -> None:
        self._tasks: queue.SimpleQueue[tuple[Future[Any], Any] | None] = queue.SimpleQueue()
        self._lock, self._open, self._stopped = threading.Lock(), True, False
        self._processes: set[BaseProcess] = set()
        self._threads = [threading.Thread(target=self._attend, daemon=True) for _ in range(jobs)]
        for thread in self._threads:
            thread.start()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """The future of ``fn(*args, **kwargs)``.

        Raises:
            RuntimeError: after `shutdown`.
        """
        future: Future[Any] = Future()
        with self._lock:
            if not self._open:
                raise RuntimeError("expected tasks before these processes were shut down, got one after; start others.")
            self._tasks.put((future, (fn, args, kwargs)))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the processes after the tasks that were given, or with ``cancel_futures`` after those that run."""
        with self._lock:
            if cancel_futures:
                with contextlib.suppress(queue.Empty):
                    while True:
                        task = self._tasks.get_nowait()
                        if task is not None:
                            task[0].cancel()
            self._open = False
            for _ in self._threads:
                self._tasks.put(None)
        if wait:
            for thread in self._threads:
                thread.join()

    def stop(self) -> None:
        """Tell the processes to stop, wait `PATIENCE` seconds, then kill; no other task is begun."""
        with self._lock:
            self._stopped = True
            running = list(self._processes)
        self.shutdown(wait=False, cancel_futures=True)
        for process in running:
            process.terminate()
        limit = time.monotonic() + PATIENCE
        for process in running:
            process.join(max(0.0, limit - time.monotonic()))
            process.kill()
            process.join()

    def _attend(self) -> None:
        """Hand one process its tasks."""
        process: BaseProcess | None = None
        pipe: Connection | None = None
        while (task := self._tasks.get()) is not None:
            future, call = task
            if not future.set_running_or_notify_cancel():
                continue
            try:
                if process is None or pipe is None or not process.is_alive():
                    process, pipe = self._start()
                done, value = _ask(process, pipe, call)
            except WorkerLost as error:
                future.set_exception(error)
                process = None
            except Exception as error:  # what cannot be sent
                future.set_exception(error)
            else:
                if done:
                    future.set_result(value)
                else:
                    future.set_exception(value)
        if process is not None and pipe is not None:
            pipe.close()
            process.join()

    def _start(self) -> tuple[BaseProcess, Connection]:
        with self._lock:
            if self._stopped:
                raise WorkerLost("stopped before it began")
            context = multiprocessing.get_context("spawn")
            here, there = context.Pipe()
            process = context.Process(target=_serve, args=(there,))
            process.start()
            there.close()  # the end of the process is the only one: its death ends the connection
            self._processes = {p for p in self._processes if p.is_alive()} | {process}
        return process, here


def _ask(process: BaseProcess, pipe: Connection, call: Any) -> tuple[bool, Any]:
    """Whether a call returned, and what it returned or raised."""
    try:
        pipe.send(call)
        while not pipe.poll(LOOK):
            if not process.is_alive() and not pipe.poll():
                pipe.close()  # a process that it started may still hold its end; receiving now fails
                break
        answer: tuple[bool, Any] = pipe.recv()
        return answer
    except (EOFError, OSError) as error:
        process.join(LOOK)
        process.kill()
        process.join()
        raise WorkerLost(
            f"expected an answer of process {process.pid}, it ended with {_ending(process.exitcode)}; if the system "
            "killed it for want of memory, use fewer jobs."
        ) from error


def _ending(code: int | None) -> str:
    return f"signal {-code}" if code is not None and code < 0 else f"status {code}"


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
    pool = Workers(jobs)
    try:
        yield pool
    except BaseException:
        pool.stop()
        raise
    pool.shutdown()


def _serve(pipe: Connection) -> None:
    """Do what comes through the pipe, with one thread, until its other end is closed.

    ^C is for the process that started this one, and when that is gone, so is this one.
    """
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
    with contextlib.suppress(EOFError, OSError):
        while True:
            answer = _answer(pipe)
            try:
                pipe.send(answer)
            except OSError:
                raise
            except Exception as error:
                pipe.send((False, TypeError(f"expected a result that can be sent to another process ({error}).")))


def _answer(pipe: Connection) -> tuple[bool, Any]:
    try:
        function, args, kwargs = pipe.recv()
    except (EOFError, OSError):
        raise
    except Exception as error:  # a task that this process cannot read
        return False, error
    try:
        return True, function(*args, **kwargs)
    except SystemExit as error:
        if str(error).startswith(STOPPED):
            raise  # this process is to end; its task is another process's to continue
        return False, _noted(RuntimeError(f"expected a task that returns or raises, it ended with sys.exit({error})."))
    except Exception as error:
        return False, _sendable(_noted(error))


def _noted(error: Exception) -> Exception:
    error.add_note(f"in process {os.getpid()}:\n{traceback.format_exc()}")
    return error


def _sendable(error: Exception) -> Exception:
    """The error, or its kind and text where it cannot be made again from what is sent."""
    try:
        ForkingPickler.loads(ForkingPickler.dumps(error))
    except Exception:
        instead = RuntimeError(f"{type(error).__name__}: {error}")
        for note in error.__notes__:
            instead.add_note(note)
        return instead
    return error
