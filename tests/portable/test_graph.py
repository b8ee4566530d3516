"""The whole method as one ONNX graph, against the engine."""

from __future__ import annotations

import functools
import io
import itertools
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from PIL import Image

from redecode import weights
from redecode.codec import jpeg
from redecode.decoder import Decoder
from redecode.errors import UnsupportedError
from redecode.portable import feed, graph

ROOT = Path(__file__).parents[2]
EXAMPLES, DOCUMENTATION = ROOT / "examples", ROOT / "docs" / "browser.md"
# The names of sampling factors that Pillow writes, and a name of our own for a file without chroma.
SAMPLINGS = ("4:4:4", "4:2:2", "4:2:0", "gray")


@functools.cache
def session(part: graph.Part, preset: weights.Preset = "fast") -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(graph.build(part, preset).SerializeToString(), options)


@functools.cache
def decoder(preset: weights.Preset) -> Decoder:
    return Decoder(preset)


def crop(example: str, left: int, top: int, width: int, height: int) -> np.ndarray:
    with Image.open(EXAMPLES / example) as image:
        return np.asarray(image.convert("RGB").crop((left, top, left + width, top + height)))


def compressed(pixels: np.ndarray, quality: int, sampling: str) -> jpeg.JpegImage:
    if sampling == "gray":
        return jpeg.read(jpeg.compress(np.asarray(Image.fromarray(pixels).convert("L")), quality))
    return jpeg.read(jpeg.compress(pixels, quality, sampling))


def pixels_of(image: jpeg.JpegImage, texture: float, preset: weights.Preset = "fast") -> np.ndarray:
    inputs = {**feed.inputs_of(image), "amount": np.array([texture], np.float32)}
    (pixels,) = session("whole", preset).run(["pixels"], inputs)
    if image.gray:
        np.testing.assert_array_equal(pixels, pixels[..., :1].repeat(3, 2))
        return pixels[..., 0]
    return pixels


def alike(pixels: np.ndarray, image: jpeg.JpegImage, texture: float, preset: weights.Preset = "fast") -> None:
    wanted = decoder(preset).decode(image, texture)
    assert pixels.shape == wanted.image.shape
    assert np.abs(pixels.astype(int) - wanted.image).max() <= 1


# Of all kinds of sampling, of sizes that are multiples of 16 and of none, across the qualities at which layers are blended.
FILES = list(itertools.product(SAMPLINGS, (5, 10, 30, 75, 93), ((96, 80), (101, 77))))


@pytest.mark.parametrize(("number", "file"), list(enumerate(FILES)), ids=str)
def test_pixels_are_the_engines(number: int, file: tuple[str, int, tuple[int, int]]) -> None:
    sampling, quality, size = file
    example = ("parrots-q10.jpg", "buildings-q5.jpg")[number % 2]
    image = compressed(crop(example, 40 + 9 * number, 200 - 4 * number, *size), quality, sampling)
    texture = (1, 0.5, 0)[number % 3]
    alike(pixels_of(image, texture), image, texture)


@pytest.mark.slow
def test_the_other_preset(photograph: np.ndarray) -> None:
    image = compressed(photograph, 20, "4:2:0")
    alike(pixels_of(image, 1, "best"), image, 1, "best")


@pytest.mark.slow
def test_colours_outside_rgb() -> None:
    """Steep edges of strong colours, which compression drives out of RGB: rounding and clipping leave much to repair."""
    rng = np.random.default_rng(3)
    pixels = np.kron(rng.choice([0, 255], (10, 12, 3)), np.ones((9, 9, 1))).astype(np.uint8)
    for sampling in SAMPLINGS:
        image = compressed(pixels, 30, sampling)
        alike(pixels_of(image, 1), image, 1)
        (contradicting,) = session("whole").run(["contradicting"], {**feed.inputs_of(image), "amount": np.array([1], np.float32)})
        blocks = sum(component.coefficients[..., 0, 0].size for component in image.components)
        assert 1 - contradicting.sum() / blocks == pytest.approx(decoder("fast").decode(image).consistency)


def test_what_is_exact_stays() -> None:
    """Graphics whose even areas meet on the borders of blocks, and a picture without colour in a file with chroma."""
    pixels = np.full((96, 112, 3), 200, np.uint8)
    pixels[32:64, 24:80] = 40
    for sampling in SAMPLINGS:
        image = compressed(pixels, 40, sampling)
        alike(pixels_of(image, 1), image, 1)


@pytest.mark.slow
@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_the_halves_make_the_whole(photograph: np.ndarray, sampling: str) -> None:
    image = compressed(photograph, 15, sampling)
    inputs, amount = feed.inputs_of(image), np.array([0.7], np.float32)
    base, texture, mask = session("layers").run(["base", "texture", "mask"], inputs)
    engine = decoder("fast").decode(image, layers=True)
    assert engine.base_planes is not None
    assert engine.texture_planes is not None
    inside = slice(len(image.components)), slice(image.height), slice(image.width)
    np.testing.assert_allclose(base[inside], engine.base_planes, atol=0.01)
    # Activations of int8 may be rounded to the other side.
    assert np.abs(texture[inside] - engine.texture_planes).mean() < 0.01
    np.testing.assert_array_equal(mask, engine.mask)
    padded = np.pad(mask, [(0, full - own) for full, own in zip(base.shape[1:], mask.shape, strict=True)])
    (pixels,) = session("finish").run(["pixels"], {**inputs, "base": base, "texture": texture, "mask": padded, "amount": amount})
    np.testing.assert_array_equal(pixels, session("whole").run(["pixels"], {**inputs, "amount": amount})[0])


def test_tiles_with_a_halo_make_the_picture(photograph: np.ndarray) -> None:
    image = compressed(np.tile(photograph, (1, 2, 1))[:112], 10, "4:2:0")
    model = graph.build("whole")
    told = {entry.key: entry.value for entry in model.metadata_props}
    halo = -(-int(told["halo"]) // 16) * 16
    left, right = pixels_of(image.crop((0, 112), (0, 160 + halo)), 1), pixels_of(image.crop((0, 112), (160 - halo, image.width)), 1)
    joined = np.concatenate([left[:, :160], right[:, halo:]], axis=1)
    assert (np.abs(joined.astype(int) - pixels_of(image, 1)) <= 1).mean() > 0.999


def test_the_file_tells_what_it_is() -> None:
    model = graph.build("whole", "fast", "float32")
    told = {entry.key: entry.value for entry in model.metadata_props}
    assert (told["part"], told["preset"], told["precision"], told["alignment"]) == ("whole", "fast", "float32", "16")
    records = [weights.record(name) for name in weights.PRESETS["fast"].values()]
    assert json.loads(told["networks"]) == {record["name"]: record["sha256"]["float32"] for record in records}
    assert int(told["halo"]) >= max(record["halo"] for record in records)
    assert "Apache-2.0" in told["licence"]
    assert {one.name for one in model.graph.input} == {*feed.COMPONENTS, "tables", "size", "amount"}


def test_what_the_graph_does_not_know(photograph: np.ndarray) -> None:
    buffer = io.BytesIO()
    Image.fromarray(photograph).convert("CMYK").save(buffer, "JPEG")
    with pytest.raises(UnsupportedError, match="not CMYK"):
        feed.inputs_of(jpeg.read(buffer.getvalue()))


@pytest.mark.slow
def test_the_example_in_the_documentation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(EXAMPLES / "parrots-q10.jpg", "photo.jpg")
    onnx.save(graph.build("whole"), "redecode.onnx")
    (example,) = re.findall(r"^```python\n(.*?)^```", DOCUMENTATION.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    exec(compile(example, "browser.md", "exec"), {})
    with Image.open("photo.png") as image:
        pixels = np.asarray(image)
    alike(pixels, jpeg.read(Path("photo.jpg").read_bytes()), 1)


@pytest.mark.slow
def test_the_command(tmp_path: Path) -> None:
    target = tmp_path / "redecode.onnx"
    command = [sys.executable, "-m", "redecode", "onnx", target]
    assert subprocess.run(command, capture_output=True, check=True).stdout.decode().strip() == str(target)
    onnx.checker.check_model(onnx.load(target), full_check=True)
    again = subprocess.run(command, capture_output=True)
    assert again.returncode == 2
    assert b"exists already" in again.stderr
