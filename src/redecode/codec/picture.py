"""What every picture offers, whatever file it came from; and the way from bytes to one.

This is not in the package's `__init__`, so that the names of the formats can be had without NumPy: `redecode --help` needs them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from . import colour, jpeg, markers, raster
from .formats import FormatName
from .jpeg import MAX_PIXELS, JpegImage
from .metadata import Metadata
from .recompression import find_past, forced_past

Float32 = NDArray[np.float32]


class Picture(Protocol):
    """A picture that was read: its samples, and what its file tells of the compression.

    Implemented by :class:`redecode.codec.jpeg.JpegImage` and :class:`redecode.codec.raster.RasterImage`.
    """

    @property
    def width(self) -> int:
        """In pixels."""

    @property
    def height(self) -> int:
        """In pixels."""

    @property
    def source_format(self) -> FormatName | None:
        """Of the file; None for one that results are not written in."""

    @property
    def metadata(self) -> Metadata:
        """EXIF, ICC profile and the like."""

    @property
    def alpha(self) -> NDArray[np.uint8] | None:
        """uint8 [H, W], kept aside; None where the file has none."""

    @property
    def colour_model(self) -> str:
        """Of the planes: "gray", "YCbCr", "RGB", "CMYK" or "YCCK"."""

    @property
    def channels(self) -> int:
        """How many planes there are."""

    @property
    def compressed(self) -> bool:
        """Whether the picture is a JPEG or shows the trace of one; nothing is to be restored in another."""

    @property
    def quality(self) -> int | None:
        """The nearest libjpeg quality factor of the luma table, 1 … 100; None where nothing is known of it."""

    @property
    def cells(self) -> JpegImage | None:
        """The file whose quantization cells the result must lie in; None where there is none."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know about the file, one sentence each."""

    @property
    def origin(self) -> tuple[int, int]:
        """Rows and columns that are missing above and left of the picture to begin with a whole block."""

    @property
    def unit(self) -> tuple[int, int]:
        """Rows and columns that :meth:`crop` begins with a multiple of, counted from `origin`."""

    def crop(self, rows: tuple[int, int], columns: tuple[int, int]) -> Picture:
        """A part of the picture, as a picture of its own.

        Args:
            rows: first, and one past the last, counted from `origin`; multiples of `unit`, or the picture's end.
            columns: likewise.
        """

    def parts(self) -> tuple[Picture, ...]:
        """The picture as gray and YCbCr pictures, which is what the networks know."""

    def planes(self) -> Float32:
        """The plain decode: float32 [channels, H, W], 0 … 255 but neither rounded nor clipped."""

    def tables(self) -> NDArray[np.uint16]:
        """Quantization steps of luma and chroma, uint16 [2, 8, 8]; of a picture that is `compressed`."""


def read(
    data: bytes, max_pixels: int = MAX_PIXELS, force_quality: int | None = None, as_is: bool = False, page: int = 0
) -> JpegImage | raster.RasterImage:
    """Read a file: a JPEG, or a picture that may have been one.

    Args:
        data: the whole file.
        max_pixels: refuse files whose header claims more.
        force_quality: restore the picture as one of this quality factor, whatever it shows. A JPEG that is coarser itself stays what it is.
        as_is: take a JPEG as it is, and do not look for an earlier compression.
        page: of a TIFF, counted from 0.

    Raises:
        RedecodeError: what :func:`redecode.codec.jpeg.read` and :func:`redecode.codec.raster.read` raise.
    """
    if not data or (data[:2] == b"\xff\xd8" and markers.lossless_segments(data) is None):
        image = jpeg.read(data, max_pixels)
        if force_quality is not None:
            return replace(image, past=forced_past(image, force_quality))
        return image if as_is else replace(image, past=find_past(image))
    return raster.read(data, max_pixels, force_quality, page)


def by_past(picture: Picture) -> tuple[Picture, Picture, NDArray[np.bool_]] | None:
    """What to restore in place of a picture that was compressed before.

    Returns:
        The picture that the earlier compression left; the picture as it is, for what has changed since; and where the former holds,
        bool [H, W]. None for a picture without a past.
    """
    if isinstance(picture, raster.RasterImage) and picture.holds is not None:
        top, left = picture.origin
        where = _enlarged(picture.holds, picture.unit)[top:, left:][: picture.height, : picture.width]
        return replace(picture, holds=None), replace(picture, holds=None, trace=None), where
    if not isinstance(picture, JpegImage) or picture.past is None or not picture.past.holds.any():
        return None
    past, as_is = picture.past, picture.as_is
    where = _enlarged(past.holds, picture.unit)[: picture.height, : picture.width]
    # Of a compression on another grid only the tables are known: they belong to the pixels that the file shows.
    seen = past.image or raster.RasterImage(colour.to_uint8(colour.to_rgb(as_is.planes())), past.trace)
    return seen, as_is, where


def _enlarged(holds: NDArray[np.bool_], unit: tuple[int, int]) -> NDArray[np.bool_]:
    return holds.repeat(unit[0], 0).repeat(unit[1], 1)
