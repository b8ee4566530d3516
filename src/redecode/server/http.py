"""The HTTP layer of the API: access control, limits of uploads, problem responses, and files as responses."""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import logging
import os
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .pictures import Held

_LOG = logging.getLogger(__name__)

_SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
# Maximum seconds to receive a body, which holds a place in the queue meanwhile.
_UPLOAD_SECONDS = 120
# Maximum bytes of a form in addition to its file, and bytes of a chunk of a response.
_MAX_FORM = 64 << 10
_CHUNK = 64 << 10
# Paths that need no token: the page, which asks the user for it, and the health check.
_OPEN_PATHS = ("/", "/healthz")
_OPEN_FOLDER = "/page/"
# Seconds of delay before a wrong token is refused, and maximum number of such delayed responses; beyond it, requests are refused at once.
_PENALTY_SECONDS = 1.0
_MOST_PENALTIES = 64


class ProblemError(Exception):
    """A refusal, sent as application/problem+json (RFC 9457).

    Attributes:
        status: HTTP status code.
        code: short name for programs, which does not change.
        detail: explanation for people, one sentence.
        headers: additional HTTP headers.
    """

    def __init__(self, status: int, code: str, detail: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.headers = headers

    def body(self) -> dict[str, Any]:
        """The members of the JSON object."""
        title = HTTPStatus(self.status).phrase
        return {"type": "about:blank", "title": title, "status": self.status, "code": self.code, "detail": self.detail}

    def response(self) -> JSONResponse:
        """The HTTP response."""
        return JSONResponse(self.body(), self.status, self.headers, media_type="application/problem+json")


class Guard:
    """ASGI middleware for access control, which runs before anything else.

    It refuses unknown host names, requests from pages of other sites, and wrong tokens; it adds security headers to each response, answers
    HEAD like GET without the body, and hides details of unexpected errors.
    """

    def __init__(self, app: ASGIApp, hosts: frozenset[str], token: str | None, answered: Callable[[Scope, int], None]) -> None:
        """
        Args:
            app: the application to protect.
            hosts: host names of the server in lower case, in addition to localhost and IP addresses.
            token: bearer token that clients must send; None if none is required.
            answered: function called with each request and the status of its response.
        """
        self._app = app
        self._hosts = hosts
        self._token = token
        self._answered = answered
        self._penalties = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 0
        head = scope["method"] == "HEAD"
        if head:
            scope = {**scope, "method": "GET"}

        async def guarded(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in _SECURITY_HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            elif head:
                message["body"] = b""
            await send(message)

        try:
            refusal = self._refusal(scope) or await self._unauthorised(scope)
            await (refusal.response() if refusal else self._app)(scope, receive, guarded)
        except Exception:
            _LOG.exception("unexpected failure")
            if not status:
                await ProblemError(500, "failure", "the server failed; see its log").response()(scope, receive, guarded)
        finally:
            self._answered(scope, status)

    def _refusal(self, scope: Scope) -> ProblemError | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not self._is_ours(host):
            # With a foreign name that resolves to this server, a web page could bypass the browser's same-origin policy (DNS rebinding).
            return ProblemError(421, "host", "this server does not answer to that host name; see --allow-host")
        origin = headers.get("origin")
        if origin is not None and _site(origin) != host.lower():
            return ProblemError(403, "origin", "requests from pages of other sites are not answered")
        return None

    async def _unauthorised(self, scope: Scope) -> ProblemError | None:
        """The refusal if the token is missing or wrong, else None."""
        path = scope["path"]
        if self._token is None or path in _OPEN_PATHS or path.startswith(_OPEN_FOLDER):
            return None
        scheme, _, given = Headers(scope=scope).get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), self._token.encode()):
            return None
        if given:
            client = (scope.get("client") or ("unknown", 0))[0]
            if self._penalties >= _MOST_PENALTIES:
                return ProblemError(429, "busy", "too many wrong tokens; try again later", {"Retry-After": "1"})
            _LOG.warning("wrong token from %s", client)
            self._penalties += 1
            try:
                await asyncio.sleep(_PENALTY_SECONDS)
            finally:
                self._penalties -= 1
        return ProblemError(401, "token", "this server requires a token: Authorization: Bearer …", {"WWW-Authenticate": "Bearer"})

    def _is_ours(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
            if name in self._hosts or name == "localhost":
                return True
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


def _site(origin: str) -> str | None:
    """Host and port of a web page's origin; None if it is invalid."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return None


def _too_large(limit: int) -> ProblemError:
    return ProblemError(413, "body-too-large", f"the request is larger than this server's limit of {limit / 2**20:g} MiB")


async def _receive(request: Request, limit: int, take: Callable[[bytes], object]) -> None:
    """Receive the request's body in chunks, up to a limit in bytes.

    Raises:
        ProblemError: the body is larger, or takes too long.
    """
    announced = request.headers.get("content-length", "")
    if announced.isascii() and announced.isdigit() and int(announced) > limit:
        raise _too_large(limit)

    async def read() -> None:
        received = 0
        async for chunk in request.stream():
            received += len(chunk)
            if received > limit:
                raise _too_large(limit)
            take(chunk)

    try:
        await asyncio.wait_for(read(), _UPLOAD_SECONDS)
    except asyncio.TimeoutError:
        raise ProblemError(408, "slow", "the request took too long to arrive") from None


async def upload(request: Request, target: Path, limit: int) -> None:
    """Write the file in the request's body to disk: the body itself, or the first file of a form.

    Raises:
        ProblemError: the file is larger than the limit in bytes, takes too long, or the form has no file.
    """
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    with target.open("xb") as file:
        if kind != b"multipart/form-data":
            await _receive(request, limit, file.write)
            return
        form = _Form(file)
        try:
            parser = MultipartParser(options.get(b"boundary", b""), form.callbacks)
            await _receive(request, limit + _MAX_FORM, parser.write)
            parser.finalize()
        except FormParserError as error:
            raise ProblemError(400, "form", f"the form is invalid: {error}") from None
        if not form.found:
            raise ProblemError(422, "invalid", "the form has no file")
        if file.tell() > limit:
            raise _too_large(limit)


class _Form:
    """Extracts the first file of a form."""

    def __init__(self, file: IO[bytes]) -> None:
        self.found = self._inside = False
        self._file = file
        self._name, self._value = b"", b""
        self.callbacks: Any = {
            "on_part_begin": self._end_part,
            "on_header_field": self._field,
            "on_header_value": self._content,
            "on_header_end": self._header,
            "on_part_data": self._data,
            "on_part_end": self._end_part,
        }

    def _end_part(self) -> None:
        self._inside = False

    def _field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _content(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header(self) -> None:
        if self._name.lower() == b"content-disposition" and not self.found:
            self.found = self._inside = b"filename" in parse_options_header(self._value)[1]
        self._name, self._value = b"", b""

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._inside:
            self._file.write(data[start:end])


class FileAnswer(Response):
    """A response with the content of a file, read as fast as the client accepts it."""

    def __init__(self, path: Path, media_type: str, headers: dict[str, str] | None = None, held: Held | None = None) -> None:
        """
        Args:
            path: path of the file, which is opened here.
            media_type: media type for Content-Type.
            headers: additional HTTP headers.
            held: file that is closed after the response in any case.

        Raises:
            FileNotFoundError: the file does not exist.
        """
        self._file = path.open("rb")
        self._held = held
        length = {"Content-Length": str(os.fstat(self._file.fileno()).st_size)}
        super().__init__(None, 200, {**length, **(headers or {})}, media_type)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        try:
            with self._file:
                await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
                while chunk := self._file.read(_CHUNK):
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
                await send({"type": "http.response.body", "body": b""})
        finally:
            if self._held is not None:
                self._held.close()


async def json_body(request: Request, limit: int) -> bytes:
    """Receive the JSON body of a request, at most `limit` bytes.

    Raises:
        ProblemError: the content type is not JSON, or the body is larger or takes too long.
    """
    kind, _ = parse_options_header(request.headers.get("content-type", ""))
    if kind != b"application/json":
        raise ProblemError(415, "media-type", "this address requires JSON: Content-Type: application/json")
    received = bytearray()
    await _receive(request, limit, received.extend)
    return bytes(received)


async def until_gone(request: Request) -> None:
    """Wait until the client disconnects; its request must have been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def unless_gone(request: Request, work: Awaitable[Any], give_up: Callable[[], None]) -> Any:
    """Await work, and call `give_up` when the client disconnects; the work is still awaited."""
    working, gone = asyncio.ensure_future(work), asyncio.ensure_future(until_gone(request))
    try:
        await asyncio.wait({working, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            give_up()
        return await working
    finally:
        give_up()
        gone.cancel()
