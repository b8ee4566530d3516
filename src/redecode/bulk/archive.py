"""Tar archives: restore the pictures of an archive into a new archive. The input may be damaged, compressed, or malicious.

Python's tarfile takes a damaged header for the end of the archive and silently loses the members after it. This module accounts for all
bytes: each belongs to a member, is zero padding, or is reported as damage.
"""

from __future__ import annotations

import bz2
import gzip
import io
import itertools
import lzma
import posixpath
import re
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, cast

from .. import files
from ..errors import RedecodeError, TooLargeError, UnreadableError
from ..recode import Restored
from . import names
from .listing import is_picture
from .names import distinct_names

_BLOCK = tarfile.BLOCKSIZE
# Limits in bytes: an extended header (long names and the like), and a member that is kept in memory while it is copied.
_MAX_HEADER, _MAX_MEMORY = 1 << 20, 1 << 24
_MAX_SIZE = 1 << 60
_EXTENDED = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
_USTAR = slice(257, 262)


@dataclass
class Outcome:
    """The outcome of restoring an archive.

    Attributes:
        count: number of restored pictures and of failures.
        pixels: number of restored pixels.
        failures: members and bytes left out of the result, by name or position, each with the reason.
        notes: notes about the restoration of members, by their names.
    """

    count: int = 0
    pixels: int = 0
    failures: dict[str, str] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)

    def fail(self, name: str, why: str) -> None:
        """Record a member that is left out; a number distinguishes members of the same name."""
        self.count += 1
        numbered = (f"{name} ({number})" for number in itertools.count(2))
        self.failures[next(key for key in itertools.chain([name], numbered) if key not in self.failures)] = why


class DamagedError(RedecodeError):
    """A compressed archive is damaged, or ends too early."""


@dataclass(frozen=True)
class _Damage:
    """Bytes that do not belong to a valid member.

    Attributes:
        name: name of the lost member if its damaged header shows it, else the position.
        why: the reason, as a message for the user.
    """

    name: str
    why: str


def pixels(restored: Restored) -> int:
    """Number of pixels of a restored picture."""
    return restored.decoded.picture.width * restored.decoded.picture.height


def restore(path: Path, result: BinaryIO, restore_picture: Callable[[bytes, str], Restored], suffix_for: Callable[[str], str]) -> Outcome:
    """Restore the pictures of a tar archive into a new archive. Other files are copied; the order is kept.

    Args:
        path: the archive, which may be compressed with gzip, bzip2 or xz; the new archive gets the same compression.
        result: binary file to write the new archive to.
        restore_picture: function from a picture's content and the name of its result to the restored picture; its errors are recorded as
            the member's failure.
        suffix_for: function from the name of a file to the suffix of its result.

    Returns:
        The outcome. It names everything that the new archive leaves out: members that are damaged, too large or devices, links to files
        that are not in the new archive, and members whose names lead out of it.

    Raises:
        OSError: the archive cannot be read, or the new archive cannot be written.
        UnreadableError: the file is not a tar archive.
    """
    with _decompressed(path) as file:
        members = _scan(file)
    with _decompressed(path) as file, _compressed(path, result) as target, _tar_writer(target) as output:
        writer = _Writer(output, restore_picture, _output_names(members, suffix_for))
        for member in _with_damage(file, members):
            writer.add(file, member)
    if not members and writer.outcome.failures:
        raise UnreadableError("this is no tar archive, or all of it is damaged")
    return writer.outcome


class _Writer:
    """Writes the members of the new archive one by one."""

    def __init__(self, output: tarfile.TarFile, restore_picture: Callable[[bytes, str], Restored], output_names: dict[str, str]) -> None:
        self.outcome = Outcome()
        self._output, self._restore_picture, self._names = output, restore_picture, output_names
        self._written: set[str] = set()

    def add(self, file: _Stream, member: tarfile.TarInfo | _Damage) -> None:
        """Write a member, or record why it is left out."""
        if isinstance(member, _Damage):
            self.outcome.fail(member.name, member.why)
            return
        try:
            path = _clean(member.name)
            if not (member.isdir() and member.name == "."):
                names.refuse_result(path)
            if member.issparse():
                raise UnreadableError("sparse files are not supported; it was left out")
            if member.isdir():
                self._output.addfile(member)
            elif member.issym() or member.islnk():
                self._link(member)
            elif not member.isreg():
                raise UnreadableError("it is neither a file nor a folder nor a link; it was left out")
            elif is_picture(path):
                self._picture(file, member)
            else:
                self._copy(file, member)
        except OSError:
            raise
        except Exception as error:  # Any error fails this member only, as in Restorer.
            self.outcome.fail(member.name, files.reason(error))

    def _picture(self, file: _Stream, member: tarfile.TarInfo) -> None:
        if member.size > files.MAX_BYTES:
            raise TooLargeError(f"the file is larger than {files.MAX_BYTES >> 20} MiB")
        name = self._renamed(member.name)
        restored = self._restore_picture(files.read_from(cast(BinaryIO, _Content(file, member))), name)
        made = tarfile.TarInfo(name)
        made.size, made.mtime, made.mode = len(restored.data), member.mtime, member.mode
        self._output.addfile(made, io.BytesIO(restored.data))
        self._written.add(_clean(member.name))
        self.outcome.count += 1
        self.outcome.pixels += pixels(restored)
        if restored.notes:
            self.outcome.notes[member.name] = "; ".join(restored.notes)

    def _copy(self, file: _Stream, member: tarfile.TarInfo) -> None:
        # Copy to a temporary file first, so that no part of an incomplete member gets into the result.
        with tempfile.SpooledTemporaryFile(_MAX_MEMORY) as temporary:
            shutil.copyfileobj(cast(BinaryIO, _Content(file, member)), temporary)
            temporary.seek(0)
            self._output.addfile(member, cast(BinaryIO, temporary))
        self._written.add(_clean(member.name))

    def _link(self, member: tarfile.TarInfo) -> None:
        folder = posixpath.dirname(_clean(member.name))
        # A hard link names a member of the archive, a symbolic link a path relative to its own folder.
        target = _clean(member.linkname) if member.islnk() else posixpath.normpath(posixpath.join(folder, member.linkname))
        if target not in (self._written if member.islnk() else self._names):
            raise UnreadableError(f"it is a link to {member.linkname}, which is not in the result; it was left out")
        made = copy(member)
        made.name = self._renamed(member.name)
        made.linkname = self._names[target] if member.islnk() else posixpath.relpath(self._names[target], folder or ".")
        made.pax_headers = {}
        self._output.addfile(made)
        self._written.add(_clean(member.name))

    def _renamed(self, name: str) -> str:
        path = _clean(name)
        return name[: len(name) - len(path)] + self._names[path]


def _output_names(members: list[tarfile.TarInfo], suffix_for: Callable[[str], str]) -> dict[str, str]:
    """Map the path of each file and link in the archive to its path in the result, both without a leading "./"."""
    paths = {_clean(member.name) for member in members if member.isreg() or member.issym() or member.islnk()}
    pictures = {path for path in paths if is_picture(path)}
    others = {path: path for path in paths - pictures}
    return others | distinct_names(pictures, suffix_for, others)


def _clean(name: str) -> str:
    """A member's path without the leading "./" that `tar c .` writes; empty for the root folder."""
    return re.sub(r"^(\./+)+|^\.$", "", name)


def _scan(file: _Stream) -> list[tarfile.TarInfo]:
    """All members with a valid header, in their order."""
    members: list[tarfile.TarInfo] = []
    while True:
        begin = file.tell()
        try:
            # Without ignore_zeros, tarfile takes a damaged header for the end of the archive.
            with tarfile.TarFile(fileobj=cast(BinaryIO, file), ignore_zeros=True, tarinfo=_Header, encoding="utf-8") as tar:
                for member in tar:
                    members.append(member)
            return members
        except DamagedError:
            return members
        except (OSError, MemoryError):
            raise
        except Exception:  # tarfile raises many kinds of errors for invalid headers: continue after the header.
            if file.tell() <= begin:
                return members


class _Header(tarfile.TarInfo):
    """A tar header that refuses impossible sizes: tarfile would read gigabytes of header, or seek backwards."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Header:
        member = super().frombuf(buf, encoding, errors)
        if not 0 <= member.size <= _MAX_SIZE or (member.type in _EXTENDED and member.size > _MAX_HEADER):
            raise tarfile.InvalidHeaderError("its size makes no sense")  # type: ignore[attr-defined]
        return member


def _with_damage(file: _Stream, members: list[tarfile.TarInfo]) -> Iterator[tarfile.TarInfo | _Damage]:
    """The members, and the damage between and after them."""
    end: int | None = 0
    try:
        for member in members:
            if end is not None:
                yield from _gap(file, end, member.offset)
            yield member
            size = member.size if member.isreg() or member.type not in tarfile.SUPPORTED_TYPES else 0
            # The header of a sparse file does not tell how many bytes are stored.
            end = None if member.issparse() else member.offset_data + -(-size // _BLOCK) * _BLOCK
        if end is not None:
            yield from _gap(file, end, None)
    except DamagedError as error:
        yield _Damage("(the rest)", str(error))


def _gap(file: _Stream, begin: int, end: int | None) -> Iterator[_Damage]:
    """The damage between two members, or after the last one if `end` is None."""
    if begin == end:
        return
    file.seek(begin)
    position, lost = begin, False
    while (end is None or position < end) and (block := file.read(_BLOCK)):
        if block.strip(b"\0"):
            name = _name_in(block)
            if name or not lost:
                why = f"its header, at byte {position}, is damaged" if name else f"the bytes from {position} on are no member"
                yield _Damage(name or f"(byte {position})", f"{why}; what was there was left out")
            lost = True
        position += len(block)
    if end is None and not lost and position - begin < 2 * _BLOCK:
        yield _Damage("(the end)", f"the archive ends at byte {position} without an end mark, perhaps too early")


def _name_in(block: bytes) -> str:
    """The member's name in a damaged header; empty if the block is not a header."""
    raw, mode = block[:100].rstrip(b"\0"), block[100:108].strip(b" \0")
    name = raw.decode("utf-8", "replace")
    return name if name.isprintable() and (block[_USTAR] == b"ustar" or mode.isdigit()) else ""


class _Stream:
    """A file for tarfile that raises DamagedError where the compressed data are damaged."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def read(self, size: int) -> bytes:
        with _damage_errors():
            return self._file.read(size)

    def seek(self, offset: int) -> int:
        with _damage_errors():
            return self._file.seek(offset)

    def tell(self) -> int:
        return self._file.tell()


class _Content:
    """The content of a member as a readable file."""

    def __init__(self, file: _Stream, member: tarfile.TarInfo) -> None:
        self._file, self._left = file, member.size
        file.seek(member.offset_data)

    def read(self, size: int) -> bytes:
        """Read up to `size` bytes.

        Raises:
            UnreadableError: the archive ends before the member does.
        """
        wanted = min(size, self._left)
        data = self._file.read(wanted)
        if len(data) < wanted:
            raise UnreadableError("the archive ends within this member; it was left out")
        self._left -= wanted
        return data


@contextmanager
def _damage_errors() -> Iterator[None]:
    try:
        yield
    except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError) as error:
        # An OSError without errno comes from gzip or bz2, not from the system.
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise DamagedError(f"the compressed data are damaged or end too early: {error}") from error


_KINDS: dict[bytes, tuple[Callable[[Path], Any], Callable[[BinaryIO], Any]]] = {
    # Reproducible output: no file name and no time in the gzip header.
    b"\x1f\x8b": (gzip.open, lambda file: gzip.GzipFile("", "wb", 6, file, mtime=0)),
    b"BZh": (bz2.open, partial(bz2.BZ2File, mode="wb")),
    b"\xfd7zXZ": (lzma.open, partial(lzma.LZMAFile, mode="wb")),
}


def _kind(path: Path) -> tuple[Callable[[Path], Any], Callable[[BinaryIO], Any]] | None:
    with open(path, "rb") as file:
        start = file.read(8)
    return next((kind for magic, kind in _KINDS.items() if start.startswith(magic)), None)


@contextmanager
def _decompressed(path: Path) -> Iterator[_Stream]:
    kind = _kind(path)
    with kind[0](path) if kind else open(path, "rb") as file:
        yield _Stream(file)


@contextmanager
def _compressed(path: Path, result: BinaryIO) -> Iterator[BinaryIO]:
    kind = _kind(path)
    if kind is None:
        yield result
        return
    with kind[1](result) as file:
        yield file


@contextmanager
def _tar_writer(target: BinaryIO) -> Iterator[tarfile.TarFile]:
    with tarfile.open(fileobj=target, mode="w|", encoding="utf-8") as output:
        yield output
