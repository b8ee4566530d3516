"""`redecode serve`: serve the web page and the HTTP API."""

from __future__ import annotations

import errno
import ipaddress
import os
import signal
import socket
import threading
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import UsageError
from ..options import Options
from .console import extra, reported, say

if TYPE_CHECKING:
    from fastapi import FastAPI

# Maximum number of connections that wait to be accepted.
_BACKLOG = 1024
# Seconds that running requests have to finish after SIGTERM.
_GRACE_SECONDS = 30


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 8000,
    workers: Annotated[
        int | None, typer.Option(min=1, show_default="2, or 1 on one core", help="Number of pictures restored at the same time.")
    ] = None,
    token: Annotated[str | None, typer.Option(envvar="REDECODE_TOKEN", help="Require this bearer token in every request.")] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(envvar="REDECODE_TOKEN_FILE", help="Read the token from a file, so that it does not appear in the process list."),
    ] = None,
    insecure: Annotated[bool, typer.Option("--insecure", help="Allow a public address without a token.")] = False,
    allow_host: Annotated[list[str] | None, typer.Option(help="Additional host name of this server; may be repeated.")] = None,
    queue: Annotated[int, typer.Option(min=0, help="Maximum number of pictures that wait; further requests are refused.")] = 32,
    max_body: Annotated[float, typer.Option(min=0.001, metavar="MIB", help="Maximum size of a file.")] = 64,
    *,
    options: Options,
    max_time: Annotated[float, typer.Option(min=0.01, metavar="SECONDS", help="Maximum time for a picture.")] = 600,
    keep: Annotated[float, typer.Option(min=0.01, metavar="MINUTES", help="Delete an open picture after this time without use.")] = 60,
    storage: Annotated[float, typer.Option(min=1, metavar="MIB", help="Maximum disk space for open pictures.")] = 4096,
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
) -> None:
    """Serve the web page and the HTTP API from this machine (needs the extra `web`)."""
    with reported(), extra("web"):
        token = _checked_token(token, token_file)
        if not (token or insecure or _is_loopback(host)):
            raise UsageError(f"{host} can be reached from other machines: give --token-file, --token or REDECODE_TOKEN, or --insecure")
        from ..server.app import create_app
        from ..server.service import Settings

        cores = _cores()
        workers = workers or min(2, cores)
        settings = Settings(
            token=token,
            hosts=frozenset(name.lower() for name in [host, *(allow_host or [])]),
            workers=workers,
            # Workers share the networks' threads, and each computes itself too.
            threads=max(1, cores - workers + 1),
            queue=queue,
            max_body=round(max_body * 2**20),
            engine=options,
            job_seconds=max_time,
            keep_seconds=keep * 60,
            storage=round(storage * 2**20),
        )
        with _listening(host, port) as listener:
            address, bound = listener.getsockname()[:2]
            _run(create_app(settings), listener, f"http://{f'[{address}]' if ':' in address else address}:{bound}/", open_page)


def _run(app: FastAPI, listener: socket.socket, address: str, open_page: bool) -> None:
    import uvicorn

    from ..server.connections import SERVER_OPTIONS

    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_GRACE_SECONDS,
        lifespan="on",
        **SERVER_OPTIONS,
    )
    # uvicorn shuts down at the first signal and then raises it again: ignore it, as a requested end is no failure.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    # Shut down when the terminal closes (SIGHUP), unless the signal is ignored (nohup).
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda *_: signal.raise_signal(signal.SIGTERM))
    say(address)
    if open_page:
        # The browser's connection waits until the server accepts it. In a thread, as a browser in this terminal would block the server.
        threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
    uvicorn.Server(config).run(sockets=[listener])


def _listening(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except UnicodeError:
        raise UsageError(f"{host} is not a valid host name") from None
    # With an explicit protocol number, asyncio disables Nagle's algorithm, which delays small responses.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    # On POSIX, this option allows to reuse a port that was just closed; on Windows it would let other programs share the port.
    if os.name == "posix":
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
        # Listen before the address is printed: a client may connect at once.
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise UsageError(f"port {port} is in use already: choose another with --port, or give --port 0 for any free one") from None
        raise
    return listener


def _checked_token(token: str | None, file: Path | None) -> str | None:
    """The token from the option or from its file; None if neither is given.

    Raises:
        UsageError: the token cannot be sent in an HTTP header.
        OSError: the file cannot be read.
    """
    if file is not None:
        if token is not None:
            raise UsageError("give --token or --token-file, not both")
        token = file.read_text("utf-8", "replace").rstrip("\r\n")
    if token == "":
        raise UsageError("an empty token protects nothing")
    if token is not None and not (token.isascii() and token.isprintable() and " " not in token):
        raise UsageError("a token is sent in an HTTP header: give one line of ASCII letters, digits and symbols, without spaces")
    return token


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
