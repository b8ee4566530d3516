"""Worker processes for tasks: they can be ended at any time, return all their memory, and do not affect the server when they crash."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from ..decoder import Decoder
from ..errors import RedecodeError
from ..options import Options
from .jobs import Job

Given = ParamSpec("Given")
Result = TypeVar("Result")

# Seconds between two checks whether a running job is to end.
_CHECK_SECONDS = 0.05
# Seconds without a task after which a process is ended, to free its memory.
_IDLE_SECONDS = 60.0


class CrashError(Exception):
    """A task failed with an unexpected error; the message is its traceback."""


class DiedError(Exception):
    """The worker process died."""


class Context(Protocol):
    """The environment of a task in its process."""

    def decoder(self, options: Options) -> Decoder:
        """The decoder for these options; it is loaded once."""

    def tell(self, name: str, value: Any) -> None:
        """Report a named value to the server while the task runs."""


Task = Callable[Concatenate[Context, Given], Result]


class Engine(Protocol):
    """Runs tasks."""

    def run(
        self, job: Job, heard: Callable[[str, Any], object], task: Task[Given, Result], *args: Given.args, **named: Given.kwargs
    ) -> Result:
        """Run a task: a module-level function whose arguments and result can be pickled.

        Args:
            job: the job; when it is cancelled or overdue, the task is ended at once.
            heard: function called in the caller's thread with the names and values that the task reports.
            task: the function.
            args, named: arguments of the function.

        Raises:
            CancelledError, OverdueError: see :meth:`Job.check`.
            RedecodeError, OSError, MemoryError: an error of the task.
            CrashError, DiedError: any other failure.
        """

    def warm(self) -> None:
        """Prepare for the first task."""

    def rest(self) -> None:
        """End processes that have been idle for a while."""

    def close(self) -> None:
        """End all processes; no task may be running."""


class Processes:
    """An engine with a worker process for each concurrent caller; processes keep their networks for the next task."""

    def __init__(self, threads: int, folder: Path) -> None:
        """
        Args:
            threads: number of threads of the networks in each process.
            folder: folder for temporary files of the processes.
        """
        self._threads = threads
        self._folder = folder
        # Processes are forked from a server process that has imported everything: they start at once and share its memory.
        forks = "forkserver" in multiprocessing.get_all_start_methods()
        self._method: Any = multiprocessing.get_context("forkserver" if forks else "spawn")
        if forks:
            self._method.set_forkserver_preload(["redecode.server.work"])
        self._idle: list[_Worker] = []
        self._lock = threading.Lock()

    def run(
        self, job: Job, heard: Callable[[str, Any], object], task: Task[Given, Result], *args: Given.args, **named: Given.kwargs
    ) -> Result:
        """See :class:`Engine`."""
        worker = self._take()
        try:
            worker.connection.send((task, args, named))
            done, outcome = worker.outcome(job, heard)
        except BaseException:
            worker.end()
            raise
        with self._lock:
            self._idle.append(worker)
        if not done:
            raise outcome
        result: Result = outcome
        return result

    def warm(self) -> None:
        """See :class:`Engine`."""
        worker = self._take()
        worker.used = time.monotonic()
        with self._lock:
            self._idle.append(worker)

    def rest(self) -> None:
        """See :class:`Engine`."""
        oldest = time.monotonic() - _IDLE_SECONDS
        with self._lock:
            expired = [worker for worker in self._idle if worker.used < oldest]
            self._idle = [worker for worker in self._idle if worker.used >= oldest]
        for worker in expired:
            worker.end()

    def close(self) -> None:
        """See :class:`Engine`."""
        with self._lock:
            idle, self._idle = self._idle, []
        for worker in idle:
            worker.end()

    def _take(self) -> _Worker:
        with self._lock:
            while self._idle:
                worker = self._idle.pop()
                if worker.process.is_alive():
                    return worker
                worker.end()
        ours, theirs = self._method.Pipe()
        scratch = tempfile.TemporaryDirectory(prefix="work-", dir=self._folder, ignore_cleanup_errors=True)
        process = self._method.Process(target=_serve, args=(theirs, self._threads, scratch.name), daemon=True)
        process.start()
        theirs.close()
        return _Worker(process, ours, scratch)


@dataclass(eq=False)
class _Worker:
    """A worker process, seen from the server."""

    process: Any
    connection: Connection
    scratch: tempfile.TemporaryDirectory[str]
    used: float = 0.0

    def outcome(self, job: Job, heard: Callable[[str, Any], object]) -> tuple[bool, Any]:
        """Wait for the task; return whether it succeeded, and its result or its error."""
        while True:
            job.check()
            if not wait([self.connection, self.process.sentinel], _CHECK_SECONDS):
                continue
            try:
                # Data that a process sent before it died can still be read.
                kind, content = self.connection.recv()
            except (EOFError, ConnectionError):
                self.process.join()
                raise DiedError(f"a worker process died with exit code {self.process.exitcode}") from None
            if kind in ("done", "failed"):
                self.used = time.monotonic()
                return kind == "done", content
            heard(kind, content)

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self.connection.close()
        self.scratch.cleanup()


class _WorkerContext:
    """The context of tasks in a worker process."""

    def __init__(self, connection: Connection, threads: int) -> None:
        self._connection = connection
        self._threads = threads
        self._decoders: dict[tuple[str, ...], Decoder] = {}

    def decoder(self, options: Options) -> Decoder:
        key = (options.preset, options.device, str(options.precision))
        if key not in self._decoders:
            self._decoders[key] = Decoder(options.preset, self._threads, options.device, options.precision)
        return self._decoders[key]

    def tell(self, name: str, value: Any) -> None:
        self._connection.send((name, value))


def _serve(connection: Connection, threads: int, scratch: str) -> None:
    """Main loop of a worker process."""
    # Ctrl-C and SIGTERM reach all processes of the group; the server alone handles them, and ends its workers itself.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    tempfile.tempdir = scratch
    context = _WorkerContext(connection, threads)
    while True:
        try:
            task, args, named = connection.recv()
        except EOFError:
            return
        try:
            answer = ("done", task(context, *args, **named))
        except (RedecodeError, OSError, MemoryError) as error:
            answer = ("failed", error)
        except Exception:  # Unexpected errors: the log gets the traceback.
            answer = ("failed", CrashError(traceback.format_exc()))
        connection.send(answer)
        del task, args, named, answer
        _trim_memory()


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _trim_memory() -> None:
    # glibc keeps freed memory, which can be gigabytes after large pictures, unless it is asked to return it.
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
