"""Full-reference image metrics: a number for a pair of images.

Every function takes the original first and the restored image second, both of the same shape, any real dtype, on the scale
0 … 255. LPIPS, which needs a network, is in :mod:`redecode.evaluation.lpips`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]
Image = NDArray[np.floating[Any]] | NDArray[np.uint8]

PEAK = 255.0
BLOCK = 8

# Share of pixels that count as edges in E-PSNR. The paper does not define its edge detector: with this share, plain JPEG at quality factor
# 10 has the paper's 21.25 dB on LIVE1.
EDGE_SHARE = 0.005

# Wang et al. 2004: C1 = (K1 L)², C2 = (K2 L)² with K1 = 0.01, K2 = 0.03.
_C1 = (0.01 * PEAK) ** 2
_C2 = (0.03 * PEAK) ** 2


def psnr(reference: Image, restored: Image) -> float:
    """Peak signal-to-noise ratio, 10 log10(255² / MSE), with the error averaged over all samples of all channels.

    Args:
        reference: [H, W] or [H, W, C], 0 … 255.
        restored: the image to compare with it, of the same shape and range.

    Returns:
        dB, higher is better; infinite for equal images.

    Raises:
        ValueError: the shapes differ.

    Examples:
        >>> import numpy as np
        >>> original = np.full((8, 8), 100, np.uint8)
        >>> round(psnr(original, original + 2), 2)
        42.11
    """
    return _decibel(_squared_error(reference, restored).mean())


def psnr_b(reference: Image, restored: Image) -> float:
    """PSNR-B: PSNR with the blocking effect factor of the restored image added to the error.

    Yim and Bovik, "Quality Assessment of Deblocked Images", IEEE TIP 20(1), 2011, on the 8×8 grid that begins at the top left
    pixel. The means are taken over all existing pairs of neighbours; other implementations (torchmetrics) divide by a slightly
    larger number of border pairs, which makes a difference of 0.03 to 0.06 dB on LIVE1 and BSDS500. Columns and rows that do not
    fill a block are measured too: crop both images with :func:`whole_blocks` first to leave them out, which on LIVE1 gives the
    paper's figure for plain JPEG.

    Args:
        reference: [H, W], 0 … 255.
        restored: the image to compare with it, of the same shape and range.

    Returns:
        dB, higher is better, at most the PSNR; infinite for equal images without visible blocks.

    Raises:
        ValueError: the shapes differ or are not [H, W].

    Examples:
        A step between two blocks counts twice, as an error and as a visible block border:

        >>> import numpy as np
        >>> original = np.full((16, 16), 100, np.uint8)
        >>> blocky = original.copy()
        >>> blocky[:, 8:] += 4
        >>> round(psnr(original, blocky), 2), round(psnr_b(original, blocky), 2)
        (39.1, 36.67)
    """
    _require_gray(reference)
    return _decibel(_squared_error(reference, restored).mean() + _blocking_effect(restored))


def whole_blocks(image: Image) -> Image:
    """Crop an image [H, W, …] to whole 8×8 blocks; returns a view."""
    height, width = image.shape[:2]
    return image[: height - height % BLOCK, : width - width % BLOCK]


def ssim_gaussian(reference: Image, restored: Image) -> float:
    """Structural similarity in the 11×11 Gaussian window, σ = 1.5, of Wang, Bovik, Sheikh and Simoncelli, IEEE TIP 13(4), 2004.

    It is averaged over all window positions inside the image, at full resolution: the SSIM of DnCNN, FBCNN and SwinIR.

    Args:
        reference: [H, W], 0 … 255, both sides at least 11.
        restored: the image to compare with it, of the same shape and range.

    Returns:
        at most 1, higher is better.

    Raises:
        ValueError: the shapes differ, are not [H, W], or are smaller than the window.

    Examples:
        >>> import numpy as np
        >>> original = np.random.default_rng(0).integers(0, 256, (32, 32))
        >>> ssim_gaussian(original, original)
        1.0
    """
    window = np.exp(-(np.arange(-5.0, 6.0) ** 2) / (2 * 1.5**2))
    return _ssim(reference, restored, window / window.sum())


def ssim_uniform(reference: Image, restored: Image) -> float:
    """Structural similarity in a uniform 8×8 window, as in the code of AR-CNN and hence in the paper's Table 1.

    The window is that of Wang and Bovik before 2004; otherwise like :func:`ssim_gaussian`, with population variances.

    Args:
        reference: [H, W], 0 … 255, both sides at least 8.
        restored: the image to compare with it, of the same shape and range.

    Returns:
        at most 1, higher is better.

    Raises:
        ValueError: the shapes differ, are not [H, W], or are smaller than the window.
    """
    return _ssim(reference, restored, np.full(8, 1 / 8))


def e_psnr(reference: Image, restored: Image, share: float = EDGE_SHARE) -> float:
    """E-PSNR: PSNR over the pixels where the original has its strongest edges.

    Edges are the ⌈share · pixels⌉ pixels with the largest Sobel magnitude (3×3, borders replicated), ties included. The paper
    reports an E-PSNR without defining its edge detector: compare figures of this function with each other only.

    Args:
        reference: the original, [H, W], 0 … 255; its edges are used.
        restored: the restored image, of the same shape and range.
        share: share of the pixels that count as edges, greater than 0 and at most 1.

    Returns:
        dB, higher is better.

    Raises:
        ValueError: the shapes differ or are not [H, W], or the share is out of range.
    """
    _require_gray(reference)
    if not 0 < share <= 1:
        raise ValueError(f"share must be greater than 0 and at most 1, not {share}")
    error = _squared_error(reference, restored)
    strength = _squared_sobel(reference)
    rank = strength.size - math.ceil(share * strength.size)
    return _decibel(error[strength >= np.partition(strength, rank, axis=None)[rank]].mean())


def _decibel(error: float) -> float:
    return 10 * math.log10(PEAK**2 / error) if error > 0 else math.inf


def _squared_error(reference: Image, restored: Image) -> Float64:
    if reference.shape != restored.shape:
        raise ValueError(f"the images differ in shape: {reference.shape} and {restored.shape}")
    return (reference.astype(np.float64) - restored) ** 2


def _require_gray(image: Image) -> None:
    if image.ndim != 2:
        raise ValueError(f"this metric is for one channel, not for shape {image.shape}")


def _blocking_effect(image: Image) -> float:
    """Blocking effect factor of an image [H, W]: by how much squared differences across block borders exceed the others, times η."""
    samples = image.astype(np.float64)
    across, down = np.diff(samples, axis=1) ** 2, np.diff(samples, axis=0) ** 2
    across_borders, down_borders = across[:, BLOCK - 1 :: BLOCK], down[BLOCK - 1 :: BLOCK]
    border_pairs = across_borders.size + down_borders.size
    inner_pairs = across.size + down.size - border_pairs
    if border_pairs == 0:
        return 0.0
    border_sum = across_borders.sum() + down_borders.sum()
    at_borders = float(border_sum / border_pairs)
    elsewhere = float((across.sum() + down.sum() - border_sum) / inner_pairs)
    weight = math.log2(BLOCK) / math.log2(max(2, min(image.shape)))
    return weight * max(at_borders - elsewhere, 0.0)


def _ssim(reference: Image, restored: Image, window: Float64) -> float:
    _require_gray(reference)
    if reference.shape != restored.shape:
        raise ValueError(f"the images differ in shape: {reference.shape} and {restored.shape}")
    if min(reference.shape) < len(window):
        raise ValueError(f"an image of shape {reference.shape} is smaller than the window of {len(window)} pixels")
    x, y = reference.astype(np.float64), restored.astype(np.float64)
    mean_x, mean_y = _window_mean(x, window), _window_mean(y, window)
    variances = _window_mean(x * x + y * y, window) - mean_x**2 - mean_y**2
    covariance = _window_mean(x * y, window) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + _C1) / (mean_x**2 + mean_y**2 + _C1)
    return float((luminance * (2 * covariance + _C2) / (variances + _C2)).mean())


def _window_mean(image: Float64, window: Float64) -> Float64:
    """Weighted mean in a separable window, at all positions inside the image."""
    height, width = (side - len(window) + 1 for side in image.shape)
    rows = np.zeros((height, image.shape[1]))
    for offset, weight in enumerate(window):
        rows += weight * image[offset : offset + height]
    result = np.zeros((height, width))
    for offset, weight in enumerate(window):
        result += weight * rows[:, offset : offset + width]
    return result


def _squared_sobel(image: Image) -> Float64:
    padded = np.pad(image.astype(np.float64), 1, mode="edge")
    columns = padded[:-2] + 2 * padded[1:-1] + padded[2:]
    rows = padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]
    return (columns[:, 2:] - columns[:, :-2]) ** 2 + (rows[2:] - rows[:-2]) ** 2
