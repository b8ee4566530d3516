"""Where the plain decode is exact, it stays.

Networks that were trained on photographs only spoil what comes out of a JPEG as it went in: planes that do not vary, such as the chroma of
scans and black-and-white photographs, and graphics whose even areas meet on the borders of blocks.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..codec import dct

Float32 = NDArray[np.float32]
Blocks = NDArray[np.bool_]

# The plane of no colour.
MIDDLE = 128
# What the conversion from RGB may leave of that, in levels.
NOISE = 0.01
# An even block stays where all is the same this many blocks around it, in all directions; where no more than this many lie between it
# and a border that cannot be but sharp; or where within this many blocks such borders are the rule.
REACH = 3
# A step between two even blocks, in steps of the quantization of the lowest frequency across it, from which it is sharp: any blur or slope
# over the two would have left a coefficient in them.
SHARP = 1.0
# Sharp borders are the rule where there are so many, and such a share of all borders between even blocks of different levels.
RULE_COUNT, RULE_SHARE = 6, 0.15


def keep_exact(
    restored: Float32,
    plain: Float32,
    tables: NDArray[np.uint16],
    origin: tuple[int, int] = (0, 0),
    scales: Sequence[tuple[int, int]] | None = None,
) -> Float32:
    """Put the plain decode back in place of restored planes where it is exact.

    That is where a plane does not vary in a wide neighbourhood, and in even blocks that meet others in borders that must be sharp, or lie
    among such. What had no colour has none to the last bit.

    Args:
        restored: float32 [components, H, W], 0 … 255; changed in place.
        plain: the plain decode, likewise.
        tables: uint16 [2, 8, 8], quantization steps of luma and chroma.
        origin: rows and columns missing above and left to begin with a whole block of all planes.
        scales: of a JPEG, rows and columns of pixels that a sample of each plane stands for, 1 or even. Its samples were integers when it
            was written, and even blocks are again. None for pixels of another origin, which are taken as they are.

    Returns:
        The restored planes.
    """
    height, width = plain.shape[1:]
    inside = slice(origin[0], origin[0] + height), slice(origin[1], origin[1] + width)
    sizes = [(1, 1)] * len(plain) if scales is None else scales
    lowest, highest = _extremes(plain, origin, sizes)
    even = highest - lowest <= NOISE
    sharp = _beside_sharp(even, lowest, tables)
    for plane, own, low, high in zip(restored, even, lowest, highest, strict=True):
        uniform = _around(high, np.maximum) - _around(low, np.minimum) <= NOISE
        kept = uniform | _spread(sharp & own, own, low)
        if kept.any():
            level = np.where(np.abs(low - np.float32(MIDDLE)) <= NOISE, np.float32(MIDDLE), low)
            if scales is not None:
                level = np.floor(level + np.float32(0.5)).clip(0, 255)
            pixels = _pixels(kept)[inside]
            plane[pixels] = _pixels(level)[inside][pixels]
    return restored


def _extremes(planes: Float32, origin: tuple[int, int], scales: Sequence[tuple[int, int]]) -> tuple[Float32, Float32]:
    """Least and greatest sample of every plane's blocks: float32 [components, rows, columns] on the grid of 8×8 pixels.

    A block of subsampled samples covers several of these. Its outermost pixels, which were interpolated between it and the next, are no
    part of it.
    """
    down, right = (dct.BLOCK * max(axis) for axis in zip(*scales, strict=True))
    missing = [(first, -(first + length) % unit) for first, length, unit in zip(origin, planes.shape[1:], (down, right), strict=True)]
    padded = np.pad(planes, [(0, 0), *missing], mode="edge") if any(map(any, missing)) else planes
    found = []
    for plane, (v, h) in zip(padded, scales, strict=True):
        rows, columns = plane.shape[0] // (dct.BLOCK * v), plane.shape[1] // (dct.BLOCK * h)
        grid = plane.reshape(rows, dct.BLOCK * v, -1)[:, v // 2 : dct.BLOCK * v - v // 2]
        own = []
        for most in (np.minimum, np.maximum):
            blocks = most.reduce(grid, 1).reshape(rows, columns, dct.BLOCK * h)[:, :, h // 2 : dct.BLOCK * h - h // 2]
            own.append(most.reduce(blocks, 2).repeat(v, 0).repeat(h, 1))
        found.append(own)
    rows, columns = (-(-(first + length) // dct.BLOCK) for first, length in zip(origin, planes.shape[1:], strict=True))
    lowest, highest = np.stack([np.stack(own)[:, :rows, :columns] for own in found], 1)
    return lowest, highest


def _pixels(blocks: Blocks) -> Blocks:
    return blocks.repeat(dct.BLOCK, 0).repeat(dct.BLOCK, 1)


def _around(blocks: Float32, most: np.ufunc) -> Float32:
    """The greatest or least value of the blocks within REACH."""
    for axis in (0, 1):
        wide = np.pad(blocks, [(REACH, REACH) if axis == own else (0, 0) for own in (0, 1)], mode="edge")
        length = blocks.shape[axis]
        blocks = most.reduce([wide.take(range(first, first + length), axis) for first in range(2 * REACH + 1)])
    return blocks


def _beside_sharp(even: Blocks, level: Float32, tables: NDArray[np.uint16]) -> Blocks:
    """Blocks [rows, columns] with a sharp border to another above, below, left or right, and all where such borders are the rule.

    A border is sharp if it is so in any component that is even on both sides.
    """
    found = np.zeros(even.shape[1:], bool)
    sharp_borders, borders = np.zeros(found.shape, np.int32), np.zeros(found.shape, np.int32)
    for own, other, step in (
        (np.s_[:, 1:], np.s_[:, :-1], tables[:, 0, 1]),
        (np.s_[1:], np.s_[:-1], tables[:, 1, 0]),
    ):
        sharp, differs = np.zeros(found[own].shape, bool), np.zeros(found[own].shape, bool)
        for component, (e, low) in enumerate(zip(even, level, strict=True)):
            both, height = e[own] & e[other], np.abs(low[own] - low[other])
            sharp |= both & (height >= np.float32(SHARP) * step[min(component, 1)])
            differs |= both & (height > NOISE)
        found[own] |= sharp
        found[other] |= sharp
        sharp_borders[own] += sharp
        borders[own] += differs
    if not found.any():
        return found
    many = _sum_around(sharp_borders)
    rule: Blocks = (many >= RULE_COUNT) & (many >= np.float32(RULE_SHARE) * _sum_around(borders))
    return found | rule


def _sum_around(blocks: NDArray[np.int32]) -> NDArray[np.int32]:
    """The sum over the blocks within REACH."""
    for axis in (0, 1):
        wide = np.pad(blocks, [(REACH, REACH) if axis == own else (0, 0) for own in (0, 1)])
        length = blocks.shape[axis]
        blocks = np.add.reduce([wide.take(range(first, first + length), axis) for first in range(2 * REACH + 1)])
    return blocks


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
