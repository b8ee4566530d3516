from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def photographs(tmp_path: Path, photograph: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder with four photographs to train on and to validate with."""
    folder = tmp_path / "data"
    (folder / "train").mkdir(parents=True)
    large = np.tile(photograph, (2, 2, 1))
    for i in range(4):
        Image.fromarray(np.roll(large, 31 * i, 1)).save(folder / "train" / f"{i}.png")
    monkeypatch.setenv("REDECODE_DATA", str(folder))
    return folder
