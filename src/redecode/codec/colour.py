"""Full-range BT.601 YCbCr of JFIF ↔ RGB, and MATLAB's studio-range luma."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Float32 = NDArray[np.float32]

# ITU-T T.871, clause 7.
YCBCR_TO_RGB = np.array([[1, 0, 1.402], [1, -0.344136286, -0.714136286], [1, 1.772, 0]], dtype=np.float32)
RGB_TO_YCBCR = np.linalg.inv(YCBCR_TO_RGB.astype(np.float64)).astype(np.float32)
# Rows that are converted at a time.
_ROWS = 16
# MATLAB rgb2ycbcr, first row, for RGB in 0 … 255.
STUDIO_LUMA = np.array([65.481, 128.553, 24.966], dtype=np.float64) / 255


def to_rgb(planes: Float32) -> Float32:
    """YCbCr planes to RGB, unclipped.

    Args:
        planes: float32 [3, H, W], 0 … 255 with chroma centred on 128; or [1, H, W] luma, which gives gray.

    Returns:
        float32 [H, W, 3], or [H, W] for gray.
    """
    if len(planes) == 1:
        gray: Float32 = planes[0]
        return gray
    luma, blue, red = planes[0], planes[1] - np.float32(128), planes[2] - np.float32(128)
    # Channel by channel in memory: it is once that they are interleaved, as bytes.
    channels = np.empty_like(planes)
    np.add(luma, YCBCR_TO_RGB[0, 2] * red, out=channels[0])
    np.add(luma, YCBCR_TO_RGB[1, 1] * blue + YCBCR_TO_RGB[1, 2] * red, out=channels[1])
    np.add(luma, YCBCR_TO_RGB[2, 1] * blue, out=channels[2])
    return np.moveaxis(channels, 0, 2)


def to_planes(image: NDArray[np.floating] | NDArray[np.uint8]) -> Float32:
    """RGB or gray to planes; the inverse of :func:`to_rgb`.

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
    """Like :func:`to_planes`, of differences of colours, whose chroma is centred on 0."""
    if image.ndim == 2:
        return np.asarray(image, dtype=np.float32)[None]
    channels = np.moveaxis(image, 2, 0).astype(np.float32, order="C")
    return np.stack([weighted(channels, row) for row in RGB_TO_YCBCR])


def to_chroma(image: NDArray[np.uint8]) -> Float32:
    """Cb and Cr alone of :func:`to_planes`: float32 [2, H, W] of RGB."""
    chroma = np.empty((2, *image.shape[:2]), np.float32)
    # A few rows at a time, which the caches hold.
    for first in range(0, len(image), _ROWS):
        rows = slice(first, first + _ROWS)
        channels = np.moveaxis(image[rows], 2, 0).astype(np.float32, order="C")
        for plane, weights in zip(chroma, RGB_TO_YCBCR[1:], strict=True):
            np.add(weighted(channels, weights), np.float32(128), out=plane[rows])
    return chroma


def weighted(channels: NDArray[Any], weights: NDArray[np.floating]) -> NDArray[Any]:
    """The weighted sum of three planes, added up in order: a product of matrices would not be the same on every processor.

    Args:
        channels: [3, H, W], any real dtype.
        weights: float32 or float64 [3].

    Returns:
        [H, W], of the weights' dtype.
    """
    total: NDArray[Any] = channels[0] * weights[0]
    total += channels[1] * weights[1]
    total += channels[2] * weights[2]
    return total


def to_luma(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The luma that an encoder makes of 8-bit pixels, to the bit as libjpeg does.

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
    """Luma as MATLAB's rgb2ycbcr gives it: studio range 16 … 235, rounded.

    Args:
        rgb: uint8 [H, W, 3].

    Returns:
        uint8 [H, W].
    """
    return to_uint8(16 + weighted(np.moveaxis(rgb, 2, 0), STUDIO_LUMA))
