"""Errors that redecode raises, as one tree.

    RedecodeError
    ├── UnreadableError     the bytes are not a picture, or too damaged to show anything
    ├── UnsupportedError    a valid file in a coding that redecode does not read, or a picture that a format cannot hold
    ├── TooLargeError       the header claims more pixels than the limit
    ├── LimitError          decoding would take unreasonably long (thousands of scans)
    ├── UsageError          the arguments are invalid, and nothing was done (also a ValueError)
    ├── OutputExistsError   the target exists and may not be replaced
    └── DependencyError     an optional package, a data set or a weights file is missing

Messages are one sentence that says what is wrong and what to do about it. The caller adds the name of the file.
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
    """Base class of all errors that redecode raises on purpose."""


class UnreadableError(RedecodeError):
    """The bytes are not a picture, or too damaged to show anything."""


class UnsupportedError(RedecodeError):
    """A valid file in a coding that redecode does not read (lossless, hierarchical, 12-bit), or a picture that a format cannot hold."""


class TooLargeError(RedecodeError):
    """The header claims more pixels than the limit allows."""


class LimitError(RedecodeError):
    """Decoding would take unreasonably long for a file of this size."""


class UsageError(RedecodeError, ValueError):
    """The arguments are invalid, and nothing was done."""


class OutputExistsError(RedecodeError):
    """The target exists and may not be replaced."""


class DependencyError(RedecodeError):
    """An optional package, a data set or a weights file is missing."""
