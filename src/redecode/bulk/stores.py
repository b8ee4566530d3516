"""Places that hold files: folders of this machine, and whatever fsspec has a file system for.

Paths within a place are relative and have "/" between their parts. What is put is either whole or not there.
"""

from __future__ import annotations

import os
import random
import secrets
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypeVar

from .. import files
from ..errors import DependencyError, RedecodeError, TooLargeError

# The corner of an output place that belongs to redecode: manifest, locks, unfinished files. Like all names that begin with "_", data
# frameworks take it for no data.
CORNER = "_redecode"

_T = TypeVar("_T")
_TRIES = 6
# What no second attempt would change.
_FINAL = (FileNotFoundError, FileExistsError, PermissionError, IsADirectoryError, NotADirectoryError, NotImplementedError, TypeError)
# Whatever of a listing changes with a file's content, the best first: S3 and others, GCS, HTTP, file systems, zip archives.
_VERSIONS = ("ETag", "etag", "md5Hash", "content_md5", "LastModified", "mtime", "created", "CRC")


class StoreError(RedecodeError):
    """A store refused, or failed again and again."""


@dataclass(frozen=True)
class Entry:
    """A file of a listing.

    Attributes:
        path: relative to its place.
        size: bytes.
        version: changes when the content does: the store's ETag where it has one, else the time of the last change.
    """

    path: str
    size: int
    version: str


class Store(Protocol):
    """What a place can do. All methods raise OSError or StoreError where it fails."""

    def children(self, folder: str) -> tuple[list[str], list[Entry]]:
        """Folders (their paths) and files of a folder; "" is the place itself. Links to folders are left out, so that loops end."""

    def info(self, path: str) -> Entry:
        """A file's entry; FileNotFoundError where there is none."""

    def read(self, path: str) -> bytes:
        """A file's bytes."""

    def open(self, path: str) -> BinaryIO:
        """A file as a stream."""

    def put(self, path: str, data: bytes) -> None:
        """Write a file, replacing what was there."""

    def put_file(self, path: str, local: Path) -> None:
        """Move a file of :meth:`scratch` to its place, replacing what was there."""

    def create(self, path: str, data: bytes) -> bool:
        """Write a file unless there is one; whether it was written."""

    def remove(self, path: str) -> None:
        """Remove a file; none being there is fine."""

    def scratch(self) -> Path:
        """A name in a local folder, for a file that is still being written."""


class Disk:
    """A folder of this machine, network shares included."""

    def __init__(self, root: Path, scratch: str = "") -> None:
        """
        Args:
            root: the folder; made on the first put.
            scratch: name of the folder for unfinished files within CORNER, and so on the same file system as the finished ones.
        """
        self.root = root
        self._scratch = root / CORNER / "parts" / scratch

    def children(self, folder: str) -> tuple[list[str], list[Entry]]:
        """Files with their sizes cost a look at each."""
        folders, found = [], []
        with os.scandir(self.root / folder) as items:
            for item in items:
                path = f"{folder}/{item.name}" if folder else item.name
                if item.is_dir(follow_symlinks=False):
                    folders.append(path)
                elif item.is_file():
                    found.append(_entry(path, item.stat()))
        return folders, found

    def info(self, path: str) -> Entry:
        """A look at the file."""
        return _entry(path, os.stat(self.root / path))

    def read(self, path: str) -> bytes:
        """No more than the beginning of what is no picture."""
        return files.read(self.root / path)

    def open(self, path: str) -> BinaryIO:
        """A plain file."""
        return open(self.root / path, "rb")

    def put(self, path: str, data: bytes) -> None:
        """Under another name, then renamed."""
        local = self.scratch()
        try:
            with open(local, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            self.put_file(path, local)
        finally:
            local.unlink(missing_ok=True)

    def put_file(self, path: str, local: Path) -> None:
        """A rename; missing folders are made."""
        target = self.root / path
        try:
            os.replace(local, target)
        except FileNotFoundError:
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(local, target)

    def create(self, path: str, data: bytes) -> bool:
        """Exclusively."""
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(target, "xb") as file:
                file.write(data)
        except FileExistsError:
            return False
        return True

    def remove(self, path: str) -> None:
        """At once."""
        (self.root / path).unlink(missing_ok=True)

    def scratch(self) -> Path:
        """On the file system of the finished files."""
        self._scratch.mkdir(parents=True, exist_ok=True)
        return self._scratch / f"{secrets.token_hex(8)}.part"

    def clear_scratch(self) -> None:
        """Remove what a killed run has left unfinished."""
        shutil.rmtree(self._scratch, ignore_errors=True)


class Remote:
    """Anything that fsspec knows by a URL; what fails is tried again a few times, ever later."""

    def __init__(self, url: str) -> None:
        """
        Args:
            url: such as s3://bucket/folder or zip://::archive.zip.

        Raises:
            DependencyError: fsspec, or its file system for such URLs, is not installed.
            StoreError: nobody knows such URLs.
        """
        try:
            from fsspec.core import url_to_fs  # type: ignore[import-untyped]

            # A listing that is kept would hold on to what has changed since, and to the memory for it.
            self._fs, root = url_to_fs(url, use_listings_cache=False)
        except ImportError as error:
            raise DependencyError(f"{url}: {error}; URLs need: pip install 'redecode[bulk]'") from None
        except ValueError as error:
            raise StoreError(f"{url}: {error}") from None
        self._root = str(root).rstrip("/")
        self._url = url

    def children(self, folder: str) -> tuple[list[str], list[Entry]]:
        """One request for each thousand."""
        folders, found = [], []
        start = self._full(folder)
        for info in self._patiently(self._fs.ls, start, detail=True):
            full = str(info["name"]).rstrip("/")
            if full.strip("/") == start.strip("/"):
                continue  # Some stores keep an empty object of the folder's own name.
            path = full.strip("/").removeprefix(self._root.strip("/")).lstrip("/")
            if info["type"] == "directory":
                folders.append(path)
            else:
                found.append(_remote_entry(path, info))
        return folders, found

    def info(self, path: str) -> Entry:
        """One request."""
        return _remote_entry(path, self._patiently(self._fs.info, self._full(path)))

    def read(self, path: str) -> bytes:
        """One request."""
        data: bytes = self._patiently(self._fs.cat_file, self._full(path))
        if len(data) > files.MAX_BYTES:
            raise TooLargeError(f"the file is larger than {files.MAX_BYTES >> 20} MiB")
        return data

    def open(self, path: str) -> BinaryIO:
        """Read block by block."""
        stream: BinaryIO = self._patiently(self._fs.open, self._full(path), "rb")
        return stream

    def put(self, path: str, data: bytes) -> None:
        """One request, or one upload in parts that is completed at the end."""
        self._patiently(self._fs.pipe_file, self._full(path), data)

    def put_file(self, path: str, local: Path) -> None:
        """As with :meth:`put`."""
        self._patiently(self._fs.put_file, str(local), self._full(path))
        local.unlink()

    def create(self, path: str, data: bytes) -> bool:
        """On the condition that it is not there."""
        try:
            self._patiently(self._fs.pipe_file, self._full(path), data, mode="create")
        except FileExistsError:
            # Ours, where the answer to a first attempt was lost.
            return self.read(path) == data
        return True

    def remove(self, path: str) -> None:
        """One request."""
        with suppress(FileNotFoundError):
            self._patiently(self._fs.rm_file, self._full(path))

    def scratch(self) -> Path:
        """In the folder for temporary files."""
        import tempfile

        return Path(tempfile.gettempdir()) / f"redecode-{secrets.token_hex(8)}.part"

    def _full(self, path: str) -> str:
        return f"{self._root}/{path}" if path and self._root else path or self._root

    def _patiently(self, call: Callable[..., _T], *arguments: Any, **named: Any) -> _T:
        for left in reversed(range(_TRIES)):
            try:
                return call(*arguments, **named)
            except _FINAL:
                raise
            except Exception as error:  # Every file system has its own errors for a bad connection or a busy server.
                if not left:
                    raise StoreError(f"{self._url}: {type(error).__name__}: {' '.join(str(error).split())}") from error
                time.sleep(random.uniform(0.5, 1) * 0.2 * 2 ** (_TRIES - 1 - left))
        raise AssertionError


def is_url(place: str) -> bool:
    return "://" in place or "::" in place


def in_one_process(place: str) -> bool:
    """Whether a place exists in the memory of this process alone."""
    return place.startswith("memory://")


def make(place: str, scratch: str = "") -> Store:
    """A place by its folder or URL.

    Raises:
        DependencyError, StoreError: see :class:`Remote`.
    """
    if place.startswith("file://"):
        place = place.removeprefix("file://")
    return Remote(place) if is_url(place) else Disk(Path(place), scratch)


def _entry(path: str, stat: os.stat_result) -> Entry:
    return Entry(path, stat.st_size, str(stat.st_mtime_ns))


def _remote_entry(path: str, info: dict[str, Any]) -> Entry:
    version = next((info[key] for key in _VERSIONS if info.get(key) is not None), "")
    return Entry(path, int(info.get("size") or 0), str(version).strip('"'))
