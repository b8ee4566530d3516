"""Locks of outputs: a file in the output names the run that works there, and its heartbeat shows that the run is alive."""

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
# Seconds for which a lock is watched for a heartbeat where the clocks of two machines disagree.
_WATCH_SECONDS = 25.0
_MAX_BYTES = 1 << 16

# Ids of the locks that this process holds.
_held: set[str] = set()


@dataclass(frozen=True)
class Holder:
    """The holder of a lock.

    Attributes:
        id: random id of the run.
        host: host name of the run's machine or container.
        pid: process id of the run on this host.
        beat: time of the last heartbeat in seconds since 1970, by the host's clock.
        started: start of the process, which tells it from an earlier process with the same id; None where the system does not tell.
    """

    id: str
    host: str
    pid: int
    beat: float
    started: str | None = None

    @classmethod
    def from_json(cls, content: bytes) -> Holder | None:
        """Parse the content of a lock file; None if the file is not complete yet, or damaged."""
        try:
            found = json.loads(content)
            holder = cls(found["id"], found["host"], found["pid"], found["beat"], found.get("started"))
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
            return None
        texts = (holder.id, holder.host, holder.started or "")
        valid = all(isinstance(text, str) and text.isprintable() for text in texts)
        valid = valid and type(holder.pid) is int and 0 < holder.pid < 1 << 31
        return holder if valid and isinstance(holder.beat, (int, float)) and abs(holder.beat) < 1e12 else None


class LockedError(RedecodeError):
    """Another run works in the output."""


class Lock:
    """The lock of a shard, as a context manager: it excludes runs of the same shard, and runs with another number of shards.

    A lock is stale, and replaced, if it is damaged, if its process has ended, or if its last heartbeat is more than two minutes old by the
    clocks of both machines. If the clocks disagree, the lock is watched for a new heartbeat. Containers that share an output need different
    host names, which they have by default. If two runs do work at the same time, nothing is damaged: results are written atomically, and
    each run writes segments of its own.
    """

    def __init__(self, store: Store, shard: Shard) -> None:
        self._store, self._shard = store, shard
        self._id = secrets.token_hex(8)
        self._ended = threading.Event()
        self._error: RedecodeError | OSError | None = None
        self._heartbeat = threading.Thread(target=self._renew, daemon=True)

    def __enter__(self) -> Lock:
        """
        Raises:
            LockedError: another run works in the output.
            OSError, StoreError: the output cannot be written.
        """
        self._refuse_others(self._path)
        if not self._store.create(self._path, self._content()):
            self._store.remove(self._path)
            if not self._store.create(self._path, self._content()):
                raise LockedError("another run has just started in this output")
        _held.add(self._id)
        # Create first, then look: of two runs that start at the same time, at least one sees the other.
        try:
            self._refuse_others()
        except BaseException:
            _held.discard(self._id)
            self._store.remove(self._path)
            raise
        self._heartbeat.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ended.set()
        self._heartbeat.join()
        _held.discard(self._id)
        if self._error is None and self._is_ours():
            self._store.remove(self._path)

    def check(self) -> None:
        """Check that this run still holds the lock.

        Raises:
            LockedError, StoreError, OSError: another run has taken the lock, or it could not be renewed.
        """
        if self._error is not None:
            raise self._error

    @property
    def _path(self) -> str:
        return f"{CORNER}/lock-{self._shard.name}"

    def _content(self) -> bytes:
        holder = Holder(self._id, socket.gethostname(), os.getpid(), time.time(), _started(os.getpid()))
        return json.dumps(asdict(holder)).encode()

    def _read(self, path: str) -> Holder | None:
        for delay in (1, 0):
            try:
                with self._store.open(path) as file:
                    holder = Holder.from_json(file.read(_MAX_BYTES))
            except FileNotFoundError:
                return None
            if holder is not None:
                return holder
            # On disks the file exists a moment before its content is written.
            time.sleep(delay)
        return None

    def _is_ours(self) -> bool:
        holder = self._read(self._path)
        return holder is not None and holder.id == self._id

    def _refuse_others(self, *more: str) -> None:
        """Raise LockedError if a live run holds a lock of another number of shards, or one of the locks `more`."""
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
        # The heartbeat lies in the future: one of the clocks is wrong, and only a new heartbeat shows that the run is alive.
        end = time.monotonic() + _WATCH_SECONDS
        while time.monotonic() < end:
            time.sleep(min(1.0, _WATCH_SECONDS))
            now = self._read(path)
            if now is None or now != holder:
                return now is not None
        return False

    def _renew(self) -> None:
        while not self._ended.wait(_BEAT_SECONDS):
            try:
                if not self._is_ours():
                    raise LockedError("another run has taken over this output; this run stops")
                self._store.put(self._path, self._content())
            except (LockedError, StoreError, OSError) as error:
                self._error = error
                return


def _is_gone(holder: Holder) -> bool:
    """Whether a holder on this machine has certainly ended; its process id may have been reused."""
    if holder.pid == os.getpid():
        # A restarted container can give this process the id of the earlier one.
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
    """Start of a process of this machine on Linux: boot id and clock ticks since boot. None on other systems, or without the process."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as boot, open(f"/proc/{pid}/stat") as stat:
            # The process name, in parentheses, may hold spaces and parentheses itself.
            return f"{boot.read().strip()}/{stat.read().rpartition(')')[2].split()[19]}"
    except (OSError, IndexError):
        return None
