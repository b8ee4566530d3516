"""The formats of results: names, file name suffixes, media types. Light, so that `redecode --help` needs no NumPy."""

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


# How files of these formats begin. RIFF and ISO base media files tell their kind from the ninth byte on.
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
    r"""The format of a file by its first 12 bytes; None for one that is not among FORMATS.

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
    """As in HTTP's Content-Type.

    >>> media_type("avif")
    'image/avif'
    """
    return f"image/{name}"
