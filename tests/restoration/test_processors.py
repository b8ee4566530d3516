"""The pixels are the same on every processor: OpenBLAS and NumPy are forced to use the kernels for other processors."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "parrots-q10.jpg"
PROGRAM = """
import hashlib, sys
import numpy as np
from PIL import Image
from redecode import Decoder
from redecode.codec import jpeg
pixels = np.asarray(Image.open(sys.argv[1]))[100:228, 300:492]
for data in (jpeg.compress(pixels, 10, "4:2:0"), jpeg.compress(pixels, 80, "4:4:4")):
    decoded = Decoder("fast", threads=1).decode(data, layers=True)
    print(*(hashlib.sha256(a.tobytes()).hexdigest() for a in (decoded.image, decoded.base_planes, decoded.texture_planes, decoded.mask)))
"""


def digests(**environment: str) -> str:
    command = [sys.executable, "-c", PROGRAM, str(EXAMPLE)]
    return subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def here() -> str:
    return digests()


@pytest.mark.slow
@pytest.mark.parametrize(
    "environment",
    [{"OPENBLAS_CORETYPE": "Prescott"}, {"OPENBLAS_CORETYPE": "Haswell"}, {"NPY_DISABLE_CPU_FEATURES": "AVX2 FMA3"}],
    ids=lambda environment: "-".join(environment.values()),
)
def test_every_processor_gives_the_same_bytes(here: str, environment: dict[str, str]) -> None:
    assert digests(**environment) == here
