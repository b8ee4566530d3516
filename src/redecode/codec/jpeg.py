"""JPEG files: reading them into a :class:`JpegImage`, and compressing pixels.

A small strict parser (`markers`) reads the header and decides whether the file is supported. Only then does libjpeg decode the
coefficients, from a file without the segments that it does not need.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass, field, replace
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import LimitError, TooLargeError, UnreadableError
from . import dct, libjpeg, markers
from . import metadata as metadata_
from .formats import FormatName
from .metadata import Metadata
from .quality import nearest_quality
from .trace import Trace

MAX_PIXELS = 268_435_456
# Maximum number of blocks that the scans of a file visit in total. The largest picture needs 100 million with the scans that encoders
# write. With Huffman codes, a visit without data takes at most 35 ns, so that even a small malicious file takes seconds at most.
MAX_VISITS = 1 << 27
# With arithmetic coding, a visit takes up to half a microsecond. Beyond this number of visits, a file must have at least this number of
# bits per visit. (Real pictures of this size have ten times as many; a blank picture has next to none.)
_FREE_VISITS, _LEAST_BITS_PER_VISIT = 1 << 24, 0.01
# Above this number of pixels, a Huffman-coded picture must have data for at least this share of its blocks, at one bit per block: a file
# with less is nearly empty, and not worth the gigabytes and minutes that its header asks for.
_SIZE_WORTH_DATA, _LEAST_DATA = 1_000_000, 0.2

Float32 = NDArray[np.float32]

# Usual names of chroma subsampling, by the sampling factors (horizontal, vertical) of luma with chroma at (1, 1).
_SUBSAMPLING_NAMES = {(1, 1): "4:4:4", (2, 1): "4:2:2", (2, 2): "4:2:0", (1, 2): "4:4:0", (4, 1): "4:1:1"}
# Subsampling that compress() can write: those of Pillow's encoder.
SUBSAMPLINGS = ("4:4:4", "4:2:2", "4:2:0")


@dataclass(frozen=True)
class Component:
    """A colour component of a JPEG file.

    Attributes:
        coefficients: quantized DCT coefficients on the component's own 8×8 grid, int16 [rows, columns, 8, 8].
        table: quantization steps in natural (not zigzag) order, uint16 [8, 8].
        sampling: (horizontal, vertical) sampling factors, 1 … 4 each.
        size: (height, width) of the component in samples, without the padding to whole blocks.
    """

    coefficients: NDArray[np.int16]
    table: NDArray[np.uint16]
    sampling: tuple[int, int]
    size: tuple[int, int]

    def plane(self) -> Float32:
        """Decode the samples: float32 [height, width], about 0 … 255, neither rounded nor clipped."""
        blocks = dct.inverse(self.coefficients.astype(np.float32) * self.table)
        height, width = self.size
        return dct.from_blocks(blocks)[:height, :width] + np.float32(128)


@dataclass(frozen=True)
class Past:
    """An earlier, stronger compression of a file's picture.

    Attributes:
        trace: block grid and tables of the earlier compression.
        holds: bool [rows, columns]: for each `unit` of the file, whether it fits the earlier compression.
        image: the earlier file, with the same size and sampling, if it had the same block grid and could be recovered; else None.
            It is valid where `holds` is true.
    """

    trace: Trace
    holds: NDArray[np.bool_]
    image: JpegImage | None = None

    def crop(self, rows: tuple[int, int], columns: tuple[int, int], unit: tuple[int, int]) -> Past:
        """The earlier compression of a part of the picture, see :meth:`JpegImage.crop`."""
        held = tuple(slice(first // side, -(-last // side)) for (first, last), side in zip((rows, columns), unit, strict=True))
        # The part begins with a whole block, so that the offset stays.
        scaling = self.trace.scaling and self.trace.scaling.crop(rows[0], columns[0])
        trace = replace(self.trace, scaling=scaling)
        return replace(self, trace=trace, holds=self.holds[held], image=self.image and self.image.crop(rows, columns))

    def told(self, quality: int) -> str:
        """The history of the file as text: "compressed at about quality 10, cropped and compressed again at 75 (99 % sure)".

        Args:
            quality: quality factor of the file itself.
        """
        trace = self.trace
        since = f", {trace.scaling.told()}" if trace.scaling else "" if trace.offset == (0, 0) else ", cropped"
        return f"compressed at about quality {trace.quality}{since} and compressed again at {quality} ({trace.confidence:.0%} sure)"


@dataclass(frozen=True)
class JpegImage:
    """A parsed JPEG.

    Attributes:
        width: width in pixels.
        height: height in pixels.
        components: the colour components, 1, 3 or 4.
        max_sampling: largest (horizontal, vertical) sampling factors in the file: those of a component at full size.
        colour_model: "gray", "YCbCr" (full range, ITU-R BT.601 as in JFIF), "RGB", "CMYK" or "YCCK". The last two hold inverted inks, as
            Adobe writes them, except that the YCC of YCCK encodes the inks without inversion.
        progressive: whether the frame is progressive (SOF2, SOF10).
        damaged: whether picture data is missing or corrupt. Readable parts are decoded, the rest is gray.
        past: an earlier, stronger compression found in the coefficients (see :mod:`redecode.codec.recompression`); None if there
            is none, or if it was not searched for.
        trailing: number of bytes after the picture's end (a second picture, a gain map, a video), which are ignored.
        trailing_kind: kind of these bytes, as text.
        metadata: EXIF, ICC profile and the like.
    """

    width: int
    height: int
    components: tuple[Component, ...]
    max_sampling: tuple[int, int] = (1, 1)
    colour_model: str = "gray"
    progressive: bool = False
    damaged: bool = False
    past: Past | None = None
    trailing: int = 0
    trailing_kind: str = ""
    metadata: Metadata = field(default_factory=Metadata)

    @property
    def gray(self) -> bool:
        """Whether the file has luma only."""
        return len(self.components) == 1

    @property
    def source_format(self) -> FormatName:
        """Format of the file."""
        return "jpeg"

    @property
    def channels(self) -> int:
        """Number of planes."""
        return len(self.components)

    @property
    def alpha(self) -> None:
        """Always None: a JPEG has no transparency."""
        return None

    @property
    def compressed(self) -> bool:
        """Always True: a JPEG has something to restore."""
        return True

    @property
    def quality(self) -> int:
        """The nearest libjpeg quality factor of the luma table, 1 … 100."""
        return nearest_quality(self.components[0].table)[0]

    @property
    def cells(self) -> JpegImage:
        """The file whose quantization cells the result must lie in: this file."""
        return self

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes for the user about the file, one sentence each."""
        notes = []
        if self.damaged:
            notes.append("parts of the picture data are missing or corrupt; the rest was restored")
        if self.past:
            notes.append(self._note_of_past(self.past))
        if self.trailing:
            notes.append(f"{self.trailing} bytes after the picture ({self.trailing_kind}) were left out")
        return tuple(notes)

    def _note_of_past(self, past: Past) -> str:
        quality, share = past.trace.quality, past.holds.mean()
        if past.trace.forced and share:
            return f"it was restored as a picture of quality {quality}, as asked"
        if past.trace.forced and self.colour_model not in ("gray", "YCbCr"):
            return f"a quality can be forced on gray and YCbCr-coded JPEGs; this {self.colour_model}-coded one was restored as it is"
        if past.trace.forced:
            return f"it was not restored as a picture of quality {quality}, as its own quality is {self.quality}; it was restored as it is"
        where = "" if share == 1 else f", where that is visible, in {share:.0%} of the picture"
        return f"it was {past.told(self.quality)}, and restored from the first compression{where}; --as-is ignores that compression"

    @property
    def subsampling(self) -> str:
        """Chroma subsampling in the usual notation ("4:2:0"), "gray", or the raw factors for unusual ones."""
        if self.gray:
            return "gray"
        factors = [c.sampling for c in self.components]
        if factors[1] == factors[2] == (1, 1) and factors[0] in _SUBSAMPLING_NAMES and factors[3:] in ([], [factors[0]]):
            return _SUBSAMPLING_NAMES[factors[0]]
        return ",".join(f"{h}x{v}" for h, v in factors)

    def parts(self) -> tuple[JpegImage, ...]:
        """Split the picture into gray and YCbCr pictures, the inputs of the networks.

        Each component of RGB and CMYK becomes a gray picture; YCCK becomes a YCbCr picture and a gray one.
        """
        if self.colour_model in ("gray", "YCbCr"):
            return (self,)
        alone = self.components if self.colour_model != "YCCK" else self.components[3:]
        parts = tuple(replace(self, components=(c,), colour_model="gray") for c in alone)
        if self.colour_model == "YCCK":
            return (replace(self, components=self.components[:3], colour_model="YCbCr"), *parts)
        return parts

    def planes(self, rounded: bool = False) -> Float32:
        """Decode all components at full size.

        Args:
            rounded: whether to round the samples to integers 0 … 255 before the interpolation, as decoders to 8 bits do.

        Returns:
            float32 [components, height, width], about 0 … 255, neither rounded nor clipped. Subsampled components are interpolated
            linearly between sample centres, which for factors of 2 is libjpeg's "fancy upsampling".
        """
        h_max, v_max = self.max_sampling
        size = (self.height, self.width)
        factors = [(Fraction(v_max, c.sampling[1]), Fraction(h_max, c.sampling[0])) for c in self.components]
        samples = [np.floor(c.plane() + np.float32(0.5)).clip(0, 255) if rounded else c.plane() for c in self.components]
        return np.stack([upsample(own, factor, size) for own, factor in zip(samples, factors, strict=True)])

    @property
    def origin(self) -> tuple[int, int]:
        """Rows and columns missing above and left of the picture to begin with a whole block: none."""
        return 0, 0

    @property
    def unit(self) -> tuple[int, int]:
        """Rows and columns of pixels in an MCU of all components: parts of :meth:`crop` begin at multiples of it."""
        h_max, v_max = self.max_sampling
        return dct.BLOCK * v_max, dct.BLOCK * h_max

    def crop(self, rows: tuple[int, int], columns: tuple[int, int]) -> JpegImage:
        """Crop the picture; the coefficients are shared, not copied.

        Subsampled components are interpolated within the part, so that :meth:`planes` differs from the whole picture's near the inner
        borders, over the pixels of one chroma sample.

        Args:
            rows: first row and one past the last; both multiples of `unit`, or the picture's end.
            columns: first column and one past the last, likewise.
        """
        height, width = rows[1] - rows[0], columns[1] - columns[0]
        h_max, v_max = self.max_sampling
        components = []
        for component in self.components:
            h, v = component.sampling
            down = _blocks(rows, self.height, v, v_max)
            right = _blocks(columns, self.width, h, h_max)
            size = (-(-height * v // v_max), -(-width * h // h_max))
            components.append(replace(component, coefficients=component.coefficients[down, right], size=size))
        past = self.past and self.past.crop(rows, columns, self.unit)
        return replace(self, width=width, height=height, components=tuple(components), past=past)

    @property
    def as_is(self) -> JpegImage:
        """The picture without its earlier compression."""
        return replace(self, past=None)

    def tables(self) -> NDArray[np.uint16]:
        """Quantization steps of luma and chroma, uint16 [2, 8, 8].

        The chroma table is that of Cb (files with different tables for Cb and Cr are rare); for a gray file all its entries are 1.
        """
        luma = self.components[0].table
        chroma = np.ones_like(luma) if self.gray else self.components[1].table
        return np.stack([luma, chroma])


def _blocks(span: tuple[int, int], end: int, factor: int, largest: int) -> slice:
    """Convert a span of pixels to blocks of a component; at the picture's end it includes the blocks of padding."""
    first, last = (edge * factor // largest // dct.BLOCK for edge in span)
    return slice(first, None if span[1] == end else last)


def coefficients_of(plane: Float32, component: Component, image: JpegImage) -> Float32:
    """DCT coefficients of a full-size plane on the grid of a component, neither quantized nor rounded.

    Args:
        plane: float32 [H, W], 0 … 255.
        component: a component whose sampling factors divide the largest ones.
        image: the component's file.

    Returns:
        float32 [rows, columns, 8, 8], shaped like the component's coefficients.
    """
    rows, columns = component.coefficients.shape[:2]
    down, right = pixels_per_sample(component, image)
    padding = [(0, rows * dct.BLOCK * down - plane.shape[0]), (0, columns * dct.BLOCK * right - plane.shape[1])]
    padded = np.pad(plane, padding, mode="edge")
    if (down, right) != (1, 1):
        # Encoders average the pixels of a chroma sample. The smallest change of pixels that changes the averages in a given way is equal
        # for all pixels of a sample: therefore adding the same correction to all of them is the orthogonal projection.
        padded = np.asarray(Image.fromarray(padded).reduce((right, down)))
    return dct.forward(dct.to_blocks(padded - np.float32(128)))


def pixels_per_sample(component: Component, image: JpegImage) -> tuple[int, int]:
    """Rows and columns of pixels that share a sample of a component."""
    return image.max_sampling[1] // component.sampling[1], image.max_sampling[0] // component.sampling[0]


def scales(image: JpegImage) -> list[tuple[int, int]]:
    """:func:`pixels_per_sample` of all components."""
    return [pixels_per_sample(component, image) for component in image.components]


def upsample(plane: Float32, factors: tuple[Fraction, Fraction], size: tuple[int, int]) -> Float32:
    """Upsample a plane by linear interpolation between sample centres, with repeated edges.

    Args:
        plane: [h, w].
        factors: number of pixels of the result per sample, (vertical, horizontal).
        size: (height, width) of the result.

    Returns:
        float32 [height, width].
    """
    # Horizontally first, while the plane is small: these pixels are not neighbours in memory.
    for axis in (1, 0):
        if factors[axis] != 1:
            plane = _interpolate(plane, axis, factors[axis], size[axis])
    return plane


def _interpolate(plane: Float32, axis: int, factor: Fraction, length: int) -> Float32:
    covers, samples = factor.as_integer_ratio()
    # With the axis first, and edges repeated as far as the interpolation reads.
    rows = np.pad(np.moveaxis(plane, axis, 0), [(1, samples + 1), (0, 0)], mode="edge")
    result = np.empty((length, plane.shape[1]) if axis == 0 else (plane.shape[0], length), np.float32)
    # The weights repeat every `covers` pixels, `samples` rows further on.
    for first in range(covers):
        pixels = np.moveaxis(result, axis, 0)[first::covers]
        position = Fraction(2 * first + 1, 2) / factor + Fraction(1, 2)
        near = math.floor(position)
        weight = np.float32(position - near)
        np.multiply(rows[near::samples][: len(pixels)], 1 - weight, out=pixels)
        pixels += rows[near + 1 :: samples][: len(pixels)] * weight
    return result


def compress(image: NDArray[np.uint8], quality: int, subsampling: str = "4:2:0") -> bytes:
    """Encode a baseline JPEG with libjpeg's scaled standard tables, like Pillow.

    Args:
        image: uint8 [H, W] (one-component file) or [H, W, 3] RGB.
        quality: quality factor, 1 … 100.
        subsampling: one of SUBSAMPLINGS; ignored for gray.

    Raises:
        ValueError: unknown subsampling or a quality outside 1 … 100.
    """
    if not 1 <= quality <= 100:
        raise ValueError(f"quality must be 1 … 100, not {quality}")
    if subsampling not in SUBSAMPLINGS:
        raise ValueError(f"subsampling must be one of {', '.join(SUBSAMPLINGS)}, not {subsampling!r}")
    buffer = io.BytesIO()
    if image.ndim == 2:
        Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    else:
        Image.fromarray(image).save(buffer, "JPEG", quality=quality, subsampling=subsampling)
    return buffer.getvalue()


def read(data: bytes, max_pixels: int = MAX_PIXELS) -> JpegImage:
    """Parse a JPEG file.

    Args:
        data: the whole file.
        max_pixels: maximum number of pixels that the header may claim.

    Raises:
        UnreadableError: the file is empty, not a JPEG, or damaged before any picture data.
        UnsupportedError: the coding is lossless, hierarchical or 12-bit; or there are two components, or more than four.
        TooLargeError: the picture has more than max_pixels, or a side beyond libjpeg's limit.
        LimitError: the file has hundreds of scans, or many scans of a large picture.
    """
    segments = markers.walk(data)
    frame = segments.frame
    _refuse_bombs(segments, max_pixels)
    coefficients, warnings = libjpeg.read_coefficients(segments.stripped, frame.blocks, segments.padding)
    if warnings and segments.restarts_dropped:
        # The dropped restart markers may have been in their places: decode again with them.
        segments = markers.walk(data, keep_restarts=True)
        coefficients, warnings = libjpeg.read_coefficients(segments.stripped, frame.blocks, segments.padding)
    h_max, v_max = _max_factors(frame.sampling)
    components = []
    for values, table, (h, v) in zip(coefficients, segments.tables, frame.sampling, strict=True):
        size = (-(-frame.height * v // v_max), -(-frame.width * h // h_max))
        # A file that ends before a component's first scan may lack its table too; without coefficients any table will do.
        steps = np.array(table or (1,) * 64, np.uint16).reshape(8, 8)
        # With a step of 0, every decoder gets 0: set the coefficient to 0 and the step to 1, which means the same.
        values[:, :, steps == 0] = 0
        components.append(Component(values, np.maximum(steps, 1), (h, v), size))
    return JpegImage(
        width=frame.width,
        height=frame.height,
        components=tuple(components),
        max_sampling=(h_max, v_max),
        colour_model=_colour_model(segments),
        progressive=frame.progressive,
        damaged=segments.damaged or bool(warnings),
        trailing=segments.trailing,
        trailing_kind=_kind(data.rstrip(b"\0")[-segments.trailing :]) if segments.trailing else "",
        metadata=metadata_.of_segments(segments.application),
    )


def _kind(trailing: bytes) -> str:
    """Kind of the bytes after a picture, as text."""
    if b"hdrgm:" in trailing or b"urn:iso:std:iso:ts:21496" in trailing:
        return "a gain map for displays of high dynamic range"
    if b"ftyp" in trailing[:64]:
        return "a video"
    return "a further picture" if b"\xff\xd8\xff" in trailing else "data of another kind"


def refuse_too_large(width: int, height: int, max_pixels: int) -> None:
    """Refuse a picture with too many pixels.

    Raises:
        TooLargeError: width · height is larger than max_pixels.
    """
    if width * height > max_pixels:
        raise TooLargeError(f"the header claims {width}×{height} pixels, over the limit of {max_pixels / 1e6:.0f} megapixels")


def _refuse_bombs(segments: markers.Segments, max_pixels: int) -> None:
    """Refuse decompression bombs by the header and the length of the data, before memory for the picture is allocated."""
    frame = segments.frame
    pixels = frame.width * frame.height
    refuse_too_large(frame.width, frame.height, max_pixels)
    if segments.visits > MAX_VISITS:
        raise LimitError("the file has far more scans than any encoder writes for so large a picture")
    if frame.arithmetic and segments.visits > max(_FREE_VISITS, segments.coded * 8 / _LEAST_BITS_PER_VISIT):
        raise LimitError("the file has far too little data for its number of scans and its size")
    blocks = sum(rows * columns for rows, columns in frame.blocks)
    if not frame.arithmetic and pixels > _SIZE_WORTH_DATA and segments.coded * 8 < blocks * _LEAST_DATA:
        raise UnreadableError(
            f"the file is damaged: the header claims {frame.width}×{frame.height} pixels, and there is next to no data for them"
        )


def _colour_model(segments: markers.Segments) -> str:
    """Colour model of the file, by the rules of libjpeg."""
    count, transform = len(segments.frame.identifiers), segments.adobe_transform
    if count == 1:
        return "gray"
    if count == 4:
        return "YCCK" if transform == 2 else "CMYK"
    if segments.jfif:
        return "YCbCr"  # A JFIF header rules out RGB.
    return "RGB" if transform == 0 or (transform is None and segments.frame.identifiers == b"RGB") else "YCbCr"


def _max_factors(sampling: tuple[tuple[int, int], ...]) -> tuple[int, int]:
    return max(h for h, _ in sampling), max(v for _, v in sampling)
