"""Sources of pictures in a Python program: paths, bytes, open files, Pillow images and arrays."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import UnsupportedError, UsageError
from . import metadata, raster
from .jpeg import MAX_PIXELS
from .picture import Picture, read


class Readable(Protocol):
    """A file opened for reading bytes."""

    def read(self) -> bytes:
        """Read the rest of the file."""


Source = str | os.PathLike[str] | bytes | bytearray | memoryview | Readable | Image.Image | NDArray[np.uint8] | Picture


def picture_of(source: Source, max_pixels: int = MAX_PIXELS, force_quality: int | None = None, as_is: bool = False) -> Picture:
    """Read a picture from any source, see :func:`redecode.codec.picture.read`.

    Args:
        source: a path; the bytes of a file; a file opened for reading bytes; a Pillow image (read from its file if it was opened from a
            JPEG and has not been loaded yet, else from its pixels); a uint8 array, [H, W] gray, [H, W, 3] RGB or [H, W, 4] RGBA; or a
            picture that has been read already.
        max_pixels: maximum number of pixels.
        force_quality: quality factor to restore the picture as, see :func:`redecode.codec.picture.read`.
        as_is: whether to ignore earlier compressions, see :func:`redecode.codec.picture.read`.

    Returns:
        The picture.

    Raises:
        RedecodeError: the picture cannot be read.
        UsageError: the source is none of these.
        OSError: the path cannot be read.
    """
    if isinstance(source, str | os.PathLike):
        return read(Path(source).read_bytes(), max_pixels, force_quality, as_is)
    if isinstance(source, bytes | bytearray | memoryview):
        return read(bytes(source), max_pixels, force_quality, as_is)
    if isinstance(source, np.ndarray):
        pixels, alpha = _channels(source)
        return raster.of_pixels(pixels, alpha, force_quality=force_quality, as_is=as_is)
    if isinstance(source, Image.Image):
        data = _untouched_jpeg(source)
        if data is not None:
            return read(data, max_pixels, force_quality, as_is)
        pixels, alpha = raster.pixels_of(source)
        return raster.of_pixels(pixels, alpha, metadata.of_pillow(source), force_quality=force_quality, as_is=as_is)
    if hasattr(source, "read"):
        data = source.read()
        if not isinstance(data, bytes):
            raise UsageError("the file must be opened for reading bytes, not text")
        return read(data, max_pixels, force_quality, as_is)
    if hasattr(source, "planes"):
        return source
    raise UsageError(f"{type(source).__name__} is not a picture: give a path, bytes, an open file, a Pillow image or a uint8 array")


def _channels(array: NDArray[Any]) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
    """Split an array into gray or RGB pixels and the alpha channel, if it has one."""
    if array.dtype != np.uint8:
        raise UnsupportedError(f"arrays of {array.dtype} are not supported: a picture that was a JPEG has uint8 pixels, 0 … 255")
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)) or 0 in array.shape:
        raise UnsupportedError(f"an array of shape {array.shape} is not a picture: give [H, W], [H, W, 3] or [H, W, 4]")
    if array.ndim == 3 and array.shape[2] == 4:
        return np.ascontiguousarray(array[..., :3]), np.ascontiguousarray(array[..., 3])
    return np.ascontiguousarray(array), None


def _untouched_jpeg(image: Image.Image) -> bytes | None:
    """The file's bytes of a Pillow image that was opened from a JPEG and has not been loaded, so cannot have been changed; else None."""
    file = getattr(image, "fp", None)
    if image.format not in ("JPEG", "MPO") or file is None or not getattr(image, "tile", None):
        return None
    place = file.tell()
    try:
        file.seek(0)
        return bytes(file.read())
    finally:
        file.seek(place)
