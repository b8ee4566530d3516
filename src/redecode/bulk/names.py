"""File names of results: which names are safe to write, and how results get distinct names."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from .. import files
from ..errors import RedecodeError

# Folder in an output that holds redecode's own files: manifest, locks, unfinished files. Data frameworks ignore names that begin with
# "_", so they do not read it as data.
CORNER = "_redecode"

_DRIVE = re.compile(r"[A-Za-z]:")
_DEVICES = {"con", "prn", "aux", "nul", "conin$", "conout$", *(f"{port}{digit}" for port in ("com", "lpt") for digit in "123456789¹²³")}


class UnsafeNameError(RedecodeError):
    """A path leads out of the output folder, or is not a valid file name."""


def refuse_unsafe(path: str) -> None:
    r"""Refuse a path that could lead outside the output, on this system or on the system that unpacks an archive.

    Args:
        path: relative to the output; both "/" and "\\" count as separators.

    Raises:
        UnsafeNameError: the path is absolute, has a drive letter, "..", an empty part or a null character, or names a Windows device.
    """
    if path.startswith(("/", "\\")) or _DRIVE.match(path):
        raise UnsafeNameError("the path of its result is absolute, so it lies outside the output; the file was left out")
    for part in re.split(r"[/\\]", path):
        # Windows drops trailing dots and spaces: ".. " means "..".
        if not part.rstrip(". "):
            raise UnsafeNameError(f'its path has the part "{part}", which could lead out of the output; the file was left out')
        if part.partition(".")[0].rstrip(" ").lower() in _DEVICES:
            raise UnsafeNameError(f'"{part}" is the name of a device on Windows; the file was left out')
    if "\0" in path:
        raise UnsafeNameError("its path has a null character; the file was left out")


def refuse_result(path: str) -> None:
    """Refuse an unsafe path (see :func:`refuse_unsafe`) or a path in redecode's own folder.

    Raises:
        UnsafeNameError: the path is refused.
    """
    refuse_unsafe(path)
    if re.split(r"[/\\]", path)[0].lower() == CORNER:
        raise UnsafeNameError(f'the folder "{CORNER}" is reserved for redecode\'s own files; the file was left out')


def distinct_names(paths: Iterable[str], suffix_for: Callable[[str], str], taken: Iterable[str] = ()) -> dict[str, str]:
    """Give each path a distinct result name, like :func:`redecode.files.distinct_names`; results may have different suffixes."""
    groups: dict[str, list[str]] = {}
    for path in paths:
        groups.setdefault(suffix_for(path), []).append(path)
    given: dict[str, str] = {}
    for suffix in sorted(groups):
        given |= files.distinct_names(groups[suffix], suffix, {*taken, *given.values()})
    return given
