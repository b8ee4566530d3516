"""The service behind the routes: settings, engine, queues, open pictures and metrics."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ParamSpec, TypeVar
from weakref import WeakValueDictionary

from fastapi import FastAPI, Request
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from starlette.types import Scope

from .. import weights
from ..errors import DependencyError, RedecodeError, TooLargeError, UsageError
from ..options import CHOICES, Options
from . import work
from .engine import DiedError, Engine, Processes, Task
from .http import ProblemError, unless_gone, upload
from .jobs import BusyError, CancelledError, Job, Lane, OverdueError
from .pictures import Held, Open, Pictures
from .work import Figures

Given = ParamSpec("Given")
Result = TypeVar("Result")

# Seconds between two searches for expired pictures.
_SWEEP_SECONDS = 30
# Buckets of the histograms in seconds.
_BUCKETS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500)
_LOG = logging.getLogger(__name__)


# Default limits of a server.
_ENGINE = Options(max_pixels=64)


@dataclass(frozen=True)
class Settings:
    """Settings of the server's operator.

    Attributes:
        token: bearer token that clients must send; None if none is required.
        hosts: host names of the server, in addition to localhost and IP addresses.
        workers: number of pictures restored at the same time.
        threads: number of threads of the networks for each picture.
        queue: maximum number of waiting pictures.
        max_body: maximum size of a file in bytes.
        engine: options with scope "engine", which the operator sets, not the client.
        job_seconds: maximum time for a picture in seconds.
        keep_seconds: seconds after its last use when an open picture is deleted.
        storage: maximum size of all open pictures on disk in bytes.
    """

    token: str | None = None
    hosts: frozenset[str] = frozenset()
    workers: int = 1
    threads: int = 1
    queue: int = 32
    max_body: int = 64 << 20
    engine: Options = _ENGINE
    job_seconds: float = 600
    keep_seconds: float = 3600
    storage: int = 4 << 30

    def options(self, **chosen: Any) -> Options:
        """Combine a client's options with the operator's.

        Raises:
            UsageError: a value is out of range.
        """
        engine = {name: getattr(self.engine, name) for name, choice in CHOICES.items() if choice.scope == "engine"}
        return Options(**engine, **chosen)


class Metrics:
    """Prometheus metrics, in a registry of the application's own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.answers = Counter("redecode_answers", "Answers, by route and status.", ["route", "status"], registry=self.registry)
        self.outcomes = Counter("redecode_jobs", "Pictures restored, by outcome.", ["outcome"], registry=self.registry)
        self.restoring_seconds = Histogram(
            "redecode_restoring_seconds", "Time to restore a picture, waiting not counted.", buckets=_BUCKETS, registry=self.registry
        )
        self.saving_seconds = Histogram(
            "redecode_saving_seconds", "Time to write a result of an open picture.", buckets=_BUCKETS, registry=self.registry
        )

    def watch(self, lanes: dict[str, Lane], pictures: Pictures) -> None:
        """Add gauges that read the state of these lanes and pictures."""
        taken = Gauge("redecode_places_taken", "Places taken, waiting ones included.", ["lane"], registry=self.registry)
        for name, lane in lanes.items():
            taken.labels(name).set_function(lambda lane=lane: lane.taken)  # type: ignore[misc]
        Gauge("redecode_pictures_open", "Pictures kept for the page.", registry=self.registry).set_function(lambda: len(pictures))
        Gauge("redecode_pictures_bytes", "Their size on disk.", registry=self.registry).set_function(lambda: pictures.stored)

    def answered(self, scope: Scope, status: int) -> None:
        """Count an answer."""
        route = getattr(scope.get("route"), "path", "none")
        self.answers.labels(route, str(status or "hung up")).inc()


class Service:
    """The state that all routes share."""

    def __init__(self, settings: Settings, engine: Engine | None = None) -> None:
        """
        Args:
            settings: settings of the operator.
            engine: engine that runs tasks; None for worker processes.
        """
        self.settings = settings
        self.metrics = Metrics()
        # Two lanes, so that saving a picture does not wait for pictures that are still to be restored.
        self.restoring = Lane(settings.workers, settings.queue, settings.job_seconds, self.metrics.restoring_seconds.observe)
        self.saving = Lane(settings.workers, settings.queue, settings.job_seconds, self.metrics.saving_seconds.observe)
        self.pictures = Pictures(settings.storage, settings.keep_seconds)
        self.metrics.watch({"restoring": self.restoring, "saving": self.saving}, self.pictures)
        self.engine = engine or Processes(settings.threads, self.pictures.folder)
        self._tasks: set[asyncio.Task[None]] = set()
        self._jobs: set[Job] = set()
        # Locks of results that are being written: further requests for the same result wait.
        self._making: WeakValueDictionary[Path, asyncio.Lock] = WeakValueDictionary()

    def picture(self, name: str) -> Open:
        """The open picture with this id.

        Raises:
            ProblemError: the picture does not exist.
        """
        picture = self.pictures.get(name)
        if picture is None:
            raise GONE
        return picture

    def finished(self, name: str) -> Open:
        """The open picture with this id, if its restoration is done.

        Raises:
            ProblemError: the picture is not done, or does not exist.
        """
        picture = self.picture(name)
        if picture.state != "done":
            raise ProblemError(409, "not-done", f"the picture is {picture.state}")
        return picture

    async def receive(self, request: Request, target: Held) -> None:
        """Write the file in a request to disk.

        Raises:
            ProblemError: the file is too large, takes too long, or there is no space for it.
        """
        await upload(request, target.path, self.settings.max_body)
        self.keep(target)

    def keep(self, held: Held) -> None:
        """Count the size of a complete file, and make room for it.

        Raises:
            ProblemError: there is no space for it.
        """
        held.measure()
        if not self.pictures.make_room():
            raise NO_ROOM

    async def attend(self, lane: Lane, request: Request, task: Task[Given, Result], *args: Given.args, **named: Given.kwargs) -> Result:
        """Run a task for a client, and cancel it if the client disconnects. The caller holds a place in the lane."""
        job = Job()
        self._jobs.add(job)
        try:
            at_work = lane.run(job, lambda job: self.engine.run(job, _progress(job), task, *args, **named))
            done: Result = await unless_gone(request, at_work, job.cancel)
        finally:
            self._jobs.discard(job)
        return done

    async def result(self, request: Request, picture: Open, options: Options) -> Path:
        """The file of a result; it is written if it does not exist."""
        target = picture.result(options)
        lock = self._making.setdefault(target, asyncio.Lock())
        async with lock:
            if not target.exists():
                with self.saving.place(), self.gone_unless_open(picture):
                    await self.attend(self.saving, request, work.result, picture.folder, picture.options, options, target)
                picture.measure()
                if not self.pictures.make_room(picture):
                    target.unlink(missing_ok=True)
                    picture.measure()
                    raise NO_ROOM
        return target

    @contextmanager
    def gone_unless_open(self, *opened: Open) -> Iterator[None]:
        """Convert the error of a missing file if its picture was deleted meanwhile.

        Raises:
            ProblemError: one of the pictures was deleted.
        """
        try:
            yield
        except FileNotFoundError:
            if any(self.pictures.get(picture.id) is None for picture in opened):
                raise GONE from None
            raise

    def start(self, picture: Open, place: ExitStack) -> None:
        """Start the restoration of a picture; its place is released at the end."""

        def restore(job: Job) -> Figures | None:
            picture.state = "working"
            return self.engine.run(job, picture.update, work.open_picture, picture.folder, picture.options)

        async def attend() -> None:
            with place:
                try:
                    picture.figures = await self.restoring.run(picture.job, restore)
                    picture.state = "done"
                    if not self.pictures.settle(picture):
                        raise NO_ROOM
                    self.metrics.outcomes.labels("restored").inc()
                except Exception as error:
                    self._fail(picture, error)

        # The event loop keeps only weak references to tasks.
        task = asyncio.get_running_loop().create_task(attend())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _fail(self, picture: Open, error: Exception) -> None:
        problem = problem_of(error)
        if problem is None:
            _LOG.error("unexpected failure", exc_info=error)
            problem = ProblemError(500, "failure", "the server failed on this picture; see its log")
        picture.problem, picture.state = problem.body(), "failed"
        self.pictures.settle(picture)
        self.metrics.outcomes.labels(problem.code).inc()

    def check(self) -> None:
        """Check that the server works.

        Raises:
            ProblemError: the temporary folder or a network is missing.
        """
        if not os.access(self.pictures.folder, os.W_OK):
            raise ProblemError(503, "broken", "the server's temporary folder is gone; restart the server")
        chosen = self.settings.engine
        for networks in weights.PRESETS.values():
            for name in networks.values():
                try:
                    weights.load(name, chosen.precision or ("int8" if chosen.device == "cpu" else "float32"))
                except DependencyError as error:
                    raise ProblemError(503, "broken", str(error)) from None

    @asynccontextmanager
    async def lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        """Delete expired pictures while the server runs, and everything when it ends."""
        sweeper = asyncio.create_task(self._sweep())
        warming = asyncio.create_task(asyncio.to_thread(self.engine.warm))
        try:
            yield
        finally:
            sweeper.cancel()
            for job in [*self._jobs, *(picture.job for picture in self.pictures)]:
                job.cancel()
            await asyncio.gather(*self._tasks, warming, return_exceptions=True)
            for lane in (self.restoring, self.saving):
                await asyncio.to_thread(lane.close)
            await asyncio.to_thread(self.engine.close)
            await asyncio.to_thread(self.pictures.close)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            self.pictures.expire()
            await asyncio.to_thread(self.engine.rest)


def _progress(job: Job) -> Callable[[str, Any], None]:
    def receive(name: str, value: Any) -> None:
        if name == "tiles":
            job.step(*value)

    return receive


GONE = ProblemError(404, "gone", "the picture does not exist, or no longer; send the file again")
NO_ROOM = ProblemError(507, "storage", "the server has no space for this picture")


def problem_of(error: BaseException) -> ProblemError | None:
    """The response for an error; None for an unexpected error."""
    match error:
        case ProblemError():
            return error
        case BusyError():
            return ProblemError(429, "busy", "the server is busy; try again later", {"Retry-After": str(error.retry_after)})
        case CancelledError():
            return ProblemError(409, "cancelled", "the work was cancelled")
        case OverdueError():
            return ProblemError(503, "overdue", "the picture took longer than this server allows")
        case TooLargeError():
            return ProblemError(413, "too-many-pixels", str(error))
        case DependencyError():
            _LOG.error("%s", error)
            return ProblemError(503, "broken", "the server's installation is incomplete; see its log")
        case UsageError():
            return ProblemError(422, "invalid", str(error))
        case RedecodeError():
            return ProblemError(422, type(error).__name__.removesuffix("Error").lower(), str(error))
        case DiedError():
            _LOG.error("%s", error)
            return ProblemError(503, "died", "the process that restored the picture died, perhaps for lack of memory")
        case OSError() if error.errno == errno.ENOSPC:
            return NO_ROOM
        case OSError():
            _LOG.error("%s", error)
            return ProblemError(503, "broken", "the server cannot use its temporary folder; see its log")
        case MemoryError():
            return ProblemError(507, "memory", "the picture needs more memory than the server has")
    return None
