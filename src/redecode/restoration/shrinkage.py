"""Shrinkage of restored coefficients into the file's quantization cells.

If a network's coefficient leaves its cell, the border is the nearest value that the file allows, but not the most likely one: originals
lie further inside on average. The same holds for coefficients near the border. :func:`shrink` moves each coefficient to this average,
which is measured for each network (see :mod:`redecode.training.export.shrinkage_table`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..codec.jpeg import Component, JpegImage
from .projection import move_coefficients

Float32 = NDArray[np.float32]

# Shape of a network's table of shrinkage factors. The axes are: the kind of component (luma, subsampled chroma, chroma at full size); the
# side of the restored coefficient (in the cell around zero; in another cell, farther from zero than its middle; nearer to zero); the
# quantization step, two rows per octave; and the square root of the distance from the middle of the cell in steps, TABLE_COLUMNS per 1.
TABLE_SHAPE = (3, 3, 17, 36)
TABLE_COLUMNS = 32
# Factor by which the columns of a table are refined: factors are interpolated between the middles of columns.
_FINER = 4


def shrink(planes: Float32, image: JpegImage, factors: Float32) -> Float32:
    """Move each coefficient to the mean of the originals, given its place relative to its quantization cell.

    This brings the result of a network that minimises the mean squared error nearer to the original. It is not for texture networks, whose
    coefficients deviate from the mean on purpose.

    Args:
        planes: restored planes of a network trained for fidelity, float32 [components, H, W], Y or Y, Cb, Cr at full size, 0 … 255.
        image: the file.
        factors: the network's shrinkage factors, float32 in TABLE_SHAPE: the mean distance of originals from the middle of the cell divided
            by the restored coefficient's distance, see :mod:`redecode.training.export.shrinkage_table`.

    Returns:
        The corrected planes, float32 [components, H, W]. Components with unusual sampling stay unchanged, see
        :func:`redecode.restoration.projection.project`.
    """
    finer = refined(factors)

    def move(coefficients: Float32, component: Component) -> Float32:
        step = component.table.astype(np.float32)
        rows = factor_rows(component, image)
        moved = np.empty_like(coefficients)
        # One row of blocks at a time, which fits the caches.
        for found, quantized, result in zip(coefficients, component.coefficients, moved, strict=True):
            distance = found / step - quantized
            factor = finer.take(factor_places(distance, quantized, rows, _FINER))
            np.multiply(quantized + distance * factor, step, out=result)
        return moved

    return move_coefficients(planes, image, move)


def refined(factors: Float32) -> Float32:
    """Interpolate the columns of a table of shrinkage factors, to _FINER times as many."""
    columns = TABLE_SHAPE[-1]
    middles = ((np.arange(columns * _FINER, dtype=np.float32) + np.float32(0.5)) / _FINER - np.float32(0.5)).clip(0, columns - 1)
    left = middles.astype(np.intp).clip(max=columns - 2)
    finer: Float32 = factors[..., left] + (middles - left).astype(np.float32) * (factors[..., left + 1] - factors[..., left])
    return finer


def factor_rows(component: Component, image: JpegImage) -> NDArray[np.int32]:
    """Row of a flattened table of shrinkage factors for each frequency of a component, on the first side: int32 [8, 8]."""
    kind = 0 if component is image.components[0] else 1 if component.sampling != image.max_sampling else 2
    rows: NDArray[np.int32] = np.rint(2 * np.log2(component.table)).astype(np.int32).clip(max=TABLE_SHAPE[2] - 1)
    return rows + np.int32(kind * TABLE_SHAPE[1] * TABLE_SHAPE[2])


def factor_places(distance: Float32, quantized: NDArray[np.int16], rows: NDArray[np.int32], finer: int = 1) -> NDArray[np.int32]:
    """Index of each coefficient's factor in a flattened table of shrinkage factors.

    Args:
        distance: distances from the middles of the cells in steps, float32 [..., 8, 8].
        quantized: the file's coefficients, int16 [..., 8, 8].
        rows: rows of the frequencies, from :func:`factor_rows`.
        finer: number of columns per column of TABLE_SHAPE.

    Returns:
        Indices, int32 [..., 8, 8].
    """
    columns = TABLE_SHAPE[3] * finer
    column = np.sqrt(np.abs(distance))
    column *= np.float32(TABLE_COLUMNS * finer)
    np.minimum(column, np.float32(columns - 1), out=column)
    # 1 for coefficients farther from zero than the middle, 2 for nearer ones; at the middle the side does not matter.
    side = np.where(quantized != 0, np.int32(1) + ((quantized < 0) ^ (distance < 0)), np.int32(0))
    places: NDArray[np.int32] = column.astype(np.int32)
    places += (side * np.int32(TABLE_SHAPE[2]) + rows) * np.int32(columns)
    return places
