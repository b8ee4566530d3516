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


def details(decoder: Decoder, quality: int, chosen: Sequence[Detail] = DETAILS) -> Image.Image:
    """Draw details in rows, with one column for each of COLUMNS.

    Args:
        decoder: the decoder.
        quality: quality factor of the JPEGs, which are in colour with 4:2:0 subsampling.
        chosen: details to show, one per row.

    Raises:
        DependencyError: an original is not in the data folder.
    """
    rows = [_detail(decoder, quality, detail) for detail in chosen]
    return _grid(rows, COLUMNS)


def before_after(decoder: Decoder, file: Path, box: tuple[int, int, int, int]) -> Image.Image:
    """Draw a part of a JPEG file, decoded plainly and restored."""
    with Image.open(file) as plain:
        before = np.asarray(plain.convert("RGB"))
    after = decoder.decode(file).image
    return _grid([[_enlarged(before, box), _enlarged(after, box)]], ("before", "after"))


def _detail(decoder: Decoder, quality: int, detail: Detail) -> list[Image.Image]:
    with Image.open(data_path(*Path(detail.file).parts)) as file:
        original = np.asarray(file.convert("RGB"))
    data = jpeg.compress(original, quality)
    result = decoder.decode(data, layers=True)
    assert result.texture_layer is not None  # layers=True
    plain = colour.to_uint8(colour.to_rgb(np.clip(result.picture.planes(), 0, 255)))
    mask = (result.mask * np.uint8(255))[..., None].repeat(3, 2)
    return [_enlarged(picture, detail.box) for picture in (plain, result.base_layer, result.texture_layer, mask, result.image, original)]


def _enlarged(picture: Pixels, box: tuple[int, int, int, int]) -> Image.Image:
    left, top, width, height = box
    part = Image.fromarray(picture).convert("RGB").crop((left, top, left + width, top + height))
    return part.resize((width * ZOOM, height * ZOOM), Image.Resampling.NEAREST)


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
