"""Colour conversion between RGB and JFIF's YCbCr (full-range BT.601), and MATLAB's studio-range luma."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Float32 = NDArray[np.float32]

# ITU-T T.871, clause 7.
YCBCR_TO_RGB = np.array([[1, 0, 1.402], [1, -0.344136286, -0.714136286], [1, 1.772, 0]], dtype=np.float32)
RGB_TO_YCBCR = np.linalg.inv(YCBCR_TO_RGB.astype(np.float64)).astype(np.float32)
# Number of rows that are converted at a time, so that they fit the caches.
_ROWS = 16
# First row of MATLAB's rgb2ycbcr matrix, for RGB 0 … 255.
STUDIO_LUMA = np.array([65.481, 128.553, 24.966], dtype=np.float64) / 255


def to_rgb(planes: Float32) -> Float32:
    """Convert YCbCr planes to RGB, without clipping.

    Args:
        planes: float32 [3, H, W], 0 … 255 with chroma centred on 128; or luma [1, H, W], which gives gray.

    Returns:
        float32 [H, W, 3], or [H, W] for gray.
    """
    if len(planes) == 1:
        gray: Float32 = planes[0]
        return gray
    luma, blue, red = planes[0], planes[1] - np.float32(128), planes[2] - np.float32(128)
    # Planar in memory: the channels are interleaved later, as bytes.
    channels = np.empty_like(planes)
    np.add(luma, YCBCR_TO_RGB[0, 2] * red, out=channels[0])
    np.add(luma, YCBCR_TO_RGB[1, 1] * blue + YCBCR_TO_RGB[1, 2] * red, out=channels[1])
    np.add(luma, YCBCR_TO_RGB[2, 1] * blue, out=channels[2])
    return np.moveaxis(channels, 0, 2)


def to_planes(image: NDArray[np.floating] | NDArray[np.uint8]) -> Float32:
    """Convert RGB or gray to planes; the inverse of :func:`to_rgb`.

    Args:
        image: [H, W, 3] RGB or [H, W], 0 … 255.

    Returns:
        float32 [3, H, W] or [1, H, W], 0 … 255.
    """
    if image.ndim == 2:
        return np.asarray(image, dtype=np.float32)[None]
    planes = to_differences(image)
    planes[1:] += 128
    return planes


def to_differences(image: NDArray[Any]) -> Float32:
    """Convert differences of colours like :func:`to_planes`, with chroma centred on 0."""
    if image.ndim == 2:
        return np.asarray(image, dtype=np.float32)[None]
    channels = np.moveaxis(image, 2, 0).astype(np.float32, order="C")
    return np.stack([weighted(channels, row) for row in RGB_TO_YCBCR])


def to_chroma(image: NDArray[np.uint8]) -> Float32:
    """Convert RGB to chroma: the planes Cb and Cr of :func:`to_planes`, float32 [2, H, W]."""
    chroma = np.empty((2, *image.shape[:2]), np.float32)
    for first in range(0, len(image), _ROWS):
        rows = slice(first, first + _ROWS)
        channels = np.moveaxis(image[rows], 2, 0).astype(np.float32, order="C")
        for plane, weights in zip(chroma, RGB_TO_YCBCR[1:], strict=True):
            np.add(weighted(channels, weights), np.float32(128), out=plane[rows])
    return chroma


def weighted(channels: NDArray[Any], weights: NDArray[np.floating]) -> NDArray[Any]:
    """The weighted sum of three planes, added in order: a matrix product would depend on the processor.

    Args:
        channels: [3, H, W], any real dtype.
        weights: float32 or float64 [3].

    Returns:
        [H, W] in the dtype of the weights.
    """
    total: NDArray[Any] = channels[0] * weights[0]
    total += channels[1] * weights[1]
    total += channels[2] * weights[2]
    return total


def to_luma(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Luma of 8-bit pixels, identical to that of libjpeg's encoder.

    Args:
        image: [H, W, 3] RGB or [H, W].

    Returns:
        uint8 [H, W].
    """
    return image if image.ndim == 2 else np.asarray(Image.fromarray(image).convert("L"))


def to_uint8(image: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Round to the nearest integer and clip to 0 … 255; any shape."""
    rounded = np.rint(image)
    np.clip(rounded, 0, 255, out=rounded)
    result: NDArray[np.uint8] = rounded.astype(np.uint8, order="C")
    return result


def studio_luma(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Luma of MATLAB's rgb2ycbcr: studio range 16 … 235, rounded.

    Args:
        rgb: uint8 [H, W, 3].

    Returns:
        uint8 [H, W].
    """
    return to_uint8(16 + weighted(np.moveaxis(rgb, 2, 0), STUDIO_LUMA))
