"""The shrinkage table of a network, for :func:`redecode.restoration.shrinkage.shrink`: measured where the original is known."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from ...codec import colour, jpeg
from ...codec.jpeg import JpegImage, coefficients_of
from ...restoration.shrinkage import TABLE_COLUMNS, TABLE_SHAPE, factor_places, factor_rows

Restore = Callable[[JpegImage], NDArray[np.float32]]

# Where little was measured, a factor stays near that of the next coarser step: it weighs as many coefficients as this.
PRIOR = 1000
# What stands for the next coarser step of the coarsest: coefficients stay where they are, but for those that are farther out than this.
FARTHEST = 0.45
# Close to the middle there is nothing but noise to measure.
LARGEST = 1.5
# Added to a picture's mean squared error before it is taken by its inverse: smooth crops are parts of rougher pictures. In grey levels.
FLOOR = 4


def shrinkage_table(restore: Restore, crops: Iterable[tuple[NDArray[np.uint8], int, str]]) -> NDArray[np.float64]:
    """The factors for a network's distances from the middles of the cells.

    In each place of the table it is the factor that leaves the smallest squared error. Every picture counts by the inverse of its
    error, as in a mean of decibels.

    Args:
        restore: gives a file's planes, float32 [components, H, W], 0 … 255.
        crops: originals, the quality factors and the subsampling (:func:`redecode.codec.jpeg.compress`); sides multiples of 16.

    Returns:
        Of TABLE_SHAPE, as :func:`redecode.restoration.shrinkage.shrink` takes them.
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
