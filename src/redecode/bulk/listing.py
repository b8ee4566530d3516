"""Listing of the files to restore: walk folders, match globs, or read a list, with at most one folder in memory at a time."""

from __future__ import annotations

import os
import posixpath
import re
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from .. import files
from ..errors import UsageError
from . import stores
from .names import CORNER
from .stores import Entry, Source

_TAR = re.compile(r".*\.(tar(\.(gz|bz2|xz))?|tgz|tbz2?|txz)", re.IGNORECASE | re.DOTALL)
_MAGIC = re.compile(r"[*?\[]")
# Number of paths of a list that are looked up at once, and number of threads that do so: they mostly wait for the store.
_CHUNK, _THREADS = 1000, 32


@dataclass(frozen=True)
class Selection:
    """The files to restore.

    Attributes:
        root: folder or URL.
        pattern: regular expression for paths relative to the root; None selects every JPEG and every tar archive.
        names: text file with one path per line; if given, these files and no others.
    """

    root: str
    pattern: re.Pattern[str] | None = None
    names: Path | None = None


@dataclass(frozen=True)
class Shard:
    """A part of an archive: the files whose path, hashed, falls to `number` of 1 … `total`."""

    number: int = 1
    total: int = 1

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Parse a shard written as "NUMBER/TOTAL", for example "3/100".

        Raises:
            UsageError: the text has another form, or the number is not within 1 … total.
        """
        match = re.fullmatch(r"(\d+)/(\d+)", text)
        if not match or not 1 <= int(match[1]) <= int(match[2]):
            raise UsageError(f"{text}: a shard is one of 1/N ... N/N")
        return cls(int(match[1]), int(match[2]))

    @property
    def name(self) -> str:
        """Name of the shard in the names of its lock and manifest, for example "3-of-100"."""
        return f"{self.number}-of-{self.total}"

    def holds(self, path: str) -> bool:
        """Whether a file belongs to this shard."""
        # The hash leaves out the suffix, so that files with the same result name belong to the same shard.
        return zlib.crc32(os.fsencode(posixpath.splitext(path)[0])) % self.total == self.number - 1


@dataclass(frozen=True)
class Batch:
    """Files that are listed together: those of a folder, or a part of a list.

    Attributes:
        folder: the folder of all these files; None for a list, whose files may lie anywhere.
        entries: the files.
        unreadable: pairs of a path that could not be read and the reason.
        pictures: paths of all pictures in the folder, selected or not, so that result names do not depend on the selection.
    """

    folder: str | None
    entries: list[Entry]
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    pictures: list[str] = field(default_factory=list)


def select(source: str, names: Path | None) -> Selection:
    """Interpret the arguments of the command line as a selection of files.

    Args:
        source: a folder, a URL, a single file, or a glob with * (within a name), ** (across folders), ? and [a-z].
        names: a text file with paths within the source, one per line.

    Raises:
        UsageError: the source does not exist, or both a glob and a list are given.
    """
    head, link, chain = source.partition("::") if stores.is_url(source) else (source, "", "")
    rest = link + chain
    if not rest and os.path.isdir(head):
        return Selection(source, names=names)
    magic = _MAGIC.search(head)
    if magic and names:
        raise UsageError("the paths of a list are relative to a folder; give either a list or a glob")
    if magic:
        cut = head.rfind("/", 0, magic.start())
        return Selection(_root(head[: cut + 1], rest), glob_pattern(head[cut + 1 :]))
    if not rest and head.lower().endswith(".zip") and (stores.is_url(head) or os.path.isfile(head)):
        return Selection(f"zip://::{head}", names=names)
    if os.path.isfile(head) or (stores.is_url(source) and _is_input(head)):
        folder, name = posixpath.split(head)
        return Selection(_root(f"{folder}/" if folder else "", rest), re.compile(re.escape(name)))
    if not stores.is_url(source):
        raise UsageError(f"{source}: there is no such file or folder")
    return Selection(source, names=names)


def _root(folder: str, rest: str) -> str:
    keeps_slash = folder.endswith("://") or folder == "/"
    return (folder if keeps_slash else folder.rstrip("/")) + rest or "."


def glob_pattern(glob: str) -> re.Pattern[str]:
    """Convert a glob into a regular expression that matches a whole path."""
    parts = re.split(r"(\*\*/|\*\*|\*|\?|\[[^]]+\])", glob)
    wild = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return re.compile("".join(wild.get(p) or (p.replace("[!", "[^") if re.fullmatch(r"\[[^]]+\]", p) else re.escape(p)) for p in parts))


def batches(store: Source, selection: Selection) -> Iterator[Batch]:
    """List the files of a selection, folder by folder.

    Raises:
        OSError, StoreError: the source or the list cannot be read.
    """
    if selection.names is not None:
        yield from _read_list(store, selection.names)
        return
    for batch in _walk(store):
        pattern = selection.pattern
        chosen = [e for e in batch.entries if (pattern.fullmatch(e.path) if pattern else _is_input(e.path))]
        yield Batch(batch.folder, chosen, batch.unreadable, [e.path for e in batch.entries if is_picture(e.path)])


def _is_input(path: str) -> bool:
    """Whether a file found in a folder is restored: pictures and tar archives are."""
    return is_tar(path) or is_picture(path)


def is_picture(path: str) -> bool:
    """Whether a file is a JPEG according to its suffix."""
    return posixpath.splitext(path)[1].lower() in files.INPUT_SUFFIXES


def _walk(store: Source) -> Iterator[Batch]:
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        if folder.endswith("/"):
            yield Batch(folder, [], [(f"{folder}/", "files in a folder with an empty name cannot be read")])
            continue
        try:
            folders, entries = store.children(folder)
        except (OSError, stores.StoreError) as error:
            if not folder:
                raise
            yield Batch(folder, [], [(f"{folder}/", files.reason(error))])
            continue
        waiting += sorted((f for f in folders if f != CORNER), reverse=True)
        yield Batch(folder, sorted(entries, key=lambda e: e.path))


def _read_list(store: Source, names: Path) -> Iterator[Batch]:
    def info(path: str) -> Entry | tuple[str, str]:
        try:
            return store.info(path)
        except (OSError, stores.StoreError) as error:
            return path, files.reason(error)

    with open(names, encoding="utf-8", errors="surrogateescape") as lines, ThreadPoolExecutor(_THREADS) as pool:
        paths = (line.rstrip("\r\n").removeprefix("./") for line in lines)
        while chunk := list(islice((path for path in paths if path), _CHUNK)):
            for path in chunk:
                if path.startswith("/") or ".." in path.split("/") or "://" in path:
                    raise UsageError(f"{names}: {path}: the paths of a list are relative to IN, and within it")
            found = list(pool.map(info, chunk))
            entries = [f for f in found if isinstance(f, Entry)]
            yield Batch(None, entries, [f for f in found if not isinstance(f, Entry)])


def is_tar(path: str) -> bool:
    """Whether a file is a tar archive, compressed or not, according to its suffix."""
    return _TAR.fullmatch(path) is not None
