"""Seeds for fuzzing, small files of every kind that redecode reads: `python fuzz/seeds.py FOLDER` writes them."""

from __future__ import annotations

import io
import struct
import sys
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

_DATA = Path(__file__).parent.parent / "tests" / "codec" / "data"
_XMP = b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta xmlns:x='adobe:ns:meta/'/>"


def picture(height: int = 24, width: int = 40) -> np.ndarray:
    """Shading, noise and an edge, uint8 [H, W, 3]."""
    rng = np.random.default_rng(5)
    rows, columns = np.mgrid[:height, :width]
    image = np.stack([columns * 5, rows * 8, 255 - columns * 4], -1) + rng.normal(0, 9, (height, width, 3))
    image[height // 3 : height // 2, width // 4 : width // 2] = 245
    return image.clip(0, 255).astype(np.uint8)


def _saved(image: Image.Image, name: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, name, **options)
    return buffer.getvalue()


def segment(data: bytes, marker: int) -> int:
    """Offset of the first segment with a marker."""
    position = 2
    while data[position + 1] != marker:
        position += 2 + struct.unpack_from(">H", data, position + 2)[0]
    return position


def with_segment(data: bytes, marker: int, payload: bytes) -> bytes:
    """Insert a segment at the beginning of a JPEG."""
    return data[:2] + struct.pack(">BBH", 0xFF, marker, len(payload) + 2) + payload + data[2:]


def _wide_tables(data: bytes) -> bytes:
    at = segment(data, 0xDB)
    steps = [min(255, 3 + 20 * step) for step in data[at + 5 : at + 69]]
    return data[:at] + struct.pack(">BBHB64H", 0xFF, 0xDB, 131, 0x10, *steps) + data[at + 69 :]


@lru_cache(maxsize=1)
def jpegs() -> dict[str, bytes]:
    """Names and contents of JPEG files in every coding."""
    colour = Image.fromarray(picture())
    gray = colour.convert("L")
    exif = Image.Exif()
    exif[0x010E], exif[0x0112], exif[0x011A], exif[0x011B] = "a description", 6, 300.0, 150.0
    exif.get_ifd(0x8769)[0x9003] = "2020:01:01 00:00:00"
    ycck = bytearray(_saved(Image.fromarray(np.dstack([picture(), picture()[..., 0]]), "CMYK"), "JPEG", quality=20))
    cmyk = bytes(ycck)
    ycck[segment(cmyk, 0xEE) + 15] = 2
    made = {
        "gray": _saved(gray, "JPEG", quality=30),
        "420": _saved(colour, "JPEG", quality=30, subsampling="4:2:0"),
        "422": _saved(colour, "JPEG", quality=30, subsampling="4:2:2"),
        "444": _saved(colour, "JPEG", quality=30, subsampling="4:4:4"),
        "progressive": _saved(colour, "JPEG", quality=30, progressive=True),
        "progressive-444": _saved(colour, "JPEG", quality=30, progressive=True, subsampling="4:4:4"),
        "progressive-gray": _saved(gray, "JPEG", quality=30, progressive=True),
        "restart": _saved(colour, "JPEG", quality=30, restart_marker_blocks=1),
        "restart-progressive": _saved(colour, "JPEG", quality=30, restart_marker_rows=1, progressive=True),
        "rgb": _saved(colour, "JPEG", quality=20, keep_rgb=True),
        "cmyk": cmyk,
        "ycck": bytes(ycck),
        "wide-tables": _wide_tables(_saved(gray, "JPEG", quality=30)),
        "optimized": _saved(colour, "JPEG", quality=80, optimize=True),
        "metadata": with_segment(
            _saved(colour, "JPEG", quality=20, exif=exif.tobytes(), icc_profile=b"profile", dpi=(300, 150), comment=b"hi"), 0xE1, _XMP
        ),
    }
    return made | {path.stem: path.read_bytes() for path in sorted(_DATA.glob("*.jpg"))}


@lru_cache(maxsize=1)
def rasters() -> dict[str, bytes]:
    """Names and contents of pictures in other formats, saved from a JPEG."""
    with Image.open(io.BytesIO(jpegs()["420"])) as image:
        shown = image.convert("RGB")
    clear = shown.copy()
    clear.putalpha(shown.convert("L"))
    palette, gray = shown.quantize(16), shown.convert("L")
    return {
        "png": _saved(shown, "PNG"),
        "png-alpha": _saved(clear, "PNG", dpi=(72, 72)),
        "png-palette": _saved(palette, "PNG", transparency=0),
        "png-gray": _saved(gray, "PNG"),
        "webp": _saved(shown, "WEBP", quality=60),
        "webp-lossless": _saved(clear, "WEBP", lossless=True),
        "tiff": _saved(gray, "TIFF"),
        "tiff-deflate": _saved(shown, "TIFF", compression="tiff_adobe_deflate"),
        "tiff-lzw": _saved(shown, "TIFF", compression="tiff_lzw", dpi=(72, 72)),
        "tiff-jpeg": _saved(shown, "TIFF", compression="jpeg"),
        "tiff-fax": _saved(gray.convert("1"), "TIFF", compression="group4"),
        "gif": _saved(palette, "GIF"),
        "gif-animated": _saved(palette, "GIF", save_all=True, append_images=[palette.rotate(180)]),
        "bmp": _saved(shown.crop((0, 0, 24, 16)), "BMP"),
        "avif": _saved(shown, "AVIF", quality=60),
    }


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in (jpegs() | rasters()).items():
        (folder / name).write_bytes(data)
