"""Benchmark of the decoder on a set of originals: its layers, with and without projection, compared with plain JPEG.

There are two protocols, whose figures must not be compared with each other:

- *gray*: the luma of MATLAB's rgb2ycbcr (studio range, rounded) is the original. It is encoded as a one-component JPEG,
  restored, rounded to 8 bits and compared on 0 … 255. This is the protocol of the paper and of most of the literature.
- *colour*: the RGB picture is encoded with chroma at half resolution (4:2:0), restored, rounded, and compared as RGB and in
  its full-range luma.

All figures, including those in dB, are measured per image and then averaged.
"""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .. import weights
from ..codec import colour, jpeg
from ..codec.jpeg import JpegImage
from ..decoder import Decoder
from ..errors import DependencyError
from ..restoration.fusion import fuse
from ..restoration.mask import orientation_diversity, region_mask
from ..restoration.projection import consistent_blocks
from ..restoration.render import to_pixels
from . import lpips, metrics

Pixels = NDArray[np.uint8]
Protocol: TypeAlias = Literal["gray", "colour"]

SUBSAMPLING = "4:2:0"
# The default precision on a CPU; the file names of results include any other precision.
DEFAULT_PRECISION = "int8"
_SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
_PACKAGES = ("redecode", "numpy", "onnxruntime", "pillow", "torch")
# Decimal places of figures: enough for every table, and few enough to hide rounding differences between machines.
_DIGITS = 5
# Pattern of an object with only numbers in indented JSON.
_NUMBERS = re.compile(r"\{[^{}\[\]]*:\s[-\dI][^{}\[\]]*\}")


@dataclass(frozen=True)
class Row:
    """The metrics of a decoding method on a set.

    Attributes:
        method: "jpeg" (the plain decode), "base" (L_B), "texture" (L_T) or "fused".
        projected: whether the result was projected onto the file's quantization cells.
        images: the metrics of each image by file name and metric. Gray protocol: psnr, psnr_b, psnr_b_whole_blocks, ssim_uniform,
            ssim_gaussian, e_psnr and lpips; colour protocol: psnr_rgb, psnr_y and lpips; both: consistent, the share of the luma blocks
            that encode to the file's own coefficients.
    """

    method: str
    projected: bool
    images: dict[str, dict[str, float]]

    @property
    def means(self) -> dict[str, float]:
        """Every metric, averaged over the images."""
        values = list(self.images.values())
        return {name: round(math.fsum(v[name] for v in values) / len(values), _DIGITS) for name in values[0]}


@dataclass(frozen=True)
class Result:
    """A benchmark of one preset on one set; nothing in it depends on when or how fast it ran.

    Attributes:
        set_name: name of the set of originals.
        protocol: "gray" or "colour".
        quality: JPEG quality factor of libjpeg.
        preset: preset of the decoder.
        precision: precision of the decoder.
        limit: number of images measured, the first in the order of their names; None for the whole set.
        command: command that repeats the benchmark.
        versions: versions of redecode and the libraries that the figures depend on, by name.
        weights: SHA-256 of each network by the network's name.
        rows: the measurements, one row per decoding method.
    """

    set_name: str
    protocol: Protocol
    quality: int
    preset: str
    precision: str
    limit: int | None
    command: str
    versions: dict[str, str]
    weights: dict[str, str]
    rows: tuple[Row, ...]

    @property
    def file_name(self) -> str:
        """File name of the result, for :func:`write`."""
        part = "" if self.limit is None else f"-first{self.limit}"
        return f"{self.set_name}-{self.protocol}-qf{self.quality}-{self.network.replace(' ', '-')}{part}.json"

    @property
    def network(self) -> str:
        """Name of the networks: the preset, and the precision if it is not the default."""
        precision = "" if self.precision == DEFAULT_PRECISION else f" {self.precision}"
        return self.preset + precision


def run(
    decoder: Decoder,
    data_dir: Path,
    set_name: str,
    quality: int,
    protocol: Protocol,
    limit: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Result:
    """Encode, restore and measure every image of a folder, one at a time.

    Args:
        decoder: the decoder to measure.
        data_dir: folder of originals.
        set_name: name of the set in results and tables.
        quality: JPEG quality factor, 1 … 100.
        protocol: "gray" or "colour", see the module.
        limit: number of images to measure, the first in the order of their names; None for all.
        progress: function called with (number of images done, total number), first with 0 done.

    Raises:
        DependencyError: the folder has no images, or LPIPS's weights or libraries are missing.
        ValueError: quality or limit is out of range.
    """
    paths = _originals(data_dir, limit)
    hashes = {name: str(weights.record(name)["sha256"][decoder.precision]) for name in weights.PRESETS[decoder.preset].values()}
    measured: dict[tuple[str, bool], dict[str, dict[str, float]]] = {}
    for done, path in enumerate(paths):
        if progress is not None:
            progress(done, len(paths))
        with Image.open(path) as original:
            rgb = np.asarray(original.convert("RGB"))
        for key, values in _measure_image(decoder, rgb, quality, protocol).items():
            measured.setdefault(key, {})[path.name] = values
    if progress is not None:
        progress(len(paths), len(paths))
    return Result(
        set_name=set_name,
        protocol=protocol,
        quality=quality,
        preset=decoder.preset,
        precision=decoder.precision,
        limit=limit,
        command=_command(set_name, quality, protocol, decoder, limit),
        versions={package: version(package) for package in _PACKAGES},
        weights=hashes,
        rows=tuple(Row(method, projected, images) for (method, projected), images in measured.items()),
    )


def write(result: Result, results_dir: Path) -> Path:
    """Write a result to its file in a folder, which is created if necessary; return the file's path."""
    results_dir.mkdir(parents=True, exist_ok=True)
    content = asdict(result)
    for row, fields in zip(result.rows, content["rows"], strict=True):
        # The means follow from the images; they are written for readers of the file.
        images = fields.pop("images")
        fields |= {"means": row.means, "images": images}
    path = results_dir / result.file_name
    text = json.dumps(content, indent=1, ensure_ascii=False)
    # One line per image, so that files are short and diffs readable.
    text = _NUMBERS.sub(lambda match: " ".join(match[0].split()), text)
    path.write_text(text + "\n", encoding="utf-8")
    return path


def read(path: Path) -> Result:
    """Read a result that :func:`write` wrote."""
    content = json.loads(path.read_text(encoding="utf-8"))
    rows = tuple(Row(row["method"], row["projected"], row["images"]) for row in content.pop("rows"))
    return Result(**content, rows=rows)


def encode(rgb: Pixels, quality: int, protocol: Protocol) -> tuple[Pixels, bytes]:
    """Encode an original by a protocol.

    Args:
        rgb: the original, uint8 [H, W, 3].
        quality: JPEG quality factor, 1 … 100.
        protocol: "gray" or "colour", see the module.

    Returns:
        The reference for measurements, uint8 [H, W] (gray) or [H, W, 3] (colour), and the bytes of the JPEG file.
    """
    original = colour.studio_luma(rgb) if protocol == "gray" else rgb
    return original, jpeg.compress(original, quality, SUBSAMPLING)


def decodings(decoder: Decoder, data: bytes, image: JpegImage) -> Iterator[tuple[str, bool, Pixels]]:
    """Decode a file by every method, first plainly (by Pillow, like any viewer).

    Args:
        decoder: the decoder.
        data: bytes of the file.
        image: the same file, parsed.

    Yields:
        The method and whether the result is projected, as in :class:`Row`, and the pixels, uint8 [H, W] or [H, W, 3].
    """
    with Image.open(io.BytesIO(data)) as plain:
        yield "jpeg", False, np.asarray(plain)
    base = decoder.base_layer(image)
    texture = decoder.texture_layer(image, base)
    fused = fuse(base, texture, region_mask(orientation_diversity(base[0])))
    for method, planes in (("base", base), ("texture", texture), ("fused", fused)):
        for projected in (False, True):
            yield method, projected, to_pixels(planes, image, projected)


def measure_gray(original: Pixels, restored: Pixels) -> dict[str, float]:
    """All metrics of the gray protocol for pictures uint8 [H, W]."""
    return {
        "psnr": metrics.psnr(original, restored),
        "psnr_b": metrics.psnr_b(original, restored),
        "psnr_b_whole_blocks": metrics.psnr_b(metrics.whole_blocks(original), metrics.whole_blocks(restored)),
        "ssim_uniform": metrics.ssim_uniform(original, restored),
        "ssim_gaussian": metrics.ssim_gaussian(original, restored),
        "e_psnr": metrics.e_psnr(original, restored),
        "lpips": lpips.distance(original, restored),
    }


def measure_colour(original: Pixels, restored: Pixels) -> dict[str, float]:
    """All metrics of the colour protocol for RGB pictures uint8 [H, W, 3]; Y is the full-range luma, not rounded."""
    return {
        "psnr_rgb": metrics.psnr(original, restored),
        "psnr_y": metrics.psnr(colour.to_planes(original)[0], colour.to_planes(restored)[0]),
        "lpips": lpips.distance(original, restored),
    }


def _measure_image(decoder: Decoder, rgb: Pixels, quality: int, protocol: Protocol) -> dict[tuple[str, bool], dict[str, float]]:
    original, data = encode(rgb, quality, protocol)
    measure = measure_gray if protocol == "gray" else measure_colour
    image = jpeg.read(data)
    found = {}
    for method, projected, pixels in decodings(decoder, data, image):
        values = measure(original, pixels) | {"consistent": float(consistent_blocks(pixels, image).mean())}
        found[method, projected] = {name: round(value, _DIGITS) for name, value in values.items()}
    return found


def _originals(folder: Path, limit: int | None) -> list[Path]:
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be at least 1, not {limit}")
    paths = sorted(path for path in folder.glob("*") if path.suffix.lower() in _SUFFIXES)
    if not paths:
        raise DependencyError(f"there are no images in {folder}")
    return paths[:limit]


def _command(set_name: str, quality: int, protocol: Protocol, decoder: Decoder, limit: int | None) -> str:
    part = "" if limit is None else f" --limit {limit}"
    precision = "" if decoder.precision == DEFAULT_PRECISION else f" --precision {decoder.precision}"
    return (
        f"redecode bench --data $REDECODE_DATA/eval/{set_name} --qf {quality} --protocol {protocol} "
        f"--preset {decoder.preset}{precision}{part}"
    )
