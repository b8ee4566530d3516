"""Tasks of the server's worker processes. All data are passed in files, so that the server process holds no picture in memory."""

from __future__ import annotations

import errno
import json
import os
import time
import zipfile
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .. import facts, recode
from ..codec.encode import Encoding, encode, upright
from ..codec.formats import FormatName
from ..codec.jpeg import JpegImage
from ..codec.metadata import Metadata
from ..codec.picture import Picture, read
from ..codec.raster import RasterImage
from ..options import Options
from ..restoration.render import to_pixels
from ..result import Decoded
from .engine import Context

Pixels = NDArray[np.uint8]

_THUMBNAIL = (320, 240)
# Number of rows that are decoded at a time for the original layer.
_STRIP = 512
# Earliest time that a ZIP file can hold.
_ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Figures:
    """Figures of a result.

    Attributes:
        texture: amount of texture, 0 … 1.
        consistency: see :attr:`redecode.Decoded.consistency`.
        raw_consistency: see :attr:`redecode.Decoded.raw_consistency`.
        projection_psnr: see :attr:`redecode.Decoded.projection_psnr`.
    """

    texture: float
    consistency: float | None
    raw_consistency: float | None
    projection_psnr: float | None


def decode(context: Context, source: Path, target: Path, options: Options) -> tuple[dict[str, Any], FormatName]:
    """Restore a file into another file; return the report and the format of the result.

    Raises:
        RedecodeError: the file cannot be restored, see :func:`redecode.recode.restore`.
    """
    restored = recode.restore(context.decoder(options), source.read_bytes(), options, _steps(context))
    target.write_bytes(restored.data)
    return restored.report(), restored.format


def info(_: Context, source: Path, max_pixels: int) -> dict[str, Any]:
    """Facts about a file.

    Raises:
        RedecodeError: the file cannot be read.
    """
    return facts.inspect(source.read_bytes(), max_pixels)


def open_picture(context: Context, folder: Path, options: Options) -> Figures | None:
    """Restore the file `source` of a folder, and write its layers into the folder, for all amounts of texture.

    Meanwhile it reports facts, size and grid of the picture, the stage of the work, and whether there is anything to restore.

    Returns:
        Figures of the result with full texture; None if there is nothing to restore.

    Raises:
        RedecodeError: the file cannot be restored.
    """
    context.tell("stage", "reading")
    # The facts include an earlier compression even if it is to be ignored.
    source = _read(folder, options, as_is=False)
    context.tell("facts", facts.describe(source))
    if options.as_is:
        source = source.as_is
    original = _upright(_plain(source), source)
    _write_layer(folder / "original.png", original, source)
    _write_thumbnail(folder)
    context.tell("grid", _grid(source))
    context.tell("size", (original.shape[1], original.shape[0]))
    context.tell("source_format", source.source_format)
    context.tell("changed", source.compressed)
    if not source.compressed:
        return None
    del original
    context.tell("stage", "restoring")
    decoded = context.decoder(options).decode(source, 1.0, progress=_steps(context), layers=folder, threshold=options.threshold)
    context.tell("stage", "finishing")
    for name, layer in (("base", decoded.base_planes), ("texture", decoded.texture_planes)):
        assert layer is not None
        _write_layer(folder / f"{name}.png", _upright(to_pixels(layer, source, project=True), source), source)
    _write_mask(folder, _upright(decoded.mask.astype(np.uint8), source))
    np.save(folder / "mask.npy", decoded.mask)
    np.save(folder / "image.npy", decoded.image)
    found = _figures(decoded)
    (folder / "figures.json").write_text(json.dumps(asdict(found)))
    return found


def result(_: Context, folder: Path, restored: Options, options: Options, target: Path) -> None:
    """Write the result as a file, identical to the file that `redecode` writes with the same options.

    Args:
        folder: folder of the picture.
        restored: options that the picture was restored with.
        options: options of the result.
        target: path of the file, which is written atomically.

    Raises:
        FileNotFoundError: the picture was deleted meanwhile.
        RedecodeError: the format cannot hold the picture.
    """
    if target.exists():
        return
    data = _decoded(folder, restored, options.texture, options.projection).encode(options)
    target.parent.mkdir(exist_ok=True)
    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    part.write_bytes(data)
    part.replace(target)


def figures(_: Context, folder: Path, restored: Options, texture: float) -> Figures:
    """Figures of the result with an amount of texture.

    Raises:
        FileNotFoundError: the picture was deleted meanwhile.
    """
    return _figures(_decoded(folder, restored, texture, project=True))


@dataclass(frozen=True)
class Entry:
    """A result for an archive.

    Attributes:
        name: name of the file in the archive.
        folder, restored, options: see :func:`result`.
        target: path of the result, which is written if it does not exist.
    """

    name: str
    folder: Path
    restored: Options
    options: Options
    target: Path


def archive(context: Context, entries: list[Entry], target: Path, room: int) -> None:
    """Write several results into a ZIP file.

    Args:
        entries: results in the order of the archive.
        target: path of the archive.
        room: maximum size of the archive in bytes.

    Raises:
        OSError: the archive would be larger (ENOSPC), or see :func:`result`.
        RedecodeError: see :func:`result`.
    """
    # Not compressed, as the formats of pictures are compressed already.
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as packed:
        for number, entry in enumerate(entries):
            result(context, entry.folder, entry.restored, entry.options, entry.target)
            packed.writestr(zipfile.ZipInfo(entry.name, _now()), entry.target.read_bytes())
            if target.stat().st_size > room:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            context.tell("tiles", (number + 1, len(entries)))


def _now() -> tuple[int, int, int, int, int, int]:
    year, month, day, hour, minute, second = time.localtime()[:6]
    return max((year, month, day, hour, minute, second), _ZIP_EPOCH)


def _steps(context: Context) -> Any:
    return lambda done, total: context.tell("tiles", (done, total))


def _read(folder: Path, options: Options, as_is: bool) -> JpegImage | RasterImage:
    return read((folder / "source").read_bytes(), options.pixel_limit, options.force_quality, as_is)


# Cached, because the page asks for the same picture repeatedly while the user changes the amount of texture.
@lru_cache(maxsize=1)
def _decoded(folder: Path, restored: Options, amount: float, project: bool) -> Decoded:
    """The restored picture with another amount of texture."""
    source = _read(folder, restored, restored.as_is)
    if not source.compressed:
        assert isinstance(source, RasterImage)
        nowhere = np.zeros((source.height, source.width), np.bool_)
        return Decoded(source.pixels, nowhere, source, None, None, amount, project, changed=False)
    base, texture = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("base", "texture"))
    mask, image = (np.load(folder / f"{name}.npy") for name in ("mask", "image"))
    full = Figures(**json.loads((folder / "figures.json").read_text()))
    whole = Decoded(image, mask, source, base, texture, full.texture, True, full.consistency, full.projection_psnr, full.raw_consistency)
    return whole.with_texture(amount, project)


def _figures(decoded: Decoded) -> Figures:
    return Figures(decoded.amount, decoded.consistency, decoded.raw_consistency, decoded.projection_psnr)


def _plain(source: Picture) -> Pixels:
    """The plain decode of the file, strip by strip."""
    if isinstance(source, RasterImage):
        return source.pixels
    unit = source.unit[0]
    step = -(-_STRIP // unit) * unit
    strips = []
    for first in range(0, source.height, step):
        last = min(first + step, source.height)
        # Decode a border around the strip, as subsampled chroma is interpolated with samples beyond it.
        above, below = max(0, first - unit), min(last + unit, source.height)
        around = source.crop((above, below), (0, source.width))
        strips.append(to_pixels(around.planes(), around, project=False)[first - above : last - above])
    return np.concatenate(strips)


def _upright(pixels: Pixels, source: Picture) -> Pixels:
    turned, _ = upright(pixels, source.metadata)
    return np.asarray(turned, np.uint8)


def _write_layer(path: Path, pixels: Pixels, source: Picture) -> None:
    profile = source.metadata.icc_profile
    if pixels.ndim == 3 and pixels.shape[2] == 4:
        path.write_bytes(encode(pixels, Metadata(icc_profile=profile), Encoding("png")))  # encode() converts inks to sRGB.
        return
    image = Image.fromarray(pixels)
    if source.alpha is not None:
        image.putalpha(Image.fromarray(_upright(source.alpha, source)))
    # Low compression: the client waits, and is usually near, so that time matters more than size.
    image.save(path, icc_profile=profile, compress_level=1)


def _write_thumbnail(folder: Path) -> None:
    with Image.open(folder / "original.png") as image:
        image.thumbnail(_THUMBNAIL)
        image.save(folder / "thumbnail.png", icc_profile=image.info.get("icc_profile"))


def _write_mask(folder: Path, mask: Pixels) -> None:
    """Write the mask: white where texture is used, transparent elsewhere, so that the page can cut out layers with it."""
    image = Image.fromarray(mask, "P")
    image.putpalette(bytes((0, 0, 0, 255, 255, 255)))
    image.save(folder / "mask.png", transparency=b"\0\xff", bits=1)


def _grid(source: Picture) -> tuple[int, int]:
    """Offset of the block grid in the upright picture, (x, y)."""
    top, left = (-missing % 8 for missing in source.origin)
    # A small array shows how the orientation turns the picture.
    probe = _upright(np.array([[0, 1], [2, 3]], np.uint8), source)
    ((row, column),) = np.argwhere(probe == 0)
    across, down = (left, source.width), (top, source.height)
    if probe[row, 1 - column] == 2:
        across, down = down, across
    return (across[1] - across[0]) % 8 if column else across[0], (down[1] - down[0]) % 8 if row else down[0]
