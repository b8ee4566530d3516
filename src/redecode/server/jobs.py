"""Work in threads that an event loop counts, refuses, watches and cancels."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

Result = TypeVar("Result")

# What the first clients are told to wait where nothing is known yet, and the most that anyone is told, in seconds.
_FIRST_GUESS, _LONGEST_WAIT = 1.0, 60
# Weight of the newest job in the running mean of their durations.
_NEWEST = 0.2


class BusyError(Exception):
    """All places are taken.

    Attributes:
        retry_after: seconds after which asking again makes sense.
    """

    def __init__(self, retry_after: int) -> None:
        super().__init__("all places are taken")
        self.retry_after = retry_after


class CancelledError(Exception):
    """The job was cancelled by its owner."""


class OverdueError(Exception):
    """The job took longer than allowed."""


class Job:
    """One piece of work, as seen from its thread and from its owner.

    Attributes:
        done: steps that are finished.
        total: their number; 0 while it is not known.
        cancelled: whether the owner wants it to end.
    """

    def __init__(self) -> None:
        self.done = 0
        self.total = 0
        self._cancelled = threading.Event()
        self._deadline = math.inf

    @property
    def cancelled(self) -> bool:
        """Whether the owner wants the work to end."""
        return self._cancelled.is_set()

    def cancel(self) -> None:
        """Ask the work to end at its next step."""
        self._cancelled.set()

    def begin(self, seconds: float) -> None:
        """Start the clock."""
        self._deadline = time.monotonic() + seconds
        self.check()

    def check(self) -> None:
        """To be called by the work wherever it can end.

        Raises:
            CancelledError: the owner wants it to.
            OverdueError: its time is up.
        """
        if self.cancelled:
            raise CancelledError
        if time.monotonic() > self._deadline:
            raise OverdueError

    def step(self, done: int, total: int) -> None:
        """Note the progress, and :meth:`check`."""
        self.done, self.total = done, total
        self.check()


class Lane:
    """Threads with a queue of limited length. Its places are counted on the event loop's own thread."""

    def __init__(self, workers: int, queue: int, seconds: float, finished: Callable[[float], object]) -> None:
        """
        Args:
            workers: threads, and so jobs at a time.
            queue: how many more may wait.
            seconds: that a job may take once it has begun.
            finished: told of every job that comes to its end, and the seconds it took; called in its thread.
        """
        self.taken = 0
        self._workers = workers
        self._places = workers + queue
        self._seconds = seconds
        self._finished = finished
        self._mean = _FIRST_GUESS
        self._pool = ThreadPoolExecutor(workers)

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold a place, to be taken before anything is read from the client.

        Raises:
            BusyError: there is none.
        """
        if self.taken >= self._places:
            wait = self._mean * self.taken / self._workers / 2
            raise BusyError(min(max(math.ceil(wait), 1), _LONGEST_WAIT))
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1

    async def run(self, job: Job, work: Callable[[Job], Result]) -> Result:
        """Run work in a thread, when one is free; the caller holds a place.

        Raises:
            CancelledError, OverdueError: see :meth:`Job.check`.
        """
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, self._timed, job, work)
        finally:
            # Where the caller itself is cancelled, nobody waits for the work any more.
            job.cancel()

    def _timed(self, job: Job, work: Callable[[Job], Result]) -> Result:
        began = time.monotonic()
        job.begin(self._seconds)
        result = work(job)
        took = time.monotonic() - began
        self._mean += _NEWEST * (took - self._mean)
        self._finished(took)
        return result

    def close(self) -> None:
        """Let the jobs at work end (they must have been cancelled); those that wait never begin."""
        self._pool.shutdown(wait=True, cancel_futures=True)
