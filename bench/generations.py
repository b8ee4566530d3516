"""What going back to the first generation brings: python bench/generations.py, which writes results/generations.json.

Held-out training photographs at half size (which hides their own compression), cut to 256×256, saved at one quality factor, decoded, and
saved again at another with the same chroma subsampling. L_B, projected; means of PSNR of RGB against the original, dB. Needs REDECODE_DATA.
"""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from redecode import Decoder, weights
from redecode.codec import jpeg
from redecode.codec.recompression import first_generation
from redecode.evaluation.datasets import data_path
from redecode.evaluation.metrics import psnr
from redecode.training.data import list_images, load

PAIRS = (
    (10, 90, "4:2:0"),
    (10, 75, "4:2:0"),
    (10, 50, "4:2:0"),
    (20, 90, "4:2:0"),
    (30, 80, "4:2:0"),
    (50, 95, "4:4:4"),
    (50, 75, "4:2:0"),
)
ONCE = (8, 15, 25, 35, 50, 65, 80, 92)
SIDE = 256


def pixels(data: bytes) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image)


def measure(decoder: Decoder, originals: list[NDArray[np.uint8]], first: int, second: int, subsampling: str) -> dict[str, object]:
    rows = []
    for original in originals:
        once = jpeg.compress(original, first, subsampling)
        twice = jpeg.compress(pixels(once), second, subsampling)
        image = jpeg.read(twice)
        earlier = first_generation(image)
        restored = [decoder.decode(i, texture=0).image for i in (image, earlier.image if earlier else image, jpeg.read(once))]
        rows.append([psnr(original, p) for p in (pixels(twice), *restored)] + [earlier is not None])
    plain, as_is, back, true, found = np.mean(rows, 0).round(3).tolist()
    names = {"first": first, "second": second, "subsampling": subsampling, "found": found, "plain": plain}
    return names | {"as it is": as_is, "from the recovered first file": back, "from the true first file": true}


def main() -> None:
    paths = list_images(data_path("train"), validation=True)[::4][:12]
    originals = [np.asarray(Image.fromarray(load(path)).reduce(2))[:SIDE, :SIDE] for path in paths]
    decoder = Decoder("fast")
    alarms = [first_generation(jpeg.read(jpeg.compress(o, q, s))) is not None for o in originals for q in ONCE for s in ("4:2:0", "4:4:4")]
    result = {
        "weights": weights.record("fast-edge")["sha256"][decoder.precision],
        "files compressed once": len(alarms),
        "false alarms": sum(alarms),
        "files compressed twice": [measure(decoder, originals, *pair) for pair in PAIRS],
    }
    path = Path("results", "generations.json")
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
