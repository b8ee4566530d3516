"""Stores of files: folders of this machine, zip archives, and every file system that fsspec supports.

Paths within a store are relative, with "/" between their parts. Writes are atomic, and never outside the store.
"""

from __future__ import annotations

import errno
import lzma
import os
import posixpath
import random
import secrets
import shutil
import tempfile
import time
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypeVar, cast

from .. import files
from ..errors import DependencyError, RedecodeError, TooLargeError, UnreadableError, UsageError
from . import names

_T = TypeVar("_T")
_TRIES = 6
# Errors that a retry does not help against.
_FINAL = (FileNotFoundError, FileExistsError, PermissionError, IsADirectoryError, NotADirectoryError, NotImplementedError, TypeError)
# Fields of a listing that change with a file's content, the most reliable first: S3 and others, GCS, HTTP, file systems, zip archives.
_VERSIONS = ("ETag", "etag", "md5Hash", "content_md5", "LastModified", "mtime", "created", "CRC")

_ARCHIVES = ("zip://", "tar://")


class StoreError(RedecodeError):
    """A store refused a request, or failed repeatedly."""


@dataclass(frozen=True)
class Entry:
    """A file in a listing.

    Attributes:
        path: path relative to the store.
        size: size in bytes.
        version: text that changes with the content: the store's ETag if it has one, else the time of the last change.
    """

    path: str
    size: int
    version: str


class Source(Protocol):
    """A store to read from. All methods raise OSError or RedecodeError on failure, StoreError where a later retry might help."""

    def children(self, folder: str) -> tuple[list[str], list[Entry]]:
        """List a folder: the paths of its folders, and its files. The folder "" is the store's root.

        Links to folders are left out, as they could form loops. A path that ends with "/" is a folder with an empty name (from a key such
        as "a//b.jpg"), which cannot be listed.
        """

    def info(self, path: str) -> Entry:
        """A file's entry; raises FileNotFoundError if the file does not exist."""

    def read(self, path: str) -> bytes:
        """A file's content; if it is not a picture, possibly only its beginning."""

    def local(self, path: str) -> AbstractContextManager[Path]:
        """A local file with the same content, which exists while the context is open."""


class Store(Source, Protocol):
    """A store to read from and write to. Writing to a path outside the store raises UnsafeNameError and changes nothing."""

    def open(self, path: str) -> BinaryIO:
        """Open a file for reading."""

    def put(self, path: str, data: bytes) -> None:
        """Write a file, replacing an existing one."""

    def put_file(self, path: str, local: Path) -> None:
        """Move a file of :meth:`scratch` into the store, replacing an existing one."""

    def create(self, path: str, data: bytes) -> bool:
        """Write a file unless it exists; return whether it was written."""

    def remove(self, path: str) -> None:
        """Remove a file if it exists."""

    def scratch(self) -> Path:
        """A path in a local folder for an unfinished file."""


class Disk:
    """A folder of this machine, network shares included."""

    def __init__(self, root: Path, scratch: str = "") -> None:
        """
        Args:
            root: the folder; created by the first write.
            scratch: name of the folder for unfinished files. It lies in CORNER, so that finished files can be renamed into place.
        """
        self.root = root
        self._scratch = root / names.CORNER / "parts" / scratch

    def children(self, folder: str) -> tuple[list[str], list[Entry]]:
        """List a folder; each file costs a call of stat."""
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
        """A file's entry, from stat."""
        return _entry(path, os.stat(self.root / path))

    def read(self, path: str) -> bytes:
        """A file's content; only its beginning if it is not a picture."""
        return files.read(self.root / path)

    @contextmanager
    def local(self, path: str) -> Iterator[Path]:
        """The file itself."""
        yield self.root / path

    def open(self, path: str) -> BinaryIO:
        """Open the file."""
        return open(self.root / path, "rb")

    def put(self, path: str, data: bytes) -> None:
        """Write to a temporary file, then rename it."""
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
        """Rename the file; missing folders are created."""
        target = self._target(path)
        try:
            os.replace(local, target)
        except FileNotFoundError:
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(local, target)

    def create(self, path: str, data: bytes) -> bool:
        """Open the file in exclusive mode and write it."""
        target = self._target(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(target, "xb") as file:
                file.write(data)
        except FileExistsError:
            return False
        return True

    def remove(self, path: str) -> None:
        """Delete the file."""
        self._target(path).unlink(missing_ok=True)

    def scratch(self) -> Path:
        """A path on the same file system as the finished files."""
        self._scratch.mkdir(parents=True, exist_ok=True)
        return self._scratch / f"{secrets.token_hex(8)}.part"

    def clear_scratch(self) -> None:
        """Remove unfinished files that a killed run has left."""
        shutil.rmtree(self._scratch, ignore_errors=True)

    def _target(self, path: str) -> Path:
        names.refuse_unsafe(path)
        target: Path = self.root / path
        # A link in the output may lead anywhere, even to the input files.
        if not _holds(os.path.realpath(self.root), os.path.realpath(target.parent)):
            raise names.UnsafeNameError(f"a link leads from {target.parent} out of the output; the file was left out")
        return target


class Remote:
    """A store that fsspec accesses by a URL. Failed requests are retried a few times, with growing delays."""

    def __init__(self, url: str) -> None:
        """
        Args:
            url: URL of the store's root, for example s3://bucket/folder or zip://::archive.zip.

        Raises:
            DependencyError: fsspec, or its file system for this URL, is not installed.
            StoreError: fsspec does not support this URL.
        """
        self._fs, root = _connect(url)
        self._root = root.rstrip("/")
        self._url = url

    def children(self, folder: str) -> tuple[list[str], list[Entry]]:
        """List a folder, with one request for each thousand entries on most object stores."""
        folders, found = [], []
        start = self._full(folder)
        for info in self._retry(self._fs.ls, start, detail=True):
            full = str(info["name"]).rstrip("/")
            if full.strip("/") == start.strip("/"):
                # Some stores keep an empty object with the folder's own name: skip it. A folder of that name is one with an empty name.
                folders += [f"{folder}/"] if info["type"] == "directory" and str(info["name"]).endswith("/") else []
                continue
            path = full.strip("/").removeprefix(self._root.strip("/")).lstrip("/")
            if info["type"] == "directory":
                folders.append(path)
            else:
                found.append(_remote_entry(path, info))
        return folders, found

    def info(self, path: str) -> Entry:
        """A file's entry, with one request."""
        return _remote_entry(path, self._retry(self._fs.info, self._full(path)))

    def read(self, path: str) -> bytes:
        """A file's content, with one request.

        Raises:
            TooLargeError: the file is larger than files.MAX_BYTES.
        """
        data: bytes = self._retry(self._fs.cat_file, self._full(path))
        if len(data) > files.MAX_BYTES:
            raise TooLargeError(f"the file is larger than {files.MAX_BYTES >> 20} MiB")
        return data

    @contextmanager
    def local(self, path: str) -> Iterator[Path]:
        """A copy in the system's folder for temporary files."""
        with _temporary() as copy:
            self._retry(self._fs.get_file, self._full(path), str(copy))
            yield copy

    def open(self, path: str) -> BinaryIO:
        """Open the file; fsspec reads it block by block."""
        stream: BinaryIO = self._retry(self._fs.open, self._full(path), "rb")
        return stream

    def put(self, path: str, data: bytes) -> None:
        """Write a file with one request, or with a multipart upload, which appears when it is complete."""
        self._retry(self._fs.pipe_file, self._target(path), data)

    def put_file(self, path: str, local: Path) -> None:
        """Upload the file like :meth:`put`, then delete the local file."""
        self._retry(self._fs.put_file, str(local), self._target(path))
        local.unlink()

    def create(self, path: str, data: bytes) -> bool:
        """Write the file with a conditional request, which fails if the file exists."""
        try:
            self._retry(self._fs.pipe_file, self._target(path), data, mode="create")
        except FileExistsError:
            # If the content is ours, a first attempt succeeded and only its answer was lost.
            return self.read(path) == data
        return True

    def remove(self, path: str) -> None:
        """Remove a file, with one request."""
        with suppress(FileNotFoundError):
            self._retry(self._fs.rm_file, self._target(path))

    def scratch(self) -> Path:
        """A path in the system's folder for temporary files."""
        return _temporary_name()

    def _target(self, path: str) -> str:
        names.refuse_unsafe(path)
        return self._full(path)

    def _full(self, path: str) -> str:
        return f"{self._root}/{path}" if path and self._root else path or self._root

    def _retry(self, call: Callable[..., _T], *arguments: Any, **named: Any) -> _T:
        for left in reversed(range(_TRIES)):
            try:
                return call(*arguments, **named)
            except _FINAL:
                raise
            except Exception as error:  # Each file system has its own errors for a bad connection or a busy server.
                if not left:
                    raise StoreError(f"{self._url}: {type(error).__name__}: {' '.join(str(error).split())}") from error
                time.sleep(random.uniform(0.5, 1) * 0.2 * 2 ** (_TRIES - 1 - left))
        raise AssertionError


class Zip:
    """The files of a zip archive, read-only."""

    def __init__(self, url: str) -> None:
        """
        Args:
            url: zip://FOLDER::ARCHIVE, where FOLDER may be empty and ARCHIVE is a path or a URL.

        Raises:
            OSError, DependencyError, StoreError: the archive cannot be read.
            UnreadableError: the archive is damaged, or not a zip archive.
        """
        head, _, archive = url.partition("::")
        folder = head.partition("://")[2].strip("/")
        root = f"{folder}/" if folder else ""
        file = _folder(archive)
        try:
            self._zip = zipfile.ZipFile(file if file is not None else Remote(archive).open(""))
        except zipfile.BadZipFile as error:
            raise UnreadableError(f"{archive}: this is no zip archive, or it is damaged: {error}") from None
        members = [member for member in self._zip.infolist() if not member.is_dir() and member.filename.startswith(root)]
        self._members = _by_name([(member.filename.removeprefix(root), member) for member in members])
        self._folders: dict[str, tuple[set[str], list[Entry]]] = {"": (set(), [])}
        for path in self._members:
            self._list(path)

    def children(self, folder: str) -> tuple[list[str], list[Entry]]:
        """List a folder, from memory. Files with unsafe paths are listed in the root, so that none is overlooked."""
        folders, found = self._folders[folder]
        return list(folders), found

    def info(self, path: str) -> Entry:
        """A file's entry, from memory."""
        if path not in self._members:
            raise FileNotFoundError(errno.ENOENT, "no such file", path)
        member = self._members[path]
        return Entry(path, member.file_size, str(member.CRC))

    def read(self, path: str) -> bytes:
        """A file's content, with its checksum verified; only its beginning if it is not a picture."""
        with self._opened(path) as file:
            return files.read_from(file)

    @contextmanager
    def local(self, path: str) -> Iterator[Path]:
        """A copy in the system's folder for temporary files."""
        with _temporary() as copy:
            with self._opened(path) as file, open(copy, "xb") as target:
                shutil.copyfileobj(file, target)
            yield copy

    @contextmanager
    def _opened(self, path: str) -> Iterator[BinaryIO]:
        try:
            with self._zip.open(self._members[path]) as file:
                yield cast(BinaryIO, file)
        # Wrong checksum, encryption, unknown compression, truncated data.
        except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, RuntimeError, EOFError) as error:
            raise UnreadableError(f"it cannot be read from its zip archive: {error}") from error

    def _list(self, path: str) -> None:
        try:
            names.refuse_result(path)
            folder = posixpath.dirname(path)
        except names.UnsafeNameError:
            folder = ""
        self._folders.setdefault(folder, (set(), []))[1].append(self.info(path))
        while folder:
            parent = posixpath.dirname(folder)
            self._folders.setdefault(parent, (set(), []))[0].add(folder)
            folder = parent


def _by_name(members: list[tuple[str, _T]]) -> dict[str, _T]:
    """Members by their names. Of several of one name the last has it, as after unpacking; the first is called a~1.jpg, and so on."""
    found = dict(members)
    earlier = Counter(name for name, _ in members) - Counter(found.keys())
    for name, member in members:
        if earlier[name] > 0:
            earlier[name] -= 1
            stem, suffix = posixpath.splitext(name)
            found[next(free for number in count(1) if (free := f"{stem}~{number}{suffix}") not in found)] = member
    return found


def is_url(place: str) -> bool:
    return "://" in place or "::" in place


def in_one_process(place: str) -> bool:
    """Whether a store exists in the memory of this process only."""
    return place.startswith("memory://")


def source(place: str) -> Source:
    """Open a store for reading, given its folder or URL.

    Raises:
        OSError, RedecodeError: see :class:`Remote` and :class:`Zip`.
    """
    if place.startswith("zip://"):
        return Zip(place)
    if place.startswith("tar://"):
        raise UsageError(f"{place}: name the archive itself, without tar://; the result is a tar archive too")
    return make(place)


def make(place: str, scratch: str = "") -> Store:
    """Open a store for reading and writing, given its folder or URL.

    Args:
        place: a folder, or a URL that fsspec supports.
        scratch: name of the folder for unfinished files, see :class:`Disk`.

    Raises:
        UsageError: the store is an archive.
        DependencyError, StoreError: see :class:`Remote`.
    """
    if place.startswith(_ARCHIVES):
        raise UsageError(f"{place}: results go into a folder or an object store, not into an archive")
    folder = _folder(place)
    return Disk(Path(folder), scratch) if folder is not None else Remote(place)


def nested(one: str, other: str) -> bool:
    """Whether one of two stores lies within the other, also where they are named by links, URLs or through caches.

    Raises:
        DependencyError, StoreError: see :class:`Remote`.
    """
    if any(place.startswith(_ARCHIVES) for place in (one, other)):
        # Members of an archive are not files of a folder.
        return False
    folders = _folder(one), _folder(other)
    if folders[0] is not None and folders[1] is not None:
        paths = os.path.realpath(folders[0]), os.path.realpath(folders[1])
        return _lies_within(*paths) or _lies_within(*paths[::-1])
    if folders != (None, None):
        return False
    (fs, path), (other_fs, other_path) = (_innermost(*_connect(place)) for place in (one, other))
    path, other_path = (posixpath.normpath(f"/{place.strip('/')}") for place in (path, other_path))
    return _same_server(fs, other_fs) and (_holds(path, other_path, "/") or _holds(other_path, path, "/"))


def _folder(place: str) -> str | None:
    """The local folder or file that a path or URL refers to; None if it is remote."""
    if not is_url(place):
        return place
    if "::" not in place and place[:7].lower() == "file://":
        return place[7:].removeprefix("localhost")
    fs, path = _innermost(*_connect(place))
    from fsspec.implementations.local import LocalFileSystem  # type: ignore[import-untyped]

    return path if isinstance(fs, LocalFileSystem) else None


def _connect(url: str) -> tuple[Any, str]:
    """The file system behind a URL, and the path within it.

    Raises:
        DependencyError: fsspec, or its file system for this URL, is not installed.
        StoreError: fsspec does not support this URL.
    """
    try:
        from fsspec.core import url_to_fs  # type: ignore[import-untyped]

        # A cached listing would be outdated when files change, and would take memory.
        fs, path = url_to_fs(url, use_listings_cache=False)
    except ImportError as error:
        raise DependencyError(f"{url}: {error}; URLs need: pip install 'redecode[bulk]'") from None
    except ValueError as error:
        raise StoreError(f"{url}: {error}") from None
    return fs, str(path)


def _innermost(fs: Any, path: str) -> tuple[Any, str]:
    """The file system behind fsspec's caching and directory file systems, and the path there."""
    from fsspec.implementations.cached import CachingFileSystem  # type: ignore[import-untyped]
    from fsspec.implementations.dirfs import DirFileSystem  # type: ignore[import-untyped]

    while isinstance(fs, (CachingFileSystem, DirFileSystem)):
        path = f"{fs.path}/{path}" if isinstance(fs, DirFileSystem) else path
        fs = fs.fs
    return fs, path


def _same_server(one: Any, other: Any) -> bool:
    """Whether two file systems access the same server: same class, and no option that differs."""
    if type(one) is not type(other):
        return False
    options = one.storage_options, other.storage_options
    return all(options[0][name] == options[1][name] for name in options[0].keys() & options[1].keys())


def _lies_within(inner: str, outer: str) -> bool:
    """Whether a local folder is the folder `outer` or lies in it, also where a folder is mounted at two paths."""
    above = (str(path) for path in (Path(inner), *Path(inner).parents))
    return _holds(outer, inner) or (os.path.exists(outer) and any(os.path.exists(p) and os.path.samefile(p, outer) for p in above))


def _holds(outer: str, inner: str, separator: str = os.sep) -> bool:
    outer, inner = (os.path.normcase(path).rstrip(separator) + separator for path in (outer, inner))
    return inner.startswith(outer)


@contextmanager
def _temporary() -> Iterator[Path]:
    path = _temporary_name()
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def _temporary_name() -> Path:
    return Path(tempfile.gettempdir()) / f"redecode-{secrets.token_hex(8)}.part"


def _entry(path: str, stat: os.stat_result) -> Entry:
    return Entry(path, stat.st_size, str(stat.st_mtime_ns))


def _remote_entry(path: str, info: dict[str, Any]) -> Entry:
    version = next((info[key] for key in _VERSIONS if info.get(key) is not None), "")
    return Entry(path, int(info.get("size") or 0), str(version).strip('"'))
