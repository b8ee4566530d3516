"""Raster pictures without their JPEG file: PNG, WebP, AVIF, TIFF, BMP or GIF files saved from a JPEG.

Their quantization tables are estimated from the pixels, and the networks restore them like JPEGs; but without the file's own
coefficients there are no cells to project onto.
"""

from __future__ import annotations

import ctypes
import io
import logging
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError, _imaging

from ..errors import RedecodeError, TooLargeError, UnreadableError, UnsupportedError
from . import colour, dct, markers
from . import metadata as metadata_
from .formats import FormatName, format_of
from .jpeg import MAX_PIXELS, refuse_too_large
from .metadata import Metadata
from .rescaling import find_scaled, fits_scaled
from .tiff import FURTHER_PAGES, page_count
from .trace import BEST_COARSER, Trace, as_gray, find_compression, fits, flat, of_quality, settled

Float32 = NDArray[np.float32]
Pixels = NDArray[np.uint8]

# Number of rows of pixels in a strip, to limit memory.
_STRIP = 512
# Formats that Pillow may open: those in which pictures are saved from JPEGs. Other formats are refused, which keeps malicious files away
# from Pillow's rarer, less tested decoders.
FORMATS = ("PNG", "WEBP", "TIFF", "BMP", "GIF", "AVIF")

# Pillow's own limit of pixels, which applies whatever max_pixels is.
_PILLOW_MAX_PIXELS = 2 * (Image.MAX_IMAGE_PIXELS or 0)
# Without a handler, Python would print Pillow's log messages about damaged files to stderr.
logging.getLogger("PIL").addHandler(logging.NullHandler())


@dataclass(frozen=True)
class RasterImage:
    """A raster picture, with the trace of an earlier JPEG compression.

    Attributes:
        pixels: RGB uint8 [H, W, 3], or gray [H, W].
        trace: grid and tables of the compression; None if the pixels show none.
        alpha: alpha channel, uint8 [H, W], which is not restored; None if the file has none.
        metadata: EXIF, ICC profile and the like.
        source_format: format of the file; None if results cannot be written in this format.
        rounded: whether 16 bits per channel were rounded to 8.
        further_pages: number of pages after this one, if it is the first page of the file.
        holds: bool [rows, columns], which blocks of the trace's grid, also of those that reach over the borders, fit the compression (of
            a picture that was scaled since: which blocks of 8×8 pixels from the top left); what came into the picture later does not.
            None where all do.
    """

    pixels: Pixels
    trace: Trace | None
    alpha: Pixels | None = None
    metadata: Metadata = field(default_factory=Metadata)
    source_format: FormatName | None = None
    rounded: bool = False
    further_pages: int = 0
    holds: NDArray[np.bool_] | None = None

    @property
    def height(self) -> int:
        """Height in pixels."""
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        """Width in pixels."""
        return int(self.pixels.shape[1])

    @property
    def gray(self) -> bool:
        """Whether the picture has luma only."""
        return self.pixels.ndim == 2

    @property
    def channels(self) -> int:
        """Number of planes."""
        return 1 if self.gray else 3

    @property
    def colour_model(self) -> str:
        """Colour model of the planes: "gray" or "YCbCr"."""
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
        """Always None: without the file's coefficients there are no quantization cells."""
        return None

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes for the user about the file, one sentence each."""
        notes = []
        if not self.compressed:
            notes.append("it shows no trace of JPEG compression and was left unchanged; --force-quality restores it nevertheless")
        if self.trace and self.trace.scaling:
            where = "" if self.holds is None else f" where it shows, in {self.holds.mean():.0%} of the picture"
            past = f"compressed at about quality {self.trace.quality} and {self.trace.scaling.told()} ({self.trace.confidence:.0%} sure)"
            notes.append(f"it was {past}, and restored from that{where}; --as-is ignores that")
        if self.rounded:
            notes.append("its 16 bits per channel were rounded to 8, the depth of a JPEG")
        if self.further_pages:
            notes.append(f"only the first of its {1 + self.further_pages} pages was restored; {FURTHER_PAGES}")
        return tuple(notes)

    @property
    def as_is(self) -> RasterImage:
        """The picture without a compression that came before a scaling."""
        return replace(self, trace=None, holds=None) if self.trace and self.trace.scaling else self

    def parts(self) -> tuple[RasterImage, ...]:
        """The picture as gray and YCbCr pictures: itself."""
        return (self,)

    @property
    def origin(self) -> tuple[int, int]:
        """Rows and columns missing above and left of the picture to begin with a whole block."""
        if self.trace is None:
            return 0, 0
        return -self.trace.offset[0] % dct.BLOCK, -self.trace.offset[1] % dct.BLOCK

    @property
    def unit(self) -> tuple[int, int]:
        """Rows and columns of a block: parts of :meth:`crop` begin at multiples of it, counted from `origin`."""
        return dct.BLOCK, dct.BLOCK

    def crop(self, rows: tuple[int, int], columns: tuple[int, int]) -> RasterImage:
        """Crop the picture, without alpha; the pixels are shared, not copied.

        Args:
            rows: first row and one past the last, counted from `origin`; multiples of `unit`, or the picture's end.
            columns: first column and one past the last, likewise.

        Raises:
            ValueError: the picture has no trace, and so no grid.
        """
        if self.trace is None:
            raise ValueError("a picture without traces of compression has no grid")
        top, left = self.origin
        pixels = self.pixels[max(0, rows[0] - top) : rows[1] - top, max(0, columns[0] - left) : columns[1] - left]
        # A part that does not begin with the picture's first row or column begins with a whole block.
        offset = (0 if rows[0] else self.trace.offset[0], 0 if columns[0] else self.trace.offset[1])
        holds = self.holds
        if holds is not None:
            down, across = (slice(first // dct.BLOCK, -(-last // dct.BLOCK)) for first, last in (rows, columns))
            holds = holds[down, across]
        scaling = self.trace.scaling and self.trace.scaling.crop(rows[0], columns[0])
        return replace(self, pixels=pixels, trace=replace(self.trace, offset=offset, scaling=scaling), alpha=None, holds=holds)

    def planes(self) -> Float32:
        """The pixels as planes Y, or Y, Cb, Cr: float32 [1 or 3, H, W], 0 … 255."""
        return colour.to_planes(self.pixels)

    def tables(self) -> NDArray[np.uint16]:
        """The estimated quantization steps of luma and chroma, uint16 [2, 8, 8].

        Raises:
            ValueError: the picture has no trace.
        """
        if self.trace is None:
            raise ValueError("a picture without traces of compression has no tables")
        return self.trace.tables


def read(data: bytes, max_pixels: int = MAX_PIXELS, force_quality: int | None = None, as_is: bool = False, page: int = 0) -> RasterImage:
    """Read a picture of one of FORMATS, or a lossless JPEG, and look for traces of JPEG compression.

    Args:
        data: the whole file.
        max_pixels: maximum number of pixels that the header may claim.
        force_quality: quality factor to assume, with a grid that begins at the top left, instead of searching for a trace.
        as_is: whether to skip the search for a compression before a scaling.
        page: of a TIFF, counted from 0.

    Raises:
        UnreadableError: the file is not a picture of these formats, or damaged.
        UnsupportedError: the picture has more than 8 bits per channel and no trace of JPEG compression, another colour model than gray and
            RGB, or is an animation.
        TooLargeError: the picture has more than max_pixels.
    """
    segments = markers.lossless_segments(data)
    with warnings.catch_warnings():
        # Pillow warns of invalid metadata, and of large sizes, which are checked here.
        warnings.simplefilter("ignore")
        try:
            with Image.open(io.BytesIO(data), formats=FORMATS if segments is None else ("JPEG",)) as image:
                refuse_too_large(image.width, image.height, max_pixels)
                if image.format == "TIFF":
                    _silence_libtiff()
                    image.seek(page)
                    refuse_too_large(image.width, image.height, max_pixels)
                elif getattr(image, "is_animated", False) and segments is None:
                    raise UnsupportedError("the file is an animation, which redecode does not restore; it was left as it is")
                low = _low_bytes(data, image, page)
                pixels, alpha = (_high_bytes(image), None) if image.mode.startswith("I;16") else pixels_of(image)
                metadata = metadata_.of_pillow(image) if segments is None else metadata_.of_segments(segments)
        except RedecodeError:
            raise
        except UnidentifiedImageError:
            if segments is not None:
                raise UnsupportedError("this lossless JPEG cannot be read; it has lost nothing, so there is nothing to restore") from None
            raise UnreadableError("this is not a picture that redecode reads (JPEG; PNG, WebP, AVIF, TIFF, BMP, GIF)") from None
        except Image.DecompressionBombError:
            raise TooLargeError(f"pictures other than JPEG are read up to {_PILLOW_MAX_PIXELS / 1e6:.0f} megapixels") from None
        except MemoryError:
            raise TooLargeError("there is not enough memory for this picture") from None
        except Exception as error:  # Pillow's decoders raise many kinds of errors, even struct.error and RuntimeError.
            raise UnreadableError(f"the file is damaged: {' '.join(str(error).split())}") from None
    rounded = low is not None and bool(low.any()) and not np.array_equal(low, _stacked(pixels, alpha))
    if rounded:
        assert low is not None
        pixels, alpha = _rounded(pixels, alpha, low)
    picture = of_pixels(pixels, alpha, metadata, format_of(data[:12]), force_quality, as_is)
    if rounded and picture.trace is None:
        raise UnsupportedError("the picture has 16 bits per channel and shows no trace of JPEG compression: there is nothing to restore")
    pages = 1 if segments is not None or page else page_count(io.BytesIO(data))
    return replace(picture, rounded=rounded, further_pages=pages - 1)


def of_pixels(
    pixels: Pixels,
    alpha: Pixels | None = None,
    metadata: Metadata | None = None,
    source_format: FormatName | None = None,
    force_quality: int | None = None,
    as_is: bool = False,
) -> RasterImage:
    """A picture of pixels, searched for traces of JPEG compression.

    Args:
        pixels, alpha, metadata, source_format: see :class:`RasterImage`.
        force_quality, as_is: as :func:`read`.
    """
    gray = pixels.ndim == 2
    trace = find_compression(pixels) if force_quality is None else of_quality(force_quality, gray)
    if trace is None and not as_is and (scaled := find_scaled(_luma(pixels), pixels.shape[:2], None, BEST_COARSER)):
        trace = as_gray(scaled) if gray else scaled
    holds = None if trace is None or trace.forced or trace.quality > BEST_COARSER else _holds(pixels, trace)
    return RasterImage(pixels, trace, alpha, metadata or Metadata(), source_format, holds=holds)


def _holds(pixels: Pixels, trace: Trace) -> NDArray[np.bool_] | None:
    """Which blocks of a grid fit its compression, and are no part of a wide area of black or white; None where all do."""
    fitting = _on_grid(pixels, trace) if trace.scaling is None else fits_scaled(_luma(pixels), pixels.shape[:2], None, trace)
    holds = settled(fitting)
    luma = colour.to_luma(pixels)
    padding = [(-first % dct.BLOCK, (first - side) % dct.BLOCK) for first, side in zip(trace.offset, luma.shape, strict=True)]
    padded = np.pad(luma, padding, mode="edge")
    blocks = padded.reshape(holds.shape[0], dct.BLOCK, holds.shape[1], dct.BLOCK)
    holds &= ~flat(blocks.min((1, 3)), blocks.max((1, 3)))
    return None if holds.all() else holds


def _on_grid(pixels: Pixels, trace: Trace) -> NDArray[np.bool_]:
    """Which blocks of a grid fit its compression."""
    top = -trace.offset[0] % dct.BLOCK
    # Strips of whole blocks: the first one ends where the grid's own row of blocks does.
    starts = [0, *range(_STRIP - top, pixels.shape[0], _STRIP)]
    parts = []
    for start, stop in zip(starts, [*starts[1:], pixels.shape[0]], strict=True):
        strip = replace(trace, offset=(0 if start else trace.offset[0], trace.offset[1]))
        parts.append(fits(colour.to_planes(pixels[start:stop]), strip, ()))
    return np.concatenate(parts)


def _luma(pixels: Pixels) -> Callable[[slice, slice], Float32]:
    return lambda rows, columns: colour.to_planes(pixels[rows, columns])[0] - np.float32(128)


@lru_cache(maxsize=1)
def _silence_libtiff() -> None:
    """Stop libtiff from printing to stderr, as Pillow raises its errors; libtiff has this setting for the whole process only."""
    # libtiff's functions are found through Pillow's module, which is linked to it; if libtiff is built into that module, it still prints.
    library = ctypes.CDLL(_imaging.__file__)
    for name in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
        if hasattr(library, name):
            getattr(library, name)(ctypes.c_void_p(None))


def _stacked(pixels: Pixels, alpha: Pixels | None) -> Pixels:
    """Pixels and alpha channel in one array."""
    return pixels if alpha is None else np.concatenate([pixels.reshape(*pixels.shape[:2], -1), alpha[..., None]], axis=2)


def _rounded(high: Pixels, alpha: Pixels | None, low: Pixels) -> tuple[Pixels, Pixels | None]:
    """Round pixels of 16 bits to 8, given the high bytes of pixels and alpha channel, and the low bytes of both together."""
    whole = _stacked(high, alpha).astype(np.uint32) * 256 + low
    nearest = ((whole + 128) // 257).astype(np.uint8)
    if alpha is None:
        return nearest, None
    return np.ascontiguousarray(nearest[..., :-1]).reshape(high.shape), np.ascontiguousarray(nearest[..., -1])


# For colour with 16 bits per channel, Pillow reads the high bytes only. With the opposite byte order it reads the low bytes.
_OTHER_ORDER = {";16B": ";16L", ";16L": ";16B", ";16N": ";16B" if sys.byteorder == "little" else ";16L"}


def _low_bytes(data: bytes, image: Image.Image, page: int) -> Pixels | None:
    """The low bytes of a picture with 16 bits per channel, alpha channel included; None for 8 bits.

    Returns:
        uint8 [H, W] or [H, W, channels].
    """
    if image.mode.startswith("I;16"):
        return (np.asarray(image).astype(np.uint16) & 255).astype(np.uint8)
    raw = next((_raw_mode(tile) for tile in getattr(image, "tile", ())), "")
    if raw[-4:] not in _OTHER_ORDER:
        return None
    with Image.open(io.BytesIO(data), formats=FORMATS) as again:
        if page:
            again.seek(page)
        if raw == "LA;16B":
            # Pillow reads gray with alpha in this byte order only. Read as RGBA, its four bytes become four channels.
            again.tile = [_with_raw_mode(tile, "RGBA") for tile in again.tile]
            return np.asarray(again)[..., (1, 1, 1, 3)]
        again.tile = [_with_raw_mode(tile, raw[:-4] + _OTHER_ORDER[raw[-4:]]) for tile in again.tile]
        return np.asarray(again)


def _high_bytes(image: Image.Image) -> Pixels:
    return (np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8)


def _raw_mode(tile: Any) -> str:
    mode = tile[3] if isinstance(tile[3], str) else next(iter(tile[3] or ("",)))
    return mode if isinstance(mode, str) else ""


def _with_raw_mode(tile: Any, mode: str) -> Any:
    return tile._replace(args=mode if isinstance(tile[3], str) else (mode, *tile[3][1:]))


def pixels_of(image: Image.Image) -> tuple[Pixels, Pixels | None]:
    """Gray or RGB pixels of a Pillow image, and its alpha channel if it has one.

    Raises:
        UnsupportedError: the image has more than 8 bits per channel, or another colour model.
    """
    if image.mode.startswith(("I", "F")):
        depth = 16 if image.mode.startswith("I;16") else 32
        raise UnsupportedError(f"pictures of {depth} bits per channel are not supported here; convert it to 8 bits first if it was a JPEG")
    if image.mode not in ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "YCbCr"):
        raise UnsupportedError(f"{image.mode} pictures are read as JPEG files only; convert it to RGB first if it was a JPEG")
    gray = image.mode in ("1", "L", "LA")
    if not image.has_transparency_data:
        return _array(image, "L" if gray else "RGB"), None
    whole = _array(image, "LA" if gray else "RGBA")
    pixels = whole[..., 0] if gray else whole[..., :3]
    return np.ascontiguousarray(pixels), np.ascontiguousarray(whole[..., -1])


def _array(image: Image.Image, mode: str) -> Pixels:
    """The pixels of an image, converted to a mode strip by strip: a converted copy of the whole image would double the memory."""
    bands = Image.getmodebands(mode)
    pixels = np.empty((image.height, image.width, bands)[: 2 if bands == 1 else 3], np.uint8)
    image.load()
    for top in range(0, image.height, _STRIP):
        bottom = min(image.height, top + _STRIP)
        pixels[top:bottom] = np.asarray(image.crop((0, top, image.width, bottom)).convert(mode))
    return pixels
