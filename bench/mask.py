"""Measure masks: python bench/mask.py, which writes results/mask.json (bench/figures.py draws it).

The script varies threshold T and window of the mask, binary and soft masks, and the amount of texture, at QF 10 in colour (4:2:0) with
projection. The default was chosen on held-out photographs; LIVE1 is measured as well.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.ndimage import uniform_filter

from redecode import __version__, weights
from redecode.codec import jpeg
from redecode.decoder import Decoder
from redecode.evaluation import lpips, metrics
from redecode.evaluation.datasets import data_path
from redecode.restoration.fusion import fuse
from redecode.restoration.mask import WINDOW, orientation_diversity, region_mask
from redecode.restoration.render import to_pixels
from redecode.training.data import list_images, load

ROOT = Path(__file__).parent.parent
QUALITY = 10
HELD_OUT, SIDE = 20, 288
THRESHOLDS = range(1, 9)
WINDOWS = (3, 5, 7)
# Sides in pixels of the windows that average a binary mask to a soft one.
SOFT = (5, 9)
AMOUNTS = (0.25, 0.5, 0.75)

Pixels = np.ndarray[Any, np.dtype[np.uint8]]


def held_out() -> Iterable[Pixels]:
    """Central crops of the held-out training photographs."""
    large = (image for image in map(load, list_images(data_path("train"), validation=True)) if min(image.shape[:2]) >= SIDE)
    for image, _ in zip(large, range(HELD_OUT), strict=False):
        top, left = (image.shape[0] - SIDE) // 2, (image.shape[1] - SIDE) // 2
        yield np.ascontiguousarray(image[top : top + SIDE, left : left + SIDE])


def live1() -> Iterable[Pixels]:
    """The pictures of LIVE1."""
    for path in sorted(data_path("eval", "LIVE1").glob("*")):
        if path.suffix.lower() in (".png", ".bmp"):
            with Image.open(path) as image:
                yield np.asarray(image.convert("RGB"))


def sweep(originals: Iterable[Pixels], decoder: Decoder, windows: Iterable[int]) -> list[dict[str, Any]]:
    """Measure masks on a set: means of PSNR of RGB, of LPIPS, and of the share of the picture that the mask covers."""
    found: dict[str, list[tuple[float, float, float]]] = {}
    for original in originals:
        image = jpeg.read(jpeg.compress(original, QUALITY))
        base = decoder.base_layer(image)
        texture = decoder.texture_layer(image, base)

        def measure(name: str, mask: np.ndarray[Any, Any], amount: float = 1.0) -> None:
            pixels = to_pixels(fuse(base, texture, mask, amount), image, project=True)  # noqa: B023  (called at once)
            values = (metrics.psnr(original, pixels), lpips.distance(original, pixels), float(mask.mean()))  # noqa: B023
            found.setdefault(name, []).append(values)

        nowhere = np.zeros(base.shape[1:], bool)
        measure("L_B", nowhere)
        measure("L_T", ~nowhere)
        for window in windows:
            diversity = orientation_diversity(base[0], window)
            for threshold in THRESHOLDS:
                measure(f"window {window}, T {threshold}, binary", region_mask(diversity, threshold))
            if window == WINDOW:
                for threshold in THRESHOLDS:
                    for amount in AMOUNTS:
                        measure(f"window {window}, T {threshold}, texture {amount}", region_mask(diversity, threshold), amount)
                    for soft in SOFT:
                        share = uniform_filter(region_mask(diversity, threshold).astype(np.float32), soft)
                        measure(f"window {window}, T {threshold}, soft {soft}", share)
    columns = ("psnr", "lpips", "covers")
    return [{"mask": name, **dict(zip(columns, np.mean(v, 0).round(4).tolist(), strict=True))} for name, v in found.items()]


def main() -> None:
    """Measure both sets, the held-out photographs with all windows, and write the results."""
    decoder = Decoder("fast")
    measured: dict[str, Any] = {
        "redecode": __version__,
        "weights": {name: weights.record(name)["sha256"][decoder.precision] for name in weights.PRESETS["fast"].values()},
    }
    for name, originals, windows in (("held-out", held_out(), WINDOWS), ("LIVE1", live1(), (WINDOW,))):
        measured[name] = sweep(originals, decoder, windows)
        (ROOT / "results" / "mask.json").write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
