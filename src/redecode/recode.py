"""Bytes in, bytes out: the one path from a file's data to a restored file's that the command, the page and the archive runs share."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .codec.formats import FormatName
from .options import Options

if TYPE_CHECKING:
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
        notes: what a user should know about the file and the result, one sentence each.
    """

    data: bytes
    decoded: Decoded
    seconds: float
    source_size: int
    format: FormatName
    notes: tuple[str, ...]

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
        decoder: of the options' preset, device and precision.
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
    written = decoded.encode(options)
    name = options.written_format(picture.source_format)
    return Restored(written, decoded, time.monotonic() - began, len(data), name, decoded.notes(options))
