"""Tiling: cover a picture with overlapping tiles, so that the result is the same as for the whole picture."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

# Function called with the number of tiles done and their total number.
Progress = Callable[[int, int], None]

# Sides of the networks' inputs, and positions of tiles, are multiples of this number of pixels, so that the block grid keeps its phase.
ALIGNMENT = 16


@dataclass(frozen=True)
class Span:
    """The extent of a tile along an axis: the part that is read, and the part of it that is kept.

    Attributes:
        start, stop: range of pixels that is read.
        keep_start, keep_stop: range of pixels that is kept, in the same coordinates; the kept ranges of all spans cover the axis.
    """

    start: int
    stop: int
    keep_start: int
    keep_stop: int

    def kept(self, missing: int = 0) -> slice:
        """The kept part as a slice of the pixels that were read, if the first `missing` of them do not exist."""
        return slice(max(0, self.keep_start - self.start - missing), self.keep_stop - self.start - missing)


@dataclass(frozen=True)
class Tile:
    """A tile: a span along each axis."""

    rows: Span
    columns: Span

    def strips(self, count: int, unit: int = 1) -> list[Tile]:
        """Split the tile into strips: each reads the same pixels as the tile and keeps a part of its rows.

        Args:
            count: maximum number of strips.
            unit: rows per unit: strips begin and end at multiples of it, counted from the tile's first kept row.
        """
        first, length = self.rows.keep_start, self.rows.keep_stop - self.rows.keep_start
        step = -(-length // (count * unit)) * unit
        edges = [(first + begin, first + min(begin + step, length)) for begin in range(0, length, step)]
        return [replace(self, rows=replace(self.rows, keep_start=begin, keep_stop=end)) for begin, end in edges]


def spans(length: int, largest: int, halo: int, unit: int = 1) -> list[Span]:
    """Cover an axis with spans of about equal size, each with a halo except at the picture's borders.

    Args:
        length: length of the axis in pixels.
        largest: maximum length of a kept part in pixels, rounded up to a multiple of the alignment.
        halo: number of pixels that are read beyond the kept part, rounded up likewise.
        unit: spans begin and end at multiples of this and of ALIGNMENT, except at the end of the axis.
    """
    aligned = math.lcm(unit, ALIGNMENT)
    count = -(-length // largest)
    step = -(-length // (count * aligned)) * aligned
    halo = -(-halo // aligned) * aligned
    edges = [(first, min(first + step, length)) for first in range(0, length, step)]
    return [Span(max(0, first - halo), min(last + halo, length), first, last) for first, last in edges]


def tiles(size: tuple[int, int], largest: int, halo: int, unit: tuple[int, int] = (1, 1)) -> list[Tile]:
    """Cover a picture with tiles, row by row; see :func:`spans`."""
    rows, columns = (spans(length, largest, halo, axis_unit) for length, axis_unit in zip(size, unit, strict=True))
    return [Tile(vertical, horizontal) for vertical in rows for horizontal in columns]
