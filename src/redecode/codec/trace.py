"""Signs of an earlier JPEG compression in pixels: where its block grid lies, and which quantization tables it had.

A picture that was decoded from a JPEG and saved without loss has DCT coefficients, on the grid of its blocks, that sit on multiples of
the quantization steps but for the noise of rounding to 8 bits; on any other grid they are spread out. No visible blocks are needed for
that: it shows up to quality 99. Everything is estimated from luma, mostly in blocks that cannot have been clipped.

1. The grid is the offset, of 64, at which the histograms of the coefficients have the least entropy, whatever the steps.
2. The table is the one of greatest likelihood there: one of libjpeg's 100, or, where the coefficients clearly have other steps, those.
3. The trace is believed if coefficients other than 0 are nearer to multiples of these steps than chance allows: nearer than evenly
   spread ones, and nearer than on each of the 63 other grids. This keeps out what looks quantized on any grid or has many zeros on one:
   smooth pictures, graphics, and what was resized.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import colour, dct
from .quality import MAX_STEP, STANDARD, nearest, nearest_quality, standard_tables

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Pixels = NDArray[np.uint8]


# A window holds one block at each of the 64 offsets.
_OFFSETS = dct.BLOCK**2
_WINDOW = 2 * dct.BLOCK - 1
# Windows, spread over the picture, from which the tables are estimated, and how many of these give the offset: upper limits.
_MAX_WINDOWS, _MAX_SEARCHED = 4096, 512
# Fewer than the first cannot tell what is chance. While there are fewer than the second, clipped ones are looked at as well.
_MIN_WINDOWS, _ENOUGH_WINDOWS = 24, 128
# Coefficients are counted in bins of 1/8 for the tables, which is fine beside the rounding noise, and in bins of 1/2, up to 64, for the
# offset, where more or less of either changes little.
_FINE, _COARSE, _COARSE_RANGE = 8, 2, 64

# Standard deviations of what moves a coefficient off its multiple: rounding to 8 bits (0.29), with or without a second, finer quantization.
_NOISES = np.array([0.3, 0.6, 1.2, 2.4], dtype=np.float32)
# Share of coefficients that something else has moved anywhere, such as clipping before the conversion to RGB.
_OUTLIERS = np.float32(0.01)
# The rounding error of a block that decodes to one level is not noise: its DC coefficient is a multiple of 8, whatever the step. Blocks of
# less than this standard deviation, in levels, are left out when the step of DC is estimated.
_MIN_DEVIATION = 1.0

# Natural logarithm of the likelihood ratio that settles the step of a single frequency.
_DECISIVE = 10.0
# A step of the standard table is doubted only when another one within this factor explains the coefficients better: the steps of a
# second, finer quantization, which show as well, are mostly farther off.
_NEIGHBOURHOOD = 1.5
# Standard errors by which the found grid must surpass chance, up to a quality and from there on. Steps that fine fit anything a little,
# and false alarms come from them (3 to 4 in some small or enlarged pictures); files that have them reach 8 and more.
_MIN_SIGNIFICANCE, _MIN_SIGNIFICANCE_FINE, _FINE_QUALITY = 3.0, 5.0, 97


@dataclass(frozen=True)
class Scaling:
    """How a picture was scaled after a compression.

    Attributes:
        factors: (rows, columns), today's size over the earlier one.
        first: (rows, columns), where in today's pixels the first whole block begins, 0 … 8 · factor; in a part of a picture it is the first
            whole pair of blocks, 0 … 16 · factor, so that parts are restored like the whole.
    """

    factors: tuple[float, float]
    first: tuple[float, float]

    def told(self) -> str:
        """In words: "scaled to about 75 %"."""
        return f"scaled to about {np.mean(self.factors):.0%}".replace("%", " %")

    def crop(self, top: int, left: int) -> Scaling:
        """The same of a part of the picture that begins at a row and column."""
        first = [(own - cut) % (2 * dct.BLOCK * factor) for own, cut, factor in zip(self.first, (top, left), self.factors, strict=True)]
        return replace(self, first=(first[0], first[1]))


@dataclass(frozen=True)
class Trace:
    """Signs of an earlier JPEG compression.

    Attributes:
        offset: (rows, columns) 0 … 7: where the first whole block begins.
        tables: uint16 [2, 8, 8], quantization steps of luma and chroma, natural order (gray: chroma all ones, as JpegImage.tables()).
        quality: nearest libjpeg quality factor (1 … 100) of the luma table.
        confidence: 0.5 … 1 (weaker traces are not reported), by how far the found grid surpasses the others.
        forced: whether nothing of this was found, but a user has asked for this quality.
        scaling: since the compression, which leaves no grid of whole pixels: then the offset is (0, 0). None if there was none.
    """

    offset: tuple[int, int]
    tables: NDArray[np.uint16]
    quality: int
    confidence: float
    forced: bool = False
    scaling: Scaling | None = None


def of_quality(quality: int, gray: bool) -> Trace:
    """What a user asks for: libjpeg's tables of a quality factor, on a grid that begins at the top left."""
    tables = standard_tables(quality)
    if gray:
        tables[1] = 1
    return Trace((0, 0), tables, quality, 1.0, forced=True)


def find_trace(pixels: Pixels, offset: tuple[int, int] | None = None, best: int = 100) -> Trace | None:
    """Look for an earlier JPEG compression.

    Args:
        pixels: uint8 [H, W, 3] RGB or [H, W], of any size.
        offset: look on this grid alone, which must surpass the others all the same; None looks on all.
        best: quality factor above which a compression is of no interest; on a given grid, to find that out takes a quarter of the time.

    Returns:
        The compression, or None where no trace of such a one shows. Of two on the same grid it is mostly the stronger. Steps of luma that
        leave no trace, and all those of chroma, are those of the nearest quality factor.
    """
    luma = _windows(pixels)
    if len(luma) < _MIN_WINDOWS:
        return None
    searched = spread(len(luma), _MAX_SEARCHED)

    @cache
    def coefficients() -> Float32:
        return _at_all_offsets(luma[searched])

    row, column = offset or divmod(int(_concentration(coefficients()).argmax()), dct.BLOCK)
    grid = row * dct.BLOCK + column
    blocks = luma[:, row : row + dct.BLOCK, column : column + dct.BLOCK]
    log_likelihood, noise = _fit_steps(blocks)
    steps = _find_steps(log_likelihood)
    quality, _ = nearest_quality(steps)
    if quality > best:
        return None
    nearness = _nearness(coefficients(), steps, noise[np.arange(len(steps)), steps - 1])
    # What is repeated, like the tiles of a game's map, is no further evidence.
    _, distinct = np.unique(blocks[searched].reshape(len(searched), -1), axis=0, return_index=True)
    significance = _significance(nearness[distinct], grid)
    least = _MIN_SIGNIFICANCE if quality < _FINE_QUALITY else _MIN_SIGNIFICANCE_FINE
    if len(distinct) < _MIN_WINDOWS or significance < least or not varied(blocks[searched], steps):
        return None
    chroma = np.ones_like(steps) if pixels.ndim == 2 else STANDARD[quality - 1, 1]
    return Trace(
        offset=(row, column),
        tables=np.stack([steps, chroma]).reshape(2, dct.BLOCK, dct.BLOCK),
        quality=quality,
        confidence=1 - 0.5 ** (significance / least),
    )


def find_compression(pixels: Pixels) -> Trace | None:
    """As :func:`find_trace`, also where much of the picture has come into it later, and where another compression on another grid followed.

    Args:
        pixels: uint8 [H, W, 3] RGB or [H, W].
    """
    found = find_trace(pixels)
    if found is not None and found.quality <= BEST_COARSER:
        return found
    coarser = find_coarser(lambda most: _patches(pixels, most), None, BEST_COARSER)
    # What is found too fine for that search shows there as something coarser on the same grid.
    if not coarser or (found is not None and found.offset == coarser[0].offset):
        return found
    return as_gray(coarser[0]) if pixels.ndim == 2 else coarser[0]


def as_gray(trace: Trace) -> Trace:
    """Without steps of chroma, as :class:`Trace` has it for gray pictures."""
    return replace(trace, tables=np.stack([trace.tables[0], np.ones_like(trace.tables[1])]))


def _patches(pixels: Pixels, most: int) -> Float32:
    """As find_coarser takes them, but for flat ones; their grid begins at the top left."""
    side = PATCH * dct.BLOCK
    rows, columns = (length // side for length in pixels.shape[:2])
    places = spread(rows * columns, most) if rows and columns else np.empty(0, np.intp)
    found = [pixels[r * side :, c * side :][:side, :side] for r, c in (divmod(int(place), columns) for place in places)]
    varied = [colour.to_planes(patch)[0] - np.float32(128) for patch in found if np.ptp(patch)]
    return np.stack(varied) if varied else np.empty((0, side, side), np.float32)


def spread(count: int, most: int) -> NDArray[np.intp]:
    """At most `most` indices, evenly spread over 0 … count − 1."""
    return np.linspace(0, count - 1, min(count, most)).astype(np.intp)


def _windows(pixels: Pixels) -> Float32:
    """Windows spread over the picture, but for flat ones and, where there are enough others, those with black or white that may be clipped.

    Returns:
        float32 [n, 15, 15], luma in whole numbers around 0. Their first pixels lie at multiples of 8. n may be 0.
    """
    rows, columns = ((side - dct.BLOCK + 1) // dct.BLOCK for side in pixels.shape[:2])
    if rows < 1 or columns < 1:
        return np.empty((0, _WINDOW, _WINDOW), np.float32)
    views = np.lib.stride_tricks.sliding_window_view(pixels, (_WINDOW, _WINDOW), (0, 1))[:: dct.BLOCK, :: dct.BLOCK]
    places = spread(rows * columns, _MAX_WINDOWS)
    windows = views[places // columns, places % columns]
    samples = windows.reshape(len(windows), -1)
    clipped = ((samples == 0) | (samples == 255)).sum(1)
    order = clipped.argsort(kind="stable")
    windows = windows[np.sort(order[: max(_ENOUGH_WINDOWS, int((clipped == 0).sum()))])]
    # One tall picture of all windows; the view has left its channels before the rows.
    tall = np.moveaxis(windows, 1, -1) if pixels.ndim == 3 else windows
    luma = colour.to_planes(tall.reshape(-1, *tall.shape[2:]))[0].reshape(-1, _WINDOW, _WINDOW)
    # Decoders round luma before they make RGB of it; rounding it again takes away the error of RGB's own rounding.
    luma = np.rint(luma) - np.float32(128)
    varied: Float32 = luma[np.ptp(luma, (1, 2)) > 0]
    return varied


def _at_all_offsets(luma: Float32) -> Float32:
    """Coefficients of the block at each offset in each window: float32 [n, 64 offsets, 64 frequencies]."""
    views = np.lib.stride_tricks.sliding_window_view(luma, (dct.BLOCK, dct.BLOCK), (1, 2))
    return dct.forward(views).reshape(len(luma), _OFFSETS, -1)


def _concentration(coefficients: Float32) -> Float64:
    """How little entropy the histograms have: the sum of n log n over all counts n, float64 [64 offsets].

    Args:
        coefficients: float32 [n, 64 offsets, 64 frequencies].
    """
    bins = _COARSE * _COARSE_RANGE + 1
    index = np.minimum(np.rint(np.abs(coefficients) * _COARSE), bins - 1).astype(np.intp)
    histograms = coefficients[0].size
    index += np.arange(histograms).reshape(coefficients.shape[1:]) * bins
    counts = np.bincount(index.reshape(-1), minlength=histograms * bins)
    terms = np.arange(len(coefficients) + 1, dtype=np.float64)
    terms[1:] *= np.log(terms[1:])
    result: Float64 = terms[counts].reshape(_OFFSETS, -1).sum(1)
    return result


def _log_noise(position: Float32, step: Float32, deviation: Float32) -> Float32:
    """Logarithm of the noise's density at a position between multiples, relative to evenly spread ones. Shapes broadcast.

    Args:
        position: float32, distance to the nearest multiple in steps, −½ … ½.
        step: float32.
        deviation: float32, standard deviation of the noise.
    """
    concentration = (step / (2 * np.pi * deviation)) ** 2
    return _log_density(_squared_sine(position), concentration, _log_scale(concentration))


def _squared_sine(position: Float32) -> Float32:
    result: Float32 = np.sin(np.float32(np.pi) * position) ** 2
    return result


def _log_scale(concentration: Float32) -> Float32:
    """log(exp(−κ) I0(κ)). The Bessel function itself overflows; from 50 on, its expansion is good to 1e-4."""
    small, large = np.minimum(concentration, 50), np.maximum(concentration, 50)
    scale = np.where(concentration < 50, np.log(np.i0(small)) - small, np.log1p(1 / (8 * large)) - np.log(2 * np.pi * large) / 2)
    return scale.astype(np.float32)


def _log_density(squared_sine: Float32, concentration: Float32, log_scale: Float32) -> Float32:
    # κ (cos − 1), in a form that keeps its precision where the cosine is almost 1.
    density = squared_sine * (-2 * concentration)
    density -= log_scale
    np.exp(density, out=density)
    density *= 1 - _OUTLIERS
    density += _OUTLIERS
    result: Float32 = np.log(density, out=density)
    return result


@cache
def _noise_table() -> tuple[Float32, Float32]:
    """Concentration and logarithm of the scale of every noise around multiples of every step, float32 [noises, 255, 1] each."""
    steps = np.arange(1, MAX_STEP + 1, dtype=np.float32)
    concentration = (steps / (2 * np.pi * _NOISES[:, None])).astype(np.float32)[..., None] ** 2
    return concentration, _log_scale(concentration)


def _divide(coefficients: Float32, step: Float32) -> tuple[Float32, Float32]:
    """The nearest multiple's size, and the distance to it in steps, −½ … ½."""
    quotient = coefficients / step
    multiple = np.rint(quotient)
    return np.abs(multiple), quotient - multiple


def _fit_steps(blocks: Float32) -> tuple[Float32, Float32]:
    """How well each step explains the coefficients at each frequency.

    Args:
        blocks: float32 [n, 8, 8], luma.

    Returns:
        Float32 [64 frequencies, 255 steps] each: the logarithm of the likelihood, and the standard deviation of the noise around the
        multiples other than 0 with which it is reached.
    """
    coefficients = dct.forward(blocks).reshape(len(blocks), -1)
    rich = blocks.std((1, 2)) >= _MIN_DEVIATION
    # Signs carry no information about steps, and histograms of the sizes take far less time than the coefficients one by one.
    sizes = np.rint(np.abs(coefficients) * _FINE).T
    histograms = [np.unique(values[rich] if frequency == 0 else values, return_counts=True) for frequency, values in enumerate(sizes)]
    fits = [_fit_frequency((values / _FINE).astype(np.float32), counts.astype(np.float32)) for values, counts in histograms]
    return np.stack([fit[0] for fit in fits]), np.stack([fit[1] for fit in fits])


def _fit_frequency(sizes: Float32, counts: Float32) -> tuple[Float32, Float32]:
    """As _fit_steps, of one frequency.

    A multiple is taken to be 0 with one probability, else of either sign and geometrically distributed. The noise around 0 and that around
    the others are normal, wrapped to one step (as von Mises distributions, much the same and easier), with outliers anywhere. All
    parameters are those of greatest likelihood.

    Args:
        sizes: float32 [n], sizes of coefficients.
        counts: float32 [n], how often each occurs.

    Returns:
        Float32 [255 steps] each.
    """
    step = np.arange(1, MAX_STEP + 1, dtype=np.float32)
    multiple, position = _divide(sizes, step[:, None])
    # Counts at the multiple 0 and elsewhere, [2, 255, n].
    at_zero = np.where(multiple == 0, counts, np.float32(0))
    weights = np.stack([at_zero, counts - at_zero])
    zeros, nonzeros = weights.sum(2)
    # Half a count more of each kind keeps the logarithms finite.
    zero = (zeros + 0.5) / (zeros + nonzeros + 1)
    total = multiple @ counts
    decay = (total - nonzeros + 0.5) / (total + 1)
    prior = zeros * np.log(zero) + nonzeros * np.log((1 - zero) * (1 - decay) / 2) + (total - nonzeros) * np.log(decay)
    squared_sine = _squared_sine(position)
    densities = (_log_density(squared_sine, *noise) for noise in zip(*_noise_table(), strict=True))
    gains = np.stack([np.einsum("wsn,sn->ws", weights, density) for density in densities])
    log_likelihood = prior + gains.max(0).sum(0) - counts.sum() * np.log(step)
    return log_likelihood, _NOISES[gains[:, 1].argmax(0)]


def _find_steps(log_likelihood: Float32) -> NDArray[np.uint16]:
    """The luma table that explains the coefficients best: uint16 [64].

    Args:
        log_likelihood: float32 [64, 255], of each step at each frequency.
    """
    frequencies = np.arange(len(log_likelihood))
    standard: NDArray[np.uint16] = STANDARD[log_likelihood[frequencies, STANDARD[:, 0] - 1].sum(1).argmax(), 0]
    ratio = np.arange(1, MAX_STEP + 1) / standard[:, None]
    others = (ratio <= _NEIGHBOURHOOD) & (ratio >= 1 / _NEIGHBOURHOOD) & (ratio != 1)
    lead = log_likelihood[frequencies, standard - 1] - np.where(others, log_likelihood, -np.inf).max(1)
    if (lead < -_DECISIVE).sum() <= (lead > _DECISIVE).sum():
        return standard
    ordered = np.sort(log_likelihood, 1)
    decided = ordered[:, -1] - ordered[:, -2] > _DECISIVE
    if not decided.any():
        return standard
    steps = (log_likelihood.argmax(1) + 1).astype(np.uint16)
    quality, _ = nearest(steps[decided], STANDARD[:, 0, decided])
    result: NDArray[np.uint16] = np.where(decided, steps, STANDARD[quality - 1, 0])
    return result


def _nearness(coefficients: Float32, steps: NDArray[np.uint16], noise: Float32) -> Float32:
    """How near AC coefficients are to multiples other than 0: logarithm of the likelihood ratio to evenly spread ones.

    Args:
        coefficients: float32 [..., 64].
        steps: uint16 [64].
        noise: float32 [64], standard deviations.

    Returns:
        float32 [...], summed over the frequencies.
    """
    step = steps[1:].astype(np.float32)
    multiple, position = _divide(coefficients[..., 1:], step)
    result: Float32 = np.where(multiple == 0, np.float32(0), _log_noise(position, step, noise[1:])).sum(-1)
    return result


def _significance(nearness: Float32, grid: int) -> float:
    """By how many standard errors the mean over the windows is greater at one offset than at every other one, and than 0.

    Args:
        nearness: float32 [n, 64 offsets].
        grid: index of the offset.
    """
    others = nearness.copy()
    others[:, grid] = 0
    difference = nearness[:, grid, None] - others
    error = difference.std(0) / np.sqrt(len(difference))
    return float((difference.mean(0) / np.maximum(error, np.finfo(np.float32).eps)).min())


# Low frequencies, which keep most coefficients other than 0.
LOW = [(row, column) for row in range(5) for column in range(5 - row)]
# Side in blocks of the patches of luma that tell of another grid, and side in pixels of the places in them at which a block begins.
PATCH = 5
_PLACES = (PATCH - 1) * dct.BLOCK
# Patches that are looked at first, and to be sure.
_FEW_PATCHES, _MANY_PATCHES = 24, 96
# Coefficients are counted in bins of 1, up to this size.
_LARGEST = 400
# Share of different blocks among those that are not flat, below which they are drawn. In photographs it is above a half, mostly near 1.
_MIN_VARIED = 0.25
# Standard errors by which the periodicity on a grid must surpass that on every other grid, to be looked at again, and to be believed.
_PROMISING, _BELIEVED = 2.0, 6.0
# The same where no later compression has added noise: real traces are clear then, and drawings are drawn as neatly.
_BELIEVED_ALONE = 20.0
# Quality factor above which an earlier compression on another grid leaves little to restore.
BEST_COARSER = 88


def find_coarser(patches_of: Callable[[int], Float32], table: NDArray[np.uint16] | None, best: int) -> tuple[Trace, ...]:
    """Look for earlier compressions on other grids than that of a known later one.

    For each offset, table and frequency, the mean of cos(2πc/step) over the coefficients c beyond the step's half is 0 where these know
    nothing of the step, and exp(−2π²σ²/step²) where they are its multiples with noise of the deviation σ. It is the first Fourier
    coefficient of their histogram, as in the integer periodicity maps of Bianchi and Piva (2012).

    Args:
        patches_of: gives up to this many patches of luma, float32 [n, 8 · PATCH, 8 · PATCH] around 0, spread over the picture and beginning
            on the grid of the later compression.
        table: uint16 [8, 8], its steps; None if there was none: then all grids are looked at.
        best: quality factor above which a compression is of no interest.

    Returns:
        Those that show, each on its own grid, the strongest first.
    """
    if best < 1:
        return ()
    # A coefficient on another grid has the quantization noise of several of the later one.
    variance = 1 / 12 if table is None else float(np.mean([float(table[index]) ** 2 for index in LOW])) / 12
    for count in (_FEW_PATCHES, _MANY_PATCHES):
        patches = patches_of(count)
        if not len(patches):
            return ()
        whole, quarters = periodicity(patches, variance, best)
        if table is not None:
            whole[0] = quarters[:, 0] = -np.inf
        ranked = np.sort(whole, 0)
        lead = ranked[-1] - ranked[-2]
        if lead.max() < _PROMISING:
            return ()
    places = whole.argmax(0)

    def drawn(index: int) -> bool:
        row, column = divmod(int(places[index]), dct.BLOCK)
        return not varied(patches[:, row : row + _PLACES, column : column + _PLACES], STANDARD[index, 0])

    # What stands out by chance, as drawings do that repeat a few shapes in a few colours, does so in a part of the evidence.
    agreeing = (quarters.argmax(1) == places).all(0)
    believed = np.flatnonzero((lead >= (_BELIEVED if table is not None else _BELIEVED_ALONE)) & agreeing)
    grids = [believed[places[believed] == place] for place in np.unique(places[believed])]
    # Of the qualities at which a grid stands out, the one at which it does so most.
    chosen = sorted(int(qualities[lead[qualities].argmax()]) for qualities in grids)
    chosen = [index for index in chosen if not drawn(index)]
    return tuple(
        Trace(
            offset=divmod(int(places[index]), dct.BLOCK),
            tables=STANDARD[index].reshape(2, dct.BLOCK, dct.BLOCK),
            quality=index + 1,
            confidence=float(1 - 0.5 ** (lead[index] / _BELIEVED)),
        )
        for index in chosen
    )


def periodicity(patches: Float32, variance: float, best: int) -> tuple[Float32, Float32]:
    """How periodic the coefficients are, in standard errors.

    Args:
        patches: float32 [n, 8 · PATCH, 8 · PATCH] around 0.
        variance: of the noise of low coefficients.
        best: quality factor up to which is looked.

    Returns:
        Float32 [64 offsets, quality factors 1 … best]; the same of four quarters of the evidence, from every
        other patch and every other frequency: float32 [4, 64, best].
    """
    offset = np.arange(_PLACES) % dct.BLOCK
    first_bin = ((offset[:, None] * dct.BLOCK + offset) * _LARGEST).astype(np.int32)
    totals = np.zeros((4, _OFFSETS, best), np.float32)
    squares = np.zeros_like(totals)
    size = np.arange(_LARGEST, dtype=np.float32)[:, None]
    for frequency, ((row, column), coefficients) in enumerate(zip(LOW, _low_coefficients(patches), strict=True)):
        table_steps, place = np.unique(STANDARD[:best, 0, row * dct.BLOCK + column], return_inverse=True)
        steps = table_steps.astype(np.float32)
        beyond = (size > steps / 2).astype(np.float32)
        waves = np.cos(np.float32(2 * np.pi) * size / steps) * beyond
        weight = np.exp(np.float32(-2 * np.pi**2 * variance) / steps**2)
        bins = np.minimum(np.rint(np.abs(coefficients)), _LARGEST - 1).astype(np.int32) + first_bin
        for half in (0, 1):
            histogram = np.bincount(bins[half::2].reshape(-1), minlength=_OFFSETS * _LARGEST).reshape(_OFFSETS, -1).astype(np.float32)
            histogram[:, -1] = 0
            quarter = 2 * half + frequency % 2
            totals[quarter] += (weight * (histogram @ waves))[:, place]
            squares[quarter] += (weight**2 * (histogram @ beyond))[:, place] / 2
    whole: Float32 = totals.sum(0) / np.sqrt(squares.sum(0) + np.float32(0.5))
    quarters: Float32 = totals / np.sqrt(squares + np.float32(0.5))
    return whole, quarters


def varied(patches: Float32, steps: NDArray[np.uint16]) -> bool:
    """Whether the blocks of patches differ, as those of drawings do not that are put together from a few tiles.

    Args:
        patches: float32 [n, rows, columns] around 0, of whole blocks.
        steps: uint16 [64].
    """
    blocks = dct.forward(dct.to_blocks(patches.reshape(-1, patches.shape[-1])))
    multiples = np.rint(blocks.reshape(-1, dct.BLOCK**2) / steps)
    textured = multiples[multiples[:, 1:].any(1)]
    return len(np.unique(textured, axis=0)) >= _MIN_VARIED * len(textured)


def _low_coefficients(patches: Float32) -> list[Float32]:
    """Coefficients of the frequencies LOW of the block at every place: float32 [n, 32, 32] each."""
    along = np.lib.stride_tricks.sliding_window_view(patches, dct.BLOCK, 2)[:, :, :_PLACES]
    columns = np.ascontiguousarray(along).reshape(-1, dct.BLOCK) @ dct.BASIS.T
    columns = columns.reshape(len(patches), PATCH * dct.BLOCK, _PLACES, dct.BLOCK)
    down = np.lib.stride_tricks.sliding_window_view(columns, dct.BLOCK, 1)[:, :_PLACES]
    return [np.tensordot(down[..., column, :], dct.BASIS[row], 1) for row, column in LOW]


# A block fits an earlier compression where its coefficients are off by no more than this: on average over them, and the worst of them, as
# variances of what has rounded them since.
_MEAN_OFF, _MAX_OFF = 1.6, 20.0
# The same on average where colours were clipped, as variances of coefficients that are evenly spread.
_CLIPPED_OFF = 0.2
# Blocks of three by three that may be off without meaning anything.
_STRAY = 2
# How far what does not fit at all reaches into what fits loosely, in blocks.
_MARGIN = 2
# Luma up to which an area counts as black, and from which as white; and how many blocks such an area reaches in all directions.
_BLACK, _WHITE, _WIDE = 1, 254, 3
# Variance of the coefficients by rounding to 8 bits between the compressions. In smooth blocks the errors of all samples are alike: rounded
# as luma and as RGB, DC is then off by up to 8, and others by a part of it.
_ROUNDING, _SMOOTH_ROUNDING, _SMOOTH_ROUNDING_DC = 0.3, 1.0, 3.0


def fits(planes: Float32, trace: Trace, later: Sequence[tuple[NDArray[np.uint16], tuple[int, int]]]) -> NDArray[np.bool_]:
    """Which blocks are what an earlier compression left, but for what later ones on other grids do to that.

    Args:
        planes: float32 [1 or 3, H, W], Y or Y, Cb, Cr, 0 … 255, as seen today.
        trace: the earlier compression; its luma table and grid count.
        later: the luma tables, uint16 [8, 8], and the offsets of the later ones.

    Returns:
        bool [rows, columns], on the earlier grid, also of blocks that reach over the borders.
    """
    step = trace.tables[0].astype(np.float32)
    coefficients = dct.forward(_blocks(planes[0], trace.offset))
    quantized = dct.from_blocks(dct.inverse(np.rint(coefficients / step) * step)) + np.float32(128)
    top, left = (-offset % dct.BLOCK for offset in trace.offset)
    seen = planes.copy()
    seen[0] = quantized[top:, left:][: planes.shape[1], : planes.shape[2]]
    # Colours that the earlier decoder had to clip have moved the luma, and by more than can be told where they moved the chroma, too.
    decoded = colour.to_rgb(seen)
    outside = np.abs(decoded - np.float32(127.5)) > np.float32(126)
    clipped = _blocks((outside.any(2) if outside.ndim == 3 else outside).astype(np.float32), trace.offset).max((2, 3)) > -128
    seen = colour.to_planes(np.clip(decoded, 0, 255))
    off = dct.forward(_blocks(planes[0] - seen[0] + np.float32(128), trace.offset))
    np.square(off, out=off)
    variance = np.full(step.shape, _ROUNDING, np.float32)
    for table, offset in later:
        variance += rounding_variance(table, (trace.offset[0] - offset[0], trace.offset[1] - offset[1]))
    smooth = np.full(step.shape, _SMOOTH_ROUNDING, np.float32)
    smooth[0, 0] = _SMOOTH_ROUNDING_DC
    worst = (off / np.maximum(variance, smooth)).max((2, 3))
    strict = (worst <= _MAX_OFF) & ((off / np.maximum(variance, smooth / _MAX_OFF)).mean((2, 3)) <= _MEAN_OFF)
    # What has nothing to do with the steps is as far off as evenly spread: step²/12.
    loose = (off / (np.square(step) / 12)).mean((2, 3)) <= _CLIPPED_OFF
    result: NDArray[np.bool_] = strict | (clipped & loose)
    for fitting in (strict, result):
        # Of blocks that reach over the borders too little is there to tell: they go with their neighbours.
        for axis, (first, side) in enumerate(zip(trace.offset, planes.shape[1:], strict=True)):
            along = np.moveaxis(fitting, axis, 0)
            if first and len(along) > 1:
                along[0] = along[1]
            if (side - first) % dct.BLOCK and len(along) > 1:
                along[-1] = along[-2]
    # Beside what does not fit at all, a block that fits loosely belongs to it, such as the margin of black words on white.
    for _ in range(_MARGIN):
        result = strict | (result & (around(result) == 9))
    return without_strays(result)


def without_strays(fitting: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which blocks fit, bool [rows, columns], or are among few by themselves that do not: those are rather clipped than new."""
    result: NDArray[np.bool_] = fitting | (around(~fitting) <= _STRAY)
    return result


def settled(holds: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Without single places, and without a margin around where several side by side do not hold.

    Args:
        holds: bool [rows, columns], which places of a grid fit an earlier compression.

    Returns:
        bool [rows, columns], a part of them: those that are together with at least five of their eight neighbours, and beside no group of
        three others, whose edges the networks would smear into them.
    """
    groups = ~holds & (around(~holds) >= 3)
    result: NDArray[np.bool_] = holds & (around(holds) >= 6) & (around(groups) == 0)
    return result


def flat(lowest: NDArray[Any], highest: NDArray[Any]) -> NDArray[np.bool_]:
    """Which blocks belong to a wide area of black or of white: there is nothing to restore there, and something to lose.

    Args:
        lowest, highest: [rows, columns], levels of luma in each block, 0 … 255.

    Returns:
        bool [rows, columns].
    """
    result = np.zeros(lowest.shape, bool)
    for uniform in (highest <= _BLACK, lowest >= _WHITE):
        result |= _spread(_spread(uniform, np.logical_and), np.logical_or)
    return result


def _spread(values: NDArray[np.bool_], reduce: np.ufunc) -> NDArray[np.bool_]:
    """Whether something holds for all blocks within _WIDE, or for any: np.logical_and or np.logical_or."""
    for axis in (0, 1):
        padded = np.pad(values, [(_WIDE, _WIDE) if own == axis else (0, 0) for own in (0, 1)], mode="edge")
        values = reduce.reduce([padded.take(range(first, first + values.shape[axis]), axis) for first in range(2 * _WIDE + 1)])
    return values


def around(values: NDArray[Any]) -> NDArray[Any]:
    """The sum of each place and its eight neighbours, or how many of them hold; [rows, columns]."""
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(values, 1, mode="edge"), (3, 3))
    result: NDArray[Any] = windows.sum((2, 3))
    return result


def _blocks(plane: Float32, offset: tuple[int, int]) -> Float32:
    """Blocks of a grid that begins at an offset, around 0, the border's pixels repeated: float32 [rows, columns, 8, 8]."""
    padding = [(-first % dct.BLOCK, (first - side) % dct.BLOCK) for first, side in zip(offset, plane.shape, strict=True)]
    return dct.to_blocks(np.pad(plane, padding, mode="edge") - np.float32(128))


def rounding_variance(table: NDArray[np.uint16], offset: tuple[int, int]) -> Float32:
    """Variance of a quantization's rounding errors as seen by the coefficients on a grid that is moved by an offset; float32 [8, 8]."""
    down, across = (_shared(distance % dct.BLOCK) for distance in offset)
    variance = np.square(table.astype(np.float32)) / np.float32(12)
    result: Float32 = (down @ variance @ across.T).astype(np.float32)
    return result


def _shared(distance: int) -> Float32:
    """What share of the energy of each frequency of two neighbouring blocks of 8 samples is in each of one in between; float32 [8, 8]."""
    both = np.zeros((2, dct.BLOCK, 2 * dct.BLOCK), np.float32)
    both[0, :, : dct.BLOCK] = both[1, :, dct.BLOCK :] = dct.BASIS
    between = both[:, :, distance : distance + dct.BLOCK]
    result: Float32 = np.square(dct.BASIS @ between.swapaxes(1, 2)).sum(0)
    return result
