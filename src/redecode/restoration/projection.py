"""Projection onto the file's quantization cells: the result never contradicts the file.

A quantized coefficient k with step q means that the encoder's coefficient was in [(k − ½) q, (k + ½) q]. All pictures that agree with the
file form a convex set (a box in the DCT domain) that contains the original. Therefore the orthogonal projection onto this set can only
bring a restored picture closer to the original.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ..codec import colour, dct
from ..codec.jpeg import Component, JpegImage, coefficients_of, pixels_per_sample

Float32 = NDArray[np.float32]
Samples = NDArray[np.uint8] | NDArray[np.uint16]
# Function from a component and coefficients [rows, columns, 8, 8] to new coefficients.
Move = Callable[[Float32, Component], Float32]

# Distance to keep from the border of a cell, in coefficient units. The result is rounded to 8-bit RGB, and an encoder rounds again to 8-bit
# luma, with errors of standard deviation 0.19 and 0.29 per sample, and so 0.35 per coefficient of the orthonormal DCT. With this margin the
# rounded result nearly always stays in the same cell.
MARGIN = 1.5
# Maximum share of a cell's half-width that the margin takes, so that small steps keep some room around the middle.
MAX_MARGIN_SHARE = 0.5
# Maximum error of a sample after a DCT and its inverse in float32, in levels.
FLOAT_ERROR = 1e-3


def project(planes: Float32, image: JpegImage, margin: float = MARGIN, share: float = MAX_MARGIN_SHARE) -> Float32:
    """Project restored planes onto the file's quantization cells.

    Args:
        planes: float32 [components, H, W], Y or Y, Cb, Cr at full size, 0 … 255.
        image: the file.
        margin: distance to keep from the border of each quantization cell, in coefficient units (see MARGIN).
        share: maximum share of a cell's half-width that the margin takes, 0 … 1.

    Returns:
        The projected planes, float32 [components, H, W]. With margin 0 this is the orthogonal projection for whole blocks. Blocks reaching
        beyond the right and lower border are extended by repeating the last pixels, as encoders do. A component whose sampling factors
        do not divide the largest ones stays unchanged.
    """
    return move_coefficients(planes, image, lambda coefficients, c: _clamp(coefficients, c.coefficients, c.table, margin, share))


def move_coefficients(planes: Float32, image: JpegImage, move: Move) -> Float32:
    """Change planes so that their coefficients, on each component's own grid, become those that `move` returns.

    Args:
        planes: float32 [components, H, W], 0 … 255.
        image: the file. A component whose sampling factors do not divide the largest ones stays unchanged.
        move: function from the coefficients, float32 [rows, columns, 8, 8], and their component to the new coefficients.

    Returns:
        The changed planes, float32 [components, H, W].
    """
    result = planes.copy()
    for plane, component in zip(result, image.components, strict=True):
        if _on_a_common_grid(component, image):
            plane += _correction(plane, component, image, move)
    return result


def _correction(plane: Float32, component: Component, image: JpegImage, move: Move) -> Float32:
    """The correction to add to a full-size plane, so that its coefficients on the component's own grid change by `move`."""
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
    """Find the luma blocks of a picture that encode to exactly the file's coefficients.

    Args:
        pixels: RGB uint8 [H, W, 3] or gray [H, W], of the file's size.
        image: the file.

    Returns:
        bool [rows, columns], on the block grid of luma. As in encoders, luma is rounded to 8 bits before the DCT.
    """
    luma = image.components[0]
    if not _on_a_common_grid(luma, image):
        return np.zeros(luma.coefficients.shape[:2], bool)  # Unknown without a common grid.
    return _same(colour.to_luma(pixels).astype(np.float32), luma, image)


def agreeing_blocks(pixels: Samples, image: JpegImage) -> list[NDArray[np.bool_]]:
    """Like :func:`consistent_blocks`, for all components; all blocks of a component without a common grid count as agreeing.

    Args:
        pixels: uint8, or uint16 with 65535 for white: RGB [H, W, 3] or gray [H, W], of the file's size.
        image: the file.

    Returns:
        bool [rows, columns] for each component. For 8-bit pixels, luma is rounded to 8 bits; chroma is averaged over each sample and not
        rounded. For 16-bit pixels nothing is rounded.
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
    """Find the blocks in which rounding alone explains differences between the pixels and the file's coefficients.

    In these blocks, the nearest samples that lie in all quantization cells differ from the pixels by at most half a step of their depth,
    which is the most by which rounding of R, G and B can change Y, Cb or Cr. Clipping to RGB is not explained by rounding.

    Args:
        pixels: pixels as for :func:`agreeing_blocks`.
        image: the file.

    Returns:
        bool [rows, columns] for each component; True also for blocks without differences.
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
