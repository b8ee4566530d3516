"""Pages of TIFF files (TIFF 6.0): count them, and join files. This module does not import NumPy or Pillow."""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from typing import BinaryIO

# Maximum number of pages: more than any scanner's stack of paper. A malicious file can claim millions in a few megabytes.
MAX_PAGES = 2_000
# End of the note that only one page of a file was restored.
FURTHER_PAGES = "--format tiff restores them all"
# Size of a value in bytes, by its type.
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
# Tags whose values are offsets in the file: of strips and tiles, and of further image file directories (EXIF, GPS, interoperability, ...).
_STRIPS, _FOLDERS = {273, 324}, {330, 34665, 34853, 40965}


def page_count(file: BinaryIO) -> int:
    """Number of pages of a TIFF file, at most MAX_PAGES + 1; 1 for any other file, and if the list of pages is damaged at its start.

    >>> page_count(io.BytesIO(b"no TIFF"))
    1
    """
    start = file.read(8)
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(start[:4])
    if order is None or len(start) < 8:
        return 1
    (offset,) = struct.unpack(order + "I", start[4:])
    seen: set[int] = set()
    while offset and offset not in seen and len(seen) <= MAX_PAGES:
        file.seek(offset)
        count = file.read(2)
        if len(count) < 2:
            break
        seen.add(offset)
        file.seek(12 * struct.unpack(order + "H", count)[0], io.SEEK_CUR)
        link = file.read(4)
        offset = struct.unpack(order + "I", link)[0] if len(link) == 4 else 0
    return max(1, len(seen))


def joined(files: Sequence[bytes]) -> bytes:
    """Join TIFF files into one file with all their pages.

    Args:
        files: files written by Pillow or tifffile: little-endian, with one page each.
    """
    whole = bytearray(files[0])
    link = _link(whole, 0)
    for file in files[1:]:
        whole += bytes(len(whole) % 2)
        base = len(whole)
        page = bytearray(file)
        (first,) = struct.unpack_from("<I", page, 4)
        _move(page, first, base)
        struct.pack_into("<I", whole, link, base + first)
        whole += page
        link = _link(whole, base)
    return bytes(whole)


def _link(whole: bytearray, base: int) -> int:
    """Offset of the link to the next page in the file that begins at `base`."""
    first = base + struct.unpack_from("<I", whole, base + 4)[0]
    return int(first + 2 + 12 * struct.unpack_from("<H", whole, first)[0])


def _move(page: bytearray, folder: int, base: int) -> None:
    """Add `base` to all offsets in an image file directory."""
    (count,) = struct.unpack_from("<H", page, folder)
    for at in range(folder + 2, folder + 2 + 12 * count, 12):
        tag, kind, length = struct.unpack_from("<HHI", page, at)
        values, size = at + 8, _SIZES.get(kind, 1)
        if size * length > 4:
            (values,) = struct.unpack_from("<I", page, at + 8)
            struct.pack_into("<I", page, at + 8, values + base)
        if tag in _STRIPS:
            form = f"<{length}{'H' if size == 2 else 'I'}"
            places = [place + base for place in struct.unpack_from(form, page, values)]
            if size == 2 and length == 1:
                # The new offset may not fit 16 bits. The field of a single value has 32 bits: make it a 32-bit number.
                struct.pack_into("<H", page, at + 2, 4)
                form = "<1I"
            struct.pack_into(form, page, values, *places)
        elif tag in _FOLDERS:
            for place in range(values, values + 4 * length, 4):
                (below,) = struct.unpack_from("<I", page, place)
                _move(page, below, base)
                struct.pack_into("<I", page, place, below + base)
