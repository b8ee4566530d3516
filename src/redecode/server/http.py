"""What stands between the network and the API: who may ask, how much, and how refusals read."""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import logging
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

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
# A body that trickles in holds a place: from its first byte to its last it may take this long.
_UPLOAD_SECONDS = 120


class ProblemError(Exception):
    """A refusal, told as application/problem+json (RFC 9457).

    Attributes:
        status: of HTTP.
        code: a short name that programs may rely on.
        detail: a sentence for people.
        headers: to send along.
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
        """The whole answer."""
        return JSONResponse(self.body(), self.status, self.headers, media_type="application/problem+json")


class Guard:
    """ASGI middleware: refuses foreign hosts and pages, puts the security headers on every answer, and hides what is unexpected."""

    def __init__(self, app: ASGIApp, hosts: frozenset[str], answered: Callable[[Scope, int], None]) -> None:
        """
        Args:
            app: what to guard.
            hosts: names, in small letters, under which the server may be called beside localhost and plain addresses.
            answered: told of every answer and its status.
        """
        self._app = app
        self._hosts = hosts
        self._answered = answered

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 0

        async def guarded(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in _SECURITY_HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        try:
            refusal = self._refusal(scope)
            await (refusal.response() if refusal else self._app)(scope, receive, guarded)
        except Exception:
            _LOG.exception("unexpected failure")
            if not status:
                await ProblemError(500, "failure", "the server failed; its log says more").response()(scope, receive, guarded)
        finally:
            self._answered(scope, status)

    def _refusal(self, scope: Scope) -> ProblemError | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not self._is_ours(host):
            # A foreign name that leads here is how a web page would get past the browser's same-origin rule (DNS rebinding).
            return ProblemError(421, "host", "this server does not answer to that host name; see --allow-host")
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            return ProblemError(403, "origin", "requests from pages of other sites are not answered")
        return None

    def _is_ours(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
            if name in self._hosts or name == "localhost":
                return True
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


def authorise(request: Request, token: str | None) -> None:
    """Check the bearer token, if there is one to check.

    Raises:
        ProblemError: it is missing or wrong.
    """
    if token is None:
        return
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), token.encode()):
        raise ProblemError(401, "token", "this server asks for a token: Authorization: Bearer …", {"WWW-Authenticate": "Bearer"})


async def body(request: Request, limit: int) -> bytes:
    """The request's body, read no further than the limit.

    Raises:
        ProblemError: it is larger, or takes too long.
    """
    too_large = ProblemError(413, "body-too-large", f"the file is larger than the {limit / 2**20:g} MiB that this server takes")
    announced = request.headers.get("content-length", "")
    if announced.isascii() and announced.isdigit() and int(announced) > limit:
        raise too_large

    async def read() -> bytes:
        received = bytearray()
        async for chunk in request.stream():
            received += chunk
            if len(received) > limit:
                raise too_large
        return bytes(received)

    try:
        return await asyncio.wait_for(read(), _UPLOAD_SECONDS)
    except asyncio.TimeoutError:
        raise ProblemError(408, "slow", "the file took too long to arrive") from None


async def until_gone(request: Request) -> None:
    """Wait until the client has hung up; its request must have been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def unless_gone(request: Request, work: Awaitable[Any], give_up: Callable[[], None]) -> Any:
    """Await work, and call `give_up` as soon as the client hangs up (the work is awaited all the same)."""
    working, gone = asyncio.ensure_future(work), asyncio.ensure_future(until_gone(request))
    try:
        await asyncio.wait({working, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            give_up()
        return await working
    finally:
        give_up()
        gone.cancel()
