from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from redecode.codec import jpeg
from redecode.codec.colour import to_planes
from redecode.evaluation import figure
from redecode.result import Decoded


class Stub:
    def decode(self, source: bytes | Path, layers: bool = False) -> Decoded:
        image = jpeg.read(source if isinstance(source, bytes) else source.read_bytes())
        red = np.zeros((image.height, image.width, 3), np.uint8)
        red[..., 0] = 200
        return Decoded(red, np.ones(red.shape[:2], bool), image, to_planes(red), to_planes(red), 1.0, projected=False)


def test_details(tmp_path: Path, photograph: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDECODE_DATA", str(tmp_path))
    Image.fromarray(photograph).save(tmp_path / "a.png")
    box = (20, 10, 30, 24)
    sheet = figure.details(Stub(), 10, [figure.Detail("a.png", box)] * 2)  # type: ignore[arg-type]
    columns = len(figure.COLUMNS)
    width = 30 * figure.ZOOM
    assert sheet.width == columns * width + (columns - 1) * 6
    pixels = np.asarray(sheet)
    np.testing.assert_array_equal(pixels[-1, -1], photograph[33, 49])  # the original comes last
    assert (pixels[-1, 4 * (width + 6)] == (200, 0, 0)).all()  # the result before it
    assert (pixels[-1, 3 * (width + 6)] == 255).all()  # and before that the mask


def test_sheet(tmp_path: Path, photograph: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDECODE_DATA", str(tmp_path))
    Image.fromarray(photograph).save(tmp_path / "a.png")
    sheet = figure.sheet(Stub(), 10, figure.Detail("a.png", (20, 10, 30, 24)), zoom=2)  # type: ignore[arg-type]
    assert sheet.size == (3 * 60 + 2 * 6, 2 * (48 + 20))
    pixels = np.asarray(sheet)
    np.testing.assert_array_equal(pixels[-1, -1], photograph[33, 49])  # the original comes last
    assert (pixels[-1, 66] == (200, 0, 0)).all()  # the result before it
    assert (pixels[-1, 0] == 255).all()  # and before that the mask


def test_before_after(tmp_path: Path, photograph: np.ndarray) -> None:
    file = tmp_path / "a.jpg"
    file.write_bytes(jpeg.compress(photograph, 10))
    sheet = figure.before_after(Stub(), file, (0, 0, 40, 30))  # type: ignore[arg-type]
    assert sheet.width == 2 * 40 * figure.ZOOM + 6
    assert (np.asarray(sheet)[-1, -1] == (200, 0, 0)).all()
