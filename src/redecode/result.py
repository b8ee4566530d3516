"""What :meth:`redecode.Decoder.decode` gives back."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from . import files
from .codec import exif
from .codec.encode import Encoding, encode, encode_like, left_out, upright
from .codec.formats import OF_SUFFIX
from .codec.metadata import Metadata, stripped
from .codec.metadata import upright as turned_upright
from .codec.picture import Picture
from .errors import UnsupportedError, UsageError
from .options import Options
from .restoration.fusion import fuse
from .restoration.render import figures, render_by_strips, to_deep_pixels, to_pixels
from .restoration.repair import tally

Float32 = NDArray[np.float32]
Pixels = NDArray[np.uint8]


@dataclass(frozen=True, eq=False, repr=False)
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
        projected: whether image and layers are projected onto the file's quantization cells.
        consistency: share of the 8×8 blocks of `image`, of all components, in which it has the coefficients of the file that was given but
            for what rounding to 8 bits explains, 0 … 1 (docs/consistency.md). None for a picture that is no JPEG.
        projection_psnr: PSNR of the result before the projection against the one after it, dB: how far the file corrected the networks.
            None where there was no projection, or where it changed nothing.
        raw_consistency: share of the luma blocks of `image` that encode to the very coefficients of the file, 0 … 1; where the file is
            coded as RGB or CMYK, of the blocks of all its components. None for a picture that is no JPEG.
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
    raw_consistency: float | None = None
    changed: bool = True

    @cached_property
    def base_layer(self) -> Pixels:
        """The fidelity layer L_B as pixels, like `image`; needs the layers."""
        return to_pixels(_kept(self.base_planes), self.picture, self.projected)

    @cached_property
    def texture_layer(self) -> Pixels | None:
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
        texture = self.texture_planes

        def fused(rows: slice) -> Float32:
            return fuse(base[:, rows], texture[:, rows], self.mask[rows], amount)

        rendered = render_by_strips(fused, self.picture, project)
        told = figures(rendered.tally, rendered.correction, rendered.pixels.size)
        return Decoded(rendered.pixels, self.mask, self.picture, base, self.texture_planes, amount, project, *told)

    def encode(self, options: Options) -> bytes:
        """The bytes of the file that the options ask for, of their scope "result"; its format is `options.written_format(...)`.

        Raises:
            UnsupportedError: the format cannot hold such a picture.
        """
        picture = self.picture
        metadata = self._metadata(options)
        # A mask has no transparency.
        alpha = None if options.layer == "mask" else picture.alpha
        pixels = self._pixels(options)
        name = options.written_format(picture.source_format)
        if options.auto_orient:
            if alpha is not None:
                alpha, _ = upright(alpha, picture.metadata)
            pixels, _ = upright(pixels, picture.metadata)
        if options.same_size:
            if picture.cells is None or name != "jpeg":
                raise UnsupportedError("only a picture that came as a JPEG, and goes as one, can have the file's own tables")
            if options.layer == "mask" or options.depth != 8 or options.auto_orient:
                raise UnsupportedError("the file's own tables fit neither a mask, nor 16 bits, nor a turned picture")
            return encode_like(pixels, picture.cells, metadata)
        return encode(pixels, metadata, Encoding(name, options.quality), alpha)

    def measured(self, options: Options) -> Decoded:
        """With the consistency that the file of :meth:`encode` has at its own depth: at 16 bits there is less rounding to explain."""
        if options.depth == 8 or options.layer == "mask" or not self.changed or self.picture.cells is None:
            return self
        told = figures(tally(self._pixels(options), self.picture.cells), 0, 0)
        return replace(self, consistency=told.consistency, raw_consistency=told.raw_consistency)

    def notes(self, options: Options) -> tuple[str, ...]:
        """What a user should know about the picture and about the file that :meth:`encode` makes of it, one sentence each."""
        before, after = self.picture.metadata, self._metadata(options)
        name = options.written_format(self.picture.source_format)
        channels = 1 if options.layer == "mask" or self.image.ndim == 2 else self.image.shape[2]
        missing = [*left_out(channels, after, name, options.depth == 16), *after.others]
        if options.auto_orient and not options.strip and exif.has_thumbnail(before.exif) and not exif.has_thumbnail(after.exif):
            missing.append("the thumbnail, which could not be turned")
        lost = (f"not carried over into the {name.upper()} file: {', '.join(missing)}",) if missing else ()
        return (*self.picture.notes, *lost)

    def _metadata(self, options: Options) -> Metadata:
        """The metadata that a file of the result is to have."""
        metadata = stripped(self.picture.metadata) if options.strip else self.picture.metadata
        if options.layer == "mask":
            # A mask has no colours.
            metadata = replace(metadata, icc_profile=None)
        if options.auto_orient:
            metadata = turned_upright(metadata)
            if options.strip:
                metadata = replace(metadata, exif=None)
        return metadata

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False, **options: Any) -> None:
        """Write the result to a file, with the metadata of the picture; the file is whole, or not there.

        Args:
            path: its suffix tells the format, where the options do not.
            overwrite: whether an existing file is replaced.
            options: fields of :class:`redecode.options.Options` of the scope "result", such as `quality`, `strip` or `depth` (which needs
                the layers).

        Raises:
            OutputExistsError: there is such a file already.
            UnsupportedError: the format cannot hold such a picture.
            UsageError: a suffix that tells no format, or an option out of range.

        Example:
            >>> redecode.decode("examples/parrots-q10.jpg").save("parrots.webp", quality=90)
        """
        target = Path(path)
        if "format" not in options and not options.get("same_size"):
            if target.suffix.lower() not in OF_SUFFIX:
                raise UsageError(f"{target}: name a file ending in {', '.join(OF_SUFFIX)}, or give the format")
            options["format"] = OF_SUFFIX[target.suffix.lower()]
        files.save(self.encode(Options(**options)), target, overwrite=overwrite)

    def to_pil(self) -> Image.Image:
        """The result as a Pillow image: L, RGB or CMYK, with its transparency where it has any (LA, RGBA)."""
        image = Image.fromarray(self.image, "CMYK") if self.mode == "CMYK" else Image.fromarray(self.image)
        if self.picture.alpha is not None:
            image.putalpha(Image.fromarray(self.picture.alpha))
        return image

    @property
    def mode(self) -> str:
        """What the channels of `image` are, in Pillow's words: "L", "RGB" or "CMYK" (inks, 255 is full); never RGBA."""
        return "L" if self.image.ndim == 2 else "RGB" if self.image.shape[2] == 3 else "CMYK"

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """`image`, for NumPy."""
        return np.array(self.image, dtype=dtype, copy=copy)

    def _repr_png_(self) -> bytes:
        """The result as notebooks show it."""
        return self.encode(Options())

    def __repr__(self) -> str:
        picture = self.picture
        parts = [f"{picture.width}×{picture.height} {self.mode}", f"texture {self.amount:g}"]
        if picture.quality is not None:
            parts.insert(1, f"quality {picture.quality}")
        if not self.changed:
            parts.append("unchanged")
        return f"<Decoded {', '.join(parts)}>"

    def _pixels(self, options: Options) -> NDArray[Any]:
        if options.layer == "mask":
            return self.mask.astype("uint8") * 255
        if not self.changed:
            return self.image if options.depth == 8 else self.image.astype("uint16") * 257
        if options.depth == 16:
            planes = {"base": self.base_planes, "texture": self.texture_planes}.get(options.layer)
            return to_deep_pixels(self.fused_planes if planes is None else planes, self.picture, self.projected)
        if options.layer == "texture":
            assert self.texture_layer is not None  # It was asked for with the full amount.
            return self.texture_layer
        return self.base_layer if options.layer == "base" else self.image


def _kept(layer: Float32 | None) -> Float32:
    if layer is None:
        raise ValueError("the layers were not asked for: decode(..., layers=True) keeps them")
    return layer
