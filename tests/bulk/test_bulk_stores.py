"""`redecode bulk` with stores other than folders: an unreliable S3 server on the loopback, memory, zip and tar archives."""

from __future__ import annotations

import io
import logging
import random
import sys
import tarfile
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from redecode.bulk import manifest, stores
from redecode.bulk.manifest import DONE, FAILED, Row
from redecode.bulk.names import CORNER
from redecode.bulk.stores import Store
from redecode.cli import main as cli
from redecode.errors import DependencyError, TooLargeError

fsspec = pytest.importorskip("fsspec")

Wsgi = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def pictures(count: int) -> dict[str, bytes]:
    """Tiny JPEGs by path; the second is truncated."""
    rng = np.random.default_rng(count)
    made = {}
    for number in range(count):
        buffer = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (12, 16), dtype=np.uint8)).save(buffer, "JPEG", quality=30)
        made[f"{number % 2}/{number:03d}.jpg"] = buffer.getvalue()[: 90 if number == 1 else None]
    return made


def bulk(*arguments: object) -> str:
    """The command within this process; its workers are still separate processes."""
    result = CliRunner().invoke(cli.command_app, ["bulk", *map(str, arguments)])
    return f"{result.exit_code} {result.output}"


def results(folder: Path) -> dict[str, bytes]:
    """Results of the single command, by path."""
    single = folder.with_name("single")
    CliRunner().invoke(cli.restore_app, [str(folder), "-o", f"{single}/"])
    return {path.relative_to(single).as_posix(): path.read_bytes() for path in single.rglob("*.png")}


def fill(folder: Path, count: int) -> dict[str, bytes]:
    made = pictures(count)
    for name, data in made.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return made


def contents(store: Store) -> dict[str, bytes]:
    return {path: store.read(path) for folder in store.children("")[0] if folder != CORNER for path in paths(store, folder)}


def paths(store: Store, folder: str) -> list[str]:
    return [entry.path for entry in store.children(folder)[1]]


class Moody:
    """A proxy in front of a server: sometimes it fails before or after the request, or is slow."""

    def __init__(self, server: Wsgi) -> None:
        self._server = server
        self._rng = random.Random(3)
        self._turn = threading.Lock()
        self.moods: Counter[str] = Counter()
        self.calm = True

    def __call__(self, request: dict[str, Any], respond: Callable[..., Any]) -> Iterable[bytes]:
        with self._turn:
            weights = [1, 0, 0, 0] if self.calm else [76, 10, 6, 8]
            mood = self._rng.choices(["good", "refuses", "forgets", "slow"], weights)[0]
            self.moods[mood] += 1
        if mood == "refuses":
            return self._fail(respond)
        if mood == "slow":
            time.sleep(0.5)
        if mood == "forgets":
            # The request was processed, but the client gets no response.
            list(self._server(request, lambda *_: None))
            return self._fail(respond)
        return self._server(request, respond)

    @staticmethod
    def _fail(respond: Callable[..., Any]) -> Iterable[bytes]:
        respond("500 Internal Server Error", [("Content-Type", "application/xml")])
        return [b"<Error><Code>InternalError</Code><Message>We encountered an internal error. Please try again.</Message></Error>"]


@pytest.fixture(scope="module")
def s3() -> Iterator[Moody]:
    pytest.importorskip("s3fs")
    pytest.importorskip("flask")
    app = pytest.importorskip("moto.server")
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    moody = Moody(app.DomainDispatcherApplication(app.create_backend_app))
    server = make_server("127.0.0.1", 0, moody, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "someone")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "something")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        fsspec.filesystem("s3").mkdir("bucket")
        yield moody
    server.shutdown()


@pytest.mark.slow
def test_s3_on_a_bad_day(s3: Moody, tmp_path: Path) -> None:
    made = fill(tmp_path / "in", 14)
    source, output = stores.make("s3://bucket/in"), stores.make("s3://bucket/out")
    for name, data in made.items():
        source.put(name, data)
    s3.calm = False
    said = bulk("s3://bucket/in", "s3://bucket/out", "--workers", 2)
    assert "13 restored, 1 failed" in said
    assert min(s3.moods[mood] for mood in ("refuses", "forgets", "slow")) > 0
    s3.calm = True
    assert contents(output) == results(tmp_path / "in")
    found = list(manifest.rows(output))
    assert Counter(row.input for row in found) == Counter(made.keys())
    versions = {entry.path: entry.version for folder in "01" for entry in source.children(folder)[1]}
    assert {row.input: row.version for row in found} == versions

    # A file with another ETag is restored again.
    source.put("0/000.jpg", made["0/002.jpg"])
    assert "1 restored, 0 failed, 12 already restored, 1 failed before" in bulk("s3://bucket/in/*/*.jpg", "s3://bucket/out")


@pytest.mark.slow
def test_s3_as_a_store(s3: Moody) -> None:
    store = stores.make("s3://bucket/place")
    with pytest.raises(FileNotFoundError):
        store.children("")
    assert store.create("lock", b"mine")
    assert not store.create("lock", b"yours")
    assert store.read("lock") == b"mine"
    store.remove("lock")
    store.remove("lock")
    with pytest.raises(FileNotFoundError):
        store.info("lock")


@pytest.mark.slow
def test_s3_keys_that_lead_out(s3: Moody, tmp_path: Path) -> None:
    made = next(iter(pictures(1).values()))
    store = stores.make("s3://bucket/evil")
    store.put("sub/good.jpg", made)
    # Most stores keep an object for the folder itself.
    for key in ("bucket/evil/", "bucket/evil/../../pwned.jpg", "bucket/evil//x.jpg", "bucket/evil/con.jpg"):
        fsspec.filesystem("s3").pipe_file(key, made)
    out = tmp_path / "deep" / "out"
    said = bulk("s3://bucket/evil", out)
    assert said.startswith("1 "), said
    assert "1 restored" in said
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.png")] == ["deep/out/sub/good.png"]
    assert {row.input for row in manifest.rows(stores.make(str(out))) if row.status != DONE} == {"../../pwned.jpg", "con.jpg", "//"}


@pytest.mark.slow
def test_a_tar_in_s3(s3: Moody, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in pictures(3).items():
            add(archive, name, data)
    stores.make("s3://bucket/tars").put("x.tar", buffer.getvalue().rstrip(b"\0"))
    said = bulk("s3://bucket/tars", "s3://bucket/tars-out")
    assert said.startswith("1 "), said
    assert list(next(manifest.rows(stores.make("s3://bucket/tars-out"))).failures) == ["1/001.jpg", "(the end)"], said


def test_a_store_that_fails_for_good(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: None)
    store = stores.Remote("memory://somewhere")

    def fail(*_: object) -> None:
        raise ConnectionResetError("connection reset\nby peer")

    monkeypatch.setattr(store._fs, "cat_file", fail)
    with pytest.raises(stores.StoreError, match=r"^memory://somewhere: ConnectionResetError: connection reset by peer$"):
        store.read("a.jpg")


def test_files_of_a_store_are_read_up_to_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("redecode.files.MAX_BYTES", 10)
    store = stores.make("memory://limit")
    for size in (10, 11):
        store.put(f"{size}.jpg", bytes(size))
    assert store.read("10.jpg") == bytes(10)
    with pytest.raises(TooLargeError):
        store.read("11.jpg")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_zip_members_of_one_name_are_all_restored(tmp_path: Path) -> None:
    first, second, third, other = list(pictures(6).values())[2:]
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        for name, data in (("a.jpg", first), ("a.jpg", second), ("a~1.jpg", other), ("a.jpg", third)):
            archive.writestr(name, data)
    source = tmp_path / "apart"
    source.mkdir()
    for name, data in (("a~2.jpg", first), ("a~3.jpg", second), ("a.jpg", third), ("a~1.jpg", other)):
        (source / name).write_bytes(data)
    assert bulk(tmp_path / "in.zip", tmp_path / "out", "--workers", "1").startswith("0 4 restored")
    assert {row.input for row in manifest.rows(stores.make(str(tmp_path / "out")))} == {"a.jpg", "a~1.jpg", "a~2.jpg", "a~3.jpg"}
    for name, data in results(source).items():
        assert (tmp_path / "out" / name).read_bytes() == data


def test_memory_and_zip(tmp_path: Path) -> None:
    made = fill(tmp_path / "in", 6)
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        for name, data in made.items():
            archive.writestr(f"photos/{name}", data)
    assert bulk(f"zip://photos::{tmp_path / 'in.zip'}", "memory://out").startswith("1 ")
    store = stores.make("memory://out")
    assert contents(store) == results(tmp_path / "in")
    assert {row.status for row in manifest.rows(store)} == {DONE, FAILED}
    assert "0 restored, 0 failed, 5 already restored" in bulk(f"zip://photos::{tmp_path / 'in.zip'}", "memory://out")


def test_segments_on_a_store(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(manifest.time, "monotonic", lambda: now[0])
    store = stores.make("memory://segments")
    for _ in range(2):
        log = manifest.Manifest(store, manifest.Shard())
        log.open_segment()
        for second in range(100):
            now[0] += 1
            log.append(Row(f"{second}.jpg", 1, "", {}, {}, DONE))
        log.close()
    names = [entry.path.rpartition("/")[2] for entry in store.children(log.folder)[1]]
    assert sorted(names) == [f"{run:06d}-{segment:06d}.jsonl" for run in (1, 2) for segment in range(4)]
    assert len(list(manifest.rows(store))) == 200


@pytest.mark.slow
def test_webdataset(tmp_path: Path) -> None:
    made = fill(tmp_path / "in", 6)
    (tmp_path / "shards").mkdir()
    with tarfile.open(tmp_path / "shards" / "000.tar", "w") as archive:
        for name, data in made.items():
            add(archive, name, data)
            add(archive, name.replace(".jpg", ".json"), b"{}")
    (tmp_path / "shards" / "001.tar").write_bytes(b"no archive at all")
    said = bulk(tmp_path / "shards", tmp_path / "out", "--workers", 1)
    assert said.startswith("1 ")
    assert "5 restored, 2 failed" in said
    with tarfile.open(tmp_path / "out" / "000.tar") as archive:
        members = {member.name: archive.extractfile(member).read() for member in archive}  # type: ignore[union-attr]
        assert {member.mtime for member in archive} == {1_700_000_000}
    expected = results(tmp_path / "in")
    assert {name: data for name, data in members.items() if name.endswith(".png")} == expected
    assert sum(name.endswith(".json") for name in members) == 6
    assert len(members) == 11
    rows = {row.input: row for row in manifest.rows(stores.make(str(tmp_path / "out")))}
    assert (rows["000.tar"].status, rows["000.tar"].files, list(rows["000.tar"].failures)) == (DONE, 6, ["1/001.jpg"])
    assert (rows["001.tar"].status, "tar" in rows["001.tar"].message) == (FAILED, True)
    assert not (tmp_path / "out" / "001.tar").exists()
    assert "2 failed before" in bulk(tmp_path / "shards", tmp_path / "out", "--workers", 1)


def add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mtime = len(data), 1_700_000_000
    archive.addfile(member, io.BytesIO(data))


def test_without_fsspec(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(DependencyError, match=r"redecode\[bulk\]"):
        stores.make("s3://bucket/x")
    monkeypatch.undo()
    with pytest.raises(stores.StoreError, match="nowhere"):
        stores.make("nowhere://x")
