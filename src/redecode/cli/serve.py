"""`redecode serve`: the page and the HTTP API."""

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

# Clients that may wait for being accepted.
_BACKLOG = 1024
# After SIGTERM, requests at work may take this long to finish, in seconds.
_GRACE_SECONDS = 30


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 8000,
    workers: Annotated[int | None, typer.Option(min=1, show_default="2, or 1 on one core", help="Pictures restored at a time.")] = None,
    token: Annotated[str | None, typer.Option(envvar="REDECODE_TOKEN", help="Answer only to those who show this bearer token.")] = None,
    token_file: Annotated[
        Path | None, typer.Option(envvar="REDECODE_TOKEN_FILE", help="Read the token from a file: no list of processes shows it then.")
    ] = None,
    insecure: Annotated[bool, typer.Option("--insecure", help="Listen on a public address without a token all the same.")] = False,
    allow_host: Annotated[list[str] | None, typer.Option(help="A name that this server is called by; may be repeated.")] = None,
    queue: Annotated[int, typer.Option(min=0, help="Pictures that may wait; others are told to come back.")] = 32,
    max_body: Annotated[float, typer.Option(min=0.001, metavar="MIB", help="Refuse larger files.")] = 64,
    *,
    options: Options,
    max_time: Annotated[float, typer.Option(min=0.01, metavar="SECONDS", help="Give up on a picture after this long.")] = 600,
    keep: Annotated[float, typer.Option(min=0.01, metavar="MINUTES", help="Forget an open picture after so long without use.")] = 60,
    storage: Annotated[float, typer.Option(min=1, metavar="MIB", help="Disk space for open pictures.")] = 4096,
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
) -> None:
    """Serve the page and the HTTP API from this machine (needs the extra `web`)."""
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
            # The networks' threads are shared, and every worker computes too.
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
    # uvicorn ends gracefully at the first signal, and then raises it again: to be told to end is no failure.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    # A terminal that is closed is told of so; whoever has had that ignored (nohup) means the server to stay.
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda *_: signal.raise_signal(signal.SIGTERM))
    say(address)
    if open_page:
        # The browser's connection waits until the server is up; a browser in this terminal would have the server wait.
        threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
    uvicorn.Server(config).run(sockets=[listener])


def _listening(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except UnicodeError:
        raise UsageError(f"{host} is no name of a host") from None
    # The protocol by its number: only where it is named does asyncio switch off the delay of small answers (Nagle's algorithm).
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    # On POSIX, a port that was just given up can be taken again; on Windows the option would let others share ours.
    if os.name == "posix":
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
        # Before the address is told: who is told it may come at once.
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise UsageError(f"port {port} is in use already: choose another with --port, or give --port 0 for any free one") from None
        raise
    return listener


def _checked_token(token: str | None, file: Path | None) -> str | None:
    """
    Raises:
        UsageError: the token is none that a client could send.
        OSError: its file cannot be read.
    """
    if file is not None:
        if token is not None:
            raise UsageError("give --token or --token-file, not both")
        token = file.read_text("utf-8", "replace").rstrip("\r\n")
    if token == "":
        raise UsageError("an empty token protects nothing")
    if token is not None and not (token.isascii() and token.isprintable() and " " not in token):
        raise UsageError("a token travels in a header of HTTP: give one line of ASCII letters, digits and signs, without spaces")
    return token


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
