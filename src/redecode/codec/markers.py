"""Parser of the marker segments of a JPEG file (ITU-T T.81, annex B), in pure Python.

The parser decides whether a file is supported, collects tables and metadata, and writes a new file for libjpeg with only the segments that
the coefficients need, each of them validated: libjpeg cannot fail on the header of that file, however malicious the input. The parser is
strict up to the first scan. After the first scan it cuts the file at the first damage, where a viewer would show the picture so far.

Like viewers, the parser accepts files that break the standard in harmless ways, and corrects them for libjpeg: components with equal
identifiers, scan headers of sequential files with a meaningless spectral range, misplaced restart markers, padding, a missing end marker.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from ..errors import LimitError, RedecodeError, TooLargeError, UnreadableError, UnsupportedError

# Frame markers of T.81, table B.1: those that 8-bit decoders read (the last two are arithmetic-coded), and names of the others.
_SUPPORTED_FRAMES = {0xC0, 0xC1, 0xC2, 0xC9, 0xCA}
_OTHER_FRAMES = {
    0xC3: "lossless",
    0xC5: "hierarchical",
    0xC6: "hierarchical",
    0xC7: "lossless hierarchical",
    0xCB: "lossless arithmetic-coded",
    0xCD: "arithmetic-coded hierarchical",
    0xCE: "arithmetic-coded hierarchical",
    0xCF: "lossless arithmetic-coded hierarchical",
    0xDE: "hierarchical",
    0xF7: "lossless (JPEG-LS)",
}
_LOSSLESS = 0xC3
_PROGRESSIVE = {0xC2, 0xCA}
_ARITHMETIC = {0xC9, 0xCA}
_SOI, _EOI, _SOS, _DQT, _DHT, _DRI, _DAC = 0xD8, 0xD9, 0xDA, 0xDB, 0xC4, 0xDD, 0xCC
_APP0, _APP14, _APP15, _COM = 0xE0, 0xEE, 0xEF, 0xFE
_NEEDED = _SUPPORTED_FRAMES | {_SOS, _DQT, _DHT, _DRI, _DAC}

# Maximum number of scans. Encoders write about ten; the standard allows some hundreds. Each scan visits all blocks, so a small file
# with many scans of a large frame would keep a decoder busy for hours.
MAX_SCANS = 500
# Maximum side in pixels that libjpeg decodes.
MAX_SIDE = 65_500

# In entropy-coded data, 0xFF is followed by 0 (stuffing), a restart marker, or more 0xFF. Other codes from 0xC0 on end the data; smaller
# codes are reserved and appear in damaged files only, mostly where the stuffed 0 was changed.
_SCAN_END = re.compile(rb"\xff[\xc0-\xcf\xd8-\xfe]")
_RESERVED = re.compile(rb"\xff[\x01-\xbf]")
_RESTART = re.compile(rb"\xff[\xd0-\xd7]")
# Restart markers at the end of the data.
_LAST_RESTART = re.compile(rb"(?:\xff[\xd0-\xd7])+\Z")
# Any marker.
_MARKER = re.compile(rb"\xff[^\x00\xff]")

# The order in which a segment lists the 64 entries of a table: entry i belongs at natural (row by row) position ZIGZAG[i].
ZIGZAG = tuple(
    row * 8 + column
    for row, column in sorted(
        ((r, c) for r in range(8) for c in range(8)),
        key=lambda at: (at[0] + at[1], at[0] if (at[0] + at[1]) % 2 else at[1]),
    )
)

Table = tuple[int, ...]


@dataclass(frozen=True)
class Frame:
    """A frame header.

    Attributes:
        width, height: size of the picture in pixels.
        progressive: whether the coding is progressive.
        arithmetic: whether the coding is arithmetic.
        identifiers: identifier of each component in the file, not necessarily unique.
        sampling: (horizontal, vertical) sampling factors of each component.
        slots: number of each component's quantization table, 0 … 3.
    """

    width: int
    height: int
    progressive: bool
    arithmetic: bool
    identifiers: bytes
    sampling: tuple[tuple[int, int], ...]
    slots: tuple[int, ...]

    @property
    def blocks(self) -> list[tuple[int, int]]:
        """Rows and columns of 8×8 blocks per component (T.81, A.1.1 and A.2.4), the same as in libjpeg."""
        h_max, v_max = max(h for h, _ in self.sampling), max(v for _, v in self.sampling)
        return [(-(-self.height * v // (8 * v_max)), -(-self.width * h // (8 * h_max))) for h, v in self.sampling]


@dataclass
class Segments:
    """The parsed segments of a file.

    Attributes:
        frame: the frame header.
        tables: quantization steps per component, 64 in natural order, 0 where the file has 0; None for a component without a table.
        damaged: whether data is known to be missing or corrupt: scans that complete the picture, or bytes in scans. Only libjpeg can tell
            whether all blocks of a scan are there.
        stripped: the file for libjpeg, with only the segments that it needs.
        visits: total number of blocks that the scans visit.
        coded: number of bytes of entropy-coded data.
        restarts_dropped: whether `stripped` leaves out restart markers that seem misplaced.
        padding: the largest number of zero bytes at the end of a scan, which may be data or padding.
        application: marker and payload of each application segment and comment, in the order of the file.
        jfif: whether one of them is a JFIF header.
        adobe_transform: colour transform in Adobe's segment; None without such a segment.
        trailing: number of bytes after the end marker (a second picture, a video, a gain map).
    """

    frame: Frame
    tables: tuple[Table | None, ...]
    damaged: bool
    stripped: bytes
    visits: int
    coded: int
    padding: int
    restarts_dropped: bool
    application: tuple[tuple[int, bytes], ...]
    jfif: bool
    adobe_transform: int | None
    trailing: int


def walk(data: bytes, keep_restarts: bool = False) -> Segments:
    """Parse the segments of a JPEG file.

    Args:
        data: the whole file.
        keep_restarts: whether to keep restart markers that seem misplaced.

    Raises:
        UnreadableError: the file is empty, not a JPEG, or damaged before its picture data.
        UnsupportedError: the coding is lossless, hierarchical or 12-bit; or there are two components, or more than four.
        TooLargeError: a side is longer than MAX_SIDE.
        LimitError: the file has more than MAX_SCANS scans.
    """
    if not data:
        raise UnreadableError("the file is empty")
    if data[:3] != b"\xff\xd8\xff":
        raise UnreadableError("this is not a JPEG file")
    state = _State(keep_restarts=keep_restarts)
    position, ended = 2, False
    while not ended:
        try:
            marker, payload, position = _segment(data, position)
            ended = marker == _EOI
            state.take(marker, payload)
        except UnreadableError:
            if not state.scans:
                raise
            break
        if marker == _SOS:
            position = state.take_scan(data, position)
    # Zeros after the end are padding.
    return state.result(ended, len(data[position:].rstrip(b"\0")))


def lossless_segments(data: bytes) -> tuple[tuple[int, bytes], ...] | None:
    """Marker and payload of the application segments and comments of a lossless Huffman-coded JPEG; None for any other file."""
    if data[:3] != b"\xff\xd8\xff":
        return None
    state, position = _State(), 2
    try:
        while True:
            marker, payload, position = _segment(data, position)
            if marker in (_EOI, _SOS) or marker in _SUPPORTED_FRAMES or marker in _OTHER_FRAMES:
                return tuple(state.application) if marker == _LOSSLESS else None
            state.take(marker, payload)
    except RedecodeError:
        return None


def _segment(data: bytes, position: int) -> tuple[int, bytes, int]:
    """The next segment after a position: its marker, its payload, and the position after it."""
    # Any number of fill bytes 0xFF may precede a marker (B.1.1.2). Viewers skip other bytes too.
    found = _MARKER.search(data, position)
    if not found:
        raise UnreadableError("the file ends before its picture data begins")
    start, marker = found.start(), data[found.start() + 1]
    if marker == _EOI:
        return _EOI, b"", start + 2
    if start + 4 > len(data):
        raise UnreadableError("the file ends before its picture data begins")
    (length,) = struct.unpack_from(">H", data, start + 2)
    if marker < 0xC0 or 0xD0 <= marker <= _SOI:
        raise UnreadableError("the file is damaged: a marker was expected in its header")
    payload = data[start + 4 : start + 2 + length]
    if length < 2 or len(payload) != length - 2:
        raise UnreadableError("the file ends before its picture data begins")
    return marker, payload, start + 2 + length


@dataclass
class _State:
    frame: Frame | None = None
    slots: dict[int, Table] = field(default_factory=dict)
    tables: dict[int, Table] = field(default_factory=dict)
    scans: int = 0
    visits: int = 0
    coded: int = 0
    padding: int = 0
    corrupt: bool = False
    keep_restarts: bool = False
    restarts_dropped: bool = False
    restart_interval: int = 0
    # Number of low bits that are still missing of each coefficient, by component; None before its first scan.
    missing_bits: dict[int, list[int | None]] = field(default_factory=dict)
    kept: list[bytes] = field(default_factory=lambda: [b"\xff\xd8"])
    application: list[tuple[int, bytes]] = field(default_factory=list)
    jfif: bool = False
    adobe_transform: int | None = None

    def take(self, marker: int, payload: bytes) -> None:
        if marker in _SUPPORTED_FRAMES or marker in _OTHER_FRAMES:
            self._take_frame(marker, payload)
        elif marker == _DQT:
            self.slots.update(_quantization_tables(payload))
        elif marker == _DHT:
            _check_huffman_tables(payload)
        elif marker == _DAC:
            _check_arithmetic_conditioning(payload)
        elif marker == _DRI:
            if len(payload) != 2:
                raise UnreadableError("the file is damaged: its restart interval has a wrong length")
            (self.restart_interval,) = struct.unpack(">H", payload)
        elif marker == _SOS:
            payload = self._take_scan_header(payload)
        elif marker == _EOI:
            if not self.scans:
                raise UnreadableError("the file holds no picture")
        else:
            self._take_application_data(marker, payload)
        if marker in _SUPPORTED_FRAMES:
            count = (len(payload) - 6) // 3
            payload = b"".join([payload[:6], *(bytes([1 + i]) + payload[7 + 3 * i : 9 + 3 * i] for i in range(count))])
        if marker in _NEEDED:
            self.kept.append(struct.pack(">BBH", 0xFF, marker, len(payload) + 2) + payload)

    def take_scan(self, data: bytes, position: int) -> int:
        """Keep the entropy-coded data that begins at a position; return the position of its end."""
        found = _SCAN_END.search(data, position)
        end = found.start() if found else len(data)
        if end == position and self.scans == 1:
            raise UnreadableError("the file ends before its picture data begins")
        coded, repaired = _RESERVED.subn(b"\xff\x00", data[position:end])
        coded = _LAST_RESTART.sub(b"", coded)
        if not self.keep_restarts:
            length = len(coded)
            coded = _restarts_in_order(coded, self.restart_interval)
            self.restarts_dropped |= len(coded) < length
        self.padding = max(self.padding, len(coded) - len(coded.rstrip(b"\0")))
        self.kept.append(coded)
        self.coded += len(coded)
        self.corrupt |= bool(repaired)
        return end

    def result(self, ended: bool, trailing: int) -> Segments:
        assert self.frame is not None  # There was a scan, and a scan needs a frame.
        tables = tuple(self.tables.get(i, self.slots.get(slot)) for i, slot in enumerate(self.frame.slots))
        return Segments(
            frame=self.frame,
            tables=tables,
            damaged=self.corrupt or not self._complete(ended),
            stripped=b"".join([*self.kept, b"\xff\xd9"]),
            visits=self.visits,
            coded=self.coded,
            padding=self.padding,
            restarts_dropped=self.restarts_dropped,
            application=tuple(self.application),
            jfif=self.jfif,
            adobe_transform=self.adobe_transform,
            trailing=trailing,
        )

    def _complete(self, ended: bool) -> bool:
        """Whether the scans complete the picture. A file with an end marker may leave out coefficients that are all zero."""
        assert self.frame is not None
        for component in range(len(self.frame.identifiers)):
            bits = self.missing_bits.get(component)
            if bits is None or bits[0] is None or any(bits) or (None in bits and not ended):
                return False
        return True

    def _take_frame(self, marker: int, payload: bytes) -> None:
        if self.frame is not None:
            raise UnreadableError("the file is damaged: it has two frame headers")
        if marker in _OTHER_FRAMES:
            kind = _OTHER_FRAMES[marker]
            lossy = "lossless" not in kind
            advice = "save it as a PNG with a program that can open it" if lossy else "it has lost nothing, so there is nothing to restore"
            raise UnsupportedError(f"{kind} JPEG files are not supported; {advice}")
        self.frame = _parse_frame(marker, payload)

    def _take_scan_header(self, payload: bytes) -> bytes:
        """Check a scan header and return it in the form for libjpeg."""
        if self.frame is None:
            raise UnreadableError("the file is damaged: it has no frame header")
        if self.scans == MAX_SCANS:
            raise LimitError(f"the file has more than {MAX_SCANS} scans, far more than any encoder writes")
        count = payload[0] if payload else 0
        if count == 0 or len(payload) != 4 + 2 * count:
            raise UnreadableError("the file is damaged: a scan header is invalid")
        components = self._components(payload[1 : 1 + 2 * count : 2])
        blocks = self.frame.blocks
        # Sequential files always have these values: the bytes in the file are ignored.
        first, last, bits = payload[-3:] if self.frame.progressive else (0, 63, 0)
        for component in components:
            slot = self.frame.slots[component]
            if slot not in self.slots:
                raise UnreadableError("the file is damaged: a quantization table is missing")
            # A table may be replaced between scans; a component keeps the table of its first scan (B.2.4.1).
            self.tables.setdefault(component, self.slots[slot])
            self.visits += blocks[component][0] * blocks[component][1]
            missing = self.missing_bits.setdefault(component, [None] * 64)
            for coefficient in range(first, min(last, 63) + 1):
                missing[coefficient] = bits & 15
        self.scans += 1
        numbers = b"".join(bytes([1 + c, tables]) for c, tables in zip(components, payload[2 : 2 + 2 * count : 2], strict=True))
        return bytes([count]) + numbers + bytes([first, last, bits])

    def _components(self, identifiers: bytes) -> list[int]:
        """The components of a scan. If several have the same identifier, it is the next one without a scan so far."""
        assert self.frame is not None
        chosen: list[int] = []
        for identifier in identifiers:
            same = [i for i, own in enumerate(self.frame.identifiers) if own == identifier and i not in chosen]
            if not same:
                raise UnreadableError("the file is damaged: a scan header is invalid")
            chosen.append(next((i for i in same if i not in self.tables), same[0]))
        return chosen

    def _take_application_data(self, marker: int, payload: bytes) -> None:
        if _APP0 <= marker <= _APP15 or marker == _COM:
            self.application.append((marker, payload))
        if marker == _APP0 and payload[:5] == b"JFIF\0" and len(payload) >= 12:
            self.jfif = True
        elif marker == _APP14 and payload[:5] == b"Adobe" and len(payload) >= 12:
            self.adobe_transform = payload[11]


def _parse_frame(marker: int, payload: bytes) -> Frame:
    if len(payload) < 6:
        raise UnreadableError("the file is damaged: its frame header is too short")
    precision, height, width, count = struct.unpack_from(">BHHB", payload)
    if precision not in (8, 12):  # 16 bits exist in lossless coding only, which is refused earlier.
        raise UnreadableError("the file is damaged: its frame header is invalid")
    if precision != 8:
        raise UnsupportedError(f"{precision}-bit JPEG files are not supported; save it as an 8-bit PNG with a program that can open it")
    if width == 0 or height == 0:
        raise UnreadableError("the header gives the picture a size of zero")
    if max(width, height) > MAX_SIDE:
        raise TooLargeError(f"the header claims {width}×{height} pixels; no side may be longer than {MAX_SIDE}")
    if count not in (1, 3, 4):
        raise UnsupportedError(f"JPEG files of {count} components are not supported; convert it to gray, RGB or CMYK first")
    if len(payload) != 6 + 3 * count:
        raise UnreadableError("the file is damaged: its frame header has a wrong length")
    identifiers, factors, slots = payload[6::3], payload[7::3], payload[8::3]
    sampling = tuple((f >> 4, f & 15) for f in factors)
    if not all(1 <= h <= 4 and 1 <= v <= 4 for h, v in sampling):
        raise UnreadableError("the file is damaged: a sampling factor is out of range")
    if max(slots) > 3:
        raise UnreadableError("the file is damaged: its frame header is invalid")
    if count == 1:
        sampling = ((1, 1),)  # The sampling factors of a single component have no effect (A.2.2).
    return Frame(width, height, marker in _PROGRESSIVE, marker in _ARITHMETIC, identifiers, sampling, tuple(slots))


def _quantization_tables(payload: bytes) -> Iterator[tuple[int, Table]]:
    position = 0
    while position < len(payload):
        wide, slot = payload[position] >> 4, payload[position] & 15
        size = 128 if wide else 64
        entries = payload[position + 1 : position + 1 + size]
        if wide > 1 or slot > 3 or len(entries) != size:
            raise UnreadableError("the file is damaged: a quantization table is invalid")
        steps = struct.unpack(">64H", entries) if wide else tuple(entries)
        natural = [0] * 64
        for place, step in zip(ZIGZAG, steps, strict=True):
            natural[place] = step
        yield slot, tuple(natural)
        position += 1 + size


def _restarts_in_order(coded: bytes, interval: int) -> bytes:
    """Remove misplaced restart markers from a scan's data.

    Args:
        coded: entropy-coded data.
        interval: the restart interval; with 0 there are no restarts, so that each marker is misplaced.
    """
    found = list(_RESTART.finditer(coded))
    if not found:
        return coded
    numbers = [coded[marker.start() + 1] & 7 for marker in found]
    kept, expected, begin = [], 0, 0
    for index, marker in enumerate(found):
        # A marker with another number than expected is misplaced if the expected number follows soon; else the expected marker is missing.
        if interval == 0 or (numbers[index] != expected and expected in numbers[index + 1 : index + 3]):
            kept.append(coded[begin : marker.start()])
            begin = marker.end()
        else:
            expected = (numbers[index] + 1) % 8
    return b"".join([*kept, coded[begin:]])


def _check_huffman_tables(payload: bytes) -> None:
    position = 0
    while position < len(payload):
        slot, counts = payload[position], payload[position + 1 : position + 17]
        position += 17 + sum(counts)
        if slot & ~0x13 or len(counts) != 16 or sum(counts) > 256 or position > len(payload):
            raise UnreadableError("the file is damaged: a Huffman table is invalid")


def _check_arithmetic_conditioning(payload: bytes) -> None:
    # Pairs of a slot and a value; the value for DC is a lower and an upper bound (B.2.4.3).
    for slot, value in zip(payload[::2], payload[1::2], strict=False):
        low, high = value & 15, value >> 4
        if slot & ~0x13 or (slot < 0x10 and low > high) or (slot >= 0x10 and not 1 <= value <= 63):
            raise UnreadableError("the file is damaged: an arithmetic conditioning table is invalid")
    if len(payload) % 2:
        raise UnreadableError("the file is damaged: an arithmetic conditioning table is invalid")
