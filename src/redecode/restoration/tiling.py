"""Cover a picture with tiles that give the same result as the picture in one piece."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

# Told of the tiles that are done, and of how many there are.
Progress = Callable[[int, int], None]

# Sides of what the networks are given are multiples of this, and tiles begin on multiples of it, so that the block grid keeps its phase.
ALIGNMENT = 16


@dataclass(frozen=True)
class Span:
    """One tile along one axis: what is read, and the part of it that is kept.

    Attributes:
        start, stop: what is read.
        keep_start, keep_stop: what is kept, in the axis' coordinates; the spans' kept parts lie side by side.
    """

    start: int
    stop: int
    keep_start: int
    keep_stop: int

    def kept(self, missing: int = 0) -> slice:
        """The kept part as a slice of what was read, of which the first `missing` do not exist."""
        return slice(max(0, self.keep_start - self.start - missing), self.keep_stop - self.start - missing)


@dataclass(frozen=True)
class Tile:
    """A tile: its spans along both axes."""

    rows: Span
    columns: Span

    def strips(self, count: int, unit: int = 1) -> list[Tile]:
        """Strips of the tile: each reads what the tile reads, and keeps a part of its rows.

        Args:
            count: number of strips, at most.
            unit: the strips' rows fall on multiples of this, but for where the tile begins and ends.
        """
        first, length = self.rows.keep_start, self.rows.keep_stop - self.rows.keep_start
        step = -(-length // (count * unit)) * unit
        edges = [(first + begin, first + min(begin + step, length)) for begin in range(0, length, step)]
        return [replace(self, rows=replace(self.rows, keep_start=begin, keep_stop=end)) for begin, end in edges]


def spans(length: int, largest: int, halo: int, unit: int = 1) -> list[Span]:
    """Cover an axis with kept parts of about one size, each with a halo wherever it does not touch the picture's border.

    Args:
        length: of the axis.
        largest: kept part, rounded up to a multiple of the alignment.
        halo: pixels that are read beyond the kept part, rounded up likewise.
        unit: all but the axis' end falls on multiples of this and of ALIGNMENT.
    """
    aligned = math.lcm(unit, ALIGNMENT)
    count = -(-length // largest)
    step = -(-length // (count * aligned)) * aligned
    halo = -(-halo // aligned) * aligned
    edges = [(first, min(first + step, length)) for first in range(0, length, step)]
    return [Span(max(0, first - halo), min(last + halo, length), first, last) for first, last in edges]


def tiles(size: tuple[int, int], largest: int, halo: int, unit: tuple[int, int] = (1, 1)) -> list[Tile]:
    """All tiles of a picture, row by row; see :func:`spans`."""
    rows, columns = (spans(length, largest, halo, axis_unit) for length, axis_unit in zip(size, unit, strict=True))
    return [Tile(vertical, horizontal) for vertical in rows for horizontal in columns]
