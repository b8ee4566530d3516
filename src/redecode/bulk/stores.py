"""Places that hold files: folders of this machine, zip archives, and whatever fsspec has a file system for.

Paths within a place are relative and have "/" between their parts. What is put is either whole or not there, and never outside the place.
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
# What no second attempt would change.
_FINAL = (FileNotFoundError, FileExistsError, PermissionError, IsADirectoryError, NotADirectoryError, NotImplementedError, TypeError)
# Whatever of a listing changes with a file's content, the best first: S3 and others, GCS, HTTP, file systems, zip archives.
_VERSIONS = ("ETag", "etag", "md5Hash", "content_md5", "LastModified", "mtime", "created", "CRC")

_ARCHIVES = ("zip://", "tar://")


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


class Source(Protocol):
    """A place to read from. All methods raise OSError or RedecodeError where it fails, StoreError where a second try might help."""

    def children(self, folder: str) -> tuple[list[str], list[Entry]]:
        """Folders (their paths) and files of a folder; "" is the place itself. Links to folders are left out, so that loops end.

        A path with "/" at its end is a folder without a name (the key "a//b.jpg"), which cannot be listed.
        """

    def info(self, path: str) -> Entry:
        """A file's entry; FileNotFoundError where there is none."""

    def read(self, path: str) -> bytes:
        """A file's bytes; of what is no picture, perhaps the first few only."""

    def local(self, path: str) -> AbstractContextManager[Path]:
        """A file of this machine with the same content, for as long as the context lasts."""


class Store(Source, Protocol):
    """A place to read from and write to. Writing raises UnsafeNameError for a path outside the place, and leaves all as it was."""

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
        self._scratch = root / names.CORNER / "parts" / scratch

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

    @contextmanager
    def local(self, path: str) -> Iterator[Path]:
        """The file itself."""
        yield self.root / path

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
        target = self._target(path)
        try:
            os.replace(local, target)
        except FileNotFoundError:
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(local, target)

    def create(self, path: str, data: bytes) -> bool:
        """Exclusively."""
        target = self._target(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(target, "xb") as file:
                file.write(data)
        except FileExistsError:
            return False
        return True

    def remove(self, path: str) -> None:
        """At once."""
        self._target(path).unlink(missing_ok=True)

    def scratch(self) -> Path:
        """On the file system of the finished files."""
        self._scratch.mkdir(parents=True, exist_ok=True)
        return self._scratch / f"{secrets.token_hex(8)}.part"

    def clear_scratch(self) -> None:
        """Remove what a killed run has left unfinished."""
        shutil.rmtree(self._scratch, ignore_errors=True)

    def _target(self, path: str) -> Path:
        names.refuse_unsafe(path)
        target: Path = self.root / path
        # A link within the output may lead anywhere, be it to the very files that are restored.
        if not _holds(os.path.realpath(self.root), os.path.realpath(target.parent)):
            raise names.UnsafeNameError(f"a link leads from {target.parent} out of the output; it was left out")
        return target


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
        self._fs, root = _connect(url)
        self._root = root.rstrip("/")
        self._url = url

    def children(self, folder: str) -> tuple[list[str], list[Entry]]:
        """One request for each thousand."""
        folders, found = [], []
        start = self._full(folder)
        for info in self._patiently(self._fs.ls, start, detail=True):
            full = str(info["name"]).rstrip("/")
            if full.strip("/") == start.strip("/"):
                # Some stores keep an empty object of the folder's own name; a folder of that name is one without a name.
                folders += [f"{folder}/"] if info["type"] == "directory" and str(info["name"]).endswith("/") else []
                continue
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

    @contextmanager
    def local(self, path: str) -> Iterator[Path]:
        """A copy in the folder for temporary files."""
        with _temporary() as copy:
            self._patiently(self._fs.get_file, self._full(path), str(copy))
            yield copy

    def open(self, path: str) -> BinaryIO:
        """Read block by block."""
        stream: BinaryIO = self._patiently(self._fs.open, self._full(path), "rb")
        return stream

    def put(self, path: str, data: bytes) -> None:
        """One request, or one upload in parts that is completed at the end."""
        self._patiently(self._fs.pipe_file, self._target(path), data)

    def put_file(self, path: str, local: Path) -> None:
        """As with :meth:`put`."""
        self._patiently(self._fs.put_file, str(local), self._target(path))
        local.unlink()

    def create(self, path: str, data: bytes) -> bool:
        """On the condition that it is not there."""
        try:
            self._patiently(self._fs.pipe_file, self._target(path), data, mode="create")
        except FileExistsError:
            # Ours, where the answer to a first attempt was lost.
            return self.read(path) == data
        return True

    def remove(self, path: str) -> None:
        """One request."""
        with suppress(FileNotFoundError):
            self._patiently(self._fs.rm_file, self._target(path))

    def scratch(self) -> Path:
        """In the folder for temporary files."""
        return _temporary_name()

    def _target(self, path: str) -> str:
        names.refuse_unsafe(path)
        return self._full(path)

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


class Zip:
    """The files of a zip archive; it is never written to."""

    def __init__(self, url: str) -> None:
        """
        Args:
            url: zip://FOLDER::ARCHIVE, where FOLDER may be empty and ARCHIVE is a file or its URL.

        Raises:
            OSError, DependencyError, StoreError: the archive is out of reach.
            UnreadableError: it is damaged, or no zip archive.
        """
        head, _, archive = url.partition("::")
        folder = head.partition("://")[2].strip("/")
        root = f"{folder}/" if folder else ""
        file = _folder(archive)
        try:
            self._zip = zipfile.ZipFile(file if file is not None else Remote(archive).open(""))
        except zipfile.BadZipFile as error:
            raise UnreadableError(f"{archive}: this is no whole zip archive: {error}") from None
        members = [member for member in self._zip.infolist() if not member.is_dir() and member.filename.startswith(root)]
        self._members = _by_name([(member.filename.removeprefix(root), member) for member in members])
        self._folders: dict[str, tuple[set[str], list[Entry]]] = {"": (set(), [])}
        for path in self._members:
            self._list(path)

    def children(self, folder: str) -> tuple[list[str], list[Entry]]:
        """From memory. Files whose paths make no sense as such are listed in the place itself, so that none is overlooked."""
        folders, found = self._folders[folder]
        return list(folders), found

    def info(self, path: str) -> Entry:
        """From memory."""
        if path not in self._members:
            raise FileNotFoundError(errno.ENOENT, "no such file", path)
        member = self._members[path]
        return Entry(path, member.file_size, str(member.CRC))

    def read(self, path: str) -> bytes:
        """Checked; no more than the beginning of what is no picture."""
        with self._opened(path) as file:
            return files.read_from(file)

    @contextmanager
    def local(self, path: str) -> Iterator[Path]:
        """A copy in the folder for temporary files."""
        with _temporary() as copy:
            with self._opened(path) as file, open(copy, "xb") as target:
                shutil.copyfileobj(file, target)
            yield copy

    @contextmanager
    def _opened(self, path: str) -> Iterator[BinaryIO]:
        try:
            with self._zip.open(self._members[path]) as file:
                yield cast(BinaryIO, file)
        # Wrong checksums, encryption, unknown compression, data that end early.
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
    """Whether a place exists in the memory of this process alone."""
    return place.startswith("memory://")


def source(place: str) -> Source:
    """A place to read from, by its folder or URL.

    Raises:
        OSError, RedecodeError: see :class:`Remote` and :class:`Zip`.
    """
    if place.startswith("zip://"):
        return Zip(place)
    if place.startswith("tar://"):
        raise UsageError(f"{place}: name the archive itself, without tar://; the result is a tar archive too")
    return make(place)


def make(place: str, scratch: str = "") -> Store:
    """A place to read from and write to, by its folder or URL.

    Args:
        place: a folder, or what fsspec knows by a URL.
        scratch: see :class:`Disk`.

    Raises:
        UsageError: it is an archive.
        DependencyError, StoreError: see :class:`Remote`.
    """
    if place.startswith(_ARCHIVES):
        raise UsageError(f"{place}: results go into a folder or an object store, not into an archive")
    folder = _folder(place)
    return Disk(Path(folder), scratch) if folder is not None else Remote(place)


def nested(one: str, other: str) -> bool:
    """Whether one of two places lies within the other, however each of them is spelled: by links, URLs, or caches before them.

    Raises:
        DependencyError, StoreError: see :class:`Remote`.
    """
    if any(place.startswith(_ARCHIVES) for place in (one, other)):
        # What is read there is no file of its own.
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
    """The folder, or the file, of this machine that a place means; None if it means none."""
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
        DependencyError: fsspec, or its file system for such URLs, is not installed.
        StoreError: nobody knows such URLs.
    """
    try:
        from fsspec.core import url_to_fs  # type: ignore[import-untyped]

        # A listing that is kept would hold on to what has changed since, and to the memory for it.
        fs, path = url_to_fs(url, use_listings_cache=False)
    except ImportError as error:
        raise DependencyError(f"{url}: {error}; URLs need: pip install 'redecode[bulk]'") from None
    except ValueError as error:
        raise StoreError(f"{url}: {error}") from None
    return fs, str(path)


def _innermost(fs: Any, path: str) -> tuple[Any, str]:
    """The file system behind caches and folders that pass for file systems of their own, and the path there."""
    from fsspec.implementations.cached import CachingFileSystem  # type: ignore[import-untyped]
    from fsspec.implementations.dirfs import DirFileSystem  # type: ignore[import-untyped]

    while isinstance(fs, (CachingFileSystem, DirFileSystem)):
        path = f"{fs.path}/{path}" if isinstance(fs, DirFileSystem) else path
        fs = fs.fs
    return fs, path


def _same_server(one: Any, other: Any) -> bool:
    """Whether two file systems are one, as far as their options tell."""
    if type(one) is not type(other):
        return False
    options = one.storage_options, other.storage_options
    return all(options[0][name] == options[1][name] for name in options[0].keys() & options[1].keys())


def _lies_within(inner: str, outer: str) -> bool:
    """Whether a folder of this machine is another one or lies in it, also where one is mounted at two places."""
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
