"""Run a network over a picture tile by tile, to the same result as in one piece."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
# Told of the tiles that are done, and of how many there are.
Progress = Callable[[int, int], None]

# Tiles begin on multiples of this, the largest usual MCU, so that the block grid keeps its phase in every tile.
ALIGNMENT = 16


@dataclass(frozen=True)
class Span:
    """One tile along one axis: what the network reads, and the part of it that is kept.

    Attributes:
        start, stop: what is read.
        keep_start, keep_stop: what is kept, in picture coordinates; the spans' kept parts lie side by side.
    """

    start: int
    stop: int
    keep_start: int
    keep_stop: int


def spans(length: int, tile: int, halo: int) -> list[Span]:
    """Cover an axis with tiles of one size, each aligned, with a halo wherever it does not touch the picture's border.

    Args:
        length: of the axis, a multiple of ALIGNMENT.
        tile: size of a tile, a multiple of ALIGNMENT.
        halo: pixels at a tile's inner borders that are not kept; rounded up to a multiple of ALIGNMENT.

    Raises:
        ValueError: the tile is too small for its halo.
    """
    if length <= tile:
        return [Span(0, length, 0, length)]
    halo = -(-halo // ALIGNMENT) * ALIGNMENT
    step = tile - 2 * halo
    if step <= 0:
        raise ValueError(f"a tile of {tile} has no room beside a halo of {halo}")
    count = -(-(length - 2 * halo) // step)
    result = []
    kept = 0
    for i in range(count):
        start = min(i * step, length - tile)  # The last tile is moved back so that it ends with the picture.
        keep_stop = length if i == count - 1 else start + tile - halo
        result.append(Span(start, start + tile, kept, keep_stop))
        kept = keep_stop
    return result


def pad(planes: Float32) -> Float32:
    """Extend [C, H, W] to multiples of ALIGNMENT by repeating the last row and column."""
    _, height, width = planes.shape
    return np.pad(planes, [(0, 0), (0, -height % ALIGNMENT), (0, -width % ALIGNMENT)], mode="edge")


def tiles(height: int, width: int, tile: int, halo: int) -> Iterator[tuple[Span, Span]]:
    """All (vertical, horizontal) spans of a picture, row by row; sizes are multiples of ALIGNMENT."""
    for vertical in spans(height, tile, halo):
        for horizontal in spans(width, tile, halo):
            yield vertical, horizontal


def run(network: Callable[[Float32], Float32], planes: Float32, tile: int, halo: int, progress: Progress | None = None) -> Float32:
    """Apply a network tile by tile.

    Args:
        network: [C, h, w] to [C, h, w], with a receptive field of radius `halo` at most.
        planes: float32 [C, H, W], any size.
        tile: side of the largest tile.
        halo: see :func:`spans`.
        progress: called after every tile; what it raises ends the run.

    Returns:
        float32 [C, H, W], equal to the network's result on the padded picture in one piece, up to rounding errors.
    """
    _, height, width = planes.shape
    padded = pad(planes)
    result = np.empty_like(padded)
    plan = list(tiles(padded.shape[1], padded.shape[2], tile, halo))
    for done, (v, h) in enumerate(plan, 1):
        restored = network(np.ascontiguousarray(padded[:, v.start : v.stop, h.start : h.stop]))
        rows = slice(v.keep_start - v.start, v.keep_stop - v.start)
        columns = slice(h.keep_start - h.start, h.keep_stop - h.start)
        result[:, v.keep_start : v.keep_stop, h.keep_start : h.keep_stop] = restored[:, rows, columns]
        if progress is not None:
            progress(done, len(plan))
    return result[:, :height, :width]
