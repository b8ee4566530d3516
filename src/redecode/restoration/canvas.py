"""The canvas: joins restored tiles into a picture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..codec.picture import Picture
from .mapped import release
from .render import Figures, Rendered, figures
from .repair import Tally
from .tiling import Tile

Float32 = NDArray[np.float32]


@dataclass(frozen=True)
class Restored:
    """The kept part of a restored tile.

    Attributes:
        rendered: the pixels, with measurements.
        mask: where texture is used, bool [H, W].
        base: fidelity layer L_B, float32 [components, H, W]; None if the layers are not kept.
        texture: texture layer L_T, likewise.
    """

    rendered: Rendered
    mask: NDArray[np.bool_]
    base: Float32 | None
    texture: Float32 | None


class Canvas:
    """The arrays of a whole picture, filled tile by tile."""

    def __init__(self, picture: Picture, folder: Path | None = None) -> None:
        """
        Args:
            picture: the picture that is restored.
            folder: folder for the layers, as files base.npy and texture.npy; None to keep them in memory.
        """
        self._picture = picture
        self._folder = folder
        self._arrays: list[NDArray[Any] | None] = [None] * 4
        self._tally, self._correction = Tally(), 0

    def paste(self, tile: Tile, restored: Restored) -> None:
        """Write a restored tile into the arrays."""
        top, left = self._picture.origin
        size = self._picture.height, self._picture.width
        rows = slice(max(0, tile.rows.keep_start - top), tile.rows.keep_stop - top)
        columns = slice(max(0, tile.columns.keep_start - left), tile.columns.keep_stop - left)
        parts = (restored.rendered.pixels, restored.mask, restored.base, restored.texture)
        for index, part in enumerate(parts):
            if part is None:
                continue
            # Layers are [components, H, W], the other arrays [H, W, ...].
            planar = index > 1
            if self._arrays[index] is None:
                self._arrays[index] = (
                    self._layer(("base", "texture")[index - 2], (len(part), *size))
                    if planar
                    else np.empty((*size, *part.shape[2:]), part.dtype)
                )
            whole = self._arrays[index]
            assert whole is not None
            whole[(slice(None), rows, columns) if planar else (rows, columns)] = part
            release(whole)
        self._tally += restored.rendered.tally
        self._correction += restored.rendered.correction

    def _layer(self, name: str, shape: tuple[int, ...]) -> Float32:
        if self._folder is None:
            return np.empty(shape, np.float32)
        layer: Float32 = np.lib.format.open_memmap(self._folder / f"{name}.npy", "w+", np.float32, shape)
        return layer

    @property
    def arrays(self) -> tuple[Any, Any, Any, Any]:
        """Pixels, mask, base layer and texture layer; layers that are not kept are None."""
        image, mask, base, texture = self._arrays
        return image, mask, base, texture

    @property
    def figures(self) -> Figures:
        """Figures that compare the picture with its file."""
        image = self._arrays[0]
        assert image is not None
        return figures(self._tally, self._correction, image.size)
