"""What docs/consistency.md promises, by an independent DCT (scipy) and libjpeg's own decode."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.fft import dctn, idctn

from redecode import Decoded, Decoder
from redecode.codec import colour, jpeg
from redecode.codec.jpeg import JpegImage
from redecode.restoration import render, repair

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
# ITU-T T.871.
TO_YCBCR = np.array([[0.299, 0.587, 0.114], [-0.168735892, -0.331264108, 0.5], [0.5, -0.418687589, -0.081312411]])


@pytest.fixture(scope="module")
def decoder() -> Decoder:
    return Decoder("fast", threads=1)


@pytest.fixture(scope="module")
def colourful() -> np.ndarray:
    """Part of an example at half its size, which leaves no trace of its compression: uint8 [128, 160, 3], saturated feathers and blur."""
    return np.asarray(Image.open(EXAMPLES / "parrots-q10.jpg").crop((340, 60, 660, 316)).resize((160, 128), Image.Resampling.LANCZOS))


def samples(pixels: np.ndarray, image: JpegImage, index: int) -> np.ndarray:
    """A component of pixels on its own grid of samples, float64."""
    values = pixels.astype(np.float64) * (255 / np.iinfo(pixels.dtype).max)
    plane = values if values.ndim == 2 else values @ TO_YCBCR[index] + (128 if index else 0)
    h, v = image.components[index].sampling
    down, right = image.max_sampling[1] // v, image.max_sampling[0] // h
    height, width = plane.shape
    return plane.reshape(height // down, down, width // right, right).mean((1, 3))


def coefficients(plane: np.ndarray) -> np.ndarray:
    height, width = plane.shape
    blocks = (plane - 128).reshape(height // 8, 8, width // 8, 8).swapaxes(1, 2)
    return dctn(blocks, axes=(2, 3), norm="ortho")


def in_the_cells(pixels: np.ndarray, image: JpegImage, index: int) -> np.ndarray:
    """Blocks whose coefficients round to the file's, by scipy."""
    component = image.components[index]
    return (np.rint(coefficients(samples(pixels, image, index)) / component.table) == component.coefficients).all((2, 3))


def within_rounding(pixels: np.ndarray, image: JpegImage, index: int) -> np.ndarray:
    """Blocks from which no sample need move by more than half a step to lie in all cells, by scipy."""
    component = image.components[index]
    found = coefficients(samples(pixels, image, index))
    middle, half = component.coefficients * component.table.astype(float), component.table / 2
    moved = idctn(np.clip(found, middle - half, middle + half) - found, axes=(2, 3), norm="ortho")
    return np.abs(moved).max((2, 3)) <= 0.5 * 255 / np.iinfo(pixels.dtype).max + 2e-3


def plain(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


@pytest.mark.slow
@pytest.mark.parametrize("subsampling", jpeg.SUBSAMPLINGS)
@pytest.mark.parametrize("quality", [5, 20, 50, 80, 92, 97])
def test_every_component_is_consistent_at_every_quality(decoder: Decoder, colourful: np.ndarray, quality: int, subsampling: str) -> None:
    # Well inside RGB: nothing is clipped.
    original = (64 + colourful / 2).astype(np.uint8)
    data = jpeg.compress(original, quality, subsampling)
    image = jpeg.read(data)
    decoded = decoder.decode(data)
    blocks = [within_rounding(decoded.image, image, index) for index in range(3)]
    # One block of chroma in forty may have given way to luma.
    assert min(found.mean() for found in blocks) >= 0.97
    share = np.concatenate([found.ravel() for found in blocks]).mean()
    assert decoded.consistency == pytest.approx(share, abs=0.004)


@pytest.mark.slow
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:0", None])
@pytest.mark.parametrize("quality", [15, 50, 85, 90, 92, 95])
def test_never_fewer_blocks_than_the_plain_decode(decoder: Decoder, colourful: np.ndarray, quality: int, subsampling: str | None) -> None:
    original = colourful if subsampling else colourful[..., 1]
    data = jpeg.compress(original, quality, subsampling or "4:4:4")
    image = jpeg.read(data)
    decoded = decoder.decode(data, 0.5)
    for index in range(len(image.components)):
        # Whether a plain decode is rounded as here or as in libjpeg makes no difference but by chance.
        assert in_the_cells(decoded.image, image, index).mean() >= in_the_cells(plain(data), image, index).mean() - 0.01


def test_sixteen_bits_leave_less_to_rounding(decoder: Decoder, colourful: np.ndarray) -> None:
    from redecode.options import Options
    from redecode.recode import restore

    data = jpeg.compress((64 + colourful / 2).astype(np.uint8), 95, "4:4:4")
    image = jpeg.read(data)
    restored = restore(decoder, data, Options(depth=16, format="tiff"))
    import tifffile

    pixels = tifffile.imread(io.BytesIO(restored.data))
    assert pixels.dtype == np.uint16
    share = np.concatenate([within_rounding(pixels, image, index).ravel() for index in range(3)]).mean()
    assert share >= 0.99
    report = restored.report()
    assert report["consistency"] == pytest.approx(share, abs=0.004)
    assert report["raw_consistency"] == pytest.approx(in_the_cells(pixels, image, 0).mean(), abs=0.01)
    assert report["raw_consistency"] > restore(decoder, data, Options()).report()["raw_consistency"]
    json.dumps(report)


def test_the_figure_is_of_the_file_that_was_given(decoder: Decoder, colourful: np.ndarray) -> None:
    """A picture that was compressed at 10 and again at 92: what fits the first compression contradicts the second."""
    first = plain(jpeg.compress(np.tile(colourful, (2, 2, 1)), 10, "4:4:4"))
    data = jpeg.compress(first, 92, "4:4:4")
    from redecode.codec.picture import read

    assert read(data).past is not None
    decoded = decoder.decode(data, 0.0)
    image = jpeg.read(data)
    share = np.concatenate([within_rounding(decoded.image, image, index).ravel() for index in range(3)]).mean()
    assert share < 0.9
    assert decoded.consistency == pytest.approx(share, abs=0.01)


def block_means(pixels: np.ndarray) -> np.ndarray:
    height, width = (length // 16 * 16 for length in pixels.shape[:2])
    return pixels[:height, :width].astype(float).reshape(height // 16, 16, width // 16, 16, 3).mean((1, 3))


def outside_rgb(pixels: np.ndarray, kind: str, quality: int, subsampling: int) -> bytes:
    """A JPEG with colours outside RGB, as cameras and videos store them."""
    ycbcr = np.asarray(Image.fromarray(pixels).convert("YCbCr")).astype(float)
    if kind == "camera":
        ycbcr[..., 0] = ycbcr[..., 0] * 1.3 + 10
    elif kind == "video":
        ycbcr[..., 0] = (ycbcr[..., 0] - 16) * 255 / 219
        ycbcr[..., 1:] = 128 + (ycbcr[..., 1:] - 128) * 1.8
    else:
        ycbcr[:] = 210, 16, 146
        ycbcr[..., 0] += np.linspace(-30, 30, ycbcr.shape[1])
    buffer = io.BytesIO()
    Image.fromarray(np.clip(np.rint(ycbcr), 0, 255).astype(np.uint8), "YCbCr").save(
        buffer, "JPEG", quality=quality, subsampling=subsampling
    )
    return buffer.getvalue()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["camera", "video", "yellow"])
@pytest.mark.parametrize(("quality", "subsampling"), [(75, 2), (75, 0), (90, 1), (95, 2), (98, 0)])
@pytest.mark.parametrize("texture", [0.0, 1.0])
def test_colours_outside_rgb_are_what_viewers_show(
    decoder: Decoder, colourful: np.ndarray, kind: str, quality: int, subsampling: int, texture: float
) -> None:
    data = outside_rgb(colourful, kind, quality, subsampling)
    shown = plain(data).astype(int)
    for project in (True, False):
        image = decoder.decode(data, texture, project).image
        assert np.abs(block_means(image) - block_means(shown)).max() <= 4
    if kind == "yellow":
        assert np.abs(image - shown).max() <= 12


@pytest.mark.parametrize("kind", ["camera", "video"])
@pytest.mark.parametrize(("quality", "subsampling"), [(10, 2), (20, 0), (40, 2)])
@pytest.mark.parametrize("project", [True, False])
def test_strongly_clipped_colours_stay_at_low_qualities(
    decoder: Decoder, colourful: np.ndarray, kind: str, quality: int, subsampling: int, project: bool
) -> None:
    data = outside_rgb(colourful, kind, quality, subsampling)
    rgb = (jpeg.read(data).planes().transpose(1, 2, 0) - [0, 128, 128]) @ np.linalg.inv(TO_YCBCR).T
    clipped = block_means(np.abs(rgb - rgb.clip(0, 255))).max(2) > 12
    assert clipped.any()
    moved = np.abs(block_means(decoder.decode(data, 0.0, project).image) - block_means(plain(data))).max(2)
    assert moved[clipped].max() <= 4


def test_decoded_says_both_figures(decoder: Decoder, colourful: np.ndarray) -> None:
    decoded: Decoded = decoder.decode(jpeg.compress(colourful, 95, "4:4:4"), 0.0)
    assert decoded.consistency is not None
    assert decoded.raw_consistency is not None
    assert decoded.raw_consistency < 0.8 < 0.95 < decoded.consistency


@pytest.mark.slow
def test_the_number_of_threads_changes_nothing(photograph: np.ndarray) -> None:
    """One thread renders a picture in one piece, two in strips: a block that falls back on the plain decode must not tell them apart."""
    one, two = Decoder("fast", threads=1), Decoder("fast", threads=2)
    for quality in (5, 20, 75, 92):
        data = jpeg.compress(photograph, quality)
        np.testing.assert_array_equal(one.decode(data).image, two.decode(data).image)


def test_rendering_by_strips_changes_nothing(photograph: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    image = jpeg.read(jpeg.compress(photograph, 92))
    planes = image.planes() + np.float32(6) * np.random.default_rng(0).standard_normal(image.planes().shape, np.float32)
    whole = render.to_pixels(planes, image, project=True)
    monkeypatch.setattr(render, "_STRIP", 16)
    np.testing.assert_array_equal(render.to_pixels(planes, image, project=True), whole)


def test_only_colours_outside_rgb_are_clipped() -> None:
    levels = np.array([0, 1, 128, 254, 255])
    inside = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(5, 25, 3).astype(np.float32)
    np.testing.assert_allclose(repair._into_gamut(colour.to_planes(inside)), 0, atol=1e-3)
    grays = np.full((3, 1, 5), 128, np.float32)
    grays[0] = levels
    assert not repair._into_gamut(grays).any()
    outside = np.array([[[-7, 100, 100], [100, 300, 100]]], np.float32)
    clipped = colour.to_rgb(colour.to_planes(outside) + repair._into_gamut(colour.to_planes(outside)))
    np.testing.assert_allclose(clipped, outside.clip(0, 255), atol=1e-3)
