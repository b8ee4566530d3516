"""Bytes in, bytes out: the one path from a file's data to a restored file's that the command, the page and the archive runs share."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from .codec.encode import Encoding, encode, encode_like, upright
from .codec.formats import FormatName
from .codec.metadata import Metadata
from .errors import UnsupportedError
from .options import Options

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .decoder import Decoder
    from .restoration.tiling import Progress
    from .result import Decoded


@dataclass(frozen=True)
class Restored:
    """A restored file.

    Attributes:
        data: its bytes.
        decoded: the picture behind it.
        seconds: the restoring took, reading and encoding included.
        source_size: bytes of the file that it was made from.
        format: that it is written in.
    """

    data: bytes
    decoded: Decoded
    seconds: float
    source_size: int
    format: FormatName

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know about the file, one sentence each."""
        return self.decoded.picture.notes

    def report(self) -> dict[str, Any]:
        """What scripts want to know, ready for JSON.

        `quality` is the nearest libjpeg quality factor, `consistency` and `projection_psnr` are those of
        :class:`redecode.decoder.Decoded`.
        """
        picture = self.decoded.picture
        return {
            "status": "restored" if self.decoded.changed else "unchanged",
            "width": picture.width,
            "height": picture.height,
            "quality": picture.quality,
            "consistency": self.decoded.consistency,
            "projection_psnr": self.decoded.projection_psnr,
            "seconds": round(self.seconds, 3),
            "bytes_before": self.source_size,
            "bytes_after": len(self.data),
            "notes": list(self.notes),
        }


def restore(decoder: Decoder, data: bytes, options: Options, progress: Progress | None = None) -> Restored:
    """Restore a file.

    Args:
        decoder: with the preset, device and precision of the options, see :func:`make_decoder`.
        data: the whole file, a JPEG or a picture that was one.
        options: see :class:`Options`.
        progress: as :meth:`Decoder.decode`.

    Raises:
        RedecodeError: the file cannot be restored, or not written as asked; the message says why.
    """
    from .codec.picture import read

    began = time.monotonic()
    picture = read(data, options.pixel_limit, options.force_quality, options.as_is)
    # Only two of the layers depend on the texture network, and only one of them on the dial.
    amount = {"fused": options.texture, "texture": 1.0}.get(options.layer, 0.0)
    layers = options.depth == 16 or options.layer != "fused"
    decoded = decoder.decode(picture, amount, options.projection, progress, layers, options.threshold)
    written = encode_result(decoded, options)
    name = options.written_format(picture.source_format)
    return Restored(written, decoded, time.monotonic() - began, len(data), name)


def encode_result(decoded: Decoded, options: Options) -> bytes:
    """The bytes of the file that the options ask for, of a decoded picture.

    Raises:
        UnsupportedError: the format cannot hold such a picture.
    """
    picture = decoded.picture
    metadata = Metadata(icc_profile=picture.metadata.icc_profile) if options.strip else picture.metadata
    alpha = picture.alpha
    pixels = _pixels(decoded, options)
    name = options.written_format(picture.source_format)
    if options.layer == "mask":
        # A mask has no colours and no transparency.
        metadata, alpha = replace(metadata, icc_profile=None), None
    if options.auto_orient:
        if alpha is not None:
            alpha, _ = upright(alpha, picture.metadata)
        # The file's own metadata say how to turn, also where they are not to be kept.
        pixels, turned = upright(pixels, picture.metadata)
        metadata = metadata if options.strip else replace(turned, icc_profile=metadata.icc_profile)
    if options.same_size:
        if picture.cells is None or name != "jpeg":
            raise UnsupportedError("only a picture that came as a JPEG, and goes as one, can have the file's own tables")
        if options.layer == "mask" or options.depth != 8 or options.auto_orient:
            raise UnsupportedError("the file's own tables fit neither a mask, nor 16 bits, nor a turned picture")
        return encode_like(pixels, picture.cells, metadata)
    return encode(pixels, metadata, Encoding(name, options.quality), alpha)


def _pixels(decoded: Decoded, options: Options) -> NDArray[Any]:
    if options.layer == "mask":
        return decoded.mask.astype("uint8") * 255
    if not decoded.changed:
        return decoded.image if options.depth == 8 else decoded.image.astype("uint16") * 257
    if options.depth == 16:
        from .restoration.render import to_deep_pixels

        planes = {"base": decoded.base_planes, "texture": decoded.texture_planes}.get(options.layer)
        return to_deep_pixels(decoded.fused_planes if planes is None else planes, decoded.picture, decoded.projected)
    if options.layer == "texture":
        assert decoded.texture is not None  # It was asked for with the full amount.
        return decoded.texture
    return decoded.base if options.layer == "base" else decoded.image
