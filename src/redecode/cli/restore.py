"""The default command, `redecode FILE|FOLDER...`: restore pictures."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .. import files
from ..codec.formats import OF_SUFFIX, suffix_of
from ..errors import DependencyError, UsageError
from ..options import Options
from . import plan
from .console import NOTHING_DONE, SOME_FAILED, complain, make_decoder, progress_bar, reported, say, show_traceback

if TYPE_CHECKING:
    from ..decoder import Decoder
    from ..recode import Restored
    from ..restoration.tiling import Progress

# Ratio of the sizes of result and file above which the summary suggests formats with smaller files.
_MUCH_LARGER = 4


def version(asked: bool) -> None:
    """Print the version and exit."""
    if asked:
        from .. import __version__

        print(f"redecode {__version__}")
        raise typer.Exit


def restore(
    sources: Annotated[list[Path], typer.Argument(metavar="FILE|FOLDER...", show_default=False, help="Pictures, or folders of JPEGs.")],
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", metavar="FILE|FOLDER", help="Output: a .png, .webp, .avif, .tif or .jpg file, or a folder."),
    ] = None,
    *,
    options: Options,
    threads: Annotated[int | None, typer.Option(min=1, show_default="all cores", help="Number of threads.")] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(metavar="PATTERN", help="Skip files and folders of this name in folders; may be repeated.")
    ] = None,
    by_content: Annotated[bool, typer.Option("--by-content", help="In folders, also restore JPEGs with other suffixes.")] = False,
    skip_existing: Annotated[bool, typer.Option("--skip-existing", help="Skip files whose results exist.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing results.")] = False,
    keep_times: Annotated[bool, typer.Option("--keep-times", help="Give results the modification times of their files.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON per file.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Print facts about each file and its restoration.")] = False,
    show_version: Annotated[bool, typer.Option("--version", callback=version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """Restore pictures: the default command."""
    with reported():
        if overwrite and skip_existing:
            raise UsageError("--overwrite and --skip-existing contradict each other")
        folder = output is not None and output.endswith(("/", os.sep))
        target = None if output is None else Path(output)
        options = _with_format(options, None if folder else target)
        suffix = None if options.format == "same" else suffix_of(options.written_format())
        search = plan.Search(tuple(exclude or ()), by_content)
        # Windows shells do not expand patterns.
        named = plan.expanded(sources) if os.name == "nt" else sources
        jobs, failures = plan.plan(named, target, into_folder=folder, suffix=suffix, search=search, keep_pages=options.format is None)
        to_stdout = any(job.target == files.STANDARD for job in jobs)
        if as_json and to_stdout:
            raise UsageError("--json and the picture cannot both go to stdout; give -o a file")
        reporter = _Reporter(as_json, quiet or to_stdout, verbose)
        for failure in failures:
            reporter.failed(failure)
        waiting = [job for job in jobs if not (skip_existing and job.target != files.STANDARD and os.path.lexists(job.target))]
        for job in jobs:
            if job not in waiting:
                reporter.skipped(job)
        total = len(jobs) + len(failures)
        failed = _process_all(waiting, options, _Engine(options, threads), _Saving(overwrite, keep_times), reporter)
    _conclude(failures + failed, total, some_done=len(failed) < len(jobs))


def _with_format(options: Options, target: Path | None) -> Options:
    """The options with the format of the output's suffix, if they do not set a format."""
    by_suffix = OF_SUFFIX.get(target.suffix.lower()) if target is not None and not target.is_dir() else None
    if by_suffix is None or options.format == "same":
        return options
    wanted = options if options.format else replace(options, format=by_suffix)
    if wanted.written_format() != by_suffix:
        raise UsageError(f"{target}: the suffix and --format {options.format} contradict each other")
    return wanted


@dataclass
class _Engine:
    """The decoder, created when the first file needs it."""

    options: Options
    threads: int | None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def decoder(self) -> Decoder:
        with self._lock:
            return self._decoder

    @cached_property
    def _decoder(self) -> Decoder:
        return make_decoder(self.options, self.threads)


@dataclass(frozen=True)
class _Saving:
    """Options for writing results."""

    overwrite: bool
    keep_times: bool


@dataclass(frozen=True)
class _Reporter:
    """Prints a report on each file: results on stdout, everything else on stderr."""

    as_json: bool
    quiet: bool
    verbose: bool

    def restored(self, job: plan.Job, restored: Restored) -> None:
        if self.as_json:
            self._record(job.source, output=_name(job.target), **restored.report())
            return
        if not self.quiet:
            for note in restored.notes:
                complain(f"{job.source}: warning: {note}")
            say(job.target)
        if self.verbose:
            complain(f"{job.source}: {_summary(restored.report())}")

    def skipped(self, job: plan.Job) -> None:
        if self.as_json:
            self._record(job.source, output=_name(job.target), status="skipped")
        elif self.verbose:
            complain(f"{job.source}: skipped, {job.target} exists already")

    def failed(self, failure: plan.Failure) -> None:
        if self.as_json:
            self._record(failure.source, status="failed", reason=failure.reason)

    @staticmethod
    def _record(source: Path, **fields: Any) -> None:
        say(json.dumps({"input": _name(source), **fields}, ensure_ascii=False))


def _name(path: Path) -> str:
    # File names are bytes: replace those that are not valid text by U+FFFD.
    return os.fsencode(path).decode("utf-8", "replace")


def _summary(report: dict[str, Any]) -> str:
    parts = [f"{report['width']}×{report['height']}"]
    if report["quality"] is not None:
        parts.append(f"quality {report['quality']}")
    if report["consistency"] is not None:
        parts.append(f"{report['consistency']:.2%} of the blocks consistent with the file")
    before, after = report["bytes_before"], report["bytes_after"]
    parts.append(f"{report['status']} in {report['seconds']:.2f} s")
    sizes = f"{_size(before)} became {_size(after)}"
    if after > _MUCH_LARGER * before:
        sizes += " (--format webp, avif or jpeg writes smaller files)"
    return ", ".join([*parts, sizes])


def _size(count: int) -> str:
    """A number of bytes as readable text."""
    return f"{count / 1e6:.1f} MB" if count >= 999_500 else f"{count / 1e3:.1f} kB"


def _process_all(jobs: list[plan.Job], options: Options, engine: _Engine, saving: _Saving, reporter: _Reporter) -> list[plan.Failure]:
    """Restore all files and return the failures; after a failure, the others are still restored."""
    failures = []
    with _progress(len(jobs)) as (advance, tiles):
        for job, outcome in zip(jobs, _outcomes(jobs, options, engine, saving, tiles), strict=True):
            if isinstance(outcome, plan.Failure):
                failures.append(outcome)
                reporter.failed(outcome)
            else:
                reporter.restored(job, outcome)
            advance()
    return failures


def _outcomes(
    jobs: list[plan.Job], options: Options, engine: _Engine, saving: _Saving, tiles: Progress
) -> Iterator[Restored | plan.Failure]:
    """The outcome of each file, in order. While the networks restore a file, the previous one is saved and the next one is read."""
    left = threading.Event()

    def check(done: int, total: int) -> None:
        if left.is_set():
            raise KeyboardInterrupt
        tiles(done, total)

    def work(job: plan.Job) -> Restored | plan.Failure:
        try:
            return _process(job, options, engine, saving, check)
        except DependencyError:
            raise  # The same for every file: report it once.
        except Exception as error:  # Any error fails this picture only; the others are still restored.
            show_traceback(error)
            return plan.Failure(job.source, files.reason(error, job.source))

    if len(jobs) <= 1 or engine.threads == 1:
        return map(work, jobs)
    from ..pipelining import in_order

    return in_order(work, jobs, left)


def _process(job: plan.Job, options: Options, engine: _Engine, saving: _Saving, progress: Progress) -> Restored:
    if not saving.overwrite:
        files.refuse_existing(job.target)
    from ..recode import restore as restore_bytes

    if options.format is None and job.target.suffix == suffix_of("tiff"):
        # The file has several pages (see plan.plan).
        options = replace(options, format="tiff")
    restored = restore_bytes(engine.decoder, files.read(job.source), options, progress)
    times = job.source if saving.keep_times and job.source != files.STANDARD else None
    files.save(restored.data, job.target, overwrite=saving.overwrite, times_of=times)
    return restored


def _conclude(failures: list[plan.Failure], total: int, some_done: bool) -> None:
    for failure in failures:
        complain(f"{failure.source}: {failure.reason}")
    if failures and total > 1:
        complain(f"{len(failures)} of {total} failed")
    if failures:
        raise typer.Exit(SOME_FAILED if some_done else NOTHING_DONE)


@contextmanager
def _progress(total: int) -> Iterator[tuple[Callable[[], None], Progress]]:
    """A progress bar: of files if there are several, else of the picture's tiles.

    Yields:
        A function to call when a file is done, and a function to call with the number of tiles done and their total number.
    """
    if not (sys.stderr and sys.stderr.isatty()):
        yield lambda: None, lambda done, of: None
        return
    with progress_bar() as bar:
        task = bar.add_task("restoring", total=total if total > 1 else None)
        bar.refresh()

        def advance() -> None:
            if total > 1:
                bar.update(task, advance=1, refresh=True)

        def tiles(done: int, of: int) -> None:
            if total == 1:
                bar.update(task, completed=done, total=of, refresh=True)

        yield advance, tiles
