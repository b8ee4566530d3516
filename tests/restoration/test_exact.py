"""What the plain decode gives exactly stays as it is: neutral scans without colours, graphics on the block grid without blur."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from redecode import Decoder
from redecode.codec import jpeg
from redecode.codec.quality import standard_tables
from redecode.restoration.exact import REACH, keep_exact


@pytest.fixture(scope="module")
def decoder() -> Decoder:
    return Decoder("fast", threads=1)


def as_png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize("subsampling", jpeg.SUBSAMPLINGS)
@pytest.mark.parametrize("quality", [10, 50, 92])
@pytest.mark.parametrize("texture", [0.0, 1.0])
def test_no_chroma_gives_no_colour(decoder: Decoder, photograph: np.ndarray, subsampling: str, quality: int, texture: float) -> None:
    gray = np.repeat(photograph[..., :1], 3, axis=2)
    data = jpeg.compress(gray, quality, subsampling)
    assert not any(component.coefficients.any() for component in jpeg.read(data).components[1:])
    image = decoder.decode(data, texture).image
    assert (image == image[..., :1]).all()


@pytest.mark.slow
def test_no_colour_in_tiles(decoder: Decoder, photograph: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("redecode.decoder.TILE", 64)
    gray = np.tile(np.repeat(photograph[..., :1], 3, axis=2), (2, 2, 1))
    image = decoder.decode(jpeg.compress(gray, 20)).image
    assert (image == image[..., :1]).all()


def test_no_colour_in_a_gray_picture_stored_as_rgb(decoder: Decoder, photograph: np.ndarray) -> None:
    gray = Image.open(io.BytesIO(jpeg.compress(photograph[..., 0], 10)))
    decoded = decoder.decode(as_png(np.asarray(gray.convert("RGB"))))
    assert decoded.changed
    assert (decoded.image == decoded.image[..., :1]).all()


def test_a_spot_of_colour_does_not_tint_the_rest(decoder: Decoder, photograph: np.ndarray) -> None:
    page = np.repeat(np.tile(photograph[..., :1], (2, 2, 1)), 3, axis=2)
    page[16:32, 16:32] = 200, 60, 60
    image = decoder.decode(jpeg.compress(page, 30, "4:4:4"))
    far = image.image[120:, 120:].astype(int)
    assert np.ptp(far, axis=2).max() == 0


@pytest.mark.parametrize("quality", [40, 60, 75, 90, 96])
@pytest.mark.parametrize("texture", [0.0, 1.0])
def test_checks_on_the_block_grid_stay_sharp(decoder: Decoder, quality: int, texture: float) -> None:
    palette = np.array([[20, 30, 60], [230, 220, 90], [120, 30, 40], [250, 250, 250]], np.uint8)
    original = palette[np.random.default_rng(2).permutation(np.arange(144) % 4).reshape(12, 12)].repeat(8, 0).repeat(8, 1)
    data = jpeg.compress(original, quality, "4:4:4")
    plain = np.asarray(Image.open(io.BytesIO(data))).astype(int)
    restored = decoder.decode(data, texture).image.astype(int)
    assert np.abs(restored - original).max() <= np.abs(plain - original).max() + 1


@pytest.mark.parametrize(("quality", "subsampling", "side"), [(20, "4:2:0", 16), (75, "4:2:0", 16), (75, "4:4:4", 8), (92, "4:4:4", 8)])
@pytest.mark.parametrize("texture", [0.0, 1.0])
def test_squares_on_the_grid_do_not_lose(decoder: Decoder, quality: int, subsampling: str, side: int, texture: float) -> None:
    """Neither to the integers that viewers round samples to, nor to chroma that is interpolated over the squares' borders."""
    random = np.random.default_rng(5)
    palette = random.integers(0, 256, (6, 3), dtype=np.uint8)
    original = palette[random.integers(0, 6, (96 // side, 128 // side))].repeat(side, 0).repeat(side, 1)
    data = jpeg.compress(original, quality, subsampling)
    shown = np.asarray(Image.open(io.BytesIO(data))).astype(float)
    error = np.square(decoder.decode(data, texture).image.astype(float) - original)
    assert error.mean() <= np.square(shown - original).mean() * 1.02
    if subsampling == "4:2:0":
        # Without colours bleeding over the borders.
        assert error.mean() < 0.5 * np.square(shown - original).mean()


def test_among_sharp_borders_all_even_blocks_are_kept() -> None:
    tables = standard_tables(10)
    step = float(tables[0, 0, 1])
    # Steps of which most are too small to be surely sharp.
    levels = np.random.default_rng(3).integers(0, 5, (12, 12)) * 0.6 * step
    plain = levels.repeat(8, 0).repeat(8, 1)[None].astype(np.float32)
    kept = keep_exact(plain + np.float32(3), plain, tables)
    np.testing.assert_allclose(kept, plain)
    # A slope without a sharp border is none of these.
    plain = (np.arange(12) * 0.3 * step).repeat(8)[None, None].repeat(96, 1).astype(np.float32)
    assert (keep_exact(plain + np.float32(3), plain, tables) == plain + np.float32(3)).all()


def test_samples_of_a_file_are_integers_again() -> None:
    plain = np.full((3, 48, 48), 100.2, np.float32)
    plain[1], plain[2] = 128.4, 127.6
    scales = [(1, 1), (2, 2), (2, 2)]
    found = keep_exact(plain + np.float32(3), plain, standard_tables(75), scales=scales)
    assert (found[0] == 100).all()
    assert (found[1:] == 128).all()


def test_only_what_is_surely_exact_is_kept() -> None:
    tables = standard_tables(50)
    step = float(tables[0, 0, 1])
    plain = np.full((1, 8 * 12, 8 * 12), 100, np.float32)
    plain[:, :, 48:] += np.float32(1.1 * step)
    restored = plain + np.float32(5)
    kept = keep_exact(restored.copy(), plain, tables)[0] == plain[0]
    # A sharp border keeps the blocks along it and as far as REACH; beyond that the neighbourhood is even.
    assert kept.all()
    # A border that a slope could explain keeps nothing near it.
    plain[:, :, 48:] -= np.float32(0.3 * step)
    restored = plain + np.float32(5)
    kept = keep_exact(restored.copy(), plain, tables)[0] == plain[0]
    assert not kept[:, 8 * (6 - REACH) : 8 * (6 + REACH)].any()
    assert kept[:, : 8 * (6 - REACH)].all()
    assert kept[:, 8 * (6 + REACH) :].all()


def test_the_grid_may_begin_elsewhere() -> None:
    plain = np.random.default_rng(0).normal(128, 20, (3, 61, 75)).astype(np.float32)
    plain[2] = 128
    restored = plain + np.float32(3)
    kept = keep_exact(restored.copy(), plain, standard_tables(50), (3, 5))
    assert (kept[2] == 128).all()
    np.testing.assert_array_equal(kept[:2], restored[:2])
