"""Work in processes of its own, which can be ended at any time, give all memory back, and take nobody along when they die."""

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

# How often a job at work is asked whether it is to end, in seconds.
_LOOK_SECONDS = 0.05
# A process that had nothing to do for so long is ended, and its memory given back.
_IDLE_SECONDS = 60.0


class CrashError(Exception):
    """A task failed in a way that nobody has thought of; the message is the whole traceback."""


class DiedError(Exception):
    """The process at work died."""


class Context(Protocol):
    """What work finds in its process."""

    def decoder(self, options: Options) -> Decoder:
        """The engine for these options, loaded once."""

    def tell(self, name: str, value: Any) -> None:
        """Tell the server something of the work that goes on."""


Task = Callable[Concatenate[Context, Given], Result]


class Engine(Protocol):
    """Does tasks."""

    def run(
        self, job: Job, heard: Callable[[str, Any], object], task: Task[Given, Result], *args: Given.args, **named: Given.kwargs
    ) -> Result:
        """Do a task: a function at the top of a module, whose arguments and result can be pickled.

        Args:
            job: when it is cancelled or overdue, the task ends at once, wherever it is.
            heard: called with what the task tells, in the caller's thread.
            task: what to do.
            args, named: for the task.

        Raises:
            CancelledError, OverdueError: see :meth:`Job.check`.
            RedecodeError, OSError, MemoryError: as the task.
            CrashError, DiedError: anything else.
        """

    def warm(self) -> None:
        """Get ready for the first task."""

    def rest(self) -> None:
        """End what has been idle for long."""

    def close(self) -> None:
        """End everything; nothing may be at work any more."""


class Processes:
    """An engine of worker processes, as many as there are callers at a time; each keeps its networks for the next task."""

    def __init__(self, threads: int, folder: Path) -> None:
        """
        Args:
            threads: of the networks, in each process.
            folder: for what the processes write while they work.
        """
        self._threads = threads
        self._folder = folder
        # Forked from a process that has everything imported and does nothing else: ready in no time, and sharing its memory.
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
            tired = [worker for worker in self._idle if worker.used < oldest]
            self._idle = [worker for worker in self._idle if worker.used >= oldest]
        for worker in tired:
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
    """A process as its server sees it."""

    process: Any
    connection: Connection
    scratch: tempfile.TemporaryDirectory[str]
    used: float = 0.0

    def outcome(self, job: Job, heard: Callable[[str, Any], object]) -> tuple[bool, Any]:
        """Whether the task was done, and its result or what it raised."""
        while True:
            job.check()
            if not wait([self.connection, self.process.sentinel], _LOOK_SECONDS):
                continue
            try:
                # What a process has sent before it died is there still.
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


class _Inside:
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
    """Life of a worker process."""
    # Ctrl-C and SIGTERM reach all processes of a group; the first among them decides, and ends the others when they are done.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    tempfile.tempdir = scratch
    context = _Inside(connection, threads)
    while True:
        try:
            task, args, named = connection.recv()
        except EOFError:
            return
        try:
            answer = ("done", task(context, *args, **named))
        except (RedecodeError, OSError, MemoryError) as error:
            answer = ("failed", error)
        except Exception:  # Whatever nobody has thought of: the log is to have all of it.
            answer = ("failed", CrashError(traceback.format_exc()))
        connection.send(answer)
        del task, args, named, answer
        _give_back_memory()


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _give_back_memory() -> None:
    # The C library of most Linux systems keeps what was freed between what is in use, gigabytes after large pictures.
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
