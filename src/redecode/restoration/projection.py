"""Projection onto the file's quantization cells: the result never contradicts the file.

A quantized coefficient k with step q tells that the encoder's coefficient lay in [(k − ½) q, (k + ½) q]. All pictures that agree with the
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
Samples = NDArray[np.uint8] | NDArray[np.uint16]
# Coefficients [rows, columns, 8, 8] of a component to new ones.
Move = Callable[[Float32, Component], Float32]

# The result is rounded to 8-bit RGB, and an encoder rounds again to 8-bit luma. Each sample errs by a standard deviation of about 0.19
# and 0.29; the orthonormal DCT keeps that scale, 0.35 per coefficient. Clamping this far (in units of coefficients) inside the cell's
# border makes the rounded result fall into the same cell nearly always.
MARGIN = 1.5
# The margin never takes more than this share of a cell's half-width: small steps keep room around the middle.
MAX_MARGIN_SHARE = 0.5
# What samples are off by after a DCT and its inverse in float32, at most, in levels.
FLOAT_ERROR = 1e-3


def project(planes: Float32, image: JpegImage, margin: float = MARGIN, share: float = MAX_MARGIN_SHARE) -> Float32:
    """Bring restored planes into agreement with the file.

    Args:
        planes: float32 [components, H, W], Y or Y, Cb, Cr at full size, 0 … 255.
        image: the file.
        margin: distance kept from the border of every quantization cell, in coefficient units (see MARGIN).
        share: of a cell's half-width that the margin takes at most.

    Returns:
        float32 [components, H, W]. With margin 0 this is the orthogonal projection wherever blocks are whole; the blocks that reach over
        the right and lower border are extended by repeating the last pixels, as encoders do. A component whose sampling
        factors do not divide the largest ones is returned as it came.
    """
    return move_coefficients(planes, image, lambda coefficients, c: _clamp(coefficients, c.coefficients, c.table, margin, share))


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


def _clamp(coefficients: Float32, quantized: NDArray[np.int16], table: NDArray[np.uint16], margin: float, share: float) -> Float32:
    half = table.astype(np.float32) / 2
    half -= np.minimum(np.float32(margin), np.float32(share) * half)
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
    if not _on_a_common_grid(luma, image):
        return np.zeros(luma.coefficients.shape[:2], bool)  # On no common grid: unknown.
    return _same(colour.to_luma(pixels).astype(np.float32), luma, image)


def agreeing_blocks(pixels: Samples, image: JpegImage) -> list[NDArray[np.bool_]]:
    """Like :func:`consistent_blocks`, for every component; the blocks of one on no common grid all count as agreeing.

    Args:
        pixels: uint8, or uint16 with 65535 for white: [H, W, 3] RGB or [H, W], of the file's size.
        image: the file.

    Returns:
        For each component bool [rows, columns]. Of 8-bit pixels the luma is rounded to 8 bits, chroma is averaged over each sample and not
        rounded; of 16-bit pixels nothing is rounded.
    """
    if pixels.dtype == np.uint8:
        eight = np.asarray(pixels, np.uint8)
        planes = [colour.to_luma(eight).astype(np.float32), *(colour.to_chroma(eight) if len(image.components) > 1 else ())]
    else:
        planes = [*_planes(pixels)]
    return [
        _same(plane, component, image) if _on_a_common_grid(component, image) else np.ones(component.coefficients.shape[:2], bool)
        for plane, component in zip(planes, image.components, strict=True)
    ]


def explained_blocks(pixels: Samples, image: JpegImage) -> list[NDArray[np.bool_]]:
    """In which blocks rounding alone explains that the pixels do not have the file's coefficients.

    That is where the nearest samples that lie in all quantization cells are no farther from the pixels' own than half a step of their
    depth: what rounding of R, G and B can move each of Y, Cb and Cr by, at most. What was clipped to RGB is not explained.

    Args:
        pixels: as :func:`agreeing_blocks`.
        image: the file.

    Returns:
        For each component bool [rows, columns], True also where nothing is to be explained.
    """
    farthest = 0.5 * 255 / np.iinfo(pixels.dtype).max + FLOAT_ERROR
    found = []
    for plane, component in zip(_planes(pixels), image.components, strict=True):
        explained = np.ones(component.coefficients.shape[:2], bool)
        if _on_a_common_grid(component, image):
            coefficients = coefficients_of(plane, component, image)
            outside = _clamp(coefficients, component.coefficients, component.table, 0, 0) - coefficients
            moved = outside.any((2, 3))
            explained[moved] = np.abs(dct.inverse(outside[moved])).max((1, 2)) <= farthest
        found.append(explained)
    return found


def _planes(pixels: Samples) -> Float32:
    values = pixels.astype(np.float32)
    if pixels.dtype == np.uint16:
        values /= np.float32(257)
    return colour.to_planes(values)


def _same(plane: Float32, component: Component, image: JpegImage) -> NDArray[np.bool_]:
    coefficients = coefficients_of(plane, component, image)
    same: NDArray[np.bool_] = (np.rint(coefficients / component.table) == component.coefficients).all((2, 3))
    return same
