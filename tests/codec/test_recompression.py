from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from conftest import EXAMPLES
from redecode.codec import jpeg
from redecode.codec.picture import read
from redecode.codec.recompression import first_generation


@pytest.fixture(scope="module")
def original() -> np.ndarray:
    """A photograph that shows no compression any more: half the size of an example."""
    with Image.open(EXAMPLES / "parrots-q10.jpg") as image:
        return np.asarray(image.reduce(2))


def saved_again(data: bytes, quality: int, subsampling: str) -> bytes:
    with Image.open(io.BytesIO(data)) as image:
        return jpeg.compress(np.asarray(image), quality, subsampling)


@pytest.mark.parametrize("subsampling", ["4:2:0", "4:4:4", "gray"])
@pytest.mark.parametrize(("first", "second"), [(10, 90), (30, 85)])
def test_the_first_generation_comes_back(original: np.ndarray, first: int, second: int, subsampling: str) -> None:
    pixels, sampling = (original[..., 1], "4:4:4") if subsampling == "gray" else (original, subsampling)
    once = jpeg.compress(np.ascontiguousarray(pixels), first, sampling)
    image = read(saved_again(once, second, sampling))
    assert isinstance(image, jpeg.JpegImage)
    assert image.resaved == second
    for ours, theirs in zip(image.components, jpeg.read(once).components, strict=True):
        np.testing.assert_array_equal(ours.table, theirs.table)
        assert (ours.coefficients == theirs.coefficients).mean() > 0.995


@pytest.mark.parametrize("quality", [10, 50, 90])
def test_what_was_compressed_once_stays(original: np.ndarray, quality: int) -> None:
    data = jpeg.compress(original, quality)
    assert first_generation(jpeg.read(data)) is None


def test_a_weaker_first_compression_does_not_matter(original: np.ndarray) -> None:
    twice = saved_again(jpeg.compress(original, 90), 40, "4:2:0")
    assert first_generation(jpeg.read(twice)) is None


def test_as_is(original: np.ndarray) -> None:
    twice = saved_again(jpeg.compress(original, 10), 90, "4:2:0")
    image = read(twice, as_is=True)
    assert isinstance(image, jpeg.JpegImage)
    assert image.resaved is None
    np.testing.assert_array_equal(image.tables(), jpeg.read(twice).tables())
