"""Projection onto the file's quantization cells: the result never contradicts the file.

A quantized coefficient k with step q says that the encoder's coefficient lay in [(k − ½) q, (k + ½) q]. All pictures that agree with the
file form a convex set (a box in the DCT domain), the original is in it, and so the orthogonal projection onto it can only bring a
restored picture closer to the original.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from . import colour, dct
from .jpeg import Component, JpegImage

Float32 = NDArray[np.float32]

# The result is rounded to 8-bit RGB, and an encoder rounds again to 8-bit luma. Each sample errs by a standard deviation of about 0.29 and
# 0.19; the orthonormal DCT keeps that scale, 0.35 per coefficient. Clamping this far (in units of coefficients) inside the cell's
# border makes the rounded result fall into the same cell; steps too small for it keep the middle of their cell.
MARGIN = 1.5
# The margin never takes more than this share of a cell's half-width: small steps keep room around the middle.
MAX_MARGIN_SHARE = 0.5
# Clipping RGB to 0 … 255 leaves the set again; both sets are convex, and alternating between them converges. Few pixels are concerned, and
# after three rounds hardly any remain.
ROUNDS = 3


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
    result = planes.copy()
    h_max, v_max = image.max_sampling
    for plane, component in zip(result, image.components, strict=True):
        h, v = component.sampling
        if h_max % h == 0 and v_max % v == 0:
            plane += _correction(plane, component, (v_max // v, h_max // h), margin)
    return result


def to_pixels(planes: Float32, image: JpegImage, margin: float = MARGIN) -> NDArray[np.uint8]:
    """Project and convert to 8-bit pixels, so that these agree with the file.

    Args:
        planes: float32 [components, H, W], 0 … 255.
        image: the file.
        margin: as :func:`project`.

    Returns:
        uint8 [H, W, 3] RGB, or [H, W] for a gray file.
    """
    for _ in range(ROUNDS):
        pixels = colour.to_rgb(project(planes, image, margin))
        clipped = np.clip(pixels, 0, 255)
        # Less than half a level is lost in rounding anyway.
        if np.abs(clipped - pixels).max() < 0.5:
            break
        planes = colour.to_planes(clipped)
    return colour.to_uint8(clipped)


def _correction(plane: Float32, component: Component, factors: tuple[int, int], margin: float) -> Float32:
    """What to add to a full-size plane so that its samples on the component's own grid fall into the file's cells."""
    rows, columns = component.coefficients.shape[:2]
    down, right = factors
    padding = [(0, rows * dct.BLOCK * down - plane.shape[0]), (0, columns * dct.BLOCK * right - plane.shape[1])]
    padded = np.pad(plane, padding, mode="edge")
    if factors != (1, 1):
        # Encoders average the pixels of a chroma sample. Among all changes of the pixels that give the samples a certain change, the
        # smallest is the same one for all pixels of a sample: that makes this the orthogonal projection.
        padded = padded.reshape(rows * dct.BLOCK, down, columns * dct.BLOCK, right).mean((1, 3))
    coefficients = dct.forward(dct.to_blocks(padded - np.float32(128)))
    correction = dct.from_blocks(dct.inverse(_clamp(coefficients, component, margin) - coefficients))
    if factors != (1, 1):
        correction = correction.repeat(down, 0).repeat(right, 1)
    return correction[: plane.shape[0], : plane.shape[1]]


def _clamp(coefficients: Float32, component: Component, margin: float) -> Float32:
    half = component.table.astype(np.float32) / 2
    half -= np.minimum(margin, MAX_MARGIN_SHARE * half)
    centre = component.coefficients.astype(np.float32) * component.table
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
    rows, columns = luma.coefficients.shape[:2]
    plane = np.rint(colour.to_planes(pixels)[0])
    height, width = plane.shape
    padded = np.pad(plane, [(0, rows * dct.BLOCK - height), (0, columns * dct.BLOCK - width)], mode="edge")
    coefficients = dct.forward(dct.to_blocks(padded - np.float32(128)))
    same: NDArray[np.bool_] = (np.rint(coefficients / luma.table) == luma.coefficients).all((2, 3))
    return same
