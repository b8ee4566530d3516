"""How often a past is claimed that was not: python bench/false_alarms.py, which writes results/false_alarms.json.

Once-compressed crops, of all qualities and samplings, and pictures that never were JPEGs, saved as PNG. They are held-out training
photographs, made smaller by 2 and more so that nothing of their own compression is left, and drawn pictures (see drawn.py).
Needs REDECODE_DATA.
"""

from __future__ import annotations

import argparse
import io
import json
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import drawn
import jpeglib
import numpy as np
from PIL import Image

from redecode import facts
from redecode.codec import jpeg
from redecode.evaluation.datasets import data_path
from redecode.training.data import list_images

Rng = np.random.Generator

QUALITIES = (8, 98)
SAMPLINGS = ("4:4:4", "4:2:2", "4:2:0", "4:2:0", "4:1:1", "4:4:0", "gray")
KERNELS = (Image.Resampling.LANCZOS, Image.Resampling.BICUBIC, Image.Resampling.BILINEAR, Image.Resampling.NEAREST, Image.Resampling.BOX)


def photograph(rng: Rng) -> Image.Image:
    # But for those of ImageNet, which are too small.
    paths = [path for path in list_images(data_path("train"), validation=True) if path.parent.name != "imagenet_sample"]
    with Image.open(paths[rng.integers(len(paths))]) as image:
        whole = image.convert("RGB")
    factor, kernel = rng.uniform(0.4, 0.5), KERNELS[rng.integers(len(KERNELS))]
    small = whole.resize((round(whole.width * factor), round(whole.height * factor)), kernel)
    if rng.random() < 0.5:
        return small
    # Enlarged again, as thumbnails are: resampling leaves periods of its own.
    back = float(rng.choice([1.25, 4 / 3, 1.5, 1.6, 2.0, rng.uniform(1.1, 2)]))
    return small.resize((round(small.width * back), round(small.height * back)), KERNELS[rng.integers(len(KERNELS))])


def dithered(rng: Rng) -> Image.Image:
    return drawn.dithered(rng, (photograph, drawn.gradient)[rng.integers(2)](rng))


KINDS: tuple[Callable[[Rng], Image.Image], ...] = (
    *(photograph,) * 8, drawn.text, drawn.scan, drawn.screenshot, drawn.screenshot, drawn.line_art,
    drawn.tiles, drawn.tiles, drawn.pixel_art, drawn.gradient, dithered, drawn.noise,
)  # fmt: skip


def as_jpeg(image: Image.Image, quality: int, sampling: str) -> bytes:
    """Compressed once, by libjpeg, in a sampling that Pillow may not know."""
    if sampling in (*jpeg.SUBSAMPLINGS, "gray"):
        pixels = np.asarray(image.convert("L") if sampling == "gray" else image)
        return jpeg.compress(pixels, quality, "4:4:4" if sampling == "gray" else sampling)
    with tempfile.NamedTemporaryFile(suffix=".jpg") as file:
        spatial = jpeglib.from_spatial(np.asarray(image))
        spatial.samp_factor = sampling
        spatial.write_spatial(file.name, qt=quality, flags=["+FORCE_BASELINE"])
        return Path(file.name).read_bytes()


def as_png(image: Image.Image, gray: bool) -> bytes:
    buffer = io.BytesIO()
    (image.convert("L") if gray else image).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def count(
    files: int, make: Callable[[Rng, Image.Image], tuple[bytes, str]], seed: int, claims: Callable[[dict[str, Any]], bool]
) -> dict[str, Any]:
    """Of how many files a past is claimed, by what they show; and those files."""
    made, alarms = Counter[str](), []
    for number in range(files):
        rng = np.random.default_rng([seed, number])
        kind = KINDS[number % len(KINDS)]
        made[kind.__name__] += 1
        data, how = make(rng, kind(rng))
        told = facts.inspect(data)
        if claims(told):
            alarms.append(f"{number}: {kind.__name__}, {how}: {told['earlier_compression']}")
            print(alarms[-1], flush=True)
        if number % 100 == 99:
            print(f"{number + 1} of {files}: {len(alarms)} claimed", flush=True)
    return {"files": files, "claimed": len(alarms), "kinds": dict(made), "alarms": alarms}


def compressed_once(rng: Rng, image: Image.Image) -> tuple[bytes, str]:
    quality, sampling = int(rng.integers(QUALITIES[0], QUALITIES[1] + 1)), str(rng.choice(SAMPLINGS))
    return as_jpeg(image, quality, sampling), f"quality {quality}, {sampling}"


def never_compressed(rng: Rng, image: Image.Image) -> tuple[bytes, str]:
    gray = rng.random() < 0.2
    return as_png(image, gray), "PNG, gray" if gray else "PNG"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0, help="of the pictures; results are written for 0 alone")
    parser.add_argument("--jpegs", type=int, default=1000)
    parser.add_argument("--pngs", type=int, default=300)
    arguments = parser.parse_args()
    result = {
        "compressed once": count(arguments.jpegs, compressed_once, arguments.seed, lambda told: told["earlier_compression"] is not None),
        "never compressed": count(arguments.pngs, never_compressed, arguments.seed + 1, lambda told: told["quality"] is not None),
    }
    print({name: (row["claimed"], row["files"]) for name, row in result.items()})
    if arguments.seed == 0:
        Path("results", "false_alarms.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
