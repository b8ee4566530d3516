"""Pictures that are drawn, for benches: screenshots, text, scans, line art, pixel art, tiles, gradients, dithered and noisy ones."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

Rng = np.random.Generator

SIDES = (128, 512)
WORDS = ["The", "quick", "brown", "fox", "jumps", "over", "13", "lazy", "dogs", "(see", "page", "42);", "nothing", "was", "compressed."]


def size_of(rng: Rng) -> tuple[int, int]:
    """Width and height."""
    width, height = (int(side) for side in rng.integers(SIDES[0], SIDES[1] + 1, 2))
    return width, height


def colour_of(rng: Rng) -> tuple[int, int, int]:
    red, green, blue = (int(value) for value in rng.integers(0, 256, 3))
    return red, green, blue


def text(rng: Rng) -> Image.Image:
    paper, ink = ((250, 250, 246), (20, 20, 26)) if rng.random() < 0.6 else (colour_of(rng), colour_of(rng))
    image = Image.new("RGB", size_of(rng), paper)
    height = int(rng.integers(9, 30))
    font, draw = ImageFont.load_default(height), ImageDraw.Draw(image)
    for top in range(4, image.height, round(height * 1.4)):
        draw.text((6, top), " ".join(rng.choice(WORDS, 16)), fill=ink, font=font)
    return image


def scan(rng: Rng) -> Image.Image:
    page = text(rng).rotate(rng.normal(0, 1), Image.Resampling.BICUBIC, fillcolor=(250, 250, 246))
    return noisy(page.filter(ImageFilter.GaussianBlur(rng.uniform(0.4, 1.2))), rng, rng.uniform(1, 5))


def noisy(image: Image.Image, rng: Rng, deviation: float) -> Image.Image:
    noise = rng.normal(0, deviation, (image.height, image.width, 3 if rng.random() < 0.5 else 1))
    return Image.fromarray(np.clip(np.rint(np.asarray(image) + noise), 0, 255).astype(np.uint8))


def screenshot(rng: Rng) -> Image.Image:
    image = Image.new("RGB", size_of(rng), (240, 240, 240))
    draw, grid = ImageDraw.Draw(image), int(rng.choice([1, 4, 8, 16]))
    for _ in range(rng.integers(3, 9)):
        left, top = (int(rng.integers(0, side)) // grid * grid for side in image.size)
        right, bottom = (first + int(rng.integers(3, 20)) * 8 for first in (left, top))
        draw.rectangle((left, top, right, bottom), fill=(255, 255, 255), outline=(160, 160, 160))
        draw.rectangle((left, top, right, top + 15), fill=colour_of(rng))
        for row in range(top + 18, bottom - 12, 14):
            draw.text((left + 4, row), " ".join(rng.choice(WORDS, 4)), fill=(30, 30, 30), font=ImageFont.load_default(11))
    return image


def line_art(rng: Rng) -> Image.Image:
    fine = int(rng.choice([1, 4]))
    width, height = size_of(rng)
    image = Image.new("RGB", (width * fine, height * fine), (255, 255, 255) if rng.random() < 0.6 else colour_of(rng))
    draw = ImageDraw.Draw(image)
    for _ in range(rng.integers(10, 60)):
        places = [(int(rng.integers(image.width)), int(rng.integers(image.height))) for _ in range(3)]
        draw.line(places, fill=colour_of(rng), width=fine * int(rng.integers(1, 4)))
        (left, top), size = places[0], int(rng.integers(4, 60)) * fine
        draw.ellipse((left, top, left + size, top + size), fill=colour_of(rng) if rng.random() < 0.5 else None, outline=colour_of(rng))
    return image.reduce(fine)


def tiles(rng: Rng) -> Image.Image:
    """A map of a few tiles of 8 or 16 pixels: shaded, drawn or speckled."""
    width, height = size_of(rng)
    side, count = int(rng.choice([8, 16, 24, 32])), int(rng.integers(2, 40))
    palette = rng.integers(0, 256, (int(rng.integers(2, 9)), 3))
    kind = rng.integers(3)
    if kind == 0:
        drawn = palette[rng.integers(0, len(palette), (count, side, side))]
    elif kind == 1:
        ramp = np.add.outer(np.arange(side), np.arange(side))[None, :, :, None] * rng.integers(-5, 6, (count, 1, 1, 3))
        drawn = np.clip(palette[rng.integers(0, len(palette), count)][:, None, None] + ramp, 0, 255)
    else:
        shapes = [np.asarray(line_art(rng).resize((side, side), Image.Resampling.NEAREST)) for _ in range(min(count, 6))]
        drawn = np.stack(shapes)
    chosen = rng.integers(0, len(drawn), (height // side + 2, width // side + 2))
    whole = drawn[chosen].swapaxes(1, 2).reshape(chosen.shape[0] * side, chosen.shape[1] * side, 3).astype(np.uint8)
    down, across = rng.integers(0, side, 2) * rng.integers(0, 2)
    return Image.fromarray(whole[down:, across:][:height, :width])


def pixel_art(rng: Rng) -> Image.Image:
    """Coarse pixels, sharp or blurred a little by the enlargement."""
    width, height = size_of(rng)
    scale = int(rng.choice([2, 3, 4, 5, 6, 8, 10, 12, 16]))
    image = tiles(rng).crop((0, 0, width // scale + 1, height // scale + 1))
    kernel = Image.Resampling.NEAREST if rng.random() < 0.7 else Image.Resampling.BILINEAR
    return image.resize((image.width * scale, image.height * scale), kernel).crop((0, 0, width, height))


def gradient(rng: Rng) -> Image.Image:
    width, height = size_of(rng)
    y, x = np.mgrid[:height, :width] / 512
    wave = np.sin(rng.uniform(1, 20) * x + rng.uniform(0, 6)) * np.cos(rng.uniform(1, 20) * y)
    planes = [rng.uniform(40, 210) + rng.uniform(-120, 120) * (x + y - 0.5) + rng.uniform(0, 60) * wave for _ in range(3)]
    return noisy(Image.fromarray(np.clip(np.stack(planes, 2), 0, 255).astype(np.uint8)), rng, float(rng.choice([0, 0.5, 2])))


def dithered(rng: Rng, image: Image.Image) -> Image.Image:
    if rng.random() < 0.5:
        return image.quantize(int(rng.choice([2, 8, 16, 64, 256]))).convert("RGB")
    threshold = np.array([[0, 8, 2, 10], [12, 4, 14, 6], [3, 11, 1, 9], [15, 7, 13, 5]])
    rows, columns = (-(-side // 4) for side in (image.height, image.width))
    ordered = np.tile(threshold, (rows, columns))[: image.height, : image.width, None] * 16 + 8
    return Image.fromarray(((np.asarray(image) > ordered) * 255).astype(np.uint8))


def noise(rng: Rng) -> Image.Image:
    return noisy(Image.new("RGB", size_of(rng), colour_of(rng)), rng, rng.uniform(1, 60))
