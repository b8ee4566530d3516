from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of data sets; tests that need it are skipped where REDECODE_DATA names none."""
    folder = os.environ.get("REDECODE_DATA")
    if not folder or not os.path.isdir(folder):
        pytest.skip("needs the data sets: set REDECODE_DATA to their folder")
    return Path(folder)


@pytest.fixture(scope="session")
def live1(data_folder: Path) -> list[NDArray[np.uint8]]:
    """The originals of LIVE1, uint8 [H, W, 3]."""
    return [np.asarray(Image.open(path).convert("RGB")) for path in sorted((data_folder / "eval" / "LIVE1").iterdir())]


@pytest.fixture(scope="session")
def photograph() -> NDArray[np.uint8]:
    """A photograph-like picture, uint8 [120, 168, 3]: shading, edges, texture and colour, of no multiple of 16 in height."""
    rng = np.random.default_rng(7)
    y, x = np.mgrid[:120, :168].astype(np.float64)
    shading = 90 + 60 * np.sin(x / 40) + 40 * np.cos(y / 55)
    texture = rng.normal(0, 18, (120, 168)) * (x > 84)
    edges = 70 * ((x + 2 * y) % 60 < 6)
    luma = shading + texture + edges
    rgb = np.stack([luma, luma * 0.8 + 20 * np.sin(y / 20), luma * 0.6 + 50 * (x < 60)], -1)
    return np.clip(rgb, 0, 255).astype(np.uint8)
