"""Files that were compressed before, as pictures are that were edited and saved, or sent on.

A second compression leaves the DCT coefficients of the first one near multiples of its steps, on its own block grid. Four questions:

1. On the same grid, do the coefficients of the file lie where multiples of other, coarser steps are quantized to? (Lukáš and Fridrich,
   "Estimation of primary quantization matrix in double compressed JPEG images", 2003; Neelamani et al., "JPEG compression history
   estimation for color images", 2006.)
2. Else, is there another of the 64 grids on which the picture's coefficients are periodic? (Bianchi and Piva, "Detection of nonaligned
   double JPEG compression based on integer periodicity maps", 2012; see :func:`redecode.codec.trace.find_coarser`.)
3. Else, was it scaled since? See :mod:`redecode.codec.rescaling`.
4. Which blocks fit the answer? What was written into the picture later does not (block-grained localization, Bianchi and Piva, "Image
   forgery localization via block-grained analysis of JPEG artifacts", 2012).

On the same grid the coefficients of the first compression are recovered, mostly to the last one, and with them its quantization cells. On
another grid, or before a scaling, its tables are known, and tell the networks what they see.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from . import colour, dct
from .jpeg import Component, JpegImage, Past, coefficients_of, pixels_per_sample
from .quality import STANDARD, nearest_quality, standard_tables
from .rescaling import find_scaled, fits_scaled
from .trace import BEST_COARSER, PATCH, Trace, as_gray, find_coarser, fits, flat, of_quality, settled, spread

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Bools = NDArray[np.bool_]

# The first compression must be this much stronger, in quality factors, to be worth going back to.
MIN_GAP = 5
# Blocks that are looked at on the same grid, at first and to be sure.
_LOOKED_AT, _SAMPLE = 1024, 8192
# Share of blocks that are not flat, and number of different ones, below which nothing is looked for.
_MIN_TEXTURED, _MIN_DISTINCT = 0.05, 24
# Rows of units that are decoded and compressed again at a time.
_STRIP = 32
# What rounding to 8 bits between the two compressions moves a coefficient by, at most: five standard deviations.
_ROUNDING = 2.0
# Logarithm of the likelihood ratio, for one coefficient, where it does not fit the first compression.
_MISFIT = -4.0
# Logarithm of the likelihood ratio that is believed, over all blocks looked at, and the least that makes a second look worth it.
_DECISIVE, _PROMISING = 40.0, 10.0
# The same for one block on average.
_LEAST_EVIDENCE = 0.1
# A trace is of use, and no chance, if at least this share of the picture fits it.
_MIN_SHARE = 0.25
# On another grid, second compressions below this quality factor leave too little of a first one.
_MIN_SECOND = 55
# Of the inverse of the filter (1, 6, 1)/8, by which libjpeg's interpolation and averaging of chroma together blur: this to the distance.
_POLE = 2 * np.sqrt(2) - 3
_TAPS = 9


def find_past(image: JpegImage) -> Past | None:
    """Look for an earlier, stronger compression.

    Args:
        image: a file; other colour models than gray and YCbCr are not looked at.

    Returns:
        What the picture was before, or None where nothing shows.
    """
    luma = image.components[0]
    if image.colour_model not in ("gray", "YCbCr") or image.damaged or luma.sampling != image.max_sampling:
        return None
    # Flat blocks tell nothing, and few different ones nothing that could not be chance.
    blocks = luma.coefficients.reshape(-1, dct.BLOCK**2)
    sample = blocks[spread(len(blocks), _LOOKED_AT)]
    textured = sample[sample[:, 1:].any(1)]
    if len(textured) < _MIN_TEXTURED * len(sample) or len(np.unique(textured, axis=0)) < _MIN_DISTINCT:
        return None
    return _same_grid(image) or _another_grid(image) or _scaled(image)


def forced_past(image: JpegImage, quality: int) -> Past:
    """What a picture is if a user says that it was compressed at this quality factor before.

    It holds nowhere where the file itself was compressed as strongly: there is nothing to know then that it does not say. Nor does it in
    colour models other than gray and YCbCr.
    """
    trace = of_quality(quality, image.gray)
    units = [-(-length // unit) for length, unit in zip((image.height, image.width), image.unit, strict=True)]
    if image.quality <= quality or image.colour_model not in ("gray", "YCbCr"):
        return Past(trace, np.zeros(units, bool))
    found = find_past(image)
    if found:
        trace = replace(trace, offset=found.trace.offset, scaling=found.trace.scaling)
    return Past(trace, np.ones(units, bool))


def _same_grid(image: JpegImage) -> Past | None:
    luma, *chroma = image.components
    found = _first_quality(luma)
    if found is None:
        return None
    quality, evidence = found
    tables = standard_tables(quality)
    if image.gray:
        tables[1] = 1
    # A decoder that interpolates subsampled chroma, as nearly all do, blurs it for the second compression.
    recovered = [_recovered(luma, tables[0])]
    for component in chroma:
        blurred = tuple(axis for axis in (0, 1) if pixels_per_sample(component, image)[axis] == 2)
        recovered.append(_recovered(component, tables[1], blurred))
    first = replace(image, components=tuple(recovered))
    fits = _repeated(image, first)
    if chroma and min(float(fit.mean()) for fit in fits[1:]) < _MIN_SHARE:
        # What became of chroma cannot be told: it stays as it is.
        first = replace(image, components=(recovered[0], *chroma))
        fits = [_repeated(image, first)[0]]
    holds = _by_unit(image, fits)
    if holds.mean() < _MIN_SHARE:
        return None
    trace = Trace((0, 0), tables, quality, float(1 - 0.5 ** (evidence / _DECISIVE)))
    return Past(trace, holds, first)


def _first_quality(luma: Component) -> tuple[int, float] | None:
    """The quality factor of an earlier compression on the same grid, and the logarithm of its likelihood ratio."""
    blocks = np.abs(luma.coefficients.reshape(-1, dct.BLOCK**2))
    own, _ = nearest_quality(luma.table)
    qualities = np.arange(1, own - MIN_GAP + 1)
    if not len(qualities) or not len(blocks):
        return None
    steps = luma.table.reshape(-1)
    few = blocks[spread(len(blocks), _LOOKED_AT)]
    evidence = _telling(few, steps, qualities)
    if evidence.max() < _PROMISING:
        return None
    best = int(qualities[evidence.argmax()])
    near = [quality for quality in range(best - 3, best + 4) if quality in qualities]
    sample = luma.coefficients.reshape(-1, *luma.table.shape)[spread(len(blocks), _LOOKED_AT)]
    quality = max(near, key=lambda quality: _share_repeated(sample, luma.table, standard_tables(quality)[0]))
    # What is repeated, like the tiles of a game's map, is no further evidence.
    distinct = np.unique(blocks[spread(len(blocks), _SAMPLE)], axis=0)
    ratios = _block_evidence(distinct, steps, quality)
    # Half of the blocks may have come later.
    likelihood = float(np.logaddexp(0, ratios).sum() - len(ratios) * np.log(2))
    return (quality, likelihood) if likelihood > max(_DECISIVE, _LEAST_EVIDENCE * len(distinct)) else None


def _share_repeated(sample: NDArray[np.int16], table: NDArray[np.uint16], first: NDArray[np.uint16]) -> float:
    """Share of blocks of luma that become the same when they are requantized, decoded and compressed again, other colours aside."""
    coefficients = sample * table.astype(np.float32)
    decoded = np.rint(dct.inverse(np.rint(coefficients / first) * first)).clip(-128, 127)
    again = np.abs(dct.forward(decoded) - coefficients) - table / np.float32(2)
    return float((again <= 1).all((1, 2)).mean())


def _telling(blocks: NDArray[np.int16], steps: NDArray[np.uint16], qualities: NDArray[np.intp]) -> Float64:
    """Logarithm of the likelihood ratio of an earlier compression, float64 for each quality factor, by the histogram of each frequency."""
    total = np.zeros(len(qualities))
    for frequency, step in enumerate(steps):
        counts = np.bincount(blocks[:, frequency])
        if len(counts) > 1:
            first, place = np.unique(STANDARD[qualities - 1, 0, frequency], return_inverse=True)
            fits, beyond, chance = _chances(counts, float(step), first)
            # Half of the blocks may have come later.
            total += np.where(beyond, np.where(fits, np.log(0.5 + 0.5 / chance), np.log(0.5)), 0).dot(counts)[place]
    return total


def _chances(counts: NDArray[np.intp], step: float, first: NDArray[np.uint16]) -> tuple[Bools, Bools, Float64]:
    """Which quantized values fit earlier steps, and how many of them do so by chance.

    Args:
        counts: int [n], how often the values 0 … n − 1 occur.
        step: the file's own.
        first: uint16 [k], the earlier steps.

    Returns:
        Bool [k, n], whether a value is what a multiple of the earlier step may have become; bool [k, n], whether that multiple is not 0;
        and float64 [k, 1], the share of the former among the latter, were the values distributed geometrically.
    """
    value = np.arange(len(counts)) * step
    multiple = np.rint(value / first[:, None])
    fits = np.abs(value - multiple * first[:, None]) <= step / 2 + _ROUNDING
    beyond = multiple > 0
    mean = (np.arange(len(counts)) * counts).sum() / max(1, counts[1:].sum())
    envelope = (1 - 1 / max(mean, 1.01)) ** np.arange(len(counts))
    chance = (envelope * (fits & beyond)).sum(1) / np.maximum((envelope * beyond).sum(1), np.finfo(np.float64).tiny)
    return fits, beyond, np.clip(chance, 0.01, 1)[:, None]


def _block_evidence(blocks: NDArray[np.int16], steps: NDArray[np.uint16], quality: int) -> Float64:
    """Logarithm of the likelihood ratio of an earlier compression for each block, float64 [n]."""
    total = np.zeros(len(blocks))
    for frequency, step in enumerate(steps):
        values = blocks[:, frequency]
        counts = np.bincount(values)
        if len(counts) > 1:
            fits, beyond, chance = (a[0] for a in _chances(counts, float(step), STANDARD[[quality - 1], 0, frequency]))
            total += np.where(fits, np.where(beyond, -np.log(chance), 0), _MISFIT)[values]
    return total


def _recovered(component: Component, steps: NDArray[np.uint16], blurred: tuple[int, ...] = ()) -> Component:
    """A component as the first compression left it, blurred along some axes since."""
    if blurred:
        plane = component.plane()
        for axis in blurred:
            plane = _filtered(plane, _sharpening(), axis)
        dequantized = _coefficients(plane, component)
    else:
        dequantized = component.coefficients.astype(np.float32) * component.table
    multiples = np.rint(dequantized / steps).astype(np.int16)
    return replace(component, coefficients=multiples, table=steps)


def _repeated(image: JpegImage, first: JpegImage) -> list[Bools]:
    """Which blocks of each component become the file's own when an earlier file is decoded and compressed again; bool [rows, columns]."""
    unit, parts = image.unit[0], []
    for start in range(0, image.height, _STRIP * unit):
        # A unit more above and below, for the interpolation of chroma.
        rows = max(0, start - unit), min(image.height, start + (_STRIP + 1) * unit)
        strip, before = (whole.crop(rows, (0, image.width)) for whole in (image, first))
        fits = []
        for plane, component in zip(_as_encoded(before), strip.components, strict=True):
            again = coefficients_of(plane, component, strip)
            again -= component.coefficients * component.table.astype(np.float32)
            fit: Bools = np.all(np.abs(again, out=again) <= component.table / np.float32(2) + np.float32(_ROUNDING), axis=(2, 3))
            above = (start - rows[0]) // unit * component.sampling[1]
            fits.append(fit[above:][: _STRIP * component.sampling[1]] if rows[1] < image.height else fit[above:])
        parts.append(fits)
    return [np.concatenate(fits) for fits in zip(*parts, strict=True)]


def _as_encoded(image: JpegImage) -> Float32:
    """The planes that an encoder makes of a decoded file, rounded to 8 bits wherever decoders and encoders do."""
    decoded = colour.to_uint8(colour.to_rgb(np.rint(image.planes(rounded=True))))
    planes = colour.to_planes(decoded)
    return np.rint(planes, out=planes)


def _coefficients(plane: Float32, component: Component) -> Float32:
    """DCT coefficients of a component's samples on its own grid, the last ones repeated as far as the grid reaches."""
    rows, columns = component.coefficients.shape[:2]
    padding = [(0, rows * dct.BLOCK - plane.shape[0]), (0, columns * dct.BLOCK - plane.shape[1])]
    return dct.forward(dct.to_blocks(np.pad(plane, padding, mode="edge") - np.float32(128)))


def _filtered(plane: Float32, taps: Float32, axis: int) -> Float32:
    reach = len(taps) // 2
    padding = [(reach, reach) if a == axis else (0, 0) for a in (0, 1)]
    padded, length = np.moveaxis(np.pad(plane, padding, mode="symmetric"), axis, 0), plane.shape[axis]
    result = np.zeros_like(np.moveaxis(plane, axis, 0))
    for index, tap in enumerate(taps):
        result += tap * padded[index : index + length]
    return np.ascontiguousarray(np.moveaxis(result, 0, axis))


def _sharpening() -> Float32:
    distance = np.abs(np.arange(-_TAPS, _TAPS + 1))
    taps: Float32 = (np.sqrt(2) * _POLE**distance).astype(np.float32)
    return taps


def _another_grid(image: JpegImage) -> Past | None:
    luma = image.components[0]
    own, _ = nearest_quality(luma.table)
    if own < _MIN_SECOND:
        return None
    found = find_coarser(lambda count: _patches(luma, count), luma.table, min(own - MIN_GAP, BEST_COARSER))
    if not found:
        return None
    trace, *between = found
    later = [(luma.table, (0, 0)), *((other.tables[0], other.offset) for other in between)]
    if image.gray:
        trace = as_gray(trace)
    # Blocks of the earlier grid reach into up to four of the file's.
    top, left = (-offset % dct.BLOCK for offset in trace.offset)
    rows, columns = luma.coefficients.shape[:2]
    fitting = np.zeros((rows * dct.BLOCK, columns * dct.BLOCK), bool)
    unit = image.unit[0]
    for start in range(0, image.height, _STRIP * unit):
        # A unit more above and below, for the interpolation of chroma and for the blocks that reach out of the strip.
        first, last = max(0, start - unit), min(image.height, start + (_STRIP + 1) * unit)
        fit = fits(image.crop((first, last), (0, image.width)).planes(), trace, later)
        pixels = fit.repeat(dct.BLOCK, 0).repeat(dct.BLOCK, 1)[top + start - first :, left:]
        part = fitting[start : start + _STRIP * unit]
        part[:] = _grown(pixels, part.shape)
    whole: Bools = np.all(fitting.reshape(rows, dct.BLOCK, columns, dct.BLOCK), axis=(1, 3))
    holds = _by_unit(image, [whole])
    return Past(trace, holds & ~_flat(image)) if holds.mean() >= _MIN_SHARE else None


def _scaled(image: JpegImage) -> Past | None:
    luma = image.components[0]
    own, _ = nearest_quality(luma.table)
    size = image.height, image.width
    if own < _MIN_SECOND:
        return None

    def part(rows: slice, columns: slice) -> Float32:
        blocks = tuple(slice(own.start // dct.BLOCK, -(-own.stop // dct.BLOCK)) for own in (rows, columns))
        plane = dct.from_blocks(dct.inverse(luma.coefficients[blocks].astype(np.float32) * luma.table))
        return plane[: rows.stop - rows.start, : columns.stop - columns.start]

    trace = find_scaled(part, size, luma.table, min(own - MIN_GAP, BEST_COARSER))
    if trace is None:
        return None
    if image.gray:
        trace = as_gray(trace)
    holds = _by_unit(image, [fits_scaled(part, size, luma.table, trace)])
    return Past(trace, holds & ~_flat(image)) if holds.mean() >= _MIN_SHARE else None


def _grown(values: Bools, shape: tuple[int, ...]) -> Bools:
    """Cut to a shape, or filled up to it with the last rows and columns."""
    cut = values[: shape[0], : shape[1]]
    return np.pad(cut, [(0, most - side) for most, side in zip(shape, cut.shape, strict=True)], mode="edge")


def _patches(luma: Component, most: int) -> Float32:
    """Patches of PATCH blocks squared, spread over the picture, but for flat ones: float32 [n, side, side] around 0."""
    rows, columns = (side // PATCH for side in luma.coefficients.shape[:2])
    places = spread(rows * columns, most) if rows and columns else np.empty(0, np.intp)
    found = [luma.coefficients[r * PATCH :, c * PATCH :][:PATCH, :PATCH] for r, c in (divmod(int(place), columns) for place in places)]
    varied = [blocks for blocks in found if blocks.any()]
    side = PATCH * dct.BLOCK
    if not varied:
        return np.empty((0, side, side), np.float32)
    dequantized: Float32 = np.stack(varied).astype(np.float32) * luma.table
    return dct.inverse(dequantized).swapaxes(2, 3).reshape(-1, side, side)


def _flat(image: JpegImage) -> Bools:
    """Which units belong to a wide area of black or of white; bool [rows, columns]."""
    luma = image.components[0]
    even = ~luma.coefficients.reshape(*luma.coefficients.shape[:2], -1)[..., 1:].any(2)
    level = luma.coefficients[..., 0, 0] * np.float32(luma.table[0, 0] / dct.BLOCK) + np.float32(128)
    far = np.float32(np.inf)
    return _whole_units(image, [flat(np.where(even, level, -far), np.where(even, level, far))])


def _by_unit(image: JpegImage, fits: list[Bools]) -> Bools:
    """Where all blocks of an MCU fit, and most of their neighbours."""
    return settled(_whole_units(image, fits))


def _whole_units(image: JpegImage, fits: list[Bools]) -> Bools:
    """Where all blocks of an MCU fit."""
    rows, columns = (-(-length // unit) for length, unit in zip((image.height, image.width), image.unit, strict=True))
    whole = np.ones((rows, columns), bool)
    for component, fit in zip(image.components, fits, strict=False):
        # Blocks beyond the picture's last MCU hold nothing that shows.
        h, v = component.sampling
        padded = np.pad(fit, [(0, max(0, rows * v - fit.shape[0])), (0, max(0, columns * h - fit.shape[1]))], constant_values=True)
        whole &= padded[: rows * v, : columns * h].reshape(rows, v, columns, h).all((1, 3))
    return whole
