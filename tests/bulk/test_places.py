"""Nothing is written outside the output, and no input file is replaced, with any store and any spelling of a path."""

from __future__ import annotations

import io
import os
import sys
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from redecode.bulk import manifest, names, run, stores
from redecode.bulk.manifest import DONE, FAILED, Row
from redecode.bulk.names import CORNER, UnsafeNameError
from redecode.cli import main as cli
from redecode.errors import UnreadableError, UsageError

UNSAFE = [
    "../x",
    "a/../../x",
    "/x",
    "//x",
    "\\x",
    "..\\x",
    "a\\..\\x",
    "C:\\x",
    "c:x",
    "",
    ".",
    "a//x",
    "a/./x",
    "a/..",
    ".. /x",
    "a/.../x",
]
UNSAFE += ["con", "a/NUL.png", "Com1.tar.gz", "lpt9 .png", "a\0b"]
posix = pytest.mark.skipif(os.name != "posix", reason="links and POSIX file names")


def picture(colour: int = 0) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16), (colour, 90, 200)).save(buffer, "JPEG", quality=20)
    return buffer.getvalue()


def bulk(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(cli.command_app, ["bulk", *map(str, arguments)])
    return result.exit_code, result.output


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def rows(output: Path) -> dict[str, Row]:
    return {row.input: row for row in manifest.rows(stores.make(str(output)))}


@pytest.mark.parametrize("path", UNSAFE)
def test_unsafe_names(path: str) -> None:
    with pytest.raises(UnsafeNameError, match="left out"):
        names.refuse_unsafe(path)


@pytest.mark.parametrize(
    "path", ["x", "a/b.png", "a b/c..d.png", "...x", ".hidden", "a\\b.png", "concert.png", "ab:c.png", "ü/é.png", "_redecode"]
)
def test_safe_names(path: str) -> None:
    names.refuse_unsafe(path)


@pytest.mark.parametrize("path", ["_redecode/x.png", "_REDECODE/lock-1-of-1", "_redecode\\x", "_redecode"])
def test_the_corner_is_for_no_result(path: str) -> None:
    with pytest.raises(UnsafeNameError, match="own"):
        names.refuse_result(path)


@pytest.mark.parametrize("url", ["{}", "file://{}", "local://{}", "memory://place{}"])
@pytest.mark.parametrize("path", ["../x", "/x", "..\\x", "a/../../x", "con.png"])
def test_no_store_writes_outside(tmp_path: Path, url: str, path: str) -> None:
    if "://" in url:
        pytest.importorskip("fsspec")
    (tmp_path / "x").write_bytes(b"precious")
    before = tree(tmp_path)
    store = stores.make(url.format(tmp_path / "out"))
    (local := store.scratch()).write_bytes(b"evil")
    writes = (
        lambda: store.put(path, b"evil"),
        lambda: store.put_file(path, local),
        lambda: store.create(path, b"evil"),
        lambda: store.remove(path),
    )
    for write in writes:
        with pytest.raises(UnsafeNameError):
            write()
    local.unlink()
    assert tree(tmp_path) == before
    store.put("a/x", b"good")
    assert store.read("a/x") == b"good"


@pytest.mark.slow
@posix
def test_links_in_the_output_lead_nowhere(tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    for folder in (source / "sub", out):
        folder.mkdir(parents=True)
    (source / "a.jpg").write_bytes(picture())
    (source / "sub" / "b.jpg").write_bytes(picture(50))
    (out / "sub").symlink_to(source / "sub")
    before = tree(source)
    code, said = bulk(source, out, "--overwrite", "--format", "jpeg")
    assert (code, "sub/b.jpg: a link leads from" in said) == (1, True)
    assert tree(source) == before
    assert (rows(out)["a.jpg"].status, rows(out)["sub/b.jpg"].status) == (DONE, FAILED)


def evil_zip(path: Path, *more: str) -> Path:
    with zipfile.ZipFile(path, "w") as made, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number, name in enumerate(["ok.jpg", "sub/ok.jpg", *more]):
            info = zipfile.ZipInfo("x")
            info.filename = name
            made.writestr(info, picture(number))
    return path


EVIL = ["../../pwned.jpg", "/abs.jpg", "//abs.jpg", "./dot.jpg", "sub/../../up.jpg", "C:/x.jpg", "c:y.jpg", "..\\w.jpg"]
EVIL += ["a//b.jpg", "con.jpg", "_redecode/q.jpg"]


@pytest.mark.slow
@pytest.mark.parametrize("url", ["{}", "zip://::{}", "zip://::file://{}"])
def test_zip_slip(tmp_path: Path, url: str) -> None:
    archive = evil_zip(tmp_path / "evil.zip", *EVIL)
    out = tmp_path / "deep" / "er" / "out"
    code, said = bulk(url.format(archive), out, "--workers", 1)
    assert code == 1, said
    assert f"2 restored, {len(EVIL)} failed" in said
    assert {path for path in tree(tmp_path) if CORNER not in path} == {"evil.zip", "deep/er/out/ok.png", "deep/er/out/sub/ok.png"}
    found = rows(out)
    assert {path for path, row in found.items() if row.status == FAILED} == set(EVIL)
    assert all("left out" in found[path].message for path in EVIL)
    assert f"{len(EVIL)} failed before" in bulk(url.format(archive), out)[1]


@pytest.mark.slow
def test_zips_that_are_damaged(tmp_path: Path) -> None:
    archive = evil_zip(tmp_path / "x.zip")
    data = bytearray(archive.read_bytes())
    data[data.index(b"\xff\xd8") + 100] ^= 1
    archive.write_bytes(data)
    assert bulk(archive, tmp_path / "out", "--workers", 1)[0] == 1
    found = rows(tmp_path / "out")
    assert (found["ok.jpg"].status, "CRC" in found["ok.jpg"].message, found["sub/ok.jpg"].status) == (FAILED, True, DONE)
    archive.write_bytes(data[:-30])
    code, said = bulk(archive, tmp_path / "out2")
    assert (code, "no zip archive" in said) == (2, True)
    with pytest.raises(UnreadableError):
        stores.source(f"zip://::{archive}")


def test_a_zip_as_output_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(picture())
    archive = evil_zip(tmp_path / "x.zip")
    before = archive.read_bytes()
    code, said = bulk(tmp_path / "a.jpg", f"zip://::{archive}")
    assert (code, "not into an archive" in said) == (2, True)
    assert archive.read_bytes() == before


@pytest.mark.slow
@posix
def test_sources_are_never_replaced(tmp_path: Path) -> None:
    """With any spelling of their path."""
    pytest.importorskip("fsspec")
    place = tmp_path / "place"
    (place / "sub").mkdir(parents=True)
    for name in ("a.jpg", "b.jpeg", "sub/c.jpg"):
        (place / name).write_bytes(picture())
    (tmp_path / "link").symlink_to(place)
    before = tree(tmp_path)
    spellings = [f"{place}", f"file://{place}", f"FILE://{place}/", f"file://localhost{place}", f"local://{place}", f"{tmp_path}/link"]
    spellings += [
        f"{place}/./sub/..",
        f"file://{tmp_path}/link/",
        f"simplecache::file://{place}",
        f"{place}/sub",
        f"file://{place}/new",
    ]
    for one in spellings:
        for source, output in ((f"{place}", one), (one, f"{place}"), (f"file://{place}", one)):
            if not one.endswith("new") or output == one:
                code, said = bulk(source, output, "--overwrite", "--format", "jpeg")
                assert (code, "must lie outside" in said) == (2, True), (source, output, said)
    assert tree(tmp_path) == before


@pytest.mark.skipif(sys.platform != "linux", reason="mounts")
def test_places_that_are_one_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Like a folder that is mounted twice: two paths to the same folder without a link."""
    (tmp_path / "one" / "sub").mkdir(parents=True)
    (tmp_path / "other").mkdir()
    same = os.path.samefile
    as_mounted = lambda path: str(path).replace("/other", "/one")  # noqa: E731
    monkeypatch.setattr(os.path, "samefile", lambda a, b: same(as_mounted(a), as_mounted(b)))
    assert stores.nested(f"{tmp_path}/one", f"{tmp_path}/other")
    assert stores.nested(f"{tmp_path}/one", f"{tmp_path}/other/new")
    assert not stores.nested(f"{tmp_path}/one/sub", f"{tmp_path}/one-more")


@pytest.mark.parametrize(
    "one, other, nested",
    [
        ("memory://a", "memory://a/b", True),
        ("memory:///a/", "memory://a", True),
        ("memory://a/../b", "memory://b", True),
        ("memory://a", "memory://ab", False),
        ("simplecache::memory://a", "memory://a/b", True),
        ("memory://tmp", "/tmp", False),
        ("s3://bucket/a", "s3a://bucket/a/b", True),
        ("s3://bucket/a", "s3://bucket/ab", False),
        ("s3://bucket", "s3://bucket/a", True),
        ("s3://bucket/a", "s3://other/a", False),
        ("zip://::/tmp/x.zip", "/tmp", False),
    ],
)
def test_nested_places(one: str, other: str, nested: bool) -> None:
    pytest.importorskip("fsspec")
    if "s3" in one:
        pytest.importorskip("s3fs")
    assert stores.nested(one, other) is nested
    assert stores.nested(other, one) is nested
    if nested:
        with pytest.raises(UsageError, match="must lie outside"):
            run.refuse_nesting(one, other)


@pytest.mark.slow
@posix
def test_a_name_that_is_too_long_is_the_files_own_fault(tmp_path: Path) -> None:
    """So fifty of them do not end the run, and they are not retried."""
    many = [f"{number:03d}{'x' * 300}.jpg" for number in range(60)]
    archive = evil_zip(tmp_path / "x.zip", *many, "ok.png/a.jpg")
    code, said = bulk(archive, tmp_path / "out", "--workers", 1)
    assert (code, "2 restored, 61 failed" in said) == (1, True), said
    found = rows(tmp_path / "out")
    assert {found[name].status for name in [*many, "ok.png/a.jpg"]} == {FAILED}


@pytest.fixture
def evil_memory() -> Iterator[str]:
    memory = pytest.importorskip("fsspec").filesystem("memory")
    for key in ("/evil/in/ok.jpg", "/evil/in/con.jpg", "/evil/in/..\\x.jpg", "/evil/in/sub/c.jpg"):
        memory.pipe_file(key, picture())
    yield "memory://evil/in"
    memory.rm("/evil", recursive=True)


@pytest.mark.slow
def test_keys_of_an_object_store(evil_memory: str, tmp_path: Path) -> None:
    code, said = bulk(evil_memory, tmp_path / "out")
    assert (code, "2 restored, 2 failed" in said) == (1, True), said
    assert {path for path in tree(tmp_path) if CORNER not in path} == {"out/ok.png", "out/sub/c.png"}
