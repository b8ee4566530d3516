"""The page's own JPEG reader against libjpeg's coefficients, in Node."""

from __future__ import annotations

import io
import itertools
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from redecode import portable
from redecode.codec import jpeg
from redecode.errors import UnreadableError
from redecode.portable import feed

NODE = shutil.which("node")
if NODE is None:
    pytest.skip("needs Node: apt-get install nodejs", allow_module_level=True)

PAGE = Path(portable.__file__).parent / "page"
# Reads the files that are named; tells of each what it is, and writes its coefficients beside it.
SCRIPT = """
import { readFileSync, writeFileSync } from "node:fs";
const { read } = await import(process.argv[1]);
const told = process.argv.slice(2).map((path) => {
  try {
    const { components, segments, ...facts } = read(new Uint8Array(readFileSync(path)));
    components.forEach(({ coefficients }, i) => writeFileSync(`${path}.${i}`, coefficients));
    return { ...facts, markers: segments.map(([marker]) => marker), components: components.map(({ coefficients, table, ...rest }) => ({ ...rest, table: [...table] })) };
  } catch (error) {
    if (error.constructor.name !== "Unreadable") throw error;
    return { refused: error.message };
  }
});
console.log(JSON.stringify(told));
"""  # noqa: E501


def read_by_page(folder: Path, files: list[bytes]) -> list[dict[str, Any]]:
    paths = [folder / f"{number}.jpg" for number in range(len(files))]
    for path, data in zip(paths, files, strict=True):
        path.write_bytes(data)
    command = [str(NODE), "--input-type=module", "-e", SCRIPT, "--", str(PAGE / "jpeg.js"), *map(str, paths)]
    # A reader that is no module of a package is taken for one by what it holds; Node warns of that.
    told: list[dict[str, Any]] = json.loads(subprocess.run(command, capture_output=True, check=True, timeout=120).stdout)
    for path, one in zip(paths, told, strict=True):
        for number, component in enumerate(one.get("components", [])):
            shape = component["rows"], component["columns"], 8, 8
            component["coefficients"] = np.fromfile(f"{path}.{number}", np.int16).reshape(shape)
    return told


def encoded(pixels: np.ndarray, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def odd_files(photograph: np.ndarray) -> list[bytes]:
    files = []
    sizes = [(1, 1), (7, 9), (16, 16), (17, 33), (64, 40), (120, 168)]
    kinds = [{}, {"progressive": True}, {"optimize": True}, {"restart_marker_blocks": 3}, {"restart_marker_rows": 1, "progressive": True}]
    for (size, kind), sampling in zip(itertools.product(sizes, kinds), itertools.cycle(("4:4:4", "4:2:2", "4:2:0", "4:1:1")), strict=False):
        for gray in (False, True):
            pixels = photograph[: size[0], : size[1]]
            pixels = pixels[..., 0] if gray else pixels
            files.append(
                encoded(pixels, quality=(5, 40, 75, 92, 100)[len(files) % 5], **kind, **({} if gray else {"subsampling": sampling}))
            )
    return files


def test_coefficients_are_libjpegs(photograph: np.ndarray, tmp_path: Path) -> None:
    files = odd_files(photograph)
    assert len(files) == 60
    for data, told in zip(files, read_by_page(tmp_path, files), strict=True):
        image = jpeg.read(data)
        assert (told["width"], told["height"], told["progressive"]) == (image.width, image.height, image.progressive)
        assert (told["damaged"], told["trailing"], told["colourModel"]) == (False, 0, image.colour_model)
        inputs = feed.inputs_of(image)
        for name, own, found in zip(feed.COMPONENTS, image.components, told["components"], strict=False):
            rows, columns = own.coefficients.shape[:2]
            assert (found["ownRows"], found["ownColumns"]) == (rows, columns)
            assert found["coefficients"].shape == inputs[name].shape
            np.testing.assert_array_equal(found["coefficients"][:rows, :columns], own.coefficients)
            np.testing.assert_array_equal(np.reshape(found["table"], (8, 8)), own.table)


def test_damaged_files_are_read_as_far_as_they_go_or_refused(photograph: np.ndarray, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    whole = [encoded(photograph, quality=50), encoded(photograph, quality=50, progressive=True, restart_marker_blocks=4)]
    cut = [data[:length] for data in whole for length in rng.integers(2, len(data) - 2, 10)]
    broken = []
    for data in whole * 15:
        bad = bytearray(data)
        for at in rng.integers(2, len(data), 5):
            bad[at] = rng.integers(256)
        broken.append(bytes(bad))
    for told in read_by_page(tmp_path, [*cut, *broken]):
        assert told.get("refused") or told["components"]
    for data, told in zip(cut, read_by_page(tmp_path, cut), strict=True):
        try:
            image = jpeg.read(data)
        except UnreadableError:
            continue
        assert told.get("refused") or told["damaged"]
        for own, found in zip(image.components, told.get("components", ()), strict=False):
            rows, columns = own.coefficients.shape[:2]
            # But for the block that is cut in two.
            assert (found["coefficients"][:rows, :columns] != own.coefficients).any((2, 3)).sum() <= 1


def test_blocks_that_went_missing_are_noticed(photograph: np.ndarray, tmp_path: Path) -> None:
    """A bit that turns ends blocks early or late: data are left over, or lack."""
    data = encoded(photograph, quality=50)
    rng = np.random.default_rng(2)
    begin = data.index(b"\xff\xda") + 14
    broken = []
    for at in rng.integers(begin, len(data) - 200, 20):
        bad = bytearray(data)
        bad[at] ^= 1 << int(rng.integers(8))
        if 0xFF not in bad[at - 1 : at + 2]:
            broken.append(bytes(bad))
    for told, bad in zip(read_by_page(tmp_path, broken), broken, strict=True):
        assert told["damaged"] == jpeg.read(bad).damaged


def test_what_is_refused_and_why(photograph: np.ndarray, tmp_path: Path) -> None:
    lossless = encoded(photograph).replace(b"\xff\xc0", b"\xff\xc3", 1)
    arithmetic = encoded(photograph).replace(b"\xff\xc0", b"\xff\xc9", 1)
    inks = io.BytesIO()
    Image.fromarray(photograph).convert("CMYK").save(inks, "JPEG")
    files = [b"Dear Sir or Madam", b"", lossless, arithmetic, inks.getvalue()]
    words = ["not a JPEG", "not a JPEG", "lossless", "arithmetic", "4 components"]
    for told, word in zip(read_by_page(tmp_path, files), words, strict=True):
        assert word in told["refused"]
