"""Malicious files, through everything except the networks: restored or refused in bounded time, without output or leftovers."""

from __future__ import annotations

import io
import os
import shutil
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image

from redecode import files
from redecode.cli import main as cli
from redecode.cli import restore as restore_command
from redecode.codec import encode, jpeg, libjpeg, raster
from redecode.codec.encode import Encoding
from redecode.codec.formats import FORMATS
from redecode.codec.metadata import Metadata
from redecode.errors import LimitError, TooLargeError, UnreadableError
from redecode.options import Options

FUZZ = Path(__file__).parents[2] / "fuzz"
if not FUZZ.is_dir():
    pytest.skip("needs the fuzz folder of the repository", allow_module_level=True)
sys.path.insert(0, str(FUZZ))
import harness  # noqa: E402
import seeds  # noqa: E402

pytestmark = pytest.mark.slow

SOF0, SOS, DHT, EXIF = 0xC0, 0xDA, 0xC4, 0xE1
MARKERS = (0xC0, 0xC1, 0xC2, 0xC4, 0xC9, 0xCA, 0xCC, 0xD0, 0xD8, 0xD9, 0xDA, 0xDB, 0xDC, 0xDD, 0xE0, 0xE1, 0xE2, 0xEE, 0xFE, 0xFF)

places = st.integers(0, 4000)
edits = st.lists(
    st.one_of(
        st.tuples(st.just("bit"), places, st.integers(0, 7)),
        st.tuples(st.just("byte"), places, st.integers(0, 255)),
        st.tuples(st.just("marker"), places, st.sampled_from(MARKERS)),
        st.tuples(st.just("new marker"), places, st.sampled_from(MARKERS)),
        st.tuples(st.just("drop"), places, st.integers(1, 40)),
        st.tuples(st.just("twice"), places, st.integers(1, 200)),
        st.tuples(st.just("cut"), places, st.just(0)),
    ),
    min_size=1,
    max_size=5,
)


def edited(data: bytes, changes: list[tuple[str, int, int]]) -> bytes:
    content = bytearray(data)
    for kind, place, value in changes:
        if not content:
            break
        at = place % len(content)
        if kind == "bit":
            content[at] ^= 1 << value
        elif kind == "byte":
            content[at] = value
        elif kind == "marker":  # Replace an existing segment by another.
            found = [i for i in range(len(content) - 1) if content[i] == 0xFF and content[i + 1]]
            if found:
                content[found[place % len(found)] + 1] = value
        elif kind == "new marker":
            content[at:at] = bytes([0xFF, value])
        elif kind == "drop":
            del content[at : at + value]
        elif kind == "twice":
            content[at:at] = content[at : at + value]
        else:
            del content[at:]
    return bytes(content)


@settings(max_examples=1700, deadline=20_000, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.sampled_from(sorted(seeds.jpegs())), changes=edits)
def test_mutated_jpegs(seed: str, changes: list[tuple[str, int, int]]) -> None:
    harness.check(edited(seeds.jpegs()[seed], changes))


@settings(max_examples=700, deadline=20_000, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.sampled_from(sorted(seeds.rasters())), changes=edits)
def test_mutated_pictures_of_other_formats(seed: str, changes: list[tuple[str, int, int]]) -> None:
    harness.check(edited(seeds.rasters()[seed], changes))


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("seed", sorted(seeds.jpegs() | seeds.rasters()))
def test_seeds_are_restored(seed: str, name: str) -> None:
    data = (seeds.jpegs() | seeds.rasters())[seed]
    refusal = harness.check(data, Options(format=name, auto_orient=True, force_quality=30))
    assert refusal is None or "transparency" in str(refusal) or "animation" in str(refusal)


# Bombs.


def resized(data: bytes, width: int, height: int) -> bytes:
    at = next(i for i in range(len(data)) if data[i] == 0xFF and data[i + 1] in (0xC0, 0xC2, 0xC9, 0xCA))
    return data[: at + 5] + struct.pack(">HH", height, width) + data[at + 9 :]


@pytest.fixture
def no_libjpeg(monkeypatch: pytest.MonkeyPatch) -> None:
    def touched(_: object) -> None:
        raise AssertionError("the coefficients were to be read")

    monkeypatch.setattr(libjpeg, "read_coefficients", touched)


@pytest.mark.usefixtures("no_libjpeg")
def test_an_enormous_header_is_refused_before_anything_is_allocated() -> None:
    for seed in ("444", "progressive", "arithmetic"):
        with pytest.raises(TooLargeError, match="65500×65500"):
            jpeg.read(resized(seeds.jpegs()[seed], 65_500, 65_500))
    with pytest.raises(TooLargeError, match="longer"):
        jpeg.read(resized(seeds.jpegs()["gray"], 65_535, 1))


@pytest.mark.usefixtures("no_libjpeg")
@pytest.mark.parametrize("seed", ["gray", "420", "progressive", "cmyk"])
def test_a_large_header_without_data_is_refused(seed: str) -> None:
    with pytest.raises(UnreadableError, match="next to no data"):
        jpeg.read(resized(seeds.jpegs()[seed], 16_000, 16_000))


@pytest.mark.usefixtures("no_libjpeg")
def test_few_bytes_that_claim_much_are_refused_at_once() -> None:
    """A kilobyte for 16 megapixels, and very many arithmetic scans: both used to take many seconds."""
    for side in (1100, 4000):
        data = resized(seeds.jpegs()["420"], side, side)
        with pytest.raises(UnreadableError, match="next to no data"):
            jpeg.read(data)
    data = resized(seeds.jpegs()["arithmetic-progressive"], 7900, 8000)
    last = data.rindex(b"\xff\xda")
    with pytest.raises(LimitError, match="too little data"):
        jpeg.read(data[:-2] + data[last:-2] * 60 + data[-2:])


@pytest.mark.parametrize("progressive", [False, True])
def test_large_and_blank_is_no_bomb(progressive: bool) -> None:
    """Even the smallest pictures have many more bits than the limit; half a file is shown too."""
    buffer = io.BytesIO()
    Image.new("L", (4200, 4000), 77).save(buffer, "JPEG", progressive=progressive, optimize=True)
    data = buffer.getvalue()
    assert not jpeg.read(data).damaged
    assert jpeg.read(data[: len(data) // 2]).damaged


def test_a_large_arithmetic_file_may_be_tiny() -> None:
    """Arithmetic coding needs almost no bits for predictable data."""
    image = jpeg.read(resized(seeds.jpegs()["arithmetic"], 4200, 4000))
    assert image.components[0].coefficients.shape == (500, 525, 8, 8)


@pytest.mark.usefixtures("no_libjpeg")
def test_many_scans_over_a_large_picture_are_refused() -> None:
    data = resized(seeds.jpegs()["progressive-444"], 9000, 9000)
    last = data.rindex(b"\xff\xda")
    enough = bytes(200_000)  # For the size in the header.
    with pytest.raises(LimitError, match="scans"):
        jpeg.read(data[:-2] + enough + data[last:-2] * 400 + data[-2:])


def test_the_costliest_file_allowed_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Arithmetic refinement without data, the most expensive visits, at a reduced limit."""
    data = seeds.jpegs()["arithmetic-progressive"]
    data = resized(data, 1600, 1600)
    last = data.rindex(b"\xff\xda")
    began = time.process_time()
    image = jpeg.read(data[:-2] + data[last:-2] * 40 + data[-2:])
    seconds = time.process_time() - began
    visits = 40 * image.components[0].coefficients.shape[0] * image.components[0].coefficients.shape[1]
    assert seconds / visits * jpeg.MAX_VISITS < 300


def test_headers_of_many_megabytes_are_read_in_linear_time() -> None:
    data = seeds.jpegs()["metadata"]
    piece = struct.pack(">BBH", 0xFF, EXIF, 9) + b"Exif\0\0x"
    began = time.process_time()
    assert jpeg.read(data[:2] + piece * 300_000 + data[2:]).metadata.exif is not None
    jpeg.read(data[:2] + b"\xff" * 20_000_000 + data[2:])
    assert time.process_time() - began < 20


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(*before: bytes, size: tuple[int, int] = (8, 8)) -> bytes:
    header = struct.pack(">IIBBBBB", *size, 8, 2, 0, 0, 0)
    rows = zlib.compress((b"\0" + bytes(24)) * 8)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(before) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def tiff(width: int, height: int) -> bytes:
    entries = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 8), (262, 3, 1, 1), (273, 4, 1, 8), (278, 4, 1, height)]
    entries.append((279, 4, 1, 20))
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *e) for e in entries) + bytes(4)


def gif(width: int, height: int) -> bytes:
    palette = bytes(6)
    image = b"," + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\x02\x02\x4c\x01\x00;"
    return b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + palette + image


def webp(width: int, height: int) -> bytes:
    bits = (width - 1) | (height - 1) << 14
    body = b"VP8L" + struct.pack("<I", 10) + b"\x2f" + struct.pack("<I", bits) + bytes(5)
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


BOMB = zlib.compress(bytes(200_000_000), 9)


@pytest.mark.parametrize(
    "data",
    [
        png(size=(60_000, 60_000)),
        png(size=(16_000, 16_000)),
        tiff(60_000, 60_000),
        tiff(1 << 31, 3),
        gif(65_535, 65_535),
        webp(16_384, 16_384),
        png(chunk(b"zTXt", b"Comment\0\0" + BOMB)),
        png(chunk(b"iCCP", b"icc\0\0" + BOMB)),
        png(*[chunk(b"tEXt", b"k%d\0" % i + bytes(1_000_000)) for i in range(80)]),
    ],
    ids=["png", "png 256 MP", "tiff", "tiff 2 GP", "gif", "webp", "text", "profile", "much text"],
)
def test_bombs_of_other_formats(data: bytes) -> None:
    """In a separate process, with a gigabyte more than it uses after its imports."""
    code = """
import resource, sys
sys.path.insert(0, sys.argv[1])
import harness, seeds
from redecode.options import Options
harness.check(seeds.rasters()["png"])
size = int(open("/proc/self/statm").read().split()[0]) * 4096
resource.setrlimit(resource.RLIMIT_AS, (size + (1 << 30), -1))
began = __import__("time").process_time()
print(type(harness.check(sys.stdin.buffer.read(), Options())).__name__)
assert __import__("time").process_time() - began < 20
"""
    if not os.path.isdir("/proc/self"):
        pytest.skip("needs /proc")
    done = subprocess.run([sys.executable, "-c", code, str(FUZZ)], input=data, capture_output=True, timeout=120)
    assert done.stderr == b""
    assert done.stdout.decode().strip() in ("TooLargeError", "UnreadableError", "NoneType")


@pytest.mark.parametrize("key", ["exif", "icc_profile", "dpi", "xmp", "comment", "gamma", "transparency"])
def test_texts_named_like_what_pillow_keeps_there(key: str) -> None:
    data = png(chunk(b"tEXt", key.encode() + b"\0some text"))
    for name in FORMATS:
        harness.check(data, Options(format=name, force_quality=30))


# Findings of fuzzing, as regression tests.


def exif_of(**tags: object) -> bytes:
    exif = Image.Exif()
    for name, value in tags.items():
        exif[ExifTags.Base[name]] = value
    return exif.tobytes()


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


PIXELS = np.random.default_rng(3).integers(0, 256, (12, 20, 3), dtype=np.uint8)


def test_tags_of_another_files_storage_stay_out_of_a_tiff() -> None:
    odd = exif_of(ImageWidth=4000, ImageLength=3000, RowsPerStrip=0, SubIFDs=8, Compression=6, Make="Maker")
    image = opened(encode.encode(PIXELS, Metadata(exif=odd), Encoding("tiff")))
    np.testing.assert_array_equal(np.asarray(image), PIXELS)
    assert image.getexif()[ExifTags.Base.Make] == "Maker"


def test_the_folders_of_exif_survive_in_a_tiff() -> None:
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = "2020:01:02 03:04:05"
    exif.get_ifd(ExifTags.IFD.GPSInfo)[1] = "N"
    image = opened(encode.encode(PIXELS, Metadata(exif=exif.tobytes()), Encoding("tiff")))
    np.testing.assert_array_equal(np.asarray(image), PIXELS)
    assert image.getexif().get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] == "2020:01:02 03:04:05"
    assert image.getexif().get_ifd(ExifTags.IFD.GPSInfo)[1] == "N"


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.filterwarnings("error")
def test_odd_metadata_does_not_stop_the_writing(name: str, depth: int) -> None:
    if depth == 16 and name not in ("png", "tiff"):
        pytest.skip("8 bits")
    latin = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x0e\0\x02\0\0\0\x04\xfc\xe4\xf6\0\0\0\0\0"
    cut_short = latin.replace(b"\x08\0\x01", b"\x08\0\x09")
    orientation_in_words = latin.replace(b"\x01\x0e", b"\x01\x12")
    for exif, dpi in ((latin, None), (cut_short, None), (orientation_in_words, None), (None, (4e9, 4e9))):
        turned, after = encode.upright(PIXELS, Metadata(exif=exif, dpi=dpi))
        pixels = turned if depth == 8 else turned.astype(np.uint16) * 257
        assert encode.encode(pixels, after, Encoding(name))


@pytest.mark.parametrize("seed", ["tiff-lzw", "tiff-deflate", "tiff-jpeg", "tiff-fax", "avif", "webp"])
def test_damaged_data_is_refused_in_silence(seed: str, capfd: pytest.CaptureFixture[str]) -> None:
    data = bytearray(seeds.rasters()[seed])
    for start in range(20, len(data), 97):
        damaged = bytes(data[:start]) + bytes(b ^ 0x55 for b in data[start : start + 9]) + bytes(data[start + 9 :])
        harness.check(damaged)
        with suppress(UnreadableError, TooLargeError):
            raster.read(damaged)
    assert capfd.readouterr() == ("", "")


def test_too_many_samples_per_pixel_is_said_by_us_alone(capfd: pytest.CaptureFixture[str]) -> None:
    """Pillow logs this, and Python prints log messages without a handler."""
    data = tiff(4, 4).replace(struct.pack("<HHII", 278, 4, 1, 4), struct.pack("<HHII", 277, 3, 1, 999))
    with pytest.raises(UnreadableError):
        raster.read(data)
    assert capfd.readouterr() == ("", "")


def test_a_picture_that_pillow_finds_too_large_is_no_damaged_one() -> None:
    with pytest.raises(TooLargeError):
        raster.read(png(size=(15_000, 15_000)))


def test_what_stands_between_segments_is_stepped_over() -> None:
    """As in viewers, an application segment that is shorter or longer than its length field does not prevent reading."""
    data = seeds.jpegs()["420"]
    at = seeds.segment(data, 0xDB)
    for junk in (b"hello", b"\xff\0\0\x02", b"\0" * 3000):
        image = jpeg.read(data[:at] + junk + data[at:])
        np.testing.assert_array_equal(image.planes(), jpeg.read(data).planes())
    assert not jpeg.read(data[:at] + b"\xff" * 9 + data[at:]).damaged


# Folders, disks and streams.


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """The command within this process, without networks: exit code and output."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(restore_command, "make_decoder", lambda *_: harness.Identity())
        monkeypatch.setattr(sys, "argv", ["redecode", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        printed = capsys.readouterr()
        return int(exit_.value.code or 0), printed.out, printed.err

    return call


posix = pytest.mark.skipif(os.name != "posix", reason="POSIX files")


@posix
def test_loops_devices_and_files_that_vanish(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        (folder / name).write_bytes(seeds.jpegs()["420"])
    (folder / "loop.jpg").symlink_to(folder / "loop.jpg")
    (folder / "zero.jpg").symlink_to("/dev/zero")
    (folder / "up").symlink_to(tmp_path)
    read = files.read

    def vanishing(source: Path) -> bytes:
        if source.name == "b.jpg":
            source.unlink()
        return read(source)

    monkeypatch.setattr(files, "read", vanishing)
    code, out, err = run(folder, "-o", tmp_path / "out")
    assert code == 1
    assert sorted(Path(line).name for line in out.splitlines()) == ["a.png", "c.png"]
    assert "b.jpg: no such file" in err
    assert "loop.jpg: too many levels" in err
    assert "zero.jpg" not in err
    assert "Traceback" not in err


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    if sys.platform != "linux" or os.geteuid() != 0 or not shutil.which("mount"):
        pytest.skip("only root may mount a small disk")
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(folder)], capture_output=True).returncode:
        pytest.skip("no disk may be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk(run, small_disk: Path, tmp_path: Path) -> None:
    """Results that fit are complete; others are reported, and leave no file."""
    (tmp_path / "in").mkdir()
    for name in ("a.jpg", "b.jpg", "c.jpg", "d.jpg"):
        (tmp_path / "in" / name).write_bytes(jpeg.compress(np.random.default_rng(0).integers(0, 256, (40, 48, 3), dtype=np.uint8), 90))
    code, out, err = run(tmp_path / "in", "-o", small_disk)
    written = sorted(small_disk.iterdir())
    assert code == 1
    assert [str(path) for path in written] == out.splitlines()
    assert 1 <= len(written) <= 3
    assert err.count("no space left on device") == 4 - len(written)
    for path in written:
        assert opened(path.read_bytes()).size == (48, 40)


def test_a_read_only_disk(run, small_disk: Path, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(seeds.jpegs()["420"])
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    code, out, err = run(tmp_path / "a.jpg", "-o", small_disk / "a.png")
    assert (code, out) == (2, "")
    assert "read-only file system" in err


@posix
@pytest.mark.parametrize("stream", [1, 2])
def test_closed_streams(stream: int, tmp_path: Path) -> None:
    """There may be no stderr."""
    (tmp_path / "a.jpg").write_bytes(seeds.jpegs()["420"][:-100])
    code = "import harness, sys; from redecode.cli import main, restore; restore.make_decoder = lambda *_: harness.Identity(); main.main()"
    command = f'exec "$@" {stream}>&-'
    done = subprocess.run(
        ["sh", "-c", command, "sh", sys.executable, "-c", code, "a.jpg"],
        capture_output=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(FUZZ), *filter(None, [os.environ.get("PYTHONPATH")])])},
        timeout=60,
    )
    assert b"Traceback" not in done.stderr
    assert opened((tmp_path / "a.redecoded.png").read_bytes()).size == (40, 24)
