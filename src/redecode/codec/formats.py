"""Formats of results: names, file name suffixes, media types. This module does not import NumPy, so that `redecode --help` is fast."""

from __future__ import annotations

from typing import Literal, get_args

FormatName = Literal["png", "webp", "avif", "tiff", "jpeg"]
FORMATS: tuple[FormatName, ...] = get_args(FormatName)
OF_SUFFIX: dict[str, FormatName] = {
    ".png": "png",
    ".webp": "webp",
    ".avif": "avif",
    ".tif": "tiff",
    ".tiff": "tiff",
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
}


# Signatures of these formats, each with its offset in the file. RIFF and ISO base media files have theirs after the first bytes.
_SIGNATURES: tuple[tuple[bytes, int, FormatName], ...] = (
    (b"\xff\xd8", 0, "jpeg"),
    (b"\x89PNG", 0, "png"),
    (b"II*\0", 0, "tiff"),
    (b"MM\0*", 0, "tiff"),
    (b"WEBP", 8, "webp"),
    (b"ftypavif", 4, "avif"),
    (b"ftypavis", 4, "avif"),
)


def format_of(start: bytes) -> FormatName | None:
    r"""The format of a file by its first 12 bytes; None if it is not one of FORMATS.

    >>> format_of(b"\xff\xd8\xff\xe0")
    'jpeg'
    """
    return next((name for mark, place, name in _SIGNATURES if start[place : place + len(mark)] == mark), None)


def suffix_of(name: FormatName) -> str:
    """The usual file name suffix of a format: the first of OF_SUFFIX.

    >>> suffix_of("jpeg")
    '.jpg'
    """
    return next(suffix for suffix, of in OF_SUFFIX.items() if of == name)


def media_type(name: FormatName) -> str:
    """Media type of a format, for HTTP's Content-Type.

    >>> media_type("avif")
    'image/avif'
    """
    return f"image/{name}"
