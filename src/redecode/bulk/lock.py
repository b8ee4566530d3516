"""One run at a time: a file in the output that names the run at work, and shows by its heartbeat that it still is."""

from __future__ import annotations

import json
import os
import secrets
import socket
import threading
import time
from dataclasses import asdict, dataclass
from types import TracebackType

from ..errors import RedecodeError
from .listing import Shard
from .names import CORNER
from .stores import Store, StoreError

_BEAT_SECONDS, _STALE_SECONDS = 10.0, 120.0
# As long as a lock is watched where the clocks of two machines disagree.
_WATCH_SECONDS = 25.0
_MAX_BYTES = 1 << 16

# Locks that this very process holds.
_held: set[str] = set()


@dataclass(frozen=True)
class Holder:
    """Who holds a lock.

    Attributes:
        id: of the run.
        host: name of its machine or container.
        pid: number of its process there.
        beat: when it was last at work, in seconds since 1970, by its own clock.
        started: tells its process from an earlier one of the same number; None where the system does not tell.
    """

    id: str
    host: str
    pid: int
    beat: float
    started: str | None = None

    @classmethod
    def from_json(cls, content: bytes) -> Holder | None:
        """The content of a lock; None if it is none, as its file is not written yet, or was damaged."""
        try:
            found = json.loads(content)
            holder = cls(found["id"], found["host"], found["pid"], found["beat"], found.get("started"))
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
            return None
        texts = (holder.id, holder.host, holder.started or "")
        sound = all(isinstance(text, str) and text.isprintable() for text in texts)
        sound = sound and type(holder.pid) is int and 0 < holder.pid < 1 << 31
        return holder if sound and isinstance(holder.beat, (int, float)) and abs(holder.beat) < 1e12 else None


class LockedError(RedecodeError):
    """Another run is at work in the output."""


class Lock:
    """Held from `with` to its end; of the same shard there is one, and none besides shards of another division.

    A lock is stale, and taken over, when it is damaged, when its process is known to be gone, or when its heart has not beaten for two
    minutes, by the clocks of both machines; where those disagree, it is watched for a beat. Containers that share an output need host
    names of their own, as they have unless told otherwise. Should two runs all the same be at work at once, nothing is damaged: results
    are whole whoever puts them, and manifests never share a segment.
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
        _held.add(self._id)
        # Created before looking, so that of two that begin at once at least one sees the other.
        try:
            self._refuse_others()
        except BaseException:
            _held.discard(self._id)
            self._store.remove(self._path)
            raise
        self._heart.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ended.set()
        self._heart.join()
        _held.discard(self._id)
        if self._lost is None and self._is_ours():
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
        holder = Holder(self._id, socket.gethostname(), os.getpid(), time.time(), _started(os.getpid()))
        return json.dumps(asdict(holder)).encode()

    def _read(self, path: str) -> Holder | None:
        for patience in (1, 0):
            try:
                with self._store.open(path) as file:
                    holder = Holder.from_json(file.read(_MAX_BYTES))
            except FileNotFoundError:
                return None
            if holder is not None:
                return holder
            # On disks it is there a moment before its content is.
            time.sleep(patience)
        return None

    def _is_ours(self) -> bool:
        holder = self._read(self._path)
        return holder is not None and holder.id == self._id

    def _refuse_others(self, *more: str) -> None:
        """Refuse where a live lock of another division is held, or one of `more`."""
        try:
            held = [entry.path for entry in self._store.children(CORNER)[1] if "/lock-" in entry.path]
        except FileNotFoundError:
            return
        same_division = f"-of-{self._shard.total}"
        for path in held:
            holder = self._read(path) if path in more or not path.endswith(same_division) else None
            if holder is not None and self._is_alive(holder, path):
                raise LockedError(
                    f"another run (process {holder.pid} on {holder.host}) is at work in this output; "
                    f"if it is not, wait {_STALE_SECONDS:.0f} s or remove {path}"
                )

    def _is_alive(self, holder: Holder, path: str) -> bool:
        if holder.host == socket.gethostname() and _is_gone(holder):
            return False
        ago = time.time() - holder.beat
        if ago > -_STALE_SECONDS:
            return ago < _STALE_SECONDS
        # It comes from the future: one of the clocks is wrong, and only another beat tells whether anybody is there.
        end = time.monotonic() + _WATCH_SECONDS
        while time.monotonic() < end:
            time.sleep(min(1.0, _WATCH_SECONDS))
            now = self._read(path)
            if now is None or now != holder:
                return now is not None
        return False

    def _beat(self) -> None:
        while not self._ended.wait(_BEAT_SECONDS):
            try:
                if not self._is_ours():
                    raise LockedError("another run has taken this output over; this one ends here")
                self._store.put(self._path, self._content())
            except (LockedError, StoreError, OSError) as error:
                self._lost = error
                return


def _is_gone(holder: Holder) -> bool:
    """Whether a process of this machine is known to be gone, be there another of its number or not."""
    if holder.pid == os.getpid():
        # As in a container that was started anew.
        return holder.id not in _held
    if os.name != "posix":
        return False
    try:
        os.kill(holder.pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return holder.started is not None and _started(holder.pid) not in (None, holder.started)


def _started(pid: int) -> str | None:
    """When a process of this machine began, as Linux tells: this boot, and the ticks since. None elsewhere, or if there is none."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as boot, open(f"/proc/{pid}/stat") as stat:
            # The name, in parentheses, may hold anything.
            return f"{boot.read().strip()}/{stat.read().rpartition(')')[2].split()[19]}"
    except (OSError, IndexError):
        return None
