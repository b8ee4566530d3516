from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from redecode import Decoder
from redecode.codec import colour, jpeg, recompression
from redecode.codec.jpeg import JpegImage, Past
from redecode.codec.picture import read
from redecode.codec.recompression import find_past
from redecode.evaluation.metrics import psnr

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def original() -> np.ndarray:
    """A photograph that shows no compression any more: half the size of an example."""
    with Image.open(EXAMPLES / "parrots-q10.jpg") as image:
        return np.asarray(image.reduce(2))


@pytest.fixture(scope="module")
def decoder() -> Decoder:
    return Decoder("fast")


def pixels_of(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image)


def saved_again(data: bytes, quality: int, subsampling: str = "4:2:0", crop: tuple[int, int] = (0, 0)) -> bytes:
    return jpeg.compress(np.ascontiguousarray(pixels_of(data)[crop[0] :, crop[1] :]), quality, subsampling)


def past_of(data: bytes) -> Past:
    image = read(data)
    assert isinstance(image, JpegImage)
    assert image.past is not None
    return image.past


def with_caption(pixels: np.ndarray) -> np.ndarray:
    """New words on a pale panel, and squares on it that hardly show."""
    image = Image.fromarray(pixels)
    draw = ImageDraw.Draw(image)
    top = image.height - 80
    draw.rectangle((0, top, image.width, image.height), fill=(236, 232, 220))
    draw.text((8, top + 6), "New words on an old picture", fill=(30, 30, 60), font=ImageFont.load_default(16))
    for index in range(6):
        draw.rectangle((10 + 30 * index, top + 50, 30 + 30 * index, top + 65), fill=(233 - index, 232, 220))
    return np.asarray(image)


@pytest.mark.parametrize("subsampling", ["4:2:0", "4:2:2", "4:4:4", "gray"])
@pytest.mark.parametrize(("first", "second"), [(10, 90), (30, 85)])
def test_the_first_compression_comes_back(original: np.ndarray, first: int, second: int, subsampling: str) -> None:
    pixels, sampling = (original[..., 1], "4:4:4") if subsampling == "gray" else (original, subsampling)
    once = jpeg.compress(np.ascontiguousarray(pixels), first, sampling)
    past = past_of(saved_again(once, second, sampling))
    assert (past.trace.offset, past.trace.quality) == ((0, 0), first)
    assert 0.5 < past.trace.confidence <= 1
    assert past.holds.mean() > 0.9
    assert past.image is not None
    for ours, theirs in zip(past.image.components, jpeg.read(once).components, strict=True):
        np.testing.assert_array_equal(ours.table, theirs.table)
        assert (ours.coefficients == theirs.coefficients).mean() > 0.995


def test_what_came_later_keeps_its_own_cells(original: np.ndarray, decoder: Decoder) -> None:
    truth = with_caption(original)
    twice = jpeg.compress(with_caption(pixels_of(jpeg.compress(original, 10))), 90)
    past = past_of(twice)
    new = (truth.shape[0] - 80) // 16 + 1
    assert not past.holds[new:].any()
    assert past.holds[: new - 2].mean() > 0.85
    ours, as_is = (decoder.decode(read(twice, as_is=own), texture=0).image for own in (False, True))
    np.testing.assert_array_equal(ours[16 * (new + 1) :], as_is[16 * (new + 1) :])
    assert psnr(truth, ours) > psnr(truth, as_is) + 0.3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("first", "crop", "second"), [(10, (4, 3), 75), (10, (4, 3), 95), (30, (5, 2), 60), (50, (0, 6), 90), (20, (1, 0), 80)]
)
@pytest.mark.parametrize("subsampling", ["4:2:0", "4:4:4"])
def test_another_grid(original: np.ndarray, first: int, crop: tuple[int, int], second: int, subsampling: str) -> None:
    past = past_of(saved_again(jpeg.compress(original, first, subsampling), second, subsampling, crop))
    assert past.trace.offset == (-crop[0] % 8, -crop[1] % 8)
    assert abs(past.trace.quality - first) <= 2
    assert past.image is None
    assert past.holds.mean() > 0.8


def test_restoring_on_another_grid_gains(original: np.ndarray, decoder: Decoder) -> None:
    twice = saved_again(jpeg.compress(with_caption(original), 10), 90, crop=(4, 3))
    truth = with_caption(original)[4:, 3:]
    ours, as_is = (decoder.decode(read(twice, as_is=own), texture=0).image for own in (False, True))
    assert psnr(truth, ours) > psnr(truth, as_is) + 0.3


@pytest.mark.slow
@pytest.mark.parametrize("subsampling", ["4:2:0", "4:2:2", "4:4:4"])
@pytest.mark.parametrize("quality", [10, 50, 75, 90, 97])
def test_what_was_compressed_once_has_no_past(original: np.ndarray, quality: int, subsampling: str) -> None:
    assert find_past(jpeg.read(jpeg.compress(original, quality, subsampling))) is None
    assert find_past(jpeg.read(jpeg.compress(np.ascontiguousarray(original[..., 1]), quality))) is None


def test_a_weaker_first_compression_does_not_matter(original: np.ndarray) -> None:
    for crop in ((0, 0), (3, 5)):
        assert find_past(jpeg.read(saved_again(jpeg.compress(original, 90), 40, crop=crop))) is None


def test_as_is(original: np.ndarray) -> None:
    twice = saved_again(jpeg.compress(original, 10), 90)
    image = read(twice, as_is=True)
    assert isinstance(image, JpegImage)
    assert image.past is None
    np.testing.assert_array_equal(image.tables(), jpeg.read(twice).tables())


def test_a_part_of_a_picture_has_its_part_of_the_past(original: np.ndarray) -> None:
    image = read(saved_again(jpeg.compress(original, 10), 90))
    assert isinstance(image, JpegImage)
    part = image.crop((32, 96), (16, image.width))
    assert part.past is not None
    assert image.past is not None
    np.testing.assert_array_equal(part.past.holds, image.past.holds[2:6, 1:])
    assert part.past.image is not None
    assert (part.past.image.height, part.past.image.width) == (part.height, part.width)


@pytest.mark.slow
def test_tiles_of_a_picture_with_a_past_make_the_whole(original: np.ndarray, decoder: Decoder, monkeypatch: pytest.MonkeyPatch) -> None:
    large = np.tile(original, (2, 2, 1))
    for crop in ((0, 0), (4, 3)):
        image = read(saved_again(jpeg.compress(large, 10), 90, crop=crop))
        assert isinstance(image, JpegImage)
        assert image.past is not None
        whole = decoder.decode(image, texture=0.5)
        monkeypatch.setattr("redecode.decoder.TILE", 192)
        tiled = decoder.decode(image, texture=0.5)
        monkeypatch.undo()
        # Eight-bit networks and the order of sums: single levels.
        assert (np.abs(whole.image.astype(int) - tiled.image) <= 1).mean() > 0.999


def test_what_is_told(original: np.ndarray) -> None:
    image = read(saved_again(jpeg.compress(original, 10), 75, crop=(4, 3)))
    assert isinstance(image, JpegImage)
    (note,) = image.notes
    assert "compressed at about quality 10, cropped" in note
    assert "compressed again at 75" in note
    assert replace(image, past=None).notes == ()


def test_several_compressions_on_grids_of_their_own(original: np.ndarray) -> None:
    first = saved_again(jpeg.compress(original, 20), 70, crop=(3, 3))
    past = past_of(saved_again(first, 90, crop=(2, 4)))
    assert (past.trace.offset, past.trace.quality) == ((3, 1), 20)
    assert past.holds.mean() > 0.7


def test_a_forced_quality_is_for_jpegs_too(original: np.ndarray, decoder: Decoder) -> None:
    with Image.fromarray(original) as whole:
        small = np.asarray(whole.resize((288, 192), Image.Resampling.BICUBIC))
        data = jpeg.compress(np.asarray(Image.fromarray(pixels_of(jpeg.compress(original, 10))).resize((288, 192))), 92)
    forced = read(data, force_quality=20)
    assert forced.notes == ("it was restored as a picture of quality 20, as asked",)
    assert psnr(small, decoder.decode(forced, texture=0).image) > psnr(small, decoder.decode(read(data, as_is=True), texture=0).image) + 0.3
    too_fine = read(data, force_quality=95)
    assert "restored as it is" in too_fine.notes[0]
    np.testing.assert_array_equal(decoder.decode(too_fine, texture=0).image, decoder.decode(read(data, as_is=True), texture=0).image)


def test_a_forced_quality_leaves_inks_as_they_are(original: np.ndarray, decoder: Decoder) -> None:
    buffer = io.BytesIO()
    Image.fromarray(original).convert("CMYK").save(buffer, "JPEG", quality=90)
    forced = read(buffer.getvalue(), force_quality=10)
    assert "CMYK-coded one was restored as it is" in forced.notes[0]
    np.testing.assert_array_equal(decoder.decode(forced).image, decoder.decode(read(buffer.getvalue())).image)


@pytest.mark.slow
@pytest.mark.parametrize("lossless", [False, True])
def test_white_stays_as_it_is(original: np.ndarray, decoder: Decoder, lossless: bool) -> None:
    white = original.copy()
    white[:, :160] = 255
    pixels = np.ascontiguousarray(pixels_of(jpeg.compress(white, 10))[4:, 3:])
    if lossless:
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        data = buffer.getvalue()
    else:
        data = jpeg.compress(pixels, 95)
    ours, as_is = (
        decoder.decode(read(data), texture=0).image,
        pixels if lossless else decoder.decode(read(data, as_is=True), texture=0).image,
    )
    np.testing.assert_array_equal(ours[:, :120], as_is[:, :120])
    assert psnr(white[4:, 3:], ours) > psnr(white[4:, 3:], pixels) + 0.3


@pytest.mark.slow
@pytest.mark.parametrize("scale", [8, 16])
@pytest.mark.parametrize("subsampling", ["4:2:0", "4:4:4"])
@pytest.mark.parametrize("offset", [0, 3])
def test_enlarged_drawings_have_no_past(scale: int, subsampling: str, offset: int) -> None:
    rng = np.random.default_rng(scale)
    palette = rng.integers(0, 256, (6, 3), np.uint8)
    tiles = palette[rng.integers(0, 6, (8, 8, 8))]
    rows = [np.concatenate([tiles[index] for index in rng.integers(0, 8, 5)], 1) for _ in range(5)]
    drawing = np.concatenate(rows).repeat(scale, 0).repeat(scale, 1)[offset:, offset:][:288, :304]
    for quality in (60, 75, 90):
        assert find_past(jpeg.read(jpeg.compress(np.ascontiguousarray(drawing), quality, subsampling))) is None


@pytest.mark.parametrize(("different", "looked_at"), [(4, False), (40, True)])
def test_few_different_blocks_tell_nothing(different: int, looked_at: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[object] = []
    monkeypatch.setattr(recompression, "_same_grid", looks.append)
    monkeypatch.setattr(recompression, "_another_grid", looks.append)
    rng = np.random.default_rng(0)
    tiles = rng.integers(0, 256, (different, 8, 8), np.uint8)
    drawing = np.concatenate([np.concatenate([tiles[index] for index in rng.integers(0, different, 20)], 1) for _ in range(20)])
    find_past(jpeg.read(jpeg.compress(drawing, 90)))
    assert bool(looks) == looked_at


@pytest.mark.parametrize("subsampling", ["4:2:0", "4:2:2", "gray"])
@pytest.mark.parametrize(("crop", "second"), [((0, 0), 90), pytest.param((4, 3), 75, marks=pytest.mark.slow)])
def test_looking_by_strips_changes_nothing(
    original: np.ndarray, crop: tuple[int, int], second: int, subsampling: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels, sampling = (original[..., 1], "4:4:4") if subsampling == "gray" else (with_caption(original), subsampling)
    data = saved_again(jpeg.compress(np.ascontiguousarray(pixels), 10, sampling), second, sampling, crop)
    whole = past_of(data)
    monkeypatch.setattr(recompression, "_STRIP", 3)
    strips = past_of(data)
    np.testing.assert_array_equal(strips.holds, whole.holds)
    np.testing.assert_array_equal(strips.trace.tables, whole.trace.tables)


def test_chroma_without_a_past_stays_as_it_is(original: np.ndarray) -> None:
    luma = jpeg.read(jpeg.compress(np.ascontiguousarray(original[..., 1]), 10)).planes()[0]
    colours = np.random.default_rng(0).normal(128, 12, (2, *luma.shape))
    planes = np.stack([luma.clip(40, 215), *colours]).astype(np.float32)
    data = jpeg.compress(colour.to_uint8(colour.to_rgb(planes)), 92, "4:4:4")
    past, given = past_of(data), jpeg.read(data)
    assert past.image is not None
    assert past.trace.quality == 10
    assert past.image.components[0].table[0, 0] > given.components[0].table[0, 0]
    for ours, own in zip(past.image.components[1:], given.components[1:], strict=True):
        np.testing.assert_array_equal(ours.table, own.table)
        np.testing.assert_array_equal(ours.coefficients, own.coefficients)
