"""Measure the gain for pictures that were compressed several times: python bench/histories.py, which writes results/histories.json.

The central 480×480 pixels of held-out training photographs go through a history: compressed, cropped,
scaled, captioned, compressed again. The reference is the original after the same history without the compressions. The figures are PSNR of
RGB with L_B, as gains over the plain decode of the last file (by Pillow), and the worst picture and the worst region of 96×96 pixels,
compared with the result of `--as-is`. Needs REDECODE_DATA.
"""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from redecode import Decoder, weights
from redecode.codec import jpeg
from redecode.codec.jpeg import JpegImage
from redecode.codec.picture import read
from redecode.evaluation.datasets import data_path
from redecode.evaluation.metrics import psnr
from redecode.training.data import list_images, load

Pixels = NDArray[np.uint8]

SIDE = 480
# The first held-out photographs that are large enough were looked at when thresholds were chosen (and for those of scaled pictures,
# photographs that the networks were trained on).
TUNED_ON = 4
REGION, STRIDE = 96, 48
# Rows and columns of the caption.
CAPTION = (slice(360, 480), slice(0, 480))
PNG = 0


@dataclass(frozen=True)
class State:
    """A picture during its history.

    Attributes:
        original: pixels after the same history without any compression.
        pixels: pixels of the picture.
        data: bytes of its last file.
    """

    original: Pixels
    pixels: Pixels
    data: bytes = b""


Step = Callable[[State], State]


def save(quality: int, subsampling: str = "4:2:0") -> Step:
    """A step that compresses the picture as JPEG, or losslessly as PNG."""

    def step(state: State) -> State:
        if quality == PNG:
            buffer = io.BytesIO()
            Image.fromarray(state.pixels).save(buffer, "PNG", compress_level=1)
            return State(state.original, state.pixels, buffer.getvalue())
        data = jpeg.compress(state.pixels, quality, subsampling)
        return State(state.original, pixels_of(data), data)

    return step


def crop(top: int, left: int) -> Step:
    return lambda state: State(*(np.ascontiguousarray(p[top:, left:]) for p in (state.original, state.pixels)))


def scale(factor: float, kernel: Image.Resampling = Image.Resampling.BICUBIC) -> Step:
    def resized(pixels: Pixels) -> Pixels:
        image = Image.fromarray(pixels)
        return np.asarray(image.resize((round(image.width * factor), round(image.height * factor)), kernel))

    return lambda state: State(resized(state.original), resized(state.pixels))


def caption(state: State) -> State:
    """Draw new text on a pale panel, coloured words, and squares that hardly differ from their surroundings."""

    def drawn(pixels: Pixels) -> Pixels:
        image = Image.fromarray(pixels)
        draw = ImageDraw.Draw(image)
        rows, columns = CAPTION
        draw.rectangle((columns.start, rows.start, columns.stop - 1, rows.stop - 1), fill=(236, 232, 220))
        for index, (size, ink) in enumerate(((26, (20, 20, 30)), (18, (160, 30, 40)), (14, (40, 60, 150)), (12, (90, 90, 90)))):
            text = "New words on an old picture, 1234567890"
            draw.text((12, rows.start + 8 + 28 * index), text, fill=ink, font=ImageFont.load_default(size))
        for index in range(8):
            left, top = 400, rows.start + 6 + 14 * index
            draw.rectangle((left, top, left + 60, top + 9), fill=(236 - 3 * index, 232, 220 - 2 * (index % 3)))
        return np.asarray(image)

    return State(drawn(state.original), drawn(state.pixels))


def gray(state: State) -> State:
    luma = np.asarray(Image.fromarray(state.original).convert("L"))
    return State(luma, luma)


LANCZOS, BILINEAR = Image.Resampling.LANCZOS, Image.Resampling.BILINEAR
HISTORIES: dict[str, tuple[Step, ...]] = {
    "q10": (save(10),),
    "q10 > q90": (save(10), save(90)),
    "q10 > crop by 4, 3 > q75": (save(10), crop(4, 3), save(75)),
    "q10 > crop by 4, 3 > q95": (save(10), crop(4, 3), save(95)),
    "q30 > crop by 5, 2 > q60": (save(30), crop(5, 2), save(60)),
    "q20 > scaled to 0.75 > q85": (save(20), scale(0.75), save(85)),
    "q20 > scaled to 0.75 > PNG": (save(20), scale(0.75), save(PNG)),
    "q30 > scaled to 1.33 > q90": (save(30), scale(1.33), save(90)),
    "q20 > scaled to 0.6 > PNG": (save(20), scale(0.6, LANCZOS), save(PNG)),
    "q40 > scaled to 1.5 > q75": (save(40), scale(1.5, LANCZOS), save(75)),
    "q20 > scaled to 1.33 > caption > q90": (save(20), scale(1.33), caption, save(90)),
    "q10 > caption > q90": (save(10), caption, save(90)),
    "q10 > caption, cropped by 4, 3 > q90": (save(10), crop(4, 3), caption, save(90)),
    "q10 > caption > PNG": (save(10), caption, save(PNG)),
    "q10 > q75": (save(10), save(75)),
    "q50 > q75": (save(50), save(75)),
    "q30 > q80, 4:4:4": (save(30, "4:4:4"), save(80, "4:4:4")),
    "q10 > crop by 4, 3 > q90, 4:4:4": (save(10, "4:4:4"), crop(4, 3), save(90, "4:4:4")),
    "q15 > crop by 1, 6 > q85, gray": (gray, save(15), crop(1, 6), save(85)),
    "q20 > crop by 3, 3 > q70 > crop by 2, 4 > q90": (save(20), crop(3, 3), save(70), crop(2, 4), save(90)),
    # A phone's picture sent by a messenger, saved and sent again, as described for WhatsApp (larger side 1600, quality about 70 to 80).
    "q92 > scaled to 0.6 > q75 > q75": (save(92, "4:2:2"), scale(0.6, BILINEAR), save(75), save(75)),
    # An avatar of a forum: small and strongly compressed, shown enlarged, and saved as a screenshot.
    "q90 > scaled to 0.5 > q30 > scaled to 1.5 > PNG": (save(90), scale(0.5, LANCZOS), save(30), scale(1.5, BILINEAR), save(PNG)),
    "q75 > q95": (save(75), save(95)),
    "q90 > crop by 4, 3 > q60": (save(90), crop(4, 3), save(60)),
    "q95, scaled to 0.75 > q75": (save(95), scale(0.75), save(75)),
}


def pixels_of(data: bytes) -> Pixels:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image)


def worst_region(original: Pixels, ours: Pixels, other: Pixels) -> float:
    """The smallest difference of PSNR between two results over regions of 96×96 pixels, in dB."""
    errors = [np.square(p.astype(np.float32) - original).reshape(*original.shape[:2], -1).mean(2) for p in (ours, other)]
    rows, columns = (range(0, side - REGION + 1, STRIDE) for side in original.shape[:2])
    means = np.array([[e[r : r + REGION, c : c + REGION].mean() for e in errors] for r in rows for c in columns])
    # Add 0.001 squared levels, so that exact regions do not divide by zero.
    return float((10 * np.log10((means[:, 1] + 1e-3) / (means[:, 0] + 1e-3))).min())


def measure(decoder: Decoder, original: Pixels, steps: tuple[Step, ...]) -> dict[str, float]:
    state = State(original, original)
    for step in steps:
        state = step(state)
    plain = pixels_of(state.data)
    picture, given = (read(state.data, as_is=own) for own in (False, True))
    ours = decoder.decode(picture, texture=0).image
    # Without a past both are the same, and the time is saved.
    has_past = picture.past is not None if isinstance(picture, JpegImage) else picture.trace is not None
    as_is = decoder.decode(given, texture=0).image if has_past else ours
    row = {"plain": psnr(state.original, plain)}
    row["gain"] = psnr(state.original, ours) - row["plain"]
    row["as it is"] = psnr(state.original, as_is) - row["plain"]
    row["worst picture"] = row["gain"] - row["as it is"]
    row["worst region"] = worst_region(state.original, ours, as_is)
    if caption in steps:
        old = (slice(0, CAPTION[0].start), slice(None))
        for name, part in (("caption", CAPTION), ("old picture", old)):
            row[f"{name}, plain"] = psnr(state.original[part], plain[part])
            row[f"{name}, gain"] = psnr(state.original[part], ours[part]) - row[f"{name}, plain"]
            row[f"{name}, as it is"] = psnr(state.original[part], as_is[part]) - row[f"{name}, plain"]
    return row


def summary(rows: list[dict[str, float]]) -> dict[str, float | None]:
    """Means of figures, and minima of the worst ones; None if a picture is exact, so that its PSNR is infinite."""
    reduce = {name: min if name.startswith("worst") else np.mean for name in rows[0]}
    values = {name: float(reduce[name]([row[name] for row in rows])) for name in rows[0]}
    return {name: round(value, 3) if np.isfinite(value) else None for name, value in values.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", type=int, default=8, help="number of photographs (10 are large enough)")
    parser.add_argument("--only", default="", help="measure only histories whose names contain this text, and write nothing")
    arguments = parser.parse_args()
    photographs = ((path.name, load(path)) for path in list_images(data_path("train"), validation=True))
    large = [(name, p) for name, p in photographs if min(p.shape[:2]) >= SIDE][TUNED_ON:][: arguments.limit]
    originals = [p[(p.shape[0] - SIDE) // 2 :, (p.shape[1] - SIDE) // 2 :][:SIDE, :SIDE] for _, p in large]
    decoder = Decoder("fast")
    table: dict[str, Any] = {}
    for name, steps in HISTORIES.items():
        if arguments.only in name:
            table[name] = summary([measure(decoder, original, steps) for original in originals])
            print(name, json.dumps(table[name]), flush=True)
    if not arguments.only:
        record = weights.record("fast-edge")["sha256"][decoder.precision]
        result = {"weights": record, "photographs": len(originals), "names": [name for name, _ in large], "histories": table}
        Path("results", "histories.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
