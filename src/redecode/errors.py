"""What can go wrong, as one tree.

    RedecodeError
    ├── UnreadableError     the bytes are no picture, or too damaged to show anything
    ├── UnsupportedError    a valid file of a coding that redecode does not read, or a picture that a format cannot hold
    ├── TooLargeError       the header claims more pixels than the limit
    ├── LimitError          decoding would take unreasonably long (thousands of scans)
    ├── UsageError          what was asked for makes no sense: nothing is begun (also a ValueError)
    ├── OutputExistsError   the target is there already and may not be replaced
    └── DependencyError     an optional package, a data set or a weights file is missing

Messages are one sentence, tell what is wrong and what to do about it, and leave the file's name to the caller that knows it.
"""

from __future__ import annotations

__all__ = [
    "DependencyError",
    "LimitError",
    "OutputExistsError",
    "RedecodeError",
    "TooLargeError",
    "UnreadableError",
    "UnsupportedError",
    "UsageError",
]


class RedecodeError(Exception):
    """Base of everything that redecode raises on purpose."""


class UnreadableError(RedecodeError):
    """The bytes are no picture, or too damaged to show anything."""


class UnsupportedError(RedecodeError):
    """A valid file of a coding that redecode does not read (lossless, hierarchical, 12-bit), or a picture that a format cannot hold."""


class TooLargeError(RedecodeError):
    """The header claims more pixels than the limit allows."""


class LimitError(RedecodeError):
    """Decoding would take unreasonably long for a file of this size."""


class UsageError(RedecodeError, ValueError):
    """What was asked for makes no sense: nothing is begun."""


class OutputExistsError(RedecodeError):
    """The target exists and overwriting was not asked for."""


class DependencyError(RedecodeError):
    """An optional package, a data set or a weights file is missing."""
