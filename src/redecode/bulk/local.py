"""One machine: a process of the standard library for each engine."""

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

# Files on their way for each process: one at work, and enough behind it that none waits for the next.
_AHEAD = 4
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

_restorer: Restorer


def cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def restore(setup: Setup, windows: Iterator[list[Task]], workers: int | None) -> Generator[Row, None, None]:
    """Restore files, several at a time; rows come in the order in which files are finished.

    Each process has one engine, with as many threads as leave no core idle: one, unless there are fewer processes than cores.
    A worker that is killed (by the system, for lack of memory) takes the others with it: they are started anew, what was on its
    way is tried again file by file, and the file on which the worker dies again is given up.

    Args:
        setup: of the workers.
        windows: files; taken from the iterator as workers become free.
        workers: processes at most; None is one for each core.

    Raises:
        KeyboardInterrupt: after the rows of what was at work when it came.
    """
    first = next(windows, [])
    workers = max(1, min(workers or cores(), len(first)))
    setup = replace(setup, threads=max(1, cores() // workers))
    entries = chain(first, chain.from_iterable(windows))
    waiting: dict[Future[Row], Task] = {}
    pool = _Pool(setup, workers)
    try:
        while True:
            for entry in islice(entries, _AHEAD * workers - len(waiting)):
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
                yield from _singly(pool, suspects, rest)
    except KeyboardInterrupt:
        begun = [future for future in waiting if not future.cancel()]
        yield from (future.result() for future in wait(begun).done if future.exception() is None)
        raise
    finally:
        pool.end()


def restore_here(setup: Setup, windows: Iterator[list[Task]]) -> Generator[Row, None, None]:
    """Restore files in this very process, one after the other."""
    restorer = Restorer(setup)
    for entry in chain.from_iterable(windows):
        yield restorer(entry)


def _singly(pool: _Pool, suspects: list[Task], rest: dict[Future[Row], Task]) -> Generator[Row, None, None]:
    """What was on its way when a pool broke: results that came in time are kept."""
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
            # It broke since the last look at it: as if it had with this file on its way.
            broken: Future[Row] = Future()
            broken.set_exception(error)
            return broken

    def restart(self) -> None:
        self._executor.shutdown()
        self._executor = self._start()

    def end(self) -> None:
        self._executor.shutdown(cancel_futures=True)

    def _start(self) -> ProcessPoolExecutor:
        # Read by the libraries of the new processes when they are imported: cores are to be shared, not fought over.
        os.environ.update(dict.fromkeys(_THREAD_VARIABLES, str(self.setup.threads)))
        # Not forked: file systems with threads of their own, and ONNX Runtime, do not survive that.
        context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(self._workers, context, _begin, (self.setup,))


def _begin(setup: Setup) -> None:
    """The first deed of a new process."""
    global _restorer
    # Ctrl-C reaches all processes; the first among them decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    _restorer = Restorer(setup)


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    # The pool's pipes are open in all its processes, so that none would notice.
    os._exit(1)


def _restore(entry: Task) -> Row:
    return _restorer(entry)
