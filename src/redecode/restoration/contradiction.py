"""Where a network contradicts the file, the plain decode counts instead.

Networks that were trained on photographs smooth what they take for artifacts: lines one pixel wide, small letters and pixel art at good
qualities. The file tells where: the original lies in the quantization cells, and so a result is off by no less than its distance from them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..codec import dct

Float32 = NDArray[np.float32]

# Squared distance of a luma block from its cells, as a share of what quantization costs at most on average (a step squared, divided by
# 12, for each coefficient): up to the first the result counts, from the second on the plain decode. On held-out photographs a block in a
# thousand lies above the first, and none wins or loses by it; L_B of drawings and of letters loses to the plain decode from 0.1 on.
LIMITS = (0.05, 0.15)


def believe(restored: Float32, plain: Float32, tables: NDArray[np.uint16], origin: tuple[int, int] = (0, 0)) -> Float32:
    """Blend a restored picture with its plain decode, block by block, where its luma contradicts the file.

    Args:
        restored: what a network gave, float32 [components, H, W], 0 … 255; changed in place.
        plain: the plain decode, likewise, whose coefficients are the middles of the quantization cells.
        tables: uint16 [2, 8, 8], quantization steps of luma and chroma.
        origin: rows and columns missing above and left to begin with a whole 8×8 block.

    Returns:
        The restored planes.
    """
    height, width = plain.shape[1:]
    padding = [(first, -(first + length) % dct.BLOCK) for first, length in zip(origin, (height, width), strict=True)]
    moved = restored[0] - plain[0]
    blocks = dct.to_blocks(np.pad(moved, padding, mode="edge") if any(map(any, padding)) else moved)
    low, high = (np.float32(limit) for limit in LIMITS)
    # The transform keeps the sum of squares: what moved by little cannot have left its cells by much.
    far = np.einsum("rcij,rcij->rc", blocks, blocks) > low * cost(tables[0])
    doubt = np.zeros(far.shape, np.float32)
    doubt[far] = ((_beyond(dct.forward(blocks[far]), tables[0]) - low) / (high - low)).clip(0, 1)
    if doubt.any():
        inside = slice(origin[0], origin[0] + height), slice(origin[1], origin[1] + width)
        restored += doubt.repeat(dct.BLOCK, 0).repeat(dct.BLOCK, 1)[inside] * (plain - restored)
    return restored


def cost(table: NDArray[np.uint16]) -> np.float32:
    """What quantization costs a block at most on average, sum of squares."""
    return np.float32(np.square(table, dtype=np.float32).sum() / 12)


def _beyond(moved: Float32, table: NDArray[np.uint16]) -> Float32:
    """How far blocks lie outside the cells: sum of squares, as a share of their :func:`cost`.

    Args:
        moved: how far from the middles of the cells, coefficients float32 [blocks, 8, 8].
        table: uint16 [8, 8].

    Returns:
        float32 [blocks].
    """
    distance = np.maximum(np.abs(moved) - table.astype(np.float32) / 2, 0)
    share: Float32 = np.square(distance).sum((1, 2)) / cost(table)
    return share
