"""The whole flow, from the bytes of a JPEG to restored pixels, with ONNX Runtime as the engine."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from . import colour, jpeg, projection, tiling, weights
from .fusion import fuse
from .jpeg import JpegImage
from .mask import orientation_diversity, region_mask

Float32 = NDArray[np.float32]
Pixels = NDArray[np.uint8]
Source = str | os.PathLike[str] | bytes

TILE = 512


@dataclass(frozen=True)
class Decoded:
    """A restored picture and what it is made of.

    Attributes:
        image: the result, uint8 [H, W, 3] RGB, or [H, W] for a gray file.
        mask: bool [H, W], where texture may replace fidelity.
        jpeg: the file as parsed, with its metadata.
        base_planes: the fidelity layer L_B as the network gives it, float32 [components, H, W], planes 0 … 255.
        texture_planes: the texture layer L_T, likewise; None where the texture amount is 0 and it was not computed.
        projected: whether image, base and texture are projected onto the file's quantization cells.
    """

    image: Pixels
    mask: NDArray[np.bool_]
    jpeg: JpegImage
    base_planes: Float32
    texture_planes: Float32 | None
    projected: bool

    @cached_property
    def base(self) -> Pixels:
        """The fidelity layer L_B as pixels, like `image`."""
        return to_pixels(self.base_planes, self.jpeg, self.projected)

    @cached_property
    def texture(self) -> Pixels | None:
        """The texture layer L_T as pixels, like `image`; None where it was not computed."""
        return None if self.texture_planes is None else to_pixels(self.texture_planes, self.jpeg, self.projected)

    @cached_property
    def consistency(self) -> float:
        """Share of the luma blocks of `image` that encode to the very coefficients of the file, 0 … 1."""
        return float(projection.consistent_blocks(self.image, self.jpeg).mean())


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

    def decode(self, source: Source | JpegImage, texture: float = 1.0, project: bool = True) -> Decoded:
        """Restore a picture.

        Args:
            source: path or bytes of a JPEG, or one that :func:`redecode.jpeg.read` has read.
            texture: 0 … 1, how much of the texture layer enters where the mask allows it.
            project: whether results are projected onto the file's quantization cells.

        Raises:
            RedecodeError: what :func:`redecode.jpeg.read` raises.
            OSError: the path cannot be read.
            ValueError: texture outside 0 … 1.
        """
        if not 0 <= texture <= 1:
            raise ValueError(f"texture must be 0 … 1, not {texture}")
        image = source if isinstance(source, JpegImage) else jpeg.read(_bytes(source))
        base = self.base_layer(image)
        mask = region_mask(orientation_diversity(base[0]))
        layer = self.texture_layer(image) if texture else None
        fused = base if layer is None else fuse(base, layer, mask, texture)
        return Decoded(to_pixels(fused, image, project), mask, image, base, layer, project)

    def base_layer(self, image: JpegImage) -> Float32:
        """L_B of a parsed file: float32 [components, H, W], planes 0 … 255, neither projected nor rounded."""
        return self._restore(self._edge, image)

    def texture_layer(self, image: JpegImage) -> Float32:
        """L_T of a parsed file, like :meth:`base_layer`."""
        return self._restore(self._texture, image)

    @cached_property
    def _edge(self) -> _Network:
        return _Network(weights.load(f"{self.preset}-edge"), self._threads)

    @cached_property
    def _texture(self) -> _Network:
        return _Network(weights.load(f"{self.preset}-texture"), self._threads)

    @staticmethod
    def _restore(network: _Network, image: JpegImage) -> Float32:
        planes = image.planes()
        scaled = (planes - 128) / np.float32(255)
        if image.gray:
            # The networks take three planes; a gray picture has no chroma.
            scaled = np.concatenate([scaled, np.zeros((2, *scaled.shape[1:]), np.float32)])
        restored: Float32 = tiling.run(network.bind(image.tables()), scaled, TILE, network.halo)[: len(planes)]
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


def to_pixels(planes: Float32, image: JpegImage, project: bool) -> Pixels:
    """Planes of a restored picture to 8-bit pixels, projected onto the file's quantization cells or not."""
    return projection.to_pixels(planes, image) if project else colour.to_uint8(colour.to_rgb(planes))


def _bytes(source: Source) -> bytes:
    return source if isinstance(source, bytes) else Path(source).read_bytes()
