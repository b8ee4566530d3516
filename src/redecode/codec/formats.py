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
