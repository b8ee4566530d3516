from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """The networks of these tests are so small that a second thread does not help."""
    pytest.importorskip("torch").set_num_threads(1)


@pytest.fixture(scope="session")
def data_of_photographs(tmp_path_factory: pytest.TempPathFactory, photograph: np.ndarray) -> Path:
    """A data folder with four photographs to train on and to validate with."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "train").mkdir()
    large = np.tile(photograph, (2, 2, 1))
    for i in range(4):
        Image.fromarray(np.roll(large, 31 * i, 1)).save(folder / "train" / f"{i}.png")
    return folder


@pytest.fixture
def photographs(data_of_photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the same folder, to which REDECODE_DATA points."""
    folder = shutil.copytree(data_of_photographs, tmp_path / "data")
    monkeypatch.setenv("REDECODE_DATA", str(folder))
    return folder
