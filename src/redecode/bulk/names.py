"""Names of results: the one place that tells which of them may be written."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from .. import files
from ..errors import RedecodeError

# The folder in an output that belongs to redecode: manifest, locks, unfinished files. Like all names that begin with "_", data
# frameworks take it for no data.
CORNER = "_redecode"

_DRIVE = re.compile(r"[A-Za-z]:")
_DEVICES = {"con", "prn", "aux", "nul", "conin$", "conout$", *(f"{port}{digit}" for port in ("com", "lpt") for digit in "123456789¹²³")}


class UnsafeNameError(RedecodeError):
    """A path leads out of its place, or is no name of its own there."""


def refuse_unsafe(path: str) -> None:
    r"""Refuse a path that could be written elsewhere than in the output, on this system or on the one that unpacks an archive.

    Args:
        path: relative to the output; both "/" and "\\" count as separators.

    Raises:
        UnsafeNameError: it is absolute, has a drive letter, goes up (".."), has an empty part, or names a device of Windows.
    """
    if path.startswith(("/", "\\")) or _DRIVE.match(path):
        raise UnsafeNameError("the path of its result is absolute, and so outside the output; it was left out")
    for part in re.split(r"[/\\]", path):
        # Windows drops dots and spaces at the end of a name: ".. " is "..".
        if not part.rstrip(". "):
            raise UnsafeNameError(f'its path has the part "{part}", which could lead out of the output; it was left out')
        if part.partition(".")[0].rstrip(" ").lower() in _DEVICES:
            raise UnsafeNameError(f'"{part}" is the name of a device on Windows; it was left out')
    if "\0" in path:
        raise UnsafeNameError("its path has a null character; it was left out")


def refuse_result(path: str) -> None:
    """Refuse a path that no result may have: those of :func:`refuse_unsafe`, and all in redecode's own folder.

    Raises:
        UnsafeNameError: see there.
    """
    refuse_unsafe(path)
    if re.split(r"[/\\]", path)[0].lower() == CORNER:
        raise UnsafeNameError(f'the folder "{CORNER}" is redecode\'s own; it was left out')


def distinct_names(paths: Iterable[str], suffix_for: Callable[[str], str], taken: Iterable[str] = ()) -> dict[str, str]:
    """As :func:`redecode.files.distinct_names`, for results that may differ in their suffixes."""
    groups: dict[str, list[str]] = {}
    for path in paths:
        groups.setdefault(suffix_for(path), []).append(path)
    given: dict[str, str] = {}
    for suffix in sorted(groups):
        given |= files.distinct_names(groups[suffix], suffix, {*taken, *given.values()})
    return given
