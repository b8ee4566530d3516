from __future__ import annotations

import io
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import redecode
from redecode import decoder, weights
from redecode.codec import colour, jpeg
from redecode.codec.picture import Picture, read
from redecode.codec.quality import standard_tables
from redecode.codec.raster import RasterImage
from redecode.codec.trace import Trace
from redecode.decoder import Decoder
from redecode.restoration import render
from redecode.restoration.contradiction import believe
from redecode.restoration.mask import orientation_diversity


@pytest.fixture(scope="module")
def restorer() -> Decoder:
    return Decoder("fast")


@pytest.mark.parametrize("precision", weights.PRECISIONS)
@pytest.mark.parametrize(("layer", "name"), sorted({pair for preset in weights.PRESETS.values() for pair in preset.items()}))
def test_records_tell_where_weights_come_from(layer: str, name: str, precision: str) -> None:
    record = weights.load(name, precision).record
    assert record["network"] == layer
    assert record["halo"] > 0
    assert record["training"]["images_seen"] > 0
    assert {"recipe", "licence", "config", "parameters"} <= record.keys()


def test_a_changed_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    original = weights.record
    monkeypatch.setattr(weights, "record", lambda name: {**original(name), "sha256": {"int8": "0" * 64}})
    with pytest.raises(redecode.DependencyError, match="record"):
        weights.load("fast-edge", "int8")


def test_a_changed_record_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    original = weights.record
    for change in ({"halo": 2}, {"licence": ""}, {"sha256": {**original("fast-edge")["sha256"], "float32": "0" * 64}}):
        monkeypatch.setattr(weights, "record", lambda name, change=change: original(name) | change)
        with pytest.raises(redecode.DependencyError, match="the record of network 'fast-edge'"):
            weights.load("fast-edge", "int8")


@pytest.mark.parametrize(
    ("quality", "base", "texture"), [(10, 1, 1), (50, 1, 0.5), (90, 1, 0), (91, 5 / 6, 0), (93, 0.5, 0), (96, 0, 0), (100, 0, 0)]
)
def test_fine_qualities_are_blended_with_the_plain_decode(photograph: np.ndarray, quality: int, base: float, texture: float) -> None:
    image = jpeg.read(jpeg.compress(photograph, quality))
    assert decoder._weight(image, decoder.BASE_BLEND) == pytest.approx(base)
    assert decoder._weight(image, decoder.TEXTURE_BLEND) == pytest.approx(texture)


def test_unknown_preset() -> None:
    with pytest.raises(ValueError, match="preset"):
        Decoder("enormous")
    with pytest.raises(ValueError, match="precision"):
        Decoder(precision="int4")
    with pytest.raises(ValueError, match="device"):
        Decoder(device="abacus")


def test_a_device_that_is_not_there(photograph: np.ndarray) -> None:
    with pytest.raises(redecode.DependencyError, match="pip install onnxruntime-directml"):
        Decoder(device="directml").decode(jpeg.compress(photograph, 10))


@pytest.mark.parametrize("size", [(1, 1), (8, 17), (50, 33), (112, 160)])
@pytest.mark.parametrize("subsampling", [*jpeg.SUBSAMPLINGS, "gray"])
def test_shapes(restorer: Decoder, photograph: np.ndarray, size: tuple[int, int], subsampling: str) -> None:
    picture = np.ascontiguousarray(photograph[: size[0], : size[1]])
    gray = subsampling == "gray"
    data = jpeg.compress(picture[..., 0] if gray else picture, 15, "4:4:4" if gray else subsampling)
    result = restorer.decode(data, layers=True)
    shape = size if gray else (*size, 3)
    assert result.texture_layer is not None
    assert result.image.shape == result.base_layer.shape == result.texture_layer.shape == shape
    assert result.mask.shape == size
    assert result.image.dtype == np.uint8


def test_texture_amount(restorer: Decoder, photograph: np.ndarray) -> None:
    data = jpeg.compress(photograph, 10)
    none = restorer.decode(data, texture=0, layers=True)
    full = restorer.decode(data, texture=1, project=False, layers=True)
    assert none.texture_layer is None
    np.testing.assert_array_equal(none.image, none.base_layer)
    np.testing.assert_array_equal(none.mask, full.mask)
    bare = restorer.decode(data, texture=0)
    assert not bare.mask.any()
    np.testing.assert_array_equal(bare.image, none.image)
    outside = ~full.mask
    np.testing.assert_array_equal(full.image[outside], full.base_layer[outside])
    assert full.texture_layer is not None
    np.testing.assert_array_equal(full.image[full.mask], full.texture_layer[full.mask])
    half = full.with_texture(0.5, project=True)
    alone = restorer.decode(data, texture=0.5)
    np.testing.assert_array_equal(half.image, alone.image)
    assert (half.consistency, half.projection_psnr) == (alone.consistency, alone.projection_psnr)
    with pytest.raises(ValueError, match="texture"):
        restorer.decode(data, texture=1.5)
    with pytest.raises(ValueError, match="layers"):
        _ = alone.base_layer


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["4:2:0", "4:2:2", "gray", "raster"])
@pytest.mark.parametrize("precision", weights.PRECISIONS)
def test_tiled_equals_whole(photograph: np.ndarray, monkeypatch: pytest.MonkeyPatch, kind: str, precision: str) -> None:
    restorer = Decoder("fast", precision=precision)
    large = np.tile(photograph, (4, 4, 1))[:397, :521]
    if kind == "raster":
        degraded = colour.to_uint8(colour.to_rgb(jpeg.read(jpeg.compress(large, 10)).planes()))[5:, 3:]
        picture: Picture = RasterImage(degraded, Trace((3, 5), standard_tables(10), 10, 1.0))
    else:
        data = jpeg.compress(large[..., 0], 10) if kind == "gray" else jpeg.compress(large, 10, kind)
        picture = jpeg.read(data)
    whole = restorer.decode(picture, layers=True)
    monkeypatch.setattr(decoder, "TILE", 128)
    tiled = restorer.decode(picture, layers=True)
    assert whole.image.shape == tiled.image.shape == (picture.height, picture.width, 3)[: tiled.image.ndim]
    # The last bits of float sums depend on the tiles' shapes; in int8 they decide which way some values are rounded.
    difference = np.abs(whole.image.astype(int) - tiled.image)
    assert (difference <= 1).mean() > 0.9999
    assert (whole.mask == tiled.mask).mean() > 0.9999
    assert whole.consistency == pytest.approx(tiled.consistency, abs=1e-3)
    # A coefficient at the border of two columns of the shrinkage factors may fall into either.
    np.testing.assert_allclose(whole.base_planes, tiled.base_planes, atol=1 if precision == "int8" else 0.05)
    np.testing.assert_allclose(whole.texture_planes, tiled.texture_planes, atol=2 if precision == "int8" else 0.01)


@pytest.mark.slow
def test_texture_is_left_out_where_the_mask_is_empty(photograph: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    """One half of the picture is flat: its tiles take one network only, and the result is the same."""
    flat = np.full((photograph.shape[0], 256, 3), 128, np.uint8)
    data = jpeg.compress(np.hstack([np.tile(photograph, (1, 3, 1))[:, :256], flat, flat]), 10)
    monkeypatch.setattr(decoder, "TILE", 128)
    seen = []

    class Counting(Decoder):
        def texture_layer(self, picture: Picture, base: np.ndarray) -> np.ndarray:
            seen.append(picture)
            return super().texture_layer(picture, base)

    skipping = Counting(threads=1).decode(data)
    skipped = len(seen)
    everywhere = Counting(threads=1).decode(data, layers=True)
    assert 0 < skipped < len(seen) - skipped
    np.testing.assert_array_equal(skipping.image, everywhere.image)


@pytest.mark.slow
def test_int8_is_near_float32(restorer: Decoder, live1: list[np.ndarray]) -> None:
    """PSNR lost by int8 at QF 10: 0.03 dB on average, 0.1 dB at worst."""
    exact = Decoder("fast", precision="float32")
    lost = []
    for original in live1[::4]:
        luma = colour.studio_luma(original)
        data = jpeg.compress(luma, 10)
        errors = [np.mean((d.decode(data, texture=0).image.astype(float) - luma) ** 2) for d in (restorer, exact)]
        lost.append(10 * np.log10(errors[0] / errors[1]))
    assert np.mean(lost) <= 0.03
    assert max(lost) <= 0.1


@pytest.mark.slow
def test_restores_better_than_the_plain_decode(restorer: Decoder, live1: list[np.ndarray]) -> None:
    for original in live1[::7]:
        data = jpeg.compress(original, 10)
        plain = colour.to_uint8(colour.to_rgb(np.clip(jpeg.read(data).planes(), 0, 255)))
        base = restorer.decode(data, texture=0).image

        def error(image: np.ndarray, original: np.ndarray = original) -> float:
            return float(np.mean((image.astype(float) - original) ** 2))

        assert error(base) < error(plain) / 1.15  # 0.6 dB


@pytest.mark.slow
def test_the_result_agrees_with_the_file(restorer: Decoder, live1: list[np.ndarray]) -> None:
    shares = [restorer.decode(jpeg.compress(original, 10)).consistency for original in live1[::4]]
    assert np.mean(shares) >= 0.995


@pytest.mark.slow
def test_decode_takes_paths_and_bytes(tmp_path: Path, photograph: np.ndarray) -> None:
    data = jpeg.compress(photograph, 10)
    path = tmp_path / "photo.jpg"
    path.write_bytes(data)
    np.testing.assert_array_equal(redecode.decode(path).image, redecode.decode(data).image)
    with pytest.raises(redecode.UnreadableError):
        redecode.decode(b"not a picture")


def test_exports() -> None:
    assert all(hasattr(redecode, name) for name in redecode.__all__)


def test_the_engine_imports_no_torch() -> None:
    code = "import redecode, sys; redecode.Decoder(); assert not {'torch', 'typer', 'rich', 'fastapi', 'ray'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["RGB", "CMYK", "YCCK"])
def test_colour_models(restorer: Decoder, photograph: np.ndarray, model: str) -> None:
    """Whatever the file's colour model, the plain decode is Pillow's, the result is near it and consistent with the file."""
    data = encoded(photograph, model)
    picture = read(data)
    plain = render.to_pixels(np.clip(picture.planes(), 0, 255), picture, project=False)
    with Image.open(io.BytesIO(data)) as image:
        assert image.mode == ("RGB" if model == "RGB" else "CMYK")
        assert np.abs(plain.astype(int) - np.asarray(image)).max() <= 2
    result = restorer.decode(picture)
    assert result.image.shape == plain.shape
    assert np.abs(result.image.astype(float) - plain).mean() < 8
    assert result.consistency is not None
    # These inks, taken for YCC and black, are colours that no RGB has: viewers clip them, and so does the result.
    assert result.consistency > (0.6 if model == "YCCK" else 0.99)


def encoded(photograph: np.ndarray, model: str) -> bytes:
    buffer = io.BytesIO()
    if model == "RGB":
        Image.fromarray(photograph).save(buffer, "JPEG", quality=40, keep_rgb=True)
        return buffer.getvalue()
    inks = np.dstack([255 - photograph, photograph[..., 0] // 3])
    Image.fromarray(inks, "CMYK").save(buffer, "JPEG", quality=40)
    data = buffer.getvalue()
    adobe = data.index(b"Adobe")
    return data[: adobe + 11] + bytes([2 if model == "YCCK" else 0]) + data[adobe + 12 :]


def test_sixteen_bits_agree_with_eight(restorer: Decoder, photograph: np.ndarray) -> None:
    result = restorer.decode(jpeg.compress(photograph, 20), layers=True)
    deep = render.to_deep_pixels(result.fused_planes, result.picture, project=True)
    assert deep.dtype == np.uint16
    difference = np.abs(deep / 257 - result.image)
    # Blocks that rounding drives out of their cells are repaired in 8 bits only.
    assert np.median(difference) <= 0.5
    assert (difference > 0.51).mean() < 0.02


@pytest.mark.parametrize("sampling", [((1, 1), (2, 2), (2, 2)), ((3, 1), (1, 1), (1, 1)), ((3, 2), (2, 1), (1, 1))])
def test_odd_sampling_factors(restorer: Decoder, photograph: np.ndarray, sampling: tuple[tuple[int, int], ...]) -> None:
    source = jpeg.read(jpeg.compress(photograph[:48, :48], 50, "4:4:4"))
    h_max, v_max = max(h for h, _ in sampling), max(v for _, v in sampling)
    components = []
    for component, (h, v) in zip(source.components, sampling, strict=True):
        height, width = -(-48 * v // v_max), -(-48 * h // h_max)
        blocks = component.coefficients[: -(-height // 8), : -(-width // 8)]
        components.append(replace(component, coefficients=blocks, sampling=(h, v), size=(height, width)))
    image = replace(source, components=tuple(components), max_sampling=(h_max, v_max))
    assert restorer.decode(image).image.shape == (48, 48, 3)


def test_progress_ends_at_the_end_and_can_stop(restorer: Decoder, photograph: np.ndarray) -> None:
    calls: list[tuple[int, int]] = []
    restorer.decode(jpeg.compress(photograph, 10), progress=lambda done, total: calls.append((done, total)))
    assert calls[-1][0] == calls[-1][1]
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        restorer.decode(jpeg.compress(photograph, 10), progress=stop)


def test_high_qualities_fade_into_the_plain_decode(restorer: Decoder, photograph: np.ndarray) -> None:
    for quality, subsampling in ((96, "4:4:4"), (99, "4:2:0"), (100, "4:4:4")):
        picture = jpeg.read(jpeg.compress(photograph, quality, subsampling))
        result = restorer.decode(picture, layers=True)
        np.testing.assert_array_equal(result.base_planes, picture.planes())
        np.testing.assert_array_equal(result.texture_planes, result.base_planes)
    between = jpeg.read(jpeg.compress(photograph, 93))
    restored = believe(restorer._network("edge")(between.planes(), between.tables()), between.planes(), between.tables())
    np.testing.assert_allclose(restorer.base_layer(between), (between.planes() + restored) / 2, atol=1e-3)
    for quality, weight in ((10, 1), (50, 0.5)):
        low = jpeg.read(jpeg.compress(photograph, quality))
        base = restorer.base_layer(low)
        expected = base + weight * (restorer._network("texture")(low.planes(), low.tables()) - base)
        # But for blocks in which the plain decode is exact.
        assert np.isclose(restorer.texture_layer(low, base), expected, rtol=0, atol=1e-3).mean() > 0.98


@pytest.mark.slow
@pytest.mark.parametrize("quality", [90, 95, 98])
def test_good_files_do_not_lose(restorer: Decoder, live1: list[np.ndarray], quality: int) -> None:
    for original in live1[:4]:
        part = np.ascontiguousarray(original[:160, :160])
        data = jpeg.compress(part, quality, "4:4:4")
        with Image.open(io.BytesIO(data)) as plain:
            before = np.mean((np.asarray(plain).astype(float) - part) ** 2)
        after = np.mean((restorer.decode(data).image.astype(float) - part) ** 2)
        assert 10 * np.log10(after / before) < 0.05


def test_the_border_of_a_tile_holds_all_that_its_mask_looks_at() -> None:
    luma = np.random.default_rng(0).integers(0, 256, (48, 48)).astype(np.float32)
    reach = decoder._MASK_REACH
    part = orientation_diversity(luma[16 - reach : 32 + reach, 16 - reach : 32 + reach])
    np.testing.assert_array_equal(part[reach : reach + 16, reach : reach + 16], orientation_diversity(luma)[16:32, 16:32])


@pytest.mark.parametrize("preset", weights.PRESETS)
@pytest.mark.parametrize("unit", [(8, 8), (16, 8), (16, 16)])
def test_the_border_of_a_tile_holds_all_that_it_depends_on(preset: weights.Preset, unit: tuple[int, int]) -> None:
    networks = [weights.record(name)["halo"] for name in weights.PRESETS[preset].values()]
    # One sample of chroma more for its interpolation.
    assert decoder.halo(preset, unit) >= max(networks) + decoder._MASK_REACH + max(unit) // 8
