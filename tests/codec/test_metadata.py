"""Metadata: read from hand-built files, written into results, or reported if a format cannot hold it."""

from __future__ import annotations

import io
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import png
import pytest
import tifffile
from PIL import ExifTags, Image, ImageCms, ImageOps, PngImagePlugin

from redecode.codec import encode, exif, jpeg, metadata, raster
from redecode.codec.encode import Encoding
from redecode.codec.formats import FORMATS
from redecode.codec.metadata import Metadata
from redecode.options import Options
from redecode.recode import Restored, restore

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 20, 3), dtype=np.uint8)
COM, APP0, APP1, APP2, APP11, APP13, APP14 = 0xFE, 0xE0, 0xE1, 0xE2, 0xEB, 0xED, 0xEE
XMP = b"http://ns.adobe.com/xap/1.0/\0"
PACKET = b"<x:xmpmeta><rdf:Description tiff:Orientation=\"6\" xmpNote:HasExtendedXMP='00'/></x:xmpmeta>"
EXTENSION = b"http://ns.adobe.com/xmp/extension/\0" + b"0" * 32 + struct.pack(">II", 9, 0) + b"<x:more/>"
# A caption (2:120) and a byline (2:80).
IPTC = b"\x1c\x02\x78\x00\x09A caption" + b"\x1c\x02\x50\x00\x02Me"
RESOURCES = b"8BIM\x04\x25\0\0" + struct.pack(">I", 3) + b"abc\0" + b"8BIM\x04\x04\x03odd" + struct.pack(">I", len(IPTC)) + IPTC
PHOTOSHOP = b"Photoshop 3.0\0" + RESOURCES


def saved(image: Image.Image, name: str = "JPEG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, name, **options)
    return buffer.getvalue()


def plain(**options: object) -> bytes:
    """A JPEG without metadata."""
    return saved(Image.fromarray(PIXELS), quality=50, **options)


def with_segments(*segments: tuple[int, bytes], data: bytes = b"") -> bytes:
    """A JPEG with segments behind its JFIF header."""
    data = data or plain()
    at = 20 if data[2:4] == b"\xff\xe0" else 2
    return data[:at] + b"".join(struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content for marker, content in segments) + data[at:]


def segments(data: bytes) -> list[tuple[int, bytes]]:
    """All segments before the first scan, walked independently."""
    found, at = [], 2
    while data[at + 1] != 0xDA:
        length = struct.unpack_from(">H", data, at + 2)[0]
        found.append((data[at + 1], data[at + 4 : at + 2 + length]))
        at += 2 + length
    return found


def restored(data: bytes, **options: object) -> Restored:
    return restore(Plain(), data, Options(**options))


class Plain:
    """A decoder without networks: the plain decode."""

    def decode(self, picture: object, *_: object):
        from redecode.restoration.render import to_pixels
        from redecode.result import Decoded

        pixels = to_pixels(picture.planes(), picture, project=False) if picture.compressed else picture.pixels
        return Decoded(pixels, np.zeros(pixels.shape[:2], bool), picture, picture.planes(), None, 0.0, False, changed=picture.compressed)


def turned_exif(orientation: int, thumbnail: bool = True, order: str = ">", maker: bytes = b"MAKER NOTES of no known form") -> bytes:
    """EXIF data in a camera's layout: the main directory, the Exif directory with maker notes, and a thumbnail in the second directory."""

    def folder(entries: list[tuple[int, int, int, bytes]], following: int) -> bytes:
        body = b"".join(struct.pack(order + "HHI", tag, kind, count) + value.ljust(4, b"\0") for tag, kind, count, value in entries)
        return struct.pack(order + "H", len(entries)) + body + struct.pack(order + "I", following)

    def short(value: int) -> bytes:
        return struct.pack(order + "H", value)

    def long(value: int) -> bytes:
        return struct.pack(order + "I", value)

    small = saved(Image.fromarray(np.random.default_rng(1).integers(0, 256, (24, 32, 3), np.uint8)), quality=80)
    below_at = 8 + 2 + 12 * 2 + 4
    second_at = below_at + 2 + 12 * 3 + 4
    maker_at = second_at + 2 + 12 * 4 + 4
    small_at = maker_at + len(maker)
    main = folder([(0x112, 3, 1, short(orientation)), (0x8769, 4, 1, long(below_at))], second_at if thumbnail else 0)
    below = folder([(0x927C, 7, len(maker), long(maker_at)), (0xA002, 4, 1, long(20)), (0xA003, 4, 1, long(12))], 0)
    place = [(0x201, 4, 1, long(small_at)), (0x202, 4, 1, long(len(small)))]
    second = folder([(0x103, 3, 1, short(6)), (0x112, 3, 1, short(orientation)), *place], 0)
    mark = b"MM\0*" if order == ">" else b"II*\0"
    return b"Exif\0\0" + mark + long(8) + main + below + second + maker + small


# Copied from JPEG to JPEG without any change.

CARRIED = {
    "exif": [(APP1, turned_exif(1))],
    "exif of two segments": [(APP1, b"Exif\0\0MM\0*\0\0\0\x08\0\0" + bytes(65_517)), (APP1, b"Exif\0\0" + bytes(range(256)) * 100)],
    "xmp": [(APP1, XMP + PACKET)],
    "extended xmp": [(APP1, XMP + PACKET), (APP1, EXTENSION), (APP1, EXTENSION + b"more")],
    "icc": [(APP2, b"ICC_PROFILE\0\1\1" + bytes(16) + b"RGB " + bytes(99))],
    "icc of two chunks": [(APP2, b"ICC_PROFILE\0\1\2" + bytes(16) + b"RGB " + bytes(65_499)), (APP2, b"ICC_PROFILE\0\2\2" + b"x" * 70)],
    "iptc": [(APP13, PHOTOSHOP)],
    "iptc of two segments": [(APP13, (PHOTOSHOP + bytes(65_533))[:65_533]), (APP13, b"Photoshop 3.0\0" + b"y" * 50)],
    "comments": [(COM, b"one"), (COM, b"two"), (COM, b"\xff\xfethree")],
}


@pytest.mark.parametrize("found", CARRIED.values(), ids=CARRIED)
@pytest.mark.parametrize("same_size", [False, True])
def test_a_jpeg_keeps_its_segments(found: list[tuple[int, bytes]], same_size: bool) -> None:
    done = restored(with_segments(*found), format="jpeg", same_size=same_size)
    assert [segment for segment in segments(done.data) if segment[0] in (COM, APP1, APP2, APP13)] == found
    assert done.notes == ()
    with Image.open(io.BytesIO(done.data)) as image:
        image.load()


def test_comments_between_scans_are_read() -> None:
    data = plain(progressive=True)
    at = data.rindex(b"\xff\xda")
    assert jpeg.read(data[:at] + b"\xff\xfe\0\x05abc" + data[at:]).metadata.comment == b"abc"


# Written into the other formats, or reported.


def test_iptc_in_a_tiff() -> None:
    for deep in (8, 16):
        done = restored(with_segments((APP13, PHOTOSHOP)), format="tiff", depth=deep)
        with tifffile.TiffFile(io.BytesIO(done.data)) as file:
            tags = file.pages[0].tags
            assert bytes(tags[34377].value) == RESOURCES
            assert bytes(tags[33723].value) == IPTC
        assert done.notes == ()
        # And back from these formats.
        assert raster.read(done.data).metadata.photoshop == RESOURCES if deep == 8 else True


@pytest.mark.parametrize("name", ["png", "webp", "avif"])
def test_iptc_without_a_place_is_named(name: str) -> None:
    (note,) = restored(with_segments((APP13, PHOTOSHOP)), format=name).notes
    assert "IPTC" in note
    assert name.upper() in note


@pytest.mark.parametrize("name", FORMATS)
def test_every_loss_is_named(name: str) -> None:
    """All metadata of a JPEG: in the result, or in the note."""
    data = with_segments(
        (APP0, b"JFXX\0\x10"), (APP1, turned_exif(1)), (APP1, XMP + PACKET), (APP1, EXTENSION), (APP2, b"MPF\0MM"),
        (APP11, b"JP\0\1c2pa"), (APP13, PHOTOSHOP), (0xEC, b"PictureInfo\0x"), (0xEC, b"Ducky\0\1"), (COM, b"one"), (COM, b"two"),
    )  # fmt: skip
    data = data[:13] + struct.pack(">BHH", 0, 2, 1) + data[18:]
    done = restored(data, format=name)
    (note,) = done.notes
    for always in ("JFXX", "MPF", "JUMBF", "PictureInfo"):
        assert always in note
    assert "Ducky" not in note
    assert ("IPTC" in note) == (name not in ("jpeg", "tiff"))
    assert ("extended XMP" in note) == (name != "jpeg")
    assert ("comments" in note) == (name in ("webp", "avif"))
    assert ("aspect" in note) == (name in ("webp", "avif"))
    assert ("thumbnail" in note.replace("a thumbnail (JFXX)", "")) == (name == "tiff")
    assert ("maker notes" in note) == (name in ("tiff", "avif"))
    after = (jpeg if name == "jpeg" else raster).read(done.data).metadata
    assert after.xmp is not None
    assert (b"HasExtendedXMP" in after.xmp) == (name == "jpeg")
    if name in ("jpeg", "png", "tiff"):
        if name == "png":
            assert [part.rpartition(b"\0")[2] for part in chunks(done.data, b"iTXt") if part.startswith(b"Comment")] == [b"one", b"two"]
        elif name == "tiff":
            assert opened(done.data).getexif()[0x10E] == "one\ntwo"
        else:
            assert after.comments == (b"one", b"two")
        assert after.aspect == (2, 1)


def chunks(data: bytes, name: bytes) -> list[bytes]:
    """The contents of a PNG's chunks of a name."""
    return [content for own, content in png.Reader(bytes=data).chunks() if own == name]


def test_texts_of_a_png() -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("Author", "Ö. Müller")
    info.add_itxt("Title", "Ein Bild")
    info.add_text("Comment", "hello")
    data = saved(Image.fromarray(PIXELS), "PNG", pnginfo=info)
    for name in FORMATS:
        notes = restored(data, format=name).notes
        assert any("texts (Author, Title)" in note for note in notes) == (name != "png")
    with Image.open(io.BytesIO(restored(data).data)) as image:
        assert {"Author": "Ö. Müller", "Title": "Ein Bild", "Comment": "hello"}.items() <= image.text.items()


def test_texts_of_a_tiff_survive() -> None:
    data = saved(Image.fromarray(PIXELS), "TIFF", description="a description", software="a program", tiffinfo={315: "Me", 33432: "(c)"})
    for name in ("png", "tiff", "webp"):
        exif_data = raster.read(restored(data, format=name).data).metadata.exif
        found = Image.Exif()
        found.load(exif_data)
        assert {270: "a description", 305: "a program", 315: "Me", 33432: "(c)"}.items() <= dict(found).items()


@pytest.mark.parametrize("deep", [8, 16])
@pytest.mark.parametrize(("data", "expected"), [(plain(dpi=(300, 150)), (300, 150)), (plain(), None)])
def test_resolution(data: bytes, expected: tuple[int, int] | None, deep: int) -> None:
    for name in FORMATS if deep == 8 else ("png", "tiff"):
        done = restored(data, format=name, depth=deep)
        if name in ("webp", "avif"):
            assert any("resolution" in note for note in done.notes) == (expected is not None)
        else:
            after = jpeg.read(done.data).metadata if name == "jpeg" else metadata.of_pillow(opened(done.data))
            assert after.dpi == (pytest.approx(expected, abs=0.02) if expected else None)
            assert done.notes == ()


def test_the_aspect_of_cmyk_pixels_is_kept() -> None:
    """Pillow writes no JFIF header for them."""
    data = saved(Image.fromarray(np.dstack([PIXELS, PIXELS[..., 0]]), "CMYK"))
    header = b"\xff\xe0\0\x10JFIF\0\1\1" + struct.pack(">BHHBB", 0, 3, 4, 0, 0)
    done = restored(data[:2] + header + data[2:], format="jpeg")
    assert jpeg.read(done.data).metadata.aspect == (3, 4)
    assert opened(done.data).mode == "CMYK"


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


# Colour profiles.

PROFILES = {
    1: bytes(16) + b"GRAY" + bytes(108),
    3: ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
    4: bytes(16) + b"CMYK" + bytes(108),
}


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("of", PROFILES)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_profile_for_other_channels_is_left_out_with_a_word(channels: int, of: int, name: str) -> None:
    data = saved(Image.fromarray(PIXELS[..., 0] if channels == 1 else PIXELS), quality=50, icc_profile=PROFILES[of])
    done = restored(data, format=name)
    kept = opened(done.data).info.get("icc_profile")
    assert kept == (PROFILES[of] if of == channels else None)
    assert any("colour profile" in note for note in done.notes) == (of != channels)


# Orientation.


@pytest.mark.slow
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("order", [">", "<"])
def test_strip_keeps_the_picture_upright(orientation: int, order: str) -> None:
    data = with_segments((APP1, turned_exif(orientation, order=order)), (COM, b"private"))
    expected = np.asarray(ImageOps.exif_transpose(opened(data)))
    for name in ("png", "jpeg", "webp", "avif", "tiff"):
        shown = ImageOps.exif_transpose(opened(restored(data, format=name, strip=True).data))
        assert shown.size == expected.shape[1::-1]
    for options in ({}, {"auto_orient": True}):
        done = restored(data, strip=True, **options)
        assert done.notes == ()
        assert b"private" not in done.data
        assert b"MAKER" not in done.data
        shown = ImageOps.exif_transpose(opened(done.data))
        assert np.abs(np.asarray(shown).astype(int) - expected).max() <= 60
        assert np.abs(np.asarray(shown).astype(int) - expected).mean() <= 3


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("order", [">", "<"])
def test_auto_orient_turns_exif_with_the_picture(orientation: int, order: str) -> None:
    """In place: all bytes except those of the orientation stay, especially maker notes."""
    before = turned_exif(orientation, order=order)
    after = exif.upright(before)
    assert len(after) == len(before)
    assert after.index(b"MAKER NOTES of no known form") == before.index(b"MAKER NOTES of no known form")
    read = Image.Exif()
    read.load(after)
    assert read[0x112] == 1
    below = read.get_ifd(0x8769)
    assert (below[0xA002], below[0xA003]) == ((12, 20) if orientation >= 5 else (20, 12))
    small = thumbnail(after)
    expected = thumbnail(before).transpose(exif._TURNS[orientation]) if orientation > 1 else thumbnail(before)
    assert small.size == expected.size
    assert np.abs(np.asarray(small).astype(int) - np.asarray(expected)).mean() < 25
    assert read.get_ifd(ExifTags.IFD.IFD1)[0x112] == 1


def thumbnail(data: bytes) -> Image.Image:
    read = Image.Exif()
    read.load(data)
    second = read.get_ifd(ExifTags.IFD.IFD1)
    return opened(data[6 + second[0x201] : 6 + second[0x201] + second[0x202]])


def test_a_thumbnail_that_cannot_be_turned_is_dropped_with_a_word() -> None:
    broken = turned_exif(6)
    at = broken.index(b"\xff\xd8\xff")
    broken = broken[:at] + bytes(len(broken) - at)
    done = restored(with_segments((APP1, broken)), format="jpeg", auto_orient=True)
    assert any("thumbnail" in note for note in done.notes)
    after = jpeg.read(done.data).metadata.exif
    assert not exif.has_thumbnail(after)
    assert exif.has_maker_note(after)


@pytest.mark.parametrize(
    "packet",
    [
        b'<rdf:Description tiff:Orientation="6"/>',
        b"<rdf:Description tiff:Orientation = '6' tiff:Make='x'/>",
        b"<tiff:Orientation>6</tiff:Orientation>",
        b'<tiff:Orientation rdf:datatype="n">\n 6</tiff:Orientation>',
    ],
)
def test_auto_orient_turns_xmp_with_the_picture(packet: bytes) -> None:
    data = with_segments((APP1, turned_exif(6)), (APP1, XMP + packet))
    assert jpeg.read(restored(data, format="jpeg", auto_orient=True).data).metadata.xmp == packet.replace(b"6", b"1")
    assert jpeg.read(restored(data, format="jpeg").data).metadata.xmp == packet
    # Viewers that use EXIF only do not turn a picture without it.
    unturned = with_segments((APP1, XMP + packet))
    assert jpeg.read(restored(unturned, format="jpeg", auto_orient=True).data).metadata.xmp == packet


def test_auto_orient_turns_resolution_and_aspect() -> None:
    turned = metadata.upright(Metadata(exif=turned_exif(6), dpi=(300, 150)))
    assert turned.dpi == (150, 300)
    assert metadata.upright(Metadata(exif=turned_exif(8), aspect=(2, 1))).aspect == (1, 2)
    assert metadata.upright(Metadata(exif=turned_exif(3), dpi=(300, 150))).dpi == (300, 150)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_broken_exif_is_handed_on_by_length() -> None:
    """With any truncation of EXIF data there is a result and no traceback."""
    whole = turned_exif(6)
    for length in range(0, len(whole) - 700, 3):
        cut = whole[:length]
        exif.orientation(cut), exif.has_thumbnail(cut), exif.has_maker_note(cut), exif.upright(cut)
    for length in range(6, 220, 9):
        data = with_segments((APP1, whole[:length]))
        for name in ("jpeg", "tiff", "png"):
            opened(restored(data, format=name, auto_orient=True).data)


def test_a_folder_that_leads_to_itself() -> None:
    looped = bytearray(turned_exif(6))
    looped[6 + 8 + 2 + 24 : 6 + 8 + 2 + 24 + 4] = struct.pack(">I", 8)
    assert exif.orientation(exif.upright(bytes(looped))) == 1


CASES = Path(__file__).parents[2] / "examples"


def test_the_examples_lose_nothing() -> None:
    for path in sorted(CASES.glob("*.jpg")):
        assert metadata.kept_by("png", jpeg.read(path.read_bytes()).metadata, 3)[1] == ()


def test_what_comes_after_the_picture_is_called_by_its_name() -> None:
    data = plain()
    for tail, name in (
        (data, "a further picture"),
        (with_segments((APP1, XMP + b"<hdrgm:Version/>")), "a gain map"),
        (b"\0\0\0\x18ftypmp42" + bytes(20), "a video"),
        (b"junk", "data of another kind"),
    ):
        (note,) = jpeg.read(data + tail).notes
        assert f"{len(tail.rstrip(bytes(1)))} bytes after the picture ({name}" in note


def test_replace_of_the_metadata_keeps_the_rest() -> None:
    """The limits of formats affect only the metadata that they name."""
    everything = Metadata(turned_exif(1), PROFILES[3], (300, 300), PACKET, b"one", None, RESOURCES, (EXTENSION,), (b"two",))
    assert metadata.kept_by("jpeg", everything, 3) == (everything, ())
    kept, _ = metadata.kept_by("png", everything, 3)
    bare = PACKET.replace(b" xmpNote:HasExtendedXMP='00'", b"")
    assert kept == replace(everything, photoshop=None, extended_xmp=(), xmp=bare)


@pytest.mark.parametrize("name", FORMATS)
def test_encode_alone_never_fails_for_metadata(name: str) -> None:
    everything = Metadata(turned_exif(1) + bytes(100_000), PROFILES[3], (300, 300), PACKET * 1000, b"c" * 70_000, (2, 1), RESOURCES * 900)
    opened(encode.encode(PIXELS, everything, Encoding(name)))


# Bounds and lists, value by value.


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ((72, 300), (72, 300)), ((0.5, 2), (0.5, 2)), ((1, 2), (1, 2)), ((2, 1), (2, 1)), ((1, 1), None),
        ((0, 72), None), ((72, 0), None), ((-1, 72), None), ((72, -1), None), ((float("inf"), 72), None), ((72, float("inf")), None),
        ((float("nan"), 72), None), ((72, float("nan")), None), ((72,), None), ((1, 2, 3), None), ("ab", None), (None, None), (72, None),
    ],
)  # fmt: skip
def test_resolutions_that_make_no_sense(value: object, expected: tuple[float, float] | None) -> None:
    image = Image.new("L", (1, 1))
    image.info["dpi"] = value
    assert metadata.of_pillow(image).dpi == expected


@pytest.mark.parametrize(
    ("unit", "x", "y", "expected"),
    [
        (2, 300, 150, (300, 150)),
        (3, 100, 50, (254, 127)),
        (2, 0, 72, None),
        (2, 72, 0, None),
        (1, 72, 36, (72, 36)),
        (None, 72, 36, (72, 36)),
    ],
)
def test_resolutions_in_exif(unit: int | None, x: float, y: float, expected: tuple[float, float] | None) -> None:
    data = Image.Exif()
    data[0x011A], data[0x011B] = float(x), float(y)
    if unit is not None:
        data[0x0128] = unit
    assert jpeg.read(with_segments((APP1, data.tobytes()))).metadata.dpi == (pytest.approx(expected) if expected else None)


@pytest.mark.parametrize(("density", "dpi", "aspect"), [
    ((0, 1, 1), None, None), ((0, 1, 2), None, (1, 2)), ((0, 2, 1), None, (2, 1)), ((0, 0, 2), None, None), ((0, 2, 0), None, None),
    ((1, 72, 36), (72, 36), None), ((1, 0, 72), None, None), ((1, 72, 0), None, None), ((2, 100, 50), (254, 127), None),
    ((3, 72, 36), None, None),
])  # fmt: skip
def test_density_of_jfif(density: tuple[int, int, int], dpi: tuple[float, float] | None, aspect: tuple[int, int] | None) -> None:
    data = plain()
    found = jpeg.read(data[:13] + struct.pack(">BHH", *density) + data[18:]).metadata
    assert (found.dpi, found.aspect) == (dpi, aspect)


@pytest.mark.parametrize("tag", [270, 271, 272, 305, 306, 315, 33432])
@pytest.mark.parametrize("deep", [8, 16])
def test_each_text_survives_in_a_tiff(tag: int, deep: int) -> None:
    data = Image.Exif()
    data[tag] = "2020:01:02 03:04:05"
    done = restored(with_segments((APP1, data.tobytes())), format="tiff", depth=deep)
    with tifffile.TiffFile(io.BytesIO(done.data)) as file:
        assert file.pages[0].tags[tag].value == "2020:01:02 03:04:05"
    assert done.notes == ()


@pytest.mark.parametrize("tag", [256, 257, 258, 259, 262, 273, 277, 278, 279, 282, 283, 284, 296, 513, 514, 529, 530, 531, 532])
def test_tags_of_storage_are_neither_kept_nor_missed(tag: int) -> None:
    data = Image.Exif()
    data[tag] = 8
    done = restored(with_segments((APP1, data.tobytes())), format="tiff")
    assert done.notes == ()
    assert np.asarray(opened(done.data)).shape == PIXELS.shape


@pytest.mark.parametrize("tag", [0x0000, 253, 316, 0x4746, 0x9C9B])
def test_other_tags_are_missed_in_a_tiff(tag: int) -> None:
    data = Image.Exif()
    data[tag] = 8
    (note,) = restored(with_segments((APP1, data.tobytes())), format="tiff").notes
    assert ExifTags.TAGS.get(tag, f"tag {tag}") in note


def test_all_tags_of_a_deep_tiff() -> None:
    """XMP, resources, orientation and aspect ratio: each once and complete."""
    everything = Metadata(turned_exif(6), None, None, PACKET, b"a comment", (2, 1), RESOURCES)
    data = encode.encode(PIXELS.astype(np.uint16) * 257, everything, Encoding("tiff"))
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        tags = file.pages[0].tags
        assert bytes(tags[700].value) == PACKET
        assert bytes(tags[34377].value) == RESOURCES
        assert (tags[274].value, tags[296].value, tags[282].value, tags[283].value) == (6, 1, (2, 1), (1, 1))
        assert tags[270].value == "a comment"
        codes = [tag.code for tag in tags]
        assert len(codes) == len(set(codes))


@pytest.mark.parametrize("content", [b"", b"8BIM", b"8BIM\4\4", b"8BIM\4\4\0\0", b"8BIM\4\4\0\0\0\0", b"8BIM\4\4\xff", b"8BIX" + bytes(40)])
def test_broken_resources_hold_no_iptc(content: bytes) -> None:
    assert not Metadata(photoshop=content).iptc


def test_info_tells_of_iptc() -> None:
    from redecode.facts import inspect

    found = inspect(with_segments((APP13, PHOTOSHOP), (APP11, b"JP\0\1c2pa")))["metadata"]
    assert "iptc" in found
    assert any("JUMBF" in name for name in found)


def test_the_aspect_ratio_in_a_tiff_has_no_unit() -> None:
    pixels = np.zeros((4, 6, 3), np.uint8)
    with Image.open(io.BytesIO(encode.encode(pixels, Metadata(aspect=(2, 1)), Encoding("tiff")))) as image:
        tags = image.tag_v2  # type: ignore[attr-defined]
        assert (tags[296], tags[282], tags[283]) == (1, 2, 1)
