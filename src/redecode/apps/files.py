"""From the paths on a command line to pairs of input and output, and from pixels to a file that is whole or not there.

Nothing heavy is imported at the top: the plan is made before the engine is loaded.
"""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from .. import formats
from ..errors import OutputExistsError, RedecodeError, TooLargeError, UnreadableError

# What a folder is searched for. Pictures of other formats are restored where they are named, but most of those in
# a folder have never been JPEGs.
INPUT_SUFFIXES = {".jpg", ".jpeg", ".jpe", ".jfif"}
# Stands for stdin among the sources, and for stdout as a target.
STANDARD = Path("-")
# A JPEG of as many pixels as are ever allowed is smaller.
MAX_BYTES = 1 << 30
# For messages.
_OUTPUT_NAMES = ", ".join(formats.OF_SUFFIX)
# How the files begin that redecode reads: JPEG, PNG, GIF, BMP, TIFF, WebP, AVIF. Of anything else no more than this is read.
_SIGNATURES = (b"\xff\xd8", b"\x89PNG", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"RIFF", b"\0\0\0")
_SIGNATURE_LENGTH = 12


class PlanError(RedecodeError):
    """The command line makes no sense as a whole: nothing is begun."""


@dataclass(frozen=True)
class Job:
    """One file to restore and where the result goes."""

    source: Path
    target: Path


@dataclass(frozen=True)
class Failure:
    """A file or folder that could not be dealt with, and why."""

    source: Path
    reason: str


def plan(
    sources: Iterable[Path], output: Path | None, *, into_folder: bool = False, suffix: str = ".png"
) -> tuple[list[Job], list[Failure]]:
    """Pair every input with its output.

    Without an output, results lie beside their inputs as `<stem>.redecoded<suffix>`, and that of stdin goes to stdout; in a
    folder they are named `<stem><suffix>`, and the subfolders of an input folder are kept.

    Args:
        sources: files and folders; folders are searched for JPEG files, subfolders included.
        output: a file (for a single input file), a folder, STANDARD, or None.
        into_folder: output is a folder even where none exists yet.
        suffix: of results whose name is not given.

    Returns:
        The jobs, and what of the sources gave none.

    Raises:
        PlanError: the output fits neither one file nor a folder, or two results, or a result and an input, would be the same file.
    """
    found: list[tuple[Path, Path]] = []  # The file, and its place within the folder that was asked for.
    failures: list[Failure] = []
    sources = list(sources)
    for source in sources:
        if source == STANDARD:
            found.append((source, Path("stdin")))
        elif os.path.isdir(source):
            files, unreadable = _search(source)
            failures += unreadable
            if not files and not unreadable:
                failures.append(Failure(source, "the folder holds no JPEG files"))
            found += [(path, path.relative_to(source)) for path in files]
        else:
            found.append((source, Path(source.name)))
    single = len(sources) == 1 and not os.path.isdir(sources[0])
    folder = _output_folder(output, single, into_folder)
    if output is None:
        beside = [path.with_name(f"{path.stem}.redecoded{suffix}") if path != STANDARD else STANDARD for path, _ in found]
        pairs = [Job(path, target) for (path, _), target in zip(found, beside, strict=True)]
    elif folder is None:
        pairs = [Job(path, output) for path, _ in found]
    else:
        pairs = [Job(path, folder / place.with_name(f"{place.stem}{suffix}")) for path, place in found]
    jobs = list(dict.fromkeys(pairs))
    _refuse_collisions(jobs)
    return jobs, failures


def _failure(source: Path, error: OSError) -> Failure:
    return Failure(source, reason(error, source))


def _output_folder(output: Path | None, single: bool, into_folder: bool) -> Path | None:
    """The folder that results go to, or None where the output is absent or a file."""
    if output is None:
        return None
    if output == STANDARD and single:
        return None
    if os.path.isdir(output) or into_folder:
        return output
    known = output.suffix.lower() in formats.OF_SUFFIX
    if single and known:
        return None
    if single:
        raise PlanError(f"{output}: name a file ending in {_OUTPUT_NAMES}, or a folder (with a slash at its end if it is new)")
    if known or output == STANDARD or output.exists():
        raise PlanError(f"{output}: several pictures go into a folder, not into one file")
    return output


def _search(folder: Path) -> tuple[list[Path], list[Failure]]:
    """JPEG files under a folder, sorted; neither links to folders are followed, so that loops end, nor are pipes and devices opened."""
    files: list[Path] = []
    failures: list[Failure] = []

    def unreadable(error: OSError) -> None:
        failures.append(_failure(Path(error.filename or folder), error))

    for parent, _, names in os.walk(folder, onerror=unreadable):
        found = [Path(parent, name) for name in names if Path(name).suffix.lower() in INPUT_SUFFIXES]
        # A broken link is kept, so that it is reported.
        files += [path for path in found if os.path.isfile(path) or not os.path.exists(path)]
    return sorted(files), failures


def _refuse_collisions(jobs: list[Job]) -> None:
    inputs = {_identity(job.source): job.source for job in jobs}
    targets: dict[str, Path] = {}
    for job in jobs:
        if job.target == STANDARD:
            continue
        target = _identity(job.target)
        if target in inputs or _same_file(job.source, job.target):
            raise PlanError(f"{job.target}: this is an input; a result never replaces its own source")
        if target in targets:
            raise PlanError(f"{targets[target]} and {job.source} would both be written to {job.target}")
        targets[target] = job.source


def _identity(path: Path) -> str:
    return os.path.normcase(os.path.realpath(path))


def _same_file(one: Path, other: Path) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False


def refuse_existing(target: Path) -> None:
    """
    Raises:
        OutputExistsError: there is something at the target, be it a dangling link.
    """
    if target != STANDARD and os.path.lexists(target):
        raise OutputExistsError(f"{target} exists already; give --overwrite to replace it")


def read(source: Path) -> bytes:
    """The bytes of a picture file, or of stdin; of anything else the first few, which suffice to refuse it.

    Raises:
        OSError: it cannot be read.
        UnreadableError: nothing comes from stdin because it is a terminal.
        TooLargeError: more than MAX_BYTES.
    """
    if source == STANDARD:
        if sys.stdin.isatty():
            raise UnreadableError("stdin is a terminal; send a picture into it")
        return _read(sys.stdin.buffer)
    with open(source, "rb") as file:
        return _read(file)


def _read(file: BinaryIO) -> bytes:
    start = file.read(_SIGNATURE_LENGTH)
    if not start.startswith(_SIGNATURES):
        return start
    data = start + file.read(MAX_BYTES)
    if len(data) > MAX_BYTES:
        raise TooLargeError(f"the file is larger than {MAX_BYTES >> 20} MiB")
    return data


def save(data: bytes, target: Path, *, overwrite: bool) -> None:
    """Write a file so that the target is either complete or untouched; missing folders are made.

    Args:
        data: the whole file.
        target: where to; STANDARD is stdout.
        overwrite: whether an existing target is replaced.

    Raises:
        OutputExistsError: the target exists (also when it came into being during the work).
        OSError: it cannot be written.
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
        _publish(temporary, target, overwrite)


@contextmanager
def _temporary(folder: Path) -> Iterator[tuple[Path, BinaryIO]]:
    """A new hidden file, gone afterwards unless it was renamed; with the permissions that any new file would have."""
    # No picture suffix: nobody, and no second run, shall take it for a picture.
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
        # Unlike a rename, a link fails where the target has come into being in the meantime.
        os.link(temporary, target)
    except FileExistsError:
        refuse_existing(target)
        raise
    except (OSError, NotImplementedError):
        # No hard links on this file system (FAT, some network shares): look, and rename.
        refuse_existing(target)
        os.replace(temporary, target)


def reason(error: BaseException, source: Path | None = None) -> str:
    """One line for a person to read: what is wrong, without the name of the source, which the caller gives."""
    if isinstance(error, RedecodeError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        text = error.strerror[0].lower() + error.strerror[1:]
        name = error.filename
        return text if name is None or (source is not None and os.fspath(source) == name) else f"{text}: {os.fsdecode(name)}"
    if isinstance(error, MemoryError):
        return "there is not enough memory for this picture"
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
