"""Where a network contradicts the file, the plain decode counts: lines and letters do not lose against what viewers show."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont
from scipy.fft import dctn, idctn

from redecode import Decoder
from redecode.codec import jpeg
from redecode.codec.quality import standard_tables
from redecode.restoration.contradiction import LIMITS, believe

TABLES = standard_tables(60)


@pytest.fixture(scope="module")
def decoder() -> Decoder:
    return Decoder("fast", threads=1)


def moved_by(share: float) -> np.ndarray:
    """A change of a block's samples that lies this far outside the cells of TABLES, in squares as a share of what quantization costs."""
    step = TABLES[0].astype(float)
    coefficients = np.zeros((8, 8))
    coefficients[2, 3] = step[2, 3] / 2 + np.sqrt(share * (step**2).sum() / 12)
    return idctn(coefficients, norm="ortho")


def test_a_result_inside_the_cells_is_believed() -> None:
    plain = np.random.default_rng(0).uniform(0, 255, (3, 32, 40)).astype(np.float32)
    # Samples of ± half of the smallest step, divided by 8, move no coefficient by more than half a step.
    restored = plain + np.random.default_rng(1).uniform(-0.5, 0.5, plain.shape).astype(np.float32) * float(TABLES[0].min()) / 8
    np.testing.assert_array_equal(believe(restored.copy(), plain, TABLES), restored)


@pytest.mark.parametrize("origin", [(0, 0), (3, 5)])
def test_a_block_that_contradicts_the_file_becomes_the_plain_decode(origin: tuple[int, int]) -> None:
    top, left = origin
    plain = np.random.default_rng(0).uniform(0, 255, (3, 32 - top, 40 - left)).astype(np.float32)
    restored = plain.copy()
    restored[1:] += 7
    block = np.s_[8 - top : 16 - top, 16 - left : 24 - left]
    restored[0][block] += moved_by(LIMITS[1] * 1.1)
    found = believe(restored.copy(), plain, TABLES, origin)
    inside = np.zeros(plain.shape[1:], bool)
    inside[block] = True
    np.testing.assert_allclose(found[:, inside], plain[:, inside], atol=1e-3)
    np.testing.assert_array_equal(found[:, ~inside], restored[:, ~inside])


def test_between_the_limits_it_is_blended() -> None:
    plain = np.full((1, 8, 8), 100, np.float32)
    middle = sum(LIMITS) / 2
    restored = (plain + moved_by(middle)).astype(np.float32)
    found = believe(restored.copy(), plain, TABLES)
    np.testing.assert_allclose(dctn(found[0] - plain[0]), dctn(restored[0] - plain[0]) / 2, atol=0.05)


def lines() -> np.ndarray:
    """Strokes one pixel wide, black on white."""
    image = Image.new("L", (128, 96), 255)
    draw = ImageDraw.Draw(image)
    for index in range(9):
        draw.line((3, 7 + 11 * index, 120, 90 - 9 * index), 0)
        draw.ellipse((10 * index, 5 * index, 10 * index + 40, 5 * index + 30), outline=0)
    return np.asarray(image)


def letters() -> np.ndarray:
    """Small print, dark on light, [96, 128, 3]."""
    image = Image.new("RGB", (128, 96), (250, 246, 230))
    for row in range(8):
        ImageDraw.Draw(image).text((3, 2 + 12 * row), "Sphinx of black quartz 0123"[row:], (30, 20, 60), ImageFont.load_default(9))
    return np.asarray(image)


def psnr(error: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.square(error.astype(float)).mean()))


@pytest.mark.parametrize(("make", "quality", "loss"), [(lines, 90, 0.7), (lines, 75, 1.5), (letters, 90, 0.3), (letters, 60, 0)])
@pytest.mark.parametrize("texture", [0.0, 1.0])
def test_drawings_do_not_lose(decoder: Decoder, make: object, quality: int, loss: float, texture: float) -> None:
    original = make()  # type: ignore[operator]
    data = jpeg.compress(original, quality, "4:4:4")
    plain = psnr(np.asarray(Image.open(io.BytesIO(data))).astype(int) - original)
    assert psnr(decoder.decode(data, texture).image.astype(int) - original) >= plain - loss
