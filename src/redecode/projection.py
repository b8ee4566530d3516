"""Projection onto the file's quantization cells: the result never contradicts the file.

A quantized coefficient k with step q says that the encoder's coefficient lay in [(k − ½) q, (k + ½) q]. All pictures that agree with the
file form a convex set (a box in the DCT domain), the original is in it, and so the orthogonal projection onto it can only bring a
restored picture closer to the original.

Where a network leaves a cell, the border is the nearest that it may have meant, and not the most likely: in the mean the original lies
further inside, and so it does where the network comes near the border. :func:`estimate` takes this mean, which is measured for each
network.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from . import colour, dct
from .jpeg import Component, JpegImage

Float32 = NDArray[np.float32]
# Coefficients [rows, columns, 8, 8] of a component to new ones.
Move = Callable[[Float32, Component], Float32]

# The result is rounded to 8-bit RGB, and an encoder rounds again to 8-bit luma. Each sample errs by a standard deviation of about 0.19
# and 0.29; the orthonormal DCT keeps that scale, 0.35 per coefficient. Clamping this far (in units of coefficients) inside the cell's
# border makes the rounded result fall into the same cell nearly always.
MARGIN = 1.5
# The margin never takes more than this share of a cell's half-width: small steps keep room around the middle.
MAX_MARGIN_SHARE = 0.5
# Luma blocks that rounding, clipping or the picture's border have driven out of their cells all the same are repaired, with a margin that
# grows by this factor each time.
REPAIRS = 6
MARGIN_GROWTH = 1.5
# A network's gains (see `estimate`) are tabulated by the kind of component (luma, subsampled chroma, chroma at full size); by the side of
# the restored coefficient (in a cell around zero, farther from zero than the middle of another, nearer to zero); by the step, two rows to
# an octave; and by the square root of the distance from the middle of the cell in steps, in so many columns to 1.
GAIN_SHAPE = (3, 3, 17, 36)
GAIN_COLUMNS = 32
# Between the middles of the columns gains are interpolated, in a table that is finer by this factor.
_FINER = 4


def project(planes: Float32, image: JpegImage, margin: float = MARGIN) -> Float32:
    """Bring restored planes into agreement with the file.

    Args:
        planes: float32 [components, H, W], Y or Y, Cb, Cr at full size, 0 … 255.
        image: the file.
        margin: distance kept from the border of every quantization cell, in coefficient units (see MARGIN).

    Returns:
        float32 [components, H, W]. With margin 0 this is the orthogonal projection wherever blocks are whole; the blocks that reach over
        the right and lower border are extended by repeating the last pixels, as encoders do. A component whose sampling
        factors do not divide the largest ones is returned as it came.
    """
    return _moved(planes, image, lambda coefficients, c: _clamp(coefficients, c.coefficients, c.table, margin))


def estimate(planes: Float32, image: JpegImage, gains: Float32) -> Float32:
    """Move every coefficient to where the original's lies in the mean, given where in its cell or beside it the restored one lies.

    What minimises the mean squared error comes nearer to the original by it; what paints texture does not, as it has spread its
    coefficients beyond the mean on purpose.

    Args:
        planes: float32 [components, H, W], Y or Y, Cb, Cr at full size, 0 … 255, from a network trained for fidelity.
        image: the file.
        gains: float32 of GAIN_SHAPE, of that network: by what its distance from the middle of a cell is multiplied to give the original's
            mean distance, see :mod:`redecode.training.calibration`.

    Returns:
        Like the planes. Components as :func:`project` has them.
    """
    columns = GAIN_SHAPE[-1]
    middles = ((np.arange(columns * _FINER, dtype=np.float32) + np.float32(0.5)) / _FINER - np.float32(0.5)).clip(0, columns - 1)
    left = middles.astype(np.intp).clip(max=columns - 2)
    finer = gains[..., left] + (middles - left).astype(np.float32) * (gains[..., left + 1] - gains[..., left])

    def move(coefficients: Float32, component: Component) -> Float32:
        step = component.table.astype(np.float32)
        rows = gain_rows(component, image)
        moved = np.empty_like(coefficients)
        # Row by row of blocks, which the caches hold from one operation to the next.
        for found, quantized, result in zip(coefficients, component.coefficients, moved, strict=True):
            distance = found / step - quantized
            gain = finer.take(gain_places(distance, quantized, rows, _FINER))
            np.multiply(quantized + distance * gain, step, out=result)
        return moved

    return _moved(planes, image, move)


def gain_rows(component: Component, image: JpegImage) -> NDArray[np.int32]:
    """In a table of gains, the row of each of a component's frequencies on the first side: int32 [8, 8]."""
    kind = 0 if component is image.components[0] else 1 if component.sampling != image.max_sampling else 2
    rows: NDArray[np.int32] = np.rint(2 * np.log2(component.table)).astype(np.int32).clip(max=GAIN_SHAPE[2] - 1)
    return rows + np.int32(kind * GAIN_SHAPE[1] * GAIN_SHAPE[2])


def gain_places(distance: Float32, quantized: NDArray[np.int16], rows: NDArray[np.int32], finer: int = 1) -> NDArray[np.int32]:
    """Where in a flat table of gains the gain of each coefficient is found.

    Args:
        distance: float32 [..., 8, 8], from the middles of the cells, in steps.
        quantized: int16 [..., 8, 8], the file's coefficients.
        rows: as :func:`gain_rows`.
        finer: by how much the columns are finer than those of GAIN_SHAPE.

    Returns:
        int32 [..., 8, 8].
    """
    columns = GAIN_SHAPE[3] * finer
    column = np.sqrt(np.abs(distance))
    column *= np.float32(GAIN_COLUMNS * finer)
    np.minimum(column, np.float32(columns - 1), out=column)
    # 1 where it is farther from zero than the middle, 2 where it is nearer; on the middle it does not matter.
    side = np.where(quantized != 0, np.int32(1) + ((quantized < 0) ^ (distance < 0)), np.int32(0))
    places: NDArray[np.int32] = column.astype(np.int32)
    places += (side * np.int32(GAIN_SHAPE[2]) + rows) * np.int32(columns)
    return places


def _moved(planes: Float32, image: JpegImage, move: Move) -> Float32:
    result = planes.copy()
    for plane, component in zip(result, image.components, strict=True):
        if _on_a_common_grid(component, image):
            plane += _correction(plane, component, image, move)
    return result


def to_pixels(planes: Float32, image: JpegImage, margin: float = MARGIN) -> NDArray[np.uint8]:
    """Project and convert to 8-bit pixels that encode to the file's luma coefficients again.

    Colours outside the gamut are clipped, which is the nearest there is. Where clipping or rounding drives the luma of a block out of its
    cells, the block is repaired, and its impossible colours are brought in at constant luma instead.

    Args:
        planes: float32 [components, H, W], 0 … 255.
        image: the file.
        margin: as :func:`project`.

    Returns:
        uint8 [H, W, 3] RGB, or [H, W] for a gray file.
    """
    pixels, _ = render(planes, image, margin)
    return pixels


def render(planes: Float32, image: JpegImage, margin: float = MARGIN) -> tuple[NDArray[np.uint8], int]:
    """Like :func:`to_pixels`, and how many luma blocks do not encode to the file's coefficients all the same."""
    pixels = colour.to_uint8(colour.to_rgb(project(planes, image, margin)))
    rows, columns = np.nonzero(~consistent_blocks(pixels, image))
    if image.components[0].sampling != image.max_sampling:
        return pixels, len(rows)  # A subsampled luma: hardly anyone writes it, and its repair would reach over its blocks.
    for _ in range(REPAIRS):
        if not len(rows):
            break
        margin *= MARGIN_GROWTH
        broken = _repair(pixels, image, rows, columns, margin)
        rows, columns = rows[broken], columns[broken]
    return pixels, len(rows)


def _repair(
    pixels: NDArray[np.uint8], image: JpegImage, rows: NDArray[np.intp], columns: NDArray[np.intp], margin: float
) -> NDArray[np.bool_]:
    """Project the luma of some blocks again, in place; returns which of them are broken still."""
    luma = image.components[0]
    y = (rows[:, None] * dct.BLOCK + np.arange(dct.BLOCK)).clip(max=image.height - 1)[:, :, None]
    x = (columns[:, None] * dct.BLOCK + np.arange(dct.BLOCK)).clip(max=image.width - 1)[:, None, :]
    quantized = luma.coefficients[rows, columns]
    # Blocks side by side, as one strip; a partial block repeats its last pixels, and of all repeats one is written back.
    planes = colour.to_planes(np.concatenate(pixels[y, x], axis=1))
    coefficients = _strip_coefficients(planes[0])
    planes[0] += np.concatenate(dct.inverse(_clamp(coefficients, quantized, luma.table, margin) - coefficients), axis=1)
    restored = colour.to_uint8(colour.into_gamut(planes))
    pixels[y, x] = np.stack(np.split(restored, len(rows), axis=1))
    written = colour.to_luma(np.concatenate(pixels[y, x], axis=1)).astype(np.float32)
    broken: NDArray[np.bool_] = (np.rint(_strip_coefficients(written) / luma.table) != quantized).any((1, 2))
    return broken


def _strip_coefficients(strip: Float32) -> Float32:
    return dct.forward(dct.to_blocks(strip - np.float32(128))[0])


def _correction(plane: Float32, component: Component, image: JpegImage, move: Move) -> Float32:
    """What to add to a full-size plane to move the coefficients of its samples on the component's own grid."""
    coefficients = coefficients_of(plane, component, image)
    correction = dct.from_blocks(dct.inverse(move(coefficients, component) - coefficients))
    factors = _factors(component, image)
    if factors != (1, 1):
        correction = correction.repeat(factors[0], 0).repeat(factors[1], 1)
    return correction[: plane.shape[0], : plane.shape[1]]


def coefficients_of(plane: Float32, component: Component, image: JpegImage) -> Float32:
    """DCT coefficients of a full-size plane's samples on a component's own grid.

    Args:
        plane: float32 [H, W], 0 … 255.
        component: one whose sampling factors divide the largest ones.
        image: the file that it is of.

    Returns:
        float32 [rows, columns, 8, 8], like the component's.
    """
    rows, columns = component.coefficients.shape[:2]
    down, right = _factors(component, image)
    padding = [(0, rows * dct.BLOCK * down - plane.shape[0]), (0, columns * dct.BLOCK * right - plane.shape[1])]
    padded = np.pad(plane, padding, mode="edge")
    if (down, right) != (1, 1):
        # Encoders average the pixels of a chroma sample. Among all changes of the pixels that give the samples a certain change, the
        # smallest is the same one for all pixels of a sample: that makes this the orthogonal projection.
        padded = np.asarray(Image.fromarray(padded).reduce((right, down)))
    return dct.forward(dct.to_blocks(padded - np.float32(128)))


def _factors(component: Component, image: JpegImage) -> tuple[int, int]:
    """Rows and columns of pixels that a sample stands for."""
    return image.max_sampling[1] // component.sampling[1], image.max_sampling[0] // component.sampling[0]


def _on_a_common_grid(component: Component, image: JpegImage) -> bool:
    (h, v), (h_max, v_max) = component.sampling, image.max_sampling
    return h_max % h == 0 and v_max % v == 0


def _clamp(coefficients: Float32, quantized: NDArray[np.int16], table: NDArray[np.uint16], margin: float) -> Float32:
    half = table.astype(np.float32) / 2
    half -= np.minimum(np.float32(margin), MAX_MARGIN_SHARE * half)
    centre = quantized.astype(np.float32) * table
    return np.clip(coefficients, centre - half, centre + half)


def consistent_blocks(pixels: NDArray[np.uint8], image: JpegImage) -> NDArray[np.bool_]:
    """Which luma blocks of a picture encode to the very coefficients that the file carries.

    Args:
        pixels: uint8 [H, W, 3] RGB or [H, W], of the file's size.
        image: the file.

    Returns:
        bool [rows, columns], on the luma component's block grid. The luma is rounded to 8 bits before its DCT, as encoders do.
    """
    luma = image.components[0]
    plane = colour.to_luma(pixels).astype(np.float32)
    if not _on_a_common_grid(luma, image):
        return np.zeros(luma.coefficients.shape[:2], bool)  # On no common grid: nothing can be said.
    coefficients = coefficients_of(plane, luma, image)
    same: NDArray[np.bool_] = (np.rint(coefficients / luma.table) == luma.coefficients).all((2, 3))
    return same
