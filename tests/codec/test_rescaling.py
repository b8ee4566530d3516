"""Pictures that were scaled after a compression, and pictures that were only scaled."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from redecode import Decoder, facts
from redecode.cli import main as cli
from redecode.codec import jpeg
from redecode.codec.jpeg import JpegImage
from redecode.codec.picture import read, scaling_of
from redecode.codec.raster import RasterImage, of_pixels
from redecode.codec.rescaling import at_earlier_size
from redecode.codec.trace import Scaling
from redecode.evaluation.metrics import psnr

EXAMPLE = Path(__file__).parents[2] / "examples" / "parrots-q10.jpg"
BICUBIC, LANCZOS = Image.Resampling.BICUBIC, Image.Resampling.LANCZOS


@pytest.fixture(scope="module")
def original() -> np.ndarray:
    """A photograph that shows no compression any more: an example, turned by 12° so that its blocks lie along no axis."""
    with Image.open(EXAMPLE) as image:
        left, top = (image.width - 480) // 2, (image.height - 320) // 2
        return np.asarray(image.rotate(12, BICUBIC).crop((left, top, left + 480, top + 320)))


@pytest.fixture(scope="module")
def decoder() -> Decoder:
    return Decoder("fast")


def through_jpeg(pixels: np.ndarray, quality: int) -> np.ndarray:
    with Image.open(io.BytesIO(jpeg.compress(pixels, quality))) as image:
        return np.asarray(image)


def resized(pixels: np.ndarray, factor: float, kernel: Image.Resampling = BICUBIC) -> np.ndarray:
    image = Image.fromarray(pixels)
    return np.asarray(image.resize((round(image.width * factor), round(image.height * factor)), kernel))


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def with_words(pixels: np.ndarray) -> np.ndarray:
    image = Image.fromarray(pixels)
    draw = ImageDraw.Draw(image)
    top = image.height - 72
    draw.rectangle((0, top, image.width, image.height), fill=(236, 232, 220))
    for row in range(3):
        draw.text((6, top + 4 + 22 * row), "New words on an old picture 123", fill=(20, 20, 30), font=ImageFont.load_default(16))
    for index in range(5):
        draw.rectangle((310 + 24 * index, top + 12, 324 + 24 * index, top + 54), fill=(236 - 3 * index, 232, 220))
    return np.asarray(image)


@pytest.mark.slow
@pytest.mark.parametrize("kernel", [BICUBIC, LANCZOS])
@pytest.mark.parametrize(("quality", "factor"), [(20, 0.75), (10, 0.9), (30, 1.33), (50, 1.5), (20, 2.0)])
def test_the_scaling_is_found(original: np.ndarray, quality: int, factor: float, kernel: Image.Resampling) -> None:
    picture = of_pixels(resized(through_jpeg(original, quality), factor, kernel))
    assert picture.trace is not None
    assert picture.trace.scaling is not None
    assert picture.trace.scaling.factors == pytest.approx((factor, factor), rel=0.004)
    assert abs(picture.trace.quality - quality) <= 4
    for first, own in zip(picture.trace.scaling.first, picture.trace.scaling.factors, strict=True):
        assert min(first, 8 * own - first) < 0.4 * max(1, own)


@pytest.mark.parametrize("gray", [False, True])
def test_the_scaling_is_found_under_another_compression(original: np.ndarray, gray: bool) -> None:
    pixels = np.ascontiguousarray(original[..., 1]) if gray else original
    data = jpeg.compress(np.ascontiguousarray(resized(through_jpeg(pixels, 20), 1.33)[5:, 3:]), 85)
    image = read(data)
    assert isinstance(image, JpegImage)
    assert image.past is not None
    assert image.past.trace.scaling is not None
    assert image.past.trace.scaling.factors == pytest.approx((1.33, 1.33), rel=0.004)
    assert abs(image.past.trace.quality - 20) <= 4
    assert image.past.image is None
    assert image.past.holds.mean() > 0.7
    assert "scaled to about 133 % and compressed again at 85" in image.notes[0]
    assert facts.describe(image)["earlier_compression"] in image.notes[0]


@pytest.mark.slow
@pytest.mark.parametrize("factor", [0.5, 0.75, 1.33, 1.5, 2.0])
@pytest.mark.parametrize("kernel", [BICUBIC, Image.Resampling.NEAREST])
def test_what_was_only_scaled_has_no_past(original: np.ndarray, factor: float, kernel: Image.Resampling) -> None:
    scaled = resized(original, factor, kernel)
    assert of_pixels(scaled).trace is None
    image = read(jpeg.compress(scaled, 85))
    assert isinstance(image, JpegImage)
    assert image.past is None


@pytest.mark.slow
@pytest.mark.parametrize("scale", [1, 1.5, 2])
def test_tiles_have_no_past(scale: float) -> None:
    rng = np.random.default_rng(5)
    ramps = np.add.outer(np.arange(8), np.arange(8))[None, :, :, None] * rng.integers(-5, 6, (24, 1, 1, 3))
    tiles = np.clip(rng.integers(60, 200, (24, 1, 1, 3)) + ramps, 0, 255).astype(np.uint8)
    drawing = tiles[rng.integers(0, 24, (36, 40))].swapaxes(1, 2).reshape(288, 320, 3)
    for kernel in (Image.Resampling.NEAREST, BICUBIC):
        trace = of_pixels(resized(drawing, scale, kernel)).trace
        assert trace is None or trace.scaling is None


@pytest.mark.slow
def test_restoring_gains_and_as_is_does_not(original: np.ndarray, decoder: Decoder) -> None:
    truth, seen = resized(original, 1.33), resized(through_jpeg(original, 20), 1.33)
    assert psnr(truth, decoder.decode(read(png(seen)), texture=0).image) > psnr(truth, seen) + 0.3
    np.testing.assert_array_equal(decoder.decode(read(png(seen), as_is=True), texture=0).image, seen)
    data = jpeg.compress(seen, 90)
    ours, as_is = (decoder.decode(read(data, as_is=own), texture=0).image for own in (False, True))
    assert psnr(truth, ours) > psnr(truth, as_is) + 0.1


@pytest.mark.slow
@pytest.mark.parametrize("lossless", [False, True])
def test_what_came_later_stays(original: np.ndarray, decoder: Decoder, lossless: bool) -> None:
    seen = with_words(resized(through_jpeg(original, 20), 1.33))
    data = png(seen) if lossless else jpeg.compress(seen, 92)
    picture = read(data)
    assert scaling_of(picture) is not None
    new, old = np.s_[-56:, :420], np.s_[:-96]
    ours, as_is = (decoder.decode(read(data, as_is=own), texture=0).image for own in (False, True))
    # Of squares that differ from the panel by less than the noise of the compression, a few levels may go.
    off = np.abs(ours.astype(int) - as_is)[new]
    assert off.max() <= 7
    assert (off > 2).mean() < 0.03
    assert (ours[old] == as_is[old]).mean() < 0.7


@pytest.mark.slow
def test_a_tile_is_restored_as_in_the_whole(original: np.ndarray, decoder: Decoder, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = of_pixels(resized(through_jpeg(original, 20), 1.33))
    whole = decoder.decode(picture, texture=0)
    monkeypatch.setattr("redecode.decoder.TILE", 192)
    tiled = decoder.decode(picture, texture=0)
    # Eight-bit networks and the order of sums.
    off = np.abs(whole.image.astype(int) - tiled.image)
    assert (off <= 1).mean() > 0.99
    assert off.max() <= 5


@pytest.mark.slow
def test_at_the_earlier_size_nothing_is_lost() -> None:
    planes = np.random.default_rng(1).uniform(0, 255, (3, 60, 75)).astype(np.float32)
    for factors in ((0.75, 0.75), (1.33, 1.32), (2.0, 2.0)):
        scaling = Scaling(factors, (1.7, 3.2))
        sizes: list[tuple[int, ...]] = []

        def restored(earlier: np.ndarray, sizes: list[tuple[int, ...]] = sizes) -> np.ndarray:
            sizes.append(earlier.shape)
            return earlier + np.float32(1)

        np.testing.assert_allclose(at_earlier_size(planes, scaling, lambda earlier: earlier), planes)
        np.testing.assert_allclose(at_earlier_size(planes, scaling, restored), planes + 1, atol=1e-3)
        assert all(side % 16 == 0 and side * f >= length for side, f, length in zip(sizes[0][1:], factors, (60, 75), strict=True))


@pytest.mark.slow
def test_a_part_keeps_its_place_on_the_earlier_grid() -> None:
    rows, columns = np.mgrid[:96, :120].astype(np.float32)
    planes = (np.sin(rows / 9) * np.cos(columns / 7) * 60 + 128)[None]
    scaling = Scaling((1.5, 1.25), (4.0, 2.5))

    def block_means(earlier: np.ndarray) -> np.ndarray:
        blocks = earlier.reshape(1, earlier.shape[1] // 8, 8, -1, 8)
        return np.broadcast_to(blocks.mean((2, 4), keepdims=True), blocks.shape).reshape(earlier.shape)

    whole = at_earlier_size(planes, scaling, block_means)
    part = at_earlier_size(planes[:, 32:, 40:], scaling.crop(32, 40), block_means)
    np.testing.assert_allclose(part[:, 16:-16, 16:-16], whole[:, 48:-16, 56:-16], atol=0.05)


@pytest.mark.slow
def test_the_command_tells_of_it(
    original: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "seen.png"
    path.write_bytes(png(resized(through_jpeg(original, 20), 1.33)))

    def run(*arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", ["redecode", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        assert exit_.value.code in (0, None)
        return " ".join("".join(capsys.readouterr()).split())

    assert "scaled to about 133 %" in run("info", path)
    assert "scaled to about 133 %" in run("info", path, "--json")
    assert "scaled to about 133 %" in run(path, "-o", tmp_path / "ours.png", "-v", "--texture", 0)
    run(path, "-o", tmp_path / "as-is.png", "--as-is")
    with Image.open(path) as before, Image.open(tmp_path / "as-is.png") as after:
        np.testing.assert_array_equal(np.asarray(before), np.asarray(after))


@pytest.mark.slow
def test_it_is_a_picture_of_pixels_all_the_same(original: np.ndarray) -> None:
    picture = of_pixels(resized(through_jpeg(original, 20), 1.33))
    assert isinstance(picture.as_is, RasterImage)
    assert picture.as_is.trace is None
    part = picture.crop((64, 160), (8, 200))
    assert part.trace is not None
    assert picture.trace is not None
    assert picture.trace.scaling is not None
    assert part.trace.scaling == picture.trace.scaling.crop(64, 8)
