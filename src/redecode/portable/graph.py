"""The whole method as one ONNX graph: from a JPEG's quantized coefficients to restored pixels.

It computes the same as :class:`redecode.Decoder` for a gray or YCbCr file: plain decode, L_B with shrinkage, L_T, orientation diversity and
mask, fusion, projection, repair and colour conversion. It ignores earlier compressions (:mod:`redecode.codec.recompression`).
docs/browser.md describes inputs and outputs.
"""

from __future__ import annotations

import io
import json
import math
from typing import Literal

import numpy as np
import onnx
from numpy.typing import NDArray

from .. import decoder, weights
from ..codec import dct
from ..codec.quality import STANDARD
from ..restoration import contradiction, exact, mask, shrinkage
from ..restoration.tiling import ALIGNMENT
from ..weights import Precision, Preset
from .file import MIDDLE, PIXELS, Component, File, stacked, unstacked
from .nodes import Nodes, Value
from .repair import repaired

# Parts of the method: "layers" and "finish" are two halves of "whole", so that the amount of texture can change without the networks.
Part = Literal["whole", "layers", "finish"]


def build(part: Part = "whole", preset: Preset = weights.DEFAULT_PRESET, precision: Precision = "int8") -> onnx.ModelProto:
    """Build the graph with the shipped networks of a preset.

    Args:
        part: "whole"; or "layers", whose outputs are L_B, L_T and the mask, and "finish", whose inputs are these and the amount of texture.
        preset: one of redecode.weights.PRESETS.
        precision: precision of the networks, one of redecode.weights.PRECISIONS.

    Returns:
        The ONNX model.

    Raises:
        DependencyError: this installation lacks a network.

    Examples:
        >>> [one.name for one in build("whole").graph.input]
        ['luma', 'blue', 'red', 'tables', 'size', 'amount']
    """
    networks = {layer: weights.load(name, precision) for layer, name in weights.PRESETS[preset].items()}
    nodes = Nodes()
    file = File.of_inputs(nodes)
    if part == "finish":
        planes = [nodes.input(name, np.float32, [3, "height", "width"]) for name in ("base", "texture")]
        base, texture, where = *planes, nodes.input("mask", np.bool_, ["height", "width"])
    else:
        base, texture, where = _layers(file, networks)
    if part == "layers":
        nodes.output("base", base, [3, "height", "width"])
        nodes.output("texture", texture, [3, "height", "width"])
    else:
        amount = nodes.input("amount", np.float32, [1])
        pixels, contradicting = _finish(file, base, texture, where, amount)
        nodes.output("pixels", pixels, ["height", "width", 3])
        nodes.output("contradicting", contradicting, ["mcu_rows", "mcu_columns"])
    if part != "finish":
        nodes.output("mask", file.cropped(where), ["height", "width"])
    return nodes.model(f"redecode-{part}", _metadata(part, preset, precision, networks))


def _metadata(part: Part, preset: Preset, precision: Precision, networks: dict[str, weights.Weights]) -> dict[str, str]:
    """Properties of the model, stored in the ONNX file."""
    from .. import __version__

    records = [network.record for network in networks.values()]
    properties = {
        "redecode": __version__,
        "part": part,
        "preset": preset,
        "precision": precision,
        "alignment": ALIGNMENT,
        "halo": decoder.halo(preset, (2 * dct.BLOCK, 2 * dct.BLOCK)),
        "ranges": {"pixels": [0, 255], "base": [0, 255], "texture": [0, 255], "amount": [0, 1]},
        "networks": {record["name"]: record["sha256"][precision] for record in records},
        "licence": f"Apache-2.0. {records[0]['licence']}",
    }
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in properties.items()}


def _layers(file: File, networks: dict[str, weights.Weights]) -> tuple[Value, Value, Value]:
    """L_B and L_T, float32 [3, H, W], and the mask, bool [H, W]."""
    plain = file.planes()
    quality = _nearest_quality(file.components[0].table)
    kept, level = _exact(file)

    def with_exact(planes: Value) -> Value:
        return file.extended(plain.nodes.where(kept, level, planes))

    restored = _believed(file, _restored(file, plain, networks["edge"], "edge"), plain)
    weight = _weight(quality, decoder.BASE_BLEND)
    factors = networks["edge"].shrinkage
    shrunk = restored if factors is None else _shrunk(file, restored, np.load(io.BytesIO(factors)).astype(np.float32))
    base = with_exact(plain.nodes.where(weight >= 1, shrunk, plain + weight * (restored - plain)))
    painted = with_exact(_restored(file, plain, networks["texture"], "texture"))
    texture = base + _weight(quality, decoder.TEXTURE_BLEND) * (painted - base)
    return base, texture, _mask(file, base.take(np.array(0)))


def _restored(file: File, plain: Value, network: weights.Weights, prefix: str) -> Value:
    """The result of a network for the plain decode."""
    nodes = plain.nodes
    rows, columns = file.inside
    scaled = ((plain - MIDDLE) * np.float32(1 / 255)).reshape(1, 3, rows.length(0), columns.length(0))
    tables = nodes.joined(0, *(c.table.reshape(1, 8, 8) for c in file.components[:2]))
    restored = nodes.network(onnx.load_from_string(network.onnx), prefix, planes=scaled, tables=tables.reshape(1, 2, 8, 8))
    planes = restored.reshape(3, rows.length(0), columns.length(0)) * np.float32(255) + MIDDLE
    return file.extended(planes)


def _believed(file: File, restored: Value, plain: Value) -> Value:
    """As :func:`redecode.restoration.contradiction.believe`."""
    luma = file.components[0]
    moved = luma.coefficients((restored - plain).take(np.array(0)) + MIDDLE)
    beyond = (abs(moved) - luma.table / 2).most(np.float32(0))
    share = (beyond * beyond).sum(2, 3) / ((luma.table * luma.table).sum(0, 1) / 12)
    low, high = contradiction.LIMITS
    doubt = ((share - low) / (high - low)).clip(np.float32(0), np.float32(1))
    return file.extended(restored + luma.spread_blocks(doubt) * (plain - restored))


def _nearest_quality(table: Value) -> Value:
    """The quality factor of a luma table, float32 []: the counterpart of :func:`redecode.codec.quality.nearest_quality`."""
    logs = table.most(1).astype(np.float64).log().reshape(1, PIXELS)
    distance = abs(logs - np.log(STANDARD[:, 0].astype(np.float64))).mean(1)
    best = distance.nodes.add("ArgMin", distance, dtype=np.int64, axis=0, keepdims=0)
    return best.astype(np.float32) + 1


def _weight(quality: Value, blend: tuple[int, int]) -> Value:
    full, none = blend
    return ((-quality + none) / (none - full)).clip(np.float32(0), np.float32(1))


def _shrunk(file: File, planes: Value, factors: NDArray[np.float32]) -> Value:
    """The counterpart of :func:`redecode.restoration.shrinkage.shrink`."""
    finer = shrinkage.refined(factors)
    flat = finer.reshape(-1)
    moves = []
    for component, plane in zip(file.components, unstacked(planes), strict=True):
        found = component.coefficients(plane)
        distance = found / component.table - component.quantized
        factor = planes.nodes.constant(flat).take(_factor_places(component, distance, finer.shape))
        moves.append((component.quantized + distance * factor) * component.table - found)
    return file.moved(planes, moves)


def _factor_places(component: Component, distance: Value, shape: tuple[int, ...]) -> Value:
    """The counterpart of :func:`redecode.restoration.shrinkage.factor_places`, int32 [rows, columns, 8, 8]."""
    nodes = distance.nodes
    _, sides, steps, columns = shape
    scale = np.float32(shrinkage.TABLE_COLUMNS * columns // shrinkage.TABLE_SHAPE[3])
    column = (abs(distance).sqrt() * scale).least(np.float32(columns - 1))
    inside = (component.quantized < 0) ^ (distance < 0)
    side = nodes.where(component.quantized.equals(0), np.int32(0), inside.astype(np.int32) + 1)
    step = (component.table.log() * np.float32(2 / math.log(2))).rint().least(np.float32(steps - 1)).astype(np.int32)
    if component.full:
        return (side * steps + step) * columns + column.astype(np.int32)
    subsampled = (component.covers[0] * component.covers[1] > 1).reshape()
    kind = nodes.where(subsampled, np.int32(1), np.int32(2)) * (sides * steps)
    return (side * steps + step + kind) * columns + column.astype(np.int32)


def _mask(file: File, luma: Value) -> Value:
    """The counterpart of :func:`redecode.restoration.mask.region_mask` with orientation_diversity: bool [H, W]."""
    nodes = luma.nodes
    padded = nodes.add("Pad", luma, np.array([1, 1, 1, 1]), mode="edge")
    columns = padded.part(0, 0, -2) + padded.part(0, 1, -1) + padded.part(0, 2)
    rows = padded.part(1, 0, -2) + padded.part(1, 1, -1) + padded.part(1, 2)
    dx, dy = (columns.part(1, 2) - columns.part(1, 0, -2)) / 3, (rows.part(0, 2) - rows.part(0, 0, -2)) / 3
    bins = round(180 / mask.BIN_DEGREES)
    bin_index = nodes.where(dx * dx + dy * dy < mask.PLAIN**2, np.float32(bins), _orientation(dx, dy))
    present = stacked([file.extended(bin_index, 2)]).equals(np.arange(bins + 1, dtype=np.float32).reshape(-1, 1, 1)).astype(np.float32)
    return _widened(present, mask.WINDOW // 2).sum(0) > mask.THRESHOLD


def _orientation(dx: Value, dy: Value) -> Value:
    """The bin of a gradient's orientation, float32: the number of lower borders of bins, except the first, that lie below it.

    ONNX has no atan2. A direction within [0°, 180°) exceeds the angle φ if dy cos φ ≥ dx sin φ.
    """
    nodes = dx.nodes
    # In float32, angles just below 180° round to 180°, which counts as 0°.
    level = abs(dy) <= abs(dx) * np.float32(np.spacing(np.float32(math.pi)) / 2)
    x = nodes.where(level, abs(dx), nodes.where(dy < 0, -dx, dx))
    y = nodes.where(level, np.float32(0), abs(dy))
    total = None
    for degrees in np.arange(mask.BIN_DEGREES, 180, mask.BIN_DEGREES):
        angle = math.radians(degrees)
        beyond = (y * np.float32(math.cos(angle)) >= x * np.float32(math.sin(angle))).astype(np.float32)
        total = beyond if total is None else total + beyond
    assert total is not None  # there are several bins
    return total


def _widened(planes: Value, reach: int, low: bool = False) -> Value:
    """The maximum, or the minimum, within `reach` in all directions, inside the border: float32 [3, H, W]."""
    nodes = planes.nodes
    side = 2 * reach + 1
    batch = nodes.add("Unsqueeze", -planes if low else planes, np.array([0]))
    pooled = nodes.add("MaxPool", batch, kernel_shape=[side, side], pads=[reach] * 4, strides=[1, 1])
    found = nodes.add("Squeeze", pooled, np.array([0]))
    return -found if low else found


def _exact(file: File) -> tuple[Value, Value]:
    """Where :func:`redecode.restoration.exact.keep_exact` keeps the plain decode, bool [3, H, W], and what it keeps there."""
    low, high = map(stacked, zip(*(component.extremes(file.size) for component in file.components), strict=True))
    noise = np.float32(exact.NOISE)
    even = (high - low <= noise) & stacked([file.components[0].exists])
    uniform = _widened(high, exact.REACH) - _widened(low, exact.REACH, low=True) <= noise
    kept = uniform | _joined_even(stacked([_beside_sharp(file, even, low)]) & even, even, low)

    def pixels(own: Value) -> Value:
        rows, columns = own.length(1), own.length(2)
        wide = own.reshape(3, rows, 1, columns, 1).expand(3, rows, dct.BLOCK, columns, dct.BLOCK)
        return wide.reshape(3, rows * dct.BLOCK, columns * dct.BLOCK)

    level = (low + np.float32(0.5)).floor().clip(np.float32(0), np.float32(255))
    return pixels(kept.astype(np.float32)) > 0, pixels(level)


def _beside_sharp(file: File, even: Value, level: Value) -> Value:
    """Blocks with a sharp border to another, and those among such: bool [rows, columns], as in :mod:`redecode.restoration.exact`."""
    nodes = even.nodes
    beside, counts = [], []
    for axis, at in ((1, dct.BLOCK), (2, 1)):
        tables = (*file.components[:2], file.components[1])
        step = nodes.joined(0, *(c.table.reshape(PIXELS).take(np.array([at])) for c in tables)).reshape(3, 1, 1)
        both = even.part(axis, 1) & even.part(axis, 0, -1)
        jump = abs(level.part(axis, 1) - level.part(axis, 0, -1))
        sharp, differs = (
            (both & found).astype(np.float32).highest(0, keep=True) for found in (jump >= step * exact.SHARP, jump > exact.NOISE)
        )
        beside.append(_both_sides(sharp > 0, axis))
        counts.append([_shifted(found > 0, axis, first=True).astype(np.float32) for found in (sharp, differs)])
    many, borders = (_sum_around(down + right, exact.REACH) for down, right in zip(*counts, strict=True))
    rule = (many >= np.float32(exact.RULE_COUNT)) & (many >= borders * np.float32(exact.RULE_SHARE))
    return (beside[0] | beside[1] | rule).astype(np.float32).highest(0) > 0


def _sum_around(counts: Value, reach: int) -> Value:
    """The sum within reach in all directions of whole numbers, float32 [1, H, W]."""
    side = 2 * reach + 1
    batch = counts.nodes.add("Unsqueeze", counts, np.array([0]))
    mean = counts.nodes.add("AveragePool", batch, kernel_shape=[side, side], pads=[reach] * 4, strides=[1, 1], count_include_pad=1)
    return (counts.nodes.add("Squeeze", mean, np.array([0])) * np.float32(side**2)).rint()


def _both_sides(between: Value, axis: int) -> Value:
    """Assign a property of pairs of neighbours along an axis to both of them."""
    return _shifted(between, axis, first=True) | _shifted(between, axis, first=False)


def _shifted(values: Value, axis: int, first: bool) -> Value:
    """Extend by one along an axis, with False at the beginning or at the end."""
    nodes = values.nodes
    pads = [0] * 6
    pads[axis if first else axis + 3] = 1
    return nodes.add("Pad", values.astype(np.float32), np.array(pads)) > 0


def _joined_even(blocks: Value, even: Value, level: Value) -> Value:
    """The blocks, and even blocks of the same level connected to them by a chain, as in :mod:`redecode.restoration.exact`."""
    same = {}
    for axis in (1, 2):
        alike = abs(level.part(axis, 1) - level.part(axis, 0, -1)) <= np.float32(exact.NOISE)
        same[axis] = even.part(axis, 1) & even.part(axis, 0, -1) & alike
    for _ in range(exact.REACH):
        before = blocks
        for axis in (1, 2):
            after = _shifted(before.part(axis, 0, -1) & same[axis], axis, first=True)
            blocks = blocks | after | _shifted(before.part(axis, 1) & same[axis], axis, first=False)
    return blocks


def _finish(file: File, base: Value, texture: Value, where: Value, amount: Value) -> tuple[Value, Value]:
    """Fusion, projection, repair and colour conversion: pixels, uint8 [height, width, 3], and number of contradicting blocks per MCU."""
    fused = file.extended(base + amount * where.astype(np.float32) * (texture - base))
    pixels, contradicting = repaired(file, file.extended(file.projected(fused)))
    return file.cropped(pixels.astype(np.uint8).transpose(1, 2, 0)), contradicting
