"""The decoder: the whole flow from the bytes of a file to restored pixels.

A picture is restored tile by tile: each tile is decoded, restored, fused, projected and written into the result. So memory holds the
picture's coefficients and its 8-bit result, but not the float planes of the whole picture.
"""

from __future__ import annotations

import functools
import math
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import pipelining, weights
from .codec import dct
from .codec.jpeg import scales
from .codec.picture import Picture, by_past, scaling_of
from .codec.quality import nearest_quality
from .codec.raster import RasterImage
from .codec.rescaling import REACH, at_earlier_size
from .codec.source import Source, picture_of
from .codec.trace import Scaling
from .restoration import shrinkage, tiling
from .restoration.canvas import Canvas, Restored
from .restoration.contradiction import believe
from .restoration.exact import keep_exact
from .restoration.fusion import fuse
from .restoration.mask import THRESHOLD, WINDOW, orientation_diversity, region_mask
from .restoration.network import DEVICES, Network
from .restoration.render import by_part, luma, render
from .restoration.tiling import Progress, Tile
from .result import Decoded
from .weights import DEFAULT_PRESET, Precision, Preset

Float32 = NDArray[np.float32]

# Maximum side in pixels of the kept part of a tile. A picture with no more pixels than the tiles in progress at a time is a single tile:
# that needs no more memory, and computes no pixel twice.
TILE = 768
# Radius around a pixel that its mask value depends on: half the window, and a pixel for the gradients.
_MASK_REACH = WINDOW // 2 + 1
# Quality factors between which the weight of a network's result falls from 1 to 0. On held-out photographs L_B is worse than the plain
# decode from quality 96 on (4:4:4, luma; chroma from 93 on), where most of the loss is rounding to 8 bits. Full texture costs more dB at
# higher qualities: 0.4 dB at quality 10 and 0.6 dB at 40 in gray, which for some pictures is all that L_B gains. Blended from 10 on, it
# costs 0.2 dB at 40 and keeps two thirds of the gain in LPIPS.
BASE_BLEND = (90, 96)
TEXTURE_BLEND = (10, 90)


class Decoder:
    """Restores pictures with the networks of a preset, which are loaded on first use."""

    def __init__(
        self,
        preset: Preset = DEFAULT_PRESET,
        threads: int | None = None,
        device: str = "cpu",
        precision: Precision | None = None,
    ) -> None:
        """
        Args:
            preset: "fast" or "best".
            threads: number of threads on the CPU; None for one per core.
            device: one of redecode.restoration.network.DEVICES.
            precision: one of redecode.weights.PRECISIONS; None for int8 on the CPU and float32 elsewhere.

        Raises:
            ValueError: the preset, device or precision is unknown.
        """
        if preset not in weights.PRESETS:
            raise ValueError(f"preset must be one of {', '.join(weights.PRESETS)}, not {preset!r}")
        if device not in DEVICES:
            raise ValueError(f"device must be one of {', '.join(DEVICES)}, not {device!r}")
        if precision not in (None, *weights.PRECISIONS):
            raise ValueError(f"precision must be one of {', '.join(weights.PRECISIONS)}, not {precision!r}")
        self.preset = preset
        self.precision: Precision = precision or ("int8" if device == "cpu" else "float32")
        self._device, self._threads = device, threads
        self._networks: dict[str, Network] = {}
        self._loading = threading.Lock()

    def decode(
        self,
        source: Source,
        texture: float = 1.0,
        project: bool = True,
        progress: Progress | None = None,
        layers: bool | Path = False,
        threshold: int = THRESHOLD,
    ) -> Decoded:
        """Restore a picture.

        Args:
            source: a path, bytes, an open file, a Pillow image or a uint8 array, see :func:`redecode.codec.source.picture_of`.
            texture: amount of texture, 0 … 1, where the mask selects texture.
            project: whether to project the results onto the file's quantization cells.
            progress: function called after each tile with the number of tiles done and their total number; its errors end the decoding.
            layers: whether to keep both layers: this takes 24 bytes per pixel, and the texture network also runs where the mask is empty.
                A folder keeps them in its files base.npy and texture.npy instead of in memory.
            threshold: threshold T of the mask, see :func:`redecode.restoration.mask.region_mask`; the paper's is PAPER_THRESHOLD.

        Returns:
            The restored picture.

        Raises:
            RedecodeError: the picture cannot be read.
            OSError: the path cannot be read.
            ValueError: texture is outside 0 … 1.
        """
        if not 0 <= texture <= 1:
            raise ValueError(f"texture must be 0 … 1, not {texture}")
        picture = picture_of(source)
        if isinstance(picture, RasterImage) and not picture.compressed:
            # The result is the picture's own pixels, without any change and without memory for planes.
            nowhere = np.zeros((picture.height, picture.width), bool)
            plain = picture.planes() if layers else None
            return Decoded(picture.pixels, nowhere, picture, plain, None, texture, project, changed=False)
        top, left = picture.origin
        size = top + picture.height, left + picture.width
        largest = max(size) if math.prod(size) <= pipelining.WORKERS * TILE**2 else TILE
        plan = tiling.tiles(size, largest, halo(self.preset, picture.unit, scaling_of(picture)), picture.unit)
        canvas = Canvas(picture, layers if isinstance(layers, Path) else None)
        keep = bool(layers)

        # Several tiles are pipelined with each other. A single tile is split into strips, which are pipelined outside the networks.
        strips = 1 if self._threads == 1 or len(plan) > 1 else pipelining.WORKERS

        def work(tile: Tile) -> list[tuple[Tile, Restored]]:
            return self._restore(picture, tile, texture, project, keep, threshold, strips)

        restored_tiles = map(work, plan) if self._threads == 1 or len(plan) == 1 else pipelining.in_order(work, plan)
        for done, restored in enumerate(restored_tiles, 1):
            for part in restored:
                canvas.paste(*part)
            if progress is not None:
                progress(done, len(plan))
        image, mask, base, layer = canvas.arrays
        return Decoded(image, mask, picture, base, layer, texture, project, *canvas.figures)

    def decode_many(self, sources: Iterable[Source], **choices: Any) -> Iterator[Decoded]:
        """Restore several pictures and yield them in order; while one is restored, the next one is read.

        Args:
            sources: sources of pictures, see :meth:`decode`.
            choices: further arguments of :meth:`decode`.

        Raises:
            RedecodeError, OSError: a picture cannot be restored; raised in place of its result, and the pictures after it are dropped.

        Examples:
            >>> from pathlib import Path
            >>> paths = [Path("examples/parrots-q10.jpg")]
            >>> for path, decoded in zip(paths, redecode.Decoder().decode_many(paths, texture=0)):
            ...     decoded.save(path.with_suffix(".png"))
        """
        work = functools.partial(self.decode, **choices)
        return map(work, sources) if self._threads == 1 else pipelining.in_order(work, sources)

    def base_layer(self, picture: Picture) -> Float32:
        """L_B of a picture, in one piece: float32 [components, H, W], planes 0 … 255, neither projected nor rounded.

        Where there is a file, :func:`redecode.restoration.shrinkage.shrink` moves what the network gives further into the file's cells.
        At high qualities it is blended with the plain decode instead (see BASE_BLEND). Where an earlier compression shows, it is L_B of
        that.
        """
        if (times := by_past(picture)) is not None:
            return _joined(times, self.base_layer)
        if not picture.compressed:
            return picture.planes()
        weight = _weight(picture, BASE_BLEND)
        network = self._network("edge") if weight else None

        def restored(part: Picture, plain: Float32) -> Float32:
            if network is None:
                return _exact(plain.copy(), plain, part)
            layer = believe(network(plain, part.tables(), part.origin), plain, part.tables(), part.origin)
            if weight < 1:
                layer = _blend(plain, layer, weight)
            elif part.cells is not None and network.shrinkage is not None:
                layer = shrinkage.shrink(layer, part.cells, network.shrinkage)
            return _exact(layer, plain, part)

        return _by_part(picture, restored)

    def texture_layer(self, picture: Picture, base: Float32) -> Float32:
        """L_T of a picture, like :meth:`base_layer`; the higher the quality, the more it is blended with L_B (see TEXTURE_BLEND)."""
        if (times := by_past(picture)) is not None:
            return _joined(times, lambda own: self.texture_layer(own, base))
        if not picture.compressed:
            return base
        weight = _weight(picture, TEXTURE_BLEND)
        if not weight:
            return base
        network = self._network("texture")

        def restored(part: Picture, plain: Float32) -> Float32:
            return _exact(network(plain, part.tables(), part.origin), plain, part)

        return _blend(base, _by_part(picture, restored), weight)

    def inference_seconds(self) -> float:
        """How long the networks have computed so far."""
        return sum(network.seconds for network in self._networks.values())

    def _restore(
        self, picture: Picture, tile: Tile, texture: float, project: bool, layers: bool, threshold: int, strips: int
    ) -> list[tuple[Tile, Restored]]:
        """A tile, in this number of strips."""
        around = picture.crop((tile.rows.start, tile.rows.stop), (tile.columns.start, tile.columns.stop))
        base = self.base_layer(around)
        parts = tile.strips(strips, picture.unit[0])
        kept = [(part.rows.kept(around.origin[0]), part.columns.kept(around.origin[1])) for part in parts]
        in_turn = map if strips == 1 else pipelining.in_order

        def select(inside: tuple[slice, slice]) -> NDArray[np.bool_]:
            return _mask(base, around, inside, threshold) if texture or layers else np.zeros_like(base[0][inside], bool)

        masks = list(in_turn(select, kept))
        # Where the mask is empty, texture changes nothing.
        needed = texture and (layers or any(mask.any() for mask in masks))
        layer = self.texture_layer(around, base) if needed else None
        plain = functools.cache(around.planes)

        def finish(index: int) -> tuple[Tile, Restored]:
            part, mask, (rows, columns) = parts[index], masks[index], kept[index]
            own = base[:, rows, columns]
            own_texture = None if layer is None else layer[:, rows, columns]
            fused = own if own_texture is None else fuse(own, own_texture, mask, texture)
            file = picture.crop((part.rows.keep_start, part.rows.keep_stop), (part.columns.keep_start, part.columns.keep_stop))
            rendered = render(fused, file, project, lambda: plain()[:, rows, columns])
            return part, Restored(rendered, mask, *((own, own_texture) if layers else (None, None)))

        return list(in_turn(finish, range(len(parts))))

    def _network(self, layer: str) -> Network:
        with self._loading:
            if layer not in self._networks:
                name = weights.PRESETS[self.preset][layer]
                self._networks[layer] = Network(name, self._device, self.precision, self._threads)
        return self._networks[layer]


def _exact(restored: Float32, plain: Float32, part: Picture) -> Float32:
    """The plain decode of a part of a picture, where that is exact, see :func:`keep_exact`."""
    return keep_exact(restored, plain, part.tables(), part.origin, None if part.cells is None else scales(part.cells))


def _by_part(picture: Picture, restored: Callable[[Picture, Float32], Float32]) -> Float32:
    """The planes of a picture, each part restored by itself, at the size at which it was compressed."""
    scaling = scaling_of(picture)
    if scaling is None:
        return by_part(picture.planes(), picture, restored)
    return at_earlier_size(picture.planes(), scaling, functools.partial(restored, picture))


def halo(preset: Preset, unit: tuple[int, int], scaling: Scaling | None = None) -> int:
    """Width in pixels of the border around a tile that its result depends on: for the networks, the mask, and chroma upsampling.

    Args:
        preset: preset of the networks.
        unit: unit of the picture, see :class:`redecode.codec.picture.Picture`.
        scaling: scaling of the picture since the compression that is restored, if there was one.
    """
    networks = max(int(weights.record(name)["halo"]) for name in weights.PRESETS[preset].values())
    if scaling is not None:
        networks = math.ceil((networks + REACH) * max(1.0, *scaling.factors))
    return networks + _MASK_REACH + max(unit) // dct.BLOCK


def _mask(base: Float32, picture: Picture, kept: tuple[slice, slice], threshold: int) -> NDArray[np.bool_]:
    """The region mask of the kept part of a tile, computed from that part and the border that the mask depends on."""
    around = [slice(max(0, part.start - _MASK_REACH), part.stop + _MASK_REACH) for part in kept]
    inside = [slice(part.start - wide.start, part.stop - wide.start) for part, wide in zip(kept, around, strict=True)]
    diversity = orientation_diversity(luma(base[:, around[0], around[1]], picture))
    return region_mask(diversity, threshold)[inside[0], inside[1]]


def _joined(times: tuple[Picture, Picture, NDArray[np.bool_]], layer: Callable[[Picture], Float32]) -> Float32:
    """Combine a layer of the earlier compression with the same layer of the picture as it is, see :func:`by_past`."""
    earlier, as_is, where = times
    return layer(earlier) if where.all() else np.where(where, layer(earlier), layer(as_is))


def _weight(picture: Picture, blend: tuple[int, int]) -> float:
    """The weight of a network's result, 0 … 1, for the quality factor nearest to the picture's luma table."""
    quality, _ = nearest_quality(picture.tables()[0])
    full, none = blend
    return min(1.0, max(0.0, (none - quality) / (none - full)))


def _blend(one: Float32, other: Float32, amount: float) -> Float32:
    return other if amount == 1 else one + np.float32(amount) * (other - one)
