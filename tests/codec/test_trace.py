"""Grid and table estimation on a photograph that is as good as uncompressed, and on pictures that look quantized but are not."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.fft import dctn
from scipy.special import i0e

from redecode.codec import colour, jpeg, trace
from redecode.codec.quality import nearest_quality, standard_tables
from redecode.codec.trace import Trace, find_compression, find_trace

EXAMPLE = Path(__file__).parents[2] / "examples" / "buildings-q5.jpg"


@pytest.fixture(scope="module")
def original() -> np.ndarray:
    """Part of an example at half its size, uint8 [176, 240, 3]; noise takes the place of the detail that its own compression took."""
    with Image.open(EXAMPLE) as image:
        half = image.convert("RGB").resize((image.width // 2, image.height // 2), Image.Resampling.LANCZOS)
    return colour.to_uint8(np.asarray(half)[40:216, 60:300] + np.random.default_rng(0).normal(0, 3, (176, 240, 1)))


def through_jpeg(image: np.ndarray, **options: object) -> np.ndarray:
    """As Pillow decodes it."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", **options)
    with Image.open(buffer) as decoded:
        return np.asarray(decoded)


def resized(image: np.ndarray, factor: float, filtering: Image.Resampling = Image.Resampling.BICUBIC) -> np.ndarray:
    height, width = image.shape[:2]
    return np.asarray(Image.fromarray(image).resize((round(width * factor), round(height * factor)), filtering))


def found(pixels: np.ndarray) -> Trace:
    trace = find_trace(pixels)
    assert trace is not None
    assert 0.5 <= trace.confidence <= 1
    assert trace.tables.dtype == np.uint16
    assert trace.tables.shape == (2, 8, 8)
    return trace


def test_standard_tables_are_those_of_libjpeg() -> None:
    for quality in range(1, 101):
        written = jpeg.read(jpeg.compress(np.zeros((8, 8, 3), np.uint8), quality)).tables()
        np.testing.assert_array_equal(standard_tables(quality), written)


@pytest.mark.parametrize("quality", [0, 101])
def test_standard_tables_refuse_other_qualities(quality: int) -> None:
    with pytest.raises(ValueError, match="quality"):
        standard_tables(quality)


def test_a_standard_table_is_nearest_to_itself() -> None:
    for quality in range(1, 101):
        luma, chroma = standard_tables(quality)
        assert nearest_quality(luma) == (quality, 1)
        nearest, fit = nearest_quality(chroma, chroma=True)
        np.testing.assert_array_equal(standard_tables(nearest)[1], chroma)
        assert fit == 1


def test_the_fit_falls_with_the_distance() -> None:
    luma = standard_tables(50)[0]
    fits = []
    for change in range(1, 5):
        luma[3, 4] += change
        quality, fit = nearest_quality(luma)
        assert quality == 50
        fits.append(fit)
    assert 1 > fits[0] > fits[1] > fits[2] > fits[3] > 0.9


@pytest.mark.parametrize("subsampling", ["4:2:0", "4:4:4"])
@pytest.mark.parametrize("quality", [5, 25, 75, 95])
def test_grid_and_tables_of_a_crop(original: np.ndarray, quality: int, subsampling: str) -> None:
    top, left = quality % 8, quality // 8 % 8
    trace = found(through_jpeg(original, quality=quality, subsampling=subsampling)[top:, left:])
    assert trace.offset == (-top % 8, -left % 8)
    assert trace.quality == quality
    np.testing.assert_array_equal(trace.tables, standard_tables(quality))


def test_gray_has_no_chroma_table(original: np.ndarray) -> None:
    trace = found(through_jpeg(original[..., 1], quality=30)[3:, 5:])
    assert (trace.offset, trace.quality) == ((5, 3), 30)
    np.testing.assert_array_equal(trace.tables, [standard_tables(30)[0], np.ones((8, 8))])


def test_tables_of_another_make(original: np.ndarray) -> None:
    y, x = np.mgrid[:8, :8]
    table = 6 + 2 * (x + y)
    trace = found(through_jpeg(original, qtables=[table.reshape(-1).tolist()] * 2))
    assert trace.offset == (0, 0)
    # Where steps are large, hardly a coefficient is left to tell them.
    assert (trace.tables[0] == table)[:4, :4].mean() > 0.9
    assert trace.quality == nearest_quality(trace.tables[0])[0]


@pytest.mark.parametrize("first, second", [(10, 95), (20, 90), (40, 95), (60, 95)])
def test_the_stronger_of_two_compressions(original: np.ndarray, first: int, second: int) -> None:
    trace = found(through_jpeg(through_jpeg(original, quality=first), quality=second)[1:, 2:])
    assert trace.offset == (7, 6)
    assert abs(trace.quality - first) <= 3


def test_clipped_parts_do_not_mislead(original: np.ndarray) -> None:
    contrast = colour.to_uint8((original.astype(np.float32) - 110) * 1.6 + 128)
    assert 0.02 < np.isin(contrast, (0, 255)).mean() < 0.5
    trace = found(through_jpeg(contrast, quality=40))
    assert (trace.offset, trace.quality) == ((0, 0), 40)


def test_noise_on_top_does_not_hide_it(original: np.ndarray) -> None:
    noisy = through_jpeg(original, quality=10) + np.random.default_rng(1).normal(0, 2, original.shape)
    trace = found(colour.to_uint8(noisy))
    assert (trace.offset, trace.quality) == ((0, 0), 10)


def test_only_compressions_that_are_bad_enough(original: np.ndarray) -> None:
    pixels = through_jpeg(original, quality=40)
    assert find_trace(pixels, offset=(0, 0), best=39) is None
    assert find_trace(pixels, offset=(0, 0), best=40) is not None


@pytest.mark.slow
def test_an_original_shows_nothing(original: np.ndarray) -> None:
    assert find_trace(original) is None
    assert find_trace(original[..., 1]) is None
    assert find_trace(original // 16 * 16 + 8) is None


@pytest.mark.parametrize("factor", [0.75, 1.1, 1.5])
def test_a_resized_jpeg_shows_nothing(original: np.ndarray, factor: float) -> None:
    assert find_trace(resized(through_jpeg(original, quality=10), factor)) is None


def test_an_enlarged_original_shows_nothing(original: np.ndarray) -> None:
    for factor, filtering in ((2, Image.Resampling.NEAREST), (2, Image.Resampling.LANCZOS), (8, Image.Resampling.BILINEAR)):
        part = original[: 160 // factor, : 160 // factor]
        assert find_trace(resized(part, factor, filtering)) is None


@pytest.mark.slow
def test_graphics_show_nothing() -> None:
    rng = np.random.default_rng(2)
    y, x = np.mgrid[:128, :160]
    tiles = rng.integers(1, 255, (16, 20)).repeat(8, 0).repeat(8, 1)
    sprites = rng.choice([20, 90, 160, 230], (12, 8, 8))[rng.integers(0, 12, (16, 20))].swapaxes(1, 2).reshape(128, 160)
    bilevel = (rng.random((32, 40)) < 0.3).repeat(4, 0).repeat(4, 1) * 255
    gradients = [20 + x * a + y * b for a, b in ((0.125, 0), (0.125, 0.125), (0.3, 0.2))]
    noise = [rng.normal(128, deviation, x.shape) for deviation in (0.5, 20)]
    waves = 128 + 90 * np.sin(x / 20) * np.cos(y / 30)
    for picture in [tiles, sprites, bilevel, waves, x // 8 % 2 * 200 + 20, *gradients, *noise]:
        gray = colour.to_uint8(picture)
        assert find_trace(gray) is None


def test_flat_and_tiny_pictures_show_nothing() -> None:
    rng = np.random.default_rng(3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for level in (0, 77, 255):
            assert find_trace(np.full((64, 64, 3), level, np.uint8)) is None
        for height in (1, 7, 8, 15, 16, 33):
            for shape in ((height, 1), (height, 15, 3), (height, 40), (40, height, 3)):
                assert find_trace(rng.integers(1, 255, shape).astype(np.uint8)) is None


def test_low_frequencies_of_the_block_at_every_place() -> None:
    side = trace.PATCH * 8
    patches = np.random.default_rng(0).normal(0, 40, (3, side, side)).astype(np.float32)
    found = trace._low_coefficients(patches)
    for (row, column), coefficients in zip(trace.LOW, found, strict=True):
        assert coefficients.shape == (3, side - 8, side - 8)
        for top, left in ((0, 0), (5, 17), (side - 9, side - 9)):
            block = dctn(patches[1, top : top + 8, left : left + 8], norm="ortho")
            assert coefficients[1, top, left] == pytest.approx(block[row, column], abs=1e-3)


@pytest.mark.parametrize(("height", "width"), [(64, 72), (61, 67)])
def test_what_is_new_at_the_border_fits_no_earlier_compression(original: np.ndarray, height: int, width: int) -> None:
    gray = np.ascontiguousarray(original[:height, :width, 1])
    planes = jpeg.read(jpeg.compress(gray, 10)).planes()
    planes = np.rint(planes).clip(0, 255)
    whole = trace.fits(planes, trace.of_quality(10, True), [])
    assert whole.shape == (8, 9)
    assert whole.all()
    noise = np.random.default_rng(0).normal(0, 30, planes.shape)
    # Blocks that reach over the border go with their neighbours: the last whole ones are new here.
    new = planes.copy()
    new[:, 48 if height % 8 else 56 :] += noise[:, 48 if height % 8 else 56 :]
    fit = trace.fits(new.clip(0, 255).astype(np.float32), trace.of_quality(10, True), [])
    assert not fit[-1].any()
    assert fit[:4].all()


def test_gray_pictures_have_no_steps_of_chroma(original: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    found = Trace((3, 5), standard_tables(10), 10, 0.9)
    monkeypatch.setattr(trace, "find_trace", lambda _: None)
    monkeypatch.setattr(trace, "find_coarser", lambda *_: [found])
    for pixels, chroma in ((original[..., 1], np.ones((8, 8))), (original, standard_tables(10)[1])):
        other = trace.find_compression(np.ascontiguousarray(pixels))
        assert other is not None
        np.testing.assert_array_equal(other.tables, [found.tables[0], chroma])


def test_noise_in_few_tiles_shows_nothing() -> None:
    rng = np.random.default_rng(6)
    for levels in (2, 6):
        tiles = rng.choice(rng.integers(40, 220, levels), (7, 32, 32)).astype(np.uint8)
        drawing = tiles[rng.integers(0, 7, (12, 14))].swapaxes(1, 2).reshape(384, 448)
        for picture in (drawing, np.stack([drawing, drawing[::-1], drawing], 2)):
            assert find_compression(picture) is None


def test_the_scale_of_the_noise_is_that_of_the_bessel_function() -> None:
    concentration = np.array([0.01, 1, 20, 49.9, 50, 51, 400, 1e5], np.float32)
    np.testing.assert_allclose(trace._log_scale(concentration), np.log(i0e(concentration.astype(np.float64))), atol=1e-4)
