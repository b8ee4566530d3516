"""Where the plain decode is exact, it stays.

Networks that were trained on photographs only spoil what comes out of a JPEG as it went in: planes that do not vary, such as the chroma of
scans and black-and-white photographs, and graphics whose even areas meet on the borders of blocks.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..codec import dct

Float32 = NDArray[np.float32]
Blocks = NDArray[np.bool_]

# The plane of no colour.
MIDDLE = 128
# What the conversion from RGB may leave of that, in levels.
NOISE = 0.01
# An even block stays where all is the same this many blocks around it, in all directions; or where no more than this many lie between it
# and a border that cannot be but sharp.
REACH = 3
# A step between two even blocks, in steps of the quantization of the lowest frequency across it, from which it is sharp: any blur or slope
# over the two would have left a coefficient in them.
SHARP = 1.0


def keep_exact(restored: Float32, plain: Float32, tables: NDArray[np.uint16], origin: tuple[int, int] = (0, 0)) -> Float32:
    """Put the plain decode back in place of restored planes where it is exact.

    That is where a plane does not vary in a wide neighbourhood, and in even blocks beside even blocks of which they differ so much that
    the border between them must be sharp. What had no colour has none to the last bit.

    Args:
        restored: float32 [components, H, W], 0 … 255; changed in place.
        plain: the plain decode, likewise.
        tables: uint16 [2, 8, 8], quantization steps of luma and chroma.
        origin: rows and columns missing above and left to begin with a whole 8×8 block.

    Returns:
        The restored planes.
    """
    height, width = plain.shape[1:]
    inside = slice(origin[0], origin[0] + height), slice(origin[1], origin[1] + width)
    lowest, highest = _extremes(plain, origin)
    even = highest - lowest <= NOISE
    sharp = np.logical_or.reduce([_beside_sharp(e, low, tables[min(c, 1)]) for c, (e, low) in enumerate(zip(even, lowest, strict=True))])
    for plane, before, own, low, high in zip(restored, plain, even, lowest, highest, strict=True):
        uniform = _around(high, np.maximum) - _around(low, np.minimum) <= NOISE
        kept = uniform | _spread(sharp & own, own, low)
        if kept.any():
            pixels = _pixels(kept)[inside]
            plane[pixels] = before[pixels]
            plane[_pixels(kept & (np.abs(low - np.float32(MIDDLE)) <= NOISE))[inside]] = MIDDLE
    return restored


def _extremes(planes: Float32, origin: tuple[int, int]) -> tuple[Float32, Float32]:
    """Least and greatest sample of every block: float32 [components, rows, columns] on the picture's grid."""
    missing = [(first, -(first + length) % dct.BLOCK) for first, length in zip(origin, planes.shape[1:], strict=True)]
    padded = np.pad(planes, [(0, 0), *missing], mode="edge") if any(map(any, missing)) else planes
    rows, columns = (length // dct.BLOCK for length in padded.shape[1:])
    grid = padded.reshape(len(planes), rows, dct.BLOCK, columns * dct.BLOCK)
    blocks = len(planes), rows, columns, dct.BLOCK
    return grid.min(2).reshape(blocks).min(3), grid.max(2).reshape(blocks).max(3)


def _pixels(blocks: Blocks) -> Blocks:
    return blocks.repeat(dct.BLOCK, 0).repeat(dct.BLOCK, 1)


def _around(blocks: Float32, most: np.ufunc) -> Float32:
    """The greatest or least value of the blocks within REACH."""
    for axis in (0, 1):
        wide = np.pad(blocks, [(REACH, REACH) if axis == own else (0, 0) for own in (0, 1)], mode="edge")
        length = blocks.shape[axis]
        blocks = most.reduce([wide.take(range(first, first + length), axis) for first in range(2 * REACH + 1)])
    return blocks


def _beside_sharp(even: Blocks, level: Float32, table: NDArray[np.uint16]) -> Blocks:
    """The even blocks with a sharp border to another even block above, below, left or right."""
    found = np.zeros_like(even)
    for own, other, step in (
        (np.s_[:, 1:], np.s_[:, :-1], table[0, 1]),
        (np.s_[1:], np.s_[:-1], table[1, 0]),
    ):
        sharp = even[own] & even[other] & (np.abs(level[own] - level[other]) >= SHARP * float(step))
        found[own] |= sharp
        found[other] |= sharp
    return found


def _spread(blocks: Blocks, even: Blocks, level: Float32) -> Blocks:
    """The blocks, and even ones of the same level that a chain of REACH such blocks joins to them."""
    if not blocks.any():
        return blocks
    joined = blocks.copy()
    for _ in range(REACH):
        before = joined.copy()
        for one, other in ((np.s_[:, 1:], np.s_[:, :-1]), (np.s_[1:], np.s_[:-1])):
            same = even[one] & even[other] & (np.abs(level[one] - level[other]) <= NOISE)
            joined[one] |= before[other] & same
            joined[other] |= before[one] & same
    return joined
