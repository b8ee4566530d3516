"""redecode as a library: sources and results of decode."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import redecode
from redecode import Decoded, OutputExistsError, UnsupportedError, UsageError
from redecode.codec import jpeg

EXAMPLE = Path(__file__).parents[1] / "examples" / "parrots-q10.jpg"


@pytest.fixture(scope="module")
def data() -> bytes:
    with Image.open(EXAMPLE) as image:
        return jpeg.compress(np.asarray(image)[:64, :96], 20)


@pytest.fixture(scope="module")
def decoded(data: bytes) -> Decoded:
    return redecode.decode(data)


def test_all_kinds_of_sources_of_one_file(data: bytes, decoded: Decoded, tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(data)
    with path.open("rb") as file, Image.open(path) as image:
        place = image.fp.tell()
        sources = [path, str(path), data, bytearray(data), memoryview(data), io.BytesIO(data), file, image, redecode.read(data)]
        for source in sources:
            np.testing.assert_array_equal(redecode.decode(source).image, decoded.image)
        assert image.fp.tell() == place
        np.testing.assert_array_equal(np.asarray(image), np.asarray(Image.open(path)))  # The image can still be loaded.


def test_pixels_are_searched_for_traces(data: bytes, tmp_path: Path) -> None:
    with Image.open(EXAMPLE) as image:
        image.load()
        whole = np.asarray(image)[:256, :256]
    saved = tmp_path / "a.png"
    Image.fromarray(whole).save(saved)
    expected = redecode.decode(saved)
    assert expected.changed
    np.testing.assert_array_equal(redecode.decode(whole).image, expected.image)
    np.testing.assert_array_equal(redecode.decode(Image.fromarray(whole)).image, expected.image)
    np.testing.assert_array_equal(redecode.decode(whole[:, ::-1][:, ::-1]).image, expected.image)  # Of any strides.


def test_a_changed_pillow_image_is_taken_by_its_pixels(data: bytes) -> None:
    image = Image.open(io.BytesIO(data))
    image.paste((255, 0, 0), (0, 0, 96, 64))
    assert not redecode.decode(image).changed
    assert redecode.decode(image).image[5, 5].tolist() == [255, 0, 0]


def test_transparency_goes_along(tmp_path: Path) -> None:
    with Image.open(EXAMPLE) as image:
        rgba = np.dstack([np.asarray(image)[:256, :256], np.arange(256 * 256).reshape(256, 256) % 251]).astype(np.uint8)
    result = redecode.decode(rgba)
    assert result.changed
    assert result.mode == "RGB"
    assert result.to_pil().mode == "RGBA"
    np.testing.assert_array_equal(np.asarray(result.to_pil())[..., 3], rgba[..., 3])
    with pytest.raises(UnsupportedError, match="transparency"):
        result.save(tmp_path / "a.jpg")


@pytest.mark.parametrize(
    "array", [np.zeros((8, 8)), np.zeros((8, 8, 2), np.uint8), np.zeros((3, 8, 8), np.uint8), np.zeros((0, 8), np.uint8)]
)
def test_arrays_that_are_no_pictures(array: np.ndarray) -> None:
    with pytest.raises(UnsupportedError, match="array"):
        redecode.decode(array)


def test_what_is_no_source() -> None:
    with pytest.raises(UsageError, match="int"):
        redecode.decode(5)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="text"):
        redecode.decode(io.StringIO("photo"))  # type: ignore[arg-type]


def test_save_keeps_metadata_and_never_replaces_unasked(tmp_path: Path, data: bytes) -> None:
    buffer = io.BytesIO()
    Image.open(io.BytesIO(data)).save(buffer, "JPEG", quality=30, dpi=(300, 300), comment=b"hello")
    result = redecode.decode(buffer.getvalue(), texture=0)
    target = tmp_path / "new" / "a.png"
    result.save(target)
    with Image.open(target) as image:
        assert image.info["dpi"] == pytest.approx((300, 300), abs=0.1)
        np.testing.assert_array_equal(np.asarray(image), result.image)
    with pytest.raises(OutputExistsError):
        result.save(target)
    result.save(target, overwrite=True, strip=True)
    with Image.open(target) as image:
        assert "dpi" not in image.info
    with pytest.raises(UsageError, match=r"\.png"):
        result.save(tmp_path / "a.xyz")
    result.save(tmp_path / "a.xyz", format="webp", quality=50)
    with Image.open(tmp_path / "a.xyz") as image:
        assert image.format == "WEBP"


def test_it_is_an_array_and_a_picture_in_notebooks(decoded: Decoded) -> None:
    np.testing.assert_array_equal(np.asarray(decoded), decoded.image)
    assert np.asarray(decoded, np.float32).dtype == np.float32
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(decoded._repr_png_()))), decoded.image)
    np.testing.assert_array_equal(np.asarray(decoded.to_pil()), decoded.image)


def test_one_line_says_what_it_is(decoded: Decoded) -> None:
    assert repr(decoded) == "<Decoded 96×64 RGB, quality 20, texture 1>"
    assert decoded == decoded
    assert (decoded == redecode.decode(EXAMPLE, texture=0)) is False
    assert repr(redecode.decode(np.zeros((32, 32), np.uint8))) == "<Decoded 32×32 L, texture 1, unchanged>"


def test_inks_are_told_from_transparency(data: bytes) -> None:
    buffer = io.BytesIO()
    Image.open(io.BytesIO(data)).convert("CMYK").save(buffer, "JPEG", quality=30)
    result = redecode.decode(buffer.getvalue())
    assert (result.mode, result.to_pil().mode, result.image.shape[2]) == ("CMYK", "CMYK", 4)


def test_many_keep_their_order_and_are_taken_lazily(data: bytes, decoded: Decoded) -> None:
    taken = []

    def sources():
        for number in range(6):
            taken.append(number)
            yield data if number % 2 else EXAMPLE

    results = redecode.decode_many(sources(), texture=0)
    first, second = next(results), next(results)
    assert (first.image.shape, second.image.shape) == ((512, 768, 3), (64, 96, 3))
    assert len(taken) < 6
    np.testing.assert_array_equal(second.image, redecode.decode(data, texture=0).image)
    with pytest.raises(redecode.UnreadableError):
        list(redecode.decode_many([data, b"no picture", data], texture=0))


def test_everything_of_the_engine_can_be_chosen_from_one_call(data: bytes) -> None:
    steps = []
    result = redecode.decode(data, threshold=9, project=False, precision="float32", progress=lambda done, of: steps.append((done, of)))
    assert not result.mask.any()
    assert not result.projected
    assert steps == [(1, 1)]
    with pytest.raises(ValueError, match="device"):
        redecode.decode(data, device="abacus")
