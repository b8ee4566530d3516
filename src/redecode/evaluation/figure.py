"""Figures: enlarged details of restored pictures, side by side (like the paper's Fig. 2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ..codec import colour, jpeg
from ..decoder import Decoder
from .datasets import data_path

Pixels = NDArray[np.uint8]

ZOOM = 3
_GAP = 6
_CAPTION = 20
_FONT_SIZE = 15
COLUMNS = ("JPEG", "L_B", "L_T", "mask", "fused", "original")


@dataclass(frozen=True)
class Detail:
    """A part of an original: path of the file in the data folder, and box (left, top, width, height) in pixels."""

    file: str
    box: tuple[int, int, int, int]


# Details shown by default: textures of several kinds, letters and a face.
DETAILS = (
    Detail("eval/LIVE1/buildings.png", (660, 288, 88, 72)),
    Detail("eval/LIVE1/lighthouse3.png", (190, 610, 88, 72)),
    Detail("eval/LIVE1/bikes.png", (640, 80, 88, 72)),
    Detail("eval/LIVE1/woman.png", (222, 152, 88, 72)),
    Detail("eval/LIVE1/stream.png", (130, 230, 88, 72)),
)


# Larger details, one sheet each, for the gallery.
GALLERY = (
    Detail("eval/LIVE1/bikes.png", (600, 60, 160, 120)),
    Detail("eval/LIVE1/buildings.png", (600, 270, 160, 120)),
    Detail("eval/LIVE1/cemetry.png", (245, 290, 160, 120)),
    Detail("eval/LIVE1/coinsinfountain.png", (300, 130, 160, 120)),
    Detail("eval/LIVE1/flowersonih35.png", (200, 350, 160, 120)),
    Detail("eval/LIVE1/house.png", (280, 100, 160, 120)),
    Detail("eval/LIVE1/lighthouse2.png", (330, 70, 160, 120)),
    Detail("eval/LIVE1/monarch.png", (400, 150, 160, 120)),
    Detail("eval/LIVE1/paintedhouse.png", (260, 130, 160, 120)),
    Detail("eval/LIVE1/rapids.png", (250, 120, 160, 120)),
    Detail("eval/LIVE1/statue.png", (140, 100, 160, 120)),
    Detail("eval/LIVE1/womanhat.png", (190, 260, 160, 120)),
)


def details(decoder: Decoder, quality: int, chosen: Sequence[Detail] = DETAILS) -> Image.Image:
    """Draw details in rows, with one column for each of COLUMNS.

    Args:
        decoder: the decoder.
        quality: quality factor of the JPEGs, which are in colour with 4:2:0 subsampling.
        chosen: details to show, one per row.

    Raises:
        DependencyError: an original is not in the data folder.
    """
    return _grid([_detail(decoder, quality, detail, ZOOM) for detail in chosen], COLUMNS)


def sheet(decoder: Decoder, quality: int, detail: Detail, zoom: int = 2) -> Image.Image:
    """Draw one detail with all of COLUMNS, in two rows of three.

    Args:
        decoder: the decoder.
        quality: quality factor of the JPEG, which is in colour with 4:2:0 subsampling.
        detail: what to show.
        zoom: side in pixels of the square that shows a pixel.

    Raises:
        DependencyError: the original is not in the data folder.
    """
    cells = _detail(decoder, quality, detail, zoom)
    upper, lower = (_grid([cells[first : first + 3]], COLUMNS[first : first + 3]) for first in (0, 3))
    both = Image.new("RGB", (upper.width, upper.height + lower.height), "white")
    both.paste(upper)
    both.paste(lower, (0, upper.height))
    return both


def before_after(decoder: Decoder, file: Path, box: tuple[int, int, int, int]) -> Image.Image:
    """Draw a part of a JPEG file, decoded plainly and restored."""
    with Image.open(file) as plain:
        before = np.asarray(plain.convert("RGB"))
    after = decoder.decode(file).image
    return _grid([[_enlarged(before, box, ZOOM), _enlarged(after, box, ZOOM)]], ("before", "after"))


def _detail(decoder: Decoder, quality: int, detail: Detail, zoom: int) -> list[Image.Image]:
    with Image.open(data_path(*Path(detail.file).parts)) as file:
        original = np.asarray(file.convert("RGB"))
    data = jpeg.compress(original, quality)
    result = decoder.decode(data, layers=True)
    assert result.texture_layer is not None  # layers=True
    plain = colour.to_uint8(colour.to_rgb(np.clip(result.picture.planes(), 0, 255)))
    mask = (result.mask * np.uint8(255))[..., None].repeat(3, 2)
    pictures = (plain, result.base_layer, result.texture_layer, mask, result.image, original)
    return [_enlarged(picture, detail.box, zoom) for picture in pictures]


def _enlarged(picture: Pixels, box: tuple[int, int, int, int], zoom: int) -> Image.Image:
    left, top, width, height = box
    part = Image.fromarray(picture).convert("RGB").crop((left, top, left + width, top + height))
    return part.resize((width * zoom, height * zoom), Image.Resampling.NEAREST)


def _grid(rows: Sequence[Sequence[Image.Image]], captions: Sequence[str]) -> Image.Image:
    width, height = rows[0][0].size
    sheet = Image.new("RGB", (len(captions) * (width + _GAP) - _GAP, len(rows) * (height + _GAP) - _GAP + _CAPTION), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(_FONT_SIZE)
    for column, caption in enumerate(captions):
        left = column * (width + _GAP)
        draw.text((left + width // 2, _CAPTION // 2), caption, "black", font, anchor="mm")
        for row, cells in enumerate(rows):
            sheet.paste(cells[column], (left, _CAPTION + row * (height + _GAP)))
    return sheet
