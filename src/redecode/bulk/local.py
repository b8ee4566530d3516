"""Restoring on one machine: a pool of processes, each with its own decoder."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Generator, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from itertools import chain, islice

from .manifest import Row
from .restorer import Restorer, Setup, Task, lost

# Number of files submitted per process: the one that it restores, and enough in the queue that it never waits.
_QUEUED_PER_WORKER = 4
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

_restorer: Restorer


def cores() -> int:
    """Number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def restore(setup: Setup, windows: Iterator[list[Task]], workers: int | None) -> Generator[Row, None, None]:
    """Restore files in parallel and yield their rows in the order in which they finish.

    Each process has one decoder with cores / processes threads, at least one.
    When a worker is killed (by the system, for lack of memory), the pool ends with it: it is restarted, unfinished files are retried one by
    one, and a file that kills its worker again fails.

    Args:
        setup: settings of the workers.
        windows: lists of files, read as workers become free.
        workers: maximum number of processes; None for one per core.

    Raises:
        KeyboardInterrupt: after the rows of the files that were being restored when it arrived.
    """
    first = next(windows, [])
    workers = max(1, min(workers or cores(), len(first)))
    setup = replace(setup, threads=max(1, cores() // workers))
    entries = chain(first, chain.from_iterable(windows))
    waiting: dict[Future[Row], Task] = {}
    pool = _Pool(setup, workers)
    try:
        while True:
            for entry in islice(entries, _QUEUED_PER_WORKER * workers - len(waiting)):
                waiting[pool.submit(entry)] = entry
            if not waiting:
                return
            suspects = []
            for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                entry = waiting.pop(future)
                try:
                    yield future.result()
                except BrokenProcessPool:
                    suspects.append(entry)
            if suspects:
                rest = {**waiting}
                waiting.clear()
                yield from _retry(pool, suspects, rest)
    except KeyboardInterrupt:
        running = [future for future in waiting if not future.cancel()]
        yield from (future.result() for future in wait(running).done if future.exception() is None)
        raise
    finally:
        pool.shutdown()


def restore_here(setup: Setup, windows: Iterator[list[Task]]) -> Generator[Row, None, None]:
    """Restore files in this process, one after the other."""
    restorer = Restorer(setup)
    for entry in chain.from_iterable(windows):
        yield restorer(entry)


def _retry(pool: _Pool, suspects: list[Task], rest: dict[Future[Row], Task]) -> Generator[Row, None, None]:
    """Retry one by one the files that were unfinished when the pool broke; keep the results that arrived in time."""
    for future in wait(rest).done:
        try:
            yield future.result()
        except BrokenProcessPool:
            suspects.append(rest[future])
    pool.restart()
    for entry in suspects:
        try:
            yield pool.submit(entry).result()
        except BrokenProcessPool:
            pool.restart()
            yield lost(entry, pool.setup)


class _Pool:
    def __init__(self, setup: Setup, workers: int) -> None:
        self.setup = setup
        self._workers = workers
        self._executor = self._start()

    def submit(self, entry: Task) -> Future[Row]:
        try:
            return self._executor.submit(_restore, entry)
        except BrokenProcessPool as error:
            # The pool broke unnoticed: treat this file like one that was being restored.
            broken: Future[Row] = Future()
            broken.set_exception(error)
            return broken

    def restart(self) -> None:
        self._executor.shutdown()
        self._executor = self._start()

    def shutdown(self) -> None:
        self._executor.shutdown(cancel_futures=True)

    def _start(self) -> ProcessPoolExecutor:
        # Numerical libraries read these variables on import: without them, each process would use all cores.
        os.environ.update(dict.fromkeys(_THREAD_VARIABLES, str(self.setup.threads)))
        # Not forked: ONNX Runtime, and fsspec's file systems with threads, break in a forked process.
        context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(self._workers, context, _initialize_worker, (self.setup,))


def _initialize_worker(setup: Setup) -> None:
    """Initialize a new worker process: load the decoder, and end with the parent process."""
    global _restorer
    # Ctrl-C reaches all processes; the parent process alone handles it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    _restorer = Restorer(setup)


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    # Without this, workers would wait forever: each holds the other end of the pool's pipes open.
    os._exit(1)


def _restore(entry: Task) -> Row:
    return _restorer(entry)
