"""jpeg.py against Pillow's decoder, and against files that mean no good."""

from __future__ import annotations

import concurrent.futures
import io
import os
import signal
import struct
import threading
import time
from dataclasses import replace
from pathlib import Path

import jpeglib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from redecode.codec import jpeg, libjpeg, markers
from redecode.codec.metadata import Metadata
from redecode.errors import DependencyError, LimitError, RedecodeError, TooLargeError, UnreadableError, UnsupportedError

DATA = Path(__file__).parent / "data"
SOF0, SOF2, SOS, DQT, DHT, DRI, COM = 0xC0, 0xC2, 0xDA, 0xDB, 0xC4, 0xDD, 0xFE


def picture(height: int = 61, width: int = 83, seed: int = 0) -> np.ndarray:
    """Gradients, noise, and edges like those of text; uint8 [H, W, 3]."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    image = np.stack([columns * 3, rows * 4, 255 - columns * 2], -1) + rng.normal(0, 12, (height, width, 3))
    image[height // 4 : height // 2, width // 3 : 2 * width // 3] = 250
    image[height // 3 : height // 3 + 6, width // 2 : width // 2 + 2] = 5
    return image.clip(0, 255).astype(np.uint8)


def encode(image: np.ndarray, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", **{"quality": 30, **options})
    return buffer.getvalue()


def reference(data: bytes) -> np.ndarray:
    """Pillow's decode as it leaves libjpeg: float [components, H, W] without colour conversion."""
    with Image.open(io.BytesIO(data)) as image:
        image.draft("L" if image.mode == "L" else "YCbCr", image.size)
        pixels = np.asarray(image, dtype=np.float64)
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def distance(data: bytes) -> np.ndarray:
    """Largest difference to Pillow's decode, per plane, in levels. Like libjpeg, samples are clipped before they are interpolated."""
    image = jpeg.read(data)
    clipped = replace(image, components=tuple(Clipped(**vars(c)) for c in image.components))
    return np.abs(clipped.planes() - reference(data)).max((1, 2))


class Clipped(jpeg.Component):
    def plane(self) -> np.ndarray:
        return super().plane().clip(0, 255)


def segment(data: bytes, marker: int) -> int:
    """Where the first segment of a marker begins."""
    position = 2
    while data[position + 1] != marker:
        position += 2 + struct.unpack_from(">H", data, position + 2)[0]
    return position


def patched(data: bytes, position: int, *values: int) -> bytes:
    return data[:position] + bytes(values) + data[position + len(values) :]


def with_segment(data: bytes, marker: int, payload: bytes, before: int = SOS) -> bytes:
    at = segment(data, before)
    return data[:at] + struct.pack(">BBH", 0xFF, marker, len(payload) + 2) + payload + data[at:]


def transposed(data: bytes, path: Path) -> bytes:
    """A lossless transposition through jpeglib: 4:2:2 becomes 4:4:0."""
    (path / "in.jpg").write_bytes(data)
    image = jpeglib.read_dct(path / "in.jpg")
    image.load()
    flipped = [np.ascontiguousarray(c.transpose(1, 0, 3, 2)) for c in (image.Y, image.Cb, image.Cr)]
    tables = np.ascontiguousarray(image.qt.transpose(0, 2, 1))
    result = jpeglib.from_dct(*flipped, qt=tables)
    result.height, result.width = image.width, image.height
    result.samp_factor = image.samp_factor[:, ::-1]
    result.write_dct(str(path / "out.jpg"))
    return (path / "out.jpg").read_bytes()


# libjpeg's inverse DCT in integers, rounded to a level, errs by little over half a level beside one in floats. Chroma is then interpolated
# from such samples and rounded again: little over one level.
EXACT, INTERPOLATED = 0.75, 1.05


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("subsampling", jpeg.SUBSAMPLINGS)
@pytest.mark.parametrize("quality", [5, 30, 95])
def test_colour_agrees_with_pillow(subsampling: str, progressive: bool, quality: int) -> None:
    data = encode(picture(), subsampling=subsampling, progressive=progressive, quality=quality)
    image = jpeg.read(data)
    assert (image.width, image.height, image.subsampling) == (83, 61, subsampling)
    assert image.progressive is progressive
    assert not image.gray
    assert not image.damaged
    assert distance(data)[0] <= EXACT
    assert (distance(data)[1:] <= (EXACT if subsampling == "4:4:4" else INTERPOLATED)).all()


@pytest.mark.parametrize("progressive", [False, True])
def test_gray_agrees_with_pillow(progressive: bool) -> None:
    data = encode(picture()[..., 1], progressive=progressive)
    image = jpeg.read(data)
    assert image.gray
    assert image.subsampling == "gray"
    assert image.tables().shape == (2, 8, 8)
    assert (image.tables()[1] == 1).all()
    assert distance(data) <= EXACT


@pytest.mark.slow
@pytest.mark.parametrize("subsampling", jpeg.SUBSAMPLINGS)
def test_odd_sizes(subsampling: str) -> None:
    for height in range(1, 18):
        for width in (1, 2, 7, 8, 9, 15, 16, 17):
            data = encode(picture(height, width), subsampling=subsampling, quality=60)
            image = jpeg.read(data)
            assert image.planes().shape == (3, height, width)
            if subsampling == "4:2:0" and width <= 4:
                # libjpeg-turbo has no triangle filter for pictures this narrow and repeats samples.
                assert distance(data)[0] <= EXACT
            else:
                assert (distance(data) <= INTERPOLATED).all(), (height, width)


def test_440(tmp_path: Path) -> None:
    data = transposed(encode(picture(64, 80), subsampling="4:2:2"), tmp_path)
    assert jpeg.read(data).subsampling == "4:4:0"
    assert (distance(data) <= INTERPOLATED).all()


def test_411(tmp_path: Path) -> None:
    """Pillow repeats samples by 4 where we interpolate: compared are the chroma samples, not what is made of them."""
    data = four_to_one(tmp_path)
    image = jpeg.read(data)
    assert image.subsampling == "4:1:1"
    assert distance(data)[0] <= EXACT
    for component, plane in zip(image.components[1:], reference(data)[1:], strict=True):
        assert np.abs(component.plane().clip(0, 255) - plane[:, ::4]).max() <= EXACT


def four_to_one(path: Path) -> bytes:
    """A 4:1:1 file: the chroma blocks of a 4:4:4 file, every fourth of them, under the luma of the whole."""
    (path / "in.jpg").write_bytes(encode(picture(64, 96), subsampling="4:4:4"))
    image = jpeglib.read_dct(path / "in.jpg")
    image.load()
    result = jpeglib.from_dct(image.Y, *(np.ascontiguousarray(c[:, ::4]) for c in (image.Cb, image.Cr)), qt=image.qt)
    result.height, result.width = 64, 96
    result.samp_factor = np.array([[1, 4], [1, 1], [1, 1]])
    result.write_dct(str(path / "out.jpg"))
    return (path / "out.jpg").read_bytes()


@pytest.mark.parametrize("options", [{"restart_marker_blocks": 2}, {"restart_marker_rows": 1}])
def test_restart_markers(options: dict[str, int]) -> None:
    data = encode(picture(), **options)
    assert b"\xff\xd0" in data
    assert not jpeg.read(data).damaged
    assert (distance(data) <= INTERPOLATED).all()


def test_custom_tables_are_read_in_natural_order() -> None:
    luma, chroma = list(range(1, 65)), list(range(101, 165))
    with_tables = encode(picture(), qtables=[luma, chroma], quality=50, subsampling="4:4:4")
    assert jpeg.read(with_tables).tables().reshape(2, 64).tolist() == [luma, chroma]
    with Image.open(io.BytesIO(with_tables)) as image:
        assert [list(image.quantization[i]) for i in (0, 1)] == [luma, chroma]
    assert (distance(with_tables) <= EXACT).all()


def test_sixteen_bit_tables() -> None:
    data = encode(picture()[..., 0])
    at = segment(data, DQT)
    # Pillow's encoder has no way to write them. Its own steps, first, so that its decoder's integers do not overflow.
    own = jpeg.read(data).tables()[0].reshape(-1).tolist()
    for steps in (own, [3 + 20 * i for i in range(64)]):
        zigzag = [steps[place] for place in markers.ZIGZAG]
        wide = data[:at] + struct.pack(">BBHB64H", 0xFF, DQT, 131, 0x10, *zigzag) + data[at + 69 :]
        assert jpeg.read(wide).tables()[0].reshape(-1).tolist() == steps
        if steps == own:
            assert distance(wide) <= EXACT


def test_a_table_replaced_between_scans_serves_later_components_only() -> None:
    data = encode(picture(32, 32), subsampling="4:4:4", progressive=True)
    before = jpeg.read(data).tables()
    last_scan = data.rindex(b"\xff\xda")
    late = data[:last_scan] + struct.pack(">BBHB", 0xFF, DQT, 67, 0) + bytes([9] * 64) + data[last_scan:]
    assert (jpeg.read(late).tables() == before).all()


def test_coefficients_are_those_of_jpeglib(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(encode(picture()))
    theirs = jpeglib.read_dct(path)
    theirs.load()
    for component, expected in zip(jpeg.read(path.read_bytes()).components, (theirs.Y, theirs.Cb, theirs.Cr), strict=True):
        assert (component.coefficients == expected).all()


def test_metadata() -> None:
    exif = Image.Exif()
    exif[0x010E] = "a description"
    profile = bytes(range(256)) * 400  # Over 64 KiB: two chunks.
    data = encode(picture(), exif=exif.tobytes(), icc_profile=profile, dpi=(300, 150))
    metadata = jpeg.read(data).metadata
    assert metadata == Metadata(exif=exif.tobytes(), icc_profile=profile, dpi=(300, 150))
    assert jpeg.read(encode(picture())).metadata == Metadata()


def test_resolution_in_exif_and_per_centimetre() -> None:
    exif = Image.Exif()
    exif[0x011A], exif[0x011B], exif[0x0128] = 100.0, 50.0, 3
    data = encode(picture(), exif=exif.tobytes())
    assert jpeg.read(data).metadata.dpi == pytest.approx((254, 127))
    centimetres = encode(picture(), dpi=(100, 100))
    assert jpeg.read(patched(centimetres, segment(centimetres, 0xE0) + 11, 2)).metadata.dpi == (254, 254)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_broken_metadata_is_no_reason_to_fail() -> None:
    data = with_segment(encode(picture()), 0xE1, b"Exif\0\0II*\0\xff\xff\xff\xff", before=SOF0)
    data = with_segment(data, 0xE2, b"ICC_PROFILE\0\x02\x02half", before=SOF0)
    metadata = jpeg.read(data).metadata
    assert metadata.icc_profile is None
    assert metadata.dpi is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b"GIF89a" * 20,
        b"\xff\xd8\xff",
        b"\xff\xd8\xff\xd9",
        bytes(1000),
        b"\xff\xd8\xff\xe0\x00\x00",
        b"\xff\xd8" + b"\xff" * 500,
    ],
    ids=["empty", "one byte", "gif", "three bytes", "no picture", "zeros", "length 0", "fill bytes"],
)
def test_no_jpeg(data: bytes) -> None:
    with pytest.raises(UnreadableError):
        jpeg.read(data)


def test_every_truncation_of_the_header_is_unreadable() -> None:
    data = encode(picture(16, 16))
    scan = segment(data, SOS)
    begin = scan + 2 + struct.unpack_from(">H", data, scan + 2)[0]
    for length in range(begin + 1):
        with pytest.raises(UnreadableError):
            jpeg.read(data[:length])


@pytest.mark.parametrize("marker", [0xC3, 0xC5, 0xC6, 0xC7, 0xCB, 0xCD, 0xCE, 0xCF, 0xF7])
def test_other_codings_are_refused_by_name(marker: int) -> None:
    data = encode(picture())
    with pytest.raises(UnsupportedError, match=r"lossless|hierarchical|JPEG-LS"):
        jpeg.read(patched(data, segment(data, SOF0) + 1, marker))


def test_twelve_bits() -> None:
    data = encode(picture())
    with pytest.raises(UnsupportedError, match="12-bit"):
        jpeg.read(patched(data, segment(data, SOF0) + 4, 12))


def cmyk(transform: int) -> bytes:
    """A file of four components; the transform of Adobe's segment tells CMYK (0) from YCCK (2)."""
    buffer = io.BytesIO()
    Image.fromarray(np.dstack([picture(), picture()[..., 0]]), "CMYK").save(buffer, "JPEG", quality=30)
    data = buffer.getvalue()
    return patched(data, segment(data, 0xEE) + 15, transform)


@pytest.mark.parametrize(
    ("data", "model", "parts"),
    [
        (encode(picture(), keep_rgb=True), "RGB", ["gray"] * 3),
        (cmyk(0), "CMYK", ["gray"] * 4),
        (cmyk(2), "YCCK", ["YCbCr", "gray"]),
        (encode(picture()), "YCbCr", ["YCbCr"]),
        (encode(picture()[..., 0]), "gray", ["gray"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_colour_models(data: bytes, model: str, parts: list[str]) -> None:
    image = jpeg.read(data)
    assert image.colour_model == model
    assert [part.colour_model for part in image.parts()] == parts
    planes = np.concatenate([part.planes() for part in image.parts()])
    np.testing.assert_array_equal(planes, image.planes())


@pytest.mark.parametrize("name", ["arithmetic.jpg", "arithmetic-progressive.jpg"])
def test_arithmetic_coding(name: str) -> None:
    """The files hold the very coefficients of the Huffman-coded one beside them (jpegtran -arithmetic)."""
    image, reference = (jpeg.read((DATA / n).read_bytes()) for n in (name, "huffman.jpg"))
    assert not image.damaged
    for ours, theirs in zip(image.components, reference.components, strict=True):
        np.testing.assert_array_equal(ours.coefficients, theirs.coefficients)


@pytest.mark.parametrize(
    ("pairs", "sound"),
    [
        ([], True), ([(0, 0x00)], True), ([(0, 0x10)], True), ([(0, 0x11)], True), ([(0, 0xFF)], True), ([(0, 0x01)], False),
        ([(0, 0xEF)], False),
        ([(0x10, 1)], True), ([(0x10, 63)], True), ([(0x10, 0)], False), ([(0x10, 64)], False), ([(0x10, 255)], False),
        ([(3, 0)], True), ([(0x13, 5)], True), ([(4, 0)], False), ([(0x14, 5)], False), ([(0x20, 5)], False), ([(0x23, 5)], False),
        ([(0, 0x10), (0x10, 0)], False), ([(0x10, 5), (1, 0x10), (0x11, 5)], True),
    ],
)  # fmt: skip
def test_arithmetic_conditioning(pairs: list[tuple[int, int]], sound: bool) -> None:
    """T.81, B.2.4.3: slots 0 to 3; of DC a lower bound that is not above the upper; of AC 1 to 63."""
    data = with_segment((DATA / "arithmetic.jpg").read_bytes(), 0xCC, b"".join(bytes(pair) for pair in pairs))
    if sound:
        jpeg.read(data)
    else:
        with pytest.raises(UnreadableError, match="conditioning"):
            jpeg.read(data)


def test_arithmetic_conditioning_of_an_odd_length() -> None:
    for content in (b"\0", b"\0\0\x10"):
        with pytest.raises(UnreadableError, match="conditioning"):
            jpeg.read(with_segment((DATA / "arithmetic.jpg").read_bytes(), 0xCC, content))


@pytest.mark.parametrize("offset", [5, 7], ids=["height", "width"])
def test_size_zero(offset: int) -> None:
    data = encode(picture())
    with pytest.raises(UnreadableError, match="zero"):
        jpeg.read(patched(data, segment(data, SOF0) + offset, 0, 0))


def test_two_frames() -> None:
    data = encode(picture())
    at = segment(data, SOF0)
    frame = data[at + 4 : at + 2 + struct.unpack_from(">H", data, at + 2)[0]]
    with pytest.raises(UnreadableError, match="two frame headers"):
        jpeg.read(with_segment(data, SOF0, frame))


def test_max_pixels() -> None:
    data = encode(picture(10, 10))
    assert jpeg.read(data, max_pixels=100).width == 10
    with pytest.raises(TooLargeError, match="10×10"):
        jpeg.read(data, max_pixels=99)
    with pytest.raises(TooLargeError):
        jpeg.read(patched(data, segment(data, SOF0) + 5, 0xFF, 0xDC, 0xFF, 0xDC))


SCAN_TROUBLE = {
    "no component": lambda d: patched(d, segment(d, SOS) + 4, 0),
    "two of three components": lambda d: patched(d, segment(d, SOS) + 4, 2),
    "255 components": lambda d: patched(d, segment(d, SOS) + 4, 255),
    "the same component twice": lambda d: patched(d, segment(d, SOS) + 7, d[segment(d, SOS) + 5]),
    "unknown component": lambda d: patched(d, segment(d, SOS) + 5, 77),
    "Huffman table out of range": lambda d: patched(d, segment(d, SOS) + 6, 0xFF),
    "sampling 4x4 interleaved": lambda d: patched(d, segment(d, SOF0) + 11, 0x44),
    "sampling 0": lambda d: patched(d, segment(d, SOF0) + 11, 0),
    "sampling 15": lambda d: patched(d, segment(d, SOF0) + 11, 0xFF),
    "table slot 9": lambda d: patched(d, segment(d, SOF0) + 12, 9),
    "missing table": lambda d: patched(d, segment(d, SOF0) + 12, 3),
    "equal identifiers": lambda d: patched(d, segment(d, SOF0) + 13, d[segment(d, SOF0) + 10]),
    "quantization slot": lambda d: patched(d, segment(d, DQT) + 4, 0x2F),
    "Huffman counts": lambda d: patched(d, segment(d, DHT) + 5, *[255] * 16),
    "Huffman slot": lambda d: patched(d, segment(d, DHT) + 4, 0x77),
    "Huffman tree over-full": lambda d: patched(d, segment(d, DHT) + 5, 12, *[0] * 15),
    "restart interval": lambda d: with_segment(d, DRI, b"\0\0\0"),
}


@pytest.mark.parametrize("trouble", SCAN_TROUBLE)
def test_hostile_headers(trouble: str, capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused (or, where a decoder may shrug, read) without noise, crash, open files or anything left in the temporary folder."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    data = SCAN_TROUBLE[trouble](encode(picture(32, 32), subsampling="4:4:4"))
    descriptors = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    with pytest.raises(UnreadableError):
        jpeg.read(data)
    assert capfd.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []
    if descriptors:
        assert len(os.listdir("/proc/self/fd")) == descriptors


def test_a_bomb_of_scans_is_refused() -> None:
    data = encode(picture(16, 16), progressive=True)
    last = data.rindex(b"\xff\xda")
    scan = data[last:-2]
    with pytest.raises(LimitError, match="scans"):
        jpeg.read(data[:-2] + scan * 5000 + data[-2:])


def test_comments_between_scans_do_no_harm() -> None:
    """jpeglib's own reader never returns from more than fifty of them."""
    data = encode(picture(), progressive=True)
    last = data.rindex(b"\xff\xda")
    noisy = data[:last] + b"\xff\xfe\x00\x04hi" * 200 + data[last:]
    assert not jpeg.read(noisy).damaged
    assert (jpeg.read(noisy).planes() == jpeg.read(data).planes()).all()


def test_what_follows_the_end_is_ignored() -> None:
    data = encode(picture())
    image = jpeg.read(data + b"trailer" + data)
    assert not image.damaged
    assert (image.planes() == jpeg.read(data).planes()).all()


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_truncated_data_is_shown(share: float, progressive: bool, capfd: pytest.CaptureFixture[str]) -> None:
    data = encode(picture(), progressive=progressive, quality=80)
    start = data.index(b"\xff\xda") + 20
    image = jpeg.read(data[: start + int(share * (len(data) - start))])
    assert image.damaged
    assert image.planes().shape == (3, 61, 83)
    assert capfd.readouterr() == ("", "")
    if not progressive:
        whole = jpeg.read(data).planes()
        assert np.abs(image.planes()[0, :8] - whole[0, :8]).max() < 1e-3
        assert np.abs(image.planes()[0, -8:] - whole[0, -8:]).max() > 1


SEQUENTIAL = {"420": encode(picture()), "gray": encode(picture()[..., 0]), "444": encode(picture(), subsampling="4:4:4")}
EXOTIC = {
    **SEQUENTIAL,
    "progressive": encode(picture(), progressive=True),
    "restarts": encode(picture(), restart_marker_blocks=2),
    "progressive restarts": encode(picture(), restart_marker_blocks=3, progressive=True),
    "non-interleaved": (DATA / "non-interleaved.jpg").read_bytes(),
    "arithmetic": (DATA / "arithmetic.jpg").read_bytes(),
}


def assert_whole(odd: bytes, data: bytes) -> None:
    """The same picture, and no talk of missing data."""
    image, expected = jpeg.read(odd), jpeg.read(data)
    assert not image.damaged
    np.testing.assert_array_equal(image.planes(), expected.planes())


@pytest.mark.parametrize("data", EXOTIC.values(), ids=EXOTIC)
def test_a_missing_end_marker_is_no_damage(data: bytes) -> None:
    assert_whole(data[:-2], data)
    assert_whole(data[:-2] + bytes(300), data)


@pytest.mark.parametrize("data", EXOTIC.values(), ids=EXOTIC)
@pytest.mark.parametrize("padding", [b"\0" * 3, b"\0" * 300, b"\xff" * 40, b"\xff\xd4", b"\xff\xd0\xff\xd1"])
def test_padding_before_the_end_is_no_damage(data: bytes, padding: bytes) -> None:
    assert_whole(data[:-2] + padding + data[-2:], data)


@pytest.mark.parametrize("data", EXOTIC.values(), ids=EXOTIC)
def test_bytes_between_segments_are_no_damage(data: bytes) -> None:
    at = segment(data, DQT)
    assert_whole(data[:at] + b"junk" + data[at:], data)


def scan_bytes(data: bytes) -> range:
    """Positions within the data of the first scan, none of them amid a stuffed byte."""
    start = segment(data, SOS)
    start += 2 + struct.unpack_from(">H", data, start + 2)[0]
    return range(start + 3, data.rindex(b"\xff\xd9") - 3)


@pytest.mark.parametrize("data", SEQUENTIAL.values(), ids=SEQUENTIAL)
def test_restart_markers_without_an_interval_are_stepped_over(data: bytes) -> None:
    places = scan_bytes(data)
    for at in (places[0], places[len(places) // 2], places[-1]):
        at += data[at - 1] == 0xFF
        assert_whole(data[:at] + b"\xff\xd3" + data[at:], data)


def test_restarts_without_their_interval_are_as_in_viewers() -> None:
    """Without its DRI segment a file shows nothing after the first restart; to run on would be worse."""
    data = encode(picture(), restart_marker_rows=1)
    at = segment(data, DRI)
    bare = data[:at] + data[at + 6 :]
    image = jpeg.read(bare)
    assert image.damaged
    assert (distance(bare) <= INTERPOLATED).all()


def test_a_restart_marker_out_of_turn_is_stepped_over() -> None:
    data = encode(picture(), restart_marker_rows=1)
    third = data.index(b"\xff\xd2")
    assert_whole(data[:third] + b"\xff\xd1" + data[third:], data)
    assert_whole(data[:third] + b"\xff\xd7" + data[third:], data)
    missing = jpeg.read(data[:third] + data[third + 2 :])
    assert missing.damaged


@pytest.mark.parametrize("data", SEQUENTIAL.values(), ids=SEQUENTIAL)
@pytest.mark.parametrize("selection", [(0, 0, 0), (0, 63, 1), (63, 0, 0xFF)])
def test_the_spectral_selection_of_sequential_files_has_no_meaning(data: bytes, selection: tuple[int, ...]) -> None:
    """Samsung's phones write 0, 0, 0."""
    at = segment(data, SOS)
    assert_whole(patched(data, at + 5 + 2 * data[at + 4], *selection), data)


@pytest.mark.parametrize("data", [EXOTIC["444"], EXOTIC["420"], EXOTIC["restarts"], EXOTIC["non-interleaved"]])
@pytest.mark.parametrize("numbers", [(1, 1, 1), (0, 0, 0), (1, 2, 2), (7, 1, 7)])
def test_components_of_equal_numbers(data: bytes, numbers: tuple[int, int, int]) -> None:
    odd = bytearray(data)
    frame = segment(data, SOF0)
    own = [data[frame + 10 + 3 * i] for i in range(3)]
    for i in range(3):
        odd[frame + 10 + 3 * i] = numbers[i]
    position = 2
    while (position := data.find(b"\xff\xda", position + 1)) > 0:
        for i in range(data[position + 4]):
            odd[position + 5 + 2 * i] = numbers[own.index(data[position + 5 + 2 * i])]
    assert_whole(bytes(odd), data)


@pytest.mark.parametrize("place", [0, 1, 35, 63])
def test_a_step_of_zero_makes_nothing_of_its_coefficient(place: int) -> None:
    """Pillow's decode is the oracle."""
    data = encode(picture(), subsampling="4:4:4")
    odd = patched(data, segment(data, DQT) + 5 + place, 0)
    assert not jpeg.read(odd).damaged
    assert (distance(odd) <= EXACT).all()
    assert min(component.table.min() for component in jpeg.read(odd).components) == 1


def test_a_progressive_file_without_its_last_scan_is_damaged() -> None:
    """Each scan is whole, and libjpeg content: coefficients lack their last bit all the same."""
    data = encode(picture(), progressive=True)
    assert jpeg.read(data[: data.rindex(b"\xff\xda")]).damaged
    assert jpeg.read(data[: data.rindex(b"\xff\xda")] + data[-2:]).damaged


@pytest.mark.parametrize("last", [64, 255])
def test_a_progressive_scan_beyond_the_last_coefficient_is_refused(last: int) -> None:
    data = encode(picture(), progressive=True)
    at = data.rindex(b"\xff\xda")
    with pytest.raises(UnreadableError):
        jpeg.read(patched(data, at + 6 + 2 * data[at + 4], last))


def test_warnings_are_the_decoders_own(capfd: pytest.CaptureFixture[str]) -> None:
    """What another thread prints counts for nothing and is not touched; damage is noticed in silence."""
    data, stop = encode(picture()), threading.Event()
    lines = 0

    def chatter() -> None:
        nonlocal lines
        while not stop.is_set():
            lines += 1
            os.write(2, b"Corrupt JPEG data: this is a line of somebody else\n")
            time.sleep(0.0005)

    thread = threading.Thread(target=chatter)
    thread.start()
    damaged = [(jpeg.read(data).damaged, jpeg.read(data[:-200]).damaged) for _ in range(50)]
    stop.set()
    thread.join()
    assert damaged == [(False, True)] * 50
    assert capfd.readouterr() == ("", "Corrupt JPEG data: this is a line of somebody else\n" * lines)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_fork_while_another_thread_reads() -> None:
    data, stop = encode(picture(400, 600), quality=90), threading.Event()

    def read() -> None:
        while not stop.is_set():
            jpeg.read(data)

    thread = threading.Thread(target=read)
    thread.start()
    try:
        for _ in range(12):
            child = os.fork()
            if child == 0:
                # What holds no lock of its own can be used at once.
                os._exit(int(jpeg.read(data).damaged))
            deadline = time.monotonic() + 60
            while (done := os.waitpid(child, os.WNOHANG)) == (0, 0) and time.monotonic() < deadline:
                time.sleep(0.01)
            if done == (0, 0):
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
            assert done == (child, 0), "the child hangs or fails"
    finally:
        stop.set()
        thread.join()


def test_many_threads_read_alike() -> None:
    files = [*EXOTIC.values(), encode(picture())[:-200]] * 4
    expected = [jpeg.read(data).damaged for data in files]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda data: jpeg.read(data).damaged, files)) == expected


def test_fatal_errors_leave_no_thread_and_no_memory() -> None:
    data = encode(picture(400, 600))
    # libjpeg reserves the whole picture before it finds that a code table is over-full.
    broken = patched(data, segment(data, DHT) + 5, 12, *[0] * 15)
    for _ in range(3):
        with pytest.raises(UnreadableError):
            jpeg.read(broken)
    before = resident()
    for _ in range(100):
        with pytest.raises(UnreadableError):
            jpeg.read(broken)
    assert resident() - before < 20_000_000
    if os.path.isdir("/proc/self/task"):
        assert len(os.listdir("/proc/self/task")) < 100


def resident() -> int:
    """Bytes of memory that this process holds."""
    if not os.path.isdir("/proc/self"):
        pytest.skip("needs /proc")
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def test_an_unknown_libjpeg_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Unknown:
        """Creates whatever it is asked for, without a word."""

        jpeg_CreateDecompress = jpeg_destroy_decompress = staticmethod(lambda *_: None)
        jpeg_std_error = staticmethod(lambda _: None)

    monkeypatch.setattr(libjpeg, "_libjpeg", Unknown)
    with pytest.raises(DependencyError, match="reinstall Pillow"):
        libjpeg._interface.__wrapped__()


@pytest.mark.parametrize("data", EXOTIC.values(), ids=EXOTIC)
def test_where_pillow_hides_its_libjpeg(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows: jpeglib gives the same."""
    expected = jpeg.read(data)
    monkeypatch.setattr(libjpeg, "_libjpeg", lambda: None)
    for ours, theirs in zip(jpeg.read(data).components, expected.components, strict=True):
        np.testing.assert_array_equal(ours.coefficients, theirs.coefficients)


def test_where_there_is_no_libjpeg_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libjpeg, "_libjpeg", lambda: None)
    monkeypatch.setattr(libjpeg, "_JPEGLIB", "nothing.*")
    libjpeg._jpeglib.cache_clear()
    with pytest.raises(DependencyError, match="jpeglib==1"):
        jpeg.read(encode(picture()))


SEEDS = [
    encode(picture(24, 40)),
    encode(picture(24, 40), progressive=True),
    encode(picture(24, 40)[..., 0]),
    encode(picture(40, 24), restart_marker_blocks=1, subsampling="4:4:4"),
]
changes = st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), max_size=6)


@settings(max_examples=200, deadline=4000, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.sampled_from(SEEDS), flips=changes, keep=st.floats(0, 1))
def test_damaged_files_either_parse_or_raise_ours(seed: bytes, flips: list[tuple[int, int]], keep: float) -> None:
    data = bytearray(seed)
    for position, value in flips:
        data[position % len(data)] = value
    try:
        image = jpeg.read(bytes(data[: int(len(data) * keep) + 1]), max_pixels=100_000)
    except RedecodeError:
        return
    assert np.isfinite(image.planes()).all()
    assert image.planes().shape[1:] == (image.height, image.width)


@pytest.mark.parametrize("quality", [0, 101])
def test_qualities_that_do_not_exist_are_refused(quality: int) -> None:
    with pytest.raises(ValueError, match="1 … 100"):
        jpeg.compress(picture(), quality)


def test_compress_is_pillows_encoder() -> None:
    image = picture()
    for subsampling in jpeg.SUBSAMPLINGS:
        assert jpeg.compress(image, 40, subsampling) == encode(image, quality=40, subsampling=subsampling)
    assert jpeg.read(jpeg.compress(image[..., 0], 10)).gray
    with pytest.raises(ValueError, match="subsampling"):
        jpeg.compress(image, 10, "4:4:0")


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0", "gray"])
def test_a_crop_shows_its_part(subsampling: str) -> None:
    original = picture(117, 150)
    whole = jpeg.read(jpeg.compress(original[..., 0] if subsampling == "gray" else original, 30, subsampling.replace("gray", "4:4:4")))
    down, right = whole.unit
    rows, columns = (2 * down, 4 * down), (right, 150)
    part = whole.crop(rows, columns)
    assert (part.height, part.width) == (2 * down, 150 - right)
    # Interpolated chroma depends on a sample beyond the crop, where there is one.
    inner = np.s_[:, 2:-2, 2:]
    np.testing.assert_allclose(part.planes()[inner], whole.planes()[:, rows[0] : rows[1], columns[0] :][inner], atol=1e-3)
    everything = whole.crop((0, 117), (0, 150))
    np.testing.assert_array_equal(everything.planes(), whole.planes())
    assert all(np.shares_memory(a.coefficients, b.coefficients) for a, b in zip(part.components, whole.components, strict=True))


def test_another_jpeglib_is_refused(tmp_path: Path) -> None:
    folder = Path(libjpeg._jpeglib()._name).parent
    for name in libjpeg._DECLARATIONS:
        (tmp_path / name).write_text((folder / name).read_text())
    libjpeg._check_declarations(tmp_path)
    (tmp_path / "cjpeglib_dct.cpp").write_text((folder / "cjpeglib_dct.cpp").read_text().replace("short *K,", "short *K, int flags,"))
    with pytest.raises(DependencyError, match=r"jpeglib==1\.0\.2"):
        libjpeg._check_declarations(tmp_path)
