"""Editing EXIF data in place (EXIF 2.32): all other bytes keep their positions, so that maker notes, whose offsets count from the
beginning of the data, stay valid.
"""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

from PIL import Image

SIGNATURE = b"Exif\0\0"

_ORIENTATION, _EXIF_FOLDER, _MAKER_NOTE = 0x0112, 0x8769, 0x927C
_THUMBNAIL_OFFSET, _THUMBNAIL_LENGTH = 0x0201, 0x0202
# Pairs of tags for width and height, in the main and the Exif directory, that swap values when a picture is rotated by 90°.
_PAIRS = ((0x0100, 0x0101), (0x011A, 0x011B), (0xA002, 0xA003), (0xA20E, 0xA20F))
# Transposition that turns a picture upright, by its orientation (4.6.4 A).
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_THUMBNAIL_QUALITIES = (90, 75, 60, 40)


def with_orientation(orientation: int) -> bytes:
    """EXIF data, with signature, that contain only an orientation, 1 … 8."""
    return SIGNATURE + b"MM\0*" + struct.pack(">IHHHIHHI", 8, 1, _ORIENTATION, 3, 1, orientation, 0, 0)


def orientation(exif: bytes | None) -> int | None:
    """The orientation, 1 … 8; None if it is missing or invalid."""
    folder = _Block(bytearray(exif or b"")).main()
    value = folder.get(_ORIENTATION)
    return value if value in range(1, 9) else None


def has_maker_note(exif: bytes | None) -> bool:
    """Whether the EXIF data contain a maker note, in the camera maker's own format."""
    block = _Block(bytearray(exif or b""))
    below = block.main().get(_EXIF_FOLDER)
    return below is not None and _MAKER_NOTE in block.folder(below).entries


def has_thumbnail(exif: bytes | None) -> bool:
    """Whether the EXIF data contain a thumbnail."""
    return bool(_Block(bytearray(exif or b"")).thumbnail())


def upright(exif: bytes) -> bytes:
    """EXIF data for a picture that was turned upright, with orientation, sizes and thumbnail changed accordingly.

    Data without an orientation are returned unchanged. A thumbnail that cannot be rotated is dropped (see :func:`has_thumbnail`).
    """
    block = _Block(bytearray(exif))
    turned = orientation(exif)
    if turned is None:
        return exif
    main = block.main()
    main.set(_ORIENTATION, 1)
    if turned >= 5:
        below = main.get(_EXIF_FOLDER)
        for folder in (main, *([block.folder(below)] if below is not None else [])):
            for pair in _PAIRS:
                folder.swap(*pair)
    if turned > 1:
        block.turn_thumbnail(_TURNS[turned])
    return bytes(block.data)


@dataclass(frozen=True)
class _Block:
    """EXIF data: the signature and a TIFF structure. Damaged parts count as absent."""

    data: bytearray

    def main(self) -> _Folder:
        return self.folder(self.number(4, 4))

    def folder(self, offset: int | None) -> _Folder:
        """The directory at an offset; an empty one if there is none."""
        count = self.number(offset, 2) if offset else None
        entries: dict[int, int] = {}
        for index in range(count or 0):
            at = (offset or 0) + 2 + 12 * index
            if (tag := self.number(at, 2)) is None or self.number(at + 8, 4) is None:
                break
            entries.setdefault(tag, at)
        return _Folder(self, entries, None if offset is None or count is None else offset + 2 + 12 * count)

    def number(self, offset: int | None, size: int) -> int | None:
        """Read an unsigned number at an offset from the beginning of the TIFF structure."""
        byte_order = {b"II": "little", b"MM": "big"}.get(bytes(self.data[len(SIGNATURE) : len(SIGNATURE) + 2]))
        if byte_order is None or offset is None or not self.data.startswith(SIGNATURE):
            return None
        raw = self.data[len(SIGNATURE) + offset : len(SIGNATURE) + offset + size]
        return int.from_bytes(raw, "little" if byte_order == "little" else "big") if len(raw) == size else None

    def set_number(self, offset: int, size: int, value: int) -> None:
        little = self.data[len(SIGNATURE) :].startswith(b"II")
        self.data[len(SIGNATURE) + offset : len(SIGNATURE) + offset + size] = value.to_bytes(size, "little" if little else "big")

    def thumbnail(self) -> tuple[_Folder, int, int] | None:
        """Directory of the thumbnail, and offset and length of its JPEG in bytes."""
        link = self.main().next_link
        folder = self.folder(self.number(link, 4))
        begin, length = folder.get(_THUMBNAIL_OFFSET), folder.get(_THUMBNAIL_LENGTH)
        return (folder, begin, length) if begin and length else None

    def turn_thumbnail(self, turn: Image.Transpose) -> None:
        """Rotate the thumbnail if the result fits its space, else remove the link to it."""
        found = self.thumbnail()
        if found is None:
            return
        folder, begin, length = found
        start = len(SIGNATURE) + begin
        for turned in _turned_jpegs(bytes(self.data[start : start + length]), turn):
            if len(turned) <= length:
                self.data[start : start + length] = turned.ljust(length, b"\0")
                folder.set(_THUMBNAIL_LENGTH, len(turned))
                folder.set(_ORIENTATION, 1)
                return
        link = self.main().next_link
        assert link is not None  # A thumbnail was found through it.
        self.set_number(link, 4, 0)


@dataclass(frozen=True)
class _Folder:
    """An image file directory: offsets of its entries by tag, and the offset of the link to the next directory."""

    block: _Block
    entries: dict[int, int]
    next_link: int | None

    def _place(self, tag: int) -> tuple[int, int] | None:
        """Offset and size in bytes of a value that is a single short or long number."""
        at = self.entries.get(tag)
        if at is None or self.block.number(at + 4, 4) != 1:
            return None
        size = {3: 2, 4: 4}.get(self.block.number(at + 2, 2) or 0)
        return None if size is None else (at + 8, size)

    def get(self, tag: int) -> int | None:
        place = self._place(tag)
        return None if place is None else self.block.number(*place)

    def set(self, tag: int, value: int) -> None:
        if place := self._place(tag):
            self.block.set_number(*place, value)

    def swap(self, one: int, other: int) -> None:
        """Swap type, count and value of two entries, if both exist."""
        if one in self.entries and other in self.entries:
            data, begins = self.block.data, [len(SIGNATURE) + self.entries[tag] + 2 for tag in (one, other)]
            first, second = (data[begin : begin + 10] for begin in begins)
            data[begins[0] : begins[0] + 10], data[begins[1] : begins[1] + 10] = second, first


def _turned_jpegs(data: bytes, turn: Image.Transpose) -> Iterator[bytes]:
    """The rotated thumbnail as JPEG files of decreasing quality; none if it cannot be read."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(io.BytesIO(data), formats=["JPEG"]) as image:
                turned = image.transpose(turn)
        except Exception:  # Pillow raises many kinds of errors for damaged thumbnails.
            return
        for quality in _THUMBNAIL_QUALITIES:
            buffer = io.BytesIO()
            turned.save(buffer, "JPEG", quality=quality, optimize=True)
            yield buffer.getvalue()
