from __future__ import annotations

import os
import sys
import tracemalloc
from pathlib import Path

import pytest

from redecode import files
from redecode.cli import plan
from redecode.cli.plan import Job
from redecode.errors import OutputExistsError, TooLargeError, UsageError

DATA = bytes(range(256))
posix = pytest.mark.skipif(os.name != "posix", reason="POSIX file names, links and permissions")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("photos/b.JPG", "photos/a.jpeg", "photos/sub/deep/c.jfif", "photos/sub/a.jpe", "photos/notes.txt", "photos/p.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    return tmp_path


def targets(jobs: list[Job], root: Path) -> list[str]:
    return [job.target.relative_to(root).as_posix() for job in jobs]


def test_beside_the_input(tmp_path: Path) -> None:
    jobs, failures = plan.plan([tmp_path / "my.photo.jpg"], None)
    assert targets(jobs, tmp_path) == ["my.photo.redecoded.png"]
    assert failures == []


def test_folder_beside(tree: Path) -> None:
    jobs, _ = plan.plan([tree / "photos"], None)
    assert targets(jobs, tree / "photos") == ["a.redecoded.png", "b.redecoded.png", "sub/a.redecoded.png", "sub/deep/c.redecoded.png"]


def test_folder_into_folder_keeps_subfolders(tree: Path) -> None:
    jobs, _ = plan.plan([tree / "photos"], tree / "out")
    assert targets(jobs, tree / "out") == ["a.png", "b.png", "sub/a.png", "sub/deep/c.png"]


def test_output_file_or_folder(tmp_path: Path) -> None:
    source = tmp_path / "a.jpg"
    for name in ("x.png", "x.webp", "x.tif", "x.TIFF", "x.jpg"):
        assert plan.plan([source], tmp_path / name)[0] == [Job(source, tmp_path / name)]
    assert plan.plan([source], tmp_path)[0] == [Job(source, tmp_path / "a.png")]
    assert plan.plan([source], tmp_path / "new", into_folder=True)[0] == [Job(source, tmp_path / "new" / "a.png")]
    (tmp_path / "folder.png").mkdir()
    assert plan.plan([source], tmp_path / "folder.png")[0] == [Job(source, tmp_path / "folder.png" / "a.png")]


@pytest.mark.parametrize("name", ["x.bmp", "x", "x.jpeg2000", ".png.gz"])
def test_unknown_output_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="folder"):
        plan.plan([tmp_path / "a.jpg"], tmp_path / name)


def test_several_into_one_file_is_refused(tree: Path) -> None:
    with pytest.raises(UsageError, match="folder"):
        plan.plan([tree / "a.jpg", tree / "b.jpg"], tree / "x.png")
    with pytest.raises(UsageError, match="folder"):
        plan.plan([tree / "photos"], tree / "x.png")


def test_two_results_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="both"):
        plan.plan([tmp_path / "one" / "a.jpg", tmp_path / "two" / "a.jpg"], tmp_path / "out")


def test_the_same_input_twice_is_one_job(tmp_path: Path) -> None:
    assert len(plan.plan([tmp_path / "a.jpg", tmp_path / "a.jpg"], None)[0]) == 1


@posix
def test_a_result_never_replaces_an_input(tmp_path: Path) -> None:
    photo = tmp_path / "a.png"  # A JPEG with a wrong suffix.
    photo.write_bytes(b"")
    (tmp_path / "link.png").symlink_to(photo)
    os.link(photo, tmp_path / "hard.png")
    for output in (photo, tmp_path, tmp_path / "link.png", tmp_path / "hard.png"):
        with pytest.raises(UsageError, match="source"):
            plan.plan([photo], output)


@posix
def test_links_to_folders_are_not_followed(tree: Path) -> None:
    (tree / "photos" / "loop").symlink_to(tree / "photos")
    assert len(plan.plan([tree / "photos"], None)[0]) == 4


def test_a_folder_without_jpegs(tmp_path: Path) -> None:
    jobs, failures = plan.plan([tmp_path], None)
    assert jobs == []
    assert [failure.source for failure in failures] == [tmp_path]


@pytest.mark.usefixtures("bound_by_permissions")
def test_a_closed_folder_is_a_failure_of_its_own(tree: Path) -> None:
    (tree / "photos" / "sub").chmod(0)
    jobs, failures = plan.plan([tree / "photos"], None)
    (tree / "photos" / "sub").chmod(0o700)
    assert len(jobs) == 2
    assert [(f.source.name, f.reason) for f in failures] == [("sub", "permission denied")]


def test_save_makes_folders_and_leaves_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "new" / "deep" / "x.png"
    files.save(DATA, target, overwrite=False)
    assert target.read_bytes() == DATA
    assert list(target.parent.iterdir()) == [target]


def test_too_large_a_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_BYTES", 100)
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8\xff" + bytes(200))
    with pytest.raises(TooLargeError):
        files.read(tmp_path / "a.jpg")


@posix
def test_pipes_in_folders_are_left_alone(tree: Path) -> None:
    os.mkfifo(tree / "photos" / "pipe.jpg")
    (tree / "photos" / "nowhere.jpg").symlink_to(tree / "missing")
    jobs, _ = plan.plan([tree / "photos"], None)
    names = [job.source.name for job in jobs]
    assert "pipe.jpg" not in names
    assert "nowhere.jpg" in names  # To be reported as missing.


def test_standard_streams() -> None:
    assert plan.plan([files.STANDARD], None)[0] == [Job(files.STANDARD, files.STANDARD)]
    assert plan.plan([Path("a.jpg")], files.STANDARD)[0] == [Job(Path("a.jpg"), files.STANDARD)]
    assert plan.plan([files.STANDARD], Path("x.webp"))[0] == [Job(files.STANDARD, Path("x.webp"))]
    with pytest.raises(UsageError, match="several"):
        plan.plan([Path("a.jpg"), Path("b.jpg")], files.STANDARD)


def test_the_suffix_of_results(tree: Path) -> None:
    jobs, _ = plan.plan([tree / "photos"], tree / "out", suffix=".webp")
    assert targets(jobs, tree / "out") == ["a.webp", "b.webp", "sub/a.webp", "sub/deep/c.webp"]


@posix
def test_permissions_are_those_of_any_new_file(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        files.save(DATA, tmp_path / "x.png", overwrite=False)
    finally:
        os.umask(old)
    assert (tmp_path / "x.png").stat().st_mode & 0o777 == 0o640


def test_existing_targets(tmp_path: Path) -> None:
    target = tmp_path / "x.png"
    target.write_bytes(b"precious")
    with pytest.raises(OutputExistsError, match="--overwrite"):
        files.refuse_existing(target)
    # It may also be created between that check and the end of the work.
    with pytest.raises(OutputExistsError, match="--overwrite"):
        files.save(DATA, target, overwrite=False)
    assert target.read_bytes() == b"precious"
    files.save(DATA, target, overwrite=True)
    assert target.read_bytes() == DATA
    assert len(list(tmp_path.iterdir())) == 1


def test_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    files.save(DATA, tmp_path / "x.png", overwrite=False)
    with pytest.raises(OutputExistsError):
        files.save(DATA, tmp_path / "x.png", overwrite=False)
    assert [path.name for path in tmp_path.iterdir()] == ["x.png"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_nothing_is_left_of_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    seen = []

    def fail(_: int) -> None:
        seen.extend(path.name for path in tmp_path.iterdir())
        raise error

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(type(error)):
        files.save(DATA, tmp_path / "x.png", overwrite=False)
    assert len(seen) == 1
    assert seen[0].startswith(".")
    assert seen[0].endswith(".part")
    assert list(tmp_path.iterdir()) == []


def test_read_does_not_swallow_what_is_no_picture(tmp_path: Path) -> None:
    (tmp_path / "film.mkv").write_bytes(b"matroska" * 1000)
    assert len(files.read(tmp_path / "film.mkv")) == 12
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8\xff" + bytes(10_000))
    assert len(files.read(tmp_path / "a.jpg")) == 10_003


def test_reasons() -> None:
    assert files.reason(OutputExistsError("is there")) == "is there"
    assert files.reason(FileNotFoundError(2, "No such file", "x"), Path("x")) == "no such file"
    assert files.reason(FileNotFoundError(2, "No such file", "y"), Path("x")) == "no such file: y"
    assert "memory" in files.reason(MemoryError())
    assert files.reason(RuntimeError("two\nlines")) == "RuntimeError: two lines"


if sys.platform == "linux":

    def test_names_that_are_no_text(tmp_path: Path) -> None:
        name = os.fsdecode(b"na\xefve\xff.jpg")
        (tmp_path / name).write_bytes(b"")
        jobs, _ = plan.plan([tmp_path], None)
        files.save(DATA, jobs[0].target, overwrite=False)
        assert b"na\xefve\xff.redecoded.png" in os.listdir(os.fsencode(tmp_path))


@pytest.mark.parametrize(
    "names, taken, expected",
    [
        (["a.jpg", "b/a.jpg", "c.JPG"], [], ["a.png", "b/a.png", "c.png"]),
        (["a.jpeg", "a.jpg"], [], ["a.jpeg.png", "a.png"]),
        (["a.jpeg", "a.jpg", "a.jfif"], [], ["a.jpeg.png", "a.png", "a.jfif.png"]),
        (["a.jpe", "a.jpeg"], [], ["a.png", "a.jpeg.png"]),
        (["a.jpg", "a.jpeg", "b.jpg"], ["a.png"], ["a.jpg.png", "a.jpeg.png", "b.png"]),
        (["a.jpg", "a.jpeg", "a.jpeg.jpg"], [], ["a.png", "a.jpeg-2.png", "a.jpeg.png"]),
        (["a.jpg", "a.jpg"], [], ["a.png", "a.png"]),
    ],
)
def test_results_have_distinct_names(names: list[str], taken: list[str], expected: list[str]) -> None:
    for order in (names, names[::-1]):
        chosen = files.distinct_names(order, ".png", taken)
        assert [chosen[name] for name in names] == expected


def test_results_of_earlier_runs_are_no_inputs(tree: Path) -> None:
    (tree / "photos" / "a.redecoded.jpg").write_bytes(b"")
    jobs, _ = plan.plan([tree / "photos"], None, suffix=".jpg")
    assert not any(job.source.stem.endswith(".redecoded") for job in jobs)
    # A file that is named is restored.
    assert len(plan.plan([tree / "photos" / "a.redecoded.jpg"], None)[0]) == 1


def test_an_output_folder_inside_is_not_searched(tree: Path) -> None:
    before, _ = plan.plan([tree], tree / "out", suffix=".jpg", into_folder=True)
    for job in before:
        job.target.parent.mkdir(parents=True, exist_ok=True)
        job.target.write_bytes(b"")
    assert plan.plan([tree], tree / "out", suffix=".jpg")[0] == before


@pytest.mark.parametrize("name", ["._a.jpg", ".thumbnails/a.jpg", "@eaDir/a.jpg", "#recycle/a.jpg", "__MACOSX/a.jpg", ".cache/deep/a.jpg"])
def test_what_systems_leave_in_folders_is_passed_over(tmp_path: Path, name: str) -> None:
    for place in (name, "kept.jpg"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_bytes(b"")
    assert targets(plan.plan([tmp_path], tmp_path / "out", into_folder=True)[0], tmp_path) == ["out/kept.png"]


@pytest.mark.parametrize(("pattern", "left"), [("b.*", 3), ("sub", 2), ("sub/*.jpe", 3), ("*.jp*g", 3), ("deep", 3), ("nothing", 4)])
def test_exclude(tree: Path, pattern: str, left: int) -> None:
    assert len(plan.plan([tree / "photos"], None, search=plan.Search((pattern,)))[0]) == left


def test_by_content(tree: Path) -> None:
    (tree / "photos" / "download").write_bytes(b"\xff\xd8\xff\xe0")
    (tree / "photos" / "poster.png").write_bytes(b"\xff\xd8\xff\xe0")
    assert len(plan.plan([tree / "photos"], None)[0]) == 4
    jobs, _ = plan.plan([tree / "photos"], None, search=plan.Search(by_content=True))
    assert {"download.redecoded.png", "poster.redecoded.png"} < {job.target.name for job in jobs}


@pytest.mark.parametrize("suffix", [".jpg", ".JPEG", ".jpe", ".jfif", ".pjpeg", ".mpo"])
def test_suffixes_of_jpegs(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"a{suffix}").write_bytes(b"")
    assert len(plan.plan([tmp_path], None)[0]) == 1


@pytest.mark.parametrize(("output", "names"), [(None, ["a.jpeg.redecoded.png", "a.redecoded.png"]), ("out", ["a.jpeg.png", "a.png"])])
def test_files_of_one_stem_get_names_of_their_own(tmp_path: Path, output: str | None, names: list[str]) -> None:
    for name in ("a.jpg", "a.jpeg"):
        (tmp_path / name).write_bytes(b"")
    jobs, _ = plan.plan([tmp_path], output and tmp_path / output, into_folder=True)
    assert sorted(job.target.name for job in jobs) == names


def test_the_format_of_the_file(tmp_path: Path) -> None:
    starts = {"a.jpg": b"\xff\xd8\xff", "b.png": b"\x89PNG", "c.gif": b"GIF89a", "d.tif": b"II*\0", "e.webp": b"RIFF1234WEBP"}
    for name, start in starts.items():
        (tmp_path / name).write_bytes(start)
    jobs, _ = plan.plan([tmp_path / name for name in starts], None, suffix=None)
    assert [job.target.suffix for job in jobs] == [".jpg", ".png", ".png", ".tif", ".webp"]


def test_patterns(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tree / "photos")
    assert plan.expanded([Path("*.jp*g"), Path("p.png"), Path("no*.jpg")]) == [Path("a.jpeg"), Path("p.png"), Path("no*.jpg")]
    (tree / "photos" / "[1].jpg").write_bytes(b"")
    assert plan.expanded([Path("[1].jpg")]) == [Path("[1].jpg")]


def test_times_are_kept_on_request(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(DATA)
    os.utime(tmp_path / "a.jpg", ns=(10**18, 10**18 + 123_456_700))
    files.save(DATA, tmp_path / "b.png", overwrite=False, times_of=tmp_path / "a.jpg")
    files.save(DATA, tmp_path / "c.png", overwrite=False)
    assert (tmp_path / "b.png").stat().st_mtime_ns == 10**18 + 123_456_700
    assert (tmp_path / "c.png").stat().st_mtime > 1.2e9


@pytest.mark.parametrize("start, whole", [(b"\xff\xd8\xff", True), (b"\0\0\0\x1cftypavif", True), (b"", False), (b"GIF7", False)])
def test_of_what_is_no_picture_only_the_beginning_is_read(tmp_path: Path, start: bytes, whole: bool) -> None:
    path = tmp_path / "x"
    path.write_bytes(start)
    os.truncate(path, 50 << 20)
    tracemalloc.start()
    data = files.read(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(data) == (50 << 20 if whole else 12)
    assert data.startswith(start)
    # The data is never in memory twice.
    assert peak < (65 << 20 if whole else 1 << 20)
