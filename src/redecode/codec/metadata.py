"""Metadata of picture files: reading and writing EXIF, colour profile, XMP, IPTC, comments and resolution in all formats.

:func:`kept_by` names metadata that a format cannot hold, so that nothing is dropped silently.
"""

from __future__ import annotations

import math
import re
import struct
import warnings
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from PIL import ExifTags, Image, PngImagePlugin

from . import exif as exif_

_APP0, _APP1, _APP2, _APP11, _APP12, _APP13, _APP14, _COM = 0xE0, 0xE1, 0xE2, 0xEB, 0xEC, 0xED, 0xEE, 0xFE
_ICC_SIGNATURE, _PHOTOSHOP_SIGNATURE = b"ICC_PROFILE\0", b"Photoshop 3.0\0"
_XMP_SIGNATURE, _EXTENSION_SIGNATURE = b"http://ns.adobe.com/xap/1.0/\0", b"http://ns.adobe.com/xmp/extension/\0"
# Maximum length of a segment's payload in bytes.
_MAX_PAYLOAD = 65_533
# Number of the IPTC data among Photoshop's image resources.
_IPTC_RESOURCE = 0x0404
TIFF_DESCRIPTION, TIFF_SOFTWARE, TIFF_XMP, TIFF_IPTC, TIFF_PHOTOSHOP = 270, 305, 700, 33723, 34377
_TIFF_UNIT, _TIFF_X, _TIFF_Y = 296, 282, 283
# Tags of EXIF's main directory that describe the picture (EXIF 2.32, table 4), and its subdirectories. Other tags, such as width and
# compression, describe how a file stores its pixels; written into a TIFF they would replace the right values.
_TIFF_TEXTS = (270, 271, 272, 305, 306, 315, 33432)
_TIFF_FOLDERS = (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)
# Tags whose loss is not reported: they describe the storage, or are written anew.
_STORAGE = {*range(254, 270), *range(273, 305), *range(317, 350), *range(512, 533), 274, 34665, 34853, 700, 33723, 34377, 34675, 40965}
# Maximum resolution in a JPEG. Larger values, which EXIF can hold, are mistakes.
_MAX_DPI = 65535
# Resolutions that programs write by default, so that their loss is not reported.
_NO_RESOLUTION = ((72, 72), (96, 96))
# Keys of PNG text chunks that hold encoded metadata instead of text.
_PNG_CODED = ("XML:com.adobe.xmp", "Raw profile type exif", "Raw profile type APP1")
_XMP_ORIENTATION = re.compile(rb"(tiff:Orientation\s*=\s*[\"']|<tiff:Orientation[^>]*>\s*)[1-8]")
_XMP_HAS_EXTENSION = re.compile(rb"\s+xmpNote:HasExtendedXMP\s*=\s*(\"[^\"]*\"|'[^']*')")


@dataclass(frozen=True)
class Metadata:
    """Metadata of a picture file, written unchanged into the result; None or empty if absent.

    Attributes:
        exif: EXIF data with the "Exif" signature.
        icc_profile: the colour profile.
        dpi: resolution in dots per inch, (horizontal, vertical).
        xmp: the XMP packet.
        comment: the first comment; its encoding is unknown.
        aspect: density of pixels that are not square, (horizontal, vertical), in samples per arbitrary unit of length.
        photoshop: Photoshop's image resources, including the IPTC data (title, caption, keywords).
        extended_xmp: payloads of the segments in which a JPEG continues its XMP packet.
        further_comments: the comments after the first.
        texts: further texts of a PNG, as pairs of key and content.
        others: names of metadata in the file that no result keeps.
    """

    exif: bytes | None = None
    icc_profile: bytes | None = None
    dpi: tuple[float, float] | None = None
    xmp: bytes | None = None
    comment: bytes | None = None
    aspect: tuple[int, int] | None = None
    photoshop: bytes | None = None
    extended_xmp: tuple[bytes, ...] = ()
    further_comments: tuple[bytes, ...] = ()
    texts: tuple[tuple[str, str], ...] = ()
    others: tuple[str, ...] = ()

    @property
    def iptc(self) -> bytes | None:
        """The IPTC data in Photoshop's image resources."""
        return _resource(self.photoshop or b"", _IPTC_RESOURCE)

    @property
    def comments(self) -> tuple[bytes, ...]:
        """All comments."""
        return (self.comment, *self.further_comments) if self.comment is not None else ()


# Reading.


def of_segments(application: Sequence[tuple[int, bytes]]) -> Metadata:
    """The metadata of a JPEG file.

    Args:
        application: marker and payload of its application segments and comments.
    """
    exif_parts: list[bytes] = []
    icc_chunks: list[bytes] = []
    photoshop: list[bytes] = []
    packets: list[bytes] = []
    extended: list[bytes] = []
    comments: list[bytes] = []
    others: list[str] = []
    density: tuple[int, int, int] | None = None
    for marker, payload in application:
        if marker == _APP0 and payload[:5] == b"JFIF\0" and len(payload) >= 12:
            density = struct.unpack_from(">BHH", payload, 7)
            if payload[12:14] != b"\0\0" and len(payload) > 14:
                others.append("a thumbnail (JFIF)")
        elif marker == _APP1 and payload.startswith(exif_.SIGNATURE):
            # Long EXIF data is split into several segments, each with the signature.
            exif_parts.append(payload[len(exif_.SIGNATURE) :] if exif_parts else payload)
        elif marker == _APP1 and payload.startswith(_XMP_SIGNATURE):
            packets.append(payload[len(_XMP_SIGNATURE) :])
        elif marker == _APP1 and payload.startswith(_EXTENSION_SIGNATURE):
            extended.append(payload)
        elif marker == _APP2 and payload.startswith(_ICC_SIGNATURE):
            icc_chunks.append(payload[len(_ICC_SIGNATURE) :])
        elif marker == _APP13 and payload.startswith(_PHOTOSHOP_SIGNATURE):
            photoshop.append(payload[len(_PHOTOSHOP_SIGNATURE) :])
        elif marker == _COM:
            comments.append(payload)
        elif name := _segment_name(marker, payload):
            others.append(name)
    exif, profile = b"".join(exif_parts) or None, _join_icc(icc_chunks)
    if icc_chunks and profile is None:
        others.append("a colour profile that is incomplete")
    if len(packets) > 1:
        others.append("further XMP packets")
    return Metadata(
        exif=exif,
        icc_profile=profile,
        dpi=_resolution(density, exif),
        xmp=packets[0] if packets else None,
        comment=comments[0] if comments else None,
        aspect=_aspect(density),
        photoshop=b"".join(photoshop) or None,
        extended_xmp=tuple(extended),
        further_comments=tuple(comments[1:]),
        others=tuple(dict.fromkeys(others)),
    )


def _segment_name(marker: int, payload: bytes) -> str | None:
    """Name of a segment that no result keeps; None if it describes the coding only."""
    if (marker == _APP14 and payload.startswith(b"Adobe")) or (marker == _APP12 and payload.startswith(b"Ducky")):
        return None
    known = {
        (_APP0, b"JFXX\0"): "a thumbnail (JFXX)",
        (_APP2, b"MPF\0"): "the list of further pictures (MPF)",
        (_APP2, b"urn:iso:std:iso:ts:21496"): "the description of a gain map",
        (_APP11, b"JP"): "content credentials or other JUMBF data",
    }
    for (kind, signature), name in known.items():
        if marker == kind and payload.startswith(signature):
            return name
    label = re.match(rb"[\w .:/-]{2,32}", payload)
    return f"application data {marker - _APP0}" + (f" ({label[0].decode().strip()})" if label else "")


def _join_icc(chunks: list[bytes]) -> bytes | None:
    """Join the chunks of an ICC profile; each begins with its number and the number of chunks (ICC.1, B.4)."""
    ordered = sorted(chunks)
    expected = [bytes([i + 1, len(chunks)]) for i in range(min(len(chunks), 255))]
    if not chunks or [chunk[:2] for chunk in ordered] != expected:
        return None
    return b"".join(chunk[2:] for chunk in ordered)


def _aspect(density: tuple[int, int, int] | None) -> tuple[int, int] | None:
    """The aspect ratio of pixels, from a JFIF header (unit, horizontal, vertical) without a unit."""
    if density is None or density[0] != 0 or density[1] == density[2] or 0 in density[1:]:
        return None
    return density[1], density[2]


def _resolution(density: tuple[int, int, int] | None, exif: bytes | None) -> tuple[float, float] | None:
    """Resolution in dots per inch (horizontal, vertical), from the JFIF header (unit, horizontal, vertical), else from EXIF."""
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
        except Exception:  # Pillow raises many kinds of errors for damaged EXIF data, which are kept unchanged.
            return None
    return (x, y) if 0 < x < math.inf and 0 < y < math.inf else None


def _resource(resources: bytes, number: int) -> bytes | None:
    """The content of one of Photoshop's image resources; None if it is absent."""
    at = 0
    while resources[at : at + 4] == b"8BIM" and at + 7 <= len(resources):
        (own,) = struct.unpack_from(">H", resources, at + 4)
        # The name is preceded by its length and padded to an even length; so is the content.
        name = 1 + resources[at + 6]
        at += 6 + name + name % 2
        if at + 4 > len(resources):
            break
        (length,) = struct.unpack_from(">I", resources, at)
        content = resources[at + 4 : at + 4 + length]
        if own == number:
            return content
        at += 4 + length + length % 2
    return None


def of_pillow(image: Image.Image) -> Metadata:
    """The metadata of a picture that Pillow has opened and decoded."""
    # Text chunks of a PNG file can have any key, even one that Pillow uses in `info`: so values may have any type.
    info = image.info
    exif = _binary(info.get("exif")) or _collected_exif(image)
    if exif and not exif.startswith(exif_.SIGNATURE):
        exif = exif_.SIGNATURE + exif
    # PNG has "aspect", TIFF without a unit "resolution".
    aspect = _valid_dpi(info.get("aspect") or info.get("resolution"))
    comment = _encoded(info.get("comment") or info.get("Comment"))
    return Metadata(
        exif=exif or None,
        icc_profile=_binary(info.get("icc_profile")),
        dpi=_valid_dpi(info.get("dpi")),
        xmp=_encoded(info.get("xmp")),
        comment=comment,
        aspect=(round(aspect[0]), round(aspect[1])) if aspect and aspect[0] != aspect[1] and max(aspect) <= _MAX_DPI else None,
        photoshop=_photoshop_of_tiff(image) if image.format == "TIFF" else None,
        texts=_texts(image),
    )


def _texts(image: Image.Image) -> tuple[tuple[str, str], ...]:
    """The texts of a PNG, except its comment."""
    if not isinstance(image, PngImagePlugin.PngImageFile):
        return ()
    return tuple((name, str(text)) for name, text in image.text.items() if name not in _PNG_CODED and name.lower() != "comment")


def _photoshop_of_tiff(image: Image.Image) -> bytes | None:
    tags = getattr(image, "tag_v2", {})
    resources, iptc = _binary(tags.get(TIFF_PHOTOSHOP)) or b"", tags.get(TIFF_IPTC)
    if isinstance(iptc, tuple) and all(isinstance(number, int) for number in iptc):
        iptc = struct.pack(f"<{len(iptc)}I", *(number & 0xFFFFFFFF for number in iptc))
    if isinstance(iptc, bytes) and iptc and _resource(resources, _IPTC_RESOURCE) is None:
        resources += b"8BIM" + struct.pack(">HHI", _IPTC_RESOURCE, 0, len(iptc)) + iptc + bytes(len(iptc) % 2)
    return resources or None


def _collected_exif(image: Image.Image) -> bytes | None:
    """EXIF data that Pillow collects elsewhere; of a TIFF's tags, those that describe the picture. (Pillow turns a TIFF upright.)"""
    try:
        exif = image.getexif()
        if image.format == "TIFF":
            exif = _about_the_picture(exif)
            exif.pop(ExifTags.Base.Orientation, None)
        return exif.tobytes() if len(exif) else None
    except Exception:  # Pillow raises many kinds of errors for damaged EXIF data, which count as absent.
        return None


def _valid_dpi(value: object) -> tuple[float, float] | None:
    try:
        x, y = (float(v) for v in value)  # type: ignore[attr-defined]
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        return None
    # Pillow writes one dot per inch into a TIFF if it does not know the resolution.
    return (x, y) if 0 < x < math.inf and 0 < y < math.inf and (x, y) != (1, 1) else None


def _encoded(value: object) -> bytes | None:
    return (value.encode("utf-8", "replace") if isinstance(value, str) else _binary(value)) or None


def _binary(value: object) -> bytes | None:
    return value if isinstance(value, bytes) and value else None


# Writing.


def kept_by(name: str, metadata: Metadata, channels: int, deep: bool = False) -> tuple[Metadata, tuple[str, ...]]:
    """Split metadata into what a format can hold, and names of what it cannot hold.

    Args:
        name: one of FORMATS.
        metadata: metadata of the picture.
        channels: number of channels of the pixels without alpha: 1, 3 or 4 (CMYK).
        deep: whether the pixels have 16 bits per channel.

    Examples:
        >>> kept, lost = kept_by("png", Metadata(comment=b"a", photoshop=b"8BIM"), 3)
        >>> kept == Metadata(comment=b"a"), lost
        (True, ("Photoshop's data",))
    """
    lost = []
    kept = metadata
    if metadata.icc_profile and not _fits(metadata.icc_profile, channels):
        kept, space = replace(kept, icc_profile=None), metadata.icc_profile[16:20].decode("ascii", "replace").strip()
        lost.append(f"a colour profile for {space}, which does not fit the picture")
    if name not in ("jpeg", "tiff") and metadata.photoshop:
        kept = replace(kept, photoshop=None)
        lost.append("IPTC data (title, caption, keywords)" if metadata.iptc else "Photoshop's data")
    if name != "jpeg" and metadata.extended_xmp:
        bare = _XMP_HAS_EXTENSION.sub(b"", metadata.xmp) if metadata.xmp else None
        kept = replace(kept, extended_xmp=(), xmp=bare)
        lost.append("extended XMP data")
    if name == "jpeg" and len(_XMP_SIGNATURE) + len(metadata.xmp or b"") > _MAX_PAYLOAD:
        kept = replace(kept, xmp=None)
        lost.append("XMP data of more than 64 kB")
    if name in ("webp", "avif") and metadata.comments:
        kept = replace(kept, comment=None, further_comments=())
        lost.append("its comment" if len(metadata.comments) == 1 else f"{len(metadata.comments)} comments")
    if name == "tiff" and metadata.comments and isinstance(_exif(metadata).get(TIFF_DESCRIPTION), str):
        kept = replace(kept, comment=None, further_comments=())
        lost.append("its comment, beside a description")
    if name in ("webp", "avif"):
        kept = replace(kept, aspect=None, dpi=None)
        if metadata.aspect:
            lost.append("the pixels' aspect ratio")
        if metadata.dpi and metadata.dpi not in _NO_RESOLUTION and _exif_resolution(metadata.exif or b"") is None:
            lost.append("the resolution")
    if name in ("avif", "tiff") and metadata.exif:
        exif = _exif(metadata)
        # Encoders of these formats parse EXIF data, and fail if the data are damaged.
        if not exif or not isinstance(exif.get(ExifTags.Base.Orientation, 1), int):
            kept = replace(kept, exif=None)
            lost.append("EXIF data, which are damaged")
        elif (name == "tiff" or ExifTags.Base.Orientation in exif) and exif_.has_maker_note(metadata.exif) and not deep:
            lost.append("the position of the maker notes, so that some programs cannot read them")
    if name != "png" and metadata.texts:
        kept = replace(kept, texts=())
        lost.append(f"texts ({', '.join(text for text, _ in metadata.texts)})")
    if name == "tiff":
        lost += _lost_in_tiff(metadata, deep)
    return kept, tuple(lost)


def _lost_in_tiff(metadata: Metadata, deep: bool) -> Iterator[str]:
    exif = _exif(metadata)
    kept = _about_the_picture(exif)
    lost = [ExifTags.TAGS.get(tag, f"tag {tag}") for tag in exif if tag not in kept and tag not in _STORAGE]
    if deep:
        lost += [folder.name for folder in _TIFF_FOLDERS if folder in kept]
    if lost:
        yield f"EXIF data ({', '.join(lost)})"
    if exif_.has_thumbnail(metadata.exif):
        yield "the thumbnail"


def _fits(profile: bytes, channels: int) -> bool:
    """Whether a colour profile fits the number of channels, by the colour space in its header (ICC.1, 7.2.6)."""
    return {b"GRAY": 1, b"RGB ": 3, b"CMYK": 4}.get(profile[16:20], channels) == channels


def save_options(metadata: Metadata, name: str) -> dict[str, Any]:
    """Arguments of Pillow's save() that write metadata left by :func:`kept_by`; :func:`completed` adds those without an argument."""
    kept: dict[str, Any] = {"icc_profile": metadata.icc_profile, "dpi": resolution(metadata)}
    if name == "png":
        text = PngImagePlugin.PngInfo()
        if metadata.xmp:
            text.add_itxt("XML:com.adobe.xmp", metadata.xmp.decode("utf-8", "replace"))
        for comment in metadata.comments:
            text.add_itxt("Comment", _text(comment))
        for key, value in metadata.texts:
            text.add_itxt(key, value)
        kept |= {"pnginfo": text, "exif": metadata.exif}
    elif name == "tiff":
        kept["exif"] = tags = tiff_tags(metadata)
        if any(folder in tags for folder in _TIFF_FOLDERS):
            kept["compression"] = "raw"  # libtiff, which does the compression, cannot write these.
    elif name != "jpeg":
        kept |= {"exif": metadata.exif, "xmp": metadata.xmp}
    else:
        kept = {}
    return {key: value for key, value in kept.items() if value is not None}


def completed(data: bytes, metadata: Metadata, name: str) -> bytes:
    """Add metadata for which Pillow has no argument to a file written by Pillow: segments of a JPEG, and the aspect ratio of pixels."""
    if name == "png" and metadata.aspect:
        return with_png_chunk(data, b"pHYs", struct.pack(">IIB", *metadata.aspect, 0))
    if name != "jpeg":
        return data
    # Metadata go after the JFIF header. A file without one (CMYK) gets one if it needs a resolution.
    first = 2
    if data[2:4] == b"\xff\xe0":
        first += 2 + struct.unpack_from(">H", data, 4)[0]
    header, dpi = data[2:first], resolution(metadata)
    if metadata.aspect or dpi:
        unit, values = (1, dpi) if dpi else (0, metadata.aspect or ())
        header = b"\xff\xe0\0\x10JFIF\0\1\1" + struct.pack(">BHHBB", unit, *(max(1, round(v)) for v in values), 0, 0)
    segments = (struct.pack(">BBH", 0xFF, marker, len(payload) + 2) + payload for marker, payload in _segments(metadata))
    return b"".join([data[:2], header, *segments, data[first:]])


def _segments(metadata: Metadata) -> Iterator[tuple[int, bytes]]:
    """Marker and payload of the segments that hold the metadata of a JPEG."""
    exif = (metadata.exif or b"").removeprefix(exif_.SIGNATURE)
    yield from ((_APP1, part) for part in _parts(exif_.SIGNATURE, exif))
    if metadata.xmp:
        yield _APP1, _XMP_SIGNATURE + metadata.xmp
    yield from ((_APP1, payload) for payload in metadata.extended_xmp)
    chunks = list(_parts(b"", metadata.icc_profile or b"", len(_ICC_SIGNATURE) + 2))
    if len(chunks) <= 255:
        yield from ((_APP2, _ICC_SIGNATURE + bytes([i, len(chunks)]) + chunk) for i, chunk in enumerate(chunks, 1))
    yield from ((_APP13, part) for part in _parts(_PHOTOSHOP_SIGNATURE, metadata.photoshop or b""))
    for comment in metadata.comments:
        yield from ((_COM, part) for part in _parts(b"", comment))


def _parts(signature: bytes, content: bytes, room: int = 0) -> Iterator[bytes]:
    """Split content into parts that fit into a segment, each preceded by the signature."""
    length = _MAX_PAYLOAD - len(signature) - room
    return (signature + content[begin : begin + length] for begin in range(0, len(content), length))


def with_png_chunk(data: bytes, name: bytes, content: bytes) -> bytes:
    """Add a chunk to a PNG file, after its header."""
    header = 8 + 25
    chunk = struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
    return data[:header] + chunk + data[header:]


def tiff_tags(metadata: Metadata) -> Image.Exif:
    """The metadata as tags of a TIFF, except resolution and colour profile, which are separate arguments."""
    tags = _about_the_picture(_exif(metadata))
    if metadata.xmp:
        tags[TIFF_XMP] = metadata.xmp
    if metadata.photoshop:
        tags[TIFF_PHOTOSHOP] = metadata.photoshop
        if metadata.iptc:
            tags[TIFF_IPTC] = metadata.iptc
    if metadata.comments and TIFF_DESCRIPTION not in tags:
        tags[TIFF_DESCRIPTION] = _ascii("\n".join(map(_text, metadata.comments)))
    if metadata.aspect:
        tags[_TIFF_UNIT], tags[_TIFF_X], tags[_TIFF_Y] = 1, float(metadata.aspect[0]), float(metadata.aspect[1])
    return tags


def _about_the_picture(exif: Image.Exif) -> Image.Exif:
    """The tags that describe the picture (not how a file stores it) and that Pillow can write into a TIFF."""
    tags = Image.Exif()
    for tag in _TIFF_TEXTS:
        if isinstance(exif.get(tag), str):
            tags[tag] = _ascii(exif[tag])
    if exif.get(ExifTags.Base.Orientation) in range(1, 9):
        tags[ExifTags.Base.Orientation] = int(exif[ExifTags.Base.Orientation])
    for folder in _TIFF_FOLDERS:
        if content := _folder(exif, folder):
            tags.get_ifd(folder).update(content)
            tags[folder] = content
    return tags


def _ascii(text: str) -> str:
    return text.encode("ascii", "replace").decode()


def _folder(exif: Image.Exif, folder: int) -> dict[int, Any]:
    """The content of a subdirectory; empty if it is damaged and cannot be written."""
    alone = Image.Exif()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            alone.get_ifd(folder).update(exif.get_ifd(folder))
            alone[folder] = alone.get_ifd(folder)
            alone.tobytes()
        except Exception:  # Pillow raises many kinds of errors here.
            return {}
    return dict(alone.get_ifd(folder))


def _exif(metadata: Metadata) -> Image.Exif:
    exif = Image.Exif()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            exif.load(metadata.exif or b"")
            dict(exif)  # Pillow parses values when they are read.
        except Exception:  # Pillow raises many kinds of errors for damaged EXIF data, which count as absent.
            return Image.Exif()
    return exif


def resolution(metadata: Metadata) -> tuple[float, float] | None:
    """Resolution in dots per inch; None if a file cannot hold it, or if the aspect ratio of pixels is stored in its place."""
    return metadata.dpi if metadata.dpi and not metadata.aspect and max(metadata.dpi) <= _MAX_DPI else None


def _text(comment: bytes) -> str:
    try:
        return comment.decode("utf-8").rstrip("\0")
    except UnicodeDecodeError:
        return comment.decode("latin-1").rstrip("\0")


# Orientation, and removal.


def orientation(metadata: Metadata) -> int:
    """The EXIF orientation, 1 … 8; 1 if it is missing or invalid."""
    return exif_.orientation(metadata.exif) or 1


def upright(metadata: Metadata) -> Metadata:
    """The metadata of a picture after turning it upright by its EXIF orientation; unchanged without an orientation."""
    if exif_.orientation(metadata.exif) is None:
        return metadata
    assert metadata.exif is not None  # It has an orientation.
    xmp = metadata.xmp and _XMP_ORIENTATION.sub(rb"\g<1>1", metadata.xmp)
    turned = replace(metadata, exif=exif_.upright(metadata.exif), xmp=xmp)
    if orientation(metadata) < 5:
        return turned
    return replace(turned, dpi=metadata.dpi and metadata.dpi[::-1], aspect=metadata.aspect and metadata.aspect[::-1])


def stripped(metadata: Metadata) -> Metadata:
    """The metadata needed to show the picture correctly: colour profile, orientation, and aspect ratio of pixels."""
    turned = orientation(metadata)
    exif = exif_.with_orientation(turned) if turned > 1 else None
    return Metadata(exif=exif, icc_profile=metadata.icc_profile, aspect=metadata.aspect)
