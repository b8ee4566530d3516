"""Files: reading pictures, writing results atomically, choosing their names, and error messages in one line."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from io import BytesIO
from itertools import chain, count
from pathlib import Path
from typing import BinaryIO

from .codec import formats, tiff
from .codec.formats import FormatName
from .errors import OutputExistsError, RedecodeError, TooLargeError, UnreadableError

# Suffixes of files that are restored when found in a folder. Pictures in other formats are restored only if named, as most of those in a
# folder have never been JPEGs.
INPUT_SUFFIXES = {".jpg", ".jpeg", ".jpe", ".jfif", ".pjpeg", ".pjp", ".mpo"}
# Path that means stdin as a source, and stdout as a target.
STANDARD = Path("-")
# Maximum size of a file in bytes: larger than any JPEG with the maximum number of pixels.
MAX_BYTES = 1 << 30
# Signatures of the formats that redecode reads: JPEG, PNG, GIF, BMP, TIFF, WebP; and AVIF, from its fifth byte on. Of other files, only the
# first bytes are read.
_SIGNATURES, _BRAND = (b"\xff\xd8", b"\x89PNG", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"RIFF"), b"ftyp"
_SIGNATURE_LENGTH = 12
_CHUNK = 1 << 20


def refuse_existing(target: Path) -> None:
    """Refuse a target that exists already, even as a broken link.

    Raises:
        OutputExistsError: the target exists.
    """
    if target != STANDARD and os.path.lexists(target):
        raise OutputExistsError(f"{target} exists already; give --overwrite to replace it")


def read(source: Path) -> bytes:
    """Read a picture file or stdin. Of other files, read only the first bytes, which suffice to refuse them.

    Raises:
        OSError: the file cannot be read.
        UnreadableError: stdin is a terminal.
        TooLargeError: the file is larger than MAX_BYTES.
    """
    if source == STANDARD:
        if sys.stdin.isatty():
            raise UnreadableError("stdin is a terminal; send a picture into it")
        return read_from(sys.stdin.buffer)
    with open(source, "rb") as file:
        return read_from(file)


def read_from(file: BinaryIO) -> bytes:
    """Like :func:`read`, from an open file.

    Raises:
        TooLargeError: the file is larger than MAX_BYTES.
    """
    start = file.read(_SIGNATURE_LENGTH)
    if not start.startswith(_SIGNATURES) and start[4:8] != _BRAND:
        return start
    # A BytesIO grows in place, and getvalue() does not copy.
    whole = BytesIO()
    whole.write(start)
    while chunk := file.read(_CHUNK):
        whole.write(chunk)
        if whole.tell() > MAX_BYTES:
            raise TooLargeError(f"the file is larger than {MAX_BYTES >> 20} MiB")
    return whole.getvalue()


def format_of(source: Path) -> FormatName | None:
    """The format of a picture file by its first bytes; None if it is unknown or the file cannot be read."""
    try:
        if not os.path.isfile(source):
            return None
        with open(source, "rb") as file:
            return formats.format_of(file.read(_SIGNATURE_LENGTH))
    except OSError:
        return None


def page_count(source: Path) -> int:
    """Number of pages of a TIFF file; 1 for any other file, and if the file cannot be read."""
    if format_of(source) != "tiff":
        return 1
    try:
        with open(source, "rb") as file:
            return tiff.page_count(file)
    except OSError:
        return 1


def distinct_names(names: Iterable[str], suffix: str, taken: Collection[str] = ()) -> dict[str, str]:
    """Choose distinct names for the results of files.

    The suffix is replaced: `a.jpg` becomes `a.png`. If several files would have the same result, the .jpg file, or else the first in sorted
    order, gets that name; the others keep their own suffix before the new one.

    Args:
        names: paths of the files.
        suffix: suffix of the results, with its dot.
        taken: paths that no result may have.

    Returns:
        The path of each result by the path of its file.

    Examples:
        >>> distinct_names(["a.jpeg", "a.jpg", "b.jpeg"], ".png")
        {'a.jpg': 'a.png', 'a.jpeg': 'a.jpeg.png', 'b.jpeg': 'b.png'}
    """
    used = {os.path.normcase(path) for path in taken}
    chosen: dict[str, str] = {}
    for name in sorted(set(names), key=lambda name: (os.path.splitext(name)[1].lower() != ".jpg", name)):
        numbered = (f"{name}-{number}{suffix}" for number in count(2))
        candidates = chain((os.path.splitext(name)[0] + suffix, name + suffix), numbered)
        chosen[name] = next(path for path in candidates if os.path.normcase(path) not in used)
        used.add(os.path.normcase(chosen[name]))
    return chosen


def save(data: bytes, target: Path, *, overwrite: bool, times_of: Path | None = None) -> None:
    """Write a file atomically: afterwards the target is either complete or unchanged. Missing folders are created.

    Args:
        data: content of the file.
        target: path of the file; STANDARD for stdout.
        overwrite: whether to replace an existing target.
        times_of: a file whose access and modification times the target gets.

    Raises:
        OutputExistsError: the target exists, even if it was created meanwhile.
        OSError: the target cannot be written.
    """
    if target == STANDARD:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with _temporary(target.parent) as (temporary, file):
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
        file.close()
        if times_of is not None:
            found = os.stat(times_of)
            os.utime(temporary, ns=(found.st_atime_ns, found.st_mtime_ns))
        _publish(temporary, target, overwrite)


@contextmanager
def _temporary(folder: Path) -> Iterator[tuple[Path, BinaryIO]]:
    """Create a hidden file with default permissions, and delete it at the end unless it was renamed."""
    # Not a picture's suffix, so that neither users nor another run take it for a picture.
    path = folder / f".redecode-{secrets.token_hex(8)}.part"
    try:
        with open(path, "xb") as file:
            yield path, file
    finally:
        path.unlink(missing_ok=True)


def _publish(temporary: Path, target: Path, overwrite: bool) -> None:
    if overwrite:
        os.replace(temporary, target)
        return
    try:
        # Unlike a rename, a link fails if the target was created meanwhile.
        os.link(temporary, target)
    except FileExistsError:
        refuse_existing(target)
        raise
    except (OSError, NotImplementedError):
        # The file system has no hard links (FAT, some network shares): check, then rename.
        refuse_existing(target)
        os.replace(temporary, target)


def reason(error: BaseException, source: Path | None = None) -> str:
    """An error as one readable line, without the name of the source, which the caller adds."""
    if isinstance(error, RedecodeError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        text = error.strerror[0].lower() + error.strerror[1:]
        name = error.filename
        return text if name is None or (source is not None and os.fspath(source) == name) else f"{text}: {os.fsdecode(name)}"
    if isinstance(error, MemoryError):
        return "there is not enough memory for this picture"
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
