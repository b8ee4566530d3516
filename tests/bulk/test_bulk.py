"""`redecode bulk` on one machine; tests/bulk/test_bulk_stores.py has the object stores, tests/bulk/test_bulk_cluster.py has Ray."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import signal
import socket
import subprocess
import sys
import tarfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from redecode.bulk import listing, local, manifest, progress, run, stores
from redecode.bulk.listing import Selection, Shard, glob_pattern
from redecode.bulk.lock import Lock, LockedError
from redecode.bulk.manifest import DONE, FAILED, UNREACHED, Row
from redecode.bulk.names import CORNER
from redecode.bulk.progress import Meter
from redecode.bulk.restorer import Restorer, Setup, Task
from redecode.cli import main as cli
from redecode.errors import UsageError
from redecode.options import Options

posix = pytest.mark.skipif(os.name != "posix", reason="POSIX signals")


def make_archive(folder: Path, count: int, side: int = 24, broken_every: int = 1000) -> set[str]:
    """Write small JPEGs into nested folders; return the paths of the truncated ones."""
    rng = np.random.default_rng(count)
    bad = set()
    for i in range(count):
        path = folder / f"{i % 3}" / f"{i % 5}" / f"{i:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        size = tuple(rng.integers(8, side + 1, 2).tolist())
        Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC).save(path, quality=int(rng.integers(10, 60)))
        if i % broken_every == broken_every - 1:
            path.write_bytes(path.read_bytes()[: int(rng.integers(0, 150))])
            bad.add(path.relative_to(folder).as_posix())
    return bad


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "redecode", *map(str, arguments)]


def redecode(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), capture_output=True, text=True, timeout=300)


def contents(folder: Path) -> dict[str, bytes]:
    """All files except those in CORNER."""
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return {name: data for name, data in found.items() if not name.startswith(f"{CORNER}/")}


def rows(folder: Path) -> list[Row]:
    return list(manifest.rows(stores.make(str(folder))))


def plan(source: Path | str, output: Path | str, part: Shard = Shard(), **named: object) -> run.Plan:  # noqa: B008
    selection = listing.select(str(source), named.pop("names", None))
    return run.Plan(selection, Setup(selection.root, str(output), Options(), 1, part.name), part, **named)


def copying(setup: Setup, windows: Iterator[list[Task]]) -> Iterator[Row]:
    """An engine that restores nothing: the result is the file itself; empty files fail."""
    source, output = stores.source(setup.source), stores.make(setup.output, setup.scratch)
    for window in windows:
        for entry in window:
            row = Row(entry.path, entry.size, entry.version, setup.model(), setup.choices(), FAILED, "the file is empty")
            if entry.size:
                output.put(entry.output, source.read(entry.path))
                row = replace(row, status=DONE, message="", output=entry.output)
            yield row


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """IN with four files of different sizes, one of them empty, and a file that is not a picture."""
    for number, name in enumerate(("b.JPG", "a.jpeg", "sub/deep/c.jfif", "sub/a.jpe", "notes.txt", "p.png")):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"\xff\xd8\xff" * number)
    return tmp_path / "in"


@pytest.mark.slow
def test_same_results_as_the_single_command(tmp_path: Path) -> None:
    source, single, out = (tmp_path / name for name in ("in", "single", "out"))
    bad = make_archive(source, 200, broken_every=33)
    one = redecode(source, "-o", f"{single}{os.sep}")
    many = redecode("bulk", source, out, "--workers", 2)
    assert (one.returncode, many.returncode) == (1, 1), many.stderr
    assert contents(out) == contents(single)
    found = rows(out)
    assert Counter(row.status for row in found) == {DONE: 200 - len(bad), FAILED: len(bad)}
    assert {row.input for row in found if row.status == FAILED} == bad
    # The messages are the same.
    assert {f"redecode: {source / row.input}: {row.message}" for row in found if row.status == FAILED} <= set(one.stderr.splitlines())
    assert f"{200 - len(bad)} restored, {len(bad)} failed" in many.stdout
    assert not any(path.suffix == ".part" for path in out.rglob("*"))
    for row in found:
        if row.status == DONE:
            assert row.output_size == (out / str(row.output)).stat().st_size
            assert row.pixels > 0

    again = redecode("bulk", source, out, "--workers", 2)
    assert again.returncode == 1
    assert f"0 restored, 0 failed, {200 - len(bad)} already restored, {len(bad)} failed before" in again.stdout
    assert len(rows(out)) == 200


@pytest.mark.slow
def test_choices_mean_the_same(tmp_path: Path, photograph: np.ndarray) -> None:
    (tmp_path / "in").mkdir()
    Image.fromarray(photograph).save(tmp_path / "in" / "a.jpg", quality=15, dpi=(300, 300))
    for number, chosen in enumerate((["--texture", "0.25", "--format", "webp"], ["--same-size"], ["--layer", "mask", "--strip"])):
        for app, places in (
            (cli.restore_app, [f"{tmp_path / 'in'}", "-o", f"{tmp_path / f'single{number}'}{os.sep}"]),
            (cli.command_app, ["bulk", f"{tmp_path / 'in'}", f"{tmp_path / f'out{number}'}"]),
        ):
            result = CliRunner().invoke(app, [*places, *chosen])
            assert result.exit_code == 0, result.output
        assert contents(tmp_path / f"out{number}") == contents(tmp_path / f"single{number}")


def test_a_rerun_does_what_is_missing_changed_or_new(tree: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"

    def again(**named: object) -> tuple[set[str], int, int]:
        seen = len(rows(out)) if out.exists() else 0
        meter = run.run(plan(tree, out, **named), copying)
        return {row.input for row in rows(out)[seen:]}, meter.skipped, meter.failed_before

    assert again() == ({"b.JPG", "a.jpeg", "sub/a.jpe", "sub/deep/c.jfif"}, 0, 0)
    assert sorted(contents(out)) == ["a.png", "sub/a.png", "sub/deep/c.png"]
    assert again() == (set(), 3, 1)
    assert again(retry_failed=True) == ({"b.JPG"}, 3, 0)
    (out / "sub" / "deep" / "c.png").unlink()
    (tree / "a.jpeg").write_bytes(b"\xff\xd8\xff another")
    (tree / "new.jpg").write_bytes(b"\xff\xd8\xff new")
    assert again() == ({"a.jpeg", "new.jpg", "sub/deep/c.jfif"}, 1, 1)
    assert contents(out)["a.png"] == b"\xff\xd8\xff another"
    other = plan(tree, out)
    other = replace(other, setup=replace(other.setup, options=Options(texture=0.5)))
    assert run.run(other, copying).skipped == 0


def test_what_a_store_failed_on_is_tried_again(tree: Path, tmp_path: Path) -> None:
    def failing(setup: Setup, windows: Iterator[list[Task]]) -> Iterator[Row]:
        return (replace(row, status=UNREACHED) for row in copying(setup, windows))

    assert run.run(plan(tree, tmp_path / "out"), failing).failed == 4
    assert run.run(plan(tree, tmp_path / "out"), copying).done == 3


def test_an_output_that_is_out_of_reach_ends_the_run(tmp_path: Path) -> None:
    make_archive(tmp_path / "in", 70)

    def failing(setup: Setup, windows: Iterator[list[Task]]) -> Iterator[Row]:
        return (replace(row, status=UNREACHED, message="no space left on device") for row in copying(setup, windows))

    with pytest.raises(stores.StoreError, match=r"50 files in a row.*no space left"):
        run.run(plan(tmp_path / "in", tmp_path / "out"), failing)


def test_largest_first_in_bounded_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "WINDOW", 10)
    for folder in range(4):
        for number in range(6):
            path = tmp_path / "in" / f"{folder}" / f"{number}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x" * (folder * 10 + number + 1))
    sizes = []

    def watching(setup: Setup, windows: Iterator[list[Task]]) -> Iterator[Row]:
        def watched() -> Iterator[list[Task]]:
            for window in windows:
                sizes.append([entry.size for entry in window])
                yield window

        return copying(setup, watched())

    assert run.run(plan(tmp_path / "in", tmp_path / "out"), watching).done == 24
    assert [len(window) for window in sizes] == [12, 12]
    assert all(window == sorted(window, reverse=True) for window in sizes)


def test_two_files_of_one_stem_have_two_results(tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    for name in ("a.jpg", "a.jpeg", "sub/a.jpg", "sub/a.JPEG"):
        (source / name).parent.mkdir(exist_ok=True, parents=True)
        (source / name).write_bytes(b"\xff\xd8\xff" + name.encode())
    assert run.run(plan(source, out), copying).done == 4
    expected = {"a.png": "a.jpg", "a.jpeg.png": "a.jpeg", "sub/a.png": "sub/a.jpg", "sub/a.JPEG.png": "sub/a.JPEG"}
    assert {name: data[3:].decode() for name, data in contents(out).items()} == expected
    assert run.run(plan(source, out), copying).skipped == 4


def test_no_result_replaces_that_of_another_file(tmp_path: Path) -> None:
    """The names do not depend on runs, globs or lists, nor on files that are deleted meanwhile."""
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    for name in ("a.jpeg", "b.jpeg", "b.jpg", "c.jpeg"):
        (source / name).write_bytes(b"\xff\xd8\xff" + name.encode())
    names = tmp_path / "names.txt"

    def again(place: Path, **named: object) -> dict[str, str]:
        run.run(plan(place, out, **named), copying)
        return {name: data[3:].decode() for name, data in contents(out).items()}

    names.write_text("c.jpeg")
    expected = {"c.png": "c.jpeg"}
    assert again(source, names=names) == expected
    expected |= {"b.jpeg.png": "b.jpeg", "a.png": "a.jpeg"}
    assert again(source / "*.jpeg") == expected
    expected |= {"b.png": "b.jpg", "a.jpg.png": "a.jpg"}
    (source / "a.jpg").write_bytes(b"\xff\xd8\xffa.jpg")
    assert again(source) == expected
    (source / "c.jpeg").unlink()
    (source / "c.jpg").write_bytes(b"\xff\xd8\xffc.jpg")
    names.write_text("c.jpg\nc.jpg\nb.jpeg")
    expected |= {"c.jpg.png": "c.jpg"}
    assert again(source, names=names) == expected
    assert run.run(plan(source, out), copying).skipped == 5


def test_places_must_lie_apart(tree: Path, tmp_path: Path) -> None:
    for source, output in ((tree, tree), (tree, tree / "out"), (tree / "sub", tree), ("s3://b/x", "s3://b/x/y")):
        with pytest.raises(UsageError, match="must lie outside"):
            run.refuse_nesting(str(source), str(output))
    run.refuse_nesting(str(tree), f"{tree}-restored")
    run.refuse_nesting("s3://b/x", "s3://b/xy")


def test_an_output_with_other_things_is_refused(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious.png").write_bytes(b"precious")
    with pytest.raises(UsageError, match="--overwrite"):
        run.run(plan(tree, tmp_path / "out"), copying)
    assert run.run(plan(tree, tmp_path / "out", overwrite=True), copying).done == 3
    assert run.run(plan(tree, tmp_path / "out"), copying).skipped == 3


def test_nothing_to_do(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with pytest.raises(UsageError, match="no files"):
        run.run(plan(tmp_path / "in", tmp_path / "out"), copying)
    with pytest.raises(UsageError, match="no such"):
        plan(tmp_path / "nowhere", tmp_path / "out")


def test_shards_divide_the_archive(tmp_path: Path) -> None:
    make_archive(tmp_path / "in", 60)
    parts = [Shard(number, 3) for number in (1, 2, 3)]
    done = [run.run(plan(tmp_path / "in", tmp_path / "out", part), copying).done for part in parts]
    assert sum(done) == 60
    assert min(done) > 5
    assert Counter(row.input for row in rows(tmp_path / "out")).most_common(1)[0][1] == 1
    # Existing results count with any number of shards.
    assert run.run(plan(tmp_path / "in", tmp_path / "out"), copying).skipped == 60


def test_a_shard_by_its_name() -> None:
    assert Shard.parse("2/5") == Shard(2, 5)


@pytest.mark.parametrize("text", ["0/3", "4/3", "1", "a/b", "-1/3"])
def test_no_such_shard(text: str) -> None:
    with pytest.raises(UsageError, match="shard"):
        Shard.parse(text)


@pytest.mark.parametrize(
    "glob, fits, fits_not",
    [
        ("*.jpg", ["a.jpg"], ["a.jpeg", "sub/a.jpg"]),
        ("**/*.jpg", ["a.jpg", "sub/deep/a.jpg"], ["a.png"]),
        ("2024-??/**", ["2024-01/a", "2024-12/b/c"], ["2024-1/a"]),
        ("[ab]/[!0-9]*.jpg", ["a/x.jpg", "b/y1.jpg"], ["c/x.jpg", "a/1.jpg"]),
        ("a+b (1).jpg", ["a+b (1).jpg"], ["aab (1).jpg"]),
    ],
)
def test_globs(glob: str, fits: list[str], fits_not: list[str]) -> None:
    pattern = glob_pattern(glob)
    assert all(pattern.fullmatch(path) for path in fits)
    assert not any(pattern.fullmatch(path) for path in fits_not)


def test_what_a_command_line_means(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert listing.select(str(tree), None) == Selection(str(tree))
    assert listing.select(f"{tree}/sub/**/*.jp*", None) == Selection(f"{tree}/sub", glob_pattern("**/*.jp*"))
    assert listing.select(f"{tree}/b.JPG", None) == Selection(str(tree), re.compile(re.escape("b.JPG")))
    assert listing.select("s3://bucket/photos", None) == Selection("s3://bucket/photos")
    assert listing.select("s3://bucket/20*/x/*.tar", None) == Selection("s3://bucket", glob_pattern("20*/x/*.tar"))
    assert listing.select("s3://bucket/x/0.tar", None) == Selection("s3://bucket/x", re.compile(re.escape("0.tar")))
    assert listing.select("zip://in/*.jpg::/a.zip", None) == Selection("zip://in::/a.zip", glob_pattern("*.jpg"))
    monkeypatch.chdir(tree)
    assert listing.select("*.jpeg", None) == Selection(".", glob_pattern("*.jpeg"))
    # A folder may have the name of a glob.
    (tree / "[2019]").mkdir()
    assert listing.select(f"{tree}/[2019]", None) == Selection(f"{tree}/[2019]")


def test_a_glob_takes_whatever_it_names(tree: Path, tmp_path: Path) -> None:
    run.run(plan(f"{tree}/*.png", tmp_path / "out"), copying)
    assert list(contents(tmp_path / "out")) == ["p.png"]


def test_a_list(tree: Path, tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text("sub/a.jpe\n./a.jpeg\n\nmissing.jpg\na.jpeg\n")
    meter = run.run(plan(tree, tmp_path / "out", names=names), copying)
    assert sorted(contents(tmp_path / "out")) == ["a.png", "sub/a.png"]
    assert (meter.done, meter.failed, meter.messages) == (2, 1, ["missing.jpg: no such file or directory: " + str(tree / "missing.jpg")])
    (tmp_path / "out" / "a.png").unlink()
    meter = run.run(plan(tree, tmp_path / "out", names=names), copying)
    assert (meter.done, meter.skipped) == (1, 1)
    for line in ("/etc/passwd", "../x.jpg", "s3://b/x.jpg"):
        names.write_text(line)
        with pytest.raises(UsageError, match="within"):
            run.run(plan(tree, tmp_path / "out", names=names), copying)


@pytest.mark.usefixtures("bound_by_permissions")
def test_a_closed_folder_does_not_end_the_run(tree: Path, tmp_path: Path) -> None:
    (tree / "sub" / "deep").chmod(0)
    meter = run.run(plan(tree, tmp_path / "out"), copying)
    (tree / "sub" / "deep").chmod(0o700)
    assert (meter.done, meter.failed) == (2, 2)
    assert f"sub/deep/: permission denied: {tree / 'sub' / 'deep'}" in meter.messages


@pytest.mark.skipif(sys.platform != "linux", reason="names that are bytes")
def test_names_that_are_no_text(tmp_path: Path) -> None:
    name = os.fsdecode(b"na\xefve\xff.jpg")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / name).write_bytes(b"\xff\xd8\xff")
    run.run(plan(tmp_path / "in", tmp_path / "out"), copying)
    assert os.fsdecode(b"na\xefve\xff.png") in contents(tmp_path / "out")
    assert run.run(plan(tmp_path / "in", tmp_path / "out"), copying).skipped == 1


def test_a_torn_line_is_passed_over(tree: Path, tmp_path: Path) -> None:
    run.run(plan(tree, tmp_path / "out"), copying)
    segment = next((tmp_path / "out" / CORNER).rglob("*.jsonl"))
    segment.write_bytes(segment.read_bytes()[:-10])
    meter = run.run(plan(tree, tmp_path / "out"), copying)
    assert meter.done + meter.failed == 1
    assert {row.input for row in rows(tmp_path / "out")} == {"b.JPG", "a.jpeg", "sub/a.jpe", "sub/deep/c.jfif"}


def test_one_run_at_a_time(tree: Path, tmp_path: Path) -> None:
    store = stores.make(str(tmp_path / "out"))
    with Lock(store, Shard()):
        with pytest.raises(LockedError, match=f"process {os.getpid()} on"):
            run.run(plan(tree, tmp_path / "out"), copying)
        with pytest.raises(LockedError):
            run.run(plan(tree, tmp_path / "out", Shard(1, 2)), copying)
    with Lock(store, Shard(1, 2)):
        run.run(plan(tree, tmp_path / "out", Shard(2, 2)), copying)
        with pytest.raises(LockedError):
            run.run(plan(tree, tmp_path / "out"), copying)
    assert run.run(plan(tree, tmp_path / "out"), copying).failed == 0
    assert not list((tmp_path / "out" / CORNER).glob("lock-*"))


@pytest.mark.parametrize(
    "holder, held",
    [
        ({"host": "elsewhere", "pid": 1, "beat": 0}, True),
        ({"host": "elsewhere", "pid": 1, "beat": -300}, False),
        ({"host": socket.gethostname(), "pid": 2**22 + 1, "beat": 0}, False),
        # The process id was reused by another process, or by this one, as in a restarted container.
        ({"host": socket.gethostname(), "pid": os.getppid(), "beat": 0, "started": "an earlier boot/123"}, False),
        ({"host": socket.gethostname(), "pid": os.getpid(), "beat": 0}, False),
        ({"host": socket.gethostname(), "pid": os.getppid(), "beat": 0}, True),
        ({"host": "elsewhere", "pid": 1, "beat": 60}, True),
        ({}, False),
    ],
)
def test_stale_locks_are_taken_over(tmp_path: Path, holder: dict[str, object], held: bool) -> None:
    lock = tmp_path / CORNER / "lock-1-of-1"
    lock.parent.mkdir()
    if holder:
        holder = {**holder, "id": "x", "beat": time.time() + float(str(holder["beat"]))}
    lock.write_text(json.dumps(holder) if holder else "")
    if held:
        with pytest.raises(LockedError), Lock(stores.make(str(tmp_path)), Shard()):
            pass
        return
    with Lock(stores.make(str(tmp_path)), Shard()):
        assert json.loads(lock.read_text())["pid"] == os.getpid()
    assert not lock.exists()


MALFORMED = [b"", b"\0" * 50, b"5", b"[]", b'"text"', b"null", b"{", b"\xff\xfe", b"[" * 100_000, b'{"id": "x"}']
MALFORMED += [
    b'{"id": "x", "host": "elsewhere", "pid": %s, "beat": %s}' % pair for pair in ((b'"1"', b"1e9"), (b"-1", b"9e9"), (b"1", b"NaN"))
]
MALFORMED += [b'{"id": "x", "host": "\\u001b[2J", "pid": 1, "beat": 9e9}', b'{"id": [], "host": {}, "pid": 1e400, "beat": []}']


@pytest.mark.parametrize("content", MALFORMED, ids=range(len(MALFORMED)))
def test_a_malformed_lock_is_taken_over(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr("redecode.bulk.lock.time.sleep", lambda _: None)
    corner = tmp_path / "out" / CORNER
    corner.mkdir(parents=True)
    for name in ("lock-1-of-1", "lock-2-of-3", "lock-"):
        (corner / name).write_bytes(content)
    assert run.run(plan(tree, tmp_path / "out"), copying).done == 3
    assert not (corner / "lock-1-of-1").exists()


@pytest.mark.slow
def test_a_flipped_bit_in_a_lock_is_no_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("redecode.bulk.lock.time.sleep", lambda _: None)
    monkeypatch.setattr("redecode.bulk.lock._WATCH_SECONDS", 0.0)
    store, path = stores.make(str(tmp_path)), tmp_path / CORNER / "lock-1-of-1"
    with Lock(store, Shard()):
        whole = path.read_bytes()
    for bit in np.random.default_rng(0).choice(len(whole) * 8, 250, replace=False):
        path.write_bytes(flipped(whole, int(bit)))
        try:
            with Lock(store, Shard()):
                pass
        except LockedError:
            path.unlink()


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


@pytest.mark.parametrize("alive", [True, False])
def test_a_clock_that_is_a_year_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alive: bool) -> None:
    """The next heartbeat shows whether the run is alive."""
    lock = tmp_path / CORNER / "lock-1-of-1"
    lock.parent.mkdir()
    holder = {"id": "x", "host": "elsewhere", "pid": 1, "beat": time.time() + 365 * 86_400}
    lock.write_text(json.dumps(holder))
    watched = [0.0]
    monkeypatch.setattr("redecode.bulk.lock.time.monotonic", lambda: watched[0])

    def sleep(seconds: float) -> None:
        watched[0] += seconds
        if alive and watched[0] > 9:
            lock.write_text(json.dumps({**holder, "beat": holder["beat"] + 10}))

    monkeypatch.setattr("redecode.bulk.lock.time.sleep", sleep)
    if alive:
        with pytest.raises(LockedError), Lock(stores.make(str(tmp_path)), Shard()):
            pass
        return
    with Lock(stores.make(str(tmp_path)), Shard()):
        assert json.loads(lock.read_text())["pid"] == os.getpid()
    assert 20 < watched[0] < 30


@pytest.mark.slow
def test_a_flipped_bit_in_the_manifest_costs_no_more_than_its_row(tree: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run.run(plan(tree, out), copying)
    segment = next((out / CORNER).rglob("*.jsonl"))
    whole = segment.read_bytes()
    before = contents(out)
    rng = np.random.default_rng(0)
    for bit in rng.choice(len(whole) * 8, 60, replace=False):
        for junk in (out / CORNER).rglob("*.jsonl"):
            junk.unlink()
        segment.write_bytes(flipped(whole, int(bit)))
        meter = run.run(plan(tree, out), copying)
        # Two rows are on either side of a flipped end of line.
        assert meter.done + meter.failed <= 2, bit
        assert meter.skipped + meter.failed_before >= 2
        assert contents(out) == before


@pytest.mark.parametrize(
    "changes",
    [
        {"status": "dine"},
        {"status": None},
        {"status": []},
        {"input": 5},
        {"input": "\ud83d"},
        {"output": []},
        {"size": "many"},
        {"size": float("nan")},
        {"version": {}},
        {"failures": {"a": 1}},
        {"failures": []},
        {"model": None},
        {"files": -1},
        {"surprise": 1},
    ],
)
def test_rows_that_make_no_sense_are_passed_over(tree: Path, tmp_path: Path, changes: dict[str, object]) -> None:
    out = tmp_path / "out"
    run.run(plan(tree, out), copying)
    segment = next((out / CORNER).rglob("*.jsonl"))
    damaged = [json.dumps({**json.loads(line), **changes}) for line in segment.read_text().splitlines()]
    segment.write_text("\n".join(damaged))
    # Other files in the folder.
    for name in ("notes.jsonl", "._000001-000000.jsonl", "x-1.jsonl", "²-1.jsonl", "../²-of-²/1-1.jsonl", "../a-of-b/1-1.jsonl"):
        (segment.parent / name).parent.mkdir(exist_ok=True)
        (segment.parent / name).write_bytes(b"\0\xff[[[[\n5\nnull\n[]\n{}\n" + b"[" * 100_000)
    meter = run.run(plan(tree, out), copying)
    assert (meter.done, meter.failed) == (3, 1)
    assert run.run(plan(tree, out), copying).skipped == 3


def test_a_lock_that_is_taken_away_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("redecode.bulk.lock._BEAT_SECONDS", 0.01)
    path = tmp_path / CORNER / "lock-1-of-1"

    def lost() -> bool:
        # Repeated until it is noticed, as a heartbeat may come in between.
        path.write_text(json.dumps({"id": "another"}))
        try:
            lock.check()
        except LockedError as error:
            return "taken over this output" in str(error)
        return False

    with Lock(stores.make(str(tmp_path)), Shard()) as lock:
        first = path.read_text()
        assert eventually(lambda: path.read_text() != first)
        lock.check()
        assert eventually(lost)
    assert json.loads(path.read_text())["id"] == "another"


def eventually(condition: Callable[[], bool]) -> bool:
    """Whether a condition becomes true within a minute."""
    end = time.monotonic() + 60
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


class Bomb:
    """Kills the process that receives it."""

    def __reduce__(self) -> object:
        return os._exit, (1,)


def entries(folder: Path) -> list[Task]:
    found = [entry for batch in listing.batches(stores.make(str(folder)), Selection(str(folder))) for entry in batch.entries]
    return [Task(e.path, e.size, e.version, e.path.replace(".jpg", ".png")) for e in found]


@pytest.mark.slow
def test_each_result_in_the_format_of_its_file(tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    pixels = Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8))
    for name in ("a.jpg", "a.jpeg", "b.png", "c.webp", "d.bmp"):
        pixels.save(source / name)
    # By its name it is an archive, and so is its result.
    pixels.save(source / "e.jpg", "PNG")
    with tarfile.open(source / "x.tar", "w") as archive:
        archive.add(source / "a.jpeg", "a.jpeg")
    result = CliRunner().invoke(cli.command_app, ["bulk", f"{source}/*", str(out), "--format", "same", "--workers", "1"])
    assert result.exit_code == 0, result.output
    found = {}
    for path in out.glob("*.*g*"):
        with Image.open(path) as image:
            found[path.name] = image.format
    with Image.open(out / "c.webp") as image:
        found["c.webp"] = image.format
    assert found == {"a.jpg": "JPEG", "a.jpeg.jpg": "JPEG", "b.png": "PNG", "c.webp": "WEBP", "d.png": "PNG", "e.jpg": "JPEG"}
    with tarfile.open(out / "x.tar") as archive:
        assert archive.getnames() == ["a.jpg"]


@pytest.mark.slow
@posix
def test_a_file_that_kills_its_worker_costs_no_other(tmp_path: Path) -> None:
    make_archive(tmp_path / "in", 12)
    window = entries(tmp_path / "in")
    window[4] = replace(window[4], version=Bomb())
    setup = plan(tmp_path / "in", tmp_path / "out").setup
    found = list(local.restore(setup, iter([window]), 2))
    assert Counter(row.input for row in found) == Counter(entry.path for entry in window)
    assert [row.input for row in found if row.status != DONE] == [window[4].path]
    assert "killed" in next(row.message for row in found if row.status == FAILED)
    assert len(contents(tmp_path / "out")) == 11
    assert multiprocessing.active_children() == []


@pytest.mark.slow
@posix
def test_a_worker_that_is_killed_costs_nothing(tmp_path: Path) -> None:
    make_archive(tmp_path / "in", 30)
    found = []
    for row in local.restore(plan(tmp_path / "in", tmp_path / "out").setup, iter([entries(tmp_path / "in")]), 2):
        found.append(row)
        if len(found) == 5:
            os.kill(int(multiprocessing.active_children()[0].pid or 0), signal.SIGKILL)
    assert Counter(row.input for row in found) == Counter(entry.path for entry in entries(tmp_path / "in"))
    assert {row.status for row in found} == {DONE}


def wait_for_rows(out: Path, count: int) -> None:
    assert eventually(lambda: out.exists() and len(rows(out)) >= count)


@pytest.mark.slow
@posix
def test_killed_at_any_moment_and_resumed(tmp_path: Path) -> None:
    """bench/bulk.py does this twenty times."""
    make_archive(tmp_path / "in", 60)
    out = tmp_path / "out"
    for count in (1, 30):
        process = subprocess.Popen(command("bulk", tmp_path / "in", out, "--workers", 2), stdout=subprocess.DEVNULL)
        wait_for_rows(out, count)
        process.kill()
        process.wait()
    result = redecode("bulk", tmp_path / "in", out, "--workers", 2)
    assert result.returncode == 0, result.stderr
    assert Counter(row.input for row in rows(out) if row.status == DONE) == Counter(e.path for e in entries(tmp_path / "in"))
    assert len(contents(out)) == 60
    for path in out.rglob("*.png"):
        with Image.open(path) as image:
            image.load()
    assert not list(out.rglob("*.part"))


@pytest.mark.slow
@posix
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted(tmp_path: Path, number: signal.Signals) -> None:
    make_archive(tmp_path / "in", 200, side=96)
    out = tmp_path / "out"
    process = subprocess.Popen(
        command("bulk", tmp_path / "in", out, "--workers", 1),
        stderr=subprocess.PIPE,
        text=True,
        # Background processes of a shell ignore Ctrl-C, and their children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    wait_for_rows(out, 2)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "")
    done = [row.output for row in rows(out)]
    assert 2 <= len(done) < 200
    assert sorted(contents(out)) == sorted(map(str, done))
    assert not list((out / CORNER).glob("lock-*"))


def test_an_unforeseen_error_is_the_files_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_archive(tmp_path / "in", 2)

    def fail(*_: object) -> None:
        raise ZeroDivisionError("nobody thought of it")

    monkeypatch.setattr("redecode.bulk.restorer.restore", fail)
    found = list(local.restore_here(plan(tmp_path / "in", tmp_path / "out").setup, iter([entries(tmp_path / "in")])))
    assert [(row.status, row.message) for row in found] == [(FAILED, "ZeroDivisionError: nobody thought of it")] * 2


def test_a_file_that_is_gone_is_not_its_fault(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    row = Restorer(plan(tmp_path / "in", tmp_path / "out").setup)(Task("a.jpg", 1, "1", "a.png"))
    assert (row.status, "no such file" in row.message) == (UNREACHED, True)


@pytest.mark.slow
def test_dry_run(tmp_path: Path) -> None:
    make_archive(tmp_path / "in", 40, broken_every=33)
    result = redecode("bulk", tmp_path / "in", tmp_path / "out", "--dry-run", "--workers", 2)
    assert (result.returncode, result.stderr) == (0, "")
    assert re.search(r"^40 files to restore, 0\.\d MB; 0 already restored, 0 failed before; about \d+ s with 2 workers$", result.stdout)
    assert not (tmp_path / "out").exists()


def test_the_meter(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [5.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    meter = Meter()
    meter.found, meter.size = 4, 100
    row = Row("a.jpg", 25, "", {}, {}, DONE, pixels=3_000_000)
    now[0] = 7.0
    meter.advance(row)
    assert meter.line() == "1 of more than 4 files, 1.50 MP/s, 0 failed"
    meter.listed = True
    meter.advance(replace(row, status=FAILED, message="broken", pixels=0))
    assert meter.line() == "2 of 4 files, 1.50 MP/s, 1 failed, 2 s left"
    meter.advance(replace(row, files=3, failures={"x.jpg": "torn"}))
    assert (meter.done, meter.failed) == (3, 2)
    assert meter.messages == ["a.jpg: broken", "a.jpg: x.jpg: torn"]


def test_a_bar_goes_to_the_terminal_on_stderr(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    meter = Meter()
    with progress.display(meter) as show:
        now[0] = 1.0
        show()
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "0 of more than 0 files" in printed.err


def test_progress_is_a_line_a_minute_where_nobody_watches(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    meter = Meter()
    with progress.display(meter) as show:
        for second in range(200):
            now[0] = float(second)
            show()
    assert capsys.readouterr().err.splitlines() == ["redecode: 0 of more than 0 files, 0.00 MP/s, 0 failed"] * 3


@pytest.mark.parametrize("seconds, text", [(4.4, "4 s"), (90, "2 min"), (12_000, "3 h 20 min"), (200_000, "2 d 7 h")])
def test_durations(seconds: float, text: str) -> None:
    assert progress.duration(seconds) == text


@pytest.mark.usefixtures("bound_by_permissions")
def test_an_output_that_may_not_be_written(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir(mode=0o500)
    result = CliRunner().invoke(cli.command_app, ["bulk", str(tree), str(tmp_path / "out")])
    assert (result.exit_code, result.output) == (2, f"redecode: permission denied: {tmp_path / 'out' / CORNER}\n")
    (tmp_path / "out").chmod(0o700)
    (tree / "a.jpeg").chmod(0)
    meter = run.run(plan(tree, tmp_path / "out"), local.restore_here)
    assert f"a.jpeg: permission denied: {tree / 'a.jpeg'}" in meter.messages
    assert {row.status for row in rows(tmp_path / "out") if row.input == "a.jpeg"} == {UNREACHED}


@pytest.mark.slow
@pytest.mark.parametrize("more", [[], ["--dry-run"], ["--format", "webp"]])
def test_local_bulk_needs_no_extra(tmp_path: Path, more: list[str]) -> None:
    """Nor do zip and tar archives."""
    make_archive(tmp_path / "in", 2)
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.write(tmp_path / "in" / "0" / "0" / "00000.jpg", "a.jpg")
    with tarfile.open(tmp_path / "in" / "x.tar", "w") as archive:
        archive.add(tmp_path / "in" / "0" / "0" / "00000.jpg", "a.jpg")
    absent = "import sys; sys.modules.update(dict.fromkeys(('fsspec', 'ray', 'msgspec'))); from redecode.cli.main import main; main()"
    for number, source in enumerate(("in", "x.zip")):
        arguments = ["bulk", tmp_path / source, tmp_path / f"out{number}", "--workers", "1", *more]
        result = subprocess.run([sys.executable, "-c", absent, *map(str, arguments)], capture_output=True, text=True, timeout=300)
        assert (result.returncode, result.stderr) == (0, ""), result.stdout


def test_a_url_names_its_extra(tmp_path: Path) -> None:
    absent = "import sys; sys.modules['fsspec'] = None; from redecode.cli.main import main; main()"
    result = subprocess.run([sys.executable, "-c", absent, "bulk", "s3://b/x", str(tmp_path)], capture_output=True, text=True, timeout=300)
    assert (result.returncode, "pip install 'redecode[bulk]'" in result.stderr, result.stderr.count("\n")) == (2, True, 1)
