"""The result of :meth:`redecode.Decoder.decode`."""

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
from .restoration.mapped import rows_of
from .restoration.render import figures, render_by_strips, to_deep_pixels, to_pixels
from .restoration.repair import tally

Float32 = NDArray[np.float32]
Pixels = NDArray[np.uint8]


@dataclass(frozen=True, eq=False, repr=False)
class Decoded:
    """A restored picture with its layers.

    Pixels are RGB uint8 [H, W, 3], gray [H, W], or CMYK inks [H, W, 4] (255 is full ink).

    Attributes:
        image: the restored pixels, uint8.
        mask: where texture replaces fidelity, bool [H, W]; all False if the amount of texture is 0 and the layers were not kept.
        picture: the picture read from the file, with its metadata.
        base_planes: the fidelity layer L_B before projection, float32 [components, H, W], 0 … 255; None if the layers were not kept.
        texture_planes: the texture layer L_T before projection, likewise; None also if the amount of texture is 0 and it was not computed.
        amount: amount of texture, 0 … 1.
        projected: whether image and layers are projected onto the file's quantization cells.
        consistency: share of the 8×8 blocks of all components, 0 … 1, in which `image` agrees with the coefficients of the file, apart from
            the rounding to 8 bits (docs/consistency.md). None for a picture that is not a JPEG.
        projection_psnr: PSNR in dB between the result before and after projection: how much the file corrected the networks. None without
            projection, or if it changed nothing.
        raw_consistency: share of the luma blocks of `image`, 0 … 1, that encode to exactly the coefficients of the file; for RGB and CMYK
            files, of the blocks of all components. None for a picture that is not a JPEG.
        changed: False if the picture was left unchanged, because it shows no trace of JPEG compression.
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
        """The fidelity layer L_B as pixels, like `image`; requires `layers=True`."""
        return to_pixels(_kept(self.base_planes), self.picture, self.projected)

    @cached_property
    def texture_layer(self) -> Pixels | None:
        """The texture layer L_T as pixels, like `image`; None if it was not computed."""
        return None if self.texture_planes is None else to_pixels(self.texture_planes, self.picture, self.projected)

    @cached_property
    def fused_planes(self) -> Float32:
        """The result as planes, before projection and rounding; requires `layers=True`."""
        base = _kept(self.base_planes)
        return base if self.texture_planes is None else fuse(base, self.texture_planes, self.mask, self.amount)

    def with_texture(self, amount: float, project: bool) -> Decoded:
        """The same picture with another amount of texture; requires `layers=True`.

        Args:
            amount: amount of texture, 0 … 1.
            project: whether to project the result onto the file's quantization cells.
        """
        if not self.changed or self.texture_planes is None or (self.amount, self.projected) == (amount, project):
            return self
        base = _kept(self.base_planes)
        texture = self.texture_planes

        def fused(rows: slice) -> Float32:
            return fuse(rows_of(base, rows), rows_of(texture, rows), self.mask[rows], amount)

        rendered = render_by_strips(fused, self.picture, project)
        measured = figures(rendered.tally, rendered.correction, rendered.pixels.size)
        return Decoded(rendered.pixels, self.mask, self.picture, base, self.texture_planes, amount, project, *measured)

    def encode(self, options: Options) -> bytes:
        """Encode the result as a file, by the options with scope "result"; the format is `options.written_format(...)`.

        Raises:
            UnsupportedError: the format cannot hold the picture.
        """
        picture = self.picture
        metadata = self._metadata(options)
        # A mask has no alpha channel.
        alpha = None if options.layer == "mask" else picture.alpha
        pixels = self._pixels(options)
        name = options.written_format(picture.source_format)
        if options.auto_orient:
            if alpha is not None:
                alpha, _ = upright(alpha, picture.metadata)
            pixels, _ = upright(pixels, picture.metadata)
        if options.same_size:
            if picture.cells is None or name != "jpeg":
                raise UnsupportedError("same_size needs a JPEG file and writes a JPEG file")
            if options.layer == "mask" or options.depth != 8 or options.auto_orient:
                raise UnsupportedError("same_size cannot be combined with the mask, with 16 bits, or with auto_orient")
            return encode_like(pixels, picture.cells, metadata)
        return encode(pixels, metadata, Encoding(name, options.quality), alpha)

    def measured(self, options: Options) -> Decoded:
        """The same result with the consistency of the file that :meth:`encode` writes: with 16 bits there is less rounding."""
        if options.depth == 8 or options.layer == "mask" or not self.changed or self.picture.cells is None:
            return self
        measured = figures(tally(self._pixels(options), self.picture.cells), 0, 0)
        return replace(self, consistency=measured.consistency, raw_consistency=measured.raw_consistency)

    def notes(self, options: Options) -> tuple[str, ...]:
        """Notes for the user about the picture and about the file that :meth:`encode` writes, one sentence each."""
        before, after = self.picture.metadata, self._metadata(options)
        name = options.written_format(self.picture.source_format)
        channels = 1 if options.layer == "mask" or self.image.ndim == 2 else self.image.shape[2]
        missing = [*left_out(channels, after, name, options.depth == 16), *after.others]
        if options.auto_orient and not options.strip and exif.has_thumbnail(before.exif) and not exif.has_thumbnail(after.exif):
            missing.append("the thumbnail, which could not be rotated")
        lost = (f"not carried over into the {name.upper()} file: {', '.join(missing)}",) if missing else ()
        return (*self.picture.notes, *lost)

    def _metadata(self, options: Options) -> Metadata:
        """The metadata for a file of the result."""
        metadata = stripped(self.picture.metadata) if options.strip else self.picture.metadata
        if options.layer == "mask":
            # A mask has no colours, so it needs no profile.
            metadata = replace(metadata, icc_profile=None)
        if options.auto_orient:
            metadata = turned_upright(metadata)
            if options.strip:
                metadata = replace(metadata, exif=None)
        return metadata

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False, **options: Any) -> None:
        """Write the result to a file atomically, with the metadata of the picture.

        Args:
            path: path of the file; its suffix sets the format, unless the options do.
            overwrite: whether to replace an existing file.
            options: fields of :class:`redecode.Options` with scope "result", for example `quality`, `strip` or `depth` (which requires
                `layers=True`).

        Raises:
            OutputExistsError: the file exists already.
            UnsupportedError: the format cannot hold the picture.
            UsageError: the suffix is not that of a format, or an option is out of range.

        Examples:
            >>> redecode.decode("examples/parrots-q10.jpg").save("parrots.webp", quality=90)
        """
        target = Path(path)
        if "format" not in options and not options.get("same_size"):
            if target.suffix.lower() not in OF_SUFFIX:
                raise UsageError(f"{target}: name a file ending in {', '.join(OF_SUFFIX)}, or give the format")
            options["format"] = OF_SUFFIX[target.suffix.lower()]
        files.save(self.encode(Options(**options)), target, overwrite=overwrite)

    def to_pil(self) -> Image.Image:
        """The result as a Pillow image: L, RGB or CMYK; LA or RGBA with an alpha channel."""
        image = Image.fromarray(self.image, "CMYK") if self.mode == "CMYK" else Image.fromarray(self.image)
        if self.picture.alpha is not None:
            image.putalpha(Image.fromarray(self.picture.alpha))
        return image

    @property
    def mode(self) -> str:
        """Pillow's mode of `image`: "L", "RGB" or "CMYK" (255 is full ink); never RGBA."""
        return "L" if self.image.ndim == 2 else "RGB" if self.image.shape[2] == 3 else "CMYK"

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Convert to a NumPy array: `image`."""
        return np.array(self.image, dtype=dtype, copy=copy)

    def _repr_png_(self) -> bytes:
        """The result as a PNG, which notebooks show."""
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
            assert self.texture_layer is not None  # The texture layer is always computed if it is the output.
            return self.texture_layer
        return self.base_layer if options.layer == "base" else self.image


def _kept(layer: Float32 | None) -> Float32:
    if layer is None:
        raise ValueError("the layers were not kept: use decode(..., layers=True)")
    return layer
