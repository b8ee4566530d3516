"""Recoding: from the bytes of a file to the bytes of the restored file. The command, the server and archive runs share this path."""

from __future__ import annotations

import io
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .codec.formats import FormatName, format_of
from .codec.tiff import FURTHER_PAGES, MAX_PAGES, joined, page_count
from .errors import LimitError
from .options import Options

if TYPE_CHECKING:
    from .decoder import Decoder
    from .restoration.tiling import Progress
    from .result import Decoded


@dataclass(frozen=True)
class Restored:
    """A restored file.

    Attributes:
        data: bytes of the restored file.
        decoded: the restored picture; the first one if there are several pages.
        seconds: time of the restoration in seconds, including reading and encoding.
        source_size: size of the source file in bytes.
        format: format of the restored file.
        notes: notes for the user about the file and the result, one sentence each.
    """

    data: bytes
    decoded: Decoded
    seconds: float
    source_size: int
    format: FormatName
    notes: tuple[str, ...]

    def report(self) -> dict[str, Any]:
        """A report for scripts, as values for JSON.

        `quality` is the nearest libjpeg quality factor; for `consistency`, `raw_consistency` and `projection_psnr` see
        :class:`redecode.Decoded`.
        """
        picture = self.decoded.picture
        return {
            "status": "restored" if self.decoded.changed else "unchanged",
            "width": picture.width,
            "height": picture.height,
            "quality": picture.quality,
            "consistency": self.decoded.consistency,
            "raw_consistency": self.decoded.raw_consistency,
            "projection_psnr": self.decoded.projection_psnr,
            "seconds": round(self.seconds, 3),
            "bytes_before": self.source_size,
            "bytes_after": len(self.data),
            "notes": list(self.notes),
        }


def restore(decoder: Decoder, data: bytes, options: Options, progress: Progress | None = None) -> Restored:
    """Restore a file.

    Args:
        decoder: a decoder with the preset, device and precision of the options.
        data: the whole file, a JPEG or a picture that was one. If the result is a TIFF, all pages of a TIFF are restored.
        options: options of the restoration.
        progress: function called with the number of tiles done and their total number, see :meth:`redecode.Decoder.decode`.

    Raises:
        RedecodeError: the file cannot be restored, or not written with these options; the message says why.
    """
    began = time.monotonic()
    pages = page_count(io.BytesIO(data)) if options.written_format(format_of(data[:12])) == "tiff" else 1
    if pages > MAX_PAGES:
        raise LimitError(f"the file has more than {MAX_PAGES} pages")
    first = _decode(decoder, data, options, progress, 0)
    name = options.written_format(first.picture.source_format)
    if pages == 1:
        return Restored(first.encode(options), first.measured(options), time.monotonic() - began, len(data), name, first.notes(options))
    files, notes = [first.encode(options)], _page_notes(first, options, 1)
    for page in range(1, pages):
        decoded = _decode(decoder, data, options, progress, page)
        files.append(decoded.encode(options))
        notes += _page_notes(decoded, options, page + 1)
    return Restored(joined(files), first, time.monotonic() - began, len(data), name, tuple(notes))


def _page_notes(decoded: Decoded, options: Options, number: int) -> list[str]:
    """The notes on a page of several, without the note that further pages are left out."""
    return [f"page {number}: {note}" for note in decoded.notes(options) if FURTHER_PAGES not in note]


def _decode(decoder: Decoder, data: bytes, options: Options, progress: Progress | None, page: int) -> Decoded:
    from .codec.picture import read

    picture = read(data, options.pixel_limit, options.force_quality, options.as_is, page)
    # Only the fused layer depends on the amount of texture; the texture layer itself is always computed in full.
    amount = {"fused": options.texture, "texture": 1.0}.get(options.layer, 0.0)
    layers = options.depth == 16 or options.layer != "fused"
    return decoder.decode(picture, amount, options.projection, progress, layers, options.threshold)
