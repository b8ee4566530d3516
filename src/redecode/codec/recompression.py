"""Files that were compressed twice, as pictures are that were edited and saved, or sent on.

Where the second compression left the block grid in place, the coefficients still lie near multiples of the first one's coarser steps.
Rounding them to these gives back the file of the first generation, mostly to the last coefficient; and that is the
one to restore, because its quantization did the damage.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from . import colour
from .jpeg import Component, JpegImage
from .quality import nearest_quality, standard_tables
from .trace import Trace, find_trace

# The first compression must be this much stronger, in quality factors, to be worth going back to.
MIN_GAP = 5
# Root mean square distance of coefficients from multiples of the first steps, in those steps, above which the steps are not believed for
# a component. Evenly spread coefficients have 0.29.
MAX_DISTANCE = 0.2
# Side of the part in the middle of the picture that is looked at: four thousand blocks show as much as a million.
SAMPLE = 512
# Rows of blocks that are rounded anew at a time.
_STRIP = 64
# Tables of libjpeg so many quality factors around the estimate are tried as well.
NEIGHBOURS = 3


@dataclass(frozen=True)
class FirstGeneration:
    """What a file was before it was compressed again.

    Attributes:
        image: the first generation; its `resaved` is set.
        quality: nearest libjpeg quality factor of its luma table.
        confidence: 0 … 1, as :class:`redecode.codec.trace.Trace`.
    """

    image: JpegImage
    quality: int
    confidence: float


def first_generation(image: JpegImage) -> FirstGeneration | None:
    """Look for an earlier, stronger compression on the same block grid.

    Args:
        image: a file; other colour models than gray and YCbCr are not looked at.

    Returns:
        The earlier file, or None where nothing shows. Components in which the earlier steps cannot be made out keep their own.
    """
    if image.colour_model not in ("gray", "YCbCr") or image.damaged:
        return None
    quality, _ = nearest_quality(image.components[0].table)
    sample = image.crop(*(_middle(length, unit) for length, unit in zip((image.height, image.width), image.unit, strict=True)))
    luma = sample.components[0]
    trace = find_trace(colour.to_uint8(luma.plane()), offset=(0, 0), best=quality - MIN_GAP)
    if trace is None:
        return None
    luma_steps, chroma_steps = _nearest_steps(luma, trace)
    if _distance(luma, luma_steps) > MAX_DISTANCE:
        return None
    steps = [luma_steps] + [chroma_steps] * (len(image.components) - 1)
    earlier = tuple(
        _requantized(whole, own) if _distance(part, own) <= MAX_DISTANCE else whole
        for whole, part, own in zip(image.components, sample.components, steps, strict=True)
    )
    first_quality, _ = nearest_quality(luma_steps)
    return FirstGeneration(replace(image, components=earlier, resaved=quality), first_quality, trace.confidence)


def _nearest_steps(luma: Component, trace: Trace) -> NDArray[np.uint16]:
    """The tables of the first compression, uint16 [2, 8, 8].

    The second compression has moved the coefficients to multiples of its own steps, and some estimates with them: the tables of libjpeg
    that are near come first, and the estimated ones only where none of these will do.
    """
    qualities = range(max(1, trace.quality - NEIGHBOURS), min(100, trace.quality + NEIGHBOURS) + 1)
    best = min((standard_tables(quality) for quality in qualities), key=lambda tables: _distance(luma, tables[0]))
    if _distance(luma, best[0]) <= MAX_DISTANCE:
        return best
    return np.stack([trace.tables[0], standard_tables(trace.quality)[1]])


def _distance(component: Component, steps: NDArray[np.uint16]) -> float:
    """Root mean square distance of the coefficients from multiples of the steps other than 0, in steps."""
    quotient = component.coefficients * component.table.astype(np.float32) / steps
    multiple = np.rint(quotient)
    # What is near 0 says little about the steps.
    telling = multiple != 0
    return float(np.sqrt(np.square(quotient - multiple)[telling].mean())) if telling.any() else 0.0


def _middle(length: int, unit: int) -> tuple[int, int]:
    """The part of an axis to look at."""
    if length <= SAMPLE:
        return 0, length
    first = (length - SAMPLE) // 2 // unit * unit
    return first, first + SAMPLE // unit * unit


def _requantized(component: Component, steps: NDArray[np.uint16]) -> Component:
    coefficients = np.empty_like(component.coefficients)
    for first in range(0, len(coefficients), _STRIP):
        rows = slice(first, first + _STRIP)
        coefficients[rows] = np.rint(component.coefficients[rows] * component.table.astype(np.float32) / steps)
    return replace(component, coefficients=coefficients, table=steps)
