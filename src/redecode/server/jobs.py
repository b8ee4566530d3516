"""Jobs in threads, with a queue of limited length, progress, time limits and cancellation."""

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

# Assumed duration of a job before the first one has finished, and the longest Retry-After, in seconds.
_FIRST_GUESS, _LONGEST_WAIT = 1.0, 60
# Weight of the newest job in the moving average of durations.
_NEWEST = 0.2


class BusyError(Exception):
    """All places are taken.

    Attributes:
        retry_after: seconds after which the client should try again.
    """

    def __init__(self, retry_after: int) -> None:
        super().__init__("all places are taken")
        self.retry_after = retry_after


class CancelledError(Exception):
    """The job was cancelled by its owner."""


class OverdueError(Exception):
    """The job took longer than allowed."""


class Job:
    """A job, shared by the thread that runs it and its owner.

    Attributes:
        done: number of finished steps.
        total: total number of steps; 0 while it is unknown.
        cancelled: whether the owner has cancelled the job.
    """

    def __init__(self) -> None:
        self.done = 0
        self.total = 0
        self._cancelled = threading.Event()
        self._deadline = math.inf

    @property
    def cancelled(self) -> bool:
        """Whether the owner has cancelled the job."""
        return self._cancelled.is_set()

    def cancel(self) -> None:
        """Cancel the job: it ends at its next check."""
        self._cancelled.set()

    def begin(self, seconds: float) -> None:
        """Start the time limit."""
        self._deadline = time.monotonic() + seconds
        self.check()

    def check(self) -> None:
        """End the job if it is cancelled or overdue; the job's work calls this regularly.

        Raises:
            CancelledError: the owner has cancelled the job.
            OverdueError: the time limit is exceeded.
        """
        if self.cancelled:
            raise CancelledError
        if time.monotonic() > self._deadline:
            raise OverdueError

    def step(self, done: int, total: int) -> None:
        """Record the progress, then :meth:`check`."""
        self.done, self.total = done, total
        self.check()


class Lane:
    """A thread pool with a queue of limited length. Only the event loop's thread counts its places."""

    def __init__(self, workers: int, queue: int, seconds: float, finished: Callable[[float], object]) -> None:
        """
        Args:
            workers: number of threads, and so of concurrent jobs.
            queue: maximum number of waiting jobs.
            seconds: time limit of a job in seconds, from its start.
            finished: function called with the duration in seconds of each completed job, in the job's thread.
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
        """Hold a place in the lane; routes take it before they read the client's data.

        Raises:
            BusyError: all places are taken.
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
        """Run a job's work in the next free thread. The caller holds a place.

        Raises:
            CancelledError, OverdueError: see :meth:`Job.check`.
        """
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, self._timed, job, work)
        finally:
            # If the caller itself is cancelled, the result is no longer needed.
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
        """Wait for the running jobs, which must have been cancelled, and drop the waiting ones."""
        self._pool.shutdown(wait=True, cancel_futures=True)
