"""From projected planes to 8-bit pixels that agree with the file as far as 8 bits and the gamut allow.

Rounding to 8 bits and clipping to RGB both move colours, and some blocks out of their quantization cells with them. Colours outside RGB,
which many cameras and videos store, are clipped, because that is what viewers show: where a block cannot keep its viewers' colours and
agree with the file as well, it keeps the colours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..codec import colour, dct
from ..codec.jpeg import JpegImage
from .projection import MARGIN, Samples, agreeing_blocks, explained_blocks, project

Float32 = NDArray[np.float32]
Pixels = NDArray[np.uint8]
Plain = Callable[[], Float32]

# Rounds of repair, and the factor by which the distance from the cells' borders grows with each.
REPAIRS = 6
MARGIN_GROWTH = 1.5
# Steps in which a block is blended with the plain decode, where only that one agrees with the file.
BLENDS = 16
# How far a repair may move the mean of an 8×8 block in any channel, in levels.
MAX_SHIFT = 2.0
# Where clipping to RGB moves the mean of an MCU in any channel by more than the first, in levels, viewers show colours that restoration
# does not know better: the mean of the MCU stays as near as the second to what they show.
CLIPPED, MAX_COLOUR_SHIFT = 2.0, 2.5


def to_pixels(planes: Float32, image: JpegImage, margin: float = MARGIN, plain: Plain | None = None) -> Pixels:
    """Project and convert to 8-bit pixels that encode to the file's coefficients again.

    Colours outside the gamut are clipped, as viewers do. MCUs (the smallest parts with whole blocks of all components) in which clipping
    or rounding drives a block out of its cells are repaired as far as their colours stay what they are (MAX_SHIFT). Where the plain decode
    agrees with the file in more blocks of a component all the same, it takes the MCU's place.

    Args:
        planes: float32 [components, H, W], 0 … 255.
        image: the file.
        margin: as :func:`redecode.restoration.projection.project`.
        plain: gives the planes of the plain decode, where they depend on what lies around the file; None takes its own.

    Returns:
        uint8 [H, W, 3] RGB, or [H, W] for a gray file.
    """
    return render(planes, image, margin, plain)[0]


def render(planes: Float32, image: JpegImage, margin: float = MARGIN, plain: Plain | None = None) -> tuple[Pixels, Tally]:
    """As :func:`to_pixels`, and the :func:`tally` of the pixels."""
    projected = project(planes, image, margin)
    pixels = colour.to_uint8(colour.to_rgb(projected))
    exact = _exact_mcus(planes, image)
    if len(exact.rows):
        exact.paste(_pixels_apart(exact.cut(np.moveaxis(planes, 0, 2))), pixels)
    agreeing = agreeing_blocks(pixels, image)
    mcus = _mcus_with(agreeing, image)
    plain = plain or image.planes
    if len(mcus.rows):
        before = mcus.cut(pixels)
        after = before.copy()
        wrong = np.flatnonzero(~mcus.among(exact))
        if len(wrong):
            after[wrong] = _repaired(mcus.take(wrong), projected, before[wrong], margin, plain)
            mcus.paste(after, pixels)
    if keep_colours(pixels, projected, image, plain):
        return pixels, tally(pixels, image)
    return pixels, _told(agreeing, mcus, before, after) if len(mcus.rows) else _told(agreeing)


def keep_colours(pixels: Pixels, planes: Float32, image: JpegImage, plain: Plain | None = None) -> bool:
    """Keep the mean colours of MCUs that were strongly clipped near to those of the plain decode (see CLIPPED).

    Args:
        pixels: uint8 [H, W, 3] or [H, W], changed in place.
        planes: the planes that they were made from.
        image: the file.
        plain: as :func:`to_pixels`.

    Returns:
        Whether anything changed.
    """
    # Nothing was clipped where no sample is 0 or 255, which wrap to 1 and 0.
    clipped = np.asarray(((pixels + np.uint8(1)) < 2).reshape(*pixels.shape[:2], -1).any(2))
    mcus = _Mcus(image, *np.nonzero(_mcus_of_pixels(clipped, image)))
    if len(mcus.rows):
        rgb = _rgb_apart(mcus.cut(np.moveaxis(planes, 0, 2)))
        mcus = mcus.take(np.flatnonzero(_largest_mean(np.abs(rgb - rgb.clip(0, 255))) > CLIPPED))
    if not len(mcus.rows):
        return False
    # Viewers clip samples, and then colours.
    samples = mcus.cut(np.moveaxis((plain or image.planes)(), 0, 2)).clip(0, 255)
    shown, own = _pixels_apart(samples).astype(np.float32), mcus.cut(pixels)
    shift = _largest_mean(own - shown)
    moved = np.flatnonzero(shift > MAX_COLOUR_SHIFT)
    if not len(moved):
        return False
    weight = (1 - np.float32(MAX_COLOUR_SHIFT) / shift[moved]).reshape(-1, *[1] * (own.ndim - 1))
    mcus.take(moved).paste(colour.to_uint8(own[moved] + weight * (shown[moved] - own[moved])), pixels)
    return True


def _largest_mean(mcus: Float32) -> Float32:
    """Of MCUs [MCUs, H, W, …] the mean of the channel in which it is the farthest from 0: float32 [MCUs]."""
    largest: Float32 = np.abs(mcus.reshape(*mcus.shape[:3], -1).mean((1, 2))).max(1)
    return largest


def _exact_mcus(planes: Float32, image: JpegImage) -> _Mcus:
    """The MCUs whose blocks are all even, in the file as in the planes, of the integers that the file was written from.

    See :func:`redecode.restoration.exact.keep_exact`. Their colours are what viewers show: a margin would only move them.
    """
    flat = [component.coefficients.reshape(*component.coefficients.shape[:2], -1) for component in image.components]
    varies = [np.asarray(coefficients[..., 1:].any(2)) for coefficients in flat]
    even = _Mcus(image, *np.nonzero(~_any_of(varies, image)))
    if not len(even.rows):
        return even
    own = even.cut(np.moveaxis(planes, 0, 2))
    blocks = own.reshape(len(own), own.shape[1] // dct.BLOCK, dct.BLOCK, own.shape[2] // dct.BLOCK, dct.BLOCK, -1)
    corners = blocks[:, :, :1, :, :1]
    same = (blocks == corners).all((1, 2, 3, 4, 5)) & (corners == np.rint(corners)).all((1, 2, 3, 4, 5))
    return even.take(np.flatnonzero(same))


@dataclass(frozen=True)
class Tally:
    """How many blocks of some pixels are consistent with the file.

    Attributes:
        blocks: of all components.
        consistent: those in which the pixels have the file's coefficients but for what rounding them explains.
        luma: luma blocks.
        encoded: those that encode to the very coefficients of the file.
    """

    blocks: int = 0
    consistent: int = 0
    luma: int = 0
    encoded: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


def tally(pixels: Samples, image: JpegImage) -> Tally:
    """Compare pixels with the file.

    Args:
        pixels: uint8, or uint16 with 65535 for white: [H, W, 3] RGB or [H, W], of the file's size.
        image: the file.
    """
    agreeing = agreeing_blocks(pixels, image)
    mcus = _mcus_with(agreeing, image)
    own = mcus.cut(pixels)
    return _told(agreeing, mcus, own, own) if len(own) else _told(agreeing)


def _told(
    agreeing: list[NDArray[np.bool_]], mcus: _Mcus | None = None, before: NDArray[Any] | None = None, after: NDArray[Any] | None = None
) -> Tally:
    """The tally of a picture of which some MCUs did not agree with the file, and may have changed since."""
    blocks = sum(same.size for same in agreeing)
    encoded = int(np.count_nonzero(agreeing[0]))
    if mcus is None or before is None or after is None:
        return Tally(blocks, blocks, agreeing[0].size, encoded)
    same = mcus.agreeing(after)
    unexplained = int(np.count_nonzero(~(same | mcus.explained(after))))
    encoded += int((mcus.by_component(same) - mcus.by_component(mcus.agreeing(before)))[:, 0].sum())
    return Tally(blocks, blocks - unexplained, agreeing[0].size, encoded)


def _repaired(mcus: _Mcus, projected: Float32, pixels: NDArray[Any], margin: float, plain: Plain) -> NDArray[Any]:
    """Better pixels for MCUs, uint8 [MCUs, H, W, …]."""
    best = pixels.copy()
    agreeing = mcus.agreeing(best)
    planes = mcus.cut(np.moveaxis(projected, 0, 2))
    _unclip(mcus, planes, best, agreeing, margin)
    left = np.flatnonzero(~agreeing.all(1))
    if len(left):
        part = mcus.take(left)
        best[left] = _no_worse_than(part.cut(np.moveaxis(plain(), 0, 2)), part, planes[left], best[left], agreeing[left])
    return best


def _unclip(mcus: _Mcus, planes: Float32, best: NDArray[Any], agreeing: NDArray[np.bool_], margin: float) -> None:
    """Repair, in place, what clipping has driven out of the cells.

    By turns, the planes are brought into the gamut and into the cells. Both are convex: this leads to a picture that is in both, where
    there is one, and never away from an original that is in both.
    """
    means = _block_means(best)
    left = np.arange(len(best))
    for _ in range(REPAIRS):
        margin *= MARGIN_GROWTH
        strip = np.moveaxis(_side_by_side(planes[left]), 2, 0)
        clipping = _into_gamut(strip)
        outside = np.asarray(_apart(clipping[0] != 0, len(left)).any((1, 2))) & ~agreeing[left].all(1)
        left, strip = left[outside], _chosen(strip + clipping, outside)
        if not len(left):
            return
        part = mcus.take(left)
        strip = project(strip, part.strip(), margin)
        planes[left] = part.extended(_apart(np.moveaxis(strip, 0, 2), len(left)))
        candidate = part.extended(_apart(_as_pixels(strip), len(left)))
        found = part.agreeing(candidate)
        shift = np.abs(_block_means(candidate) - means[left]).reshape(len(left), -1).max(1)
        better = (found >= agreeing[left]).all(1) & (found != agreeing[left]).any(1) & (shift <= MAX_SHIFT)
        best[left[better]], agreeing[left[better]] = candidate[better], found[better]


def _no_worse_than(plain: Float32, mcus: _Mcus, planes: Float32, best: NDArray[Any], agreeing: NDArray[np.bool_]) -> NDArray[Any]:
    """The best pixels, blended with the plain decode block by block as far as it takes to agree with the file in as many blocks.

    Args:
        plain: planes of the plain decode, float32 [MCUs, H, W, components].
        planes: the restored ones.
        best: pixels of these.
        agreeing: their blocks, as :meth:`_Mcus.agreeing`.
    """
    plain_pixels = _pixels_apart(plain)
    wanted = mcus.agreeing(plain_pixels)
    aim = mcus.by_component(wanted)
    missing = np.maximum(aim - mcus.by_component(agreeing), 0).sum(1)
    weights = np.zeros(wanted.shape, np.float32)
    left = np.flatnonzero(missing)
    found = agreeing[left]
    for _ in range(BLENDS):
        if not len(left):
            break
        weights[left] += np.float32(1 / BLENDS) * (wanted[left] & ~found)
        part = mcus.take(left)
        blended = planes[left] + part.spread(weights[left]) * (plain[left] - planes[left])
        candidate = part.extended(_pixels_apart(blended))
        found = part.agreeing(candidate)
        still = np.maximum(aim[left] - part.by_component(found), 0).sum(1)
        better = still < missing[left]
        best[left[better]], missing[left[better]] = candidate[better], still[better]
        left, found = left[still > 0], found[still > 0]
    best[left] = plain_pixels[left]
    return best


def _chosen(strip: Float32, mcus: NDArray[np.bool_]) -> Float32:
    """Some of the MCUs of a strip [components, H, MCUs · W]."""
    count, height = strip.shape[:2]
    return strip.reshape(count, height, len(mcus), -1)[:, :, mcus].reshape(count, height, -1)


def _as_pixels(planes: Float32) -> Pixels:
    return colour.to_uint8(colour.to_rgb(planes))


def _pixels_apart(planes: Float32) -> Pixels:
    """Pixels of planes [MCUs, H, W, components]."""
    return colour.to_uint8(_rgb_apart(planes))


def _rgb_apart(planes: Float32) -> Float32:
    """RGB or gray, unclipped, of planes [MCUs, H, W, components]."""
    rgb = colour.to_rgb(np.moveaxis(planes, 3, 0).reshape(planes.shape[3], -1, planes.shape[2]))
    return rgb.reshape(*planes.shape[:3], *rgb.shape[2:])


def _mcus_of_pixels(pixels: NDArray[np.bool_], image: JpegImage) -> NDArray[np.bool_]:
    """The MCUs with a certain pixel, of bool [H, W]: bool [rows, columns]."""
    (high, wide), (height, width) = image.unit, pixels.shape
    rows = np.logical_or.reduceat(pixels, np.arange(0, height, high), axis=0)
    return np.logical_or.reduceat(rows, np.arange(0, width, wide), axis=1)


def _into_gamut(planes: Float32) -> Float32:
    """What to add to planes to clip them to RGB: exactly nothing to a colour inside, and nothing to the chroma of a gray."""
    rgb = colour.to_rgb(planes)
    return colour.to_differences(np.clip(rgb, 0, 255) - rgb)


def _block_means(mcus: NDArray[Any]) -> Float32:
    count, height, width = mcus.shape[:3]
    blocks = mcus.reshape(count, height // dct.BLOCK, dct.BLOCK, width // dct.BLOCK, dct.BLOCK, -1)
    means: Float32 = blocks.mean((2, 4), dtype=np.float32)
    return means


def _side_by_side(mcus: NDArray[Any]) -> NDArray[Any]:
    """[MCUs, H, W, …] as one strip [H, MCUs · W, …]."""
    return np.ascontiguousarray(mcus.swapaxes(0, 1)).reshape(mcus.shape[1], -1, *mcus.shape[3:])


def _apart(strip: NDArray[Any], count: int) -> NDArray[Any]:
    """The inverse of :func:`_side_by_side`."""
    return strip.reshape(len(strip), count, -1, *strip.shape[2:]).swapaxes(0, 1)


def _mcus_with(agreeing: list[NDArray[np.bool_]], image: JpegImage) -> _Mcus:
    """The MCUs of a picture with a block that does not agree with the file."""
    return _Mcus(image, *np.nonzero(_any_of([~same for same in agreeing], image)))


def _any_of(blocks: list[NDArray[np.bool_]], image: JpegImage) -> NDArray[np.bool_]:
    """The MCUs of a picture of which any component has a certain block: bool [rows, columns]."""
    high, wide = image.unit
    shape = -(-image.height // high), -(-image.width // wide)
    found = np.zeros(shape, bool)
    for component, certain in zip(image.components, blocks, strict=True):
        h, v = component.sampling
        whole = np.zeros((shape[0] * v, shape[1] * h), bool)
        inside = certain[: len(whole), : whole.shape[1]]
        whole[: len(inside), : inside.shape[1]] = inside
        found |= whole.reshape(shape[0], v, shape[1], h).any((1, 3))
    return found


@dataclass(frozen=True)
class _Mcus:
    """Some MCUs of a picture; those that reach over its border are extended by repeating the last pixels, as encoders do.

    Attributes:
        image: the file.
        rows, columns: which of its MCUs.
    """

    image: JpegImage
    rows: NDArray[np.intp]
    columns: NDArray[np.intp]

    def take(self, indices: NDArray[np.intp]) -> _Mcus:
        """Some of them."""
        return replace(self, rows=self.rows[indices], columns=self.columns[indices])

    def cut(self, array: NDArray[Any]) -> NDArray[Any]:
        """Their parts of an array [H, W, …] of the picture's size: [MCUs, H, W, …]."""
        y, x = self._pixels()
        return array[y[:, :, None], x[:, None, :]]

    def paste(self, mcus: NDArray[Any], array: NDArray[Any]) -> None:
        """Write them into such an array."""
        y, x = self._pixels()
        array[y[:, :, None], x[:, None, :]] = self.extended(mcus)

    def extended(self, mcus: NDArray[Any]) -> NDArray[Any]:
        """With the pixels beyond the picture's border replaced by the last ones inside."""
        y, x = self._pixels()
        high, wide = self.image.unit
        y, x = y - self.rows[:, None] * high, x - self.columns[:, None] * wide
        return mcus[np.arange(len(mcus))[:, None, None], y[:, :, None], x[:, None, :]]

    def among(self, others: _Mcus) -> NDArray[np.bool_]:
        """Which of them are among others of the same picture: bool [MCUs]."""
        return np.isin(self._places(), others._places())

    def _places(self) -> NDArray[np.intp]:
        return self.rows * self.image.width + self.columns

    def strip(self) -> JpegImage:
        """Side by side, as a file of their own."""
        high, wide = self.image.unit
        components = []
        for component in self.image.components:
            h, v = component.sampling
            i, j, _ = self._blocks(component.sampling, component.coefficients.shape[:2])
            coefficients = _side_by_side(component.coefficients[i[:, :, None], j[:, None, :]])
            components.append(replace(component, coefficients=coefficients, size=(v * dct.BLOCK, len(i) * h * dct.BLOCK)))
        return replace(self.image, width=len(self.rows) * wide, height=high, components=tuple(components))

    def agreeing(self, mcus: NDArray[Any]) -> NDArray[np.bool_]:
        """Which blocks of pixels agree with the file: bool [MCUs, blocks], component by component; blocks beyond the border do."""
        return self._in_order(agreeing_blocks(_side_by_side(mcus), self.strip()))

    def explained(self, mcus: NDArray[Any]) -> NDArray[np.bool_]:
        """In which blocks of pixels rounding explains that they do not, likewise."""
        return self._in_order(explained_blocks(_side_by_side(mcus), self.strip()))

    def _in_order(self, blocks: list[NDArray[np.bool_]]) -> NDArray[np.bool_]:
        found = []
        for component, own in zip(self.image.components, blocks, strict=True):
            _, _, beyond = self._blocks(component.sampling, component.coefficients.shape[:2])
            found.append((_apart(own, len(self.rows)) | beyond).reshape(len(self.rows), -1))
        return np.concatenate(found, axis=1)

    def by_component(self, agreeing: NDArray[np.bool_]) -> NDArray[np.intp]:
        """How many blocks of each component agree, of what :meth:`agreeing` gives: [MCUs, components]."""
        ends = np.cumsum([h * v for h, v in (component.sampling for component in self.image.components)])[:-1]
        return np.stack([part.sum(1) for part in np.split(agreeing, ends, axis=1)], axis=1)

    def spread(self, blocks: Float32) -> Float32:
        """A figure for each block, ordered as in :meth:`agreeing`, to all pixels of the block: [MCUs, H, W, components]."""
        high, wide = self.image.unit
        planes, first = [], 0
        for h, v in (component.sampling for component in self.image.components):
            part = blocks[:, first : first + h * v].reshape(-1, v, h)
            planes.append(part.repeat(high // v, 1).repeat(wide // h, 2))
            first += h * v
        return np.stack(planes, axis=3)

    def _pixels(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Rows and columns of their pixels in the picture: [MCUs, H] and [MCUs, W]."""
        high, wide = self.image.unit
        y = (self.rows[:, None] * high + np.arange(high)).clip(max=self.image.height - 1)
        x = (self.columns[:, None] * wide + np.arange(wide)).clip(max=self.image.width - 1)
        return y, x

    def _blocks(self, sampling: tuple[int, int], shape: tuple[int, ...]) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.bool_]]:
        """Rows [MCUs, v] and columns [MCUs, h] of a component's blocks, and which of them [MCUs, v, h] the component does not have."""
        h, v = sampling
        i = self.rows[:, None] * v + np.arange(v)
        j = self.columns[:, None] * h + np.arange(h)
        beyond = (i >= shape[0])[:, :, None] | (j >= shape[1])[:, None, :]
        return i.clip(max=shape[0] - 1), j.clip(max=shape[1] - 1), beyond
