"""Fuzz the input of libjpeg: change frames, scans and tables at random, mostly so that the parser of markers accepts the file.

    python fuzz/coefficients.py 100000
    python fuzz/coefficients.py 2000 --stripped FOLDER

The first command reads the files, the second writes the input of libjpeg for fuzz/replay.c.
"""

from __future__ import annotations

import argparse
import collections
import struct
import time
from pathlib import Path

import numpy as np
import seeds

from redecode.codec import jpeg, markers
from redecode.errors import RedecodeError

_FRAMES = (0xC0, 0xC1, 0xC2, 0xC9, 0xCA)
_SOS, _DHT, _DRI, _DAC = 0xDA, 0xC4, 0xDD, 0xCC
_MAX_PIXELS = 1 << 16


def mutated(data: bytes, draw: np.random.Generator) -> bytes:
    """Apply one to four changes of the kinds below to a file."""
    content = bytearray(data)
    for _ in range(draw.integers(1, 5)):
        kind = _KINDS[draw.integers(len(_KINDS))]
        kind(content, draw)
    return bytes(content)


def _places(content: bytearray, markers: tuple[int, ...]) -> list[int]:
    """Offsets of segments, found by their markers."""
    return [i for i in range(2, len(content) - 12) if content[i] == 0xFF and content[i + 1] in markers]


def _place(content: bytearray, draw: np.random.Generator, *markers: int) -> int | None:
    found = _places(content, markers)
    return int(draw.choice(found)) if found else None


def _sampling(content: bytearray, draw: np.random.Generator) -> None:
    at = _place(content, draw, *_FRAMES)
    if at is not None:
        for i in range(content[at + 9]):
            if at + 11 + 3 * i < len(content) and draw.random() < 0.7:
                content[at + 11 + 3 * i] = int(draw.integers(1, 5)) << 4 | int(draw.integers(1, 5))


def _size(content: bytearray, draw: np.random.Generator) -> None:
    at = _place(content, draw, *_FRAMES)
    if at is not None:
        large = draw.random() < 0.1
        sides = (65_500, 1) if large else draw.integers(1, 200, 2)
        struct.pack_into(">HH", content, at + 5, *(sides if draw.random() < 0.5 else sides[::-1]))


def _coding(content: bytearray, draw: np.random.Generator) -> None:
    at = _place(content, draw, *_FRAMES)
    if at is not None:
        content[at + 1] = int(draw.choice(_FRAMES))


def _scan(content: bytearray, draw: np.random.Generator) -> None:
    """Other tables, spectral ranges and bit positions."""
    at = _place(content, draw, _SOS)
    if at is None or (end := at + 4 + 2 * content[at + 4] + 3) >= len(content):
        return
    if draw.random() < 0.5:
        content[at + 6 + 2 * int(draw.integers(content[at + 4] or 1))] = int(draw.choice([0, 1, 2, 3, 0x10, 0x11, 0x22, 0x33]))
    else:
        first = int(draw.integers(64))
        content[end - 2 : end + 1] = bytes([first, int(draw.integers(first, 64)), int(draw.choice([0, 1, 2, 0x10, 0x21, 0x0D, 0xD0]))])


def _one_component(content: bytearray, draw: np.random.Generator) -> None:
    """Reduce the components of an interleaved scan."""
    at = _place(content, draw, _SOS)
    if at is None or (count := content[at + 4]) not in (2, 3, 4):
        return
    keep = sorted(draw.choice(count, int(draw.integers(1, count)), replace=False))
    chosen = b"".join(content[at + 5 + 2 * i : at + 7 + 2 * i] for i in keep)
    tail = content[at + 5 + 2 * count : at + 8 + 2 * count]
    content[at : at + 8 + 2 * count] = struct.pack(">BBHB", 0xFF, _SOS, 6 + len(chosen), len(keep)) + chosen + tail


def _repeated_scan(content: bytearray, draw: np.random.Generator) -> None:
    found = _places(content, (_SOS,))
    if found:
        at = int(draw.choice(found))
        scan = content[at : min([i for i in found if i > at] or [len(content) - 2])]
        content[-2:-2] = scan * int(draw.integers(1, 4))


def _huffman(content: bytearray, draw: np.random.Generator) -> None:
    """Other code lengths or symbols."""
    at = _place(content, draw, _DHT)
    if at is not None:
        for _ in range(draw.integers(1, 4)):
            content[min(at + 4 + int(draw.integers(1, 60)), len(content) - 1)] = int(draw.integers(256))


def _segment(content: bytearray, draw: np.random.Generator) -> None:
    """A restart interval, or conditioning of the arithmetic coder, before a scan."""
    at = _place(content, draw, _SOS)
    if at is None:
        return
    if draw.random() < 0.5:
        made = struct.pack(">BBHH", 0xFF, _DRI, 4, int(draw.choice([0, 1, 2, 7, 65535])))
    else:
        low = int(draw.integers(16))
        dc = int(draw.integers(low, 16)) << 4 | low
        slot = int(draw.integers(16))
        made = struct.pack(">BBHBBBB", 0xFF, _DAC, 6, slot, dc, 0x10 | slot, int(draw.integers(1, 64)))
    content[at:at] = made


def _data(content: bytearray, draw: np.random.Generator) -> None:
    """Flipped bits after the first scan's header."""
    begin = (_places(content, (_SOS,)) or [2])[0] + 10
    for _ in range(draw.integers(1, 8)):
        content[min(begin + int(draw.integers(max(1, len(content) - begin))), len(content) - 1)] ^= 1 << int(draw.integers(8))


def _cut(content: bytearray, draw: np.random.Generator) -> None:
    begin = (_places(content, (_SOS,)) or [2])[0] + 14
    del content[begin + int(draw.integers(max(1, len(content) - begin))) :]


_KINDS = (_sampling, _sampling, _size, _coding, _scan, _scan, _one_component, _repeated_scan, _huffman, _segment, _data, _cut)


def _run(data: bytes) -> str:
    try:
        image = jpeg.read(data, _MAX_PIXELS)
    except RedecodeError as refusal:
        return f"{type(refusal).__name__}: {refusal}"
    return "read, damaged" if image.damaged else "read"


def _strip(data: bytes) -> bytes | None:
    try:
        segments = markers.walk(data)
    except RedecodeError:
        return None
    return segments.stripped if segments.frame.width * segments.frame.height <= _MAX_PIXELS else None


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("count", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--stripped", type=Path)
    arguments = parser.parse_args()
    if arguments.stripped:
        arguments.stripped.mkdir(parents=True, exist_ok=True)
    files = list(seeds.jpegs().values())
    outcomes: collections.Counter[str] = collections.Counter()
    slowest = 0.0
    for number in range(arguments.count):
        draw = np.random.default_rng((arguments.seed, number))
        data = mutated(files[number % len(files)], draw)
        if arguments.stripped:
            if stripped := _strip(data):
                (arguments.stripped / f"{number}.jpg").write_bytes(stripped)
            continue
        began = time.process_time()
        try:
            outcomes[_run(data)] += 1
        except Exception:
            Path(f"finding-{arguments.seed}-{number}.jpg").write_bytes(data)
            raise
        slowest = max(slowest, time.process_time() - began)
    for outcome, count in outcomes.most_common():
        print(f"{count:8} {outcome}")
    print(f"slowest: {slowest:.2f} s of CPU time")


if __name__ == "__main__":
    main()
