"""Tar archives that are damaged, compressed or malicious: each member is in the result, or is reported."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import struct
import sys
import tarfile
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from redecode import files
from redecode.bulk import archive, manifest, stores
from redecode.bulk.archive import Outcome
from redecode.cli import main as cli
from redecode.errors import UnreadableError

BLOCK = 512
PACKERS: dict[str, Callable[[bytes], bytes]] = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}


def jpeg(number: int) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, "JPEG", quality=30)
    return buffer.getvalue()


def member(name: str, data: bytes = b"", **named: Any) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for key, value in named.items():
        setattr(info, key, value)
    return info, data


def tar(*members: tuple[tarfile.TarInfo, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as made:
        for info, data in members:
            made.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def numbered(count: int = 6) -> bytes:
    return tar(*(member(f"{number:03d}.jpg", b"\xff\xd8" + bytes([number]) * 700) for number in range(count)))


def png(_: str) -> str:
    return ".png"


def restored(data: bytes, _: str) -> Any:
    """Replaces the decoder: the "picture" is the file itself, and files that do not begin like a JPEG fail."""
    if not data.startswith(b"\xff\xd8"):
        raise UnreadableError("this is no picture")
    return SimpleNamespace(data=data, notes=(), decoded=SimpleNamespace(picture=SimpleNamespace(width=1, height=1)))


def restore(data: bytes, folder: Path) -> tuple[Outcome, dict[str, bytes]]:
    """The outcome for an archive, and the files of the new archive, which is complete whatever is wrong with the old one."""
    (folder / "x.tar").write_bytes(data)
    result = io.BytesIO()
    outcome = archive.restore(folder / "x.tar", result, restored, png)
    assert outcome.count >= len(outcome.failures)
    again = io.BytesIO()
    assert not archive.restore(_written(folder / "y.tar", result.getvalue()), again, restored, png).failures
    result.seek(0)
    with tarfile.open(fileobj=result) as made:
        return outcome, {m.name: made.extractfile(m).read() for m in made if m.isfile() or m.islnk() or m.issym()}  # type: ignore[union-attr]


def _written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


@pytest.mark.slow
@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_flipped_header_bit_costs_one_member(tmp_path: Path, form: int) -> None:
    whole = tar(*(member(f"{number:03d}.jpg", b"\xff\xd8" + bytes([number]) * 700) for number in range(6)), form=form)
    rng = np.random.default_rng(form)
    for header in range(6):
        for bit in rng.choice(BLOCK * 8, 40, replace=False):
            outcome, made = restore(flipped(whole, header * 3 * BLOCK * 8 + int(bit)), tmp_path)
            # Some bits of the checksum field have no effect.
            assert (len(made), len(outcome.failures)) in {(5, 1), (6, 0)}, (header, bit)
            assert set(made) >= {f"{number:03d}.png" for number in range(6) if number != header}


def test_a_damaged_header_is_named(tmp_path: Path) -> None:
    whole = numbered()
    for bit in (148 * 8, 124 * 8, 257 * 8):
        outcome, _ = restore(flipped(whole, 3 * BLOCK * 8 + bit), tmp_path)
        assert list(outcome.failures) == ["001.jpg"]
        assert "header, at byte 1536, is damaged" in outcome.failures["001.jpg"]
        assert outcome.count == 6


@pytest.mark.parametrize("size", range(0, 9 * BLOCK, 200))
def test_a_cut_is_never_silent(tmp_path: Path, size: int) -> None:
    whole = numbered(3)
    if size < BLOCK:
        with pytest.raises(UnreadableError, match="no tar archive"):
            restore(whole[:size], tmp_path)
        return
    outcome, made = restore(whole[:size], tmp_path)
    assert outcome.failures
    assert list(made) == [f"{number:03d}.png" for number in range(3) if size >= (3 * number + 1) * BLOCK + 702]


def test_a_cut_between_members_is_never_silent(tmp_path: Path) -> None:
    for count in (1, 2, 3):
        outcome, made = restore(numbered(3)[: count * 3 * BLOCK], tmp_path)
        assert (len(made), list(outcome.failures)) == (count, ["(the end)"])
        assert "without an end mark" in outcome.failures["(the end)"]
    # One of the two end blocks is not enough; both suffice, without the padding after them.
    assert restore(numbered(3)[: 10 * BLOCK], tmp_path)[0].failures
    assert not restore(numbered(3)[: 11 * BLOCK], tmp_path)[0].failures


def test_all_bytes_are_accounted_for(tmp_path: Path) -> None:
    whole = numbered(3)
    end = 9 * BLOCK
    # Zeroed, overwritten, or moved by a byte.
    for begin, stop in ((0, BLOCK), (3 * BLOCK, 4 * BLOCK), (3 * BLOCK, 9 * BLOCK), (0, 3 * BLOCK)):
        outcome, made = restore(whole[:begin] + b"\xa5" * (stop - begin) + whole[stop:], tmp_path)
        assert outcome.failures, (begin, stop)
        assert made
    outcome, made = restore(whole[: 3 * BLOCK] + bytes(BLOCK) + whole[4 * BLOCK :], tmp_path)
    assert (list(made), list(outcome.failures)) == (["000.png", "002.png"], ["(byte 2048)"])
    outcome, made = restore(whole[: 3 * BLOCK] + whole[3 * BLOCK + 1 :], tmp_path)
    assert (list(made), bool(outcome.failures)) == (["000.png"], True)
    # Data after the end.
    outcome, made = restore(whole[: end + 2 * BLOCK] + b"more", tmp_path)
    assert (len(made), len(outcome.failures)) == (3, 1)
    # Concatenated archives.
    outcome, made = restore(whole + tar(member("more.jpg", b"\xff\xd8")), tmp_path)
    assert (len(made), outcome.failures) == (4, {})


def test_damaged_extended_headers(tmp_path: Path) -> None:
    names = ["a" * 150 + ".jpg", "ü.jpg", "z.jpg"]
    for form, limit in ((tarfile.PAX_FORMAT, 40), (tarfile.GNU_FORMAT, 20)):
        whole = tar(*(member(name, b"\xff\xd8" + b"\xaa" * 10) for name in names), form=form)
        assert set(restore(whole, tmp_path)[1]) == {name.replace(".jpg", ".png") for name in names}
        rng = np.random.default_rng(form)
        for bit in rng.choice(len(whole.rstrip(b"\0")) * 8, limit, replace=False):
            outcome, made = restore(flipped(whole, int(bit)), tmp_path)
            assert len(made) + len(outcome.failures) >= 3 or len(made) == 3


@pytest.mark.parametrize("kind", PACKERS)
def test_compressed(tmp_path: Path, kind: str) -> None:
    packed = PACKERS[kind](numbered())
    (tmp_path / "x.tar").write_bytes(packed)
    result = io.BytesIO()
    assert not archive.restore(tmp_path / "x.tar", result, restored, png).failures
    assert result.getvalue()[:2] == packed[:2]
    assert restore(packed, tmp_path)[1] == restore(numbered(), tmp_path)[1]
    again = io.BytesIO()
    archive.restore(_written(tmp_path / "x.tar", packed), again, restored, png)
    assert again.getvalue() == result.getvalue()


@pytest.mark.slow
@pytest.mark.parametrize("kind", PACKERS)
def test_damage_to_compressed_archives_is_never_silent(tmp_path: Path, kind: str) -> None:
    data = [np.random.default_rng(number).bytes(3000) for number in range(8)]
    whole = tar(*(member(f"{number}.jpg", b"\xff\xd8" + data[number]) for number in range(8)))
    packed, rng = PACKERS[kind](whole), np.random.default_rng(1)
    right = {f"{number}.png": b"\xff\xd8" + data[number] for number in range(8)}
    damaged = [packed[:size] for size in rng.integers(20, len(packed) - 1, 12)] + [packed + b"rubbish"]
    damaged += [flipped(packed, int(bit)) for bit in rng.integers(10 * 8, len(packed) * 8, 30)]
    kept = 0
    for variant in damaged:
        try:
            outcome, made = restore(variant, tmp_path)
        except UnreadableError:
            continue
        kept += len(made)
        assert outcome.failures or made == right
    assert kept > 30 or kind != "gz"


EVIL = ["../../../x.jpg", "/abs.jpg", "..\\w.jpg", "C:\\x.jpg", "c:y.jpg", "sub/../../z.jpg", "con.jpg", "sub/NUL.jpg"]
EVIL += ["\\\\host\\x.jpg", "a//b.jpg", "sub/.. /x.jpg", "_redecode/lock-1-of-1.jpg", "../text.txt", "/etc/passwd", "aux", "./../x.jpg"]


def test_names_that_lead_out_are_left_out(tmp_path: Path) -> None:
    picture = b"\xff\xd8 picture"
    outcome, made = restore(tar(*(member(name, picture) for name in [*EVIL, "./good.jpg", "sub/a.b.jpg", "sub/c.txt"])), tmp_path)
    assert list(made) == ["./good.png", "sub/a.b.png", "sub/c.txt"]
    assert set(outcome.failures) == set(EVIL)
    assert all("left out" in why for why in outcome.failures.values())


def test_links(tmp_path: Path) -> None:
    hard, soft = {"type": tarfile.LNKTYPE}, {"type": tarfile.SYMTYPE}
    outcome, made = restore(
        tar(
            member("./a.jpg", b"\xff\xd8 a"),
            member("broken.jpg", b"no picture"),
            member("t.txt", b"text"),
            member("sub/hard.jpg", linkname="./a.jpg", **hard),
            member("sub/soft.jpg", linkname="../a.jpg", **soft),
            member("sub/t.txt", linkname="t.txt", **hard),
            member("passwd.jpg", linkname="/etc/passwd", **soft),
            member("passwd.txt", linkname="../../etc/passwd", **soft),
            member("gone.jpg", linkname="gone-too.jpg", **hard),
            member("late.jpg", linkname="broken.jpg", **hard),
            member("pipe", type=tarfile.FIFOTYPE),
            member("disk.jpg", type=tarfile.BLKTYPE),
            member(".", type=tarfile.DIRTYPE),
            member("folder", type=tarfile.DIRTYPE),
            member("last.jpg", b"\xff\xd8 last"),
        ),
        tmp_path,
    )
    assert made == {
        "./a.png": b"\xff\xd8 a",
        "t.txt": b"text",
        "sub/hard.png": b"\xff\xd8 a",
        "sub/soft.png": b"\xff\xd8 a",
        "sub/t.txt": b"text",
        "last.png": b"\xff\xd8 last",
    }
    assert list(outcome.failures) == ["broken.jpg", "passwd.jpg", "passwd.txt", "gone.jpg", "late.jpg", "pipe", "disk.jpg"]


def test_one_stem_three_names(tmp_path: Path) -> None:
    names = ["a.jpeg", "a.jpg", "a.png", "b.JPG", "b.jpeg"]
    outcome, made = restore(tar(*(member(name, b"\xff\xd8" + name.encode()) for name in names)), tmp_path)
    assert {name: data[2:].decode() for name, data in made.items()} == {
        "a.png": "a.png",
        "a.jpg.png": "a.jpg",
        "a.jpeg.png": "a.jpeg",
        "b.png": "b.JPG",
        "b.jpeg.png": "b.jpeg",
    }
    assert outcome.failures == {}


def test_members_beyond_the_limit_are_not_read(tmp_path: Path) -> None:
    info, _ = member("huge.jpg", size=3 << 30)
    path = tmp_path / "x.tar"
    with open(path, "wb") as file:
        file.write(info.tobuf() + b"\xff\xd8")
        # A hole, which takes no space on disk.
        file.truncate(BLOCK + info.size)
        file.seek(0, os.SEEK_END)
        file.write(numbered(2))
    result = io.BytesIO()
    tracemalloc.start()
    outcome = archive.restore(path, result, restored, png)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert outcome.failures == {"huge.jpg": f"the file is larger than {files.MAX_BYTES >> 20} MiB"}
    assert outcome.count == 3
    assert peak < 1 << 20


def test_a_huge_extended_header_is_not_read(tmp_path: Path) -> None:
    info, _ = member("x", size=3 << 30, type=tarfile.XHDTYPE)
    outcome, made = restore(info.tobuf(tarfile.USTAR_FORMAT) + numbered(2), tmp_path)
    assert (list(made), len(outcome.failures)) == (["000.png", "001.png"], 1)


@pytest.mark.parametrize("data", [b"", b"no archive at all", b"\xff\xd8" * 5000, b"\x1f\x8b rubbish"])
def test_no_archive(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(UnreadableError, match="no tar archive"):
        restore(data, tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="names that are bytes")
def test_other_members_stay_as_they_were(tmp_path: Path) -> None:
    names = ["n\udcff.json", "long/" * 40 + "name.txt"]
    whole = tar(*(member(name, name.encode(errors="surrogateescape"), mtime=1_700_000_000.5, mode=0o640, uname="me") for name in names))
    (tmp_path / "x.tar").write_bytes(whole)
    result = io.BytesIO()
    archive.restore(tmp_path / "x.tar", result, restored, png)
    result.seek(0)
    with tarfile.open(fileobj=result, encoding="utf-8") as made:
        found = [(m.name, m.mtime, m.mode, m.uname, made.extractfile(m).read()) for m in made]  # type: ignore[union-attr]
    assert found == [(name, 1_700_000_000.5, 0o640, "me", name.encode(errors="surrogateescape")) for name in names]


def claiming(width: int, height: int) -> bytes:
    """A PNG of a kilobyte that claims to be of some size."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1 << 20))) + chunk(b"IEND", b"")


@pytest.mark.slow
def test_limits_hold_for_files_and_members(tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    huge = {"zeros.jpg": bytes(50 << 20), "claims.jpg": claiming(60_000, 60_000), "wide.jpg": claiming(400, 300), "good.jpg": jpeg(1)}
    (source / "x.tar").write_bytes(tar(*(member(name, data) for name, data in huge.items())))
    for name, data in huge.items():
        (source / name).write_bytes(data)
    options = ["--workers", "1", "--max-pixels", "0.01"]
    result = CliRunner().invoke(cli.command_app, ["bulk", str(source), str(out), *options])
    assert result.exit_code == 1, result.output
    assert "2 restored, 6 failed" in result.output
    rows = {row.input: row for row in manifest.rows(stores.make(str(out)))}
    for name in ("zeros.jpg", "claims.jpg", "wide.jpg"):
        assert rows["x.tar"].failures[name] == rows[name].message
    assert "pixels" in rows["wide.jpg"].message


@pytest.mark.slow
def test_the_command_names_what_is_lost(tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    whole = tar(*(member(f"{number}.jpg", jpeg(number)) for number in range(3)), member("evil/../../x.jpg", jpeg(4)))
    (source / "flipped.tar").write_bytes(flipped(whole, 8 * 100))
    (source / "cut.tar").write_bytes(whole[: BLOCK + -(-len(jpeg(0)) // BLOCK) * BLOCK])
    (source / "packed.tar.gz").write_bytes(gzip.compress(whole))
    (source / "packed.tgz").write_bytes(gzip.compress(tar(member("whole.jpg", jpeg(5)))))
    result = CliRunner().invoke(cli.command_app, ["bulk", str(source), str(out), "--workers", "1"])
    assert result.exit_code == 1, result.output
    assert "7 restored, 4 failed" in result.output
    rows = {row.input: row for row in manifest.rows(stores.make(str(out)))}
    assert list(rows["flipped.tar"].failures) == ["0.jpg", "evil/../../x.jpg"]
    assert list(rows["cut.tar"].failures) == ["(the end)"]
    assert list(rows["packed.tar.gz"].failures) == ["evil/../../x.jpg"]
    assert rows["packed.tgz"].failures == {}
    with tarfile.open(out / "packed.tar.gz", "r:gz") as made:
        assert made.getnames() == ["0.png", "1.png", "2.png"]
    assert "3 failed before" in CliRunner().invoke(cli.command_app, ["bulk", str(source), str(out)]).output
