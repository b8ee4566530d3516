"""What the routes share: the settings, the networks, the threads, the open pictures and the counters."""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from fastapi import FastAPI, Request
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from starlette.types import Scope

from .. import weights
from ..decoder import Decoder
from ..errors import DependencyError, RedecodeError, TooLargeError, UsageError
from ..options import CHOICES, Options
from ..weights import Preset
from . import pictures
from .http import ProblemError, unless_gone
from .jobs import BusyError, CancelledError, Job, Lane, OverdueError
from .pictures import Open, Pictures

Result = TypeVar("Result")

# How often pictures that nobody asked for any more are looked for, in seconds.
_SWEEP_SECONDS = 30
# Of the histograms, in seconds.
_BUCKETS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500)
_LOG = logging.getLogger(__name__)


# What a server refuses unless its operator says otherwise.
_ENGINE = Options(max_pixels=64)


@dataclass(frozen=True)
class Settings:
    """What the operator chose.

    Attributes:
        token: that clients must show; None where there is none.
        hosts: names under which the server may be called beside localhost and plain addresses.
        workers: pictures restored at a time.
        threads: that the networks share.
        queue: pictures that may wait.
        max_body: bytes of a file.
        engine: the options that are the operator's, not the client's: those of the scope "engine".
        job_seconds: that one picture may take.
        keep_seconds: that an open picture is kept after it was last asked for.
        storage: bytes that all open pictures may take on disk.
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
        """What a client has chosen, with what is the operator's.

        Raises:
            UsageError: a value that is not to be chosen.
        """
        engine = {name: getattr(self.engine, name) for name, choice in CHOICES.items() if choice.scope == "engine"}
        return Options(**engine, **chosen)


class Metrics:
    """What is counted and timed, in a registry of the application's own."""

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
        """Look at these whenever somebody asks."""
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
    """What the routes share."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        # Whoever wants to save a picture does not wait behind the pictures that are still to be restored.
        self.metrics = Metrics()
        self.restoring = Lane(settings.workers, settings.queue, settings.job_seconds, self.metrics.restoring_seconds.observe)
        self.saving = Lane(settings.workers, settings.queue, settings.job_seconds, self.metrics.saving_seconds.observe)
        self.pictures = Pictures(settings.storage, settings.keep_seconds)
        self.metrics.watch({"restoring": self.restoring, "saving": self.saving}, self.pictures)
        self.decoders: dict[Preset, Decoder] = {
            name: Decoder(name, settings.threads, settings.engine.device, settings.engine.precision) for name in weights.PRESETS
        }
        self._tasks: set[asyncio.Task[None]] = set()
        self._jobs: set[Job] = set()

    def decoder(self, preset: Preset) -> Decoder:
        """The decoder of a preset, which all threads share.

        Raises:
            ProblemError: there is none of that name.
        """
        if preset not in self.decoders:
            raise ProblemError(422, "invalid", f"preset must be one of {', '.join(self.decoders)}")
        return self.decoders[preset]

    def picture(self, name: str) -> Open:
        """An open picture.

        Raises:
            ProblemError: there is none of that id.
        """
        picture = self.pictures.get(name)
        if picture is None:
            raise ProblemError(404, "gone", "there is no such picture (any more); send the file again")
        return picture

    def finished(self, name: str) -> Open:
        """An open picture that is done.

        Raises:
            ProblemError: it is not, or there is none.
        """
        picture = self.picture(name)
        if picture.state != "done":
            raise ProblemError(409, "not-done", f"the picture is {picture.state}")
        return picture

    async def attend(self, lane: Lane, request: Request, work: Callable[[Job], Result]) -> Result:
        """Do work for a client, until it hangs up; a place is held by the caller."""
        job = Job()
        self._jobs.add(job)
        try:
            done: Result = await unless_gone(request, lane.run(job, work), job.cancel)
        finally:
            self._jobs.discard(job)
        return done

    def start(self, picture: Open, data: bytes, place: ExitStack) -> None:
        """Begin to restore a picture, and give its place back in the end."""
        decoder = self.decoder(picture.options.preset)

        async def work() -> None:
            with place:
                try:
                    await self.restoring.run(picture.job, lambda job: pictures.restore(picture, decoder, data, job))
                    picture.state = "done"
                    if not self.pictures.settle(picture):
                        raise NO_ROOM
                    self.metrics.outcomes.labels("restored").inc()
                except Exception as error:
                    self._fail(picture, error)

        # The event loop itself holds tasks weakly only.
        task = asyncio.get_running_loop().create_task(work())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _fail(self, picture: Open, error: Exception) -> None:
        problem = problem_of(error)
        if problem is None:
            _LOG.error("unexpected failure", exc_info=error)
            problem = ProblemError(500, "failure", "the server failed on this picture; its log says more")
        picture.problem, picture.state = problem.body(), "failed"
        self.pictures.settle(picture)
        self.metrics.outcomes.labels(problem.code).inc()

    @asynccontextmanager
    async def lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        """Look after the pictures while the server runs, and leave nothing behind."""
        sweeper = asyncio.create_task(self._sweep())
        try:
            yield
        finally:
            sweeper.cancel()
            for job in [*self._jobs, *(picture.job for picture in self.pictures)]:
                job.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            for lane in (self.restoring, self.saving):
                await asyncio.to_thread(lane.close)
            self.pictures.close()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            self.pictures.expire()


NO_ROOM = ProblemError(507, "storage", "the server has no room for this picture")


def problem_of(error: BaseException) -> ProblemError | None:
    """How what was raised is told to the client; None for what should not happen."""
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
            return None
        case UsageError():
            return ProblemError(422, "invalid", str(error))
        case RedecodeError():
            return ProblemError(422, type(error).__name__.removesuffix("Error").lower(), str(error))
        case FileNotFoundError():
            return ProblemError(404, "gone", "there is no such picture (any more); send the file again")
        case OSError() if error.errno == errno.ENOSPC:
            return NO_ROOM
        case MemoryError():
            return ProblemError(507, "memory", "the picture needs more memory than there is")
    return None
