"""The pictures that people have open: restored once, kept in a private folder for a while, turned into files when asked."""

from __future__ import annotations

import pickle
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..codec.encode import Encoding, encode, upright
from ..codec.formats import FormatName
from ..codec.jpeg import JpegImage
from ..codec.metadata import Metadata
from ..codec.picture import Picture, read
from ..codec.recompression import first_generation
from ..decoder import Decoder
from ..facts import describe
from ..options import Options
from ..restoration.render import to_pixels
from ..result import Decoded
from .jobs import Job

Pixels = NDArray[np.uint8]

LAYERS = ("original", "base", "texture", "mask", "thumbnail")
_THUMBNAIL = (320, 240)
# Of randomness in an id, which is all that its owner needs to know.
_ID_BYTES = 18


@dataclass
class Figures:
    """What a result says of itself.

    Attributes:
        texture: the amount it is of.
        consistency: see :attr:`redecode.Decoded.consistency`.
        projection_psnr: see :attr:`redecode.Decoded.projection_psnr`.
    """

    texture: float
    consistency: float | None
    projection_psnr: float | None


@dataclass
class Open:
    """A picture that somebody has open. It is written to by the one thread that restores it, and read by all.

    Attributes:
        id: names it, unguessably.
        folder: its own, for its layers.
        options: how it is restored.
        job: the restoring.
        state: "waiting", "working", "done" or "failed".
        facts: about the file, once it has been read.
        size: width and height of the layers, which stand upright, once the original is there.
        grid: where the first column and row of whole 8×8 blocks begin in them.
        figures: of the result with all texture.
        changed: False where there was nothing to restore.
        problem: why it failed.
        used: when it was last asked for.
        stored: bytes in its folder.
    """

    id: str
    folder: Path
    options: Options
    job: Job = field(default_factory=Job)
    state: str = "waiting"
    facts: dict[str, Any] | None = None
    size: tuple[int, int] | None = None
    grid: tuple[int, int] = (0, 0)
    figures: Figures | None = None
    changed: bool = True
    problem: dict[str, Any] | None = None
    used: float = field(default_factory=time.monotonic)
    stored: int = 0

    @property
    def settled(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.state in ("done", "failed")


class Pictures:
    """All open pictures. They are counted by the event loop's thread alone."""

    def __init__(self, capacity: int, seconds: float) -> None:
        """
        Args:
            capacity: bytes on disk; beyond them, the pictures go that were not asked for the longest.
            seconds: that a picture is kept after it was last asked for.
        """
        self.capacity = capacity
        self._seconds = seconds
        self._open: dict[str, Open] = {}
        self._folder = Path(tempfile.mkdtemp(prefix="redecode-pictures-"))

    def __iter__(self) -> Iterator[Open]:
        return iter(self._open.values())

    def __len__(self) -> int:
        return len(self._open)

    @property
    def stored(self) -> int:
        """Bytes on disk, of the pictures that are settled."""
        return sum(picture.stored for picture in self)

    def add(self, options: Options) -> Open:
        """A new picture, with a folder."""
        name = secrets.token_urlsafe(_ID_BYTES)
        picture = Open(name, self._folder / name, options)
        picture.folder.mkdir()
        self._open[name] = picture
        return picture

    def scratch(self) -> IO[bytes]:
        """A file without a name, gone when it is closed."""
        return tempfile.TemporaryFile(dir=self._folder)

    def get(self, name: str) -> Open | None:
        """The picture of that id, if it is still there."""
        picture = self._open.get(name)
        if picture is not None:
            picture.used = time.monotonic()
        return picture

    def forget(self, picture: Open) -> None:
        """Cancel and drop it; what its thread still writes goes with its folder when that ends (see :meth:`settle`)."""
        picture.job.cancel()
        self._open.pop(picture.id, None)
        if picture.settled:
            shutil.rmtree(picture.folder, ignore_errors=True)

    def settle(self, picture: Open) -> bool:
        """Count what a picture's job, which has ended, has stored, and make room for it; returns whether there is enough."""
        if picture.id not in self._open or picture.state == "failed":
            shutil.rmtree(picture.folder, ignore_errors=True)
            return True
        picture.stored = sum(path.stat().st_size for path in picture.folder.iterdir())
        for old in sorted((p for p in self if p.settled and p is not picture), key=lambda p: p.used):
            if self.stored <= self.capacity:
                break
            self.forget(old)
        return self.stored <= self.capacity

    def expire(self) -> None:
        """Drop what has not been asked for in a long time."""
        oldest = time.monotonic() - self._seconds
        for picture in [p for p in self if p.settled and p.used < oldest]:
            self.forget(picture)

    def close(self) -> None:
        """Drop everything; no job may be at work any more."""
        self._open.clear()
        shutil.rmtree(self._folder, ignore_errors=True)


def restore(picture: Open, decoder: Decoder, data: bytes, job: Job) -> None:
    """Restore a file into an open picture's folder, for all amounts of texture.

    Raises:
        RedecodeError: the file cannot be restored.
    """
    options = picture.options
    picture.state = "working"
    (picture.folder / "source").write_bytes(data)
    source = read(data, options.pixel_limit, options.force_quality, as_is=True)
    earlier = first_generation(source) if isinstance(source, JpegImage) else None
    picture.facts = describe(source, earlier)
    if earlier is not None and not options.as_is:
        source = earlier.image
    job.check()
    original = _upright(to_pixels(source.planes(), source, project=False), source)
    _write_layer(picture, "original", original, source)
    _write_thumbnail(picture)
    picture.grid, picture.size = _grid(source), (original.shape[1], original.shape[0])
    job.check()
    decoded = decoder.decode(source, 1.0, progress=job.step, layers=True, threshold=options.threshold)
    with (picture.folder / "decoded").open("wb") as file:
        pickle.dump(decoded, file)
    for name, layer in (("base", decoded.base_layer), ("texture", decoded.texture_layer)):
        job.check()
        pixels = decoded.image if layer is None or not decoded.changed else layer
        _write_layer(picture, name, _upright(pixels, source), source)
    _write_mask(picture, _upright(decoded.mask.astype(np.uint8), source))
    picture.figures = _figures(decoded)
    picture.changed = decoded.changed


def result(picture: Open, options: Options) -> tuple[bytes, FormatName]:
    """The file, and its format, that the options ask for: the very bytes that `restoring.restore` makes of the same data.

    Raises:
        FileNotFoundError: the picture has been dropped meanwhile.
        RedecodeError: the format cannot hold such a picture.
    """
    decoded = _with(picture, options.texture, options.projection)
    return decoded.encode(options), options.written_format(decoded.picture.source_format)


def figures(picture: Open, texture: float) -> Figures:
    """What the result with that much texture says of itself.

    Raises:
        FileNotFoundError: the picture has been dropped meanwhile.
    """
    return _figures(_with(picture, texture, projection=True))


def _with(picture: Open, amount: float, projection: bool) -> Decoded:
    """The decoded picture with another amount of texture."""
    # Written by this very process, into a folder that nobody else may open.
    with (picture.folder / "decoded").open("rb") as file:
        decoded: Decoded = pickle.load(file)
    return decoded.with_texture(amount, projection)


def _figures(decoded: Decoded) -> Figures:
    return Figures(decoded.amount, decoded.consistency, decoded.projection_psnr)


def _upright(pixels: Pixels, source: Picture) -> Pixels:
    turned, _ = upright(pixels, source.metadata)
    return np.asarray(turned, np.uint8)


def _write_layer(picture: Open, name: str, pixels: Pixels, source: Picture) -> None:
    profile = source.metadata.icc_profile
    path = picture.folder / f"{name}.png"
    if pixels.ndim == 3 and pixels.shape[2] == 4:
        path.write_bytes(encode(pixels, Metadata(icc_profile=profile), Encoding("png")))  # Which turns inks into light.
        return
    image = Image.fromarray(pixels)
    if source.alpha is not None:
        image.putalpha(Image.fromarray(_upright(source.alpha, source)))
    # Somebody is waiting, and the way is short: time matters more than size.
    image.save(path, icc_profile=profile, compress_level=1)


def _write_thumbnail(picture: Open) -> None:
    with Image.open(picture.folder / "original.png") as image:
        image.thumbnail(_THUMBNAIL)
        image.save(picture.folder / "thumbnail.png", icc_profile=image.info.get("icc_profile"))


def _write_mask(picture: Open, mask: Pixels) -> None:
    """White where texture may enter, and clear elsewhere, so that a page can cut with it."""
    image = Image.fromarray(mask, "P")
    image.putpalette(bytes((0, 0, 0, 255, 255, 255)))
    image.save(picture.folder / "mask.png", transparency=b"\0\xff", bits=1)


def _grid(source: Picture) -> tuple[int, int]:
    """Where the block grid begins in the upright picture, (x, y)."""
    top, left = (-missing % 8 for missing in source.origin)
    # How pictures are turned is seen on a small one.
    probe = _upright(np.array([[0, 1], [2, 3]], np.uint8), source)
    ((row, column),) = np.argwhere(probe == 0)
    across, down = (left, source.width), (top, source.height)
    if probe[row, 1 - column] == 2:
        across, down = down, across
    return (across[1] - across[0]) % 8 if column else across[0], (down[1] - down[0]) % 8 if row else down[0]
