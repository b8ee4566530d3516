from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from redecode.codec import jpeg, raster
from redecode.decoder import Decoder
from redecode.errors import TooLargeError, UnreadableError, UnsupportedError
from redecode.restoration import shrinkage


def saved(image: Image.Image, name: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, name, **options)
    return buffer.getvalue()


def decoded(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


@pytest.fixture(scope="module")
def example() -> bytes:
    from conftest import EXAMPLES

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
    assert np.abs(difference[48:-48, 48:-48]).mean() < 1


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


def test_transparent_palette_and_first_frame() -> None:
    frames = [Image.new("P", (16, 16), i) for i in (1, 2)]
    image = raster.read(saved(frames[0], "GIF", save_all=True, append_images=frames[1:], transparency=0))
    assert image.pixels.shape == (16, 16, 3)


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
    with pytest.raises(UnsupportedError, match="8 bits"):
        raster.read(saved(Image.new("I;16", (8, 8))))
    with pytest.raises(UnsupportedError, match="CMYK"):
        raster.read(saved(Image.new("CMYK", (8, 8)), "TIFF"))
    with pytest.raises(TooLargeError, match="100×100"):
        raster.read(saved(Image.new("L", (100, 100))), max_pixels=9999)
