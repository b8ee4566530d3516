"""The shrinkage table of a network for :func:`redecode.restoration.shrinkage.shrink`, measured on photographs with known originals."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from ...codec import colour, jpeg
from ...codec.jpeg import JpegImage, coefficients_of
from ...restoration.shrinkage import TABLE_COLUMNS, TABLE_SHAPE, factor_places, factor_rows

Restore = Callable[[JpegImage], NDArray[np.float32]]

# Weight of the prior, as a number of coefficients: where there are few measurements, a factor stays near that of the next coarser step.
PRIOR = 1000
# Prior of the coarsest steps: coefficients stay where they are, except that none stays farther from the middle than this, in steps.
FARTHEST = 0.45
# Maximum of a factor: near the middle of a cell, measurements are mostly noise.
LARGEST = 1.5
# Added to a picture's mean squared error, in squared grey levels, before its inverse becomes the picture's weight: without it, smooth crops
# would dominate, though they are only parts of pictures with more error elsewhere.
FLOOR = 4


def shrinkage_table(restore: Restore, crops: Iterable[tuple[NDArray[np.uint8], int, str]]) -> NDArray[np.float64]:
    """Measure the factors by which a network's coefficients move towards the middle of their cells.

    Each entry is the factor with the least squared error. Every picture is weighted by the inverse of its error, as in a mean PSNR.

    Args:
        restore: function from a file to its restored planes, float32 [components, H, W], 0 … 255.
        crops: originals with quality factor and subsampling (:func:`redecode.codec.jpeg.compress`); sides multiples of 16.

    Returns:
        The factors in TABLE_SHAPE, for :func:`redecode.restoration.shrinkage.shrink`.
    """
    products, squares = np.zeros(TABLE_SHAPE), np.zeros(TABLE_SHAPE)
    weights = []
    for original, quality, subsampling in crops:
        image = jpeg.read(jpeg.compress(original, quality, subsampling))
        for plane, truth, component in zip(restore(image), colour.to_planes(original), image.components, strict=True):
            step, quantized = component.table.astype(np.float32), component.coefficients
            distance = coefficients_of(plane, component, image) / step - quantized
            true_distance = coefficients_of(truth, component, image) / step - quantized
            weights.append(1 / (np.square((distance - true_distance) * step).mean() + FLOOR))
            places = factor_places(distance, quantized, factor_rows(component, image)).ravel()
            for total, values in ((products, distance * true_distance), (squares, distance**2)):
                total += weights[-1] * np.bincount(places, values.ravel(), total.size).reshape(total.shape)
    middles = np.square((np.arange(TABLE_SHAPE[3]) + 0.5) / TABLE_COLUMNS)
    prior = PRIOR * np.mean(weights) * middles**2
    result = np.empty(TABLE_SHAPE)
    coarser = np.minimum(1, FARTHEST / middles)
    for row in reversed(range(TABLE_SHAPE[2])):
        coarser = result[:, :, row] = (products[:, :, row] + prior * coarser) / (squares[:, :, row] + prior)
    return result.clip(0, LARGEST)
