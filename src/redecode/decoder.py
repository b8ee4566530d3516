"""The whole flow, from the bytes of a file to restored pixels, with ONNX Runtime as the engine."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from . import colour, jpeg, projection, raster, tiling, weights
from .errors import UnsupportedError
from .estimation import nearest_quality
from .fusion import fuse
from .generations import first_generation
from .jpeg import JpegImage
from .mask import orientation_diversity, region_mask
from .raster import RasterImage
from .tiling import Progress

Float32 = NDArray[np.float32]
Pixels = NDArray[np.uint8]
Picture = JpegImage | RasterImage
Source = str | os.PathLike[str] | bytes

TILE = 512
# Quality factors between which the networks' say fades from all to nothing. On held-out photographs L_B loses to the plain decode from 96
# on (4:4:4, luma; chroma from 93 on), where rounding to 8 bits is most of what was lost; the texture network has seen nothing beyond 50.
BASE_FADE = (90, 96)
TEXTURE_FADE = (60, 90)


@dataclass(frozen=True)
class Decoded:
    """A restored picture and what it is made of.

    Pixels are uint8 [H, W, 3] RGB, [H, W] for a gray picture, [H, W, 4] inks (255 is full) for a CMYK one.

    Attributes:
        image: the result.
        mask: bool [H, W], where texture may replace fidelity.
        picture: the file as read, with its metadata.
        base_planes: the fidelity layer L_B as the network gives it, float32 [components, H, W], planes 0 … 255.
        texture_planes: the texture layer L_T, likewise; None where the texture amount is 0 and it was not computed.
        amount: of texture, 0 … 1.
        projected: whether image, base and texture are projected onto the file's quantization cells.
        changed: False where nothing was to be done, because the picture shows no trace of JPEG compression.
    """

    image: Pixels
    mask: NDArray[np.bool_]
    picture: Picture
    base_planes: Float32
    texture_planes: Float32 | None
    amount: float
    projected: bool
    changed: bool = True

    @cached_property
    def base(self) -> Pixels:
        """The fidelity layer L_B as pixels, like `image`."""
        return to_pixels(self.base_planes, self.picture, self.projected)

    @cached_property
    def texture(self) -> Pixels | None:
        """The texture layer L_T as pixels, like `image`; None where it was not computed."""
        return None if self.texture_planes is None else to_pixels(self.texture_planes, self.picture, self.projected)

    @cached_property
    def fused_planes(self) -> Float32:
        """The result as planes, before projection and rounding."""
        return _fuse(self.base_planes, self.texture_planes, self.mask, self.amount)

    @cached_property
    def consistency(self) -> float | None:
        """Share of the luma blocks of `image` that encode to the very coefficients of the file, 0 … 1.

        Where the file is coded as RGB or CMYK: of the blocks of all its components. None for a picture that is no JPEG.
        """
        if not isinstance(self.picture, JpegImage):
            return None
        parts = self.picture.parts()
        stored = _split(_inks(self.image, self.picture), parts)
        blocks = [projection.consistent_blocks(pixels, part) for pixels, part in zip(stored, parts, strict=True)]
        return float(np.concatenate([b.ravel() for b in blocks]).mean())

    @cached_property
    def projection_psnr(self) -> float | None:
        """PSNR of the result before the projection against the one after it, dB: how far the file corrected the networks.

        None where there was no projection, or where it changed nothing.
        """
        if not (self.projected and self.changed and isinstance(self.picture, JpegImage)):
            return None
        free = to_pixels(self.fused_planes, self.picture, project=False)
        error = float(np.square(free.astype(np.float32) - self.image).mean())
        return 10 * math.log10(255**2 / error) if error else None


class Decoder:
    """Restores any number of pictures with one preset; the networks are loaded on first use."""

    def __init__(self, preset: str = "fast", threads: int | None = None) -> None:
        """
        Args:
            preset: one of redecode.weights.PRESETS.
            threads: for one inference; None leaves the choice to ONNX Runtime (all cores).

        Raises:
            ValueError: unknown preset.
        """
        if preset not in weights.PRESETS:
            raise ValueError(f"preset must be one of {', '.join(weights.PRESETS)}, not {preset!r}")
        self.preset = preset
        self._threads = threads

    def decode(self, source: Source | Picture, texture: float = 1.0, project: bool = True, progress: Progress | None = None) -> Decoded:
        """Restore a picture.

        Args:
            source: path or bytes of a file, or one that :func:`read` has read.
            texture: 0 … 1, how much of the texture layer enters where the mask allows it.
            project: whether results are projected onto the file's quantization cells.
            progress: called with the tiles done and their number, after each; what it raises ends the decoding.

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
        runs = 2 if texture and _say(picture, TEXTURE_FADE) else 1
        base = self.base_layer(picture, _share(progress, 0, runs))
        mask = region_mask(orientation_diversity(_luma(base, picture)))
        layer = self.texture_layer(picture, base, _share(progress, 1, runs)) if texture else None
        return Decoded(to_pixels(_fuse(base, layer, mask, texture), picture, project), mask, picture, base, layer, texture, project)

    def base_layer(self, picture: Picture, progress: Progress | None = None) -> Float32:
        """L_B of a picture: float32 [components, H, W], planes 0 … 255, neither projected nor rounded.

        At high qualities it fades into the plain decode (see BASE_FADE).
        """
        say, plain = _say(picture, BASE_FADE), picture.planes()
        return _blend(plain, self._restore(self._edge, picture, progress), say) if say else plain

    def texture_layer(self, picture: Picture, base: Float32, progress: Progress | None = None) -> Float32:
        """L_T of a picture, like :meth:`base_layer`; at high qualities it fades into L_B (see TEXTURE_FADE)."""
        say = _say(picture, TEXTURE_FADE)
        return _blend(base, self._restore(self._texture, picture, progress), say) if say else base

    @cached_property
    def _edge(self) -> _Network:
        return _Network(weights.load(f"{self.preset}-edge"), self._threads)

    @cached_property
    def _texture(self) -> _Network:
        return _Network(weights.load(f"{self.preset}-texture"), self._threads)

    @staticmethod
    def _restore(network: _Network, picture: Picture, progress: Progress | None) -> Float32:
        if isinstance(picture, RasterImage):
            return _restore_planes(network, picture.planes(), picture.tables(), progress, picture.origin)
        parts = picture.parts()
        layers = [_restore_planes(network, p.planes(), p.tables(), _share(progress, i, len(parts))) for i, p in enumerate(parts)]
        return layers[0] if len(layers) == 1 else np.concatenate(layers)


def _say(picture: Picture, fade: tuple[int, int]) -> float:
    """How much a network has to say about a picture, 0 … 1, by the quality factor nearest to its luma table."""
    table = picture.components[0].table if isinstance(picture, JpegImage) else picture.tables()[0]
    quality, _ = nearest_quality(table)
    first, last = fade
    return min(1.0, max(0.0, (last - quality) / (last - first)))


def _blend(one: Float32, other: Float32, amount: float) -> Float32:
    return other if amount == 1 else one + np.float32(amount) * (other - one)


def _share(progress: Progress | None, index: int, runs: int) -> Progress | None:
    """The progress of one of several runs over the same tiles, as part of the whole."""
    return None if progress is None else lambda done, total: progress(index * total + done, runs * total)


def _restore_planes(
    network: _Network, planes: Float32, tables: NDArray[np.uint16], progress: Progress | None, origin: tuple[int, int] = (0, 0)
) -> Float32:
    scaled = (planes - 128) / np.float32(255)
    if len(planes) == 1:
        # The networks take three planes; a gray picture has no chroma.
        scaled = np.concatenate([scaled, np.zeros((2, *scaled.shape[1:]), np.float32)])
    top, left = origin
    scaled = np.pad(scaled, [(0, 0), (top, 0), (left, 0)], mode="edge") if top or left else scaled
    restored: Float32 = tiling.run(network.bind(tables), scaled, TILE, network.halo, progress)[: len(planes), top:, left:]
    restored *= np.float32(255)
    restored += np.float32(128)
    return restored


class _Network:
    def __init__(self, network: weights.Weights, threads: int | None) -> None:
        options = onnxruntime.SessionOptions()
        # The arena never gives memory back, and tiles at the borders come in several shapes.
        options.enable_cpu_mem_arena = False
        options.enable_mem_pattern = False
        options.log_severity_level = 3
        if threads is not None:
            options.intra_op_num_threads = threads
        self.halo = network.halo
        self._session = onnxruntime.InferenceSession(network.onnx, options, providers=["CPUExecutionProvider"])

    def bind(self, tables: NDArray[np.uint16]) -> Callable[[Float32], Float32]:
        """The network as a function of a tile's planes, [3, h, w] to [3, h, w]."""
        steps = tables.astype(np.float32)[None]

        def restore(tile: Float32) -> Float32:
            result: list[Float32] = self._session.run(None, {"planes": tile[None], "tables": steps})
            restored: Float32 = result[0][0]
            return restored

        return restore


def read(data: bytes, max_pixels: int = jpeg.MAX_PIXELS, force_quality: int | None = None, as_is: bool = False) -> Picture:
    """Read a file: a JPEG, or a picture that may have been one.

    Args:
        data: the whole file.
        max_pixels: refuse files whose header claims more.
        force_quality: take a picture that is no JPEG for one of this quality factor.
        as_is: take a JPEG as it is. Else the first generation of one that was compressed twice takes its place, where it shows: to restore
            that gains about 1 dB more.

    Raises:
        RedecodeError: what :func:`redecode.jpeg.read` and :func:`redecode.raster.read` raise.
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
    if not isinstance(picture, JpegImage):
        return colour.to_uint8(colour.to_rgb(planes))
    parts = picture.parts()
    pixels = []
    for part, layer in zip(parts, np.split(planes, _bounds(parts)), strict=True):
        pixels.append(projection.to_pixels(layer, part) if project else colour.to_uint8(colour.to_rgb(layer)))
    if len(pixels) == 1:
        return pixels[0]
    return _inks(np.concatenate([p.reshape(*p.shape[:2], -1) for p in pixels], axis=2), picture)


def to_deep_pixels(planes: Float32, picture: Picture, project: bool) -> NDArray[np.uint16]:
    """Like :func:`to_pixels`, but 16 bits for each channel, 0 … 65535, of gray and YCbCr pictures.

    Raises:
        UnsupportedError: another colour model.
    """
    if isinstance(picture, JpegImage):
        if picture.colour_model not in ("gray", "YCbCr"):
            raise UnsupportedError(f"16 bits are for gray and RGB pictures, not for {picture.colour_model}-coded files")
        planes = projection.project(planes, picture) if project else planes
    deep: NDArray[np.uint16] = np.clip(np.rint(colour.to_rgb(planes) * np.float32(257)), 0, 65535).astype(np.uint16)
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


def _split(pixels: Pixels, parts: tuple[JpegImage, ...]) -> list[Pixels]:
    if len(parts) == 1:
        return [pixels]
    channels = np.split(pixels, _bounds(parts), axis=2)
    return [c[..., 0] if c.shape[2] == 1 else c for c in channels]


def _luma(planes: Float32, picture: Picture) -> Float32:
    """What the mask is made from: the luma, for RGB and (inverted) CMYK the usual weights of their channels."""
    if isinstance(picture, JpegImage) and picture.colour_model in ("RGB", "CMYK"):
        luma: Float32 = np.tensordot(colour.RGB_TO_YCBCR[0], planes[:3], 1)
        return luma
    first: Float32 = planes[0]
    return first


def _fuse(base: Float32, layer: Float32 | None, mask: NDArray[np.bool_], amount: float) -> Float32:
    return base if layer is None else fuse(base, layer, mask, amount)


def _bytes(source: Source) -> bytes:
    return source if isinstance(source, bytes) else Path(source).read_bytes()
