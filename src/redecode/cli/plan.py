"""From the paths on a command line to pairs of input and output.

Nothing heavy is imported at the top: the plan is made before the engine is loaded.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ..codec.formats import OF_SUFFIX
from ..errors import UsageError
from ..files import INPUT_SUFFIXES, STANDARD, reason

# For messages.
_OUTPUT_NAMES = ", ".join(OF_SUFFIX)


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
        UsageError: the output fits neither one file nor a folder, or two results, or a result and an input, would be the same file.
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
    known = output.suffix.lower() in OF_SUFFIX
    if single and known:
        return None
    if single:
        raise UsageError(f"{output}: name a file ending in {_OUTPUT_NAMES}, or a folder (with a slash at its end if it is new)")
    if known or output == STANDARD or output.exists():
        raise UsageError(f"{output}: several pictures go into a folder, not into one file")
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
