"""Limits of connections: their number, the time to receive a request's head, and the time in which a client accepts no data."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

# Maximum number of connections. Beyond it, the connection that has waited longest without a request is closed. (The usual limit of open
# files is 1024.)
MOST = 500
# Seconds for the head of a request, from the start of the connection or from the last response; and seconds in which a client accepts no
# data of a response.
HEAD_SECONDS = 10.0
STALL_SECONDS = 60.0
# Maximum size of a request's head in bytes.
MOST_HEAD = 32 << 10


class Connection(H11Protocol):
    """A connection of uvicorn with time limits for the client."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """See uvicorn."""
        super().__init__(*arguments, **options)
        self._head: asyncio.TimerHandle | None = None
        self._stall: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        super().connection_made(transport)  # type: ignore[arg-type]
        self._wait_for_head()
        if len(self.connections) > MOST:
            self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio."""
        for timer in (self._head, self._stall):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        super().data_received(data)
        self._wait_for_head()

    def on_response_complete(self) -> None:
        """See uvicorn."""
        super().on_response_complete()
        self._wait_for_head()

    def pause_writing(self) -> None:
        """See asyncio."""
        super().pause_writing()
        self._stall = self.loop.call_later(STALL_SECONDS, self._give_up)

    def resume_writing(self) -> None:
        """See asyncio."""
        super().resume_writing()
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None

    @property
    def waiting(self) -> bool:
        """Whether the connection has no request to answer."""
        return self.cycle is None or self.cycle.response_complete

    @property
    def waits_until(self) -> float:
        """Time of the event loop at which the connection is closed if no request arrives."""
        return self._head.when() if self._head is not None else float("inf")

    def _wait_for_head(self) -> None:
        """Run the timer of the head while there is no request to answer, and stop it otherwise."""
        if self.waiting and self._head is None and not self.transport.is_closing():
            self._head = self.loop.call_later(HEAD_SECONDS, self._give_up)
        elif not self.waiting and self._head is not None:
            self._head.cancel()
            self._head = None

    def _give_up(self) -> None:
        self.transport.abort()

    def _make_room(self) -> None:
        idle = [one for one in self.connections if isinstance(one, Connection) and one.waiting]
        eldest = min(idle, key=lambda one: one.waits_until, default=self)
        eldest.transport.abort()
        # Remove it now: the event loop would remove it later, and its place would still count.
        self.connections.discard(eldest)


SERVER_OPTIONS: dict[str, Any] = {"http": Connection, "ws": "none", "h11_max_incomplete_event_size": MOST_HEAD}
