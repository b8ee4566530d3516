from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import png
import pytest
from PIL import Image, ImageCms

from redecode.codec import encode, jpeg
from redecode.codec.encode import Encoding
from redecode.codec.formats import FORMATS
from redecode.codec.metadata import Metadata
from redecode.errors import UnsupportedError

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 20, 3), dtype=np.uint8)
ALPHA = np.arange(240, dtype=np.uint8).reshape(12, 20)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
DESCRIPTION, ORIENTATION = 0x010E, 0x0112


def metadata(orientation: int = 6) -> Metadata:
    exif = Image.Exif()
    exif[DESCRIPTION] = "a description"
    exif[ORIENTATION] = orientation
    return Metadata(exif.tobytes(), SRGB, (300, 200), b"<x:xmpmeta/>", "Grüße".encode())


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("gray", [False, True])
def test_pixels_and_metadata_survive(name: str, gray: bool) -> None:
    pixels = PIXELS[..., 0] if gray else PIXELS
    # Pillow turns a TIFF upright when it reads it.
    orientation = 1 if name == "tiff" else 6
    image = opened(encode.encode(pixels, metadata(orientation), Encoding(name)))
    assert image.format == name.upper()
    assert image.getexif()[DESCRIPTION] == "a description"
    assert image.getexif()[ORIENTATION] == orientation
    # An RGB profile is for RGB.
    assert image.info.get("icc_profile") == (None if gray else SRGB)
    assert image.info["xmp"] == b"<x:xmpmeta/>"
    if name not in ("webp", "avif"):  # These formats cannot hold a resolution or comments.
        assert image.info["dpi"] == pytest.approx((300, 200), abs=0.01)
    if name == "png":
        assert image.info["Comment"] == "Grüße"
    if name == "jpeg":
        assert image.info["comment"] == "Grüße".encode()
    if name not in ("jpeg", "avif"):
        np.testing.assert_array_equal(np.asarray(image.convert("L") if gray else image), pixels)


def test_lossy_webp_is_smaller() -> None:
    assert len(encode.encode(PIXELS, Metadata(), Encoding("webp", 30))) < len(encode.encode(PIXELS, Metadata(), Encoding("webp"))) / 2


@pytest.mark.parametrize("name", ["png", "webp", "tiff"])
@pytest.mark.parametrize("gray", [False, True])
def test_alpha_is_put_back(name: str, gray: bool) -> None:
    pixels = PIXELS[..., 0] if gray else PIXELS
    image = opened(encode.encode(pixels, Metadata(), Encoding(name), ALPHA))
    np.testing.assert_array_equal(np.asarray(image.getchannel("A")), ALPHA)
    np.testing.assert_array_equal(np.asarray(image)[..., 0], PIXELS[..., 0])


def test_jpeg_has_no_alpha() -> None:
    with pytest.raises(UnsupportedError, match="transparency"):
        encode.encode(PIXELS, Metadata(), Encoding("jpeg"), ALPHA)


@pytest.mark.parametrize("shape", [(12, 20), (12, 20, 3)])
def test_sixteen_bits(shape: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(1).integers(0, 65536, shape, dtype=np.uint16)
    data = encode.encode(pixels, metadata(), Encoding("png"))
    width, height, rows, info = png.Reader(bytes=data).read()
    assert (width, height, info["bitdepth"]) == (20, 12, 16)
    np.testing.assert_array_equal(np.array([np.array(row) for row in rows]).reshape(shape), pixels)
    image = opened(data)
    assert image.getexif()[DESCRIPTION] == "a description"
    assert image.info.get("icc_profile") == (SRGB if len(shape) == 3 else None)

    import tifffile

    data = encode.encode(pixels, metadata(), Encoding("tiff"))
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages[0]
        np.testing.assert_array_equal(page.asarray(), pixels)
        assert page.tags[DESCRIPTION].value == "a description"
        assert page.tags[ORIENTATION].value == 6
    with pytest.raises(UnsupportedError, match="8 bits"):
        encode.encode(pixels, Metadata(), Encoding("webp"))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_upright(orientation: int) -> None:
    """Pillow's own transposition is the oracle."""
    from PIL import ImageOps

    source = metadata(orientation)
    turned, after = encode.upright(PIXELS, source)
    expected = Image.fromarray(PIXELS)
    expected.getexif()[ORIENTATION] = orientation
    np.testing.assert_array_equal(turned, np.asarray(ImageOps.exif_transpose(expected)))
    image = opened(encode.encode(turned, after, Encoding("png")))
    assert image.getexif()[ORIENTATION] == 1
    assert image.getexif()[DESCRIPTION] == "a description"
    assert after.dpi == ((200, 300) if orientation >= 5 else (300, 200))


def test_upright_without_or_with_broken_exif() -> None:
    for exif in (None, b"Exif\0\0nonsense"):
        turned, after = encode.upright(PIXELS, Metadata(exif=exif))
        assert turned is PIXELS
        assert after.exif == exif


@pytest.mark.parametrize("name", FORMATS)
def test_broken_exif_does_not_stop_the_writing(name: str) -> None:
    data = encode.encode(PIXELS, Metadata(exif=b"Exif\0\0nonsense"), Encoding(name))
    assert opened(data).size == (20, 12)


def test_cmyk() -> None:
    inks = np.random.default_rng(2).integers(0, 256, (16, 16, 4), dtype=np.uint8)
    tiff = opened(encode.encode(inks, Metadata(), Encoding("tiff")))
    assert tiff.mode == "CMYK"
    np.testing.assert_array_equal(np.asarray(tiff), inks)
    assert opened(encode.encode(inks, Metadata(), Encoding("jpeg"))).mode == "CMYK"
    shown = opened(encode.encode(inks, Metadata(), Encoding("png")))
    np.testing.assert_array_equal(np.asarray(shown), np.asarray(Image.fromarray(inks, "CMYK").convert("RGB")))


@pytest.mark.parametrize("subsampling", [*jpeg.SUBSAMPLINGS, "gray"])
def test_encode_like(photograph: np.ndarray, subsampling: str) -> None:
    pixels = photograph[..., 0] if subsampling == "gray" else photograph
    data = jpeg.compress(pixels, 20, "4:4:4" if subsampling == "gray" else subsampling)
    source = jpeg.read(data)
    again = jpeg.read(encode.encode_like(pixels, source, Metadata()))
    assert again.subsampling == source.subsampling
    for ours, theirs in zip(again.components, source.components, strict=True):
        np.testing.assert_array_equal(ours.table, theirs.table)
        np.testing.assert_array_equal(ours.coefficients, theirs.coefficients)


def test_encode_like_refuses_what_it_cannot_write(photograph: np.ndarray) -> None:
    source = jpeg.read(jpeg.compress(photograph, 20))
    large = replace(source, components=tuple(replace(c, table=c.table + np.uint16(300)) for c in source.components))
    with pytest.raises(UnsupportedError, match="tables"):
        encode.encode_like(photograph, large, Metadata())
    with pytest.raises(UnsupportedError, match="RGB"):
        encode.encode_like(photograph, replace(source, colour_model="RGB"), Metadata())


def test_what_a_format_cannot_hold_is_said() -> None:
    with pytest.raises(UnsupportedError, match="webp cannot hold"):
        encode.encode(np.zeros((1, 16400), np.uint8), Metadata(), Encoding("webp"))
