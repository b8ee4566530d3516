"""Rounding of projected planes to 8-bit pixels that agree with the file, the counterpart of :mod:`redecode.restoration.repair`.

MCUs that do not agree are put side by side and repaired together; the loops end when nothing is left to repair.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..codec import colour, dct
from ..restoration import projection, repair
from .file import File, stacked, to_pixels, to_rgb, unstacked, weighted
from .nodes import Value


def repaired(file: File, planes: Value) -> tuple[Value, Value]:
    """Round planes to pixels, and repair blocks that contradict the file.

    Args:
        file: the file.
        planes: projected planes, float32 [3, H, W].

    Returns:
        Values of 8-bit pixels, float32 [3, H, W]; and for each MCU the number of blocks that contradict the file, uint8 [rows, columns]:
        blocks without the file's coefficients, where rounding does not explain the difference.
    """
    nodes = planes.nodes
    pixels, plain = to_pixels(planes), file.planes()
    whole = _Mcus(file, _mcu_count(file))
    failing = ~whole.all(file.agreeing(pixels)) | (_towards_plain(whole, planes, pixels, _shown(plain)) > 0)
    # Select at least one MCU, as some operators do not accept empty inputs.
    first = nodes.add("Equal", nodes.add("Range", np.array(0), failing.length(0).reshape(), np.array(1)), np.array(0), dtype=bool)
    indices = nodes.add("NonZero", failing | first, dtype=np.int64).reshape(-1)
    strip = _Mcus(file.strip(indices), (_one(indices), indices.length(0)))
    projected, shown = file.cut(planes, indices), file.cut(plain, indices)
    moved, best, agreeing = _unclipped(strip, projected, file.cut(pixels, indices))
    best = _colours_kept(strip, projected, _no_worse_than(strip, shown, moved, best, agreeing), _shown(shown))
    return file.pasted(best, indices, pixels), _contradicting(strip, best, indices, whole)


def _shown(plain: Value) -> Value:
    """Pixels as viewers show them: they clip samples, and then colours."""
    return to_pixels(plain.clip(np.float32(0), np.float32(255)))


def _towards_plain(mcus: _Mcus, planes: Value, pixels: Value, shown: Value) -> Value:
    """Weight of the plain decode in each MCU, as in :func:`redecode.restoration.repair.keep_colours`: float32 [MCUs]."""
    rgb = to_rgb(planes)
    clipped = mcus.means(abs(rgb - rgb.clip(np.float32(0), np.float32(255)))).highest(0) > np.float32(repair.CLIPPED)
    shift = abs(mcus.means(pixels - shown)).highest(0)
    limit = np.float32(repair.MAX_COLOUR_SHIFT)
    return (shift - limit).most(np.float32(0)) / shift.most(limit) * clipped.astype(np.float32)


def _colours_kept(mcus: _Mcus, planes: Value, pixels: Value, shown: Value) -> Value:
    """The counterpart of :func:`redecode.restoration.repair.keep_colours`."""
    weight = mcus.over_pixels(_towards_plain(mcus, planes, pixels, shown))
    return (pixels + weight * (shown - pixels)).rint()


def _contradicting(strip: _Mcus, best: Value, indices: Value, whole: _Mcus) -> Value:
    nodes = best.nodes
    explained = zip(strip.file.agreeing(best), strip.file.explained(best), strict=True)
    counts = functools.reduce(operator.add, strip.counts([~(same | rounded) for same, rounded in explained]))
    nothing = nodes.constant(np.array([0], np.float32)).expand(whole.count[0] * whole.count[1])
    found = nodes.add("ScatterND", nothing, indices.reshape(-1, 1), counts)
    return found.astype(np.uint8).reshape(*whole.count)


def _mcu_count(file: File) -> tuple[Value, Value]:
    rows, columns = (file.components[0].quantized.length(axis) / file.mcu[axis] for axis in (0, 1))
    return rows, columns


def _one(value: Value) -> Value:
    return value.nodes.constant(np.array([1], np.int64))


@dataclass(frozen=True)
class _Mcus:
    """The grid of MCUs: conversion between values of MCUs, blocks and pixels.

    Attributes:
        file: the file.
        count: number of rows and columns of MCUs, int64 [1] each.
    """

    file: File
    count: tuple[Value, Value]

    def all(self, blocks: Sequence[Value]) -> Value:
        """Whether all blocks of each MCU are True, given bools for the blocks of some components: bool [MCUs]."""
        return functools.reduce(operator.and_, (self._by_mcu(own).all(1, 3).reshape(-1) for own in blocks))

    def any(self, blocks: Sequence[Value]) -> Value:
        """Whether any block of each MCU is True: bool [MCUs]."""
        return ~self.all([~own for own in blocks])

    def counts(self, blocks: Sequence[Value]) -> list[Value]:
        """Number of True blocks of each MCU, for each component: float32 [MCUs] each."""
        return [self._by_mcu(own).astype(np.float32).sum(1, 3).reshape(-1) for own in blocks]

    def over_blocks(self, mcus: Value, blocks: Value) -> Value:
        """Repeat bools of MCUs over their blocks, in the shape of `blocks`."""
        grid = self._by_mcu(blocks)
        wide = mcus.reshape(self.count[0], 1, self.count[1], 1).expand(*(grid.length(axis) for axis in range(4)))
        return wide.reshape(blocks.length(0), blocks.length(1))

    def over_pixels(self, mcus: Value) -> Value:
        """Repeat bools of MCUs over their pixels: [H, W]."""
        luma = self.file.components[0]
        return luma.spread_blocks(self.over_blocks(mcus, luma.exists))

    def where(self, mcus: Value, one: Sequence[Value], other: Sequence[Value]) -> list[Value]:
        """Select bools of blocks: `one` in the given MCUs, `other` elsewhere, for each component."""
        there = [self.over_blocks(mcus, own) for own in one]
        return [(a & own) | (b & ~own) for a, b, own in zip(one, other, there, strict=True)]

    def moved_means(self, change: Value) -> Value:
        """The largest change of the mean of an 8×8 block in each MCU, given the change of pixels [3, H, W]: float32 [MCUs]."""
        rows, columns = (self.file.components[0].quantized.length(axis) for axis in (0, 1))
        means = abs(change.reshape(3, rows, dct.BLOCK, columns, dct.BLOCK).mean(2, 4)).highest(0)
        return self._by_mcu(means).highest(1, 3).reshape(-1)

    def means(self, pixels: Value) -> Value:
        """The mean of each channel [3, H, W] over each MCU: float32 [3, MCUs]."""
        high, wide = (pixels.length(axis) / count for axis, count in zip((1, 2), self.count, strict=True))
        return pixels.reshape(3, self.count[0], high, self.count[1], wide).mean(2, 4).reshape(3, -1)

    def _by_mcu(self, blocks: Value) -> Value:
        """Reshape [rows, columns] to [rows of MCUs, rows, columns of MCUs, columns]."""
        rows, columns = (blocks.length(axis) / self.count[axis] for axis in (0, 1))
        return blocks.reshape(self.count[0], rows, self.count[1], columns)


def _unclipped(mcus: _Mcus, planes: Value, pixels: Value) -> tuple[Value, Value, list[Value]]:
    """Repair blocks that clipping has moved out of the cells; return planes, pixels, and the blocks that agree."""
    nodes, file = planes.nodes, mcus.file
    agreeing = file.agreeing(pixels)

    def step(margin: Value, left: Value, planes: Value, best: Value, *agreeing: Value) -> tuple[Value, Sequence[Value]]:
        margin = margin * np.float32(repair.MARGIN_GROWTH)
        clipping = _into_gamut(planes)
        outside = mcus.any([_any_pixel(clipping.take(np.array(0)))])
        left = left & outside & ~mcus.all(agreeing)
        moved = file.extended(file.projected(planes + clipping, margin))
        planes = nodes.where(mcus.over_pixels(left), moved, planes)
        candidate = to_pixels(planes)
        found = file.agreeing(candidate)
        no_worse = mcus.all([own | ~old for own, old in zip(found, agreeing, strict=True)])
        changed = mcus.any([own ^ old for own, old in zip(found, agreeing, strict=True)])
        better = left & no_worse & changed & (mcus.moved_means(candidate - pixels) <= np.float32(repair.MAX_SHIFT))
        best = nodes.where(mcus.over_pixels(better), candidate, best)
        return left.any(0), (margin, left, planes, best, *mcus.where(better, found, agreeing))

    failing = ~mcus.all(agreeing)
    states = (nodes.constant(np.array([projection.MARGIN], np.float32)), failing, planes, pixels, *agreeing)
    _, _, planes, best, *agreeing = nodes.loop(repair.REPAIRS, failing.any(0), states, step)
    return planes, best, agreeing


def _any_pixel(plane: Value) -> Value:
    """Whether a plane is nonzero anywhere in each block: bool [rows, columns]."""
    rows, columns = (plane.length(axis) / dct.BLOCK for axis in (0, 1))
    return abs(plane).reshape(rows, dct.BLOCK, columns, dct.BLOCK).highest(1, 3) > 0


def _into_gamut(planes: Value) -> Value:
    rgb = to_rgb(planes)
    channels = unstacked(rgb.clip(np.float32(0), np.float32(255)) - rgb)
    return stacked([weighted(channels, row) for row in colour.RGB_TO_YCBCR])


def _no_worse_than(mcus: _Mcus, plain: Value, planes: Value, best: Value, agreeing: list[Value]) -> Value:
    """Blend the best pixels with the plain decode, block by block, until they agree with the file in as many blocks as the plain decode."""
    nodes, file = planes.nodes, mcus.file
    plain_pixels = to_pixels(plain)
    wanted = file.agreeing(plain_pixels)
    aim = mcus.counts(wanted)

    def lacking(blocks: Sequence[Value]) -> Value:
        first, second, third = ((full - own).most(np.float32(0)) for full, own in zip(aim, mcus.counts(blocks), strict=True))
        return first + second + third

    def step(best: Value, missing: Value, left: Value, *blocks: Value) -> tuple[Value, Sequence[Value]]:
        found, weights = blocks[:3], blocks[3:]
        added = [(good & ~own).astype(np.float32) / repair.BLENDS for good, own in zip(wanted, found, strict=True)]
        weights = tuple(weight + own for weight, own in zip(weights, added, strict=True))
        spread = stacked([c.spread_blocks(weight) for c, weight in zip(file.components, weights, strict=True)])
        candidate = to_pixels(file.extended(planes + spread * (plain - planes)))
        found = tuple(file.agreeing(candidate))
        still = lacking(found)
        better = left & (still < missing)
        best = nodes.where(mcus.over_pixels(better), candidate, best)
        left = left & (still > 0)
        return left.any(0), (best, nodes.where(better, still, missing), left, *found, *weights)

    missing = lacking(agreeing)
    left = missing > 0
    nothing = [own.astype(np.float32) * np.float32(0) for own in agreeing]
    best, _, left, *_ = nodes.loop(repair.BLENDS, left.any(0), (best, missing, left, *agreeing, *nothing), step)
    return nodes.where(mcus.over_pixels(left), plain_pixels, best)
