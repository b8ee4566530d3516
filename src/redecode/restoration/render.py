"""Planes of a restored picture → pixels, and how these relate to the file."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..codec import colour
from ..codec.picture import Picture, by_past
from ..errors import UnsupportedError
from . import projection, repair
from .mapped import rows_of
from .repair import Plain, Tally

Float32 = NDArray[np.float32]
Pixels = NDArray[np.uint8]

# Rows that are rendered at a time.
_STRIP = 512


@dataclass(frozen=True)
class Rendered:
    """Pixels, and how they relate to the file.

    Attributes:
        pixels: uint8, as :attr:`redecode.Decoded.image`.
        tally: of their blocks, compared with the file as it was given; of none without a file.
        correction: what the projection changed, sum of squares over all samples.
    """

    pixels: Pixels
    tally: Tally
    correction: int = 0


def render(planes: Float32, picture: Picture, project: bool, plain: Plain | None = None) -> Rendered:
    """Planes to 8-bit pixels.

    Args:
        planes: float32 [components, H, W], 0 … 255.
        picture: the file.
        project: whether they are projected onto the file's quantization cells; a picture without a file has none.
        plain: gives the planes of the plain decode of a part of a picture: near its borders subsampled chroma depends on what lies beyond,
            which the part itself does not know. None takes what it knows; so do pictures with a past.
    """
    if (times := by_past(picture)) is not None:
        return _joined(planes, times, project)
    pixels = []
    told, correction = Tally(), 0
    first = 0
    for part, layer in split(planes, picture):
        cells, channels = part.cells, slice(first, first + part.channels)
        first = channels.stop
        free = colour.to_uint8(colour.to_rgb(layer))
        if cells is None:
            pixels.append(free)
            continue
        around = None if plain is None else functools.partial(_some, plain, channels)
        if project:
            rendered, own = repair.render(layer, cells, plain=around)
            moved = np.subtract(rendered, free, dtype=np.int16).ravel()
            correction += int(np.einsum("i,i", moved, moved, dtype=np.int64))
        else:
            rendered = free
            repair.keep_colours(rendered, layer, cells, around)
            own = repair.tally(rendered, cells)
        pixels.append(rendered)
        told += own
    whole = pixels[0] if len(pixels) == 1 else _inks(np.concatenate([p.reshape(*p.shape[:2], -1) for p in pixels], axis=2), picture)
    return Rendered(whole, told, correction)


def _some(plain: Plain, channels: slice) -> Float32:
    return plain()[channels]


def _joined(planes: Float32, times: tuple[Picture, Picture, NDArray[np.bool_]], project: bool) -> Rendered:
    """As :func:`render`, of a picture with a past, see :func:`by_past`: each region by its own quantization cells, if it has any."""
    earlier, as_is, where = times
    free = colour.to_uint8(colour.to_rgb(planes))
    pixels = free.copy()
    regions = [(own.cells, inside) for own, inside in ((earlier, where), (as_is, ~where)) if own.cells is not None and inside.any()]
    if project:
        for cells, inside in regions:
            pixels[inside] = repair.to_pixels(planes, cells)[inside]
    moved = np.subtract(pixels, free, dtype=np.int16).ravel()
    told = Tally() if as_is.cells is None else repair.tally(pixels, as_is.cells)
    return Rendered(pixels, told, int(np.einsum("i,i", moved, moved, dtype=np.int64)))


def to_pixels(planes: Float32, picture: Picture, project: bool) -> Pixels:
    """As :func:`render`, the pixels alone.

    Of the picture's own planes and without projection that is the plain decode.
    """
    return render_by_strips(functools.partial(rows_of, planes), picture, project).pixels


def render_by_strips(planes: Callable[[slice], Float32], picture: Picture, project: bool) -> Rendered:
    """As :func:`render`, of a whole picture in strips, so that memory does not grow with all that is computed in between.

    Args:
        planes: the planes of some rows.
        picture: the file.
        project: as :func:`render`.
    """
    if not picture.compressed:
        return render(planes(slice(None)), picture, project)
    top, left = picture.origin
    bottom, right = top + picture.height, left + picture.width
    step = -(-_STRIP // picture.unit[0]) * picture.unit[0]
    whole: Pixels | None = None
    told, correction = Tally(), 0
    for first in range(0, bottom, step):
        last = min(first + step, bottom)
        rows = slice(max(0, first - top), last - top)
        plain = functools.partial(_plain_strip, picture, (first, last), (bottom, right))
        strip = render(planes(rows), picture.crop((first, last), (0, right)), project, plain)
        if whole is None:
            whole = np.empty((picture.height, *strip.pixels.shape[1:]), np.uint8)
        whole[rows] = strip.pixels
        told, correction = told + strip.tally, correction + strip.correction
    assert whole is not None
    return Rendered(whole, told, correction)


def _plain_strip(picture: Picture, rows: tuple[int, int], size: tuple[int, int]) -> Float32:
    """The plain decode of some rows of a picture, as they are in the whole."""
    (first, last), (bottom, right), unit = rows, size, picture.unit[0]
    start, stop = max(0, first - unit), min(last + unit, bottom)
    # What is missing above the picture is no part of its planes.
    missing = max(0, picture.origin[0] - start)
    above = max(0, first - start - missing)
    return picture.crop((start, stop), (0, right)).planes()[:, above : above + last - max(first, picture.origin[0])]


def to_deep_pixels(planes: Float32, picture: Picture, project: bool) -> NDArray[np.uint16]:
    """Like :func:`to_pixels`, but 16 bits for each channel, 0 … 65535, of gray and YCbCr pictures.

    Raises:
        UnsupportedError: another colour model.
    """
    if picture.colour_model not in ("gray", "YCbCr"):
        raise UnsupportedError(f"16 bits are for gray and RGB pictures, not for {picture.colour_model}-coded files")
    if project and (times := by_past(picture)) is not None:
        *pictures, where = times
        first, last = (planes if own.cells is None else projection.project(planes, own.cells) for own in pictures)
        planes = np.where(where, first, last)
    elif project and picture.cells is not None:
        planes = projection.project(planes, picture.cells)
    deep: NDArray[np.uint16] = np.clip(np.rint(colour.to_rgb(planes) * np.float32(257)), 0, 65535).astype(np.uint16, order="C")
    return deep


def split(planes: Float32, picture: Picture) -> list[tuple[Picture, Float32]]:
    """The gray and YCbCr parts of a picture (see :meth:`Picture.parts`), each with its planes."""
    parts = picture.parts()
    bounds = list(itertools.accumulate(part.channels for part in parts))[:-1]
    return list(zip(parts, np.split(planes, bounds), strict=True))


def by_part(planes: Float32, picture: Picture, change: Callable[[Picture, Float32], Float32]) -> Float32:
    """Planes of a picture, each part's changed by itself."""
    changed = [change(part, own) for part, own in split(planes, picture)]
    return changed[0] if len(changed) == 1 else np.concatenate(changed)


def luma(planes: Float32, picture: Picture) -> Float32:
    """What the mask is made from: the luma, for RGB and (inverted) CMYK the usual weights of their channels; float32 [H, W]."""
    if picture.colour_model in ("RGB", "CMYK"):
        return colour.weighted(planes[:3], colour.RGB_TO_YCBCR[0])
    first: Float32 = planes[0]
    return first


class Figures(NamedTuple):
    """How a result relates to its file, see :class:`redecode.Decoded`."""

    consistency: float | None
    projection_psnr: float | None
    raw_consistency: float | None


def figures(tally: Tally, correction: int, samples: int) -> Figures:
    """The figures of a picture, of the sums over its :class:`Rendered` parts."""
    return Figures(
        consistency=tally.consistent / tally.blocks if tally.blocks else None,
        projection_psnr=10 * math.log10(255**2 * samples / correction) if correction else None,
        raw_consistency=tally.encoded / tally.luma if tally.luma else None,
    )


def _inks(pixels: Pixels, picture: Picture) -> Pixels:
    """Stored samples of a CMYK file to inks, or back: Adobe inverts them, in YCCK only the last."""
    if picture.colour_model == "CMYK":
        return 255 - pixels
    if picture.colour_model == "YCCK":
        return np.concatenate([pixels[..., :3], 255 - pixels[..., 3:]], axis=2)
    return pixels
