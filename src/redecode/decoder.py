"""The whole flow, from the bytes of a file to restored pixels.

A picture is restored tile by tile: read, restored, fused, projected and written into the result. So memory grows with what must be held
of a picture, its coefficients and its 8-bit result, and not with the many float planes in between.
"""

from __future__ import annotations

import itertools
import math
import os
import threading
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import pipelining, weights
from .codec import colour, dct, jpeg, raster
from .codec.jpeg import JpegImage
from .codec.quality import nearest_quality
from .codec.raster import RasterImage
from .codec.recompression import first_generation
from .errors import UnsupportedError
from .restoration import projection, shrinkage, tiling
from .restoration.fusion import fuse
from .restoration.mask import THRESHOLD, WINDOW, orientation_diversity, region_mask
from .restoration.network import DEVICES, Network
from .restoration.tiling import Progress, Tile

Float32 = NDArray[np.float32]
Pixels = NDArray[np.uint8]
Picture = JpegImage | RasterImage
Source = str | os.PathLike[str] | bytes

# Largest side of a tile's kept part, where there are several. A picture that is no larger than the tiles that are at work at the same time
# is one tile: that takes no more memory, and nothing is computed twice.
TILE = 768
# What a pixel of the mask depends on: half the window, and a pixel for the gradients.
_MASK_REACH = WINDOW // 2 + 1
# Quality factors between which the networks' say fades from all to nothing. On held-out photographs L_B loses to the plain decode from 96
# on (4:4:4, luma; chroma from 93 on), where rounding to 8 bits is most of what was lost. Texture costs more dB the better the file is: in
# full 0.4 dB at quality 10 and 0.6 dB at 40 in gray, all that L_B has won of some pictures. Fading from 10 on it costs 0.2 dB at 40, and
# still wins two thirds of the LPIPS.
BASE_FADE = (90, 96)
TEXTURE_FADE = (10, 90)


@dataclass(frozen=True)
class Decoded:
    """A restored picture and what it is made of.

    Pixels are uint8 [H, W, 3] RGB, [H, W] for a gray picture, [H, W, 4] inks (255 is full) for a CMYK one.

    Attributes:
        image: the result.
        mask: bool [H, W], where texture may replace fidelity; nowhere where the amount is 0 and the layers were not asked for.
        picture: the file as read, with its metadata.
        base_planes: the fidelity layer L_B before its projection, float32 [components, H, W], planes 0 … 255; None where the layers
            were not asked for.
        texture_planes: the texture layer L_T, likewise; None also where the texture amount is 0 and it was not computed.
        amount: of texture, 0 … 1.
        projected: whether image, base and texture are projected onto the file's quantization cells.
        consistency: share of the luma blocks of `image` that encode to the very coefficients of the file, 0 … 1; where the file is coded
            as RGB or CMYK, of the blocks of all its components. None for a picture that is no JPEG.
        projection_psnr: PSNR of the result before the projection against the one after it, dB: how far the file corrected the networks.
            None where there was no projection, or where it changed nothing.
        changed: False where nothing was to be done, because the picture shows no trace of JPEG compression.
    """

    image: Pixels
    mask: NDArray[np.bool_]
    picture: Picture
    base_planes: Float32 | None
    texture_planes: Float32 | None
    amount: float
    projected: bool
    consistency: float | None = None
    projection_psnr: float | None = None
    changed: bool = True

    @cached_property
    def base(self) -> Pixels:
        """The fidelity layer L_B as pixels, like `image`; needs the layers."""
        return to_pixels(_asked_for(self.base_planes), self.picture, self.projected)

    @cached_property
    def texture(self) -> Pixels | None:
        """The texture layer L_T as pixels, like `image`; None where it was not computed."""
        return None if self.texture_planes is None else to_pixels(self.texture_planes, self.picture, self.projected)

    @cached_property
    def fused_planes(self) -> Float32:
        """The result as planes, before projection and rounding; needs the layers."""
        base = _asked_for(self.base_planes)
        return base if self.texture_planes is None else fuse(base, self.texture_planes, self.mask, self.amount)

    def with_texture(self, amount: float, project: bool) -> Decoded:
        """The same picture with another amount of texture; needs the layers."""
        if not self.changed or self.texture_planes is None or (self.amount, self.projected) == (amount, project):
            return self
        base = _asked_for(self.base_planes)
        finished = _finish(fuse(base, self.texture_planes, self.mask, amount), self.picture, project)
        figures = _figures(finished.blocks, finished.broken, finished.correction, finished.pixels.size)
        return Decoded(finished.pixels, self.mask, self.picture, base, self.texture_planes, amount, project, *figures)


class Decoder:
    """Restores any number of pictures with one preset; the networks are loaded on first use."""

    def __init__(
        self,
        preset: str = "fast",
        threads: int | None = None,
        device: str = "cpu",
        precision: str | None = None,
    ) -> None:
        """
        Args:
            preset: one of redecode.weights.PRESETS.
            threads: on the CPU; None is one for each core.
            device: one of redecode.restoration.network.DEVICES.
            precision: one of redecode.weights.PRECISIONS; None is int8 on the CPU and float32 elsewhere.

        Raises:
            ValueError: an unknown preset, device or precision.
        """
        if preset not in weights.PRESETS:
            raise ValueError(f"preset must be one of {', '.join(weights.PRESETS)}, not {preset!r}")
        if device not in DEVICES:
            raise ValueError(f"device must be one of {', '.join(DEVICES)}, not {device!r}")
        if precision not in (None, *weights.PRECISIONS):
            raise ValueError(f"precision must be one of {', '.join(weights.PRECISIONS)}, not {precision!r}")
        self.preset = preset
        self.precision = precision or ("int8" if device == "cpu" else "float32")
        self._device, self._threads = device, threads
        self._networks: dict[str, Network] = {}
        self._loading = threading.Lock()

    def decode(
        self,
        source: Source | Picture,
        texture: float = 1.0,
        project: bool = True,
        progress: Progress | None = None,
        layers: bool = False,
        threshold: int = THRESHOLD,
    ) -> Decoded:
        """Restore a picture.

        Args:
            source: path or bytes of a file, or one that :func:`read` has read.
            texture: 0 … 1, how much of the texture layer enters where the mask allows it.
            project: whether results are projected onto the file's quantization cells.
            progress: called with the tiles done and their number, after each; what it raises ends the decoding.
            layers: keep both layers whole as well: 24 bytes for a pixel, and the texture network runs where the mask is empty, too.
            threshold: T of the mask, see :func:`redecode.restoration.mask.region_mask`; the paper's is PAPER_THRESHOLD.

        Raises:
            RedecodeError: what :func:`read` raises.
            OSError: the path cannot be read.
            ValueError: texture outside 0 … 1.
        """
        if not 0 <= texture <= 1:
            raise ValueError(f"texture must be 0 … 1, not {texture}")
        picture = source if isinstance(source, JpegImage | RasterImage) else read(_bytes(source))
        if isinstance(picture, RasterImage) and picture.trace is None:
            nowhere = np.zeros(picture.pixels.shape[:2], bool)
            return Decoded(picture.pixels, nowhere, picture, picture.planes(), None, texture, project, changed=False)
        top, left = picture.origin
        size = top + picture.height, left + picture.width
        largest = max(size) if math.prod(size) <= pipelining.WORKERS * TILE**2 else TILE
        plan = tiling.tiles(size, largest, self._halo(picture), picture.unit)
        canvas = _Canvas(picture)

        # Several tiles overlap with each other, a single one with itself: in bands, where it is not the network's turn.
        bands = 1 if self._threads == 1 or len(plan) > 1 else pipelining.WORKERS

        def work(tile: Tile) -> list[tuple[Tile, _Restored]]:
            return self._restore(picture, tile, texture, project, layers, threshold, bands)

        restored_tiles = map(work, plan) if self._threads == 1 or len(plan) == 1 else pipelining.in_order(work, plan)
        for done, restored in enumerate(restored_tiles, 1):
            for part in restored:
                canvas.paste(*part)
            if progress is not None:
                progress(done, len(plan))
        image, mask, base, layer = canvas.arrays
        consistency, correction = canvas.figures
        return Decoded(image, mask, picture, base, layer, texture, project, consistency, correction)

    def base_layer(self, picture: Picture) -> Float32:
        """L_B of a picture, in one piece: float32 [components, H, W], planes 0 … 255, neither projected nor rounded.

        Where there is a file, :func:`redecode.restoration.shrinkage.shrink` moves what the network gives further into the file's cells.
        At high qualities it is blended with the plain decode instead (see BASE_FADE).
        """
        say, plain = _say(picture, BASE_FADE), picture.planes()
        if not say:
            return plain
        restored = self._run("edge", picture, plain)
        if say < 1:
            return _blend(plain, restored, say)
        factors = self._networks["edge"].shrinkage
        if not isinstance(picture, JpegImage) or factors is None:
            return restored
        parts = picture.parts()
        layers = np.split(restored, _bounds(parts))
        return np.concatenate([shrinkage.shrink(layer, part, factors) for layer, part in zip(layers, parts, strict=True)])

    def texture_layer(self, picture: Picture, base: Float32) -> Float32:
        """L_T of a picture, like :meth:`base_layer`; at high qualities it fades into L_B (see TEXTURE_FADE)."""
        say = _say(picture, TEXTURE_FADE)
        return _blend(base, self._run("texture", picture, picture.planes()), say) if say else base

    def inference_seconds(self) -> float:
        """How long the networks have computed so far."""
        return sum(network.seconds for network in self._networks.values())

    def _restore(
        self, picture: Picture, tile: Tile, texture: float, project: bool, layers: bool, threshold: int, bands: int
    ) -> list[tuple[Tile, _Restored]]:
        """A tile, in so many bands."""
        around = picture.crop((tile.rows.start, tile.rows.stop), (tile.columns.start, tile.columns.stop))
        base = self.base_layer(around)
        parts = tile.bands(bands, picture.unit[0])
        kept = [(part.rows.kept(around.origin[0]), part.columns.kept(around.origin[1])) for part in parts]
        in_turn = map if bands == 1 else pipelining.in_order

        def select(inside: tuple[slice, slice]) -> NDArray[np.bool_]:
            return _mask(base, around, inside, threshold) if texture or layers else np.zeros_like(base[0][inside], bool)

        masks = list(in_turn(select, kept))
        # Where the mask is empty, texture changes nothing.
        needed = texture and (layers or any(mask.any() for mask in masks))
        layer = self.texture_layer(around, base) if needed else None

        def finish(index: int) -> tuple[Tile, _Restored]:
            part, mask, (rows, columns) = parts[index], masks[index], kept[index]
            own = base[:, rows, columns]
            own_texture = None if layer is None else layer[:, rows, columns]
            fused = own if own_texture is None else fuse(own, own_texture, mask, texture)
            file = picture.crop((part.rows.keep_start, part.rows.keep_stop), (part.columns.keep_start, part.columns.keep_stop))
            return part, _Restored(_finish(fused, file, project), mask, *((own, own_texture) if layers else (None, None)))

        return list(in_turn(finish, range(len(parts))))

    def _halo(self, picture: Picture) -> int:
        """What a tile's result depends on around it: the networks' halo, the mask's, and the pixels that a chroma sample covers."""
        networks = max(int(weights.record(name)["halo"]) for name in weights.PRESETS[self.preset].values())
        return networks + _MASK_REACH + max(picture.unit) // dct.BLOCK

    def _run(self, layer: str, picture: Picture, planes: Float32) -> Float32:
        with self._loading:
            if layer not in self._networks:
                name = weights.PRESETS[self.preset][layer]
                self._networks[layer] = Network(name, self._device, self.precision, self._threads)
        network = self._networks[layer]
        if isinstance(picture, RasterImage):
            return network(planes, picture.tables(), picture.origin)
        parts = picture.parts()
        layers = [network(own, part.tables()) for part, own in zip(parts, np.split(planes, _bounds(parts)), strict=True)]
        return layers[0] if len(layers) == 1 else np.concatenate(layers)


@dataclass(frozen=True)
class _Finished:
    """Pixels, and how they relate to the file.

    Attributes:
        pixels: as :class:`Decoded`.
        blocks: luma blocks, of all components for RGB and CMYK; 0 without a file.
        broken: those that do not encode to the file's coefficients.
        correction: what the projection changed, sum of squares over all samples.
    """

    pixels: Pixels
    blocks: int = 0
    broken: int = 0
    correction: int = 0


@dataclass(frozen=True)
class _Restored:
    """The kept part of a tile; the layers where they were asked for."""

    finished: _Finished
    mask: NDArray[np.bool_]
    base: Float32 | None
    texture: Float32 | None


class _Canvas:
    """Tiles put together."""

    def __init__(self, picture: Picture) -> None:
        self._picture = picture
        self._arrays: list[NDArray[Any] | None] = [None] * 4
        self._blocks = self._broken = self._correction = 0

    def paste(self, tile: Tile, restored: _Restored) -> None:
        """Add a tile."""
        top, left = self._picture.origin
        size = self._picture.height, self._picture.width
        rows = slice(max(0, tile.rows.keep_start - top), tile.rows.keep_stop - top)
        columns = slice(max(0, tile.columns.keep_start - left), tile.columns.keep_stop - left)
        parts = (restored.finished.pixels, restored.mask, restored.base, restored.texture)
        for index, part in enumerate(parts):
            if part is None:
                continue
            # Layers are [components, H, W], the rest begins with H and W.
            planar = index > 1
            if self._arrays[index] is None:
                self._arrays[index] = np.empty((len(part), *size) if planar else (*size, *part.shape[2:]), part.dtype)
            whole = self._arrays[index]
            assert whole is not None
            whole[(slice(None), rows, columns) if planar else (rows, columns)] = part
        self._blocks += restored.finished.blocks
        self._broken += restored.finished.broken
        self._correction += restored.finished.correction

    @property
    def arrays(self) -> tuple[Any, Any, Any, Any]:
        """Pixels, mask, and both layers or None."""
        image, mask, base, texture = self._arrays
        return image, mask, base, texture

    @property
    def figures(self) -> tuple[float | None, float | None]:
        """Consistency and projection PSNR, as :class:`Decoded` has them."""
        image = self._arrays[0]
        assert image is not None
        return _figures(self._blocks, self._broken, self._correction, image.size)


def _figures(blocks: int, broken: int, correction: int, samples: int) -> tuple[float | None, float | None]:
    return (blocks - broken) / blocks if blocks else None, 10 * math.log10(255**2 * samples / correction) if correction else None


def _asked_for(layer: Float32 | None) -> Float32:
    if layer is None:
        raise ValueError("the layers were not asked for: decode(..., layers=True) keeps them")
    return layer


def _mask(base: Float32, picture: Picture, kept: tuple[slice, slice], threshold: int) -> NDArray[np.bool_]:
    """The region mask of a tile's kept part, from that part and what around it the mask depends on."""
    around = [slice(max(0, part.start - _MASK_REACH), part.stop + _MASK_REACH) for part in kept]
    inside = [slice(part.start - wide.start, part.stop - wide.start) for part, wide in zip(kept, around, strict=True)]
    diversity = orientation_diversity(_luma(base[:, around[0], around[1]], picture))
    return region_mask(diversity, threshold)[inside[0], inside[1]]


def _say(picture: Picture, fade: tuple[int, int]) -> float:
    """How much a network has to say about a picture, 0 … 1, by the quality factor nearest to its luma table."""
    table = picture.components[0].table if isinstance(picture, JpegImage) else picture.tables()[0]
    quality, _ = nearest_quality(table)
    first, last = fade
    return min(1.0, max(0.0, (last - quality) / (last - first)))


def _blend(one: Float32, other: Float32, amount: float) -> Float32:
    return other if amount == 1 else one + np.float32(amount) * (other - one)


def read(data: bytes, max_pixels: int = jpeg.MAX_PIXELS, force_quality: int | None = None, as_is: bool = False) -> Picture:
    """Read a file: a JPEG, or a picture that may have been one.

    Args:
        data: the whole file.
        max_pixels: refuse files whose header claims more.
        force_quality: take a picture that is no JPEG for one of this quality factor.
        as_is: take a JPEG as it is. Else the first generation of one that was compressed twice takes its place, where it shows: to restore
            that gains about 1 dB more.

    Raises:
        RedecodeError: what :func:`redecode.codec.jpeg.read` and :func:`redecode.codec.raster.read` raise.
    """
    if not data or data[:2] == b"\xff\xd8":
        image = jpeg.read(data, max_pixels)
        earlier = None if as_is else first_generation(image)
        return earlier.image if earlier else image
    return raster.read(data, max_pixels, force_quality)


def to_pixels(planes: Float32, picture: Picture, project: bool) -> Pixels:
    """Planes of a restored picture to 8-bit pixels (see :class:`Decoded`).

    Args:
        planes: float32 [components, H, W], 0 … 255.
        picture: the file.
        project: whether they are projected onto the file's quantization cells; a picture without a file has none.
    """
    return _finish(planes, picture, project).pixels


def _finish(planes: Float32, picture: Picture, project: bool) -> _Finished:
    """Planes to pixels, see :func:`to_pixels`."""
    if not isinstance(picture, JpegImage):
        return _Finished(colour.to_uint8(colour.to_rgb(planes)))
    parts = picture.parts()
    pixels = []
    blocks = broken = correction = 0
    for part, layer in zip(parts, np.split(planes, _bounds(parts)), strict=True):
        free = colour.to_uint8(colour.to_rgb(layer))
        if project:
            rendered, count = projection.render(layer, part)
            moved = np.subtract(rendered, free, dtype=np.int16).ravel()
            correction += int(np.einsum("i,i", moved, moved, dtype=np.int64))
        else:
            rendered, count = free, int(np.count_nonzero(~projection.consistent_blocks(free, part)))
        pixels.append(rendered)
        blocks += part.components[0].coefficients[..., 0, 0].size
        broken += count
    whole = pixels[0] if len(pixels) == 1 else _inks(np.concatenate([p.reshape(*p.shape[:2], -1) for p in pixels], axis=2), picture)
    return _Finished(whole, blocks, broken, correction)


def to_deep_pixels(planes: Float32, picture: Picture, project: bool) -> NDArray[np.uint16]:
    """Like :func:`to_pixels`, but 16 bits for each channel, 0 … 65535, of gray and YCbCr pictures.

    Raises:
        UnsupportedError: another colour model.
    """
    if isinstance(picture, JpegImage):
        if picture.colour_model not in ("gray", "YCbCr"):
            raise UnsupportedError(f"16 bits are for gray and RGB pictures, not for {picture.colour_model}-coded files")
        planes = projection.project(planes, picture) if project else planes
    deep: NDArray[np.uint16] = np.clip(np.rint(colour.to_rgb(planes) * np.float32(257)), 0, 65535).astype(np.uint16, order="C")
    return deep


def _inks(pixels: Pixels, image: JpegImage) -> Pixels:
    """Stored samples of a CMYK file to inks, or back: Adobe inverts them, in YCCK only the last."""
    if image.colour_model == "CMYK":
        return 255 - pixels
    if image.colour_model == "YCCK":
        return np.concatenate([pixels[..., :3], 255 - pixels[..., 3:]], axis=2)
    return pixels


def _bounds(parts: tuple[JpegImage, ...]) -> list[int]:
    """Where the components of every part but the first begin."""
    return list(itertools.accumulate(len(part.components) for part in parts))[:-1]


def _luma(planes: Float32, picture: Picture) -> Float32:
    """What the mask is made from: the luma, for RGB and (inverted) CMYK the usual weights of their channels."""
    if isinstance(picture, JpegImage) and picture.colour_model in ("RGB", "CMYK"):
        luma: Float32 = np.tensordot(colour.RGB_TO_YCBCR[0], planes[:3], 1)
        return luma
    first: Float32 = planes[0]
    return first


def _bytes(source: Source) -> bytes:
    return source if isinstance(source, bytes) else Path(source).read_bytes()
