"""A JPEG file in a graph: its components with samples and coefficients, and the operations on planes that depend on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..codec import colour, dct
from ..restoration import projection
from .feed import COMPONENTS
from .nodes import Nodes, Operand, Value

MIDDLE = np.float32(128)
PIXELS = dct.BLOCK**2
# Weights of luma in libjpeg's encoder, with 16 fractional bits: the sums are integers below 2^24, which float32 represents exactly.
_LUMA, _ONE = (19595, 38470, 7471), 65536


@dataclass(frozen=True)
class Component:
    """A component of the file.

    Attributes:
        quantized: quantized coefficients, float32 [rows, columns, 8, 8].
        table: quantization steps, float32 [8, 8].
        covers: rows and columns of pixels that share a sample, int64 [1] each.
        full: whether the component is known to be at full size.
        exists: whether a block lies within the picture's border, bool [rows, columns].
    """

    quantized: Value
    table: Value
    covers: tuple[Value, Value]
    full: bool
    exists: Value

    def samples(self, coefficients: Value) -> Value:
        """Samples from coefficients, centred on 0: float32 [8 rows, 8 columns]."""
        blocks = _transformed(coefficients, dct.MATRIX)
        return blocks.transpose(0, 2, 1, 3).reshape(self._length(0), self._length(1))

    def coefficients(self, plane: Value) -> Value:
        """DCT coefficients of a full-size plane [H, W] on this component's grid: float32 [rows, columns, 8, 8]."""
        if not self.full:
            lengths = [length for axis, cover in enumerate(self.covers) for length in (self._length(axis), cover)]
            plane = plane.reshape(*lengths).mean(1, 3)
        blocks = (plane - MIDDLE).reshape(self.quantized.length(0), dct.BLOCK, self.quantized.length(1), dct.BLOCK)
        return _transformed(blocks.transpose(0, 2, 1, 3), dct.MATRIX.T)

    def spread(self, samples: Value) -> Value:
        """Repeat samples over the pixels that share them."""
        if self.full:
            return samples
        (down, right), (rows, columns) = self.covers, (self._length(0), self._length(1))
        return samples.reshape(rows, 1, columns, 1).expand(rows, down, columns, right).reshape(rows * down, columns * right)

    def spread_blocks(self, blocks: Value) -> Value:
        """Repeat values of blocks [rows, columns] over their pixels."""
        rows, columns = blocks.length(0), blocks.length(1)
        wide = blocks.reshape(rows, 1, columns, 1).expand(rows, dct.BLOCK, columns, dct.BLOCK)
        return self.spread(wide.reshape(self._length(0), self._length(1)))

    def extremes(self, size: tuple[Value, Value]) -> tuple[Value, Value]:
        """Least and greatest sample of the blocks, float32 on the grid of 8×8 pixels; `size` is that of the picture."""
        samples = self.samples(self.quantized * self.table) + MIDDLE
        for axis in (0, 1):
            samples = samples.take(numbers(samples.length(axis)).least(_divided(size[axis], self.covers[axis]) - 1), axis)
        rows, columns = self.quantized.length(0), self.quantized.length(1)
        grid = samples.reshape(rows, dct.BLOCK, columns, dct.BLOCK)
        down, right = self.covers

        def over_pixels(blocks: Value) -> Value:
            wide = blocks.reshape(rows, 1, columns, 1).expand(rows, down, columns, right)
            return wide.reshape(rows * down, columns * right)

        return over_pixels(grid.lowest(1, 3)), over_pixels(grid.highest(1, 3))

    def agreeing(self, plane: Value) -> Value:
        """Whether blocks of a full-size plane have this component's coefficients after rounding, or do not exist: bool [rows, columns]."""
        return (self.coefficients(plane) / self.table).rint().equals(self.quantized).all(2, 3) | ~self.exists

    def explained(self, plane: Value) -> Value:
        """Whether rounding alone explains that blocks of a full-size plane do not agree: bool [rows, columns]."""
        found = self.coefficients(plane)
        half, middle = self.table / 2, self.quantized * self.table
        outside = found.clip(middle - half, middle + half) - found
        return abs(_transformed(outside, dct.MATRIX)).highest(2, 3) <= np.float32(0.5 + projection.FLOAT_ERROR)

    def _length(self, axis: int) -> Value:
        return self.quantized.length(axis) * dct.BLOCK


@dataclass(frozen=True)
class File:
    """The file, or some of its MCUs side by side.

    Planes have the size of all blocks. Pixels beyond the picture's border repeat the last pixels inside, as in encoders, wherever results
    depend on them.

    Attributes:
        components: Y, Cb and Cr.
        inside: indices of the pixels of each axis, int64 [H] and [W]; those beyond the border are replaced by the last one inside.
        size: height and width of the picture, int64 [1] each.
        mcu: rows and columns of luma blocks in an MCU, int64 [1] each.
        extension: for each pixel, its own index in the flattened plane, or the index of the pixel that it repeats, int64 [H · W]; None for
            the whole file, for which `inside` suffices.
    """

    components: tuple[Component, ...]
    inside: tuple[Value, Value]
    size: tuple[Value, Value]
    mcu: tuple[Value, Value]
    extension: Value | None = None

    @classmethod
    def of_inputs(cls, nodes: Nodes) -> File:
        """Declare the graph's inputs for the file."""
        blocks = [nodes.input(name, np.int16, [f"{name}_rows", f"{name}_columns", 8, 8]) for name in COMPONENTS]
        steps = nodes.input("tables", np.uint16, [3, 8, 8]).astype(np.float32)
        given = nodes.input("size", np.int64, [2])
        size = given.part(0, 0, 1), given.part(0, 1, 2)
        components = []
        for index, own in enumerate(blocks):
            covers = blocks[0].length(0) / own.length(0), blocks[0].length(1) / own.length(1)
            ends = [_divided(_divided(side, cover), dct.BLOCK) for side, cover in zip(size, covers, strict=True)]
            down, right = (numbers(own.length(axis)) < end for axis, end in enumerate(ends))
            exists = down.reshape(-1, 1) & right.reshape(1, -1)
            components.append(Component(own.astype(np.float32), steps.take(np.array(index)), covers, index == 0, exists))
        inside = tuple(numbers(blocks[0].length(axis) * dct.BLOCK).least(size[axis] - 1) for axis in (0, 1))
        mcu = tuple(components[1].covers[axis].most(components[2].covers[axis]) for axis in (0, 1))
        return cls(tuple(components), (inside[0], inside[1]), size, (mcu[0], mcu[1]))

    def extended(self, planes: Value, rank: int = 3) -> Value:
        """Replace pixels of planes [..., H, W] beyond the picture's border by the last pixels inside."""
        if self.extension is None:
            return planes.take(self.inside[0], rank - 2).take(self.inside[1], rank - 1)
        rows, columns = planes.length(1), planes.length(2)
        return planes.reshape(3, -1).take(self.extension, 1).reshape(3, rows, columns)

    def cropped(self, plane: Value) -> Value:
        """Crop [H, W, …] to the size of the picture."""
        return plane.part(0, 0, self.size[0]).part(1, 0, self.size[1])

    def planes(self) -> Value:
        """The plain decode: float32 [3, H, W]."""
        luma, *chroma = (c.samples(c.quantized * c.table) + MIDDLE for c in self.components)
        return self.extended(stacked([luma, *map(self._enlarged, self.components[1:], chroma)]))

    def _enlarged(self, component: Component, samples: Value) -> Value:
        """Upsample to full size, by linear interpolation between sample centres."""
        for axis in (1, 0):
            cover, length = component.covers[axis], samples.length(axis)
            samples = samples.take(numbers(length).least(_divided(self.size[axis], cover) - 1), axis)
            centres = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
            samples = samples.nodes.add("Resize", samples, None, None, length * cover, axes=[axis], **centres)
        return samples

    def moved(self, planes: Value, moves: Sequence[Value]) -> Value:
        """Add corrections of each component's coefficients to planes, float32 [3, H, W]."""
        return planes + stacked([c.spread(c.samples(move)) for c, move in zip(self.components, moves, strict=True)])

    def projected(self, planes: Value, margin: Operand = projection.MARGIN) -> Value:
        """The counterpart of :func:`redecode.restoration.projection.project`."""
        moves = []
        for component, plane in zip(self.components, unstacked(planes), strict=True):
            found = component.coefficients(plane)
            half = component.table / 2
            half = half - (half * np.float32(projection.MAX_MARGIN_SHARE)).least(margin)
            middle = component.quantized * component.table
            moves.append(found.clip(middle - half, middle + half) - found)
        return self.moved(planes, moves)

    def agreeing(self, pixels: Value) -> list[Value]:
        """The counterpart of :func:`redecode.restoration.projection.agreeing_blocks`, for pixels float32 [3, H, W]."""
        channels = unstacked(pixels)
        red, green, blue = (channel * np.float32(weight) for channel, weight in zip(channels, _LUMA, strict=True))
        luma = ((red + green + blue + np.float32(_ONE // 2)) / _ONE).floor()
        planes = [luma, *(weighted(channels, row) + MIDDLE for row in colour.RGB_TO_YCBCR[1:])]
        return [component.agreeing(plane) for component, plane in zip(self.components, planes, strict=True)]

    def explained(self, pixels: Value) -> list[Value]:
        """The counterpart of :func:`redecode.restoration.projection.explained_blocks`, for pixels float32 [3, H, W]."""
        channels = unstacked(pixels)
        planes = [weighted(channels, row) for row in colour.RGB_TO_YCBCR]
        planes = [planes[0], *(plane + MIDDLE for plane in planes[1:])]
        return [component.explained(plane) for component, plane in zip(self.components, planes, strict=True)]

    def strip(self, indices: Value) -> File:
        """Select MCUs, numbered row by row, and put them side by side."""
        count, (high, wide) = indices.length(0), (side * dct.BLOCK for side in self.mcu)
        components = tuple(self._strip_of(component, indices) for component in self.components)
        across = self.inside[1].length(0) / wide
        # Positions within their MCU: rows [H, MCUs, 1] and columns [1, MCUs, W], limited to the last pixels inside.
        first = [(index * side).reshape(1, -1, 1) for index, side in ((indices / across, high), (indices % across, wide))]
        down = numbers(high).reshape(-1, 1, 1).least(self.size[0] - 1 - first[0])
        right = numbers(wide).reshape(1, 1, -1).least(self.size[1] - 1 - first[1])
        at = down * (count * wide) + right + (numbers(count) * wide).reshape(1, -1, 1)
        return replace(self, components=components, extension=at.reshape(-1))

    def _strip_of(self, component: Component, indices: Value) -> Component:
        down, right = (side / cover for side, cover in zip(self.mcu, component.covers, strict=True))
        rows, columns = (component.quantized.length(axis) / side for axis, side in enumerate((down, right)))

        def cut(blocks: Value) -> Value:
            inner = blocks.length(2), blocks.length(3)
            by_mcu = blocks.reshape(rows, down, columns, right, *inner).transpose(0, 2, 1, 3, 4, 5)
            chosen = by_mcu.reshape(rows * columns, down, right, *inner).take(indices)
            return chosen.transpose(1, 0, 2, 3, 4).reshape(down, indices.length(0) * right, *inner)

        exists = cut(component.exists.astype(np.float32).reshape(0, 0, 1, 1)).reshape(0, 0) > 0
        return replace(component, quantized=cut(component.quantized), exists=exists)

    def cut(self, planes: Value, indices: Value) -> Value:
        """The parts of planes [3, H, W] in these MCUs, side by side."""
        high, wide = (side * dct.BLOCK for side in self.mcu)
        return self._by_mcu(planes).take(indices).transpose(1, 2, 0, 3).reshape(3, high, indices.length(0) * wide)

    def pasted(self, strip: Value, indices: Value, planes: Value) -> Value:
        """Write the parts of a strip back into planes [3, H, W], the inverse of :meth:`cut`."""
        high, wide = (side * dct.BLOCK for side in self.mcu)
        rows, columns = (inside.length(0) / side for inside, side in zip(self.inside, (high, wide), strict=True))
        parts = strip.reshape(3, high, indices.length(0), wide).transpose(2, 0, 1, 3)
        whole = strip.nodes.add("ScatterND", self._by_mcu(planes), indices.reshape(-1, 1), parts)
        return whole.reshape(rows, columns, 3, high, wide).transpose(2, 0, 3, 1, 4).reshape(3, rows * high, columns * wide)

    def _by_mcu(self, planes: Value) -> Value:
        """Reshape planes [3, H, W] to [MCUs, 3, h, w]."""
        high, wide = (side * dct.BLOCK for side in self.mcu)
        rows, columns = (inside.length(0) / side for inside, side in zip(self.inside, (high, wide), strict=True))
        return planes.reshape(3, rows, high, columns, wide).transpose(1, 3, 0, 2, 4).reshape(rows * columns, 3, high, wide)


def numbers(length: Value) -> Value:
    """The integers 0 … length - 1, int64, for a length [1]."""
    return length.nodes.add("Range", np.array(0), length.reshape(), np.array(1))


def _divided(length: Value, by: Operand) -> Value:
    """Division, rounded up."""
    return (length + by - 1) / by


def stacked(planes: Sequence[Value]) -> Value:
    """Stack planes [H, W] to [planes, H, W]."""
    return planes[0].nodes.joined(0, *(plane.nodes.add("Unsqueeze", plane, np.array([0])) for plane in planes))


def unstacked(planes: Value) -> list[Value]:
    """Split [3, H, W] into three planes [H, W]."""
    return [planes.take(np.array(index)) for index in range(3)]


def weighted(channels: Sequence[Value], weights: NDArray[np.float32]) -> Value:
    """The counterpart of :func:`redecode.codec.colour.weighted`."""
    first, second, third = channels
    total: Value = first * weights[0] + second * weights[1] + third * weights[2]
    return total


def to_rgb(planes: Value) -> Value:
    """The counterpart of :func:`redecode.codec.colour.to_rgb`: float32 [3, H, W], without clipping."""
    luma, blue, red = unstacked(planes)
    blue, red = blue - MIDDLE, red - MIDDLE
    matrix = colour.YCBCR_TO_RGB
    return stacked([luma + red * matrix[0, 2], luma + (blue * matrix[1, 1] + red * matrix[1, 2]), luma + blue * matrix[2, 1]])


def to_pixels(planes: Value) -> Value:
    """Convert YCbCr planes to the values of 8-bit RGB pixels, float32 [3, H, W]."""
    return to_rgb(planes).rint().clip(np.float32(0), np.float32(255))


def _transformed(blocks: Value, matrix: NDArray[np.float64]) -> Value:
    """Multiply blocks [rows, columns, 8, 8] by the matrix of the DCT or its inverse, in float64 as in the decoder, for equal pixels."""
    flat = blocks.reshape(0, 0, PIXELS).astype(np.float64) @ np.ascontiguousarray(matrix)
    return flat.astype(np.float32).reshape(0, 0, dct.BLOCK, dct.BLOCK)
