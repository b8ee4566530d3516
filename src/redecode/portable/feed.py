"""Inputs of the graph of :mod:`redecode.portable.graph` for a file."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..codec.jpeg import JpegImage
from ..errors import UnsupportedError

# Names of the graph's inputs for quantized coefficients, in the order of a file's components.
COMPONENTS = ("luma", "blue", "red")
# The number of luma blocks along each axis is a multiple of this.
EVEN = 2


def inputs_of(image: JpegImage) -> dict[str, NDArray[Any]]:
    """The inputs of the graph, except the amount of texture.

    Args:
        image: a gray or YCbCr file with luma at full size; an earlier compression is ignored.

    Returns:
        "luma", "blue" and "red", int16 [rows, columns, 8, 8]; "tables", uint16 [3, 8, 8]; "size", int64 [2]: height and width.

    Raises:
        UnsupportedError: the file has another colour model, or sampling factors that do not divide those of luma.

    Examples:
        >>> inputs = inputs_of(redecode.read("examples/parrots-q10.jpg"))
        >>> {name: values.shape for name, values in inputs.items()}
        {'luma': (64, 96, 8, 8), 'blue': (32, 48, 8, 8), 'red': (32, 48, 8, 8), 'tables': (3, 8, 8), 'size': (2,)}
    """
    if image.colour_model not in ("gray", "YCbCr"):
        raise UnsupportedError(f"the graph restores gray and YCbCr-coded files, not {image.colour_model}-coded ones")
    (wide, high), *_ = (component.sampling for component in image.components)
    if (wide, high) != image.max_sampling or any(wide % c.sampling[0] or high % c.sampling[1] for c in image.components):
        raise UnsupportedError(f"the graph cannot restore a file of this chroma subsampling ({image.subsampling})")
    # Pad luma to whole MCUs and to pairs of blocks.
    rows, columns = (_whole(-(-side // 8), np.lcm(EVEN, most)) for side, most in ((image.height, high), (image.width, wide)))
    found: dict[str, NDArray[Any]] = {}
    for name, component in zip(COMPONENTS, image.components, strict=False):
        h, v = component.sampling
        found[name] = _padded(component.coefficients, rows * v // high, columns * h // wide)
    tables = [component.table for component in image.components]
    if image.gray:
        # Zero chroma at full size.
        found |= {name: np.zeros_like(found["luma"]) for name in COMPONENTS[1:]}
        tables += [np.ones((8, 8), np.uint16)] * 2
    return {**found, "tables": np.stack(tables), "size": np.array([image.height, image.width])}


def _whole(length: int, unit: np.integer[Any]) -> int:
    return int(-(-length // unit) * unit)


def _padded(blocks: NDArray[np.int16], rows: int, columns: int) -> NDArray[np.int16]:
    """Pad or crop blocks to a number of rows and columns; the padding is zero."""
    padded = np.zeros((rows, columns, 8, 8), np.int16)
    inside = blocks[:rows, :columns]
    padded[: len(inside), : inside.shape[1]] = inside
    return padded
