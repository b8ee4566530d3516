"""What :meth:`redecode.Decoder.decode` gives back."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from .codec.picture import Picture
from .restoration.fusion import fuse
from .restoration.render import figures, render, to_pixels

Float32 = NDArray[np.float32]
Pixels = NDArray[np.uint8]


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
        return to_pixels(_kept(self.base_planes), self.picture, self.projected)

    @cached_property
    def texture(self) -> Pixels | None:
        """The texture layer L_T as pixels, like `image`; None where it was not computed."""
        return None if self.texture_planes is None else to_pixels(self.texture_planes, self.picture, self.projected)

    @cached_property
    def fused_planes(self) -> Float32:
        """The result as planes, before projection and rounding; needs the layers."""
        base = _kept(self.base_planes)
        return base if self.texture_planes is None else fuse(base, self.texture_planes, self.mask, self.amount)

    def with_texture(self, amount: float, project: bool) -> Decoded:
        """The same picture with another amount of texture; needs the layers."""
        if not self.changed or self.texture_planes is None or (self.amount, self.projected) == (amount, project):
            return self
        base = _kept(self.base_planes)
        rendered = render(fuse(base, self.texture_planes, self.mask, amount), self.picture, project)
        told = figures(rendered.blocks, rendered.broken, rendered.correction, rendered.pixels.size)
        return Decoded(rendered.pixels, self.mask, self.picture, base, self.texture_planes, amount, project, *told)


def _kept(layer: Float32 | None) -> Float32:
    if layer is None:
        raise ValueError("the layers were not asked for: decode(..., layers=True) keeps them")
    return layer
