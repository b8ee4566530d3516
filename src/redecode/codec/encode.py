"""Encoding of pixels and metadata into the bytes of a picture file."""

from __future__ import annotations

import io
import struct
import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms

from ..errors import UnsupportedError
from . import metadata as metadata_
from .jpeg import JpegImage
from .metadata import Metadata

Pixels = NDArray[np.uint8] | NDArray[np.uint16]

LOSSY_QUALITY = {"avif": 90, "jpeg": 95}
# Compression level of zlib: it takes a third of the time of the default 6, for files that are 2 % larger.
_PNG_LEVEL = 4
_DEEP_FORMATS = ("png", "tiff")


@dataclass(frozen=True)
class Encoding:
    """Format and quality of a picture file to write.

    Attributes:
        format: one of :data:`redecode.codec.formats.FORMATS`.
        quality: quality of a lossy format, 1 … 100; None for lossless WebP, and for LOSSY_QUALITY of AVIF and JPEG.
    """

    format: str = "png"
    quality: int | None = None


def encode(pixels: Pixels, metadata: Metadata, encoding: Encoding, alpha: NDArray[np.uint8] | None = None) -> bytes:
    """Encode a picture with the metadata that the format can hold (WebP and AVIF have no comments).

    Args:
        pixels: gray [H, W] or RGB [H, W, 3], uint8 or, for PNG and TIFF, uint16; or CMYK inks, uint8 [H, W, 4], which TIFF and JPEG keep,
            while the picture's colour profile converts them to sRGB for other formats.
        metadata: metadata to write into the file.
        encoding: format and quality.
        alpha: alpha channel for gray and RGB pictures, uint8 [H, W].

    Raises:
        UnsupportedError: the format cannot hold the picture or its metadata.
    """
    name = encoding.format
    if alpha is not None and name == "jpeg":
        raise UnsupportedError("JPEG has no transparency; choose png, webp, avif or tiff")
    if pixels.dtype == np.uint16:
        return _encode_deep(pixels, metadata, name, alpha)
    image = Image.fromarray(pixels, "CMYK") if pixels.ndim == 3 and pixels.shape[2] == 4 else Image.fromarray(pixels)
    if image.mode == "CMYK" and name not in ("tiff", "jpeg"):
        image, metadata = _to_srgb(image, metadata)
    metadata, _ = metadata_.kept_by(name, metadata, len(image.getbands()))
    if alpha is not None:
        image.putalpha(Image.fromarray(alpha))
    return _save(image, name, _format_options(encoding), metadata)


def encode_like(pixels: NDArray[np.uint8], source: JpegImage, metadata: Metadata) -> bytes:
    """Encode as JPEG with the tables and the sampling of a source file.

    Wherever the pixels are consistent with the source file, the new file has the same coefficients, and so about the same size. It
    demonstrates that the restoration contradicts nothing in the source file; but only redecode shows it as a restored picture.

    Raises:
        UnsupportedError: the source file is neither gray nor YCbCr with a usual sampling, or its tables do not fit baseline JPEG.
    """
    if source.colour_model not in ("gray", "YCbCr") or source.subsampling not in ("gray", "4:4:4", "4:2:2", "4:2:0"):
        kind = f"{source.colour_model} {source.subsampling}"
        raise UnsupportedError(f"a JPEG with the file's own tables is for gray and YCbCr of 4:4:4, 4:2:2 or 4:2:0, not for {kind}")
    # The encoder uses the first table for luma and the second for both chroma components.
    tables = [component.table for component in source.components]
    if max(int(t.max()) for t in tables) > 255 or not np.array_equal(tables[-1], tables[-len(tables) // 2]):
        raise UnsupportedError("the file's quantization tables do not fit a baseline JPEG with two tables")
    sampling = {} if source.gray else {"subsampling": source.subsampling}
    options = {"qtables": [t.ravel().tolist() for t in tables[:2]], **sampling, "optimize": True}
    metadata, _ = metadata_.kept_by("jpeg", metadata, len(tables))
    return _save(Image.fromarray(pixels), "jpeg", options, metadata)


def left_out(channels: int, metadata: Metadata, name: str, deep: bool = False) -> tuple[str, ...]:
    """Names of metadata that a format cannot hold, or that does not fit the pixels; see :func:`redecode.codec.metadata.kept_by`."""
    if channels == 4 and name not in ("tiff", "jpeg"):
        # After the conversion to sRGB, the profile of the inks no longer applies.
        channels, metadata = 3, replace(metadata, icc_profile=None)
    return metadata_.kept_by(name, metadata, channels, deep)[1]


def upright(pixels: NDArray[Any], metadata: Metadata) -> tuple[NDArray[Any], Metadata]:
    """Turn a picture upright by its EXIF orientation, and reset the orientation.

    Args:
        pixels: [H, W] or [H, W, channels].
        metadata: metadata of the picture; damaged EXIF data count as absent.

    Returns:
        The pixels and the metadata of the upright picture.
    """
    orientation = metadata_.orientation(metadata)
    if orientation == 1:
        return pixels, metadata
    # EXIF 2.32, 4.6.4 A defines orientations by the sides that the first row and the first column show.
    flipped = {2: pixels[:, ::-1], 3: pixels[::-1, ::-1], 4: pixels[::-1]}
    transposed = pixels.swapaxes(0, 1)
    flipped |= {5: transposed, 6: transposed[:, ::-1], 7: transposed[::-1, ::-1], 8: transposed[::-1]}
    return np.ascontiguousarray(flipped[orientation]), metadata_.upright(metadata)


def _to_srgb(image: Image.Image, metadata: Metadata) -> tuple[Image.Image, Metadata]:
    """Convert CMYK inks to sRGB by the colour profile; without a valid profile, by the simple formula of viewers."""
    bare = replace(metadata, icc_profile=None)
    if metadata.icc_profile:
        try:
            profile = ImageCms.ImageCmsProfile(io.BytesIO(metadata.icc_profile))
            converted = ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
        except (ImageCms.PyCMSError, OSError, ValueError):
            converted = None
        if converted is not None:
            return converted, bare
    return image.convert("RGB"), bare


def _format_options(encoding: Encoding) -> dict[str, Any]:
    name, quality = encoding.format, encoding.quality or LOSSY_QUALITY.get(encoding.format)
    if name == "webp":
        return {"lossless": True, "exact": True} if quality is None else {"quality": quality}
    if name in LOSSY_QUALITY:
        return {"quality": quality, "subsampling": "4:4:4"}
    return {"compression": "tiff_adobe_deflate"} if name == "tiff" else {"compress_level": _PNG_LEVEL}


def _save(image: Image.Image, name: str, options: dict[str, Any], metadata: Metadata) -> bytes:
    buffer = io.BytesIO()
    options = options | metadata_.save_options(metadata, name)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Some encoders warn of invalid EXIF data.
            image.save(buffer, name.upper(), **options)
    except (ValueError, OSError, SyntaxError, OverflowError, TypeError, RuntimeError, struct.error) as error:
        # Sides longer than WebP or JPEG allow, or metadata longer than a segment.
        raise UnsupportedError(f"{name} cannot hold this picture or its metadata ({error}); choose another format, or --strip") from None
    return metadata_.completed(buffer.getvalue(), metadata, name)


def _encode_deep(pixels: Pixels, metadata: Metadata, name: str, alpha: NDArray[np.uint8] | None) -> bytes:
    if name not in _DEEP_FORMATS:
        raise UnsupportedError(f"{name} holds 8 bits per channel; choose png or tiff for 16")
    if alpha is not None:
        channels = pixels[..., None] if pixels.ndim == 2 else pixels
        pixels = np.concatenate([channels, alpha[..., None].astype(np.uint16) * 257], axis=2)
    metadata, _ = metadata_.kept_by(name, metadata, 1 if pixels.ndim == 2 or pixels.shape[2] == 2 else 3, deep=True)
    return _deep_png(pixels, metadata) if name == "png" else _deep_tiff(pixels, metadata, alpha is not None)


def _deep_png(pixels: Pixels, metadata: Metadata) -> bytes:
    # Pillow cannot write 16-bit RGB and pypng cannot write metadata: combine the chunks of both.
    import png

    height, width, channels = (*pixels.shape, 1)[:3]
    buffer = io.BytesIO()
    writer = png.Writer(width, height, greyscale=channels < 3, alpha=channels in (2, 4), bitdepth=16)
    writer.write(buffer, pixels.reshape(height, width * channels))
    header, *data = png.Reader(bytes=buffer.getvalue()).chunks()
    small = _save(Image.new("L", (1, 1)), "png", {}, metadata)
    ancillary = [chunk for chunk in png.Reader(bytes=small).chunks() if chunk[0][:1].islower()]
    whole = io.BytesIO()
    png.write_chunks(whole, [header, *ancillary, *data])
    return whole.getvalue()


def _deep_tiff(pixels: Pixels, metadata: Metadata, has_alpha: bool) -> bytes:
    import tifffile

    gray = pixels.ndim == 2 or pixels.shape[2] == 2
    # tifffile cannot write EXIF subdirectories: keep the text tags of the main directory, and the orientation.
    own = metadata_.tiff_tags(metadata)
    description, software = own.get(metadata_.TIFF_DESCRIPTION), own.get(metadata_.TIFF_SOFTWARE, "")
    tags: list[tuple[int, str, int, Any, bool]] = []
    for tag, value in own.items():
        if isinstance(value, str) and tag not in (metadata_.TIFF_DESCRIPTION, metadata_.TIFF_SOFTWARE):
            tags.append((tag, "s", 0, value, True))
        elif isinstance(value, int) and tag == ExifTags.Base.Orientation:
            tags.append((tag, "H", 1, value, True))
        elif tag in (metadata_.TIFF_XMP, metadata_.TIFF_PHOTOSHOP, metadata_.TIFF_IPTC):
            tags.append((tag, "B", len(value), value, True))
    resolution = metadata_.resolution(metadata)
    buffer = io.BytesIO()
    tifffile.imwrite(
        buffer,
        pixels,
        photometric="minisblack" if gray else "rgb",
        planarconfig="contig",
        extrasamples=["unassalpha"] if has_alpha else None,
        compression="adobe_deflate",
        iccprofile=metadata.icc_profile,
        resolution=resolution or metadata.aspect,
        resolutionunit="inch" if resolution else "none" if metadata.aspect else None,
        description=description,
        software=software,
        metadata=None,
        extratags=tags,
    )
    return buffer.getvalue()
