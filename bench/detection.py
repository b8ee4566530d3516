"""How often earlier compressions are found, and what the search costs: python bench/detection.py, which writes results/detection.json.

Held-out training photographs, 480×480 from the middle, are compressed, then cropped or scaled, then compressed again or saved as PNG. A
compression counts as found if its quality factor is right within a fifth, and its grid or its scaling is right. The cost is the time of the
search over that of decoding the same file with `fast`, in turns in one process. Needs REDECODE_DATA.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from histories import PNG, SIDE, TUNED_ON, State, crop, pixels_of, save, scale
from PIL import Image

from redecode import Decoder
from redecode.codec import jpeg
from redecode.codec.jpeg import JpegImage
from redecode.codec.picture import Picture, read
from redecode.codec.raster import RasterImage
from redecode.codec.trace import Trace
from redecode.evaluation.datasets import data_path
from redecode.training.data import list_images, load

FIRST, SECOND = (10, 20, 30, 50, 70), (60, 75, 85, 95, PNG)
NOTHING = "same grid"
CHANGES: dict[str, Callable[[State], State]] = {
    NOTHING: lambda state: state,
    "crop by 4, 3": crop(4, 3),
    **{f"scaled to {factor}": scale(factor) for factor in (0.5, 0.6, 0.75, 0.9, 1.33, 2.0)},
}
MEGAPIXEL = 1024


def found(picture: Picture, first: int, change: str) -> bool:
    if isinstance(picture, JpegImage):
        trace: Trace | None = picture.past.trace if picture.past else None
    else:
        trace = picture.trace if isinstance(picture, RasterImage) else None
    if trace is None or abs(trace.quality - first) > max(2, 0.2 * first):
        return False
    if change.startswith("scaled"):
        factor = float(change.split()[-1])
        return trace.scaling is not None and abs(np.mean(trace.scaling.factors) / factor - 1) < 0.01
    return trace.scaling is None and trace.offset == ((0, 0) if change == NOTHING else (4, 5))


def shares(originals: list[Any]) -> dict[str, dict[str, float]]:
    """For each change and second compression, the share of pictures in which each first compression is found."""
    table: dict[str, dict[str, float]] = {}
    for change, step in CHANGES.items():
        for second in SECOND:
            row = {}
            for first in (quality for quality in FIRST if second == PNG or quality <= second - 10):
                states = [save(second)(step(save(first)(State(original, original)))) for original in originals]
                row[str(first)] = round(statistics.mean(float(found(read(state.data), first, change)) for state in states), 2)
            name = f"{change}, {'PNG' if second == PNG else f'q{second}'}"
            table[name] = row
            print(name, row, flush=True)
    return table


def cost(photograph: Any, repeats: int) -> dict[str, float]:
    """The search's time over that of decoding, for files of a megapixel."""
    missing = [(0, max(0, MEGAPIXEL - side)) for side in photograph.shape[:2]]
    large = np.ascontiguousarray(np.pad(photograph, [*missing, (0, 0)], mode="symmetric")[:MEGAPIXEL, :MEGAPIXEL])
    files = {f"q{quality}, once": jpeg.compress(large, quality) for quality in (40, 75, 90)}
    buffer = io.BytesIO()
    Image.fromarray(pixels_of(jpeg.compress(large, 30))).save(buffer, "PNG", compress_level=1)
    files["PNG of a JPEG"] = buffer.getvalue()
    decoder, result = Decoder("fast"), {}
    for name, data in files.items():
        searches, decodes = [], []
        for _ in range(repeats + 1):
            begin = time.perf_counter()
            read(data, as_is=True)
            middle = time.perf_counter()
            picture = read(data)
            end = time.perf_counter()
            decoder.decode(picture, texture=0)
            decodes.append(time.perf_counter() - end)
            searches.append((end - middle) - (middle - begin))
        result[name] = round(statistics.median(searches[1:]) / statistics.median(decodes[1:]), 3)
        print(name, result[name], flush=True)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", type=int, default=4, help="number of photographs")
    parser.add_argument("--repeats", type=int, default=5, help="of the search and of the decoding, for the cost")
    arguments = parser.parse_args()
    photographs = (load(path) for path in list_images(data_path("train"), validation=True))
    large = [p for p in photographs if min(p.shape[:2]) >= SIDE][TUNED_ON:][: arguments.limit]
    originals = [p[(p.shape[0] - SIDE) // 2 :, (p.shape[1] - SIDE) // 2 :][:SIDE, :SIDE] for p in large]
    result = {"photographs": len(originals), "cost": cost(large[0], arguments.repeats), "found": shares(originals)}
    Path("results", "detection.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
