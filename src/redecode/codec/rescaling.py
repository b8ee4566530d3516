"""Pictures that were scaled after a compression: by how much, on which grid, and how strongly they were compressed before.

Scaling by a factor s makes a block grid of the period 8·s, which is mostly no whole number of pixels. It is found in two steps:

1. Across the borders of strongly compressed blocks pictures change more than within. Along rows and along columns, the mean change has
   spectral lines at the multiples of 1/(8·s), as in Kirchner and Gloe, "On resampling detection in re-compressed images" (2009). Their
   frequency and phase are the factor and the place of the grid.
2. Many other things are periodic. So the scaling is undone, and the DCT coefficients on that grid must be near multiples of steps of a
   standard table, more than on any other grid (Bianchi and Piva, "Reverse engineering of double JPEG compression in the presence of image
   resizing", 2012). That tells the quality factor, too.

Nothing is projected on the cells of such a compression: scaling has moved its coefficients. But the networks can be given what they know,
blocks of 8×8 pixels with their tables: see :func:`at_earlier_size`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from . import dct
from .quality import STANDARD
from .trace import LOW, PATCH, Scaling, Trace, around, periodicity, spread, varied, without_strays

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Complex = NDArray[np.complex128]
# Gives luma, float32 around 0, of some rows and columns.
Luma = Callable[[slice, slice], Float32]

# Factors that are looked for, and their ratio from one to the next.
_FACTORS, _RATIO = (0.5, 2.1), 1.001
# The change from pixel to pixel is averaged over this many rows or columns in the middle; what is above this many levels counts as so many.
_ACROSS, _MOST = 512, 12.0
# Places whose mean each is compared with.
_AROUND = 33
# A mean change counts up to this many times what it is off that mean in most places.
_OUTLYING = 5.0
# Windows of frequencies in which the noise is measured.
_BANDS = 24
# Harmonics that are looked at; of each, the logarithm of its power over that of the noise counts, less a cost, up to a limit.
_HARMONICS, _COST, _LIMIT = np.arange(1, 8), 1.0, 8.0
# Frequency above which they cannot be told from their mirror images at ½ per pixel.
_HIGHEST = 0.48
# Sum of these, along both axes, that makes a factor worth a look; and how many factors are looked at.
_VISIBLE, _LOOKED_AT = 2.5, 4
# Factors nearer to 1 than this (as logarithms) are no scaling; blocks of other makes, such as the tiles of a map, would be taken for one.
_UNSCALED = 0.02
# How far a factor may be from where its lines seem to be; and those along rows and columns apart, as sizes are rounded to whole pixels.
_AROUND_FACTOR, _APART = 0.01, 0.004
# Patches that are looked at first, and to be sure.
_FEW_PATCHES, _MANY_PATCHES = 24, 96
# Standard errors by which the periodicity of coefficients on the grid must surpass that on others, to be looked at again, and believed.
_PROMISING, _BELIEVED = 2.0, 6.0
# The same where no later compression has added noise: real traces are clear then, and drawings are drawn as neatly.
_BELIEVED_ALONE = 20.0
# How far from the picture's border, in pixels, a grid may seem to begin that begins there.
_AT_BORDER = 0.7
# By how many pixels a grid is stretched at the picture's ends, and moved, to see whether it fits better.
_STRETCHED, _MOVED = (-1.0, -0.5, -0.25, 0.25, 0.5, 1.0), (-0.4, -0.2, -0.1, 0.1, 0.2, 0.4)
# Variance that scaling to and fro adds to coefficients.
_RESAMPLING = 1.0
# Share of the frequencies that are left by a scaling of which kernels hardly change the size.
_PASSED = 0.8
# How far from multiples coefficients may be on average that belong to the earlier compression, squared, over what evenly spread ones are;
# how much a single one counts at most; and from how many standard deviations of the noise it counts.
_OFF, _MOST_OFF, _TELLING = 0.55, 3.0, 3.0
# Kernel by which a scaling is undone.
_KERNEL = Image.Resampling.LANCZOS
# What a pixel depends on by scaling to and fro, the block at the border included; in pixels of the larger size.
REACH = 24
# Offsets of the grid that are the expected one, within a pixel.
_NEAR = [(row % dct.BLOCK) * dct.BLOCK + column % dct.BLOCK for row in (-1, 0, 1) for column in (-1, 0, 1)]


def find_scaled(luma: Luma, size: tuple[int, int], table: NDArray[np.uint16] | None, best: int) -> Trace | None:
    """Look for a compression before a scaling.

    Args:
        luma: see Luma.
        size: rows and columns of the picture.
        table: uint16 [8, 8], luma steps of a compression after the scaling, on a grid that begins at the top left; None if there was none.
        best: quality factor above which a compression is of no interest.

    Returns:
        The compression, with luma and chroma tables; None where none shows.
    """
    if best < 1 or min(size) < 2 * PATCH * dct.BLOCK:
        return None
    spectra = [_spectrum(change, table is not None) for change in _changes(luma, size)]
    factors = np.exp(np.arange(np.log(_FACTORS[0]), np.log(_FACTORS[1]), np.log(_RATIO)))
    scores = np.array([_highest(_score(power, factors)) for _, power in spectra])
    candidate = (scores >= 0).all(0) & (scores.sum(0) >= _VISIBLE) & (np.abs(np.log(factors)) > _UNSCALED)
    visible = np.where(candidate, scores.sum(0), -np.inf)
    for _ in range(_LOOKED_AT):
        best_place = int(visible.argmax())
        if not np.isfinite(visible[best_place]):
            break
        factor = float(factors[best_place])
        # The axis along which the lines are clearer tells the other one where to look.
        clear = int(scores[:, best_place].argmax())
        lines = {clear: _line(spectra[clear][0], factor, size[clear], _AROUND_FACTOR)}
        lines[1 - clear] = _line(spectra[1 - clear][0], lines[clear][0], size[1 - clear], _APART)
        (rows, top), (columns, left) = lines[0], lines[1]
        if found := _believed(luma, size, Scaling((rows, columns), (top, left)), table, best):
            return found
        visible[np.abs(np.log(factors / factor)) < 2 * _AROUND_FACTOR] = -np.inf
    return None


def _changes(luma: Luma, size: tuple[int, int]) -> list[Float64]:
    """Mean change from each row, and from each column, to the next."""
    middle = [slice(max(0, length - _ACROSS) // 2 // dct.BLOCK * dct.BLOCK, (length + min(length, _ACROSS)) // 2) for length in size]
    down, across = luma(slice(0, size[0]), middle[1]).T, luma(middle[0], slice(0, size[1]))
    return [np.minimum(np.abs(np.diff(plane, axis=1)), _MOST).mean(0, dtype=np.float64) for plane in (down, across)]


def _spectrum(change: Float64, later: bool) -> tuple[Complex, Float64]:
    """The spectrum of the mean change, and its power over that of the noise around, which is 1 on the lines of a later compression.

    Returns:
        complex128 and float64 [n/2 + 1], frequencies 0 … ½ per pixel.
    """
    base = np.convolve(np.pad(change, _AROUND // 2, mode="reflect"), np.full(_AROUND, 1 / _AROUND), "valid")
    relative = (change - base) / np.maximum(base, 1e-3)
    # The edges of single things, such as lines of text, do not count for more than the borders of blocks.
    limit = _OUTLYING * np.median(np.abs(relative))
    relative = np.clip(relative, -limit, limit) * np.hanning(len(change))
    length = 1 << int(8 * len(change) - 1).bit_length()
    # As seen from the middle, where the phase depends least on the frequency.
    spectrum = np.fft.rfft(np.roll(np.pad(relative, (0, length - len(relative))), -(len(relative) // 2)))
    power = np.square(np.abs(spectrum))
    bands = np.array_split(power, _BANDS)
    middles = np.cumsum([len(band) for band in bands]) - len(bands[0]) / 2
    noise = np.interp(np.arange(len(power)), middles, [np.median(band) for band in bands]) / np.log(2)
    ratio = power / np.maximum(noise, np.finfo(np.float64).tiny)
    if later:
        frequency = np.arange(len(power)) / length
        ratio[np.abs(frequency - np.rint(frequency * dct.BLOCK) / dct.BLOCK) < 2 / len(change)] = 1
    return spectrum, ratio


def _harmonics(factors: Float64) -> tuple[Float64, NDArray[np.bool_]]:
    """Frequencies of the spectral lines of factors, float64 [n, harmonics]; and which of them can be seen."""
    frequencies = _HARMONICS / (dct.BLOCK * factors[:, None])
    return frequencies, frequencies < _HIGHEST


def _score(power: Float64, factors: Float64) -> Float64:
    """How much a spectrum looks like that of blocks scaled by each factor, float64 [n]."""
    frequencies, seen = _harmonics(factors)
    index = np.rint(frequencies * 2 * (len(power) - 1)).astype(np.intp)
    near = np.max([power[np.minimum(index + step, len(power) - 1)] for step in (-2, 0, 2)], 0)
    score: Float64 = np.where(seen, np.minimum(np.log(np.maximum(near, 0.2)), _LIMIT) - _COST, 0).sum(1)
    return score


def _highest(scores: Float64) -> Float64:
    """The highest of each score and its neighbours: both axes need not have the very same factor."""
    padded = np.pad(scores, 2, mode="edge")
    highest: Float64 = np.max([padded[first : first + len(scores)] for first in range(5)], 0)
    return highest


def _line(spectrum: Complex, factor: float, length: int, within: float) -> tuple[float, float]:
    """The factor within a share of a given one at which the lines fit best, and where the first whole block begins, in pixels."""
    factors = factor * (1 + np.linspace(-within, within, 201))
    frequencies, seen = _harmonics(factors)
    lines = np.where(seen, spectrum[np.minimum(np.rint(frequencies * 2 * (len(spectrum) - 1)), len(spectrum) - 1).astype(np.intp)], 0)
    # About the middle of a border the lines are symmetric: all real. Phases are those of 64 places in a block.
    places = np.arange(64) / 64
    phases = np.exp(2j * np.pi * _HARMONICS[:, None] * places)
    symmetry = np.abs((lines[:, :, None] * phases).real).sum(1)
    best, place = np.unravel_index(symmetry.argmax(), symmetry.shape)
    # So they are about the middle of a block.
    borders = (lines[best] @ phases).real
    place = max(place, (place + 32) % 64, key=lambda place: borders[place])
    period = dct.BLOCK * factors[best]
    # The middle sample is the change to the next pixel, at whose border it lies.
    middle = (length - 1) // 2 + 1
    return float(factors[best]), float((middle + places[place] * period) % period)


def _believed(luma: Luma, size: tuple[int, int], scaling: Scaling, table: NDArray[np.uint16] | None, best: int) -> Trace | None:
    """The compression on a grid, if its coefficients show it."""
    variance = _variance(table, scaling)

    def look(scaling: Scaling, count: int) -> tuple[float, int, bool]:
        """The lead of the grid over others, the quality factor at which it has it, and whether all quarters of the evidence agree."""
        patches = _patches(luma, size, scaling, count)
        if not len(patches):
            return 0.0, 1, False
        whole, quarters = periodicity(patches, variance, best)
        lead = whole[_NEAR].max(0) - np.delete(whole, _NEAR, 0).max(0)
        index = int(lead.argmax())
        agreeing = bool(np.isin(quarters[:, :, index].argmax(1), _NEAR).all())
        return float(lead[index]), index + 1, agreeing and varied(patches, STANDARD[index, 0])

    scaling, (lead, quality, _) = max(((own, look(own, _FEW_PATCHES)) for own in _uncropped(scaling, size)), key=lambda one: one[1][0])
    if lead < _PROMISING:
        return None
    scaling = _refined(luma, size, scaling, STANDARD[quality - 1, 0])
    lead, quality, sure = look(scaling, _MANY_PATCHES)
    least = _BELIEVED_ALONE if table is None else _BELIEVED
    if lead < least or not sure:
        return None
    tables = STANDARD[quality - 1].reshape(2, dct.BLOCK, dct.BLOCK)
    return Trace((0, 0), tables, quality, 1 - 0.5 ** (lead / least), scaling=scaling)


def _variance(table: NDArray[np.uint16] | None, scaling: Scaling) -> float:
    """Variance of the noise of low coefficients at the earlier size, by the scaling and by a later compression."""
    if table is None:
        return _RESAMPLING
    # A pixel of the earlier size has noise of several of today's, or of a part of one.
    share = min(1.0, 1 / float(np.prod(scaling.factors)))
    return _RESAMPLING + share * float(np.mean([float(table[index]) ** 2 for index in LOW])) / 12


def _uncropped(scaling: Scaling, size: tuple[int, int]) -> list[Scaling]:
    """A scaling; and, if its grid begins where the picture does, that of a whole picture of so many pixels."""
    if any(min(first, dct.BLOCK * own - first) > _AT_BORDER for first, own in zip(scaling.first, scaling.factors, strict=True)):
        return [scaling]
    rows, columns = (length / round(length / own) for length, own in zip(size, scaling.factors, strict=True))
    return [scaling, Scaling((rows, columns), (0.0, 0.0))]


def _refined(luma: Luma, size: tuple[int, int], scaling: Scaling, steps: NDArray[np.uint16]) -> Scaling:
    """The scaling near a given one on whose grid coefficients are most periodic with some steps, uint16 [64]."""

    def fit(scaling: Scaling) -> float:
        blocks = dct.forward(dct.to_blocks(_patches(luma, size, scaling, _FEW_PATCHES).reshape(-1, PATCH * dct.BLOCK)))
        total = 0.0
        for row, column in LOW:
            step, sizes = float(steps[row * dct.BLOCK + column]), np.abs(blocks[..., row, column])
            total += float((np.cos(2 * np.pi * sizes / step) * (sizes > step / 2)).sum())
        return total

    best = fit(scaling)
    for axis in (0, 1, 0, 1):
        for near in _nearby(scaling, axis, size[axis]):
            if (value := fit(near)) > best:
                best, scaling = value, near
    return scaling


def _nearby(scaling: Scaling, axis: int, length: int) -> list[Scaling]:
    """Scalings that differ along an axis: those of whole pictures of some pixels; grids that are stretched, or moved, by parts of one."""
    factor, first = scaling.factors[axis], scaling.first[axis]
    whole = [(length / pixels, 0.0) for pixels in range(round(length / factor) - 2, round(length / factor) + 3)]
    stretched = [(factor * (1 + 2 * end / length), first - end + 2 * end * first / length) for end in _STRETCHED]
    moved = [(factor, first + by * max(1.0, factor)) for by in _MOVED]
    near = whole * (min(first, dct.BLOCK * factor - first) <= _AT_BORDER) + stretched + moved

    def with_own(factor: float, first: float) -> Scaling:
        factors, begin = list(scaling.factors), list(scaling.first)
        factors[axis], begin[axis] = factor, first % (dct.BLOCK * factor)
        return Scaling((factors[0], factors[1]), (begin[0], begin[1]))

    return [with_own(*own) for own in near]


def _patches(luma: Luma, size: tuple[int, int], scaling: Scaling, most: int) -> Float32:
    """Patches of PATCH blocks squared at the earlier size, spread over the picture, but for flat ones: float32 [n, side, side] around 0."""
    side = PATCH * dct.BLOCK
    steps = [side * factor for factor in scaling.factors]
    rows, columns = (int((length - first) // step) for length, first, step in zip(size, scaling.first, steps, strict=True))
    found = []
    for place in spread(rows * columns, most):
        corner = [first + index * step for first, index, step in zip(scaling.first, divmod(int(place), columns), steps, strict=True)]
        # A few pixels around, for the kernel.
        wide = [
            slice(max(0, int(c) - 8) // dct.BLOCK * dct.BLOCK, min(length, int(c + step) + 8))
            for c, step, length in zip(corner, steps, size, strict=True)
        ]
        part = luma(*wide)
        if np.ptp(part) > 1:
            top, left = (c - own.start for c, own in zip(corner, wide, strict=True))
            found.append(_resized(part, (side, side), (left, top, left + steps[1], top + steps[0])))
    return np.stack(found) if found else np.empty((0, side, side), np.float32)


def _resized(plane: Float32, size: tuple[int, int], box: tuple[float, float, float, float]) -> Float32:
    """A part of a plane (left, top, right, bottom), resampled to rows and columns."""
    left, top, right, bottom = box
    # It may end behind the plane by what floats are rounded.
    box = max(0.0, left), max(0.0, top), min(right, plane.shape[1]), min(bottom, plane.shape[0])
    image = Image.fromarray(np.ascontiguousarray(plane, np.float32))
    return np.asarray(image.resize(size[::-1], _KERNEL, box))


def fits_scaled(luma: Luma, size: tuple[int, int], table: NDArray[np.uint16] | None, trace: Trace) -> NDArray[np.bool_]:
    """Where a picture is what a compression before a scaling left; what came into it later is not.

    Args:
        luma, size, table: as for :func:`find_scaled`.
        trace: what that has found.

    Returns:
        bool [rows, columns], for the blocks of 8×8 pixels that begin at the top left today.
    """
    assert trace.scaling is not None
    factors = trace.scaling.factors
    variance = _variance(table, trace.scaling)
    margin = int(np.ceil(2 * factors[0])) * dct.BLOCK
    parts = []
    for start in range(0, size[0], _ACROSS):
        first, last = max(0, start - margin), min(size[0], start + _ACROSS + margin)
        rows, columns = slice(first, last), slice(0, size[1])
        earlier, begin = _at_earlier_size(luma(rows, columns)[None], trace.scaling.crop(first, 0))
        fit = without_strays(_near_multiples(earlier[0], trace, variance))
        own = np.arange(start, min(size[0], start + _ACROSS)) - first, np.arange(size[1])
        places = [((pixels + 0.5) / factor + b) // dct.BLOCK for pixels, factor, b in zip(own, factors, begin, strict=True)]
        pixels = fit[np.ix_(*(np.minimum(p.astype(np.intp), side - 1) for p, side in zip(places, fit.shape, strict=True)))]
        padded = np.pad(pixels, [(0, -side % dct.BLOCK) for side in pixels.shape], mode="edge")
        blocks = padded.reshape(padded.shape[0] // dct.BLOCK, dct.BLOCK, -1, dct.BLOCK)
        parts.append(blocks.all((1, 3)))
    return np.concatenate(parts)


def _near_multiples(luma: Float32, trace: Trace, variance: float) -> NDArray[np.bool_]:
    """Which blocks, at the earlier size, have coefficients near multiples of the steps, with the blocks around; bool [rows, columns]."""
    assert trace.scaling is not None
    steps = trace.tables[0].astype(np.float32)
    coefficients = dct.forward(dct.to_blocks(luma))
    off = np.square(coefficients - np.rint(coefficients / steps) * steps) / (np.square(steps) / 12)
    row, column = (_PASSED * dct.BLOCK * min(1.0, factor) > np.arange(dct.BLOCK) for factor in trace.scaling.factors)
    passed = row[:, None] & column
    passed[0, 0] = False
    # What is no more than noise tells nothing, and a few coefficients by themselves tell little.
    telling = passed & (np.abs(coefficients) > _TELLING * np.sqrt(variance))
    far = around((np.minimum(off, _MOST_OFF) * telling).sum((2, 3)))
    fit: NDArray[np.bool_] = far <= _OFF * around(telling.sum((2, 3)))
    return fit


def at_earlier_size(planes: Float32, scaling: Scaling, restore: Callable[[Float32], Float32]) -> Float32:
    """What a scaled picture is if it is restored at the size that it was compressed in.

    Only what the restoration changes is scaled, so that nothing is lost on the way.

    Args:
        planes: float32 [components, H, W], as seen today.
        scaling: since the compression.
        restore: planes of the earlier size, float32 [components, H', W'], which begin with a whole block, to restored ones.

    Returns:
        float32 [components, H, W].
    """
    size = planes.shape[1:]
    earlier, begin = _at_earlier_size(planes, scaling)
    changed = restore(earlier) - earlier
    top, left = begin
    bottom, right = (first + length / factor for first, length, factor in zip(begin, size, scaling.factors, strict=True))
    return planes + np.stack([_resized(plane, (size[0], size[1]), (left, top, right, bottom)) for plane in changed])


def _at_earlier_size(planes: Float32, scaling: Scaling) -> tuple[Float32, tuple[float, float]]:
    """Planes at their earlier size, float32 [components, H', W'], filled up to pairs of blocks; and where in them the picture begins."""
    padding, box, blocks, begin = [], [], [], []
    for length, first, factor in zip(planes.shape[1:], scaling.first, scaling.factors, strict=True):
        period = 2 * dct.BLOCK * factor
        before = -first % period
        count = int(np.ceil((length + before) / period - 1e-6))
        whole = int(np.ceil(before)), int(np.ceil(max(0.0, count * period - before - length)))
        padding.append(whole)
        box.append((whole[0] - before, whole[0] - before + count * period))
        blocks.append(count * 2 * dct.BLOCK)
        begin.append(before / factor)
    padded = np.pad(planes, [(0, 0), *padding], mode="edge")
    (top, bottom), (left, right) = box
    earlier = np.stack([_resized(plane, (blocks[0], blocks[1]), (left, top, right, bottom)) for plane in padded])
    return earlier, (begin[0], begin[1])
