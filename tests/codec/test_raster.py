from __future__ import annotations

import io
import itertools
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import png
import pytest
import tifffile
from PIL import Image, ImageDraw, ImageFont
from test_metadata import Plain

from redecode.codec import encode, jpeg, raster, tiff
from redecode.codec.metadata import Metadata
from redecode.codec.picture import read
from redecode.codec.raster import RasterImage
from redecode.codec.trace import Trace
from redecode.decoder import Decoder
from redecode.errors import LimitError, RedecodeError, TooLargeError, UnreadableError, UnsupportedError
from redecode.options import Options
from redecode.recode import restore
from redecode.restoration import shrinkage

EXAMPLES = Path(__file__).parents[2] / "examples"


def saved(image: Image.Image, name: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, name, **options)
    return buffer.getvalue()


def decoded(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


@pytest.fixture(scope="module")
def example() -> bytes:
    return (EXAMPLES / "parrots-q10.jpg").read_bytes()


@pytest.mark.parametrize("name", ["PNG", "BMP", "TIFF", "WEBP"])
def test_traces_survive_lossless_formats(example: bytes, name: str) -> None:
    options = {"lossless": True} if name == "WEBP" else {}
    image = raster.read(saved(decoded(example), name, **options))
    assert image.trace is not None
    assert abs(image.trace.quality - 10) <= 1
    assert image.origin == (0, 0)


def test_a_crop_keeps_its_grid(example: bytes) -> None:
    image = raster.read(saved(decoded(example).crop((3, 6, 403, 306))))
    assert image.trace is not None
    assert image.trace.offset == (2, 5)
    assert image.origin == (6, 3)


def test_a_crop_is_restored_as_the_whole(example: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """The interior of a cropped copy comes out as that of the file, up to what rounding the copy to 8 bits has cost."""
    # Quantization cells, and the mean of them, only a file has.
    monkeypatch.setattr(shrinkage, "shrink", lambda planes, image, factors: planes)
    decoder = Decoder("fast")
    whole = decoder.decode(example, texture=0, project=False).image
    part = decoder.decode(saved(decoded(example).crop((3, 6, 403, 306))), texture=0).image
    difference = whole[6:306, 3:403].astype(float) - part
    # Strongly clipped colours follow the plain decode MCU by MCU, and the MCUs of the copy lie elsewhere.
    assert np.abs(difference[48:-48, 48:-48]).mean() < 1.05


def test_what_never_was_a_jpeg_has_no_trace() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (96, 96, 3), np.uint8)
    image = raster.read(saved(Image.fromarray(noise)))
    assert image.trace is None
    result = Decoder("fast").decode(image)
    assert not result.changed
    np.testing.assert_array_equal(result.image, noise)


def test_forced_quality() -> None:
    image = raster.read(saved(Image.new("L", (20, 20), 77)), force_quality=30)
    reference = jpeg.read(jpeg.compress(np.zeros((8, 8), np.uint8), 30))
    np.testing.assert_array_equal(image.tables(), reference.tables())


@pytest.mark.parametrize(("mode", "gray"), [("1", True), ("L", True), ("LA", True), ("P", False), ("RGB", False), ("RGBA", False)])
def test_modes(mode: str, gray: bool) -> None:
    picture = Image.effect_noise((24, 16), 50).convert("RGB").convert(mode)
    image = raster.read(saved(picture))
    assert image.gray == gray
    assert image.pixels.shape == ((16, 24) if gray else (16, 24, 3))
    assert (image.alpha is not None) == ("A" in mode)


@pytest.mark.parametrize("offset", [(0, 0), (3, 6), (7, 0), (0, 1)])
@pytest.mark.parametrize("shape", [(61, 83), (64, 80, 3)])
def test_crops_make_the_whole(offset: tuple[int, int], shape: tuple[int, ...]) -> None:
    """Counted from the origin, so that each crop but the first begins with a whole block."""
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    trace = Trace(offset=offset, tables=np.ones((2, 8, 8), np.uint16), quality=50, confidence=1.0)
    whole = RasterImage(pixels, trace)
    top, left = whole.origin
    assert ((top + offset[0]) % 8, (left + offset[1]) % 8) == (0, 0)
    rows, columns = [0, 16, 40, top + shape[0]], [0, 24, left + shape[1]]
    crops = [[whole.crop(r, c) for c in itertools.pairwise(columns)] for r in itertools.pairwise(rows)]
    np.testing.assert_array_equal(np.concatenate([np.concatenate([c.pixels for c in line], 1) for line in crops]), pixels)
    for row, line in enumerate(crops):
        for column, crop in enumerate(line):
            assert crop.trace is not None
            assert crop.trace.offset == (0 if row else offset[0], 0 if column else offset[1])
            assert crop.origin == (0 if row else top, 0 if column else left)


@pytest.mark.parametrize("name", ["GIF", "WEBP", "PNG", "AVIF"])
@pytest.mark.parametrize("count", [2, 5])
def test_animations_are_refused_with_a_sentence(name: str, count: int) -> None:
    frames = [Image.effect_noise((16, 16), 90 + i).convert("RGB") for i in range(count)]
    with pytest.raises(UnsupportedError, match="animation"):
        raster.read(saved(frames[0], name, save_all=True, append_images=frames[1:]))
    assert raster.read(saved(frames[0], name, save_all=True)).pixels.shape == (16, 16, 3)


@pytest.mark.slow
def test_a_large_picture_takes_little_more_than_its_pixels() -> None:
    """Of Pillow's own copy (four bytes per pixel) and ours, in a process of its own."""
    if not os.path.isdir("/proc/self"):
        pytest.skip("needs /proc")
    code = """
import resource, sys
from redecode.codec import raster
data = sys.stdin.buffer.read()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
raster.read(data)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""
    data = saved(Image.new("RGB", (6000, 4000), (200, 210, 220)))
    done = subprocess.run([sys.executable, "-c", code], input=data, capture_output=True, timeout=120, check=True)
    assert int(done.stdout) < 6000 * 4000 * (4 + 3 + 3)


# Pages.


@pytest.fixture(scope="module")
def pages(example: bytes) -> list[Image.Image]:
    """Of several sizes and modes; the last never was a JPEG."""
    whole = decoded(example).convert("RGB")
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 64), np.uint8))
    return [whole.crop((0, 0, 320, 256)), whole.crop((8, 16, 408, 256)), whole.convert("L").crop((0, 0, 320, 240)), noise]


@pytest.mark.slow
@pytest.mark.parametrize("compression", ["raw", "tiff_adobe_deflate", "tiff_lzw"])
@pytest.mark.parametrize("depth", [8, 16])
def test_all_pages_of_a_tiff(pages: list[Image.Image], compression: str, depth: int) -> None:
    data = saved(pages[0], "TIFF", save_all=True, append_images=pages[1:], compression=compression, description="scanned", dpi=(300, 300))
    done = restore(Plain(), data, Options(format="tiff", depth=depth))
    assert done.format == "tiff"
    assert done.notes == ("page 4: it shows no trace of JPEG compression and was left unchanged; --force-quality restores it nevertheless",)
    with tifffile.TiffFile(io.BytesIO(done.data)) as file:
        assert len(file.pages) == 4
        for page, expected in zip(file.pages, pages, strict=True):
            scale = 257 if depth == 16 else 1
            np.testing.assert_allclose(page.asarray() / scale, np.asarray(expected), atol=1)
            assert page.tags[282].value == (300, 1)
        assert file.pages[0].tags[270].value == "scanned"
    if depth == 8:
        image = decoded(done.data)
        for index, expected in enumerate(pages):
            image.seek(index)
            np.testing.assert_allclose(np.asarray(image), np.asarray(expected), atol=1)


@pytest.mark.parametrize("name", [None, "png", "jpeg"])
def test_a_format_without_pages_gets_the_first_and_a_note(pages: list[Image.Image], name: str | None) -> None:
    done = restore(Plain(), saved(pages[0], "TIFF", save_all=True, append_images=pages[1:]), Options(format=name))
    assert done.notes == ("only the first of its 4 pages was restored; --format tiff restores them all",)
    assert decoded(done.data).size == (320, 256)


def test_folders_of_every_page_survive(pages: list[Image.Image]) -> None:
    """EXIF data have places within them, which move with the page."""
    exif = Image.Exif()
    exif[315] = "an artist of a long name"
    exif.get_ifd(0x8769)[0x9003] = "2020:01:02 03:04:05"
    exif.get_ifd(0x8825)[1] = "N"
    pixels = np.asarray(pages[0])
    single = encode.encode(pixels, Metadata(exif=exif.tobytes()), encode.Encoding("tiff"))
    whole = decoded(tiff.joined([single, single, single]))
    for index in range(3):
        whole.seek(index)
        found = whole.getexif()
        assert found[315] == "an artist of a long name"
        assert found.get_ifd(0x8769)[0x9003] == "2020:01:02 03:04:05"
        assert found.get_ifd(0x8825)[1] == "N"
        np.testing.assert_array_equal(np.asarray(whole), pixels)


def test_pages_are_joined_in_their_order() -> None:
    files = []
    for width in (5, 6, 7):
        buffer = io.BytesIO()
        Image.new("L", (width, 4), 10 * width).save(buffer, "TIFF", compression="tiff_adobe_deflate")
        files.append(buffer.getvalue())
    with Image.open(io.BytesIO(tiff.joined(files))) as whole:
        assert whole.n_frames == 3
        for page, width in enumerate((5, 6, 7)):
            whole.seek(page)
            assert (whole.size, whole.getpixel((0, 0))) == ((width, 4), 10 * width)


def test_pages_are_counted_in_bounded_time() -> None:
    looped = b"II*\0\x08\0\0\0" + bytes(2) + struct.pack("<I", 8)
    assert tiff.page_count(io.BytesIO(looped)) == 1
    assert tiff.page_count(io.BytesIO(b"MM\0*\0\0")) == 1
    assert tiff.page_count(io.BytesIO(b"MM\0*\xff\xff\xff\xff")) == 1
    # The place of a next page is cut off.
    assert tiff.page_count(io.BytesIO(b"II*\0\x08\0\0\0" + bytes(2) + b"\x08\0")) == 1
    chain = b"II*\0" + b"".join(struct.pack("<IH", 8 + 6 * i, 0) for i in range(5000))
    assert tiff.page_count(io.BytesIO(chain)) == tiff.MAX_PAGES + 1
    with pytest.raises(LimitError, match="pages"):
        restore(Plain(), chain, Options(format="tiff"))


# More than 8 bits.


def deep(pixels: np.ndarray, name: str, **options: object) -> bytes:
    """A file of 16 bits per channel, written independently."""
    buffer = io.BytesIO()
    if name == "png":
        channels = 1 if pixels.ndim == 2 else pixels.shape[2]
        writer = png.Writer(pixels.shape[1], pixels.shape[0], greyscale=channels < 3, alpha=channels in (2, 4), bitdepth=16)
        writer.write(buffer, pixels.reshape(len(pixels), -1).tolist())
    else:
        tifffile.imwrite(buffer, pixels, photometric="minisblack" if pixels.ndim == 2 else "rgb", metadata=None, **options)
    return buffer.getvalue()


CONTAINERS = [("png", {}), ("tiff", {}), ("tiff", {"byteorder": ">"}), ("tiff", {"compression": "adobe_deflate"})]


@pytest.mark.parametrize(("name", "options"), CONTAINERS)
@pytest.mark.parametrize("gray", [False, True])
def test_sixteen_bits_that_hold_eight(example: bytes, name: str, options: dict[str, str], gray: bool) -> None:
    pixels = np.asarray(decoded(example).convert("L" if gray else "RGB").crop((0, 0, 128, 96)))
    for wide in (pixels.astype(np.uint16) * 257, pixels.astype(np.uint16) * 256):
        image = raster.read(deep(wide, name, **options))
        np.testing.assert_array_equal(image.pixels, pixels)
        assert image.notes == ()


@pytest.mark.parametrize(("name", "options"), CONTAINERS)
@pytest.mark.parametrize("gray", [False, True])
def test_sixteen_bits_that_were_a_jpeg(example: bytes, name: str, options: dict[str, str], gray: bool) -> None:
    """Computed with since, by a third of a level: rounded, and told."""
    pixels = np.asarray(decoded(example).convert("L" if gray else "RGB").crop((0, 0, 128, 96)))
    noise = np.random.default_rng(0).integers(-90, 91, pixels.shape)
    image = raster.read(deep((pixels.astype(int) * 257 + noise).clip(0, 65535).astype(np.uint16), name, **options))
    np.testing.assert_array_equal(image.pixels, pixels)
    assert any("16 bits" in note for note in image.notes)


def test_sixteen_bits_with_transparency(example: bytes) -> None:
    pixels = np.asarray(decoded(example).convert("RGB").crop((0, 0, 128, 96)).convert("RGBA")).copy()
    pixels[..., 3] = np.arange(128)
    wide = pixels.astype(np.uint16) * 257
    for moved in (0, 55):
        image = raster.read(deep(np.minimum(wide, 65535 - moved) + np.uint16(moved), "png"))
        np.testing.assert_array_equal(np.dstack([image.pixels, image.alpha]), pixels)


@pytest.mark.parametrize("moved", [0, 55])
def test_sixteen_bits_of_gray_with_transparency(example: bytes, moved: int) -> None:
    gray = np.asarray(decoded(example).convert("L").crop((0, 0, 128, 96)))
    pixels = np.dstack([gray, np.broadcast_to(np.arange(128, dtype=np.uint8), gray.shape)])
    shown = np.dstack([gray] * 3 + [pixels[..., 1]])
    image = raster.read(deep(np.minimum(pixels.astype(np.uint16) * 257, 65535 - moved) + np.uint16(moved), "png"))
    assert image.alpha is not None
    np.testing.assert_array_equal(np.dstack([image.pixels, image.alpha]), shown)
    assert bool(image.notes) == bool(moved)


@pytest.mark.parametrize("shape", [(64, 64), (64, 64, 2), (64, 64, 3), (64, 64, 4)])
def test_sixteen_bits_without_a_trace_are_refused(shape: tuple[int, ...]) -> None:
    data = deep(np.random.default_rng(0).integers(0, 65536, shape, np.uint16), "png")
    with pytest.raises(UnsupportedError, match="16 bits"):
        raster.read(data)


# Lossless JPEG.


def lossless(pixels: np.ndarray, precision: int = 8, frame: int = 0xC3) -> bytes:
    """A lossless JPEG of one component (ITU-T T.81, annex H): each sample is predicted from the one on its left."""
    height, width = pixels.shape
    lengths = bytes(15) + bytes([17]) if precision > 8 else bytes(3) + bytes([9]) + bytes(12)
    size, count = (16, 17) if precision > 8 else (4, 9)
    bits = []
    wide = pixels.astype(int)
    for row in range(height):
        for column in range(width):
            left = wide[row, column - 1] if column else wide[row - 1, 0] if row else 1 << (precision - 1)
            difference = int(wide[row, column] - left)
            category = abs(difference).bit_length()
            bits.append(format(category, f"0{size}b"))
            if category:
                bits.append(format(difference if difference > 0 else difference + (1 << category) - 1, f"0{category}b"))
    text = "".join(bits)
    text += "1" * (-len(text) % 8)
    coded = bytes(int(text[i : i + 8], 2) for i in range(0, len(text), 8)).replace(b"\xff", b"\xff\0")
    segments = [
        (0xFE, b"a comment"),
        (frame, struct.pack(">BHHB", precision, height, width, 1) + b"\1\x11\0"),
        (0xC4, b"\0" + lengths + bytes(range(count))),
        (0xDA, b"\1\1\0\1\0\0"),
    ]
    head = b"".join(struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content for marker, content in segments)
    return b"\xff\xd8" + head + coded + b"\xff\xd9"


def test_a_lossless_jpeg_passes_through() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 56), np.uint8)
    picture = read(lossless(pixels))
    np.testing.assert_array_equal(picture.planes()[0], pixels)
    assert not picture.compressed
    done = restore(Plain(), lossless(pixels), Options())
    np.testing.assert_array_equal(np.asarray(decoded(done.data)), pixels)
    assert decoded(done.data).info["Comment"] == "a comment"
    assert any("no trace" in note for note in done.notes)


def test_a_lossless_jpeg_that_was_a_lossy_one(example: bytes) -> None:
    pixels = np.asarray(decoded(example).convert("L").crop((0, 0, 128, 96)))
    picture = read(lossless(pixels))
    np.testing.assert_array_equal(picture.planes()[0], pixels)
    assert picture.compressed


@pytest.mark.parametrize(("precision", "frame"), [(12, 0xC3), (16, 0xC3), (8, 0xC7), (8, 0xCB), (8, 0xCF), (8, 0xF7)])
def test_other_lossless_jpegs_are_explained(precision: int, frame: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8), np.uint8)
    with pytest.raises(UnsupportedError, match="lossless") as refusal:
        read(lossless(pixels, precision, frame))
    assert "lost nothing" in str(refusal.value)
    assert "baseline" not in str(refusal.value)


@pytest.mark.parametrize("cut", [40, 200, 600])
def test_damaged_lossless_jpegs(cut: int) -> None:
    """Refused, or shown by Pillow as far as it goes; no traceback."""
    data = lossless(np.random.default_rng(0).integers(0, 256, (40, 56), np.uint8))
    with pytest.raises(RedecodeError):
        read(data[:cut])


def test_metadata() -> None:
    exif = Image.Exif()
    exif[0x010E] = "a description"
    data = saved(Image.new("RGB", (8, 8)), exif=exif, icc_profile=b"profile", dpi=(72, 72))
    metadata = raster.read(data).metadata
    assert metadata.exif is not None
    assert metadata.exif.startswith(b"Exif\0\0")
    assert metadata.icc_profile == b"profile"
    assert metadata.dpi == pytest.approx((72, 72), abs=0.01)


def test_refusals() -> None:
    with pytest.raises(UnreadableError, match="not a picture"):
        raster.read(b"hello, world")
    with pytest.raises(UnreadableError, match="damaged"):
        raster.read(saved(Image.effect_noise((64, 64), 50))[:300])
    with pytest.raises(UnsupportedError, match="32 bits"):
        raster.read(saved(Image.new("F", (8, 8)), "TIFF"))
    with pytest.raises(UnsupportedError, match="CMYK"):
        raster.read(saved(Image.new("CMYK", (8, 8)), "TIFF"))
    with pytest.raises(TooLargeError, match="100×100"):
        raster.read(saved(Image.new("L", (100, 100))), max_pixels=9999)


@pytest.mark.slow
@pytest.mark.parametrize("crop", [(0, 0), (4, 3)])
def test_what_came_later_stays_as_it_is(crop: tuple[int, int]) -> None:
    with Image.open(EXAMPLES / "parrots-q10.jpg") as image:
        pixels = np.asarray(image)[crop[0] :, crop[1] :].copy()
    # Black words on white: where most is clipped already, blocks are doubted least.
    panel = Image.new("RGB", (pixels.shape[1], 120), "white")
    ImageDraw.Draw(panel).text((8, 8), "New words\non an old picture", fill="black", font=ImageFont.load_default(40))
    pixels[200:320] = np.asarray(panel)
    image = raster.read(saved(Image.fromarray(pixels)))
    assert image.trace is not None
    assert image.trace.offset == (-crop[0] % 8, -crop[1] % 8)
    assert image.holds is not None
    decoded = Decoder("fast").decode(image)
    changed = np.abs(decoded.image[208:312].astype(int) - pixels[208:312])
    # White is white in the old picture as well, and may be taken for a part of it.
    assert changed.max() <= 5
    assert (decoded.image[:192] != pixels[:192]).any(2).mean() > 0.5
