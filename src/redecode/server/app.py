"""The page and the HTTP API, as an ASGI application.

`POST /v1/decode` takes a file and returns the restored picture, which is all that most programs need. The page instead keeps its
pictures open under `/v1/pictures`: they are restored once, and can then be viewed layer by layer and saved with any options.
"""

from __future__ import annotations

import asyncio
import itertools
import shutil
from contextlib import ExitStack
from dataclasses import replace
from functools import lru_cache
from importlib.resources import files
from pathlib import PurePosixPath, PureWindowsPath
from typing import Annotated, Any, Literal
from urllib.parse import quote

from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.security import HTTPBearer
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from .. import __version__, weights
from ..codec.formats import FORMATS, media_type, suffix_of
from ..errors import RedecodeError
from ..weights import Preset
from . import work
from .engine import DiedError, Engine
from .http import FileAnswer, Guard, ProblemError, json_body
from .jobs import BusyError, CancelledError, OverdueError
from .pictures import Open
from .schemas import (
    ARCHIVE_SCHEMA,
    MOST_AT_ONCE,
    ArchiveBody,
    DecodeChoices,
    FiguresBody,
    HealthBody,
    NetworkBody,
    PictureBody,
    PicturesBody,
    PresetBody,
    PresetsBody,
    ProblemBody,
    RestoreChoices,
    ResultChoices,
)
from .service import Service, Settings, problem_of

# Maximum length of a file name in bytes on most file systems.
_MAX_NAME = 255
# Maximum size of a request for an archive in bytes.
_MAX_JSON = 1 << 20


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


Serviced = Annotated[Service, Depends(_service)]


# Describes the token in the OpenAPI schema only: Guard checks it before the request is processed.
_DESCRIBES_TOKEN = Depends(HTTPBearer(auto_error=False))


def _may_answer(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: {"model": ProblemBody, "content": {"application/problem+json": {}}} for status in statuses}


_BINARY = {"schema": {"type": "string", "format": "binary"}}
_FORM = {"schema": {"type": "object", "required": ["file"], "properties": {"file": _BINARY["schema"]}}}
_TAKES_FILE = {"requestBody": {"required": True, "content": {"application/octet-stream": _BINARY, "multipart/form-data": _FORM}}}
_GIVES_PICTURE: dict[str, Any] = {"content": {media_type(name): _BINARY for name in FORMATS}, "description": "The picture."}
_ALWAYS = (400, 401, 403, 421, 422)
_WORKING = (*_ALWAYS, 408, 413, 429, 503, 507)

api = APIRouter(prefix="/v1", dependencies=[_DESCRIBES_TOKEN], responses=_may_answer(*_ALWAYS))
public = APIRouter()


@api.post("/decode", response_class=Response, openapi_extra=_TAKES_FILE, responses={200: _GIVES_PICTURE, **_may_answer(*_WORKING)})
async def decode(request: Request, service: Serviced, choices: Annotated[DecodeChoices, Query()]) -> Response:
    """Restore the file in the body. The headers `Redecode-…` of the response report on the restoration."""
    options = service.settings.options(**choices.model_dump())
    with service.restoring.place(), ExitStack() as cleaning:
        source = cleaning.enter_context(service.pictures.hold())
        await service.receive(request, source)
        target = cleaning.enter_context(service.pictures.hold())
        try:
            report, written = await service.attend(service.restoring, request, work.decode, source.path, target.path, options)
            service.keep(target)
        except Exception as error:
            problem = problem_of(error)
            service.metrics.outcomes.labels(problem.code if problem else "failure").inc()
            raise
        service.metrics.outcomes.labels("restored").inc()
        answer = FileAnswer(target.path, media_type(written), _report_headers(report), target)
        # The response deletes its file itself when it is sent.
        cleaning.pop_all()
        source.close()
    return answer


def _report_headers(report: dict[str, Any]) -> dict[str, str]:
    facts = {name: value for name, value in report.items() if value is not None}
    facts["notes"] = "; ".join(facts["notes"])
    return {f"Redecode-{name.replace('_', '-').title()}": quote(str(value), safe=" ;:,()'") for name, value in facts.items()}


@api.post("/info", openapi_extra=_TAKES_FILE, responses=_may_answer(*_WORKING))
async def info(request: Request, service: Serviced) -> dict[str, Any]:
    """Return facts about the file in the body: size, quality, quantization tables, chroma subsampling, metadata."""
    with service.saving.place(), service.pictures.hold() as source:
        await service.receive(request, source)
        return await service.attend(service.saving, request, work.info, source.path, service.settings.engine.pixel_limit)


@api.get("/presets")
async def presets() -> PresetsBody:
    """List the presets with their networks."""
    return PresetsBody(presets=[_preset(name) for name in weights.PRESETS])


@lru_cache
def _preset(name: Preset) -> PresetBody:
    records = {layer: weights.record(network) for layer, network in weights.PRESETS[name].items()}
    networks = {layer: NetworkBody(sha256=r["sha256"]["int8"], parameters=r["parameters"]) for layer, r in records.items()}
    return PresetBody(name=name, default=name == weights.DEFAULT_PRESET, networks=networks)


@api.post("/pictures", status_code=202, openapi_extra=_TAKES_FILE, responses=_may_answer(*_WORKING))
async def open_picture(request: Request, service: Serviced, choices: Annotated[RestoreChoices, Query()]) -> PictureBody:
    """Open the file in the body: restore it in the background, so that the amount of texture can be chosen later."""
    options = service.settings.options(**choices.model_dump())
    with ExitStack() as held:
        held.enter_context(service.restoring.place())
        with service.pictures.hold() as source:
            await service.receive(request, source)
            picture = service.pictures.add(options, source)
        service.start(picture, held.pop_all())
    return _described(picture)


@api.post("/pictures/{id}/again", status_code=202, responses=_may_answer(*_WORKING, 404, 409))
async def open_again(id: str, service: Serviced, choices: Annotated[RestoreChoices, Query()]) -> PictureBody:  # noqa: A002
    """Open the file of an open picture again, to restore it with other options."""
    options = service.settings.options(**choices.model_dump())
    old = service.finished(id)
    with ExitStack() as held:
        held.enter_context(service.restoring.place())
        with service.pictures.hold() as source, service.gone_unless_open(old):
            await asyncio.to_thread(shutil.copyfile, old.folder / "source", source.path)
            picture = service.pictures.add(options, source)
        service.start(picture, held.pop_all())
    return _described(picture)


@api.get("/pictures")
async def states(service: Serviced, id: Annotated[list[str], Query(max_length=MOST_AT_ONCE)]) -> PicturesBody:  # noqa: A002
    """Return the states of several pictures; pictures that no longer exist are left out."""
    found = [service.pictures.get(name) for name in id]
    return PicturesBody(pictures=[_described(picture) for picture in found if picture is not None])


@api.get("/pictures/{id}", responses=_may_answer(404))
async def picture(id: str, service: Serviced) -> PictureBody:  # noqa: A002
    """Return the state of a picture."""
    return _described(service.picture(id))


@api.delete("/pictures/{id}", status_code=204, responses=_may_answer(404))
async def forget(id: str, service: Serviced) -> None:  # noqa: A002
    """Cancel the restoration of a picture and delete it."""
    service.pictures.forget(service.picture(id))


@api.get(
    "/pictures/{id}/layers/{layer}",
    response_class=Response,
    responses={200: {"content": {"image/png": _BINARY}, "description": "The layer."}, **_may_answer(404, 409)},
)
async def layer(id: str, layer: Literal["original", "base", "texture", "mask", "thumbnail"], service: Serviced) -> Response:  # noqa: A002
    """Return a layer as an upright PNG for display; the mask is white where texture is used and transparent elsewhere."""
    picture = service.picture(id)
    if picture.size is None or (picture.state != "done" and layer not in ("original", "thumbnail")):
        raise ProblemError(409, "not-done", f"the picture is {picture.state}")
    with service.gone_unless_open(picture):
        return FileAnswer(picture.layer(layer), "image/png", {"Cache-Control": "private, max-age=3600, immutable"})


@api.get("/pictures/{id}/figures", responses=_may_answer(404, 409, 429, 503))
async def figures(
    request: Request,
    id: str,  # noqa: A002
    service: Serviced,
    texture: Annotated[float, Query(ge=0, le=1)] = 1.0,
) -> FiguresBody:
    """Return figures of the result with an amount of texture."""
    picture = service.finished(id)
    with service.saving.place(), service.gone_unless_open(picture):
        found = await service.attend(service.saving, request, work.figures, picture.folder, picture.options, texture)
    return FiguresBody(**vars(found))


@api.get("/pictures/{id}/result", response_class=Response, responses={200: _GIVES_PICTURE, **_may_answer(404, 409, 429, 503)})
async def result(request: Request, id: str, service: Serviced, choices: Annotated[ResultChoices, Query()]) -> Response:  # noqa: A002
    """Return the restored picture as a file, identical to the file that `redecode` writes."""
    picture = service.finished(id)
    options = service.settings.options(**choices.model_dump())
    with service.gone_unless_open(picture):
        return FileAnswer(await service.result(request, picture, options), media_type(picture.written_format(options)))


@api.post(
    "/archives",
    response_class=Response,
    openapi_extra={"requestBody": {"required": True, "content": {"application/json": {"schema": ARCHIVE_SCHEMA}}}},
    responses={200: {"content": {"application/zip": _BINARY}, "description": "The archive."}, **_may_answer(*_WORKING, 404, 409, 415)},
)
async def archive(request: Request, service: Serviced) -> Response:
    """Return several results in a ZIP file."""
    try:
        wanted = ArchiveBody.model_validate_json(await json_body(request, _MAX_JSON))
    except ValidationError as error:
        raise RequestValidationError([{**fault, "loc": ("body", *fault["loc"])} for fault in error.errors()]) from None
    chosen = [(service.finished(one.id), one) for one in wanted.pictures]
    options = service.settings.options(format=wanted.format, quality=wanted.quality)
    taken: set[str] = set()
    entries = []
    for picture, one in chosen:
        own = replace(options, texture=one.texture)
        name = _entry_name(one.name, suffix_of(picture.written_format(own)), taken)
        entries.append(work.Entry(name, picture.folder, picture.options, own, picture.result(own)))
    with service.saving.place(), service.gone_unless_open(*(picture for picture, _ in chosen)), ExitStack() as cleaning:
        target = cleaning.enter_context(service.pictures.hold())
        await service.attend(service.saving, request, work.archive, entries, target.path, service.pictures.room)
        for picture, _ in chosen:
            picture.measure()
        service.keep(target)
        answer = FileAnswer(target.path, "application/zip", held=target)
        cleaning.pop_all()
    return answer


def _entry_name(original: str, suffix: str, taken: set[str]) -> str:
    """A unique name for an entry of an archive, which no system takes for a path or finds too long."""
    plain = PurePosixPath(PureWindowsPath(original).name).stem
    stem = "".join(c for c in plain if c.isprintable() and c not in '<>:"|?*').strip(" .") or "picture"
    for count in itertools.count(1):
        ending = f"{'' if count == 1 else f' ({count})'}.redecoded{suffix}"
        # errors="ignore" drops the rest of a character that is cut in two.
        name = stem.encode()[: _MAX_NAME - len(ending)].decode(errors="ignore").rstrip(" .") + ending
        if name.casefold() not in taken:
            break
    taken.add(name.casefold())
    return name


def _described(picture: Open) -> PictureBody:
    width, height = picture.size or (None, None)
    return PictureBody(
        id=picture.id,
        preset=picture.options.preset,
        threshold=picture.options.threshold,
        force_quality=picture.options.force_quality,
        as_is=picture.options.as_is,
        state=picture.state,  # type: ignore[arg-type]
        stage=picture.stage,  # type: ignore[arg-type]
        tiles_done=picture.job.done,
        tiles_total=picture.job.total,
        facts=picture.facts,
        width=width,
        height=height,
        grid=picture.grid,
        changed=picture.changed,
        figures=FiguresBody(**vars(picture.figures)) if picture.figures else None,
        problem=ProblemBody(**picture.problem) if picture.problem else None,
    )


@public.get("/healthz", responses=_may_answer(503))
async def healthz(service: Serviced) -> HealthBody:
    """Check whether the server works."""
    await asyncio.to_thread(service.check)
    return HealthBody(status="ok", version=__version__)


@public.get(
    "/metrics",
    dependencies=[_DESCRIBES_TOKEN],
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "Metrics."}, **_may_answer(401, 403, 421)},
)
async def metrics(service: Serviced) -> Response:
    """Return counters and timings for Prometheus."""
    return Response(generate_latest(service.metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})


_PAGE_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml", ".jpg": "image/jpeg"}


@lru_cache
def _page() -> dict[str, tuple[bytes, str]]:
    """Content and media type of the page's files by name."""
    folder = files(__package__) / "page"
    kinds = {path.name: _PAGE_TYPES.get(PurePosixPath(path.name).suffix) for path in folder.iterdir()}
    return {name: ((folder / name).read_bytes(), kind) for name, kind in kinds.items() if kind}


@public.get("/", include_in_schema=False)
async def index() -> Response:
    """The page."""
    return _static("index.html")


@public.get("/page/{name}", include_in_schema=False)
async def static(name: str) -> Response:
    """A file of the page."""
    return _static(name)


def _static(name: str) -> Response:
    if name not in _page():
        raise ProblemError(404, "not-found", "there is nothing here")
    content, kind = _page()[name]
    text = "" if kind.startswith("image/jpeg") else "; charset=utf-8"
    return Response(content, headers={"Content-Type": kind + text, "Cache-Control": "no-cache"})


_HANDLED_ERRORS = (ProblemError, BusyError, CancelledError, DiedError, OverdueError, RedecodeError, OSError, MemoryError)


async def _answer_problem(_: Request, error: Exception) -> Response:
    problem = problem_of(error)
    if problem is None:
        raise error
    return problem.response()


async def _answer_invalid(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    faults = "; ".join(f"{'.'.join(str(part) for part in e['loc'][1:]) or 'body'}: {e['msg']}" for e in error.errors())
    return ProblemError(422, "invalid", faults).response()


async def _answer_http_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    code = {404: "not-found", 405: "method"}.get(error.status_code, "invalid")
    details = {404: "there is nothing here", 405: "this address does not support that method"}
    detail = details.get(error.status_code, "the request is invalid")
    return ProblemError(error.status_code, code, detail, dict(error.headers or {})).response()


async def _answer_disconnected(_: Request, error: Exception) -> Response:
    return Response(status_code=400)


def create_app(settings: Settings, engine: Engine | None = None) -> FastAPI:
    """Create the application.

    Args:
        settings: settings of the operator.
        engine: engine that runs tasks; None for worker processes.
    """
    service = Service(settings, engine)
    app = FastAPI(
        title="redecode",
        version=__version__,
        description="Decode a JPEG again, better.",
        license_info={"name": "Apache-2.0"},
        lifespan=service.lifespan,
        openapi_url="/v1/openapi.json",
        # FastAPI's documentation pages would load scripts from other servers.
        docs_url=None,
        redoc_url=None,
        exception_handlers={
            RequestValidationError: _answer_invalid,
            HTTPException: _answer_http_error,
            ClientDisconnect: _answer_disconnected,
            **dict.fromkeys(_HANDLED_ERRORS, _answer_problem),
        },
    )
    app.state.service = service
    app.add_middleware(Guard, hosts=settings.hosts, token=settings.token, answered=service.metrics.answered)
    app.include_router(api)
    app.include_router(public)
    return app
