"""The protocol of pictures from all kinds of files, and reading a picture from bytes.

This is not in the package's `__init__`, so that `redecode --help` can import the names of formats without NumPy.
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
from .trace import Scaling

Float32 = NDArray[np.float32]


class Picture(Protocol):
    """A picture that was read: its samples, and what is known of its compression.

    Implemented by :class:`redecode.codec.jpeg.JpegImage` and :class:`redecode.codec.raster.RasterImage`.
    """

    @property
    def width(self) -> int:
        """Width in pixels."""

    @property
    def height(self) -> int:
        """Height in pixels."""

    @property
    def source_format(self) -> FormatName | None:
        """Format of the file; None if results cannot be written in this format."""

    @property
    def metadata(self) -> Metadata:
        """EXIF, ICC profile and the like."""

    @property
    def alpha(self) -> NDArray[np.uint8] | None:
        """Alpha channel, uint8 [H, W], which is not restored; None if the file has none."""

    @property
    def colour_model(self) -> str:
        """Colour model of the planes: "gray", "YCbCr", "RGB", "CMYK" or "YCCK"."""

    @property
    def channels(self) -> int:
        """Number of planes."""

    @property
    def compressed(self) -> bool:
        """Whether the picture is a JPEG or shows the trace of one; other pictures have nothing to restore."""

    @property
    def quality(self) -> int | None:
        """The nearest libjpeg quality factor of the luma table, 1 … 100; None if the table is unknown."""

    @property
    def cells(self) -> JpegImage | None:
        """The file whose quantization cells the result must lie in; None if there is none."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes for the user about the file, one sentence each."""

    @property
    def origin(self) -> tuple[int, int]:
        """Rows and columns missing above and left of the picture to begin with a whole block."""

    @property
    def unit(self) -> tuple[int, int]:
        """Rows and columns of a unit: parts of :meth:`crop` begin at multiples of it, counted from `origin`."""

    def crop(self, rows: tuple[int, int], columns: tuple[int, int]) -> Picture:
        """Crop the picture.

        Args:
            rows: first row and one past the last, counted from `origin`; multiples of `unit`, or the picture's end.
            columns: first column and one past the last, likewise.
        """

    def parts(self) -> tuple[Picture, ...]:
        """Split the picture into gray and YCbCr pictures, the inputs of the networks."""

    def planes(self) -> Float32:
        """The plain decode: float32 [channels, H, W], about 0 … 255, neither rounded nor clipped."""

    def tables(self) -> NDArray[np.uint16]:
        """Quantization steps of luma and chroma, uint16 [2, 8, 8]; only if the picture is `compressed`."""


def read(
    data: bytes, max_pixels: int = MAX_PIXELS, force_quality: int | None = None, as_is: bool = False, page: int = 0
) -> JpegImage | raster.RasterImage:
    """Read a file: a JPEG, or a picture that may have been one.

    Args:
        data: the whole file.
        max_pixels: refuse files whose header claims more.
        force_quality: restore the picture as one of this quality factor, whatever it shows. A JPEG that is coarser itself stays what it is.
        as_is: take a JPEG as it is, and do not look for an earlier compression, nor in other pictures for one before a scaling.
        page: of a TIFF, counted from 0.

    Raises:
        RedecodeError: what :func:`redecode.codec.jpeg.read` and :func:`redecode.codec.raster.read` raise.
    """
    if not data or (data[:2] == b"\xff\xd8" and markers.lossless_segments(data) is None):
        image = jpeg.read(data, max_pixels)
        if force_quality is not None:
            return replace(image, past=forced_past(image, force_quality))
        return image if as_is else replace(image, past=find_past(image))
    return raster.read(data, max_pixels, force_quality, as_is, page)


def by_past(picture: Picture) -> tuple[Picture, Picture, NDArray[np.bool_]] | None:
    """Split a picture by its earlier compression.

    Returns:
        The picture after the earlier compression; the picture as it is, for the parts that have changed since; and the pixels to which the
        earlier compression applies, bool [H, W]. None for a picture without an earlier compression.
    """
    if isinstance(picture, raster.RasterImage) and picture.holds is not None:
        top, left = picture.origin
        where = _enlarged(picture.holds, picture.unit)[top:, left:][: picture.height, : picture.width]
        return replace(picture, holds=None), replace(picture, holds=None, trace=None), where
    if not isinstance(picture, JpegImage) or picture.past is None or not picture.past.holds.any():
        return None
    past, as_is = picture.past, picture.as_is
    where = _enlarged(past.holds, picture.unit)[: picture.height, : picture.width]
    # An earlier compression on another grid has known tables but no known coefficients: use its tables with the decoded pixels.
    seen = past.image or raster.RasterImage(colour.to_uint8(colour.to_rgb(as_is.planes())), past.trace)
    return seen, as_is, where


def scaling_of(picture: Picture) -> Scaling | None:
    """How a picture was scaled since the compression that is restored in it; None where it was not."""
    if isinstance(picture, raster.RasterImage):
        return picture.trace.scaling if picture.trace else None
    if isinstance(picture, JpegImage) and picture.past and picture.past.holds.any():
        return picture.past.trace.scaling
    return None


def _enlarged(holds: NDArray[np.bool_], unit: tuple[int, int]) -> NDArray[np.bool_]:
    return holds.repeat(unit[0], 0).repeat(unit[1], 1)
