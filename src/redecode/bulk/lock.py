"""One run at a time: a file in the output that says who is at work, and by its heartbeat, that they still are."""

from __future__ import annotations

import json
import os
import secrets
import socket
import threading
import time
from types import TracebackType
from typing import Any

from ..errors import RedecodeError
from .listing import Shard
from .names import CORNER
from .stores import Store, StoreError

_BEAT_SECONDS, _STALE_SECONDS = 20.0, 120.0


class LockedError(RedecodeError):
    """Another run is at work in the output."""


class Lock:
    """Held from `with` to its end; of the same shard there is one, and none besides shards of another division.

    A lock is stale, and taken over, when its process is known to be gone or its heart has not beaten for two minutes (by the clocks of
    both machines). Should two runs all the same be at work at once, nothing is damaged: results are whole whoever puts them,
    and manifests never share a segment.
    """

    def __init__(self, store: Store, shard: Shard) -> None:
        self._store, self._shard = store, shard
        self._id = secrets.token_hex(8)
        self._ended = threading.Event()
        self._lost: RedecodeError | OSError | None = None
        self._heart = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> Lock:
        """
        Raises:
            LockedError: another run is at work.
            OSError, StoreError: there is no writing to the place.
        """
        self._refuse_others(self._path)
        if not self._store.create(self._path, self._content()):
            self._store.remove(self._path)
            if not self._store.create(self._path, self._content()):
                raise LockedError("another run has just begun to work in this output")
        # Created before looking, so that of two that begin at once at least one sees the other.
        try:
            self._refuse_others()
        except LockedError:
            self._store.remove(self._path)
            raise
        self._heart.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ended.set()
        self._heart.join()
        if self._lost is None and (self._read(self._path) or {}).get("id") == self._id:
            self._store.remove(self._path)

    def check(self) -> None:
        """
        Raises:
            LockedError, StoreError, OSError: the lock was lost to another run, or could not be renewed.
        """
        if self._lost is not None:
            raise self._lost

    @property
    def _path(self) -> str:
        return f"{CORNER}/lock-{self._shard.name}"

    def _content(self) -> bytes:
        holder = {"id": self._id, "host": socket.gethostname(), "pid": os.getpid(), "beat": time.time()}
        return json.dumps(holder).encode()

    def _read(self, path: str) -> dict[str, Any] | None:
        for patience in (1, 0):
            try:
                with self._store.open(path) as file:
                    return dict(json.loads(file.read()))
            except FileNotFoundError:
                return None
            except ValueError:
                # On disks it is there a moment before its content is.
                time.sleep(patience)
        return {}

    def _refuse_others(self, *more: str) -> None:
        """Refuse where a live lock of another division is held, or one of `more`."""
        try:
            held = [entry.path for entry in self._store.children(CORNER)[1] if "/lock-" in entry.path]
        except FileNotFoundError:
            return
        same_division = f"-of-{self._shard.total}"
        for path in held:
            holder = self._read(path) if path in more or not path.endswith(same_division) else None
            if holder is not None and _alive(holder):
                raise LockedError(
                    f"another run (process {holder['pid']} on {holder['host']}) is at work in this output; "
                    f"if it is not, wait {_STALE_SECONDS:.0f} s or remove {path}"
                )

    def _beat(self) -> None:
        while not self._ended.wait(_BEAT_SECONDS):
            try:
                if (self._read(self._path) or {}).get("id") != self._id:
                    raise LockedError("another run has taken this output over; this one ends here")
                self._store.put(self._path, self._content())
            except (LockedError, StoreError, OSError) as error:
                self._lost = error
                return


def _alive(holder: dict[str, Any]) -> bool:
    if "beat" not in holder:
        # Killed between creating it and the first word.
        return False
    if holder["host"] == socket.gethostname() and os.name == "posix":
        try:
            os.kill(int(holder["pid"]), 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass
    return bool(time.time() - holder["beat"] < _STALE_SECONDS)
