"""The shipped networks' results on a bundled example, pixel for pixel within one level.

After new weights were chosen: python tests/golden/test_golden.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from redecode.decoder import Decoder
from redecode.result import Decoded

HERE = Path(__file__).parent
EXAMPLE = HERE.parent.parent / "examples" / "parrots-q10.jpg"
LAYERS = ("base", "texture", "image")
# An eye, feathers and blurred background.
PART = (slice(130, 258), slice(400, 560))


def parts(result: Decoded) -> dict[str, np.ndarray]:
    return {layer: getattr(result, f"{layer}_layer" if layer != "image" else layer)[PART] for layer in LAYERS}


@pytest.fixture(scope="module")
def restored() -> dict[str, np.ndarray]:
    return parts(Decoder("fast").decode(EXAMPLE, layers=True))


@pytest.mark.parametrize("layer", LAYERS)
def test_golden(restored: dict[str, np.ndarray], layer: str) -> None:
    golden = np.asarray(Image.open(HERE / f"parrots-{layer}.png")).astype(int)
    difference = np.abs(restored[layer] - golden)
    histogram = {int(level): int(count) for level, count in zip(*np.unique(difference, return_counts=True), strict=True)}
    # Processors round differently, and the mask may differ at pixels near the threshold.
    assert (difference <= 1).mean() > 0.999, f"differences by level: {histogram}"


if __name__ == "__main__":
    for name, pixels in parts(Decoder("fast").decode(EXAMPLE, layers=True)).items():
        Image.fromarray(pixels).save(HERE / f"parrots-{name}.png")
