"""The tiles of a picture, put together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..codec.picture import Picture
from .render import Figures, Rendered, figures
from .repair import Tally
from .tiling import Tile

Float32 = NDArray[np.float32]


@dataclass(frozen=True)
class Restored:
    """The kept part of a tile.

    Attributes:
        rendered: its pixels.
        mask: bool [H, W].
        base: L_B, float32 [components, H, W]; None where the layers were not asked for.
        texture: L_T, likewise.
    """

    rendered: Rendered
    mask: NDArray[np.bool_]
    base: Float32 | None
    texture: Float32 | None


class Canvas:
    """A whole picture, tile by tile."""

    def __init__(self, picture: Picture, folder: Path | None = None) -> None:
        """
        Args:
            picture: what the tiles are of.
            folder: keep the layers here, in base.npy and texture.npy, and not in memory.
        """
        self._picture = picture
        self._folder = folder
        self._arrays: list[NDArray[Any] | None] = [None] * 4
        self._tally, self._correction = Tally(), 0

    def paste(self, tile: Tile, restored: Restored) -> None:
        """Add a tile."""
        top, left = self._picture.origin
        size = self._picture.height, self._picture.width
        rows = slice(max(0, tile.rows.keep_start - top), tile.rows.keep_stop - top)
        columns = slice(max(0, tile.columns.keep_start - left), tile.columns.keep_stop - left)
        parts = (restored.rendered.pixels, restored.mask, restored.base, restored.texture)
        for index, part in enumerate(parts):
            if part is None:
                continue
            # Layers are [components, H, W], the rest begins with H and W.
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
        self._tally += restored.rendered.tally
        self._correction += restored.rendered.correction

    def _layer(self, name: str, shape: tuple[int, ...]) -> Float32:
        if self._folder is None:
            return np.empty(shape, np.float32)
        layer: Float32 = np.lib.format.open_memmap(self._folder / f"{name}.npy", "w+", np.float32, shape)
        return layer

    @property
    def arrays(self) -> tuple[Any, Any, Any, Any]:
        """Pixels, mask, and both layers or None."""
        image, mask, base, texture = self._arrays
        return image, mask, base, texture

    @property
    def figures(self) -> Figures:
        """How the picture relates to its file."""
        image = self._arrays[0]
        assert image is not None
        return figures(self._tally, self._correction, image.size)
