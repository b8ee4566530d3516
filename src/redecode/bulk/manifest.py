"""What was done: one line of JSON for each file, appended after its result is in place, in segments that are never changed again.

    OUT/_redecode/<shard>/<run>-<segment>.jsonl

On disks a run has one segment and appends to it line by line. Object stores know no appending: there, a run puts a new segment every now
and then, and what a kill loses of the last moments is restored again. A line that a kill has cut short is no JSON and is passed over.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from .listing import Shard
from .names import CORNER
from .stores import Disk, Entry, Store

DONE, FAILED, UNREACHED = "done", "failed", "unreached"
# A new segment on an object store: after so many seconds, or after this share of the run's time where that is longer. So there are about
# a hundred segments for each e-fold of time, and never more than 1 % of the work is lost.
_SEGMENT_SECONDS, _SEGMENT_SHARE = 30.0, 0.01
_FOLDER, _SEGMENT = re.compile(r"([0-9]+)-of-([0-9]+)"), re.compile(r"([0-9]+)-[0-9]+\.jsonl")
# Bytes of the digest of a result's path that the index keeps: enough to tell it from the few others that could be meant.
_SHORT = 4


@dataclass(frozen=True)
class Row:
    """What became of a file.

    Attributes:
        input: its path in IN.
        size: its bytes.
        version: its ETag, or where the store has none the time of its last change.
        sha256: of its bytes; None where they were not read whole, and for archives.
        model: sha256 of each network by its name.
        options: all that was chosen for the result.
        status: DONE; FAILED, which is the file's own fault; UNREACHED where a store failed, which the next run tries again.
        message: why it failed; else notes on the file.
        seconds: reading, restoring and writing took.
        output: path of the result in OUT.
        output_size: its bytes.
        pixels: restored.
        files: pictures in it; not 1 for an archive.
        failures: of an archive, the members that are left out of the result, and why.
        notes: of an archive, what a user should know about members that were restored.
    """

    input: str
    size: int
    version: str
    model: dict[str, str]
    options: dict[str, Any]
    status: str
    message: str = ""
    sha256: str | None = None
    seconds: float = 0.0
    output: str | None = None
    output_size: int = 0
    pixels: int = 0
    files: int = 1
    failures: dict[str, str] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        """One line, without its end."""
        # ASCII, so that names that are no text survive as lone surrogates.
        return json.dumps({key: value for key, value in vars(self).items() if value or key not in ("failures", "notes")})

    @classmethod
    def from_json(cls, line: str | bytes) -> Row | None:
        """A line as a row, or None if it is not one: torn by a kill, or damaged since."""
        try:
            row = cls(**json.loads(line))
            # No flipped bit may make a path of it that no system could have.
            os.fsencode(f"{row.input}{row.output}")
        except (ValueError, TypeError, RecursionError):
            return None
        return row if _is_sound(row) else None


def _is_sound(row: Row) -> bool:
    texts = (row.input, row.version, row.message, *(text for text in (row.sha256, row.output) if text is not None))
    numbers = (row.size, row.seconds, row.output_size, row.pixels, row.files)
    tables = (row.model, row.options, row.failures, row.notes)
    return (
        all(isinstance(text, str) for text in texts)
        and all(isinstance(number, (int, float)) and number >= 0 for number in numbers)
        and all(isinstance(table, dict) for table in tables)
        and all(isinstance(text, str) for text in (*row.failures.values(), *row.notes.values()))
        and row.status in (DONE, FAILED, UNREACHED)
    )


class _Log(Protocol):
    def write(self, line: bytes) -> None: ...

    def close(self) -> None: ...


class Manifest:
    """The rows of a shard: an index of the earlier ones in memory, and a log for new ones."""

    def __init__(self, store: Store, shard: Shard) -> None:
        self._store, self._shard = store, shard
        self._past: dict[bytes, bytes] = {}
        self._log: _Log | None = None

    @property
    def folder(self) -> str:
        """Where new rows go."""
        return f"{CORNER}/{self._shard.name}"

    def load(self) -> None:
        """Read the rows of earlier runs. What is no row is passed over: its file is restored once more.

        Raises:
            OSError, StoreError: they cannot be read.
        """
        for row in rows(self._store, self._shard):
            fingerprint = _fingerprint(row.size, row.version, row.model, row.options)
            self._past[_digest(row.input)] = fingerprint + _digest(row.output or "")[:_SHORT] + _mark(row)

    def begin(self) -> None:
        """Open a new segment.

        Raises:
            OSError, StoreError: there is no writing to the place.
        """
        numbers = [int(match[1]) for match in map(_SEGMENT.fullmatch, map(_name, _segments(self._store, self.folder))) if match]
        name = f"{self.folder}/{1 + max(numbers, default=0):06d}"
        self._log = _DiskLog(self._store, name) if isinstance(self._store, Disk) else _StoreLog(self._store, name)

    def append(self, row: Row) -> None:
        """Note what became of a file, once its result is in place."""
        assert self._log is not None
        self._log.write(row.to_json().encode() + b"\n")

    def close(self) -> None:
        """Put what has not been put yet."""
        if self._log is not None:
            self._log.close()

    def past(self, entry: Entry, model: dict[str, str], options: dict[str, Any]) -> str | None:
        """The status in the last row of this very file under the same choices; None if there is none.

        An archive of which members failed counts as FAILED.
        """
        known = self._past.get(_digest(entry.path))
        if known is None or known[: -1 - _SHORT] != _fingerprint(entry.size, entry.version, model, options):
            return None
        return {b"d": DONE, b"f": FAILED, b"u": UNREACHED}[known[-1:]]

    def wrote(self, path: str, output: str) -> bool:
        """Whether the last row of a file says that its result went there."""
        return output in self.written([path], [output])

    def written(self, paths: Iterable[str], outputs: Iterable[str]) -> set[str]:
        """Those of some results' paths that are in the last row of one of some files."""
        if not self._past:
            return set()
        marks = {_digest(output)[:_SHORT]: output for output in outputs}
        known = [self._past.get(_digest(path)) for path in paths]
        return {marks[row[-1 - _SHORT : -1]] for row in known if row is not None and row[-1 - _SHORT : -1] in marks}


def rows(store: Store, shard: Shard | None = None) -> Iterator[Row]:
    """All rows of an output, the oldest of a shard first.

    Args:
        store: the output.
        shard: leave out what cannot be of this shard. Rows of a division into another number of shards are read, as any of them may be.
    """
    for folder in _children(store, CORNER)[0]:
        match = _FOLDER.fullmatch(_name(folder))
        if not match:
            continue
        if shard is not None and int(match[2]) == shard.total and int(match[1]) != shard.number:
            continue
        for segment in _segments(store, folder):
            with store.open(segment) as lines:
                for line in lines:
                    row = Row.from_json(line)
                    if row is not None and (shard is None or shard.holds(row.input)):
                        yield row


def _segments(store: Store, folder: str) -> list[str]:
    return sorted(entry.path for entry in _children(store, folder)[1] if entry.path.endswith(".jsonl"))


def _children(store: Store, folder: str) -> tuple[list[str], list[Entry]]:
    try:
        return store.children(folder)
    except FileNotFoundError:
        return [], []


def _name(path: str) -> str:
    return path.rpartition("/")[2]


# A row of the index is some 200 bytes: digests, because paths and rows would be several times as much.
def _digest(path: str) -> bytes:
    return hashlib.blake2b(os.fsencode(path), digest_size=16).digest()


def _fingerprint(size: int, version: str, model: dict[str, str], options: dict[str, Any]) -> bytes:
    return hashlib.blake2b(json.dumps([size, version, model, options], sort_keys=True).encode(), digest_size=12).digest()


def _mark(row: Row) -> bytes:
    return (FAILED if row.failures else row.status)[:1].encode()


class _DiskLog:
    def __init__(self, store: Disk, name: str) -> None:
        path = store.root / f"{name}-000000.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(path, "xb", buffering=0)  # noqa: SIM115  # Open for as long as the run.

    def write(self, line: bytes) -> None:
        self._file.write(line)

    def close(self) -> None:
        os.fsync(self._file.fileno())
        self._file.close()


class _StoreLog:
    def __init__(self, store: Store, name: str) -> None:
        self._store, self._name = store, name
        self._lines: list[bytes] = []
        self._count = 0
        self._began = self._put = time.monotonic()

    def write(self, line: bytes) -> None:
        self._lines.append(line)
        now = time.monotonic()
        if now - self._put >= max(_SEGMENT_SECONDS, _SEGMENT_SHARE * (now - self._began)):
            self.close()
            self._put = now

    def close(self) -> None:
        if self._lines:
            self._store.put(f"{self._name}-{self._count:06d}.jsonl", b"".join(self._lines))
            self._count += 1
            self._lines = []
