"""Pictures that come without their JPEG: a PNG, WebP, AVIF, TIFF, BMP or GIF saved from one.

Their quantization tables are estimated from the pixels, and the networks restore them all the same; but without the
file's own coefficients there is nothing to project onto.
"""

from __future__ import annotations

import ctypes
import io
import logging
import warnings
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError, _imaging

from ..errors import RedecodeError, TooLargeError, UnreadableError, UnsupportedError
from . import colour, dct
from . import metadata as metadata_
from .formats import FormatName, format_of
from .jpeg import MAX_PIXELS, refuse_too_large
from .metadata import Metadata
from .quality import standard_tables
from .trace import Trace, find_trace

Float32 = NDArray[np.float32]
Pixels = NDArray[np.uint8]

# What Pillow may open: formats that hold what a viewer showed of a JPEG. Everything else is refused unseen, which keeps its rarer,
# less tested decoders away from hostile files.
FORMATS = ("PNG", "WEBP", "TIFF", "BMP", "GIF", "AVIF")

# Where Pillow itself refuses a picture, whatever limit is asked for here.
_PILLOW_MAX_PIXELS = 2 * (Image.MAX_IMAGE_PIXELS or 0)
# Without a handler, Python would print to stderr what Pillow logs about broken files.
logging.getLogger("PIL").addHandler(logging.NullHandler())


@dataclass(frozen=True)
class RasterImage:
    """Pixels, and the signs of an earlier JPEG compression in them.

    Attributes:
        pixels: uint8 [H, W, 3] RGB or [H, W].
        trace: what is known of the compression; None where nothing shows.
        alpha: uint8 [H, W], kept aside; None where the file has none.
        metadata: EXIF, ICC profile and the like.
        source_format: of the file; None for one that results are not written in.
    """

    pixels: Pixels
    trace: Trace | None
    alpha: Pixels | None = None
    metadata: Metadata = field(default_factory=Metadata)
    source_format: FormatName | None = None

    @property
    def height(self) -> int:
        """In pixels."""
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        """In pixels."""
        return int(self.pixels.shape[1])

    @property
    def gray(self) -> bool:
        """Whether there is luma only."""
        return self.pixels.ndim == 2

    @property
    def channels(self) -> int:
        """How many planes there are."""
        return 1 if self.gray else 3

    @property
    def colour_model(self) -> str:
        """Of the planes: "gray" or "YCbCr"."""
        return "gray" if self.gray else "YCbCr"

    @property
    def compressed(self) -> bool:
        """Whether the picture shows the trace of a JPEG compression."""
        return self.trace is not None

    @property
    def quality(self) -> int | None:
        """The nearest libjpeg quality factor of the estimated luma table, 1 … 100; None without a trace."""
        return self.trace.quality if self.trace else None

    @property
    def cells(self) -> None:
        """Without the file's own coefficients there are no quantization cells."""
        return None

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know about the file, one sentence each."""
        if self.compressed:
            return ()
        return ("it shows no trace of JPEG compression and was left unchanged; --force-quality restores it all the same",)

    def parts(self) -> tuple[RasterImage, ...]:
        """The picture as gray and YCbCr pictures: itself."""
        return (self,)

    @property
    def origin(self) -> tuple[int, int]:
        """Rows and columns that are missing above and left of the picture to begin with a whole block."""
        if self.trace is None:
            return 0, 0
        return -self.trace.offset[0] % dct.BLOCK, -self.trace.offset[1] % dct.BLOCK

    @property
    def unit(self) -> tuple[int, int]:
        """Rows and columns that :meth:`crop` begins with a multiple of, counted from `origin`."""
        return dct.BLOCK, dct.BLOCK

    def crop(self, rows: tuple[int, int], columns: tuple[int, int]) -> RasterImage:
        """A part of the picture, as a picture of its own, without alpha; the pixels are shared, not copied.

        Args:
            rows: first, and one past the last, counted from `origin`; multiples of `unit`, or the picture's end.
            columns: likewise.

        Raises:
            ValueError: there is no trace, and with it no grid to count on.
        """
        if self.trace is None:
            raise ValueError("a picture without traces of compression has no grid")
        top, left = self.origin
        pixels = self.pixels[max(0, rows[0] - top) : rows[1] - top, max(0, columns[0] - left) : columns[1] - left]
        # What does not begin with the picture's own first rows or columns begins with a whole block.
        offset = (0 if rows[0] else self.trace.offset[0], 0 if columns[0] else self.trace.offset[1])
        return replace(self, pixels=pixels, trace=replace(self.trace, offset=offset), alpha=None)

    def planes(self) -> Float32:
        """Float32 [1 or 3, H, W], Y or Y, Cb, Cr, 0 … 255."""
        return colour.to_planes(self.pixels)

    def tables(self) -> NDArray[np.uint16]:
        """The estimated quantization steps of luma and chroma, uint16 [2, 8, 8].

        Raises:
            ValueError: there is no trace.
        """
        if self.trace is None:
            raise ValueError("a picture without traces of compression has no tables")
        return self.trace.tables


def read(data: bytes, max_pixels: int = MAX_PIXELS, force_quality: int | None = None) -> RasterImage:
    """Read a picture of one of FORMATS (of several frames, the first) and look for traces of JPEG compression.

    Args:
        data: the whole file.
        max_pixels: refuse files whose header claims more.
        force_quality: take the picture for a JPEG of this quality factor whose grid begins at the top left, whatever it shows.

    Raises:
        UnreadableError: no such picture, or damaged.
        UnsupportedError: more than 8 bits per channel, or a colour model other than gray and RGB.
        TooLargeError: more than max_pixels.
    """
    with warnings.catch_warnings():
        # Pillow warns of odd metadata and of sizes that are checked here.
        warnings.simplefilter("ignore")
        try:
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                refuse_too_large(image.width, image.height, max_pixels)
                if image.format == "TIFF":
                    _silence_libtiff()
                pixels, alpha = pixels_of(image)
                metadata = metadata_.of_pillow(image)
        except RedecodeError:
            raise
        except UnidentifiedImageError:
            raise UnreadableError("this is not a picture that redecode reads (JPEG; PNG, WebP, AVIF, TIFF, BMP, GIF)") from None
        except Image.DecompressionBombError:
            raise TooLargeError(f"pictures other than JPEG are read up to {_PILLOW_MAX_PIXELS / 1e6:.0f} megapixels") from None
        except MemoryError:
            raise TooLargeError("there is not enough memory for this picture") from None
        except Exception as error:  # Pillow's decoders raise a dozen kinds, down to struct.error and RuntimeError.
            raise UnreadableError(f"the file is damaged: {' '.join(str(error).split())}") from None
    return of_pixels(pixels, alpha, metadata, format_of(data[:12]), force_quality)


def of_pixels(
    pixels: Pixels,
    alpha: Pixels | None = None,
    metadata: Metadata | None = None,
    source_format: FormatName | None = None,
    force_quality: int | None = None,
) -> RasterImage:
    """A picture of pixels, searched for traces of JPEG compression.

    Args:
        pixels, alpha, metadata, source_format: see :class:`RasterImage`.
        force_quality: as :func:`read`.
    """
    trace = find_trace(pixels) if force_quality is None else _forced(force_quality, pixels.ndim == 2)
    return RasterImage(pixels, trace, alpha, metadata or Metadata(), source_format)


@lru_cache(maxsize=1)
def _silence_libtiff() -> None:
    """Keep libtiff from printing to stderr what Pillow raises as an error; for the whole process, as libtiff has it no other way."""
    # Found through Pillow's module, which is linked to it. Where libtiff is a part of that module, it prints.
    library = ctypes.CDLL(_imaging.__file__)
    for name in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
        if hasattr(library, name):
            getattr(library, name)(ctypes.c_void_p(None))


def pixels_of(image: Image.Image) -> tuple[Pixels, Pixels | None]:
    """Gray or RGB pixels of a Pillow image, and its transparency if it has any.

    Raises:
        UnsupportedError: more than 8 bits per channel, or another colour model.
    """
    if image.mode.startswith(("I", "F")):
        raise UnsupportedError("pictures of more than 8 bits per channel are not supported: a JPEG never had them")
    if image.mode not in ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX"):
        raise UnsupportedError(f"pictures of the colour model {image.mode} are not supported; convert it to RGB first")
    gray = image.mode in ("1", "L", "LA")
    if not image.has_transparency_data:
        return np.asarray(image.convert("L" if gray else "RGB")), None
    whole = np.asarray(image.convert("LA" if gray else "RGBA"))
    pixels = whole[..., 0] if gray else whole[..., :3]
    return np.ascontiguousarray(pixels), np.ascontiguousarray(whole[..., -1])


def _forced(quality: int, gray: bool) -> Trace:
    tables = standard_tables(quality)
    if gray:
        tables[1] = 1
    return Trace(offset=(0, 0), tables=tables, quality=quality, confidence=1.0)
