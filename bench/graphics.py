"""Drawings, screenshots and scans against the plain decode: python bench/graphics.py; writes results/graphics.json.

All pictures are made here, with Pillow's own font, and encoded at several qualities and samplings. Reported are PSNR over all channels of
the plain decode (libjpeg's), of L_B and of the default result, and how much the worst region loses.
"""

from __future__ import annotations

import functools
import io
import itertools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from redecode import __version__, weights
from redecode.codec import jpeg
from redecode.decoder import Decoder

ROOT = Path(__file__).parent.parent
QUALITIES = (10, 40, 75, 90)
SAMPLINGS = ("4:4:4", "4:2:0", "gray")
HEIGHT, WIDTH = 192, 288
REGION, STRIDE = 96, 32
# Above this nobody sees a difference, and an exact picture would have no figure.
BEST_PSNR = 60.0
# From so many dB on it counts as lost.
LOSS = 0.02
TEXT = "The quick brown fox jumps over the lazy dog. 0123456789 (a+b)*c = {x}; "

Pixels = np.ndarray[Any, np.dtype[np.uint8]]
Colour = tuple[int, int, int]
Random = np.random.Generator


def colours(random: Random, count: int) -> Pixels:
    return random.integers(0, 256, (count, 3), dtype=np.uint8)


def checks(random: Random, side: int, shift: int = 0) -> Pixels:
    """Squares of a few colours, on the 8×8 grid where side is a multiple of 8 and nothing is shifted."""
    places = random.integers(0, 6, (HEIGHT // side + 2, WIDTH // side + 2))
    return colours(random, 6)[places].repeat(side, 0).repeat(side, 1)[shift:][:HEIGHT, shift : shift + WIDTH]


def sprites(random: Random, scale: int, shift: int = 0) -> Pixels:
    """Mirrored figures as of old games, on an even ground."""
    picture = np.empty((HEIGHT // scale + 9, WIDTH // scale + 9, 3), np.uint8)
    picture[:] = colours(random, 1)
    for top in range(1, len(picture) - 9, 10):
        for left in range(1, picture.shape[1] - 9, 10):
            half = random.integers(0, 4, (8, 4))
            figure = np.concatenate([half, half[:, ::-1]], 1)
            picture[top : top + 8, left : left + 8][figure > 0] = colours(random, 4)[figure[figure > 0]]
    return picture.repeat(scale, 0).repeat(scale, 1)[shift : shift + HEIGHT, shift : shift + WIDTH]


def page(random: Random, size: int, ink: Colour, paper: Colour) -> Pixels:
    """Lines of text."""
    image = Image.new("RGB", (WIDTH, HEIGHT), paper)
    draw = ImageDraw.Draw(image)
    for top in range(4, HEIGHT, size + 4):
        first = int(random.integers(0, 60))
        draw.text((5, top), (TEXT[first:] + TEXT * 2)[: 3 * WIDTH // size], ink, ImageFont.load_default(size))
    return np.asarray(image)


def window(random: Random, dark: bool) -> Pixels:
    """A screen with a title, a list, buttons and coloured code."""
    paper, ink, line = ((30, 30, 34), (220, 220, 220), (70, 70, 78)) if dark else ((255, 255, 255), (30, 30, 30), (205, 208, 214))
    image = Image.new("RGB", (WIDTH, HEIGHT), paper)
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, WIDTH, 19), (24, 94, 180))
    draw.text((6, 3), "Settings - Display", (255, 255, 255), ImageFont.load_default(13))
    draw.rectangle((0, 20, 75, HEIGHT), line)
    for row in range(10):
        draw.text((6, 26 + 16 * row), TEXT[9 * row :][:9], ink, ImageFont.load_default(11))
        draw.text((84, 26 + 16 * row), TEXT[5 * row :][:26], tuple(colours(random, 1)[0].tolist()), ImageFont.load_default(12))
        draw.line((80, 24 + 16 * row, WIDTH, 24 + 16 * row), line)
    draw.rounded_rectangle((190, 160, 275, 182), 5, (40, 140, 90))
    draw.text((205, 164), "Apply now", (255, 255, 255), ImageFont.load_default(13))
    return np.asarray(image)


def lines(random: Random, width: int, smooth: bool, coloured: bool) -> Pixels:
    """Strokes, circles and curves on white."""
    scale = 4 if smooth else 1
    image = Image.new("RGB", (WIDTH * scale, HEIGHT * scale), (255, 255, 255))
    draw = ImageDraw.Draw(image)
    for index in range(24):
        ink = tuple(colours(random, 1)[0].tolist()) if coloured else (0, 0, 0)
        (x0, x1), (y0, y1) = np.sort(random.integers(0, WIDTH * scale, 2)), np.sort(random.integers(0, HEIGHT * scale, 2))
        shape = (draw.line, draw.ellipse, draw.rectangle)[index % 3]
        shape((int(x0), int(y0), int(x1) + 1, int(y1) + 1), **({"fill": ink} if index % 3 == 0 else {"outline": ink}), width=width * scale)  # type: ignore[operator]
    return np.asarray(image.resize((WIDTH, HEIGHT), Image.Resampling.BOX))


def chart(random: Random, dark: bool) -> Pixels:
    """Bars, a curve, a grid and labels."""
    paper, ink = ((20, 24, 40), (230, 230, 230)) if dark else ((255, 255, 255), (0, 0, 0))
    image = Image.new("RGB", (WIDTH, HEIGHT), paper)
    draw = ImageDraw.Draw(image)
    for index in range(9):
        y = 15 + 18 * index
        draw.line((30, y, WIDTH, y), (128, 128, 128))
        draw.text((4, y - 6), str(100 - 10 * index), ink, ImageFont.load_default(10))
        x = 36 + 28 * index
        draw.rectangle((x, int(random.integers(20, 150)), x + 18, 160), tuple(colours(random, 1)[0].tolist()))
        draw.text((x, 168), f"Q{index}", ink, ImageFont.load_default(11))
    draw.line([(x, int(80 + 50 * np.sin(x / 30))) for x in range(30, WIDTH, 4)], (220, 40, 40), 2)
    return np.asarray(image)


def icons(random: Random) -> Pixels:
    """Shaded round and square icons with smooth edges."""
    image = Image.new("RGB", (WIDTH * 4, HEIGHT * 4), tuple(colours(random, 1)[0].tolist()))
    draw = ImageDraw.Draw(image)
    for top in range(20, HEIGHT * 4 - 150, 190):
        for left in range(20, WIDTH * 4 - 150, 190):
            outer, inner, mark = (tuple(c.tolist()) for c in colours(random, 3))
            draw.rounded_rectangle((left, top, left + 150, top + 150), 30, outer)
            draw.ellipse((left + 25, top + 25, left + 125, top + 125), inner)
            draw.polygon([(left + 40, top + 110), (left + 75, top + 35), (left + 110, top + 110)], mark)
    return np.asarray(image.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS))


def scanned(random: Random, picture: Pixels, turn: float, noise: float) -> Pixels:
    """A page as a scanner sees it: turned, blurred, with the paper's noise."""
    image = Image.fromarray(picture).rotate(turn, Image.Resampling.BICUBIC, fillcolor=(255, 255, 255))
    blurred = np.asarray(image.filter(ImageFilter.GaussianBlur(0.6))).astype(float) * 0.88 + 18
    return np.clip(np.rint(blurred + random.normal(0, noise, (*picture.shape[:2], 1))), 0, 255).astype(np.uint8)


def gradient(random: Random, steps: int = 256) -> Pixels:
    """From one colour to another, across and down."""
    a, b, c = colours(random, 3).astype(float)
    x, y = np.linspace(0, 1, WIDTH)[None, :, None], np.linspace(0, 1, HEIGHT)[:, None, None]
    x = np.floor(x * steps) / steps
    return np.clip(np.rint(a + (b - a) * x * 0.6 + (c - a) * y * 0.4), 0, 255).astype(np.uint8)


def scenery(random: Random) -> Pixels:
    """Something as a photograph has it: the example's feathers, which are smaller here than they were when they were compressed."""
    high, wide = 2 * HEIGHT, 2 * WIDTH
    with Image.open(ROOT / "examples" / "parrots-q10.jpg") as image:
        left = int(random.integers(0, image.width - wide)) if image.width > wide else 0
        part = image.convert("RGB").crop((left, 0, left + wide, high))
    return np.asarray(part.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS))


def mixed(random: Random, paper: Colour, ink: Colour) -> Pixels:
    """A page with a photograph in it, and a caption over that."""
    picture = page(random, 13, ink, paper).copy()
    picture[24:136, 100:260] = scenery(random)[24:136, 100:260]
    image = Image.fromarray(picture)
    ImageDraw.Draw(image).text((110, 110), "Caption", (255, 255, 0), ImageFont.load_default(18))
    return np.asarray(image)


def dithered(random: Random, count: int) -> Pixels:
    """A photograph in a few colours, dithered."""
    return np.asarray(Image.fromarray(scenery(random)).quantize(count, dither=Image.Dither.FLOYDSTEINBERG).convert("RGB"))


def each(make: Callable[..., Pixels], *choices: tuple[Any, ...]) -> list[Callable[[Random], Pixels]]:
    """Pictures of one function."""
    return [functools.partial(_made, make, choice) for choice in choices]


def _made(make: Callable[..., Pixels], choice: tuple[Any, ...], random: Random) -> Pixels:
    return make(random, *choice)


def scanned_page(random: Random, noise: float) -> Pixels:
    return scanned(random, page(random, 13, BLACK, WHITE), 0.7, noise)


def scanned_drawing(random: Random) -> Pixels:
    return scanned(random, lines(random, 2, True, False), 1, 2)


BLACK, WHITE, NIGHT = (0, 0, 0), (255, 255, 255), (16, 18, 24)
PRINT = ((9, BLACK, WHITE), (12, BLACK, WHITE), (18, BLACK, WHITE), (30, BLACK, WHITE), (12, WHITE, NIGHT))
COLOURED = ((14, (200, 30, 30), WHITE), (16, (20, 40, 160), (250, 240, 190)), (12, (90, 220, 120), BLACK), (14, (120, 120, 120), WHITE))
STROKES = ((1, False, False), (1, True, False), (2, True, False), (3, False, True), (2, True, True))
PICTURES: dict[str, list[Callable[[Random], Pixels]]] = {
    "pixel art on the grid": each(checks, (8,), (16,), (24,)) + each(sprites, (8,), (16,)),
    "pixel art off the grid": each(checks, (4, 3), (7, 3), (12, 3)) + each(sprites, (2, 3), (4, 3), (8, 3)),
    "text": each(page, *PRINT, *COLOURED),
    "screen": each(window, (False,), (True,), (False,)),
    "line art": each(lines, *STROKES),
    "chart": each(chart, (False,), (True,)),
    "icons": each(icons, (), ()),
    "scan": each(scanned_page, (0,), (2,), (5,)) + each(scanned_drawing, ()),
    "gradient": each(gradient, (), (12,)),
    "dithered": each(dithered, (2,), (16,)),
    "photograph and text": each(mixed, (WHITE, BLACK), ((20, 20, 20), (210, 210, 210))),
}


def psnr(error: np.ndarray[Any, Any]) -> float:
    """Of squared errors."""
    return float(min(BEST_PSNR, 10 * np.log10(255**2 / max(error.mean(), 1e-9))))


def compare(original: Pixels, shown: Pixels, result: Pixels) -> tuple[float, float]:
    """How much a result wins against the plain decode in PSNR: as a whole, and where it wins the least."""
    one, other = ((pixels.astype(float) - original) ** 2 for pixels in (shown, result))
    regions = [
        (slice(y, y + REGION), slice(x, x + REGION))
        for y in range(0, HEIGHT - REGION + 1, STRIDE)
        for x in range(0, WIDTH - REGION + 1, STRIDE)
    ]
    return psnr(other) - psnr(one), min(psnr(other[r]) - psnr(one[r]) for r in regions)


def measure(decoder: Decoder, original: Pixels, quality: int, sampling: str) -> dict[str, Any]:
    """One picture at one quality."""
    if sampling == "gray":
        original = np.asarray(Image.fromarray(original).convert("L"))
    data = jpeg.compress(original, quality, "4:4:4" if sampling == "gray" else sampling)
    shown = np.asarray(Image.open(io.BytesIO(data)))
    decoded = decoder.decode(data, layers=True)
    figures = {"plain": psnr((shown.astype(float) - original) ** 2)}
    for name, result in (("base", decoded.base_layer), ("fused", decoded.image)):
        figures[name], figures[f"{name}, worst region"] = compare(original, shown, result)
    return {name: round(value, 3) for name, value in figures.items()}


def summary(kind: str, found: list[dict[str, Any]]) -> None:
    """Print what a kind of picture wins."""
    for figure in ("base", "base, worst region", "fused", "fused, worst region"):
        values = np.array([measured[figure] for measured in found])
        loses = np.mean(values < -LOSS)
        print(f"{kind:24} {figure:20} mean {values.mean():6.2f}  least {values.min():6.2f}  loses {loses:.0%}", flush=True)


def main() -> None:
    """All pictures; kinds can be named, and then nothing is written."""
    decoder = Decoder("fast")
    found: dict[str, list[dict[str, Any]]] = {}
    for kind in sys.argv[1:] or PICTURES:
        found[kind] = []
        for index, make in enumerate(PICTURES[kind]):
            original = np.ascontiguousarray(make(np.random.default_rng(index)))
            for sampling, quality in itertools.product(SAMPLINGS, QUALITIES):
                case = {"picture": index, "sampling": sampling, "quality": quality}
                found[kind].append(case | measure(decoder, original, quality, sampling))
        summary(kind, found[kind])
    if not sys.argv[1:]:
        networks = {name: weights.record(name)["sha256"][decoder.precision] for name in weights.PRESETS["fast"].values()}
        told = {"redecode": __version__, "weights": networks, "wins": found}
        (ROOT / "results" / "graphics.json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
