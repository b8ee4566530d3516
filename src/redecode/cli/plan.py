"""Planning: pair the paths on a command line with the paths of their results.

Slow imports are avoided here, as the plan is made before the decoder is loaded.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from .. import files
from ..codec.formats import OF_SUFFIX, suffix_of
from ..errors import UsageError
from ..files import INPUT_SUFFIXES, STANDARD, distinct_names, reason

# Ending of the stem of a result next to its file. A file with this ending is a result, and not restored again.
RESULT_MARK = ".redecoded"
# System folders that are skipped: thumbnails, recycle bins and the like; hidden folders are skipped anyway.
_SYSTEM_FOLDERS = {"@eadir", "#recycle", "$recycle.bin", "system volume information", "__macosx", "lost+found"}
# Valid suffixes, as text for messages.
_OUTPUT_NAMES = ", ".join(OF_SUFFIX)


@dataclass(frozen=True)
class Job:
    """A file to restore, and the path of its result."""

    source: Path
    target: Path


@dataclass(frozen=True)
class Failure:
    """A file or folder that could not be processed, and the reason."""

    source: Path
    reason: str


@dataclass(frozen=True)
class Search:
    """Rules for the files to restore in a folder.

    Attributes:
        exclude: patterns of names, or of paths relative to the folder, to skip ("*.tmp.jpg", "raw/*").
        by_content: whether to include files of any name that begin like a JPEG.
    """

    exclude: tuple[str, ...] = ()
    by_content: bool = False

    def takes(self, path: Path, place: Path) -> bool:
        """Whether to restore a file, given its path and its path relative to the folder."""
        if path.stem.endswith(RESULT_MARK) or self.skips(place):
            return False
        return path.suffix.lower() in INPUT_SUFFIXES or (self.by_content and files.format_of(path) == "jpeg")

    def skips(self, place: Path) -> bool:
        """Whether to skip a file or folder, given its path relative to the folder: hidden, a system folder, or excluded."""
        if place.name.startswith(".") or place.name.lower() in _SYSTEM_FOLDERS:
            return True
        return any(fnmatch(place.name, pattern) or fnmatch(place.as_posix(), pattern) for pattern in self.exclude)


def plan(
    sources: Iterable[Path],
    output: Path | None,
    *,
    into_folder: bool = False,
    suffix: str | None = ".png",
    search: Search | None = None,
    keep_pages: bool = False,
) -> tuple[list[Job], list[Failure]]:
    """Pair every input with its output.

    Without an output, results lie next to their inputs as `<stem>.redecoded<suffix>`, and the result of stdin goes to stdout. In an output
    folder they are named `<stem><suffix>`, and the subfolders of an input folder are kept. If two results would have the same name, one
    keeps its old suffix before the new one (see :func:`redecode.files.distinct_names`).

    Args:
        sources: files and folders; folders are searched for JPEG files, subfolders included.
        output: a file (for a single input file), a folder, STANDARD, or None.
        into_folder: whether the output is a folder even if it does not exist yet.
        suffix: suffix of results whose name is not given; None for the suffix of the file's own format.
        search: rules for the files to restore in folders.
        keep_pages: whether results of TIFF files with several pages are TIFF files too.

    Returns:
        The jobs, and the sources that cannot be read.

    Raises:
        UsageError: the output is not a valid file or folder for these sources, or two results, or a result and an input, would be the same
            file.
    """
    sources = list(sources)
    single = len(sources) == 1 and not os.path.isdir(sources[0])
    folder = _output_folder(output, single, into_folder)
    found, failures = _find(sources, search or Search(), folder)
    jobs = [Job(path, STANDARD if output is None else output) for path, _ in found if path == STANDARD and folder is None]
    named = {path: place for path, place in found if path != STANDARD or folder is not None}
    if folder is None and output is not None:
        jobs += [Job(path, output) for path in named]
    elif folder is not None:
        jobs += _named(named, {path: folder / place for path, place in named.items()}, "", suffix, keep_pages)
    else:
        jobs += _named(named, {path: path for path in named}, RESULT_MARK, suffix, keep_pages)
    jobs = list(dict.fromkeys(jobs))
    _refuse_collisions(jobs)
    return jobs, failures


def find(sources: Iterable[Path], search: Search | None = None) -> tuple[list[Path], list[Failure]]:
    """The files of sources, with folders searched as by :func:`plan`, and the sources that cannot be read."""
    found, failures = _find(list(sources), search or Search(), None)
    return [path for path, _ in found], failures


def _find(sources: list[Path], search: Search, output: Path | None) -> tuple[list[tuple[Path, Path]], list[Failure]]:
    """The files of the sources, each with its path relative to its source folder, and the sources that cannot be read."""
    found: list[tuple[Path, Path]] = []
    failures: list[Failure] = []
    for source in sources:
        if source == STANDARD:
            found.append((source, Path("stdin")))
        elif os.path.isdir(source):
            inside, unreadable = _search(source, search, output)
            failures += unreadable
            if not inside and not unreadable:
                failures.append(Failure(source, "the folder holds no JPEG files"))
            found += [(path, path.relative_to(source)) for path in inside]
        else:
            found.append((source, Path(source.name)))
    return found, failures


def _named(sources: Iterable[Path], places: dict[Path, Path], mark: str, suffix: str | None, keep_pages: bool) -> list[Job]:
    """Jobs whose results have the paths `places`, with new suffixes."""
    by_suffix: dict[str, list[Path]] = {}
    for path in sources:
        own = suffix or suffix_of(files.format_of(path) or "png")
        if keep_pages and files.page_count(path) > 1:
            own = suffix_of("tiff")
        by_suffix.setdefault(mark + own, []).append(path)
    targets: dict[Path, str] = {}
    for ending, group in by_suffix.items():
        names = {path: os.fspath(places[path]) for path in group}
        # Two files with the same relative path in different source folders are an error, see _refuse_collisions.
        given = distinct_names(names.values(), ending, targets.values() if suffix is None or keep_pages else ())
        targets |= {path: given[name] for path, name in names.items()}
    return [Job(path, Path(targets[path])) for path in sources]


def expanded(sources: Iterable[Path]) -> list[Path]:
    """Expand patterns (*, ?, [...]) in sources, for shells that do not; existing names stay unchanged.

    A pattern without matches stays unchanged too, and fails later as a missing file.
    """
    result: list[Path] = []
    for source in sources:
        text = os.fspath(source)
        matches = sorted(glob.glob(text, recursive=True)) if glob.has_magic(text) and not os.path.lexists(text) else []
        result += map(Path, matches) if matches else [source]
    return result


def _failure(source: Path, error: OSError) -> Failure:
    return Failure(source, reason(error, source))


def _output_folder(output: Path | None, single: bool, into_folder: bool) -> Path | None:
    """The folder for results, or None if there is no output or it is a file."""
    if output is None:
        return None
    if output == STANDARD and single:
        return None
    if os.path.isdir(output) or into_folder:
        return output
    known = output.suffix.lower() in OF_SUFFIX
    if single and known:
        return None
    if single:
        raise UsageError(f"{output}: name a file ending in {_OUTPUT_NAMES}, or a folder (with a slash at its end if it is new)")
    if known or output == STANDARD or output.exists():
        raise UsageError(f"{output}: several pictures go into a folder, not into one file")
    return output


def _search(folder: Path, search: Search, output: Path | None) -> tuple[list[Path], list[Failure]]:
    """Files to restore in a folder, sorted, without results of earlier runs and files in the output folder.

    Links to folders are not followed, as they can form loops; pipes and devices are not opened.
    """
    found: list[Path] = []
    failures: list[Failure] = []
    results = None if output is None or _same_file(output, folder) else _identity(output)

    def unreadable(error: OSError) -> None:
        failures.append(_failure(Path(error.filename or folder), error))

    for parent, folders, names in os.walk(folder, onerror=unreadable):
        inside = Path(parent).relative_to(folder)
        folders[:] = [name for name in folders if not search.skips(inside / name) and _identity(Path(parent, name)) != results]
        # A broken link is kept, so that it is reported.
        plain = (name for name in names if os.path.isfile(Path(parent, name)) or not os.path.exists(Path(parent, name)))
        found += [Path(parent, name) for name in plain if search.takes(Path(parent, name), inside / name)]
    return sorted(found), failures


def _refuse_collisions(jobs: list[Job]) -> None:
    inputs = {_identity(job.source): job.source for job in jobs}
    targets: dict[str, Path] = {}
    for job in jobs:
        if job.target == STANDARD:
            continue
        target = _identity(job.target)
        if target in inputs or _same_file(job.source, job.target):
            raise UsageError(f"{job.target}: this is an input; a result never replaces its own source")
        if target in targets:
            raise UsageError(f"{targets[target]} and {job.source} would both be written to {job.target}")
        targets[target] = job.source


def _identity(path: Path) -> str:
    return os.path.normcase(os.path.realpath(path))


def _same_file(one: Path, other: Path) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False
