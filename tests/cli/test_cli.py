from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

import redecode
from redecode import weights
from redecode.cli import console, development
from redecode.cli import main as cli
from redecode.cli import restore as restore_command
from redecode.codec import jpeg
from redecode.codec.raster import RasterImage
from redecode.errors import DependencyError

posix = pytest.mark.skipif(os.name != "posix", reason="POSIX signals, pipes and file names")
NO_PICTURE = "this is not a picture that redecode reads (JPEG; PNG, WebP, AVIF, TIFF, BMP, GIF)"


class Stub:
    """Replaces the networks: the layers are the file's own picture with different lightness."""

    def __init__(self) -> None:
        self.calls: list[tuple[float, bool]] = []

    def decode(
        self,
        image: jpeg.JpegImage | RasterImage,
        texture: float = 1.0,
        project: bool = True,
        progress: object = None,
        layers: bool = False,
        threshold: int = 3,
    ) -> object:
        from redecode.codec.colour import to_planes, to_rgb, to_uint8
        from redecode.result import Decoded

        self.calls.append((texture, project))
        if isinstance(image, RasterImage):
            return Decoded(image.pixels, np.zeros(image.pixels.shape[:2], bool), image, image.planes(), None, texture, False, changed=False)
        picture = to_uint8(to_rgb(image.planes()))
        base = picture // 2
        mask = np.zeros(picture.shape[:2], bool)
        mask[::2] = True
        layer = None if texture == 0 else to_planes(picture // 4)
        planes = to_planes(base) if layers else None
        return Decoded(base if layer is None else picture, mask, image, planes, layer, texture, projected=False, consistency=1.0)


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Stub:
    decoder = Stub()
    monkeypatch.setattr(restore_command, "make_decoder", lambda *_: decoder)
    return decoder


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """The command within this process: exit code, stdout, stderr."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["redecode", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        printed = capsys.readouterr()
        return int(exit_.value.code or 0), printed.out, printed.err

    return call


@pytest.fixture
def photo(tmp_path: Path, photograph: np.ndarray) -> Path:
    path = tmp_path / "photo.jpg"
    exif = Image.Exif()
    exif[0x010E] = "a description"
    Image.fromarray(photograph).save(path, quality=20, exif=exif, icc_profile=b"profile", dpi=(300, 300))
    return path


def opened(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def test_one_file(run, stub: Stub, photo: Path) -> None:
    target = photo.with_name("photo.redecoded.png")
    assert run(photo) == (0, f"{target}\n", "")
    assert stub.calls == [(1.0, True)]
    with Image.open(target) as image:
        assert image.format == "PNG"
        assert image.getexif()[0x010E] == "a description"
        assert image.info["icc_profile"] == b"profile"
        assert image.info["dpi"] == pytest.approx((300, 300), abs=0.01)
    assert sorted(path.name for path in photo.parent.iterdir()) == ["photo.jpg", "photo.redecoded.png"]


def test_layers_and_dials(run, stub: Stub, photo: Path) -> None:
    fused, base, texture, mask = (photo.with_name(f"{name}.png") for name in ("fused", "base", "texture", "mask"))
    assert run(photo, "-o", fused, "--texture", 0.25, "--no-projection")[0] == 0
    assert run(photo, "-o", base, "--layer", "base")[0] == 0
    assert run(photo, "-o", texture, "--layer", "texture", "--texture", 0)[0] == 0
    assert run(photo, "-o", mask, "--layer", "mask")[0] == 0
    assert stub.calls == [(0.25, False), (0.0, True), (1.0, True), (0.0, True)]
    np.testing.assert_array_equal(opened(base), opened(fused) // 2)
    np.testing.assert_array_equal(opened(texture), opened(fused) // 4)
    assert opened(mask).shape == (120, 168)
    assert np.unique(opened(mask)).tolist() == [0, 255]
    with Image.open(mask) as image:
        assert image.mode == "L"
        assert "icc_profile" not in image.info


def test_gray_files_stay_gray(run, stub: Stub, tmp_path: Path, photograph: np.ndarray) -> None:
    (tmp_path / "g.jpg").write_bytes(jpeg.compress(photograph[..., 0], 20))
    assert run(tmp_path / "g.jpg")[0] == 0
    with Image.open(tmp_path / "g.redecoded.png") as image:
        assert image.mode == "L"


def test_an_existing_target_is_refused_before_the_work(run, stub: Stub, photo: Path) -> None:
    target = photo.with_name("photo.redecoded.png")
    target.write_bytes(b"precious")
    code, out, err = run(photo)
    assert (code, out, stub.calls) == (2, "", [])
    assert err == f"redecode: {photo}: {target} exists already; give --overwrite to replace it\n"
    assert target.read_bytes() == b"precious"
    assert run(photo, "--overwrite")[0] == 0
    assert opened(target).shape == (120, 168, 3)


def test_folder_into_folder(run, stub: Stub, photo: Path, tmp_path: Path) -> None:
    (tmp_path / "in" / "sub").mkdir(parents=True)
    for place in ("in/a.jpg", "in/sub/b.JPEG"):
        (tmp_path / place).write_bytes(photo.read_bytes())
    code, out, err = run(tmp_path / "in", "-o", f"{tmp_path / 'out'}{os.sep}")
    assert (code, err) == (0, "")
    assert out.splitlines() == [str(tmp_path / "out" / "a.png"), str(tmp_path / "out" / "sub" / "b.png")]
    assert all(Path(line).is_file() for line in out.splitlines())


def test_some_of_several_fail(run, stub: Stub, photo: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "text.jpg").write_bytes(b"hello, world")
    code, out, err = run(tmp_path / "empty.jpg", photo, tmp_path / "text.jpg", tmp_path / "missing.jpg")
    assert code == 1
    assert out == f"{photo.with_name('photo.redecoded.png')}\n"
    assert err.splitlines() == [
        f"redecode: {tmp_path / 'empty.jpg'}: the file is empty",
        f"redecode: {tmp_path / 'text.jpg'}: {NO_PICTURE}",
        f"redecode: {tmp_path / 'missing.jpg'}: no such file or directory",
        "redecode: 3 of 4 failed",
    ]


def bad_inputs() -> dict[str, bytes]:
    buffer = io.BytesIO()
    Image.fromarray(np.arange(3072, dtype=np.uint8).reshape(32, 32, 3)).save(buffer, "JPEG")
    good = buffer.getvalue()
    frame = good.index(b"\xff\xc0")

    def coded(marker: int) -> bytes:
        return good[: frame + 1] + bytes([marker]) + good[frame + 2 :]

    return {
        "empty": b"",
        NO_PICTURE: b"\x89PNG" * 20,
        "ends before": good[:300],
        "lossless": coded(0xCB),
        "damaged": coded(0xC3),
        "hierarchical": coded(0xC5),
        "12-bit": good[: frame + 4] + b"\x0c" + good[frame + 5 :],
        "limit": good[: frame + 5] + b"\x7f\xff\x7f\xff" + good[frame + 9 :],
    }


@pytest.mark.parametrize("word", bad_inputs())
def test_bad_input_is_one_line_and_2(run, stub: Stub, tmp_path: Path, word: str) -> None:
    path = tmp_path / "bad.jpg"
    path.write_bytes(bad_inputs()[word])
    code, out, err = run(path)
    assert (code, out) == (2, "")
    assert err.startswith(f"redecode: {path}: ")
    assert word in err
    assert err.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["bad.jpg"]


@pytest.mark.slow
def test_formats(run, stub: Stub, photo: Path, tmp_path: Path) -> None:
    for name in ("webp", "avif", "tiff", "jpeg"):
        code, out, err = run(photo, "--format", name)
        lost = {"webp": "the resolution", "avif": "the resolution"}.get(name)
        assert code == 0
        assert err == (f"redecode: {photo}: warning: not carried over into the {name.upper()} file: {lost}\n" if lost else "")
        with Image.open(out.strip()) as image:
            assert image.format == name.upper()
    assert run(photo, "-o", tmp_path / "x.jpg", "--same-size", "--strip")[0] == 0
    with Image.open(tmp_path / "x.jpg") as image, Image.open(photo) as source:
        assert image.quantization == source.quantization
        assert not image.getexif()
        assert image.info["icc_profile"] == b"profile"
    code, _, err = run(photo, "--format", "webp", "--depth", "16")
    assert code == 2
    assert err.count("\n") == 1


# Colour, a C1 control, a line end, the direction of writing; and rich's markup, which is not a control character.
NAMES = ["\x1b[31mred", "\x9b31mred", "two\nlines", "gpj.\u202ephoto", "bell\x07\x7f", "[red]plain[bold]"]
CONTROLS = re.compile("[\0-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


@posix
@pytest.mark.parametrize("name", NAMES)
def test_names_of_files_control_no_terminal(run, stub: Stub, photo: Path, tmp_path: Path, name: str) -> None:
    good, bad, out = tmp_path / f"{name}.jpg", tmp_path / f"bad{name}.jpg", tmp_path / f"out{name}"
    good.write_bytes(photo.read_bytes()[:-200])
    bad.write_bytes(b"nothing")
    missing = tmp_path / f"{name}.missing"
    for arguments in (
        [good, "-v"],
        [good, bad, missing, "-o", f"{out}/", "-v"],
        [good, "-o", f"{out}/"],
        [good, "-o", f"{out}/", "--skip-existing", "-v"],
        [good, bad, "-o", f"{out}/", "--overwrite", "--json"],
        [good, "-o", f"{out}.unknown", "--debug"],
        [good, "-o", good, "--overwrite"],
        ["info", good, bad, missing],
        ["info", "--json", good, bad, missing],
        ["bulk", tmp_path, out],
        ["bulk", out.with_name(f"none{name}"), tmp_path / f"new{name}"],
    ):
        _, printed, complained = run(*arguments)
        assert not CONTROLS.search(printed + complained), arguments
        if "--json" in arguments:
            assert json.loads(printed.splitlines()[0])["input"] == str(good)
        if "-v" in arguments or arguments[:2] == ["info", good]:
            # The name is complete, and the report on a file is one line.
            assert console.printable(good) in complained + printed
            assert all(line.startswith("redecode: ") for line in complained.splitlines())


@posix
@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES[:3])
def test_names_of_an_archive_control_no_terminal(run, tmp_path: Path, name: str) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / f"{name}.jpg").write_bytes(b"nothing")
    _, printed, complained = run("bulk", tmp_path / "in", tmp_path / f"out{name}", "--workers", 1)
    assert not CONTROLS.search(printed + complained)
    assert f"{console.printable(name)}.jpg: this is not a picture" in complained
    assert f"out{console.printable(name)}/_redecode" in printed


def test_json(run, stub: Stub, photo: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").write_bytes(b"")
    code, out, err = run(photo, tmp_path / "empty.jpg", "--json")
    good, bad = map(json.loads, out.splitlines())
    assert code == 1
    assert good["input"] == str(photo)
    assert good["output"] == str(photo.with_name("photo.redecoded.png"))
    assert (good["status"], good["width"], good["height"], good["quality"]) == ("restored", 168, 120, 20)
    assert good["seconds"] >= 0
    assert 0 <= good["consistency"] <= 1
    assert bad == {"input": str(tmp_path / "empty.jpg"), "status": "failed", "reason": "the file is empty"}
    assert "the file is empty" in err


def test_quiet_and_verbose(run, stub: Stub, photo: Path) -> None:
    assert run(photo, "--quiet") == (0, "", "")
    code, out, err = run(photo, "--overwrite", "--verbose")
    assert (code, out) == (0, f"{photo.with_name('photo.redecoded.png')}\n")
    assert err.startswith(f"redecode: {photo}: 168×120, quality 20, ")


def test_a_picture_that_never_was_a_jpeg_is_left_unchanged(run, stub: Stub, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png")
    code, _, err = run(tmp_path / "a.png", "-o", tmp_path / "b.png")
    assert code == 0
    assert "no trace" in err
    np.testing.assert_array_equal(opened(tmp_path / "b.png"), noise)


def test_info(run, photo: Path) -> None:
    code, out, err = run("info", photo)
    assert (code, err) == (0, "")
    assert "4:2:0" in out
    facts = json.loads(run("info", photo, "--json")[1])
    assert (facts["width"], facts["height"], facts["quality"], facts["subsampling"]) == (168, 120, 20, "4:2:0")
    assert facts["metadata"] == ["exif", "icc_profile", "dpi"]
    assert run("info", photo.with_name("missing.jpg"))[0] == 2


def test_folder_without_jpegs_and_missing_file(run, tmp_path: Path) -> None:
    assert run(tmp_path) == (2, "", f"redecode: {tmp_path}: the folder holds no JPEG files\n")
    missing = tmp_path / "missing.jpg"
    assert run(missing, "--texture", 0)[0] == 2


@pytest.mark.usefixtures("bound_by_permissions")
def test_permissions(run, stub: Stub, photo: Path) -> None:
    photo.chmod(0)
    assert run(photo) == (2, "", f"redecode: {photo}: permission denied\n")
    photo.chmod(0o600)
    photo.parent.chmod(0o500)
    code, _, err = run(photo)
    photo.parent.chmod(0o700)
    assert code == 2
    assert "permission denied" in err


def test_truncated_data_is_restored_with_a_warning(run, stub: Stub, photo: Path) -> None:
    photo.write_bytes(photo.read_bytes()[:-600])
    code, out, err = run(photo)
    assert code == 0
    assert out == f"{photo.with_name('photo.redecoded.png')}\n"
    assert err.startswith(f"redecode: {photo}: warning: ")
    assert err.count("\n") == 1


def test_a_bug_ends_in_a_traceback_and_a_line(run, stub: Stub, photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(*_: object) -> None:
        raise RuntimeError("the engine\nstalled")

    monkeypatch.setattr(stub, "decode", explode)
    code, out, err = run(photo)
    assert (code, out) == (2, "")
    assert err.startswith("Traceback")
    assert err.endswith(f"\nredecode: {photo}: RuntimeError: the engine stalled\n")


def test_missing_weights_are_said_once(run, photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object) -> None:
        raise DependencyError("no network")

    monkeypatch.setattr(restore_command, "make_decoder", missing)
    assert run(photo, photo.with_name("b.jpg")) == (2, "", "redecode: no network\n")


def test_an_interrupt_is_130(run, stub: Stub, photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(stub, "decode", interrupt)
    assert run(photo) == (130, "", "")
    assert [path.name for path in photo.parent.iterdir()] == ["photo.jpg"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--texture", "1.5"],
        ["--texture", "nan"],
        ["--layer", "sky"],
        ["--preset", "enormous"],
        ["--threads", "0"],
        ["--output", "x.gif"],
        ["--output", "x.png", "--format", "webp"],
        ["--output", "-", "--json"],
        ["--depth", "12"],
        ["--max-pixels", "0"],
        ["--unknown"],
    ],
)
def test_wrong_usage(run, stub: Stub, photo: Path, arguments: list[str]) -> None:
    code, out, err = run(photo, *arguments)
    assert (code, out) == (2, "")
    assert "Traceback" not in err
    assert stub.calls == []


def test_a_file_named_like_a_command(run, stub: Stub, photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(photo.parent)
    photo.rename("train")
    code, out, _ = run("./train")
    assert (code, out) == (0, "train.redecoded.png\n")
    assert run("train", "--help")[1].count("--recipe") >= 1


def module(monkeypatch: pytest.MonkeyPatch, name: str, **content: object) -> None:
    made = ModuleType(name)
    made.__dict__.update(content)
    monkeypatch.setitem(sys.modules, name, made)
    parent, _, attribute = name.rpartition(".")
    if parent in sys.modules:
        monkeypatch.setattr(sys.modules[parent], attribute, made, raising=False)


def test_train(run, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def train(*args: object, report: Callable[[float, str], None], **options: object) -> None:
        report(0.5, "half")
        calls.append((*args, options))

    module(monkeypatch, "redecode.training.trainer", train=train)
    recipe, checkpoint = Path("recipes/fast-edge.toml"), Path("old/checkpoint.safetensors")
    many = {"devices": 2, "nodes": 1, "float32": True}
    assert run("train", "edge", "--recipe", recipe, "--max-time", 3, "--resume", checkpoint, "--devices", 2, "--float32")[0] == 0
    assert calls.pop() == ("edge", recipe, Path("runs/fast-edge"), {"max_minutes": 3.0, "resume": checkpoint, "decay": None, **many})
    assert run("train", "edge", "--recipe", recipe, "--decay", checkpoint)[0] == 0
    many = {"devices": 1, "nodes": 1, "float32": False}
    assert calls == [("edge", recipe, Path("runs/fast-edge-decay"), {"max_minutes": None, "resume": None, "decay": checkpoint, **many})]
    assert run("train", "sky", "--recipe", "x.toml")[0] == 2


def test_export(run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    module(monkeypatch, "redecode.training.export", export=lambda checkpoint, name: tmp_path / f"{name}.onnx")
    assert run("export", "weights.safetensors", "fast-edge") == (0, f"{tmp_path / 'fast-edge.onnx'}\n", "")


@pytest.mark.parametrize(
    ("arguments", "absent", "extra"),
    [
        (["train", "edge", "--recipe", "x.toml"], "redecode.training.trainer", "train"),
        (["export", "x", "fast-edge"], "redecode.training.export", "train"),
        (["bench"], "redecode.evaluation.benchmark", "eval"),
        (["onnx", "new.onnx"], "redecode.portable.graph", "onnx"),
        (["page", "new", "--runtime", "ort.tgz"], "redecode.portable.static", "onnx"),
    ],
)
def test_a_missing_extra_is_named(run, monkeypatch: pytest.MonkeyPatch, arguments: list[str], absent: str, extra: str) -> None:
    class Absent:
        def find_spec(self, name: str, *_: object) -> None:
            if name == absent:
                raise ModuleNotFoundError("No module named 'torch'", name="torch")

    package, _, attribute = absent.rpartition(".")
    monkeypatch.delitem(sys.modules, absent, raising=False)
    if package in sys.modules:
        monkeypatch.delattr(sys.modules[package], attribute, raising=False)
    monkeypatch.setattr(sys, "meta_path", [Absent(), *sys.meta_path])
    assert run(*arguments) == (2, "", f"redecode: torch is not installed; this command needs: pip install 'redecode[{extra}]'\n")


def test_page_without_the_runtime(run, tmp_path: Path) -> None:
    site, package = tmp_path / "site", tmp_path / "ort.tgz"
    assert run("page", site, "--runtime", package) == (2, "", f"redecode: no such file or directory: {package}\n")
    package.write_bytes(b"something else")
    code, out, err = run("page", site, "--runtime", package)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "is not the package onnxruntime-web" in err
    assert not site.exists()
    site.mkdir()
    (site / "mine.txt").touch()
    assert "exists already" in run("page", site, "--runtime", package)[2]


def test_bench(run, stub: Stub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import redecode.evaluation  # noqa: F401 - the parent of the modules that are replaced

    monkeypatch.setattr(development, "make_decoder", lambda *_, **__: stub)

    monkeypatch.chdir(tmp_path)
    for name in ("LIVE1", "BSDS500_val"):
        Path("eval", name).mkdir(parents=True)
    seen = []

    def measure(decoder: object, folder: Path, name: str, quality: int, protocol: str, limit: int | None, progress) -> str:
        progress(0, 2)
        seen.append((folder, name, quality, protocol, limit))
        return name

    module(monkeypatch, "redecode.evaluation.benchmark", run=measure, write=lambda result, folder: folder / f"{result}.json")
    module(monkeypatch, "redecode.evaluation.report", render=" and ".join)
    monkeypatch.setenv("REDECODE_DATA", str(tmp_path))
    code, out, err = run("bench", "--qf", 20, "--protocol", "colour", "--limit", 3)
    assert (code, out) == (0, "LIVE1 and BSDS500_val\n")
    assert "wrote results/LIVE1.json" in err
    assert seen == [(tmp_path / "eval" / name, name, 20, "colour", 3) for name in ("LIVE1", "BSDS500_val")]
    monkeypatch.setenv("REDECODE_DATA", "nowhere")
    assert run("bench") == (2, "", "redecode: eval/LIVE1 is not in nowhere; set REDECODE_DATA to the data folder\n")


def test_a_bar_goes_to_the_terminal_only(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    with restore_command._progress(2) as (advance, tiles):
        print("a result")
        tiles(1, 3)
        advance()
    printed = capsys.readouterr()
    assert printed.out == "a result\n"
    assert "1/2" in printed.err
    with restore_command._progress(1) as (advance, tiles):
        tiles(1, 3)
        advance()
    assert "1/3" in capsys.readouterr().err
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False, raising=False)
    with restore_command._progress(2) as (advance, tiles):
        tiles(1, 3)
        advance()
    assert capsys.readouterr() == ("", "")


@pytest.mark.slow
@posix
@pytest.mark.usefixtures("networks")
def test_standard_streams(photo: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "redecode", "-", "--format", "webp", "--threads", "1"],
        input=photo.read_bytes(),
        capture_output=True,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert command(photo, "-o", tmp_path / "x.webp", "--threads", "1").returncode == 0
    assert done.stdout == (tmp_path / "x.webp").read_bytes()


# From here on the real command, in a separate process.


def command(*arguments: object, **options: object) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([sys.executable, "-m", "redecode", *map(str, arguments)], capture_output=True, timeout=120, **options)


def test_version() -> None:
    done = command("--version")
    assert (done.returncode, done.stdout.decode().split()) == (0, ["redecode", redecode.__version__])


def test_help_names_options_and_commands() -> None:
    done = command("--help", env={**os.environ, "COLUMNS": "120", "NO_COLOR": "1", "TERM": "dumb"})
    text = done.stdout.decode()
    assert done.returncode == 0
    options = ("output", "texture", "preset", "layer", "no-projection", "format", "strip", "json", "threads", "overwrite", "version")
    for word in (*(f"--{name}" for name in options), *cli.COMMANDS):
        assert word in text


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["--help"], ["--version"], *([name, "--help"] for name in cli.COMMANDS)])
def test_nothing_heavy_is_loaded_for_help(arguments: list[str]) -> None:
    code = """
import sys
from redecode.cli import main as cli
from redecode.cli import restore as restore_command
from redecode.cli import console, development
sys.argv = ["redecode", *sys.argv[1:]]
try:
    cli.main()
finally:
    heavy = {"numpy", "PIL", "onnxruntime", "jpeglib", "torch", "lightning_fabric", "matplotlib"} & set(sys.modules)
    sys.stderr.write(" ".join(sorted(heavy)))
"""
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, timeout=60)
    assert done.returncode == 0
    assert done.stderr == b""


@pytest.mark.slow
def test_bad_input_end_to_end(tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"nothing")
    done = command("bad.jpg", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.decode().splitlines() == [f"redecode: bad.jpg: {NO_PICTURE}"]


@pytest.mark.slow
@posix
def test_names_that_are_no_text_are_printed(tmp_path: Path) -> None:
    if sys.platform == "darwin":
        pytest.skip("this file system takes text only")
    done = subprocess.run([sys.executable, "-m", "redecode", b"na\xefve\xff.jpg"], capture_output=True, cwd=tmp_path, timeout=60)
    assert done.returncode == 2
    assert b"no such file" in done.stderr
    assert b"Traceback" not in done.stderr


@pytest.fixture(scope="module")
def networks() -> None:
    try:
        for name in weights.PRESETS["fast"].values():
            weights.load(name, "int8")
    except DependencyError as error:
        pytest.skip(f"no weights: {error}")


@pytest.mark.slow
@pytest.mark.usefixtures("networks")
def test_restores_end_to_end(photo: Path) -> None:
    done = command(photo, "--threads", 1)
    target = photo.with_name("photo.redecoded.png")
    assert (done.returncode, done.stdout.decode(), done.stderr) == (0, f"{target}\n", b"")
    assert opened(target).shape == (120, 168, 3)
    assert not np.array_equal(opened(target), opened(photo))
    again = command(photo, "--threads", 1)
    assert again.returncode == 2
    assert b"--overwrite" in again.stderr
    mask = photo.with_name("mask.png")
    assert command(photo, "--threads", 1, "--layer", "mask", "-o", mask).returncode == 0
    assert set(np.unique(opened(mask))) == {0, 255}


@pytest.mark.slow
@posix
@pytest.mark.usefixtures("networks")
def test_names_that_are_no_text_end_to_end(photo: Path) -> None:
    if sys.platform == "darwin":
        pytest.skip("this file system takes text only")
    name = os.path.join(os.fsencode(photo.parent), b"na\xefve\xff")
    os.rename(photo, name + b".jpg")
    done = subprocess.run([sys.executable, "-m", "redecode", name + b".jpg", "--threads", "1"], capture_output=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, name + b".redecoded.png\n")


@pytest.mark.slow
@posix
@pytest.mark.usefixtures("networks")
def test_a_closed_pipe_does_not_stop_the_work(photo: Path) -> None:
    second = photo.with_name("second.jpg")
    second.write_bytes(photo.read_bytes())
    reader, writer = os.pipe()
    os.close(reader)
    arguments = [sys.executable, "-m", "redecode", str(photo), str(second), "--threads", "1"]
    done = subprocess.run(arguments, stdout=writer, stderr=subprocess.PIPE, timeout=120)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")
    assert second.with_name("second.redecoded.png").is_file()


@pytest.mark.slow
@posix
@pytest.mark.usefixtures("networks")
def test_a_kill_leaves_no_half_result(photo: Path, photograph: np.ndarray) -> None:
    large = np.tile(photograph, (12, 12, 1))
    photo.write_bytes(jpeg.compress(large, 30))
    process = subprocess.Popen([sys.executable, "-m", "redecode", str(photo), "--threads", "1"])
    time.sleep(1.5)
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=60)
    results = [path for path in photo.parent.iterdir() if path.suffix == ".png"]
    for path in results:  # On a fast machine the result may be complete already.
        assert opened(path).shape == large.shape


@pytest.mark.usefixtures("stub")
def test_a_second_run_does_what_is_missing(run, photo: Path) -> None:
    other = photo.with_name("other.jpg")
    other.write_bytes(photo.read_bytes())
    assert run(photo)[0] == 0
    first = photo.with_name(f"{photo.stem}.redecoded.png").stat()
    code, out, err = run(photo.parent, "--skip-existing")
    assert (code, out, err) == (0, f"{other.with_name('other.redecoded.png')}\n", "")
    assert photo.with_name(f"{photo.stem}.redecoded.png").stat() == first
    assert run(photo.parent, "--skip-existing") == (0, "", "")
    told = [json.loads(line) for line in run(photo.parent, "--skip-existing", "--json")[1].splitlines()]
    assert [line["status"] for line in told] == ["skipped", "skipped"]
    assert run(photo.parent, "--skip-existing", "--overwrite")[0] == 2


@pytest.mark.usefixtures("stub")
def test_nothing_done_is_2_and_some_done_is_1(run, photo: Path) -> None:
    bad = photo.with_name("bad.jpg")
    bad.write_bytes(b"no picture")
    assert run(bad, bad.with_name("missing.jpg"))[0] == 2
    assert run(bad, photo)[0] == 1


@pytest.mark.usefixtures("stub")
def test_sizes_are_told(run, photo: Path) -> None:
    report = json.loads(run(photo, "--json")[1])
    assert report["bytes_before"] == photo.stat().st_size
    assert report["bytes_after"] == photo.with_name(f"{photo.stem}.redecoded.png").stat().st_size
    assert "became" in run(photo, "--overwrite", "-v")[2]


@pytest.mark.usefixtures("stub")
def test_format_same_and_times(run, photo: Path) -> None:
    os.utime(photo, (10**9, 10**9))
    assert run(photo, "--format", "same", "--keep-times")[0] == 0
    result = photo.with_name(f"{photo.stem}.redecoded.jpg")
    with Image.open(result) as image:
        assert image.format == "JPEG"
    assert result.stat().st_mtime == 10**9
    assert run(photo, "--format", "jpg", "--overwrite")[0] == 0


def test_info_of_several(run, photo: Path) -> None:
    bad = photo.with_name("bad.jpg")
    bad.write_bytes(b"no picture")
    code, out, err = run("info", photo.parent, "--json")
    told = [json.loads(line) for line in out.splitlines()]
    assert code == 1
    assert {Path(line["input"]).name for line in told} == {photo.name, "bad.jpg"}
    assert err.startswith(f"redecode: {bad}: ")
    assert run("info", bad)[0] == 2


def test_a_tiff_of_several_pages_stays_one(run, tmp_path: Path) -> None:
    page = Image.effect_noise((64, 48), 20)
    page.save(tmp_path / "scan.tif", save_all=True, append_images=[page.rotate(180)])
    page.save(tmp_path / "single.tif")
    code, out, _ = run(tmp_path / "scan.tif", tmp_path / "single.tif")
    assert code == 0
    assert [Path(line).name for line in out.splitlines()] == ["scan.redecoded.tif", "single.redecoded.png"]
    with Image.open(tmp_path / "scan.redecoded.tif") as image:
        assert image.n_frames == 2
    code, _, err = run(tmp_path / "scan.tif", "-o", tmp_path / "first.png")
    assert code == 0
    assert "only the first of its 2 pages" in err
