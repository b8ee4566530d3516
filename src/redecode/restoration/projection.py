"""Projection onto the file's quantization cells: the result never contradicts the file.

A quantized coefficient k with step q says that the encoder's coefficient lay in [(k − ½) q, (k + ½) q]. All pictures that agree with the
file form a convex set (a box in the DCT domain), the original is in it, and so the orthogonal projection onto it can only bring a
restored picture closer to the original.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ..codec import colour, dct
from ..codec.jpeg import Component, JpegImage, coefficients_of, pixels_per_sample

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
    return move_coefficients(planes, image, lambda coefficients, c: _clamp(coefficients, c.coefficients, c.table, margin))


def move_coefficients(planes: Float32, image: JpegImage, move: Move) -> Float32:
    """Change planes so that their coefficients, on each component's own grid, become what `move` makes of them.

    Args:
        planes: float32 [components, H, W], 0 … 255.
        image: the file; a component whose sampling factors do not divide the largest ones is returned as it came.
        move: new coefficients of the old ones, float32 [rows, columns, 8, 8], and their component.

    Returns:
        float32 [components, H, W].
    """
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
    factors = pixels_per_sample(component, image)
    if factors != (1, 1):
        correction = correction.repeat(factors[0], 0).repeat(factors[1], 1)
    return correction[: plane.shape[0], : plane.shape[1]]


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
