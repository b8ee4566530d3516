"""The manifest of a run: one line of JSON per file, appended once its result is in place, in segments that never change afterwards.

    OUT/_redecode/<shard>/<run>-<segment>.jsonl

On disks, a run appends line by line to one segment. Object stores cannot append: there, a run uploads a new segment every 30 s or more,
and files whose rows a kill loses are restored again. Lines that a kill has cut short are not valid JSON and are ignored.
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
# Interval between segments on an object store: 30 s, or 1 % of the run's time where that is longer. So at most 1 % of a long run's work
# is lost, and the number of segments grows only with the logarithm of the time: about 100 each time it grows e-fold.
_SEGMENT_SECONDS, _SEGMENT_SHARE = 30.0, 0.01
_FOLDER, _SEGMENT = re.compile(r"([0-9]+)-of-([0-9]+)"), re.compile(r"([0-9]+)-[0-9]+\.jsonl")
# Bytes of a result path's digest that the index keeps: enough, as each is compared with a few candidates only.
_OUTPUT_BYTES = 4


@dataclass(frozen=True)
class Row:
    """The outcome of one file.

    Attributes:
        input: path of the file, relative to IN.
        size: size of the file in bytes.
        version: ETag of the file, or the time of its last change where the store has no ETags.
        sha256: SHA-256 of the file; None if it was not read completely, and for archives.
        model: SHA-256 of each network by the network's name.
        options: all options by name.
        status: DONE; FAILED if the file itself is at fault; UNREACHED if a store failed, in which case the next run retries the file.
        message: why the file failed, or notes about its restoration.
        seconds: time to read, restore and write the file.
        output: path of the result, relative to OUT.
        output_size: size of the result in bytes.
        pixels: number of restored pixels.
        files: number of pictures: 1, or the number in an archive.
        failures: for archives: members left out of the result, each with the reason.
        notes: for archives: notes about the restoration of members, by their names.
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
        """The row as a line of JSON, without the newline."""
        # ASCII only, so that file names that are not valid UTF-8 survive as lone surrogates.
        return json.dumps({key: value for key, value in vars(self).items() if value or key not in ("failures", "notes")})

    @classmethod
    def from_json(cls, line: str | bytes) -> Row | None:
        """Parse a line; None if it is not a valid row, because a kill cut it short or it is damaged."""
        try:
            row = cls(**json.loads(line))
            # Raises an error for paths that cannot exist on this system, as in a damaged row.
            os.fsencode(f"{row.input}{row.output}")
        except (ValueError, TypeError, RecursionError):
            return None
        return row if _is_valid(row) else None


def _is_valid(row: Row) -> bool:
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


class _Segment(Protocol):
    """The part of the manifest that this run writes."""

    def write(self, line: bytes) -> None: ...

    def close(self) -> None: ...


class Manifest:
    """The manifest of a shard: an index of earlier rows in memory, and a segment for new rows."""

    def __init__(self, store: Store, shard: Shard) -> None:
        self._store, self._shard = store, shard
        self._past: dict[bytes, bytes] = {}
        self._segment: _Segment | None = None

    @property
    def folder(self) -> str:
        """Folder of the shard's segments, relative to the output."""
        return f"{CORNER}/{self._shard.name}"

    def load(self) -> None:
        """Read the rows of earlier runs. Invalid lines are ignored: their files are restored again.

        Raises:
            OSError, StoreError: the manifest cannot be read.
        """
        for row in rows(self._store, self._shard):
            fingerprint = _fingerprint(row.size, row.version, row.model, row.options)
            self._past[_digest(row.input)] = fingerprint + _digest(row.output or "")[:_OUTPUT_BYTES] + _status_byte(row)

    def open_segment(self) -> None:
        """Open a new segment for this run's rows.

        Raises:
            OSError, StoreError: the output cannot be written.
        """
        numbers = [int(match[1]) for match in map(_SEGMENT.fullmatch, map(_name, _segments(self._store, self.folder))) if match]
        name = f"{self.folder}/{1 + max(numbers, default=0):06d}"
        self._segment = _DiskSegment(self._store, name) if isinstance(self._store, Disk) else _StoreSegment(self._store, name)

    def append(self, row: Row) -> None:
        """Record the outcome of a file, once its result is in place."""
        assert self._segment is not None
        self._segment.write(row.to_json().encode() + b"\n")

    def close(self) -> None:
        """Write the rows that are still in memory."""
        if self._segment is not None:
            self._segment.close()

    def past(self, entry: Entry, model: dict[str, str], options: dict[str, Any]) -> str | None:
        """Status of a file in its last row; None if there is no row of this version of the file with the same networks and options.

        An archive with failed members counts as FAILED.
        """
        known = self._past.get(_digest(entry.path))
        if known is None or known[: -1 - _OUTPUT_BYTES] != _fingerprint(entry.size, entry.version, model, options):
            return None
        return {b"d": DONE, b"f": FAILED, b"u": UNREACHED}[known[-1:]]

    def wrote(self, path: str, output: str) -> bool:
        """Whether the last row of a file has its result at this path."""
        return output in self.written([path], [output])

    def written(self, paths: Iterable[str], outputs: Iterable[str]) -> set[str]:
        """The subset of `outputs` that are results of `paths` according to their last rows."""
        if not self._past:
            return set()
        by_digest = {_digest(output)[:_OUTPUT_BYTES]: output for output in outputs}
        known = [self._past.get(_digest(path)) for path in paths]
        digests = [row[-1 - _OUTPUT_BYTES : -1] for row in known if row is not None]
        return {by_digest[digest] for digest in digests if digest in by_digest}


def rows(store: Store, shard: Shard | None = None) -> Iterator[Row]:
    """All rows of an output's manifests, within each shard the oldest first.

    Args:
        store: the output.
        shard: yield only rows of this shard's files. They may also be in manifests of runs with another number of shards.
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


# The index stores digests of paths and rows, about 200 bytes a file: the rows themselves would take several times as much memory.
def _digest(path: str) -> bytes:
    return hashlib.blake2b(os.fsencode(path), digest_size=16).digest()


def _fingerprint(size: int, version: str, model: dict[str, str], options: dict[str, Any]) -> bytes:
    return hashlib.blake2b(json.dumps([size, version, model, options], sort_keys=True).encode(), digest_size=12).digest()


def _status_byte(row: Row) -> bytes:
    return (FAILED if row.failures else row.status)[:1].encode()


class _DiskSegment:
    def __init__(self, store: Disk, name: str) -> None:
        path = store.root / f"{name}-000000.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(path, "xb", buffering=0)  # noqa: SIM115  # Stays open during the run.

    def write(self, line: bytes) -> None:
        self._file.write(line)

    def close(self) -> None:
        os.fsync(self._file.fileno())
        self._file.close()


class _StoreSegment:
    def __init__(self, store: Store, name: str) -> None:
        self._store, self._name = store, name
        self._lines: list[bytes] = []
        self._count = 0
        self._began = self._uploaded = time.monotonic()

    def write(self, line: bytes) -> None:
        self._lines.append(line)
        now = time.monotonic()
        if now - self._uploaded >= max(_SEGMENT_SECONDS, _SEGMENT_SHARE * (now - self._began)):
            self.close()
            self._uploaded = now

    def close(self) -> None:
        if self._lines:
            self._store.put(f"{self._name}-{self._count:06d}.jsonl", b"".join(self._lines))
            self._count += 1
            self._lines = []
