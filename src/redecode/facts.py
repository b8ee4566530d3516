"""Facts about a file, as plain values for JSON."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from .codec.jpeg import MAX_PIXELS, JpegImage
from .codec.metadata import Metadata
from .codec.picture import read
from .codec.quality import nearest_quality
from .codec.raster import RasterImage
from .codec.trace import Trace


def inspect(data: bytes, max_pixels: int = MAX_PIXELS) -> dict[str, Any]:
    """Facts about a picture file.

    Args:
        data: the whole file.
        max_pixels: maximum number of pixels that the header may claim.

    Returns:
        Facts by name; `quality` is the nearest libjpeg quality factor of the luma table, `quality_fit` the similarity of its table, 0 … 1.

    Raises:
        RedecodeError: the file cannot be read.
    """
    return describe(read(data, max_pixels))


def describe(picture: JpegImage | RasterImage) -> dict[str, Any]:
    """Like :func:`inspect`, for a picture that was read already."""
    return _of_jpeg(picture) if isinstance(picture, JpegImage) else _of_raster(picture)


def _of_jpeg(image: JpegImage) -> dict[str, Any]:
    quality, fit = nearest_quality(image.components[0].table)
    return {
        "format": "progressive JPEG" if image.progressive else "JPEG",
        "width": image.width,
        "height": image.height,
        "colour_model": image.colour_model,
        "subsampling": image.subsampling,
        "quality": quality,
        "quality_fit": round(fit, 3),
        "damaged": image.damaged,
        "bytes_after_the_picture": image.trailing or None,
        "metadata": _present(image.metadata),
        "earlier_compression": image.past and image.past.told(quality),
        "luma_table": image.components[0].table.tolist(),
        "chroma_table": image.components[1].table.tolist() if len(image.components) > 1 else None,
    }


def _of_raster(picture: RasterImage) -> dict[str, Any]:
    trace = picture.trace
    return {
        "format": "no JPEG",
        "width": picture.width,
        "height": picture.height,
        "colour_model": "gray" if picture.gray else "RGB",
        "transparency": picture.alpha is not None,
        "metadata": _present(picture.metadata),
        "quality": trace.quality if trace else None,
        "earlier_compression": _described(trace) if trace else "no trace of JPEG compression",
        "luma_table": trace.tables[0].tolist() if trace else None,
    }


def _described(trace: Trace) -> str:
    if trace.scaling:
        grid = f", {trace.scaling.told()} since"
    else:
        grid = "" if trace.offset == (0, 0) else f", block grid beginning at row {trace.offset[0]}, column {trace.offset[1]}"
    return f"JPEG of quality about {trace.quality}{grid} (confidence {trace.confidence:.0%})"


def _present(metadata: Metadata) -> list[str]:
    names = [field.name for field in fields(metadata) if field.name != "others" and getattr(metadata, field.name)]
    return [*names, *(["iptc"] if metadata.iptc else []), *metadata.others]
