from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
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


@pytest.fixture
def bound_by_permissions() -> Iterator[None]:
    """The permissions of files hold for this test, also where root runs it: root gives up the right to pass over them for a while.

    Processes that it starts are not bound.
    """
    if os.name != "posix":
        pytest.skip("POSIX permissions")
    if os.geteuid() != 0:
        yield
        return
    if sys.platform != "linux":
        pytest.skip("root may do everything")
    libc = ctypes.CDLL(None)
    # Version 3 of the interface, this thread; its effective, permitted and inheritable capabilities, in two words each.
    header, words = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    assert libc.capget(header, words) == 0
    before = words[0]
    words[0] &= ~0b110  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
    assert libc.capset(header, words) == 0
    yield
    words[0] = before
    assert libc.capset(header, words) == 0
