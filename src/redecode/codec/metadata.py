"""What a picture file carries beside its picture (EXIF, colour profile, XMP, comment, resolution), out of and into every format."""

from __future__ import annotations

import math
import struct
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from PIL import ExifTags, Image, PngImagePlugin

_JFIF, _APP1, _APP2, _COM = 0xE0, 0xE1, 0xE2, 0xFE
_EXIF_SIGNATURE, _ICC_SIGNATURE, _XMP_SIGNATURE = b"Exif\0\0", b"ICC_PROFILE\0", b"http://ns.adobe.com/xap/1.0/\0"
_NO_COMMENT = ("webp", "avif")
TIFF_DESCRIPTION, TIFF_XMP = 270, 700
# What of an EXIF block's main folder speaks of the picture (EXIF 2.32, table 4), and the folders below it. The other tags, such as
# width and compression, speak of how some file stores its pixels; in a TIFF they would take the place of the right ones.
_TIFF_TEXTS = (270, 271, 272, 305, 306, 315, 33432)
_TIFF_FOLDERS = (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)
# What a JPEG can say; anything beyond is a mistake, and more than a PNG can say is possible in EXIF.
_MAX_DPI = 65535


@dataclass(frozen=True)
class Metadata:
    """What a file carries beside its picture, to be handed on unchanged; None where absent.

    Attributes:
        exif: with its "Exif" signature.
        icc_profile: the colour profile.
        dpi: dots per inch, (horizontal, vertical).
        xmp: the XMP packet.
        comment: as in the file, of no declared encoding.
    """

    exif: bytes | None = None
    icc_profile: bytes | None = None
    dpi: tuple[float, float] | None = None
    xmp: bytes | None = None
    comment: bytes | None = None


def of_segments(application: Sequence[tuple[int, bytes]]) -> Metadata:
    """The metadata of a JPEG file.

    Args:
        application: marker and payload of its application segments and comments.
    """
    exif_parts: list[bytes] = []
    icc_chunks: list[bytes] = []
    density: tuple[int, int, int] | None = None
    xmp: bytes | None = None
    comment: bytes | None = None
    for marker, payload in application:
        if marker == _JFIF and payload[:5] == b"JFIF\0" and len(payload) >= 12:
            density = struct.unpack_from(">BHH", payload, 7)
        elif marker == _APP1 and payload.startswith(_EXIF_SIGNATURE):
            # Long EXIF data is spread over several segments, each with the signature.
            exif_parts.append(payload[len(_EXIF_SIGNATURE) :] if exif_parts else payload)
        elif marker == _APP2 and payload.startswith(_ICC_SIGNATURE):
            icc_chunks.append(payload[len(_ICC_SIGNATURE) :])
        elif marker == _APP1 and payload.startswith(_XMP_SIGNATURE) and xmp is None:
            xmp = payload[len(_XMP_SIGNATURE) :]
        elif marker == _COM and comment is None:
            comment = payload
    exif = b"".join(exif_parts) or None
    return Metadata(exif, _join_icc(icc_chunks), _resolution(density, exif), xmp, comment)


def _join_icc(chunks: list[bytes]) -> bytes | None:
    """The ICC profile of its chunks, each of which begins with its number and their count (ICC.1, B.4)."""
    ordered = sorted(chunks)
    expected = [bytes([i + 1, len(chunks)]) for i in range(min(len(chunks), 255))]
    if not chunks or [chunk[:2] for chunk in ordered] != expected:
        return None
    return b"".join(chunk[2:] for chunk in ordered)


def _resolution(density: tuple[int, int, int] | None, exif: bytes | None) -> tuple[float, float] | None:
    """Dots per inch (horizontal, vertical) by the JFIF header (unit, horizontal, vertical), else by EXIF."""
    if density is not None:
        unit, horizontal, vertical = density
        scale = {1: 1.0, 2: 2.54}.get(unit)
        if scale is not None and horizontal and vertical:
            return horizontal * scale, vertical * scale
    return _exif_resolution(exif) if exif else None


def _exif_resolution(data: bytes) -> tuple[float, float] | None:
    exif = Image.Exif()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            exif.load(data)
            scale = 2.54 if exif.get(ExifTags.Base.ResolutionUnit) == 3 else 1.0
            x, y = (float(exif[tag]) * scale for tag in (ExifTags.Base.XResolution, ExifTags.Base.YResolution))
        except Exception:  # Whatever Pillow meets in broken EXIF data: it is handed on as it is, and not worth failing for.
            return None
    return (x, y) if 0 < x < math.inf and 0 < y < math.inf else None


def of_pillow(image: Image.Image) -> Metadata:
    """The metadata of a picture that Pillow has opened and decoded."""
    # Texts of a PNG file may be called anything, also as what Pillow keeps there itself: nothing is believed to be of its usual type.
    info = image.info
    exif = _binary(info.get("exif")) or _collected_exif(image)
    if exif and not exif.startswith(b"Exif\0\0"):
        exif = b"Exif\0\0" + exif
    return Metadata(
        exif=exif or None,
        icc_profile=_binary(info.get("icc_profile")),
        dpi=_valid_dpi(info.get("dpi")),
        xmp=_encoded(info.get("xmp")),
        comment=_encoded(info.get("comment") or info.get("Comment")),
    )


def _collected_exif(image: Image.Image) -> bytes | None:
    """EXIF data that Pillow has put together from elsewhere; the tags of TIFF are mostly about the file, not the picture."""
    try:
        return image.getexif().tobytes() if image.format != "TIFF" and len(image.getexif()) else None
    except Exception:  # Whatever Pillow meets in broken EXIF data: it counts as none.
        return None


def _valid_dpi(value: object) -> tuple[float, float] | None:
    try:
        x, y = (float(v) for v in value)  # type: ignore[attr-defined]
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        return None
    return (x, y) if 0 < x < math.inf and 0 < y < math.inf else None


def _encoded(value: object) -> bytes | None:
    return (value.encode("utf-8", "replace") if isinstance(value, str) else _binary(value)) or None


def _binary(value: object) -> bytes | None:
    return value if isinstance(value, bytes) and value else None


def save_options(metadata: Metadata, name: str) -> dict[str, Any]:
    """Arguments for Pillow's save() that put the metadata into a file, as far as the format (one of FORMATS) can hold them."""
    kept: dict[str, Any] = {"exif": metadata.exif, "icc_profile": metadata.icc_profile, "dpi": resolution(metadata)}
    if name == "png":
        text = PngImagePlugin.PngInfo()
        if metadata.xmp:
            text.add_itxt("XML:com.adobe.xmp", metadata.xmp.decode("utf-8", "replace"))
        if metadata.comment:
            text.add_itxt("Comment", _text(metadata.comment))
        kept["pnginfo"] = text
    elif name == "tiff":
        kept["exif"] = tags = tiff_tags(metadata)
        if any(folder in tags for folder in _TIFF_FOLDERS):
            kept["compression"] = "raw"  # libtiff, which compresses, cannot write them.
    else:
        exif = _exif(metadata)
        if name == "avif" and not (exif and isinstance(exif.get(ExifTags.Base.Orientation, 1), int)):
            del kept["exif"]  # Its writer looks for the orientation, and broken data would stop it.
        kept["xmp"] = metadata.xmp
        kept["comment"] = None if name in _NO_COMMENT else metadata.comment
    return {key: value for key, value in kept.items() if value is not None}


def tiff_tags(metadata: Metadata) -> Image.Exif:
    """What of the EXIF data a TIFF has tags for; XMP and the comment have tags of their own beside them."""
    exif, tags = _exif(metadata), Image.Exif()
    for tag in _TIFF_TEXTS:
        if isinstance(exif.get(tag), str):
            tags[tag] = _ascii(exif[tag])
    if exif.get(ExifTags.Base.Orientation) in range(1, 9):
        tags[ExifTags.Base.Orientation] = int(exif[ExifTags.Base.Orientation])
    for folder in _TIFF_FOLDERS:
        if content := _folder(exif, folder):
            tags.get_ifd(folder).update(content)
            tags[folder] = content
    if metadata.xmp:
        tags[TIFF_XMP] = metadata.xmp
    if metadata.comment and TIFF_DESCRIPTION not in tags:
        tags[TIFF_DESCRIPTION] = _ascii(_text(metadata.comment))
    return tags


def _ascii(text: str) -> str:
    return text.encode("ascii", "replace").decode()


def _folder(exif: Image.Exif, folder: int) -> dict[int, Any]:
    """The content of a folder below the main one; none if it is broken, and could not be written again."""
    alone = Image.Exif()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            alone.get_ifd(folder).update(exif.get_ifd(folder))
            alone[folder] = alone.get_ifd(folder)
            alone.tobytes()
        except Exception:  # Whatever Pillow meets.
            return {}
    return dict(alone.get_ifd(folder))


def _exif(metadata: Metadata) -> Image.Exif:
    exif = Image.Exif()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            exif.load(metadata.exif or b"")
            dict(exif)  # Values are parsed when they are asked for.
        except Exception:  # Whatever Pillow meets in broken EXIF data: it counts as none.
            return Image.Exif()
    return exif


def _exif_bytes(exif: Image.Exif) -> bytes | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return b"Exif\0\0" + exif.tobytes().removeprefix(b"Exif\0\0")
        except Exception:  # Whatever Pillow meets: what it could read, but not write again, is lost.
            return None


def resolution(metadata: Metadata) -> tuple[float, float] | None:
    """Dots per inch, as far as a file can say them."""
    return metadata.dpi if metadata.dpi and max(metadata.dpi) <= _MAX_DPI else None


def _text(comment: bytes) -> str:
    try:
        return comment.decode("utf-8").rstrip("\0")
    except UnicodeDecodeError:
        return comment.decode("latin-1").rstrip("\0")


def orientation(metadata: Metadata) -> int:
    """The EXIF orientation, 1 … 8; 1 where there is none, or none that makes sense."""
    value = _exif(metadata).get(ExifTags.Base.Orientation, 1)
    return value if value in range(1, 9) else 1


def upright(metadata: Metadata) -> Metadata:
    """The metadata of a picture that was turned as its EXIF orientation says."""
    exif = _exif(metadata)
    dpi = metadata.dpi[::-1] if metadata.dpi and orientation(metadata) >= 5 else metadata.dpi
    exif[ExifTags.Base.Orientation] = 1
    return replace(metadata, exif=_exif_bytes(exif), dpi=dpi)
