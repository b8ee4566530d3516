"""Shrinkage of restored coefficients into the file's quantization cells.

Where a network's coefficient leaves its cell, the border is the nearest that the file allows, and not the most likely: originals lie
further inside on average, and they do so too where the network comes near the border. :func:`shrink` moves each coefficient to that
average, which is measured for each network (see :mod:`redecode.training.export.shrinkage_table`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..codec.jpeg import Component, JpegImage
from .projection import move_coefficients

Float32 = NDArray[np.float32]

# A network's shrinkage factors (see `shrink`) are tabulated by the kind of component (luma, subsampled chroma, chroma at full size);
# by the side of the restored coefficient (in a cell around zero, farther from zero than the middle of another, nearer to zero);
# by the step, two rows to an octave; and by the square root of the distance from the middle of the cell, in steps, TABLE_COLUMNS up to 1.
TABLE_SHAPE = (3, 3, 17, 36)
TABLE_COLUMNS = 32
# Between the middles of the columns factors are interpolated, in a table that is finer by this factor.
_FINER = 4


def shrink(planes: Float32, image: JpegImage, factors: Float32) -> Float32:
    """Move every coefficient to where originals lie on average, given where in its cell or beside it the restored one lies.

    This brings a network that minimises the mean squared error nearer to the original. It is not for one that paints texture, which
    spreads its coefficients beyond the average on purpose.

    Args:
        planes: float32 [components, H, W], Y or Y, Cb, Cr at full size, 0 … 255, from a network trained for fidelity.
        image: the file.
        factors: float32 of TABLE_SHAPE, of that network: by what its distance from the middle of a cell is multiplied to give the
            original's mean distance, see :mod:`redecode.training.export.shrinkage_table`.

    Returns:
        Like the planes. Components as :func:`project` has them.
    """
    finer = refined(factors)

    def move(coefficients: Float32, component: Component) -> Float32:
        step = component.table.astype(np.float32)
        rows = factor_rows(component, image)
        moved = np.empty_like(coefficients)
        # Row by row of blocks, which the caches hold from one operation to the next.
        for found, quantized, result in zip(coefficients, component.coefficients, moved, strict=True):
            distance = found / step - quantized
            factor = finer.take(factor_places(distance, quantized, rows, _FINER))
            np.multiply(quantized + distance * factor, step, out=result)
        return moved

    return move_coefficients(planes, image, move)


def refined(factors: Float32) -> Float32:
    """A table of shrinkage factors with its columns interpolated, _FINER times as many."""
    columns = TABLE_SHAPE[-1]
    middles = ((np.arange(columns * _FINER, dtype=np.float32) + np.float32(0.5)) / _FINER - np.float32(0.5)).clip(0, columns - 1)
    left = middles.astype(np.intp).clip(max=columns - 2)
    finer: Float32 = factors[..., left] + (middles - left).astype(np.float32) * (factors[..., left + 1] - factors[..., left])
    return finer


def factor_rows(component: Component, image: JpegImage) -> NDArray[np.int32]:
    """In a table of shrinkage factors, the row of each of a component's frequencies on the first side: int32 [8, 8]."""
    kind = 0 if component is image.components[0] else 1 if component.sampling != image.max_sampling else 2
    rows: NDArray[np.int32] = np.rint(2 * np.log2(component.table)).astype(np.int32).clip(max=TABLE_SHAPE[2] - 1)
    return rows + np.int32(kind * TABLE_SHAPE[1] * TABLE_SHAPE[2])


def factor_places(distance: Float32, quantized: NDArray[np.int16], rows: NDArray[np.int32], finer: int = 1) -> NDArray[np.int32]:
    """Where in a flat table of shrinkage factors that of each coefficient is found.

    Args:
        distance: float32 [..., 8, 8], from the middles of the cells, in steps.
        quantized: int16 [..., 8, 8], the file's coefficients.
        rows: as :func:`factor_rows`.
        finer: by how much the columns are finer than those of TABLE_SHAPE.

    Returns:
        int32 [..., 8, 8].
    """
    columns = TABLE_SHAPE[3] * finer
    column = np.sqrt(np.abs(distance))
    column *= np.float32(TABLE_COLUMNS * finer)
    np.minimum(column, np.float32(columns - 1), out=column)
    # 1 where it is farther from zero than the middle, 2 where it is nearer; on the middle it does not matter.
    side = np.where(quantized != 0, np.int32(1) + ((quantized < 0) ^ (distance < 0)), np.int32(0))
    places: NDArray[np.int32] = column.astype(np.int32)
    places += (side * np.int32(TABLE_SHAPE[2]) + rows) * np.int32(columns)
    return places
