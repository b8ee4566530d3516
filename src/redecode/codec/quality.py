"""Quantization tables and quality factors: libjpeg's tables, scaled from Annex K of the standard, and the nearest quality factor."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# ITU-T T.81, tables K.1 and K.2.
_ANNEX_K = np.array(
    [
        [
            [16, 11, 10, 16, 24, 40, 51, 61],
            [12, 12, 14, 19, 26, 58, 60, 55],
            [14, 13, 16, 24, 40, 57, 69, 56],
            [14, 17, 22, 29, 51, 87, 80, 62],
            [18, 22, 37, 56, 68, 109, 103, 77],
            [24, 35, 55, 64, 81, 104, 113, 92],
            [49, 64, 78, 87, 103, 121, 120, 101],
            [72, 92, 95, 98, 112, 100, 103, 99],
        ],
        [
            [17, 18, 24, 47, 99, 99, 99, 99],
            [18, 21, 26, 66, 99, 99, 99, 99],
            [24, 26, 56, 99, 99, 99, 99, 99],
            [47, 66, 99, 99, 99, 99, 99, 99],
            [99, 99, 99, 99, 99, 99, 99, 99],
            [99, 99, 99, 99, 99, 99, 99, 99],
            [99, 99, 99, 99, 99, 99, 99, 99],
            [99, 99, 99, 99, 99, 99, 99, 99],
        ],
    ]
)
QUALITIES = range(1, 101)
MAX_STEP = 255


def standard_tables(quality: int) -> NDArray[np.uint16]:
    """libjpeg's tables of a quality factor: those of Annex K, scaled and limited to baseline's 1 … 255.

    Returns:
        Steps of luma and chroma in natural order, uint16 [2, 8, 8].

    Raises:
        ValueError: the quality is outside 1 … 100.
    """
    if quality not in QUALITIES:
        raise ValueError(f"quality must be 1 … 100, not {quality}")
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    tables: NDArray[np.uint16] = np.clip((_ANNEX_K * scale + 50) // 100, 1, MAX_STEP).astype(np.uint16)
    return tables


STANDARD = np.stack([standard_tables(quality) for quality in QUALITIES]).reshape(len(QUALITIES), 2, -1)


def nearest_quality(table: NDArray[np.uint16], chroma: bool = False) -> tuple[int, float]:
    """The libjpeg quality factor with the most similar table.

    Args:
        table: uint16 [8, 8], steps in natural order.
        chroma: whether the table is for chroma.

    Returns:
        The quality factor, 1 … 100 (the lowest, if several are equally near), and the similarity of its table, 0 … 1: the geometric mean
        over the frequencies of the ratio of the smaller to the larger step. It is 1 if and only if the tables are equal.
    """
    return nearest(table.reshape(-1), STANDARD[:, int(chroma)])


def nearest(steps: NDArray[np.uint16], standard: NDArray[np.uint16]) -> tuple[int, float]:
    """Like :func:`nearest_quality`, for any n frequencies: steps uint16 [n], and those of the standard tables, uint16 [100, n]."""
    distance = np.abs(np.log(standard / np.maximum(steps, 1).astype(np.float64))).mean(1)
    best = int(distance.argmin())
    return QUALITIES[best], float(np.exp(-distance[best]))
